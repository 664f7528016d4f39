"""NWB files: fluorescence of regions of interest, sorted units, behaviour, stimuli, trials, each on its own clock."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError, MissingExtraError, unknown
from nissl.recordings._files.guessing import own_clock
from nissl.recordings._files.lazy import hdf5_array
from nissl.recordings._files.nwb_series import (
    clock_key,
    column_names,
    is_numeric,
    is_plain,
    is_series,
    plain_column,
    scaled,
    series_within,
    times_of,
    word,
)
from nissl.recordings._files.read_arrays import damaged
from nissl.recordings._files.schema import Request, build, unit_names
from nissl.recordings._notes import RecordingWarning

MANIFEST = "nissl"  # scratch entry with what NWB has no place for, in files that nissl wrote
_NAMES = ("unit_name", "neuron_name", "neuron", "label", "labels", "name", "names", "cell_name", "roi_name", "cell_label", "id_labels", "neuron_id", "neuropal_id")  # fmt: skip
_NOT_ACTIVITY = ("neuropil", "background", "deconv", "spike", "event")
_BEHAVIOUR = ("behavior", "behaviour", "behavioral", "behavioural")
_ABOUT = ("session_description", "experiment_description", "institution", "lab", "session_id", "identifier")


def read_nwb(path: Path, request: Request) -> xr.Dataset:
    """Everything of an NWB file that the schema of a recording has a place for; activity is left in its file."""
    pynwb = import_pynwb()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of cached namespaces and old versions, which do not matter here
            with pynwb.NWBHDF5IO(str(path), "r", load_namespaces=True) as io:
                file = io.read()
                if MANIFEST in (file.scratch or {}) and request == Request():
                    return _written_by_us(path, file)
                reader = _Reader(path, file, request)
                out = reader.recording()
    except InputError:
        raise
    except Exception as error:  # pynwb, hdmf and h5py have an exception for every way a file can be broken
        if isinstance(error, KeyError | IndexError) and "unknown" in str(error):
            raise
        raise damaged(path, "NWB file", error) from error
    for message in reader.said:
        warnings.warn(f"{path.name}: {message}", RecordingWarning, stacklevel=4)
    return out


def import_pynwb() -> Any:
    """pynwb, or how to get it."""
    try:
        import pynwb
    except ImportError:
        raise MissingExtraError("NWB files need pynwb; pip install nissl[brains]") from None
    return pynwb


class _Reader:
    """Walks through one open file."""

    def __init__(self, path: Path, file: Any, request: Request) -> None:
        self.path, self.file, self.request = path, file, request
        self.said: list[str] = []  # warnings, to be given once the file is closed

    def recording(self) -> xr.Dataset:
        series, spikes = self._series(), self._has_units()
        wants_units = self.request.series == "units"
        if series is None and not spikes:
            kinds = sorted({type(o).__name__ for o in self.file.objects.values()})
            raise InputError(f"{self.path.name} has no fluorescence of regions of interest and no units with spike times; it has {', '.join(kinds[:8])}")  # fmt: skip
        out = self._activity(series) if series is not None and not wants_units else self._spikes()
        if series is not None and spikes:
            left = series.name if wants_units else "units"
            self.said.append(f"it has fluorescence and sorted units; {left!r} was left out, series={left!r} reads it")
        for part in (self._behaviour(series), self._stimuli(), self._intervals()):
            out = out.assign(part)
        out.attrs.update(self._about())
        return out

    # ---------------------------------------------------------------------------------------------------- activity

    def _all(self, kind: str) -> list[Any]:
        """Objects of a type and its subtypes, in no order."""
        return [o for o in self.file.objects.values() if any(c.__name__ == kind for c in type(o).__mro__)]

    def _series(self) -> Any:
        """The traces: the one asked for, the only ones, or the obvious ones."""
        found = dict(sorted(((self._address(s), s) for s in self._all("RoiResponseSeries")), key=lambda pair: pair[0]))
        wanted = self.request.series or self.request.activity
        if wanted is not None and wanted != "units":
            hits = [
                s
                for a, s in found.items()
                if wanted in (a, s.name) or a.endswith("/" + wanted) or wanted in a.split("/")
            ]
            if len(hits) == 1:
                return hits[0]
            if hits:
                raise InputError(f"{self.path.name}: several series are called {wanted!r}: {', '.join(map(repr, found))}; give the whole address")  # fmt: skip
            raise unknown(
                "series",
                wanted,
                [*(s.name for s in found.values()), *found, *(["units"] if self._has_units() else [])],
                f"in {self.path.name}",
            )
        if len(found) <= 1:
            return next(iter(found.values()), None)
        proper = {a: s for a, s in found.items() if not any(w in a.lower() for w in _NOT_ACTIVITY)}
        ratio = [s for s in proper.values() if type(s.parent).__name__ == "DfOverF"]
        for options in (ratio, list(proper.values())):
            if len(options) == 1:
                return options[0]
        raise InputError(
            f"{self.path.name} has several series of traces: {', '.join(map(repr, found))}; pass series='NAME'"
        )

    @staticmethod
    def _address(series: Any) -> str:
        parts = []
        while series is not None and type(series).__name__ != "NWBFile":
            parts.append(series.name)
            series = series.parent
        return "/".join(reversed(parts))

    def _activity(self, series: Any) -> xr.Dataset:
        region = series.rois
        names = self._names(region.table, np.asarray(region.data[:]))
        data = series.data
        turned = data.ndim == 2 and data.shape[0] == len(names) != data.shape[1]
        if turned:
            self.said.append(f"{series.name!r} has a row a region where NWB wants a row a sample; it was turned")
        if data.ndim == 1:
            variable = xr.Variable(("time", "unit"), np.asarray(scaled(series))[:, None])
        else:
            variable = hdf5_array(str(self.path), data.name, ("time", "unit"), transpose=turned, scale=float(series.conversion), offset=float(series.offset or 0.0))  # fmt: skip
        kind = type(series.parent).__name__
        variable.attrs = {
            "quantity": {"DfOverF": "dF/F", "Fluorescence": "fluorescence"}.get(kind, series.unit or ""),
            "series": self._address(series),
        }
        out = build(activity=variable, time=times_of(series, variable.shape[0]), names=names)
        if isinstance(self.request.units, list):
            out = out.assign_coords(unit=("unit", unit_names(self.request.units)))
        return out

    def _names(self, table: Any, rows: np.ndarray) -> np.ndarray:
        """Names of rows of a table: the column asked for, a column that is usually called so, or the rows' ids."""
        columns = {c.lower(): c for c in table.colnames}
        wanted = self.request.units if isinstance(self.request.units, str) else None
        if wanted is not None and wanted not in table.colnames:
            raise unknown("column", wanted, table.colnames, f"in {table.name}, passed as units")
        column = wanted or next((columns[n] for n in _NAMES if n in columns), None)
        ids = np.asarray(table.id[:])[rows]
        if column is None:
            return unit_names(ids)
        texts = np.asarray(table[column][:], dtype=object)[rows]
        return unit_names([i if str(t).strip() in ("", "nan", "None") else t for t, i in zip(texts, ids, strict=True)])

    # ------------------------------------------------------------------------------------------------------ spikes

    def _has_units(self) -> bool:
        units = self.file.units
        return units is not None and "spike_times" in units.colnames

    def _spikes(self) -> xr.Dataset:
        units = self.file.units
        index = np.asarray(units["spike_times"].data[:], dtype=np.int64)
        when = np.asarray(units["spike_times"].target.data[:], dtype=np.float64)
        whose = np.repeat(np.arange(len(index)), np.diff(index, prepend=0))
        out = build(spikes=(when, whose), names=self._names(units, np.arange(len(index))))
        if "obs_intervals" in units.colnames:
            ends = np.asarray(units["obs_intervals"].data[:], dtype=np.int64)
            spans = np.asarray(units["obs_intervals"].target.data[:], dtype=float).reshape(-1, 2)
            out["observed_start"], out["observed_stop"] = ("observation", spans[:, 0]), ("observation", spans[:, 1])
            out["observed_unit"] = ("observation", np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0)))
        return out

    # ----------------------------------------------------------------------------------------- behaviour and stimuli

    def _behaviour(self, activity: Any) -> dict[str, Any]:
        """Series of the behaviour modules, and numbers acquired alongside; those on one clock side by side."""
        found = [
            s
            for name, module in self.file.processing.items()
            if name.lower() in _BEHAVIOUR
            for s in series_within(module)
        ]
        found += [s for s in self.file.acquisition.values() if is_plain(s)]
        found += [
            s for box in self.file.acquisition.values() if not is_series(box) for s in series_within(box) if is_plain(s)
        ]
        clocks: dict[Any, list[Any]] = {}
        for series in found:
            if series is not activity and is_plain(series) and len(series.data):
                clocks.setdefault(clock_key(series), []).append(series)
        out: dict[str, Any] = {}
        for group in clocks.values():
            columns = [np.asarray(scaled(s), dtype=float).reshape(len(s.data), -1) for s in group]
            labels = [n for s, c in zip(group, columns, strict=True) for n in column_names(s, c.shape[1])]
            kind = "behaviour" if len(clocks) == 1 else f"behaviour_{word(group[0].name)}"
            made = own_clock(kind, np.concatenate(columns, 1), times_of(group[0], len(columns[0])), labels)
            made[kind].attrs["units"] = json.dumps({s.name: str(s.unit) for s in group})
            out |= made
        return out

    def _stimuli(self) -> dict[str, Any]:
        series = [s for s in (self.file.stimulus or {}).values() if is_series(s) and is_numeric(s) and len(s.data)]
        out: dict[str, Any] = {}
        for one in series:
            kind = "stimulus" if len(series) == 1 else f"stimulus_{word(one.name)}"
            clock = times_of(one, len(one.data))
            if one.data.ndim <= 1:
                out |= own_clock(kind, np.asarray(scaled(one)), clock)
            else:
                dims = (f"{kind}_time", *[f"{kind}_{i}" for i in range(1, one.data.ndim)])
                variable = hdf5_array(str(self.path), one.data.name, dims, scale=float(one.conversion), offset=float(one.offset or 0.0))  # fmt: skip
                out[kind] = xr.DataArray(variable, coords={dims[0]: clock})
            out[kind].attrs.update(series=one.name, units=str(one.unit))
        return out

    # ------------------------------------------------------------------------------------------------------ intervals

    def _intervals(self) -> dict[str, Any]:
        tables: dict[str, Any] = {}
        for name, table in dict(self.file.intervals or {}).items():
            low = name.lower()
            kind = (
                "trial"
                if low == "trials"
                else "stimulus"
                if "stim" in low or "presentation" in low
                else word(low.removesuffix("s") or low)
            )
            if kind in tables or len(table) == 0:
                kind = word(low)
            if len(table):
                tables[kind] = table
        out: dict[str, Any] = {}
        for kind, table in tables.items():
            dim = "interval" if kind == "stimulus" else kind
            frame = {c: table[c] for c in table.colnames}
            out[f"{kind}_start"] = (dim, np.asarray(frame.pop("start_time")[:], dtype=float))
            out[f"{kind}_stop"] = (dim, np.asarray(frame.pop("stop_time")[:], dtype=float))
            for column, data in frame.items():
                value = plain_column(data, len(table))
                if value is not None:
                    label = kind == "stimulus" and column in ("label", "stimulus_name", "stimulus", "stimulus_label")
                    out["stimulus_label" if label and "stimulus_label" not in out else f"{kind}_{word(column)}"] = (
                        dim,
                        value,
                    )
        return _labelled(out)

    def _about(self) -> dict[str, Any]:
        about = {k: str(v) for k in _ABOUT if (v := getattr(self.file, k, None))}
        about["session_start_time"] = self.file.session_start_time.isoformat()
        subject = self.file.subject
        if subject is not None:
            about |= {
                k: str(v) for k in ("species", "sex", "age", "genotype", "strain") if (v := getattr(subject, k, None))
            }
            if subject.subject_id:
                about["animal"] = str(subject.subject_id)
        about["source"] = self.path.name
        return about


