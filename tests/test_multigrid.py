"""Multigrid operators: the classical solver inside, linearity, symmetry, cost, every grid, losses, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.sparse import diags, eye, kron
from scipy.sparse.linalg import spsolve
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nissl.axes import Axis
from nissl.errors import InputError, ModelError, UnknownNameError
from nissl.learning import train
from nissl.nn.operators.losses import relative_h1_loss, relative_l2_loss
from nissl.nn.operators.multigrid import (
    BiasField,
    MgNO,
    MultigridLayer,
    MultigridOperator,
    check_boundary,
    greens_function,
    levels_that_fit,
    poisson_multigrid,
    refined,
)
from nissl.nn.operators.multigrid._grid import NESTINGS, coarser
from nissl.nn.operators.multigrid.field import between
from nissl.specimens._elliptic import poisson

BOUNDARIES = ("dirichlet", "periodic", "neumann")


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def operator(*args, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MultigridOperator(*args, **options).double()


# The classical solver


def laplacian(n):
    second = diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(n, n)) * (n + 1) ** 2
    return kron(second, eye(n)) + kron(eye(n), second)


def numpy_multigrid(f, steps=2):
    """A V-cycle from zero for -Laplace(u) = f, in index arithmetic: damped Jacobi, full weighting, bilinear interpolation."""
    n = len(f)
    h = 1 / (n + 1)

    def residual(u):
        wide = np.pad(u, 1)
        return f - (4 * u - wide[2:, 1:-1] - wide[:-2, 1:-1] - wide[1:-1, 2:] - wide[1:-1, :-2]) / h**2

    u = np.zeros_like(f)
    for _ in range(steps):
        u = u + 0.2 * h**2 * residual(u)
    if n == 1:
        return u
    r = residual(u)
    rows = (r[:-2:2] + 2 * r[1:-1:2] + r[2::2]) / 4
    coarse = numpy_multigrid((rows[:, :-2:2] + 2 * rows[:, 1:-1:2] + rows[:, 2::2]) / 4, steps)
    fine = np.zeros((n, n))
    fine[1::2, 1::2] = coarse
    fine = np.pad(fine, 1)
    fine[2:-1:2, 1:-1:2] = 0.5 * (fine[2:-1:2, :-2:2] + fine[2:-1:2, 2::2])
    fine[1:-1:2] = 0.5 * (fine[:-2:2] + fine[2::2])
    u = u + fine[1:-1, 1:-1]
    for _ in range(steps):
        u = u + 0.2 * h**2 * residual(u)
    return u


@pytest.mark.parametrize("size", [7, 15, 31, 63])
def test_with_textbook_weights_it_is_the_classical_solver(size):
    solver, f = poisson_multigrid(size), noise(1, 1, size, size)
    u, by_hand = torch.zeros_like(f), np.zeros((size, size))
    a = laplacian(size)
    norms = []
    with torch.no_grad():
        for _ in range(12):
            u = solver.correct(u, f)
            r = f[0, 0].numpy().ravel() - a @ by_hand.ravel()
            norms.append(np.linalg.norm(r))
            by_hand = by_hand + numpy_multigrid(r.reshape(size, size))
            np.testing.assert_allclose(u[0, 0].numpy(), by_hand, atol=1e-10 * np.abs(by_hand).max())
    factors = np.array(norms[1:]) / norms[:-1]
    assert factors[-6:].max() <= 0.2, factors
    for _ in range(10):
        u = solver.correct(u, f)
    exact = spsolve(a.tocsr(), f.numpy().ravel()).reshape(size, size)
    np.testing.assert_allclose(u[0, 0].detach().numpy(), exact, atol=1e-9 * np.abs(exact).max())


def test_the_solver_finds_the_solution_that_is_known():
    problem = poisson(2, 63, modes=3)
    solver = poisson_multigrid(63)
    f = torch.from_numpy(problem.source.values)[:, None]
    u = torch.zeros_like(f)
    with torch.no_grad():
        for _ in range(15):
            u = solver.correct(u, f)
    apart = np.abs(u[:, 0].numpy() - problem.solution.values).max() / np.abs(problem.solution.values).max()
    assert apart < 0.01  # what the five-point scheme is off by


def test_full_approximation_is_the_residual_scheme_for_a_linear_operator():
    """Whatever the function that the coarse level begins with."""
    plain = poisson_multigrid(31)
    fas = MultigridOperator(1, 1, plain.smoothing_steps, post_smoothing=2, coarse="fas").double()
    fas.load_state_dict(plain.state_dict())
    f = noise(2, 1, 31, 31)
    with torch.no_grad():
        for level in fas.levels[:-1]:
            level.restrict_u.weight.copy_(noise(1, 1, 3, 3, seed=3))
    torch.testing.assert_close(fas(f), plain(f), rtol=1e-9, atol=1e-12)


def test_refined_is_the_solver_of_the_finer_grid():
    f = noise(1, 1, 31, 31)
    torch.testing.assert_close(refined(poisson_multigrid(15))(f), poisson_multigrid(31)(f))
    u = torch.zeros_like(f)
    for _ in range(10):
        u = refined(poisson_multigrid(15)).correct(u, f)
    exact = spsolve(laplacian(31).tocsr(), f.numpy().ravel())
    np.testing.assert_allclose(u.detach().numpy().ravel(), exact, atol=1e-6 * np.abs(exact).max())
    # The same stencils without rescaling are another operator.
    assert (poisson_multigrid(15)(f) - poisson_multigrid(31)(f)).abs().max() > 0.1 * poisson_multigrid(31)(
        f
    ).abs().max()


# Laws of the layer

KINDS = [
    {},
    {"coarse": "residual", "post_smoothing": 1},
    {"coarse": "fas", "post_smoothing": (1, 0, 2), "boundary": "neumann"},
    {"boundary": "periodic", "coarse": "residual"},
]
SIDE = {"dirichlet": 15, "neumann": 17, "periodic": 16}


@pytest.mark.parametrize("options", KINDS)
def test_it_is_linear_and_its_matrix_is_made_of_green_s_functions(options):
    v = operator(2, 3, (1, 2, 1, 2), **options)
    n = SIDE[v.boundary]
    f, g = noise(1, 2, n, n, seed=1), noise(1, 2, n, n, seed=2)
    torch.testing.assert_close(v(2.5 * f - 3 * g), 2.5 * v(f) - 3 * v(g), rtol=1e-9, atol=1e-12)
    matrix = v(torch.eye(2 * n * n, dtype=torch.float64).reshape(-1, 2, n, n)).reshape(2 * n * n, -1)
    torch.testing.assert_close(f.reshape(1, -1) @ matrix, v(f).reshape(1, -1), rtol=1e-9, atol=1e-12)
    response = greens_function(v, 2, 1, (3, 7), size=n)
    column = matrix.reshape(2, n, n, 3, n, n)[1, 3, 7, 2]
    np.testing.assert_allclose(response.values, column.detach().numpy(), atol=1e-12)
    assert response.dims == ("y", "x")
    np.testing.assert_allclose(response.x, Axis.uniform("x", n, boundary=v.nodes).points)


def test_every_cell_reaches_every_cell():
    reach = operator(1, 1, (1, 1, 1, 2))(torch.eye(225, dtype=torch.float64).reshape(-1, 1, 15, 15))
    assert (reach.abs() > 0).double().mean() > 0.95
    near = operator(1, 1, (2,))(torch.eye(225, dtype=torch.float64).reshape(-1, 1, 15, 15))
    assert (near.abs() > 0).double().mean() < 0.2


@pytest.mark.parametrize("coarse", ["restrict", "residual", "fas"])
def test_periodic_operators_commute_with_shifts_of_the_coarsest_cell(coarse):
    v, f = operator(2, 2, (1, 1, 1, 2), boundary="periodic", coarse=coarse), noise(1, 2, 32, 16)
    for shift in ((8, 0), (0, 8), (-16, 8)):
        torch.testing.assert_close(v(f.roll(shift, (2, 3))), v(f).roll(shift, (2, 3)), rtol=1e-11, atol=1e-13)
    assert (v(f.roll(1, 2)) - v(f).roll(1, 2)).abs().max() > 1e-3


def test_neumann_stencils_see_a_mirror_and_dirichlet_ones_zero():
    """One smoothing step on one level is one stencil."""
    f = noise(1, 1, 9, 9)
    for boundary, mode in (("neumann", "reflect"), ("dirichlet", "constant"), ("periodic", "wrap")):
        v = operator(1, 1, (1,), boundary=boundary)
        wide = np.pad(f[0, 0].numpy(), 1, mode=mode)
        taps = v.levels[0].smooth[0].weight[0, 0].detach().numpy()
        by_hand = sum(taps[i, j] * wide[i : i + 9, j : j + 9] for i in range(3) for j in range(3))
        np.testing.assert_allclose(v(f)[0, 0].detach().numpy(), by_hand, atol=1e-12)


def test_norm_is_optional_and_ends_linearity():
    v, f = operator(2, 3, (1, 1, 2), norm=True), noise(2, 2, 15, 15)
    u = v(f)
    np.testing.assert_allclose(u.detach().mean((1, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(u.detach().square().mean((1, 2, 3)), 1, atol=1e-3)
    with pytest.raises(ModelError, match="not linear"):
        greens_function(v, 0, 0, (1, 1), size=15)


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_gradients(n_dims):
    v, f = operator(1, 2, (1, 2), coarse="residual", n_dims=n_dims), noise(1, 1, *(7,) * n_dims).requires_grad_()
    assert torch.autograd.gradcheck(v, (f,))


# Cost


def closed_form(v, grid):
    """Multiply-adds: taps x channels in x channels out at each point of each convolution's output (input, for the transposed)."""
    c_f, c, taps, total, points = v.in_channels, v.channels, 3**v.n_dims, 0, list(grid)
    for i, steps in enumerate(v.smoothing_steps):
        post = (*v.post_smoothing, 0)[i]
        stencils = 2 * steps - (i == 0) + 2 * post + (i < len(v.levels) - 1 and v.coarse != "restrict")
        below = [coarser(n, v.nodes) for n in points]
        if v.coarse == "fas" and i:
            stencils += 1
        total += taps * c_f * c * stencils * np.prod(points)
        if i < len(v.levels) - 1:
            total += taps * (c * c + c_f * c_f) * np.prod(below)
            wrapped = [n + 2 * NESTINGS[v.nodes].wrapped for n in below]
            total += NESTINGS[v.nodes].taps ** v.n_dims * c * c * np.prod(wrapped)
        points = below
    return int(total)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"coarse": "residual", "post_smoothing": 1},
        {"coarse": "fas", "boundary": "neumann"},
        {"boundary": "periodic"},
    ],
)
def test_cost_is_the_closed_form(options):
    v = MultigridOperator(5, 8, (1, 1, 2, 2), **options)
    n = SIDE[v.boundary]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        v(torch.zeros(1, 5, n, 2 * n - (v.boundary == "neumann")))
    assert counter.get_total_flops() == 2 * closed_form(v, (n, 2 * n - (v.boundary == "neumann")))


