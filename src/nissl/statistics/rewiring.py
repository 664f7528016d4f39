"""Random graphs with the same degrees: the null for every statement about wiring."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from nissl.errors import InputError


def rewired(
    adjacency: Any, n: int = 1, *, swaps_per_edge: int = 10, directed: bool | None = None, seed: int = 0
) -> Float[np.ndarray, "surrogate target source"]:
    """Copies of a graph with edges swapped at random: in-degree and out-degree of every node stay (Maslov and Sneppen
    2002).

    Two edges j -> i and l -> k become j -> k and l -> i, unless that would make a self-loop or a second edge between
    the same two. Weights travel with the source's end, so that each node keeps its outgoing weights. Self-loops of the
    graph stay where they are. Swaps reach every undirected graph with these degrees, and nearly every directed one: a few tiny
    directed graphs, such as a lone cycle of three, cannot be turned round by swaps.

    Parameters
    ----------
    adjacency
        Weights `(target, source)`; zero or NaN means no edge.
    n
        How many surrogates.
    swaps_per_edge
        Swaps tried per edge; ten mix well.
    directed
        False keeps the copies symmetric; found from the matrix where None.
    seed
        For the swaps.

    Raises
    ------
    InputError
        No square matrix, fewer than two edges, or an undirected copy asked of an asymmetric matrix.

    Examples
    --------
    >>> a = (np.random.default_rng(0).random((20, 20)) < 0.2).astype(float)
    >>> np.fill_diagonal(a, 0)
    >>> b = rewired(a, 2)
    >>> bool((b.sum(1) == a.sum(0)).all() and (b.sum(2) == a.sum(1)).all() and (b != a).any())
    True
    """
    weights = np.nan_to_num(np.asarray(adjacency, dtype=float))
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise InputError(f"a graph of shape {weights.shape}; give a square matrix (target, source)")
    symmetric = bool(np.array_equal(weights, weights.T))
    if directed is None:
        directed = not symmetric
    if not directed and not symmetric:
        raise InputError("an undirected graph needs a symmetric matrix; this one is not, leave directed=None")
    off = weights * ~np.eye(len(weights), dtype=bool)
    target, source = np.nonzero(off if directed else np.tril(off))
    if len(target) < 2:
        raise InputError(f"{len(target)} edge(s) besides self-loops; rewiring needs two or more")
    if n < 1:
        raise InputError(f"{n} surrogates; give at least 1")
    rng = np.random.default_rng(seed)
    value = weights[target, source]
    out = np.tile(np.diag(np.diag(weights)), (n, 1, 1))
    for copy in range(n):
        t, s = _swapped(target, source, len(weights), swaps_per_edge * len(target), directed, rng)
        out[copy, t, s] = value
        if not directed:
            out[copy, s, t] = value
    return out


def _swapped(
    target: np.ndarray, source: np.ndarray, size: int, attempts: int, directed: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Edge ends after `attempts` tried swaps. Edges change one pair at a time, as the chain demands; plain Python lists and a
    flat table of what is taken make a swap cost about a microsecond.
    """
    t, s = target.tolist(), source.tolist()
    taken = bytearray(size * size)
    for a, b in zip(t, s, strict=True):
        taken[a * size + b] = 1
        if not directed:
            taken[b * size + a] = 1
    pairs = rng.integers(0, len(t), (attempts, 2)).tolist()
    turns = rng.random(attempts) < 0.5 if not directed else None
    for number, (e, f) in enumerate(pairs):
        if turns is not None and turns[number]:
            # An undirected edge has no first end: half of the time it is read the other way round.
            t[f], s[f] = s[f], t[f]
        i, j, k, m = t[e], s[e], t[f], s[f]
        if k == j or i in (m, k) or j == m or taken[k * size + j] or taken[i * size + m]:
            continue
        taken[i * size + j] = taken[k * size + m] = 0
        taken[k * size + j] = taken[i * size + m] = 1
        if not directed:
            taken[j * size + i] = taken[m * size + k] = 0
            taken[j * size + k] = taken[m * size + i] = 1
        t[e], t[f] = k, i
    return np.array(t), np.array(s)
