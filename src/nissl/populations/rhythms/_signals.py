"""Signals that can be filtered: an even clock, and the stretches between gaps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError
from nissl.recordings import as_traces

TOKENS = "time is position in the sequence: frequencies are cycles per token"


@dataclass(frozen=True)
class Signals:
    """Series with one even clock; a series is one unit in one trial.

    Attributes
    ----------
    values
        `(time, series)`, NaN where missing.
    rate
        Samples a second (a token, for token models).
    breaks
        Samples at which the clock jumps: a stretch ends before each.
    like
        The recording, whose axes and names results take over.
    """

    values: Float[np.ndarray, "time series"]
    rate: float
    breaks: tuple[int, ...]
    like: xr.DataArray

    @property
    def per_token(self) -> bool:
        """Whether "time" is a position in a sequence of tokens."""
        return self.like.attrs.get("time_unit") == "token"

    @property
    def names(self) -> np.ndarray:
        """Names of the units."""
        return self.like["unit"].values

    def stretches(self) -> list[tuple[slice, np.ndarray]]:
        """Windows without gaps, and the series that share each of them."""
        return self._stretches

    @cached_property
    def _stretches(self) -> list[tuple[slice, np.ndarray]]:
        known = ~np.isnan(self.values)
        # Packed bits compare fast; most recordings have few patterns of gaps.
        _, first, of = np.unique(np.packbits(known.T, axis=1), axis=0, return_index=True, return_inverse=True)
        found = []
        for index, example in enumerate(first):
            series = np.flatnonzero(of.ravel() == index)
            edges = np.flatnonzero(np.diff(np.concatenate([[False], known[:, example], [False]]).astype(int)))
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                inner = [b for b in self.breaks if start < b < stop]
                found += [(slice(int(a), int(b)), series) for a, b in pairwise([start, *inner, stop])]
        return found

    def wrap(self, values: np.ndarray) -> xr.DataArray:
        """An array `(time, series)` with the recording's axes and names again."""
        trials, time, units = (self.like.sizes[d] for d in ("trial", "time", "unit"))
        cube = values.reshape(time, trials, units).transpose(1, 0, 2)
        found = xr.DataArray(cube, dims=("trial", "time", "unit"), coords=self.like.coords)
        if self.per_token:
            found.attrs["note"] = TOKENS
        return found.isel(trial=0, drop=True) if self.like.attrs["_single"] else found


def as_signals(
    recording: Any, *, rate: float | None = None, variable: str | None = None, min_units: int = 1
) -> Signals:
    """A recording `([trial,] time, unit)` as series on one even clock.

    Raises
    ------
    InputError
        Beside what `as_traces` refuses: a clock that is uneven by more than a hundredth of a step where it does not jump.
    """
    found = as_traces(recording, ("trial", "time", "unit"), rate=rate, variable=variable, min_units=min_units)
    single = found.sizes["trial"] == 1
    found.attrs["_single"] = single
    steps = np.diff(found["time"].values.astype(float))
    step = float(np.median(steps))
    jumps = steps > 1.5 * step
    if (np.abs(steps[~jumps] - step) > 0.01 * step).any():
        raise InputError(
            f"samples {steps.min():.4g} to {steps.max():.4g} s apart; filters need an even clock: "
            "recordings.homogenise(recording, rate=...) resamples without inventing samples across gaps"
        )
    values = found.values.transpose(1, 0, 2).reshape(found.sizes["time"], -1)
    # Nine digits: the clock is a sum of rounded steps.
    return Signals(values, float(f"{1 / step:.9g}"), tuple((np.flatnonzero(jumps) + 1).tolist()), found)


def check_band(
    band: tuple[float, float], signals: Signals, *, indicator_bandwidth: float | None = None
) -> tuple[float, float]:
    """A band that the recording can carry.

    Raises
    ------
    InputError
        Not low < high, not above 0, at or above the Nyquist frequency, or above a quarter of the calcium indicator's bandwidth.
    """
    try:
        low, high = (float(edge) for edge in band)
    except (TypeError, ValueError):
        raise InputError(f"band {band!r}; give (low, high) in hertz") from None
    unit = "cycles per token" if signals.per_token else "Hz"
    nyquist = signals.rate / 2
    if not 0 < low < high:
        raise InputError(f"band {low:g}-{high:g} {unit}; give 0 < low < high")
    if high >= nyquist:
        raise InputError(
            f"band {low:g}-{high:g} {unit} reaches the Nyquist frequency, {nyquist:g} {unit} at {signals.rate:g} samples"
            f"{' a token' if signals.per_token else ' a second'}; give a band below it"
        )
    attrs = signals.like.attrs
    bandwidth = indicator_bandwidth if indicator_bandwidth is not None else attrs.get("indicator_bandwidth")
    if bandwidth is not None and high > float(bandwidth) / 4:
        raise InputError(
            f"band {low:g}-{high:g} Hz, but an indicator with a bandwidth of {float(bandwidth):g} Hz follows up to a quarter of it, "
            f"{float(bandwidth) / 4:g} Hz; calcium is too slow for this rhythm: give a band below, or spikes"
        )
    if bandwidth is None and str(attrs.get("quantity", "")).lower().startswith(
        ("df/f", "dff", "calcium", "fluorescence")
    ):
        warnings.warn(
            "calcium activity whose indicator's bandwidth is not known; give indicator_bandwidth= "
            "(1 / (2 pi decay time) in hertz) so that rhythms it cannot follow are refused",
            stacklevel=4,
        )
    return low, high


def edge_seconds(band: tuple[float, float], cycles: float) -> float:
    """How much of each end a filter spoils: `cycles` of the slow edge, or three time constants of the filter, whichever is longer.

    The slowest pole of a third-order Butterworth band-pass decays within 2 / (pi bandwidth) seconds; a narrow band far up rings for
    many of its cycles.
    """
    low, high = band
    return max(cycles / low, 2.0 / (high - low))
