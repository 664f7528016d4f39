"""What a wiring diagram says of a functional one: enrichment, area under the curve, rank correlation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

# Where no unconnected pair is functional half a pair is counted, so that the ratio is large and not infinite.
LEAST = 0.5
STATISTICS = ("enrichment", "auc", "rank_correlation")


class Pairs:
    """The pairs of units over which two diagrams are compared, and what the functional one says of each.

    Parameters
    ----------
    strength
        `(target, source)`: strength of the functional connection; NaN leaves a pair out.
    significant
        Whether the pair counts as functionally connected.
    undirected
        Whether to count each unordered pair once.
    """

    def __init__(
        self,
        strength: Float[np.ndarray, "target source"],
        significant: Bool[np.ndarray, "target source"],
        undirected: bool,
    ) -> None:
        n = len(strength)
        known = ~np.isnan(strength) & ~np.eye(n, dtype=bool)
        if undirected:
            known &= np.tri(n, k=-1, dtype=bool)
        self.target, self.source = np.nonzero(known)
        self.n_units, self.undirected = n, undirected
        self.strength = strength[known]
        self.significant = significant[known].astype(float)
        self.rank = rankdata(self.strength)

    def __len__(self) -> int:
        return len(self.strength)

    def edges(
        self, matrix: Float[np.ndarray, "target source"]
    ) -> tuple[Int[np.ndarray, "edge"], Float[np.ndarray, "edge"]]:
        """Which of the pairs a wiring diagram connects, and its weights."""
        weights = matrix[self.target, self.source]
        pair = np.flatnonzero(weights)
        return pair, weights[pair]

    def relabelled(
        self, matrix: Float[np.ndarray, "target source"], orders: Int[np.ndarray, "surrogate unit"]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The edges of the diagram with its units in other orders, one order after the other."""
        place = np.full((self.n_units,) * 2, -1)
        place[self.target, self.source] = np.arange(len(self))
        if self.undirected:
            matrix = np.tril(matrix)
            place = np.maximum(place, place.T)
        target, source = np.nonzero(matrix)
        weights = matrix[target, source]
        for order in orders:
            pair = place[order[target], order[source]]
            yield pair[pair >= 0], weights[pair >= 0]

    def statistics(
        self, pair: Int[np.ndarray, "edge"], weights: Float[np.ndarray, "edge"]
    ) -> Float[np.ndarray, "statistic"]:
        """Enrichment, area under the curve and rank correlation of one wiring diagram. All pairs without an edge share
        one rank, so only edges are looked at.
        """
        n, n_edges = len(self), len(pair)
        n_none = n - n_edges
        if n_edges == 0 or n_none == 0:
            return np.full(3, np.nan)
        hits = self.significant[pair].sum()
        misses = max(self.significant.sum() - hits, LEAST)
        enrichment = (hits / n_edges) / (misses / n_none)
        auc = (self.rank[pair].sum() - n_edges * (n_edges + 1) / 2) / (n_edges * n_none)
        below = (weights < 0).sum()
        rank = rankdata(weights) + n_none * (weights > 0)
        shared = below + (n_none + 1) / 2
        mean = (rank.sum() + n_none * shared) / n
        spread = ((rank - mean) ** 2).sum() + n_none * (shared - mean) ** 2
        mine = self.rank - self.rank.mean()
        scale = np.sqrt(spread * (mine @ mine))
        rho = (rank - shared) @ mine[pair] / scale if scale > 0 else np.nan
        return np.array([enrichment, auc, rho])

    def bootstrap(
        self, wiring: Float[np.ndarray, "pair"], resamples: int, seed: int
    ) -> Float[np.ndarray, "resample statistic"]:
        """The same under resampling of units with replacement: a pair counts as often as both its units were drawn
        together. Pairs that share a unit are not independent, so resampling pairs would promise too much.
        """
        rng = np.random.default_rng(seed)
        drawn = np.stack(
            [np.bincount(rng.integers(0, self.n_units, self.n_units), minlength=self.n_units) for _ in range(resamples)]
        )
        order = np.argsort(self.strength, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(self.strength[order]) > 0])
        edge, ranks = wiring != 0, rankdata(wiring)
        counts = (d[self.target] * d[self.source] for d in drawn.astype(float))
        return np.array([self._weighted(w, edge, ranks, order, starts) for w in counts])

    def _weighted(
        self, w: np.ndarray, edge: np.ndarray, ranks: np.ndarray, order: np.ndarray, starts: np.ndarray
    ) -> list[float]:
        with np.errstate(invalid="ignore", divide="ignore"):
            on, off = w * edge, w * ~edge
            misses = max(off @ self.significant, LEAST)
            enrichment = (on @ self.significant / on.sum()) / (misses / off.sum())
            # Pairs of equal strength count half: sum within runs of ties, then everything below.
            tied_on, tied_off = np.add.reduceat(on[order], starts), np.add.reduceat(off[order], starts)
            below = np.cumsum(tied_off) - tied_off
            auc = (tied_on @ (below + tied_off / 2)) / (on.sum() * off.sum())
            x, y = ranks - w @ ranks / w.sum(), self.rank - w @ self.rank / w.sum()
            rho = (w * x) @ y / np.sqrt((w @ x**2) * (w @ y**2))
        return [enrichment, auc, rho]
