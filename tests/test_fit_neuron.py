"""A neuron fitted with leaky memory: the simulated cell, recovery of its branches, the table of units, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import r2_score, roc_auc_score

from nissl.errors import InputError
from nissl.learning import delayed_cue, digit_sums, spoken_digits
from nissl.populations import NeuronModel, fit_neuron
from nissl.recordings.simulate import branch_cell


@pytest.fixture(scope="module")
def cell():
    return branch_cell(n_trials=100, seed=3)


def groups(cell, seed=None):
    branch = cell.branch.values
    order = np.argsort(branch, kind="stable") if seed is None else np.random.default_rng(seed).permutation(branch.size)
    return order.reshape(8, 8)


def fitted(cell, routing, **settings):
    settings = {"n_memory": 10, "steps": 500, "progress": False} | settings
    return fit_neuron(
        cell.spikes_in, cell.spikes_out, cell.voltage, branches=8, synapses_per_branch=8, routing=routing, **settings
    )


@pytest.fixture(scope="module")
def model(cell):
    return fitted(cell, groups(cell))


# The simulated cell


def test_volleys_are_as_many_spikes_wherever_they_land():
    cell = branch_cell(n_trials=20, background=0.0, seed=1)
    count = cell.spikes_in.sum("channel")
    assert set(count.values[cell.volley.values != 0]) == {6}
    assert (count.values[cell.volley.values == 0] == 0).all()
    by_branch = cell.spikes_in.groupby("branch").sum().max("branch")
    assert (by_branch.values[cell.volley.values == 1] == 6).all()
    assert (by_branch.values[cell.volley.values == -1] == 1).all()
    gaps = [np.diff(np.flatnonzero(v)) for v in cell.volley.values]
    assert min(g.min() for g in gaps) >= 9
    assert max(g.max() for g in gaps) <= 31


def test_only_clustered_volleys_make_plateaus():
    cell = branch_cell(n_trials=40, background=0.0, interval=(299.0, 299.0), duration=320.0, seed=2)
    peak = cell.plateau.sum("branch_index").max("time").values
    kind = np.array([v[v != 0][0] for v in cell.volley.values])
    assert peak[kind == 1].min() > 20 * peak[kind == -1].max()


def test_the_soma_follows_its_equation():
    cell = branch_cell(n_trials=2, seed=4)
    drive, keep = cell.plateau.sum("branch_index").values, np.exp(-1 / 20)
    soma = np.zeros(2)
    for t in range(cell.sizes["time"]):
        soma = keep * soma + (1 - keep) * drive[:, t]
        np.testing.assert_allclose(cell.voltage.values[:, t], -70 + 5 * soma, rtol=1e-10)


def test_simulation_is_seeded():
    assert branch_cell(n_trials=2, seed=5).identical(branch_cell(n_trials=2, seed=5))
    assert not branch_cell(n_trials=2, seed=5).equals(branch_cell(n_trials=2, seed=6))


@pytest.mark.parametrize(
    "options", [{"volley": 9}, {"n_trials": 0}, {"interval": (0.5, 3.0)}, {"background": -1.0}, {"tau_plateau": 0.0}]
)
def test_cells_that_cannot_be(options):
    with pytest.raises(InputError):
        branch_cell(**({"n_trials": 1} | options))


# Recovery


def test_true_branches_explain_what_shuffled_ones_cannot(cell, model):
    shuffled = fitted(cell, groups(cell, seed=0))
    assert model.scores_["voltage_r2"] > 0.55
    assert model.scores_["voltage_r2"] > shuffled.scores_["voltage_r2"] + 0.3
    assert model.scores_["spike_auc"] > shuffled.scores_["spike_auc"] + 0.1


def test_scores_are_what_they_are_called(cell, model):
    held_out = cell.isel(trial=slice(80, None))
    found = model.predict(held_out.spikes_in)
    truth, voltage = held_out.voltage.values[:, 50:].ravel(), found.voltage.values[:, 50:].ravel()
    assert model.scores_["voltage_r2"] == pytest.approx(r2_score(truth, voltage), abs=1e-4)
    assert model.scores_["voltage_rmse"] == pytest.approx(np.sqrt(np.mean((truth - voltage) ** 2)), rel=1e-4)
    spikes, chance = held_out.spikes_out.values[:, 50:].ravel(), found.spike.values[:, 50:].ravel()
    assert model.scores_["spike_auc"] == pytest.approx(roc_auc_score(spikes, chance), abs=1e-4)
    assert 0 <= chance.min() <= chance.max() <= 1
    assert model.score(held_out.spikes_in, held_out.spikes_out, held_out.voltage) == pytest.approx(
        model.scores_["voltage_r2"]
    )


def test_the_table_of_units_adds_up(cell, model):
    units = model.units_
    assert len(units) == 10
    assert units.tau.is_monotonic_increasing
    assert units.share_voltage.sum() == pytest.approx(1, abs=1e-3)
    assert units.share_spike.sum() == pytest.approx(1, abs=1e-3)
    # By hand for one unit: the readout does without it.
    unit, training = int(units.loss_voltage.argmax()), cell.isel(trial=slice(80))
    weight = model.network_.readout.weight.detach().clone()
    before = model.evaluate(training.spikes_in, voltage=training.voltage)["voltage_rmse"] ** 2
    with torch.no_grad():
        model.network_.readout.weight[:, unit] = 0
    found = model.predict(training.spikes_in).voltage.values[:, 50:]
    with torch.no_grad():
        model.network_.readout.weight.copy_(weight)
    after = (training.voltage.values[:, 50:] - found).var()
    bias = (training.voltage.values[:, 50:] - model.predict(training.spikes_in).voltage.values[:, 50:]).mean() ** 2
    expected = (after - (before - bias)) / model.scale_**2
    assert units.loss_voltage[unit] == pytest.approx(expected, rel=0.01)


def test_silencing_branches_and_units_costs(cell, model):
    part = cell.isel(trial=slice(80, None))
    branches = model.lesions(part.spikes_in, voltage=part.voltage, at="branch")
    assert len(branches) == 8
    assert branches.lost_voltage_r2.min() > 0.01
    units = model.lesions(part.spikes_in, voltage=part.voltage)
    assert units.columns.tolist() == ["tau", "lost_voltage_r2", "lost_voltage_rmse"]
    assert units.lost_voltage_r2.max() > 0.1
    assert model.evaluate(part.spikes_in, voltage=part.voltage)["voltage_r2"] == pytest.approx(
        model.scores_["voltage_r2"], abs=1e-5
    )


def test_one_recording_without_trials_is_split_in_time(cell):
    x = cell.spikes_in.values.reshape(-1, 64)[:2000]
    v = cell.voltage.values.ravel()[:2000]
    found = [
        fit_neuron(kind(x), voltage=kind(v), n_memory=3, steps=3, progress=False)
        for kind in (np.asarray, torch.as_tensor)
    ]
    assert found[0].scores_.equals(found[1].scores_)
    assert found[0].predict(x).voltage.shape == (1, 2000)


def test_inhibitory_channels_count_negative(cell):
    x, v = cell.spikes_in.values[:10], cell.voltage[:10]
    settings = {"n_memory": 3, "steps": 3, "progress": False}
    by_index = fit_neuron(x, voltage=v, inhibitory=[1, 5], **settings)
    signed = x.astype(float)
    signed[..., [1, 5]] *= -1
    assert by_index.scores_.equals(fit_neuron(signed, voltage=v, **settings).scores_)


def test_same_seed_same_fit(cell):
    first, again, other = (
        fitted(cell.isel(trial=slice(10)), groups(cell), steps=3, seed=s).scores_["voltage_r2"] for s in (1, 1, 2)
    )
    assert first == again != other


def test_settings_stay_as_they_were_given():
    model = NeuronModel(n_memory=7, tau_memory=(1.0, 90.0))
    assert clone(model).get_params() == model.get_params()


# Bad input


def fit_small(spikes_in=None, spikes_out=None, voltage=None, **settings):
    spikes_in = np.zeros((6, 200, 4)) if spikes_in is None else spikes_in
    return fit_neuron(spikes_in, spikes_out, voltage, **({"steps": 1, "n_memory": 2, "progress": False} | settings))


VOLTAGE = np.random.default_rng(0).normal(-65, 1, (6, 200))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "at least one"),
        ({"voltage": VOLTAGE[:, :100]}, "must be equal"),
        ({"voltage": np.where(VOLTAGE > -64, np.nan, VOLTAGE)}, "NaN"),
        ({"spikes_out": np.full((6, 200), 2)}, "0 and 1"),
        ({"spikes_out": np.zeros((6, 200))}, "never changes"),
        ({"voltage": VOLTAGE, "ceiling": -80.0}, "100% of the voltage lies above the ceiling of -80 mV"),
        ({"voltage": VOLTAGE, "window": 500.0}, "longer than the recording"),
        ({"voltage": VOLTAGE, "burn_in": 200.0}, "leaves nothing"),
        ({"voltage": VOLTAGE, "held_out": 1.0}, "held_out"),
        ({"voltage": VOLTAGE, "inhibitory": [4]}, "0 to 3"),
        ({"voltage": VOLTAGE, "inhibitory": [True]}, "one boolean"),
        ({"voltage": VOLTAGE, "tau_memory": (0.0, 10.0)}, "positive"),
        ({"voltage": VOLTAGE, "branches": 3}, "3 synapses for 4 inputs"),
        ({"spikes_in": np.zeros((6, 0, 4)), "voltage": VOLTAGE}, "none of them empty"),
        ({"spikes_in": np.array(["a"]), "voltage": VOLTAGE}, "real numbers"),
    ],
)
def test_recordings_that_cannot_be_fitted(given, message):
    with pytest.raises(InputError, match=message):
        fit_small(**given)


def test_axes_have_names(cell):
    with pytest.raises(InputError, match="allowed: trial, time, channel"):
        fit_neuron(cell.spikes_in.rename(channel="neuron"), voltage=cell.voltage)
    swapped = cell.isel(trial=slice(10)).transpose("time", "channel", "trial", ...)
    a = fit_neuron(swapped.spikes_in, voltage=swapped.voltage, n_memory=2, steps=2, progress=False)
    b = fit_neuron(cell.spikes_in[:10].values, voltage=cell.voltage[:10].values, n_memory=2, steps=2, progress=False)
    assert a.scores_.equals(b.scores_)


# Tasks of memory


def test_the_cue_is_at_the_beginning_only():
    spikes, cue = delayed_cue(4000, seed=1)
    rate = torch.stack([spikes[cue == c].mean(0) for c in range(4)])  # cue, time, channel
    cued = torch.block_diag(*[torch.ones(1, 5)] * 4).bool()
    assert (rate[:, :5].mean(1)[cued] - (1 - 0.5 * 0.95)).abs().max() < 0.03
    assert (rate[:, :5].mean(1)[~cued] - 0.05).abs().max() < 0.02
    assert (rate[:, 5:].mean((1, 2)) - 0.05).abs().max() < 0.002
    assert torch.equal(spikes, delayed_cue(4000, seed=1)[0])


def test_sums_are_of_what_is_heard():
    templates = spoken_digits(seed=2)
    assert abs(templates.mean().item() - 0.12) < 0.01
    spikes, total = digit_sums(300, templates, deletions=0.0, insertions=0.0)
    heard = (spikes.unflatten(1, (2, 25))[:, :, None] == templates).all((-1, -2)).int().argmax(-1)
    assert torch.equal(heard.sum(1), total)
    noisy, total = digit_sums(2000, templates, seed=3)
    first = noisy[:, :25].mean(0).mean()
    assert abs(first.item() - (0.8 * templates.mean() + 0.01 * (1 - templates.mean())).item()) < 0.003
    assert set(total.tolist()) == set(range(9))


def test_tasks_that_cannot_be():
    for bad in ({"cue_steps": 100}, {"n_cues": 30}, {"noise": 1.5}):
        with pytest.raises(InputError):
            delayed_cue(1, **bad)
    with pytest.raises(InputError):
        digit_sums(1, torch.zeros(3, 4))
    with pytest.raises(InputError):
        digit_sums(1, spoken_digits(), deletions=-0.1)
    with pytest.raises(InputError):
        spoken_digits(0)
