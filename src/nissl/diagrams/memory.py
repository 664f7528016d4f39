"""What a diagram holds in memory at each step, at most, and for the way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import sympy
import torch

from nissl.diagrams._sizes import evaluate
from nissl.diagrams.circuit import CircuitDiagram
from nissl.diagrams.cost import total


@dataclass(frozen=True)
class Memory:
    """Bytes, as expressions of the free sizes and, at the example, as whole numbers. An array that only views another's memory
    counts with it; weights and buffers are apart.

    Attributes
    ----------
    diagram
        What was read.
    steps
        A row each operation: `operation`, `live` (storages that the network made and that are held while it runs: what it reads,
        what it makes and what is read later), `bytes` as an expression, `example` as a number.
    peak
        The most that is held at any step of the forward pass, inputs not counted, where nothing is kept for the way back:
        the expression of the step that is highest in the example.
    saved
        What the way back needs, inputs among it.
    inputs, parameters
        Bytes of the inputs, and of weights and buffers.
    saved_arrays
        The storages in `saved`.
    """

    diagram: CircuitDiagram
    steps: pd.DataFrame
    peak: sympy.Expr
    saved: sympy.Expr
    inputs: sympy.Expr
    parameters: sympy.Expr
    saved_arrays: tuple[str, ...]

    def __repr__(self) -> str:
        """One line; the table is in `steps`."""
        free = ", ".join(f"{s}={n}" for s, n in self.diagram.symbols().items())
        parts = ", ".join(f"{name} {number}" for name, number in self.example.items())
        return f"Memory({self.diagram.name!r}: {len(self.steps)} operations; bytes{f' at {free}' if free else ''}: {parts})"

    @cached_property
    def example(self) -> dict[str, int]:
        """`peak`, `saved`, `inputs` and `parameters` at the sizes that were traced."""
        at = self.diagram.symbols()
        return {name: evaluate(getattr(self, name), at) for name in ("peak", "saved", "inputs", "parameters")}


def memory(diagram: CircuitDiagram) -> Memory:
    """What a diagram holds in memory.

    A storage lives from the step that makes it to the last that reads it; outputs live to the end. What training holds on to is
    what the diagram of the way back reads.

    Parameters
    ----------
    diagram
        A forward pass.

    Examples
    --------
    >>> from nissl.diagrams.expressions import broadcast, elementwise, linear
    >>> layer = broadcast(linear("m -> k", "w", m=4, k=8), "b") @ elementwise(torch.relu)
    >>> found = memory(layer.diagram(b=2))
    >>> found.peak, found.saved, found.example
    (64*b, 48*b, {'peak': 128, 'saved': 96, 'inputs': 32, 'parameters': 128})
    """
    from nissl.diagrams.derivative import saved_arrays

    bytes_of = storages(diagram)
    owner = {n: a.storage for n, a in diagram.arrays.items()}
    inputs = {owner[n] for n in diagram.inputs}
    made = {n for o in diagram.operations for n in o.outputs}
    outside = {owner[n] for n, a in diagram.arrays.items() if a.role in ("parameter", "constant") and n not in made}
    # What is made here counts, unless it only views what came from outside.
    own = {owner[n] for n in made} - inputs - outside
    first, last = _lives(diagram, owner)
    born: dict[int, list[str]] = {}
    gone: dict[int, list[str]] = {}
    for name in own:
        born.setdefault(first[name], []).append(name)
        gone.setdefault(last[name], []).append(name)
    at = diagram.symbols()
    live: dict[str, None] = {}
    now: sympy.Expr = sympy.Integer(0)
    rows = []
    for step, operation in enumerate(diagram.operations):
        new = sorted(born.get(step, ()))
        live |= dict.fromkeys(new)
        now = sympy.Add(now, *(bytes_of[s] for s in new))
        rows.append({"operation": operation.name, "live": tuple(live), "bytes": now, "example": evaluate(now, at)})
        for name in gone.get(step, ()):
            live.pop(name, None)
            now = sympy.Add(now, -bytes_of[name])
    steps = pd.DataFrame(rows, columns=["operation", "live", "bytes", "example"])
    peak = steps["bytes"].iloc[int(steps["example"].to_numpy().argmax())] if rows else sympy.Integer(0)
    kept = tuple(dict.fromkeys(owner[n] for n in saved_arrays(diagram) if owner[n] not in outside - inputs))
    return Memory(
        diagram,
        steps,
        sympy.expand(peak),
        total(bytes_of[s] for s in kept),
        total(bytes_of[s] for s in inputs),
        total(bytes_of[s] for s in outside),
        kept,
    )


def storages(diagram: CircuitDiagram) -> dict[str, sympy.Expr]:
    """Bytes of every storage, by the name of the array that owns it.

    A storage whose owner is not an array of the diagram is as large as the largest array on it.
    """
    at = diagram.symbols()
    found: dict[str, sympy.Expr] = {}
    for name, array in diagram.arrays.items():
        size = diagram.elements(name) * getattr(torch, array.dtype).itemsize
        if array.storage == name:
            found[name] = size
        elif array.storage not in diagram.arrays:
            known = found.get(array.storage)
            if known is None or evaluate(size, at) > evaluate(known, at):
                found[array.storage] = size
    return found


def _lives(diagram: CircuitDiagram, owner: Mapping[str, str]) -> tuple[dict[str, int], dict[str, int]]:
    """First and last step of each storage."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}

    def seen(names: Iterable[str], step: int) -> None:
        for name in names:
            first.setdefault(owner[name], step)
            last[owner[name]] = step

    for step, operation in enumerate(diagram.operations):
        seen((*operation.inputs, *operation.outputs), step)
    seen(diagram.outputs, len(diagram.operations))
    return first, last
