"""Find runs of identical siblings in a diagram and keep one of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import sympy

from nissl.diagrams.circuit import Box, CircuitDiagram, Operation, Ref


@dataclass
class _Block:
    """The operations of one call of a module, with what they are up to names."""

    path: str
    steps: list[Operation]
    signature: tuple[Any, ...]
    outside: list[str]  # arrays that it takes, in order of first use
    made: list[str]  # arrays that it makes, in order
    axes: list[str]  # axes that it meets, in order
    entering: set[str]  # those of them that are on arrays it takes, weights aside


def fold_runs(diagram: CircuitDiagram) -> CircuitDiagram:
    """See `folding.folded`."""
    steps = list(diagram.operations)
    boxes = dict(diagram.boxes)
    arrays: dict[str, str] = {}  # what a name has become
    axes: dict[str, str] = {}
    texts = {a: str(diagram.size(a)) for a in diagram.axes}
    depth = 1
    deepest = max((o.module.count(".") + 1 for o in steps if o.module), default=0)
    while depth <= deepest:
        steps = _fold_level(diagram, steps, depth, boxes, arrays, axes, texts)
        depth += 1
    if not arrays:
        return diagram
    renamed = [_renamed(o, arrays, axes) for o in steps]
    outputs = tuple(dict.fromkeys(_final(n, arrays) for n in diagram.outputs))
    used = {*diagram.inputs, *outputs, *diagram.feedback, *(n for o in renamed for n in (*o.inputs, *o.outputs))}
    kept = {
        n: replace(a, axes=tuple(_final(x, axes) for x in a.axes), storage=_final(a.storage, arrays))
        for n, a in diagram.arrays.items()
        if n in used
    }
    wires = {x for a in kept.values() for x in a.axes}
    modules = {o.module[:i] for o in renamed for i in [*_dots(o.module), len(o.module)]} | {""}
    return replace(
        diagram,
        operations=tuple(renamed),
        outputs=outputs,
        arrays=kept,
        axes={n: a for n, a in diagram.axes.items() if n in wires},
        sizes={n: s for n, s in diagram.sizes.items() if n in wires},
        boxes={p: b for p, b in boxes.items() if p in modules},
    )


def _fold_level(
    diagram: CircuitDiagram,
    steps: list[Operation],
    depth: int,
    boxes: dict[str, Box],
    arrays: dict[str, str],
    axes: dict[str, str],
    texts: dict[str, str],
) -> list[Operation]:
    """Fold the runs among modules of `depth` names in their path."""
    pieces: list[tuple[str, list[Operation]]] = []
    for operation in steps:
        parts = operation.module.split(".")
        path = ".".join(parts[:depth]) if operation.module and len(parts) >= depth else ""
        if path and pieces and pieces[-1][0] == path:
            pieces[-1][1].append(operation)
        else:
            pieces.append((path, [operation]))
    users: dict[str, set[int]] = {}
    for i, (_, run) in enumerate(pieces):
        for operation in run:
            for name in operation.inputs:
                users.setdefault(_final(name, arrays), set()).add(i)
    blocks = [_block(diagram, path, run, arrays, axes, texts) if path else None for path, run in pieces]
    result: list[Operation] = []
    i = 0
    while i < len(pieces):
        end = _run_end(diagram, blocks, i, users, axes)
        first = blocks[i]
        if first is None or end - i < 2:
            result.extend(pieces[i][1])
            i += 1
            continue
        result.extend(_merge([b for b in blocks[i:end] if b is not None], boxes, arrays, axes))
        i = end
    return result


def _run_end(
    diagram: CircuitDiagram,
    blocks: list[_Block | None],
    i: int,
    users: Mapping[str, set[int]],
    axes: Mapping[str, str],
) -> int:
    """One past the last block of the run that begins with block `i`."""
    first, end, link = blocks[i], i + 1, None
    if first is None:
        return end
    kept = set(diagram.feedback)
    while end < len(blocks):
        block, before = blocks[end], blocks[end - 1]
        if block is None or before is None or block.signature != first.signature or block.path == before.path:
            break
        if block.path.rpartition(".")[0] != first.path.rpartition(".")[0]:
            break
        leaving = {n for n in block.made if n in kept or n in diagram.outputs or users.get(n, set()) - {end}}
        if not _alike_in_axes(diagram, first, before, block, leaving, axes):
            break
        places = {n: j for j, n in enumerate(before.made)}
        found = [
            ("same", n) if n == m else ("made", places.get(m, -1))
            for n, m in zip(before.outside, block.outside, strict=True)
        ]
        chained = any(k == "made" for k, _ in found) and all(k == "same" or j != -1 for k, j in found)
        private = all(n not in kept and users.get(n, set()) <= {end - 1, end} for n in before.made)
        if not (chained and private and link in (None, found)):
            break
        link, end = found, end + 1
    return end


def _alike_in_axes(
    diagram: CircuitDiagram, first: _Block, before: _Block, block: _Block, leaving: set[str], axes: Mapping[str, str]
) -> bool:
    """Whether axes differ only in name: each enters as it did before, or as the one that began in the block before.

    Axes that change places, as under a transposition, are not the same up to names.
    """
    passing = {n for n, m in zip(block.axes, first.axes, strict=True) if n in block.entering and n != m}
    if not passing <= set(before.axes) - before.entering:
        return False
    own = ((n, m) for n, m in zip(block.axes, first.axes, strict=True) if n not in block.entering)
    if any(n != m and n in first.axes for n, m in own):
        return False
    return not any(_final(x, axes) in passing for n in leaving for x in diagram.arrays[n].axes)


def _merge(
    blocks: list[_Block], boxes: dict[str, Box], arrays: dict[str, str], axes: dict[str, str]
) -> list[Operation]:
    first, last = blocks[0], blocks[-1]
    for block in blocks[1:]:
        arrays.update({n: m for n, m in zip(block.made, first.made, strict=True) if n != m})
        # What enters is the first's own input, or began in the block before, which has given it its name.
        own = ((n, m) for n, m in zip(block.axes, first.axes, strict=True) if n not in block.entering)
        axes.update({n: m for n, m in own if n != m})
    old = boxes.get(first.path, Box(first.path, first.path.rsplit(".", 1)[-1]))
    note = f"{first.path} to {last.path.rsplit('.', 1)[-1]}"
    boxes[first.path] = replace(old, repeats=old.repeats * len(blocks), note=note)
    return [
        replace(
            step,
            flops=sympy.Add(*(b.steps[k].flops for b in blocks)),
            elementwise=sympy.Add(*(b.steps[k].elementwise for b in blocks)),
        )
        for k, step in enumerate(first.steps)
    ]


def _block(
    diagram: CircuitDiagram,
    path: str,
    run: list[Operation],
    arrays: Mapping[str, str],
    axes: Mapping[str, str],
    texts: Mapping[str, str],
) -> _Block:
    places: dict[str, tuple[str, int]] = {}
    wires: dict[str, int] = {}
    outside: list[str] = []
    made: list[str] = []

    def wire(axis: str) -> tuple[int, str]:
        axis = _final(axis, axes)
        return wires.setdefault(axis, len(wires)), texts[axis]

    def kind(name: str) -> tuple[Any, ...]:
        array = diagram.arrays[name]
        # The first block takes what the network was given, the others what the one before made: that is no difference.
        role = array.role if array.role in ("parameter", "constant") else "activation"
        return (*map(wire, array.axes), array.dtype, role)

    def taken(name: str) -> tuple[Any, ...]:
        name = _final(name, arrays)
        if name not in places:
            if diagram.arrays[name].role == "parameter" or _own_buffer(diagram, name, path):
                places[name] = ("weight", len(places))
            else:
                places[name] = ("outside", len(outside))
                outside.append(name)
        return (*places[name], kind(name))

    def plain(value: Any) -> Any:
        if isinstance(value, Ref):
            return taken(value.array)
        if isinstance(value, (list, tuple)):
            return tuple(map(plain, value))
        if isinstance(value, Mapping):
            return tuple((k, plain(v)) for k, v in value.items())
        return str(value)

    said = []
    for operation in run:
        inputs = tuple(map(taken, operation.inputs))
        values = (plain(operation.arguments), plain(operation.options))
        for name in operation.outputs:
            places.setdefault(name, ("made", len(made)))
            made.append(name)
        outputs = tuple(kind(n) for n in operation.outputs)
        roles = tuple(
            tuple(map(wire, r)) for r in (operation.acted, operation.contracted, operation.born, operation.broadcast)
        )
        local = operation.module[len(path) :]
        said.append((operation.kind, operation.symbol, operation.target, local, inputs, outputs, roles, values))
    label = diagram.boxes[path].label if path in diagram.boxes else ""
    entering = {_final(x, axes) for n in outside for x in diagram.arrays[n].axes}
    return _Block(path, run, (label, *said), outside, made, list(wires), entering)


def _own_buffer(diagram: CircuitDiagram, name: str, path: str) -> bool:
    """A buffer of the block itself: every repeat has one of its own, as it has weights."""
    return diagram.arrays[name].role == "constant" and name.startswith(path + ".")


def _renamed(operation: Operation, arrays: Mapping[str, str], axes: Mapping[str, str]) -> Operation:
    def names(values: tuple[str, ...], table: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(_final(v, table) for v in values)

    def plain(value: Any) -> Any:
        if isinstance(value, Ref):
            return Ref(_final(value.array, arrays))
        if isinstance(value, (list, tuple)):
            return type(value)(map(plain, value))
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        return value

    return replace(
        operation,
        inputs=names(operation.inputs, arrays),
        outputs=names(operation.outputs, arrays),
        acted=names(operation.acted, axes),
        contracted=names(operation.contracted, axes),
        born=names(operation.born, axes),
        broadcast=names(operation.broadcast, axes),
        equation=re.sub(r"[^\s,>-]+", lambda m: _final(m[0], axes), operation.equation),
        arguments=plain(operation.arguments),
        options=plain(operation.options),
    )


def _final(name: str, table: Mapping[str, str]) -> str:
    while name in table and table[name] != name:
        name = table[name]
    return name


def _dots(path: str) -> list[int]:
    return [i for i, letter in enumerate(path) if letter == "."]
