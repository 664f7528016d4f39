"""What is saved comes back without loss, and never stands half-written under its name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from nissl import recordings
from nissl.errors import InputError, StoreError

RNG = np.random.default_rng(0)


def whole(dtype: str = "float32") -> xr.Dataset:
    """A recording with everything the schema knows."""
    t, n = 50, 3
    x = RNG.normal(size=(t, n)).astype(dtype)
    x[3:6, 1] = np.nan
    clock = np.cumsum(RNG.uniform(0.1, 0.3, t))
    return xr.Dataset(
        {
            "activity": (("time", "unit"), x, {"quantity": "dF/F"}),
            "behaviour": (("behaviour_time", "variable"), RNG.normal(size=(20, 2))),
            "stimulus": (("stimulus_time", "stimulus_1"), RNG.normal(size=(7, 4)).astype(np.float32)),
            "stimulus_start": ("interval", [0.5, 2.5]),
            "stimulus_stop": ("interval", [1.0, 3.0]),
            "stimulus_label": ("interval", np.array(["odour A", "odour ä"], dtype=object)),
            "trial_start": ("trial", [0.0, 4.0, 6.0]),
            "trial_stop": ("trial", [3.5, 5.5, 8.0]),
            "trial_choice": ("trial", np.array(["left", "right", "left"], dtype=object)),
            "trial_reward": ("trial", [1.0, 0.0, 0.25]),
            "spike_time": ("spike", [0.25, 1.5, 1.5]),
            "spike_unit": ("spike", [2, 0, 1]),
            "labeled": ("unit", [True, False, True]),
        },
        {
            "time": ("time", clock, {"units": "s"}), "unit": ("unit", np.array(["AVAL", "17", "RIML"], dtype=object)),
            "behaviour_time": np.arange(20) / 7, "variable": ("variable", np.array(["speed", "x/y"], dtype=object)), "stimulus_time": np.arange(7) * 1.1,
            "position_x": ("unit", [1.0, 2.0, 3.0]),
        },
        {"rate": 5.0, "source": "lab", "animal": "w1", "provenance": '[{"step": "open", "settings": {}}]', "temperature": 20},
    )  # fmt: skip


def assert_same(a: xr.Dataset, b: xr.Dataset) -> None:
    assert set(a.variables) == set(b.variables)
    assert set(a.coords) == set(b.coords)
    for name in a.variables:
        x, y = a[name], b[name]
        assert x.dims == y.dims, name
        if x.dtype.kind in "OU":
            assert x.values.tolist() == y.values.tolist(), name
        else:
            assert x.dtype == y.dtype, name
            np.testing.assert_array_equal(
                x.values.view(f"u{x.dtype.itemsize}"), y.values.view(f"u{x.dtype.itemsize}"), err_msg=str(name)
            )
        assert dict(x.attrs) == dict(y.attrs), name
    assert dict(a.attrs) == dict(b.attrs)


@pytest.mark.parametrize("suffix", [".zarr", ".nwb"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_is_bit_for_bit(tmp_path: Path, suffix: str, dtype: str) -> None:
    before = whole(dtype)
    path = recordings.save(before, tmp_path / f"worm{suffix}")
    after = recordings.open(path)
    assert_same(before, after)
    assert_same(before, recordings.open(recordings.save(after, tmp_path / f"again{suffix}")))  # from lazy arrays
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([f"worm{suffix}", f"again{suffix}"])


def test_from_one_format_to_the_other_and_through_netcdf(tmp_path: Path) -> None:
    before = whole("float64")
    path = tmp_path / "a.zarr"
    recordings.save(before, path)
    recordings.save(recordings.open(path), tmp_path / "b.nwb")
    recordings.save(recordings.open(tmp_path / "b.nwb"), tmp_path / "c.zarr")
    assert_same(before, recordings.open(tmp_path / "c.zarr"))
    recordings.save(before, tmp_path / "d.nc")
    back = recordings.open(tmp_path / "d.nc")
    np.testing.assert_array_equal(back["activity"].values, before["activity"].values)
    assert back["stimulus_label"].values.tolist() == before["stimulus_label"].values.tolist()
    assert recordings.provenance(back) == recordings.provenance(before)


def test_our_nwb_is_read_by_those_who_know_nothing_of_us(tmp_path: Path) -> None:
    before = whole()
    path = recordings.save(before, tmp_path / "worm.nwb")
    import pynwb

    with pynwb.NWBHDF5IO(str(path), "r") as io:
        nwb = io.read()
        series = nwb.processing["ophys"]["DfOverF"]["activity"]
        np.testing.assert_array_equal(series.data[:], before["activity"].values)
        np.testing.assert_array_equal(series.timestamps[:], before["time"].values)
        assert list(series.rois.table["label"][:]) == ["AVAL", "17", "RIML"]
        assert [nwb.units["spike_times"][i].tolist() for i in range(3)] == [[1.5], [1.5], [0.25]]
        assert nwb.trials.to_dataframe()["choice"].tolist() == ["left", "right", "left"]
        assert (
            nwb.processing["behavior"]["behaviour"]["speed"].data[:].tolist()
            == before["behaviour"].values[:, 0].tolist()
        )
    # The generic reader (which is taken as soon as anything is asked for) finds the same.
    with pytest.warns(recordings.RecordingWarning, match="left out"):
        plain = recordings.open(path, series="activity")
    np.testing.assert_array_equal(plain["activity"].values, before["activity"].values)
    np.testing.assert_array_equal(plain["behaviour"].values, before["behaviour"].values)
    assert plain["trial_choice"].values.tolist() == ["left", "right", "left"]
    assert plain["stimulus_label"].values.tolist() == ["odour A", "odour ä"]


def test_pynwb_finds_our_files_valid(tmp_path: Path) -> None:
    import pynwb

    path = recordings.save(whole(), tmp_path / "worm.nwb")
    errors = pynwb.validate(path=str(path))
    assert not (errors[0] if isinstance(errors, tuple) else errors)


def test_a_collection_is_one_folder(tmp_path: Path) -> None:
    worms = recordings.Collection({"worm 2": whole(), "lab/worm.1": whole()})
    path = worms.save(tmp_path / "worms.zarr")
    back = recordings.open(path)
    assert isinstance(back, recordings.Collection)
    assert back.animals == ["worm 2", "lab/worm.1"]
    for animal in worms:
        assert_same(worms[animal], back[animal])
    assert not back["worm 2"]["activity"].variable._in_memory
    with pytest.raises(InputError, match=r"goes into one .zarr"):
        worms.save(tmp_path / "worms.nwb")


def test_nothing_is_overwritten_unasked_and_nothing_half_written_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recordings.save(whole(), tmp_path / "worm.zarr")
    with pytest.raises(StoreError, match="exists already"):
        recordings.save(whole(), path)
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "folder.zarr" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match="no zarr store; nothing in it was touched"):
        recordings.save(whole(), tmp_path / "folder.zarr", overwrite=True)
    from nissl.recordings._files import zarr_store as _zarr_store

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = recordings.open(path).load()
    monkeypatch.setattr(_zarr_store, "_write", fails)
    with pytest.raises(StoreError, match="No space left"):
        recordings.save(whole(), path, overwrite=True)
    monkeypatch.undo()
    assert_same(before, recordings.open(path))
    assert not [p for p in os.listdir(tmp_path) if p.startswith(".")]
    recordings.save(whole("float64"), path, overwrite=True)
    assert recordings.open(path)["activity"].dtype == np.float64


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in '.csv'; allowed: .zarr"):
        recordings.save(whole(), tmp_path / "worm.csv")
    with pytest.raises(InputError, match="no recording"):
        recordings.save(np.zeros(3), tmp_path / "worm.zarr")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="NWB wants activity"):
        recordings.save(xr.Dataset({"x": ("a", [1.0])}), tmp_path / "worm.nwb")


def test_a_store_that_lost_a_part_is_no_recording(tmp_path: Path) -> None:
    path = recordings.save(whole(), tmp_path / "worm.zarr")
    part = path / "activity" / "c" / "0" / "0"
    bytes_ = part.read_bytes()
    part.write_bytes(bytes_[:-4])
    with pytest.raises(StoreError, match=r"truncated: part \(0, 0\) of array 'activity'"):
        recordings.open(path)
    part.unlink()
    with pytest.raises(StoreError, match="truncated"):
        recordings.open(path)
    shutil.rmtree(path / "activity")
    with pytest.raises(StoreError, match="array 'activity' is missing"):
        recordings.open(path)
    empty = whole().assign(activity=whole()["activity"] * np.nan)  # nothing but NaN is no loss
    recordings.save(empty, tmp_path / "empty.zarr")
    assert recordings.open(tmp_path / "empty.zarr", check=False)["activity"].isnull().all()
    worms = recordings.Collection({"a": whole(), "b": whole()}).save(tmp_path / "worms.zarr")
    shutil.rmtree(worms / "b")
    with pytest.raises(StoreError, match="animal 'b' is missing"):
        recordings.open(worms)
