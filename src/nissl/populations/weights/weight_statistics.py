"""Wiring as a graph: how sparse, how heavy-tailed, how reciprocal, how clustered, beside graphs with the same degrees."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from nissl.errors import InputError
from nissl.populations.weights.triads import TRIADS, triad_census
from nissl.statistics import SurrogateTest, against, gini, rewired

if TYPE_CHECKING:
    from torch import nn

DISTRIBUTIONS = ("log-normal", "exponential", "normal", "half-normal")


@dataclass(frozen=True)
class WeightStatistics:
    """What a wiring matrix looks like, and what of it degrees alone would give.

    Attributes
    ----------
    nodes, edges
        Without self-loops.
    density
        Edges over possible edges.
    fits
        A row a distribution of the sizes of weights: `aic`, `log_likelihood`, `parameters`; the best first. Empty where all weights
        are the same.
    tests
        A row a measure: `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p`, `null`.
    triads
        The same for the sixteen triads, p two-sided.
    """

    nodes: int
    edges: int
    density: float
    fits: pd.DataFrame
    tests: pd.DataFrame
    triads: pd.DataFrame

    @property
    def heavy_tailed(self) -> bool:
        """Whether the log-normal distribution is the best by AIC."""
        return len(self.fits) > 0 and self.fits.index[0] == "log-normal"

    def __str__(self) -> str:
        best = f"{self.fits.index[0]} weights" if len(self.fits) else "equal weights"
        row = self.tests.loc["reciprocity"]
        return (
            f"{self.nodes} nodes, {self.edges} edges, density {self.density:.3g}, {best}, reciprocity {row['effect']:.3f} "
            f"(same degrees: {row['surrogate_mean']:.3f}, p {row['p']:.3g})"
        )

    def _repr_html_(self) -> str:
        tables = "".join(t.to_html(float_format="{:.4g}".format) for t in (self.fits, self.tests, self.triads))
        return f"<p>{html.escape(str(self))}</p>{tables}"


def weight_statistics(
    weights: Any, *, n_surrogates: int = 100, n_partitions: int = 20, swaps_per_edge: int = 10, seed: int = 0
) -> WeightStatistics:
    """Structural sparsity of a network: a connectome, a fitted coupling matrix, the recurrent weights of a model.

    Parameters
    ----------
    weights
        `(target, source)`; zero or NaN means no connection. Self-loops count as weights, and are left out of the graph.
    n_surrogates
        Copies with edges swapped, which keep every in- and out-degree.
    n_partitions
        How many of them are also divided into modules, which takes longest.

    Returns
    -------
    WeightStatistics
        Measures against rewired copies: `reciprocity` (share of edges that have one back), `clustering`, `path length` (edges; over
        pairs that reach each other), `small world` sigma = (C / C_rewired) / (L / L_rewired), `modularity` (Louvain). The last three, and
        clustering, take edges as undirected. `in-degree Gini` and `out-degree Gini` stand beside random graphs of the same density,
        since rewired ones have the same degrees.

    Raises
    ------
    InputError
        No square matrix, fewer than three nodes or ten edges, a complete graph, which cannot be rewired.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weights = np.where(rng.random((60, 60)) < 0.1, rng.lognormal(size=(60, 60)), 0)
    >>> found = weight_statistics(weights, n_surrogates=19, n_partitions=2)
    >>> found.heavy_tailed, bool(found.tests.p["reciprocity"] > 0.05)
    (True, True)

    Notes
    -----
    Log-normal wiring: Buzsaki and Mizuseki 2014. Rewiring: Maslov and Sneppen 2002. Small worlds: Humphries and Gurney 2008.
    """
    whole, matrix = _matrix(weights)
    linked = matrix != 0
    nodes, edges = len(matrix), int(linked.sum())
    copies = rewired(matrix, n_surrogates, swaps_per_edge=swaps_per_edge, seed=seed) != 0
    if (copies == linked).all():
        raise InputError(
            f"{edges} edges among {nodes} nodes leave nothing to rewire; a sparser graph is needed for a null of the same degrees"
        )
    rows = {
        "reciprocity": (against(reciprocity(linked), reciprocity(copies), name="reciprocity"), "same degrees"),
        **_small_world(linked, copies),
        "modularity": (_modularity(matrix, copies[:n_partitions], seed), "same degrees"),
        **_degrees(linked, n_surrogates, seed),
    }
    census = triad_census(linked).iloc[0].to_numpy(), triad_census(copies).to_numpy()
    triads = against(*census, name="triads", tail="two-sided")
    return WeightStatistics(
        nodes,
        edges,
        edges / (nodes * (nodes - 1)),
        weight_distributions(whole),
        pd.DataFrame(
            [{**_row(t), "null": null} for t, null in rows.values()], index=pd.Index(list(rows), name="measure")
        ),
        pd.DataFrame(_row(triads), index=pd.Index(TRIADS, name="triad")),
    )


def _matrix(weights: Any) -> tuple[np.ndarray, np.ndarray]:
    """Checked weights, with and without self-loops."""
    if isinstance(weights, xr.DataArray):
        if {"target", "source"} <= set(weights.dims):
            weights = weights.transpose("target", "source")
        weights = weights.values
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().numpy()
    whole = np.nan_to_num(np.asarray(weights, dtype=float), posinf=np.inf, neginf=-np.inf)
    if whole.ndim != 2 or whole.shape[0] != whole.shape[1]:
        raise InputError(f"weights of shape {whole.shape}; give a square matrix (target, source)")
    if np.isinf(whole).any():
        raise InputError("infinite weights; mark what is unknown as NaN")
    matrix = whole * ~np.eye(len(whole), dtype=bool)
    if len(matrix) < 3 or (matrix != 0).sum() < 10:
        raise InputError(
            f"{len(matrix)} nodes and {int((matrix != 0).sum())} edges besides self-loops; give 3 nodes and 10 edges or more"
        )
    return whole, matrix


def _row(test: SurrogateTest) -> dict[str, Any]:
    return {"effect": test.effect, "surrogate_mean": test.mean, "surrogate_sd": test.sd, "z": test.z, "p": test.p}


def weight_distributions(weights: Any) -> pd.DataFrame:
    """Which distribution describes the sizes of non-zero weights best, by Akaike's criterion.

    Log-normal and normal have two parameters, exponential and half-normal (normal weights of either sign about zero) one, all at maximum
    likelihood.

    Returns
    -------
    pandas.DataFrame
        Indexed by distribution, the best first: `aic`, `log_likelihood`, `parameters`. Empty where all weights have one size.

    Raises
    ------
    InputError
        Fewer than ten non-zero weights.

    Examples
    --------
    >>> weight_distributions(np.random.default_rng(0).exponential(size=500)).index[0]
    'exponential'
    """
    x = np.abs(np.asarray(weights, dtype=float)).ravel()
    x = x[(x > 0) & np.isfinite(x)]
    if len(x) < 10:
        raise InputError(f"{len(x)} non-zero weights; a distribution needs 10 or more")
    if np.ptp(x) == 0:
        return pd.DataFrame(
            {"aic": [], "log_likelihood": [], "parameters": []}, index=pd.Index([], name="distribution")
        )
    logs = np.log(x)
    likelihood = {
        "log-normal": float(stats.norm.logpdf(logs, logs.mean(), logs.std()).sum() - logs.sum()),
        "exponential": float(stats.expon.logpdf(x, scale=x.mean()).sum()),
        "normal": float(stats.norm.logpdf(x, x.mean(), x.std()).sum()),
        "half-normal": float(stats.halfnorm.logpdf(x, scale=np.sqrt((x**2).mean())).sum()),
    }
    parameters = {"log-normal": 2, "exponential": 1, "normal": 2, "half-normal": 1}
    table = pd.DataFrame({"log_likelihood": likelihood, "parameters": parameters})
    table.insert(0, "aic", 2 * table["parameters"] - 2 * table["log_likelihood"])
    return table.sort_values("aic").rename_axis("distribution")


def reciprocity(adjacency: Any) -> Any:
    """Share of edges `(..., target, source)` whose two nodes are also joined the other way.

    Examples
    --------
    >>> float(reciprocity(np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0]])))
    0.6666666666666666
    """
    a = np.asarray(adjacency) != 0
    a = a & ~np.eye(a.shape[-1], dtype=bool)
    count = a.sum((-1, -2))
    return (a & np.swapaxes(a, -1, -2)).sum((-1, -2)) / np.where(count > 0, count, np.nan)


def _small_world(linked: np.ndarray, copies: np.ndarray) -> dict[str, tuple[SurrogateTest, str]]:
    """Clustering, path length and sigma of the undirected graph."""
    graphs = np.concatenate([linked[None], copies])
    graphs = graphs | np.swapaxes(graphs, 1, 2)
    clusters = _clustering(graphs)
    lengths = np.array([_path_length(g) for g in graphs])
    sigma = (clusters / clusters[1:].mean()) / (lengths / lengths[1:].mean())
    null = "same degrees"
    return {
        "clustering": (against(clusters[0], clusters[1:], name="clustering"), null),
        "path length": (against(lengths[0], lengths[1:], name="path length", tail="two-sided"), null),
        "small world": (against(sigma[0], sigma[1:], name="small world"), null),
    }


def _clustering(graphs: np.ndarray) -> np.ndarray:
    """Mean share of a node's neighbours that are neighbours of each other; nodes with fewer than two count as 0."""
    a = graphs.astype(np.float32)
    triangles = np.einsum("gij,gij->gi", a @ a, a)
    degree = a.sum(2)
    pairs = degree * (degree - 1)
    return np.where(pairs > 0, triangles / np.where(pairs > 0, pairs, 1), 0).mean(1, dtype=float)


