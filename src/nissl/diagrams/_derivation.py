"""From a trace to a diagram: read every step by its rule, then name what was found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sympy
import torch

from nissl.axes import Axis
from nissl.diagrams._steps import STEPS
from nissl.diagrams.circuit import Array, Box, CircuitDiagram, Operation, Ref
from nissl.diagrams.tracing import Place, Step, Trace, Value, symbol
from nissl.diagrams.tracing.naming import Names
from nissl.diagrams.tracing.rules import Reading, Scene, read

# What a diagram says is meant whatever way an array lies in memory.
_ANY_LAYOUT: dict[str, str] = dict.fromkeys(("aten.view.default", "aten._unsafe_view.default"), "aten.reshape.default")
_ROLES = {
    "input": "input",
    "parameter": "parameter",
    "buffer": "constant",
    "constant": "constant",
    "step": "activation",
}


class Derivation:
    """From a trace to a diagram: read every step by its rule, then name what was found."""

    def __init__(
        self, seen: Trace, axes: Mapping[str, Sequence[tuple[str, int]]], title: str, notes: list[str]
    ) -> None:
        self.seen, self.title, self.notes = seen, title, notes
        self.scene = Scene(seen.values)
        self.scene.weights = {v.index for v in seen.values if v.source == "parameter"}
        self._name_inputs(axes)
        self.readings = [self._read(step) for step in seen.steps]
        unknown = Counter(r.symbol for r in self.readings if r.kind == "opaque" and "Fourier" not in r.symbol)
        if unknown:
            self.notes.append("not understood, types only: " + ", ".join(f"{n} ({k})" for n, k in unknown.items()))
        for index in seen.outputs:
            for node in self.scene.of(index):
                self.scene.identity.hint(node, "output", 2)
        self.names = Names(self.scene, (n for v in self._order() for n in self.scene.of(v)))
        self.called = self._array_names()

    def _name_inputs(self, axes: Mapping[str, Sequence[tuple[str, int]]]) -> None:
        first: dict[str, int] = {}
        for index in self.seen.inputs:
            value = self.seen.values[index]
            for node, (name, worth) in zip(self.scene.of(index), axes[value.name], strict=True):
                self.scene.identity.hint(node, name, worth)
                if worth > 6 and name in first:  # named by the user: one name, one axis
                    self.scene.identity.union(first[name], node)
                first.setdefault(name, node)

    def _read(self, step: Step) -> Reading:
        reading = read(self.scene, step)
        for out, nodes in zip(step.outputs, reading.outs, strict=True):
            self.scene.axes[out] = tuple(nodes)
        if step.inputs and all(i in self.scene.weights for i in step.inputs):
            self.scene.weights.update(step.outputs)
        self._hint(step, reading)
        return reading

    def _hint(self, step: Step, reading: Reading) -> None:
        identity = self.scene.identity
        if step.operator == "embedding":
            for node in reading.born:
                identity.hint(node, "model", 4)
        elif reading.kind == "linear":
            for node in reading.born:
                for atom in identity.atoms(node):
                    identity.hint(atom, "hidden", 1)
        elif reading.kind == "contraction" and len(reading.terms) == 3:
            a, b, out = reading.terms
            for letter in out:
                if letter in a and letter in b:
                    for atom in identity.atoms(reading.letters[letter]):
                        identity.hint(atom, "head", 3)
                elif letter in a:
                    identity.hint(reading.letters[letter], "position", 1)
                elif letter in b:
                    identity.hint(reading.letters[letter], "value", 2)
            for node in reading.contracted:
                if identity.find(node)[1] == 0:
                    identity.hint(node, "key", 3)

    def _order(self) -> list[int]:
        """Values as they come, for the numbering of names."""
        found = dict.fromkeys(self.seen.inputs)
        for step in self.seen.steps:
            found.update(dict.fromkeys((*step.inputs, *step.outputs)))
        return list(found)

    def _array_names(self) -> dict[int, str]:
        called: dict[int, str] = {}
        taken: set[str] = set()

        def fresh(base: str) -> str:
            name = next(n for k in range(1, 1 << 30) if (n := base if k == 1 else f"{base}_{k}") not in taken)
            taken.add(name)
            return name

        for value in self.seen.values:
            if value.source in ("input", "parameter", "buffer"):
                called[value.index] = fresh(value.name or value.source)
        self.steps: list[str] = []
        counts: Counter[str] = Counter()
        for step in self.seen.steps:
            base = step.operator.strip("_")
            counts[base] += 1
            name = base if counts[base] == 1 else f"{base}_{counts[base]}"
            while name in taken:
                counts[base] += 1
                name = f"{base}_{counts[base]}"
            taken.add(name)
            self.steps.append(name)
            for k, out in enumerate(step.outputs):
                called[out] = name if len(step.outputs) == 1 else f"{name}.{k}"
        for value in self.seen.values:
            if value.index not in called:
                called[value.index] = fresh("constant")
        return called

    def _array(self, value: Value) -> Array:
        axes = tuple(self.names.of(n) for n in self.scene.of(value.index))
        storage = self.called[value.storage]
        return Array(self.called[value.index], axes, value.dtype, _ROLES[value.source], storage)  # type: ignore[arg-type]

    def diagram(self) -> CircuitDiagram:
        """All of it."""
        operations = [*self._constants()]
        for step, reading, name in zip(self.seen.steps, self.readings, self.steps, strict=True):
            operations.append(self._operation(step, reading, name))
        used = {n for o in operations for n in (*o.inputs, *o.outputs)}
        used |= {self.called[i] for i in (*self.seen.inputs, *self.seen.outputs)}
        arrays = {}
        for value in self.seen.values:
            if self.called[value.index] in used:
                arrays[self.called[value.index]] = self._array(value)
        hints: dict[Any, Any] = {symbol(n): size for n, size in self.seen.symbols.items()}
        axes, sizes = {}, {}
        for name, size in self.names.sizes.items():
            if isinstance(size, int):
                axes[name] = Axis(name, size)
            else:
                expression = sympy.sympify(size)
                example: Any = expression.subs(hints)
                axes[name] = Axis(name, int(example))
                if expression.free_symbols:
                    sizes[name] = expression
        weighted = {
            v.name.rsplit(".", 1)[0] if "." in v.name else "" for v in self.seen.values if v.source == "parameter"
        }
        again = (p for p in self.seen.modules if "#" in p.rsplit(".", 1)[-1])
        shared = Counter(q for p in again if any(w == (q := _plain(p)) or w.startswith(q + ".") for w in weighted))
        boxes = {
            path: Box(path, label, note="shared" if _plain(path) in shared else "")
            for path, label in self.seen.modules.items()
        }
        if shared:
            first = ", ".join(list(shared)[:3])
            self.notes.append(
                f"runs more than once, with the same weights: {first}" + (" ..." if len(shared) > 3 else "")
            )
        return CircuitDiagram(
            self.title,
            axes,
            arrays,
            tuple(operations),
            tuple(self.called[i] for i in self.seen.inputs),
            tuple(self.called[i] for i in self.seen.outputs),
            sizes,
            boxes,
            notes=tuple(self.notes),
            complete=self.seen.complete,
            guards=tuple(self.seen.guards),
        )

    def _constants(self) -> list[Operation]:
        """Numbers that stand in the code."""
        found = []
        used = {i for s in self.seen.steps for i in s.inputs} | set(self.seen.outputs)
        for value in self.seen.values:
            if value.source == "constant" and value.data is not None and value.index in used:
                name = self.called[value.index]
                born = tuple(dict.fromkeys(self.names.of(n) for n in self.scene.of(value.index) if n != 0))
                step = ((name,), "aten.tensor.default", (_nested(value.data),), (("dtype", f"torch.{value.dtype}"),))
                found.append(
                    Operation(
                        f"{name}.values",
                        "creation",
                        "constant",
                        (),
                        (name,),
                        born=born,
                        target=STEPS,
                        arguments=((step,), name),
                    )
                )
        return found

    def _operation(self, step: Step, reading: Reading, name: str) -> Operation:
        def named(nodes: Sequence[int]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(self.names.of(n) for n in nodes if n != 0))

        acted, contracted, born = named(reading.acted), named(reading.contracted), named(reading.born)
        order = reading.operands or tuple(sorted(step.inputs, key=lambda i: i in self.scene.weights))
        order = tuple(dict.fromkeys((*order, *step.inputs))) if not reading.terms else order
        special = {*acted, *contracted, *born}
        data = [i for i in step.inputs if i not in self.scene.weights] or list(step.inputs)
        along = named([n for i in (*data, *step.outputs) for n in self.scene.of(i)])
        return Operation(
            name,
            reading.kind,  # type: ignore[arg-type]
            reading.symbol,
            tuple(self.called[i] for i in order),
            tuple(self.called[i] for i in step.outputs),
            step.module,
            acted,
            contracted,
            born,
            tuple(a for a in along if a not in special),
            self.names.equation(reading.terms, reading.letters) if reading.terms else "",
            sympy.sympify(reading.flops),
            sympy.sympify(reading.elementwise),
            _ANY_LAYOUT.get(step.target, step.target),
            tuple(self._argument(a) for a in step.arguments),
            {k: self._argument(v) for k, v in step.options.items()},
            step.line,
            learned=any(i in self.scene.weights for i in step.inputs) and reading.kind != "rearrangement",
        )

    def _argument(self, x: Any) -> Any:
        if isinstance(x, Place):
            return Ref(self.called[x.index])
        if isinstance(x, tuple):
            return tuple(self._argument(v) for v in x)
        if isinstance(x, torch.dtype | torch.layout | torch.memory_format):
            return str(x)
        if isinstance(x, torch.device):
            return str(x)
        return None if isinstance(x, torch.Generator) else x


def _plain(path: str) -> str:
    """A module's path without the numbers of calls."""
    return re.sub(r"#\d+", "", path)


def _nested(data: torch.Tensor) -> Any:
    def tuples(x: Any) -> Any:
        return tuple(tuples(v) for v in x) if isinstance(x, list) else x

    return tuples(data.tolist())
