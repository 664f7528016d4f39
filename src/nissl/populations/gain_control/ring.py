"""Stage 1 of a fit to adaptation: a ring whose curves are those before it; and both stages at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import least_squares

from nissl.errors import unknown
from nissl.populations.gain_control.models import BOUNDS, GainModel, rescaled
from nissl.recordings.simulate.tuning import ring_weights, tuned_drive

# Name: start, lower and upper bound. The recurrence stays below 1, where the ring is stable.
FREE = {"concentration": (1.5, 0.05, 50.0), "recurrence": (0.5, 0.01, 0.98), "width": (12.0, 2.0, 60.0)}
ALWAYS = {"baseline": 0.2, "inhibition": 0.0}
Curves = Float[np.ndarray, "recording unit stimulus"]


@dataclass(frozen=True)
class RingFit:
    """A ring fitted to tuning curves.

    Attributes
    ----------
    parameters
        value, and the 95 % interval low to high within the bounds of the fit (NaN for what was fixed). Wide intervals say that
        the curves do not tell.
    share
        Share of the variance of the curves before adaptation that it explains.
    drive, recurrent
        `(unit, stimulus)` and `(target, source)`.
    """

    parameters: pd.DataFrame
    share: float
    drive: Float[np.ndarray, "unit stimulus"]
    recurrent: Float[np.ndarray, "target source"]


@dataclass(frozen=True)
class Ring:
    """The ring to be fitted: where its neurons and stimuli lie, and which of its numbers are fixed."""

    preferred: Float[np.ndarray, "unit"]
    orientation: Float[np.ndarray, "stimulus"]
    fixed: Mapping[str, float]

    def __post_init__(self) -> None:
        for name in self.fixed:
            if name not in (*FREE, *ALWAYS):
                raise unknown("ring parameter", name, (*FREE, *ALWAYS))

    @property
    def names(self) -> list[str]:
        """The numbers that are free."""
        return [n for n in FREE if n not in self.fixed]

    def bounds(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Logarithms of starts, lower and upper ends."""
        start, low, high = np.log([FREE[n] for n in self.names]).reshape(-1, 3).T
        return start, low, high

    def numbers(self, x: Any, baseline: float) -> dict[str, float]:
        """All numbers of the ring, from the logarithms of the free ones."""
        return {**ALWAYS, **self.fixed, **dict(zip(self.names, np.exp(x), strict=True)), "baseline": baseline}

    def circuit(self, x: Any, baseline: float) -> tuple[np.ndarray, np.ndarray]:
        """Drive and weights."""
        at = self.numbers(x, baseline)
        drive = tuned_drive(
            self.preferred, self.orientation, baseline=at["baseline"], concentration=at["concentration"]
        )
        weights = {k: at[k] for k in ("recurrence", "width", "inhibition")}
        return drive, ring_weights(self.preferred, **weights)

    def response(self, x: Any, baseline: float = 0.0) -> Float[np.ndarray, "unit stimulus"]:
        """Curves at unit gain."""
        drive, weights = self.circuit(x, baseline)
        return np.linalg.solve(np.eye(len(weights)) - weights, drive)

    def result(self, before: Curves, x: np.ndarray, errors: np.ndarray, baseline: float) -> RingFit:
        """The ring at these numbers, with their intervals."""
        rows = dict.fromkeys(self.numbers(x, baseline), (np.nan, np.nan))
        for name, v, e in zip(self.names, x, errors, strict=True):
            ends = np.log(FREE[name][1:])
            rows[name] = tuple(np.exp(np.clip((v - 1.96 * e, v + 1.96 * e), *ends)))
        values = self.numbers(x, baseline)
        table = pd.DataFrame(
            {"value": values, "low": {k: v[0] for k, v in rows.items()}, "high": {k: v[1] for k, v in rows.items()}}
        )
        left, around = regressed(before, self.response(x))[2], before - np.nanmean(before, -1, keepdims=True)
        share = 1 - np.nansum(left**2) / np.nansum(around**2)
        return RingFit(table.rename_axis("parameter"), float(share), *self.circuit(x, baseline))


def fit_ring(before: Curves, ring: Ring, raw: bool) -> tuple[RingFit, np.ndarray, float]:
    """Concentration, recurrence and width from the shape of the curves; the baseline from their minima, if they are raw.

    Returns
    -------
    fit, x, baseline
        x are the logarithms of the free numbers.
    """
    x = errors = np.empty(0)
    if ring.names:
        # Residuals in units of each neuron's spread, so that strong neurons do not decide alone.
        spread = np.nanstd(before, -1, keepdims=True)
        spread, known = np.where(spread > 0, spread, 1), np.isfinite(before)
        start, low, high = ring.bounds()
        found = least_squares(
            lambda x: (regressed(before, ring.response(x))[2] / spread)[known],
            start,
            bounds=(low, high),
            diff_step=1e-5,
        )
        x, errors = found.x, log_errors(found)
    baseline = ring.fixed.get("baseline", ALWAYS["baseline"])
    if "baseline" not in ring.fixed and raw:
        baseline = _baseline(before, ring, x)
    return ring.result(before, x, errors, baseline), x, baseline


