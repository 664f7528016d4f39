"""A whole sequence of leaky integrate-and-fire steps, with a backward pass written by hand.

Step by step, autograd keeps some ten small tensors for each moment. Here two buffers hold all that has to be known, the
membrane and the spikes; a step forward is two or three kernels and a step backward is one.

Forward, with bar = threshold - modulation:

    u_t = beta m_{t-1} + I_t        s_t = [u_t >= bar_t]        m_t = u_t (1 - s_t)   or   u_t - threshold s_t

Backward, with g' the surrogate derivative at u_t - bar_t, and d the gradients:

    du_t = g'_t ds_t + dU_t + a_t dm_t        dm_{t-1} = beta du_t
    a_t = 1 - s_t (hard) or 1 (soft);  where the reset is not detached, - u_t g'_t or - threshold g'_t are added to it
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nissl.nn.spiking._surrogates import Surrogate

# Numbers of one block of time, so that what is computed for it in several passes stays in the cache.
_BLOCK = 1 << 16


def lif_sequence(
    current: Float[Tensor, "batch time unit"],
    bar: Float[Tensor, "batch time unit"] | None,
    initial: Float[Tensor, "batch unit"],
    *,
    beta: float,
    threshold: float,
    soft: bool,
    detach_reset: bool,
    surrogate: Surrogate,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes and membrane before the reset, both (batch, time, unit), and the membrane after the last reset (batch, unit).

    `bar` is threshold - modulation; None where nothing modulates.
    """
    return _Sequence.apply(current, bar, initial, beta, threshold, soft, detach_reset, surrogate)  # type: ignore[return-value]


class _Sequence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        bar: Tensor | None,
        initial: Tensor,
        beta: float,
        threshold: float,
        soft: bool,
        detach_reset: bool,
        surrogate: Surrogate,
    ) -> tuple[Tensor, Tensor, Tensor]:
        membrane, spikes = torch.empty_like(current), torch.empty_like(current)
        steps = current.unbind(1), membrane.unbind(1), spikes.unbind(1)
        bars = [threshold] * current.shape[1] if bar is None else bar.unbind(1)
        if soft:
            final = _soft(*steps, bars, initial, beta, threshold)
        else:
            final = _hard(*steps, bars, initial, beta)
            spikes.neg_().add_(1)  # the loop wrote what is kept, 1 - s
        ctx.save_for_backward(membrane, spikes, bar)
        ctx.set_materialize_grads(False)
        ctx.constants = beta, threshold, soft, detach_reset, surrogate
        return spikes, membrane, final

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        membrane, spikes, bar = ctx.saved_tensors
        beta, threshold, soft, detach_reset, surrogate = ctx.constants
        d_spikes, d_membrane, d_final = grads
        d_current = torch.empty_like(membrane)
        d_bar = torch.empty_like(membrane) if bar is not None and ctx.needs_input_grad[1] else None
        # The gradient of the membrane after a step's reset is `factor` times `later`.
        later, factor = torch.zeros_like(membrane[:, 0]) if d_final is None else d_final, 1.0
        n_steps, size = membrane.shape[1], max(1, _BLOCK // max(1, membrane[:, 0].numel()))
        for stop in range(n_steps, 0, -size):
            block = slice(max(0, stop - size), stop)
            u, d_u, end = membrane[:, block], d_current[:, block], factor * later
            slope = surrogate.derivative(u - (threshold if bar is None else bar[:, block]))
            fired = torch.zeros_like(slope) if d_spikes is None else slope * d_spikes[:, block]
            own = fired if d_membrane is None else fired + d_membrane[:, block]
            kept = torch.ones_like(u) if soft else 1 - spikes[:, block]
            lost = slope * (threshold if soft else u)  # by the reset, where gradients flow through it
            if not detach_reset:
                kept -= lost
            moments = zip(own.unbind(1), kept.unbind(1), d_u.unbind(1), strict=True)
            for mine, through, out in reversed(list(moments)):
                later, factor = torch.addcmul(mine, through, later, value=factor, out=out), beta
            if d_bar is not None:
                if not detach_reset:
                    fired = fired - lost * torch.cat([beta * d_u[:, 1:], end[:, None]], 1)
                torch.neg(fired, out=d_bar[:, block])
        return d_current, d_bar, beta * later, None, None, None, None, None


def _hard(current: Any, membrane: Any, kept: Any, bars: Any, m: Tensor, beta: float) -> Tensor:
    torch.add(current[0], m, alpha=beta, out=membrane[0])
    torch.lt(membrane[0], bars[0], out=kept[0])
    u, k = membrane[0], kept[0]
    for i, bar, u_next, k_next in zip(current[1:], bars[1:], membrane[1:], kept[1:], strict=True):
        torch.addcmul(i, u, k, value=beta, out=u_next)
        torch.lt(u_next, bar, out=k_next)
        u, k = u_next, k_next
    return u * k


def _soft(current: Any, membrane: Any, spikes: Any, bars: Any, m: Tensor, beta: float, threshold: float) -> Tensor:
    m = m.clone()
    for i, bar, u, s in zip(current, bars, membrane, spikes, strict=True):
        torch.add(i, m, alpha=beta, out=u)
        torch.ge(u, bar, out=s)
        torch.sub(u, s, alpha=threshold, out=m)
    return m
