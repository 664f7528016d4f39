"""What running a network beside its diagram needs: arguments that fit, the mode in which it was drawn, equal random draws."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sympy
import torch
from torch import Tensor, nn

from nissl.diagrams._sizes import sizes_of
from nissl.diagrams.circuit import CircuitDiagram
from nissl.diagrams.program import Program, tensors_of
from nissl.errors import DiagramError, InputError, ModelError, NisslError


def fitting(module: Any, diagram: Any, sets: Sequence[Sequence[Any]]) -> list[dict[sympy.Symbol, int]]:
    """The free sizes of every set of inputs, once all of it fits together.

    Raises
    ------
    InputError
        Something that is no network, diagram or tensor, shapes that the diagram does not allow, NaN.
    DiagramError
        The diagram reads weights that the network has not, or of other shapes.
    """
    if not isinstance(module, nn.Module) or not isinstance(diagram, CircuitDiagram):
        swapped = isinstance(module, CircuitDiagram) and isinstance(diagram, nn.Module)
        given = f"given are a {type(module).__name__} and a {type(diagram).__name__}"
        how = "swap them" if swapped else "draw one with nissl.diagrams.circuit(module, inputs)"
        raise InputError(f"first comes the torch module, then its diagram; {given}: {how}")
    _of_this_network(module, diagram)
    sizes = []
    for inputs in sets:
        if len(inputs) != len(diagram.inputs):
            names = ", ".join(diagram.inputs)
            raise InputError(f"{diagram.name} takes {len(diagram.inputs)} inputs ({names}); given {len(inputs)}")
        for name, x in zip(diagram.inputs, inputs, strict=True):
            if not isinstance(x, Tensor):
                kind = f"{type(x).__module__}.{type(x).__name__}"
                raise InputError(f"input {name!r} is a {kind}; allowed: torch tensors, alone or in a list")
            if x.isnan().any():
                raise InputError(
                    f"input {name!r} holds NaN, which equals itself on both sides: nothing would be tested"
                )
        sizes.append(sizes_of(diagram, {n: tuple(x.shape) for n, x in zip(diagram.inputs, inputs, strict=True)}))
    return sizes


def _of_this_network(module: nn.Module, diagram: CircuitDiagram) -> None:
    held = tensors_of(module)
    other = []
    for name in Program(diagram)._needed:
        wanted = [diagram.size(a) for a in diagram.arrays[name].axes]
        shape = held[name].shape if name in held else None
        if (
            shape is None
            or len(shape) != len(wanted)
            or any(w.is_Integer and w != n for w, n in zip(wanted, shape, strict=True))
        ):
            other.append(f"{name!r} {tuple(wanted)} where it has {'none' if shape is None else tuple(shape)}")
    if other:
        shown = "; ".join(other[:3]) + (f"; and {len(other) - 3} more" if len(other) > 3 else "")
        raise DiagramError(
            f"the diagram {diagram.name!r} is of another network than this {type(module).__name__}: it reads {shown}"
        )


@contextlib.contextmanager
def as_drawn(module: nn.Module, diagram: CircuitDiagram, inputs: Sequence[Tensor]) -> Iterator[None]:
    """The network in the mode in which it was drawn; its mode, its buffers and torch's random state are put back."""
    modes = [(m, m.training) for m in module.modules()]
    buffers = [(m, n, b, b.clone()) for m in module.modules() for n, b in m._buffers.items() if b is not None]
    devices = {t.device for t in (*inputs, *module.parameters(), *module.buffers()) if t.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=list(devices)):
            module.train("in training mode" in diagram.notes)
            yield
    finally:
        for part, training in modes:
            part.training = training
        with torch.no_grad():
            for part, name, buffer, before in buffers:
                if not torch.equal(buffer, before):  # NaN differs from itself and is copied over itself
                    buffer.copy_(before)
                part._buffers[name] = buffer


def seeded(seed: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """A call that draws the random numbers of a seed."""
    torch.manual_seed(seed)
    return function(*arguments)


def called(module: nn.Module, inputs: Sequence[Tensor]) -> Any:
    """What the network returns; in its own words why it does not.

    Raises
    ------
    ModelError
        It does not run on these inputs.
    """
    try:
        return module(*inputs)
    except NisslError:
        raise
    except Exception as error:
        shapes = ", ".join(f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in inputs)
        raise ModelError(f"{type(module).__name__} does not run on {shapes}; its own words: {error}") from error
