"""Axes, the cache, and fields that solve equations: against closed forms and finer solutions of another kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import nissl
from nissl.axes import Axis, quadrature_weights
from nissl.cache import cache_folder, cached_arrays
from nissl.errors import InputError, ModelError, NisslError
from nissl.specimens._helmholtz import _solve
from nissl.specimens._navier_stokes import _Flow
from nissl.specimens._random_fields import cosine_field, fourier_field


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NISSL_CACHE", str(tmp_path))


# Axes


@given(st.lists(st.floats(0.01, 3), min_size=1, max_size=20), st.floats(-2, 2), st.floats(-2, 2))
def test_trapezoid_weights_integrate_straight_lines_exactly(steps: list[float], slope: float, level: float) -> None:
    points = np.cumsum([0.3, *steps])
    axis = Axis("x", len(points), points=points)
    assert axis.weights is not None
    found = (axis.weights * (level + slope * points)).sum()
    assert found == pytest.approx(
        level * (points[-1] - points[0]) + slope / 2 * (points[-1] ** 2 - points[0] ** 2), abs=1e-9
    )


@pytest.mark.parametrize(
    ("boundary", "order"), [("closed", 2), ("midpoint", 2), ("periodic", None), ("interior", None)]
)
def test_uniform_axes_integrate(boundary: str, order: int | None) -> None:
    def error(n: int) -> float:
        axis = Axis.uniform("x", n, stop=2.0, boundary=boundary)
        assert axis.points is not None
        assert axis.weights is not None
        return abs(float((axis.weights * np.exp(axis.points)).sum()) - (np.exp(2) - 1))

    if order:
        assert np.log2(error(64) / error(128)) == pytest.approx(order, abs=0.1)
    axis = Axis.uniform("x", 16, boundary="periodic")
    assert axis.weights.sum() == pytest.approx(1)  # type: ignore[union-attr]
    assert quadrature_weights(np.array([0.0, 0.1, 0.5]), period=1.0).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Axis("", 3), "needs a name"),
        (lambda: Axis("x", 3, points=np.array([0.0, 1.0])), "allowed: 3 finite"),
        (lambda: Axis("x", 2, points=np.array([0.0, np.nan])), "finite"),
        (lambda: Axis("x", 3, points=np.array([0.0, 2.0, 1.0])), "must ascend"),
        (lambda: Axis("x", 2, points=np.array([0.0, 1.0]), period=1.0), "repeats the first"),
        (lambda: Axis.uniform("x", 1), "at least 2"),
        (lambda: Axis.uniform("x", 4, boundary="dirichlet"), "allowed: closed"),
        (lambda: Axis.uniform("x", 4, start=1, stop=1), "above the start"),
        (lambda: Axis("x", 3, points=np.array([0.0, 1.0, 3.0])).spacing, "not uniform"),
        (lambda: Axis("x", 3).spacing, "needs two"),
    ],
)
def test_axes_that_cannot_be(make, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_axes_are_equal_by_name_size_and_unit() -> None:
    assert Axis.uniform("x", 4, unit="mm") == Axis("x", 4, "mm")
    assert Axis("x", 4) != Axis("x", 4, "mm")
    assert len({Axis("x", 4), Axis.uniform("x", 4)}) == 1


# The cache


def test_arrays_are_made_once(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"x": np.arange(3.0)}

    for _ in range(2):
        assert cached_arrays("a", {"n": 3}, make)["x"].tolist() == [0, 1, 2]
    assert len(made) == 1
    cached_arrays("a", {"n": 4}, make)
    assert len(made) == 2
    for file in tmp_path.rglob("*.npz"):
        file.write_bytes(b"torn")
    assert cached_arrays("a", {"n": 3}, make)["x"].tolist() == [0, 1, 2]
    assert len(made) == 3
    assert not list(tmp_path.rglob("*.part*"))


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("NISSL_CACHE", str(blocked))
    assert cached_arrays("a", {}, lambda: {"x": np.ones(2)})["x"].tolist() == [1, 1]


# Random fields


def test_fields_have_their_covariance() -> None:
    grid = np.linspace(0, 1, 9)
    found = cosine_field(4000, grid, grid, np.random.default_rng(0), n_modes=8)
    k = np.arange(8)
    sd = 1 / (np.pi**2 * (k[:, None] ** 2 + k**2) + 9)
    at_corner = (np.where(k == 0, 1, 2) * np.where(k == 0, 1, 2)[:, None] * sd**2).sum()
    assert found[:, 0, 0].var() == pytest.approx(at_corner, rel=0.1)
    waves = fourier_field(4000, 16, np.random.default_rng(0), n_modes=4, shift=9, power=2, scale=1)
    k = np.arange(-4, 5)
    power = (4 * np.pi**2 * (k[:, None] ** 2 + k**2) + 9.0) ** -2
    power[4, 4] = 0
    assert waves.var() == pytest.approx(power.sum(), rel=0.1)
    assert abs(waves.mean((1, 2))).max() < 1e-12


# Helmholtz


@pytest.mark.parametrize("k", [5.3, 20.7])
def test_helmholtz_in_an_even_medium_is_a_cosine(k: float) -> None:
    n, y = int(2 * k / np.pi) + 16, np.linspace(0, 1, 33)
    truth = -np.cos(k * y) / (k * np.sin(k))
    found = _solve(np.full((4 * n, 4 * n), k**2), n, y)
    assert np.abs(found - truth[:, None]).max() < 2e-4 * np.abs(truth).max()


def test_helmholtz_agrees_with_finite_differences() -> None:
    """Second order on two grids, extrapolated: an independent solution in an uneven medium."""
    import scipy.sparse as sp
    from scipy.sparse.linalg import spsolve

    size, frequency, speed = 17, 150.0, 20.0
    ours = nissl.specimens.helmholtz(1, size, frequency=frequency, speed=speed, seed=3, progress=False)

    def differences(n: int) -> np.ndarray:
        nodes, h = np.linspace(0, 1, n), 1 / (n - 1)
        c = speed + np.tanh(cosine_field(1, nodes, nodes, np.random.default_rng(3))[0])
        line = sp.diags_array([np.full(n - 1, 1.0), np.full(n, -2.0), np.full(n - 1, 1.0)], offsets=[-1, 0, 1]).tolil()
        line[0, 1] = line[-1, -2] = 2.0  # a mirror at both ends
        one = sp.eye_array(n)
        laplacian = (sp.kron(line, one) + sp.kron(one, line)) / h**2
        drive = np.zeros((n, n))
        drive[-1] = -2 / h  # slope one at y = 1
        return spsolve((laplacian + sp.diags_array((frequency / c).ravel() ** 2)).tocsc(), drive.ravel()).reshape(n, n)

    coarse, fine = differences(129)[::8, ::8], differences(257)[::16, ::16]
    truth = fine + (fine - coarse) / 3
    error = np.linalg.norm(ours["wave"][0].values - truth) / np.linalg.norm(truth)
    assert error < 1e-3
    finer = nissl.specimens.helmholtz(1, 33, frequency=frequency, speed=speed, seed=3, progress=False)
    assert np.allclose(finer["wave"][0, ::2, ::2], ours["wave"][0])


# Navier-Stokes


def test_a_vortex_decays_as_it_should() -> None:
    """Taylor and Green's flow: transport vanishes, and each mode decays by itself."""
    n, viscosity = 32, 1e-2
    grid = torch.arange(n, dtype=torch.float64) / n
    start = (2 * torch.pi * grid[:, None]).cos() * (4 * torch.pi * grid).cos()
    flow = _Flow(n, viscosity, 0.01, False, "cpu")
    modes = torch.fft.rfft2(start[None])
    for _ in range(50):
        modes = flow.advance(modes)
    truth = start * np.exp(-viscosity * 20 * np.pi**2 * 0.5)
    assert (torch.fft.irfft2(modes, s=(n, n))[0] - truth).abs().max() < 1e-12


