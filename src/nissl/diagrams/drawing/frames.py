"""What stands around the wires of a row: frames of modules, and costs beneath."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nissl.diagrams.drawing.labels import SMALL, cost_of, fence_label, held_in, weights_of
from nissl.diagrams.drawing.layout import FOOT, HEAD, PAD, strip_height
from nissl.diagrams.drawing.primitives import Extent, Path, Primitive, Rect, Text, width
from nissl.diagrams.drawing.stages import Fence, Strip

if TYPE_CHECKING:
    from nissl.diagrams.drawing.shapes import Drawer


def frame(drawer: Drawer, fence: Fence) -> list[Primitive]:
    """A frame with its label; open at the side where the row ends before it does."""
    first, last = max(fence.first, drawer.at.first), min(fence.last, drawer.at.last - 1)
    if first > last:
        return []
    tops, bottoms = [], []
    for s in range(first, last + 1):
        for operation in drawer.plan.operations[s]:
            box = drawer.box(s, operation)
            extra = 10.5 * len(weights_of(drawer.diagram, operation))
            for name in operation.outputs:
                y = drawer.y(s + 1, Strip(name))
                tops.append(min(y - 9, box.top - 2))
                low = y + strip_height(drawer.diagram, name) + 9
                bottoms.append(max(low, box.bottom + 2) + extra + 2)
            tops += [drawer.y(s, t) - 9 for t in drawer.plan.takes[operation.name]]
    inner = fence.height
    top, bottom = min(tops) - HEAD * (inner + 1), max(bottoms) + FOOT * inner
    begins = fence.first >= drawer.at.first
    ends = fence.last < drawer.at.last
    outer_left = sum(f.first == fence.first and f.height > fence.height for f in drawer.plan.fences)
    outer_right = sum(f.last == fence.last and f.height > fence.height for f in drawer.plan.fences)
    left = drawer.x(first)[1] + (PAD * outer_left + 3 if begins else 0)
    right = drawer.x(last + 1)[0] - (PAD * outer_right + 3 if ends else 0)
    line: list[tuple[str, tuple[float, ...]]] = []
    if begins and ends:
        frame: Path | Rect = Rect(Extent(left, top, right, bottom), "fence", 5)
    else:
        if begins:
            line = [("M", (right, top)), ("L", (left, top)), ("L", (left, bottom)), ("L", (right, bottom))]
        elif ends:
            line = [("M", (left, top)), ("L", (right, top)), ("L", (right, bottom)), ("L", (left, bottom))]
        else:
            line = [("M", (left, top)), ("L", (right, top)), ("M", (left, bottom)), ("L", (right, bottom))]
        frame = Path(tuple(line), "fence")
    label = fence_label(drawer.diagram, fence.path)
    if begins and width(label, SMALL) + 8 <= right - left:
        return [frame, Text(left + 5, top + 11, label, SMALL, "module", data={"module": fence.path})]
    return [frame]


def step_costs(drawer: Drawer) -> list[Primitive]:
    """Operations and bytes of every step, in two lines under a row."""
    y = drawer.at.bottom + drawer.dy + 20
    parts: list[Primitive] = [Text(0, y, "flop", SMALL, "note"), Text(0, y + 12, "held", SMALL, "note")]
    for s in range(drawer.at.first, drawer.at.last):
        middle = sum(drawer.at.zone[s]) / 2 + drawer.dx
        parts.append(Text(middle, y, cost_of(drawer.diagram, drawer.plan.operations[s]), SMALL, "cost", "middle"))
    for c in range(drawer.at.first + (drawer.at.first > 0), drawer.at.last + 1):
        middle = sum(drawer.x(c)) / 2
        parts.append(Text(middle, y + 12, held_in(drawer.diagram, drawer.plan.columns[c]), SMALL, "cost", "middle"))
    return parts