def test_cost_is_linear_in_points_and_coarse_levels_add_a_third():
    v = MultigridOperator(8, 8, (2,) * 5, post_smoothing=0)
    sizes = [2**k - 1 for k in (6, 7, 8, 9)]
    costs = np.array([closed_form(v, (n, n)) / n**2 for n in sizes])
    np.testing.assert_allclose(costs, costs[-1], rtol=0.05)
    full = MultigridOperator(8, 8, (3, 3, 3, 3, 3, 3, 3), coarse="residual")
    one = MultigridOperator(8, 8, (3,))
    # With as many stencils on each level the sum is 1 + 1/4 + 1/16 + ... = 4/3 of the finest.
    fine = closed_form(one, (511, 511)) + 9 * 64 * (511**2 + 3 * 255**2)
    assert abs(closed_form(full, (511, 511)) / fine - 4 / 3) < 0.06


# Grids


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("grid", [(31, 31), (32, 32), (33, 33), (50, 50), (101, 101), (31, 50), (101, 20)])
def test_output_has_the_size_of_the_input(boundary, grid):
    nodes = "periodic" if boundary == "periodic" and all(n % 4 == 0 for n in grid) else None
    if boundary == "periodic" and nodes is None:
        with pytest.raises(InputError, match="divisible by 4"):
            MultigridOperator(1, 2, (1, 1, 1), boundary="periodic")(torch.zeros(1, 1, *grid))
        nodes = "interior"
    for steps in ((1, 1, 1), (1, 2)):
        v = MultigridOperator(1, 2, steps, boundary=boundary, nodes=nodes, post_smoothing=1)
        out = v(torch.zeros(1, 1, *grid))
        assert out.shape == (1, 2, *grid)
        assert torch.isfinite(out).all()


