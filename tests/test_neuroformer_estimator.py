"""The estimator: entropy it cannot beat, wiring it finds, what it generates, decodes, aligns, stores; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.base import clone

from nissl.errors import InputError, StoreError, UnknownNameError
from nissl.populations import Neuroformer
from nissl.populations.neuroformer.series import Series
from nissl.recordings.simulate import spiking_hubs, tuned_population, visual_population
from nissl.recordings.simulate.circuits import cascade

TINY = {"dim": 16, "heads": 2, "batch_size": 64, "progress": False, "device": "cpu"}


@pytest.fixture(scope="module")
def circuit() -> xr.Dataset:
    return spiking_hubs(150, n_units=8, n_hubs=2, n_targets=3, transmission=0.8, seed=2)


@pytest.fixture(scope="module")
def fitted(circuit: xr.Dataset) -> Neuroformer:
    return Neuroformer(**TINY | {"batch_size": 128}, steps=250, learning_rate=4e-3).fit(circuit)


@pytest.fixture(scope="module")
def seen() -> xr.Dataset:
    return visual_population(60, n_units=6, n_connections=4, video=(12, 12), seed=0)


@pytest.fixture(scope="module")
def seeing(seen: xr.Dataset) -> Neuroformer:
    return Neuroformer(**TINY, steps=30, contrast=("spikes", "stimulus"), contrast_dim=32).fit(seen)


def test_independent_units_cost_their_entropy() -> None:
    """For Poisson units the best possible loss has a closed form: chances of each next event, unit by unit and bin by bin."""
    rates = np.array([0.02, 0.05, 0.01, 0.08])
    counts = np.random.default_rng(0).poisson(rates, (40_000, 4))
    model = Neuroformer(**TINY | {"batch_size": 256}, steps=250, learning_rate=4e-3).fit(counts)
    rows = np.flatnonzero(model.split_ == "test")
    batch = model.windows_.batch(rows)
    best = _poisson_nats(batch.ids.numpy(), batch.dts.numpy(), rates)
    found = model.evaluate().nats_id
    assert best - 0.003 < found < best + 0.02
    assert found < model.evaluate().unigram_id - 0.02


def _poisson_nats(ids: np.ndarray, dts: np.ndarray, rates: np.ndarray, n_bins: int = 5) -> float:
    """Mean nats an ID token of the true process. Events are ordered by bin, then unit; k spikes are k events."""
    from scipy.stats import poisson

    fires, n = 1 - np.exp(-rates), len(rates)
    first = np.exp(-np.r_[0, rates.cumsum()[:-1]]) * fires  # the first event of a bin is of unit j
    silent, total, tokens = np.exp(-rates.sum()), 0.0, 0
    for row_ids, row_dts in zip(ids, dts, strict=True):
        unit, when, run = -1, -1, 0
        for target, time in zip(row_ids[1:], row_dts[1:], strict=True):
            p, left = np.zeros(n + 1), 1.0
            if when >= 0:
                again = poisson.sf(run, rates[unit]) / poisson.sf(run - 1, rates[unit])
                p[unit], left = again, 1 - again
                for j in range(unit + 1, n):
                    p[j] += left * fires[j]
                    left *= 1 - fires[j]
            later = n_bins - 1 - when
            p[:n] += left * first * sum(silent**k for k in range(later))
            p[n] = left * silent**later
            total, tokens = total - np.log(p[target]), tokens + 1
            if target == n:
                break
            run = run + 1 if (target, time) == (unit, when) else 1
            unit, when = target, time
    return total / tokens


def test_a_unit_that_never_fires_is_never_expected() -> None:
    counts = np.random.default_rng(0).poisson([0.1, 0.0, 0.1], (6000, 3))
    model = Neuroformer(**TINY, steps=120, silent="keep").fit(counts)
    with torch.no_grad():
        p = model.network_(model.windows_.batch(np.arange(10, 200))).ids.softmax(-1)
    assert p[..., 1].max() < 2e-3
    assert np.isnan(model.connectivity().values[1]).all()
    assert np.isnan(model.compare_connectivity()["glm"].values[1]).all()
    assert (model.generate(duration=5)["spikes"].values[:, 1] == 0).all()


def test_finds_the_wiring(circuit: xr.Dataset, fitted: Neuroformer) -> None:
    score = fitted.evaluate()
    assert score.nats_id < score.unigram_id - 0.1
    assert score.bits_per_event == pytest.approx(fitted.score())
    maps = fitted.compare_connectivity()
    edges = circuit["adjacency"].values > 0
    for name, values in maps.items():
        assert values.dims == ("target", "source")
        x = np.nan_to_num(values.values, nan=-1.0)
        assert (x > x.T)[edges].mean() >= 0.8, name
    simple = {"lagged_correlation", "partial_correlation", "glm"}
    assert set(maps) == {"attention", "relative_attention", "occlusion"} | simple
    strict = fitted.connectivity(min_pairs=10**6)
    assert np.isnan(strict.values).all()
    assert strict["pairs"].values.sum() > 1000


@pytest.mark.parametrize(
    "options", [{"source": "current"}, {"heads": "max"}, {"layers": "rollout"}, {"source": "both", "layers": "rollout"}]
)
def test_kinds_of_connectivity(fitted: Neuroformer, options: dict) -> None:
    found = fitted.connectivity(split="test", min_pairs=1, **options)
    assert (found.values[np.isfinite(found.values)] >= 0).all()
    assert np.nanmax(found.values) <= 1


def test_generates_in_closed_loop_and_after_the_true_past(circuit: xr.Dataset, fitted: Neuroformer) -> None:
    drawn = fitted.generate(duration=10, samples=4)["spikes"]
    assert drawn.dims == ("sample", "time", "unit")
    assert drawn.sizes["time"] == 1000
    rate, true = drawn.values.mean(), circuit["spikes"].values.mean()
    assert 0.7 < rate / true < 1.4
    again = fitted.generate(duration=10, samples=4)["spikes"]
    np.testing.assert_array_equal(drawn, again)
    assert not np.array_equal(drawn, fitted.generate(duration=10, samples=4, seed=1)["spikes"])
    forced = fitted.generate(past="true")["spikes"]
    assert forced.dims == ("time", "unit")
    # Given the true past, hubs' targets follow the recorded hubs; the recording starts where the first past is whole.
    true_counts = circuit["spikes"].values[15 : 15 + forced.sizes["time"]]
    edge = np.argwhere(circuit["adjacency"].values > 0)[0]
    lag = round(float(circuit["delay"].values[tuple(edge)]) / 0.01)
    first = np.arange(0, forced.sizes["time"], 5)[1:]  # first bins of windows: their cause lies in the past
    assert np.corrcoef(forced.values[first, edge[0]], true_counts[first - lag, edge[1]])[0, 1] > 0.1
    assert Neuroformer(**TINY, steps=0).fit(forced.to_dataset(name="spikes")).units_ == fitted.units_
    sharp = fitted.generate(duration=5, top_p=(0.3, 0.3), temperature=0.5)
    assert np.isfinite(sharp["spikes"].values).all()


def test_decodes_from_few_labels() -> None:
    recording = tuned_population(120, n_units=8, rate=10.0, gain=0.8, seed=0)
    model = Neuroformer(**TINY, steps=150, gap=3.0).fit(recording)
    before = {k: v.clone() for k, v in model.network_.state_dict().items()}
    tuned = model.finetune("speed", labels=60, steps=60, learning_rate=1e-3)
    assert list(tuned.decoding_.index) == ["neuroformer", "counts"]
    assert tuned.decoding_.loc["neuroformer", "correlation"] > 0.5
    assert all(torch.equal(v, before[k]) for k, v in model.network_.state_dict().items())
    said = tuned.predict("speed")
    wanted = np.interp(said["time"], recording["behaviour_time"], recording["behaviour"].values[:, 0])
    assert np.corrcoef(said, wanted)[0, 1] > 0.5
    assert abs(said.values.std() / wanted.std() - 1) < 0.6  # in the behaviour's own units
    frozen = model.finetune("speed", labels=60, steps=20, freeze=True)
    assert torch.equal(frozen.network_.unit.weight, model.network_.unit.weight)
    with pytest.raises(InputError, match="leaves 0; at least 2 are needed: give fraction of"):
        model.finetune("speed", fraction=1e-6)
    with pytest.raises(InputError, match="give either fraction"):
        model.finetune("speed")
    with pytest.raises(UnknownNameError, match="speed"):
        model.finetune("sped", labels=10)
    with pytest.raises(UnknownNameError, match="loss"):
        model.finetune("speed", labels=10, losses=("sped",))


def test_classes_are_decoded_too() -> None:
    recording = tuned_population(60, n_units=8, rate=10.0, gain=0.8, seed=0)
    fast = (recording["behaviour"] > 0).astype(float)
    tuned = (
        Neuroformer(**TINY, steps=20)
        .fit(recording.assign(behaviour=fast))
        .finetune("speed", labels=100, classes=2, steps=80, learning_rate=3e-3)
    )
    assert tuned.decoding_.loc["counts", "accuracy"] > 0.6
    p = tuned.predict("speed")
    assert p.dims == ("time", "class")
    np.testing.assert_allclose(p.sum("class"), 1, rtol=1e-5)


def test_aligned_modalities_and_maps_of_the_stimulus(seen: xr.Dataset, seeing: Neuroformer) -> None:
    both = seeing.embed(split="test")
    assert set(both) == {"spikes", "stimulus"}
    np.testing.assert_allclose((both["spikes"] ** 2).sum("latent"), 1, rtol=1e-4)
    for gradient in (False, True):
        heat = seeing.stimulus_attention("u2", gradient=gradient)
        assert heat.dims == ("frame", "y", "x")
        assert (heat.values >= 0).all()
        assert heat.attrs["events"] > 50
    assert seeing.stimulus_attention("u2").sum() == pytest.approx(1, abs=1e-4)
    assert heat["x"].values[0] == 3.5  # the centre of a patch of eight pixels
    with pytest.raises(UnknownNameError, match="nearest: 'u2'"):
        seeing.stimulus_attention("u22")


def test_one_window_shows_its_attention(fitted: Neuroformer) -> None:
    window = int(fitted.windows_.n_events.argmax())
    shown = fitted.attention(float(fitted.windows_.start[window] + 0.01))
    assert shown.sizes == {
        "event": int(fitted.windows_.n_events[window]),
        "past_event": int(fitted.windows_.n_past[window]),
    }
    assert (shown["past_time"] < fitted.windows_.start[window]).all()


def test_a_callback_gives_the_clips(seen: xr.Dataset) -> None:
    clock, film = seen["stimulus_time"].values, seen["stimulus"].values

    def clip(_: object, time: float) -> np.ndarray:
        last = np.searchsorted(clock, time + 0.05 - 1e-9, side="right") - 1
        return film[last - 1 : last + 1] if last >= 1 else np.full((2, 12, 12), np.nan)

    own = Neuroformer(**TINY, steps=3).fit(seen)
    called = Neuroformer(**TINY, steps=3).fit(seen, stimulus=clip)
    assert own.evaluate().nats_id == pytest.approx(called.evaluate().nats_id, abs=1e-4)


def test_other_modalities_and_missing_behaviour(seen: xr.Dataset) -> None:
    broken = seen.copy(deep=True)
    broken["behaviour"].values[100:400] = np.nan
    model = Neuroformer(**TINY, steps=10, inputs={"past": (), "body": ("speed",)}, contrast=("spikes", "body")).fit(
        broken
    )
    assert np.isfinite(model.evaluate().nats_id)
    assert set(model.embed(split="test")) == {"spikes", "body"}
    with pytest.raises(InputError, match="reading it off"):
        model.finetune("speed", labels=10)
    with pytest.raises(InputError, match="both an input and a target"):
        Neuroformer(**TINY, inputs=("past", "speed"), targets=("speed",)).fit(seen)


def test_series_are_not_invented_across_gaps() -> None:
    clock = np.r_[np.arange(0, 1, 0.1), np.arange(3, 4, 0.1)]
    data = xr.Dataset(
        {"behaviour": (("behaviour_time", "variable"), clock[:, None])}, {"behaviour_time": clock, "variable": ["x"]}
    )
    series = Series(data, ("x",))
    found = series.at("x", np.array([0.25, 0.5, 2.0, 3.55, 9.0]))
    np.testing.assert_allclose(found[[0, 1, 3]], [0.25, 0.5, 3.55])
    assert np.isnan(found[[2, 4]]).all()
    np.testing.assert_allclose(series.means("x", np.array([0.0, 0.12]), np.array([0.25, 0.17])), [0.1, 0.145])


def test_an_interrupted_fit_ends_where_it_would_have_ended(
    circuit: xr.Dataset, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TINY | {"steps": 20, "dropout": 0.1, "checkpoint_every": 8}
    whole = Neuroformer(**settings).fit(circuit)
    from nissl.populations.neuroformer import training

    calls = 0
    real = training.losses

    def interrupted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 14:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "losses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Neuroformer(**settings, checkpoint=tmp_path).fit(circuit)
    resumed = Neuroformer(**settings, checkpoint=tmp_path).fit(circuit)
    assert calls == 14 + 20 - 8
    for key, value in whole.network_.state_dict().items():
        torch.testing.assert_close(resumed.network_.state_dict()[key], value, rtol=0, atol=0)
    assert resumed.history_ == whole.history_
    with pytest.raises(StoreError, match="other settings"):
        Neuroformer(**settings | {"steps": 21}, checkpoint=tmp_path).fit(circuit)
    (tmp_path / "training.safetensors").write_bytes(b"half a file")
    with pytest.raises(StoreError, match="cannot be read"):
        Neuroformer(**settings, checkpoint=tmp_path).fit(circuit)


def test_saved_and_opened_again(seen: xr.Dataset, seeing: Neuroformer, tmp_path) -> None:
    seeing.save(tmp_path / "model")
    opened = Neuroformer.load(tmp_path / "model", device="cpu")
    part = seen.isel(time=slice(0, 2000))
    assert opened.evaluate(part).nats_id == pytest.approx(seeing.evaluate(part).nats_id, abs=1e-6)
    assert opened.get_params()["contrast"] == ("spikes", "stimulus")
    with pytest.raises(InputError, match="no recording of its own"):
        opened.evaluate()
    other = part.assign_coords(unit=[f"v{i}" for i in range(6)])
    with pytest.raises(InputError, match="units are not those of the model"):
        opened.evaluate(other)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(StoreError, match="no readable Neuroformer"):
        Neuroformer.load(tmp_path / "model")


def test_same_seed_same_model_and_the_callers_generator_untouched(circuit: xr.Dataset) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b = (clone(Neuroformer(**TINY, steps=5, dropout=0.2, seed=3)).fit(circuit) for _ in range(2))
    assert torch.equal(a.network_.id_head.weight, b.network_.id_head.weight)
    assert torch.equal(torch.rand(3), expected)
    c = Neuroformer(**TINY, steps=5, dropout=0.2, seed=4).fit(circuit)
    assert not torch.equal(a.network_.id_head.weight, c.network_.id_head.weight)


def test_cut_windows_are_reported(circuit: xr.Dataset) -> None:
    with pytest.warns(UserWarning, match="windows hold more than 2 events"):
        model = Neuroformer(**TINY, steps=2, max_events=2).fit(circuit)
    assert 0 < model.truncated_["window"] < 1
    assert model.evaluate().truncated > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bin_width": 0.1}, "wider than the window"),
        ({"dim": 10, "heads": 4}, "multiple, such as 12"),
        ({"layers": (1, 1)}, "four numbers"),
        ({"steps": -1}, "whole number of 0"),
        ({"learning_rate": 0.0}, "positive number"),
        ({"inputs": "everything"}, "'auto'"),
        ({"inputs": ("past", "stimulus")}, "no `stimulus`"),
        ({"contrast": ("spikes",)}, "two or more"),
        ({"contrast": ("spikes", "stimulus")}, "no `stimulus`"),
        ({"targets": ("speed",)}, "no `behaviour`"),
        ({"device": "abacus"}, "cannot be used"),
        ({"test": 1.5}, "0 < test < 1"),
    ],
)
def test_settings_that_cannot_work(circuit: xr.Dataset, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Neuroformer(**TINY | settings).fit(circuit)


def test_requests_that_cannot_be_met(circuit: xr.Dataset, fitted: Neuroformer) -> None:
    for duration in (0, -1.0, np.nan):
        with pytest.raises(InputError, match="give at least one window"):
            fitted.generate(duration=duration)
    with pytest.raises(InputError, match="usable windows follow"):
        fitted.generate(duration=10_000)
    with pytest.raises(InputError, match="leaves no window"):
        fitted.generate(start=1e6)
    with pytest.raises(InputError, match="temperature"):
        fitted.generate(duration=1, temperature=0.0)
    with pytest.raises(InputError, match="top_p"):
        fitted.generate(duration=1, top_p=1.2)
    with pytest.raises(InputError, match="allowed: 'past', 'current', 'both'"):
        fitted.connectivity(source="future")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="split="):
        fitted.evaluate(split="validation")
    with pytest.raises(InputError, match="not fitted yet"):
        Neuroformer().score()
    with pytest.raises(InputError, match="aligns nothing"):
        fitted.embed()
    with pytest.raises(InputError, match="does not look at a stimulus"):
        fitted.stimulus_attention("u0")
    with pytest.raises(UnknownNameError, match="target"):
        fitted.predict("speed")
    silent = circuit.copy(deep=True)
    silent["spikes"].values[:, 3] = 0
    with pytest.raises(InputError, match="never fire: u3"):
        Neuroformer(**TINY).fit(silent)
    with pytest.raises(InputError, match="a model of spikes wants"):
        Neuroformer(**TINY).fit(xr.Dataset({"activity": (("time", "unit"), np.ones((10, 2)))}))


def test_a_stimulus_of_another_length(seen: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"covers \d+% of"):
        Neuroformer(**TINY).fit(seen.isel(stimulus_time=slice(0, 100)))
    with pytest.raises(InputError, match="without a clock"):
        Neuroformer(**TINY).fit(seen.drop_vars("stimulus_time"))
    nearly = Neuroformer(**TINY, steps=2).fit(seen.isel(stimulus_time=slice(0, 500)))
    assert (nearly.split_ == "unused").sum() > 100  # windows without stimulus are left out
    with pytest.raises(InputError, match="average colours"):
        Neuroformer(**TINY).fit(seen.assign(stimulus=seen["stimulus"].expand_dims(colour=3, axis=-1)))


def test_simulators_keep_their_promises() -> None:
    quiet = spiking_hubs(300, transmission=0.0, spread=0.0, seed=1)["spikes"].values
    assert abs(quiet.sum() / (300 * (4 * 4 + 16 * 1)) - 1) < 0.05
    rng = np.random.default_rng(0)
    start = np.zeros((2000, 2), int)
    start[::20, 0] = 5
    weights, delays = np.array([[0, 0], [0.7, 0]]), np.array([[0, 0], [3, 0]])
    out = cascade(start, weights, delays, rng)
    assert set(np.flatnonzero(out[:, 1])) <= set(range(3, 2000, 20))
    assert out[:, 1].sum() / out[:, 0].sum() == pytest.approx(0.7, abs=0.12)
    with pytest.raises(InputError, match="explodes"):
        cascade(start, np.array([[1.1, 0], [0, 0]]), np.array([[1, 0], [0, 0]]), rng)
    with pytest.raises(InputError, match="at least one bin"):
        spiking_hubs(10, delay=(0.001, 0.03))
    with pytest.raises(InputError, match="do not fit"):
        spiking_hubs(10, n_units=5)
    tuned = tuned_population(400, rate=5.0, seed=1)
    assert tuned["spikes"].values.mean() * 100 == pytest.approx(5.0, rel=0.2)
    assert tuned["behaviour"].values.std() == pytest.approx(1, abs=0.2)


@pytest.mark.gpu
def test_trains_in_mixed_precision_on_a_gpu(circuit: xr.Dataset) -> None:
    settings = TINY | {"device": "auto", "steps": 150, "dim": 64, "heads": 4}
    model = Neuroformer(**settings).fit(circuit)
    assert model.network_.id_head.weight.is_cuda
    score = model.evaluate()
    assert score.nats_id < score.unigram_id - 0.05
    on_cpu = Neuroformer(**settings | {"device": "cpu"}).fit(circuit)
    assert score.nats_id == pytest.approx(on_cpu.evaluate().nats_id, abs=0.05)
    assert model.generate(duration=1)["spikes"].sizes["time"] == 100
    assert np.isfinite(model.connectivity(min_pairs=1).values).any()
