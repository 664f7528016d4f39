"""Functional connectivity of a recording: which units go together, or ahead of each other."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float
from sklearn.covariance import LedoitWolf

from nissl.errors import InputError, unknown
from nissl.populations._pairwise import pairwise_correlation
from nissl.recordings import as_traces

Measure = Literal["correlation", "lagged", "partial"]
MEASURES = ("correlation", "lagged", "partial")


def functional_connectivity(
    recording: Any, measure: Measure = "correlation", *, lag: float | None = None, min_samples: int = 20
) -> xr.DataArray:
    """How strongly each pair of units goes together.

    Parameters
    ----------
    recording
        Activity `(time, unit)` in any form; NaN where missing. Several animals `(animal, time, unit)`, as
        `Collection.stack` gives them, are pooled, each about its own mean and by its own SD.
    measure
        `correlation`, symmetric; `lagged`: of the target now with the source `lag` seconds ago; `partial`: what remains
        of the correlation when all other units are known, from a covariance shrunk after Ledoit and Wolf (2004),
        symmetric.
    lag
        Seconds, for `lagged`; one sample where None.
    min_samples
        Samples that a pair must have in common; its value is NaN below that.

    Returns
    -------
    xarray.DataArray
        `(target, source)`; the diagonal is NaN.

    Raises
    ------
    InputError, UnknownNameError
        Too few samples, a lag shorter than a sample or longer than the recording; for `partial`, fewer complete samples
        than units have.

    Notes
    -----
    Correlations use, for every pair, the samples that both units have. Partial correlation uses samples that all
    units have.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=501)
    >>> x = xr.DataArray(np.stack([a[1:], a[:-1]], 1), dims=("time", "unit"), coords={"time": np.arange(500.0), "unit": ["first", "second"]})
    >>> float(functional_connectivity(x, "lagged").sel(target="second", source="first").round(3))
    1.0
    """
    if measure not in MEASURES:
        raise unknown("measure", measure, MEASURES)
    if lag is not None and measure != "lagged":
        raise InputError(f"lag={lag} belongs to measure='lagged', not to {measure!r}")
    x = as_traces(recording, ("animal", "time", "unit"), min_units=2, min_samples=min_samples, constant="keep")
    values = _standardised(x.values)
    if measure == "partial":
        found = _partial(values)
    else:
        shift = _shift(x, lag) if measure == "lagged" else 0
        now, before = values[:, shift:], values[:, : values.shape[1] - shift]
        found = pairwise_correlation(
            now.reshape(-1, now.shape[-1]), before.reshape(-1, before.shape[-1]), min_samples=min_samples
        )
    np.fill_diagonal(found, np.nan)
    names = x["unit"].values.astype(str)
    attrs = {"measure": measure} | ({"lag": lag} if lag is not None else {})
    return xr.DataArray(
        found, dims=("target", "source"), coords={"target": names, "source": names}, name="functional", attrs=attrs
    )


def _standardised(values: Float[np.ndarray, "animal time unit"]) -> Float[np.ndarray, "animal time unit"]:
    """About each unit's mean, by its SD, animal by animal; a unit that never changes says nothing and is NaN."""
    known = ~np.isnan(values)
    n = np.maximum(known.sum(1, keepdims=True), 1)
    centred = values - np.where(known, values, 0.0).sum(1, keepdims=True) / n
    sd = np.sqrt(np.where(known, centred**2, 0.0).sum(1, keepdims=True) / n)
    return centred / np.where(sd > 1e-12, sd, np.nan)


def _shift(x: xr.DataArray, lag: float | None) -> int:
    step = float(np.median(np.diff(x["time"].values)))
    shift = 1 if lag is None else round(lag / step)
    if not 1 <= shift < x.sizes["time"] // 2:
        raise InputError(
            f"a lag of {lag} s is {shift} samples of {x.sizes['time']}; give one from {step:.4g} s to half of the recording"
        )
    return shift


def _partial(values: Float[np.ndarray, "animal time unit"]) -> Float[np.ndarray, "target source"]:
    rows = values.reshape(-1, values.shape[-1])
    whole = rows[~np.isnan(rows).any(1)]
    if len(whole) < max(20, rows.shape[1] + 2):
        raise InputError(
            f"{len(whole)} sample(s) without a gap for {rows.shape[1]} units; partial correlation needs {max(20, rows.shape[1] + 2)}: leave out units with many "
            "gaps, or take measure='correlation'"
        )
    precision = np.asarray(LedoitWolf().fit(whole).get_precision())
    scale = np.sqrt(np.diag(precision))
    return -precision / np.outer(scale, scale)
