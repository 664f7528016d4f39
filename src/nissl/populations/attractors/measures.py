"""Which memory is a network in, for how long, and what comes next? For any network's states."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError, unknown


def overlaps(states: Any, patterns: Any, *, method: Literal["dot", "cosine", "correlation"] = "dot") -> xr.DataArray:
    """Similarity of states with patterns.

    Parameters
    ----------
    states
        `(..., unit)`; a DataArray keeps its other axes, an array of three is `(trial, time, unit)` and one of two `(time, unit)`.
    patterns
        `(pattern, unit)`, stored ones or found by `discover_patterns`.
    method
        "dot" is the mean product, for states of -1 and 1; "cosine" and "correlation" suit activity of any scale, the latter also
        forgets each state's mean.

    Returns
    -------
    DataArray (..., pattern)

    Raises
    ------
    InputError
        Different numbers of units, or a state or pattern without direction (all zeros, or constant).

    Examples
    --------
    >>> patterns = np.array([[1.0, 1, 1, 1], [1, 1, -1, -1]])
    >>> overlaps(patterns, patterns).values.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if method not in ("dot", "cosine", "correlation"):
        raise unknown("method", method, ("dot", "cosine", "correlation"))
    x = _states(states)
    p = np.asarray(patterns.detach().cpu() if hasattr(patterns, "detach") else patterns, dtype=float)
    if p.ndim != 2 or p.shape[1] != x.sizes["unit"]:
        raise InputError(f"patterns of shape {p.shape} for {x.sizes['unit']} units; give (pattern, unit)")
    values = x.to_numpy()
    if method == "dot":
        out = values @ p.T / p.shape[1]
    else:
        out = _directions(values, method, "states") @ _directions(p, method, "patterns").T
    dims = (*x.dims[:-1], "pattern")
    coords = {k: v for k, v in x.coords.items() if "unit" not in v.dims}
    return xr.DataArray(out, dims=dims, coords={**coords, "pattern": np.arange(len(p))}, name="overlap")


def _directions(x: np.ndarray, method: str, name: str) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True) if method == "correlation" else x
    size = np.linalg.norm(x, axis=-1, keepdims=True)
    if not (size > 1e-12).all():
        raise InputError(
            f"{int((size <= 1e-12).sum())} of the {name} have no direction (all zeros, or constant); leave them out"
        )
    return x / size


def discover_patterns(
    states: Any, n_patterns: int, *, slowest: float = 0.5, seed: int = 0
) -> Float[np.ndarray, "pattern unit"]:
    """Patterns that a network dwells in: cluster centres of the states in which it moves least.

    Parameters
    ----------
    states
        `(..., time, unit)`.
    n_patterns
        How many to look for.
    slowest
        Share of states kept, those with the smallest step to the next.

    Returns
    -------
    ndarray (pattern, unit)
    """
    from sklearn.cluster import KMeans

    x = _states(states).to_numpy()
    if x.shape[-2] < 2 or not 0 < slowest <= 1:
        raise InputError(
            f"states of shape {x.shape} and slowest = {slowest}; give two moments at least, and a share in (0, 1]"
        )
    speed = np.linalg.norm(np.diff(x, axis=-2), axis=-1)
    slow = x[..., :-1, :][speed <= np.quantile(speed, slowest)]
    if len(np.unique(slow, axis=0)) < n_patterns:
        raise InputError(
            f"{n_patterns} patterns wanted, but there are only {len(np.unique(slow, axis=0))} different states"
        )
    return KMeans(n_patterns, n_init=10, random_state=seed).fit(slow).cluster_centers_  # type: ignore[arg-type]


