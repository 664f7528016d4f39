"""Phase-amplitude coupling: closed forms and brute force first, then nested rhythms with known truth, then bad input."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from scipy.stats import linregress

from nissl.errors import InputError, UnknownNameError
from nissl.populations.rhythms import comodulogram, mean_vector_length, modulation_index, phase, phase_amplitude
from nissl.populations.rhythms._coupling_kernels import METHODS, Lagged, coupling_of
from nissl.recordings.simulate import nested_oscillation, pink_noise


def brute_index(angle: np.ndarray, size: np.ndarray, bins: int = 18) -> float:
    edges = np.linspace(-np.pi, np.pi, bins + 1)
    p = np.array([size[(angle >= a) & (angle < b)].mean() for a, b in pairwise(edges)])
    p = p / p.sum()
    return float((np.log(bins) + sum(q * np.log(q) for q in p if q > 0)) / np.log(bins))


@pytest.fixture
def series() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    angle = rng.uniform(-np.pi, np.pi, 3000)
    return angle, np.abs(rng.normal(size=3000)) + 0.3 * (1 + np.cos(angle - 1))


def test_index_is_0_for_flat_and_1_for_one_bin() -> None:
    angle = np.linspace(-np.pi, np.pi, 1800, endpoint=False)
    assert modulation_index(angle, np.ones(1800)) == pytest.approx(0, abs=1e-12)
    assert modulation_index(angle, (angle < -np.pi + 2 * np.pi / 18 - 1e-9).astype(float)) == pytest.approx(1)


def test_index_and_vector_length_are_those_of_the_definition(series: tuple[np.ndarray, np.ndarray]) -> None:
    angle, size = series
    assert modulation_index(angle, size) == pytest.approx(brute_index(angle, size), abs=1e-12)
    assert modulation_index(angle, 7 * size) == pytest.approx(modulation_index(angle, size), abs=1e-12)
    expected = np.abs((size * np.exp(1j * angle)).mean()) / np.sqrt((size**2).mean())
    assert mean_vector_length(angle, size) == pytest.approx(expected, abs=1e-12)
    design = np.stack([np.ones(3000), np.cos(angle), np.sin(angle)], 1)
    left = size - design @ np.linalg.lstsq(design, size, rcond=None)[0]
    assert coupling_of(angle, size, method="glm") == pytest.approx(1 - left.var() / size.var(), abs=1e-10)


def test_a_glm_of_one_regressor_is_its_squared_correlation() -> None:
    angle = np.linspace(-np.pi, np.pi, 1000, endpoint=False)
    size = 2 + np.cos(angle)
    assert coupling_of(angle, size, method="glm") == pytest.approx(linregress(np.cos(angle), size).rvalue ** 2)


@pytest.mark.parametrize("method", METHODS)
def test_every_lag_of_the_transform_is_the_amplitude_rolled(series: tuple[np.ndarray, np.ndarray], method: str) -> None:
    angle, size = series
    lagged = Lagged(angle, method)  # type: ignore[arg-type]
    lags = lagged.lags(20, 100, seed=0)
    assert lags[0] == 0
    assert ((lags[1:] >= 100) & (lags[1:] <= lagged.length - 100)).all()
    n = lagged.length
    expected = [coupling_of(angle[:n], np.roll(size[:n], -lag), method=method) for lag in lags]  # type: ignore[arg-type]
    np.testing.assert_allclose(lagged(size, lags), expected, atol=1e-12)


def test_coupling_of_a_recording_is_that_of_its_filtered_signals() -> None:
    record = nested_oscillation(depth=0.5, duration=10, seed=1)
    found = phase_amplitude(record, (5, 9), (45, 75), n_surrogates=10, check_peak=False)
    slow, fast = (phase(record, b, check_peak=False) for b in ((5, 9), (45, 75)))
    angle, size = slow.phase.values[:, 0], fast.amplitude.values[:, 0]
    known = ~np.isnan(angle + size)
    n = Lagged(angle[known], "tort").length
    assert float(found.effect[0]) == pytest.approx(brute_index(angle[known][:n], size[known][:n]), rel=1e-2)


def test_depth_phase_and_significance_of_nested_rhythms() -> None:
    effects = []
    for depth in (0.2, 0.5, 1.0):
        found = phase_amplitude(
            nested_oscillation(depth=depth, preferred_phase=-2, n_units=4, seed=2), (5, 9), (45, 75)
        )
        assert (found.p <= 0.01).all()
        assert (abs(np.angle(np.exp(1j * (found.preferred_phase + 2)))) < 0.35).all()
        effects.append(float(found.effect.mean()))
    assert effects[0] < effects[1] < effects[2]


@pytest.mark.parametrize("method", METHODS)
def test_without_coupling_p_keeps_its_level(method: str) -> None:
    record = nested_oscillation(depth=0, n_units=60, duration=10, rate=500, seed=4)
    p = phase_amplitude(record, (5, 9), (45, 75), method=method, n_surrogates=99, check_peak=False).p  # type: ignore[arg-type]
    assert float((p < 0.05).mean()) < 0.15
    assert float(p.mean()) == pytest.approx(0.5, abs=0.15)


def test_pairs_name_who_gives_the_amplitude() -> None:
    both = nested_oscillation(depth=1, n_units=1, seed=5)
    slow = np.cos(both.phase.values) + 0.3 * pink_noise(20_000, 1, np.random.default_rng(0))
    fast = both.envelope.values * np.cos(2 * np.pi * 60 * both.time.values)[:, None]
    fast = fast + 0.3 * pink_noise(20_000, 1, np.random.default_rng(1))
    x = xr.DataArray(
        np.hstack([slow, fast]), dims=("time", "unit"), coords={"time": both.time, "unit": ["slow", "fast"]}
    )
    found = phase_amplitude(x, (5, 9), (45, 75), pairs=True, n_surrogates=100, check_peak=False)
    assert float(found.effect.sel(target="fast", source="slow")) > 0.02
    assert float(found.p.sel(target="fast", source="slow")) < 0.02
    assert float(found.effect.sel(target="slow", source="fast")) < 0.005


def test_phase_randomised_control() -> None:
    found = phase_amplitude(
        nested_oscillation(depth=1, duration=10, rate=500, seed=6),
        (5, 9),
        (45, 75),
        surrogates="phase_randomised",
        n_surrogates=40,
    )
    assert float(found.p[0]) < 0.03


def test_comodulogram_peaks_where_the_rhythms_are_and_is_level_elsewhere() -> None:
    record = nested_oscillation(depth=1, duration=15, rate=500, seed=7)
    found = comodulogram(record, phase=np.arange(3, 16, 2.0), amplitude=np.arange(20, 121, 20.0), progress=False)
    assert found.effect.dims == ("unit", "amplitude", "phase")
    best = found.effect[0].argmax(("amplitude", "phase"))
    assert float(found.phase[best["phase"]]) == 7
    assert float(found.amplitude[best["amplitude"]]) == 60
    assert float(found.p[0].sel(amplitude=60, phase=7)) < 0.01
    assert np.isnan(found.effect[0].sel(amplitude=20, phase=15))  # its amplitude band would reach into the phase band
    null = comodulogram(
        nested_oscillation(depth=0, n_units=12, duration=10, rate=500, seed=8),
        phase=[5, 7, 9], amplitude=[40, 60, 80], n_surrogates=99, progress=False,
    )  # fmt: skip
    assert float((null.p.min(("amplitude", "phase")) < 0.05).mean()) < 0.35


def test_a_cell_of_the_comodulogram_is_phase_amplitude() -> None:
    record = nested_oscillation(depth=1, duration=10, rate=500, seed=7)
    plane = comodulogram(record, phase=[7.0], amplitude=[60.0], n_surrogates=20, correct=None, progress=False)
    cell = phase_amplitude(record, (6, 8), (52, 68), n_surrogates=20, check_peak=False)
    assert float(plane.effect[0, 0, 0]) == pytest.approx(float(cell.effect[0]), rel=0.02)


def test_bad_bands_and_names() -> None:
    record = nested_oscillation(duration=5)
    with pytest.raises(InputError, match="overlap"):
        phase_amplitude(record, (5, 30), (20, 60))
    with pytest.warns(UserWarning, match="side bands that need 14 Hz"):
        phase_amplitude(record, (5, 9), (58, 62), n_surrogates=3, check_peak=False)
    with pytest.raises(InputError, match="Nyquist"):
        phase_amplitude(record, (5, 9), (400, 600))
    with pytest.raises(UnknownNameError, match="tort"):
        phase_amplitude(record, (5, 9), (45, 75), method="tor")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="negative"):
        modulation_index(np.zeros(5), -np.ones(5))
    with pytest.raises(InputError, match="no phase falls into"):
        modulation_index(np.zeros(50), np.ones(50))
    with pytest.raises(InputError, match="Nyquist frequency, 500 Hz"):
        comodulogram(record, phase=[5], amplitude=[600], progress=False)
    with pytest.raises(InputError, match="min_shift"):
        phase_amplitude(record, (5, 9), (45, 75), min_shift=10, check_peak=False)