@pytest.mark.parametrize("n_dims", [1, 3])
def test_other_dimensions(n_dims):
    grid = (31, 15, 17)[:n_dims]
    net = MgNO(2, 1, 4, 2, (1, 1, 2), n_dims=n_dims, bias="field", grid=(7,) * n_dims)
    assert net(torch.zeros(3, 2, *grid)).shape == (3, 1, *grid)


@given(
    st.lists(st.integers(2, 70), min_size=1, max_size=2),
    st.sampled_from(sorted(NESTINGS)),
    st.sampled_from(BOUNDARIES),
)
@settings(max_examples=40, deadline=None)
def test_as_many_levels_fit_as_is_said(grid, nodes, boundary):
    n_dims, fit = len(grid), levels_that_fit(grid, nodes)
    f = torch.ones(1, 1, *grid)
    v = MultigridOperator(1, 1, (1,) * fit, boundary=boundary, nodes=nodes, n_dims=n_dims)
    if not (boundary == "neumann" and nodes == "interior"):  # a single interior point has no mirror image
        assert v(f).shape == f.shape
    with pytest.raises(InputError, match=rf"{fit} levels? fits?"):
        MultigridOperator(1, 1, (1,) * (fit + 1), boundary=boundary, nodes=nodes, n_dims=n_dims)(f)


