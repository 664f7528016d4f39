"""What a neural circuit diagram holds: axes, arrays, and operations that say which axes they act on.

A diagram is a program: its operations stand in the order in which they run, and whatever is read off it (cost, memory,
pictures, a function to run) is computed from these types alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import sympy

from nissl.axes import Axis
from nissl.errors import DiagramError

Role = Literal["input", "activation", "parameter", "constant"]
Kind = Literal[
    "linear",  # a learned or fixed matrix along some axes
    "contraction",  # arrays multiplied and summed: any einsum of activations
    "elementwise",  # each index by itself
    "normalisation",  # acts on axes that it keeps: softmax, norms, cumulative sums
    "reduction",  # acts on axes that end: sum, mean, max
    "rearrangement",  # bind, unbind, transpose, broadcast copy: no arithmetic
    "convolution",  # unfold along space, then linear
    "index",  # picks: embedding, slice, gather
    "join",  # concatenation, stack
    "creation",  # arange, zeros: from nothing but sizes
    "opaque",  # not understood: its types are shown, and it is never dropped
    "module",  # a part drawn as one box
]


@dataclass(frozen=True)
class Ref:
    """In an operation's arguments, the place of an array."""

    array: str


@dataclass(frozen=True)
class Array:
    """One array of a diagram.

    Attributes
    ----------
    name
        Unique in its diagram. Parameters and buffers are called by their path in the module.
    axes
        Names of its axes in order, keys of `CircuitDiagram.axes`; none for a scalar. One axis may stand on an array twice.
    dtype
        As torch names it, without `torch.`.
    role
        `input`, `activation`, `parameter` (learned) or `constant` (buffers, what is made from sizes alone).
    storage
        Name of the array whose memory it shares: itself, or what it is a view of.
    """

    name: str
    axes: tuple[str, ...]
    dtype: str = "float32"
    role: Role = "activation"
    storage: str = ""

    def __post_init__(self) -> None:
        if not self.storage:
            object.__setattr__(self, "storage", self.name)


@dataclass(frozen=True)
class Operation:
    """One step of a diagram.

    Attributes
    ----------
    name
        Unique in its diagram.
    kind
        What sort of step it is, see `Kind`.
    symbol
        What is written in its box: `softmax`, `+`, `linear`.
    inputs, outputs
        Names of the arrays that it takes and gives, in order. Parameters come after what it acts on.
    module
        Dotted path of the module that runs it; empty for the outermost.
    acted
        Axes that it acts on and keeps.
    contracted
        Axes that end in it.
    born
        Axes that begin in it.
    broadcast
        Axes that it merely runs along: for every index the same.
    equation
        For `linear` and `contraction` the einsum over the names of axes, such as `batch time model, hidden model -> batch time
        hidden`.
    flops
        Of its products and sums, two a multiply-add, as torch's counter counts, and those of `mv`, `dot`, `addmv` and
        `nn.Bilinear`, which it leaves out; in the symbols of `CircuitDiagram.sizes`.
    elementwise
        Operations of one arithmetic step an index, kept apart.
    target
        What runs: the name of a torch operator such as `aten.softmax.int`; empty for a box that only stands for others.
    arguments, options
        Positional and named arguments with `Ref` where an array goes; integers may be sympy expressions of sizes.
    line
        `file:line` of the code that called it, where it is known.
    learned
        Whether weights are in it; drawn bold.
    """

    name: str
    kind: Kind
    symbol: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    module: str = ""
    acted: tuple[str, ...] = ()
    contracted: tuple[str, ...] = ()
    born: tuple[str, ...] = ()
    broadcast: tuple[str, ...] = ()
    equation: str = ""
    flops: sympy.Expr = sympy.S.Zero
    elementwise: sympy.Expr = sympy.S.Zero
    target: str = ""
    arguments: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    line: str = ""
    learned: bool = False


@dataclass(frozen=True)
class Box:
    """A module of the network, as a frame round its operations.

    Attributes
    ----------
    path
        Dotted path; empty for the network itself.
    label
        Its class.
    repeats
        How many equal siblings in a row it stands for.
    note
        What is written small beside its label.
    """

    path: str
    label: str
    repeats: int = 1
    note: str = ""


