"""Behaviour on its own clock, read where windows want it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError, unknown


class Series:
    """Scalar series of a recording, by name.

    Parameters
    ----------
    recording
        A Dataset with `behaviour (behaviour_time, variable)`.
    names
        Which variables are wanted.

    Raises
    ------
    InputError, UnknownNameError
        No behaviour, no such variable, a clock that does not increase.
    """

    def __init__(self, recording: xr.Dataset, names: tuple[str, ...]) -> None:
        self.values: dict[str, Float[np.ndarray, "sample"]] = {}
        self.clock = np.zeros(0)
        if not names:
            return
        if not isinstance(recording, xr.Dataset) or "behaviour" not in recording:
            raise InputError(f"{', '.join(names)}: the recording has no `behaviour` (behaviour_time, variable)")
        behaviour = recording["behaviour"].transpose("behaviour_time", "variable")
        known = [str(v) for v in behaviour["variable"].values]
        for name in names:
            if name not in known:
                raise unknown("behaviour", name, known)
            self.values[name] = behaviour.values[:, known.index(name)].astype(float)
        self.clock = behaviour["behaviour_time"].values.astype(float)
        if len(self.clock) < 2 or not (np.diff(self.clock) > 0).all():
            raise InputError(f"behaviour_time has {len(self.clock)} entries that must increase; give at least two")

    def at(self, name: str, time: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
        """Values between two neighbouring samples; NaN where one of them is missing, in gaps, and outside the clock."""
        clock, values = self.clock, self.values[name]
        right = np.clip(np.searchsorted(clock, time), 1, len(clock) - 1)
        span = clock[right] - clock[right - 1]
        share = (time - clock[right - 1]) / span
        step = np.median(np.diff(clock))
        inside = (share >= -0.5) & (share <= 1.5) & (span <= 2.5 * step)
        share = np.clip(share, 0, 1)
        found = np.where(share == 0, values[right - 1], (1 - share) * values[right - 1] + share * values[right])
        return np.where(inside, found, np.nan)

    def nearest(self, name: str, time: Float[np.ndarray, "window"]) -> Float[np.ndarray, "window"]:
        """The sample next in time, for classes; NaN where there is none within one step."""
        right = np.clip(np.searchsorted(self.clock, time), 1, len(self.clock) - 1)
        index = np.where(time - self.clock[right - 1] < self.clock[right] - time, right - 1, right)
        near = np.abs(self.clock[index] - time) <= np.median(np.diff(self.clock))
        return np.where(near, self.values[name][index], np.nan)

    def means(
        self, name: str, start: Float[np.ndarray, "window"], stop: Float[np.ndarray, "window"]
    ) -> Float[np.ndarray, "window"]:
        """Mean of the samples inside each window; where none falls into it, the value at its middle."""
        values = self.values[name]
        known = np.isfinite(values)
        sums, counts = np.r_[0, np.cumsum(np.where(known, values, 0))], np.r_[0, np.cumsum(known)]
        low, high = np.searchsorted(self.clock, start), np.searchsorted(self.clock, stop)
        n = counts[high] - counts[low]
        mean = (sums[high] - sums[low]) / np.maximum(n, 1)
        return np.where(n > 0, mean, np.where(high > low, np.nan, self.at(name, (start + stop) / 2)))
