"""Homogenising: each step against a closed form or a trusted package, causality, missing data, and flat memory."""

from __future__ import annotations

import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from sklearn.base import clone

from nissl import recordings
from nissl.errors import InputError, UnknownNameError
from nissl.recordings import DeltaF, Normalise, Order, Resample, Residual, Smooth, homogenise, homogeniser

RNG = np.random.default_rng(0)


def recording(x: np.ndarray, clock: np.ndarray | float = 10.0, names: list[str] | None = None, **attrs) -> xr.Dataset:
    seconds = np.arange(len(x)) / clock if np.isscalar(clock) else clock
    return xr.Dataset(
        {"activity": (("time", "unit"), x)},
        {"time": seconds, "unit": names or [f"N{i}L" for i in range(x.shape[1])]},
        attrs,
    )


def moving(x: np.ndarray, taps: int = 8) -> np.ndarray:
    out = lfilter(np.ones(taps) / taps, 1, x, axis=0)
    for i in range(min(taps, len(x))):
        out[i] = x[: i + 1].mean(0)
    return out


# ------------------------------------------------------------------------------------------------------------ smoothing


def test_moving_and_exponential_are_scipys_filters() -> None:
    x = RNG.normal(size=(300, 5))
    np.testing.assert_allclose(Smooth().fit_transform(x), moving(x), atol=1e-14)
    np.testing.assert_allclose(Smooth(window=5).fit_transform(x), moving(x, 3), atol=1e-14)
    for alpha in (0.5, 0.07, 1.0):
        ours = Smooth(method="exponential", alpha=alpha).fit_transform(x)
        np.testing.assert_allclose(
            ours, lfilter([alpha], [1, alpha - 1], x, axis=0, zi=(1 - alpha) * x[:1])[0], atol=1e-14
        )


@pytest.mark.parametrize("sigma", [0.7, 5.0, 20.0])
def test_gaussian_is_a_convolution_renormalised_at_the_start(sigma: float) -> None:
    x = RNG.normal(size=(120, 3)) + 100
    weights = np.exp(-(np.arange(120) ** 2) / (2 * sigma**2))
    direct = np.stack([weights[: i + 1][::-1] @ x[: i + 1] / weights[: i + 1].sum() for i in range(120)])
    np.testing.assert_allclose(Smooth(method="gaussian", sigma=sigma).fit_transform(x), direct, rtol=1e-13)


@pytest.mark.parametrize("method", ["moving", "exponential", "gaussian"])
def test_smoothing_leaves_missing_samples_missing_and_out_of_the_means(method: str) -> None:
    x = RNG.normal(size=(80, 3))
    holes = x.copy()
    holes[10:14, 0] = holes[0:3, 1] = holes[50, 1] = np.nan
    ours = Smooth(method=method).fit_transform(holes).values  # type: ignore[arg-type]
    assert np.array_equal(np.isnan(ours), np.isnan(holes))
    plain = Smooth(method=method).fit_transform(x).values  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours[:, 2], plain[:, 2])
    if method == "moving":
        np.testing.assert_allclose(ours[15, 0], np.nanmean(holes[8:16, 0]), rtol=1e-13)
    if method == "exponential":  # the recursion runs over the samples there are
        packed = holes[~np.isnan(holes[:, 0]), 0]
        np.testing.assert_allclose(
            ours[~np.isnan(holes[:, 0]), 0],
            Smooth(method="exponential").fit_transform(packed[:, None])[:, 0],
            rtol=1e-13,
        )


@settings(max_examples=25, deadline=None)
@given(value=st.floats(-1e6, 1e6), method=st.sampled_from(["moving", "exponential", "gaussian"]), n=st.integers(20, 60))
def test_a_constant_stays_what_it_is(value: float, method: str, n: int) -> None:
    x = np.full((n, 2), value)
    near = {"rtol": 1e-12, "atol": 1e-300}  # an eighth of the smallest double is zero
    np.testing.assert_allclose(Smooth(method=method).fit_transform(x), x, **near)  # type: ignore[arg-type]
    np.testing.assert_allclose(Resample(dt=0.35).fit_transform(recording(x))["activity"], value, **near)


