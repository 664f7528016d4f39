"""Layers on function spaces: closed forms, trusted packages, points told twice, and what they refuse."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.integrate import quad
from scipy.signal import resample as scipy_resample
from torch import nn

from nissl.axes import Axis
from nissl.errors import InputError, UnknownNameError
from nissl.evaluation.discretisation import discretisation_error, is_discretisation_agnostic
from nissl.nn.operators import (
    DifferentialConv,
    Discretisation,
    FourierFeatures,
    FourierNeuralOperator,
    InputOutputInterpolation,
    IntegralTransform,
    LocalIntegralConv,
    MixedResolution,
    PatchIntegral,
    QuadratureAttention,
    QuadratureNorm,
    SpectralConv,
    quadrature_mean,
    resample,
    to_neural_operator,
)
from nissl.nn.operators._taps import convolve, hat_convolve, hat_taps, read_kernel
from nissl.nn.operators.losses import relative_l2_loss

G = torch.Generator().manual_seed(0)


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def band_limited(n, highest=5, dims=1, channels=2):
    """The same random function at n points an axis."""
    modes = torch.randn(1, channels, *(2 * highest + 1,) * dims, 2, generator=torch.Generator().manual_seed(2)).double()
    k = torch.arange(-highest, highest + 1).double()
    wave = torch.exp(2j * math.pi * k[:, None] * torch.arange(n) / n)
    field = torch.view_as_complex(modes)
    for _ in range(dims):
        field = torch.tensordot(field, wave, ([2], [0]))
    return field.real


def identity(modes, dims, channels=2):
    layer = SpectralConv(channels, channels, modes, n_dims=dims, bias=False).double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[..., 0] = torch.eye(channels)
    return layer


# Spectral convolution


@pytest.mark.parametrize("n", [32, 33])
def test_weights_of_one_are_the_ideal_low_pass(n):
    x = noise(3, 2, n)
    spectrum = np.fft.rfft(x.numpy())
    spectrum[..., 6:] = 0
    np.testing.assert_allclose(identity(6, 1)(x).detach(), np.fft.irfft(spectrum, n), atol=1e-12)


@pytest.mark.parametrize("grid", [(12, 15), (16, 9)])
def test_low_pass_in_the_plane(grid):
    x = noise(2, 2, *grid)
    k = [np.abs(np.fft.fftfreq(n, 1 / n)) < 4 for n in grid]
    spectrum = np.fft.fft2(x.numpy()) * k[0][:, None] * k[1]
    np.testing.assert_allclose(identity(4, 2)(x).detach(), np.fft.ifft2(spectrum).real, atol=1e-12)


@pytest.mark.parametrize("grid", [(8,), (7,), (1,), (2,), (6, 5), (4, 8), (1, 3), (4, 5, 6)])
def test_more_modes_than_the_grid_has_is_the_identity(grid):
    x = noise(2, 2, *grid)
    torch.testing.assert_close(identity(9, len(grid))(x), x)


@pytest.mark.parametrize("modes", [(3, 9), (9, 3), (9, 9)])
@pytest.mark.parametrize("grid", [(8, 8), (8, 9), (7, 8)])
def test_the_highest_mode_of_an_even_grid_is_shared(modes, grid):
    """Against the same layer on a grid fine enough for all modes, for a field that the coarse grid shows."""
    layer = SpectralConv(2, 3, modes, bias=False).double()
    x = noise(2, 2, *grid)
    fine = layer(resample(x, (32, 32)))
    torch.testing.assert_close(layer(x, size=(32, 32)), fine)


@pytest.mark.parametrize("size", [20, 21, 64])
def test_output_at_other_points_is_the_same_function(size):
    layer = SpectralConv(2, 2, 5, n_dims=2).double()
    x = noise(1, 2, 16, 18)
    torch.testing.assert_close(layer(x, size=(size, size)), resample(layer(x), (size, size)))


def test_it_is_one_operator_on_every_grid():
    layer = SpectralConv(2, 3, 4, n_dims=2).double()
    coarse, fine = layer(band_limited(12, 4, 2)), layer(band_limited(48, 4, 2))
    torch.testing.assert_close(coarse, fine[..., ::4, ::4])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_numbers_of_neuralop(dims):
    theirs_module = pytest.importorskip("neuralop.layers.spectral_convolution")
    m, n = 4, 12
    theirs = theirs_module.SpectralConv(2, 3, (2 * m - 1,) * dims)
    ours = SpectralConv(2, 3, m, n_dims=dims)
    weight = theirs.weight.tensor.detach()
    if dims > 1:
        weight = torch.fft.ifftshift(weight, dim=tuple(range(2, 1 + dims)))
    with torch.no_grad():
        ours.weight.copy_(torch.view_as_real(weight.movedim((0, 1), (-2, -1))))
        ours.bias.copy_(theirs.bias.flatten())
    x = torch.randn(2, 2, *(n,) * dims, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_gradients_of_the_spectral_layer():
    layer = SpectralConv(1, 2, (2, 5)).double()
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(layer, {"weight": w}, (x,)),
        (noise(1, 1, 4, 6).requires_grad_(), layer.weight),
    )


def test_the_fourier_operator(tmp_path):
    net = FourierNeuralOperator(1, 2, 6, 3, 2, padding=0.25, boundary="midpoint")
    x = torch.randn(2, 1, 16, 12)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    other = FourierNeuralOperator(1, 2, 6, 3, 2, padding=0.25, boundary="midpoint")
    other.load_state_dict(load_file(tmp_path / "net.safetensors"))
    assert torch.equal(net(x), other(x))
    periodic = FourierNeuralOperator(2, 1, 6, 4, 2, coordinates=False, n_dims=1).double()
    table = discretisation_error(periodic, band_limited(512), [64, 128])
    assert table.error.iloc[-1] < 1e-6
    rolled = periodic(torch.roll(band_limited(64), 5, -1))
    torch.testing.assert_close(rolled, torch.roll(periodic(band_limited(64)), 5, -1))


# Resampling


@pytest.mark.parametrize(("n", "m"), [(8, 16), (9, 16), (16, 8), (16, 9), (8, 13), (12, 12), (16, 6)])
def test_fourier_resampling_is_that_of_scipy(n, m):
    x = noise(2, 1, n)
    np.testing.assert_allclose(resample(x, m), scipy_resample(x.numpy(), m, axis=-1), atol=1e-12)
    plane = noise(1, 1, n, 10)
    np.testing.assert_allclose(resample(plane, (m, 10)), scipy_resample(plane.numpy(), m, axis=2), atol=1e-12)


@given(st.integers(1, 20), st.integers(0, 20), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_up_and_down_again_is_the_field(n, more, other):
    x = noise(1, 2, n, other)
    torch.testing.assert_close(resample(resample(x, (n + more, other + more)), (n, other)), x)


def test_linear_resampling_is_exact_for_straight_lines():
    line = torch.linspace(0, 1, 5).double()[None, None]
    torch.testing.assert_close(resample(line, 13, "linear", boundary="closed")[0, 0], torch.linspace(0, 1, 13).double())
    middles = ((torch.arange(8) + 0.5) / 8).double()[None, None]
    torch.testing.assert_close(
        resample(middles, 4, "linear", boundary="midpoint")[0, 0], ((torch.arange(4) + 0.5) / 4).double()
    )
    wave = torch.tensor([[[0.0, 1.0, 0.0, -1.0]]])
    assert resample(wave, 8, "linear")[0, 0].tolist() == [0, 0.5, 1, 0.5, 0, -0.5, -1, -0.5]


def test_input_output_interpolation_sees_only_its_grid():
    class Square(nn.Module):
        def forward(self, x):
            return x.square()

    wrapped = InputOutputInterpolation(Square(), 64)
    x = torch.arange(256).double() / 256
    waves = (torch.cos(80 * math.pi * x) + torch.cos(82 * math.pi * x))[None, None]
    assert wrapped(waves).abs().max() < 1e-12
    low = band_limited(256, 5)
    torch.testing.assert_close(wrapped(low), low.square())
    pooled = InputOutputInterpolation(nn.AvgPool1d(2), 64)
    assert pooled(low).shape == (1, 2, 128)
    with pytest.raises(InputError, match="cannot be reduced"):
        pooled(low[..., :63])


# Points told twice, and their order


def everything_that_sums():
    torch.manual_seed(0)
    line = Discretisation(torch.rand(24, 1).double(), torch.rand(24).double() + 0.2)
    u = noise(2, 24, 6)
    queries = torch.rand(5, 1).double()
    asked = noise(2, 5, 6)
    attention = QuadratureAttention(6, 2).double()
    linear = QuadratureAttention(6, 2, kind="linear").double()
    rotary = QuadratureAttention(6, 1, rotary=0.3).double()
    integrals = {
        kind: IntegralTransform(6, 3, 1, kind, radius=0.3 if kind == "ball" else None).double()
        for kind in ("full", "low_rank", "ball")
    }
    norm = QuadratureNorm(6, 2).double()
    yield "attention", line, u, lambda d, u: attention(asked, u, weights=d.weights)
    yield "linear attention", line, u, lambda d, u: linear(asked, u, weights=d.weights)
    yield "rotary", line, u, lambda d, u: rotary(asked, u, weights=d.weights, at=queries, context_at=d.points)
    for kind, layer in integrals.items():
        yield kind, line, u, lambda d, u, layer=layer: layer(u, d, queries)
    yield "pooling", line, u, lambda d, u: quadrature_mean(u.transpose(1, 2), d.weights)
    yield "norm", line, u, lambda d, u: norm(u.transpose(1, 2), d.weights)[..., :: len(d.points) // 24]
    yield "loss", line, u, lambda d, u: relative_l2_loss(u.transpose(1, 2), u.transpose(1, 2).sin(), weights=d.weights)


@pytest.mark.parametrize("case", list(everything_that_sums()), ids=lambda case: case[0])
def test_points_told_twice_with_half_the_weight_change_nothing(case):
    _, line, u, layer = case
    torch.testing.assert_close(layer(line.repeated(), u.repeat_interleave(2, 1)), layer(line, u), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", [c for c in everything_that_sums() if c[0] not in ("norm",)], ids=lambda case: case[0])
def test_order_of_points_does_not_matter(case):
    _, line, u, layer = case
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        layer(Discretisation(line.points[order], line.weights[order]), u[:, order]), layer(line, u)
    )


def test_permuted_points_give_permuted_answers():
    layer, x, w = QuadratureAttention(6, 2).double(), noise(2, 9, 6), torch.rand(9).double()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(layer(x[:, order], weights=w[order]), layer(x, weights=w)[:, order])


# Integrals


def test_the_exponential_kernel_converges_with_order_two():
    layer = IntegralTransform(1, 1, 1, kernel=lambda x, y: torch.exp(-(x - y).abs().sum(-1)))
    x = torch.linspace(0, 1, 9).double()[:, None]
    exact = 2 - torch.exp(-x) - torch.exp(-(1 - x))
    errors = []
    for n in (17, 33, 65):
        line = Discretisation.grid(Axis.uniform("x", n))
        errors.append((layer(torch.ones(1, n, 1).double(), line, x)[0] - exact).abs().max().item())
    assert 3.8 < errors[0] / errors[1] < 4.2
    assert 3.8 < errors[1] / errors[2] < 4.2


def test_a_ball_is_a_full_kernel_with_a_window():
    torch.manual_seed(0)
    ball = IntegralTransform(2, 3, 2, "ball", radius=0.4).double()
    square = Discretisation.grid(*(Axis.uniform(a, 6, boundary="periodic") for a in "yx"))
    u = noise(2, 36, 2)
    away = square.to(u).differences(square.to(u).points).square().sum(-1).T / 0.16  # (query, point)
    assert away.max() <= 0.5 / 0.16 + 1e-6  # the shorter way round
    full = IntegralTransform(2, 3, 2).double()
    full.net = ball.net
    at = square.to(u).points
    pair = torch.cat(torch.broadcast_tensors(at[:, None], at[None]), -1)
    kernel = full.net(pair).unflatten(-1, (3, 2)) * (1 - away).clamp(min=0).square()[..., None, None]
    expected = torch.einsum("qpoi,bpi->bqo", kernel, u * square.to(u).weights[:, None])
    torch.testing.assert_close(ball(u, square), expected)


def test_integrals_on_scattered_points_approach_those_on_a_fine_grid():
    torch.manual_seed(0)
    layer = IntegralTransform(1, 1, 2, "low_rank").double()
    rng = np.random.default_rng(0)

    def answer(d):
        u = torch.sin(3 * d.points[:, :1]) * torch.cos(2 * d.points[:, 1:])
        return layer(u[None].double(), d, torch.tensor([[0.3, 0.6]])).item()

    exact = answer(Discretisation.grid(*(Axis.uniform(a, 200, boundary="midpoint") for a in "yx")))
    scattered = [answer(Discretisation.scattered(rng.random((n, 2)), [(0, 1), (0, 1)])) for n in (50, 800)]
    assert abs(scattered[1] - exact) < 0.005 * abs(exact)
    assert abs(scattered[1] - exact) < abs(scattered[0] - exact)


def test_voronoi_cells_fill_the_box():
    points = np.random.default_rng(1).random((40, 2)) * [2, 3]
    assert Discretisation.scattered(points, [(0, 2), (0, 3)]).measure == pytest.approx(6, rel=1e-6)
    cube = Discretisation.scattered(np.random.default_rng(1).random((30, 3)), [(0, 1)] * 3)
    assert cube.measure == pytest.approx(1, rel=1e-5)
    grid = Discretisation.grid(*(Axis.uniform(a, 4, boundary="midpoint") for a in "yx"))
    cells = Discretisation.scattered(grid.points.numpy(), [(0, 1), (0, 1)])
    torch.testing.assert_close(cells.weights, grid.weights)
    assert quad(lambda x: x, 0, 1)[0] == pytest.approx(
        float(
            Discretisation.scattered(np.linspace(0, 1, 50)[:, None], [(0, 1)]).weights.double()
            @ torch.linspace(0, 1, 50).double()
        ),
        rel=1e-6,
    )


# Local kernels


def test_hats_keep_their_sum_on_every_grid():
    nodes = torch.arange(9.0) - 4
    for ratio in (0.125, 0.3, 0.5, 1.0, 1.7, 2.0, 5.0):
        first, shares = hat_taps(nodes, ratio)
        torch.testing.assert_close(shares.sum(0), torch.ones(9).double())
        assert shares.min() >= 0
        assert first <= -4 / ratio + 1e-9
    assert torch.equal(hat_taps(nodes, 1.0)[1], torch.eye(9).double())
    assert hat_taps(nodes, 1.0)[0] == -4


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_on_the_spacing_of_its_peaks_it_is_torch_s_convolution(dims):
    n = 12
    layer = LocalIntegralConv(2, 3, radius=3 / n, basis=5, n_dims=dims).double()
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims](2, 3, 5, padding=2, padding_mode="circular").double()
    conv.load_state_dict(layer.state_dict())
    x = noise(2, 2, *(n,) * dims)
    torch.testing.assert_close(layer(x), conv(x))


@pytest.mark.parametrize(("basis", "dims"), [(5, 1), (3, 2), ((2, 4), 2), ((3, 5), 2)])
def test_local_integrals_converge(basis, dims):
    torch.manual_seed(0)
    layer = LocalIntegralConv(2, 2, radius=0.2, basis=basis, n_dims=dims).double()
    table = discretisation_error(layer, band_limited(128 if dims == 2 else 1024, 3, dims), [16, 32, 64])
    assert table.error.iloc[-1] < 0.02
    assert table.attrs["order"] > 1


def test_a_constant_field_gives_the_sum_of_the_weights():
    for basis in (4, (3, 4)):
        layer = LocalIntegralConv(1, 1, radius=0.3, basis=basis, n_dims=2, bias=False).double()
        for n in (16, 23, 40):
            y = layer(torch.ones(1, 1, n, n).double())
            torch.testing.assert_close(y, layer.weight.sum().expand_as(y))


def test_a_disc_is_the_same_turned_by_a_right_angle():
    layer = LocalIntegralConv(1, 1, radius=0.2, basis=(2, 4), n_dims=2).double()
    turned = copy.deepcopy(layer)
    with torch.no_grad():
        turned.weight[..., 1:] = torch.roll(layer.weight[..., 1:], 1, -1)
    x = noise(1, 1, 24, 24)
    # Angle 0 points along x and grows towards y; rot90 with k=-1 turns x to y.
    torch.testing.assert_close(
        torch.rot90(layer(x), -1, (2, 3)).roll((0, 0), (2, 3)), turned(torch.rot90(x, -1, (2, 3)))
    )


def test_a_stencil_converges_to_a_derivative():
    layer = DifferentialConv(1, 1).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[-0.3, 0.1, 0.5]]]))
    errors = []
    for n in (32, 64, 128, 256):
        x = 2 * math.pi * torch.arange(n).double() / n
        errors.append((layer(torch.sin(x)[None, None])[0, 0] - 1.6 * math.pi * torch.cos(x)).abs().max().item())
    np.testing.assert_allclose(errors, [0.0322, 0.00807, 0.00202, 0.0005], rtol=0.02)
    assert layer(torch.ones(1, 1, 50).double()).abs().max() < 1e-12


# Attention, norm, embeddings


def test_equal_weights_are_torch_s_attention():
    layer = QuadratureAttention(8, 2)
    x = torch.randn(3, 10, 8)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.query.weight, layer.key.weight, layer.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([layer.query.bias, layer.key.bias, layer.value.bias]))
        theirs.out_proj.load_state_dict(layer.out.state_dict())
    for weights in (None, torch.full((10,), 0.1), torch.full((3, 10), 7.0)):
        torch.testing.assert_close(layer(x, weights=weights), theirs(x, x, x)[0], rtol=1e-6, atol=1e-6)


def test_a_point_of_weight_zero_is_not_there():
    for kind in ("softmax", "linear"):
        layer = QuadratureAttention(4, kind=kind).double()
        x, w = noise(1, 6, 4), torch.tensor([1.0, 2, 0, 1, 0, 3]).double()
        kept = w > 0
        torch.testing.assert_close(layer(x, weights=w)[:, kept], layer(x[:, kept], weights=w[kept]))


def test_linear_attention_by_its_definition():
    layer, x, w = QuadratureAttention(4, kind="linear").double(), noise(1, 6, 4), torch.rand(6).double()
    q, k, v = (nn.functional.elu(layer.query(x)) + 1, nn.functional.elu(layer.key(x)) + 1, layer.value(x))
    scores = (q @ k.transpose(1, 2)) * w
    torch.testing.assert_close(layer(x, weights=w), layer.out(scores @ v / scores.sum(-1, keepdim=True)))


def test_rotary_attention_knows_differences_only():
    layer, x, at = QuadratureAttention(8, 2, rotary=0.5).double(), noise(1, 7, 8), torch.rand(7, 2).double()
    torch.testing.assert_close(layer(x, at=at), layer(x, at=at + 0.37))
    assert (layer(x, at=at) - layer(x, at=2 * at)).abs().max() > 1e-4
    with pytest.raises(InputError, match="coordinates"):
        layer(x)


def test_norms_are_torch_s_where_points_count_alike():
    x = torch.randn(3, 6, 5, 4)
    torch.testing.assert_close(QuadratureNorm(6)(x), nn.InstanceNorm2d(6)(x))
    torch.testing.assert_close(QuadratureNorm(6, 2)(x, torch.full((5, 4), 0.3)), nn.GroupNorm(2, 6)(x))
    w = torch.rand(5, 4)
    y = QuadratureNorm(6, affine=False)(x, w).flatten(2)
    share = w.flatten() / w.sum()
    torch.testing.assert_close(y @ share, torch.zeros(3, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.square() @ share, torch.ones(3, 6), atol=1e-3, rtol=0)


def test_patches_are_integrals():
    embed = PatchIntegral(2, 3, 4, order=2).double()
    errors = [
        (embed(band_limited(n, 3, 2).roll(n // 16, 2)) - embed(band_limited(256, 3, 2).roll(16, 2))).abs().max()
        for n in (32, 64)
    ]
    assert errors[1] < errors[0]
    with torch.no_grad():
        embed.weight[..., 1:, :] = 0
        embed.weight[..., :, 1:] = 0
    x = noise(1, 2, 16, 16)
    means = nn.functional.avg_pool2d(x, 4).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(x), means @ embed.weight[:, :, 0, 0].T)


def test_fourier_features():
    at = torch.tensor([[0.25, 0.5]])
    torch.testing.assert_close(FourierFeatures(2, 1)(at), torch.tensor([[0.0, -1.0, 1.0, 0.0]]), atol=1e-6, rtol=0)
    random = FourierFeatures(2, 5, random=2.0, seed=3)
    assert torch.equal(random.matrix, FourierFeatures(2, 5, random=2.0, seed=3).matrix)


def test_mixed_batches_show_the_same_functions():
    x = noise(30, 1, 32, 32)
    batches = MixedResolution(x, 3 * x, [8, 16, 32], batch=2)
    seen, g = set(), torch.Generator().manual_seed(0)
    for _ in range(20):
        a, b = batches(g)
        torch.testing.assert_close(3 * a, b)
        seen.add((len(a), a.shape[-1]))
    assert seen == {(2, 32), (8, 16), (30, 8)}


# The test of convergence


def test_the_definition_is_tested():
    field = band_limited(512, 3)
    shallow = SpectralConv(2, 2, 4).double()
    found = is_discretisation_agnostic(shallow, field, [16, 32])
    assert found
    assert math.isnan(found.order)  # exact
    attention = QuadratureAttention(2).double()
    found = is_discretisation_agnostic(attention, field.transpose(1, 2), [16, 32, 64], points_axis=1)
    assert found
    assert found.repeated < 1e-6

    class AtTheOutput(QuadratureAttention):
        def forward(self, x, weights=None):
            return super().forward(x) * (1 if weights is None else weights[:, None])

    found = is_discretisation_agnostic(AtTheOutput(2).double(), field.transpose(1, 2), [16, 32, 64], points_axis=1)
    assert not found
    assert "twice" in found.reason

    class Plain(QuadratureAttention):
        def forward(self, x, weights=None):
            return super().forward(x)

    assert not is_discretisation_agnostic(Plain(2).double(), field.transpose(1, 2), [16, 32, 64], points_axis=1)
    table = nn.Sequential(nn.Flatten(), nn.Linear(32, 1)).double()
    found = is_discretisation_agnostic(table, field, [16, 32])
    assert not found
    assert "not accepted" in found.reason


def test_errors_grow_where_a_stencil_forgets_the_spacing():
    conv = nn.Conv1d(2, 1, 3, padding=1, padding_mode="circular", bias=False).double()

    class Blown(nn.Module):
        def forward(self, x):
            return conv(x) * x.shape[-1]

    table = discretisation_error(Blown(), band_limited(512, 3), [32, 64, 128])
    assert table.attrs["order"] < 0.5
    assert not is_discretisation_agnostic(Blown(), band_limited(512, 3), [32, 64, 128])


@pytest.mark.parametrize(
    ("sizes", "field", "boundary", "match"),
    [
        ([16], band_limited(64), "periodic", "two different"),
        ([16, 48], band_limited(64), "periodic", "subsampled"),
        ([16, 32], band_limited(64), "closed", "must divide 63"),
        ([16, 32], band_limited(64) * math.nan, "periodic", "NaN"),
        ([16, 32], band_limited(64)[0], "periodic", "allowed"),
        ([16, 32], band_limited(64), "open", "allowed"),
    ],
)
def test_fields_and_sizes_that_cannot_be_compared(sizes, field, boundary, match):
    with pytest.raises(InputError, match=match):
        discretisation_error(nn.Identity(), field, sizes, boundary=boundary)


# What is refused


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SpectralConv(2, 2, 3)(torch.randn(2, 3, 8)), "2 channels"),
        (lambda: SpectralConv(2, 2, 3)(torch.randn(2, 2, 8, 8)), "given a tensor of shape"),
        (lambda: SpectralConv(2, 2, 3)(torch.ones(2, 2, 8).int()), "float"),
        (lambda: SpectralConv(2, 2, (3, 0)), "modes"),
        (lambda: FourierNeuralOperator(1, 1, 4, 2, 1, padding=-1), "padding"),
        (lambda: LocalIntegralConv(1, 1, 0.7), "half the domain"),
        (lambda: LocalIntegralConv(1, 1, 0.1)(torch.randn(1, 1, 1)), "without neighbours"),
        (lambda: LocalIntegralConv(1, 1, 0.1, (2, 4)), "n_dims must be 2"),
        (lambda: LocalIntegralConv(1, 1, 0.01, (2, 4), n_dims=2)(torch.randn(1, 1, 16, 16)), "no neighbour"),
        (lambda: LocalIntegralConv(1, 1, 0.1, boundary="closed", padding_mode="circular"), "twice"),
        (lambda: DifferentialConv(1, 1, 4), "odd"),
        (lambda: DifferentialConv(1, 1, n_dims=2)(torch.randn(1, 1, 16, 8)), "differ between the axes"),
        (lambda: QuadratureAttention(6, 4), "do not divide"),
        (lambda: QuadratureAttention(6)(torch.randn(1, 5, 6), weights=torch.ones(4)), "weights"),
        (lambda: QuadratureNorm(6, 4), "divide"),
        (lambda: QuadratureNorm(2)(torch.randn(1, 2, 5), torch.ones(4)), "4 quadrature weights"),
        (lambda: PatchIntegral(1, 2, 4)(torch.randn(1, 1, 30, 32)), "not divisible"),
        (lambda: IntegralTransform(1, 1, 1, "ball"), "radius"),
        (
            lambda: IntegralTransform(1, 1, 1)(torch.randn(1, 3, 1), Discretisation.grid(Axis.uniform("x", 4))),
            "4 points",
        ),
        (lambda: Discretisation.scattered([[0.1], [0.1]], [(0, 1)]), "twice"),
        (lambda: Discretisation.scattered([[1.5]], [(0, 1)]), "outside"),
        (lambda: Discretisation(torch.zeros(2, 1), torch.tensor([1.0, -1.0])), "negative"),
        (lambda: Discretisation(torch.zeros(2, 1), torch.tensor([1.0, math.nan])), "finite"),
        (lambda: resample(torch.randn(1, 1, 8), 4, boundary="closed"), "linear"),
        (lambda: resample(torch.full((1, 1, 8), math.nan), 4), "NaN"),
        (lambda: MixedResolution(torch.randn(3, 1, 8), torch.randn(3, 1, 8), [3]), "divide 8"),
        (lambda: to_neural_operator(nn.Conv1d(1, 1, 3), [1]), "without neighbours"),
    ],
)
def test_what_is_refused(make, match):
    with pytest.raises(InputError, match=match):
        make()


def test_names_that_do_not_exist():
    with pytest.raises(UnknownNameError, match="linear"):
        resample(torch.randn(1, 1, 8), 4, "liner")
    with pytest.raises(UnknownNameError, match="low_rank"):
        IntegralTransform(1, 1, 1, "lowrank")


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.25])
@pytest.mark.parametrize(("shift", "stride", "apart"), [(0.0, 1, 1), (0.0, 1, 3), (-0.5, 2, 1), (-0.5, 2, 2)])
@pytest.mark.parametrize("narrow", [False, True])
def test_one_hat_and_a_dilated_convolution_is_the_kernel_itself(ratio, shift, stride, apart, narrow):
    nodes = torch.arange(4).double() * apart - 2 + shift
    weight, x = noise(3, 2, 4), noise(1, 2, 40)
    first, shares = hat_taps(nodes, ratio, shift, narrow=narrow)
    direct = convolve(x, read_kernel(weight, [shares]), [first], [40 // stride], stride=(stride,), mode="reflect")
    fast = hat_convolve(
        x, weight, [nodes], [ratio], [40 // stride], shifts=[shift], stride=(stride,), mode="reflect", narrow=narrow
    )
    torch.testing.assert_close(fast, direct)


def test_the_fourier_operator_is_compiled_and_runs_under_autocast():
    net = FourierNeuralOperator(1, 1, 4, 3, 2)
    x = torch.randn(1, 1, 8, 8)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="eager")
    torch.testing.assert_close(compiled(x), net(x))
    with torch.autocast("cpu", torch.bfloat16):
        halves = net(x)
    torch.testing.assert_close(halves.float(), net(x), rtol=0.05, atol=0.05)
    layer, field = SpectralConv(2, 2, 3), torch.randn(1, 2, 8)
    exact = layer(field)
    torch.testing.assert_close(layer.bfloat16()(field.bfloat16()).float(), exact, rtol=0.05, atol=0.05)


def test_a_closed_local_integral_counts_its_ends_by_half() -> None:
    layer = LocalIntegralConv(1, 1, 0.3, 5, boundary="closed", bias=False).double()

    def at(n: int) -> torch.Tensor:
        x = torch.linspace(0, 1, n, dtype=torch.float64)
        with torch.no_grad():
            return layer(torch.sin(3 * x)[None, None])[0, 0]

    truth = at(2049)
    errors = [float((at(n) - truth[:: 2048 // (n - 1)]).abs().max()) for n in (65, 257)]
    assert errors[0] / errors[1] > 10  # second order would be 16, first order 4


def test_one_size_alone_is_refused() -> None:
    from nissl.evaluation.discretisation import discretisation_error

    with pytest.raises(InputError, match="at least two sizes"):
        discretisation_error(nn.Identity(), torch.randn(1, 1, 64), 16)
