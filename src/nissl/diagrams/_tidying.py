"""The last steps of simplifying: one operation for what depends on sizes alone, biases, nothing that is not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sympy

from nissl.diagrams._steps import STEPS
from nissl.diagrams.circuit import Array, CircuitDiagram, Operation, Ref
from nissl.diagrams.tracing.views import ONE


def renamed(o: Operation, new: Mapping[str, str]) -> Operation:
    """The operation with other names for the arrays that it takes."""
    if all(k == v for k, v in new.items()):
        return o

    def put(x: Any) -> Any:
        if isinstance(x, Ref):
            return Ref(new.get(x.array, x.array))
        return tuple(put(v) for v in x) if isinstance(x, tuple) else x

    inputs = tuple(new.get(n, n) for n in o.inputs)
    return replace(o, inputs=inputs, arguments=put(o.arguments), options={k: put(v) for k, v in o.options.items()})


def made_once(diagram: CircuitDiagram) -> CircuitDiagram:
    """What depends on sizes alone becomes one operation for each array that others read; what is made twice is made once."""
    arrays = diagram.arrays
    made: dict[str, Operation] = {}  # array -> what makes it, from sizes alone
    first: dict[str, str] = {}  # an array -> the equal one that was made before it
    seen: dict[Any, Operation] = {}
    operations: list[Operation] = []
    for o in diagram.operations:
        o = renamed(o, {n: first.get(n, n) for n in o.inputs})
        operations.append(o)
        random = o.target.startswith(("aten.rand", "aten.bernoulli", "aten.normal", "aten.empty", "aten.new_empty"))
        alone = o.kind == "creation" and not o.inputs
        if (
            not random
            and o.kind != "opaque"
            and (alone or (o.inputs and all(n in made for n in o.inputs)))
            and "." in o.target
        ):
            key = (o.target, str(o.arguments), str(o.options))
            equal = seen.setdefault(key, o)
            if equal is not o and all(
                arrays[a].axes == arrays[b].axes for a, b in zip(o.outputs, equal.outputs, strict=True)
            ):
                first.update(zip(o.outputs, equal.outputs, strict=True))
                operations.pop()
                continue
            made.update(dict.fromkeys(o.outputs, o))
    outputs = tuple(first.get(n, n) for n in diagram.outputs)
    diagram = replace(diagram, operations=tuple(operations), outputs=outputs)
    wanted = {n for o in diagram.operations if not set(o.outputs) & set(made) for n in o.inputs if n in made}
    wanted |= {n for n in diagram.outputs if n in made}
    found: list[Operation] = []
    for o in diagram.operations:
        if not (o.outputs and o.outputs[0] in made):
            found.append(o)
            continue
        found += [_folded(diagram, name, made) for name in o.outputs if name in wanted]
    return replace(diagram, operations=tuple(found))


def _folded(diagram: CircuitDiagram, name: str, made: Mapping[str, Operation]) -> Operation:
    """One operation that makes an array from sizes."""
    last = made[name]
    if not last.inputs and len(last.outputs) == 1:
        return last
    chain: dict[str, Operation] = {}
    waiting = [name]
    while waiting:
        o = made[waiting.pop()]
        if o.name not in chain:
            chain[o.name] = o
            waiting += list(o.inputs)
    steps = [o for o in diagram.operations if o.name in chain]

    def plain(x: Any) -> Any:
        if isinstance(x, Ref):
            return f"%{x.array}"
        return tuple(plain(v) for v in x) if isinstance(x, tuple) else x

    written = tuple(
        (o.outputs, o.target, plain(o.arguments), tuple((k, plain(v)) for k, v in o.options.items())) for o in steps
    )
    boolean = diagram.arrays[name].dtype == "bool"
    symbol = "mask" if boolean or any(o.symbol in ("where", "mask", "tril", "triu") for o in steps) else "constant"
    if symbol == "constant" and any("arange" in o.target for o in steps):
        symbol = "positions"
    born = tuple(a for a in dict.fromkeys(diagram.arrays[name].axes) if a != ONE)
    cost = sympy.Add(*(o.elementwise for o in steps))
    return Operation(
        last.name,
        "creation",
        symbol,
        (),
        (name,),
        last.module,
        born=born,
        elementwise=cost,
        target=STEPS,
        arguments=(written, name),
        line=last.line,
    )


def read(diagram: CircuitDiagram) -> CircuitDiagram:
    """Only what is read, or costs products; and only names that stand for something."""
    needed = set(diagram.outputs)
    kept: list[Operation] = []
    for o in reversed(diagram.operations):
        if not (needed & set(o.outputs) or o.flops != 0):
            continue
        outputs = list(o.outputs)
        while len(outputs) > 1 and outputs[-1] not in needed:
            outputs.pop()
        kept.append(replace(o, outputs=tuple(outputs)))
        needed |= set(o.inputs)
    arrays = dict(diagram.arrays)
    operations = _uncrossed(_biased(kept[::-1], arrays, set(diagram.outputs)), arrays, set(diagram.outputs))
    used = {*diagram.inputs, *diagram.outputs, *(n for o in operations for n in (*o.inputs, *o.outputs))}
    arrays = {n: a if a.storage in used else replace(a, storage=n) for n, a in arrays.items() if n in used}
    wires = {x for a in arrays.values() for x in a.axes} | {x for o in operations for x in _letters(o.equation)}
    wires |= {x for o in operations for x in (*o.acted, *o.contracted, *o.born, *o.broadcast)}
    return replace(
        diagram,
        operations=tuple(operations),
        arrays=arrays,
        axes={n: a for n, a in diagram.axes.items() if n in wires},
        sizes={n: s for n, s in diagram.sizes.items() if n in wires},
    )


def _letters(equation: str) -> set[str]:
    return {x for x in equation.replace(",", " ").replace("->", " ").split() if x != "()"}


def _biased(operations: list[Operation], arrays: dict[str, Array], outputs: set[str]) -> list[Operation]:
    """A weight that is added to a linear map's result, along what is born in it, is its bias."""
    uses = Counter(n for o in operations for n in o.inputs)
    at = {n: i for i, o in enumerate(operations) for n in o.outputs}
    gone: set[int] = set()
    for i, o in enumerate(operations):
        if o.target != "aten.add.Tensor" or len(o.inputs) != 2 or o.options.get("alpha", 1) != 1:
            continue
        result, bias = o.inputs if o.inputs[0] in at and operations[at[o.inputs[0]]].equation else o.inputs[::-1]
        made = operations[at[result]] if result in at else None
        if (
            made is None
            or made.kind != "linear"
            or len(made.inputs) != made.equation.count(",") + 1
            or uses[result] != 1
        ):
            continue
        axes, name = arrays[bias].axes, o.outputs[0]
        if not o.learned or axes != made.born or arrays[result].axes[-len(axes) :] != axes or result in outputs:
            continue
        if arrays[name].axes != arrays[result].axes or (bias in at and at[bias] > at[result]):
            continue
        operations[at[result]] = replace(made, inputs=(*made.inputs, bias), outputs=(name,))
        at[name] = at[result]
        arrays[name] = replace(arrays[name], storage=name)
        gone.add(i)
    return [o for i, o in enumerate(operations) if i not in gone]


def _uncrossed(operations: list[Operation], arrays: dict[str, Array], outputs: set[str]) -> list[Operation]:
    """A product whose result is only read with its wires crossed gives them in that order at once."""
    uses = Counter(n for o in operations for n in o.inputs)
    maker = {n: i for i, o in enumerate(operations) for n in o.outputs}
    gone: set[int] = set()
    for i, o in enumerate(operations):
        if (
            o.symbol != "transpose"
            or o.target != "aten.permute.default"
            or uses[o.inputs[0]] != 1
            or o.inputs[0] in outputs
        ):
            continue
        at = maker.get(o.inputs[0])
        if (
            at is None
            or not operations[at].equation
            or len(operations[at].inputs) > operations[at].equation.count(",") + 1
        ):
            continue
        made = operations[at]
        left, right = made.equation.split(" -> ")
        letters = right.split()
        order = o.arguments[1]
        name = o.outputs[0]
        operations[at] = replace(made, equation=f"{left} -> {' '.join(letters[d] for d in order)}", outputs=(name,))
        arrays[name] = replace(arrays[name], storage=name)
        gone.add(i)
    return [o for i, o in enumerate(operations) if i not in gone]
