"""Systems of the same kind run side by side in one product instead of one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from nissl.diagrams.wiring.interface import Interface
from nissl.diagrams.wiring.kinds import System
from nissl.diagrams.wiring.opening import flatten
from nissl.diagrams.wiring.types import Space, Values, bare, named
from nissl.diagrams.wiring.wires import OUTER, Port, Wiring
from nissl.errors import DiagramError

Source = tuple[str, Any, int]  # a group's (or the outer box's) port, and the place in it


class _Group:
    """Systems that share interface, readout and update, and whose states have one form."""

    def __init__(self, names: list[str], boxes: dict[str, System]) -> None:
        self.names = names
        self.interface = boxes[names[0]].interface
        self.readout, self.update = (torch.func.vmap(f) for f in boxes[names[0]].functions)
        self.state = tree_map(lambda *values: torch.stack(values), *(boxes[n].state for n in names))
        # For each input, the arrays that are joined, and which rows of them each box hears.
        self.heard: dict[str, tuple[list[tuple[Any, str]], Tensor | None]] = {}

    def says(self, state: Any) -> Values:
        out = self.readout(state)
        return dict.fromkeys(self.interface.output, out) if len(self.interface.output) == 1 else dict(out)


def grouped(system: System) -> System:
    """The same system with boxes of one kind run together: they share their functions, and differ in state alone.

    Parameters
    ----------
    system
        Any nest of systems, one-way wired. Boxes are of one kind where they have the very same `readout` and `update` and states of one shape; constants
        in which they differ belong into the state.

    Returns
    -------
    System
        Of the same interface. Its state is a list of stacked states, a kind each; `split` gives it back by box. `torch.func.vmap` runs each kind, so
        functions must not branch on values.

    Raises
    ------
    DiagramError
        Boxes that are not systems of tensors, inputs that depend on positions, ways back.

    Examples
    --------
    >>> from nissl.diagrams.wiring import Wiring, nest, run
    >>> number = Space((), "float64")
    >>> box = Interface({"y": number}, {"u": number})
    >>> read, leak = (lambda s: s), (lambda s, u: 0.5 * s + u)
    >>> cells = {n: System(box, torch.tensor(float(i), dtype=torch.float64), read, leak) for i, n in enumerate("abc")}
    >>> wires = {"a.u": "c.y", "b.u": "a.y", "c.u": "b.y", "outer.y": "a.y"}
    >>> ring = nest(Wiring(dict.fromkeys(cells, box), Interface({"y": number}), wires), cells)
    >>> run(grouped(ring), steps=3).y.values.tolist() == run(ring, steps=3).y.values.tolist()
    True
    """
    flat = flatten(system)
    if flat.nested is None:
        return system
    wiring, boxes, outer = flat.nested.wiring, flat.nested.boxes, flat.target
    kinds: dict[Any, list[str]] = {}
    for name, box in boxes.items():
        if not isinstance(box, System) or not hasattr(box, "functions"):
            raise DiagramError(f"box {name!r} is {box!r} with a way back; only systems wired one way can run in groups")
        kinds.setdefault(_kind(name, box), []).append(name)
    if outer.when or not isinstance(wiring.outer, Interface):
        raise DiagramError("the outer box must be an interface whose inputs do not depend on its position")
    groups = [_Group(names, boxes) for names in kinds.values()]  # type: ignore[arg-type]
    place = {name: (g, i) for g, group in enumerate(groups) for i, name in enumerate(group.names)}
    for group in groups:
        for port in group.interface.input:
            group.heard[port] = _gather([_source(wiring, n, port) for n in group.names], place, groups)
    out = {n: wiring.links[Port(OUTER, "out", n)][0] for n in outer.output}

    def says(state: list[Any]) -> list[Values]:
        return [group.says(s) for group, s in zip(groups, state, strict=True)]

    def readout(state: list[Any]) -> Any:
        said = says(state)
        return bare({n: said[place[s.box][0]][s.name][place[s.box][1]] for n, s in out.items()}) if out else None

    def update(state: list[Any], heard: Any = None) -> list[Any]:
        said: dict[Any, Values] = dict(enumerate(says(state)))
        given = {} if heard is None else named(outer.input, heard, system.label)
        said[OUTER] = {n: v.unsqueeze(0) for n, v in given.items()}
        new = []
        for group, held in zip(groups, state, strict=True):
            x = {}
            for port, (arrays, rows) in group.heard.items():
                joined = (
                    torch.cat([said[g][n] for g, n in arrays]) if len(arrays) > 1 else said[arrays[0][0]][arrays[0][1]]
                )
                x[port] = joined if rows is None else joined.index_select(0, rows.to(joined.device))
            new.append(group.update(held, bare(x)) if x else group.update(held))
        return new

    result = System(outer, [g.state for g in groups], readout, update, label=system.label)
    result.origin = [g.names for g in groups]
    return result


def split(system: System) -> dict[str, Any]:
    """State of each box of a grouped system, by its path."""
    if not isinstance(system.origin, list):
        raise DiagramError(f"{system.label!r} is not grouped")
    return {
        name: tree_map(lambda v, i=i: v[i], held)
        for names, held in zip(system.origin, system.state, strict=True)
        for i, name in enumerate(names)
    }


def _source(wiring: Wiring, name: str, port: str) -> Port:
    """The one thing that an input hears."""
    side = "in" if isinstance(wiring.boxes[name], Interface) else "arrive"
    found = wiring.links[Port(name, side, port)]
    if len(found) != 1 or found[0].side == "leave":
        raise DiagramError(
            f"{name}.{port} hears what comes back by a lens or learner; only systems wired one way can run in groups"
        )
    return found[0]


def _kind(name: str, box: System) -> Any:
    leaves, form = tree_flatten(box.state)
    ports = {**box.interface.output, **box.interface.input}
    if not all(isinstance(v, Tensor) for v in leaves) or not all(
        isinstance(t, Space) and not t.batch for t in ports.values()
    ):
        raise DiagramError(
            f"box {name!r}: states and ports of groups are tensors without a batch axis; make numbers in its state tensors"
        )
    if box.interface.when:
        raise DiagramError(f"box {name!r} has inputs that depend on its position; it cannot run in a group")
    shapes = tuple((tuple(v.shape), str(v.dtype)) for v in leaves)
    types = tuple((n, str(t)) for side in (box.interface.output, box.interface.input) for n, t in side.items())
    return box.functions, types, str(form), shapes


def _gather(
    sources: list[Port], place: dict[str, tuple[int, int]], groups: list[_Group]
) -> tuple[list[tuple[Any, str]], Tensor | None]:
    """Which arrays to join, and which row each box hears; None where it hears the rows in their order."""
    begins: dict[tuple[Any, str], int] = {}
    rows, length = [], 0
    for source in sources:
        g, i = (OUTER, 0) if source.box == OUTER else place[source.box]
        if (g, source.name) not in begins:
            begins[g, source.name] = length
            length += 1 if g == OUTER else len(groups[g].names)
        rows.append(begins[g, source.name] + i)
    return list(begins), None if rows == list(range(length)) else torch.tensor(rows)