@dataclass(frozen=True)
class CircuitDiagram:
    """A network or a system, drawn with nothing left out.

    Attributes
    ----------
    name
        Title.
    axes
        By name: every axis with its size in the example that was traced. Axes are told apart by what they are, never by their size.
    sizes
        By name: the same sizes as expressions of symbols (`batch`, `time`), where they are not fixed.
    arrays
        By name.
    operations
        In the order in which they run. An operation may take an array that a later one makes only where that array is in `feedback`.
    inputs, outputs
        Names of arrays.
    boxes
        By path: the modules.
    feedback
        Names of arrays that carry a value from one step of time to the next, drawn going back.
    notes
        What a reader must know: the mode, branches taken, what was not understood.
    complete
        False where the network could be followed only in part.
    guards
        What the network's code asked of free sizes, as relations of their symbols, each with `file:line`: elsewhere it takes another
        way, which is not drawn.

    Raises
    ------
    DiagramError
        A name that is not there, an array made twice or used before it is made.
    """

    name: str
    axes: Mapping[str, Axis]
    arrays: Mapping[str, Array]
    operations: tuple[Operation, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sizes: Mapping[str, sympy.Expr] = field(default_factory=dict)
    boxes: Mapping[str, Box] = field(default_factory=dict)
    feedback: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    complete: bool = True
    guards: tuple[tuple[Any, str], ...] = ()

    def __post_init__(self) -> None:
        for array in self.arrays.values():
            for axis in array.axes:
                if axis not in self.axes:
                    raise DiagramError(f"array {array.name!r} has an axis {axis!r}, which the diagram does not hold")
        made = {n for n, a in self.arrays.items() if a.role != "activation"} | set(self.inputs) | set(self.feedback)
        for operation in self.operations:
            if operation.kind not in get_args(Kind):
                raise DiagramError(
                    f"operation {operation.name!r} is of kind {operation.kind!r}; allowed: {get_args(Kind)}"
                )
            self._known(operation.name, (*operation.inputs, *operation.outputs))
            for name in operation.inputs:
                if name not in made:
                    raise DiagramError(f"operation {operation.name!r} takes {name!r} before anything makes it")
            made.update(operation.outputs)
        self._known("the diagram", (*self.inputs, *self.outputs))

    def _known(self, who: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.arrays:
                raise DiagramError(f"{who!r} names an array {name!r}, which the diagram does not hold")

    def size(self, axis: str) -> sympy.Expr:
        """Size of an axis as an expression: a symbol where it is free, a number where it is fixed."""
        return sympy.sympify(self.sizes.get(axis, self.axes[axis].size))

    def elements(self, array: str) -> sympy.Expr:
        """How many numbers an array holds."""
        return sympy.Mul(*(self.size(a) for a in self.arrays[array].axes))

    def symbols(self) -> dict[sympy.Symbol, int]:
        """The free sizes, and what they were in the example."""
        found = {}
        for axis in self.axes:
            size = self.size(axis)
            if isinstance(size, sympy.Symbol):
                found.setdefault(size, self.axes[axis].size)
        return found

    # What can be read off a diagram lives in a file each; here it is only named, so that it is found by the dot.

    def flops(self) -> sympy.Expr:
        """Operations of all products and sums, two a multiply-add; see `cost.flops`."""
        from nissl.diagrams.cost import flops

        found: Any = flops(self)
        return found

    def memory(self) -> Any:
        """Bytes held at every step, at most, and for the way back; see `memory.memory`."""
        from nissl.diagrams.memory import memory

        return memory(self)

    def backward(self) -> CircuitDiagram:
        """The diagram of its derivative, run from right to left; see `derivative.backward`."""
        from nissl.diagrams.derivative import backward

        return backward(self)

    def compile(self) -> Any:
        """A function of tensors, made from the diagram alone; see `program.compile_diagram`."""
        from nissl.diagrams.program import compile_diagram

        return compile_diagram(self)

    def collapse(self, path: str) -> CircuitDiagram:
        """The same with one module drawn as one box; see `folding.collapse`."""
        from nissl.diagrams.folding import collapse

        return collapse(self, path)

    def to_text(self) -> str:
        """One line a column; see `text.to_text`."""
        from nissl.diagrams.text import to_text

        return to_text(self)

    def to_json(self) -> str:
        """All of it; `text.from_json` reads it back."""
        from nissl.diagrams.text import to_json

        return to_json(self)

    def to_svg(self, **options: Any) -> str:
        """The picture; see `drawing.to_svg`."""
        from nissl.diagrams.drawing import to_svg

        return to_svg(self, **options)

    def save(self, path: Any, **options: Any) -> Any:
        """Write `.svg`, `.png`, `.html`, `.txt` or `.json`; see `drawing.save`."""
        from nissl.diagrams.drawing import save

        return save(self, path, **options)

    def __repr__(self) -> str:
        """One line: a network's own arrays would fill pages."""
        free = ", ".join(f"{s}={n}" for s, n in self.symbols().items())
        cost = str(self.flops())
        parts = [
            f"{len(self.operations)} operations",
            f"free sizes {free}" if free else "no free sizes",
            f"flops {cost if len(cost) <= 120 else cost[:117] + '...'}",
            *([] if self.complete else ["followed only in part"]),
        ]
        return f"CircuitDiagram({self.name!r}: {'; '.join(parts)})"

    def _repr_html_(self) -> str:
        return self.to_svg()
