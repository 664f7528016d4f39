"""The description of a weighted graph by a partition of its nodes, and what changing the partition changes.

A partition is held as four tables over blocks: edges, weights, sizes and degrees. One empty block is always kept at the end, so
that moving a node to a block of its own is a move like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

from nissl.populations.communities.integer_partitions import LogPartitions


def _log_choose(n: float, k: float) -> float:
    return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


@dataclass(frozen=True)
class Graph:
    """An undirected graph without loops, as adjacency (0 and 1) and weights (0 where there is no edge)."""

    edges: Int[np.ndarray, "unit unit"]
    weights: Float[np.ndarray, "unit unit"]

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.edges)

    @property
    def n_edges(self) -> int:
        """Number of edges."""
        return round(self.edges.sum() / 2)


class Score:
    """ln P(graph, partition), in nats; minus the description length.

    Edges between two blocks: each present with one unknown chance, uniform a priori; or, degree-corrected, the
    microcanonical model of Peixoto (2017), with the degrees of a block drawn from a histogram of their own, and a uniform prior
    over edge counts. Weights of the edges between two
    blocks: exponential with one unknown rate, Gamma(alpha, beta) a priori; beta is the graph's mean weight, so that the unit of the
    weights does not matter. Partition: uniform over the number of blocks, their sizes, and who is in them.
    """

    def __init__(self, graph: Graph, *, degree_corrected: bool, weighted: bool = True, alpha: float = 1.0) -> None:
        self.graph, self.degree_corrected, self.weighted, self.alpha = graph, degree_corrected, weighted, alpha
        n, m = graph.n, graph.n_edges
        self.beta = graph.weights.sum() / max(graph.edges.sum(), 1)
        # Tables of log factorials and gamma functions of whole numbers: looking up is five times quicker than computing.
        self.factorial = gammaln(np.arange(n * (n + 1) // 2 + 3) + 1)
        self.gamma = gammaln(alpha + np.arange(m + 2))
        self.degrees = graph.edges.sum(1).astype(np.int64)
        # Which nodes have the same degree: only the degree-corrected model asks.
        kinds = np.unique(self.degrees, return_inverse=True)[1] if degree_corrected else np.zeros(n, dtype=np.int64)
        self.degree_kind, self.n_kinds = kinds, int(kinds.max()) + 1
        self.partitions = LogPartitions(2 * m, n) if degree_corrected else None
        self.log_beta = alpha * np.log(self.beta) - gammaln(alpha)
        self.constant = float(gammaln(self.degrees + 1).sum()) if degree_corrected else 0.0
        self.by_count = np.array([self._of_count(k) for k in range(n + 2)])

    def _of_count(self, k: int) -> float:
        """What the number of blocks alone costs."""
        if k < 1 or k > self.graph.n:
            return -np.inf
        n = self.graph.n
        cost = np.log(n) + _log_choose(n - 1, k - 1) + self.factorial[n]
        if self.degree_corrected:
            cost += _log_choose(k * (k + 1) / 2 + self.graph.n_edges - 1, self.graph.n_edges)
        return -float(cost)

    def pairs(self, e: np.ndarray, p: np.ndarray, x: np.ndarray, same: np.ndarray) -> np.ndarray:
        """What pairs of blocks with e edges among p pairs of nodes, of weight x, contribute; `same` where it is one block."""
        if self.degree_corrected:
            out = self.factorial[e] + np.where(same, e * np.log(2), 0)
        else:
            out = self.factorial[e] + self.factorial[p - e] - self.factorial[p + 1]
        if self.weighted:
            out += self.log_beta + self.gamma[e] - (self.alpha + e) * np.log(self.beta + x)
        return out

    def blocks(self, n: np.ndarray, k: np.ndarray) -> np.ndarray:
        """What blocks of n nodes with k ends of edges contribute."""
        if self.partitions is None:
            return self.factorial[n]
        # The ways to deal the degrees out to the nodes are in `histograms`; their n! cancels against that of the partition.
        return -gammaln(k + 1) - self.partitions(k, n)

    def histograms(self, counts: np.ndarray) -> np.ndarray:
        """What blocks contribute by how many of their nodes share a degree, (..., kind of degree)."""
        return self.factorial[counts].sum(-1) if self.degree_corrected else np.zeros(counts.shape[:-1])

    def of(self, labels: Int[np.ndarray, "unit"]) -> float:
        """The whole score, from scratch."""
        return Partition(self, labels).score()


class Partition:
    """Labels and their tables, kept in step."""

    def __init__(self, score: Score, labels: Int[np.ndarray, "unit"]) -> None:
        self.of = score
        self.labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
        self._tables()

    def _tables(self) -> None:
        graph, count = self.of.graph, int(self.labels.max()) + 2
        member = np.zeros((graph.n, count))
        member[np.arange(graph.n), self.labels] = 1
        self.same = np.eye(count, dtype=bool)
        # Inside a block every edge is met from both its ends.
        once = 1 - 0.5 * self.same
        self.to_edges, self.to_weights = np.rint(graph.edges @ member).astype(np.int64), graph.weights @ member
        self.e = np.rint(member.T @ self.to_edges * once).astype(np.int64)
        self.x = member.T @ self.to_weights * once
        self.n = member.sum(0).astype(np.int64)
        self.k = np.rint(member.T @ self.of.degrees).astype(np.int64)
        self.histogram = np.zeros((count, self.of.n_kinds), dtype=np.int64)
        np.add.at(self.histogram, (self.labels, self.of.degree_kind), 1)

    @property
    def count(self) -> int:
        """Number of blocks with nodes in them."""
        return int((self.n > 0).sum())

    def _possible(self, n: np.ndarray) -> np.ndarray:
        possible = n[:, None] * n
        possible[self.same] = n * (n - 1) // 2
        return possible

    def score(self) -> float:
        """Ln P(graph, partition)."""
        table = self.of.pairs(self.e, self._possible(self.n), self.x, self.same)
        upper = np.triu(table)[np.ix_(self.n > 0, self.n > 0)].sum()
        blocks = self.of.blocks(self.n, self.k)[self.n > 0].sum() + self.of.histograms(self.histogram).sum()
        return float(upper + blocks + self.of.by_count[self.count] + self.of.constant)

    def gains(self, node: int, within: np.ndarray | None = None) -> Float[np.ndarray, "block"]:
        """What each block, the empty one too, would add to the score if `node` went there, less what staying adds."""
        own, of = self.labels[node], self.of
        edges, weights, degree = self.to_edges[node], self.to_weights[node], of.degrees[node]
        # The tables without the node ...
        n, k = self.n.copy(), self.k.copy()
        n[own] -= 1
        k[own] -= degree
        e, x = self.e.copy(), self.x.copy()
        e[own] -= edges
        x[own] -= weights
        e[:, own], x[:, own] = e[own], x[own]
        # ... and, in row s, with it in block s.
        p, real = self._possible(n), n > 0
        change = of.pairs(e + edges, p + n, x + weights, self.same) - of.pairs(e, p, x, self.same)
        gain = change.sum(1) + of.blocks(n + 1, k + degree) - np.where(real, of.blocks(n, k), 0)
        if of.degree_corrected:
            alike = self.histogram[:, of.degree_kind[node]].copy()
            alike[own] -= 1
            gain += np.log(alike + 1)
        gain += of.by_count[real.sum() + ~real]
        if within is not None:
            gain = np.where(within, gain, -np.inf)
        return gain - gain[own]

    def move(self, node: int, block: int) -> None:
        """Put a node into a block, in place."""
        own, graph, of_kind = self.labels[node], self.of.graph, self.of.degree_kind[node]
        edges, weights, degree = self.to_edges[node].copy(), self.to_weights[node].copy(), self.of.degrees[node]
        for table, row in ((self.e, edges), (self.x, weights)):
            table[own] -= row
            table[:, own] = table[own]
            table[block] += row
            table[:, block] = table[block]
        self.n[own] -= 1
        self.k[own] -= degree
        self.n[block] += 1
        self.k[block] += degree
        self.histogram[own, of_kind] -= 1
        self.histogram[block, of_kind] += 1
        for table, column in ((self.to_edges, graph.edges[node]), (self.to_weights, graph.weights[node])):
            table[:, own] -= column
            table[:, block] += column
        self.labels[node] = block
        if block == len(self.n) - 1:
            self._tables()

    def merges(self) -> Float[np.ndarray, "block block"]:
        """What merging each pair of blocks adds to the score; -inf on the diagonal."""
        of, n, e, x = self.of, self.n[:-1], self.e[:-1, :-1], self.x[:-1, :-1]
        full = n > 0
        count, same = len(n), self.same[:-1, :-1]
        table = of.pairs(e, self._possible(self.n)[:-1, :-1], x, same)
        # Axes r, s, t: the merged block of r and s towards t; towards itself where t = r, and nothing where t = s.
        r, s, t = np.ogrid[:count, :count, :count]
        both_e, both_x = e[:, None] + e[None], x[:, None] + x[None]
        inner = t == r
        own_e, own_x = (np.diag(a)[:, None] + np.diag(a)[None] + a for a in (e, x))
        both_n = np.where(same, n, n[:, None] + n[None])  # the diagonal is thrown away
        both_e, both_x = np.where(inner, own_e[..., None], both_e), np.where(inner, own_x[..., None], both_x)
        p = np.where(inner, (both_n * (both_n - 1) // 2)[..., None], both_n[..., None] * n)
        skip = (t == s) | (r == s)
        merged = np.where(skip, 0, of.pairs(np.where(skip, 0, both_e), np.where(skip, 0, p), both_x, inner)).sum(2)
        before = table.sum(1)[:, None] + table.sum(1)[None] - table
        k = self.k[:-1]
        blocks = np.where(full, of.blocks(n, k), 0) + of.histograms(self.histogram[:-1])
        ends = (
            of.blocks(both_n, np.minimum(k[:, None] + k[None], 2 * of.graph.n_edges)) - blocks[:, None] - blocks[None]
        )
        ends += of.histograms(np.where(same[..., None], 0, self.histogram[:-1, None] + self.histogram[None, :-1]))
        gain = merged - before + ends + of.by_count[self.count - 1] - of.by_count[self.count]
        return np.where(same | ~full[:, None] | ~full, -np.inf, gain)

    def relabel(self, labels: Int[np.ndarray, "unit"]) -> None:
        """Take other labels, from 0 without a gap."""
        self.labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
        self._tables()
