"""Where everything in a picture stands: lines of columns as a text has lines of words, strips stacked in each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nissl.diagrams.circuit import CircuitDiagram, Operation
from nissl.diagrams.drawing.labels import SMALL, SYMBOL, axis_label, cost_of, held_in, parameters, symbol_of, weights_of
from nissl.diagrams.drawing.primitives import width
from nissl.diagrams.drawing.stages import Stages, Strip

PITCH = 15.0  # between the wires of a strip
GAP = 15.0  # between strips
HEAD = 17.0  # of a frame, with its label
FOOT = 6.0  # of a frame below
PAD = 8.0  # of a frame at its sides


@dataclass(frozen=True)
class Step:
    """One column of operations: how wide its parts are."""

    left: float  # for wires to bend
    box: float
    right: float
    fences_begin: int
    fences_end: int

    @property
    def width(self) -> float:
        """All of it."""
        return self.left + self.box + self.right + PAD * (self.fences_begin + self.fences_end)


@dataclass
class Row:
    """One line of the picture: the columns of data from `first` to `last`, and the operations between them."""

    first: int
    last: int
    x: dict[int, tuple[float, float]] = field(default_factory=dict)  # of columns of data: left and right
    zone: dict[int, tuple[float, float]] = field(default_factory=dict)  # of operations: left and right of their boxes
    y: dict[tuple[int, Strip], float] = field(default_factory=dict)  # of the first wire of a strip in a column
    top: float = 0.0
    bottom: float = 0.0

    def labelled(self, plan: Stages, column: int) -> frozenset[Strip]:
        """Strips whose wires carry their names in a column."""
        return frozenset(plan.columns[column]) if column == self.first else plan.fresh(column)


def rows_of(diagram: CircuitDiagram, plan: Stages, *, costs: bool, page: float) -> list[Row]:
    """Lay a diagram out; coordinates of every row begin at 0, 0 with its first wire."""
    n = len(plan.operations)
    begins = [sum(f.first == s for f in plan.fences) for s in range(n)]
    ends = [sum(f.last == s for f in plan.fences) for s in range(n)]
    steps = [_step(diagram, plan, s, begins[s], ends[s], costs) for s in range(n)]
    _widen(diagram, plan, steps)
    fresh = [_column_width(diagram, plan.fresh(c), plan.columns[c], costs) for c in range(n + 1)]
    deep = [sum(f.first < c <= f.last for f in plan.fences) for c in range(n + 1)]
    rows = []
    for first, last in _breaks(fresh, [s.width for s in steps], deep, page):
        row = Row(first, last)
        _place_x(diagram, plan, row, steps, fresh, costs)
        _place_y(diagram, plan, row)
        rows.append(row)
    return rows


def strip_height(diagram: CircuitDiagram, array: str) -> float:
    """From the first wire of a strip to its last."""
    return PITCH * max(len(diagram.arrays[array].axes) - 1, 0)


def slot_height(diagram: CircuitDiagram, operation: Operation) -> float:
    """Room under what an operation gives: for its box, where it touches no wire that goes on, and for its weights."""
    box = 8.0 if touched_rows(diagram, operation) else 22.0
    return box + extra_height(diagram, operation) + 10.5 * len(weights_of(diagram, operation))


def extra_height(diagram: CircuitDiagram, operation: Operation) -> float:
    """What a box needs beyond its rows, downwards, where many wires come into it."""
    rows = touched_rows(diagram, operation)
    end = (len(operation.outputs) - 1, len(diagram.arrays[operation.outputs[-1]].axes) - 1)
    if not rows or rows[-1] != end or len(operation.outputs) > 1:
        return 0.0
    weights = set(parameters(diagram, operation))
    coming = [a for n in operation.inputs if n not in weights for a in diagram.arrays[n].axes]
    coming = [a for a in coming if a not in operation.broadcast]
    return max(0.0, 5.0 * (len(coming) + 1) - PITCH * (rows[-1][1] - rows[0][1]) - 17.0)


def touched_rows(diagram: CircuitDiagram, operation: Operation) -> list[tuple[int, int]]:
    """Wires that leave the box: which output, and which of its axes."""
    incoming = {a for n in operation.inputs if diagram.arrays[n].role != "parameter" for a in diagram.arrays[n].axes}
    return [
        (o, k)
        for o, name in enumerate(operation.outputs)
        for k, axis in enumerate(diagram.arrays[name].axes)
        if axis in operation.acted or axis in operation.born or axis not in incoming
    ]


def _step(diagram: CircuitDiagram, plan: Stages, s: int, begins: int, ends: int, costs: bool) -> Step:
    widest, bend = 22.0, 0.0
    for operation in plan.operations[s]:
        widest = max(widest, width(symbol_of(diagram, operation), SYMBOL, bold=operation.learned) + 14)
        widest = max([widest, *(width(w.text, SMALL) + 6 for w in weights_of(diagram, operation))])
        strips = plan.takes[operation.name]
        bend = max(bend, 1.0 * (len(strips) > 1 or len(plan.operations[s]) > 1))
    carried = set(plan.columns[s]) & set(plan.columns[s + 1])
    used = {t for o in plan.operations[s] for t in plan.takes[o.name]}
    bend = max(bend, 1.0 * bool(carried & used))
    if costs:
        widest = max(widest, width(cost_of(diagram, plan.operations[s]), SMALL) + 6)
    return Step(30.0 if bend else 14.0, widest, 10.0, begins, ends)


def _widen(diagram: CircuitDiagram, plan: Stages, steps: list[Step]) -> None:
    """Room for the labels of the frames: one is no narrower than what is written on it."""
    from nissl.diagrams.drawing.labels import fence_label

    for fence in sorted(plan.fences, key=lambda f: f.height):
        have = sum(s.width for s in steps[fence.first : fence.last + 1])
        need = width(fence_label(diagram, fence.path), SMALL) + 14
        if need > have:
            old = steps[fence.last]
            steps[fence.last] = Step(old.left, old.box + need - have, old.right, old.fences_begin, old.fences_end)


def _column_width(diagram: CircuitDiagram, shown: frozenset[Strip], strips: Sequence[Strip], costs: bool) -> float:
    widest = max((width(axis_label(diagram, a), 9.5) for s in shown for a in diagram.arrays[s.array].axes), default=0.0)
    if any(not diagram.arrays[s.array].axes for s in shown):
        widest = max(widest, width("scalar", 9.5))
    if costs:
        widest = max(widest, width(held_in(diagram, strips), SMALL))
    return widest + 14


def _breaks(columns: list[float], zones: list[float], deep: list[int], page: float) -> list[tuple[int, int]]:
    """Where rows end: as late as fits, a little sooner where a frame would be cut otherwise."""
    rows, first = [], 0
    end = len(zones)
    while True:
        used, last = columns[first], first
        while last < end and used + zones[last] + columns[last + 1] <= page:
            used += zones[last] + columns[last + 1]
            last += 1
        if last >= end:
            rows.append((first, end))
            return rows
        last = max(last, first + 1)
        earliest = first + max(1, int(0.6 * (last - first)))
        last = min(range(earliest, last + 1), key=lambda c: (deep[c], -c))
        rows.append((first, last))
        first = last


def _place_x(
    diagram: CircuitDiagram, plan: Stages, row: Row, steps: list[Step], fresh: list[float], costs: bool
) -> None:
    x = 0.0
    for column in range(row.first, row.last + 1):
        wide = fresh[column]
        if column == row.first:
            wide = _column_width(diagram, frozenset(plan.columns[column]), plan.columns[column], costs)
        row.x[column] = (x, x + wide)
        x += wide
        if column < row.last:
            step = steps[column]
            left = x + step.left + PAD * step.fences_begin
            row.zone[column] = (left, left + step.box)
            x += step.width


def _place_y(diagram: CircuitDiagram, plan: Stages, row: Row) -> None:
    """Stack the strips of each column, and let those that are only carried run straight where there is room."""
    below: dict[tuple[int, Strip], float] = {}
    for column in range(row.first, row.last + 1):
        for strip in plan.columns[column]:
            below[column, strip] = GAP
            row.y[column, strip] = 0.0
        if column == 0 or column == row.first:
            continue
        feet = FOOT * max((f.height + 1 for f in plan.fences if f.first <= column - 1 <= f.last), default=0)
        for operation in plan.operations[column - 1]:
            last = max((Strip(n) for n in operation.outputs), key=plan.columns[column].index)
            below[column, last] += slot_height(diagram, operation) + feet / max(1, len(plan.operations[column - 1]))
    pairs = {c: _straight(plan, c) for c in range(row.first, row.last)}
    heights = {s: strip_height(diagram, s.array) for c in range(row.first, row.last + 1) for s in plan.columns[c]}
    for turn in range(3):
        for column in range(row.first, row.last + 1):
            wanted = {b: row.y[column - 1, a] for a, b in pairs.get(column - 1, ())}
            _stack(plan, row, column, wanted, heights, below)
        if turn < 2:
            for column in range(row.last - 1, row.first - 1, -1):
                wanted = {a: row.y[column + 1, b] for a, b in pairs.get(column, ())}
                _stack(plan, row, column, wanted, heights, below)
    row.bottom = max(
        (row.y[c, s] + heights[s] + below[c, s] - GAP for c in range(row.first, row.last + 1) for s in plan.columns[c]),
        default=0.0,
    )


def _stack(
    plan: Stages,
    row: Row,
    column: int,
    wanted: dict[Strip, float],
    heights: dict[Strip, float],
    below: dict[tuple[int, Strip], float],
) -> None:
    cursor = 0.0
    for strip in plan.columns[column]:
        y = max(cursor, row.y[column, strip], wanted.get(strip, 0.0))
        row.y[column, strip] = y
        cursor = y + heights[strip] + below[column, strip]


def _straight(plan: Stages, column: int) -> list[tuple[Strip, Strip]]:
    """Strips of a column and of the next that would best be level: carried ones, and what an operation takes and gives."""
    steps = plan.operations[column]
    takers: dict[Strip, int] = {}
    for operation in steps:
        for strip in set(plan.takes[operation.name]):
            takers[strip] = takers.get(strip, 0) + 1
    after = set(plan.columns[column + 1])
    pairs = [(s, s) for s in plan.columns[column] if s in after and s not in takers]
    for operation in steps:
        sole = [s for s in plan.takes[operation.name] if takers[s] == 1 and s not in after]
        if sole:
            pairs.append((min(sole, key=plan.columns[column].index), Strip(operation.outputs[0])))
    here = {s: i for i, s in enumerate(plan.columns[column])}
    there = {s: i for i, s in enumerate(plan.columns[column + 1])}
    kept: list[tuple[Strip, Strip]] = []
    for a, b in sorted(pairs, key=lambda p: there[p[1]]):
        if not kept or here[a] > here[kept[-1][0]]:  # pairs that cross would push each other down without end
            kept.append((a, b))
    return kept
