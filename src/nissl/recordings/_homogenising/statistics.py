"""Means and deviations of units that come a stretch at a time, missing samples left out."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

CONSTANT = 1e-12  # a deviation below this share of the mean is rounding


class Moments:
    """Count, mean and population SD of every unit so far (Chan, Golub and LeVeque 1979: stable however long the recording)."""

    def __init__(self, n_units: int) -> None:
        self.count = np.zeros(n_units, dtype=np.int64)
        self.mean = np.full(n_units, np.nan)
        self._square = np.zeros(n_units)

    def push(self, x: Float[np.ndarray, "time unit"]) -> None:
        """Another stretch of samples."""
        if not len(x):
            return
        total = x.sum(0)
        missing = ~np.isfinite(total)
        count = np.full(x.shape[1], len(x))
        if missing.any():
            count[missing] = (~np.isnan(x[:, missing])).sum(0)
            total[missing] = np.nansum(x[:, missing], axis=0)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        deviation = x - mean
        square = np.einsum("ij,ij->j", deviation, deviation)
        if missing.any():
            square[missing] = np.nansum(deviation[:, missing] ** 2, axis=0)
        self._add(count, mean, square)

    def _add(self, count: np.ndarray, mean: np.ndarray, square: np.ndarray) -> None:
        before = np.where(self.count > 0, self.mean, mean)
        n = self.count + count
        step = mean - before
        with np.errstate(invalid="ignore", divide="ignore"):
            self.mean = np.where(n > 0, before + step * count / n, np.nan)
            self._square += square + np.where(n > 0, step**2 * self.count * count / n, 0.0)
        self.count = n

    @property
    def sd(self) -> Float[np.ndarray, "unit"]:
        """Population SD; NaN for units without a sample."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(self._square / self.count)

    @property
    def constant(self) -> np.ndarray:
        """Units that never change."""
        with np.errstate(invalid="ignore"):
            return self.sd <= CONSTANT * np.abs(self.mean)

    @property
    def spread(self) -> Float[np.ndarray, "unit"]:
        """The SD, NaN for units that never change."""
        return np.where(self.constant, np.nan, self.sd)


class Seen:
    """How many samples of every unit there were, and whether it ever changed; cheaper than its moments."""

    def __init__(self, n_units: int) -> None:
        self.count = np.zeros(n_units, dtype=np.int64)
        self._first = np.full(n_units, np.nan)
        self.constant = np.ones(n_units, dtype=bool)

    def push(self, x: Float[np.ndarray, "time unit"]) -> None:
        """Another stretch of samples."""
        if not len(x):
            return
        missing = np.isnan(x.sum(0))
        known = np.full(x.shape[1], len(x))
        if missing.any():
            known[missing] = (~np.isnan(x[:, missing])).sum(0)
        self.count += known
        still = np.flatnonzero(self.constant)  # after the first stretch hardly any
        if len(still):
            part = x[:, still]
            first = part[(~np.isnan(part)).argmax(0), np.arange(len(still))]
            self._first[still] = np.where(np.isnan(self._first[still]), first, self._first[still])
            self.constant[still] = ((part == self._first[still]) | np.isnan(part)).all(0)


def standardised(x: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """The z-score; NaN for units that never change, since they have none."""
    x -= mean
    x /= sd
    return x


class CausalScore:
    """A z-score by the mean and SD of the samples so far, the present one among them.

    Sums run over differences from each unit's first sample, which costs nothing and keeps the digits of a small signal on a
    large baseline.
    """

    def __init__(self, n_units: int, floor: float, burn_in: int) -> None:
        self.floor, self.burn_in = floor, burn_in
        self.origin = np.full(n_units, np.nan)
        self.sums = np.zeros((3, n_units))  # count, sum, sum of squares
        self.rows = 0
        self.mean = self.sd = np.empty((0, n_units))  # of the last stretch

    def push(self, x: Float[np.ndarray, "time unit"]) -> Float[np.ndarray, "time unit"]:
        known = ~np.isnan(x)
        if np.isnan(self.origin).any() and len(x):
            first = x[known.argmax(0), np.arange(x.shape[1])]
            self.origin = np.where(np.isnan(self.origin), first, self.origin)
        d = np.where(known, x - self.origin, 0.0)
        count, total, square = (
            np.cumsum(part, axis=0) + before
            for part, before in zip((known.astype(float), d, d * d), self.sums, strict=True)
        )
        if len(x):
            self.sums = np.stack([count[-1], total[-1], square[-1]])
        n = np.maximum(count, 1.0)
        drift = total / n
        sd = np.sqrt(np.maximum(square / n - drift**2, 0.0))
        out = (d - drift) / np.maximum(sd, self.floor)
        out[~known] = np.nan
        early = max(0, self.burn_in - self.rows)
        out[:early] = np.nan
        self.rows += len(x)
        nothing = count == 0
        self.mean = np.where(nothing, np.nan, self.origin + drift)
        self.sd = np.where(nothing, np.nan, np.maximum(sd, self.floor))
        return out

    def close(self) -> None:
        return None
