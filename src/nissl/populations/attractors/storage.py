"""How much can a network hold, and how much noise does it repair? For any network that can be run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError
from nissl.populations.attractors.memories import noisy

Network = Any  # something with `recall`, or a function from states to the next states


@dataclass(frozen=True)
class Basin:
    """How much noise a network repairs.

    Attributes
    ----------
    size
        The largest noise up to which enough states are recalled at every level; NaN where even clean patterns are lost.
    recalled
        Share of recalled states (noise, pattern).
    """

    size: float
    recalled: xr.DataArray

    def __str__(self) -> str:
        return f"repairs up to {self.size:.1%} of units turned over"


def basin_size(
    network: Network,
    patterns: Any,
    *,
    noise: Iterable[float] = tuple(np.arange(0, 0.5, 0.05).round(3)),
    n_trials: int = 20,
    overlap: float = 0.95,
    share: float = 0.9,
    max_steps: int = 50,
    seed: int = 0,
) -> Basin:
    """Size of the basins of attraction: patterns are disturbed, the network runs, and what it arrives at is compared.

    Parameters
    ----------
    network
        Something with `recall(states)`, or a function from states `(state, unit)` to the next ones, which is run for `max_steps`.
    patterns
        `(pattern, unit)` of -1 and 1.
    noise
        Shares of units turned over.
    n_trials
        Disturbed copies of each pattern a level.
    overlap, share
        A state counts as recalled above this overlap; a level as repaired if this share of states is recalled.

    Returns
    -------
    Basin
    """
    p = np.asarray(patterns, dtype=float)
    levels = np.array(sorted(noise), dtype=float)
    if not len(levels) or not ((levels >= 0) & (levels <= 1)).all():
        raise InputError(f"noise levels {levels.tolist()}; give shares from 0 to 1")
    rng = np.random.default_rng(seed)
    start = np.stack([noisy(np.broadcast_to(p, (n_trials, *p.shape)), level, rng) for level in levels])
    end = _settled(network, start.reshape(-1, p.shape[1]), max_steps).reshape(start.shape)
    good = ((end * p).mean(-1) > overlap).mean(1)
    recalled = xr.DataArray(good, dims=("noise", "pattern"), coords={"noise": levels, "pattern": np.arange(len(p))})
    enough = np.logical_and.accumulate(good.mean(1) >= share)
    return Basin(float(levels[enough][-1]) if enough.any() else float("nan"), recalled)


def recalled_share(
    network: Network, patterns: Any, *, noise: float = 0.1, overlap: float = 0.95, seed: int = 0
) -> float:
    """Share of patterns that are recalled from one noisy copy each."""
    return float(basin_size(network, patterns, noise=[noise], n_trials=1, overlap=overlap, seed=seed).recalled.mean())


def capacity(
    make: Callable[[np.ndarray], Network],
    n_units: int,
    numbers: Iterable[int],
    *,
    score: Callable[[Network, np.ndarray], float] = recalled_share,
    n_networks: int = 5,
    seed: int = 0,
) -> xr.DataArray:
    """Capacity curve: networks are made to store more and more random patterns.

    Parameters
    ----------
    make
        From patterns `(pattern, unit)` to a network that stores them, such as ``lambda p: HopfieldMemory().fit(p)``.
    n_units
        Of every network.
    numbers
        Of patterns.
    score
        From a network and its patterns to how well it does; by default the share recalled from 10 % noise.
    n_networks
        A number of patterns.

    Returns
    -------
    DataArray (n_patterns, network)

    Examples
    --------
    >>> from nissl.populations.attractors import HopfieldMemory
    >>> curve = capacity(lambda p: HopfieldMemory().fit(p), 200, [5, 60], n_networks=2)
    >>> bool(curve[0].mean() > 0.95 > 0.5 > curve[1].mean())
    True
    """
    sizes = list(numbers)
    if not sizes or min(sizes) < 1 or n_networks < 1:
        raise InputError(f"numbers of patterns {sizes} and {n_networks} networks; both from 1")
    rng = np.random.default_rng(seed)
    values = np.empty((len(sizes), n_networks))
    for i, size in enumerate(sizes):
        for j in range(n_networks):
            patterns = rng.choice([-1.0, 1.0], (size, n_units))
            values[i, j] = score(make(patterns), patterns)
    return xr.DataArray(values, dims=("n_patterns", "network"), coords={"n_patterns": sizes})


def _settled(network: Network, states: np.ndarray, max_steps: int) -> np.ndarray:
    if hasattr(network, "recall"):
        return np.asarray(network.recall(states), dtype=float)
    for _ in range(max_steps):
        after = np.asarray(network(states), dtype=float)
        if np.array_equal(after, states):
            break
        states = after
    return states
