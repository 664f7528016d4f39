"""Which of mine is which of yours: Hungarian matching of states, factors and clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from nissl.errors import InputError


@dataclass(frozen=True)
class Matching:
    """The pairs that are best together.

    Attributes
    ----------
    rows, columns
        Indices of the pairs, by ascending row.
    scores
        Similarity (or cost) of each pair.
    """

    rows: Int[np.ndarray, "pair"]
    columns: Int[np.ndarray, "pair"]
    scores: Float[np.ndarray, "pair"]

    @property
    def total(self) -> float:
        """The sum over pairs."""
        return float(self.scores.sum())

    @property
    def mean(self) -> float:
        """The mean over pairs."""
        return float(self.scores.mean())


def match(similarity: Any, *, maximise: bool = True) -> Matching:
    """One-to-one pairs of rows and columns with the largest total similarity (or the least cost).

    Parameters
    ----------
    similarity
        `(row, column)`; need not be square: min(rows, columns) pairs are made.

    Raises
    ------
    InputError
        No matrix, or NaN in it.

    Examples
    --------
    >>> match([[0.1, 0.9], [0.8, 0.2]]).columns.tolist()
    [1, 0]
    """
    from scipy.optimize import linear_sum_assignment

    table = np.asarray(similarity, dtype=float)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise InputError(f"similarities of shape {table.shape}; give a matrix (row, column) of finite numbers")
    rows, columns = linear_sum_assignment(table, maximize=maximise)
    return Matching(rows, columns, table[rows, columns])


def contingency(a: Any, b: Any) -> tuple[Int[np.ndarray, "row column"], np.ndarray, np.ndarray]:
    """How often each label of `a` meets each label of `b`, and the labels of both.

    Examples
    --------
    >>> contingency([0, 0, 1], ["x", "y", "y"])[0].tolist()
    [[1, 1], [0, 1]]
    """
    a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
    if a.shape != b.shape or len(a) == 0:
        raise InputError(f"{len(a)} labels and {len(b)}; give one a thing in both, of at least one thing")
    names_a, index_a = np.unique(a, return_inverse=True)
    names_b, index_b = np.unique(b, return_inverse=True)
    counts = np.bincount(index_a * len(names_b) + index_b, minlength=len(names_a) * len(names_b))
    return counts.reshape(len(names_a), len(names_b)), names_a, names_b


def match_labels(labels: Any, reference: Any) -> np.ndarray:
    """`labels` renamed so that as many as possible agree with `reference`; labels without a partner get new integers
    (or stay, where they are no integers and collide with none).

    Examples
    --------
    >>> match_labels([1, 1, 0], [5, 5, 7]).tolist()
    [5, 5, 7]
    """
    counts, mine, theirs = contingency(labels, reference)
    pairs = match(counts)
    renamed: list[Any] = [None] * len(mine)
    for row, column in zip(pairs.rows, pairs.columns, strict=True):
        renamed[row] = theirs[column]
    numeric = np.issubdtype(theirs.dtype, np.integer)
    spare = int(theirs.max()) + 1 if numeric else 0
    for row, name in enumerate(renamed):
        if name is None:
            renamed[row] = spare if numeric else f"unmatched {mine[row]}"
            spare += 1
    index = np.searchsorted(mine, np.asarray(labels).ravel())
    return np.array(renamed)[index].reshape(np.shape(labels))


def label_accuracy(labels: Any, reference: Any) -> float:
    """The share of things whose label agrees after the best one-to-one renaming.

    Examples
    --------
    >>> label_accuracy([1, 1, 0, 0], ["a", "a", "b", "a"])
    0.75
    """
    counts, _, _ = contingency(labels, reference)
    return match(counts).total / float(counts.sum())
