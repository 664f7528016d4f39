"""Boxes made of boxes: filling a diagram, sequence, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nissl.diagrams.wiring.box import Back, Box, fits
from nissl.diagrams.wiring.interface import CLOSED, Hom, Interface, beside
from nissl.diagrams.wiring.kinds import Lens, System
from nissl.diagrams.wiring.opening import filled, substitute
from nissl.diagrams.wiring.running import Nested
from nissl.diagrams.wiring.types import InterfaceMismatch, Values, no_port
from nissl.diagrams.wiring.wires import OUTER, Links, Port, Wiring
from nissl.errors import DiagramError, InputError


def nest(wiring: Wiring, systems: Mapping[Any, Any], *, label: str = "diagram") -> Any:
    """Put boxes, or further diagrams, into the places of a diagram.

    Parameters
    ----------
    wiring
        The diagram.
    systems
        For each place a `System`, `Lens` or `Learner` of the type that the diagram has there. A tuple of places gets one box whose state they
        share: it learns once a step, from the sum of what all of them saw. Or, for any places, a `Wiring` each.
    label
        What is written on the result.

    Returns
    -------
    Box
        A `System` where the outer box is an interface, otherwise a `Learner` (a `Lens` if nothing holds state). Its state is a dictionary by place.
        With diagrams: the `Wiring` in which they are substituted, its boxes called `place/box`.

    Raises
    ------
    InterfaceMismatch
        A box of another type than its place, a place that is not there or stays empty.
    DiagramError
        Sharing of a box whose changes cannot be summed.

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> import torch
    >>> from nissl.diagrams.wiring import Space, run
    >>> number = Space((), "float64")
    >>> half = System(Interface({"y": number}, {"u": number}), torch.tensor(8.0, dtype=torch.float64), lambda s: s, lambda s, u: u / 2)
    >>> ring = Wiring({"a": half.interface, "b": half.interface}, Interface({"y": number}), {"a.u": "b.y", "b.u": "a.y", "outer.y": "a.y"})
    >>> run(nest(ring, {"a": half, "b": half}), steps=4).y.values.tolist()
    [8.0, 4.0, 2.0, 1.0]
    """
    if systems and all(isinstance(given, Wiring) for given in systems.values()):
        return substitute(wiring, systems)
    boxes: dict[str, Box] = {}
    owner: dict[str, str] = {}
    for key, box in systems.items():
        places: list[str] = [str(place) for place in (key if isinstance(key, tuple) and key else (key,))]
        if not isinstance(box, Box):
            raise InputError(
                f"place {places[0]!r} was given {type(box).__name__}; allowed: System, Lens, Learner, or Wirings only"
            )
        if len(places) > 1 and not box.additive:
            raise DiagramError(
                f"{box.label!r} is to be shared by {places}, but its changes cannot be summed; make a Learner with `change`, or a descender"
            )
        for place in places:
            if place not in wiring.boxes:
                raise no_port(place, wiring.boxes, "place")
            boxes[place], owner[place] = box, places[0]
    for place, wanted in wiring.boxes.items():
        if place not in boxes:
            raise InterfaceMismatch(f"place {place!r} stays empty; it needs a box of type {wanted}")
        source, target = (CLOSED, wanted) if isinstance(wanted, Interface) else (wanted.source, wanted.target)
        fits(boxes[place].source, source, f"place {place!r}, source of {boxes[place].label!r}")
        fits(boxes[place].target, target, f"place {place!r}, target of {boxes[place].label!r}")
    return filled(Nested(wiring, {n: boxes[n] for n in wiring.boxes}, owner), label)


def sequence(first: Box, then: Box, label: str = "") -> Box:
    """One after the other; values of one are the other's, and so are directions back."""
    fits(first.target, then.source, f"{first.label} >> {then.label}")
    middle, one_way = first.target, isinstance(first, System)
    outer = then.target if one_way else Hom(first.source, then.target)
    links: Links = {Port("then", "in", n): (Port("first", "out", n),) for n in middle.output}
    links |= {Port("first", "arrive", n): (Port("then", "leave", n),) for n in middle.input}
    links |= {Port("first", "in", n): (Port(OUTER, "in", n),) for n in first.source.output}
    links |= {Port(OUTER, "leave", n): (Port("first", "leave", n),) for n in first.source.input}
    links |= {Port(OUTER, "out", n): (Port("then", "out", n),) for n in then.target.output}
    links |= {Port("then", "arrive", n): (Port(OUTER, "in" if one_way else "arrive", n),) for n in then.target.input}
    wiring = Wiring.linked({"first": first.type, "then": then.type}, outer, links)
    return _plumbing(nest(wiring, {"first": first, "then": then}, label=label or f"{first.label} >> {then.label}"))


