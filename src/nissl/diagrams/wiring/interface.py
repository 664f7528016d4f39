"""What a box may say, and what it may then be told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nissl.diagrams.wiring.types import Finite, Space, Type, Values, as_ports
from nissl.errors import InputError


@dataclass(frozen=True)
class Depending:
    """Further inputs that exist only while a finite output port says one of certain values.

    Attributes
    ----------
    port
        Name of the output port.
    inputs
        For each of its values, the input ports that are then there; none where a value is left out.
    """

    port: str
    inputs: Mapping[Any, Any]


class Interface:
    """A polynomial: positions that a box may output and, for each, the directions that it may then receive.

    Parameters
    ----------
    output, input
        Ports by name; a type, size or shape alone is one port called `value`. With neither the box is closed.
    when
        Inputs that depend on the position.

    Notes
    -----
    With no `when` it is a monomial B y^A: output type B, input type A. A port that stands in both, such as that of t^n = R^n y^(R^n), carries
    a value out and a direction back. Two interfaces are equal when names and types of ports are; `p @ CLOSED == p`.

    Raises
    ------
    InputError
        What is no type; an input that depends on a port that is not finite, or has two types.

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> valve = Interface({"mode": Finite("open", "shut")}, when=[Depending("mode", {"open": {"flow": Space((), unit="ml/s")}})])
    >>> list(valve.directions({"mode": "open"})), list(valve.directions({"mode": "shut"}))
    (['flow'], [])
    """

    def __init__(self, output: Any = None, input: Any = None, when: Sequence[Depending] = ()) -> None:  # noqa: A002
        self.output = as_ports(output, "value")
        self.fixed = as_ports(input, "value")
        self.when = tuple(Depending(d.port, {v: as_ports(p, "value") for v, p in d.inputs.items()}) for d in when)
        self.input = dict(self.fixed)
        for depending in self.when:
            said = self.output.get(depending.port)
            if not isinstance(said, Finite) or not set(depending.inputs) <= set(said.values):
                raise InputError(
                    f"inputs depend on port {depending.port!r}, which is {said}; it must be Finite and hold their values"
                )
            for ports in depending.inputs.values():
                for name, type_ in ports.items():
                    if not self.input.setdefault(name, type_).fits(type_):
                        raise InputError(
                            f"input {name!r} is {self.input[name]} and {type_}; call one of them differently"
                        )

    def directions(self, position: Values) -> dict[str, Type]:
        """Input ports that are there at a position."""
        if not self.when:
            return self.fixed
        return self.fixed | {n: t for d in self.when for n, t in d.inputs.get(position[d.port], {}).items()}

    @classmethod
    def product(cls, parts: Mapping[str, Interface]) -> Interface:
        """Side by side: ports are called `part.port`."""
        return cls(
            {f"{k}.{n}": t for k, p in parts.items() for n, t in p.output.items()},
            {f"{k}.{n}": t for k, p in parts.items() for n, t in p.fixed.items()},
            [
                Depending(
                    f"{k}.{d.port}", {v: {f"{k}.{n}": t for n, t in ports.items()} for v, ports in d.inputs.items()}
                )
                for k, p in parts.items()
                for d in p.when
            ],
        )

    def __matmul__(self, other: Interface) -> Interface:
        """Side by side; names are kept where they differ, and become `0.name` and `1.name` where any is the same."""
        left, right = beside(self, other)
        return Interface(
            {**{left[n]: t for n, t in self.output.items()}, **{right[n]: t for n, t in other.output.items()}},
            {**{left[n]: t for n, t in self.fixed.items()}, **{right[n]: t for n, t in other.fixed.items()}},
            [
                Depending(to[d.port], {v: {to[n]: t for n, t in ports.items()} for v, ports in d.inputs.items()})
                for to, p in ((left, self), (right, other))
                for d in p.when
            ],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Interface):
            return NotImplemented
        return self is other or (self.output, self.fixed, self.when) == (other.output, other.fixed, other.when)

    def __hash__(self) -> int:
        return hash((frozenset(self.output), frozenset(self.input)))

    def __repr__(self) -> str:
        def side(ports: Mapping[str, Type]) -> str:
            return ", ".join(f"{n}: {t}" for n, t in ports.items()) or "nothing"

        return f"Interface(says {side(self.output)}; hears {side(self.input)})"

    # Finite interfaces can be counted.

    def positions(self) -> Iterator[Values]:
        """All positions.

        Raises
        ------
        InputError
            An output port that is not finite.
        """
        return each(self.output)


def each(ports: Mapping[str, Type]) -> Iterator[Values]:
    """All values of finite ports."""
    for name, type_ in ports.items():
        if not isinstance(type_, Finite):
            raise InputError(f"port {name!r} is {type_}; only finite ports can be listed")
    names = list(ports)
    return (dict(zip(names, v, strict=True)) for v in itertools.product(*(t.values for t in ports.values())))  # type: ignore[union-attr]


def beside(left: Interface, right: Interface) -> tuple[dict[str, str], dict[str, str]]:
    """Names of two interfaces' ports in their product."""
    a, b = (dict.fromkeys((*p.output, *p.input)) for p in (left, right))
    clash = not a.keys().isdisjoint(b)
    return {n: f"0.{n}" if clash else n for n in a}, {n: f"1.{n}" if clash else n for n in b}


CLOSED = Interface()


def real(*shape: int, name: str = "value", **options: Any) -> Interface:
    """The interface t^n: a value goes out and a direction of the same type, an increment, comes in.

    Examples
    --------
    >>> real(3, dtype="float64")
    Interface(says value: float64[3]; hears value: float64[3])
    """
    space = Space(shape, **options)
    return Interface({name: space}, {name: space})


@dataclass(frozen=True)
class Hom:
    """The type [source, target] of boxes that interact: their state is read out as a lens from source to target.

    Values flow in by `source.output` and out by `target.output`; directions come back by `target.input` and leave by `source.input`.
    """

    source: Interface
    target: Interface

    def __str__(self) -> str:
        return f"[{self.source!r}, {self.target!r}]"