def test_transport_is_that_of_the_equation() -> None:
    """dw/dt by the solver against derivatives taken by hand for sums of two waves."""
    n = 32
    grid = torch.arange(n, dtype=torch.float64) / n
    y, x = grid[:, None], grid
    tau = 2 * torch.pi
    vorticity = (tau * x).sin() + 2 * (tau * (x + 2 * y)).cos()
    # The stream function is sin(tau x) / tau^2 + 2 cos(tau (x + 2y)) / 5 tau^2; u and v are its derivatives along y and -x.
    u = -2 * (tau * (x + 2 * y)).sin() * 2 / (5 * tau)
    v = -(tau * x).cos() / tau + 2 * (tau * (x + 2 * y)).sin() / (5 * tau)
    wx = tau * (tau * x).cos() - 2 * tau * (tau * (x + 2 * y)).sin()
    wy = -4 * tau * (tau * (x + 2 * y)).sin()
    flow = _Flow(n, 1e-3, 0.01, False, "cpu")
    found = torch.fft.irfft2(flow.rate(torch.fft.rfft2(vorticity[None])), s=(n, n))[0]
    assert (found + u * wx + v * wy).abs().max() < 1e-10


def test_time_is_of_fourth_order_and_space_is_resolved() -> None:
    def end(**settings) -> np.ndarray:
        flow = nissl.specimens.navier_stokes(
            1, 16, duration=1.0, snapshots=1, viscosity=2e-3, progress=False, **settings
        )
        return flow["vorticity"][:, -1].values

    a, b, c = (end(step=s, resolution=32) for s in (0.1, 0.05, 0.025))
    assert np.log2(np.abs(a - b).max() / np.abs(b - c).max()) == pytest.approx(4, abs=0.5)
    assert np.abs(end(step=0.05, resolution=64) - end(step=0.05, resolution=128)).max() < 1e-6