def parallel(left: Box, right: Box) -> Box:
    """Side by side."""
    names = [beside(left.source, right.source), beside(left.target, right.target)]
    source, target = left.source @ right.source, left.target @ right.target
    parts = {"left": (left, names[0][0], names[1][0]), "right": (right, names[0][1], names[1][1])}
    return _aside(parts, source, target, f"{left.label} @ {right.label}")


def product(boxes: Mapping[str, Box], *, label: str = "product") -> Box:
    """Any number side by side; ports are called `box.port`, as in `Interface.product`.

    Examples
    --------
    >>> import torch
    >>> from nissl.diagrams.wiring import Space
    >>> number = Space((), "float64")
    >>> still = System(Interface({"y": number}), torch.ones((), dtype=torch.float64), lambda s: s, lambda s: s)
    >>> list(product({"a": still, "b": still}).interface.output)
    ['a.y', 'b.y']
    """

    def prefixed(name: str, interface: Interface) -> dict[str, str]:
        return {n: f"{name}.{n}" for n in (*interface.output, *interface.input)}

    parts = {n: (box, prefixed(n, box.source), prefixed(n, box.target)) for n, box in boxes.items()}
    source, target = (
        Interface.product({n: getattr(b, side) for n, b in boxes.items()}) for side in ("source", "target")
    )
    return _aside(parts, source, target, label)


def _aside(
    parts: Mapping[str, tuple[Box, dict[str, str], dict[str, str]]], source: Interface, target: Interface, label: str
) -> Box:
    one_way = source == CLOSED
    links: Links = {}
    for name, (box, by, to) in parts.items():
        links |= {Port(name, "in", n): (Port(OUTER, "in", by[n]),) for n in box.source.output}
        links |= {Port(OUTER, "leave", by[n]): (Port(name, "leave", n),) for n in box.source.input}
        links |= {Port(OUTER, "out", to[n]): (Port(name, "out", n),) for n in box.target.output}
        links |= {
            Port(name, "arrive", n): (Port(OUTER, "in" if one_way else "arrive", to[n]),) for n in box.target.input
        }
    wiring = Wiring.linked(
        {n: box.type for n, (box, *_) in parts.items()}, target if one_way else Hom(source, target), links
    )
    return _plumbing(nest(wiring, {n: box for n, (box, *_) in parts.items()}, label=label))


def _plumbing(box: Box) -> Box:
    """Sequences and products are drawn without a frame."""
    box.origin = "plumbing"
    return box


def lens_of(wiring: Wiring) -> Lens:
    """A diagram of interfaces as the lens from their product to the outer one.

    Raises
    ------
    InterfaceMismatch
        Boxes, or an outer box, that are not interfaces.
    """
    inner = {name: box for name, box in wiring.boxes.items() if isinstance(box, Interface)}
    if len(inner) < len(wiring.boxes) or not isinstance(wiring.outer, Interface):
        raise InterfaceMismatch(
            "only a diagram whose boxes, the outer one too, are interfaces is a lens; fill it with nest"
        )
    source, target = Interface.product(inner), wiring.outer
    out = {n: _dotted(wiring.links[Port(OUTER, "out", n)][0]) for n in target.output}
    heard = {f"{b}.{n}": wiring.links[Port(b, "in", n)][0] for b, p in inner.items() for n in p.input}

    def flow(state: None, x: Values) -> tuple[Values, Back]:
        def back(directions: Values) -> tuple[Values, None]:
            there = source.directions(x)
            return {
                n: directions[s.name] if s.box == OUTER else x[_dotted(s)] for n, s in heard.items() if n in there
            }, None

        return {n: x[o] for n, o in out.items()}, back

    return Lens.of(source, target, None, flow, lambda state, change: state, label="wiring")


def _dotted(port: Port) -> str:
    return f"{port.box}.{port.name}"
