"""Traces on one scale, their slopes, and whether a slope is more than noise."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d

from nissl.errors import InputError
from nissl.recordings import as_traces

SCALE = ("minmax", "percentile", "none")
NOISE_FACTOR = 2.0  # standard deviations of a noisy slope that count as standing still
MISSING = 2  # state of a slope that is not known


def slopes(
    traces: xr.DataArray, *, smooth: float = 0.5, scale: Literal["minmax", "percentile", "none"] = "minmax"
) -> xr.DataArray:
    """Derivative of traces `(animal, time, unit)`, rescaled and smoothed, in ranges a second.

    Central differences; one-sided beside a gap; NaN where a sample is missing or alone.

    Examples
    --------
    >>> ramp = as_traces(np.arange(8.0)[:, None], ("animal", "time", "unit"))
    >>> slopes(ramp, smooth=0, scale="none").values.ravel().tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    step = clock(traces)
    values = smoothed(rescaled(traces.values, scale), smooth, step)
    forward = np.diff(values, axis=1) / np.diff(traces["time"].values)[:, None]
    edge = np.full_like(values[:, :1], np.nan)
    after, before = np.concatenate([forward, edge], 1), np.concatenate([edge, forward], 1)
    gap = np.diff(traces["time"].values)
    weight_before = np.append(gap, gap[-1])[:, None]  # the step after a sample weighs the slope before it
    weight_after = np.insert(gap, 0, gap[0])[:, None]
    central = (before * weight_before + after * weight_after) / (weight_before + weight_after)
    central = np.where(np.isnan(before), after, np.where(np.isnan(after), before, central))
    return traces.copy(data=np.where(np.isnan(values), np.nan, central))


def rescaled(
    values: Float[np.ndarray, "animal time unit"], scale: str = "minmax"
) -> Float[np.ndarray, "animal time unit"]:
    """Each trace with a range of 1 from its least value on; constant ones become 0."""
    if scale not in SCALE:
        raise InputError(f"scale = {scale!r}; allowed: {', '.join(map(repr, SCALE))}")
    if scale == "none":
        return values
    known = ~np.isnan(values).all(1, keepdims=True)
    filled = np.where(known, values, 0.0)  # an animal's unrecorded units, so that the quantiles do not warn
    low, high = np.nanquantile(filled, (0, 1) if scale == "minmax" else (0.01, 0.99), axis=1, keepdims=True)
    return (values - low) / np.where(high > low, high - low, 1)


def smoothed(values: np.ndarray, smooth: float, step: float) -> np.ndarray:
    """Gaussian over time, over the samples that are there."""
    if not smooth >= 0:
        raise InputError(f"smooth = {smooth} s; give a standard deviation of at least 0")
    if not smooth:
        return values
    if 6 * smooth > step * values.shape[1]:
        raise InputError(
            f"a recording of {step * values.shape[1]:.4g} s is shorter than the smoothing ({smooth} s to either side, three "
            "times over); make smooth smaller"
        )
    known = ~np.isnan(values)

    def blur(v: np.ndarray) -> np.ndarray:
        return gaussian_filter1d(v, smooth / step, axis=1, mode="constant")

    weight = blur(known.astype(float))
    return np.divide(blur(np.where(known, values, 0)), weight, out=np.full(values.shape, np.nan), where=known)


def thresholds(traces: xr.DataArray, threshold: float | str, smooth: float, scale: str) -> np.ndarray:
    """The slope (ranges a second) up to which each trace stands still, (animal, 1, unit)."""
    values, step = rescaled(traces.values, scale), clock(traces)
    if threshold != "noise":
        if isinstance(threshold, str) or not threshold >= 0:
            raise InputError(f"threshold = {threshold!r}; give a slope of at least 0 ranges a second, or 'noise'")
        return np.full((len(values), 1, values.shape[2]), float(threshold))
    # White noise of standard deviation s has second differences of s sqrt(6); signals change too seldom to move their median.
    bend = np.abs(np.diff(values, 2, axis=1))
    noise = (
        np.nanmedian(np.where(np.isnan(bend).all(1, keepdims=True), 0.0, bend), axis=1, keepdims=True) / 0.6745 / 6**0.5
    )
    # What smoothing and central differences leave of it: the norm of their response to a single sample.
    reach = int(np.ceil(4 * smooth / step)) + 2
    impulse = (np.arange(-reach, reach + 1) == 0).astype(float)
    response = gaussian_filter1d(impulse, smooth / step, mode="constant") if smooth else impulse
    gain = np.linalg.norm(response[2:] - response[:-2]) / (2 * step)
    return np.maximum(NOISE_FACTOR * gain * noise, 1e-3)


def states(slope: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Sign of each slope (0 for standing still), and a state of its own for missing."""
    with np.errstate(invalid="ignore"):
        state = np.sign(slope) * (np.abs(slope) > threshold)
    return np.where(np.isnan(slope), MISSING, np.nan_to_num(state)).astype(np.int8)


def animal_traces(x: Any, rate: float | None) -> tuple[xr.DataArray, bool]:
    """Traces (animal, time, unit), and whether `x` had an axis of animals."""
    traces = as_traces(x, ("animal", "time", "unit"), rate=rate, min_units=2, min_samples=3, constant="keep")
    several = traces.sizes["animal"] > 1 or len(getattr(x, "dims", ())) == 3 or np.ndim(x) == 3
    return traces, several


def clock(traces: xr.DataArray) -> float:
    """Seconds from sample to sample."""
    steps = np.diff(traces["time"].values)
    step = float(np.median(steps))
    if np.abs(steps - step).max() > 0.1 * step:
        raise InputError(
            f"a clock with steps from {steps.min():.4g} to {steps.max():.4g} s; bring it onto an even one first: recordings.homogenise(recording, dt={step:.4g})"
        )
    return step