@pytest.mark.parametrize("method", ["moving", "exponential", "gaussian"])
@pytest.mark.parametrize("normalise", ["causal", "standard"])
def test_the_future_never_changes_the_past(method: str, normalise: str) -> None:
    x = RNG.normal(size=(400, 4))
    other = x.copy()
    other[200:] = 1e9 * RNG.normal(size=(200, 4))
    kinds = dict(smooth=method, normalise=normalise, residual=False)
    a, b = (homogenise(recording(v), **kinds)["activity"].values for v in (x, other))  # type: ignore[arg-type]
    past = 58  # 20 s at 3 Hz, less the group at the edge
    difference = np.abs(a[:past] - b[:past]).max()
    assert difference <= 1e-12 if normalise == "causal" else difference > 0.1


def test_smoothing_does_not_reach_across_a_gap() -> None:
    clock = np.concatenate([np.arange(50), 1000 + np.arange(50)]) / 10
    x = np.concatenate([np.zeros((50, 1)), np.ones((50, 1))])
    for method in ("moving", "exponential", "gaussian"):
        out = Smooth(method=method).fit_transform(recording(x, clock))["activity"].values  # type: ignore[arg-type]
        np.testing.assert_allclose(out[50:], 1.0)


# ------------------------------------------------------------------------------------------------- residuals, resampling


