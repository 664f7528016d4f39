"""From utilities, whose order means something, to probabilities, whose values do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError, unknown

TRANSFORMS = ("power", "sequence_power", "value", "unnormalised", "rank")
OVER_CANDIDATES = ("sequence_power", "unnormalised")


def log_probability(
    utilities: Float[Tensor, "*context option"], transform: str = "power", beta: float = 1.0, *, drawn: bool = False
) -> Float[Tensor, "*context option"]:
    """Log-probability of each option, strictly increasing in its utility.

    Parameters
    ----------
    utilities
        Scores of the options of each context: logits of classes or tokens, or for candidate outputs their log-probabilities
        or summed logits. Minus infinity says that an option cannot be; it keeps probability 0.
    transform
        `power`: softmax of beta times the utility (Luce's choice; beta = 1 is the softmax itself). `sequence_power`: the same over
        candidate sequences, whose utilities are their log-probabilities. `unnormalised`: the same where they are sums of raw
        logits. `value`: softmax of beta times the softmax. `rank`: exp(-beta rank), which uses the order alone; equal
        utilities share a rank.
    beta
        How strictly the better option is preferred; above 0.
    drawn
        The candidates were sampled from the probability that their utilities are logarithms of, so that a likely one is there
        more often: each is weighed by P ** (beta - 1). For `sequence_power` only.

    Returns
    -------
    Tensor
        Normalised over the last axis.

    Raises
    ------
    UnknownNameError
        No such transform.
    InputError
        A beta that is not positive and finite; utilities that are NaN or plus infinity; a context in which nothing can be;
        no options.

    Examples
    --------
    >>> log_probability(torch.tensor([0.0, 1.0]), beta=2.0).exp().round(decimals=3).tolist()
    [0.11900000274181366, 0.8809999823570251]

    References
    ----------
    Huang and Yuan (2023), Utility-Probability Duality of Neural Networks. The transforms are reconstructed from its abstract.
    """
    _check(utilities, transform, beta, drawn)
    if transform == "value":
        # An option that cannot be has probability 0 before, and must have it afterwards.
        scores = (beta * utilities.softmax(-1)).where(utilities > -torch.inf, -torch.inf)
    elif transform == "rank":
        ascending = utilities.sort(-1).values
        better = utilities.shape[-1] - torch.searchsorted(ascending, utilities.contiguous(), right=True)
        scores = (-beta * better.to(utilities.dtype)).where(utilities > -torch.inf, -torch.inf)
    else:
        # Utilities are defined up to a constant; with the largest at zero nothing overflows.
        scores = (beta - 1 if drawn else beta) * (utilities - utilities.amax(-1, keepdim=True))
        scores = scores.where(utilities > -torch.inf, -torch.inf)
    return scores.log_softmax(-1)


def to_probability(utilities: Any, transform: str = "power", beta: float = 1.0, *, drawn: bool = False) -> Any:
    """Probabilities of options from their utilities; see `log_probability`.

    Parameters
    ----------
    utilities
        A tensor, array or DataArray; the options lie along the last axis.
    transform, beta, drawn
        As there.

    Returns
    -------
    The same kind of thing, summing to 1 over the last axis.

    Examples
    --------
    >>> to_probability(np.array([0.0, 5.0, 2.0]), "rank", 1.0).round(2).tolist()
    [0.09, 0.67, 0.24]
    """
    if isinstance(utilities, xr.DataArray):
        return utilities.copy(data=to_probability(utilities.values, transform, beta, drawn=drawn))
    if isinstance(utilities, Tensor):
        return log_probability(utilities, transform, beta, drawn=drawn).exp()
    values = torch.as_tensor(np.asarray(utilities, dtype=float))
    return log_probability(values, transform, beta, drawn=drawn).exp().numpy()


def check_tokenwise(transform: str) -> None:
    """An error for transforms that act on whole candidates, which tokens cannot be drawn from."""
    if transform in OVER_CANDIDATES:
        raise InputError(
            f"transform {transform!r} acts on whole candidates; for single tokens: 'power', 'value' or 'rank'"
        )


def _check(utilities: Tensor, transform: str, beta: float, drawn: bool) -> None:
    if transform not in TRANSFORMS:
        raise unknown("transform", transform, TRANSFORMS)
    if not (beta > 0 and np.isfinite(beta)):
        raise InputError(
            f"beta={beta}; allowed: a positive number (for the best option alone, decide by rule='greedy')"
        )
    if drawn and transform != "sequence_power":
        raise InputError(f"drawn=True goes with transform='sequence_power', not {transform!r}")
    if not utilities.is_floating_point():
        raise InputError(f"utilities are {utilities.dtype}; give floating-point numbers")
    if utilities.dim() < 1 or utilities.shape[-1] == 0:
        raise InputError(f"utilities of shape {tuple(utilities.shape)} hold no options")
    if bool((utilities.isnan() | (utilities == torch.inf)).any()):
        raise InputError("utilities hold NaN or plus infinity; an option that cannot be is minus infinity")
    if bool((utilities == -torch.inf).all(-1).any()):
        raise InputError("in some context every option is impossible (minus infinity), so there is nothing to choose")
