"""From places to primitives: wires, boxes, dashed lines, frames and labels of one row."""

from __future__ import annotations

from collections.abc import Mapping

from nissl.diagrams.circuit import CircuitDiagram, Operation
from nissl.diagrams.drawing.frames import frame, step_costs
from nissl.diagrams.drawing.labels import (
    LABEL,
    SMALL,
    SYMBOL,
    axis_label,
    symbol_of,
    weights_of,
)
from nissl.diagrams.drawing.layout import GAP, PITCH, Row, extra_height, strip_height, touched_rows
from nissl.diagrams.drawing.primitives import Extent, Group, Path, Primitive, Rect, Text, width
from nissl.diagrams.drawing.stages import Stages, Strip
from nissl.diagrams.folding import Reach


class Drawer:
    """Draws the rows of one diagram; `dy` moves a row to its place on the page."""

    def __init__(self, diagram: CircuitDiagram, plan: Stages, reach: Reach | None, numbers: Mapping[str, int]) -> None:
        self.diagram, self.plan, self.reach, self.numbers = diagram, plan, reach, numbers
        self._bright = {*reach.operations, reach.array} if reach is not None else set[str]()

    def row(self, row: Row, dx: float, dy: float, *, costs: bool) -> list[Primitive]:
        """All of one row: frames at the back, then wires, operations, labels."""
        self.at, self.dx, self.dy = row, dx, dy
        parts: list[Primitive] = [p for f in self.plan.fences for p in frame(self, f)]
        bands, boxes = [], []
        for s in range(row.first, row.last):
            for operation in self.plan.operations[s]:
                band, box = self._operation(s, operation)
                bands.append(band)
                boxes.append(box)
        parts += bands
        over: list[Primitive] = []
        for s in range(row.first, row.last):
            parts += self._carried(s)
            for operation in self.plan.operations[s]:
                behind, before = self._wires(s, operation)
                parts += behind
                over += before
        parts += boxes + over
        parts += [self._column(c) for c in range(row.first, row.last + 1)]
        return parts + (step_costs(self) if costs else [])

    # places

    def y(self, column: int, strip: Strip, wire: int = 0) -> float:
        """Level of a wire in a column."""
        return self.at.y[column, strip] + wire * PITCH + self.dy

    def x(self, column: int) -> tuple[float, float]:
        """Left and right end of a column of data."""
        left, right = self.at.x[column]
        return left + self.dx, right + self.dx

    def _axes(self, strip: Strip) -> tuple[str, ...]:
        return self.diagram.arrays[strip.array].axes

    def _dim(self, array: str) -> bool:
        return self.reach is not None and array not in self.reach.arrays

    def _gap(self, column: int, strip: Strip, wire: int) -> tuple[float, float]:
        """Where a wire stops for its label, and where it goes on; the column's sides where it has none there."""
        left, right = self.x(column)
        axes = self._axes(strip)
        if strip not in self.at.labelled(self.plan, column):
            return right, right
        text = axis_label(self.diagram, axes[wire]) if axes else "scalar"
        half = width(text, LABEL) / 2 + 2.5
        middle = (left + right) / 2
        return middle - half, middle + half

    def _wire(self, points: list[tuple[str, tuple[float, ...]]], strip: Strip, wire: int) -> Path:
        axes = self._axes(strip)
        dim = self._dim(strip.array)
        if not axes:
            return Path(tuple(points), "scalar", None, dim)
        return Path(tuple(points), "w", self.numbers[axes[wire]], dim)

    # columns

    def _column(self, column: int) -> Group:
        left, right = self.x(column)
        strips = self.plan.columns[column]
        labelled = self.at.labelled(self.plan, column)
        again = column == self.at.first and column > 0
        parts: list[Primitive] = []
        for i, strip in enumerate(strips):
            if strip in labelled:
                parts += self._labels(strip, column, "again" if again else "wire")
                for k in range(max(len(self._axes(strip)), 1)):
                    start, stop = self._gap(column, strip, k)
                    y = self.y(column, strip, k)
                    parts.append(self._wire([("M", (stop, y)), ("L", (right, y))], strip, k))
                    if column in (self.at.first, 0):
                        parts.append(self._wire([("M", (left, y)), ("L", (start, y))], strip, k))
            if i:
                y = self.y(column, strip) - GAP / 2
                line = (("M", (left + 1, y)), ("L", (self._dash_end(column, strip) - 1, y)))
                parts.append(Path(line, "strip", tag="path" if again else "line"))
        return Group(tuple(parts), "again" if again else "column", {} if again else {"index": str(column)})

    def _dash_end(self, column: int, strip: Strip) -> float:
        """How far a dashed line reaches: over the operations too, where the strip below it runs straight on."""
        after = self.at.y.get((column + 1, strip))
        level = column < self.at.last and after is not None and abs(after - self.at.y[column, strip]) < 0.05
        return self.x(column + 1)[0] if level else self.x(column)[1]

    def _labels(self, strip: Strip, column: int, style: str) -> list[Primitive]:
        left, right = self.x(column)
        axes = self._axes(strip)
        middle, dim = (left + right) / 2, self._dim(strip.array)
        if not axes:
            y = self.y(column, strip) + 3.4
            return [Text(middle, y, "scalar", LABEL, "note", "middle", dim=dim, data={"array": strip.array})]
        parts: list[Primitive] = []
        for k, axis in enumerate(axes):
            y = self.y(column, strip, k) + 3.4
            data = {"array": strip.array, "axis": axis}
            number = self.numbers[axis]
            parts.append(
                Text(middle, y, axis_label(self.diagram, axis), LABEL, style, "middle", False, number, dim, data)
            )
        return parts

    # between columns

    def _bend(self, column: int, y: float, to: float) -> list[tuple[str, tuple[float, ...]]]:
        """From the end of a column's wire to the level that it has in the zone of boxes."""
        start = self.x(column)[1]
        end = self.at.zone[column][0] + self.dx - 2
        if abs(to - y) < 0.05:
            return [("M", (start, y)), ("L", (end, to))]
        middle = (start + end) / 2
        return [("M", (start, y)), ("C", (middle, y, middle, to, end, to))]

    def _carried(self, s: int) -> list[Primitive]:
        """Wires of strips that go past a column of operations, under it, to be used later."""
        after = set(self.plan.columns[s + 1])
        parts: list[Primitive] = []
        for strip in self.plan.columns[s]:
            if strip not in after:
                continue
            for k in range(max(len(self._axes(strip)), 1)):
                pieces = self._bend(s, self.y(s, strip, k), self.y(s + 1, strip, k))
                pieces.append(("L", (self.x(s + 1)[1], self.y(s + 1, strip, k))))
                parts.append(self._wire(pieces, strip, k))
        return parts

    def _targets(self, operation: Operation) -> dict[tuple[str, int], tuple[int, int]]:
        """For a broadcast axis and its occurrence, the output and wire on which it goes on."""
        touched = set(touched_rows(self.diagram, operation))
        found: dict[tuple[str, int], tuple[int, int]] = {}
        for o, name in enumerate(operation.outputs):
            seen: dict[str, int] = {}
            for k, axis in enumerate(self.diagram.arrays[name].axes):
                n = seen[axis] = seen.get(axis, -1) + 1
                if (o, k) not in touched:
                    found.setdefault((axis, n), (o, k))
        return found

    def box(self, s: int, operation: Operation) -> Extent:
        """The box itself: on the wires that it touches, or under what it gives."""
        left, right = (x + self.dx for x in self.at.zone[s])
        wide = width(symbol_of(self.diagram, operation), SYMBOL, bold=operation.learned) + 12
        middle = (left + right) / 2
        rows = touched_rows(self.diagram, operation)
        outs = [Strip(n) for n in operation.outputs]
        if rows:
            levels = [self.y(s + 1, outs[o], k) for o, k in rows]
            top, bottom = min(levels) - 8.5, max(levels) + 8.5 + extra_height(self.diagram, operation)
        else:
            lowest = max(self.y(s + 1, o) + strip_height(self.diagram, o.array) for o in outs)
            top, bottom = lowest + 9, lowest + 26
        return Extent(middle - wide / 2, top, middle + wide / 2, bottom)

    def _wires(self, s: int, operation: Operation) -> tuple[list[Primitive], list[Primitive]]:
        """Wires into and out of one operation: those that may lie under its box, and those that pass over it."""
        box, targets = self.box(s, operation), self._targets(operation)
        under: list[Primitive] = []
        over: list[Primitive] = []
        arriving: list[tuple[float, Strip, int]] = []
        continued: set[tuple[int, int]] = set()
        for strip in dict.fromkeys(self.plan.takes[operation.name]):
            seen: dict[str, int] = {}
            axes = self._axes(strip)
            if not axes:
                arriving.append((self.y(s, strip), strip, 0))
            for k, axis in enumerate(axes):
                n = seen[axis] = seen.get(axis, -1) + 1
                place = targets.get((axis, n)) or (targets.get((axis, 0)) if axis in operation.broadcast else None)
                if place is None:
                    arriving.append((self.y(s, strip, k), strip, k))
                    continue
                out = Strip(operation.outputs[place[0]])
                level = self.y(s + 1, out, place[1])
                pieces = self._bend(s, self.y(s, strip, k), level)
                layer = over if box.top < level < box.bottom else under
                if place not in continued:
                    continued.add(place)
                    end = ("L", (self._gap(s + 1, out, place[1])[0], level))
                    if self._dim(strip.array) == self._dim(out.array):
                        pieces.append(end)
                    else:
                        layer.append(self._wire([("M", pieces[-1][1][-2:]), end], out, place[1]))
                layer.append(self._wire(pieces, strip, k))
        arriving.sort(key=lambda a: a[0])
        for i, (y, strip, k) in enumerate(arriving):
            level = self._port(s, operation, box, i, len(arriving))
            pieces = [*self._bend(s, y, level), ("L", (box.left, level))]
            under.append(self._wire(pieces, strip, k))
        under += self._leaving(s, operation, box, continued)
        return under, over

    def _port(self, s: int, operation: Operation, box: Extent, i: int, n: int) -> float:
        rows = touched_rows(self.diagram, operation)
        if len(rows) == n:
            o, k = rows[i]
            return self.y(s + 1, Strip(operation.outputs[o]), k)
        return box.top + (box.bottom - box.top) * (i + 1) / (n + 1)

    def _leaving(self, s: int, operation: Operation, box: Extent, continued: set[tuple[int, int]]) -> list[Primitive]:
        parts: list[Primitive] = []
        for o, name in enumerate(operation.outputs):
            strip = Strip(name)
            for k in range(max(len(self._axes(strip)), 1)):
                if (o, k) in continued:
                    continue
                level, end = self.y(s + 1, strip, k), self._gap(s + 1, strip, k)[0]
                if box.top <= level <= box.bottom:
                    pieces = [("M", (box.right, level)), ("L", (end, level))]
                else:  # a scalar, which has no row of its own beside the box; or one more copy of a wire that passes
                    port = (box.top + box.bottom) / 2
                    middle = (box.right + end) / 2
                    pieces = [("M", (box.right, port)), ("C", (middle, port, middle, level, end, level))]
                parts.append(self._wire(pieces, strip, k))
        return parts

    def _operation(self, s: int, operation: Operation) -> tuple[Rect, Group]:
        box = self.box(s, operation)
        left, right = (x + self.dx for x in self.at.zone[s])
        outs = [Strip(n) for n in operation.outputs]
        top = min(self.y(s + 1, o) for o in outs) - 8
        lowest = max(self.y(s + 1, o) + strip_height(self.diagram, o.array) for o in outs)
        weights = weights_of(self.diagram, operation)
        first = max(lowest + 8, box.bottom) + 9
        dim = self.reach is not None and not {operation.name, *operation.outputs} & self._bright
        band = Rect(Extent(left, min(top, box.top), right, first - 7 + 10.5 * len(weights)), "band", 4, dim)
        middle = (left + right) / 2
        style = "bold" if operation.learned else "soft" if operation.kind == "rearrangement" else "box"
        text = symbol_of(self.diagram, operation)
        parts: list[Primitive] = [
            _pointed(box, style, dim) if operation.kind == "index" else Rect(box, style, 3, dim),
            Text(
                middle,
                self._text_level(s, operation, box) + 3.9,
                text,
                SYMBOL,
                "symbol",
                "middle",
                operation.learned,
                dim=dim,
            ),
        ]
        for i, weight in enumerate(weights):
            data = {"parameter": weight.path, "shape": weight.shape} if weight.path else {}
            parts.append(Text(middle, first + 10.5 * i + 1, weight.text, SMALL, "weight", "middle", dim=dim, data=data))
        data = {"name": operation.name, "learned": str(operation.learned).lower()}
        return band, Group(tuple(parts), "operation", data, _told(self.diagram, operation))

    def _text_level(self, s: int, operation: Operation, box: Extent) -> float:
        """The middle of a box, or the nearest wire of its own where another wire passes over the middle."""
        middle = (box.top + box.bottom) / 2
        touched = set(touched_rows(self.diagram, operation))
        own, passing = [], []
        for o, name in enumerate(operation.outputs):
            for k in range(len(self.diagram.arrays[name].axes)):
                (own if (o, k) in touched else passing).append(self.y(s + 1, Strip(name), k))
        if own and any(abs(y - middle) < 8 for y in passing):
            return min(own, key=lambda y: (abs(y - middle), y))
        return middle


def _pointed(box: Extent, style: str, dim: bool) -> Path:
    middle = (box.top + box.bottom) / 2
    corners = [(box.left - 4, box.top), (box.right - 2, box.top), (box.right + 6, middle), (box.right - 2, box.bottom), (box.left - 4, box.bottom)]  # fmt: skip
    return Path((("M", corners[0]), *(("L", c) for c in corners[1:])), style, dim=dim, closed=True)


def _told(diagram: CircuitDiagram, operation: Operation) -> str:
    """What is shown when the pointer rests on an operation."""
    said = [operation.name]
    for what, axes in (
        ("acts on", operation.acted),
        ("ends", operation.contracted),
        ("begins", operation.born),
        ("along", operation.broadcast),
    ):
        if axes:
            said.append(f"{what} {', '.join(axes)}")
    if operation.flops != 0:
        said.append(f"{operation.flops} flops")
    if operation.line:
        said.append(operation.line)
    return "; ".join(said)
