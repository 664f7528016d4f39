"""Neurons that are trained by what their spikes stand for: the firing rate as a function of the current."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError
from nissl.nn._cell import State
from nissl.nn.spiking._lif import LIF


class RateLIF(LIF):
    """Leaky integrate-and-fire neurons whose gradient is that of their weighted firing rate (Meng et al. 2022, equation 8).

    A spike weighs threshold * tau, so that the weighted rate r follows the weighted current J: r = clip(J, 0, threshold * tau). A whole
    sequence is differentiated so; single steps have no rate, and take the surrogate of `LIF`.
    """

    def __init__(self, *, tau: float = 20.0, threshold: float = 0.3, early: float = 0.3) -> None:
        super().__init__(
            tau=tau, threshold=threshold, reset="soft", leak="exponential", gain="leak", surrogate="sigmoid"
        )
        if not 0 < early <= 1:
            raise InputError(f"early {early}; neurons fire at a share of the threshold in (0, 1]")
        self.early = early
        self.ceiling = self.threshold * self.tau

    def advance(self, x: Tensor, state: State, modulation: Tensor | None = None) -> tuple[Tensor, State]:
        """One step; firing early is an addition to the membrane for the decision alone."""
        spikes, state = super().advance(x, state, torch.full_like(x, (1 - self.early) * self.threshold))
        return spikes * self.ceiling, state

    def sequence(
        self, x: Float[Tensor, "batch time unit"], state: State, modulation: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """All steps."""
        with torch.no_grad():
            spikes, after = super().sequence(x, state, torch.full_like(x, (1 - self.early) * self.threshold))
        weights = rate_weights(x.shape[1], self.beta, like=x)
        return _Rate.apply(x, spikes * self.ceiling, weights, self.ceiling), after  # type: ignore[return-value]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, early={self.early:g}"


def rate_weights(n_steps: int, decay: float, like: Tensor) -> Float[Tensor, "time 1"]:
    """Weights of a weighted firing rate, decay^(T-t) with sum one: the present counts most."""
    weights = decay ** torch.arange(n_steps - 1, -1, -1, dtype=torch.float64)
    return (weights / weights.sum()).to(like)[:, None]


class _Rate(torch.autograd.Function):
    """Spikes forward; backward the derivative of the weighted rate with respect to the weighted current.

    With normalised weights w_t, what follows is linear in each s(t), so that the gradient with respect to r is the sum over time of those with
    respect to s(t), and that of I(t) is w_t times that of J.
    """

    @staticmethod
    def forward(ctx: Any, current: Tensor, spikes: Tensor, weights: Tensor, ceiling: float) -> Tensor:
        mean = (weights * current).sum(1, keepdim=True)
        ctx.save_for_backward((mean > 0) & (mean < ceiling), weights)
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        inside, weights = ctx.saved_tensors
        return gradient.sum(1, keepdim=True) * inside * weights, None, None, None
