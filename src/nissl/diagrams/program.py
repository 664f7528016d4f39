"""A function of tensors, made from a diagram alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import sympy
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from nissl.diagrams import _equations
from nissl.diagrams._operators import operator, rearranged
from nissl.diagrams._sizes import evaluate, sizes_of
from nissl.diagrams.circuit import CircuitDiagram, Operation, Ref
from nissl.errors import DiagramError, InputError, unknown

Values = dict[str, Tensor]
_EQUATIONS = ("linear", "contraction")
# How notes begin that say where the code asked for values, and what it was told at which line.
_BY_VALUE = re.compile(r"asks for values at |code without a line: |[^`]+:\d+ `")


@dataclass(frozen=True)
class Program:
    """What a diagram says, run.

    Linear maps and contractions run by their equation over names of axes, permutations and copies by the axes before and after,
    the rest by torch's operators, at the sizes of the arrays given: a diagram drawn at batch 2 runs at batch 5.

    Parameters
    ----------
    diagram
        What to run.
    parameters
        Weights and buffers by path.

    Examples
    --------
    >>> from nissl.diagrams.expressions import linear, elementwise
    >>> program = compile_diagram((linear("m -> k", "w", m=3, k=2) @ elementwise(torch.relu)).diagram())
    >>> program(torch.ones(3), parameters={"w.weight": torch.tensor([[1.0, 1, 1], [-1, -1, -1]])})
    tensor([3., 0.])
    """

    diagram: CircuitDiagram
    parameters: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def __call__(
        self, *inputs: Shaped[Tensor, "..."], parameters: nn.Module | Mapping[str, Tensor] | None = None
    ) -> Any:
        """Outputs of the diagram: one tensor, or a tuple of several.

        Parameters
        ----------
        *inputs
            As many as the diagram has, in its order.
        parameters
            A module or a state dict that gives the weights, in place of those that are held.

        Raises
        ------
        InputError
            Another number of inputs, one that is no tensor, shapes that the diagram does not allow; no weights at all.
        UnknownNameError
            A weight that is not there.
        """
        values, sizes = self._begin(inputs, parameters)
        for step, operation in enumerate(self.diagram.operations):
            values.update(run_operation(self.diagram, operation, values, sizes))
            for name in self._last.get(step, ()):  # what nothing reads any more is let go
                values.pop(name, None)
        outputs = tuple(values[name] for name in self.diagram.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def arrays(
        self, *inputs: Shaped[Tensor, "..."], parameters: nn.Module | Mapping[str, Tensor] | None = None
    ) -> Values:
        """Every array of the diagram by name, weights among them."""
        values, sizes = self._begin(inputs, parameters)
        for operation in self.diagram.operations:
            values.update(run_operation(self.diagram, operation, values, sizes))
        return values

    @cached_property
    def _last(self) -> dict[int, list[str]]:
        return _last_use(self.diagram)

    @cached_property
    def _needed(self) -> list[str]:
        return sorted(_needed(self.diagram))

    def _begin(self, inputs: Sequence[Tensor], parameters: Any) -> tuple[Values, dict[sympy.Symbol, int]]:
        names = self.diagram.inputs
        if len(inputs) != len(names):
            raise InputError(f"{self.diagram.name} takes {len(names)} inputs ({', '.join(names)}); given {len(inputs)}")
        held = self.parameters if parameters is None else tensors_of(parameters)
        values = dict(zip(names, inputs, strict=True))
        for name, value in values.items():
            if not isinstance(value, Tensor):
                kind = f"{type(value).__module__}.{type(value).__name__}"
                raise InputError(f"input {name!r} is a {kind}; allowed: torch tensors, such as torch.as_tensor({name})")
        if parameters is None and self._needed and not held:
            shown = ", ".join([*map(repr, self._needed[:3]), *(["..."] if len(self._needed) > 3 else [])])
            raise InputError(
                f"this program needs weights ({shown}, {len(self._needed)} in all); call program(x, parameters=module)"
            )
        for name in self._needed:
            if name not in held:
                hint = f"{self.diagram.name} reads it, so these are another network's; program(x, parameters=module)"
                raise unknown("weight", name, held, hint)
            values[name] = held[name]
        return values, sizes_of(self.diagram, {n: tuple(v.shape) for n, v in values.items()})


def compile_diagram(diagram: CircuitDiagram, parameters: nn.Module | Mapping[str, Tensor] | None = None) -> Program:
    """A function of tensors, made from the diagram alone.

    Where the network's code asked for values, the diagram is one branch of it, with the numbers of its example: a warning says so,
    since on other inputs the program may differ from the network.

    Parameters
    ----------
    diagram
        Complete, and without feedback.
    parameters
        A module or a state dict whose weights are held; without, they are given at each call.

    Raises
    ------
    DiagramError
        The diagram is partial, has a box that only stands for others, or an operation that torch does not know.
    """
    program = build(diagram, parameters)
    if said := by_values(diagram):
        warnings.warn(
            f"{diagram.name} was followed on the values of its example, so this program is right only for inputs that decide the "
            f"same: {'; '.join(said)}",
            stacklevel=2,
        )
    return program


def build(diagram: CircuitDiagram, parameters: nn.Module | Mapping[str, Tensor] | None = None) -> Program:
    """As `compile_diagram`, without its warning: for what is run beside the network."""
    if not isinstance(diagram, CircuitDiagram):
        raise InputError(
            f"a {type(diagram).__name__} is no diagram; draw one first: nissl.diagrams.circuit(module, inputs)"
        )
    if not diagram.complete or diagram.feedback:
        why = "could be followed only in part" if not diagram.complete else "has feedback"
        raise DiagramError(f"{diagram.name} {why} and cannot be compiled; notes: {'; '.join(diagram.notes) or 'none'}")
    for operation in diagram.operations:
        if operation.kind in _EQUATIONS and operation.equation:
            _equations.split(operation.equation)
        elif operation.target:
            operator(operation.target)
        elif operation.kind != "rearrangement":
            raise DiagramError(
                f"{operation.name!r} ({operation.symbol}) only stands for others; compile the diagram before it is collapsed"
            )
    return Program(diagram, {} if parameters is None else tensors_of(parameters))


def by_values(diagram: CircuitDiagram) -> list[str]:
    """Notes that say what was decided by the values of the example: a branch that was taken, numbers that were written in."""
    return [n for n in diagram.notes if _BY_VALUE.match(n)]


def tensors_of(source: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights and buffers by path; those that stand in two places by both."""
    if isinstance(source, nn.Module):
        return {
            **dict(source.named_parameters(remove_duplicate=False)),
            **dict(source.named_buffers(remove_duplicate=False)),
        }
    if not isinstance(source, Mapping) or not all(isinstance(t, Tensor) for t in source.values()):
        raise InputError(f"parameters is a {type(source).__name__}; allowed: a module, or a mapping of tensors by path")
    return dict(source)