def fit_both(
    before: Curves,
    after: Curves,
    contexts: Float[np.ndarray, "recording stimulus"],
    ring: Ring,
    start: np.ndarray,
    baseline: float,
    in_range: Any,
    **settings: str,
) -> tuple[RingFit, pd.DataFrame]:
    """Ring and gains from all curves at once: how curves shift says how strong the recurrence is.

    Returns
    -------
    fit, table
        The ring, and alpha and gamma with intervals that know that the ring is uncertain too.
    """
    both = np.isfinite(before), np.isfinite(after)

    def residual(x: np.ndarray) -> np.ndarray:
        model = GainModel.of(*ring.circuit(x[2:], baseline), contexts, **settings)
        usual, adapted = model.curves(*np.exp(x[:2]))
        predicted = rescaled(usual, adapted)[1]
        usual = rescaled(usual, usual)[0]
        seen, changed = in_range(before, after, usual)
        return np.concatenate([(seen - usual)[both[0]], (changed - predicted)[both[1]]])

    _, low, high = ring.bounds()
    ends = np.log(BOUNDS)
    limits = np.r_[ends[0], ends[0], low], np.r_[ends[1], ends[1], high]
    # A second start with strong narrow recurrence: the valley is long and flat.
    other = np.clip(
        start + np.log([{"concentration": 1.2, "recurrence": 1.5, "width": 0.6}[n] for n in ring.names]), low, high
    )
    inside = [np.clip(np.r_[0.0, 0.0, s], limits[0] + 1e-3, limits[1] - 1e-3) for s in (start, other)]
    tries = [least_squares(residual, s, bounds=limits, diff_step=1e-5) for s in inside]
    best = min(tries, key=lambda t: t.cost)
    errors = log_errors(best)
    return ring.result(before, best.x[2:], errors[2:], baseline), number_table(GainModel.names, best.x[:2], errors[:2])


def regressed(before: Curves, curve: Float[np.ndarray, "unit stimulus"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each curve as offset + scale x the model's, by least squares where it is known: offset, scale and what is left."""
    model = np.where(np.isfinite(before), curve, np.nan)
    x = model - np.nanmean(model, -1, keepdims=True)
    mean = np.nanmean(before, -1, keepdims=True)
    y = before - mean
    scale = np.nansum(x * y, -1, keepdims=True) / np.nansum(x**2, -1, keepdims=True)
    return mean - scale * np.nanmean(model, -1, keepdims=True), scale, y - scale * x


def _baseline(before: Curves, ring: Ring, x: np.ndarray) -> float:
    """The untuned drive that raw curves are lifted by: their offset, in units of the tuned part.

    A constant drive b lifts every curve by a constant, so the offset of the regression on curves without baseline, over
    its scale, is that lift; the median over neurons and recordings is robust to a few odd ones.
    """
    offset, scale, _ = regressed(before, ring.response(x))
    unit = float(np.median(ring.response(x, 1.0) - ring.response(x)))
    return max(float(np.median(offset / scale)) / unit, 1e-3)


def log_errors(found: Any) -> np.ndarray:
    """Standard errors of the fitted logarithms, from the curvature; infinite where the data say nothing."""
    spread = 2 * found.cost / max(len(found.fun) - len(found.x), 1)
    values, vectors = np.linalg.eigh(found.jac.T @ found.jac)
    variance = (vectors**2 / np.maximum(values, 1e-300)).sum(1) * spread
    return np.sqrt(variance)


def number_table(names: tuple[str, ...], logs: np.ndarray, errors: np.ndarray) -> pd.DataFrame:
    """Values of positive numbers with 95 % intervals within the bounds of the fit."""
    ends = np.log(BOUNDS)
    return pd.DataFrame(
        {
            "value": np.exp(logs),
            "low": np.exp(np.clip(logs - 1.96 * errors, *ends)),
            "high": np.exp(np.clip(logs + 1.96 * errors, *ends)),
            "at_bound": (np.exp(logs) < 1.05 * BOUNDS[0]) | (np.exp(logs) > BOUNDS[1] / 1.05),
        },
        index=pd.Index(list(names), name="parameter"),
    )
