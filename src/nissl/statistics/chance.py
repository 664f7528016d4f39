"""An effect beside what chance gives: mean, spread, z and p over surrogates."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from nissl.errors import InputError, unknown

Tail = Literal["greater", "less", "two-sided"]
TAILS = ("greater", "less", "two-sided")


@dataclass(frozen=True)
class SurrogateTest:
    """An effect and the same statistic on surrogates; each field has the effect's shape.

    Attributes
    ----------
    name
        What was measured.
    effect
        The statistic of the data.
    mean, sd
        Over surrogates.
    z
        (effect - mean) / sd; NaN where the surrogates do not vary.
    p
        (1 + number of surrogates at least as extreme) / (1 + number of surrogates), so never 0 (Phipson and Smyth 2010).
    n
        Number of surrogates.
    tail
        Which side counts as extreme.
    surrogates
        `(surrogate, *effect.shape)`.
    """

    name: str
    effect: Any
    mean: Any
    sd: Any
    z: Any
    p: Any
    n: int
    tail: Tail
    surrogates: Float[np.ndarray, "surrogate ..."]

    def to_dict(self) -> dict[str, Any]:
        """The figures, without the surrogates."""
        return {k: v for k, v in vars(self).items() if k != "surrogates"}

    def __str__(self) -> str:
        if np.ndim(self.effect):
            return f"{self.name}: {np.size(self.effect)} effects, least p {np.nanmin(self.p):.3g}, {self.n} surrogates"
        return f"{self.name}: {self.effect:.4g}, surrogates {self.mean:.4g} +- {self.sd:.2g}, z {self.z:.2f}, p {self.p:.3g} (n = {self.n})"

    def _repr_html_(self) -> str:
        return f"<span title='effect, surrogates, one-based p'>{html.escape(str(self))}</span>"


def against(
    effect: Any,
    surrogates: Any,
    *,
    name: str = "effect",
    tail: Tail = "greater",
    correct: Literal["max"] | None = None,
) -> SurrogateTest:
    """Set an effect beside the same statistic on surrogates.

    Parameters
    ----------
    effect
        A number, or an array of them.
    surrogates
        `(surrogate, *effect.shape)`. Where the statistic of one does not exist (NaN), mean, SD and p are those of the others.
    tail
        `greater`: chance is at least as large; `less`; `two-sided`: chance lies at least as far from the surrogates'
        mean.
    correct
        `max`: p by the largest statistic over all entries, which holds for the whole array at once (Nichols and Holmes
        2002); statistics are put on one scale by the surrogates' mean and SD first.

    Raises
    ------
    InputError, UnknownNameError
        Shapes that do not fit, no surrogates, an unknown tail.

    Examples
    --------
    >>> test = against(3.0, [0.0, 1.0, -1.0, 0.5])
    >>> test.p, round(test.mean, 3)
    (0.2, 0.125)
    """
    if tail not in TAILS:
        raise unknown("tail", tail, TAILS)
    value, null = np.asarray(effect, dtype=float), np.asarray(surrogates, dtype=float)
    if null.ndim == 0 or null.shape[1:] != value.shape or len(null) == 0:
        raise InputError(
            f"{name}: effect of shape {value.shape} and surrogates of shape {null.shape}; give (surrogate, *effect.shape)"
        )
    n = len(null)
    exists = ~np.isnan(null)
    count = exists.sum(0)
    # Left in, a single NaN would make every comparison false, and p as small as it can be.
    mean = null.sum(0, where=exists) / np.where(count > 0, count, np.nan)
    spread = ((null - mean) ** 2).sum(0, where=exists)
    sd = np.where(count > 0, np.sqrt(spread / np.maximum(count - 1, 1)), np.nan)
    varies = sd > 1e-12 * np.maximum(1e-300, np.abs(mean))
    scale = np.where(varies, sd, np.nan)
    z = (value - mean) / scale
    if correct == "max":
        extremity, chance = _extremity(np.nan_to_num(z), tail), _extremity(np.nan_to_num((null - mean) / scale), tail)
        chance = chance.reshape(n, -1).max(1).reshape(n, *(1,) * value.ndim)
    elif correct is None:
        extremity, chance = _extremity(value - mean, tail), _extremity(null - mean, tail)
    else:
        raise unknown("correction", correct, ("max",))
    # Differences of the last bit must not decide a p value where a statistic takes few values.
    at_least = chance >= extremity - 1e-12 * (1 + np.abs(extremity))
    out_of = count if correct is None else n
    p = np.where(np.isnan(value) | (count == 0), np.nan, (1 + at_least.sum(0)) / (1 + out_of))
    plain = (lambda a: float(a)) if value.ndim == 0 else (lambda a: a)
    return SurrogateTest(name, plain(value), plain(mean), plain(sd), plain(z), plain(p), n, tail, null)


def surrogate_test(
    statistic: Callable[[Any], Any],
    make: Callable[[Any, np.random.Generator], Any],
    data: Any,
    *,
    n: int = 200,
    seed: int = 0,
    name: str = "effect",
    tail: Tail = "greater",
    correct: Literal["max"] | None = None,
) -> SurrogateTest:
    """Test a statistic that takes one data set at a time; those that take a batch go to `against` directly.

    Parameters
    ----------
    statistic
        From data to a number or an array.
    make
        From the data and a generator to one surrogate.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=100); y = x + rng.normal(size=100)
    >>> surrogate_test(lambda d: np.corrcoef(d[0], d[1])[0, 1], lambda d, r: (d[0], r.permutation(d[1])), (x, y), n=99).p
    0.01
    """
    if n < 1:
        raise InputError(f"{n} surrogates; give at least 1")
    rng = np.random.default_rng(seed)
    null = np.stack([np.asarray(statistic(make(data, rng)), dtype=float) for _ in range(n)])
    return against(statistic(data), null, name=name, tail=tail, correct=correct)


def _extremity(deviation: np.ndarray, tail: Tail) -> np.ndarray:
    if tail == "greater":
        return deviation
    return -deviation if tail == "less" else np.abs(deviation)
