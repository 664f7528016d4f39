"""A wiring diagram as a circuit diagram, which can then be drawn."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

import sympy

from nissl.axes import Axis
from nissl.diagrams.circuit import Array, CircuitDiagram, Operation
from nissl.diagrams.circuit import Box as Frame
from nissl.diagrams.wiring.box import Box
from nissl.diagrams.wiring.interface import CLOSED, Hom, Interface
from nissl.diagrams.wiring.kinds import System
from nissl.diagrams.wiring.opening import flatten
from nissl.diagrams.wiring.running import Nested
from nissl.diagrams.wiring.types import Finite, Type
from nissl.diagrams.wiring.wires import OUTER, Port, Wiring

NOTE = "directions run back along every wire between learners, and are not drawn"


def to_circuit(diagram: Box | Wiring, name: str = "") -> CircuitDiagram:
    """Boxes as operations, wires as arrays, loops through state as feedback.

    Parameters
    ----------
    diagram
        A box, nested or not, or a diagram that is not filled.
    name
        Title; the label by default.

    Returns
    -------
    CircuitDiagram
        Boxes that hold state are bold. Nested diagrams are frames. Where a loop runs through systems, the wire that closes it is in `feedback`. A port of
        a finite type is drawn as an axis of as many indices as it has values.

    Examples
    --------
    >>> from nissl.diagrams.wiring import Space
    >>> number = Space((), "float64")
    >>> box = Interface({"y": number}, {"u": number})
    >>> ring = Wiring({"a": box, "b": box}, Interface({"y": number}), {"a.u": "b.y", "b.u": "a.y", "outer.y": "a.y"})
    >>> sorted(to_circuit(ring).feedback)
    ['b.y']
    """
    if isinstance(diagram, Wiring):
        return _Picture(diagram, {}, {}).diagram(name or "wiring")
    frames = _frames(diagram)
    if diagram.nested is None:
        closed = isinstance(diagram, System)
        wiring = Wiring.identity(diagram.target if closed else diagram.type, diagram.label.replace(".", "_") or "box")
        nested = Nested(wiring, dict.fromkeys(wiring.boxes, diagram), {})
    else:
        nested = flatten(diagram).nested
    return _Picture(nested.wiring, nested.boxes, frames).diagram(name or diagram.label)


def _frames(box: Box, path: str = "") -> dict[str, Frame]:
    """Frames of all nested diagrams by dotted path; sequences and products stay without."""
    if box.nested is None:
        return {}
    found = {path: Frame(path, box.label)} if not path or box.origin != "plumbing" else {}
    for name, inner in box.nested.boxes.items():
        found |= _frames(inner, f"{path}.{name}" if path else name)
    return found


class _Picture:
    def __init__(self, wiring: Wiring, boxes: Mapping[str, Box], frames: Mapping[str, Frame]) -> None:
        self.wiring, self.boxes, self.frames = wiring, boxes, frames
        self.axes: dict[str, Axis] = {}
        self.sizes: dict[str, sympy.Expr] = {}
        self.arrays: dict[str, Array] = {}
        self.hidden = False

    def diagram(self, name: str) -> CircuitDiagram:
        outer = self.wiring.outer
        given = outer.input if isinstance(outer, Interface) else outer.source.output
        inputs = [self.array(Port(OUTER, "in", n), t, "input") for n, t in given.items()]
        heard = {b: self.heard(b) for b in self.wiring.boxes}
        order, feedback = self.order(heard)
        operations = tuple(self.operation(b, heard[b]) for b in order)
        out = outer.output if isinstance(outer, Interface) else outer.target.output
        outputs = [_name(self.wiring.links[Port(OUTER, "out", n)][0]) for n in out]
        return CircuitDiagram(
            name, self.axes, self.arrays, operations, tuple(inputs), tuple(dict.fromkeys(outputs)), sizes=self.sizes,
            boxes=dict(self.frames), feedback=frozenset(feedback), notes=(NOTE,) * self.hidden,
        )  # fmt: skip

    def heard(self, name: str) -> list[Port]:
        """Sources of what is drawn as going into a box."""
        box = self.wiring.boxes[name]
        found = []
        for side, ports in self.wiring.sinks(name).items():
            for port in ports:
                sources = self.wiring.links[Port(name, side, port)]
                if side == "arrive":
                    # The way back of a wire that is drawn already.
                    paired = not isinstance(box, Hom) or box.source != CLOSED or port in box.target.output
                    shown = tuple(s for s in sources if s.side in ("out", "in") or (s.side == "leave" and not paired))
                    self.hidden |= len(shown) < len(sources)
                    sources = shown
                found += [s for s in sources if s not in found]
        return found

    def operation(self, name: str, heard: list[Port]) -> Operation:
        box = self.boxes.get(name)
        # Every output is drawn, and of what leaves backward only what some system hears.
        given = [Port(name, "out", n) for n in self.wiring.sources(name)["out"]]
        given += [p for p in self.wanted if p.box == name]
        # A box at the end of all wires is drawn with what it sends back, or with its state.
        given = given or [Port(name, "leave", n) for n in self.wiring.sources(name).get("leave", {})]
        outputs = [self.array(p, self.wiring.type_of(p, sink=False)) for p in given]
        if not outputs:
            outputs = [f"{name}.state"]
            self.arrays[outputs[0]] = Array(outputs[0], ())
        path = name.replace("/", ".")
        parent, _, last = path.rpartition(".")
        label = box.label if box is not None else last
        return Operation(
            name,
            "module",
            label,
            tuple(_name(s) for s in heard),
            tuple(outputs),
            module=path if label != last else parent,  # the place beside what is in it
            learned=box is not None and box.state is not None,
        )

    def order(self, heard: Mapping[str, list[Port]]) -> tuple[list[str], set[str]]:
        """Boxes from left to right, and the arrays that run back: a loop is opened at a system, the one that hears most already."""
        self.wanted = list(dict.fromkeys(s for found in heard.values() for s in found if s.side == "leave"))
        place = {name: i for i, name in enumerate(heard)}
        after: dict[str, list[str]] = {b: [] for b in heard}
        waits = dict.fromkeys(heard, 0)
        for name, found in heard.items():
            for box in {s.box for s in found if s.box != OUTER}:
                after[box].append(name)
                waits[name] += 1
        ready = [i for b, i in place.items() if not waits[b]]
        names, order, feedback, done = list(heard), [], set(), set()
        heapq.heapify(ready)
        while len(order) < len(names):
            if ready:
                name = names[heapq.heappop(ready)]
                if name in done:
                    continue
            else:
                stuck = [b for b in names if b not in done and self.moore(b)] or [b for b in names if b not in done]
                name = max(stuck, key=lambda b: (sum(s.box == OUTER or s.box in done for s in heard[b]), -place[b]))
                feedback |= {_name(s) for s in heard[name] if s.box != OUTER and s.box not in done}
            order.append(name)
            done.add(name)
            for then in after[name]:
                waits[then] -= 1
                if not waits[then] and then not in done:
                    heapq.heappush(ready, place[then])
        return order, feedback

    def moore(self, name: str) -> bool:
        """Whether a box says what it says before it hears."""
        box = self.wiring.boxes[name]
        return isinstance(box, Interface) or box.source == CLOSED

    def array(self, port: Port, type_: Type, role: Any = "activation") -> str:
        name = _name(port)
        what = port.name.rpartition(".")[2]
        last = what if what != "value" else self.called(port.box)
        axes = []
        if isinstance(type_, Finite):
            axes.append(self.axis(last, len(type_.values)))
        else:
            if type_.batch:
                self.axes.setdefault(type_.batch, Axis(type_.batch, 1))
                self.sizes[type_.batch] = sympy.Symbol(type_.batch, positive=True, integer=True)
                axes.append(type_.batch)
            named = [a.name for a in type_.axes] or [
                last if len(type_.shape) == 1 else f"{last} {i + 1}" for i in range(len(type_.shape))
            ]
            axes += [self.axis(n, size) for n, size in zip(named, type_.shape, strict=True)]
        dtype = "int64" if isinstance(type_, Finite) else type_.dtype
        self.arrays[name] = Array(name, tuple(axes), dtype, role)
        return name

    def called(self, path: str) -> str:
        """What the one output of a box is called: the box's name, with what it is where that is a number; of a layer of neurons the layer's."""
        if path == OUTER:
            return "x"
        box = self.boxes.get(path)
        parent, _, last = path.rpartition("/")
        if last == "join" and parent:
            return self.called(parent)
        if last.isdigit():
            return f"{box.label.lower() if box is not None else 'layer'}{last}"
        return last

    def axis(self, name: str, size: int) -> str:
        """An axis of that size, called so unless another size is."""
        if name in self.axes and self.axes[name].size != size:
            name = f"{name} ({size})"
        self.axes.setdefault(name, Axis(name, size))
        return name


def _name(port: Port) -> str:
    return port.name if port.box == OUTER else str(port)
