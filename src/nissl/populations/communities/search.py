"""The search for the shortest description: spectral starts, single moves, merges, and merge-split."""

from __future__ import annotations

import warnings

import numpy as np
from tqdm import tqdm

from nissl.populations.communities.levels import by_size
from nissl.populations.communities.score import Graph, Partition, Score

SWEEPS = 50  # most sweeps of single moves in a row
STARTS = 10  # how many of the spectral partitions, best first, are descended from


def search(
    graph: Graph,
    scores: dict[bool, Score],
    most: int,
    weighted: bool,
    refine: int,
    rng: np.random.Generator,
    progress: bool,
) -> dict[bool, np.ndarray]:
    """The best partition of each kind over all starts."""
    starts = _spectral(graph, most, weighted, rng)
    best: dict[bool, Partition] = {}
    bar = tqdm(
        total=min(STARTS, len(starts)) * len(scores), desc="blocks", disable=None if progress else True, leave=False
    )
    for degree_corrected, score in scores.items():
        seen: set[bytes] = set()
        for labels in sorted(starts, key=score.of, reverse=True)[:STARTS]:
            partition = _settled(Partition(score, labels), rng, seen)
            bar.update()
            if partition and (
                degree_corrected not in best or partition.score() > best[degree_corrected].score() + 1e-9
            ):
                best[degree_corrected] = partition
    winner = max(best, key=lambda dc: best[dc].score())
    for _ in range(refine):
        best[winner] = _merge_split(best[winner], rng)
    while _merge(best[winner]):
        _moves(best[winner], rng)
    bar.close()
    return {dc: by_size(partition.labels) for dc, partition in best.items()}


def _spectral(graph: Graph, most: int, weighted: bool, rng: np.random.Generator) -> list[np.ndarray]:
    """Partitions of 1 to `most` blocks from the eigenvectors of two matrices: what joins two nodes less what their strengths lead one
    to expect, and, over the edges alone, the weight less the mean weight. The largest eigenvalues tell of blocks joined within,
    the least of blocks joined between, the largest of either sign of a mixture.
    """
    from scipy.cluster.vq import kmeans2

    strength = np.log1p(graph.weights / graph.weights[graph.edges > 0].mean()) if weighted else graph.edges
    total = strength.sum(1)
    matrices = [strength - np.outer(total, total) / total.sum()]
    on_edges = graph.edges * (strength - strength[graph.edges > 0].mean())
    if np.abs(on_edges).max() > 1e-9:
        matrices.append(on_edges)
    starts = [np.zeros(graph.n, dtype=int)]
    for matrix in matrices:
        values, vectors = np.linalg.eigh(matrix)
        for order in (np.argsort(-values), np.argsort(values), np.argsort(-np.abs(values))):
            for k in range(2, most + 1):
                space = (vectors * values)[:, order[: k - 1]]
                if len(np.unique(space.round(9), axis=0)) < k:
                    break  # nodes that look alike cannot be told apart any further
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # an empty cluster is one block fewer to start from
                    tries = [kmeans2(space, k, minit="++", rng=rng) for _ in range(3)]
                spread = [((space - centres[labels]) ** 2).sum() for centres, labels in tries]
                starts.append(tries[int(np.argmin(spread))][1])
    return starts


def _settled(partition: Partition, rng: np.random.Generator, seen: set[bytes] | None = None) -> Partition | None:
    """Single moves until none helps, then the best merge, over and over. None where another start has been here before."""
    while True:
        _moves(partition, rng)
        if seen is not None:
            key = by_size(partition.labels).tobytes()
            if key in seen:
                return None
            seen.add(key)
        if not _merge(partition):
            return partition


def _moves(
    partition: Partition,
    rng: np.random.Generator,
    nodes: np.ndarray | None = None,
    within: np.ndarray | None = None,
    sweeps: int = SWEEPS,
) -> None:
    """Each node in a random order to the block where it adds most, until a sweep moves none; in place."""
    nodes = np.arange(len(partition.labels)) if nodes is None else nodes
    for _ in range(sweeps):
        moved = False
        for node in rng.permutation(nodes):
            gain = partition.gains(node, within)
            block = int(gain.argmax())
            if gain[block] > 1e-9:
                partition.move(node, block)
                moved = True
        if not moved:
            break
    partition.relabel(partition.labels)


def _merge(partition: Partition) -> bool:
    """Merge blocks, best pair first, while it helps; in place. Whether any was merged."""
    merged = False
    while partition.count > 1:
        gain = partition.merges()
        r, s = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[r, s] <= 1e-9:
            break
        partition.relabel(np.where(partition.labels == s, r, partition.labels))
        merged = True
    return merged


def _merge_split(partition: Partition, rng: np.random.Generator) -> Partition:
    """One round: a random split or merge, then ten sweeps, kept where the description is shorter."""
    labels = partition.labels.copy()
    if partition.count > 1 and rng.random() < 0.5:
        r, s = rng.choice(partition.count, 2, replace=False)
        trial = Partition(partition.of, np.where(labels == s, r, labels))
    else:
        block = rng.integers(partition.count)
        inside = np.flatnonzero(labels == block)
        if len(inside) < 2:
            return partition
        labels[inside[rng.random(len(inside)) < 0.5]] = partition.count
        trial = Partition(partition.of, labels)
        halves = np.isin(np.arange(len(trial.n)), trial.labels[inside])
        _moves(trial, rng, inside, halves, sweeps=10)
    _moves(trial, rng, sweeps=10)
    return trial if trial.score() > partition.score() + 1e-9 else partition
