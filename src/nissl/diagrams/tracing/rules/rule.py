"""What a rule of an operator says, and where rules are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import sympy

from nissl.diagrams.tracing.identity import Identity
from nissl.diagrams.tracing.record import Place, Step, Value

Nodes = tuple[int, ...]


@dataclass
class Reading:
    """What an operator does with axes.

    Attributes
    ----------
    kind, symbol
        As of `nissl.diagrams.circuit.Operation`.
    outs
        Axes of each output.
    acted, contracted, born
        Axes that it acts on and keeps, that end, that begin.
    terms
        For an einsum: letters of each operand, and last those of the result.
    letters
        The axis that each letter stands for.
    operands
        For an einsum: numbers of the values that the terms belong to, and last of the one that is added, if any.
    flops, elementwise
        Its cost.
    """

    kind: str
    symbol: str
    outs: Sequence[Nodes]
    acted: Nodes = ()
    contracted: Nodes = ()
    born: Nodes = ()
    terms: tuple[str, ...] = ()
    letters: dict[str, int] = field(default_factory=dict)
    operands: tuple[int, ...] = ()
    flops: Any = 0
    elementwise: Any = 0


@dataclass
class Scene:
    """What rules look at: values, their axes, and which axes are the same."""

    values: list[Value]
    identity: Identity = field(default_factory=Identity)
    axes: dict[int, Nodes] = field(default_factory=dict)
    weights: set[int] = field(default_factory=set)  # values made from weights alone

    def of(self, place: Any) -> Nodes:
        """Axes of a value, an argument's `Place` or its number."""
        index = place.index if isinstance(place, Place) else place
        if index not in self.axes:
            value = self.values[index]
            self.axes[index] = tuple(
                self.identity.ONE if s == 1 and value.source != "input" else self.identity.new(s) for s in value.shape
            )
        return self.axes[index]

    def shape(self, place: Any) -> tuple[Any, ...]:
        """Sizes of a value."""
        return self.values[place.index if isinstance(place, Place) else place].shape

    def born(self, size: Any, hint: str = "", worth: int = 1) -> int:
        """A new axis; of one index, only a place."""
        return self.identity.ONE if size == 1 else self.identity.new(size, hint, worth)

    def elements(self, index: Any) -> Any:
        """How many numbers a value holds."""
        shape = self.shape(index)
        return prod(shape) if all(isinstance(s, int) for s in shape) else sympy.Mul(*shape)

    def product(self, nodes: Sequence[int]) -> Any:
        """Size of several axes together."""
        return sympy.Mul(*(self.identity.sizes[n] for n in nodes))


Rule = Callable[[Scene, Step], Reading]
RULES: dict[str, Rule] = {}


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators by name."""

    def register(function: Rule) -> Rule:
        for name in operators:
            RULES[name] = function
        return function

    return register


def argument(step: Step, position: int, name: str, default: Any = None) -> Any:
    """An argument by position or by name."""
    if position < len(step.arguments):
        return step.arguments[position]
    return step.options.get(name, default)


def places(x: Any) -> list[int]:
    """Numbers of the values in an argument."""
    if isinstance(x, Place):
        return [x.index]
    return [i for v in x for i in places(v)] if isinstance(x, tuple) else []


def dims(value: Any, rank: int) -> tuple[int, ...]:
    """Axes by number, counted from the front; all of them where None or empty."""
    if value is None or value == ():
        return tuple(range(rank))
    chosen = value if isinstance(value, tuple | list) else (value,)
    return tuple(d % rank if rank else 0 for d in chosen) if rank else ()