def run_operation(
    diagram: CircuitDiagram, operation: Operation, values: Mapping[str, Tensor], sizes: Mapping[sympy.Symbol, int]
) -> Values:
    """The outputs of one operation by name, given the arrays that it takes."""
    result = _result(diagram, operation, values, sizes)
    results = result if isinstance(result, (tuple, list)) else (result,)
    return {name: value for name, value in zip(operation.outputs, results, strict=False) if isinstance(value, Tensor)}


def _result(diagram: CircuitDiagram, operation: Operation, values: Mapping[str, Tensor], sizes: Mapping) -> Any:
    arrays = diagram.arrays
    if operation.kind in _EQUATIONS and operation.equation:
        return _contracted(diagram, operation, values)
    if operation.kind == "rearrangement" and len(operation.inputs) == len(operation.outputs) == 1:
        before, after = arrays[operation.inputs[0]].axes, arrays[operation.outputs[0]].axes
        here = {a: evaluate(diagram.size(a), sizes) for a in (*before, *after)}
        moved = rearranged(values[operation.inputs[0]], before, after, here)
        if moved is not None:
            return moved
    if not operation.target:
        raise DiagramError(f"{operation.name!r} binds axes in a way that their names do not tell, and has no operator")
    device = next((values[n].device for n in (*diagram.inputs, *operation.inputs) if n in values), None)
    arguments = [_filled(a, values, sizes) for a in operation.arguments]
    options = {k: _filled(v, values, sizes) for k, v in operation.options.items()}
    if options.get("device") is not None and device is not None:
        options["device"] = device
    return operator(operation.target)(*arguments, **options)


def _contracted(diagram: CircuitDiagram, operation: Operation, values: Mapping[str, Tensor]) -> Tensor:
    """Einsum of as many arrays as the equation has; what comes after is a bias, added along its axes."""
    terms, out = _equations.split(operation.equation)
    result = _equations.einsum(operation.equation, [values[n] for n in operation.inputs[: len(terms)]])
    for name in operation.inputs[len(terms) :]:
        own = diagram.arrays[name].axes
        if not set(own) <= set(out):
            own = out[len(out) - len(own) :]
        order = sorted(range(len(own)), key=lambda i: out.index(own[i]))
        bias = values[name].permute(order)
        result = result + bias[tuple(slice(None) if a in own else None for a in out)]
    return result


def _filled(value: Any, values: Mapping[str, Tensor], sizes: Mapping[sympy.Symbol, int]) -> Any:
    match value:
        case Ref(array=name):
            return values[name]
        case sympy.Basic():
            return evaluate(value, sizes)
        case tuple() | list():
            return type(value)(_filled(v, values, sizes) for v in value)
        case str() if value.startswith("torch."):
            found = getattr(torch, value.removeprefix("torch."), None)
            return found if isinstance(found, (torch.dtype, torch.layout, torch.memory_format)) else value
    return value


def _needed(diagram: CircuitDiagram) -> set[str]:
    """Weights and buffers that some operation reads and none makes."""
    made = {n for o in diagram.operations for n in o.outputs} | set(diagram.inputs)
    return {n for o in diagram.operations for n in o.inputs if n not in made} | (set(diagram.outputs) - made)


def _last_use(diagram: CircuitDiagram) -> dict[int, list[str]]:
    """For every step, the arrays that are read there for the last time."""
    last: dict[str, int] = {}
    for step, operation in enumerate(diagram.operations):
        last.update(dict.fromkeys((*operation.inputs, *operation.outputs), step))
    ends: dict[int, list[str]] = {}
    for name, step in last.items():
        if name not in diagram.outputs:
            ends.setdefault(step, []).append(name)
    return ends


def references(value: Any) -> Iterator[str]:
    """Names of all arrays in arguments, as they come."""
    if isinstance(value, Ref):
        yield value.array
    elif isinstance(value, Mapping):
        for v in value.values():
            yield from references(v)
    elif isinstance(value, (tuple, list)):
        for v in value:
            yield from references(v)