def _labelled(out: dict[str, Any], most: int = 24) -> dict[str, Any]:
    """Stimuli without a label are told apart by what their columns say: `orientation 45, contrast 0.5`."""
    if "stimulus_start" not in out or "stimulus_label" in out:
        return out
    said = []
    for key, (dim, values) in out.items():
        column = key.removeprefix("stimulus_")
        if dim != "interval" or column in ("start", "stop", "id") or np.ndim(values) != 1:
            continue
        if 1 < len(np.unique(values.astype(str))) <= min(most, len(values)):
            said.append([f"{column} {v:g}" if isinstance(v, float) else f"{column} {v}" for v in values.tolist()])
    if said:
        out["stimulus_label"] = (
            "interval",
            np.array([", ".join(parts) for parts in zip(*said, strict=True)], dtype=object),
        )
    return out


def _written_by_us(path: Path, file: Any) -> xr.Dataset:
    """A recording as it was saved: the manifest says which array is which variable."""
    manifest = json.loads(_text(file.scratch[MANIFEST].data))
    variables: dict[str, xr.Variable] = {}
    for name, entry in manifest["variables"].items():
        if "values" in entry:
            variables[name] = xr.Variable(
                entry["dims"], np.asarray(entry["values"], dtype=entry["dtype"]), entry["attrs"]
            )
            continue
        if entry["columns"] is not None:
            parts = [hdf5_array(str(path), p, (entry["dims"][0],)).values for p in entry["columns"]]
            variable = xr.Variable(entry["dims"], np.stack(parts, 1))
        else:
            variable = hdf5_array(str(path), entry["place"], tuple(entry["dims"]))
        if entry["load"]:
            variable = xr.Variable(entry["dims"], variable.values.astype(entry["dtype"]))
        variable.attrs = entry["attrs"]
        variables[name] = variable
    coords = {n: variables.pop(n) for n in manifest["coords"]}
    return xr.Dataset(variables, coords, manifest["attrs"])


def _text(data: Any) -> str:
    value = data[()] if hasattr(data, "shape") else data
    return value.decode() if isinstance(value, bytes) else str(value)