def test_residual_is_numpys_gradient() -> None:
    x, clock = RNG.normal(size=(200, 3)), np.cumsum(RNG.uniform(0.08, 0.12, 200))
    np.testing.assert_allclose(
        Residual().fit_transform(recording(x, clock))["residual"], np.gradient(x, clock, axis=0), rtol=1e-9, atol=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(
    dt=st.floats(0.02, 1.5),
    slope=st.floats(-100, 100),
    kind=st.sampled_from(["linear", "quadratic", "cubic"]),
    seed=st.integers(0, 100),
)
def test_a_straight_line_stays_one(dt: float, slope: float, kind: str, seed: int) -> None:
    clock = np.cumsum(np.random.default_rng(seed).uniform(0.08, 0.15, 120))
    out = Resample(dt=dt, interpolate=kind).fit_transform(recording(3 + slope * clock[:, None], clock))  # type: ignore[arg-type]
    np.testing.assert_allclose(out["activity"].values[:, 0], 3 + slope * out["time"].values, rtol=1e-9, atol=1e-9)
    assert np.allclose(np.diff(out["time"].values), dt)
    length = out.sizes["time"] * dt
    assert abs(length - (clock[-1] - clock[0])) < dt + 1e-9


def test_parabolas_and_cubics_are_exact_for_their_degree() -> None:
    clock = np.cumsum(RNG.uniform(0.08, 0.15, 120))
    for kind, power in (("quadratic", 2), ("cubic", 3)):
        out = Resample(dt=0.05, interpolate=kind).fit_transform(recording(clock[:, None] ** power, clock))  # type: ignore[arg-type]
        np.testing.assert_allclose(out["activity"].values[:, 0], out["time"].values ** power, rtol=1e-10)


def test_resampling_follows_the_recipe() -> None:
    x, clock = RNG.normal(size=(300, 2)), np.cumsum(RNG.uniform(0.08, 0.12, 300))
    clock -= clock[0]
    fine = np.arange(0, clock[-1], 0.5 / 6)
    groups = len(fine) // 6
    wanted = np.stack([np.interp(fine[: groups * 6], clock, c).reshape(-1, 6).mean(1) for c in x.T], 1)
    np.testing.assert_allclose(Resample(dt=0.5).fit_transform(recording(x, clock))["activity"], wanted, atol=1e-12)
    grid = np.arange(0, clock[-1], 0.03)
    out = Resample(dt=0.03).fit_transform(recording(x, clock))
    np.testing.assert_allclose(out["time"], grid, atol=1e-12)
    np.testing.assert_allclose(out["activity"], np.stack([np.interp(grid, clock, c) for c in x.T], 1), atol=1e-12)


@pytest.mark.parametrize("dt", [0.04, 0.5])
def test_nothing_is_invented_across_gaps(dt: float) -> None:
    clock = np.concatenate([np.arange(100), 150 + np.arange(100)]) / 10  # five seconds are missing
    x = np.sin(clock)[:, None] * [1.0, 1.0]
    x[30:40, 1] = np.nan  # and one more in a single unit
    out = Resample(dt=dt).fit_transform(recording(x, clock))
    t, a = out["time"].values, out["activity"].values
    inside = (t > 9.9 + dt) & (t < 15.0 - dt)
    assert inside.sum() > 5
    assert np.isnan(a[inside]).all()
    assert not out["valid"].values[inside].any()
    hole = (t > 2.9 + dt) & (t < 4.0 - dt)
    assert np.isnan(a[hole, 1]).all()
    assert not np.isnan(a[hole, 0]).any()
    known = ~np.isnan(a[:, 0])
    np.testing.assert_allclose(
        a[known, 0], np.sin(t[known]), atol=0.03 if dt < 0.1 else 0.06
    )  # a group at the edge of a gap is the mean of its half


# ---------------------------------------------------------------------------------------------------------- normalising


def test_causal_score_is_numpys_mean_and_sd_of_the_past() -> None:
    x = RNG.normal(size=(100, 3)) * [1, 1e-3, 50] + [0, 1000, -5]
    out = Normalise(method="causal").fit_transform(recording(x))
    assert (out["activity"].values[0] == 0).all()
    for t in (1, 7, 99):
        sd = x[: t + 1].std(0)
        np.testing.assert_allclose(out["activity"].values[t], (x[t] - x[: t + 1].mean(0)) / sd, rtol=1e-8)
        np.testing.assert_allclose(out["activity_sd"].values[t], sd, rtol=1e-8)
    np.testing.assert_allclose(Normalise().inverse_transform(out)["activity"].values, x, rtol=1e-12)


@pytest.mark.parametrize("method", ["standard", "causal"])
def test_normalisation_is_undone_even_through_a_file(method: str, tmp_path: Path) -> None:
    x = RNG.gamma(2.0, size=(200, 3)) * 100
    x[20:30, 1] = np.nan
    plain = homogenise(recording(x), normalise=None)
    scored = homogenise(recording(x), normalise=method, to=tmp_path / "z.zarr")  # type: ignore[arg-type]
    np.testing.assert_allclose(
        Normalise().inverse_transform(scored)["activity"].values, plain["activity"].values, rtol=1e-10
    )  # type: ignore[arg-type]


def test_standard_score_and_units_that_never_change() -> None:
    x = RNG.normal(size=(300, 3)) * 4 + 1000
    x[:, 1] = 7.1
    with pytest.warns(recordings.RecordingWarning, match=r"never change.*'N1L'"):
        out = homogenise(recording(x))
    z = out["activity"].values
    np.testing.assert_allclose(z[:, [0, 2]].mean(0), 0, atol=1e-11)
    np.testing.assert_allclose(z[:, [0, 2]].std(0), 1, rtol=1e-11)
    assert np.isnan(z[:, 1]).all()
    fitted = Normalise().fit(recording(x))
    np.testing.assert_allclose(fitted.sd_[[0, 2]], x.std(0)[[0, 2]])
    np.testing.assert_allclose(fitted.transform(x).values[:, 0], (x[:, 0] - x[:, 0].mean()) / x[:, 0].std(), atol=1e-11)


def test_burn_in_is_marked_missing() -> None:
    out = homogenise(recording(RNG.normal(size=(300, 2))), normalise="causal", burn_in=10.0)
    early = out["time"].values < out["time"].values[0] + 10
    assert np.isnan(out["activity"].values[early]).all()
    assert not np.isnan(out["activity"].values[~early]).any()
    assert not np.isnan(out["residual"].values).any()


def test_running_baseline_is_a_quantile_of_the_window() -> None:
    x = 100 + RNG.gamma(1.0, size=(300, 2)) * 10
    out = DeltaF(window=5.0, quantile=0.2).fit_transform(recording(x))["activity"].values
    for t in (0, 20, 49, 50, 299):
        f0 = np.quantile(x[max(0, t - 49) : t + 1], 0.2, axis=0)
        np.testing.assert_allclose(out[t], (x[t] - f0) / f0, rtol=1e-12)
    centred = DeltaF(window=5.0, quantile=0.2, causal=False).fit_transform(recording(x))["activity"].values
    for t in (0, 100, 299):
        f0 = np.quantile(x[max(0, t - 24) : t + 26], 0.2, axis=0)
        np.testing.assert_allclose(centred[t], (x[t] - f0) / f0, rtol=1e-12)
    with pytest.raises(InputError, match="baseline at or below 0"):
        DeltaF(window=5.0).fit_transform(recording(x - 120.0))
    with pytest.raises(InputError, match="is dF/F already"):
        r = recording(x)
        r["activity"].attrs["quantity"] = "dF/F"
        DeltaF(window=5.0).fit_transform(r)


# ---------------------------------------------------------------------------------------------------------------- order


def test_every_neuron_in_its_slot_and_strangers_apart() -> None:
    x = RNG.normal(size=(50, 5))
    r = recording(x, names=["VB02", "17", "avar", "AVAX", "AVAR"])
    r = r.assign_coords(confidence=("unit", [0.1, 0.2, 0.3, 0.4, 0.5]))
    with pytest.warns(recordings.RecordingWarning) as said:
        out = Order(neurons=["AVAL", "AVAR", "VB2"]).fit_transform(r)
    assert any(
        "'AVAX' (nearest: 'AVAR')" in str(w.message) or "AVAX' (nearest: 'AVAL')" in str(w.message) for w in said
    )
    assert any("given twice: 'AVAR'" in str(w.message) for w in said)
    np.testing.assert_array_equal(out["activity"].values[:, 2], x[:, 0])
    np.testing.assert_array_equal(out["activity"].values[:, 1], x[:, 2])
    assert np.isnan(out["activity"].values[:, 0]).all()
    assert out["labeled"].values.tolist() == [False, True, True]
    assert out["unlabelled"].values.tolist() == ["17", "AVAX", "AVAR"]
    np.testing.assert_array_equal(out["activity_unlabelled"].values, x[:, [1, 3, 4]])
    np.testing.assert_array_equal(out["confidence"].values, [np.nan, 0.3, 0.1])
    with pytest.raises(InputError, match="none of the 5 units is on the list"):
        Order(neurons=["PVDL"]).fit(r)
    with pytest.raises(InputError, match="'A' twice"):
        Order(neurons=["A", "A"]).fit(r)
    with pytest.raises(UnknownNameError, match="hermaphrodite-300"):
        Order(neurons="hermaphrodite").fit(r)
    with pytest.raises(InputError, match="on no list"):
        Order(neurons=["AVAL", "AVAR", "VB2"], unlabelled="raise").fit(r)


def test_aliases() -> None:
    out = Order(neurons=["AWCL", "AWCR"], aliases={"AWCON": "AWCR"}).fit_transform(
        recording(np.eye(4)[:, :1], names=["AWCON"])
    )
    assert out["labeled"].values.tolist() == [False, True]


def test_several_animals_on_one_axis() -> None:
    a = recording(RNG.normal(size=(300, 3)), 10.0, ["AVAL", "DB01", "0"])
    b = recording(RNG.normal(size=(100, 3)), 2.0, ["DB1", "RIML", "cell_2"])  # slower than the common clock
    both = homogenise({"a": a, "b": b})
    assert isinstance(both, recordings.Collection)
    assert both.units.tolist() == ["AVAL", "DB1", "RIML"]
    stack = both.stack()
    assert stack["activity"].dims == ("animal", "time", "unit")
    assert stack["labeled"].values.tolist() == [[True, True, False], [False, True, True]]
    assert np.isnan(stack["activity"].sel(animal="a", unit="RIML").values).all()
    alone = homogenise(a, neurons=["AVAL", "DB1", "RIML"])
    np.testing.assert_array_equal(both["a"]["activity"].values, alone["activity"].values)
    assert both["a"]["unlabelled"].values.tolist() == ["0"]
    assert stack["valid"].values.sum(1).tolist() == [both["a"].sizes["time"], both["b"].sizes["time"]]


def test_a_stack_from_disk_reads_what_is_indexed(tmp_path: Path) -> None:
    animals = {f"w{i}": recording(RNG.normal(size=(100 + 30 * i, 2)), 10.0, ["AVAL", f"VB{i + 1}"]) for i in range(3)}
    memory = homogenise(animals).stack()  # type: ignore[union-attr]
    disk = homogenise(animals, to=tmp_path / "worms").stack()  # type: ignore[union-attr]
    assert not disk["activity"].variable._in_memory
    for key in (np.s_[:], np.s_[1], np.s_[1:, 3:9, [2, 0]], np.s_[:, ::-2, 1], np.s_[2, 5, 0]):
        np.testing.assert_array_equal(disk["activity"][key].values, memory["activity"][key].values)
    np.testing.assert_array_equal(disk["labeled"].values, memory["labeled"].values)
    assert recordings.open(tmp_path / "worms.zarr").animals == ["w0", "w1", "w2"]


def test_numbered_units_are_nobody() -> None:
    animals = [recording(RNG.normal(size=(100, 2)), 10.0, ["cell_1", "cell_2"]) for _ in range(2)]
    with pytest.warns(recordings.RecordingWarning, match="no axis of neurons"):
        both = homogenise(animals)
    assert both.animals == ["0", "1"]  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------- the whole thing


def test_other_clocks_move_along_and_settings_travel() -> None:
    x = recording(RNG.normal(size=(200, 2)), np.arange(200) / 10 + 5.0)
    x = x.assign(
        behaviour=(("behaviour_time", "variable"), np.ones((3, 1))),
        trial_start=("trial", [6.0]),
        stimulus=("time", np.arange(200.0)),
    )
    x = x.assign_coords(behaviour_time=[5.0, 6.0, 7.0])
    out = homogenise(x, smooth="exponential", alpha=0.3)
    assert out["behaviour_time"].values.tolist() == [0.0, 1.0, 2.0]
    assert out["trial_start"].values.tolist() == [1.0]
    assert out["stimulus"].dims == ("stimulus_time",)
    np.testing.assert_allclose(out["stimulus_time"].values, np.arange(200) / 10)
    assert out.attrs["start_time"] == 5.0
    steps = recordings.provenance(out)
    assert [s["step"] for s in steps] == ["StartAtZero", "Residual", "Smooth", "Resample", "Normalise", "Order"]
    assert steps[2]["settings"] == {"method": "exponential", "window": 15, "alpha": 0.3, "sigma": 5.0}
    assert "activity_mean" not in x  # the recording given is left as it was


def test_the_pipeline_by_hand_is_the_same() -> None:
    x = recording(RNG.normal(size=(300, 3)), np.cumsum(RNG.uniform(0.08, 0.12, 300)), ["AVAL", "RIML", "3"])
    pipeline = homogeniser(neurons=["RIML", "AVAL"], smooth="gaussian")
    by_hand = clone(pipeline).fit_transform(x)
    at_once = homogenise(x, neurons=["RIML", "AVAL"], smooth="gaussian")
    for name in ("activity", "residual", "activity_unlabelled", "activity_mean"):
        np.testing.assert_allclose(by_hand[name].values, at_once[name].values, rtol=1e-9, atol=1e-10)
    assert [s["step"] for s in recordings.provenance(by_hand)] == [s["step"] for s in recordings.provenance(at_once)]


@settings(max_examples=20, deadline=None)
@given(
    block=st.integers(1, 400), seed=st.integers(0, 50), smooth=st.sampled_from(["moving", "exponential", "gaussian", None]),
    normalise=st.sampled_from(["standard", "causal", None]), kind=st.sampled_from(["linear", "quadratic", "cubic"]), dt=st.sampled_from([0.04, 1 / 3, 0.9]),
)  # fmt: skip
def test_the_stretches_do_not_matter(block: int, seed: int, smooth: str, normalise: str, kind: str, dt: float) -> None:
    from nissl.recordings._homogenising import flow as _flow
    from nissl.recordings._homogenising import plan as _plan

    rng = np.random.default_rng(seed)
    x, clock = rng.normal(size=(200, 3)), np.cumsum(rng.uniform(0.05, 0.15, 200))
    clock[rng.integers(20, 180) :] += 4.0
    x[rng.random(x.shape) < 0.05] = np.nan
    options = dict(smooth=smooth, normalise=normalise, interpolate=kind, dt=dt)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        whole = homogenise(recording(x, clock), **options)  # type: ignore[arg-type]
        patch.setattr(_plan, "block_rows", lambda a: block)
        pieces = homogenise(recording(x, clock), **options)  # type: ignore[arg-type]
        assert _flow.block_rows is not _plan.block_rows
    for name in whole.data_vars:
        if whole[name].dtype.kind == "f":
            np.testing.assert_allclose(pieces[name].values, whole[name].values, rtol=1e-9, atol=1e-9, err_msg=str(name))


def test_a_file_chunked_along_time_is_turned_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import h5py

    from nissl.recordings._homogenising import flow as _flow

    x = RNG.normal(size=(500, 12)).astype(np.float32)
    with h5py.File(tmp_path / "along.h5", "w") as file:
        file.create_dataset("activity", data=x, chunks=(500, 2))
        file["time"] = np.arange(500) / 10
    monkeypatch.setattr(_flow, "MOST", 2000)
    read: list[tuple] = []
    with _flow.by_rows(recordings.open(tmp_path / "along.h5")["activity"]) as turned:
        np.testing.assert_array_equal(turned.values, x)
        assert isinstance(_flow.block_rows(turned), int)
        read.append(turned.variable[3:5].shape)
    assert read == [(2, 12)]
    ours = homogenise(tmp_path / "along.h5")["activity"].values
    np.testing.assert_allclose(ours, homogenise(recording(x))["activity"].values, rtol=1e-6)


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    import zarr

    def peak(samples: int) -> float:
        path = tmp_path / f"{samples}.zarr"
        group = zarr.create_group(str(path))
        data = group.create_array(
            "activity",
            shape=(samples, 400),
            chunks=(1000, 400),
            dtype="f4",
            dimension_names=("time", "unit"),
            compressors=None,
        )
        noise = RNG.normal(size=(1000, 400)).astype("f4")
        for start in range(0, samples, 1000):
            data[start : start + 1000] = noise + start
        clock = group.create_array("time", shape=(samples,), chunks=(samples,), dtype="f8", dimension_names=("time",))
        clock[:] = np.arange(samples) / 10
        homogenise(path, to=tmp_path / "warm.zarr", overwrite=True)
        tracemalloc.start()
        homogenise(path, to=tmp_path / "out.zarr", overwrite=True)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / 1e6

    short, long = peak(10_000), peak(40_000)
    assert 40_000 * 400 * 8 / 1e6 > 120  # what it would take in memory
    assert long < short + 10


def test_filters_are_fifty_times_faster_than_a_loop_over_samples() -> None:
    x = RNG.normal(size=(1000, 150))

    def loop() -> np.ndarray:
        out = np.zeros_like(x)
        for j in range(x.shape[1]):
            for t in range(x.shape[0]):
                first = max(0, t - 7)
                out[t, j] = np.sum(x[first : t + 1, j]) / (t + 1 - first)
        return out

    def seconds(what) -> float:
        what()
        best = np.inf
        for _ in range(3):
            begin = time.process_time()
            what()
            best = min(best, time.process_time() - begin)
        return best

    begin = time.process_time()
    slow = loop()
    slow_seconds = time.process_time() - begin
    np.testing.assert_allclose(Smooth().fit_transform(recording(x))["activity"].values, slow, atol=1e-12)
    assert slow_seconds > 50 * seconds(lambda: Smooth().fit_transform(recording(x)))


def test_spikes_are_taken_as_rates() -> None:
    rng = np.random.default_rng(0)
    when = np.sort(rng.uniform(0, 100, 4000))
    whose = (rng.random(4000) < 0.25).astype(int)
    spikes = xr.Dataset(
        {"spike_time": ("spike", when), "spike_unit": ("spike", whose)},
        {"unit": ["AVAL", "RIML"]},
        {"start": 0.0, "stop": 100.0},
    )
    out = homogenise(spikes, dt=0.5, smooth=None, normalise=None)
    counts = recordings.bin_spikes(spikes, 0.5, 0, 100).values
    np.testing.assert_allclose(out["activity"].values, counts[: out.sizes["time"]] / 0.5, atol=1e-6)
    both = homogenise([spikes, recording(np.cumsum(rng.normal(size=(300, 2)), 0), 3.0, ["RIML", "AVAL"])])
    assert both.stack()["activity"].sizes["unit"] == 2  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(dt=0.0), "dt is 0.0; give a number above 0"),
        (dict(dt=500.0), "cannot be put on a clock of 500 s"),
        (dict(smooth="median"), "unknown smoothing 'median'"),
        (dict(smooth="movng"), "nearest: 'moving'"),
        (dict(window=1000), "100 samples is shorter than the filter"),
        (dict(smooth="gaussian", sigma=200.0), "shorter than the filter"),
        (dict(smooth="exponential", alpha=1.5), "alpha is 1.5; allowed"),
        (dict(normalise="zscore"), "unknown normalisation 'zscore'.*allowed: .*'standard', 'causal', 'dF/F'"),
        (dict(normalise="dF/F", baseline=600.0), "shorter than the window"),
        (dict(interpolate="spline"), "unknown interpolation"),
        (dict(max_gap=-1.0), "max_gap"),
        (dict(neurons=[]), "a list of 0 neurons"),
    ],
)
def test_settings_that_are_not_allowed(options: dict, said: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=said):
        homogenise(recording(RNG.normal(size=(100, 2))), **options)


