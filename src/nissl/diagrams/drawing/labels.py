"""What is written in a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sympy

from nissl.diagrams._sizes import at_example
from nissl.diagrams.circuit import Box, CircuitDiagram, Operation
from nissl.diagrams.drawing.primitives import fitting
from nissl.diagrams.drawing.stages import Strip
from nissl.errors import NisslError

SYMBOL = 11.0
LABEL = 9.5
SMALL = 8.5
BYTES = {"float64": 8, "int64": 8, "complex64": 8, "complex128": 16, "float16": 2, "bfloat16": 2, "int16": 2, "bool": 1, "int8": 1, "uint8": 1}  # fmt: skip


class Weight(NamedTuple):
    """One line under a box: a parameter or buffer, and its shape."""

    path: str
    shape: str
    text: str


def short(number: float) -> str:
    """A number for a picture: three digits and a letter.

    Examples
    --------
    >>> short(950), short(135680), short(2.4e9)
    ('950 ', '136 k', '2.4 G')
    """
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f} "


def size_label(diagram: CircuitDiagram, axis: str) -> str:
    """The size of an axis: a number, or a symbol where it is free."""
    return str(diagram.size(axis)).replace("**", "^").replace("*", "·")


def axis_label(diagram: CircuitDiagram, axis: str) -> str:
    """Name and size of an axis; the name alone where its size is free and called the same, or a long formula."""
    size = size_label(diagram, axis)
    name = fitting(axis, LABEL, 110)
    if size == axis:
        return name
    if size.isdigit():
        return f"{name} {size}"
    return f"{name} = {size}" if fitting(size, LABEL, 60) == size else name  # a long formula stands in the legend alone


def symbol_of(diagram: CircuitDiagram, operation: Operation) -> str:
    """What is written in a box; `+` at its end where a bias is added."""
    symbol = operation.symbol or operation.kind
    biased = any(n.rsplit(".", 1)[-1] == "bias" for n in parameters(diagram, operation))
    if biased and operation.kind in ("linear", "convolution") and not symbol.rstrip().endswith("+"):
        symbol += " +"
    box = diagram.boxes.get(operation.module)
    if operation.kind == "module" and box is not None and box.repeats > 1:
        return fitting(symbol, SYMBOL, 140, bold=operation.learned) + f" × {box.repeats}"
    head, part, which = symbol.rpartition(", part ") if operation.kind == "module" else ("", "", "")
    if part:
        return fitting(head, SYMBOL, 150, bold=operation.learned) + part + which
    return fitting(symbol, SYMBOL, 170, bold=operation.learned)


def parameters(diagram: CircuitDiagram, operation: Operation) -> list[str]:
    """Weights of an operation, and buffers that it takes as they are."""
    outside = set(diagram.inputs) | _made(diagram)
    return [
        n
        for n in dict.fromkeys(operation.inputs)
        if n not in outside and diagram.arrays[n].role in ("parameter", "constant")
    ]


def _made(diagram: CircuitDiagram) -> frozenset[str]:
    found = diagram.__dict__.get("_made")
    if found is None:
        found = frozenset(n for o in diagram.operations for n in o.outputs)
        object.__setattr__(diagram, "_made", found)
    return found


def weights_of(diagram: CircuitDiagram, operation: Operation) -> list[Weight]:
    """Lines under a box; a module drawn as one box has one line for all of its weights."""
    paths = parameters(diagram, operation)
    if operation.kind == "module":
        learned = [p for p in paths if diagram.arrays[p].role == "parameter"]
        box = diagram.boxes.get(operation.module, Box(operation.module, ""))
        count = box.repeats * sum(at_example(diagram, diagram.elements(p)) for p in learned)
        lines = [box.note if box.repeats > 1 and box.note else operation.module] if operation.module else []
        lines += [f"{short(count).strip()} weights"] if learned else []
        return [Weight("", "", fitting(line, SMALL, 170)) for line in lines]
    return [_weight(diagram, p) for p in paths]


def _weight(diagram: CircuitDiagram, path: str) -> Weight:
    sizes = [size_label(diagram, a) for a in diagram.arrays[path].axes]
    name = fitting(path.rsplit(".", 1)[-1], SMALL, 90)
    return Weight(path, " ".join(sizes), f"{name} {'×'.join(sizes)}".rstrip())


def fence_label(diagram: CircuitDiagram, path: str) -> str:
    """Path, class and repeats of a framed module."""
    box = diagram.boxes[path]
    times = f" × {box.repeats}" if box.repeats > 1 else ""
    note = box.note if box.repeats > 1 and box.note else path
    return f"{fitting(box.label, SMALL, 190)}{times}  {fitting(note, SMALL, 190)}"


def cost_of(diagram: CircuitDiagram, operations: Iterable[Operation]) -> str:
    """Operations of a column, products and sums first, then those of single steps an index."""
    flops = sum(at_example(diagram, o.flops) for o in operations)
    plain = sum(at_example(diagram, o.elementwise) for o in operations)
    if flops:
        return short(flops).strip()
    return f"({short(plain).strip()})" if plain else "·"


def bytes_of(diagram: CircuitDiagram, strips: Sequence[Strip]) -> int:
    """Memory of the arrays in a column, each storage once."""
    storages: dict[str, int] = {}
    for strip in strips:
        array = diagram.arrays[strip.array]
        size = at_example(diagram, diagram.elements(strip.array)) * BYTES.get(array.dtype, 4)
        storages[array.storage] = max(size, storages.get(array.storage, 0))
    return sum(storages.values())


def peak_of(diagram: CircuitDiagram) -> sympy.Expr | None:
    """The most that is held at any step; None where it cannot be told, as for a step whose way back is not known."""
    try:
        return diagram.memory().peak
    except NisslError:
        return None


def held_in(diagram: CircuitDiagram, strips: Sequence[Strip]) -> str:
    """The memory of a column, for the line beneath it."""
    return short(bytes_of(diagram, strips)) + "B"