def _path_length(graph: np.ndarray) -> float:
    """Mean number of edges between pairs that reach each other."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    distance = shortest_path(csr_array(graph.astype(float)), unweighted=True, directed=False)
    reached = np.isfinite(distance) & (distance > 0)
    return float(distance[reached].mean())


def _modularity(matrix: np.ndarray, copies: np.ndarray, seed: int) -> SurrogateTest:
    import networkx as nx

    def best(linked: np.ndarray) -> float:
        graph = nx.from_numpy_array((linked | linked.T).astype(float))
        parts = nx.community.louvain_communities(graph, seed=seed)
        return float(nx.community.modularity(graph, parts))

    return against(best(matrix != 0), np.array([best(c) for c in copies]), name="modularity")


def _degrees(linked: np.ndarray, n: int, seed: int) -> dict[str, tuple[SurrogateTest, str]]:
    """Inequality of degrees, beside random graphs of the same density."""
    size, edges = len(linked), int(linked.sum())
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(~np.eye(size, dtype=bool))
    drawn = np.zeros((n, size * size))
    for graph in drawn:
        graph[rng.choice(places, edges, replace=False)] = 1
    drawn = drawn.reshape(n, size, size)
    return {
        f"{name}-degree Gini": (
            against(
                float(gini(linked.sum(axis)[None].astype(float))[0]),
                gini(drawn.sum(axis + 1)),
                name=f"{name}-degree Gini",
            ),
            "same density",
        )
        for axis, name in ((1, "in"), (0, "out"))
    }


def lottery_curve(
    network: nn.Module,
    loss: Callable[[nn.Module], float],
    *,
    fractions: Sequence[float] = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95),
    repeats: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Loss of a network as its smallest weights are set to zero, beside as many weights taken at random.

    Parameters
    ----------
    network
        Copied first; the network given is not changed. Weights are parameters with two or more axes; biases stay.
    loss
        From a network to a number.
    fractions
        Of all weights, taken over all layers together.
    repeats
        Random draws a fraction.

    Returns
    -------
    pandas.DataFrame
        Indexed by `fraction`: `loss` (smallest removed), `random_mean`, `random_sd`, `z`, `p` (of so small a loss at random).

    Raises
    ------
    InputError
        Fractions outside 0 to 1, or no weights.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(50, 1)
    >>> with torch.no_grad(): _ = layer.weight[:, 5:].mul_(0.001)
    >>> x = torch.randn(100, 50, generator=torch.Generator().manual_seed(0)); y = layer(x).detach()
    >>> curve = lottery_curve(layer, lambda n: float(((n(x) - y) ** 2).mean()), fractions=[0.9])
    >>> bool(curve.loss[0.9] < 0.01 * curve.random_mean[0.9])
    True

    Notes
    -----
    Frankle and Carbin 2019, without their retraining.
    """
    import copy

    import torch

    if not len(fractions) or not all(0 <= f <= 1 for f in fractions) or repeats < 1:
        raise InputError(
            f"fractions {list(fractions)} and {repeats} repeats; give fractions from 0 to 1 and one repeat or more"
        )
    pruned = copy.deepcopy(network)
    parts = [p for p in pruned.parameters() if p.dim() > 1]
    if not parts:
        raise InputError("a network without weights (parameters with two or more axes); nothing to remove")
    whole = torch.cat([p.detach().flatten() for p in parts])
    rank = whole.abs().argsort()
    draw = torch.Generator().manual_seed(seed)

    def without(which: torch.Tensor) -> float:
        kept = whole.clone()
        kept[which] = 0
        with torch.no_grad():
            for p, values in zip(parts, kept.split([p.numel() for p in parts]), strict=True):
                p.copy_(values.view_as(p))
            return float(loss(pruned))

    rows = []
    for fraction in fractions:
        count = round(fraction * len(whole))
        null = np.array([without(torch.randperm(len(whole), generator=draw)[:count]) for _ in range(repeats)])
        test = against(without(rank[:count]), null, name="loss", tail="less")
        rows.append([test.effect, test.mean, test.sd, test.z, test.p])
    columns = ["loss", "random_mean", "random_sd", "z", "p"]
    return pd.DataFrame(rows, columns=columns, index=pd.Index(list(fractions), name="fraction"))
