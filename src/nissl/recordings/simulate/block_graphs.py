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
    """A graph with degrees and community sizes from power laws (Lancichinetti, Fortunato and Radicchi 2008), with weights in the manner of
    their weighted benchmark: a node of degree k has strength k ** exponent, a share `weight_mixing` of it outside its community.

    The topology is networkx's. Each edge's weight is the mean of what its two ends would give it, times an exponential draw's
    square root, so that weights vary; strengths hold in the mean.

    Parameters
    ----------
    mixing
        Share of each node's edges that leave its community.
    weight_mixing
        Share of each node's strength that leaves its community.
    exponent
        Of strength against degree.

    Returns
    -------
    xr.DataArray
        As from `planted_partition`.

    Raises
    ------
    InputError
        Shares outside 0 to 1, or sizes for which networkx finds no such graph.

    Examples
    --------
    >>> graph = weighted_lfr(100, seed=1)
    >>> graph.shape, int(graph.block.max()) > 0
    ((100, 100), True)
    """
    import networkx as nx

    if not (0 <= mixing <= 1 and 0 <= weight_mixing <= 1 and n >= 30):
        raise InputError(
            f"n = {n}, mixing {mixing}, weight mixing {weight_mixing}; allowed: 30 nodes or more, shares from 0 to 1"
        )
    try:
        graph = nx.LFR_benchmark_graph(
            n, 2.5, 1.5, mixing, average_degree=mean_degree, max_degree=int(3 * mean_degree), min_community=max(20, n // 8),
            max_community=n // 3, max_iters=1000, seed=seed,
        )  # fmt: skip
    except nx.ExceededMaxIterations as error:
        raise InputError(
            f"no such graph found for n = {n}, mean degree {mean_degree}; try another seed or degree"
        ) from error
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    order = {frozenset(graph.nodes[v]["community"]) for v in graph}
    number = {v: i for i, community in enumerate(sorted(order, key=min)) for v in community}
    block = np.array([number[v] for v in range(n)])
    edges = nx.to_numpy_array(graph, nodelist=range(n)) > 0
    rng = np.random.default_rng(seed)
    same = block[:, None] == block
    degree = edges.sum(1)
    strength = degree.astype(float) ** exponent
    inside, outside = (edges & same).sum(1), (edges & ~same).sum(1)
    share = np.where(
        same,
        ((1 - weight_mixing) * strength / np.maximum(inside, 1))[:, None],
        (weight_mixing * strength / np.maximum(outside, 1))[:, None],
    )
    draw = np.sqrt(rng.exponential(size=(n, n))) / (np.sqrt(np.pi) / 2)
    upper = np.triu(edges * (share + share.T) / 2 * draw, 1)
    return _labelled(upper + upper.T, block)


def _labelled(weights: np.ndarray, block: np.ndarray) -> xr.DataArray:
    nodes = np.arange(len(block))
    return xr.DataArray(
        weights,
        dims=("target", "source"),
        coords={"target": nodes, "source": nodes, "block": ("target", block)},
        name="weight",
    )
