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

from nissl.errors import InputError
from nissl.populations.motifs.slopes import MISSING, animal_traces, clock, slopes, smoothed, states, thresholds

COMBINE = ("min", "geometric", "product")
SIGN = ("any", "same")
BLOCK = 2**22  # numbers worked on at a time while going through the pairs


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
    >>> [round(float(v), 2) for v in a.mean("time")]
    [0.27, 0.0, 0.0]

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
    traces, several = animal_traces(x, rate)
    slope = slopes(traces, smooth=smooth, scale=scale).values
    state = states(slope, thresholds(traces, threshold, smooth, scale))
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
    traces, several = animal_traces(x, rate)
    step = clock(traces)
    half = round(window / step) // 2
    n = traces.sizes["time"]
    if half < 1 or 2 * half + 1 > n:
        raise InputError(
            f"a window of {window} s; it must hold three samples ({3 * step:.3g} s) and fit into {n * step:.4g} s"
        )
    low, high = np.maximum(np.arange(n) - half, 0), np.minimum(np.arange(n) + half + 1, n)
    values = smoothed(traces.values, smooth, step)
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
    [0.5, 2.6]
    """
    traces, _ = animal_traces(x, rate)
    slope = slopes(traces, smooth=smooth, scale=scale).values
    state = states(slope, thresholds(traces, threshold, smooth, scale)).swapaxes(1, 2)
    begins = np.diff(state, axis=-1, prepend=-9) != 0
    starts = np.flatnonzero(begins)
    lengths = np.diff(np.append(starts, begins.size))
    moving = np.abs(state.ravel()[starts]) == 1
    return lengths[moving] * clock(traces)


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
    value[(s == MISSING) | (t == MISSING)] = np.nan
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
