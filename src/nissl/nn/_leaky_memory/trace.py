"""The trace of synapses: one decay for all of them, in machine code where there is a compiler."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from nissl.nn._leaky_memory import kernel
from nissl.nn._trace import leaky_trace


def synaptic_trace(
    x: Float[Tensor, "batch time unit"], decay: float, initial: Float[Tensor, "batch unit"]
) -> Float[Tensor, "batch time unit"]:
    """What `leaky_trace` gives; in machine code a pass over the input rather than a few dozen calls."""
    if not torch.compiler.is_compiling() and kernel.available(x):
        return _SynapticTrace.apply(x, decay, initial)  # type: ignore[return-value]
    return leaky_trace(x, decay, initial)


class _SynapticTrace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: float, initial: Tensor) -> Tensor:
        ctx.decay = decay
        return kernel.trace(x, decay, initial, backwards=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        adjoint = kernel.trace(given, ctx.decay, None, backwards=True)
        return adjoint, None, ctx.decay * adjoint[:, 0]
