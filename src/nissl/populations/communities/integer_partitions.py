"""How many ways there are to write a whole number as a sum: the price of a list of degrees whose order is told elsewhere."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, spence

LARGEST = 2 * 10**7  # entries up to which the table is exact


class LogPartitions:
    """ln q(m, n), q being the number of ways to write m as a sum of at most n positive whole numbers, order aside.

    Exact by q(m, n) = q(m, n - 1) + q(m - n, n), as a table, where the table is small enough; Szekeres' formula beyond.

    Examples
    --------
    >>> np.exp(LogPartitions(5, 5)(np.array([5]), np.array([3]))).round(6).tolist()
    [5.0]
    """

    def __init__(self, most: int, parts: int) -> None:
        self.table = _table(most, parts) if (most + 1) * (parts + 1) <= LARGEST else None

    def __call__(self, m: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Logarithms, elementwise; 0 for m = 0."""
        return self.table[n, m] if self.table is not None else _approximate(np.asarray(m), np.asarray(n))


def _table(most: int, parts: int) -> np.ndarray:
    table = np.full((parts + 1, most + 1), -np.inf)
    table[:, 0] = 0
    for n in range(1, parts + 1):
        # Along every stride of n, q(m, n) is a running sum of q(m, n - 1).
        padded = np.full(-(-(most + 1) // n) * n, -np.inf)
        padded[: most + 1] = table[n - 1]
        table[n] = np.logaddexp.accumulate(padded.reshape(-1, n), axis=0).ravel()[: most + 1]
    return table


def _approximate(m: np.ndarray, n: np.ndarray) -> np.ndarray:
    m, n = np.broadcast_arrays(np.asarray(m, float), np.asarray(n, float))
    n = np.minimum(n, m)
    some = (m > 0) & (n > 0)
    m_, n_ = np.where(some, m, 1.0), np.where(some, n, 1.0)
    few = gammaln(m_) - gammaln(n_) - gammaln(m_ - n_ + 1) - gammaln(n_ + 1)
    u = n_ / np.sqrt(m_)
    v = u.copy()
    for _ in range(60):  # v = u sqrt(Li2(1 - exp(-v))); spence(z) is Li2(1 - z)
        v = u * np.sqrt(spence(np.exp(-v)))
    many = np.log(v) - np.log1p(-np.exp(-v) * (1 + u**2 / 2)) / 2 - 1.5 * np.log(2) - np.log(u) - np.log(np.pi)
    many = many - np.log(m_) + np.sqrt(m_) * (2 * v / u - u * np.log1p(-np.exp(-v)))
    out = np.where(n_ < m_**0.25, few, many)
    return np.where(some, np.maximum(out, 0), np.where(m > 0, -np.inf, 0.0))
