"""Recordings in every format are opened as what they are, and what cannot be told is asked for."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pynwb
import pytest
import scipy.io
import xarray as xr
from pynwb import behavior, ophys

from nissl import recordings
from nissl.errors import InputError, NisslError, UnknownNameError

T, N, RATE = 60, 4, 5.0
NAMES = ["AVAL", "AVAR", "RIML", "VB02"]


@pytest.fixture
def traces() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(T, N)).astype(np.float32)


TIME = np.arange(T) / RATE


def nwb_file() -> pynwb.NWBFile:
    return pynwb.NWBFile("worm on a slide", "id-1", datetime(2026, 1, 2, tzinfo=UTC), institution="Institute")


def with_traces(
    nwb: pynwb.NWBFile,
    data: np.ndarray,
    names: list[str] | None,
    column: str = "label",
    dff: bool = False,
    name: str = "RoiResponseSeries",
    **clock,
) -> pynwb.NWBFile:
    """Traces as a laboratory would write them."""
    if "scope" not in nwb.devices:
        device = nwb.create_device("scope")
        channel = ophys.OpticalChannel(name="green", description="green", emission_lambda=510.0)
        plane = nwb.create_imaging_plane(
            name="plane",
            optical_channel=channel,
            device=device,
            description="p",
            excitation_lambda=488.0,
            indicator="GCaMP6s",
            location="head",
        )
        segmentation = ophys.ImageSegmentation()
        table = segmentation.create_plane_segmentation(name="cells", description="cells", imaging_plane=plane)
        if names is not None:
            table.add_column(column, "which neuron")
        for i in range(data.shape[1]):
            table.add_roi(image_mask=np.zeros((2, 2)), **({column: names[i]} if names is not None else {}))
        module = nwb.create_processing_module("ophys", "traces")
        module.add(segmentation)
    module = nwb.processing["ophys"]
    table = module["ImageSegmentation"]["cells"]
    region = table.create_roi_table_region(region=list(range(data.shape[1])), description="all")
    kind = ophys.DfOverF if dff else ophys.Fluorescence
    if kind.__name__ not in module.data_interfaces:
        module.add(kind())
    module[kind.__name__].create_roi_response_series(
        name=name, data=data, rois=region, unit="a.u.", **(clock or {"rate": RATE})
    )
    return nwb


def written(nwb: pynwb.NWBFile, path: Path) -> Path:
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return path


# ------------------------------------------------------------------------------------------------------------------ NWB


def test_nwb_traces_with_names_and_rate(tmp_path: Path, traces: np.ndarray) -> None:
    worm = recordings.open(written(with_traces(nwb_file(), traces, NAMES), tmp_path / "worm.nwb"))
    assert worm["activity"].dims == ("time", "unit")
    assert worm["unit"].values.tolist() == NAMES
    np.testing.assert_array_equal(worm["activity"].values, traces)
    np.testing.assert_allclose(worm["time"].values, TIME, rtol=1e-15)
    assert worm.attrs["rate"] == RATE
    assert worm["activity"].attrs["quantity"] == "fluorescence"
    assert recordings.provenance(worm)[0]["step"] == "open"


def test_nwb_timestamps_conversion_and_offset(tmp_path: Path, traces: np.ndarray) -> None:
    stamps = TIME + np.random.default_rng(1).uniform(0, 0.05, T) + 3.0
    nwb = with_traces(nwb_file(), traces, None, dff=True, timestamps=stamps, conversion=1e-3, offset=2.0)
    worm = recordings.open(written(nwb, tmp_path / "worm.nwb"))
    np.testing.assert_array_equal(worm["time"].values, stamps)
    np.testing.assert_allclose(worm["activity"].values, traces * 1e-3 + 2.0, rtol=1e-6)
    assert worm["activity"].attrs["quantity"] == "dF/F"
    assert worm["unit"].values.tolist() == ["0", "1", "2", "3"]
    np.testing.assert_allclose(worm["activity"][5:7, [2, 0]].values, (traces * 1e-3 + 2.0)[5:7][:, [2, 0]], rtol=1e-6)


def test_nwb_of_several_series_takes_the_obvious_one_or_asks(tmp_path: Path, traces: np.ndarray) -> None:
    nwb = with_traces(nwb_file(), traces, NAMES, name="raw")
    with_traces(nwb, traces * 2, NAMES, name="neuropil")
    path = written(nwb, tmp_path / "a.nwb")
    np.testing.assert_array_equal(recordings.open(path)["activity"].values, traces)
    np.testing.assert_array_equal(recordings.open(path, series="neuropil")["activity"].values, traces * 2)
    nwb = with_traces(nwb_file(), traces, NAMES, name="green")
    with_traces(nwb, traces * 2, NAMES, name="red")
    path = written(nwb, tmp_path / "b.nwb")
    with pytest.raises(InputError, match=r"several series.*green.*red.*series='NAME'"):
        recordings.open(path)
    with pytest.raises(UnknownNameError, match=r"gren.*nearest.*green"):
        recordings.open(path, series="gren")
    with_traces(nwb := with_traces(nwb_file(), traces, NAMES, name="f"), traces * 2, NAMES, dff=True, name="ratio")
    np.testing.assert_array_equal(recordings.open(written(nwb, tmp_path / "c.nwb"))["activity"].values, traces * 2)


def test_nwb_traces_stored_the_other_way_round_are_turned(tmp_path: Path, traces: np.ndarray) -> None:
    nwb = with_traces(nwb_file(), traces, NAMES)
    path = written(nwb, tmp_path / "worm.nwb")
    with h5py.File(path, "a") as file:
        place = "processing/ophys/Fluorescence/RoiResponseSeries/data"
        attrs = dict(file[place].attrs)
        del file[place]
        file[place] = traces.T
        file[place].attrs.update(attrs)
    with pytest.warns(recordings.RecordingWarning, match="turned"):
        worm = recordings.open(path)
    np.testing.assert_array_equal(worm["activity"].values, traces)


def test_nwb_units_with_observed_intervals(tmp_path: Path) -> None:
    nwb = nwb_file()
    nwb.add_unit_column("unit_name", "name")
    trains = {"a": [0.5, 1.5, 3.0], "b": [], "c": [0.25, 1.5]}
    for name, times in trains.items():
        nwb.add_unit(spike_times=times, unit_name=name, obs_intervals=[[0.0, 4.0]])
    path = written(nwb, tmp_path / "units.nwb")
    with pytest.warns(recordings.RecordingWarning, match="without a spike: 'b'"):
        r = recordings.open(path)
    assert r["unit"].values.tolist() == ["a", "b", "c"]
    assert r["spike_time"].values.tolist() == [0.25, 0.5, 1.5, 1.5, 3.0]
    assert r["spike_unit"].values.tolist() == [2, 0, 0, 2, 0]
    counts = recordings.bin_spikes(r, width=1.0)
    assert counts.values.tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert counts["time"].values.tolist() == [0.5, 1.5, 2.5, 3.5]


def test_nwb_stimuli_without_a_label_are_called_by_what_their_columns_say(tmp_path: Path, traces: np.ndarray) -> None:
    nwb = with_traces(nwb_file(), traces, NAMES)
    table = pynwb.epoch.TimeIntervals(name="grating_stimuli", description="gratings")
    table.add_column("orientation", "degrees")
    for i, angle in enumerate((0.0, 45.0, 0.0)):
        table.add_interval(start_time=float(i), stop_time=i + 0.5, orientation=angle)
    nwb.add_time_intervals(table)
    opened = recordings.open(written(nwb, tmp_path / "gratings.nwb"))
    assert opened["stimulus_label"].values.tolist() == ["orientation 0", "orientation 45", "orientation 0"]


def test_nwb_behaviour_stimulus_and_trials_have_clocks_of_their_own(tmp_path: Path, traces: np.ndarray) -> None:
    nwb = with_traces(nwb_file(), traces, NAMES)
    nwb.subject = pynwb.file.Subject(subject_id="worm7", species="Caenorhabditis elegans")
    module = nwb.create_processing_module("behavior", "b")
    clock = np.arange(30) * 0.4
    module.add(
        behavior.Position(
            spatial_series=behavior.SpatialSeries(
                name="centroid",
                data=np.arange(60.0).reshape(30, 2),
                reference_frame="dish",
                timestamps=clock,
                conversion=2.0,
            )
        )
    )
    module.add(pynwb.TimeSeries(name="speed", data=np.arange(30.0), unit="mm/s", timestamps=clock))
    nwb.add_stimulus(pynwb.TimeSeries(name="light", data=np.arange(12.0), unit="W", rate=1.0))
    nwb.add_trial_column("outcome", "what")
    nwb.add_trial(start_time=0.0, stop_time=2.0, outcome="left")
    nwb.add_trial(start_time=3.0, stop_time=5.0, outcome="right")
    table = pynwb.epoch.TimeIntervals(name="stimulus_presentations", description="odours")
    table.add_column("stimulus_name", "odour")
    table.add_interval(start_time=1.0, stop_time=1.5, stimulus_name="butanone")
    nwb.add_time_intervals(table)
    r = recordings.open(written(nwb, tmp_path / "worm.nwb"))
    assert r["behaviour"].dims == ("behaviour_time", "variable")
    assert sorted(r["variable"].values.tolist()) == ["centroid_x", "centroid_y", "speed"]
    np.testing.assert_array_equal(
        r["behaviour"].sel(variable="centroid_y").values, 2 * np.arange(60.0).reshape(30, 2)[:, 1]
    )
    assert r["behaviour_time"].values.tolist() == clock.tolist()
    assert r["stimulus"].values.tolist() == list(range(12))
    assert r["trial_start"].values.tolist() == [0.0, 3.0]
    assert r["trial_outcome"].values.tolist() == ["left", "right"]
    assert r["stimulus_label"].values.tolist() == ["butanone"]
    assert r["stimulus_start"].values.tolist() == [1.0]
    assert r.attrs["animal"] == "worm7"


def test_behaviours_on_different_clocks_stay_apart(tmp_path: Path, traces: np.ndarray) -> None:
    nwb = with_traces(nwb_file(), traces, NAMES)
    module = nwb.create_processing_module("behavior", "b")
    module.add(pynwb.TimeSeries(name="pupil", data=np.arange(30.0), unit="mm", rate=2.5))
    nwb.add_acquisition(pynwb.TimeSeries(name="running", data=np.arange(100.0), unit="cm/s", rate=10.0))
    r = recordings.open(written(nwb, tmp_path / "mouse.nwb"))
    assert r["behaviour_pupil"].sizes == {"behaviour_pupil_time": 30, "variable_pupil": 1}
    running = recordings.on_clock(r, "behaviour_running")
    assert running.sizes == {"time": T, "variable_running": 1}
    np.testing.assert_allclose(running.values[2:40:2].ravel(), np.arange(100.0)[4:80:4], atol=1)


def test_fluorescence_and_units_in_one_file(tmp_path: Path, traces: np.ndarray) -> None:
    nwb = with_traces(nwb_file(), traces, NAMES)
    nwb.add_unit(spike_times=[0.1, 0.2])
    path = written(nwb, tmp_path / "both.nwb")
    with pytest.warns(recordings.RecordingWarning, match="'units' was left out"):
        assert "activity" in recordings.open(path)
    with pytest.warns(recordings.RecordingWarning):
        assert recordings.open(path, series="units")["spike_time"].values.tolist() == [0.1, 0.2]


def test_broken_nwb_is_one_clear_error(tmp_path: Path, traces: np.ndarray) -> None:
    path = written(with_traces(nwb_file(), np.tile(traces, (200, 1)), NAMES), tmp_path / "worm.nwb")
    whole = path.read_bytes()
    for share in (0.9, 0.5, 0.1, 0.001):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match="truncated"):
            recordings.open(path)
    path.write_bytes(b"not an nwb file at all")
    with pytest.raises(InputError, match="no NWB file"):
        recordings.open(path)
    empty = written(nwb_file(), tmp_path / "empty.nwb")
    with pytest.raises(InputError, match="no fluorescence of regions of interest and no units"):
        recordings.open(empty)


# --------------------------------------------------------------------------------------------------------- named arrays


def test_npz_with_usual_names(tmp_path: Path, traces: np.ndarray) -> None:
    path = tmp_path / "worm.npz"
    np.savez(
        path,
        traces=traces.T,
        time=TIME,
        names=NAMES,
        stimulus=np.arange(12.0),
        stimulus_time=np.arange(12.0),
        behaviour=np.arange(T),
    )
    r = recordings.open(path)
    np.testing.assert_array_equal(r["activity"].values, traces)
    assert r["unit"].values.tolist() == NAMES
    assert r["stimulus"].sizes == {"stimulus_time": 12}
    assert r["behaviour"].sizes == {"behaviour_time": T, "variable": 1}
    np.savez_compressed(path, activity=traces, rate=RATE)
    np.testing.assert_allclose(recordings.open(path)["time"].values, TIME)


def test_npz_that_is_ambiguous_asks(tmp_path: Path, traces: np.ndarray) -> None:
    path = tmp_path / "suite2p.npz"
    np.savez(path, F=traces, dff=traces, fs=RATE)
    with pytest.raises(InputError, match=r"several arrays could be the activity.*'F'.*'dff'.*activity='KEY'"):
        recordings.open(path)
    with pytest.raises(InputError, match=r"which axis is time.*orientation="):
        recordings.open(path, activity="F")
    assert recordings.open(path, activity="F", orientation="time unit").sizes == {"time": T, "unit": N}
    assert recordings.open(path, activity="F", orientation="unit time").sizes == {"time": N, "unit": T}
    with pytest.raises(UnknownNameError, match=r"'Fs'.*nearest.*'fs'|'Fs'.*'F'"):
        recordings.open(path, activity="Fs")
    np.savez(path, activity=traces)
    with pytest.raises(InputError, match=r"no clock; pass rate="):
        recordings.open(path)
    np.savez(path, activity=traces, time=TIME[:-5])
    with pytest.raises(InputError, match="no axis has that length"):
        recordings.open(path)
    np.savez(path, activity=traces, time=TIME)
    with pytest.raises(InputError, match="5 samples a second, rate says 50"):
        recordings.open(path, rate=50)
    np.savez(path, activity=traces, time=TIME, stimulus=np.arange(7.0))
    with pytest.raises(InputError, match="'stimulus' has 7 samples, the activity has 60"):
        recordings.open(path)


def test_a_pickle_in_an_npz_is_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", activity=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        recordings.open(tmp_path / "evil.npz")


def test_npy_is_mapped(tmp_path: Path, traces: np.ndarray) -> None:
    np.save(tmp_path / "activity.npy", traces)
    r = recordings.open(tmp_path / "activity.npy", rate=RATE)
    np.testing.assert_array_equal(r["activity"].values, traces)
    np.testing.assert_array_equal(r["activity"][::-1, [3, 1]].values, traces[::-1][:, [3, 1]])


def test_mat_5_with_structure_and_cells(tmp_path: Path, traces: np.ndarray) -> None:
    names = np.array(NAMES, dtype=object)
    content = {"wb": {"deltaFOverF": traces.astype(float), "tv": TIME[:, None], "info": {"NeuronNames": names}}}
    scipy.io.savemat(tmp_path / "worm.mat", content)
    r = recordings.open(tmp_path / "worm.mat")
    np.testing.assert_array_equal(r["activity"].values, traces)
    assert r["unit"].values.tolist() == NAMES
    np.testing.assert_array_equal(r["time"].values, TIME)


def test_mat_73_is_turned_and_left_in_its_file(tmp_path: Path, traces: np.ndarray) -> None:
    path = tmp_path / "worm.mat"
    with h5py.File(path, "w", userblock_size=512) as file:

        def put(name: str, values: np.ndarray, kind: str) -> None:
            file[name] = values.T
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)

        put("traces", traces, "single")
        put("time", TIME[:, None], "double")
        put("fs", np.array([[RATE]]), "double")
        references = []
        for i, name in enumerate(NAMES):
            put(f"#refs#/{i}", np.array([[ord(c) for c in name]], dtype=np.uint16), "char")
            references.append(file[f"#refs#/{i}"].ref)
        file.create_dataset("names", data=np.array(references, dtype=h5py.ref_dtype)[None])
        file["names"].attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    r = recordings.open(path)
    np.testing.assert_array_equal(r["activity"].values, traces)
    assert r["unit"].values.tolist() == NAMES
    assert not r["activity"].variable._in_memory or r["activity"].size < 1000


def test_mat_with_a_cell_of_spike_trains(tmp_path: Path) -> None:
    cell = np.empty(3, dtype=object)
    cell[:] = [np.array([0.1, 0.5]), np.array([]), np.array([0.2, 0.3, 0.9])]
    scipy.io.savemat(tmp_path / "units.mat", {"spike_times": cell})
    with pytest.warns(recordings.RecordingWarning, match="without a spike"):
        r = recordings.open(tmp_path / "units.mat")
    assert r["spike_time"].values.tolist() == [0.1, 0.2, 0.3, 0.5, 0.9]
    assert r["spike_unit"].values.tolist() == [0, 2, 2, 0, 2]


def test_npz_of_clustered_spikes(tmp_path: Path) -> None:
    np.savez(tmp_path / "ks.npz", spike_times=[0.3, 0.1, 0.2], spike_clusters=[70, 12, 12])
    r = recordings.open(tmp_path / "ks.npz")
    assert r["unit"].values.tolist() == ["12", "70"]
    assert r["spike_unit"].values.tolist() == [0, 0, 1]
    np.savez(tmp_path / "bad.npz", spike_times=[0.3, 0.1, 0.2])
    with pytest.raises(InputError, match="whose they are"):
        recordings.open(tmp_path / "bad.npz")


# --------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_wide_tables(tmp_path: Path, traces: np.ndarray, suffix: str) -> None:
    frame = pd.DataFrame(traces.astype(float), columns=NAMES)
    frame.insert(0, "time", TIME)
    path = tmp_path / f"worm.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path, row_group_size=17)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    r = recordings.open(path)
    np.testing.assert_array_equal(r["activity"].values, traces.astype(float))
    np.testing.assert_array_equal(r["activity"][20:40:3, [2, 0]].values, traces.astype(float)[20:40:3][:, [2, 0]])
    np.testing.assert_allclose(r["time"].values, TIME)
    assert r["unit"].values.tolist() == NAMES
    assert recordings.open(path, units=["RIML", "AVAL"])["unit"].values.tolist() == ["RIML", "AVAL"]


def test_tables_in_all_their_dialects(tmp_path: Path, traces: np.ndarray) -> None:
    wide = pd.DataFrame(traces.astype(float), columns=NAMES)
    path = tmp_path / "t.csv"

    def opened(**options) -> xr.Dataset:
        return recordings.open(path, **options)

    wide.assign(**{"Time (ms)": TIME * 1000}).to_csv(path, index=False)  # milliseconds, clock last
    np.testing.assert_allclose(opened()["time"].values, TIME)
    wide.assign(time=TIME).to_csv(path, index=False, sep=";", decimal=",")  # as a German spreadsheet writes
    np.testing.assert_array_equal(opened()["activity"].values, traces.astype(float))
    wide.assign(time=TIME).to_csv(path)  # with the index that pandas adds
    assert opened()["unit"].values.tolist() == NAMES
    wide.T.set_axis(TIME, axis=1).to_csv(path)  # a row a unit, the header has the times
    r = opened()
    np.testing.assert_allclose(r["time"].values, TIME)
    assert r["unit"].values.tolist() == NAMES
    np.testing.assert_array_equal(r["activity"].values, traces.astype(float))
    wide.T.set_axis([f"s{i}" for i in range(T)], axis=1).to_csv(path)  # a row a unit, and no times
    with pytest.raises(InputError, match="orientation='unit time'"):
        opened()
    np.testing.assert_allclose(opened(orientation="unit time", rate=RATE)["time"].values, TIME)
    long = wide.assign(time=TIME).melt("time", var_name="neuron", value_name="dff")
    long.to_csv(path, index=False)
    np.testing.assert_array_equal(opened()["activity"].values, traces.astype(float))
    long.drop(columns="dff").to_csv(path, index=False)  # a row a spike
    assert opened()["spike_time"].size == T * N
    wide.to_csv(path, index=False)
    with pytest.raises(InputError, match="rate="):
        opened()
    np.testing.assert_allclose(opened(rate=RATE)["time"].values, TIME)
    np.savetxt(path, np.column_stack([TIME, traces]), delimiter=",")  # no header
    with pytest.raises(InputError, match="looks like a clock"):
        opened()
    with pytest.raises(InputError, match="looks like a clock"):
        opened(rate=RATE)
    r = opened(time=0)
    np.testing.assert_allclose(r["time"].values, TIME)
    assert r.sizes["unit"] == N


def test_columns_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("time,a,b,a\n0,1,2,3\n1,2,3,1\n2,5,3,2\n")
    with pytest.raises(InputError, match="columns given twice: 'a'"):
        recordings.open(path)
    assert recordings.open(path, mend="duplicates")["unit"].values.tolist() == ["a", "b", "a (2)"]
    path.write_text("time,a,b\n")
    with pytest.raises(InputError, match="a header and no rows"):
        recordings.open(path)
    path.write_text("time,a\n00:01,1\n00:02,2\n")
    with pytest.raises(InputError, match="the clock 'time' holds text"):
        recordings.open(path)


def test_missing_cells_are_missing_and_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("time,a,b\n0,1,2\n1,,3\n2,NaN,4\n3,5,6\n")
    assert np.isnan(recordings.open(path)["activity"].values[:, 0]).tolist() == [False, True, True, False]
    path.write_text("time,a,b\n0,1,2\n1,oops,3\n2,3,4\n")
    with pytest.raises(InputError, match=r"column 'a' holds text \('oops', line 3\)"):
        recordings.open(path)
    path.write_text("")
    with pytest.raises(InputError, match="is empty"):
        recordings.open(path)
    path.write_text("time,a,a.1\n0,1\n1,2,3,4,5,6\n")
    with pytest.raises(NisslError):
        recordings.open(path)
    path.write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match="cannot be read"):
        recordings.open(path)


# ----------------------------------------------------------------------------------------------------- xarray's formats


def test_foreign_zarr_and_netcdf(tmp_path: Path, traces: np.ndarray) -> None:
    foreign = xr.Dataset({"dff": (("neuron", "time"), traces.T)}, {"time": TIME, "neuron": NAMES})
    foreign.to_netcdf(tmp_path / "w.nc", engine="scipy")
    foreign.to_zarr(tmp_path / "w.zarr", zarr_format=2)
    for path in (tmp_path / "w.nc", tmp_path / "w.zarr"):
        r = recordings.open(path)
        assert r["activity"].dims == ("time", "unit")
        np.testing.assert_array_equal(r["activity"].values, traces)
        assert r["unit"].values.tolist() == NAMES


# ------------------------------------------------------------------------------------------------------------ the door


def test_paths_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "worm1.csv").write_text("time,a,b\n0,1,2\n1,2,3\n2,1,1\n")
    with pytest.raises(InputError, match=r"nearest: 'worm1.csv'"):
        recordings.open(tmp_path / "wrm1.csv")
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(InputError, match=r"ends in '.docx'.*\.nwb"):
        recordings.open(tmp_path / "notes.docx")
    with pytest.raises(InputError, match="copy it here first"):
        recordings.open("https://example.org/worm.nwb")
    with pytest.raises(InputError, match="there is no folder"):
        recordings.open(tmp_path / "nowhere" / "worm.nwb")


def test_a_folder_is_a_collection(tmp_path: Path, traces: np.ndarray) -> None:
    for i in (10, 2, 1):
        pd.DataFrame(traces, columns=NAMES).assign(time=TIME).to_csv(tmp_path / f"worm{i}.csv", index=False)
    (tmp_path / "README.md").write_text("about")
    (tmp_path / ".hidden.csv").write_text("rubbish")
    with pytest.warns(recordings.RecordingWarning, match=r"README.md"):
        worms = recordings.open(tmp_path)
    assert worms.animals == ["worm1", "worm2", "worm10"]
    assert worms.stack()["activity"].shape == (3, T, N)
    (tmp_path / "broken.nwb").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match=r"1 of 4 files.*broken.nwb"):
        recordings.open(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no recordings"):
        recordings.open(tmp_path / "none")


def test_rates_a_thousand_apart_are_refused(tmp_path: Path, traces: np.ndarray) -> None:
    for name, clock in (("a", TIME), ("b", TIME * 1000)):
        pd.DataFrame(traces, columns=NAMES).assign(time=clock).to_csv(tmp_path / f"{name}.csv", index=False)
    with pytest.raises(InputError, match=r"1e\+03 times apart.*'b' has 0.005 Hz.*seconds"):
        recordings.open(tmp_path)


def test_an_hour_is_opened_without_being_read(tmp_path: Path) -> None:
    hour, units = 36_000, 1000
    path = tmp_path / "hour.nwb"
    nwb = with_traces(nwb_file(), np.zeros((2, units), np.float32), None)
    written(nwb, path)
    with h5py.File(path, "a") as file:
        place = "processing/ophys/Fluorescence/RoiResponseSeries/data"
        attrs = dict(file[place].attrs)
        del file[place]
        data = file.create_dataset(place, (hour, units), "f4", chunks=(1000, units))
        data.attrs.update(attrs)
        data[30_000:30_010] = 1.5
    recordings.open(path)  # libraries are imported and their caches filled
    tracemalloc.start()
    r = recordings.open(path)
    part = r["activity"][30_000:30_010].values
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (part == 1.5).all()
    assert part.shape == (10, units)
    assert peak < hour * units * 4 / 8