# As a module


def test_number_of_weights():
    def count(*args, **options):
        return sum(p.numel() for p in MgNO(*args, **options).parameters())

    assert count(1, 1, 12, 3) == 55_779
    assert count(1, 1, 12, 3, (5,)) == 24_648
    assert count(1, 1, 12, 3, bias="constant") == 55_779 - 12 - 2 * 144


@pytest.mark.parametrize("options", KINDS)
def test_weights_are_kept(tmp_path, options):
    net, other = (MgNO(1, 2, 4, 2, (1, 2, 1, 2), **options) for _ in range(2))
    n = SIDE[net.boundary]
    x = noise(2, 1, n, n, dtype=torch.float32)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    assert not torch.allclose(net(x), other(x))
    other.load_state_dict(load_file(tmp_path / "net.safetensors"))
    assert torch.equal(net(x), other(x))
    assert torch.equal(net(x), copy.deepcopy(net)(x))
    double = net.double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), other(x), rtol=1e-4, atol=1e-5)


def test_it_compiles_whole():
    net = MgNO(1, 1, 4, 2, (1, 1, 2), boundary="neumann", bias="field", grid=(9, 9))
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    x = noise(2, 1, 17, 17, dtype=torch.float32)
    torch.testing.assert_close(compiled(x), net(x))


def test_samples_can_be_mapped_over():
    v, f = operator(1, 2, (1, 2), boundary="periodic"), noise(3, 1, 8, 8)
    each = torch.func.vmap(lambda one: v(one[None])[0])(f)
    torch.testing.assert_close(each, v(f))