def test_recordings_that_cannot_be_homogenised() -> None:
    x = RNG.normal(size=(100, 2))
    with pytest.raises(InputError, match="does not increase"):
        homogenise(recording(x, np.arange(100)[::-1] / 10))
    with pytest.raises(InputError, match="given twice: 'AVAL'"):
        homogenise(recording(x, names=["AVAL", "AVAL"]))
    with pytest.raises(InputError, match="without a clock"):
        homogenise(recording(x).drop_vars("time"))
    with pytest.raises(InputError, match="NoneType is no recording"):
        homogenise(None)
    assert homogenise(recording(x, np.arange(100) / 10 - 3))["time"].values[0] >= 0  # begins at 0 in any case
    infinite = x.copy()
    infinite[3, 1] = np.inf
    with pytest.raises(InputError, match="infinite activity in 'N1L'"):
        homogenise(recording(infinite))
    with pytest.raises(InputError, match="no unit of this recording ever changes"):
        homogenise(recording(np.ones((100, 2))))
    with pytest.raises(InputError, match="1 sample"):
        homogenise(recording(x[:1]))
    with pytest.raises(InputError, match="times apart"):
        homogenise({"a": recording(x, 10.0), "b": recording(x, 0.01)})
    with pytest.raises(InputError, match=r"have residuals already|has residuals already"):
        homogenise(homogenise(recording(x)))
    short = {"good": recording(x), "short": recording(x[:5]), "tiny": recording(x[:4])}
    with pytest.raises(InputError, match=r"2 of 3 recordings cannot.*short:.*tiny:"):
        homogenise(short)
    with pytest.warns(recordings.RecordingWarning, match="left out: short"):
        assert homogenise(short, skip_bad=True).animals == ["good"]  # type: ignore[union-attr]
    with pytest.raises(InputError, match="without a recording"):
        homogenise({})
    with pytest.raises(InputError, match="wanted: activity"):
        homogenise(xr.Dataset({"stimulus": ("stimulus_time", [0.1])}))
