"""The report of dynamics: every concept beside its control, for recordings and for networks, and honest about what it lacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from nissl.errors import InputError
from nissl.populations import dynamics_report
from nissl.populations.dynamics.report import COLUMNS, MEASURES
from nissl.recordings.simulate import nested_oscillation, phase_locked_spikes, pink_noise, place_cells, replay_events


def test_field_potential_with_nested_rhythms() -> None:
    table = dynamics_report(nested_oscillation(depth=1, n_units=3, rate=500, duration=15, seed=0), n_surrogates=50)
    assert tuple(table.columns) == COLUMNS
    rows = table.set_index("measure")
    assert tuple(rows.index) == tuple(MEASURES)
    low, high = table.attrs["band"]
    assert low < 7 < high
    assert rows.p["phase-amplitude coupling"] < 0.05
    assert rows.p["phase locking of pairs"] > 0.02  # the three are simulated apart
    assert rows.note["replay"].startswith("not measured")
    assert np.isnan(rows.effect["replay"])
    assert rows.note["reciprocity"].startswith("not measured: no weights")


def test_spikes_locked_to_a_field_potential_and_weights() -> None:
    record = phase_locked_spikes(kappa=1.0, n_units=8, duration=30, seed=1)
    weights = np.where(np.random.default_rng(0).random((40, 40)) < 0.1, 1.5, 0)
    rows = dynamics_report(record, weights=weights, n_surrogates=50).set_index("measure")
    assert rows.p["spikes on the phase"] < 0.05
    assert rows.p["population synchrony"] < 0.05
    assert rows.p["reciprocity"] > 0.02
    assert "all weights have one size" in rows.note["heavy tail"]


def test_replay_in_a_recording() -> None:
    run = place_cells(n_laps=8, seed=0)
    events = replay_events(run, 30, order="forward", seed=1)
    later = float(run.time[-1]) + 10
    record = xr.Dataset(
        {
            "spike_time": ("spike", np.concatenate([run.spike_time, events.spike_time + later])),
            "spike_unit": ("spike", np.concatenate([run.spike_unit, events.spike_unit])),
        },
        coords={"unit": run.unit.values},
    )
    windows = np.stack([events.event_start + later, events.event_stop + later], 1)
    rows = dynamics_report(record, position=run.position, events=windows, n_surrogates=20).set_index("measure")
    assert rows.effect["replay"] > 0.9
    assert rows.control["replay"] < 0.2
    assert rows.p["replay"] < 1e-6
    assert rows.p["rank order of events"] < 0.05


def test_hidden_states_are_read_per_token() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(6, 80, 12)) + rng.normal(size=(6, 80, 1))
    table = dynamics_report(xr.DataArray(hidden, dims=("sample", "position", "unit")), n_surrogates=50)
    assert table.attrs["per_token"]
    assert "cycles per token" in table.attrs["note"]
    rows = table.set_index("measure")
    assert rows.p["population synchrony"] < 0.05
    assert rows.p["participation ratio"] < 0.05


def test_noise_is_not_called_dynamical() -> None:
    p = []
    for seed in range(6):
        x = pink_noise(3000, 6, np.random.default_rng(seed))
        p.append(dynamics_report(torch.from_numpy(x), rate=100, n_surrogates=39, seed=seed).p.dropna().to_numpy())
    assert (np.concatenate(p) < 0.05).mean() < 0.2


def test_a_recording_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InputError, match="no unit ever changes"):
        dynamics_report(np.ones((100, 3)))
    with pytest.raises(InputError, match="wanted: activity or spikes"):
        dynamics_report(xr.Dataset({"other": ("time", np.zeros(10))}))
