"""Spike counts in the bins of short events, from whatever a person has them in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float

from nissl.errors import InputError
from nissl.populations._spike_trains import SpikeTrains, as_spike_trains
from nissl.recordings._traces import listed


def event_counts(
    events: Any, spikes: Any, units: np.ndarray, bin_width: float
) -> tuple[Float[np.ndarray, "event bin unit"], Bool[np.ndarray, "event bin"]]:
    """Counts of the given units, and which bins each event has; shorter events are padded with zeros.

    Parameters
    ----------
    events
        Counts `(event, bin, unit)`, NaN after an event's end, matched by name where they carry names; a recording with spike times and `event_start`, `event_stop`; a table with
        columns `start` and `stop`, or pairs of them, in seconds.
    spikes
        Spike trains, where `events` has none.

    Raises
    ------
    InputError
        Units that are missing, counts that are negative or have gaps, events that overlap or end before they start.
    """
    if isinstance(events, xr.Dataset | pd.DataFrame) or spikes is not None:
        starts, stops = event_windows(events)
        return _binned(as_spike_trains(events if spikes is None else spikes), starts, stops, units, bin_width)
    if isinstance(events, xr.DataArray):
        events = _in_order(events, units)
    if hasattr(events, "detach"):
        events = events.detach().cpu().numpy()
    counts = np.asarray(events, dtype=float)
    counts = counts[None] if counts.ndim == 2 else counts
    if counts.ndim != 3 or counts.shape[2] != len(units):
        raise InputError(f"counts of shape {counts.shape}; give (event, bin, unit) with {len(units)} units")
    missing = np.asarray(np.isnan(counts).any(axis=-1))
    real = np.logical_not(missing)
    if not real.any(axis=-1).all():
        raise InputError(f"{int((~real.any(axis=-1)).sum())} events without a single bin; leave them out")
    if (np.diff(real.astype(int), axis=1) > 0).any():
        raise InputError("events with missing bins (NaN) before their end; cut them there, or leave them out")
    counts = np.where(real[..., None], counts, 0)
    if (counts < 0).any() or np.isinf(counts).any():
        raise InputError("counts that are negative or infinite; give numbers of spikes")
    return counts, real


def _in_order(counts: xr.DataArray, units: np.ndarray) -> np.ndarray:
    """Counts with the axes (event, bin, unit), and units in the order of those given where they have names."""
    if "unit" in counts.coords:
        counts = counts.isel(unit=_columns(counts["unit"].values, units))
    axes = [d for d in ("event", ..., "unit") if d is ... or d in counts.dims]
    return counts.transpose(*axes).values


def _columns(names: np.ndarray, units: np.ndarray) -> list[int]:
    """Where each of the units is among these names."""
    column = {name: k for k, name in enumerate(names.tolist())}
    absent = [u for u in units.tolist() if u not in column]
    if absent:
        raise InputError(f"events without the units {listed(absent)}; give the same units as in the fit")
    return [column[u] for u in units.tolist()]


def event_windows(events: Any) -> tuple[Float[np.ndarray, "event"], Float[np.ndarray, "event"]]:
    """Starts and stops in seconds, checked to be in order and apart."""
    if isinstance(events, xr.Dataset):
        names = ("event_start", "event_stop")
    else:
        names = ("start", "stop")
        if not isinstance(events, pd.DataFrame):
            table = np.asarray(events, dtype=float)
            if table.ndim != 2 or table.shape[1] != 2:
                raise InputError(f"events of shape {table.shape}; give a start and a stop each, in seconds")
            events = pd.DataFrame(table, columns=["start", "stop"])
    absent = [n for n in names if n not in events]
    if absent:
        raise InputError(f"events without {' and '.join(absent)}; give {names[0]} and {names[1]} in seconds")
    starts, stops = (np.asarray(events[n], dtype=float) for n in names)
    if not len(starts):
        raise InputError("no events; give at least one")
    if not (stops > starts).all():
        raise InputError(
            f"{int((~(stops > starts)).sum())} of {len(starts)} events do not end after they start; mend their times"
        )
    order = np.argsort(starts)
    overlap = stops[order][:-1] > starts[order][1:] + 1e-9
    if overlap.any():
        raise InputError(f"{int(overlap.sum())} events start before the one before them ends; merge or cut them")
    return starts, stops


def _binned(
    trains: SpikeTrains, starts: np.ndarray, stops: np.ndarray, units: np.ndarray, width: float
) -> tuple[np.ndarray, np.ndarray]:
    columns = _columns(trains.names, units)
    # A hair's breadth is added, to spikes at the edge of a bin too, since 0.24 s / 0.02 s is less than 12 in floating point.
    bins = np.floor((stops - starts) / width + 1e-6).astype(int)
    real = np.arange(max(int(bins.max()), 1)) < bins[:, None]
    order = np.argsort(starts)
    event = np.searchsorted(starts[order], trains.times + 1e-6 * width, side="right") - 1
    event = np.where(event >= 0, order[np.maximum(event, 0)], -1)
    place = np.floor((trains.times - starts[event]) / width + 1e-6).astype(int)
    inside = (event >= 0) & (place >= 0) & (place < bins[event])
    counts = np.zeros((*real.shape, len(trains.names)))
    np.add.at(counts, (event[inside], place[inside], trains.unit[inside]), 1)
    return counts[..., columns], real
