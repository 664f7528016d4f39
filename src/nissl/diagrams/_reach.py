"""Follow the indices of one unit downstream: an upper bound of what they reach.

Of every array that is reached it is known, for some of its axes, which indices of them can be touched. Slices, splits, picks and
joins whose range stands in the diagram move the indices, or end them; steps that run along an axis pass them on; all else is
taken to carry them everywhere.
"""

from __future__ import annotations

from typing import Any

from nissl.diagrams.circuit import CircuitDiagram, Operation

Indices = dict[str, frozenset[int]]  # by axis; an axis that is missing can be touched anywhere
_SPLITS = ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk")


def reached(diagram: CircuitDiagram, array: str, start: Indices) -> tuple[set[str], dict[str, Indices]]:
    """Names of the operations that some indices of an array reach, and the arrays with their indices."""
    found: dict[str, Indices] = {array: start}
    steps: set[str] = set()
    begin = max(i for i, o in enumerate(diagram.operations) if array in o.outputs) + 1
    operations = diagram.operations[begin:]
    while True:
        before = dict(found)
        for operation in operations:
            if not any(n in found for n in operation.inputs):
                continue
            for name, indices in _passed(diagram, operation, found).items():
                if all(indices.values()):
                    steps.add(operation.name)
                    found[name] = _either(found.get(name), indices)
        # What is fed back reaches the steps before it too: at the next step of time.
        if not diagram.feedback or found == before:
            return steps, found
        operations = diagram.operations


def _either(a: Indices | None, b: Indices) -> Indices:
    return b if a is None else {x: a[x] | b[x] for x in a if x in b}


def _passed(diagram: CircuitDiagram, operation: Operation, found: dict[str, Indices]) -> dict[str, Indices]:
    """The indices of each output that a step may touch; no index at all on some axis where it does not."""
    name = operation.target.split(".")[1] if operation.target.count(".") == 2 else ""
    source = operation.inputs[0] if operation.inputs else ""
    if operation.kind == "index" and len(operation.inputs) == 1:
        axes = diagram.arrays[source].axes
        moved = _picked(diagram, operation, name, axes)
        if moved is not None:
            return {o: _moved(found[source], *m) for o, m in zip(operation.outputs, moved, strict=False)}
    if name in ("cat", "concat") and len(operation.outputs) == 1:
        joined = _joined(diagram, operation, found)
        if joined is not None:
            return {operation.outputs[0]: joined}
    along = set(operation.broadcast)
    if operation.kind == "rearrangement":
        along = {a for n in operation.inputs for a in diagram.arrays[n].axes} - set(operation.born)
    indices: Indices | None = None
    for n in operation.inputs:
        if n in found:
            kept = {a: i for a, i in found[n].items() if a in along}
            indices = _either(indices, kept)
    passed = indices or {}
    return {o: {a: i for a, i in passed.items() if a in diagram.arrays[o].axes} for o in operation.outputs}


def _moved(indices: Indices, axis: str, into: str | None, table: dict[int, int]) -> Indices:
    """Indices after those of one axis became those of another, or were picked."""
    if axis not in indices:
        return indices
    rest = {a: i for a, i in indices.items() if a != axis}
    kept = frozenset(table[i] for i in indices[axis] if i in table)
    if into is None:
        return rest if kept else {axis: kept}
    return {**rest, into: kept}


def _picked(
    diagram: CircuitDiagram, operation: Operation, name: str, axes: tuple[str, ...]
) -> list[tuple[str, str | None, dict[int, int]]] | None:
    """For every output: the axis that is cut, what it becomes, and where its indices go. None where it is not known."""
    given = operation.arguments
    place = {"slice": 1, "narrow": 1, "select": 1, "unbind": 1}.get(name, 2 if name in _SPLITS else None)
    if place is None:
        return None
    dim = given[place] if len(given) > place else operation.options.get("dim", 0)
    if not _whole(dim) or not -len(axes) <= dim < len(axes) or len(set(axes)) < len(axes):
        return None
    axis = axes[dim]
    size = diagram.axes[axis].size
    into = [diagram.arrays[o].axes[dim] if name not in ("select", "unbind") else None for o in operation.outputs]
    if name == "unbind":
        return [(axis, None, {k: 0}) for k in range(len(operation.outputs))]
    numbers = [g for g in given[1:] if not isinstance(g, tuple)]
    if name == "select":
        return [(axis, None, {numbers[1] % size: 0})] if len(numbers) == 2 and _whole(numbers[1]) else None
    if name == "slice":
        start, stop, step = (*given[2:5], None, None, None)[:3]
        if not all(v is None or _whole(v) for v in (start, stop, step)):
            return None
        return [(axis, into[0], {i: k for k, i in enumerate(range(size)[slice(start, stop, step)])})]
    found, start = [], 0
    for k in range(len(operation.outputs)):  # of a split the parts' own axes have their sizes
        width = diagram.axes[into[k] or axis].size
        found.append((axis, into[k], {start + i: i for i in range(width)}))
        start += width
    return found


def _joined(diagram: CircuitDiagram, operation: Operation, found: dict[str, Indices]) -> Indices | None:
    """Indices after several arrays were laid behind one another."""
    out = diagram.arrays[operation.outputs[0]].axes
    parts = operation.arguments[0] if operation.arguments else ()
    dim = operation.arguments[1] if len(operation.arguments) > 1 else operation.options.get("dim", 0)
    if not isinstance(parts, tuple | list) or not _whole(dim) or not -len(out) <= dim < len(out):
        return None
    start, result = 0, None
    for part in parts:
        axes = diagram.arrays[part.array].axes
        if len(axes) != len(out):
            return None
        axis = axes[dim]
        if part.array in found:
            table = {i: start + i for i in range(diagram.axes[axis].size)}
            indices = {a: i for a, i in found[part.array].items() if a in out or a == axis}
            if axis not in indices:  # anywhere in this part
                indices[axis] = frozenset(table)
            result = _either(result, _moved(indices, axis, out[dim], table))
        start += diagram.axes[axis].size
    return result


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
