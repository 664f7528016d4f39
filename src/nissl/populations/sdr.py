"""Sparse distributed representations in recordings: how sparse a code is, and how far its moments overlap by more than chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float

from nissl.errors import InputError
from nissl.nn.dendrites import overlap_probability
from nissl.recordings import as_traces
from nissl.recordings._traces import listed
from nissl.statistics import against, circular_shifts

FEWEST_PAIRS = 10


def estimate_sdr(
    recording: Any,
    *,
    gap: int = 1,
    n_moments: int = 1000,
    n_surrogates: int = 100,
    variable: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Size and sparsity of a recorded code, and how its moments overlap, beside what the theory of random codes assumes.

    The error rates of `nn.match_probability` hold for patterns that are drawn at random. Two things make recorded ones overlap more: cells
    that are active more often than others, and cells that go together. Three distributions of the overlap of two moments tell them apart.

    Parameters
    ----------
    recording
        `(time, unit)`, of 0 and 1 (active or not). A `sample` or `position` axis serves as time.
    gap
        Least distance of two moments that are compared, in samples; take more than the activity's correlation time.
    n_moments
        Moments that are compared with one another; where there are more, so many evenly spaced ones are taken.
    n_surrogates
        Surrogates, in which the cells are shifted against each other by lags of their own.

    Returns
    -------
    xarray.Dataset
        `(overlap)`: `observed`, share of pairs of moments with so many active cells in common; `null`, hypergeometric, for random patterns that are
        as large; `shifted`, the mean over surrogates: each cell as active as it was, but none bound to another. `(time)`: `active`, cells at each moment.
        Scalars: `n` cells; `a`, mean active cells, and `a_sd`; `sparsity`, a / n; `silent`, share of moments without activity;
        `mean_overlap` and `null_overlap`; `variance` of the overlap against the surrogates: `variance_shifted`, `z`, `p`.

    Raises
    ------
    InputError
        Values other than 0 and 1, NaN, fewer than 2 units or 3 moments, nothing active, a gap that leaves too few pairs.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> from nissl.nn.dendrites import random_patterns
    >>> found = estimate_sdr(random_patterns(300, 500, 20))
    >>> float(found.n), float(found.a), float(found.sparsity)
    (500.0, 20.0, 0.04)
    >>> bool(abs(found.observed - found.null).max() < 0.01)
    True
    """
    x = _binary(recording, variable)
    if gap < 1 or n_surrogates < 2 or n_moments < 3:
        raise InputError(f"gap={gap}, n_surrogates={n_surrogates}, n_moments={n_moments}; allowed: 1, 2 and 3 or more")
    active = x.values.sum(1)
    if not active.any():
        raise InputError("nothing is active at any moment; lower the threshold that made it 0 and 1")
    moments = np.unique(np.linspace(0, len(x) - 1, min(n_moments, len(x))).round().astype(int))
    first, second = np.triu_indices(len(moments), 1)
    apart = moments[second] - moments[first] >= gap
    if apart.sum() < FEWEST_PAIRS:
        raise InputError(
            f"{apart.sum()} pairs of moments are {gap} samples apart or more; {FEWEST_PAIRS} are needed: take a smaller gap, or record longer"
        )
    pairs = (
        moments[first[apart]],
        moments[second[apart]],
        np.ravel_multi_index((first, second), [len(moments)] * 2)[apart],
    )
    observed = _overlaps(x.values, moments, pairs[2])
    shuffled = [
        _overlaps(circular_shifts(x.values, 1, seed=int(s))[0], moments, pairs[2])
        for s in np.random.SeedSequence(seed).generate_state(n_surrogates)
    ]
    top = int(max(observed.max(), *(o.max() for o in shuffled), 1))
    null = _null(active[pairs[0]], active[pairs[1]], x.sizes["unit"])
    top = max(top, int(np.flatnonzero(null > 0).max()))
    test = against(observed.var(), np.array([o.var() for o in shuffled]), name="variance of overlap")
    return xr.Dataset(
        {
            "observed": ("overlap", _shares(observed, top)),
            "null": ("overlap", np.pad(null, (0, top + 1))[: top + 1]),
            "shifted": ("overlap", np.mean([_shares(o, top) for o in shuffled], 0)),
            "active": ("time", active),
            "n": x.sizes["unit"],
            "a": active.mean(),
            "a_sd": active.std(),
            "sparsity": active.mean() / x.sizes["unit"],
            "silent": (active == 0).mean(),
            "mean_overlap": observed.mean(),
            "null_overlap": (active[pairs[0]] * active[pairs[1]]).mean() / x.sizes["unit"],
            "variance": test.effect,
            "variance_shifted": test.mean,
            "z": test.z,
            "p": test.p,
        },
        {"overlap": np.arange(top + 1), "time": x["time"].values},
        {"pairs": len(observed), "gap": gap, "surrogates": n_surrogates},
    )


def _binary(recording: Any, variable: str | None) -> xr.DataArray:
    if isinstance(recording, xr.DataArray) and "sample" in recording.dims and "time" not in recording.dims:
        recording = recording.rename(sample="time").drop_vars("time", errors="ignore")
    x = as_traces(recording, variable=variable, min_units=2, min_samples=3, constant="keep", missing="raise")
    bad = ~np.isin(x.values, (0, 1)).all(0)
    if bad.any():
        raise InputError(
            f"values other than 0 and 1 in {listed(x['unit'].values[bad])}; say what counts as active first: recording > threshold"
        )
    return x.astype(bool)


def _overlaps(x: Bool[np.ndarray, "time unit"], moments: np.ndarray, pairs: np.ndarray) -> Float[np.ndarray, "pair"]:
    """Cells in common, for the pairs of moments at these places of the flattened matrix; counts are exact in single precision."""
    some = x[moments].astype(np.float32)
    return (some @ some.T).ravel()[pairs]


def _shares(overlaps: np.ndarray, top: int) -> Float[np.ndarray, "overlap"]:
    return np.bincount(overlaps.astype(int), minlength=top + 1) / len(overlaps)


def _null(one: np.ndarray, other: np.ndarray, n: int) -> Float[np.ndarray, "overlap"]:
    """The hypergeometric distribution, mixed over the sizes that the pairs have."""
    sizes, count = np.unique(np.sort(np.stack([one, other], 1), 1), axis=0, return_counts=True)
    b = np.arange(sizes[:, 0].max() + 1)
    return count @ overlap_probability(n, sizes[:, 1:], sizes[:, :1], b) / count.sum()
