"""Spike times from whatever a person has them in, checked before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from nissl.errors import InputError
from nissl.recordings._traces import listed


@dataclass(frozen=True)
class SpikeTrains:
    """Spikes of several units.

    Attributes
    ----------
    times
        Seconds, ascending within each unit; units one after another.
    unit
        Index into `names` of each spike.
    names
        Names of the units, silent ones included.
    """

    times: Float[np.ndarray, "spike"]
    unit: Int[np.ndarray, "spike"]
    names: np.ndarray

    @property
    def counts(self) -> Int[np.ndarray, "unit"]:
        """Spikes of each unit."""
        return np.bincount(self.unit, minlength=len(self.names))

    def binned(self, edges: Float[np.ndarray, "edge"]) -> Int[np.ndarray, "bin unit"]:
        """Counts between consecutive edges; spikes at the last edge are left out."""
        place = np.searchsorted(edges, self.times, side="right") - 1
        ok = (place >= 0) & (place < len(edges) - 1)
        flat = np.bincount(place[ok] * len(self.names) + self.unit[ok], minlength=(len(edges) - 1) * len(self.names))
        return flat.reshape(len(edges) - 1, len(self.names))


def as_spike_trains(spikes: Any, *, min_units: int = 1) -> SpikeTrains:
    """Spike trains from a recording with `spike_time` and `spike_unit`, a mapping from names to times, a list of arrays, or one array.

    Raises
    ------
    InputError
        No spikes, times that are not finite or descend, indices of units that do not exist, too few units.

    Examples
    --------
    >>> as_spike_trains({"a": [0.1, 0.2], "b": [0.15]}).counts.tolist()
    [2, 1]
    """
    times, unit, names = _collected(spikes)
    if times.shape != unit.shape or times.ndim != 1:
        raise InputError(f"spike times of shape {times.shape} and units of shape {unit.shape}; give one unit a spike")
    if len(names) < min_units:
        raise InputError(f"{len(names)} unit(s); this needs {min_units} or more")
    if not len(times):
        raise InputError("no spikes at all; give at least one")
    if not np.isfinite(times).all():
        raise InputError(f"{int((~np.isfinite(times)).sum())} spike times that are not finite; leave them out")
    if unit.dtype.kind not in "iu" or unit.min() < 0 or unit.max() >= len(names):
        raise InputError(
            f"spike_unit from {unit.min()} to {unit.max()}; allowed: whole numbers from 0 to {len(names) - 1}"
        )
    order = np.argsort(unit, kind="stable")
    times, unit = times[order], unit[order].astype(np.int64)
    back = (np.diff(times) < 0) & (np.diff(unit) == 0)
    if back.any():
        raise InputError(f"spike times that descend in {listed(np.unique(names[unit[1:][back]]))}; sort them")
    return SpikeTrains(times, unit, names)


def _collected(spikes: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if isinstance(spikes, SpikeTrains):
        return spikes.times, spikes.unit, spikes.names
    if isinstance(spikes, xr.Dataset):
        absent = [v for v in ("spike_time", "spike_unit") if v not in spikes]
        if absent:
            raise InputError(
                f"a recording without {' and '.join(absent)}; it has {', '.join(map(str, spikes.variables)) or 'nothing'}"
            )
        unit = spikes["spike_unit"].values
        names = spikes["unit"].values if "unit" in spikes.coords else np.arange(int(unit.max()) + 1 if len(unit) else 0)
        return spikes["spike_time"].values.astype(float), unit, np.asarray(names)
    if isinstance(spikes, Mapping):
        names, trains = np.array(list(spikes)), [np.asarray(t, dtype=float).ravel() for t in spikes.values()]
    elif isinstance(spikes, Sequence) and spikes and np.ndim(spikes[0]) == 1:
        names, trains = np.arange(len(spikes)), [np.asarray(t, dtype=float) for t in spikes]
    else:
        names, trains = np.arange(1), [np.asarray(spikes, dtype=float)]  # torch tensors too
        if trains[0].ndim != 1:
            raise InputError(
                f"spikes of shape {trains[0].shape}; give spike times, a mapping from unit to times, or a recording"
            )
    if not trains:
        raise InputError("no units; give at least one spike train")
    return np.concatenate(trains), np.repeat(np.arange(len(trains)), [len(t) for t in trains]), names
