"""Runs of operations as one box each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import sympy

from nissl.diagrams.circuit import Array, Box, CircuitDiagram, Operation


def inside(module: str, path: str) -> bool:
    """Whether a module is the one at a path, or a part of it; `part#1`, its second call, is the same module as `part`."""
    if "#" in module and "#" not in path:
        module = re.sub(r"#\d+", "", module)
    return not path or module == path or module.startswith(path + ".")


def nested(diagram: CircuitDiagram, path: str) -> list[str]:
    """The modules that a path leads through, from the outermost; containers that are never called are none."""
    every = [path[:i] for i in _cuts(path)] if path else []
    return [p for p in every if p in diagram.boxes] or every


def runs_of(operations: Iterable[Operation], groups: Iterable[str | None]) -> list[tuple[str | None, list[Operation]]]:
    """Operations that follow one another and belong to one group; those without group alone."""
    runs: list[tuple[str | None, list[Operation]]] = []
    for operation, group in zip(operations, groups, strict=True):
        if group is not None and runs and runs[-1][0] == group:
            runs[-1][1].append(operation)
        else:
            runs.append((group, [operation]))
    return runs


def gathered(operations: Iterable[Operation], groups: Iterable[str | None]) -> list[tuple[Operation, str | None]]:
    """Operations in an order in which those of a group follow one another, where what breaks them up can be done before them."""
    order = list(zip(operations, groups, strict=True))
    spans: dict[str, tuple[int, int, int]] = {}
    for i, (_, group) in enumerate(order):
        if group is not None:
            start, _, count = spans.get(group, (i, i, 0))
            spans[group] = (start, i, count + 1)
    for group, (start, end, count) in spans.items():
        if end - start + 1 == count:
            continue
        start = next(i for i, (_, g) in enumerate(order) if g == group)  # others may have moved it
        end = max(i for i, (_, g) in enumerate(order) if g == group)
        before: list[tuple[Operation, str | None]] = []
        after: list[tuple[Operation, str | None]] = []
        made: set[str] = set()  # by what stays behind
        for operation, own in order[start : end + 1]:
            if own == group or made.intersection(operation.inputs):
                after.append((operation, own))
                made.update(operation.outputs)
            else:
                before.append((operation, own))
        order[start : end + 1] = [*before, *after]
    return order


def grouped(diagram: CircuitDiagram, groups: list[str | None], *, gather: bool = False) -> CircuitDiagram:
    """Groups of operations as one box each; with `gather`, of as few pieces as can be, those that are left numbered."""
    order = gathered(diagram.operations, groups) if gather else list(zip(diagram.operations, groups, strict=True))
    runs = runs_of((o for o, _ in order), (g for _, g in order))
    pieces = Counter(g for g, run in runs if g is not None and len(run) > 1)
    last_use = {n: i for i, (_, run) in enumerate(runs) for o in run for n in o.inputs}
    kept = set(diagram.outputs) | set(diagram.feedback)
    counts: dict[str, int] = {}
    steps: list[Operation] = []
    for i, (group, run) in enumerate(runs):
        if group is None or len(run) == 1:
            steps.extend(run)
            continue
        counts[group] = counts.get(group, 0) + 1
        needed = kept | {n for o in run for n in o.outputs if last_use.get(n, -1) > i}
        name = f"{group or diagram.name}" + (f"#{counts[group]}" if counts[group] > 1 else "")
        box = boxed(diagram, group, name, run, needed)
        if gather and pieces[group] > 1:
            box = replace(box, symbol=f"{box.symbol}, part {counts[group]} of {pieces[group]}")
        steps.append(box)
    return with_steps(diagram, steps, diagram.arrays, diagram.boxes, diagram)


def boxed(diagram: CircuitDiagram, path: str, name: str, run: list[Operation], needed: set[str]) -> Operation:
    """One operation that stands for a run of them."""
    made: set[str] = set()
    taken: dict[str, None] = {}
    for operation in run:
        taken.update({n: None for n in operation.inputs if n not in made})
        made.update(operation.outputs)
    weights = [n for n in taken if diagram.arrays[n].role == "parameter"]
    inputs = [n for n in taken if diagram.arrays[n].role != "parameter"]
    outputs = tuple(n for o in run for n in o.outputs if n in needed) or run[-1].outputs
    before = [a for n in inputs for a in diagram.arrays[n].axes]
    after = {a for n in outputs for a in diagram.arrays[n].axes}
    touched = {a for o in run for a in (*o.acted, *o.contracted, *o.born)}
    label = diagram.boxes[path].label if path in diagram.boxes else ""
    return Operation(
        name=name,
        kind="module",
        symbol=label or path.rsplit(".", 1)[-1] or diagram.name,
        inputs=(*inputs, *weights),
        outputs=outputs,
        module=path,
        acted=tuple(a for a in dict.fromkeys(before) if a in after and a in touched),
        contracted=tuple(a for a in dict.fromkeys(before) if a not in after),
        born=tuple(dict.fromkeys(a for n in outputs for a in diagram.arrays[n].axes if a not in before)),
        broadcast=tuple(a for a in dict.fromkeys(before) if a in after and a not in touched),
        flops=sympy.Add(*(o.flops for o in run)),
        elementwise=sympy.Add(*(o.elementwise for o in run)),
        line=next((o.line for o in run if o.line), ""),
        learned=any(o.learned for o in run),
    )


def with_steps(
    diagram: CircuitDiagram,
    steps: list[Operation],
    arrays: Mapping[str, Array],
    boxes: Mapping[str, Box],
    original: CircuitDiagram,
) -> CircuitDiagram:
    """The diagram of other steps, holding only the arrays, axes and boxes that they use."""
    used = {*diagram.inputs, *diagram.outputs, *diagram.feedback}
    used.update(n for o in steps for n in (*o.inputs, *o.outputs))
    kept = {n: a for n, a in original.arrays.items() if n in used}
    axes = {x for a in kept.values() for x in a.axes}
    modules = {""} | {o.module[:i] for o in steps for i in _cuts(o.module)}
    return replace(
        diagram,
        operations=tuple(_without_axes(o, axes) for o in steps),
        arrays=kept,
        axes={n: a for n, a in original.axes.items() if n in axes},
        sizes={n: s for n, s in original.sizes.items() if n in axes},
        boxes={p: b for p, b in boxes.items() if p in modules},
    )


def _without_axes(operation: Operation, axes: set[str]) -> Operation:
    """The operation, mentioning only axes that the diagram still has."""
    roles = {r: getattr(operation, r) for r in ("acted", "contracted", "born", "broadcast")}
    if all(axes.issuperset(r) for r in roles.values()):
        return operation
    return replace(operation, **{r: tuple(a for a in v if a in axes) for r, v in roles.items()})


def _cuts(path: str) -> list[int]:
    """Where a dotted path can be cut so that what is before it is a path."""
    return [i for i, letter in enumerate(path) if letter == "."] + [len(path)]
