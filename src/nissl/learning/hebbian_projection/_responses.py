"""Responses of lateral neurons: real numbers, or what a neuron can say with a limited number of signed spikes."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError


def spiking_response(response: Float[Tensor, "*sample component"], levels: int, bound: float) -> Tensor:
    """A response as a neuron signals it in `levels` time steps, with at most one spike of either sign in each.

    ``round(clip(y, -bound, bound) / bound * levels) / levels * bound``; within the bound it is off by at most ``bound / (2 levels)``.

    Examples
    --------
    >>> import torch
    >>> spiking_response(torch.tensor([0.4, -7.0, 30.0]), levels=4, bound=20.0).tolist()
    [0.0, -5.0, 20.0]
    """
    return response.clamp(-bound, bound).div(bound / levels).round().mul(bound / levels)


def check_response(levels: int | None, bound: float) -> None:
    """Raise unless lateral neurons can respond so."""
    if levels is not None and levels < 1:
        raise InputError(
            f"levels {levels}; lateral neurons have at least 1 time step to spike in, None is for real-valued responses"
        )
    if not 0 < bound < float("inf"):
        raise InputError(f"bound {bound}; the largest response is a positive number")
