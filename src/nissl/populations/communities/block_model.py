"""Communities as the shortest description of a weighted graph.

A partition is good when it lets the graph be told in few words: which blocks are joined, by how many edges, of what weight. Then
noise gives one block, strong weights count between blocks as well as within, and the number of blocks needs no choosing. The
search starts from spectral partitions of every size, since descent from random ones ends in a single block; then nodes move one
by one, and blocks merge, while the description grows shorter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from nissl.errors import InputError, MissingExtraError
from nissl.populations.communities.levels import by_size, nested
from nissl.populations.communities.score import Graph, Partition, Score
from nissl.populations.communities.search import search


@dataclass(frozen=True)
class BlockModel:
    """The blocks of a graph, from fine to coarse.

    Attributes
    ----------
    levels
        Block of each node at each level; at level 0 those of the graph itself, above them blocks of blocks, until one is left.
    units
        Names of the nodes.
    description_length
        Of the graph by level 0, in nats.
    nested_length
        Of the hierarchy above level 0 besides, in nats.
    degree_corrected
        Whether the degrees of the nodes are given apart; the shorter description was kept.
    lengths
        Description length of the best partition of each kind, and of a single block.
    edges, weights
        Number of edges and mean weight of an edge between blocks of level 0, (target, source).
    """

    levels: Int[np.ndarray, "level unit"]
    units: np.ndarray
    description_length: float
    nested_length: float
    degree_corrected: bool
    lengths: dict[str, float]
    edges: Float[np.ndarray, "block block"]
    weights: Float[np.ndarray, "block block"]

    @property
    def labels(self) -> Int[np.ndarray, "unit"]:
        """Block of each node at the finest level."""
        return self.levels[0]

    @property
    def n_blocks(self) -> int:
        """Number of blocks at the finest level."""
        return int(self.levels[0].max()) + 1

    @property
    def evidence(self) -> float:
        """How many nats shorter the description is than with a single block; 0 where there are no communities."""
        return self.lengths["one block"] - self.description_length

    def to_xarray(self) -> xr.DataArray:
        """The labels, with the names of the nodes."""
        return xr.DataArray(self.levels, dims=("level", "unit"), coords={"unit": self.units}, name="community")


def weighted_block_model(
    weights: Any,
    *,
    degree_corrected: bool | Literal["auto"] = "auto",
    weighted: bool = True,
    max_blocks: int | None = None,
    refine: int = 20,
    alpha: float = 1.0,
    backend: Literal["nissl", "graph-tool"] = "nissl",
    seed: int = 0,
    progress: bool = True,
) -> BlockModel:
    """Blocks of an undirected weighted graph by the shortest description, and blocks of these blocks.

    Parameters
    ----------
    weights
        Symmetric, of at least 0, `(target, source)`: an array, a DataArray, or a networkx graph. 0 and NaN are no edge; the diagonal does not
        count.
    degree_corrected
        Whether nodes of one block may differ in degree; "auto" keeps the shorter description.
    weighted
        False looks at the presence of edges only.
    max_blocks
        Largest spectral partition to start from; the square root of twice the nodes, at least 10, where None.
    refine
        Rounds of merge-split at zero temperature after the search: a block is split or two are merged at random, nodes settle
        in ten sweeps, and what is shorter is kept.
    alpha
        Shape of the Gamma prior of the rate of the weights in each pair of blocks; its other parameter is the mean weight.
    backend
        "graph-tool" hands the search to that library, where it is installed.
    seed
        Of the order of moves.
    progress
        A progress bar over starts, where there is a terminal.

    Raises
    ------
    InputError
        A matrix that is not square and symmetric, negative or infinite weights, no edge at all.
    MissingExtraError
        graph-tool asked for and not installed.

    Examples
    --------
    >>> strong = np.kron(np.eye(2), np.ones((12, 12))) * 5 + 1
    >>> noise = np.random.default_rng(0).exponential(size=(24, 24))
    >>> found = weighted_block_model(strong * (noise + noise.T), progress=False)
    >>> found.n_blocks, found.labels[:12].tolist() == [0] * 12
    (2, True)

    Notes
    -----
    Peixoto (2014) "Hierarchical block structures and high-resolution model selection in large networks"; (2018) "Nonparametric weighted
    stochastic block models". Weights may be rescaled without changing the blocks.
    """
    matrix, units = _matrix(weights)
    if degree_corrected not in (True, False, "auto"):
        raise InputError(f"degree_corrected = {degree_corrected!r}; allowed: True, False, 'auto'")
    if not alpha > 0:
        raise InputError(f"alpha = {alpha}; give a shape above 0")
    graph = Graph((matrix > 0).astype(np.int64), matrix)
    kinds = (False, True) if degree_corrected == "auto" else (bool(degree_corrected),)
    scores = {dc: Score(graph, degree_corrected=dc, weighted=weighted, alpha=alpha) for dc in kinds}
    rng = np.random.default_rng(seed)
    if backend == "graph-tool":
        found = _graph_tool(graph, kinds, weighted, refine, seed)
    elif backend == "nissl":
        most = max_blocks or max(10, int(np.sqrt(2 * graph.n)))
        found = search(graph, scores, min(most, graph.n), weighted, refine, rng, progress)
    else:
        raise InputError(f"backend = {backend!r}; allowed: 'nissl', 'graph-tool'")
    best = max(found, key=lambda dc: scores[dc].of(found[dc]))
    names = {False: "plain", True: "degree-corrected"}
    lengths = {names[dc]: -scores[dc].of(labels) for dc, labels in found.items()}
    lengths["one block"] = min(-s.of(np.zeros(graph.n, dtype=int)) for s in scores.values())
    final = Partition(scores[best], by_size(found[best]))
    edges, total = final.e[:-1, :-1].astype(float), final.x[:-1, :-1]
    levels, above = nested(final.labels, edges, rng)
    mean = np.divide(total, edges, out=np.full(edges.shape, np.nan), where=edges > 0)
    return BlockModel(levels, units, -final.score(), above, bool(best), lengths, edges, mean)


def description_length(
    weights: Any,
    labels: Int[np.ndarray, "unit"],
    *,
    degree_corrected: bool = False,
    weighted: bool = True,
    alpha: float = 1.0,
) -> float:
    """How many nats a partition needs to describe a weighted graph: what `weighted_block_model` makes small.

    Examples
    --------
    >>> a = np.kron(np.eye(2), np.ones((6, 6)))
    >>> halves, odd_even = np.repeat([0, 1], 6), np.tile([0, 1], 6)
    >>> description_length(a, halves) < description_length(a, odd_even)
    True
    """
    matrix, _ = _matrix(weights)
    if np.shape(labels) != (len(matrix),):
        raise InputError(f"{np.size(labels)} labels for {len(matrix)} nodes; give one each")
    score = Score(
        Graph((matrix > 0).astype(np.int64), matrix), degree_corrected=degree_corrected, weighted=weighted, alpha=alpha
    )
    return -score.of(np.asarray(labels))


def _matrix(weights: Any) -> tuple[Float[np.ndarray, "unit unit"], np.ndarray]:
    """Symmetric weights with zeros where there is no edge, and the names of the nodes."""
    units = None
    if hasattr(weights, "adjacency") and hasattr(weights, "nodes"):
        import networkx as nx

        units = np.array(list(weights.nodes))
        weights = nx.to_numpy_array(weights, nodelist=list(weights.nodes))
    elif isinstance(weights, xr.DataArray):
        units = weights.coords[weights.dims[0]].values if weights.dims and weights.dims[0] in weights.coords else None
        weights = weights.values
    matrix = np.array(weights, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise InputError(f"weights of shape {matrix.shape}; give a square matrix of two nodes or more")
    np.fill_diagonal(matrix, 0)
    matrix[np.isnan(matrix)] = 0
    if not np.isfinite(matrix).all() or (matrix < 0).any():
        raise InputError(f"weights from {matrix.min():.3g} to {matrix.max():.3g}; allowed: finite and at least 0")
    if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-12 * matrix.max()):
        raise InputError(
            "a matrix that is not symmetric; the block model is of undirected graphs: add the transpose first"
        )
    if not matrix.any():
        raise InputError(f"a graph of {len(matrix)} nodes without an edge; there is nothing to describe")
    return (matrix + matrix.T) / 2, np.arange(len(matrix)) if units is None else units


def _graph_tool(
    graph: Graph, kinds: tuple[bool, ...], weighted: bool, refine: int, seed: int
) -> dict[bool, np.ndarray]:
    """The finest level of graph-tool's nested model, of each kind."""
    try:
        import graph_tool.all as gt  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtraError("graph-tool is not installed (conda or apt have it); or use backend='nissl'") from error
    gt.seed_rng(seed)
    i, j = np.nonzero(np.triu(graph.edges, 1))
    g = gt.Graph(directed=False)
    g.add_vertex(graph.n)
    weight = g.new_edge_property("double")
    g.add_edge_list(np.column_stack([i, j, graph.weights[i, j]]), eprops=[weight])
    found = {}
    for degree_corrected in kinds:
        given: dict[str, Any] = {"deg_corr": degree_corrected}
        if weighted:
            given |= {"recs": [weight], "rec_types": ["real-exponential"]}
        state = gt.minimize_nested_blockmodel_dl(g, state_args=given)
        for _ in range(refine):
            state.multiflip_mcmc_sweep(beta=np.inf, niter=10)
        found[degree_corrected] = by_size(np.array(state.get_bs()[0])[: graph.n])
    return found
