"""Opening boxes: diagrams substituted into diagrams, until no box is left that can be opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nissl.diagrams.wiring.box import Box, fits
from nissl.diagrams.wiring.interface import CLOSED, Hom, Interface
from nissl.diagrams.wiring.kinds import kind_of
from nissl.diagrams.wiring.running import Nested, Run
from nissl.diagrams.wiring.types import no_port
from nissl.diagrams.wiring.wires import OUTER, Port, Wiring


def filled(nested: Nested, label: str) -> Box:
    """The box that a filled diagram is."""
    outer = nested.wiring.outer
    source, target = (CLOSED, outer) if isinstance(outer, Interface) else (outer.source, outer.target)
    state = {o: nested.boxes[o].state for o in nested.owner.values() if nested.boxes[o].state is not None} or None
    run = Run(nested)
    additive = all(box.additive for box in nested.boxes.values())
    make = kind_of(source, state)
    return make.of(source, target, state, run.flow, run.learn, label=label, additive=additive, nested=nested)


def substitute(wiring: Wiring, inside: Mapping[str, Wiring]) -> Wiring:
    """Open some boxes of a diagram: each becomes the diagram that is inside it, its boxes called `box/inner`."""
    for name, inner in inside.items():
        if name not in wiring.boxes:
            raise no_port(name, wiring.boxes, "place")
        given, wanted = _as_hom(inner.outer), _as_hom(wiring.boxes[name])
        fits(given.source, wanted.source, f"place {name!r}, source")
        fits(given.target, wanted.target, f"place {name!r}, target")

    def renamed(box: str, port: Port) -> Port:
        return Port(f"{box}/{port.box}", port.side, port.name)

    def without(box: str, port: Port) -> tuple[Port, ...]:
        """What an opened box's own outer source stands for."""
        side = port.side
        if isinstance(wiring.boxes[box], Interface):
            side = "in"
        elif isinstance(inside[box].outer, Interface):
            side = "arrive"
        return tuple(found for s in wiring.links[Port(box, side, port.name)] for found in expand(s))

    def within(box: str, found: tuple[Port, ...]) -> tuple[Port, ...]:
        return tuple(p for s in found for p in (without(box, s) if s.box == OUTER else (renamed(box, s),)))

    def expand(source: Port) -> tuple[Port, ...]:
        if source.box not in inside:
            return (source,)
        return within(source.box, inside[source.box].links[Port(OUTER, source.side, source.name)])

    boxes: dict[str, Any] = {}
    for name, box in wiring.boxes.items():
        boxes |= {f"{name}/{n}": b for n, b in inside[name].boxes.items()} if name in inside else {name: box}
    links = {
        to: tuple(p for s in found for p in expand(s)) for to, found in wiring.links.items() if to.box not in inside
    }
    for name, inner in inside.items():
        links |= {renamed(name, to): within(name, found) for to, found in inner.links.items() if to.box != OUTER}
    return Wiring.linked(boxes, wiring.outer, links)


def _as_hom(box: Interface | Hom) -> Hom:
    return Hom(CLOSED, box) if isinstance(box, Interface) else box


def flatten(box: Box) -> Box:
    """The same box as one diagram of boxes that cannot be opened, called by their paths: `outer/inner`.

    Examples
    --------
    >>> from nissl.diagrams.wiring import Lens, real
    >>> t = real(dtype="float64")
    >>> double = Lens.differentiable(lambda x: 2 * x, t, t)
    >>> list(flatten((double >> double) >> double).nested.boxes)
    ['first/first', 'first/then', 'then']
    """
    if box.nested is None:
        return box
    opened = {n: flatten(b) for n, b in box.nested.boxes.items() if b.nested is not None}
    wiring = (
        substitute(box.nested.wiring, {n: b.nested.wiring for n, b in opened.items()}) if opened else box.nested.wiring
    )
    boxes: dict[str, Box] = {}
    owner: dict[str, str] = {}
    for name, inner in box.nested.boxes.items():
        who = box.nested.owner[name]
        held = box.state[who] if inner.state is not None else None
        if name not in opened:
            boxes[name], owner[name] = inner.at(held), who
            continue
        flat = opened[name].at(held)
        held_flat = flat_state(inner.at(held))
        for path, leaf in flat.nested.boxes.items():
            own = flat.nested.owner[path]
            boxes[f"{name}/{path}"] = leaf.at(held_flat.get(own))
            owner[f"{name}/{path}"] = f"{who}/{own}"
    return filled(Nested(wiring, boxes, owner), box.label)


def flat_state(box: Box, state: Any = None) -> dict[str, Any]:
    """State of a nested box by the paths of the boxes that hold it, as `flatten` has it."""
    state = box.state if state is None else state
    if box.nested is None or state is None:
        return {}
    found: dict[str, Any] = {}
    for name, held in state.items():
        inner = box.nested.boxes[name]
        found |= (
            {name: held} if inner.nested is None else {f"{name}/{k}": v for k, v in flat_state(inner, held).items()}
        )
    return found
