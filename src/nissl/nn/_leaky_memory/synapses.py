"""Synapses: from input channels through weights and leaky traces to branches."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from nissl.nn._leaky_memory.routing import NO_SYNAPSE

NEGLIGIBLE = 50.0  # time constants after which exp(-t/tau) is far below rounding


@dataclass(frozen=True)
class Synapses:
    """Weights as they are now, the channel of each, and what is left of a trace after one step.

    Attributes
    ----------
    free
        Free weights, of which the positive part counts.
    channels
        Input of each synapse, `NO_SYNAPSE` for none.
    routed
        Whether synapses differ from inputs in number or order.
    decay
        exp(-dt/tau).
    """

    free: Float[Tensor, "branch synapse"]
    channels: Int[Tensor, "branch synapse"]
    routed: bool
    decay: float

    @property
    def weights(self) -> Float[Tensor, "branch synapse"]:
        """Weights, none of them negative."""
        weights = torch.relu(self.free)
        return weights * (self.channels != NO_SYNAPSE) if self.routed else weights

    def weighted(self, x: Float[Tensor, "*time input"]) -> Float[Tensor, "*time synapse"]:
        """Weighted input of every synapse."""
        if self.routed:
            x = x.index_select(-1, self.channels.clamp(min=0).flatten())
        return x * self.weights.flatten()

    def by_branch(self, values: Float[Tensor, "*time synapse"]) -> Float[Tensor, "*time branch"]:
        """Sum over the synapses of each branch."""
        return values.unflatten(-1, self.channels.shape).sum(-1) if self.channels.shape[1] > 1 else values

    def summed(self, x: Float[Tensor, "batch time input"]) -> Float[Tensor, "batch time branch"]:
        """Weighted input of every branch; with routing as one product, since inputs are fewer than synapses."""
        if not self.routed:
            return self.by_branch(self.weighted(x))
        into = x.new_zeros(self.channels.shape[0], x.shape[-1])
        return linear(x, into.scatter_add(1, self.channels.clamp(min=0), self.weights))

    def last_traces(
        self, x: Float[Tensor, "batch time input"], before: Float[Tensor, "batch synapse"]
    ) -> Float[Tensor, "batch synapse"]:
        """Traces after the last step, of what has not faded by then."""
        lasting = math.ceil(NEGLIGIBLE / -math.log(self.decay)) if self.decay > 0 else 1
        recent = x[:, -lasting:]
        fading = self.decay ** torch.arange(recent.shape[1] - 1, -1, -1, dtype=x.dtype, device=x.device)
        return self.decay ** x.shape[1] * before + self.weighted(fading @ recent)
