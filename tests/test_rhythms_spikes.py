"""Spikes and rhythms, synchrony, dimensionality: closed forms first, then simulated truth, then bad input."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.signal import lfilter

from nissl.errors import InputError, UnknownNameError
from nissl.populations._spike_trains import as_spike_trains
from nissl.populations.rhythms import (
    dimensionality,
    pairwise_phase_consistency,
    participation_ratio,
    phase_precession,
    population_synchrony,
    rayleigh,
    spike_covariance,
    spike_phase,
)
from nissl.recordings.simulate import phase_locked_spikes


@pytest.fixture(scope="module")
def locked() -> xr.Dataset:
    return phase_locked_spikes(kappa=np.repeat([1.0, 0.0], 10), mean_phase=2.0, n_units=20, duration=60, seed=0)


def test_rayleigh_is_uniform_under_independence_and_small_under_locking() -> None:
    rng = np.random.default_rng(0)
    p = rayleigh(rng.uniform(-np.pi, np.pi, (3000, 12)))
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert rayleigh(np.zeros(20)) < 1e-6
    # The formula, written out.
    a = rng.uniform(-np.pi, np.pi, 30)
    r = abs(np.exp(1j * a).sum())
    assert float(rayleigh(a)) == pytest.approx(np.exp(np.sqrt(1 + 120 + 4 * (900 - r**2)) - 61))


@given(st.lists(st.floats(-3, 3), min_size=3, max_size=20), st.floats(-3, 3))
@settings(max_examples=40, deadline=None)
def test_measures_of_locking_do_not_change_when_all_phases_turn(angles: list[float], turn: float) -> None:
    a = np.array(angles)
    assert float(pairwise_phase_consistency(a + turn)) == pytest.approx(float(pairwise_phase_consistency(a)), abs=1e-9)
    assert float(rayleigh(a + turn)) == pytest.approx(float(rayleigh(a)), abs=1e-9)


def test_ppc_is_unbiased_and_plv_is_not() -> None:
    rng = np.random.default_rng(0)
    truth = float((special.iv(1, 0.5) / special.iv(0, 0.5)) ** 2)
    for n in (5, 50):
        drawn = rng.vonmises(0, 0.5, (40_000, n))
        assert pairwise_phase_consistency(drawn).mean() == pytest.approx(truth, abs=0.006)
        biased = (np.abs(np.exp(1j * drawn).mean(1)) ** 2).mean()
        assert biased == pytest.approx(truth + (1 - truth) / n, abs=0.006)


def test_simulated_spikes_have_von_mises_phases(locked: xr.Dataset) -> None:
    at = np.interp(locked.spike_time, locked.time, np.unwrap(locked.phase))
    mine = at[locked.spike_unit.values < 10]
    assert float(pairwise_phase_consistency(mine)) == pytest.approx(float(locked.ppc[0]), abs=0.02)
    assert np.angle(np.exp(1j * mine).mean()) == pytest.approx(2.0, abs=0.1)
    counts = np.bincount(locked.spike_unit, minlength=20)
    assert counts.mean() == pytest.approx(300, rel=0.05)


@pytest.mark.parametrize("surrogates", ["shift", "jitter"])
def test_locked_units_are_found_with_their_phase(locked: xr.Dataset, surrogates: str) -> None:
    found = spike_phase(locked, locked["lfp"], (5, 11), surrogates=surrogates, n_surrogates=99).isel(channel=0)  # type: ignore[arg-type]
    assert (found.p[:10] < 0.05).all()
    assert float((found.p[10:] < 0.05).mean()) < 0.4
    assert float(found.effect[:10].mean()) == pytest.approx(float(locked.ppc[0]), abs=0.04)
    assert (abs(found.angle[:10] - 2.0) < 0.3).all()
    assert (found.rayleigh_p[:10] < 1e-6).all()


def test_phases_are_interpolated_between_samples() -> None:
    t = np.arange(0, 10, 1 / 60)  # 7.5 samples a cycle
    spikes = np.arange(1, 9, 1 / 8) + 0.03
    found = spike_phase(spikes, np.cos(2 * np.pi * 8 * t)[:, None], (6, 10), rate=60, n_surrogates=1)
    assert float(found.angle[0, 0]) == pytest.approx(2 * np.pi * 8 * 0.03, abs=0.03)
    assert float(found.length[0, 0]) > 0.999


def test_silent_units_are_named_and_foreign_clocks_refused(locked: xr.Dataset) -> None:
    with pytest.warns(UserWarning, match="in 'quiet'"):
        found = spike_phase({"busy": np.arange(5, 50, 0.1), "quiet": [20.0]}, locked["lfp"], (5, 11), n_surrogates=5)
    assert np.isnan(found.effect.sel(unit="quiet")).all()
    assert np.isnan(found.p.sel(unit="quiet")).all()
    with pytest.raises(InputError, match="compare the clocks"):
        spike_phase({"a": [900.0, 901.0]}, locked["lfp"], (5, 11))
    with pytest.raises(UnknownNameError, match="shift"):
        spike_phase(locked, locked["lfp"], (5, 11), surrogates="shfit")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no spikes"):
        as_spike_trains({"a": []})
    with pytest.raises(InputError, match="descend in 'a'"):
        as_spike_trains({"a": [2.0, 1.0]})
    with pytest.raises(InputError, match="not finite"):
        as_spike_trains({"a": [1.0, np.nan]})


def test_precession_recovers_slope_offset_and_sign() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(10, 30, 200)
    phi = 1.5 - 2 * np.pi * 0.7 * (x - 10) / 20 + rng.normal(0, 0.5, 200)
    found = phase_precession(x, phi, field=(10, 30))
    assert found.slope == pytest.approx(-0.7, abs=0.08)
    assert found.offset == pytest.approx(1.5, abs=0.25)
    assert found.correlation < -0.6
    assert found.p < 0.01
    free = [phase_precession(x, rng.uniform(-np.pi, np.pi, 200), n_permutations=99, seed=k).p for k in range(60)]
    assert np.mean(np.array(free) < 0.05) < 0.15
    # Locking without precession is no precession.
    still = [phase_precession(x, rng.vonmises(0, 1, 200), n_permutations=99, seed=k).p for k in range(60)]
    assert np.mean(np.array(still) < 0.05) < 0.15


def test_precession_refuses_what_it_cannot_fit() -> None:
    with pytest.raises(InputError, match="ten or more"):
        phase_precession([1, 2, 3], [0, 0, 0])
    with pytest.raises(InputError, match="10 positions and 11 phases"):
        phase_precession(np.arange(10.0), np.zeros(11))
    with pytest.raises(InputError, match="field from 1 to 1"):
        phase_precession(np.ones(20), np.zeros(20))


def test_synchrony_of_identical_and_independent_units() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(500, 1))
    assert population_synchrony(np.repeat(shared, 8, 1), n_surrogates=9).effect == pytest.approx(1)
    free = rng.normal(size=(5000, 25))
    test = population_synchrony(free, n_surrogates=50)
    assert test.effect == pytest.approx(1 / 25, rel=0.1)
    assert test.p > 0.02
    # The definition.
    assert test.effect == pytest.approx(free.mean(1).var() / free.var(0).mean())


def test_synchrony_leaves_out_moments_with_gaps_and_says_when_none_are_left() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    x[::2, 0] = np.nan
    assert population_synchrony(x, n_surrogates=9).effect == pytest.approx(
        population_synchrony(x[1::2], n_surrogates=9).effect
    )
    x[1::2, 1] = np.nan
    with pytest.raises(InputError, match="known together at 0 moments"):
        population_synchrony(x)
    with pytest.raises(InputError, match="1 unit"):
        population_synchrony(x[:, 2:])


def test_covariance_of_counts_by_hand_and_above_jitter() -> None:
    rng = np.random.default_rng(0)
    shared = np.sort(rng.uniform(0, 100, 500))
    trains = {
        "a": np.sort(np.r_[shared[::2], rng.uniform(0, 100, 300)]),
        "b": np.sort(np.r_[shared[::2] + rng.uniform(0, 0.001, 250), rng.uniform(0, 100, 300)]),
        "c": np.sort(rng.uniform(0, 100, 500)),
    }
    found = spike_covariance(trains, start=0, stop=100, n_surrogates=99)
    edges = np.arange(0, 100.0001, 0.005)
    counts = [np.histogram(t, edges)[0] for t in trains.values()]
    assert float(found.effect[0, 1]) == pytest.approx(np.cov(counts[0], counts[1], bias=True)[0, 1], rel=1e-3)
    assert float(found.correlation[0, 1]) == pytest.approx(np.corrcoef(counts[0], counts[1])[0, 1], rel=1e-3)
    assert float(found.p[0, 1]) == pytest.approx(0.01)
    np.testing.assert_allclose(found.effect, found.effect.T)
    free = spike_covariance({k: np.sort(rng.uniform(0, 100, 500)) for k in range(16)}, n_surrogates=99)
    assert (free.p.values[np.triu_indices(16, 1)] < 0.05).mean() < 0.12
    # A common slow rate is no fine synchrony.
    slow = {k: np.sort(np.concatenate([s + rng.uniform(0, 0.5, 12) for s in range(0, 100, 2)])) for k in "ab"}
    assert float(spike_covariance(slow, n_surrogates=99).p[0, 1]) > 0.01


def test_covariance_refuses_coarse_bins_and_names_silent_units() -> None:
    with pytest.raises(InputError, match="width < jitter"):
        spike_covariance({"a": [1.0], "b": [2.0]}, width=0.05)
    with pytest.warns(UserWarning, match="without a spike: 'b'"):
        found = spike_covariance({"a": np.arange(0, 5, 0.1), "b": [], "c": np.arange(0, 5, 0.2)}, n_surrogates=5)
    assert np.isnan(found.effect.sel(target="b")).all()
    with pytest.raises(InputError, match="1 unit"):
        spike_covariance({"a": [1.0, 2.0]})


def test_dimensions_of_a_ball_and_of_factors() -> None:
    assert participation_ratio(np.ones(7)) == pytest.approx(7)
    assert participation_ratio(np.array([5.0, 0, 0])) == pytest.approx(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 4)) @ np.linalg.qr(rng.normal(size=(20, 4)))[0].T
    found = dimensionality(x, standardise=False, n_surrogates=50)
    assert found.effect["participation ratio"] == pytest.approx(4, abs=0.05)
    assert found.effect["entropy"] == pytest.approx(4, abs=0.05)
    assert found.effect["components"] == 4
    assert found.effect["parallel analysis"] == 4
    assert found.p["participation ratio"] < 0.03


def test_slow_independent_units_are_not_low_dimensional_beside_their_surrogates() -> None:
    rng = np.random.default_rng(0)
    slow = lfilter([1], [1, -0.95], rng.normal(size=(1200, 20, 8)), axis=0)  # correlation time: 20 samples
    p = [dimensionality(slow[200:, k], n_surrogates=39, seed=k).p["participation ratio"] for k in range(20)]
    assert np.mean(np.array(p) < 0.05) < 0.25
    white = [
        dimensionality(x, n_surrogates=39).effect["participation ratio"]
        for x in (slow[200:, 0], rng.normal(size=(1000, 8)))
    ]
    assert white[0] < white[1] - 0.3  # slow units do look related
