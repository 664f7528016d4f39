"""How likely a segment errs: closed forms of Ahmad and Hawkins, for scalars and for whole grids."""

from __future__ import annotations

from fractions import Fraction
from math import comb
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import betaln

from nissl.nn.dendrites._hypergeometric import log_overlap, sum_of_ratios, tail
from nissl.nn.dendrites._sizes import exactly, one_form, sizes, within


def overlap_probability(n: Any, a: Any, s: Any, b: Any, *, log: bool = False, exact: bool = False) -> Any:
    """Probability that exactly b of a segment's s synapses see an active cell.

    ``|Omega(n, a, b)| / C(n, a)`` with ``|Omega| = C(s, b) C(n-s, a-b)``, the hypergeometric distribution.

    Parameters
    ----------
    n, a, s, b
        Cells, active cells, synapses, overlap: whole numbers, or arrays of them that broadcast.
    log
        The natural logarithm instead; finite where the probability itself is too small for a double.
    exact
        `fractions.Fraction` instead of float64.

    Returns
    -------
    float or ndarray
        Of the common shape.

    Raises
    ------
    InputError
        Sizes that are negative, no whole numbers, or larger than the population.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> overlap_probability(5, 2, 2, [0, 1, 2]).round(3).tolist()
    [0.3, 0.6, 0.1]
    >>> overlap_probability(5, 2, 2, 2, exact=True)
    Fraction(1, 10)
    """
    one_form(log, exact)
    n, a, s, b = _checked(n, a, s, b=b)
    if exact:
        return exactly(_fraction_at, n, a, s, b)
    found = log_overlap(n, s, a, b)
    return (found if log else np.exp(found))[()]


def match_probability(n: Any, a: Any, s: Any, theta: Any, *, log: bool = False, exact: bool = False) -> Any:
    """Probability that a random pattern fires a segment that has nothing to do with it: a false positive.

    ``P = sum_{b >= theta} C(s, b) C(n-s, a-b) / C(n, a)``: the tail of the hypergeometric distribution. s and a may change places;
    s = a is the match of two whole patterns.

    Parameters
    ----------
    n, a, s, theta
        Cells of the population, active cells, synapses of the segment, and how many of them must see an active cell at once. Whole
        numbers, or arrays of them that broadcast. A theta above s or a is never reached: 0.
    log
        The natural logarithm instead; finite where the probability itself is too small for a double.
    exact
        `fractions.Fraction` instead of float64.

    Returns
    -------
    float or ndarray
        Of the common shape.

    Raises
    ------
    InputError
        Sizes that are negative, no whole numbers, or larger than the population.

    Notes
    -----
    Holds for patterns that are drawn at random and independently. Real codes are correlated: look at `populations.estimate_sdr`.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> f"{match_probability(10_000, 300, 24, 12):.4e}"
    '8.3758e-13'
    >>> match_probability(10_000, 10, 24, [8, 9, 10], log=True).round(2).tolist()
    [-45.76, -53.7, -62.51]
    """
    one_form(log, exact)
    n, a, s, theta = _checked(n, a, s, theta=theta)
    if exact:
        return exactly(_fraction_from, n, a, s, theta)
    return tail(n, s, a, theta, log=log)[()]


