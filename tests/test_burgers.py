"""Burgers' equation: the Cole-Hopf transform, convergence, conservation, the cache, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from nissl.errors import InputError
from nissl.specimens._evolution import _evolve, _states, _values, burgers


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("NISSL_CACHE", str(tmp_path))


def cole_hopf(modes, n, viscosity, time):
    """The exact solution: the heat equation for exp(-∫w/2ν), with the mean flow taken out and put back."""
    k = 2 * np.pi * np.arange(n // 2 + 1)
    mean = modes[:, :1].real
    waves = np.zeros((len(modes), n // 2 + 1), complex)
    waves[:, 1 : modes.shape[1]] = modes[:, 1:]
    integral = np.fft.irfft(np.where(k > 0, waves / np.where(k > 0, 1j * k, 1), 0), n, norm="forward")
    heat = np.fft.rfft(np.exp(-integral / (2 * viscosity))) * np.exp(-viscosity * k**2 * time - 1j * k * mean * time)
    return mean - 2 * viscosity * np.fft.irfft(1j * k * heat, n) / np.fft.irfft(heat, n)


@pytest.mark.parametrize(("viscosity", "amplitude"), [(0.01, 0.15), (0.01, 0.5), (0.05, 1.0)])
def test_it_is_the_cole_hopf_solution(viscosity, amplitude):
    data = burgers(4, 64, viscosity=viscosity, amplitude=amplitude, seed=3, progress=False)
    exact = cole_hopf(_states(4, amplitude, 0.2, 3), 4096, viscosity, 0.5)[:, ::64]
    np.testing.assert_allclose(data.final, exact, atol=2e-7)
    assert np.abs(data.final - data.initial).max() > 0.05


def test_a_small_wave_decays_as_by_diffusion():
    modes = np.zeros((1, 65), complex)
    modes[0, 3] = 0.5e-8
    final = _values(_evolve(modes, 256, 0.01, 0.5, 1.0, False), 256)
    x = np.arange(256) / 256
    np.testing.assert_allclose(
        final[0], 1e-8 * np.exp(-0.01 * (6 * np.pi) ** 2 * 0.5) * np.cos(6 * np.pi * x), atol=1e-14
    )


def test_a_finer_grid_changes_nothing():
    modes = _states(3, 0.3, 0.2, 0)
    coarse, fine = (_values(_evolve(modes, n, 0.01, 0.5, 1.0, False), n) for n in (512, 1024))
    np.testing.assert_allclose(coarse, fine[:, ::2], atol=1e-9)


def test_the_same_seed_is_the_same_function_on_every_grid():
    coarse, fine = burgers(2, 50, seed=1, progress=False), burgers(2, 200, seed=1, progress=False)
    np.testing.assert_allclose(coarse.initial, fine.initial[:, ::4], atol=1e-12)
    np.testing.assert_allclose(coarse.final, fine.final[:, ::4], atol=1e-7)
    assert not np.allclose(coarse.initial, burgers(2, 50, seed=2, progress=False).initial)


def test_momentum_is_kept_and_energy_falls():
    data = burgers(5, 128, amplitude=0.4, progress=False)
    np.testing.assert_allclose(data.initial.mean("x"), data.final.mean("x"), atol=1e-13)
    assert ((data.final**2).mean("x") < (data.initial**2).mean("x")).all()


def test_initial_states_have_the_deviation_and_covariance_that_were_asked_for():
    data = burgers(400, 64, amplitude=0.3, correlation=0.1, time=1e-3, progress=False).initial.values
    assert np.sqrt((data**2).mean()) == pytest.approx(0.3, rel=0.05)
    covariance = (data * np.roll(data, 6, 1)).mean() / (data**2).mean()
    assert covariance == pytest.approx(np.exp(-0.5 * (6 / 64 / 0.1) ** 2), abs=0.05)


def test_it_is_read_from_the_cache(tmp_path):
    first = burgers(2, 32, progress=False)
    files = list((tmp_path / "data").glob("burgers-*.npz"))
    assert len(files) == 1
    assert burgers(2, 32, progress=False).identical(first)
    files[0].write_bytes(b"not an array")
    assert burgers(2, 32, progress=False).identical(first)


@pytest.mark.parametrize(
    "options",
    [
        {"viscosity": 0.0},
        {"viscosity": float("nan")},
        {"time": -1.0},
        {"amplitude": 0.0},
        {"correlation": float("inf")},
    ],
)
def test_what_it_refuses(options):
    with pytest.raises(InputError, match="positive number"):
        burgers(2, 32, **options)


def test_sizes_it_refuses():
    for n, size in ((0, 32), (2, 1), (2, 100_000)):
        with pytest.raises(InputError, match="allowed"):
            burgers(n, size)


@pytest.mark.parametrize(
    "options", [{"seed": None}, {"seed": -1}, {"viscosity": None}, {"time": "1"}, {"n_samples": 2.5}]
)
def test_arguments_of_another_kind_are_named(options):
    with pytest.raises(InputError, match="allowed"):
        burgers(**({"n_samples": 2, "size": 32} | options))


def test_the_draw_is_that_of_the_seed_and_the_number():
    """Kept as it was first published: claims rest on these numbers."""
    real, imaginary = np.random.default_rng(5).standard_normal((2, 3, 65))
    modes = _states(3, 0.5, 0.2, 5)
    np.testing.assert_allclose(np.angle(modes[:, 1:4]), np.angle(real + 1j * imaginary)[:, 1:4])
