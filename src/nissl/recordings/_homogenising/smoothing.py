"""Smoothing that looks only back: what is to come never changes what has been."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.signal import lfilter

from nissl.errors import InputError
from nissl.recordings._homogenising.operators import Smoothing, segments
from nissl.recordings._homogenising.plan import Plan
from nissl.recordings._homogenising.step import Step, check_choice, check_positive

METHODS = ("moving", "exponential", "gaussian", None)
GAP = 2.5  # median intervals: from two lost frames on, a step of the clock is a gap


class Smooth(Step):
    """Causal smoothing of activity, and of residuals where there are any.

    Missing samples stay missing and are left out of their neighbours' means. Smoothing begins anew after a gap of the clock of
    more than 2.5 median intervals. Where there is less past than the filter is long, the mean is over the past there is.

    Parameters
    ----------
    method
        `moving`: mean of the last `window // 2 + 1` samples, the present one among them (a centred window of `window` samples
        without its future half). `exponential`: y[t] = alpha x[t] + (1 - alpha) y[t-1], beginning with the first sample.
        `gaussian`: weights exp(-k^2 / (2 sigma^2)) for the sample k steps back. None: nothing.
    window
        Samples, for `moving`; an odd number, by habit.
    alpha
        Between 0 and 1, for `exponential`.
    sigma
        Samples, for `gaussian`.

    Raises
    ------
    InputError, UnknownNameError
        In `fit`: settings that are not allowed, a recording shorter than the filter.

    Examples
    --------
    >>> Smooth(method="moving", window=3).fit_transform(np.array([[0.0], [2.0], [4.0]])).values.ravel().tolist()
    [0.0, 1.0, 3.0]

    References
    ----------
    Simeon et al., homogenised C. elegans neural activity: the pipeline's third step.
    """

    def __init__(
        self,
        *,
        method: Literal["moving", "exponential", "gaussian"] | None = "moving",
        window: int = 15,
        alpha: float = 0.5,
        sigma: float = 5.0,
    ) -> None:
        self.method = method
        self.window = window
        self.alpha = alpha
        self.sigma = sigma

    def _extend(self, plan: Plan) -> None:
        check_choice("smoothing", self.method, METHODS)
        if self.method is None:
            return
        segment = segments(plan.time, GAP * plan.interval)
        if self.method == "exponential":
            check_positive("alpha", self.alpha)
            if self.alpha > 1:
                raise InputError(f"alpha is {self.alpha}; allowed: above 0, at most 1 (no smoothing)")
            for stages in plan.chains.values():
                stages.append(Exponential(float(self.alpha), np.unique(segment)))
            return
        weights = self._weights()
        length = int(self.window) if self.method == "moving" else min(len(weights), int(np.ceil(3 * self.sigma)) + 1)
        if len(plan.time) < length:
            raise InputError(f"a recording of {len(plan.time)} samples is shorter than the filter ({length} samples); take a shorter one, or smooth=None")  # fmt: skip
        for stages in plan.chains.values():
            stages.append(Smoothing(weights, segment))

    def _weights(self) -> Float[np.ndarray, "lag"]:
        if self.method == "moving":
            check_positive("window", self.window, "samples")
            if int(self.window) != self.window:
                raise InputError(f"window is {self.window}; give a whole number of samples")
            return np.ones(int(self.window) // 2 + 1)
        check_positive("sigma", self.sigma, "samples")
        # As far back as a double can tell: the weight of the last sample is 1e-17 of the first one's.
        lag = np.arange(int(np.ceil(self.sigma * np.sqrt(-2 * np.log(1e-17)))) + 1)
        return np.exp(-(lag**2) / (2 * self.sigma**2))


class Exponential:
    """The recursion y[t] = alpha x[t] + (1 - alpha) y[t-1], held over missing samples, begun anew after breaks of the clock."""

    def __init__(self, alpha: float, starts: np.ndarray) -> None:
        self.alpha = alpha
        self.starts = starts  # samples at which the recursion begins anew
        self.rows = 0
        self.last: np.ndarray | None = None

    def push(self, x: Float[np.ndarray, "time unit"]) -> Float[np.ndarray, "time unit"]:
        last = np.full(x.shape[1], np.nan) if self.last is None else self.last
        cuts = self.starts[(self.starts > self.rows) & (self.starts < self.rows + len(x))] - self.rows
        if self.rows in self.starts:
            last = np.full(x.shape[1], np.nan)
        parts = np.split(x, cuts)
        out = []
        for number, part in enumerate(parts):
            if number:
                last = np.full(x.shape[1], np.nan)
            y, last = self._stretch(part, last)
            out.append(y)
        self.last = last
        self.rows += len(x)
        return np.concatenate(out) if len(out) > 1 else out[0]

    def close(self) -> None:
        return None

    def _stretch(self, x: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One stretch without a break, after the last value of each unit (NaN where there is none yet)."""
        if not len(x):
            return x, last
        # Samples that are there move to the front of their column, are filtered, and move back.
        known = ~np.isnan(x)
        complete = known.all()
        order = None if complete else np.argsort(~known, axis=0, kind="stable")
        packed = x if order is None else np.take_along_axis(np.where(known, x, 0.0), order, axis=0)
        before = np.where(np.isnan(last), packed[0], last)
        y, _ = lfilter([self.alpha], [1.0, self.alpha - 1.0], packed, axis=0, zi=((1 - self.alpha) * before)[None])
        count = known.sum(0)
        end = y[np.maximum(count, 1) - 1, np.arange(x.shape[1])]
        last = np.where(count > 0, end, last)
        if order is None:
            return y, last
        out = np.empty_like(y)
        np.put_along_axis(out, order, y, axis=0)
        out[~known] = np.nan
        return out, last
