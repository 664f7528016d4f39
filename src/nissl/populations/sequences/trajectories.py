"""Scores of decoded trajectories, for many events and many shuffles at once."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

Method = Literal["weighted_correlation", "line"]


def score_trajectory(
    flat: Float[np.ndarray, "flat position"], real: Bool[np.ndarray, "event bin"], method: Method, within: int
) -> tuple[Float[np.ndarray, "event"], Float[np.ndarray, "event"]]:
    """Score and slope (position bins a bin) of each event; `flat` holds the bins that events have, one after another."""
    if method == "line":
        full = np.zeros((*real.shape, flat.shape[1]))
        full[real] = flat
        return best_line(full, real, within=within)
    first, second = (in_events(m, real) for m in position_moments(flat))
    return weighted_correlation(first, second, real)


def shifted_null(
    flat: np.ndarray, real: np.ndarray, method: Method, within: int, n: int, rng: np.random.Generator
) -> Float[np.ndarray, "shuffle event"]:
    """Scores with each bin's posterior moved around the track by a lag of its own."""
    size = flat.shape[1]
    lags = rng.integers(0, size, (n, len(flat)))
    if method == "line":
        source = (np.arange(size) - lags[..., None]) % size
        return np.stack([score_trajectory(np.take_along_axis(flat, s, 1), real, method, within)[0] for s in source])
    first, second = (in_events(np.take_along_axis(m, lags.T, 1).T, real) for m in shifted_moments(flat))
    return weighted_correlation(first, second, real)[0]


def reordered_null(
    flat: np.ndarray, real: np.ndarray, method: Method, within: int, n: int, rng: np.random.Generator
) -> Float[np.ndarray, "shuffle event"]:
    """Scores with each event's bins in random order."""
    event = np.repeat(np.arange(len(real)), real.sum(1))
    orders = np.argsort(event + rng.random((n, len(flat))), axis=1)  # keys are below 1: bins stay within their event
    if method == "line":
        return np.stack([score_trajectory(flat[o], real, method, within)[0] for o in orders])
    first, second = (in_events(m[orders], real) for m in position_moments(flat))
    return weighted_correlation(first, second, real)[0]


def in_events(
    values: Float[np.ndarray, "... flat"], real: Bool[np.ndarray, "event bin"]
) -> Float[np.ndarray, "... event bin"]:
    """Values of the bins that exist in a rectangle of events and bins, zero elsewhere."""
    if real.all():
        return values.reshape(*values.shape[:-1], *real.shape)
    out = np.zeros((*values.shape[:-1], *real.shape))
    out[..., real] = values
    return out


def position_moments(
    posterior: Float[np.ndarray, "... position"],
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Mean and mean square of the position bin under each posterior; all that weighted correlation needs of it."""
    x = np.arange(posterior.shape[-1], dtype=posterior.dtype)
    found = posterior @ np.stack([x, x**2], 1)
    return found[..., 0], found[..., 1]


def weighted_correlation(
    first: Float[np.ndarray, "... event bin"],
    second: Float[np.ndarray, "... event bin"],
    real: Bool[np.ndarray, "event bin"],
) -> tuple[Float[np.ndarray, "... event"], Float[np.ndarray, "... event"]]:
    """Correlation of time and position weighted with the posterior, and the slope of position on time (bins a bin).

    Parameters
    ----------
    first, second
        Moments of each bin's posterior.
    real
        Which bins an event has; the others pad it to the longest one.
    """
    n = real.sum(-1)
    bins = np.arange(real.shape[-1])
    time = np.where(real, bins - (bins * real).sum(-1, keepdims=True) / n[:, None], 0)
    spread_time = (time**2).sum(-1) / n
    mean = np.where(real, first, 0).sum(-1) / n
    spread = np.where(real, second, 0).sum(-1) / n - mean**2
    together = (time * np.where(real, first, 0)).sum(-1) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        return together / np.sqrt(spread_time * np.maximum(spread, 1e-300)), together / spread_time


def shifted_moments(
    posterior: Float[np.ndarray, "bin position"],
) -> tuple[Float[np.ndarray, "bin shift"], Float[np.ndarray, "bin shift"]]:
    """Both moments of each posterior after every circular shift of its positions; a shuffle then only looks them up."""
    size = posterior.shape[1]
    place = (np.arange(size)[:, None] + np.arange(size)) % size  # (position, shift)
    return posterior @ place.astype(float), posterior @ (place.astype(float) ** 2)


def best_line(
    posterior: Float[np.ndarray, "event bin position"],
    real: Bool[np.ndarray, "event bin"],
    *,
    within: int,
    step: int = 2,
) -> tuple[Float[np.ndarray, "event"], Float[np.ndarray, "event"]]:
    """Largest mean probability within so many position bins of a straight line, and that line's slope (bins a bin).

    Lines join every `step`-th position at an event's first bin with every `step`-th at its last (Davidson et al. 2009).
    """
    events, bins, size = posterior.shape
    ends = np.arange(0, size, step)
    begin, stop = (g.ravel() for g in np.meshgrid(ends, ends, indexing="ij"))
    n = real.sum(1)
    running = np.concatenate([np.zeros((events, bins, 1), posterior.dtype), np.cumsum(posterior, 2)], 2)
    low, high = np.maximum(np.arange(size) - within, 0), np.minimum(np.arange(size) + within + 1, size)
    near = np.where(real[..., None], running[..., high] - running[..., low], 0)
    best, slope = np.empty(events), np.empty(events)
    for count in np.unique(n):  # events of one length share their lines
        mine = np.flatnonzero(n == count)
        total = np.zeros((len(mine), len(begin)), posterior.dtype)
        for b in range(count):
            at: Int[np.ndarray, "line"] = np.rint(begin + (stop - begin) * (b / max(count - 1, 1))).astype(int)
            total += near[mine, b][:, at]
        top = total.argmax(1)
        best[mine] = total[np.arange(len(mine)), top] / count
        slope[mine] = (stop - begin)[top] / max(count - 1, 1)
    return best, slope
