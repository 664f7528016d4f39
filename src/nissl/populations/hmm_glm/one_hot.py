"""The one-hot prior: each connection is inhibitory, absent or excitatory, by a categorical prior that all states share, times a
positive strength of each state.

Li et al., ICLR 2024, section 3.3. The kind is a point on the simplex while it is learned (a Gumbel-softmax sample in the gradient steps, its
softmax in the E-step) and its largest class afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softmax, softplus

# Order of the kinds of connection, as signs.
SIGNS = (-1, 0, 1)
_LEAST_LOG = -20.0


@dataclass
class OneHot:
    """logits (restart, state, target, source, kind), raw (restart, state, target, source) with strength softplus(raw), prior
    logits (restart, target, source, kind) shared by the states.
    """

    logits: Tensor
    raw: Tensor
    prior: Tensor

    @property
    def strength(self) -> Tensor:
        """Positive strengths."""
        return softplus(self.raw)

    def weights(self, kinds: Tensor) -> Tensor:
        """(restart, state, target, source) for points on the simplex `kinds`."""
        return (kinds[..., 2] - kinds[..., 0]) * self.strength

    def soft(self) -> Tensor:
        """Kinds as probabilities."""
        return softmax(self.logits, -1)

    def hard(self) -> Tensor:
        """The most probable kinds, one-hot."""
        return torch.nn.functional.one_hot(self.logits.argmax(-1), 3).to(self.logits.dtype)

    def sample(self, temperature: float, generator: torch.Generator) -> Tensor:
        """Kinds drawn at a temperature."""
        return gumbel_softmax(self.logits, temperature, generator)

    def log_prior(self, form: str, temperature: float) -> Tensor:
        """(restart, target, source): the log prior of the kinds in all states; see `HMMGLM.kind_prior` for the forms."""
        log_kinds = torch.log_softmax(self.logits, -1).clamp(min=_LEAST_LOG)
        log_shared = torch.log_softmax(self.prior, -1)[:, None]
        if form == "gumbel":
            return gumbel_softmax_log_density(log_kinds, log_shared, temperature).sum(1)
        kinds = log_kinds.exp()
        cross, entropy = (kinds * log_shared).sum(-1), -(kinds * log_kinds).sum(-1)
        return (cross - entropy if form == "categorical" else cross + entropy).sum(1)


def warm_start(weights: Tensor) -> OneHot:
    """From the weights (restart, state, target, source) of a Gaussian fit."""
    size = weights.abs()
    raw = size.clamp(min=0.3)
    raw = raw + torch.log(-torch.expm1(-raw))  # softplus(raw) is the size
    sure = 2 * torch.tanh(size)
    zero = torch.zeros_like(sure)
    logits = torch.stack([torch.where(weights < 0, sure, zero), 2 - sure, torch.where(weights > 0, sure, zero)], -1)
    return OneHot(logits, raw, logits.mean(1))


def cold_start(shape: tuple[int, int, int, int], generator: torch.Generator) -> OneHot:
    """Kinds near even, strengths near one; shape is (restart, state, target, source)."""
    noise = torch.randn(*shape, 4, generator=generator, dtype=torch.float64)
    return OneHot(
        0.1 * noise[..., :3], 0.54 + 0.1 * noise[..., 3], torch.zeros(shape[0], *shape[2:], 3, dtype=torch.float64)
    )


def gumbel_softmax(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A point on the simplex (last axis) drawn from the Gumbel-softmax (concrete) distribution; differentiable in the logits.

    Examples
    --------
    >>> point = gumbel_softmax(torch.zeros(4, 3), 0.5, torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(point.sum(-1), torch.ones(4)))
    True

    References
    ----------
    Jang, Gu and Poole, ICLR 2017; Maddison, Mnih and Teh, ICLR 2017.
    """
    uniform = torch.rand(logits.shape, generator=generator, dtype=logits.dtype, device=logits.device)
    gumbel = -torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-12)))
    return softmax((logits + gumbel) / temperature, -1)


def gumbel_softmax_log_density(log_point: Tensor, log_location: Tensor, temperature: float) -> Tensor:
    """Log density of a point on the simplex (given by its logarithms) under the Gumbel-softmax distribution; (...) from (..., kind).

    log Gamma(K) + (K - 1) log tau - K log sum_k (pi_k x_k^-tau) + sum_k (log pi_k - (tau + 1) log x_k), with respect to the
    Lebesgue measure of K - 1 of the coordinates.

    Examples
    --------
    >>> even = torch.full((2,), 0.5).log()
    >>> round(float(gumbel_softmax_log_density(even, even, 1.0).exp()), 6)  # uniform at temperature one
    1.0

    References
    ----------
    Jang, Gu and Poole, ICLR 2017, appendix B.
    """
    classes = log_point.shape[-1]
    log_location = torch.log_softmax(log_location, -1)
    return (
        math.lgamma(classes)
        + (classes - 1) * math.log(temperature)
        - classes * torch.logsumexp(log_location - temperature * log_point, -1)
        + (log_location - (temperature + 1) * log_point).sum(-1)
    )