def test_an_unforced_flow_loses_energy_and_keeps_its_mean() -> None:
    flow = nissl.specimens.navier_stokes(2, 32, duration=1.0, forced=False, progress=False, resolution=64)["vorticity"]
    enstrophy = (flow**2).mean(("y", "x"))
    assert bool((enstrophy.diff("time") < 0).all())
    assert float(abs(flow.mean(("y", "x"))).max()) < 1e-10


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.navier_stokes(1, 16, viscosity=0), "viscosity=0"),
        (lambda s: s.navier_stokes(0, 16), "at least 1"),
        (lambda s: s.navier_stokes(1, 24, resolution=64), "no multiple"),
        (lambda s: s.navier_stokes(1, 16, step=float("nan")), "step=nan"),
        (lambda s: s.helmholtz(1, 9), "do not fit"),
        (lambda s: s.helmholtz(1, 400, frequency=5000.0), "allowed: up to 96"),
        (lambda s: s.helmholtz(1, 2), "3 points"),
        (lambda s: s.helmholtz(1, speed=0.5), "speed above 1"),
    ],
)
def test_settings_that_cannot_be(call, said: str) -> None:
    with pytest.raises(NisslError, match=said):
        call(nissl.specimens)


def test_a_step_that_is_too_long_says_which_would_do() -> None:
    with pytest.raises(ModelError, match="try step="):
        nissl.specimens.navier_stokes(1, 64, step=1.0, duration=4.0, snapshots=1, progress=False)


def test_numbers_of_numpy_are_numbers() -> None:
    s = nissl.specimens
    plain = s.darcy_flow(2, 15, seed=1)
    assert s.darcy_flow(np.int64(2), np.int64(15), seed=np.int64(1), tau=np.float32(3)).identical(plain)  # type: ignore[arg-type]
    s.burgers(1, np.int64(32), viscosity=np.float32(0.05), progress=False)  # type: ignore[arg-type]
    s.helmholtz(np.int64(1), 9, frequency=np.float32(40), progress=False)  # type: ignore[arg-type]
    short = {"duration": np.float32(0.1), "snapshots": np.int64(1), "resolution": 32, "progress": False}
    s.navier_stokes(1, np.int64(16), viscosity=np.float32(1e-3), **short)  # type: ignore[arg-type]
    assert cached_arrays("n", {"a": np.float32(1), "b": np.arange(2)}, lambda: {"x": np.ones(1)})["x"].tolist() == [1]


