"""What the named arrays of a file are: activity, clock, names, spikes. What cannot be told is asked for, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError, unknown
from nissl.recordings._files.schema import Request, build, even_times

ACTIVITY = ("activity", "traces", "trace", "dff", "df_f", "df/f", "dfof", "deltaf", "deltafoverf", "calcium", "fluorescence", "f", "rates", "firing_rates", "firing_rate", "counts", "data")  # fmt: skip
TIME = ("time", "times", "t", "timestamps", "timestamp", "time_s", "time_sec", "time_in_seconds", "timevectorseconds", "tv", "seconds", "time_vector")  # fmt: skip
RATE = ("rate", "fs", "fps", "sampling_rate", "samplingrate", "sample_rate", "samplerate", "frame_rate", "framerate", "fr", "hz", "srate")  # fmt: skip
INTERVAL = ("dt", "sampling_interval", "frame_interval")
UNITS = ("unit", "units", "neuron", "neurons", "names", "name", "labels", "label", "neuron_names", "neuronnames", "cell_names", "unit_names", "unit_ids", "ids", "neuron_ids", "cells")  # fmt: skip
SPIKES = ("spike_time", "spike_times", "spiketimes", "spikes_times")
WHOSE = ("spike_unit", "spike_units", "spike_clusters", "spike_cluster", "spike_ids", "spike_id", "clusters")
OWN_CLOCK = {"stimulus": ("stimulus", "stim"), "behaviour": ("behaviour", "behavior")}
ORIENTATIONS = ("time unit", "unit time")


@dataclass(frozen=True)
class Entry:
    """An array of a file, not yet read."""

    shape: tuple[int, ...]
    kind: str  # numpy's: f, i, u, b for numbers; U for text; L for a list of arrays
    load: Callable[[], Any]
    variable: Callable[[tuple[str, ...], bool], xr.Variable] | None = None  # lazily, with dims, perhaps transposed

    @property
    def numeric(self) -> bool:
        """Whether it holds real numbers."""
        return self.kind in "fiub"

    def as_variable(self, dims: tuple[str, ...], transpose: bool) -> xr.Variable:
        """The array with named axes, left in its file where that is possible."""
        if self.variable is not None:
            return self.variable(dims, transpose)
        values = np.asarray(self.load())
        return xr.Variable(dims, values.T if transpose else values)


def recording_from(entries: Mapping[str, Entry], request: Request, source: str) -> xr.Dataset:
    """A recording from named arrays.

    Raises
    ------
    InputError, UnknownNameError
        No activity, no clock, or several arrays that could be it; the message says what to pass.
    """
    if not entries:
        raise InputError(f"{source} holds no arrays")
    keys = _Keys(entries, source)
    spikes = keys.spikes() if request.activity is None else None
    name = None if spikes is not None and keys.maybe(ACTIVITY, 2) is None else keys.activity(request.activity)
    attrs = {"source": source}
    if name is None:
        assert spikes is not None
        return _spike_recording(keys, spikes, request, attrs)
    shape = entries[name].shape
    time_key = keys.chosen("time", request.time, TIME)
    units_key = keys.chosen("units", request.units, UNITS) if not isinstance(request.units, list) else None
    names = request.units if isinstance(request.units, list) else (keys.load(units_key) if units_key else None)
    clock = keys.load(time_key) if time_key else None
    transpose = _transposed(name, shape, clock, names, request, source)
    wide = len(shape) == 2
    variable = entries[name].as_variable(("unit", "time") if transpose else ("time", "unit"), False) if wide else xr.Variable(("time", "unit"), np.asarray(entries[name].load()).reshape(-1, 1))  # fmt: skip
    if transpose:
        variable = entries[name].as_variable(("time", "unit"), True)
    n_time, n_unit = variable.shape
    time = _clock(clock, n_time, keys, request, source)
    if names is not None and len(np.ravel(np.asarray(names, dtype=object))) != n_unit:
        if request.units is not None:
            raise InputError(f"{source}: {len(names)} names for {n_unit} units of {name!r}; each unit needs one")
        names = None
    out = build(activity=variable, time=time, names=names, attrs=attrs)
    return _with_own_clocks(out, keys, source)


def _transposed(name: str, shape: tuple[int, ...], clock: Any, names: Any, request: Request, source: str) -> bool:
    """Whether the file has units first; told by the lengths of clock and names, by the caller, or by the name of our own schema."""
    if request.orientation is not None:
        if request.orientation not in ORIENTATIONS:
            raise unknown("orientation", request.orientation, ORIENTATIONS)
        return request.orientation == "unit time"
    if len(shape) == 1 or shape[0] == 1 == shape[1]:
        return False
    votes = set()
    for values, says in ((clock, True), (names, False)):
        length = None if values is None else len(np.ravel(np.asarray(values, dtype=object)))
        if length is not None and shape[0] != shape[1] and length in shape:
            first = shape[0] == length  # the array's first axis is as long as this
            votes.add(not first if says else first)
    if len(votes) == 1:
        return votes.pop()
    if clock is not None and not votes and shape[0] != shape[1]:
        raise InputError(
            f"{source}: {name!r} has shape {shape}, its clock has {len(np.ravel(clock))} times; no axis has that length"
        )
    if name.rsplit(".", 1)[-1].lower() == "activity":
        return False
    raise InputError(
        f"{source}: {name!r} has shape {shape}, and nothing says which axis is time; pass orientation='time unit' (a row a sample) or orientation='unit time' (a row a unit)"
    )


def _clock(clock: Any, count: int, keys: _Keys, request: Request, source: str) -> np.ndarray:
    if clock is not None and request.rate is not None and request.time is None:
        own = np.ravel(np.asarray(clock, dtype=float))
        step = float(np.median(np.diff(own))) if len(own) > 1 else np.nan
        if np.isfinite(step) and not np.isclose(1 / step, request.rate, rtol=0.01):
            raise InputError(
                f"{source}: its clock has {1 / step:.4g} samples a second, rate says {request.rate:.4g}; leave rate out, or pass the right one of both"
            )
    if clock is not None:
        return np.ravel(np.asarray(clock, dtype=float))
    rate = request.rate or keys.rate()
    if rate is None:
        raise InputError(
            f"{source}: no clock; pass rate=... (samples a second) or time='KEY'; there are {keys.shapes()}"
        )
    return even_times(count, rate)


def _spike_recording(keys: _Keys, spikes: tuple[np.ndarray, np.ndarray], request: Request, attrs: dict[str, Any]) -> xr.Dataset:  # fmt: skip
    names = request.units if isinstance(request.units, list) else None
    units_key = keys.chosen("units", request.units, UNITS) if names is None else None
    when, whose = spikes
    if units_key:
        names = list(np.ravel(np.asarray(keys.load(units_key), dtype=object)))
    if names is None and keys.trains is not None:
        names = list(range(keys.trains))
    elif names is None or whose.dtype.kind not in "iu":
        present = np.unique(whose)
        names, whose = list(present), np.searchsorted(present, whose)
    elif len(whose) and whose.max() >= len(names):
        # Cluster numbers need not be positions: where the names are numbers, they are looked up.
        place = {str(n): i for i, n in enumerate(names)}
        missing = [w for w in np.unique(whose) if str(w) not in place]
        if missing:
            raise InputError(
                f"{attrs['source']}: spikes of unit {missing[0]}, which is not among the {len(names)} units"
            )
        whose = np.array([place[str(w)] for w in whose])
    return build(spikes=(when, whose), names=names, attrs=attrs)


def _with_own_clocks(out: xr.Dataset, keys: _Keys, source: str) -> xr.Dataset:
    """Stimulus and behaviour, on their own clock where there is one, else on that of the activity."""
    for kind, names in OWN_CLOCK.items():
        key = keys.maybe(names)
        if key is None or not keys.entries[key].numeric:
            continue
        values = np.asarray(keys.load(key))
        clock_key = keys.maybe(tuple(f"{n}_{t}" for n in names for t in ("time", "times", "t")))
        clock = out["time"].values if clock_key is None else np.ravel(np.asarray(keys.load(clock_key), dtype=float))
        if values.ndim == 2 and values.shape[0] != len(clock) == values.shape[1]:
            values = values.T
        if values.shape[0] != len(clock):
            what = "the activity" if clock_key is None else f"its clock {clock_key!r}"
            raise InputError(f"{source}: {key!r} has {values.shape[0]} samples, {what} has {len(clock)}; give it a clock of its own ('{kind}_time'), or mend its length")  # fmt: skip
        out = out.assign(own_clock(kind, values, clock))
    return out


def own_clock(kind: str, values: np.ndarray, clock: np.ndarray, variables: Any = None) -> dict[str, Any]:
    """Values on a clock of their own, named after what they are."""
    time = f"{kind}_time"
    if kind.startswith("behaviour"):
        values = values.reshape(len(values), -1)
        axis = "variable" if kind == "behaviour" else kind.replace("behaviour", "variable", 1)
        names = [str(i) for i in range(values.shape[1])] if variables is None else [str(v) for v in variables]
        return {
            kind: xr.DataArray(values, dims=(time, axis), coords={time: clock, axis: np.asarray(names, dtype=object)})
        }
    dims = (time, *[f"{kind}_{i}" for i in range(1, values.ndim)])
    return {kind: xr.DataArray(values, dims=dims, coords={time: clock})}


class _Keys:
    """Keys of a file, found by what they are usually called."""

    def __init__(self, entries: Mapping[str, Entry], source: str) -> None:
        self.entries, self.source = entries, source
        self.trains: int | None = None  # how many, where spikes come as a list of trains

    def maybe(self, names: tuple[str, ...], ndim: int | None = None) -> str | None:
        """The one key that goes by one of these names, or by such a name inside a structure."""
        found = [
            k
            for k in self.entries
            if k.rsplit(".", 1)[-1].lower() in names and (ndim is None or len(self.entries[k].shape) == ndim)
        ]
        return found[0] if len(found) == 1 else (next((k for n in names for k in found if k.lower() == n), None))

    def load(self, key: str) -> Any:
        """The array under a key."""
        return self.entries[key].load()

    def chosen(self, what: str, given: Any, names: tuple[str, ...]) -> str | None:
        """The key asked for, or the one with a usual name."""
        if given is not None and not isinstance(given, list):
            if str(given) not in self.entries:
                raise unknown("array", given, self.entries, f"in {self.source}, passed as {what}")
            return str(given)
        return self.maybe(names)

    def rate(self) -> float | None:
        """A single number called a rate, or an interval."""
        for names, inverse in ((RATE, False), (INTERVAL, True)):
            key = self.maybe(names)
            if key is not None and self.entries[key].numeric and int(np.prod(self.entries[key].shape)) == 1:
                value = float(np.ravel(np.asarray(self.load(key)))[0])
                return 1 / value if inverse and value else value
        return None

    def shapes(self) -> str:
        """What there is, for a message."""
        return ", ".join(f"{k!r} {e.shape}" for k, e in list(self.entries.items())[:12]) or "no arrays"

    def activity(self, given: str | None) -> str:
        """The key of the activity."""
        if given is not None:
            key = self.chosen("activity", given, ())
            assert key is not None
            if not self.entries[key].numeric or not 1 <= len(self.entries[key].shape) <= 2:
                raise InputError(
                    f"{self.source}: {key!r} has shape {self.entries[key].shape}; activity has two axes, of numbers"
                )
            return key
        tables = [
            k
            for k, e in self.entries.items()
            if e.numeric and len(e.shape) == 2 and min(e.shape) > 0 and max(e.shape) > 1
        ]
        tables = [k for k in tables if min(self.entries[k].shape) > 1 or k.rsplit(".", 1)[-1].lower() in ACTIVITY]
        own = [k for n in OWN_CLOCK.values() for k in tables if k.lower() in n]
        tables = [k for k in tables if k not in own] or tables
        usual = [k for k in tables if k.rsplit(".", 1)[-1].lower() in ACTIVITY]
        exact = [k for k in usual if k.lower() == "activity"]
        for options in (exact, usual, tables):
            if len(options) == 1:
                return options[0]
        if not tables:
            flat = [k for k, e in self.entries.items() if e.numeric and len(e.shape) == 1 and k.lower() in ACTIVITY]
            if len(flat) == 1:
                return flat[0]
            raise InputError(f"{self.source}: no array with two axes (time and unit); there are {self.shapes()}")
        raise InputError(f"{self.source}: several arrays could be the activity: " + ", ".join(f"{k!r} {self.entries[k].shape}" for k in (usual or tables)[:12]) + "; pass activity='KEY'")  # fmt: skip

    def spikes(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Spike times and whose they are: two arrays, or a list of times a unit."""
        key = self.maybe(SPIKES) or (self.maybe(("spikes",)) if (e := self.entries.get(self.maybe(("spikes",)) or "")) and e.kind == "L" else None)  # fmt: skip
        if key is None:
            return None
        if self.entries[key].kind == "L":
            trains = [np.ravel(np.asarray(t, dtype=float)) for t in self.load(key)]
            self.trains = len(trains)
            return np.concatenate(trains) if trains else np.empty(0), np.repeat(
                np.arange(len(trains)), [len(t) for t in trains]
            )
        whose = self.maybe(WHOSE)
        if whose is None:
            raise InputError(
                f"{self.source}: spike times {key!r}, but nothing says whose they are; give an array 'spike_unit' of the same length"
            )
        when, units = np.ravel(np.asarray(self.load(key), dtype=float)), np.ravel(np.asarray(self.load(whose)))
        if len(when) != len(units):
            raise InputError(
                f"{self.source}: {len(when)} spike times, but {len(units)} entries in {whose!r}; each spike needs one"
            )
        return when, units