def visits(overlap: Any, *, threshold: float = 0.5) -> pd.DataFrame:
    """Stays in patterns: from when a pattern's overlap is the largest and above a threshold, until another's is.

    Moments below the threshold belong to nobody; a pattern that is left for nobody and comes back is still the same stay.

    Parameters
    ----------
    overlap
        `(time, pattern)` or `(trial, time, pattern)`.
    threshold
        Least overlap of a stay.

    Returns
    -------
    DataFrame
        A row a stay: trial, pattern, start, stop, dwell (in the units of `time`, steps for arrays), overlap (the largest). The last
        stay of a trial is cut off by its end, as `complete` says.

    Examples
    --------
    >>> stays = visits(np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [0, 1]]))
    >>> stays[["pattern", "start", "dwell"]].values.tolist()
    [[0.0, 0.0, 2.0], [1.0, 2.0, 3.0]]
    """
    m = _overlap(overlap)
    time = m["time"].to_numpy().astype(float)
    step = float(np.median(np.diff(time))) if len(time) > 1 else 1.0
    values = m.to_numpy()
    best = np.where(values.max(-1) >= threshold, values.argmax(-1), -1)
    # Nobody's moments are given to whoever was there last.
    moment = np.where(best >= 0, np.arange(best.shape[1]), -1)
    last = np.maximum.accumulate(moment, axis=1)
    held = np.where(last >= 0, np.take_along_axis(best, np.maximum(last, 0), 1), -1)
    begins = (held != np.roll(held, 1, 1)) & (held >= 0)
    begins[:, 0] = held[:, 0] >= 0
    trial, at = np.nonzero(begins)
    if not len(trial):
        raise InputError(
            f"no pattern ever reaches an overlap of {threshold}; the largest is {values.max():.3g}. Lower the threshold"
        )
    # A stay ends where the next of its trial begins, or when the trial does.
    same = np.append(np.diff(trial) == 0, False)
    end = np.where(same, np.append(at[1:], 0), best.shape[1])
    stop = np.append(time, time[-1] + step)[end]
    pattern = held[trial, at]
    held_overlap = np.take_along_axis(values, np.maximum(held, 0)[..., None], -1)[..., 0]
    held_overlap = np.where(held >= 0, held_overlap, -np.inf)
    running = np.maximum.reduceat(held_overlap.ravel(), trial * len(time) + at)
    return pd.DataFrame(
        {
            "trial": trial, "pattern": pattern, "start": time[at], "stop": stop, "dwell": stop - time[at],
            "overlap": running, "complete": same,
        }
    )  # fmt: skip


def transitions(stays: pd.DataFrame, n_patterns: int | None = None) -> xr.DataArray:
    """Counts of transitions between patterns.

    Returns
    -------
    DataArray (target, source)
        Element [i, j] counts from j to i.

    Examples
    --------
    >>> transitions(pd.DataFrame({"trial": 0, "pattern": [0, 1, 0, 1]})).values.tolist()
    [[0, 1], [2, 0]]
    """
    pattern, trial = stays["pattern"].to_numpy(), stays["trial"].to_numpy()
    n = n_patterns or int(pattern.max()) + 1
    if pattern.max() >= n:
        raise InputError(f"stays in pattern {pattern.max()}, but n_patterns = {n}")
    within = np.diff(trial) == 0
    counts = np.zeros((n, n), int)
    np.add.at(counts, (pattern[1:][within], pattern[:-1][within]), 1)
    names = np.arange(n)
    return xr.DataArray(
        counts, dims=("target", "source"), coords={"target": names, "source": names}, name="transitions"
    )


def successor_share(counts: xr.DataArray, successors: Any = None) -> float:
    """Share of transitions that lead to a pattern's successor, by default the next in number (the last leads to the first).

    Raises
    ------
    InputError
        There are no transitions.
    """
    table = np.asarray(counts)
    n = len(table)
    follow = (np.arange(n) + 1) % n if successors is None else np.asarray(successors)
    if follow.shape != (n,):
        raise InputError(f"{len(follow)} successors of {n} patterns")
    if table.sum() == 0:
        raise InputError("no transitions: the network stayed where it was, so there is no order to speak of")
    leads = follow >= 0
    return float(table[follow[leads], np.flatnonzero(leads)].sum() / table.sum())


def _states(states: Any) -> xr.DataArray:
    if isinstance(states, xr.DataArray):
        if "unit" not in states.dims:
            raise InputError(f"states with dims {states.dims}; one of them must be 'unit'")
        out = states.transpose(..., "unit").astype(float)
    else:
        values = np.asarray(states.detach().cpu() if hasattr(states, "detach") else states, dtype=float)
        if not 1 <= values.ndim <= 3:
            raise InputError(f"states of shape {values.shape}; give (time, unit) or (trial, time, unit)")
        out = xr.DataArray(values, dims=("trial", "time", "unit")[3 - values.ndim :])
    if not np.isfinite(out).all():
        raise InputError("states hold NaN or infinity; leave those moments out")
    return out


def _overlap(overlap: Any) -> xr.DataArray:
    m = overlap if isinstance(overlap, xr.DataArray) else None
    if m is None:
        values = np.asarray(overlap, dtype=float)
        if values.ndim not in (2, 3):
            raise InputError(f"overlap of shape {values.shape}; give (time, pattern) or (trial, time, pattern)")
        m = xr.DataArray(values, dims=("trial", "time", "pattern")[3 - values.ndim :])
    if "trial" not in m.dims:
        m = m.expand_dims("trial")
    m = m.transpose("trial", "time", "pattern")
    return m if "time" in m.coords else m.assign_coords(time=np.arange(m.sizes["time"], dtype=float))
