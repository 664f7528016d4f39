"""Quadratic layers: the algebra, torch's own layers, conversion, training, reading, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, hessian, jacrev, jvp, vmap
from torch.nn.functional import conv2d, linear, unfold

from nissl.errors import InputError, ModelError, UnknownNameError
from nissl.learning import train
from nissl.nn.quadratic import (
    QuadraticConv2d,
    QuadraticLinear,
    ReLinearShrink,
    _combine,
    energy_filters,
    largest_preactivation,
    quadratic_form,
    quadratic_resnet,
    quadraticize,
    relinear_parameter_groups,
)

DOUBLE = torch.float64
GEOMETRIES = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": "same", "dilation": 2},
    {"padding": "valid"},
    {"kernel_size": (2, 4), "padding": "same"},  # unequal sides
    {"padding": (2, 1), "padding_mode": "reflect"},
    {"padding": 1, "padding_mode": "circular", "groups": 2},
    {"groups": 4, "bias": False},
    {"kernel_size": 1, "stride": (2, 1)},
]


def dense(d: int = 5, o: int = 3, seed: int = 0, **options) -> QuadraticLinear:
    torch.manual_seed(seed)
    return QuadraticLinear(d, o, **{"init": "random", "dtype": DOUBLE, **options})


def convolution(seed: int = 0, **options) -> QuadraticConv2d:
    torch.manual_seed(seed)
    options = {"kernel_size": 3, "init": "random", "dtype": DOUBLE, **options}
    return QuadraticConv2d(4, 8, options.pop("kernel_size"), **options)


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# --- the algebra ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"compact": True}, {"compact": True, "bias": False}])
def test_the_form_is_half_the_hessian_and_gives_the_layer(options: dict) -> None:
    layer, x = dense(**options), numbers(7, 5)
    form = quadratic_form(layer)
    for unit in range(3):
        half = hessian(lambda v, unit=unit: layer(v)[unit])(x[0]) / 2
        assert np.abs(half.detach().numpy() - form["A"].values[unit]).max() < 1e-10
    A, a, a0 = (torch.as_tensor(form[name].values) for name in ("A", "a", "a0"))
    h = torch.einsum("ni,uij,nj->nu", x, A, x) + x @ a.T + a0
    assert (h - layer(x)).abs().max() < 1e-10
    assert torch.equal(A, A.mT)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10_000), st.floats(0.1, 10))
def test_scale_and_exchange_of_r_and_g_change_nothing(d: int, seed: int, scale: float) -> None:
    layer, x = dense(d, 2, seed), numbers(4, d, seed=seed)
    scaled, swapped = copy.deepcopy(layer), copy.deepcopy(layer)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(scaled, f"{name}_r").mul_(scale)
            getattr(scaled, f"{name}_g").div_(scale)
            getattr(swapped, f"{name}_r").copy_(getattr(layer, f"{name}_g"))
            getattr(swapped, f"{name}_g").copy_(getattr(layer, f"{name}_r"))
    assert torch.allclose(scaled(x), layer(x), rtol=1e-10, atol=1e-10)
    assert torch.allclose(swapped(x), layer(x), rtol=1e-10, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 9), st.integers(0, 10_000))
def test_without_its_diagonal_the_form_has_rank_two(d: int, seed: int) -> None:
    layer = dense(d, 2, seed)
    rest = quadratic_form(layer)["A"].values - np.stack([np.diag(w) for w in layer.weight_b.detach().numpy()])
    singular = np.linalg.svd(rest, compute_uv=False)
    assert (singular[:, 2:] < 1e-12 * singular[:, :1]).all()


def test_relinear_begins_as_the_conventional_layer_exactly() -> None:
    layer, x = dense(init="relinear"), numbers(9, 5)
    assert torch.equal(layer(x), linear(x, layer.weight_r, layer.bias_r))
    pictures, other = numbers(2, 4, 9, 9), convolution(init="relinear", padding=1)
    assert torch.equal(other(pictures), conv2d(pictures, other.weight_r, other.bias_r, padding=1))
    spread = QuadraticLinear(400, 400).weight_r.std().item()
    assert spread == pytest.approx((2 / 400) ** 0.5, rel=0.02)


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("options", GEOMETRIES)
def test_a_convolution_is_three_of_torchs(options: dict, by_hand: bool, monkeypatch) -> None:
    monkeypatch.setattr(_combine, "_is_ordinary", lambda x: by_hand)
    layer, x = convolution(**options), numbers(2, 4, 9, 8).requires_grad_()
    maps = []
    for name in "rgb":
        own = nn.Conv2d(4, 8, **{"kernel_size": 3, "dtype": DOUBLE, **options, "bias": True})
        bias = getattr(layer, f"bias_{name}")
        own.load_state_dict(
            {"weight": getattr(layer, f"weight_{name}"), "bias": torch.zeros(8) if bias is None else bias}
        )
        maps.append(own)
    theirs = maps[0](x) * maps[1](x) + maps[2](x * x)
    ours = layer(x)
    assert (ours - theirs).abs().max() < 1e-12
    direction = numbers(*ours.shape, seed=5)
    (found,) = torch.autograd.grad(ours, x, direction)
    (wanted,) = torch.autograd.grad(theirs, x, direction)
    assert (found - wanted).abs().max() < 1e-10


def test_a_kernel_of_one_is_a_dense_layer_at_each_pixel_and_a_larger_one_at_each_patch() -> None:
    x = numbers(2, 4, 6, 5)
    for size in (1, 3):
        layer = convolution(kernel_size=size)
        same = dense(4 * size**2, 8)
        with torch.no_grad():
            for (_, mine), (_, theirs) in zip(same.named_parameters(), layer.named_parameters(), strict=True):
                mine.copy_(theirs.reshape(mine.shape))
        patches = unfold(x, size).mT
        assert (layer(x).flatten(2).mT - same(patches)).abs().max() < 1e-12


@pytest.mark.parametrize("make", [dense, lambda: dense(compact=True), lambda: dense(bias=False)])
def test_gradients_by_hand(make) -> None:
    layer, x = make(), numbers(3, 2, 5).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    given = (x, *(p.detach().requires_grad_() for p in layer.parameters()))
    assert gradcheck(call, given)
    assert gradgradcheck(call, given)


@pytest.mark.parametrize("padding", [0, 1, (2, 0)])
def test_gradients_by_hand_of_a_convolution(padding) -> None:
    layer, x = (
        QuadraticConv2d(2, 4, 2, stride=2, padding=padding, groups=2, init="random", dtype=DOUBLE),
        numbers(2, 2, 4, 4),
    )
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, *weights: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, weights, strict=True)), (x,))

    given = (x.requires_grad_(), *(p.detach().requires_grad_() for p in layer.parameters()))
    assert gradcheck(call, given)
    assert gradgradcheck(call, given, nondet_tol=1e-12)


def test_function_transforms_and_forward_derivatives() -> None:
    layer, x = dense(), numbers(4, 5)
    weights = {name: p.detach() for name, p in layer.named_parameters()}
    each = vmap(jacrev(lambda w, v: functional_call(layer, w, (v,))), (None, 0))(weights, x)
    assert each["weight_b"].shape == (4, 3, 3, 5)
    assert torch.allclose(each["weight_b"][2].diagonal(dim1=0, dim2=1).T, (x[2] ** 2).expand(3, 5))
    v = numbers(4, 5, seed=3)
    value, slope = jvp(layer, (x,), (v,))
    step = 1e-6
    assert torch.allclose(slope, (layer(x + step * v) - layer(x - step * v)) / (2 * step), atol=1e-6)
    assert torch.allclose(value, layer(x))


def test_no_square_is_kept_for_the_backward_pass() -> None:
    layer, x = QuadraticLinear(64, 64), torch.randn(32, 64, requires_grad=True)
    kept: set[int] = set()

    def pack(t: Tensor) -> Tensor:
        if t.shape == (32, 64):
            kept.add(t.untyped_storage().data_ptr())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        h = layer(x)
    assert len(kept) == 3  # x, r and g
    h.sum().backward()
    assert x.grad is not None


def test_autocast_compile_and_files(tmp_path) -> None:
    layer, x = QuadraticLinear(6, 4, init="random"), torch.randn(3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    torch._dynamo.reset()
    assert torch.allclose(torch.compile(layer, backend="eager")(x), layer(x), atol=1e-6)
    save_model(layer, str(tmp_path / "layer.safetensors"))
    other = QuadraticLinear(6, 4)
    load_model(other, tmp_path / "layer.safetensors")
    assert torch.equal(other(x), layer(x))
    assert layer.double()(x.double()).dtype == DOUBLE


# --- conversion -------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Something of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding="same", padding_mode="reflect")
        self.shared = nn.Linear(6, 6, bias=False)
        self.again = self.shared
        self.up = nn.ConvTranspose2d(6, 6, 2)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        z = self.up(self.conv(x).relu()).mean(3).mT
        z = self.again(torch.tanh(self.shared(z)))
        return self.head(self.attention(z, z, z)[0])


def test_conversion_changes_no_output_and_not_the_original() -> None:
    torch.manual_seed(0)
    net, x = Net().eval(), torch.randn(2, 3, 5, 5)
    state = torch.get_rng_state()
    found = quadraticize(net)
    assert torch.equal(state, torch.get_rng_state())
    assert (found(x) - net(x)).abs().max() <= 1e-6
    assert isinstance(net.conv, nn.Conv2d)
    assert found.shared is found.again
    kinds = {
        path: type(m).__name__ for path, m in found.named_modules() if isinstance(m, QuadraticLinear | QuadraticConv2d)
    }
    assert kinds == {"conv": "QuadraticConv2d", "shared": "QuadraticLinear", "head": "QuadraticLinear"}
    assert type(found.attention.out_proj) is type(net.attention.out_proj)
    assert not found.conv.training
    twice = quadraticize(found)
    assert (twice(x) - net(x)).abs().max() <= 1e-6
    assert {p: type(m) for p, m in twice.named_modules()} == {p: type(m) for p, m in found.named_modules()}


def test_layers_are_chosen_by_name_and_a_shared_one_stays_shared() -> None:
    found = quadraticize(Net(), ["ag*", "head"], compact=True)
    assert found.shared is found.again
    assert isinstance(found.shared, QuadraticLinear)
    assert found.shared.compact
    assert isinstance(found.conv, nn.Conv2d)
    assert isinstance(quadraticize(nn.Linear(3, 2)), QuadraticLinear)
    assert isinstance(quadraticize(QuadraticLinear(3, 2)), QuadraticLinear)


def test_tied_weights_stay_tied_and_frozen_ones_frozen() -> None:
    net = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7, bias=False), nn.Linear(7, 2))
    net[1].weight = net[0].weight
    net[2].requires_grad_(False)
    found = quadraticize(net)
    assert found[1].weight_r is found[0].weight
    assert not any(p.requires_grad for p in found[2].parameters())


def test_the_fused_inference_of_transformer_layers_is_not_taken() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.TransformerEncoder(layer, 2).eval()
    x, mask = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    found = quadraticize(net)
    with torch.no_grad():
        assert (found(x) - net(x)).abs().max() < 1e-5
        padded = found(x, src_key_padding_mask=mask) - net(x, src_key_padding_mask=mask)
        assert padded[~mask].abs().max() < 1e-5
        found.layers[0].linear1.bias_g.add_(1.0)
        assert (found(x) - net(x)).abs().max() > 1e-3  # the quadratic layer is called


def test_conv1d_of_hugging_face() -> None:
    from transformers.pytorch_utils import Conv1D

    net, x = nn.Sequential(Conv1D(6, 4), nn.GELU(), Conv1D(2, 6)), torch.randn(3, 5, 4)
    found = quadraticize(net, "0")
    assert (found[0].in_features, found[0].out_features) == (4, 6)
    assert (found(x) - net(x)).abs().max() < 1e-6


def test_what_cannot_be_converted_is_named() -> None:
    net = Net()
    with pytest.raises(UnknownNameError, match=r"nearest: .*'head'"):
        quadraticize(net, "haed")
    with pytest.raises(ModelError, match=r"ConvTranspose2d.*those that can: again, conv, head, shared"):
        quadraticize(net, "up")
    with pytest.raises(ModelError, match="NonDynamicallyQuantizableLinear"):
        quadraticize(net, "attention.*")
    with pytest.raises(ModelError, match=r"no torch.nn.Linear"):
        quadraticize(nn.Sequential(nn.ReLU()))
    with pytest.raises(ModelError, match="cannot be quadratic"):
        quadraticize(nn.ReLU())
    with pytest.raises(InputError, match="int"):
        quadraticize(3)  # type: ignore[arg-type]
    with torch.no_grad():
        net.head.weight[0, 0] = torch.nan
    for layers in ("head", "*", None):
        with pytest.raises(ModelError, match="'head' cannot be quadratic: its weights are NaN"):
            quadraticize(net, layers)
    with pytest.raises(UnknownNameError, match="itself one layer"):
        quadraticize(nn.Linear(2, 2), "head")
    hooked = nn.Sequential(nn.Linear(2, 2))
    hooked[0].register_forward_hook(lambda *_: None)
    with pytest.raises(ModelError, match="hooks"):
        quadraticize(hooked, "0")
    with pytest.raises(ModelError, match="Parametrized"):
        quadraticize(nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), "0")


# --- training ---------------------------------------------------------------------------------------------------------


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        QuadraticLinear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), QuadraticLinear(6, 6, compact=True), nn.Linear(6, 2)
    )


def test_groups_hold_every_parameter_once() -> None:
    model = small()
    model.append(model[0])  # the same layer in a second place
    groups = relinear_parameter_groups(model, 0.1, 0.01, 0.001, weight_decay=1e-4)
    assert [g["name"] for g in groups] == ["ordinary", "g", "b_g", "b"]
    assert [g["lr"] for g in groups] == pytest.approx([0.1, 1e-3, 1e-3, 1e-4])
    assert [g["weight_decay"] for g in groups] == [1e-4, 1e-4, 0.0, 1e-4]
    ids = [id(p) for g in groups for p in g["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    assert {id(p) for p in groups[3]["params"]} == {id(p) for m in (model[0], model[3]) for p in (m.weight_b, m.bias_b)}
    for optimiser in (torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop):
        optimiser(groups)
    model[0].requires_grad_(False)
    assert [g["name"] for g in relinear_parameter_groups(model, 0.1)] == ["ordinary", "b"]


def test_gamma_zero_trains_the_conventional_network() -> None:
    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(16, 4, generator=generator)
        return x, (x[:, 0] * x[:, 1] > 0).long()

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    for gamma in (0.0, 0.5):
        theirs, ours = copy.deepcopy(plain), quadraticize(plain)
        options = {"steps": 40, "lr": 0.1, "schedule": "cosine", "progress": False}
        train(theirs, batch, loss, optimiser=torch.optim.SGD, **options)
        grouped = lambda p, lr: torch.optim.SGD(relinear_parameter_groups(ours, lr, gamma, gamma))  # noqa: B023, E731
        train(ours, batch, loss, optimiser=grouped, **options)
        apart = (ours[0].weight_r - theirs[0].weight).abs().max()
        assert apart < 1e-6 if gamma == 0 else apart > 1e-3
        assert torch.equal(ours[0].bias_g, torch.ones(8)) == (gamma == 0)


def test_shrinking_by_hand() -> None:
    layer = dense(2, 1)
    values = {"weight_g": [[0.5, -0.2]], "bias_g": [1.4], "weight_b": [[-0.3, 0.05]], "bias_b": [1.0]}
    with torch.no_grad():
        for name, value in values.items():
            getattr(layer, name).copy_(torch.tensor(value))
    before = layer.weight_r.clone()
    ReLinearShrink(layer, alpha=(0.5, 0.0), beta=(0.0, 0.1)).step()
    wanted = {"weight_g": [[0.25, -0.1]], "bias_g": [1.2], "weight_b": [[-0.2, 0.0]], "bias_b": [0.9]}
    for name, value in wanted.items():
        assert torch.allclose(getattr(layer, name), torch.tensor(value, dtype=DOUBLE)), name
    assert torch.equal(layer.weight_r, before)


def test_shrinking_after_each_step_of_training() -> None:
    model = small()
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    shrink = ReLinearShrink(model, alpha=1.0)
    train(
        model,
        [(x,)],
        lambda m, x: m(x).square().mean(),
        steps=5,
        lr=0.1,
        optimiser="sgd",
        after_step=shrink,
        progress=False,
    )
    assert torch.equal(model[0].bias_g, torch.ones(6))
    assert not model[0].weight_g.any()
    assert not model[3].weight_b.any()


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"gamma_g": float("nan")}, {"weight_decay": -0.1}])
def test_rates_are_checked(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        relinear_parameter_groups(small(), **{"lr": 0.1, **wrong})
    with pytest.raises(ModelError, match="no quadratic layer"):
        relinear_parameter_groups(nn.Linear(2, 2), 0.1)
    with pytest.raises(InputError, match=r"alpha=1\.5"):
        ReLinearShrink(small(), alpha=1.5)
    with pytest.raises(InputError, match="beta"):
        ReLinearShrink(small(), beta=(0.1, -1.0))


def test_the_residual_network() -> None:
    torch.manual_seed(0)
    net, x = quadratic_resnet(14, 7, in_channels=1, width=4), torch.randn(2, 1, 16, 16)
    assert net(x).shape == (2, 7)
    assert sum(isinstance(m, QuadraticConv2d) for m in net.modules()) == 12
    plain = quadratic_resnet(20, conventional=True)
    assert sum(p.numel() for p in plain.parameters()) == 269_722  # ResNet-20 with option A: 0.27 million
    asleep = quadratic_resnet(8, width=4, rezero=True).eval()
    inside = asleep[:3](torch.randn(2, 3, 8, 8))
    assert torch.equal(asleep[3](inside), inside)
    net(x).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    with pytest.raises(InputError, match="such as 20"):
        quadratic_resnet(21)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_planted_energy_filter_is_found() -> None:
    """r and g that look at one grating make a unit that answers to its energy."""
    wave = np.sin(np.arange(16) * np.pi / 4) / np.sqrt(8)
    layer = dense(16, 2, init="relinear")
    with torch.no_grad():
        layer.weight_r[0] = layer.weight_g[0] = torch.as_tensor(wave)  # + (wave·x)²
        layer.weight_r[1], layer.weight_g[1] = torch.as_tensor(wave), torch.as_tensor(-3 * wave)
    up, down = energy_filters(layer, 0), energy_filters(layer, 1)
    assert up.kind.values.tolist() == ["excitatory"]
    assert down.kind.values.tolist() == ["suppressive"]
    assert up.eigenvalue.values == pytest.approx([1.0])
    assert down.eigenvalue.values == pytest.approx([-3.0])
    assert abs(up.values[0] @ wave) == pytest.approx(1.0)


def test_filters_of_a_convolution_have_its_axes() -> None:
    layer = convolution(groups=2)
    filters = energy_filters(layer, 3, k=2)
    assert filters.dims == ("component", "channel", "y", "x")
    assert filters.shape == (4, 2, 3, 3)
    form = quadratic_form(layer, [3]).isel(unit=0)
    flat = filters.values.reshape(4, -1)
    assert np.allclose(form["A"].values @ flat.T, flat.T * filters.eigenvalue.values)
    assert form.channel.values[9:].tolist() == [1] * 9
    strongest = np.abs(np.linalg.eigvalsh(form["A"].values)).max()
    assert np.abs(filters.eigenvalue.values).max() == pytest.approx(strongest)


def test_what_cannot_be_read() -> None:
    layer = dense()
    for wrong in (7, -1, [0, 3], 1.5):
        with pytest.raises(InputError, match="units="):
            quadratic_form(layer, wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Linear given"):
        quadratic_form(nn.Linear(2, 2))
    with pytest.raises(InputError, match="k=0"):
        energy_filters(layer, 0, k=0)
    with pytest.raises(InputError, match="1 GiB"):
        quadratic_form(QuadraticLinear(4096, 4096))
    with torch.no_grad():
        layer.weight_g[0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        quadratic_form(layer)


def test_where_numbers_grow() -> None:
    model = nn.Sequential(dense(4, 4), nn.ReLU(), dense(4, 4))
    x = numbers(5, 4)
    found = largest_preactivation(model, x)
    assert found.index.tolist() == ["0", "2"]
    assert found["0"] == pytest.approx(model[0](x).abs().max().item())
    assert not np.isfinite(largest_preactivation(model, x * 1e100)["2"])
    assert (
        largest_preactivation(nn.Sequential(model[0], model[0]), x[:, :4])["0"] >= found["0"]
    )  # called twice: the larger
    assert not model[0]._forward_hooks
    with pytest.raises(ModelError, match="quadraticize"):
        largest_preactivation(nn.ReLU(), x)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_inputs_that_do_not_fit() -> None:
    layer, other = dense(), convolution()
    with pytest.raises(InputError, match=r"\(3, 4\); this layer takes \(..., 5\)"):
        layer(numbers(3, 4))
    with pytest.raises(InputError, match="floating point"):
        layer(torch.ones(3, 5, dtype=torch.long))
    with pytest.raises(InputError, match=r"float32 for weights of torch.float64"):
        layer(torch.ones(3, 5))
    for shape in ((2, 3, 9, 9), (9, 9), (1, 2, 4, 9, 9)):
        with pytest.raises(InputError, match="takes"):
            other(numbers(*shape))
    with pytest.raises(InputError, match="at least 3"):
        other(numbers(1, 4, 2, 9))
    assert other(numbers(4, 9, 9)).shape == (8, 7, 7)
    assert layer(numbers(0, 5)).shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: QuadraticLinear(0, 3), "in_features=0"),
        (lambda: QuadraticLinear(3, 2.5), "out_features=2.5"),  # type: ignore[arg-type]
        (lambda: QuadraticConv2d(3, 4, 3, groups=2), "divisible"),
        (lambda: QuadraticConv2d(3, 4, 3, padding="sme"), "sme"),
        (lambda: QuadraticConv2d(3, 4, 3, padding="same", stride=2), "strided"),
        (lambda: QuadraticConv2d(3, 4, 3, padding_mode="mirror"), "mirror"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_cannot_be(make, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()
    with pytest.raises(UnknownNameError, match="nearest: 'relinear'"):
        QuadraticLinear(2, 2, init="relinea")  # type: ignore[arg-type]


def test_what_was_frozen_stays_frozen_and_the_weight_can_be_asked_for() -> None:
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    found = {n: p.requires_grad for n, p in quadraticize(nn.Sequential(layer)).named_parameters()}
    assert {n for n, free in found.items() if free} == {"0.bias_r", "0.bias_g", "0.bias_b"}
    assert quadraticize(nn.Sequential(nn.Linear(3, 2)))[0].weight.dtype == torch.float32
