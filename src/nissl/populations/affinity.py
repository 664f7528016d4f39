"""How much two neurons change together, moment by moment.

A sliding window has a length that somebody chose. The differential affinity finds its windows in the data: a pair's window
lasts as long as neither neuron turns round, and its value there is what both did at least: the smaller of the two mean
absolute slopes. Two silent neurons get zero, however alike they look; a rise beside a fall counts.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from nissl.errors import InputError
from nissl.recordings import as_traces

COMBINE = ("min", "geometric", "product")
SIGN = ("any", "same")
SCALE = ("minmax", "percentile", "none")
BLOCK = 2**22  # numbers worked on at a time while going through the pairs
NOISE_FACTOR = 2.0  # standard deviations of a noisy slope that count as standing still
_MISSING = 2


def differential_affinity(
    x: Any,
    *,
    rate: float | None = None,
    combine: Literal["min", "geometric", "product"] = "min",
    sign: Literal["any", "same"] = "any",
    smooth: float = 0.5,
    scale: Literal["minmax", "percentile", "none"] = "minmax",
    threshold: float | Literal["noise"] = "noise",
    ceiling: float | None = 0.99,
) -> xr.DataArray:
    """Affinity of every pair of units at every sample, from the runs over which neither changes the sign of its slope.

    On a run with mean absolute slopes m_i and m_j the affinity is min(m_i, m_j); where one of the two stands still it is 0.

    Parameters
    ----------
    x
        Traces `(time, unit)` or `(animal, time, unit)`, NaN where not recorded; anything that `recordings.as_traces` takes.
    rate
        Samples a second, for arrays without a clock.
    combine
        How two slopes make an affinity: the smaller, the geometric mean, or the product.
    sign
        "any": a rise beside a fall counts; "same": only slopes of the same sign do.
    smooth
        Standard deviation in seconds of the Gaussian that traces are smoothed with; 0 for none. Without it noise turns the slopes
        round at every other sample: look at `run_lengths`.
    scale
        Each trace is brought to a range of 1 first: its own range, or that from its 1st to its 99th percentile; "none" for traces
        that are on one scale already.
    threshold
        Slopes up to this (ranges a second) count as standing still. "noise": twice the standard deviation that each trace's own noise
        gives its slope, judged by the trace's second differences, and 0.001 at least.
    ceiling
        The whole is divided by this quantile of its positive values and cut off at 1; None for affinities in ranges a second.

    Returns
    -------
    xr.DataArray
        float32, `(time, pair)`, or `(time, animal, pair)` for several animals, with the coordinates `first` and `second`, the names
        of each pair's units (the upper triangle, row by row). NaN where either is missing.

    Raises
    ------
    InputError
        A recording shorter than the smoothing, a clock with jumps, an option that does not exist.

    Examples
    --------
    >>> t = np.arange(80) / 4
    >>> x = np.stack([np.sin(t), -np.sin(t), np.zeros(80)], 1)
    >>> a = differential_affinity(xr.DataArray(x, dims=("time", "unit"), coords={"time": t}), ceiling=None)
    >>> a.mean("time").round(3).values.tolist()
    [0.302, 0.0, 0.0]

    Notes
    -----
    Dyballa and Zucker, "Learning dynamic representations of the functional connectome in neurobiological networks": the paper
    states these ingredients in words; the formula is ours.
    """
    for name, value, allowed in (("combine", combine, COMBINE), ("sign", sign, SIGN)):
        if value not in allowed:
            raise InputError(f"{name} = {value!r}; allowed: {', '.join(map(repr, allowed))}")
    if ceiling is not None and not 0 < ceiling <= 1:
        raise InputError(f"ceiling = {ceiling}; give a quantile above 0 and at most 1, or None")
    traces, several = _traces(x, rate)
    slope = slopes(traces, smooth=smooth, scale=scale).values
    state = _states(slope, _thresholds(traces, threshold, smooth, scale))
    first, second = np.triu_indices(slope.shape[2], 1)
    out = np.empty((slope.shape[1], len(slope), len(first)), dtype=np.float32)
    step = max(1, BLOCK // slope.shape[1])
    for animal in range(len(slope)):
        size = np.abs(np.nan_to_num(slope[animal])).T
        total = np.concatenate([np.zeros((len(size), 1)), np.cumsum(size, axis=1)], axis=1)
        for block in range(0, len(first), step):
            here = slice(block, block + step)
            found = _run_affinity(state[animal].T, total, first[here], second[here], combine, sign == "same")
            out[:, animal, here] = found.T
    if ceiling is not None:
        _squash(out, ceiling)
    return _pairs(
        out, traces, several, {"combine": combine, "sign": sign, "smooth": smooth, "affinity": "differential"}
    )


def sliding_correlation(
    x: Any,
    *,
    rate: float | None = None,
    window: float = 10.0,
    sign: Literal["any", "same"] = "any",
    smooth: float = 0.0,
) -> xr.DataArray:
    """The customary alternative: Pearson's correlation of every pair in a window around every sample.

    Parameters
    ----------
    x, rate
        As in `differential_affinity`.
    window
        Length in seconds; at the ends the part of it that there is.
    sign
        "any" for the absolute correlation, "same" for its positive part.
    smooth
        Standard deviation in seconds of a Gaussian before.

    Returns
    -------
    xr.DataArray
        As from `differential_affinity`, from 0 to 1; 0 where either is constant over the window, NaN where either lacks a sample
        in it.

    Raises
    ------
    InputError
        A window of fewer than three samples or longer than the recording.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(50, 1)) * [[1.0, -2.0]]
    >>> float(sliding_correlation(x, window=10.0).min().round(4))
    1.0
    """
    if sign not in SIGN:
        raise InputError(f"sign = {sign!r}; allowed: {', '.join(map(repr, SIGN))}")
    traces, several = _traces(x, rate)
    step = _clock(traces)
    half = round(window / step) // 2
    n = traces.sizes["time"]
    if half < 1 or 2 * half + 1 > n:
        raise InputError(
            f"a window of {window} s; it must hold three samples ({3 * step:.3g} s) and fit into {n * step:.4g} s"
        )
    low, high = np.maximum(np.arange(n) - half, 0), np.minimum(np.arange(n) + half + 1, n)
    values = _smoothed(traces.values, smooth, step)
    # Standardised for the sake of rounding only; an animal's unrecorded units stay NaN.
    known = ~np.isnan(values)
    count = np.maximum(known.sum(1, keepdims=True), 1)
    values = values - np.where(known, values, 0).sum(1, keepdims=True) / count
    spread = np.sqrt(np.where(known, values**2, 0).sum(1, keepdims=True) / count)
    values = values / np.where(spread > 0, spread, 1)
    first, second = np.triu_indices(values.shape[2], 1)
    out = np.empty((n, len(values), len(first)), dtype=np.float32)

    def mean(v: np.ndarray) -> np.ndarray:
        total = np.concatenate([np.zeros((1, v.shape[1])), np.cumsum(v, axis=0)])
        return (total[high] - total[low]) / (high - low)[:, None]

    for animal, own in enumerate(values):
        gap = mean(np.isnan(own).astype(float)) > 0
        own = np.nan_to_num(own)
        centre = mean(own)
        variance = mean(own**2) - centre**2
        variance[variance < 1e-10] = np.inf
        for block in range(0, len(first), max(1, BLOCK // n)):
            here = slice(block, block + max(1, BLOCK // n))
            i, j = first[here], second[here]
            r = (mean(own[:, i] * own[:, j]) - centre[:, i] * centre[:, j]) / np.sqrt(variance[:, i] * variance[:, j])
            r = np.abs(r) if sign == "any" else r
            out[:, animal, here] = np.where(gap[:, i] | gap[:, j], np.nan, r.clip(0, 1))
    return _pairs(out, traces, several, {"window": window, "sign": sign, "affinity": "correlation"})


def run_lengths(
    x: Any,
    *,
    rate: float | None = None,
    smooth: float = 0.5,
    scale: Literal["minmax", "percentile", "none"] = "minmax",
    threshold: float | Literal["noise"] = "noise",
) -> Float[np.ndarray, "run"]:
    """How long, in seconds, single units keep the sign of their slope: where most runs last one or two samples, the slopes are
    noise, and `smooth` is too small.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(400, 3))
    >>> [float(run_lengths(noise, rate=4.0, smooth=s, threshold=0.0).mean().round(1)) for s in (0.0, 1.0)]
    [0.4, 1.8]
    """
    traces, _ = _traces(x, rate)
    slope = slopes(traces, smooth=smooth, scale=scale).values
    state = _states(slope, _thresholds(traces, threshold, smooth, scale)).swapaxes(1, 2)
    begins = np.diff(state, axis=-1, prepend=-9) != 0
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, begins.size))
    moving = np.abs(state.ravel()[starts]) == 1
    return lengths[moving] * _clock(traces)


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
    step = _clock(traces)
    values = _smoothed(rescaled(traces.values, scale), smooth, step)
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


def _smoothed(values: np.ndarray, smooth: float, step: float) -> np.ndarray:
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


def _traces(x: Any, rate: float | None) -> tuple[xr.DataArray, bool]:
    """Traces (animal, time, unit), and whether `x` had an axis of animals."""
    traces = as_traces(x, ("animal", "time", "unit"), rate=rate, min_units=2, min_samples=3, constant="keep")
    several = traces.sizes["animal"] > 1 or len(getattr(x, "dims", ())) == 3 or np.ndim(x) == 3
    return traces, several


def _clock(traces: xr.DataArray) -> float:
    """Seconds from sample to sample."""
    steps = np.diff(traces["time"].values)
    step = float(np.median(steps))
    if np.abs(steps - step).max() > 0.1 * step:
        raise InputError(
            f"a clock with steps from {steps.min():.4g} to {steps.max():.4g} s; resample the recording to an even rate first"
        )
    return step


def _thresholds(traces: xr.DataArray, threshold: float | str, smooth: float, scale: str) -> np.ndarray:
    """The slope (ranges a second) up to which each trace stands still, (animal, 1, unit)."""
    values, step = rescaled(traces.values, scale), _clock(traces)
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


def _states(slope: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Sign of each slope (0 for standing still), and a state of its own for missing."""
    with np.errstate(invalid="ignore"):
        state = np.sign(slope) * (np.abs(slope) > threshold)
    return np.where(np.isnan(slope), _MISSING, np.nan_to_num(state)).astype(np.int8)


