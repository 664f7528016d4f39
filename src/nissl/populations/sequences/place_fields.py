"""Place fields: rates over positions, from spikes and a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError
from nissl.populations._spike_trains import SpikeTrains


@dataclass(frozen=True)
class Positions:
    """Where the animal was: times in seconds and positions, NaN where unknown."""

    time: Float[np.ndarray, "time"]
    position: Float[np.ndarray, "time"]

    @property
    def low(self) -> float:
        """The least position."""
        return float(np.nanmin(self.position))

    @property
    def high(self) -> float:
        """The largest position."""
        return float(np.nanmax(self.position))

    @classmethod
    def of(cls, position: Any) -> Positions:
        """From a DataArray `(time)` or an array `(time, 2)` of times and positions.

        Raises
        ------
        InputError
            Other shapes, fewer than ten samples, times that do not increase, an animal that never moves.
        """
        if isinstance(position, xr.DataArray):
            if position.ndim != 1 or len(position.coords) == 0:
                raise InputError(f"position with axes {position.dims}; give (time,) with its clock, in seconds")
            dim = position.dims[0]
            if dim not in position.coords:
                raise InputError("position without a clock; give its times as a coordinate, in seconds")
            time, where = position[dim].values.astype(float), position.values.astype(float)
        else:
            table = np.asarray(position, dtype=float)
            if table.ndim != 2 or table.shape[1] != 2:
                raise InputError(
                    f"position of shape {table.shape}; give a DataArray (time) or an array (time, 2) of times and positions"
                )
            time, where = table.T
        if len(time) < 10 or not (np.diff(time) > 0).all():
            raise InputError(f"{len(time)} samples of position with times that must increase; give ten or more")
        if np.isnan(where).all() or np.nanmax(where) == np.nanmin(where) or np.isinf(where).any():
            raise InputError("positions that are missing, infinite or never change; give a run over a track")
        return cls(time, where)


def fields_of(
    trains: SpikeTrains,
    run: Positions,
    edges: Float[np.ndarray, "edge"],
    smoothing: float,
    min_speed: float | None = None,
    without: tuple[float, float] | None = None,
) -> tuple[Float[np.ndarray, "unit position"], Float[np.ndarray, "position"]]:
    """Rates (Hz) and occupancy (s) over position bins; spikes and time are smoothed alike, then divided.

    Parameters
    ----------
    without
        A stretch of time to leave out, for held-out tests.

    Raises
    ------
    InputError
        Places that were never visited, however much is smoothed.
    """
    from scipy.ndimage import gaussian_filter1d

    step = np.diff(run.time)
    middle = (run.position[1:] + run.position[:-1]) / 2
    kept = ~np.isnan(middle) & (step < 5 * np.median(step))
    if min_speed is not None:
        kept &= np.abs(np.diff(run.position)) >= min_speed * step
    if without is not None:
        kept &= (run.time[1:] <= without[0]) | (run.time[:-1] >= without[1])
    bins = len(edges) - 1
    place = np.clip(np.searchsorted(edges, np.where(kept, middle, edges[0]), side="right") - 1, 0, bins - 1)
    occupancy = np.bincount(place[kept], step[kept], minlength=bins)
    of = np.searchsorted(run.time, trains.times, side="right") - 1
    inside = (of >= 0) & (of < len(step))
    inside[inside] = kept[of[inside]]
    counts = np.bincount(trains.unit[inside] * bins + place[of[inside]], minlength=len(trains.names) * bins)
    counts = counts.reshape(-1, bins).astype(float)
    if smoothing > 0:
        counts, occupancy = (gaussian_filter1d(v, smoothing, axis=-1, mode="nearest") for v in (counts, occupancy))
    empty = occupancy <= 1e-9 * max(occupancy.max(), 1e-300)
    if empty.any():
        raise InputError(
            f"{int(empty.sum())} of {bins} position bins were never visited; give fewer bins, more smoothing or a longer run"
        )
    return counts / occupancy, occupancy
