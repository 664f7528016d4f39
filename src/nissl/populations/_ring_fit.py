"""Stage 1 of a fit to adaptation: a ring whose curves are those before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import least_squares

from nissl.errors import unknown
from nissl.recordings.simulate.tuning import ring_weights, tuned_drive

# Name: start, lower and upper bound. The recurrence stays below 1, where the ring is stable.
FREE = {"concentration": (1.5, 0.05, 50.0), "recurrence": (0.5, 0.01, 0.98), "width": (12.0, 2.0, 60.0)}
ALWAYS = {"baseline": 0.2, "inhibition": 0.0}


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


def fit_ring(
    before: Float[np.ndarray, "recording unit stimulus"],
    orientation: Float[np.ndarray, "stimulus"],
    preferred: Float[np.ndarray, "unit"],
    raw: bool,
    fixed: Mapping[str, float],
) -> RingFit:
    """Concentration, recurrence and width from the shape of the curves; the baseline from their minima, if they are raw.

    Raises
    ------
    UnknownNameError
        A fixed number that the ring does not have.
    """
    for name in fixed:
        if name not in (*FREE, *ALWAYS):
            raise unknown("ring parameter", name, (*FREE, *ALWAYS))
    names = [n for n in FREE if n not in fixed]
    known = np.isfinite(before)
    values = np.where(known, before, 0)

    def circuit(x: np.ndarray, baseline: float) -> tuple[np.ndarray, np.ndarray]:
        at = {**ALWAYS, **fixed, **dict(zip(names, np.exp(x), strict=True)), "baseline": baseline}
        drive = tuned_drive(preferred, orientation, baseline=at["baseline"], concentration=at["concentration"])
        return drive, ring_weights(
            preferred, recurrence=at["recurrence"], width=at["width"], inhibition=at["inhibition"]
        )

    def shape(x: np.ndarray, baseline: float = 0.0) -> np.ndarray:
        drive, weights = circuit(x, baseline)
        return np.linalg.solve(np.eye(len(weights)) - weights, drive)

    def affine(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each neuron's offset and scale, by regression on the model's curve, and what is left."""
        n = known.sum(-1, keepdims=True)
        mean_x = np.where(known, curve, 0).sum(-1, keepdims=True) / n
        mean_y = values.sum(-1, keepdims=True) / n
        x, y = np.where(known, curve - mean_x, 0), np.where(known, values - mean_y, 0)
        scale = (x * y).sum(-1, keepdims=True) / (x**2).sum(-1, keepdims=True)
        return mean_y - scale * mean_x, scale, y - scale * x

    # Residuals in units of each neuron's spread, so that strong neurons do not decide alone.
    spread = np.where(known, before, np.nan)
    spread = np.nanstd(spread, -1, keepdims=True)
    spread = np.where(spread > 0, spread, 1)

    if names:
        start, low, high = (np.log([FREE[n][i] for n in names]) for i in range(3))
        found = least_squares(
            lambda x: (affine(shape(x))[2] / spread)[known], start, bounds=(low, high), x_scale=1.0, diff_step=1e-5
        )
        x = found.x
        errors = log_errors(found)
    else:
        x = errors = np.empty(0)
    baseline = fixed.get("baseline", ALWAYS["baseline"])
    if "baseline" not in fixed and raw:
        baseline = _baseline(x, shape, affine)
    drive, weights = circuit(x, baseline)
    left = affine(shape(x))[2]
    total = np.where(known, values - values.sum(-1, keepdims=True) / known.sum(-1, keepdims=True), 0)
    with np.errstate(over="ignore"):
        rows = {
            n: (np.exp(v), np.exp(v - 1.96 * e), np.exp(v + 1.96 * e)) for n, v, e in zip(names, x, errors, strict=True)
        }
    rows |= {n: (v, np.nan, np.nan) for n, v in {**ALWAYS, **fixed, "baseline": baseline}.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"]).rename_axis("parameter")
    return RingFit(table, float(1 - (left**2).sum() / (total**2).sum()), drive, weights)


def _baseline(x: np.ndarray, shape: object, affine: object) -> float:
    """The untuned drive that raw curves are lifted by: their offset, in units of the tuned part.

    A constant drive b lifts every curve by a constant, so the offset of the regression on curves without baseline, over
    its scale, is that lift; the median over neurons and recordings is robust to a few odd ones.
    """
    offset, scale, _ = affine(shape(x))  # type: ignore[operator]
    lift = float(np.median(offset / scale))
    unit = float(np.median(shape(x, 1.0) - shape(x)))  # type: ignore[operator]
    return max(lift / unit, 1e-3)


def log_errors(found: Any) -> np.ndarray:
    """Standard errors of the fitted logarithms, from the curvature; infinite where the data say nothing."""
    spread = 2 * found.cost / max(len(found.fun) - len(found.x), 1)
    values, vectors = np.linalg.eigh(found.jac.T @ found.jac)
    variance = (vectors**2 / np.maximum(values, 1e-300)).sum(1) * spread
    return np.sqrt(variance)
