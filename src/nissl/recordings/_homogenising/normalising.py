"""One scale: z-scores, over the whole recording or over its past, and dF/F0."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError
from nissl.recordings._homogenising.flow import blocks
from nissl.recordings._homogenising.plan import Plan
from nissl.recordings._homogenising.statistics import CausalScore, Moments
from nissl.recordings._homogenising.step import Step, check_choice, check_positive, recording_of
from nissl.recordings._notes import RecordingWarning, note
from nissl.recordings._traces import listed

METHODS = ("standard", "causal", None)


class Normalise(Step):
    """The z-score of every unit, by its whole recording or by its past alone.

    The mean and SD (population SD) that were used are kept beside activity, as `activity_mean` and `activity_sd`, so that the step
    can be undone by `inverse_transform`. Residuals are not normalised.

    Parameters
    ----------
    method
        `standard`: mean and SD over the whole recording; it uses the future, so it is no step for a forecasting benchmark.
        `causal`: mean and SD of the samples so far, the present one among them. None: nothing.
    floor
        Least SD of the causal score. Its first value is 0.
    burn_in
        Seconds at the beginning that are marked missing after causal normalisation, since an SD over few samples says little.

    Attributes
    ----------
    mean_, sd_
        One number a unit, for `standard`; NaN for a unit that never changes, whose z-score does not exist.

    Raises
    ------
    InputError, UnknownNameError
        In `fit`: settings that are not allowed.

    Examples
    --------
    >>> z = Normalise(method="causal").fit_transform(np.array([[1.0], [3.0], [2.0]]))
    >>> z.values.ravel().tolist()
    [0.0, 1.0, 0.0]
    """

    def __init__(
        self, *, method: Literal["standard", "causal"] | None = "standard", floor: float = 1e-8, burn_in: float = 0.0
    ) -> None:
        self.method = method
        self.floor = floor
        self.burn_in = burn_in

    def fit(self, recording: Any, y: Any = None) -> Normalise:
        """Learn mean and SD of every unit (`standard`); check the settings."""
        super().fit(recording)
        if self.method == "standard":
            activity = recording_of(recording)["activity"].transpose("time", "unit")
            moments = Moments(activity.shape[1])
            for x in blocks(activity):
                moments.push(x)
            self.mean_, self.sd_ = moments.mean, moments.spread
            still = moments.constant & (moments.count > 0)
            if still.any():
                names = listed(activity["unit"].values[still])
                warnings.warn(
                    f"units that never change, and so have no z-score: {names}", RecordingWarning, stacklevel=2
                )
        return self

    def transform(self, recording: Any) -> Any:
        """The recording with z-scores for activity."""
        if self.method != "standard":
            return super().transform(recording)
        whole = recording_of(recording)
        x = whole["activity"].transpose("time", "unit")
        if x.shape[1] != len(self.mean_):
            raise InputError(f"{x.shape[1]} units; fitted on {len(self.mean_)}")
        z = ((x.astype(np.float64) - self.mean_) / self.sd_).astype(np.float32 if x.dtype == np.float32 else np.float64)
        z.attrs = {**x.attrs, "quantity": "z-score"}
        if not isinstance(recording, xr.Dataset):
            return z
        out = whole.assign(activity=z, activity_mean=("unit", self.mean_), activity_sd=("unit", self.sd_))
        note(out, self.settings())
        return out

    def inverse_transform(self, recording: xr.Dataset) -> xr.Dataset:
        """Activity as it was before, from the mean and SD kept in the recording."""
        absent = [n for n in ("activity", "activity_mean", "activity_sd") if n not in recording]
        if absent:
            raise InputError(f"this recording has no {', '.join(absent)}, so its normalisation cannot be undone")
        back = recording["activity"] * recording["activity_sd"] + recording["activity_mean"]
        back.attrs = {k: v for k, v in recording["activity"].attrs.items() if k != "quantity"}
        out = recording.drop_vars(["activity_mean", "activity_sd"]).assign(activity=back)
        note(out, {"step": "Normalise.inverse_transform", "settings": {}})
        return out

    def _extend(self, plan: Plan) -> None:
        check_choice("normalisation", self.method, METHODS)
        check_positive("floor", self.floor)
        if not (np.isfinite(self.burn_in) and self.burn_in >= 0):
            raise InputError(f"burn_in is {self.burn_in}; give seconds, 0 or more")
        if self.method is None:
            return
        plan.quantity = "z-score"
        if self.method == "standard":
            plan.standardise = True
            return
        burn_in = int(np.searchsorted(plan.time, plan.time[0] + self.burn_in - 1e-9))
        n_units = len(plan.layout.slots) + len(plan.layout.rest_columns)
        plan.chains["activity"].append(CausalScore(n_units, float(self.floor), burn_in))


class DeltaF(Step):
    """dF/F0 = (F - F0) / F0 with a running percentile as baseline F0.

    Parameters
    ----------
    window
        Seconds of the running window.
    quantile
        The baseline's quantile, from 0 to 1.
    causal
        Whether the window ends at the present sample, or has it in the middle.

    Raises
    ------
    InputError
        In `fit`: settings that are not allowed, a recording shorter than the window. In `transform`: a baseline at or below 0, for which
        dF/F0 has no meaning (traces that are dF/F0 or z-scores already).

    Examples
    --------
    >>> F = np.full((50, 1), 100.0)
    >>> F[30] = 150
    >>> float(DeltaF(window=10).fit_transform(F)[30, 0])
    0.5
    """

    def __init__(self, *, window: float = 60.0, quantile: float = 0.1, causal: bool = True) -> None:
        self.window = window
        self.quantile = quantile
        self.causal = causal

    def _extend(self, plan: Plan) -> None:
        check_positive("window", self.window, "seconds")
        if not 0 <= self.quantile <= 1:
            raise InputError(f"quantile is {self.quantile}; allowed: from 0 to 1")
        if plan.quantity in ("dF/F", "z-score"):
            raise InputError(f"this activity is {plan.quantity} already; leave DeltaF out")
        length = plan.time[-1] - plan.time[0]
        if length < self.window:
            raise InputError(f"a recording of {length:.4g} s is shorter than the window ({self.window:.4g} s); take a shorter one")  # fmt: skip
        size = max(1, round(self.window / plan.interval))
        plan.chains["activity"].append(RunningBaseline(size, float(self.quantile), self.causal, plan.layout.units))
        plan.quantity = "dF/F"


class RunningBaseline:
    """dF/F0 by a running quantile; a centred window is answered half a window late."""

    def __init__(self, size: int, quantile: float, causal: bool, names: np.ndarray) -> None:
        self.size, self.quantile, self.names = size, quantile, names
        self.late = 0 if causal else size // 2
        self.kept: np.ndarray | None = None
        self.waiting = 0  # rows at the end of `kept` that have no answer yet

    def push(self, x: Float[np.ndarray, "time unit"]) -> Float[np.ndarray, "row unit"]:
        self.kept = x if self.kept is None else np.concatenate([self.kept, x])
        self.waiting += len(x)
        return self._answer(max(0, self.waiting - self.late))

    def close(self) -> Float[np.ndarray, "row unit"] | None:
        if self.kept is None:
            return None
        width = self.kept.shape[1]
        self.kept = np.concatenate([self.kept, np.full((self.late, width), np.nan)])
        rows, self.waiting = self.waiting, self.waiting + self.late
        return self._answer(rows)

    def _answer(self, rows: int) -> np.ndarray:
        assert self.kept is not None
        at = len(self.kept) - self.waiting
        rolled = pd.DataFrame(self.kept[: at + rows + self.late], copy=False).rolling(self.size, min_periods=1)
        baseline = rolled.quantile(self.quantile).to_numpy()[at + self.late : at + self.late + rows]
        f = self.kept[at : at + rows]
        bad = (baseline <= 0).any(0)
        if bad.any():
            raise InputError(f"a baseline at or below 0 in {listed(self.names[bad])}; dF/F0 needs raw fluorescence: leave it out, or add the background back")  # fmt: skip
        out = (f - baseline) / baseline
        self.waiting -= rows
        keep = self.waiting + self.size
        self.kept = self.kept[-keep:].copy() if len(self.kept) > keep else self.kept
        return out
