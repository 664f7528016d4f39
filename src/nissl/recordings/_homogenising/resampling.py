"""One clock: start at zero, rates of change, and an even grid that bridges no gap."""

from __future__ import annotations

from typing import Literal

import numpy as np

from nissl.errors import InputError
from nissl.recordings._homogenising.operators import Gradient, Grouping, Interpolation, segments
from nissl.recordings._homogenising.plan import Plan
from nissl.recordings._homogenising.smoothing import GAP
from nissl.recordings._homogenising.step import Step, check_choice, check_positive

FINE = 6  # points interpolated in each step that is averaged
CENTRE = (FINE - 1) / (2 * FINE)  # of a group of points at 0, 1/6, ... 5/6 of a step
_DEGREES = {"linear": 1, "quadratic": 2, "cubic": 3}


class StartAtZero(Step):
    """Let the first sample lie at 0 s, and move every other clock of the recording along.

    Examples
    --------
    >>> import xarray as xr
    >>> late = xr.DataArray([[1.0], [2.0]], dims=("time", "unit"), coords={"time": [5.0, 6.0]})
    >>> StartAtZero().fit_transform(late).time.values.tolist()
    [0.0, 1.0]
    """

    def _extend(self, plan: Plan) -> None:
        start = float(plan.time[0])
        plan.shift += start
        plan.time = plan.time - start
        if start:
            plan.attrs["start_time"] = start


class Residual(Step):
    """Add `residual`, the rate of change of activity: `numpy.gradient(activity, time)`, one-sided at the ends and at gaps.

    It belongs before smoothing and resampling; both are then done to activity and residual alike. It is never normalised.

    Examples
    --------
    >>> import xarray as xr
    >>> line = xr.Dataset({"activity": (("time", "unit"), [[0.0], [1.0], [2.0]])}, {"time": [0.0, 0.5, 1.0], "unit": ["a"]})
    >>> Residual().fit_transform(line)["residual"].values.ravel().tolist()
    [2.0, 2.0, 2.0]
    """

    def _extend(self, plan: Plan) -> None:
        if "residual" in plan.chains:
            raise InputError("this recording has residuals already; start from the recording as it was opened")
        gradient = Gradient(plan.time, segments(plan.time, GAP * plan.interval))
        plan.chains["residual"] = [*plan.chains["activity"], gradient]


class Resample(Step):
    """Put activity on an even clock, without inventing samples.

    Where `dt` is shorter than the median interval, values are interpolated at t0, t0 + dt, ... Where it is longer, they are
    interpolated every dt / 6 and averaged in groups of six; the time of such a sample is the mean time of its group, so that a
    straight line stays one. Nothing is interpolated across a gap of the clock longer than `max_gap`, nor next to a sample that is
    missing (NaN); a group is missing unless half of it is there.

    Parameters
    ----------
    dt
        Seconds between samples.
    interpolate
        `linear`, or `quadratic` and `cubic` by Lagrange's polynomial through the nearest three or four samples.
    max_gap
        Longest step of the clock, in seconds, that is bridged; 2.5 median intervals where nothing is said.
    offset
        Part of `dt` by which interpolated samples lie later, so that slow recordings share the clock of averaged ones (5/12).

    Raises
    ------
    InputError, UnknownNameError
        In `fit`: settings that are not allowed, a recording too short for `dt`.

    Examples
    --------
    >>> import xarray as xr
    >>> fast = xr.DataArray(np.arange(100.0)[:, None], dims=("time", "unit"), coords={"time": np.arange(100) / 10})
    >>> slow = Resample(dt=1.0).fit_transform(fast)
    >>> bool(np.allclose(slow[:, 0], slow.time * 10)), slow.sizes["time"]
    (True, 10)
    """

    def __init__(
        self,
        *,
        dt: float = 1 / 3,
        interpolate: Literal["linear", "quadratic", "cubic"] = "linear",
        max_gap: float | None = None,
        offset: float = 0.0,
    ) -> None:
        self.dt = dt
        self.interpolate = interpolate
        self.max_gap = max_gap
        self.offset = offset

    def _extend(self, plan: Plan) -> None:
        check_positive("dt", self.dt, "seconds")
        check_choice("interpolation", self.interpolate, tuple(_DEGREES))
        if self.max_gap is not None:
            check_positive("max_gap", self.max_gap, "seconds")
        if not 0 <= self.offset < 1:
            raise InputError(f"offset is {self.offset}; allowed: from 0 up to, not including, 1")
        degree = _DEGREES[self.interpolate]
        length = plan.time[-1] - plan.time[0]
        if length < 2 * self.dt or len(plan.time) <= degree:
            raise InputError(f"a recording of {length:.4g} s ({len(plan.time)} samples) cannot be put on a clock of {self.dt:.4g} s; take a shorter dt")  # fmt: skip
        segment = segments(plan.time, self.max_gap or GAP * plan.interval)
        if self.averages(plan.interval):
            target = grid(plan.time, self.dt / FINE)
            stages = [Interpolation(plan.time, segment, target, degree), Grouping(len(target), FINE)]
            time = plan.time[0] + self.dt * (np.arange(len(target) // FINE) + CENTRE)
        else:
            time = grid(plan.time, self.dt, self.offset)
            stages = [Interpolation(plan.time, segment, time, degree)]
        for chain in plan.chains.values():
            chain.extend(stages)
        plan.time = time

    def averages(self, interval: float) -> bool:
        """Whether samples this many seconds apart are averaged rather than interpolated."""
        return self.dt >= interval


def grid(time: np.ndarray, dt: float, offset: float = 0.0) -> np.ndarray:
    """Times from the first sample on, `dt` apart, before the last sample."""
    count = int(np.ceil((time[-1] - time[0]) / dt - offset - 1e-9))
    points = time[0] + dt * (np.arange(max(count, 0)) + offset)
    return points[points <= time[-1]]