def test_a_layer_is_what_it_says():
    layer, u = MultigridLayer(2, 3, (1, 1, 2)).double(), noise(1, 2, 15, 15)
    by_hand = nn.functional.gelu(
        layer.operator(u) + nn.functional.conv2d(u, layer.added.weight[..., None, None], layer.added.bias)
    )
    torch.testing.assert_close(layer(u), by_hand)


@pytest.mark.parametrize("nodes", sorted(NESTINGS))
def test_a_field_is_one_function_on_every_grid(nodes):
    field = BiasField(1, (SIDE["dirichlet"],), nodes).double()
    points = Axis.uniform("x", SIDE["dirichlet"], boundary=nodes).points
    with torch.no_grad():
        field.value.copy_(torch.from_numpy(np.abs(points - 0.5))[None, None])
    finer = Axis.uniform("x", 61, boundary=nodes)
    read = field(torch.zeros(1, 1, 61))[0, 0].detach().numpy()
    by_hand = np.interp(finer.points, points, np.abs(points - 0.5), period=finer.period)
    np.testing.assert_allclose(read, by_hand, atol=1e-12)
    np.testing.assert_allclose(between(61, 15, nodes).sum(1), 1, atol=1e-6)


def test_labelled_fields():
    net = MgNO(1, 2, 4, 1, (1, 2))
    field = xr.DataArray(np.random.default_rng(0).random((3, 15, 31)), {"x": np.arange(31)}, ("sample", "y", "x"))
    out = net.predict(field)
    assert out.dims == ("sample", "channel", "y", "x")
    np.testing.assert_allclose(out, net(torch.from_numpy(field.values).float()[:, None]).detach(), atol=1e-6)
    np.testing.assert_array_equal(out.x, field.x)
    field.attrs["boundary"] = "periodic"
    with pytest.raises(InputError, match="boundary='dirichlet', but the data say boundary='periodic'"):
        net.predict(field)
    field.attrs.clear()
    field[1, 2, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        net.predict(field)


# Losses


def test_losses_of_known_functions():
    x = torch.arange(1, 64, dtype=torch.float64) / 64
    y = (torch.sin(np.pi * x)[:, None] * torch.sin(np.pi * x)).expand(2, 1, -1, -1)
    e = 0.1 * torch.sin(3 * np.pi * x)[:, None] * torch.sin(4 * np.pi * x)
    assert abs(relative_l2_loss(y + e, y).item() - 0.1) < 1e-12
    expected = 0.1 * np.sqrt((1 + np.pi**2 * 25) / (1 + np.pi**2 * 2))
    assert abs(relative_h1_loss(y + e, y, 1 / 64).item() / expected - 1) < 0.01
    assert relative_h1_loss(y, y, 1 / 64).item() < 1e-150
    waves = torch.sin(2 * np.pi * torch.arange(64, dtype=torch.float64) / 64)[:, None].expand(64, 64)[None, None]
    ripple = 0.1 * waves.roll(3, 2).transpose(2, 3)
    # In waves a period both have |k| = 1, so the ratio stays.
    assert abs(relative_h1_loss(waves + ripple, waves, 1 / 64, form="spectral").item() - 0.1) < 1e-12
    high = 0.1 * torch.cos(2 * np.pi * 25 * torch.arange(64, dtype=torch.float64) / 64).expand(1, 1, 64, 64)
    assert abs(relative_h1_loss(waves + high, waves, 1 / 64, form="spectral").item() - 0.1 / np.sqrt(2)) < 1e-12


def test_forms_agree_on_smooth_periodic_fields():
    n = 128
    y, e = (
        torch.from_numpy(poisson(3, n, boundary="periodic", modes=2, seed=s).solution.values)[:, None] for s in (0, 1)
    )
    # `spectral` counts waves a period: a domain of length 2 pi.
    one = relative_h1_loss(y + e, y, 2 * np.pi / n, "periodic")
    other = relative_h1_loss(y + e, y, 1.0, form="spectral")
    torch.testing.assert_close(one, other, rtol=2e-3, atol=0)


def test_weights_of_the_l2_loss_are_those_of_a_quadrature():
    x = Axis("x", 200, points=np.linspace(0, 1, 200) ** 2)
    y, e = torch.ones(1, 1, 200, dtype=torch.float64), torch.from_numpy(x.points)[None, None]
    assert abs(relative_l2_loss(y + e, y, torch.from_numpy(x.weights)).item() - np.sqrt(1 / 3)) < 1e-3
    assert abs(relative_l2_loss(y + e, y).item() - np.sqrt(1 / 5)) < 5e-3  # unweighted: points crowd where e is small


def test_losses_beside_neuralop():
    pytest.importorskip("neuralop", exc_type=ImportError)
    from neuralop.losses import H1Loss, LpLoss

    pred, target = noise(4, 1, 32, 32), noise(4, 1, 32, 32, seed=1)
    theirs = LpLoss(d=2, p=2, reduction="mean")(pred, target)
    torch.testing.assert_close(relative_l2_loss(pred, target), theirs)
    # Theirs takes central differences; on a long wave that is the same.
    t = torch.arange(256, dtype=torch.float64) / 256
    y = torch.sin(2 * np.pi * t)[:, None].expand(1, 1, 256, 256)
    p = y + 0.1 * torch.sin(6 * np.pi * t).expand(1, 1, 256, 256)
    theirs = H1Loss(d=2, measure=1.0, reduction="mean", periodic_in_x=True, periodic_in_y=True)(p, y)
    torch.testing.assert_close(relative_h1_loss(p, y, 1 / 256, "periodic"), theirs, rtol=2e-3, atol=0)


def test_losses_have_gradients_where_nothing_is_wrong():
    y = noise(2, 1, 9, 9)
    p = y.clone().requires_grad_()
    (relative_h1_loss(p, y, 0.1) + relative_l2_loss(p, y)).backward()
    assert torch.isfinite(p.grad).all()
    assert torch.autograd.gradcheck(
        lambda p: relative_h1_loss(p, y, 0.1, "neumann"), (noise(2, 1, 9, 9, seed=5).requires_grad_(),)
    )


# Recovery


def test_it_learns_to_solve_poisson_s_equation():
    problem = poisson(120, 15, modes=3, seed=2)
    x, y = (torch.from_numpy(a.values / a.values.std()).float()[:, None] for a in (problem.source, problem.solution))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        v = MultigridOperator(1, 6, (1, 1, 2))
        net = nn.Sequential(v, nn.Conv2d(6, 1, 1, bias=False))

    def batch(generator):
        rows = torch.randint(100, (20,), generator=generator)
        return x[rows], y[rows]

    train(
        net,
        batch,
        lambda m, x, y: relative_h1_loss(m(x), y, 1 / 16),
        steps=120,
        lr=1e-2,
        schedule="one-cycle",
        progress=False,
    )
    with torch.no_grad():
        error = relative_h1_loss(net(x[100:]), y[100:], 1 / 16).item()
    assert error < 0.2


def test_the_one_cycle_schedule_is_torch_s():
    net = nn.Linear(1, 1)
    curve = train(
        net,
        lambda g: torch.ones(1, 1),
        lambda m, x: m(x).square().sum(),
        steps=50,
        lr=0.1,
        schedule="one-cycle",
        progress=False,
    )
    descent = torch.optim.Adam(nn.Linear(1, 1).parameters(), lr=0.1)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        descent, 0.1, total_steps=50, pct_start=0.2, div_factor=2, final_div_factor=100
    )
    rates = []
    for _ in range(50):
        rates.append(cycle.get_last_lr()[0])
        descent.step()
        if len(rates) < 50:
            cycle.step()
    np.testing.assert_allclose(curve["lr"], rates, rtol=1e-9)


