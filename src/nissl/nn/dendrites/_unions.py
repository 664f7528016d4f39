"""Several patterns at once: mixed on one segment, or active together."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from nissl.errors import InputError, unknown
from nissl.nn.dendrites._probability import match_probability
from nissl.nn.dendrites._sizes import sizes, within

Of = Literal["segment", "activity"]


def union_size(n: Any, s: Any, m: Any) -> Float[np.ndarray, "..."]:
    """Expected number of distinct cells in m random sets of s cells each: ``n (1 - (1 - s/n)^m)``.

    Parameters
    ----------
    n
        Cells of the population.
    s
        Cells of one set: synapses of a segment for one pattern, or active cells of a pattern.
    m
        Sets.

    Returns
    -------
    float or ndarray
        A real number, not rounded.

    Raises
    ------
    InputError
        Sizes that are negative, no whole numbers, or larger than the population.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> union_size(10_000, 25, [1, 2, 10]).round(2).tolist()
    [25.0, 49.94, 247.21]
    """
    n, s, m = sizes(n=n, s=s, m=m)
    within(s, n, "s", "n")
    return _union(n, s, m)[()]


def union_match_probability(
    n: Any, a: Any, s: Any, theta: Any, m: Any, *, of: Of = "segment", log: bool = False
) -> Float[np.ndarray, "..."]:
    """Probability of a false match where m patterns share a segment, or are active at once.

    Parameters
    ----------
    n, a, s, theta, log
        As of `match_probability`; a and s are those of one pattern.
    m
        Patterns, from 1.
    of
        "segment": the synapses of m patterns lie on one segment; recognition of each stays as it was, since all its synapses are
        there. "activity": m patterns are active at once, as where several things are predicted.

    Returns
    -------
    float or ndarray
        `match_probability` with the size of the union, rounded once to a whole number.

    Raises
    ------
    InputError, UnknownNameError
        Sizes that cannot be; another kind of union.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> [f"{p:.2e}" for p in union_match_probability(10_000, 200, 25, 15, [1, 2, 3, 4, 10])]
    ['5.30e-20', '2.36e-14', '1.54e-11', '1.10e-09', '1.27e-04']
    """
    if of not in get_args(Of):
        raise unknown("union", of, get_args(Of))
    n, a, s, theta, m = sizes(n=n, a=a, s=s, theta=theta, m=m)
    within(a, n, "a", "n")
    within(s, n, "s", "n")
    many = np.rint(_union(n, s if of == "segment" else a, m))
    a, s = (a, many) if of == "segment" else (many, s)
    return match_probability(n, a, s, theta, log=log)


def union_capacity(n: Any, a: Any, s: Any, theta: Any, tol: float, *, of: Of = "segment") -> Float[np.ndarray, "..."]:
    """The most patterns that can share a segment (or be active at once) with a false match still rarer than a tolerance.

    Parameters
    ----------
    n, a, s, theta, of
        As of `union_match_probability`.
    tol
        The probability that is not to be exceeded, between 0 and 1.

    Returns
    -------
    float or ndarray
        Whole numbers; 0 where even one pattern is too much, inf where no number of them is.

    Raises
    ------
    InputError, UnknownNameError
        As `union_match_probability`; a tolerance outside of 0 to 1.

    Examples
    --------
    >>> union_capacity([1000, 10_000], [20, 200], 25, 15, 1e-9).tolist()
    [6.0, 3.0]
    """
    if not 0 < tol < 1:
        raise InputError(f"tol {tol}; a probability between 0 and 1")
    n, a, s, theta = sizes(n=n, a=a, s=s, theta=theta)

    def fits(m: np.ndarray) -> np.ndarray:
        return union_match_probability(n, a, s, theta, m, of=of, log=True) <= np.log(tol)

    one = s if of == "segment" else a
    with np.errstate(divide="ignore"):
        # From here on the union is the whole population, as far as rounding can tell.
        full = np.ceil(np.log(0.25 / np.maximum(n, 1)) / np.log1p(-np.where(one < n, one, 0) / np.maximum(n, 1)))
    full = np.where(one == n, 1, np.where(one == 0, 1, full))
    low, high = np.zeros_like(n), full  # low fits, high may not
    for _ in range(int(np.ceil(np.log2(full.max(initial=1) + 1))) + 1):
        middle = np.ceil((low + high) / 2)
        good = fits(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle - 1)
    return np.where(fits(full), np.inf, low)[()]


def _union(n: np.ndarray, size: np.ndarray, m: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.where(m > 0, m * np.log1p(-size / np.maximum(n, 1)), 0)
    return -n * np.expm1(left)
