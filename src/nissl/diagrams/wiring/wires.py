"""Wiring diagrams: which port hears which, checked, and substituted into one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nissl.diagrams.wiring.interface import Hom, Interface
from nissl.diagrams.wiring.types import Finite, InterfaceMismatch, Type, describe, no_port
from nissl.errors import DiagramError, InputError

OUTER = "outer"


class Port(NamedTuple):
    """One end of a wire. `side` is "in" or "out" along the flow, "arrive" or "leave" for directions that run back."""

    box: str
    side: str
    name: str

    def __str__(self) -> str:
        return f"{self.box}.{'' if self.side in ('in', 'out') else '~'}{self.name}"


BoxType = Interface | Hom
Links = dict[Port, tuple[Port, ...]]


def takes(box: BoxType) -> dict[str, dict[str, Type]]:
    """Ports at which a box is given something."""
    return {"in": box.input} if isinstance(box, Interface) else {"in": box.source.output, "arrive": box.target.input}


def gives(box: BoxType) -> dict[str, dict[str, Type]]:
    """Ports at which a box gives something."""
    return {"out": box.output} if isinstance(box, Interface) else {"out": box.target.output, "leave": box.source.input}


class Wiring:
    """Boxes with typed ports, an outer box, and for every input of the former and output of the latter the name of its source.

    Parameters
    ----------
    boxes
        By name: an `Interface` for a system that is to be put there, a `Hom` (or any box's `.type`) for a learner or lens.
    outer
        What the whole is: an `Interface`, or a `Hom`.
    wires
        From `box.port` to the `box.port` that it hears; the outer box is called `outer`.

    Notes
    -----
    Every input has exactly one source. A port may be heard by several, or by none. Wires between learners go both ways: directions run back along
    them, are summed where a value was copied, and are zero where it was discarded. What a system says depends on its state only, so loops through
    systems take a step of time; loops through learners and lenses alone are refused.

    Raises
    ------
    InterfaceMismatch
        Ports of different type, ports that are not there, inputs without a source.
    DiagramError
        A loop that closes without delay.

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> cell = Interface({"rate": 3}, {"drive": 3})
    >>> Wiring({"a": cell, "b": cell}, Interface({"seen": 3}), {"a.drive": "b.rate", "b.drive": "a.rate", "outer.seen": "a.rate"})
    Wiring(2 boxes, 3 wires)
    >>> Wiring({"a": cell}, Interface(), {"a.drive": "a.rat"})
    Traceback (most recent call last):
        ...
    nissl.diagrams.wiring.types.InterfaceMismatch: there is no source 'a.rat'; nearest: 'a.rate'
    """

    def __init__(self, boxes: Mapping[str, BoxType], outer: BoxType, wires: Mapping[str, str]) -> None:
        self.boxes: dict[str, BoxType] = dict(boxes)
        self.outer = outer
        for name, box in self.boxes.items():
            if name == OUTER or "." in name or not name:
                raise InputError(f"a box cannot be called {name!r}: neither empty nor {OUTER!r}, and without dots")
            if not isinstance(box, (Interface, Hom)):
                raise InputError(f"box {name!r} is {type(box).__name__}; allowed: Interface, Hom (any box's .type)")
        self._open()
        self._finish(self._pair(self._parse(wires)))

    @classmethod
    def linked(cls, boxes: Mapping[str, BoxType], outer: BoxType, links: Links) -> Wiring:
        """From links of every port in both directions; types are checked as ever."""
        wiring = cls.__new__(cls)
        wiring.boxes, wiring.outer = dict(boxes), outer
        wiring._open()
        wiring._finish(links)
        return wiring

    def __repr__(self) -> str:
        return f"Wiring({len(self.boxes)} boxes, {sum(p.side in ('in', 'out') for p in self.links)} wires)"

    # The outer box is seen from inside: what it is given from without, it gives within.

    def _open(self) -> None:
        """Ports of every box, worked out once for each type."""
        found: dict[int, tuple] = {}
        for box in self.boxes.values():
            if id(box) not in found:
                found[id(box)] = gives(box), takes(box)
        sides = {name: found[id(box)] for name, box in self.boxes.items()} | {
            OUTER: (takes(self.outer), gives(self.outer))
        }
        self._sources = {name: side[0] for name, side in sides.items()}
        self._sinks = {name: side[1] for name, side in sides.items()}

    def sources(self, box: str) -> dict[str, dict[str, Type]]:
        """Ports from which wires begin."""
        return self._sources[box]

    def sinks(self, box: str) -> dict[str, dict[str, Type]]:
        """Ports in which wires end."""
        return self._sinks[box]

    def type_of(self, port: Port, *, sink: bool) -> Type:
        """Type of a port."""
        return (self._sinks if sink else self._sources)[port.box][port.side][port.name]

    def _parse(self, wires: Mapping[str, str]) -> Links:
        return {self._port(to, sink=True): (self._port(source, sink=False),) for to, source in wires.items()}

    def _port(self, text: str, *, sink: bool) -> Port:
        box, _, name = text.partition(".")
        side = "out" if (box == OUTER) == sink else "in"
        known = box == OUTER or box in self.boxes
        if known and name in (self.sinks if sink else self.sources)(box).get(side, {}):
            return Port(box, side, name)
        # Only now, for the error, are all ports listed.
        everything = [
            f"{b}.{n}"
            for b in (box,) * known or (*self.boxes, OUTER)
            for n in (self.sinks if sink else self.sources)(b).get("out" if (b == OUTER) == sink else "in", {})
        ]
        raise no_port(text, everything, "input" if sink else "source")

    def _pair(self, links: Links) -> Links:
        """Add the way back: along every wire between two ports that carry directions."""
        back: dict[Port, list[Port]] = {}
        for to, (source,) in links.items():
            leave = Port(to.box, "arrive" if to.box == OUTER else "leave", to.name)
            arrive = Port(source.box, "leave" if source.box == OUTER else "arrive", source.name)
            two_way = len(self._sources[source.box]) + len(self._sources[to.box]) > 2
            if two_way and self._has(leave, sink=False) and self._has(arrive, sink=True):
                back.setdefault(arrive, []).append(leave)
        return links | {port: tuple(found) for port, found in back.items()}

    def _has(self, port: Port, *, sink: bool) -> bool:
        return port.name in (self.sinks if sink else self.sources)(port.box).get(port.side, {})

    def _finish(self, links: Links) -> None:
        self.links = links
        for to, found in links.items():
            wanted = self.type_of(to, sink=True)
            for source in found:
                given = self.type_of(source, sink=False)
                if not given.fits(wanted):
                    raise InterfaceMismatch(
                        f"{describe(str(source), given)} cannot go to {describe(str(to), wanted)}: {_difference(given, wanted)}"
                    )
            if len(found) != 1 and isinstance(wanted, Finite):
                raise DiagramError(
                    f"{describe(str(to), wanted)} has {len(found)} sources; what is finite cannot be summed"
                )
        for name in (*self.boxes, OUTER):
            for side, ports in self.sinks(name).items():
                for port in ports:
                    if Port(name, side, port) not in links:
                        self._missing(Port(name, side, port), ports)
        self.phases = _schedule(self)

    def _missing(self, port: Port, ports: Mapping[str, Type]) -> None:
        """Directions that nothing gives are zero; everything else needs a source."""
        type_ = ports[port.name]
        if port.side not in ("arrive", "leave"):
            raise InterfaceMismatch(
                f"input {describe(str(port), type_)} has no source; give it one: {{'{port}': 'box.port'}}"
            )
        there = self.sources(port.box)[{"arrive": "out", "leave": "in"}[port.side]]
        if port.name not in there:
            raise InterfaceMismatch(
                f"direction {describe(str(port), type_)} comes back along no wire, since no output has its name; put the boxes together with >>"
            )
        if isinstance(type_, Finite):
            raise DiagramError(f"{describe(str(port), type_)} is discarded, and what is finite has no zero")
        self.links[port] = ()

    @classmethod
    def identity(cls, interface: BoxType, name: str = "inside") -> Wiring:
        """One box that is the whole."""
        sides = {**{("in", n): n for n in takes(interface)["in"]}}
        wires = {f"{name}.{n}": f"{OUTER}.{n}" for _, n in sides} | {
            f"{OUTER}.{n}": f"{name}.{n}" for n in gives(interface)["out"]
        }
        return cls({name: interface}, interface, wires)

    def lens(self) -> Any:
        """The lens that it is, from the product of its interfaces to the outer one; see `composing.lens_of`."""
        from nissl.diagrams.wiring.composing import lens_of

        return lens_of(self)

    def to_circuit(self, **options: Any) -> Any:
        """As a circuit diagram; see `picture.to_circuit`."""
        from nissl.diagrams.wiring.picture import to_circuit

        return to_circuit(self, **options)

    def to_svg(self, **options: Any) -> str:
        """The picture; options as of `nissl.diagrams.drawing.to_svg`."""
        return self.to_circuit().to_svg(**{"costs": False, **options})

    def save(self, path: Any, **options: Any) -> Any:
        """Write the picture."""
        return self.to_circuit().save(path, **options)

    def _repr_html_(self) -> str:
        return self.to_svg()


def _difference(given: Type, wanted: Type) -> str:
    if type(given) is not type(wanted) or isinstance(given, Finite):
        return "they are different sets"
    parts = [what for what in ("shape", "dtype", "unit", "batch") if getattr(given, what) != getattr(wanted, what)]
    return f"they differ in {' and '.join(parts or ['the names of axes'])}"


Event = tuple[str, bool]  # a box, and whether it is its way back


def _schedule(wiring: Wiring) -> tuple[list[Event], list[Event]]:
    """Order of what happens in a step: before, and after, the outer box is told its directions.

    A learner lets values through (False), then takes directions back (True). A system speaks first (False) and hears last (True). Linear in
    boxes and wires.
    """
    late: Event = (OUTER, True)
    one_way = [name for name, box in wiring.boxes.items() if isinstance(box, Interface)]
    through = any(
        s.box == OUTER for port in wiring.sinks(OUTER).get("out", ()) for s in wiring.links[Port(OUTER, "out", port)]
    )
    if len(one_way) == len(wiring.boxes) and not through:  # systems only: all speak, then all hear
        return [(name, False) for name in one_way], [(name, True) for name in one_way]

    def made(source: Port) -> Event:
        if source.box == OUTER:
            return (OUTER, isinstance(wiring.outer, Interface) or source.side == "arrive")
        return (source.box, source.side == "leave")

    def used(sink: Port) -> Event:
        if sink.box == OUTER:
            return (OUTER, True) if sink.side == "out" else ("", True)  # what leaves has no followers
        return (sink.box, sink.side == "arrive" or isinstance(wiring.boxes[sink.box], Interface))

    events: list[Event] = [(OUTER, False), late, *((b, way) for b in wiring.boxes for way in (False, True)), ("", True)]
    after: dict[Event, list[Event]] = {e: [] for e in events}
    waits = dict.fromkeys(events, 0)

    def edge(first: Event, then: Event) -> None:
        after[first].append(then)
        waits[then] += 1

    for box in (OUTER, *wiring.boxes):
        edge((box, False), (box, True))
    for sink, found in wiring.links.items():
        for source in found:
            edge(made(source), used(sink))
    ready = [e for e in reversed(events) if not waits[e]]
    order: list[Event] = []
    told: set[Event] = set()
    while ready:
        event = ready.pop()
        order.append(event)
        if event == late or event in told:
            told.update(after[event])
        for then in after[event]:
            waits[then] -= 1
            if not waits[then]:
                ready.append(then)
    if len(order) < len(events):
        raise DiagramError(_loop(after, set(events) - set(order)))
    # Before the outer directions only what is seen from without, and what that takes: reading out must not run the way back.
    needed: set[Event] = set()
    for event in reversed(order):
        if event not in told and (not event[1] or any(then in needed for then in after[event])):
            needed.add(event)
    inner = [e for e in order if e[0] not in ("", OUTER)]
    return [e for e in inner if e in needed], [e for e in inner if e not in needed]


def _loop(after: Mapping[Event, list[Event]], stuck: set[Event]) -> str:
    """The sentence that names a loop among events that wait for one another."""
    before = {e: f for f in stuck for e in after[f] if e in stuck}
    seen: list[Event] = []
    event = next(iter(sorted(before)))
    while event not in seen:
        seen.append(event)
        event = before[event]
    names = [name for name, _ in reversed(seen[seen.index(event) :])]
    first = names.index(min(names))
    names = names[first:] + names[:first]
    names = [n for i, n in enumerate(names) if n != names[i - 1] or len(set(names)) == 1]
    names = names[:1] if len(set(names)) == 1 else names
    return f"{' -> '.join([*names, names[0]])} closes without delay; put a System with state between"
