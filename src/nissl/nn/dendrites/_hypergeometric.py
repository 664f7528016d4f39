"""Tails of the hypergeometric distribution to full precision, however small, for whole grids at once.

Ratios of binomial coefficients overflow, differences of log-gamma functions lose digits, and one minus a distribution
function loses small tails. So the probability of one overlap is written as the 2 by 2 table that it is (on the segment or
not, active or not): with ``log k! = k log k - k + r(k)`` all large terms join to deviances from what is expected,

    log p(b) = sum of r(margins) - r(n) - sum over cells of [r(cell) + cell log(cell / expected) - cell + expected],

each of which is small. The tail is p(theta) times a sum of products of ratios p(b+1) / p(b), all below one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_SMALL = 16


def _rests() -> np.ndarray:
    k = np.arange(1, _SMALL, dtype=np.longdouble)
    return np.r_[0, np.log(np.cumprod(k)) - (k * np.log(k) - k)].astype(float)


_TABLE = _rests()


def _rest(k: np.ndarray) -> np.ndarray:
    """``log k! - (k log k - k)``: a table, then Stirling's series; 0 at 0."""
    x = np.maximum(k, _SMALL)
    y = 1 / (x * x)
    series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / x + 0.5 * np.log(2 * np.pi * x)
    return np.where(k < _SMALL, _TABLE[np.minimum(k, _SMALL - 1).astype(int)], series)


def _deviance(cell: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """``x log(x / y) - x + y`` where y = x - excess."""
    x = np.maximum(cell, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = -x * np.log1p(-excess / x) - excess
    return np.where(cell > 0, inside, -excess)


def log_overlap(n: np.ndarray, s: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Log of ``C(s, b) C(n-s, a-b) / C(n, a)``; -inf where that is impossible."""
    least, most = np.maximum(0, s + a - n), np.minimum(s, a)
    inside = (b >= least) & (b <= most)
    b = np.clip(b, least, most)
    excess = (b * n - s * a) / np.maximum(n, 1)
    log_p = _rest(s) + _rest(n - s) + _rest(a) + _rest(n - a) - _rest(n)
    for cell, sign in ((b, 1), (s - b, -1), (a - b, -1), (n - s - a + b, 1)):
        log_p = log_p - _rest(cell) - _deviance(cell, sign * excess)
    return np.where(inside, log_p, -np.inf)


def sum_of_ratios(ratio: Callable[[int], np.ndarray], terms: int) -> np.ndarray:
    """``1 + r(0) + r(0) r(1) + ...`` until nothing is added any more."""
    total = term = np.ones_like(ratio(0))
    for k in range(terms):
        term = term * ratio(k)
        total = total + term
        if (term <= 1e-17 * total).all():
            break
    return total


def _log_above(n: np.ndarray, s: np.ndarray, a: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Log of P(overlap >= theta) for a theta above the mean; -inf where no overlap is that large."""
    most = np.minimum(s, a)
    start = np.minimum(theta, most)

    def ratio(k: int) -> np.ndarray:
        b = start + k
        # Both factors are 0 at the largest overlap and stay so beyond it.
        up = np.maximum(s - b, 0) * np.maximum(a - b, 0)
        return up / ((b + 1) * np.maximum(n - s - a + b + 1, 1))

    terms = int((most - start).max(initial=0))
    return np.where(theta <= most, log_overlap(n, s, a, start) + np.log(sum_of_ratios(ratio, terms)), -np.inf)


def tail(n: np.ndarray, s: np.ndarray, a: np.ndarray, theta: np.ndarray, *, log: bool) -> np.ndarray:
    """P(X >= theta), or its log, X the overlap of s marked with a drawn of n cells.

    A theta at or below the mean is asked the other way round: s - X counts what is marked and not drawn, so that
    P(X < theta) = P(s - X >= s - theta + 1) is the tail of another such distribution, and what is left of one is exact.
    """
    certain = theta <= np.maximum(0, s + a - n)
    # n s and theta n are whole, so that the comparison is exact.
    below = theta * n <= s * a
    flipped = _log_above(n, s, np.where(below, n - a, a), np.where(below, s - theta + 1, theta))
    flipped = np.minimum(np.where(certain, -np.inf, flipped), 0)
    if log:
        with np.errstate(divide="ignore"):
            return np.where(below | certain, np.log1p(-np.exp(flipped)), flipped)
    return np.where(below | certain, -np.expm1(flipped), np.exp(flipped))
