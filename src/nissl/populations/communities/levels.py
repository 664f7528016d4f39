"""Blocks of blocks, up to a single one."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln


def by_size(labels: np.ndarray) -> np.ndarray:
    """The same partition, the largest block first; blocks of one size by their first node."""
    _, first, index, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    return np.lexsort((first, -counts)).argsort()[index]


def nested(labels: np.ndarray, edges: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Labels of all levels up to a single block, and the description length of those above the first.

    Block graphs are multigraphs with loops: e edges between two groups of blocks fall on the p pairs in C(p + e - 1, e) ways. Few
    blocks make few partitions worth trying: they are merged from singletons, best pair first, and the best on the way is kept.
    """
    levels, length = [labels], 0.0
    while len(edges) > 1:
        groups, cost = _agglomerated(edges)
        length += cost
        levels.append(groups[levels[-1]])
        member = np.eye(groups.max() + 1)[groups]
        total = member.T @ (edges + np.diag(np.diag(edges))) @ member
        edges = total - np.diag(np.diag(total)) / 2
        if len(edges) == len(groups):  # nothing to merge: one block above all
            levels.append(np.zeros_like(labels))
            break
    return np.stack(levels), length


def _agglomerated(edges: np.ndarray) -> tuple[np.ndarray, float]:
    def cost(groups: np.ndarray) -> float:
        member = np.eye(groups.max() + 1)[groups]
        n, k = member.sum(0), member.shape[1]
        doubled = member.T @ (edges + np.diag(np.diag(edges))) @ member
        e = (doubled - np.diag(np.diag(doubled)) / 2)[np.triu_indices(k)]
        p = (np.outer(n, n) - np.diag(n * (n - 1) / 2))[np.triu_indices(k)]
        among = (gammaln(p + e) - gammaln(e + 1) - gammaln(p)).sum()
        pairs, m, b = k * (k + 1) / 2, edges[np.triu_indices(len(edges))].sum(), len(edges)
        counts = gammaln(pairs + m) - gammaln(m + 1) - gammaln(pairs)
        choose = gammaln(b) - gammaln(k) - gammaln(b - k + 1)
        return float(among + counts + np.log(b) + choose + gammaln(b + 1) - gammaln(n + 1).sum())

    groups = np.arange(len(edges))
    best, least = groups, cost(groups)
    while groups.max() > 0:
        trials = [by_size(np.where(groups == s, r, groups)) for s in range(groups.max() + 1) for r in range(s)]
        costs = [cost(t) for t in trials]
        groups = trials[int(np.argmin(costs))]
        if min(costs) < least:
            best, least = groups, min(costs)
    return best, least
