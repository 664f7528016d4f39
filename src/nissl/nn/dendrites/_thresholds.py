"""Which thresholds a dendrite should have: rare false matches over many assumptions, and the least error in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError, unknown
from nissl.nn.dendrites._probability import any_match_probability, match_probability, miss_probability
from nissl.nn.dendrites._sizes import sizes

# Generous assumptions about cortex: sizes of populations that a dendrite can reach, sparseness, synapses that lie close together.
ASSUMPTIONS = {
    "n": (1000, 5000, 9000, 13_000, 17_000),
    "sparsity": (0.005, 0.01, 0.015, 0.02, 0.025, 0.03),
    "s": (20, 25, 30, 35, 40, 45, 50),
}


def optimal_threshold(
    grid: Mapping[str, Sequence[float]] | None = None, *, thresholds: Sequence[int] = range(1, 21), tol: float = 1e-7
) -> xr.Dataset:
    """False matches over a grid of assumptions for each threshold, and the first threshold that makes them negligible.

    Parameters
    ----------
    grid
        Values of `n` (cells), `sparsity` (share of active cells; a is ``sparsity * n``, rounded) and `s` (synapses); all their combinations
        are taken. What is left out is as in the paper: 5, 6 and 7 values, 210 combinations.
    thresholds
        Whole numbers from 0.
    tol
        What counts as negligible.

    Returns
    -------
    xarray.Dataset
        `false_match (theta, n, sparsity, s)` and its `median (theta)` over all combinations; `threshold`, the first theta whose median is at most
        `tol`, NaN where none is. A threshold above a segment's synapses is never reached, and counts as 0.

    Raises
    ------
    InputError, UnknownNameError
        Sizes that cannot be, a sparsity outside of 0 to 1, no values, an unknown name in the grid.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> found = optimal_threshold()
    >>> int(found.threshold), f"{float(found['median'].sel(theta=8)):.2e}"
    (8, '3.33e-08')
    """
    for name in grid or {}:
        if name not in ASSUMPTIONS:
            raise unknown("assumption", name, ASSUMPTIONS)
    values = {name: np.atleast_1d(np.asarray((grid or {}).get(name, kept))) for name, kept in ASSUMPTIONS.items()}
    values["theta"] = np.unique(np.asarray(thresholds))
    for name, v in values.items():
        if v.ndim != 1 or not v.size:
            raise InputError(f"{name} of shape {v.shape}; give a list of numbers")
    share = values["sparsity"]
    if not ((share >= 0) & (share <= 1)).all():
        raise InputError(f"sparsity from {share.min()} to {share.max()}; a share of cells lies in 0 to 1")
    theta, n, sparsity, s = np.ix_(values["theta"], values["n"], share, values["s"])
    p = match_probability(n, np.rint(sparsity * n), s, theta)
    middle = np.median(p, axis=(1, 2, 3))
    small = values["theta"][middle <= tol]
    return xr.Dataset(
        {
            "false_match": (("theta", "n", "sparsity", "s"), p),
            "median": ("theta", middle),
            "threshold": ((), float(small[0]) if small.size else np.nan),
        },
        {name: (name, v) for name, v in values.items()},
        {"tolerance": tol},
    )


def total_error(n: Any, a: Any, s: int, *, noise: Any = 0.4, segments: Any = 1) -> xr.Dataset:
    """False matches and misses of a segment at every threshold from 1 to s, and where their sum is least.

    Parameters
    ----------
    n, a
        Cells and active cells: numbers, or arrays that broadcast with `noise`.
    s
        Synapses of the segment.
    noise
        Share of the pattern's cells that noise flips, 0 to 1; rounded to cells.
    segments
        Of the neuron: a false match of any of them counts.

    Returns
    -------
    xarray.Dataset
        `false_match`, `miss` and `total (case, theta)`, and `best (case)`, the theta of least total error.

    Raises
    ------
    InputError
        Sizes that cannot be, noise outside of 0 to 1.

    Examples
    --------
    >>> found = total_error(6000, 128, 30, noise=[0.3, 0.5])
    >>> found.best.values.tolist()
    [9, 6]
    """
    share = np.asarray(noise, dtype=float)
    if not ((share >= 0) & (share <= 1)).all():
        raise InputError(f"noise {noise}; a share of the pattern's cells lies in 0 to 1")
    n, a, s_, flipped, m = sizes(n=n, a=a, s=s, flipped=np.rint(share * np.asarray(a)), m=segments)
    n, a, s_, flipped, m = (v.reshape(-1, 1) for v in (n, a, s_, flipped, m))
    theta = np.arange(1, int(s) + 1)
    false, miss = any_match_probability(n, a, s_, theta, m), miss_probability(a, s_, theta, flipped)
    total = false + miss
    case = {"n": n, "a": a, "flipped": flipped, "segments": m}
    return xr.Dataset(
        {
            "false_match": (("case", "theta"), false),
            "miss": (("case", "theta"), miss),
            "total": (("case", "theta"), total),
            "best": ("case", theta[total.argmin(1)]),
        },
        {"theta": theta, **{name: ("case", v[:, 0].astype(int)) for name, v in case.items()}},
    )
