"""Learned numbers as labelled arrays, the most frequent state first, without states that died."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Int
from torch import Tensor

from nissl.populations.hmm_glm.em import Parameters
from nissl.populations.hmm_glm.fitting import Fitted, Settings
from nissl.populations.hmm_glm.one_hot import OneHot
from nissl.recordings.simulate.switching_glm import KINDS

# What only some models have: removed before a second fit with other settings.
OPTIONAL = ("global_adjacency_", "adjacency_", "strengths_", "own_kernels_", "noise_")


def living_states(gamma: Tensor, least: float) -> tuple[Int[np.ndarray, " state"], int]:
    """Indices of states with at least the share `least` of bins, most frequent first, and how many died (with a warning)."""
    share = gamma[0].mean(-1).cpu().numpy()
    order = np.argsort(-share, kind="stable")
    alive = order[(share[order] >= least) | (np.arange(len(order)) == 0)]
    dead = len(order) - len(alive)
    if dead:
        warnings.warn(
            f"{dead} of {len(order)} states died (under {least:.1%} of bins) and were dropped; ask for fewer states, or give more data",
            stacklevel=3,
        )
    return alive, dead


def label(
    fitted: Fitted, alive: np.ndarray, settings: Settings, units: np.ndarray, covariates: list[str], bin_width: float
) -> tuple[Parameters, dict[str, Any]]:
    """The parameters of the living states, and the estimator's attributes by name."""
    theta = fitted.parameters.theta[0, alive].cpu()
    transition = fitted.parameters.log_transition[0].exp().cpu().numpy()[np.ix_(alive, alive)]
    transition = transition / transition.sum(1, keepdims=True)
    variance = None if fitted.parameters.variance is None else fitted.parameters.variance[:, alive].cpu()
    kept = Parameters(theta[None], torch.as_tensor(transition)[None].clamp(min=1e-300).log(), variance)
    kernel = settings.kernel if fitted.parameters.kernel is None else fitted.parameters.kernel[0].cpu().numpy()
    share = fitted.gamma[0].mean(-1).cpu().numpy()[alive]

    n, values = len(units), theta.numpy()
    pair, lags = {"target": units, "source": units}, np.arange(1, len(kernel) + 1)
    first_covariate = 1 + (n if settings.coupling else 0)
    first_own = first_covariate + len(covariates)
    weights = values[..., 1:first_covariate] if settings.coupling else np.zeros((len(alive), n, n))
    with np.errstate(divide="ignore"):
        dwell = bin_width / (1 - np.diag(transition))
    out = {
        "weights_": _array(weights, "state", "target", "source", **pair),
        "mean_weights_": _array(weights.mean(0), "target", "source", **pair),
        "bias_": _array(values[..., 0], "state", "unit", unit=units),
        "transition_": _array(transition, "state", "next_state"),
        "occupancy_": _array(share / share.sum(), "state"),
        "dwell_times_": _array(dwell, "state").assign_attrs(units="s"),
        "kernel_": _array(kernel, "lag", lag=lags),
        "covariate_weights_": _array(
            values[..., first_covariate:first_own], "state", "unit", "covariate", unit=units, covariate=covariates
        ),
    }
    if values.shape[-1] > first_own:
        out["own_kernels_"] = _array(values[..., first_own:], "state", "unit", "lag", unit=units, lag=lags)
    if variance is not None:
        out["noise_"] = _array(variance[0].sqrt().numpy(), "state", "unit", unit=units)
    if fitted.one_hot is not None:
        out |= _one_hot(fitted.one_hot, alive, settings.self_coupling == "as-others", pair)
    return kept, out


def _one_hot(found: OneHot, alive: np.ndarray, diagonal: bool, pair: dict[str, Any]) -> dict[str, xr.DataArray]:
    shared = torch.softmax(found.prior[0], -1).cpu().numpy()
    kinds = found.logits[0, alive].argmax(-1).cpu().numpy() - 1
    strengths = found.strength[0, alive].cpu().numpy()
    if not diagonal:
        each = np.arange(len(shared))
        kinds[:, each, each], strengths[:, each, each], shared[each, each] = 0, 0.0, (0.0, 1.0, 0.0)
    return {
        "global_adjacency_": _array(shared, "target", "source", "kind", **pair, kind=list(KINDS)),
        "adjacency_": _array(kinds, "state", "target", "source", **pair),
        "strengths_": _array(strengths, "state", "target", "source", **pair),
    }


def _array(x: np.ndarray, *dims: str, **coords: Any) -> xr.DataArray:
    return xr.DataArray(np.asarray(x), dims=dims, coords=coords)
