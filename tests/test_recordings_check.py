"""What is wrong with a recording is said before work starts, with what to do about it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nissl import recordings
from nissl.errors import InputError, UnknownNameError

RNG = np.random.default_rng(0)


def recording(n: int = 50, names: tuple[str, ...] = ("AVAL", "AVAR", "RIML")) -> xr.Dataset:
    x = RNG.normal(size=(n, len(names)))
    return xr.Dataset({"activity": (("time", "unit"), x)}, {"time": np.arange(n) / 5, "unit": list(names)})


def spikes(when: list[float], whose: list[int], **attrs) -> xr.Dataset:
    return xr.Dataset({"spike_time": ("spike", when), "spike_unit": ("spike", whose)}, {"unit": ["a", "b"]}, attrs)


def kinds(r: xr.Dataset, **options) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # listing warns of nothing
        return dict(
            recordings.check(r, errors="list", **options)[["what", "severity"]].itertuples(index=False, name=None)
        )


def test_a_sound_recording_gives_nothing() -> None:
    assert kinds(recording()) == {}
    assert kinds(spikes([0.1, 0.2], [0, 1])) == {}


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (np.arange(50) / 5 - 1, r"time: 5 of 50 times are negative \(down to -1 s\); mend=\['negative'\]"),
        (np.where(np.arange(50) == 20, 0.1, np.arange(50) / 5), r"time does not increase at sample 20"),
        (np.minimum(np.arange(50), 30) / 5, r"time does not increase at sample 31"),
        (np.where(np.arange(50) == 20, np.nan, np.arange(50) / 5), "1 of 50 times are not finite"),
    ],
)
def test_clocks_that_cannot_be(clock: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        recordings.check(recording().assign_coords(time=clock))


def test_all_errors_are_said_at_once_and_mended(tmp_path: Path) -> None:
    frame = pd.DataFrame(RNG.normal(size=(20, 3)), columns=["AVAL", "AVAL", "RIML"])
    frame.insert(0, "time", np.arange(20) / 5 - 1.0)
    frame.iloc[[3, 4]] = frame.iloc[[4, 3]].to_numpy()
    path = tmp_path / "worm.npz"
    np.savez(path, activity=frame.to_numpy()[:, 1:], time=frame["time"], names=["AVAL", "AVAL", "RIML"])
    with pytest.raises(InputError, match=r"negative.*also:.*given twice: 'AVAL'|does not increase.*also"):
        recordings.open(path)
    r = recordings.open(path, mend=["negative", "order", "duplicates"])
    assert r["unit"].values.tolist() == ["AVAL", "AVAL (2)", "RIML"]
    np.testing.assert_allclose(r["time"].values, np.arange(20) / 5, atol=1e-12)
    np.testing.assert_array_equal(r["activity"].values, frame.sort_values("time").to_numpy()[:, 1:])
    assert recordings.provenance(r)[0]["settings"]["mend"] == ["duplicates", "negative", "order"]
    with pytest.raises(UnknownNameError, match="unknown remedy 'duplicate'; nearest: 'duplicates'"):
        recordings.open(path, mend="duplicate")
    assert recordings.open(path, check=False).sizes["unit"] == 3


def test_spikes() -> None:
    assert kinds(spikes([0.1, 3.0], [0, 1], start=0.0, stop=2.0)) == {"spikes": "error"}
    with pytest.raises(
        InputError, match=r"1 of 2 spikes lie outside the time that was recorded \(units 'b'\); mend=\['outside'\]"
    ):
        recordings.check(spikes([0.1, 3.0], [0, 1], start=0.0, stop=2.0))
    with pytest.raises(InputError, match="spikes of unit number 2; there are 2 units"):
        recordings.check(spikes([0.1, 0.2], [0, 2]))
    with pytest.raises(InputError, match="negative"):
        recordings.check(spikes([-0.1, 0.2], [0, 1]))
    with pytest.raises(InputError, match="do not increase"):
        recordings.check(spikes([0.3, 0.2], [0, 1]))
    with pytest.warns(recordings.RecordingWarning, match="without a spike: 'b'"):
        recordings.check(spikes([0.1], [0]))
    observed = spikes([0.1, 0.5, 0.9], [0, 0, 1]).assign(
        observed_start=("observation", [0.0, 0.8]),
        observed_stop=("observation", [0.2, 1.0]),
        observed_unit=("observation", [0, 1]),
    )
    with pytest.raises(InputError, match="1 of 3 spikes lie outside"):
        recordings.check(observed)


def test_units_that_say_nothing() -> None:
    r = recording()
    r["activity"][:, 1] = 3.0
    r["activity"][:, 2] = np.nan
    assert kinds(r) == {"empty": "warning", "constant": "warning"}
    with pytest.warns(recordings.RecordingWarning) as said:
        recordings.check(r)
    assert any("never change: 'AVAR'" in str(w.message) for w in said)
    assert any("without a single sample: 'RIML'" in str(w.message) for w in said)
    with pytest.raises(InputError, match="no unit ever changes"):
        recordings.check(r.assign(activity=r["activity"] * 0 + 1))
    with pytest.raises(InputError, match="infinite activity in 'AVAL'"):
        recordings.check(r.assign(activity=r["activity"].fillna(1.0) * np.inf))
    assert kinds(recording(names=("AVAL",))) == {"units": "warning"}
    assert kinds(recording(names=("AVAL", "AVAX", "cell_3")), neurons=["AVAL", "AVAR"]) == {"names": "warning"}
    with pytest.warns(recordings.RecordingWarning, match=r"1 name\(s\) on no list: 'AVAX' \(nearest: 'AVAR'\)"):
        recordings.check(recording(names=("AVAL", "AVAX", "cell_3")), neurons=["AVAR", "AVAL"])


def test_what_else_can_be_wrong() -> None:
    r = recording()
    assert kinds(r.assign_coords(time=np.where(np.arange(50) > 25, 100, 0) + np.arange(50) / 5)) == {"gaps": "warning"}
    assert kinds(r.assign(trial_start=("trial", [1.0, 5.0]), trial_stop=("trial", [2.0, 4.0]))) == {"clock": "error"}
    assert kinds(r.assign(stimulus=("moment", np.zeros(7)))) == {"clock": "error"}
    assert kinds(xr.Dataset({"x": ("a", [1.0])})) == {"content": "error"}
    assert kinds(r.rename(unit="cell")) == {"axes": "error"}
    with pytest.raises(InputError, match="times apart"):
        recordings.check(
            object.__new__(recordings.Collection).__class__({"a": r, "b": r.assign_coords(time=r["time"] * 1000)})
        )
    table = recordings.check(recordings.Collection({"a": r, "b": recording(names=("AVAL",))}), errors="list")
    assert table[["animal", "what"]].values.tolist() == [["b", "units"]]


# ----------------------------------------------------------------------------------------------- from one clock to another


def test_bins_are_numpys_histogram() -> None:
    when, whose = np.sort(RNG.uniform(0, 10, 500)), RNG.integers(0, 2, 500)
    counts = recordings.bin_spikes(spikes(when.tolist(), whose.tolist()), width=0.25, start=1.0, stop=9.0)
    for unit in range(2):
        wanted = np.histogram(when[whose == unit], bins=np.arange(1.0, 9.01, 0.25))[0]
        assert counts.values[:, unit].tolist() == wanted.tolist()
    np.testing.assert_allclose(counts["time"].values, 1.125 + 0.25 * np.arange(32))
    assert counts.attrs["bin_width"] == 0.25
    # 0.1 is no double, yet a spike at 0.3 belongs to the fourth bin of 0.1 s.
    exact = recordings.bin_spikes(spikes([0.1, 0.3, 0.7], [0, 0, 0]), width=0.1, start=0, stop=1)
    assert np.flatnonzero(exact.values[:, 0]).tolist() == [1, 3, 7]
    assert recordings.bin_spikes(spikes([0.1, 0.35], [0, 1])).values.sum() == 2


def test_bins_in_which_a_unit_was_not_watched_are_missing() -> None:
    r = spikes([0.1, 0.6, 0.9], [0, 0, 1]).assign(
        observed_start=("observation", [0.0]), observed_stop=("observation", [0.5]), observed_unit=("observation", [0])
    )
    counts = recordings.bin_spikes(r, width=0.25, start=0.0, stop=1.0).values
    np.testing.assert_array_equal(counts, [[1, 0], [0, 0], [np.nan, 0], [np.nan, 1]])
    with pytest.raises(InputError, match="no whole bin"):
        recordings.bin_spikes(r, width=2.0, start=0.0, stop=1.0)
    with pytest.raises(InputError, match="must end after it begins"):
        recordings.bin_spikes(r, start=2.0, stop=1.0)
    with pytest.raises(InputError, match="wanted: spike_time"):
        recordings.bin_spikes(recording())


def test_another_clock_is_interpolated_averaged_or_held() -> None:
    r = recording(50)  # 5 Hz for 10 s
    slow = np.array([0.0, 1, 2, 3, 7, 8, 9])  # four seconds are missing
    r = r.assign(behaviour=(("behaviour_time", "variable"), 2 * slow[:, None] + [[0.0, 1.0]])).assign_coords(
        behaviour_time=slow, variable=["a", "b"]
    )
    out = recordings.on_clock(r, "behaviour")
    t = r["time"].values
    gap = (t > 3) & (t < 7)
    known = ~gap & (t <= 9)
    assert np.isnan(out.values[~known]).all()
    np.testing.assert_allclose(out.values[known], 2 * t[known, None] + [0.0, 1.0])
    assert out.dims == ("time", "variable")
    fast = np.arange(500) / 50
    r = r.assign(stimulus=("stimulus_time", fast)).assign_coords(stimulus_time=fast)
    np.testing.assert_allclose(recordings.on_clock(r, "stimulus").values[1:-1], t[1:-1] - 0.01, atol=0.011)
    held = recordings.on_clock(r, "behaviour", method="previous").sel(variable="a").values
    assert held[t < 1].tolist() == [0.0] * 5
    with pytest.raises(UnknownNameError, match="nearest: 'behaviour'"):
        recordings.on_clock(r, "behavior")
    with pytest.raises(InputError, match="none of which is a clock"):
        recordings.on_clock(r.assign(depth=("unit", [1.0, 2.0, 3.0])), "depth")


@pytest.mark.parametrize("method", ["interpolate", "mean", "previous"])
def test_times_of_another_clock_come_in_any_order(method: Literal["interpolate", "mean", "previous"]) -> None:
    rng = np.random.default_rng(3)
    own = np.cumsum(rng.uniform(0.05, 0.15, 120))
    r = recording(50).assign(behaviour=("behaviour_time", rng.normal(size=120))).assign_coords(behaviour_time=own)
    times = np.linspace(0.5, 5.0, 17)
    order = rng.permutation(17)
    straight = recordings.on_clock(r, "behaviour", times, method=method)
    mixed = recordings.on_clock(r, "behaviour", times[order], method=method)
    np.testing.assert_array_equal(mixed.values, straight.values[order])
    np.testing.assert_array_equal(mixed["time"].values, times[order])
    with pytest.raises(InputError, match="no time be NaN"):
        recordings.on_clock(r, "behaviour", np.array([1.0, np.nan, 2.0]), method=method)
    with pytest.raises(InputError, match="must not run back"):
        recordings.on_clock(r.assign_coords(behaviour_time=own[::-1]), "behaviour", times, method=method)
