"""A whole picture: title, rows, what is fed back, and the legend."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import sympy

from nissl.diagrams._sizes import at_example
from nissl.diagrams.circuit import CircuitDiagram
from nissl.diagrams.drawing.labels import bytes_of, fitting, short, size_label
from nissl.diagrams.drawing.layout import PITCH, Row, rows_of
from nissl.diagrams.drawing.primitives import Extent, Path, Picture, Primitive, Rect, Text, width
from nissl.diagrams.drawing.shapes import Drawer
from nissl.diagrams.drawing.stages import Stages, Strip, stages
from nissl.diagrams.folding import Reach

PAGE = 1120.0
MARGIN = 16.0
LANE = 5.0  # between wires that go back


def picture_of(
    diagram: CircuitDiagram,
    *,
    costs: bool = True,
    reach: Reach | None = None,
    page: float = PAGE,
    peak: int | None = None,
    total: tuple[sympy.Expr, int] | None = None,
) -> Picture:
    """Draw a diagram as it is, folded or not.

    Parameters
    ----------
    diagram
        With at most a few hundred operations, if it is to be read.
    costs
        Whether operations and memory of every step stand beneath it.
    reach
        What stays bright when one unit is followed.
    page
        Width at which rows end, in pixels.
    peak
        Bytes held at most, where the caller knows better than the columns of a folded picture.
    total
        Flops of the whole, and how many operations it has, where the diagram was folded.
    """
    plan = stages(diagram)
    numbers = {a: i for i, a in enumerate(_axis_order(diagram, plan))}
    back = [s for s in plan.columns[0] if s.before] if diagram.feedback else []
    lanes = sum(max(len(diagram.arrays[s.array].axes), 1) for s in back)
    gutter = 34.0 if costs else 4.0
    side = 14 + LANE * lanes if back else 0.0
    rows = rows_of(diagram, plan, costs=costs, page=page - gutter - 2 * side - 2 * MARGIN)
    parts, y = _heading(diagram, plan, reach, peak, total, page, costs)
    over = y
    y += 14 + LANE * lanes if back else 0.0
    drawer = Drawer(diagram, plan, reach, numbers)
    dx = gutter + side
    for row in rows:
        drawn = drawer.row(row, dx, 0.0, costs=costs)
        row.top = y + 8 - _highest(drawn)
        parts += [_moved(p, 0.0, row.top) for p in drawn]
        y = row.top + row.bottom + (42 if costs else 12)
    wide = max(row.x[row.last][1] for row in rows) + dx
    parts += _feedback(diagram, plan, rows, back, numbers, dx, over + 8, wide)
    wide = max(wide + side, _widest(parts), 640.0)
    keys = [*KEY]
    if costs:
        repeated = any(b.repeats > 1 for b in diagram.boxes.values())
        keys += [f"{COSTS} {REPEATED}" if repeated else COSTS, HELD]
    legend, y = _legend(diagram, numbers, y + 8, wide, [*keys, REACH] if reach is not None else keys)
    parts += legend
    wide = max(wide, _widest(parts))
    described = f"Neural circuit diagram of {diagram.name}: {len(diagram.operations)} operations."
    return Picture(
        wide + 2 * MARGIN, y + 2 * MARGIN, diagram.name, described, tuple(_moved(p, MARGIN, MARGIN) for p in parts)
    )


def _axis_order(diagram: CircuitDiagram, plan: Stages) -> list[str]:
    """Axes in the order in which they are met, so that those that are seen first get colours of their own."""
    seen: dict[str, None] = {}
    for column in plan.columns:
        for strip in column:
            seen.update(dict.fromkeys(diagram.arrays[strip.array].axes))
    return list(seen)


def _heading(
    diagram: CircuitDiagram,
    plan: Stages,
    reach: Reach | None,
    peak: int | None,
    total: tuple[sympy.Expr, int] | None,
    page: float,
    costs: bool,
) -> tuple[list[Primitive], float]:
    if total is None:
        total = (sympy.Add(*(o.flops for o in diagram.operations)), len(diagram.operations))
    if peak is None:
        peak = max(bytes_of(diagram, c) for c in plan.columns)
    drawn = len(diagram.operations)
    count = f"{total[1]} operations" + (f", drawn as {drawn}" if drawn != total[1] else "")
    said = [count]
    if not costs:
        total = (sympy.Integer(0), total[1])
    if total[0] != 0:
        said.append(f"{short(at_example(diagram, total[0])).strip()} floating-point operations in products and sums")
    if costs and peak:
        said.append(f"at most {short(peak)}B held at once, step by step")
    lines = [" · ".join(said)]
    if reach is not None:
        lines.append(
            f"Unit {reach.unit} of {reach.module} on axis {reach.axis}: it reaches at most {len(reach.operations)} of {drawn} operations; the rest is pale."
        )
    if not diagram.complete:
        lines.append("Incomplete: the network could be followed only in part.")
    for note in diagram.notes:
        lines += textwrap.wrap(note, int(page / 6.2))[:3]
    parts: list[Primitive] = [Text(0, 15, fitting(diagram.name, 15, page - 40, bold=True), 15, "title", bold=True)]
    y = 15.0
    for line in lines:
        y += 15
        parts.append(Text(0, y, fitting(line, 9.5, page - 40), 9.5, "note"))
    return parts, y + 6


def _feedback(
    diagram: CircuitDiagram,
    plan: Stages,
    rows: list[Row],
    back: list[Strip],
    numbers: dict[str, int],
    dx: float,
    over: float,
    wide: float,
) -> list[Primitive]:
    """Wires that leave at the end, go back over the top, and come in at the start: one step of time later."""
    parts: list[Primitive] = []
    first, last = rows[0], rows[-1]
    lane = 0
    for strip in back:
        end = Strip(strip.array)
        if (last.last, end) not in last.y:
            continue
        axes = diagram.arrays[strip.array].axes
        for k in range(max(len(axes), 1)):
            right, left = wide + 8 + LANE * lane, dx - 8 - LANE * lane
            top = over + LANE * (sum(max(len(diagram.arrays[s.array].axes), 1) for s in back) - lane)
            y0 = last.y[last.last, end] + k * PITCH + last.top
            y1 = first.y[0, strip] + k * PITCH + first.top
            x0, x1 = last.x[last.last][1] + dx, first.x[0][0] + dx
            points = [(x0, y0), (right, y0), (right, top), (left, top), (left, y1), (x1, y1)]
            axis = numbers[axes[k]] if axes else None
            parts.append(Path(_rounded(points), "w" if axes else "scalar", axis))
            arrow = [(wide / 2 + 4, top - 3.5), (wide / 2 - 3, top), (wide / 2 + 4, top + 3.5)]
            parts.append(Path((("M", arrow[0]), ("L", arrow[1]), ("L", arrow[2])), "dot", axis, closed=True))
            lane += 1
    return parts


def _rounded(points: list[tuple[float, float]], radius: float = 5.0) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """A path through points with its corners rounded."""
    pieces: list[tuple[str, tuple[float, ...]]] = [("M", points[0])]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        start, stop = _toward(corner, before, radius), _toward(corner, after, radius)
        pieces += [("L", start), ("C", (*corner, *corner, *stop))]
    return (*pieces, ("L", points[-1]))


def _toward(a: tuple[float, float], b: tuple[float, float], far: float) -> tuple[float, float]:
    length = abs(b[0] - a[0]) + abs(b[1] - a[1])
    share = min(far / length, 0.5) if length else 0.0
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


KEY = (
    "A wire is an axis. Past a box: the step runs along it, alike for every index. Into a box: the step acts on it.",
    "Bold box: learned weights. Dashed line: between two arrays. Frame: a module, × N repeated. Left to right, then the next row.",
)
COSTS = "flop: of the step's products and sums, a multiply-add counted twice; in brackets where it only has steps at each index."
REPEATED = "In a frame or box marked × N it is that of all N."
HELD = "held: bytes of the arrays drawn there, those of boxes above one another together; the most held at once counts the steps one at a time."
REACH = (
    "Reach is an upper bound: an index is followed through slices, splits, picks and joins; any other step that takes the unit in "
    "is counted, even where a weight of zero or a mask stops it."
)


def _legend(
    diagram: CircuitDiagram, numbers: dict[str, int], y: float, wide: float, keys: list[str]
) -> tuple[list[Primitive], float]:
    parts: list[Primitive] = [Path((("M", (0.0, y)), ("L", (wide, y))), "rule")]
    y += 18
    x = 0.0
    for axis, number in numbers.items():
        size, example = size_label(diagram, axis), diagram.axes[axis].size
        said = f"{fitting(axis, 9, 200)} = {fitting(size, 9, 120)}" if size != axis else fitting(axis, 9, 200)
        if not diagram.size(axis).is_Integer:
            said += f" ({example} here)" if size == axis else f" = {example} here"
        unit = diagram.axes[axis].unit
        said += f" {unit}" if unit else ""
        room = 22 + width(said, 9) + 16
        if x and x + room > wide:
            x, y = 0.0, y + 15
        parts.append(Path((("M", (x, y - 3)), ("L", (x + 17, y - 3))), "w", number))
        parts.append(Text(x + 22, y, said, 9, "key", axis=number, data={"axis": axis}))
        x += room
    for line in keys:
        for piece in textwrap.wrap(line, max(40, int(wide / 5.3))):
            y += 15
            parts.append(Text(0, y, piece, 9, "note"))
    return parts, y + 4


def _widest(parts: list[Primitive]) -> float:
    """The right end of whatever reaches furthest."""
    found = 0.0
    for part in Picture(0, 0, "", "", tuple(parts)).flat():
        if isinstance(part, (Rect, Text)):
            found = max(found, part.extent.right)
        else:
            found = max(found, *(p[i] for _, p in part.pieces for i in range(0, len(p), 2)))
    return found


def _highest(parts: list[Primitive]) -> float:
    """The top of whatever reaches highest."""
    found = 0.0
    for part in Picture(0, 0, "", "", tuple(parts)).flat():
        if isinstance(part, (Rect, Text)):
            found = min(found, part.extent.top)
        else:
            found = min(found, *(p[i] for _, p in part.pieces for i in range(1, len(p), 2)))
    return found


def _moved(part: Primitive, dx: float, dy: float) -> Primitive:
    if isinstance(part, Text):
        return replace(part, x=part.x + dx, y=part.y + dy)
    if isinstance(part, Rect):
        e = part.extent
        return replace(part, extent=Extent(e.left + dx, e.top + dy, e.right + dx, e.bottom + dy))
    if isinstance(part, Path):
        moved = tuple((c, tuple(v + (dy if i % 2 else dx) for i, v in enumerate(p))) for c, p in part.pieces)
        return replace(part, pieces=moved)
    return replace(part, parts=tuple(_moved(p, dx, dy) for p in part.parts))
