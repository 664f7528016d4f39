"""Correlation of every pair of units over the samples that both have, from six matrix products."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def pairwise_correlation(
    now: Float[np.ndarray, "time target"],
    before: Float[np.ndarray, "time source"] | None = None,
    *,
    min_samples: int = 3,
) -> Float[np.ndarray, "target source"]:
    """Pearson's correlation of each column of `now` with each of `before` (or of `now` itself).

    Means and spreads are those of the samples that the pair has in common. NaN below `min_samples` of them, and where one of the
    two does not change over them.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 6.0], [5.0, 10.0]])
    >>> pairwise_correlation(x).round(6).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    same = before is None
    a, known_a = _centred(now)
    b, known_b = (a, known_a) if same else _centred(before)
    n = known_a.T @ known_b
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_a, mean_b = (a.T @ known_b) / n, (known_a.T @ b) / n
        covariance = (a.T @ b) / n - mean_a * mean_b
        spread_a, spread_b = (a**2).T @ known_b / n, known_a.T @ (b**2) / n
        variance_a, variance_b = spread_a - mean_a**2, spread_b - mean_b**2
        # What is left of a variance by rounding alone is no variance.
        moves = (variance_a > 1e-12 * spread_a) & (variance_b > 1e-12 * spread_b)
        r = covariance / np.sqrt(variance_a * variance_b)
    return np.where((n >= min_samples) & moves, np.clip(r, -1, 1), np.nan)


def _centred(x: Float[np.ndarray, "time unit"]) -> tuple[np.ndarray, np.ndarray]:
    """About each unit's mean, zero where missing, so that a large offset costs no digits; and where there is a sample."""
    known = ~np.isnan(x)
    mean = np.where(known, x, 0.0).sum(0) / np.maximum(known.sum(0), 1)
    return np.where(known, x - mean, 0.0), known.astype(float)
