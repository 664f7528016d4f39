"""The recurrent core of the leaky memory neuron: what is left to do step by step.

Everything that does not depend on the memory (synapses, branches, their half of the first layer) has been worked out for
all times at once and arrives as `drive`. Memory is counted in units of its largest value, n = m / scale, which leaves

    z_t = drive_t + n_{t-1} recurrent
    u_t = tanh(deeper(z_t))
    n_t = n_{t-1} + rate (u_t - n_{t-1})

two products and a `lerp` a step. The gradient is written out by hand: backwards in time it needs only the two products
with transposed weights, and the gradients of all weights are products over the whole sequence afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from nissl.nn._kernels import kernel

Activation = Literal["relu", "silu"]
Layers = Sequence[tuple[Tensor, Tensor]]


@torch.compiler.disable
def recur(
    drive: Float[Tensor, "batch time first"],
    start: Float[Tensor, "batch memory"],
    recurrent: Float[Tensor, "memory first"],
    rate: Float[Tensor, "memory"],
    deeper: Layers,
    activation: Activation,
) -> Float[Tensor, "batch time memory"]:
    """Memory at every step, in units of its largest value.

    `deeper` holds weight (output, input) and bias of every layer after the first; where there is none, the first is the
    only one and dendrites are linear.
    """
    flat = [tensor for layer in deeper for tensor in layer]
    inputs = (drive, start, recurrent, rate, *flat)
    if torch.is_grad_enabled() and any(i.requires_grad for i in inputs):
        return _Recurrence.apply(activation, *inputs)  # type: ignore[return-value]
    return _forward(activation, *inputs, keep=False)[0]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Activation, *inputs: Tensor) -> Tensor:
        memory, before, after, proposal = _forward(activation, *inputs, keep=True)
        _, start, recurrent, rate, *flat = inputs
        ctx.save_for_backward(start, recurrent, rate, memory, proposal, *before, *after, *flat)
        ctx.activation, ctx.depth = activation, len(flat) // 2
        return memory

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, ...]:
        start, recurrent, rate, memory, proposal, *rest = ctx.saved_tensors
        depth = ctx.depth
        before, after, weights = rest[:depth], rest[depth : 2 * depth], rest[2 * depth :: 2]
        slope = rate * (1 - proposal**2)
        if depth == 1 and ctx.activation == "relu" and kernel.available(given):
            total, entering, to_start = kernel.backward(given, slope, after[0], recurrent, weights[0], rate)
            through = [entering]
        else:
            slopes = [_slope(ctx.activation, z) for z in before]
            total, through, to_start = _backward(given, slope, slopes, recurrent, rate, weights)
        previous = torch.cat([start.unsqueeze(1), memory[:, :-1]], 1)
        leaving = total * slope
        through = [*through, leaving]  # gradients of what enters each layer, the proposals last
        grads = [through[0], to_start, _product(previous, through[0]), (total * (proposal - previous)).sum((0, 1))]
        for entered, grad in zip(after, through[1:], strict=True):
            grads += [_product(grad, entered), grad.sum((0, 1))]
        return None, *grads


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Sum over batch and time of outer products."""
    return a.flatten(0, 1).t() @ b.flatten(0, 1)


def _forward(
    activation: Activation, drive: Tensor, start: Tensor, recurrent: Tensor, rate: Tensor, *flat: Tensor, keep: bool
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor | None]:
    """Memory, and what the gradient needs: hidden layers before and after their nonlinearity, and the proposals."""
    if len(flat) == 2 and activation == "relu" and kernel.available(drive):
        with torch.no_grad():
            memory, hidden, proposal = kernel.forward(drive, start, recurrent, *flat, rate, keep=keep)
        return memory, [hidden] * keep, [hidden] * keep, proposal  # type: ignore[list-item]
    with torch.no_grad():
        return _steps(activation, drive, start, recurrent, rate, flat, keep)


def _steps(
    activation: Activation,
    drive: Tensor,
    start: Tensor,
    recurrent: Tensor,
    rate: Tensor,
    flat: Sequence[Tensor],
    keep: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
    """The same, step by step in torch: everything is written into arrays that are there already."""
    batch, times = drive.shape[:2]
    layers = [(weight.t(), bias) for weight, bias in zip(flat[::2], flat[1::2], strict=True)]
    widths = [drive.shape[2], *(bias.shape[0] for _, bias in layers)]
    kept = times if keep else 1

    def buffers(width: int) -> tuple[Tensor, Sequence[Tensor]]:
        whole = drive.new_empty(batch, kept, width)
        return whole, whole.unbind(1) if keep else whole.expand(batch, times, width).unbind(1)

    entered = [buffers(width) for width in widths]  # the proposals are the last
    left = entered[:-1] if activation == "relu" else [buffers(width) for width in widths[:-1]]
    memory = drive.new_empty(batch, times, rate.shape[0])
    now = start
    for t, (first, after) in enumerate(zip(drive.unbind(1), memory.unbind(1), strict=True)):
        z = torch.addmm(first, now, recurrent, out=entered[0][1][t])
        for i, (weight, bias) in enumerate(layers):
            h = z.relu_() if activation == "relu" else torch.ops.aten.silu.out(z, out=left[i][1][t])
            z = torch.addmm(bias, h, weight, out=entered[i + 1][1][t])
        now = torch.lerp(now, z.tanh_(), rate, out=after)
    return memory, [w for w, _ in entered[:-1]], [w for w, _ in left], entered[-1][0]


def _slope(activation: Activation, z: Tensor) -> Tensor:
    """Derivative of a hidden layer's nonlinearity."""
    if activation == "relu":
        return (z > 0).to(z.dtype)
    chance = torch.sigmoid(z)
    return chance + silu(z) * (1 - chance)


def _backward(
    given: Tensor, slope: Tensor, slopes: Sequence[Tensor], recurrent: Tensor, rate: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Gradients of memory (all that comes after included), of what enters each hidden layer, and of the first state."""
    total = torch.empty_like(given, memory_format=torch.contiguous_format)
    leaving = torch.empty_like(total)
    through = [torch.empty_like(s) for s in slopes]
    keep, back = 1 - rate, recurrent.t()
    moments = [x.unbind(1) for x in (given, total, slope, leaving)]
    hidden = [(s.unbind(1), g.unbind(1)) for s, g in zip(slopes, through, strict=True)]
    carried = torch.zeros_like(given[:, 0])
    for t in reversed(range(given.shape[1])):
        from_outside, here, sloped, left = (m[t] for m in moments)
        torch.add(from_outside, carried, out=here)
        grad = torch.mul(here, sloped, out=left)
        for weight, (s, g) in zip(reversed(weights), reversed(hidden), strict=True):
            grad = torch.mm(grad, weight, out=g[t]).mul_(s[t])
        torch.addmm(here * keep, grad, back, out=carried)
    return total, through, carried
