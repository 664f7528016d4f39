"""What a bin's counts say given the linear predictor: log likelihood, its slope and its curvature, elementwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nissl.errors import unknown

# The link each kind of observation has where none is named.
DEFAULT_LINKS = {"poisson": "softplus", "bernoulli": "sigmoid", "gaussian": "identity"}
ALLOWED_LINKS = {
    "poisson": ("softplus", "sigmoid", "exp", "log1p-softplus"),
    "bernoulli": ("sigmoid",),
    "gaussian": ("identity",),
}


@dataclass(frozen=True)
class Terms:
    """Of each element: log likelihood (without its constant), slope in the predictor, expected curvature (None where not asked for)."""

    value: Tensor
    slope: Tensor | None
    curvature: Tensor | None


def _softplus(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # softplus(z) = max(z, 0) + log1p(e), sigmoid(z) = (1 or e) / (1 + e) with e = exp(-|z|): one exponential for both.
    e = torch.exp(-z.abs())
    rate = z.clamp(min=0) + torch.log1p(e)
    low = z < -30  # there softplus and sigmoid are both exp(z)
    log_rate = torch.where(low, z, rate.clamp(min=1e-300).log())
    relative = torch.where(z >= 0, 1.0, e) / (1 + e) / rate.clamp(min=1e-300)
    return rate, log_rate, torch.where(low, 1.0, relative)


def _sigmoid(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rate = torch.sigmoid(z)
    return rate, torch.nn.functional.logsigmoid(z), 1 - rate


def _exp(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = z.clamp(max=50.0)
    return z.exp(), z, torch.ones_like(z)


def _log1p_softplus(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    inner, _, relative = _softplus(z)
    rate = torch.log1p(inner)
    low = z < -30
    log_rate = torch.where(low, z, rate.clamp(min=1e-300).log())
    slope = relative * inner / (1 + inner)
    return rate, log_rate, torch.where(low, 1.0, slope / rate.clamp(min=1e-300))


# Linear predictor -> (rate, log rate, derivative of log rate).
_RATES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]] = {
    "softplus": _softplus,
    "sigmoid": _sigmoid,
    "exp": _exp,
    "log1p-softplus": _log1p_softplus,
}


def resolve_link(observations: str, link: str | None) -> str:
    """The link's name, checked against the kind of observation."""
    if observations not in DEFAULT_LINKS:
        raise unknown("kind of observation", observations, DEFAULT_LINKS)
    if link is None:
        return DEFAULT_LINKS[observations]
    if link not in ALLOWED_LINKS[observations]:
        raise unknown("link", link, ALLOWED_LINKS[observations], hint=f"for {observations} observations")
    return link


def inverse_link(mean: Tensor, link: str) -> Tensor:
    """The predictor that gives a mean; means are kept where the link can reach them."""
    if link == "identity":
        return mean
    if link == "sigmoid":
        return torch.logit(mean.clamp(1e-4, 1 - 1e-2))
    mean = mean.clamp(min=1e-6)
    if link == "log1p-softplus":
        mean = torch.expm1(mean)
    return mean.log() if link == "exp" else mean + torch.log(-torch.expm1(-mean))


def terms(
    x: Tensor, z: Tensor, observations: str, link: str, variance: Tensor | None = None, *, order: int = 2
) -> Terms:
    """Log likelihood of `x` at predictor `z`, with its slope (order 1) and expected curvature, not negative (order 2).

    `variance` of Gaussian observations broadcasts against z. What does not depend on z (and the variance) is left out; see `constant`.
    """
    if observations == "gaussian":
        assert variance is not None
        off = x - z
        value = -0.5 * (off * off / variance + variance.log())
        return Terms(value, off / variance if order else None, (1 / variance).expand_as(z) if order > 1 else None)
    if observations == "bernoulli":
        value = x * z - torch.nn.functional.softplus(z)
        if not order:
            return Terms(value, None, None)
        rate = torch.sigmoid(z)
        return Terms(value, x - rate, rate * (1 - rate) if order > 1 else None)
    rate, log_rate, relative = _RATES[link](z)
    value = x * log_rate - rate
    if not order:
        return Terms(value, None, None)
    return Terms(value, (x - rate) * relative, rate * relative * relative if order > 1 else None)


def slope(x: Tensor, z: Tensor, observations: str, link: str, variance: Tensor | None = None) -> Tensor:
    """The slope of `terms` alone, for gradient steps: cheaper, as no logarithm of a rate is needed."""
    if observations == "poisson" and link == "sigmoid":
        rate = torch.sigmoid(z)
        return (x - rate) * (1 - rate)
    found = terms(x, z, observations, link, variance, order=1).slope
    assert found is not None
    return found


def constant(x: Tensor, observations: str) -> Tensor:
    """The part of the log likelihood that no parameter changes, elementwise."""
    if observations == "poisson":
        return -torch.lgamma(x + 1)
    return torch.full_like(x, -0.5 * float(np.log(2 * np.pi))) if observations == "gaussian" else torch.zeros_like(x)
