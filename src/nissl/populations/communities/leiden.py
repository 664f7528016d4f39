"""Communities by modularity and its kin (Leiden): quick, well kept, and always with an answer, also where there is no structure."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from nissl.errors import InputError, MissingExtraError
from nissl.populations._pairwise import pairwise_correlation
from nissl.populations.communities.block_model import _matrix
from nissl.populations.communities.levels import by_size
from nissl.recordings import as_traces

OBJECTIVES = ("modularity", "surprise", "cpm")


def leiden(
    weights: Any,
    *,
    objective: Literal["modularity", "surprise", "cpm"] = "modularity",
    resolution: float = 1.0,
    n_iterations: int = -1,
    seed: int = 0,
) -> Int[np.ndarray, "unit"]:
    """Communities of an undirected weighted graph by the Leiden algorithm, the largest first.

    Parameters
    ----------
    weights
        Symmetric, of at least 0: an array, a DataArray (target, source), or a networkx graph. 0 and NaN are no edge.
    objective
        Modularity (with the configuration model as null), asymptotic surprise, or the constant Potts model.
    resolution
        Larger gives smaller communities; surprise has none.
    n_iterations
        Rounds; -1 goes on until nothing changes.
    seed
        Of the order in which nodes are visited.

    Raises
    ------
    InputError
        No such objective, or no such graph (see `weighted_block_model`).
    MissingExtraError
        leidenalg is not installed.

    Examples
    --------
    >>> leiden(np.kron(np.eye(2), np.ones((3, 3)))).tolist()
    [0, 0, 0, 1, 1, 1]

    Notes
    -----
    Traag, Waltman and van Eck (2019), "From Louvain to Leiden: guaranteeing well-connected communities". Strong weights *between* groups
    are no communities in this sense, and noise has some: `weighted_block_model` sees the former and refuses the latter.
    """
    matrix, _ = _matrix(weights)
    if objective not in OBJECTIVES:
        raise InputError(f"objective = {objective!r}; allowed: {', '.join(map(repr, OBJECTIVES))}")
    try:
        import igraph
        import leidenalg
    except ImportError as error:
        raise MissingExtraError("leidenalg is not installed: pip install 'nissl[brains]'") from error
    i, j = np.nonzero(np.triu(matrix))
    graph = igraph.Graph(n=len(matrix), edges=np.column_stack([i, j]).tolist())
    kinds: dict[str, tuple[Any, dict[str, float]]] = {
        "modularity": (leidenalg.RBConfigurationVertexPartition, {"resolution_parameter": resolution}),
        "surprise": (leidenalg.SurpriseVertexPartition, {}),
        "cpm": (leidenalg.CPMVertexPartition, {"resolution_parameter": resolution}),
    }
    kind, options = kinds[objective]
    find: Any = leidenalg.find_partition
    found = find(graph, kind, weights=matrix[i, j].tolist(), n_iterations=n_iterations, seed=seed, **options)
    return by_size(np.array(found.membership))


def correlation_communities(
    x: Any, *, rate: float | None = None, sign: Literal["any", "same"] = "any", resolution: float = 1.0, seed: int = 0
) -> tuple[Int[np.ndarray, "unit"], Float[np.ndarray, "unit unit"]]:
    """The simple baseline: Leiden on the correlation of whole traces, averaged over animals.

    Parameters
    ----------
    x, rate
        Traces `(time, unit)` or `(animal, time, unit)`, as in `DynamicConnectome.fit`.
    sign
        "any" for the absolute correlation, "same" for its positive part.

    Returns
    -------
    labels, correlation
        Community of each unit; and the matrix, NaN for pairs that no animal has together.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = np.repeat(rng.normal(size=(200, 2)), 3, axis=1) + 0.5 * rng.normal(size=(200, 6))
    >>> correlation_communities(x)[0].tolist()
    [0, 0, 0, 1, 1, 1]
    """
    traces = as_traces(x, ("animal", "time", "unit"), rate=rate, min_units=2, min_samples=3, constant="keep").values
    total = np.zeros((traces.shape[2],) * 2)
    count = np.zeros_like(total)
    for own in traces:
        r = pairwise_correlation(own)
        total += np.nan_to_num(r)
        count += ~np.isnan(r)
    r = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    np.fill_diagonal(r, 1)
    strength = np.abs(r) if sign == "any" else np.nan_to_num(r).clip(min=0)
    return leiden(strength, resolution=resolution, seed=seed), r