@pytest.mark.parametrize(
    "call",
    [
        lambda s, **k: s.navier_stokes(1, 16, **k),
        lambda s, **k: s.burgers(1, 32, **k),
        lambda s, **k: s.helmholtz(1, 9, frequency=40.0, **k),
        lambda s, **k: s.darcy_flow(1, 9, **k),
    ],
)
def test_a_draw_by_chance_is_not_kept(call) -> None:
    with pytest.raises(InputError, match="seed=None"):
        call(nissl.specimens, seed=None)
    with pytest.raises(InputError, match="seed=None"):
        cached_arrays("a", {"seed": None}, lambda: {"x": np.ones(1)})


def test_a_kept_file_without_an_array_is_made_again(tmp_path: Path) -> None:
    first = nissl.specimens.darcy_flow(1, 9)
    (file,) = tmp_path.rglob("darcy-*.npz")
    np.savez(file, coefficient=first.coefficient)
    assert nissl.specimens.darcy_flow(1, 9).identical(first)


def test_the_cache_is_found_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NISSL_CACHE", "~/kept")
    assert cache_folder() == tmp_path / "kept"


def test_the_first_flows_stay_and_so_do_those_of_finer_grids() -> None:
    short = {"duration": 0.2, "snapshots": 1, "progress": False, "seed": 2}
    one, three = (nissl.specimens.navier_stokes(n, 16, resolution=64, **short) for n in (1, 3))
    np.testing.assert_allclose(three["vorticity"][:1], one["vorticity"], atol=1e-12)
    fine = nissl.specimens.navier_stokes(1, 16, resolution=128, **short)
    np.testing.assert_allclose(fine["vorticity"][:, 0], one["vorticity"][:, 0], atol=1e-12)
    assert float(abs(fine["vorticity"] - one["vorticity"]).max()) < 1e-5
    for kind, size in (("darcy_flow", 9), ("helmholtz", 9)):
        more = {"frequency": 40.0, "progress": False} if kind == "helmholtz" else {}
        one, two = (getattr(nissl.specimens, kind)(n, size, **more) for n in (1, 2))
        assert two.isel(sample=[0]).equals(one)


@pytest.mark.parametrize(
    "wrong", [{"resolution": -128}, {"resolution": 0}, {"device": "gpu"}, {"device": "meta"}, {"size": 16.0}]
)
def test_flows_are_refused_before_work(wrong) -> None:
    with pytest.raises(InputError):
        nissl.specimens.navier_stokes(1, **({"size": 16} | wrong))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="try 'cpu'"):
        nissl.specimens.navier_stokes(1, 16, device="cuda")


def test_axes_keep_what_they_were_given() -> None:
    points = np.array([0.0, 1.0])
    axis = Axis("x", np.int64(2), points=points)  # type: ignore[arg-type]
    points[1] = 9
    assert axis.points is not None
    assert axis.points.tolist() == [0, 1]
    assert type(axis.size) is int
    empty = Axis("x", 0, points=np.array([]))
    assert empty.weights is not None
    assert empty.weights.shape == (0,)


@pytest.mark.parametrize(
    "wrong", [{"period": np.inf}, {"period": 0.0}, {"period": np.nan}, {"size": 2.5}, {"size": True}]
)
def test_sizes_and_periods_that_cannot_be(wrong) -> None:
    with pytest.raises(InputError, match="allowed"):
        Axis("x", **({"size": 2} | wrong))
    if "size" in wrong:
        with pytest.raises(InputError, match="allowed"):
            Axis.uniform("x", wrong["size"])