def any_match_probability(n: Any, a: Any, s: Any, theta: Any, m: Any, *, log: bool = False, exact: bool = False) -> Any:
    """Probability that a random pattern fires at least one of m independent segments, a neuron's or those of a set of patterns.

    ``P_any = 1 - (1 - P)^m``, at most m P.

    Parameters
    ----------
    n, a, s, theta, log, exact
        As of `match_probability`.
    m
        Segments.

    Returns
    -------
    float or ndarray
        Of the common shape.

    Raises
    ------
    InputError
        As `match_probability`.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> f"{any_match_probability(100, 7, 7, 5, 500):.4e}"
    '2.8225e-03'
    """
    one_form(log, exact)
    n, a, s, theta, m = _checked(n, a, s, theta=theta, m=m)
    if exact:
        return exactly(lambda n, a, s, theta, m: 1 - (1 - _fraction_from(n, a, s, theta)) ** m, n, a, s, theta, m)
    log_p = tail(n, s, a, theta, log=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_sum = np.where(m > 0, log_p + np.log(m), -np.inf)
        # Log of how likely none fires; below 1e-16 it is minus the sum of all, which then also serves for the logarithm.
        log_none = np.where(m > 0, m * np.log1p(-np.exp(log_p)), 0)
        if not log:
            return (-np.expm1(log_none))[()]
        return np.where(log_sum < -36, log_sum, np.log(-np.expm1(log_none)))[()]


def miss_probability(a: Any, s: Any, theta: Any, flipped: Any, *, log: bool = False, exact: bool = False) -> Any:
    """Probability that a segment misses its own pattern when noise has switched off some of the pattern's cells.

    Of s synapses, chosen among the pattern's a active cells, L lose theirs, L hypergeometric (a, s, flipped); the segment is silent where
    s - L < theta: ``P = sum_{b < theta} C(s, b) C(a-s, a-flipped-b) / C(a, a-flipped)``, whatever the size of the population. Up to
    s - theta of the cells that it sees may be lost without any risk.

    Parameters
    ----------
    a, s, theta
        Active cells of the pattern, synapses, threshold: whole numbers, or arrays that broadcast.
    flipped
        Active cells that noise switches off. Those that it switches on instead are no cells of the pattern, and no synapse sees them.
    log, exact
        As of `match_probability`.

    Returns
    -------
    float or ndarray
        Of the common shape.

    Raises
    ------
    InputError
        More synapses, or more flipped cells, than the pattern has active ones.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> miss_probability(128, 30, [8, 12, 16], 64).round(4).tolist()
    [0.0007, 0.0717, 0.5825]
    """
    one_form(log, exact)
    a, s, theta, flipped = sizes(a=a, s=s, theta=theta, flipped=flipped)
    within(s, a, "s", "a")
    within(flipped, a, "flipped", "a")
    lost = np.maximum(s - theta + 1, 0)
    if exact:
        return exactly(_fraction_from, a, flipped, s, lost)
    return tail(a, s, flipped, lost, log=log)[()]


def match_bounds(n: Any, a: Any, s: Any, theta: Any) -> dict[str, Float[np.ndarray, "..."]]:
    """What the probability of a false match is at most: logarithms of three bounds, the laws by which it falls.

    - `union`: ``C(s, theta) (a/n)^theta``, a power of the size of the population;
    - `chernoff`: ``exp(-s KL(theta/s || a/n))``, exponential in the synapses (where theta/s > a/n, else 1);
    - `binomial`: ``P(Bin(s, a/n) >= theta)``, where the error stops falling if n grows at the same sparsity. A bound once theta
      exceeds the mean overlap by more than about one.

    Parameters
    ----------
    n, a, s, theta
        As of `match_probability`; theta from 0 to s.

    Returns
    -------
    dict
        Natural logarithms under these names, of the common shape.

    Raises
    ------
    InputError
        As `match_probability`, and a theta above s.

    Examples
    --------
    >>> {name: f"{np.exp(bound):.2e}" for name, bound in match_bounds(4000, 128, 24, 12).items()}
    {'union': '3.12e-12', 'chernoff': '1.31e-11', 'binomial': '2.18e-12'}
    """
    n, a, s, theta = _checked(n, a, s, theta=theta)
    within(theta, s, "theta", "s")
    with np.errstate(divide="ignore", invalid="ignore"):
        p = a / n
        log_p, log_q = np.log(p), np.log1p(-p)
        # log C(s, theta), and 0 log 0 = 0
        union = np.where(theta > 0, theta * log_p, 0) - betaln(s - theta + 1, theta + 1) - np.log1p(s)
        hits = np.where(theta > 0, theta * (np.log(theta / s) - log_p), 0)
        misses = np.where(theta < s, (s - theta) * (np.log1p(-theta / s) - log_q), 0)
        chernoff = np.where(theta > s * p, -(hits + misses), 0)
        at = union + np.where(theta < s, (s - theta) * log_q, 0)
        odds = np.exp(log_p - log_q)
        terms = int((s - theta).max(initial=0))
        above = at + np.log(sum_of_ratios(lambda k: np.maximum(s - theta - k, 0) / (theta + k + 1) * odds, terms))
    # All cells active: every synapse sees one.
    binomial = np.where((a == n) | (theta == 0), 0, np.minimum(above, 0))
    return {"union": union[()], "chernoff": chernoff[()], "binomial": binomial[()]}


def _checked(n: Any, a: Any, s: Any, **rest: Any) -> list[np.ndarray]:
    n, a, s, *others = sizes(n=n, a=a, s=s, **rest)
    within(a, n, "a", "n")
    within(s, n, "s", "n")
    return [n, a, s, *others]


def _fraction_at(n: int, a: int, s: int, b: int) -> Fraction:
    return Fraction(comb(s, b) * comb(n - s, a - b), comb(n, a)) if b <= a else Fraction(0)


def _fraction_from(n: int, a: int, s: int, theta: int) -> Fraction:
    ways = sum(comb(s, b) * comb(n - s, a - b) for b in range(theta, min(s, a) + 1))
    return Fraction(ways, comb(n, a))
