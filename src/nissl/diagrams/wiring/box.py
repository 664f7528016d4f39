"""Boxes: lenses, systems that live on an interface, and learners that live between two."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Self

from torch import Tensor
from torch.utils._pytree import tree_leaves

from nissl.diagrams.wiring.interface import Hom, Interface
from nissl.diagrams.wiring.types import InterfaceMismatch, Values, bare, check, named
from nissl.errors import InputError

DRAWN = (".svg", ".png", ".html")  # what a system costs is not told by its wires

Back = Callable[[Values], tuple[Values, Any]]
Flow = Callable[[Any, Values], tuple[Values, Back]]


class Box:
    """What all boxes have in common: a type [source, target], a state, and how values flow through.

    Everything is this one thing. A lens is a box without state, a system on p one from the closed interface to p. `flow(state, x)` gives what
    goes out and a function of the directions that come in, which gives the directions that leave and the change that the state is to learn.
    Nothing is changed in place: backward maps see the state as it was, and all of them run before any state is updated.

    Attributes
    ----------
    source, target : Interface
    state
        At present: any tree of tensors and numbers; None where there is none.
    label : str
        What is written on it.
    additive : bool
        Whether changes may be summed before they are learned, which is what sharing one box between places takes.
    nested
        The diagram and boxes that it is made of; None for a box that cannot be opened.
    """

    source: Interface
    target: Interface

    def _set(self, source: Interface, target: Interface, state: Any, flow: Flow, learn: Callable, *, label: str, additive: bool = True, nested: Any = None, origin: Any = None) -> Self:  # fmt: skip
        self.source, self.target, self.state, self.label = source, target, state, label
        self._flow, self._learn, self.additive, self.nested, self.origin = flow, learn, additive, nested, origin
        return self

    @classmethod
    def of(cls, source: Interface, target: Interface, state: Any, flow: Flow, learn: Callable, **options: Any) -> Self:
        """A box from its flow, values by name: for boxes that compute forward and backward together."""
        return cls.__new__(cls)._set(source, target, state, flow, learn, **options)

    @property
    def type(self) -> Hom:
        """[source, target]."""
        return Hom(self.source, self.target)

    def at(self, state: Any) -> Self:
        """The same box in another state."""
        other = copy.copy(self)
        other.state = state
        return other

    def flow(self, state: Any, x: Values) -> tuple[Values, Back]:
        """What goes out, and the function from directions coming in to directions that leave and a change."""
        return self._flow(state, check(self.source.output, x, self.label))

    def step(self, x: Any = None, direction: Any = None) -> tuple[Any, Any, Self]:
        """Let one value through and learn from one direction.

        Parameters
        ----------
        x
            Value at the source: alone where there is one port, by name otherwise.
        direction
            What comes in at the target, an increment such as a negative gradient; or a function of the output that gives it.

        Returns
        -------
        output, direction, box
            What went out, what went back at the source, and the box in its next state.
        """
        y, back = self._flow(self.state, named(self.source.output, x, self.label))
        ports = self.target.directions(y)
        if callable(direction):
            direction = direction(bare(y))
        dx, change = back(named(ports, direction, self.label))
        return bare(y), bare(dx), self.at(self._learn(self.state, change))

    def __rshift__(self, other: Box) -> Box:
        """In sequence.

        Raises
        ------
        InterfaceMismatch
            The other does not begin where this one ends.
        """
        from nissl.diagrams.wiring.composing import sequence

        _is_box(other, ">>")
        return sequence(self, other)

    def __matmul__(self, other: Box) -> Box:
        """Side by side."""
        from nissl.diagrams.wiring.composing import parallel

        _is_box(other, "@")
        return parallel(self, other)

    def to_circuit(self, **options: Any) -> Any:
        """As a circuit diagram; see `picture.to_circuit`."""
        from nissl.diagrams.wiring.picture import to_circuit

        return to_circuit(self, **options)

    def to_svg(self, **options: Any) -> str:
        """The picture; options as of `nissl.diagrams.drawing.to_svg`."""
        return self.to_circuit().to_svg(**{"costs": False, **options})

    def save(self, path: Any, **options: Any) -> Any:
        """Write the picture."""
        return self.to_circuit().save(path, **({"costs": False, **options} if str(path).endswith(DRAWN) else options))

    def _repr_html_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label!r}, {self.source!r} -> {self.target!r})"


def _is_box(other: Any, sign: str) -> None:
    if not isinstance(other, Box):
        raise InputError(
            f"{type(other).__name__} after {sign}; allowed: a Lens, System or Learner; Lens.differentiable(f, source, target) makes one of a function"
        )


def fits(given: Interface, wanted: Interface, who: str) -> None:
    """That one interface is the other.

    Raises
    ------
    InterfaceMismatch
        It is not; the first ports that differ are named.
    """
    if given is wanted:
        return
    for side in ("output", "input"):
        ours, theirs = getattr(given, side), getattr(wanted, side)
        for name in ours.keys() | theirs.keys():
            if name not in ours or name not in theirs or not ours[name].fits(theirs[name]):
                a, b = (f"{ports[name]}" if name in ports else "nothing" for ports in (ours, theirs))
                raise InterfaceMismatch(
                    f"{who}: {side} port {name!r} is {a} where {b} is wanted; given {given!r}, wanted {wanted!r}"
                )
    if given.when != wanted.when:
        raise InterfaceMismatch(
            f"{who}: inputs depend on positions in another way; given {given.when}, wanted {wanted.when}"
        )


def tensors(tree: Any) -> list[Tensor]:
    """All tensors of a state."""
    return [v for v in tree_leaves(tree) if isinstance(v, Tensor)]
