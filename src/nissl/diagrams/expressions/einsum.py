"""Any composite of linear building blocks is one einsum; and a linear map with its wires bent is its transpose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from nissl.diagrams import _equations
from nissl.diagrams.circuit import Operation
from nissl.diagrams.expressions._building import Building, Size
from nissl.diagrams.expressions._expression import Expression
from nissl.errors import DiagramError


@dataclass(frozen=True)
class _Product:
    """An array as a product: of which arrays, along which wires (numbers), and which wires stay."""

    operands: tuple[str, ...]
    terms: tuple[tuple[int, ...], ...]
    out: tuple[int, ...]

    def along(self, wires: Iterable[int], fresh: Callable[[int], int]) -> _Product:
        """The same with its open wires called otherwise, and new numbers for those that it sums over."""
        known = dict(zip(self.out, wires, strict=True))

        def number(wire: int) -> int:
            if wire not in known:
                known[wire] = fresh(wire)
            return known[wire]

        terms = tuple(tuple(number(w) for w in t) for t in self.terms)
        return _Product(self.operands, terms, tuple(known[w] for w in self.out))


def fuse(expression: Expression) -> Expression:
    """The same as one einsum for each array that it gives.

    Parameters
    ----------
    expression
        Of linear maps without bias, contractions, units, diagonals and wires that cross.

    Raises
    ------
    DiagramError
        It holds something else; the operation is named.

    Examples
    --------
    >>> from nissl.diagrams.expressions import contract, linear, shape
    >>> two = (linear("m -> k", "w", m=3, k=2) + shape("k n")) @ contract("k, k n -> n", n=4)
    >>> [o.equation for o in fuse(two).diagram().operations]
    ['m, k m, k n -> n']
    """
    net, products, names = _products(expression)
    labels = [_labelled(p, names) for p in products]
    sizes = {**expression.sizes, **{new: old for _, twins in labels for new, old in twins.items()}}

    def build(target: Building, arrays: tuple[str, ...]) -> tuple[str, ...]:
        made = dict(zip(_inputs(expression), arrays, strict=True))
        return tuple(_one(target, net, p, label, made) for p, (label, _) in zip(products, labels, strict=True))

    return Expression(expression.inputs, expression.outputs, sizes, build)


def transpose(expression: Expression) -> Expression:
    """A linear map with its input wire bent to come out, and its output wire to go in: its transpose, of the same weights.

    Raises
    ------
    DiagramError
        It has several arrays on a side, is not linear, or copies along an axis, which bent would be a sum.

    Examples
    --------
    >>> from nissl.diagrams.expressions import linear
    >>> transpose(linear("m -> k h", "w"))
    k h -> m
    """
    if len(expression.inputs) != 1 or len(expression.outputs) != 1:
        raise DiagramError(f"{expression} has several arrays on a side; bend a map from one array to one")
    net, (product,), names = _products(expression)
    label, twins = _labelled(product, names)
    (place,) = [i for i, n in enumerate(product.operands) if n == "x"] or [-1]
    if place < 0:
        raise DiagramError(f"{expression} does not depend on what it is given")
    inside = product.terms[place]
    others = [i for i in range(len(product.operands)) if i != place]
    bent = _Product(
        ("x", *(product.operands[i] for i in others)), (product.out, *(product.terms[i] for i in others)), inside
    )
    if not set(inside) <= {w for t in bent.terms for w in t}:
        raise DiagramError(f"{expression} sums an axis that nothing else has; bent it would be copied: use broadcast")

    def build(target: Building, arrays: tuple[str, ...]) -> tuple[str, ...]:
        return (_one(target, net, bent, label, {"x": arrays[0]}),)

    return Expression(expression.outputs, expression.inputs, {**expression.sizes, **twins}, build)


def _inputs(expression: Expression) -> list[str]:
    many = len(expression.inputs) > 1
    return [f"x{i}" if many else "x" for i in range(len(expression.inputs))]


def _products(expression: Expression) -> tuple[Building, list[_Product], dict[int, str]]:
    """What an expression gives, each array as a product of what goes in, weights and units."""
    net = Building(expression.sizes)
    counter = count()
    names: dict[int, str] = {}

    def wire(name: str) -> int:
        number = next(counter)
        names[number] = name
        return number

    known: dict[str, _Product] = {}

    def leaf(name: str) -> _Product:
        wires = tuple(wire(a) for a in net.arrays[name].axes)
        return _Product((name,), (wires,), wires)

    inputs = tuple(net.array(n, axes) for n, axes in zip(_inputs(expression), expression.inputs, strict=True))
    outputs = expression.build(net, inputs)
    known |= {n: leaf(n) for n, a in net.arrays.items() if n in inputs or a.role == "parameter"}
    for operation in net.operations:
        known[operation.outputs[0]] = _step(operation, net, known, wire, leaf, names)
    return net, [known[n] for n in outputs], names


def _step(
    operation: Operation,
    net: Building,
    known: Mapping[str, _Product],
    wire: Callable[[str], int],
    leaf: Callable[[str], _Product],
    names: Mapping[int, str],
) -> _Product:
    if operation.kind == "creation":
        return leaf(operation.outputs[0])
    before = net.arrays[operation.inputs[0]].axes
    after = net.arrays[operation.outputs[0]].axes
    if operation.kind == "rearrangement" and set(before) == set(after):
        source = known[operation.inputs[0]]
        return _Product(source.operands, source.terms, tuple(source.out[before.index(a)] for a in after))
    terms, out = _equations.split(operation.equation) if operation.equation else ((), ())
    if len(terms) != len(operation.inputs):
        raise DiagramError(
            f"{operation.name!r} ({operation.symbol}) is not linear, or not one product; it cannot be fused"
        )
    here = {a: wire(a) for t in terms for a in t}
    parts = [
        known[n].along([here[a] for a in t], lambda w: wire(names[w]))
        for n, t in zip(operation.inputs, terms, strict=True)
    ]
    operands = tuple(o for p in parts for o in p.operands)
    return _Product(operands, tuple(t for p in parts for t in p.terms), tuple(here[a] for a in out))


def _labelled(product: _Product, names: Mapping[int, str]) -> tuple[dict[int, str], dict[str, Size]]:
    """A name for each wire, those that stay first; of two of one name the later gets a prime, and the size of the first."""
    labels: dict[int, str] = {}
    twins: dict[str, Size] = {}
    for number in (*product.out, *(w for t in product.terms for w in t)):
        if number in labels:
            continue
        name = names[number]
        while name in labels.values():
            name += "'"
        labels[number] = name
        if name != names[number]:
            twins[name] = names[number]
    return labels, twins


def _one(target: Building, net: Building, product: _Product, labels: Mapping[int, str], made: Mapping[str, str]) -> str:
    """Put one einsum into a diagram."""
    if len(product.operands) == 1 and product.terms[0] == product.out and product.operands[0] in made:
        return made[product.operands[0]]
    arrays, learned = [], False
    for name in product.operands:
        array = net.arrays[name]
        if name in made:
            arrays.append(made[name])
        elif array.role == "parameter":
            arrays.append(target.parameter(name, array.axes))
            learned = True
        else:
            (unit,) = [o for o in net.operations if name in o.outputs]
            arrays.append(
                target.operator(
                    unit.target, unit.arguments, array.axes, symbol="unit", kind="creation", born=array.axes
                )
            )
    equation = _equations.join(([labels[w] for w in t] for t in product.terms), [labels[w] for w in product.out])
    return target.einsum(equation, arrays, "einsum", "linear" if learned else "contraction")
