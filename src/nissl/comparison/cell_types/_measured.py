"""Responses that an experiment measured, checked and averaged; and how clearly a unit prefers one stimulus."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from nissl.errors import InputError


def measured(responses: Any, n_stimuli: int) -> tuple[np.ndarray, Any]:
    """Responses `(stimulus, unit)`, averaged over repeats, and the names of the units."""
    names = responses["unit"].values if isinstance(responses, xr.DataArray) and "unit" in responses.coords else None
    if isinstance(responses, xr.DataArray):
        if not {"stimulus", "unit"} <= set(responses.dims):
            raise InputError(f"responses with dims {responses.dims}; they need stimulus and unit (and perhaps repeat)")
        responses = responses.transpose(..., "stimulus", "unit").values
    values = responses.detach().cpu().numpy() if isinstance(responses, Tensor) else np.asarray(responses)
    values = values.astype(float)
    if values.ndim not in (2, 3) or values.shape[-2] != n_stimuli:
        raise InputError(
            f"responses of shape {values.shape}; give ({n_stimuli} stimuli, units), or (repeats, {n_stimuli} stimuli, units)"
        )
    if np.isinf(values).any():
        raise InputError("infinite responses")
    if values.ndim == 3:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            values = np.nanmean(values, 0)
    names = np.arange(values.shape[1]) if names is None else names
    missing = np.isnan(values).any(0)
    if missing.any():
        some = [repr(n) for n in np.asarray(names)[missing][:8]]
        raise InputError(
            f"units {', '.join(some)} have no response (NaN) to some stimulus; leave them out, or measure again"
        )
    return values, names


def unit_margin(values: np.ndarray) -> np.ndarray:
    """Best minus second best, a unit; infinite where there is one stimulus only."""
    if len(values) == 1:
        return np.full(values.shape[1], np.inf)
    top = np.partition(values, -2, axis=0)
    return top[-1] - top[-2]