def _run_affinity(
    state: Int[np.ndarray, "unit time"],
    total: Float[np.ndarray, "unit time"],
    first: Int[np.ndarray, "pair"],
    second: Int[np.ndarray, "pair"],
    combine: str,
    same: bool,
) -> Float[np.ndarray, "pair time"]:
    """Affinity of some pairs; `total` is the running sum of absolute slopes, so that a run costs two look-ups."""
    change = np.diff(state, axis=1, prepend=-9) != 0
    begins = change[first] | change[second]
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, begins.size))
    pair, begin = np.divmod(starts, begins.shape[1])
    i, j = first[pair], second[pair]
    a, b = ((total[u, begin + lengths] - total[u, begin]) / lengths for u in (i, j))
    value = np.minimum(a, b) if combine == "min" else np.sqrt(a * b) if combine == "geometric" else a * b
    s, t = state[i, begin], state[j, begin]
    value[(s == 0) | (t == 0)] = 0
    if same:
        value[s != t] = 0
    value[(s == _MISSING) | (t == _MISSING)] = np.nan
    return np.repeat(value, lengths).reshape(begins.shape)


def _squash(a: np.ndarray, quantile: float) -> None:
    """Divide by a quantile of the positive values and cut at 1, in place."""
    positive = a[a > 0]
    if len(positive):
        a /= np.quantile(positive, quantile, overwrite_input=True)
        np.minimum(a, 1, out=a)


def _pairs(out: np.ndarray, traces: xr.DataArray, several: bool, attrs: dict[str, Any]) -> xr.DataArray:
    names = traces["unit"].values
    first, second = np.triu_indices(len(names), 1)
    coords: dict[str, Any] = {
        "time": traces["time"].values,
        "first": ("pair", names[first]),
        "second": ("pair", names[second]),
    }
    if "animal" in traces.coords:
        coords["animal"] = traces["animal"].values
    found = xr.DataArray(out, dims=("time", "animal", "pair"), coords=coords, name="affinity", attrs=attrs)
    return found if several else found.isel(animal=0, drop=True)
