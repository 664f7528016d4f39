"""Sparse patterns: random, correlated, noisy, made from numbers; and the one door through which given ones come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from nissl.errors import InputError
from nissl.nn.dendrites._sizes import sizes, within


def random_patterns(n_patterns: int, n: int, a: int, *, seed: int = 0) -> xr.DataArray:
    """Patterns with exactly a of n cells active, all such patterns equally likely.

    Parameters
    ----------
    n_patterns, n, a
        Patterns, cells, active cells.

    Returns
    -------
    DataArray (sample, unit)
        Boolean.

    Raises
    ------
    InputError
        Sizes that cannot be.

    Examples
    --------
    >>> random_patterns(3, 100, 7).sum("unit").values.tolist()
    [7, 7, 7]
    """
    _check(n_patterns, n, a)
    return _labelled(subsets(n_patterns, n, a, np.random.default_rng(seed)))


def subsets(rows: int, n: int, a: int, rng: np.random.Generator) -> Bool[np.ndarray, "row n"]:
    """A random set of a out of n in each row (Floyd's way: a draws, whatever n)."""
    chosen = np.zeros((rows, n), dtype=bool)
    every = np.arange(rows)
    for last in range(n - a, n):
        drawn = rng.integers(0, last + 1, rows)
        # Who is drawn a second time gives its place to the newcomer, which nobody could have drawn before.
        chosen[every, np.where(chosen[every, drawn], last, drawn)] = True
    return chosen


def correlated_patterns(n_patterns: int, n: int, a: int, cluster: int, *, seed: int = 0) -> xr.DataArray:
    """Patterns built from fixed clusters of cells that are always active together.

    The population is cut once, at random, into clusters of the size asked for; each pattern is a random choice of whole clusters (and of a
    part of one more, where a is no multiple of their size). Draw what is stored and what is tested in one call: they must share clusters.

    Parameters
    ----------
    n_patterns, n, a
        Patterns, cells, active cells.
    cluster
        Cells in a cluster; 1 is `random_patterns`.

    Returns
    -------
    DataArray (sample, unit)
        Boolean.

    Raises
    ------
    InputError
        Sizes that cannot be; clusters too large for a pattern, or too few for all its cells.

    Examples
    --------
    >>> x = correlated_patterns(200, 96, 16, 8)
    >>> clusters = np.unique(x.values, axis=1)  # cells that are always active together have one column
    >>> clusters.shape[1]
    12
    """
    _check(n_patterns, n, a)
    if not 1 <= cluster <= max(a, 1):
        raise InputError(f"clusters of {cluster} cells; allowed: from 1 to the pattern's {a} active cells")
    rng = np.random.default_rng(seed)
    order = rng.permutation(n)
    count, whole, rest = n // cluster, *divmod(a, cluster)
    if whole + (rest > 0) > count:
        raise InputError(
            f"{a} active cells of {n} in clusters of {cluster}: only {count} whole clusters; take fewer active cells"
        )
    chosen = subsets(n_patterns, count, whole, rng)
    cells = np.repeat(chosen, cluster, axis=1)
    if rest:
        # One more cluster, of which only the first cells are active.
        other = np.where(chosen, -1, rng.random(chosen.shape)).argmax(1)
        cells[np.arange(n_patterns)[:, None], other[:, None] * cluster + np.arange(rest)] = True
    out = np.zeros((n_patterns, n), dtype=bool)
    out[:, order[: count * cluster]] = cells
    return _labelled(out)


def noisy_patterns(patterns: Any, flipped: int, *, seed: int = 0) -> xr.DataArray:
    """Patterns in which some active cells fall silent, and as many others become active instead.

    Parameters
    ----------
    patterns
        (sample, unit), of 0 and 1.
    flipped
        Active cells that fall silent.

    Returns
    -------
    DataArray (sample, unit)
        Boolean, as sparse as before.

    Raises
    ------
    InputError
        Values that are not 0 or 1; fewer active, or silent, cells than are to be flipped.

    Examples
    --------
    >>> x = random_patterns(2, 100, 10)
    >>> y = noisy_patterns(x, 4)
    >>> (x & y).sum("unit").values.tolist(), y.sum("unit").values.tolist()
    ([6, 6], [10, 10])
    """
    x = as_patterns(patterns).numpy()
    active = x.sum(1)
    if flipped < 0 or flipped > min(active.min(), x.shape[1] - active.max()):
        raise InputError(
            f"flipped={flipped} cells of patterns with {active.min()} to {active.max()} of {x.shape[1]} active; "
            f"allowed: 0 to {min(active.min(), x.shape[1] - active.max())}"
        )
    out = x.copy()
    if flipped:
        key = np.random.default_rng(seed).random(x.shape)
        for those, becomes in ((x, False), (~x, True)):
            who = np.argpartition(np.where(those, key, 2), flipped - 1, axis=1)[:, :flipped]
            np.put_along_axis(out, who, becomes, 1)
    return _labelled(out)


def equal_frequency_code(
    values: Float[np.ndarray, "sample dimension"], bins: int = 10, *, reference: Any = None
) -> xr.DataArray:
    """Numbers as a sparse pattern: each dimension is cut into bins that are equally often met, and the bin's cell is active.

    With 40 dimensions and 10 bins this is the benchmark of Poirazi and Mel: 400 cells, 40 of them active.

    Parameters
    ----------
    values
        Real numbers.
    bins
        Cells a dimension, from 2.
    reference
        Values (sample, dimension) whose quantiles are the edges; the given ones where None.

    Returns
    -------
    DataArray (sample, unit)
        Boolean; cell ``dimension * bins + bin``.

    Raises
    ------
    InputError
        Fewer than 2 bins, NaN, other shapes.

    References
    ----------
    Poirazi and Mel 2001, Impact of active dendrites and structural plasticity on the memory capacity of neural tissue.

    Examples
    --------
    >>> x = equal_frequency_code(np.arange(20.0)[:, None], bins=4)
    >>> x.sum("sample").values.tolist()
    [5, 5, 5, 5]
    """
    x = np.asarray(values, dtype=float)
    seen = x if reference is None else np.asarray(reference, dtype=float)
    if bins < 2 or x.ndim != 2 or seen.ndim != 2 or x.shape[1] != seen.shape[1] or not len(seen):
        raise InputError(
            f"{bins} bins, values of shape {x.shape}, reference {seen.shape}; give (sample, dimension) of one width, and 2 bins or more"
        )
    if not (np.isfinite(x).all() and np.isfinite(seen).all()):
        raise InputError("values that are NaN or infinite belong to no bin; leave these samples out")
    edges = np.quantile(seen, np.arange(1, bins) / bins, axis=0)
    which = (x[None] >= edges[:, None]).sum(0)
    return _labelled((which[..., None] == np.arange(bins)).reshape(len(x), -1))


def as_patterns(x: Any, n: int | None = None) -> Bool[Tensor, "sample unit"]:
    """Patterns of 0 and 1 as a boolean tensor, where they are; anything else is refused."""
    if isinstance(x, xr.DataArray):
        x = x.values
    t = x if isinstance(x, Tensor) else torch.from_numpy(np.ascontiguousarray(x)) if np.size(x) else torch.empty(0)
    wanted = "(sample, unit)" if n is None else f"(sample, {n})"
    if t.dim() != 2 or not t.numel() or n not in (None, t.shape[1]):
        hint = "; one pattern is x[None]" if t.dim() == 1 and t.numel() else ""
        raise InputError(f"patterns of shape {tuple(t.shape)}; allowed: {wanted}, one sample at least{hint}")
    if t.dtype == torch.bool:
        return t
    on = t == 1
    if torch.compiler.is_compiling():  # looking at values would break the graph
        return on
    bad = ~(on | (t == 0))
    if bad.any():
        sample, unit = (int(i) for i in bad.nonzero()[0])
        raise InputError(
            f"patterns hold {t[sample, unit].item():.4g} (sample {sample}, unit {unit}); allowed: 0 and 1; binarise first: activity > threshold"
        )
    return on


def _check(n_patterns: int, n: int, a: int) -> None:
    if n_patterns < 1 or n < 1:
        raise InputError(f"{n_patterns} patterns of {n} cells; allowed: 1 or more")
    cells, active = sizes(n=n, a=a)
    within(active, cells, "a", "n")


def _labelled(x: np.ndarray) -> xr.DataArray:
    return xr.DataArray(x, dims=("sample", "unit"), name="active")
