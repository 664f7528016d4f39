"""Phase, spectra, locking of pairs and coherence: closed forms and scipy first, then known couplings, then bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from nissl.errors import InputError, UnknownNameError
from nissl.populations.rhythms import (
    coherence,
    pairwise_phase_consistency,
    phase,
    phase_locking,
    phase_locking_value,
    power_spectrum,
    spectral_peaks,
    weighted_phase_lag,
)
from nissl.populations.rhythms._filters import power_response
from nissl.recordings.simulate import coupled_oscillators, pink_noise

RATE = 200.0


@pytest.fixture
def noise() -> np.ndarray:
    return pink_noise(4000, 3, np.random.default_rng(0))


def test_phase_is_that_of_scipys_filter_and_hilbert_transform(noise: np.ndarray) -> None:
    found = phase(noise, (6, 10), rate=RATE, check_peak=False)
    sos = signal.butter(3, (6, 10), "bandpass", fs=RATE, output="sos")
    z = signal.hilbert(signal.sosfiltfilt(sos, noise, axis=0), axis=0)
    # Well inside, where neither way of treating the ends matters.
    inner = slice(600, 3400)
    ours = found.amplitude.values[inner] * np.exp(1j * found.phase.values[inner])
    np.testing.assert_allclose(ours.real, z[inner].real, atol=1e-6)
    # scipy's Hilbert transform takes the signal for periodic, and its kernel falls off as slowly as 1/t.
    np.testing.assert_allclose(ours.imag, z[inner].imag, atol=2e-3)


@pytest.mark.parametrize(("low", "high", "order"), [(6, 10, 3), (0.5, 90, 2), (40, 41, 4)])
def test_power_response_is_scipys(low: float, high: float, order: int) -> None:
    frequency = np.linspace(0, RATE / 2, 501)
    sos = signal.butter(order, (low, high), "bandpass", fs=RATE, output="sos")
    expected = np.abs(signal.sosfreqz(sos, frequency, fs=RATE)[1]) ** 2
    np.testing.assert_allclose(
        power_response(frequency, RATE, np.array([[low, high]]), order=order)[0], expected, atol=1e-7
    )


def test_phase_of_a_cosine_is_its_argument_and_its_amplitude() -> None:
    t = np.arange(0, 5, 1 / RATE)
    found = phase(3 * np.cos(2 * np.pi * 8 * t + 0.7)[:, None], (6, 10), rate=RATE).isel(unit=0)
    inside = ~np.isnan(found.phase.values)
    error = np.angle(np.exp(1j * (found.phase.values - 2 * np.pi * 8 * t - 0.7)))[inside]
    assert np.abs(error).max() < 0.02
    assert np.abs(found.amplitude.values[inside] - 3).max() < 0.1
    assert np.abs(found.amplitude.values[400:600] - 3).max() < 0.01


def test_edges_of_three_slow_cycles_are_cut_and_no_filter_crosses_a_gap(noise: np.ndarray) -> None:
    noise[2000:2010, 0] = np.nan
    found = phase(noise, (6, 10), rate=RATE, check_peak=False)
    cut = round(found.attrs["cut"] * RATE)
    assert found.attrs["cut"] == pytest.approx(0.5)  # three cycles of 6 Hz; two over the bandwidth is as long
    gaps = np.isnan(found.phase.values)
    assert gaps[:cut].all()
    assert gaps[-cut:].all()
    assert gaps[2000 - cut : 2010 + cut, 0].all()
    assert not gaps[cut : 2000 - cut, 0].any()
    assert not gaps[cut:-cut, 1].any()
    # What lies behind the gap has no influence on what lies before it.
    other = noise.copy()
    other[2010:, 0] *= 100
    np.testing.assert_array_equal(
        phase(other, (6, 10), rate=RATE, check_peak=False).phase[:2000, 0], found.phase[:2000, 0]
    )


def test_a_jump_of_the_clock_is_a_gap(noise: np.ndarray) -> None:
    time = np.arange(4000) / RATE
    time[2000:] += 3
    found = phase(xr.DataArray(noise, dims=("time", "unit"), coords={"time": time}), (6, 10), check_peak=False)
    assert np.isnan(found.phase[1950:2050]).all()


def test_numpy_torch_xarray_and_hidden_states_agree(noise: np.ndarray) -> None:
    plain = phase(noise, (0.03, 0.05), check_peak=False).phase
    np.testing.assert_allclose(phase(torch.from_numpy(noise), (0.03, 0.05), check_peak=False).phase, plain)
    hidden = xr.DataArray(np.stack([noise, 2 * noise]), dims=("sample", "position", "unit"))
    found = phase(hidden, (0.03, 0.05), check_peak=False).phase
    assert found.dims == ("trial", "time", "unit")
    assert "token" in found.attrs["note"]
    np.testing.assert_allclose(found[1], plain, atol=1e-9)


def test_welch_is_scipys(noise: np.ndarray) -> None:
    ours = power_spectrum(noise, rate=RATE, segment=2)
    frequency, power = signal.welch(noise, RATE, "hann", nperseg=400, axis=0)
    np.testing.assert_allclose(ours.frequency, frequency)
    np.testing.assert_allclose(ours, power, rtol=1e-10)


def test_peaks_are_found_and_pink_noise_has_none() -> None:
    rng = np.random.default_rng(1)
    n = 60
    table = spectral_peaks(pink_noise(4000, n, rng), (6, 10), rate=RATE)
    assert (table.p < 0.05).mean() < 0.15
    t = np.arange(4000) / RATE
    with_peak = (
        pink_noise(4000, n, rng) + 0.5 * np.cos(2 * np.pi * 8 * t + np.cumsum(rng.normal(size=(n, 4000)) * 0.1, 1)).T
    )
    found = spectral_peaks(with_peak, (6, 10), rate=RATE)
    assert (found.p < 0.05).mean() > 0.9
    with pytest.warns(UserWarning, match="no spectral peak within 6-10 Hz"):
        phase(pink_noise(4000, 1, rng), (6, 10), rate=RATE)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_ppc_is_the_mean_cosine_over_pairs(angles: list[float]) -> None:
    a = np.array(angles)
    i, j = np.triu_indices(len(a), 1)
    assert float(pairwise_phase_consistency(a)) == pytest.approx(np.cos(a[i] - a[j]).mean(), abs=1e-9)
    assert float(phase_locking_value(a)) == pytest.approx(np.abs(np.exp(1j * a).mean()), abs=1e-12)


def test_matrix_of_pairs_is_each_pair_alone(noise: np.ndarray) -> None:
    x = noise + noise[:, :1]
    angle = phase(x, (6, 10), rate=RATE, check_peak=False).phase.values
    for method, kernel in (("plv", phase_locking_value), ("ppc", pairwise_phase_consistency)):
        found = phase_locking(x, (6, 10), rate=RATE, method=method, n_surrogates=5, check_peak=False)
        assert float(found.effect.sel(target=1, source=2)) == pytest.approx(
            float(kernel(angle[:, 1] - angle[:, 2])), abs=1e-10
        )
        assert np.isnan(np.diag(found.effect)).all()
    mean = np.nanmean(np.exp(1j * (angle[:, 0] - angle[:, 1])))
    assert float(found.angle.sel(target=0, source=1)) == pytest.approx(np.angle(mean))
    assert int(found.samples[0, 1]) == (~np.isnan(angle[:, 0])).sum()


def test_wpli_by_hand_and_blind_to_zero_lag() -> None:
    cross = np.array([1 + 2j, 3 - 1j, -2 + 0.5j])
    lag = cross.imag
    assert float(weighted_phase_lag(cross)) == pytest.approx(abs(lag.sum()) / np.abs(lag).sum())
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    expected = sum(lag[a] * lag[b] for a, b in pairs) / sum(abs(lag[a] * lag[b]) for a, b in pairs)
    assert float(weighted_phase_lag(cross, debiased=True)) == pytest.approx(expected)
    rng = np.random.default_rng(0)
    source = pink_noise(8000, 1, rng)
    mixed = source + 0.7 * pink_noise(8000, 2, rng)  # one source in both, at zero lag
    wpli = phase_locking(mixed, (6, 10), rate=RATE, method="wpli2_debiased", n_surrogates=50, check_peak=False)
    plv = phase_locking(mixed, (6, 10), rate=RATE, method="plv", n_surrogates=50, check_peak=False)
    assert abs(float(wpli.effect[0, 1])) < 0.1
    assert float(plv.effect[0, 1]) > 0.4
    assert float(plv.p[0, 1]) < 0.05
    assert float(wpli.p[0, 1]) > 0.05


def test_coupled_oscillators_are_found_and_free_ones_are_not() -> None:
    k = np.zeros((4, 4))
    k[0, 1] = k[1, 0] = 8.0
    record = coupled_oscillators(k, duration=40, seed=3)
    for method in ("ppc", "plv", "wpli"):
        found = phase_locking(record, (5, 11), method=method, check_peak=False, n_surrogates=100)
        assert float(found.p[0, 1]) < 0.02 or method == "wpli"  # symmetric coupling locks at zero lag
        free = found.p.values[np.triu_indices(4, 1)][1:]
        assert (free > 0.01).all()
    found = phase_locking(record, (5, 11), correct="max", check_peak=False)
    assert float(found.p[0, 1]) < 0.05


def test_surrogates_hold_their_level() -> None:
    record = coupled_oscillators(np.zeros((12, 12)), duration=30, seed=5)
    p = phase_locking(record, (5, 11), check_peak=False, n_surrogates=99).p.values[np.triu_indices(12, 1)]
    assert (p < 0.05).mean() < 0.15


def test_n_to_m_locking() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(0, 30, 1 / RATE)
    phi = 2 * np.pi * 5 * t + np.cumsum(rng.normal(size=t.size)) * 0.1
    x = np.stack([np.cos(phi), np.cos(3 * phi + 1)], 1) + 0.3 * rng.normal(size=(t.size, 2))
    found = phase_locking(x, (3, 7), source_band=(11, 19), n=3, m=1, rate=RATE, n_surrogates=100, check_peak=False)
    assert float(found.effect.sel(target=0, source=1)) > 0.7
    assert float(found.p.sel(target=0, source=1)) < 0.02
    assert float(found.angle.sel(target=0, source=1)) == pytest.approx(-1, abs=0.2)
    wrong = phase_locking(x, (3, 7), source_band=(11, 19), n=2, m=1, rate=RATE, n_surrogates=100, check_peak=False)
    assert float(wrong.effect.sel(target=0, source=1)) < 0.1


def test_coherence_by_hand_and_under_independence() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 2))
    found = coherence(x, rate=RATE, segment=1, n_surrogates=50)
    tapers = signal.windows.dpss(200, 4, 7)
    pieces = x.reshape(20, 200, 2)
    pieces = pieces - pieces.mean(1, keepdims=True)
    spectra = np.fft.rfft(pieces[:, None] * tapers[None, :, :, None], axis=2)[:, :, 1:]
    cross = (spectra[..., 0] * spectra[..., 1].conj()).sum((0, 1))
    power = (np.abs(spectra) ** 2).sum((0, 1))
    np.testing.assert_allclose(found.effect[:, 0, 1], np.abs(cross) ** 2 / power.prod(1), rtol=1e-9)
    # Independent: mean coherence is one over the number of estimates, by surrogate and by theory.
    assert float(found.effect[:, 0, 1].mean()) == pytest.approx(1 / 140, rel=0.4)
    assert float(found.surrogate_mean[:, 0, 1].mean()) == pytest.approx(1 / 140, rel=0.1)


def test_coherence_finds_a_shared_rhythm_and_its_phase() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(0, 40, 1 / RATE)
    phi = 2 * np.pi * 20 * t + np.cumsum(rng.normal(size=t.size)) * 0.1
    x = np.stack([np.cos(phi), np.cos(phi - 1)], 1) + 0.5 * rng.normal(size=(t.size, 2))
    found = coherence(x, rate=RATE, segment=2)
    at = found.sel(frequency=20)
    assert float(at.effect[0, 1]) > 0.6
    assert float(at.p[0, 1]) < 0.01
    assert float(at.phase[0, 1]) == pytest.approx(1, abs=0.15)
    assert float(found.p_analytic.sel(frequency=60)[0, 1]) > 0.001


@pytest.mark.parametrize(
    ("band", "match"),
    [
        ((10, 6), "0 < low < high"),
        ((0, 6), "0 < low"),
        ((60, 120), "Nyquist"),
        ((np.nan, 3), "0 < low"),
        (5, "low, high"),
    ],
)
def test_bands_that_make_no_sense_are_refused(noise: np.ndarray, band: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        phase(noise, band, rate=RATE)  # type: ignore[arg-type]


def test_calcium_is_too_slow_for_theta(noise: np.ndarray) -> None:
    record = xr.DataArray(
        noise,
        dims=("time", "unit"),
        coords={"time": np.arange(4000) / 30},
        attrs={"quantity": "dF/F", "indicator_bandwidth": 0.8},
    )
    with pytest.raises(InputError, match=r"a quarter of it, 0\.2 Hz"):
        phase(record, (4, 8))
    phase(record, (0.05, 0.15), check_peak=False)
    del record.attrs["indicator_bandwidth"]
    with pytest.warns(UserWarning, match="bandwidth is not known"):
        phase(record, (0.05, 0.15), check_peak=False)
    with pytest.raises(InputError, match="calcium is too slow"):
        phase(record, (0.05, 0.15), indicator_bandwidth=0.2)


def test_short_uneven_and_constant_recordings_are_refused(noise: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"longest stretch without gaps lasts 0\.4 s"):
        phase(noise[:80], (6, 10), rate=RATE)
    time = np.cumsum(np.random.default_rng(0).uniform(0.8, 1.2, 4000)) / RATE
    with pytest.raises(InputError, match="even clock"):
        phase(xr.DataArray(noise, dims=("time", "unit"), coords={"time": time}), (6, 10))
    noise[:, 1] = 2
    with pytest.raises(InputError, match="never change"):
        phase(noise, (6, 10), rate=RATE)
    with pytest.raises(InputError, match="1 unit"):
        phase_locking(noise[:, :1], (6, 10), rate=RATE)


def test_a_unit_with_too_many_gaps_is_named(noise: np.ndarray) -> None:
    noise[::50, 2] = np.nan
    with pytest.warns(UserWarning, match=r"long enough for this band in '?2"):
        found = phase(noise, (6, 10), rate=RATE, check_peak=False)
    assert np.isnan(found.phase[:, 2]).all()


def test_unknown_methods_name_the_known(noise: np.ndarray) -> None:
    with pytest.raises(UnknownNameError, match="ppc"):
        phase_locking(noise, (6, 10), rate=RATE, method="pcc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="allowed: 'ppc', 'plv'"):
        phase_locking(noise, (6, 10), rate=RATE, method="wpli", n=2)
    with pytest.raises(InputError, match="shifted"):
        phase_locking(noise, (6, 10), rate=RATE, min_shift=15, check_peak=False)


def test_nothing_warns_where_a_rhythm_is_there() -> None:
    record = coupled_oscillators(np.zeros((2, 2)), duration=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        phase_locking(record, (5, 11), n_surrogates=5)
