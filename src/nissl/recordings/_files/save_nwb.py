"""A recording as an NWB file that any NWB tool reads, with a manifest that lets nissl read it back without loss."""

from __future__ import annotations

import json
import uuid
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError
from nissl.recordings._files.read_nwb import MANIFEST, import_pynwb
from nissl.recordings._files.saving import plain_attrs
from nissl.recordings._homogenising.flow import block_rows


def write_nwb(recording: xr.Dataset, path: Path) -> None:
    """Write the parts NWB has a place for in that place, and everything else into its scratch space."""
    if not {"activity", "spike_time"} & set(recording.variables):
        raise InputError(
            f"a recording with {', '.join(map(str, recording.data_vars)) or 'nothing'} in it; NWB wants activity or spike times"
        )
    pynwb = import_pynwb()
    writer = _Writer(pynwb, recording)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pynwb.NWBHDF5IO(str(path), "w") as io:
            io.write(writer.file())


class _Writer:
    """Builds the NWB file and notes where each variable went."""

    def __init__(self, pynwb: Any, recording: xr.Dataset) -> None:
        self.pynwb, self.recording = pynwb, recording
        self.placed: dict[str, dict[str, Any]] = {}

    def file(self) -> Any:
        attrs = self.recording.attrs
        start = attrs.get("session_start_time")
        try:
            begun = datetime.fromisoformat(str(start)) if start else datetime(1970, 1, 1, tzinfo=UTC)
        except ValueError:
            begun = datetime(1970, 1, 1, tzinfo=UTC)
        self.nwb = self.pynwb.NWBFile(
            session_description=str(attrs.get("session_description") or "written by nissl"),
            identifier=str(attrs.get("identifier") or uuid.uuid4()),
            session_start_time=begun if begun.tzinfo else begun.replace(tzinfo=UTC),
            institution=attrs.get("institution"),
            lab=attrs.get("lab"),
        )
        if attrs.get("animal"):
            self.nwb.subject = self.pynwb.file.Subject(subject_id=str(attrs["animal"]), species=attrs.get("species"), sex=attrs.get("sex"), age=attrs.get("age"))  # fmt: skip
        if "activity" in self.recording:
            self._activity()
        if "spike_time" in self.recording:
            self._spikes()
        self._series()
        self._intervals()
        self._rest()
        return self.nwb

    # ------------------------------------------------------------------------------------------------------- activity

    def _activity(self) -> None:
        ophys, data = self.pynwb.ophys, self.recording["activity"].transpose("time", "unit")
        device = self.nwb.create_device(name="microscope")
        channel = ophys.OpticalChannel(name="channel", description="not said", emission_lambda=np.nan)
        plane = self.nwb.create_imaging_plane(
            name="plane", optical_channel=channel, device=device, description="not said", excitation_lambda=np.nan, indicator="not said", location="not said",
        )  # fmt: skip
        segmentation = ophys.ImageSegmentation(name="ImageSegmentation")
        table = segmentation.create_plane_segmentation(
            name="PlaneSegmentation", description="units", imaging_plane=plane
        )
        table.add_column(name="label", description="name of the unit")
        for name in data["unit"].values:
            # Where a unit lay is not part of a recording; NWB wants a mask, so every unit gets a pixel at no place.
            table.add_roi(pixel_mask=[(0, 0, 0.0)], label=str(name))
        region = table.create_roi_table_region(region=list(range(data.sizes["unit"])), description="all units")
        quantity = str(data.attrs.get("quantity", ""))
        kind = ophys.DfOverF if quantity == "dF/F" else ophys.Fluorescence
        series = ophys.RoiResponseSeries(
            name="activity", data=self._lazily(data.variable), rois=region, unit=quantity or "a.u.", timestamps=data["time"].values
        )  # fmt: skip
        module = self.nwb.create_processing_module(name="ophys", description="activity of units")
        module.add(segmentation)
        module.add(kind(name=kind.__name__, roi_response_series=series))
        base = f"/processing/ophys/{kind.__name__}/activity"
        self._note("activity", f"{base}/data")
        self._note("time", f"{base}/timestamps", load=True)

    def _lazily(self, variable: xr.Variable) -> Any:
        """Rows a stretch at a time, so that a long recording never stands in memory."""
        if variable._in_memory:
            return variable.values
        from hdmf.data_utils import GenericDataChunkIterator

        rows = block_rows(xr.DataArray(variable))

        class Stretches(GenericDataChunkIterator):
            def _get_data(self, selection: Any) -> np.ndarray:
                return variable[selection].values

            def _get_maxshape(self) -> tuple[int, ...]:
                return variable.shape

            def _get_dtype(self) -> np.dtype:
                return variable.dtype

        shape = (rows, *variable.shape[1:])
        return Stretches(buffer_shape=shape, chunk_shape=shape)

    # --------------------------------------------------------------------------------------------------------- spikes

    def _spikes(self) -> None:
        r = self.recording
        times, whose = r["spike_time"].values, r["spike_unit"].values
        observed = {"observed_start", "observed_stop", "observed_unit"} <= set(r.variables)
        self.nwb.add_unit_column(name="unit_name", description="name of the unit")
        for i, name in enumerate(r["unit"].values):
            more: dict[str, Any] = {}
            if observed:
                own = r["observed_unit"].values == i
                more["obs_intervals"] = np.stack([r["observed_start"].values[own], r["observed_stop"].values[own]], 1)
            self.nwb.add_unit(spike_times=times[whose == i], unit_name=str(name), **more)

    # ---------------------------------------------------------------------------------------- behaviour, stimuli, trials

    def _series(self) -> None:
        r = self.recording
        behaviour = [
            str(n) for n in r.data_vars if str(n).startswith("behaviour") and r[n].ndim == 2 and f"{n}_time" in r.coords
        ]
        if behaviour:
            module = self.nwb.create_processing_module(name="behavior", description="behaviour")
        for name in behaviour:
            container = self.pynwb.behavior.BehavioralTimeSeries(name=name)
            places, clock = [], None
            values, names = r[name].values, [str(v) for v in r[r[name].dims[1]].values]
            for i, variable in enumerate(names):
                safe = variable.replace("/", "_").replace(":", "_") or f"variable {i}"
                if safe in container.time_series:
                    safe = f"{safe} {i}"
                series = self.pynwb.TimeSeries(name=safe, data=values[:, i], unit="not said", timestamps=r[f"{name}_time"].values if clock is None else clock)  # fmt: skip
                clock = clock or series
                container.add_timeseries(series)
                places.append(f"/processing/behavior/{name}/{safe}/data")
            module.add(container)
            if places:
                self._note(name, places[0], columns=places)
                self._note(f"{name}_time", places[0].replace("/data", "/timestamps"), load=True)
        for name in [
            str(n)
            for n in r.data_vars
            if str(n).startswith("stimulus") and f"{n}_time" in r.coords and r[n].dtype.kind in "fiu"
        ]:
            series = self.pynwb.TimeSeries(
                name=name, data=self._lazily(r[name].variable), unit="not said", timestamps=r[f"{name}_time"].values
            )
            self.nwb.add_stimulus(series)
            self._note(name, f"/stimulus/presentation/{name}/data")
            self._note(f"{name}_time", f"/stimulus/presentation/{name}/timestamps", load=True)

    def _intervals(self) -> None:
        r = self.recording
        for kind, table_name in (("trial", "trials"), ("stimulus", "stimulus_presentations")):
            start, stop = f"{kind}_start", f"{kind}_stop"
            if not {start, stop} <= set(r.variables) or not r[start].size:
                continue
            table = self.pynwb.epoch.TimeIntervals(name=table_name, description=f"{kind} intervals")
            columns = [str(n) for n in r.variables if str(n).startswith(f"{kind}_") and r[n].dims == r[start].dims and n not in (start, stop, r[start].dims[0])]  # fmt: skip
            for column in columns:
                table.add_column(name=column.removeprefix(f"{kind}_"), description=column)
            for i in range(r[start].size):
                row = {c.removeprefix(f"{kind}_"): r[c].values[i] for c in columns}
                table.add_interval(start_time=float(r[start].values[i]), stop_time=float(r[stop].values[i]), **row)
            if kind == "trial":
                self.nwb.trials = table
            else:
                self.nwb.add_time_intervals(table)

    # ------------------------------------------------------------------------------------------------------ everything else

    def _rest(self) -> None:
        r = self.recording
        for name, variable in r.variables.items():
            if str(name) in self.placed:
                continue
            if variable.dtype.kind in "OUST" or variable.ndim == 0 or variable.size == 0:
                values = (
                    [str(v) for v in np.ravel(variable.values)]
                    if variable.dtype.kind in "OUST"
                    else variable.values.tolist()
                )
                kind = "object" if variable.dtype.kind in "OUST" else variable.dtype.str
                if kind == "object" and variable.ndim != 1:
                    values = np.array(values, dtype=object).reshape(variable.shape).tolist()
                self.placed[str(name)] = {"dims": list(variable.dims), "attrs": plain_attrs(variable.attrs), "dtype": kind, "values": values}  # fmt: skip
                continue
            key = f"nissl_{name}"
            values = variable.values
            self.nwb.add_scratch(self.pynwb.core.ScratchData(name=key, data=values.astype(np.uint8) if values.dtype.kind == "b" else values, description=str(name)))  # fmt: skip
            self._note(str(name), f"/scratch/{key}", load=values.dtype.kind == "b" or variable.ndim == 1)
        manifest = {"attrs": plain_attrs(r.attrs), "coords": [str(c) for c in r.coords], "variables": {str(n): self.placed[str(n)] for n in r.variables}}  # fmt: skip
        self.nwb.add_scratch(self.pynwb.core.ScratchData(name=MANIFEST, data=json.dumps(manifest), description="how nissl reads this file back"))  # fmt: skip

    def _note(self, name: str, place: str, *, columns: list[str] | None = None, load: bool = False) -> None:
        variable = self.recording.variables[name]
        self.placed[name] = {"dims": list(variable.dims), "attrs": plain_attrs(variable.attrs), "dtype": variable.dtype.str, "place": place, "columns": columns, "load": load}  # fmt: skip
