"""The leaky trace: what synapses, membranes, memory units, synchronisation and eligibility have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError
from nissl.nn._kernels import kernel


def leaky_trace(
    x: Float[Tensor, "*batch time unit"],
    decay: float | Float[Tensor, "..."],
    initial: Float[Tensor, "*batch unit"] | None = None,
    *,
    chunk: int | None = None,
) -> Float[Tensor, "*batch time unit"]:
    """A trace that takes in its input and forgets at a constant rate: y_t = decay * y_{t-1} + x_t.

    Parameters
    ----------
    x
        Input; time is the last axis but one.
    decay
        What is left of the trace after one step: a number, or a tensor that broadcasts to one moment of `x`, such as one a
        unit. A time constant tau (in steps) is a decay of exp(-1/tau).
    initial
        The trace before the first step; zero where None.
    chunk
        Without a C++ compiler, and on a GPU: how many steps are computed one after another; chunks are computed side by side
        and then joined. By default about the square root of the number of steps, which needs the fewest calls. With a
        compiler it is one pass over the input.

    Returns
    -------
    Float[Tensor, "*batch time unit"]
        The trace at every step; differentiable in `x`, `decay` and `initial`.

    Raises
    ------
    InputError
        No steps, whole numbers, or shapes that do not fit.

    Notes
    -----
    y_t = Σ_k decay^(t-k) x_k + decay^(t+1) initial. The gradient with respect to x is the same trace, backwards in time.

    Examples
    --------
    >>> leaky_trace(torch.tensor([[1.0], [0.0], [0.0]]), 0.5)[:, 0].tolist()
    [1.0, 0.5, 0.25]
    """
    if x.dim() < 2 or x.shape[-2] == 0:
        raise InputError(f"an input of shape {tuple(x.shape)}; a trace needs (..., time, unit) with at least one step")
    if not x.is_floating_point():
        raise InputError(f"an input of {x.dtype}; a trace needs floating-point numbers, such as x.float()")
    if chunk is not None and chunk < 1:
        raise InputError(f"chunk={chunk}; allowed: 1 step or more")
    moment = x.shape[:-2] + x.shape[-1:]
    rate = torch.as_tensor(decay, dtype=x.dtype, device=x.device)
    for name, given in (("decay", rate), ("initial", initial)):
        if given is not None and not fits(given.shape, moment):
            raise InputError(f"{name} of shape {tuple(given.shape)} does not broadcast to one moment, {tuple(moment)}")
    begin = None if initial is None else initial.expand(moment)
    return _Trace.apply(x, rate, begin, chunk or math.isqrt(x.shape[-2] - 1) + 1)  # type: ignore[return-value]


def fits(shape: Sequence[int], moment: Sequence[int]) -> bool:
    """Whether one shape broadcasts to the other. torch's own question takes longer than a short trace."""
    pairs = zip(reversed(shape), reversed(moment), strict=False)
    return len(shape) <= len(moment) and all(size in (1, whole) for size, whole in pairs)


class _Trace(torch.autograd.Function):
    """The chunked scan with the gradient that is a scan too; what it saves is the trace itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: Tensor, initial: Tensor | None, chunk: int) -> Tensor:
        y = _scan(x, decay, initial, chunk)
        ctx.save_for_backward(y, decay, initial)
        ctx.chunk = chunk
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        y, decay, initial = ctx.saved_tensors
        # The adjoint: what a step's input does to the loss, through all later steps.
        adjoint = leaky_trace(grads[0].flip(-2), decay, chunk=ctx.chunk).flip(-2)
        to_decay = to_initial = None
        if ctx.needs_input_grad[1]:
            to_decay = (adjoint[..., 1:, :] * y[..., :-1, :]).sum(-2)
            if initial is not None:
                to_decay = to_decay + adjoint[..., 0, :] * initial
            to_decay = to_decay.sum_to_size(decay.shape)
        if initial is not None and ctx.needs_input_grad[2]:
            to_initial = adjoint[..., 0, :] * decay
        return adjoint if ctx.needs_input_grad[0] else None, to_decay, to_initial, None


def _scan(x: Tensor, decay: Tensor, initial: Tensor | None, chunk: int) -> Tensor:
    """Each chunk by itself, all at once, step by step; then what the chunks before have left is added."""
    if decay.dim() < 2 and kernel.available(x):
        return kernel.trace(x, decay, initial)
    y = x.clone(memory_format=torch.contiguous_format)
    count = y.shape[-2] // chunk
    chunks = y.narrow(-2, 0, count * chunk).unflatten(-2, (count, chunk))  # (..., chunk number, step in it, unit)
    rest = y.narrow(-2, count * chunk, y.shape[-2] - count * chunk)
    between = decay.unsqueeze(-2) if decay.dim() else decay
    for t in range(1, chunk):
        chunks.select(-2, t).addcmul_(chunks.select(-2, t - 1), between)
    for t in range(1, rest.shape[-2]):
        rest.select(-2, t).addcmul_(rest.select(-2, t - 1), decay)
    # What remains of a chunk's end after each step of the next; powers, not exp(log), so that a decay of 0 or < 0 works.
    powers = between ** torch.arange(1, chunk + 1, device=x.device, dtype=x.dtype)[:, None]  # (..., step, unit)
    carry = initial
    for part in [*chunks.unbind(-3), rest]:
        if carry is not None:
            part.addcmul_(powers[..., : part.shape[-2], :], carry.unsqueeze(-2))
        carry = part.select(-2, -1) if part.shape[-2] else carry
    return y