# What is refused


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: MultigridOperator(1, 2, boundary="dirichle"), UnknownNameError, "nearest: 'dirichlet'"),
        (lambda: MultigridOperator(1, 2, coarse="full"), UnknownNameError, "allowed"),
        (lambda: MultigridOperator(1, 2, nodes="closd"), UnknownNameError, "closed"),
        (lambda: MultigridOperator(1, 2, ()), InputError, "smoothing_steps"),
        (lambda: MultigridOperator(1, 2, (1, 0)), InputError, "at least 1"),
        (lambda: MultigridOperator(0, 2), InputError, "in_channels=0"),
        (lambda: MultigridOperator(1, 2, post_smoothing=(1,)), InputError, "3 numbers"),
        (lambda: MultigridOperator(1, 2, n_dims=4), InputError, "n_dims=4"),
        (lambda: MultigridOperator(1, 2)(torch.zeros(1, 1, 31, 1)), InputError, "one point wide"),
        (
            lambda: MultigridOperator(1, 2)(torch.zeros(1, 1, 5, 31)),
            InputError,
            "too coarse for 4 levels; 2 levels fit",
        ),
        (lambda: MultigridOperator(1, 2, boundary="neumann")(torch.zeros(1, 1, 3, 31)), InputError, "2 levels fit"),
        (lambda: MultigridOperator(1, 2, boundary="periodic")(torch.zeros(1, 1, 36, 32)), InputError, "divisible by 8"),
        (lambda: MultigridOperator(1, 2)(torch.zeros(1, 3, 31, 31)), InputError, "1 channel"),
        (lambda: MultigridOperator(1, 2)(torch.zeros(1, 31, 31)), InputError, "batch"),
        (lambda: MgNO(1, 1, 4, 2)(torch.zeros(1, 1, 31, 31, dtype=torch.long)), InputError, "float"),
        (lambda: MgNO(1, 1, 0, 2), InputError, "width=0"),
        (lambda: MgNO(1, 1, 4, 0), InputError, "depth=0"),
        (lambda: MgNO(1, 1, 4, 2, bias="fields"), UnknownNameError, "nearest: 'field'"),
        (lambda: MgNO(1, 1, 4, 2, bias="field"), InputError, "grid=None"),
        (
            lambda: MultigridOperator(1, 1).correct(torch.zeros(1, 1, 31, 31), torch.zeros(1, 1, 31, 31)),
            ModelError,
            "two steps",
        ),
        (lambda: refined(MultigridOperator(1, 1)), ModelError, "no A"),
        (lambda: refined(MultigridOperator(1, 1, (2,))), ModelError, "one level"),
        (lambda: poisson_multigrid(30), InputError, "size=30"),
        (lambda: poisson_multigrid(31, levels=6), InputError, "1 to 5"),
        (
            lambda: greens_function(MultigridOperator(1, 2), 2, 0, (0, 0), size=31),
            InputError,
            "out_unit=2; allowed: 0 to 1",
        ),
        (lambda: greens_function(MultigridOperator(1, 2), 0, 0, (0, 31), size=31), InputError, "location"),
        (lambda: relative_l2_loss(torch.ones(1, 1, 4), torch.ones(1, 1, 5)), InputError, "one shape"),
        (lambda: relative_h1_loss(torch.ones(1, 1, 4), torch.zeros(1, 1, 4), 1.0), InputError, "zero everywhere"),
        (lambda: relative_h1_loss(torch.ones(1, 1, 4), torch.ones(1, 1, 4), 0.0), InputError, "spacing"),
        (lambda: relative_h1_loss(torch.ones(1, 1, 4), torch.ones(1, 1, 4), 1.0, "open"), UnknownNameError, "boundary"),
        (lambda: check_boundary("periodic", Axis.uniform("x", 8)), InputError, "no period"),
        (lambda: check_boundary("neumann", Axis.uniform("x", 8, boundary="periodic")), InputError, "has period 1"),
    ],
)
def test_bad_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_a_whole_network_is_refused_with_the_way_to_a_layer() -> None:
    net = MgNO(1, 1, 2, 2, (1, 2))
    with pytest.raises(InputError, match="layers"):
        refined(net)
    with pytest.raises(InputError, match="layers"):
        greens_function(net, 0, 0, (1, 1), size=7)
