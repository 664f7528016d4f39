"""One step of a filled diagram: every value in its turn, then every direction, then every state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from nissl.diagrams.wiring.box import Back, Box
from nissl.diagrams.wiring.interface import Interface
from nissl.diagrams.wiring.types import InterfaceMismatch, Space, Type, Values
from nissl.diagrams.wiring.wires import OUTER, Port, Wiring


@dataclass(frozen=True)
class Nested:
    """What a box is made of: a diagram, a box for each place in it, and for each place the name under which its state is kept."""

    wiring: Wiring
    boxes: dict[str, Box]
    owner: dict[str, str]


class Run:
    """One step of a filled diagram: every value in its turn, then every direction, then every state."""

    def __init__(self, nested: Nested) -> None:
        wiring = nested.wiring
        self.nested, self.wiring = nested, wiring
        self.place: dict[Port, int] = {}  # of every value in a list
        for name in (OUTER, *wiring.boxes):
            for side, ports in wiring.sources(name).items():
                for port in ports:
                    self.place[Port(name, side, port)] = len(self.place)
        self.before, self.later = ([self._step(*event) for event in phase] for phase in wiring.phases)
        one_way = isinstance(wiring.outer, Interface)
        sources = wiring.sources(OUTER)
        self.first = [] if one_way else self._places(OUTER, "in", sources["in"])
        self.late = (
            self._places(OUTER, "in", sources["in"]) if one_way else self._places(OUTER, "arrive", sources["arrive"])
        )
        self.out = self._heard(OUTER, "out")
        self.leave = self._heard(OUTER, "leave")
        self.users: dict[str, list[str]] = {}
        for place, owner in nested.owner.items():
            if nested.boxes[place].state is not None:
                self.users.setdefault(owner, []).append(place)

    def _places(self, box: str, side: str, ports: Mapping[str, Type]) -> list[tuple[str, int]]:
        return [(name, self.place[Port(box, side, name)]) for name in ports]

    def _heard(self, box: str, side: str) -> list[tuple[str, tuple[int, ...], Type, int | None]]:
        """For each port: its name, places of what it hears, its type, and the place of a value of the same batch."""
        found = []
        for name, type_ in self.wiring.sinks(box).get(side, {}).items():
            like = self.place.get(Port(box, "in" if side == "leave" else "out", name))
            found.append((name, tuple(self.place[s] for s in self.wiring.links[Port(box, side, name)]), type_, like))
        return found

    def _step(self, name: str, back: bool) -> tuple:
        box, one_way = self.nested.boxes[name], isinstance(self.wiring.boxes[name], Interface)
        heard = self._heard(name, "in" if one_way or not back else "arrive") if back or not one_way else []
        side = "leave" if back else "out"
        given = self._places(name, side, self.wiring.sources(name).get(side, {}))
        choosy = box.target if back and box.target.when else None
        return name, back, heard, given, box, self.nested.owner[name], choosy

    def execute(self, steps: list[tuple], state: Any, values: list, backs: dict, changes: dict) -> None:
        """Run some steps, filling in values and changes."""
        for name, back, heard, given, box, owner, choosy in steps:
            if choosy is not None:
                there = choosy.directions({n: values[self.place[Port(name, "out", n)]] for n in choosy.output})
                heard = [h for h in heard if h[0] in there]
            x = {
                port: values[places[0]] if len(places) == 1 else _total(places, type_, like, values)
                for port, places, type_, like in heard
            }
            if choosy is not None and any(v is None for v in x.values()):
                missing = [n for n, v in x.items() if v is None]
                raise InterfaceMismatch(
                    f"{name!r} hears {missing} in its present position, and nothing says them in the outer box's"
                )
            if back:
                result, change = backs[name](x)
                if box.state is not None:
                    changes[name] = change
            else:
                result, backs[name] = box._flow(state.get(owner) if state else None, x)
            for port, place in given:
                values[place] = result.get(port)

    def flow(self, state: Any, x: Values) -> tuple[Values, Back]:
        """As of every box."""
        y, back, _ = self.watched(state, x)
        return y, back

    def watched(self, state: Any, x: Values) -> tuple[Values, Back, list]:
        """The same, and the list of values on all wires."""
        values: list[Any] = [None] * len(self.place)
        backs: dict[str, Back] = {}
        changes: dict[str, Any] = {}
        for name, place in self.first:
            values[place] = x[name]
        self.execute(self.before, state, values, backs, changes)
        y = {
            port: values[places[0]] if len(places) == 1 else _total(places, type_, like, values)
            for port, places, type_, like in self.out
        }

        def back(directions: Values) -> tuple[Values, dict[str, Any]]:
            for name, place in self.late:
                values[place] = directions.get(name)
            self.execute(self.later, state, values, backs, changes)
            return {p: _total(places, type_, like, values) for p, places, type_, like in self.leave}, changes

        return y, back, values

    def learn(self, state: Any, changes: dict[str, Any]) -> Any:
        """Every state once, from the sum of what its places saw."""
        if state is None:
            return None
        return {
            owner: self.nested.boxes[owner]._learn(state[owner], summed([changes[p] for p in places]))
            for owner, places in self.users.items()
        }


def summed(changes: list[Any]) -> Any:
    """The sum of changes, which are trees of the same form."""
    total = changes[0]
    for change in changes[1:]:
        total = tree_map(torch.add, total, change) if total is not None else change
    return total


def _total(places: tuple[int, ...], type_: Type, like: int | None, values: list) -> Any:
    """Sum of what was copied; zero for what was discarded."""
    if places:
        total = values[places[0]]
        for place in places[1:]:
            total = total + values[place]
        return total
    assert isinstance(type_, Space)
    other = values[like] if like is not None else None
    batch = [len(other)] if type_.batch and isinstance(other, Tensor) else [1] * bool(type_.batch)
    device = other.device if isinstance(other, Tensor) else None
    return torch.zeros([*batch, *type_.shape], dtype=getattr(torch, type_.dtype), device=device)
