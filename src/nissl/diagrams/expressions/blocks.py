"""Building blocks of linear algebra: wires, weights, products, units, and the same along more axes."""

from __future__ import annotations

from collections.abc import Sequence

from nissl.diagrams import _equations
from nissl.diagrams._equations import column
from nissl.diagrams.expressions._building import Building, Size, resolved
from nissl.diagrams.expressions._expression import Expression, checked, merged, two_columns
from nissl.errors import DiagramError


def shape(axes: str, **sizes: Size) -> Expression:
    """A column that is left as it is: `shape("y k h, x k h", k=4)`."""
    terms = column(axes)
    return Expression(terms, terms, checked(sizes, terms), lambda _, names: names)


def strips(axes: str, order: Sequence[int], **sizes: Size) -> Expression:
    """Whole arrays copied, dropped or swapped: `strips("a b, c", [1, 0, 0])` is `a b, c -> c, a b, a b`."""
    terms = column(axes)
    if not all(0 <= i < len(terms) for i in order):
        raise DiagramError(f"strips {list(order)} of the column {axes!r}; allowed: 0 to {len(terms) - 1}")
    outputs = tuple(terms[i] for i in order)
    return Expression(terms, outputs, checked(sizes, terms), lambda _, names: tuple(names[i] for i in order))


def linear(axes: str, name: str, *, bias: bool = False, **sizes: Size) -> Expression:
    """A learned linear map, `linear("m -> k h", "query")`, of weight `query.weight` with axes `k h m`.

    Parameters
    ----------
    axes
        Those of one array before and after.
    name
        Path of its weights.
    bias
        Whether `name.bias`, with the axes after, is added.
    **sizes
        Of axes: a number, or the name of an axis of the same size.
    """
    before, after = two_columns(axes)
    if len(before) != 1 or len(after) != 1:
        raise DiagramError(f"linear({axes!r}) must have one array on each side; use contract for several")
    (source,), (target,) = before, after
    if set(source) & set(target):
        raise DiagramError(
            f"linear({axes!r}) has {sorted(set(source) & set(target))} on both sides; broadcast along it"
        )

    def build(net: Building, names: tuple[str, ...]) -> tuple[str, ...]:
        weights = [net.parameter(f"{name}.weight", target + source)]
        weights += [net.parameter(f"{name}.bias", target)] if bias else []
        equation = _equations.join([source, target + source], target)
        return (net.einsum(equation, [*names, *weights], name, "linear"),)

    return Expression(before, after, checked(sizes, before + after), build)


def contract(equation: str, **sizes: Size) -> Expression:
    """Arrays multiplied and summed over the axes that end: `contract("y k h, x k h -> y x h")`."""
    terms, out = _equations.split(equation)
    names = checked(sizes, (*terms, out))
    return Expression(terms, (out,), names, lambda net, arrays: (net.einsum(equation, arrays, "·"),))


def inner(axes: str, **sizes: Size) -> Expression:
    """Two arrays of the same axes meet and end: `a, a -> `."""
    return contract(f"{axes}, {axes} -> ", **sizes)


def outer(axes: str, **sizes: Size) -> Expression:
    """A dashed line ends: `outer("a, b")` is `a, b -> a b`."""
    terms = column(axes)
    return contract(_equations.join(terms, [a for t in terms for a in t]), **sizes)


def diagonal(axes: str, **sizes: Size) -> Expression:
    """A wire splits in two of equal index, `diagonal("a -> a b")`, or two merge in one that stays, `diagonal("a b -> a")`."""
    before, after = two_columns(axes)
    pair = max(before + after, key=len)
    if {len(before[0]), len(after[0])} != {1, 2} or not {*before[0], *after[0]} <= set(pair):
        raise DiagramError(f"diagonal({axes!r}); allowed: 'a -> a b' or 'a b -> a'")
    equation = _equations.join([before[0], pair], after[0])
    known = checked(sizes | {pair[1]: pair[0]} if pair[1] not in sizes else sizes, before + after)

    def build(net: Building, names: tuple[str, ...]) -> tuple[str, ...]:
        return (net.einsum(equation, [*names, _eye(net, pair)], "·"),)

    return Expression(before, after, known, build)


def unit(axes: str, **sizes: Size) -> Expression:
    """From nothing, two wires of equal index: `unit("a b")` is the identity as an array."""
    (pair,) = column(axes)
    if len(pair) != 2:
        raise DiagramError(f"unit({axes!r}) needs two axes, such as 'a b'")
    known = checked(sizes | ({pair[1]: pair[0]} if pair[1] not in sizes else {}), (pair,))
    return Expression((), (pair,), known, lambda net, _: (_eye(net, pair),))


def _eye(net: Building, pair: tuple[str, ...]) -> str:
    size = resolved(pair[0], net.sizes)
    if resolved(pair[1], net.sizes) != size:
        raise DiagramError(f"the two wires {pair[0]!r} and {pair[1]!r} of a unit have other sizes")
    return net.operator("aten.eye.default", (size,), pair, symbol="unit", kind="creation", born=pair)


def broadcast(operation: Expression, axis: str, *, strips: Sequence[int] | None = None, **sizes: Size) -> Expression:
    """The same operation for every index of a further axis, which comes first.

    Parameters
    ----------
    operation
        What is run.
    axis
        A name that the operation does not have.
    strips
        Which of its inputs have the axis (inner broadcasting); the others are shared. All where None.
    **sizes
        Of the axis.

    Examples
    --------
    >>> broadcast(contract("y k, x k -> y x"), "b", strips=[0])
    b y k, x k -> b y x
    """
    if any(axis in t for t in operation.inputs + operation.outputs):
        raise DiagramError(f"{operation} has an axis {axis!r} already; broadcast along another")
    chosen = range(len(operation.inputs)) if strips is None else strips
    if not chosen or not set(chosen) <= set(range(len(operation.inputs))):
        raise DiagramError(f"strips {list(chosen)} of {operation}; allowed: some of 0 to {len(operation.inputs) - 1}")
    inputs = tuple((axis, *t) if i in chosen else t for i, t in enumerate(operation.inputs))
    known = merged(operation.sizes, checked(sizes, ((axis,),)), f"{operation}", f"axis {axis}")
    trial = Building(known)
    made = operation.build(trial, tuple(trial.array("x", t) for t in inputs))
    return Expression(inputs, tuple(trial.arrays[n].axes for n in made), known, operation.build)
