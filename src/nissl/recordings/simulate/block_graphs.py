"""Weighted graphs whose communities are known."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr

from nissl.errors import InputError


def planted_partition(
    n: int = 90,
    n_blocks: int = 3,
    *,
    density: float = 0.3,
    ratio: float = 6.0,
    strong: Literal["within", "between"] = "within",
    distribution: Literal["exponential", "constant"] = "exponential",
    seed: int = 0,
) -> xr.DataArray:
    """A random graph that is the same everywhere, whose weights tell the blocks apart.

    Edges are present with the same chance between any two nodes. Their mean weight is `ratio` within blocks and 1 between them, or the
    other way round.

    Parameters
    ----------
    n, n_blocks
        Nodes, and blocks of equal size (to within one).
    density
        Chance of an edge.
    strong
        Where the weights are large.
    distribution
        Of the weights about their mean.

    Returns
    -------
    xr.DataArray
        Weights `(target, source)`, symmetric, 0 where there is no edge; coordinate `block (target)` is the truth.

    Raises
    ------
    InputError
        More blocks than nodes, a density outside 0 to 1, a ratio that is not positive.

    Examples
    --------
    >>> graph = planted_partition(40, 2)
    >>> graph.shape, graph.block.values[[0, -1]].tolist()
    ((40, 40), [0, 1])
    """
    if not 1 <= n_blocks <= n or not 0 < density <= 1 or not ratio > 0:
        raise InputError(
            f"{n_blocks} blocks of {n} nodes, density {density}, ratio {ratio}; allowed: at most n blocks, 0 < density <= 1, ratio > 0"
        )
    if strong not in ("within", "between") or distribution not in ("exponential", "constant"):
        raise InputError(
            f"strong = {strong!r}, distribution = {distribution!r}; allowed: within or between, exponential or constant"
        )
    rng = np.random.default_rng(seed)
    block = np.arange(n) * n_blocks // n
    same = block[:, None] == block
    mean = np.where(same == (strong == "within"), ratio, 1.0)
    weights = rng.exponential(mean) if distribution == "exponential" else mean
    upper = np.triu((rng.random((n, n)) < density) * weights, 1)
    return _labelled(upper + upper.T, block)


def weighted_lfr(
    n: int = 125,
    *,
    mean_degree: float = 15.0,
    mixing: float = 0.3,
    weight_mixing: float = 0.3,
    exponent: float = 1.5,
    seed: int = 0,
) -> xr.DataArray:
    """A graph in the manner of the weighted LFR benchmark: degrees and sizes of communities from power laws.

    Each node sends a share `mixing` of its edges and `weight_mixing` of its strength out of its community; a node of degree k has
    strength k ** exponent. Edges are drawn independently with these numbers as means (the benchmark rewires until it has them
    exactly). An edge's weight is the mean of what its two ends give it, times the root of an exponential draw.

    Parameters
    ----------
    n
        Nodes; communities have between an eighth and a third of them.
    mean_degree
        Mean number of edges of a node; degrees follow a power law of exponent 2.5, up to three times the mean.
    mixing, weight_mixing
        Share of edges, and of strength, that leaves the community.
    exponent
        Of strength against degree.

    Returns
    -------
    xr.DataArray
        As from `planted_partition`.

    Raises
    ------
    InputError
        Shares outside 0 to 1, fewer than 30 nodes, or more edges than the communities can hold.

    Examples
    --------
    >>> graph = weighted_lfr(100, seed=1)
    >>> graph.shape, int(graph.block.max()) > 0
    ((100, 100), True)

    Notes
    -----
    Lancichinetti, Fortunato and Radicchi (2008), "Benchmark graphs for testing community detection algorithms".
    """
    if not (0 <= mixing <= 1 and 0 <= weight_mixing <= 1 and n >= 30):
        raise InputError(
            f"n = {n}, mixing {mixing}, weight mixing {weight_mixing}; allowed: 30 nodes or more, shares from 0 to 1"
        )
    if not 0 < mean_degree <= n / 6:
        raise InputError(
            f"a mean degree of {mean_degree} among {n} nodes; allowed: above 0, at most a sixth of the nodes"
        )
    rng = np.random.default_rng(seed)
    degree = _power_law(n, 2.5, 0.4 * mean_degree, 3 * mean_degree, rng)
    degree *= mean_degree / degree.mean()
    block = _sizes(n, rng)
    same = block[:, None] == block
    # Chance of an edge: proportional to both degrees, scaled to each node's share inside and outside.
    inside, outside = _chances(degree * (1 - mixing), same), _chances(degree * mixing, ~same)
    edges = np.triu(rng.random((n, n)) < np.where(same, inside, outside), 1)
    edges = edges | edges.T
    strength = edges.sum(1).astype(float) ** exponent
    each_inside = (1 - weight_mixing) * strength / np.maximum((edges & same).sum(1), 1)
    each_outside = weight_mixing * strength / np.maximum((edges & ~same).sum(1), 1)
    share = np.where(same, each_inside[:, None], each_outside[:, None])
    upper = np.triu(edges * (share + share.T) / 2 * np.sqrt(rng.exponential(size=(n, n))), 1)
    return _labelled(upper + upper.T, block)


def _power_law(n: int, exponent: float, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Draws with density proportional to x ** -exponent between two limits, by inversion."""
    power = 1 - exponent
    return (low**power + rng.random(n) * (high**power - low**power)) ** (1 / power)


def _sizes(n: int, rng: np.random.Generator) -> np.ndarray:
    """Community of each node: sizes from a power law of exponent 1.5, until all nodes have one."""
    sizes: list[int] = []
    while sum(sizes) < n:
        sizes.append(round(float(_power_law(1, 1.5, n / 8, n / 3, rng)[0])))
    return rng.permutation(np.repeat(np.arange(len(sizes)), sizes)[:n]) if sum(sizes) - n < n / 8 else _sizes(n, rng)


def _chances(degree: np.ndarray, allowed: np.ndarray, rounds: int = 50) -> np.ndarray:
    """Chances of edges, f_i f_j up to 1 between nodes that may be joined, such that each node expects its degree."""
    allowed = allowed & ~np.eye(len(allowed), dtype=bool)
    factor = degree / np.sqrt(max(degree.sum(), 1e-12))
    for _ in range(rounds):
        expected = (np.minimum(np.outer(factor, factor), 1) * allowed).sum(1)
        factor *= np.sqrt(degree / np.maximum(expected, 1e-12))
    return np.minimum(np.outer(factor, factor), 1) * allowed


def _labelled(weights: np.ndarray, block: np.ndarray) -> xr.DataArray:
    nodes = np.arange(len(block))
    return xr.DataArray(
        weights,
        dims=("target", "source"),
        coords={"target": nodes, "source": nodes, "block": ("target", block)},
        name="weight",
    )
