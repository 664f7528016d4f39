"""What a trace holds: values, and the steps that make them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

Source = Literal["input", "parameter", "buffer", "constant", "step"]


@dataclass(frozen=True)
class Place:
    """In a step's arguments, where a value goes."""

    index: int


@dataclass
class Value:
    """One array at one time: a tensor that is written into becomes another value.

    Attributes
    ----------
    index
        Its number in the trace.
    shape
        Sizes; whole numbers, or expressions of the free sizes.
    dtype
        As torch names it, without `torch.`.
    source
        Where it is from.
    name
        Of an input or a weight; empty for others.
    storage
        Number of the value whose memory it shares; its own where it shares none.
    data
        Numbers of a constant that the code makes, where they are known.
    """

    index: int
    shape: tuple[Any, ...]
    dtype: str
    source: Source = "step"
    name: str = ""
    storage: int = -1
    data: Tensor | None = None


@dataclass
class Step:
    """One call of a torch operator.

    Attributes
    ----------
    target
        The operator: `aten.addmm.default`.
    arguments, options
        What it was given, with `Place` where a value goes.
    inputs, outputs
        Numbers of the values that it takes and gives.
    module
        Path of the module that called it; a second call of a module is `path#1`, as sites name it.
    line
        `file:line` of the code that called it.
    pointwise
        Whether torch marks it as acting on each index by itself.
    random
        Whether it draws random numbers.
    """

    target: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    module: str = ""
    line: str = ""
    pointwise: bool = False
    random: bool = False

    @property
    def operator(self) -> str:
        """The operator without its overload: `addmm`."""
        return self.target.split(".")[1]


@dataclass
class Trace:
    """What a network did in one pass.

    Attributes
    ----------
    values, steps
        In order.
    inputs, outputs
        Numbers of values.
    modules
        Class of each module that was called, by path.
    symbols
        Free sizes: name and size in the example.
    notes
        What a reader must know.
    complete
        False where it ended early.
    guards
        What the code asked of free sizes, with `file:line`.
    """

    values: list[Value]
    steps: list[Step]
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    modules: dict[str, str] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    complete: bool = True
    guards: list[tuple[Any, str]] = field(default_factory=list)
