"""Elliptic equations: manufactured solutions, another assembly, symmetries, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from scipy.sparse import lil_array
from scipy.sparse.linalg import spsolve

from nissl.axes import Axis
from nissl.errors import InputError, UnknownNameError
from nissl.specimens._elliptic import NODES, darcy_flow, poisson, solve_elliptic

SIZES = {"dirichlet": lambda n: n - 1, "neumann": lambda n: n + 1, "periodic": lambda n: n}
SOLUTIONS = {
    "dirichlet": "sin(pi*x)*sin(2*pi*y)*exp(x)",
    "neumann": "cos(pi*x)*cos(2*pi*y)",
    "periodic": "sin(2*pi*x)*cos(4*pi*y)",
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NISSL_CACHE", str(tmp_path))


def points(n, boundary):
    return Axis.uniform("x", n, boundary=NODES[boundary]).points


def manufactured(n, boundary, coefficient="2 + sin(2*pi*x)*cos(2*pi*y)"):
    """Coefficient, source and solution of a problem whose answer was chosen, with n cells along x and a quarter more along y."""
    x, y = sympy.symbols("x y")
    a, u = sympy.sympify(coefficient), sympy.sympify(SOLUTIONS[boundary])
    f = -sympy.diff(a * sympy.diff(u, x), x) - sympy.diff(a * sympy.diff(u, y), y)
    grid = np.meshgrid(*(points(SIZES[boundary](k), boundary) for k in (n * 5 // 4, n)), indexing="ij")
    return [np.broadcast_to(sympy.lambdify((y, x), e)(*grid), grid[0].shape)[None] for e in (a, f, u)]


def mean_free(f, boundary):
    if boundary == "dirichlet":
        return f
    weights = [Axis.uniform("x", n, boundary=NODES[boundary]).weights for n in f.shape[1:]]
    return f - np.einsum("syx,y,x->s", f, *weights)[:, None, None]


@pytest.mark.parametrize("boundary", sorted(NODES))
def test_errors_fall_by_four_as_the_spacing_halves(boundary):
    errors = []
    for n in (32, 64, 128):
        a, f, u = manufactured(n, boundary)
        found = solve_elliptic(a, mean_free(f, boundary), boundary=boundary)
        errors.append(np.abs(found - mean_free(u, boundary)).max())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders[-1] > 1.85, (errors, orders)
    assert errors[-1] < 0.01


@pytest.mark.parametrize("boundary", sorted(NODES))
def test_poisson_is_solved_to_second_order(boundary):
    errors = []
    for n in (24, 48):
        problem = poisson(3, (SIZES[boundary](n), SIZES[boundary](n + 3)), boundary=boundary, modes=3, seed=1)
        ones = np.ones(problem.source.shape)
        found = solve_elliptic(ones, problem.source.values, boundary=boundary)
        errors.append(np.abs(found - problem.solution.values).max())
    assert 3.4 < errors[0] / errors[1] < 4.6


def test_a_face_has_the_harmonic_mean_of_its_cells():
    """Layers in series: flow through two materials is as through resistors."""
    n = 63
    a = np.where(np.arange(n) < 31, 1.0, 10.0) * np.ones((1, 1, n))
    u = solve_elliptic(a, np.eye(1, n, 0)[None] * 0 + 1.0, lengths=(1e8, 1.0))[0, 0]
    flux = 2 * a[0, 0, 1:] * a[0, 0, :-1] / (a[0, 0, 1:] + a[0, 0, :-1]) * np.diff(u) * 64
    np.testing.assert_allclose(np.diff(flux) * 64, -1.0, rtol=1e-6)  # what flows in between is the source


@pytest.mark.parametrize("shape", [(7, 5), (5, 9)])
def test_banded_and_plainly_assembled_systems_agree(shape):
    rng = np.random.default_rng(0)
    a, f = rng.uniform(1, 10, (2, *shape)), rng.standard_normal((2, *shape))
    h = [1 / (n + 1) for n in shape]
    found = solve_elliptic(a, f)
    for sample in range(2):
        matrix, node = lil_array((a[0].size, a[0].size)), np.arange(a[0].size).reshape(shape)
        for (i, j), k in np.ndenumerate(node):
            for di, dj, step in ((1, 0, h[0]), (-1, 0, h[0]), (0, 1, h[1]), (0, -1, h[1])):
                here = a[sample, i, j]
                inside = 0 <= i + di < shape[0] and 0 <= j + dj < shape[1]
                there = a[sample, i + di, j + dj] if inside else here
                face = 2 * here * there / (here + there) / step**2
                matrix[k, k] += face
                if inside:
                    matrix[k, node[i + di, j + dj]] -= face
        np.testing.assert_allclose(found[sample].ravel(), spsolve(matrix.tocsr(), f[sample].ravel()), rtol=1e-10)


def test_darcy_is_the_same_ground_on_any_grid():
    coarse, fine = darcy_flow(3, 15, seed=4), darcy_flow(3, 31, seed=4)
    np.testing.assert_array_equal(fine.coefficient[:, 1::2, 1::2], coarse.coefficient)
    np.testing.assert_allclose(fine.x[1::2], coarse.x)
    apart = np.abs(fine.pressure[:, 1::2, 1::2].values - coarse.pressure.values).max()
    assert apart < 0.15 * float(fine.pressure.max())


def test_darcy_has_the_mean_predictor_of_the_reference():
    """Relative L2 error of the training mean: 0.25 to within sampling."""
    p = darcy_flow(300, 31).pressure.values
    mean, test = p[:200].mean(0), p[200:]
    error = np.linalg.norm((test - mean).reshape(100, -1), axis=1) / np.linalg.norm(test.reshape(100, -1), axis=1)
    assert 0.2 < error.mean() < 0.3


def test_darcy_follows_its_settings():
    flow, other = darcy_flow(5, (9, 14), contrast=(1.0, 2.0)), darcy_flow(5, (9, 14), contrast=(10.0, 20.0))
    np.testing.assert_allclose(flow.pressure, 10 * other.pressure)
    assert flow.pressure.dims == ("sample", "y", "x")
    assert flow.attrs["boundary"] == flow.pressure.attrs["boundary"] == "dirichlet"
    assert not np.array_equal(darcy_flow(5, (9, 14), contrast=(1.0, 2.0), seed=1).coefficient, flow.coefficient)
    again = darcy_flow(5, (9, 14), contrast=(1.0, 2.0))  # from the cache
    assert again.identical(flow)
    uniform = darcy_flow(1, 31, contrast=(2.0, 2.0)).pressure.values[0]
    assert abs(uniform.max() - 0.0736713 / 2) < 1e-4  # the membrane's height, a series
    np.testing.assert_allclose(uniform, uniform.T, rtol=1e-10)


@pytest.mark.parametrize("boundary", sorted(NODES))
def test_poisson_keeps_its_boundary_condition(boundary):
    problem = poisson(2, 33, boundary=boundary, modes=2)
    u, h = problem.solution.values, float(problem.x[1] - problem.x[0])
    if boundary == "dirichlet":  # extrapolated to the border
        assert np.abs(2 * u[:, :, 0] - u[:, :, 1]).max() < 30 * h**2 * np.abs(u).max()
    elif boundary == "neumann":
        assert np.abs(-3 * u[:, :, 0] + 4 * u[:, :, 1] - u[:, :, 2]).max() / (2 * h) < 60 * h**2 * np.abs(u).max()
    else:
        assert abs(float(problem.x[-1] + h) - 1) < 1e-12
        assert np.abs(u.mean((1, 2))).max() < 1e-14


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: darcy_flow(0, 31), InputError, "n_samples=0"),
        (lambda: darcy_flow(2, 31, contrast=(0.0, 1.0)), InputError, "positive"),
        (lambda: poisson(2, 31, boundary="robin"), UnknownNameError, "allowed"),
        (lambda: poisson(2, 1), InputError, "size=1"),
        (lambda: solve_elliptic(np.ones((1, 4, 4)), np.ones((1, 4, 5))), InputError, "one shape"),
        (lambda: solve_elliptic(-np.ones((1, 4, 4)), np.ones((1, 4, 4))), InputError, "positive"),
        (lambda: solve_elliptic(np.full((1, 4, 4), np.nan), np.ones((1, 4, 4))), InputError, "finite"),
        (lambda: solve_elliptic(np.ones((1, 4, 4)), np.ones((1, 4, 4)), boundary="neumann"), InputError, "mean zero"),
    ],
)
def test_bad_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_one_node_is_enough_where_the_border_holds_it():
    flow = darcy_flow(1, 1, contrast=(2.0, 2.0))
    # One node at the middle: four faces of conductance 2, a cell of size h^2 = 1/4.
    assert float(flow.pressure[0, 0, 0]) == pytest.approx(0.25 / 8)


@pytest.mark.parametrize(
    "call",
    [
        lambda: solve_elliptic(np.ones((1, 1, 5)), np.zeros((1, 1, 5)), boundary="neumann"),
        lambda: solve_elliptic(np.ones((1, 1, 1)), np.zeros((1, 1, 1)), boundary="periodic"),
        lambda: solve_elliptic(np.ones((0, 4, 4)), np.zeros((0, 4, 4))),
        lambda: solve_elliptic(np.ones((1, 4, 4)), np.zeros((1, 4, 4)), lengths=(1.0,)),
        lambda: solve_elliptic(np.ones((1, 4, 4)), np.zeros((1, 4, 4)), lengths=(1.0, 0.0)),
        lambda: darcy_flow(1, 5, contrast=3.0),
        lambda: darcy_flow(1, 5, contrast=(3.0,)),
        lambda: darcy_flow(1, 5, contrast=(3.0, 5.0, 12.0)),
        lambda: darcy_flow(1, 5, tau=np.inf),
        lambda: darcy_flow(1, (5, 5, 5)),
        lambda: darcy_flow(1, 5.5),
        lambda: darcy_flow(1, 5, modes=1),
        lambda: poisson(1, 5, seed=None),
    ],
)
def test_more_bad_input_is_named(call):
    with pytest.raises(InputError, match="allowed"):
        call()
