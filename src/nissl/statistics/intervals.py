"""How sure a mean is, and how surely it differs from its control: bootstrap intervals."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from nissl.errors import InputError

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Measured:
    """A quantity, its control, and how surely they differ.

    Attributes
    ----------
    name, unit
        What was measured, and in what.
    value, low, high
        Mean over samples and its bootstrap interval.
    control, control_low, control_high
        The same of the control.
    difference_low, difference_high
        Interval of the mean of value minus control, sample by sample.
    n
        Number of samples.
    values, control_values
        One number a sample.
    """

    name: str
    value: float
    low: float
    high: float
    control: float
    control_low: float
    control_high: float
    difference_low: float
    difference_high: float
    n: int
    values: Float[np.ndarray, "sample"]
    control_values: Float[np.ndarray, "sample"]
    unit: str = ""

    @property
    def apart(self) -> bool:
        """Whether the two intervals do not touch."""
        return self.low > self.control_high or self.high < self.control_low

    @property
    def differs(self) -> bool:
        """Whether the paired difference is surely not zero."""
        return self.difference_low > 0 or self.difference_high < 0

    def to_dict(self) -> dict[str, Any]:
        """The figures, without the values of the samples."""
        return {k: v for k, v in vars(self).items() if k not in ("values", "control_values")}

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.value:.3f} [{self.low:.3f}, {self.high:.3f}]{self.unit and ' ' + self.unit}, "
            f"control {self.control:.3f} [{self.control_low:.3f}, {self.control_high:.3f}], n = {self.n}"
        )

    def _repr_html_(self) -> str:
        return f"<span title='mean and 95% bootstrap interval'>{html.escape(str(self))}</span>"


def measure(
    name: str,
    values: Any,
    control_values: Any,
    *,
    unit: str = "",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Measured:
    """Means, bootstrap intervals and paired difference of values and their control, one number a sample each.

    Raises
    ------
    InputError
        No samples, NaN, or lists of different length.

    Examples
    --------
    >>> measure("hits", [1, 1, 0, 1], [0, 0, 0, 1]).value
    0.75
    """
    a, b = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (values, control_values))
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise InputError(
            f"{name}: values of shape {a.shape} and control of shape {b.shape}; give one number a sample, of at least one sample"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(f"{name}: NaN among the {len(a)} values")
    low, high = bootstrap(a, level=level, resamples=resamples, seed=seed)
    control_low, control_high = bootstrap(b, level=level, resamples=resamples, seed=seed)
    difference = bootstrap(a - b, level=level, resamples=resamples, seed=seed)
    return Measured(
        name, float(a.mean()), low, high, float(b.mean()), control_low, control_high, *difference, len(a), a, b, unit
    )  # fmt: skip


def bootstrap(
    values: Float[np.ndarray, "sample"],
    statistic: Statistic | None = None,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic under resampling of the samples (Efron 1979); the mean by default.

    Parameters
    ----------
    statistic
        From an array `(resample, sample)` to `(resample,)`.

    Examples
    --------
    >>> low, high = bootstrap(np.arange(100.0))
    >>> low < 49.5 < high
    True
    """
    values = np.asarray(values, dtype=float)
    drawn = values[np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))]
    means = drawn.mean(1) if statistic is None else statistic(drawn)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
