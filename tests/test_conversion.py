"""The converter: the same numbers on the training grid, one operator on all others, what stays shared, and what cannot be converted."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import max_pool1d

import nissl
from nissl.axes import Axis
from nissl.errors import InputError, UnknownNameError
from nissl.evaluation.discretisation import discretisation_error, is_discretisation_agnostic
from nissl.nn.operators import Discretisation, NeuralOperator, resample, to_neural_operator


def field(n, dims=1, boundary="midpoint", channels=1, dtype=torch.float64):
    """The same smooth function at n points an axis; periodic where the boundary is."""
    place = {
        "midpoint": (torch.arange(n) + 0.5) / n,
        "closed": torch.linspace(0, 1, n),
        "periodic": torch.arange(n) / n,
    }[boundary].to(dtype)
    wave = torch.sin(2 * math.pi * place) + 0.5 * torch.cos(4 * math.pi * place + 1)
    line = wave
    for _ in range(dims - 1):
        line = line[..., None] * (1 + wave)
    return torch.stack([line * (c + 1) for c in range(channels)])[None]


class UNet(nn.Module):
    def __init__(self, width=6, mode="zeros"):
        super().__init__()

        def block(i, o):
            conv = {"kernel_size": 3, "padding": 1, "padding_mode": mode}
            return nn.Sequential(
                nn.Conv2d(i, o, **conv), nn.GroupNorm(2, o), nn.GELU(), nn.Conv2d(o, o, **conv), nn.GELU()
            )

        self.down1, self.down2, self.pool = block(1, width), block(width, width), nn.MaxPool2d(2)
        self.middle = block(width, width)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.transposed = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.up1, self.up2, self.out = block(2 * width, width), block(2 * width, width), nn.Conv2d(width, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(self.pool(a))
        y = self.up1(torch.cat([self.transposed(self.middle(self.pool(b))), b], 1))
        return self.out(self.up2(torch.cat([self.up(y), a], 1)))


class Transformer(nn.Module):
    def __init__(self, points=32, norm_first=False, table=True):
        super().__init__()
        self.lift, self.out = nn.Linear(1, 8), nn.Linear(8, 1)
        self.places = nn.Parameter(torch.randn(1, points, 8) * 0.3) if table else None
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x):
        y = self.lift(x)
        return self.out(self.encoder(y if self.places is None else y + self.places))


def convert(net, axes, **options):
    return to_neural_operator(net.double(), axes, **options)


def replaced(report):
    return dict(zip(report.path, report["replaced by"], strict=True))


# The same numbers where it was trained, and one operator elsewhere

NETS = {
    "conv 1-d": (1, "periodic", lambda: nn.Conv1d(1, 2, 9, padding=4, padding_mode="circular")),
    "conv dilated": (1, "periodic", lambda: nn.Conv1d(1, 2, 3, padding=4, dilation=4, padding_mode="circular")),
    "conv strided": (1, "periodic", lambda: nn.Conv1d(1, 2, 4, padding=1, stride=2, padding_mode="circular")),
    "conv same": (1, "midpoint", lambda: nn.Conv1d(1, 2, 4, padding="same")),
    "conv valid": (1, "midpoint", lambda: nn.Sequential(nn.Conv1d(1, 2, 5), nn.AdaptiveAvgPool1d(1))),
    "conv reflect": (1, "closed", lambda: nn.Conv1d(1, 2, 5, padding=2, padding_mode="reflect")),
    "conv groups": (1, "midpoint", lambda: nn.Sequential(nn.Conv1d(1, 4, 1), nn.Conv1d(4, 4, 5, padding=2, groups=2))),
    "average": (1, "midpoint", lambda: nn.AvgPool1d(4)),
    "average overlapping": (1, "periodic", lambda: nn.AvgPool1d(3, stride=2, padding=1)),
    "maximum": (1, "midpoint", lambda: nn.MaxPool1d(4)),
    "maximum overlapping": (1, "closed", lambda: nn.MaxPool1d(3, stride=2, padding=1)),
    "ceiling": (1, "midpoint", lambda: nn.AvgPool1d(4, ceil_mode=True)),
    "transposed": (1, "midpoint", lambda: nn.Sequential(nn.AvgPool1d(2), nn.ConvTranspose1d(1, 1, 2, stride=2))),
    "adaptive": (1, "closed", lambda: nn.Sequential(nn.Conv1d(1, 3, 3, padding=1), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2))),
    "parts": (1, "midpoint", lambda: nn.Sequential(nn.Conv1d(1, 3, 3, padding=1), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(12, 2))),
    "fixed upsampling": (1, "midpoint", lambda: nn.Sequential(nn.AvgPool1d(2), nn.Upsample(size=32, mode="linear"))),
    "instance norm": (1, "closed", lambda: nn.Sequential(nn.Conv1d(1, 2, 1), nn.InstanceNorm1d(2, affine=True))),
    "layer norm": (1, "midpoint", lambda: nn.Sequential(nn.Conv1d(1, 2, 1), nn.LayerNorm((2, 32)))),
    "batch norm": (1, "midpoint", lambda: nn.Sequential(nn.Conv1d(1, 2, 5, padding=2), nn.BatchNorm1d(2), nn.Tanh())),
    "dense": (1, "midpoint", lambda: nn.Sequential(nn.Conv1d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))),
    "plane": (2, "periodic", lambda: nn.Sequential(nn.Conv2d(1, 3, (5, 3), padding=(2, 1), padding_mode="circular"), nn.GELU(), nn.Conv2d(3, 1, 1))),
    "volume": (3, "midpoint", lambda: nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.AvgPool3d(2))),
    "U-Net": (2, "midpoint", UNet),
    "periodic U-Net": (2, "periodic", lambda: UNet(mode="circular")),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_trained_numbers_stay_and_finer_grids_converge(name):
    dims, boundary, make = NETS[name]
    torch.manual_seed(0)
    net = make().double().eval()
    n = {1: 32, 2: 16, 3: 8}[dims] + (boundary == "closed")
    x = torch.randn(2, 1, *(n,) * dims).double()
    operator, report = convert(net, [n] * dims, boundary=boundary, dense=True, example=x)
    torch.testing.assert_close(operator(x), net(x), rtol=0, atol=1e-5)
    assert (report["replaced by"] != "").all(), report
    less = int(boundary == "closed")
    sizes = [(n - less) * k + less for k in ((1, 2, 4) if dims < 3 else (1, 2))]
    fine = (n - less) * {1: 32, 2: 8, 3: 4}[dims] + less
    table = discretisation_error(operator, field(fine, dims, boundary), sizes, boundary=boundary)
    assert table.error.iloc[-1] < 0.75 * table.error.max() or table.error.iloc[-1] < 1e-3, table
    assert table.error.iloc[0] < 0.6, table


def test_an_ordinary_network_falls_apart_where_its_operator_does_not():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv1d(1, 8, 9, padding=4, padding_mode="circular"),
        nn.GELU(),
        nn.Conv1d(8, 1, 9, padding=4, padding_mode="circular"),
    ).double()
    with torch.no_grad():
        net[0].weight.copy_(torch.randn(8, 1, 1) * torch.linspace(-1, 1, 9))
    x = field(512, boundary="periodic")
    operator, _ = to_neural_operator(net, [32], boundary="periodic")
    before, after = (
        is_discretisation_agnostic(net, x, [32, 64, 128]),
        is_discretisation_agnostic(operator, x, [32, 64, 128]),
    )
    assert not before
    assert after
    assert after.order > 1.5
    assert before.table.error[0] > 20 * after.table.error[0]


def test_hats_keep_the_integral_of_a_kernel():
    conv = nn.Conv1d(1, 1, 9, padding=4, padding_mode="circular", bias=False)
    operator, _ = convert(conv, [32], boundary="periodic")
    for n in (32, 64, 128, 48, 16):
        y = operator(torch.ones(1, 1, n).double())
        torch.testing.assert_close(y, conv.weight.sum().expand_as(y))


def test_coarser_grids_are_accepted_too():
    torch.manual_seed(0)
    operator, _ = convert(nn.Conv1d(1, 1, 9, padding=4, padding_mode="circular"), [64], boundary="periodic")
    x = field(64, boundary="periodic")
    gap = (operator(x[..., ::2]) - operator(x)[..., ::2]).norm() / operator(x).norm()
    assert gap < 0.05


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_with_a_table_of_positions(norm_first):
    torch.manual_seed(0)
    net = Transformer(norm_first=norm_first).double()
    operator, report = convert(net, [Axis.uniform("x", 32, boundary="periodic", unit="s")], layout="points")
    assert replaced(report)["places"] == "PositionTable"
    assert replaced(report)["encoder.layers.0.self_attn"] == "WeightedAttention"
    x = torch.randn(2, 32, 1).double()
    torch.testing.assert_close(operator(x), net.eval()(x), rtol=0, atol=1e-5)
    fine = field(512, boundary="periodic").transpose(1, 2)
    found = is_discretisation_agnostic(operator, fine, [32, 64, 128], points_axis=1)
    assert found.table is not None
    assert found.table.error.iloc[-1] < 1e-3


def test_a_transformer_on_points_of_any_weights():
    torch.manual_seed(0)
    operator, _ = convert(Transformer(table=False), [Axis.uniform("x", 32, boundary="midpoint")], layout="points")
    net = operator.module

    def at(points):
        return torch.sin(6 * points)[None]

    errors = []
    exact = operator(at((torch.arange(4096).double()[:, None] + 0.5) / 4096)).mean(1)
    for n in (32, 64, 128):
        points = ((torch.arange(n).double()[:, None] + 0.5) / n) ** 2
        line = Discretisation.scattered(points.numpy(), [(0.0, 1.0)])
        y = operator(at(points), weights=line)
        errors.append((torch.einsum("bpc,p->bc", y, line.weights.double()) - exact).abs().max().item())
    assert errors[2] < errors[0] / 8
    x, w = at(points), line.weights.double()
    twice = operator(x.repeat_interleave(2, 1), weights=(w / 2).repeat_interleave(2))[:, ::2]
    torch.testing.assert_close(twice, operator(x, weights=w), rtol=1e-6, atol=1e-6)
    assert (net(x) - operator(x, weights=w)).abs().max() > 1e-3


def test_masks_and_attention_weights_pass_through():
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            causal = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
            return self.attention(x, x, x, attn_mask=causal)[0]

    operator, _ = to_neural_operator(Net(), [10], layout="points", boundary="closed")
    x, w = torch.randn(1, 10, 8).double(), torch.rand(10).double()
    y = operator(x, weights=w)
    torch.testing.assert_close(operator(x[:, :1], weights=w[:1]), y[:, :1])  # the first sees itself alone
    torch.testing.assert_close(operator(x[:, :4], weights=w[:4]), y[:, :4])


def test_positions_looked_up_by_index():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.places, self.words = nn.Embedding(16, 4), nn.Embedding(16, 4)

        def forward(self, x):
            return x + self.places(torch.arange(x.shape[1])) + self.words(torch.zeros(x.shape[1]).long())

    net = Net().double()
    operator, report = to_neural_operator(
        net, [16], layout="points", example=torch.randn(1, 16, 4).double(), boundary="periodic"
    )
    assert replaced(report) == {"places": "PositionEmbedding"}
    y = operator(torch.zeros(1, 32, 4).double()) - net.words.weight[0]
    torch.testing.assert_close(y[0].T[None], resample(net.places.weight.T[None], 32))


def test_a_vision_transformer_keeps_its_patches():
    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(1, 8, 4, stride=4)
            self.start, self.places = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 17, 8))
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x):
            tokens = self.patch(x).flatten(2).transpose(1, 2)
            y = torch.cat([self.start.expand(len(x), -1, -1), tokens], 1) + self.places
            return self.head(self.encoder(y)[:, 0])

    torch.manual_seed(0)
    net = Vision().double().eval()
    operator, report = to_neural_operator(net, [16, 16], patches=True)
    assert replaced(report)["patch"] == "PatchConv"
    assert (report["replaced by"] != "").all()
    x = torch.randn(2, 1, 16, 16).double()
    torch.testing.assert_close(operator(x), net(x))
    table = discretisation_error(operator, field(256, 2), [16, 32, 64], boundary="midpoint")
    assert table.error.iloc[-1] < 0.01
    assert table.error.iloc[-1] < 0.5 * table.error.iloc[0]
    with pytest.raises(InputError, match="patches"):
        operator(torch.randn(1, 1, 18, 18).double())
    _, report = to_neural_operator(net, [16, 16])
    assert "fails on a finer grid" in report.reason.iloc[-1]


def test_weighted_means_on_points():
    net = nn.Sequential(
        nn.Conv1d(1, 3, 1), nn.GroupNorm(1, 3), nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 1)
    ).double()
    operator, _ = to_neural_operator(net, [16])
    x, w = torch.randn(1, 1, 16).double(), torch.rand(16).double()
    twice = operator(x.repeat_interleave(2, -1), weights=(w / 2).repeat_interleave(2))
    torch.testing.assert_close(twice, operator(x, weights=w))
    assert (operator(x, weights=w) - net(x)).abs().max() > 1e-6


def test_the_mean_of_a_closed_grid_is_one_functional_on_all():
    operator, _ = convert(nn.Sequential(nn.Conv1d(1, 1, 1), nn.AdaptiveAvgPool1d(1)), [9], boundary="closed")
    values = [operator(torch.linspace(0, 1, n).double().square()[None, None]).item() for n in (9, 17, 33, 65)]
    falls = [a - b for a, b in pairwise(values)]
    assert 3.5 < falls[0] / falls[1] < 4.5
    assert 3.5 < falls[1] / falls[2] < 4.5


def test_convolutions_that_pad_in_their_own_way_are_measured():
    class Late(nn.Conv2d):
        def forward(self, x):
            return super().forward(nn.functional.pad(x, (0, 2, 1, 1)))

    class Odd(nn.Conv1d):
        def forward(self, x):
            return super().forward(nn.functional.pad(x, (1, 1))).abs()

    torch.manual_seed(0)
    operator, report = convert(nn.Sequential(Late(1, 2, 3, stride=2), nn.Tanh()), [16, 16])
    assert replaced(report) == {"0": "HatConv"}
    assert operator.module[0].padding == (1, 0)
    table = discretisation_error(operator, field(128, 2), [16, 32, 64], boundary="midpoint")
    assert table.error.iloc[-1] < 0.5 * table.error.iloc[0]
    _, report = convert(nn.Sequential(Odd(1, 2, 3)), [16])
    assert replaced(report) == {"0": "Resampled"}
    assert "forward of its own" in report.reason[0]


def test_points_are_exact_where_the_training_grid_shows_the_field():
    torch.manual_seed(0)
    conv = {"padding": 4, "padding_mode": "circular"}
    net = nn.Sequential(nn.Conv1d(1, 8, 9, **conv), nn.Conv1d(8, 8, 9, **conv), nn.Conv1d(8, 1, 9, **conv)).double()
    x = resample(torch.randn(1, 1, 31).double(), 256)
    coarse = x[..., ::8]
    errors = {}
    for kernel in ("hats", "points"):
        operator, report = to_neural_operator(net, [32], boundary="periodic", kernel=kernel)
        assert kernel in report.reason[0]
        torch.testing.assert_close(operator(coarse), net(coarse))
        errors[kernel] = ((operator(x) - resample(net(coarse), 256)).norm() / net(coarse).norm()).item()
    assert errors["points"] < 1e-6
    assert errors["hats"] > 0.1
    with pytest.raises(UnknownNameError, match="points"):
        to_neural_operator(net, [32], kernel="point")


def test_a_whole_classifier_of_photographs_at_twice_its_resolution():
    """Eight photographs: converted, the logits of each move less than those of the network as it is."""
    model = nissl.load("efficientnet-lite0")
    names = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "rocket", "china")
    x = torch.cat([model.prepare(nissl.specimens.photo(name)).main for name in names])
    operator, report = to_neural_operator(model.module, [224, 224], example=x[:1], kernel="points")
    assert set(report["replaced by"]) == {"HatConv", "DomainMean", "kept"}
    twice = nn.functional.interpolate(x, size=(448, 448), mode="bicubic")
    with torch.no_grad():
        before, after, plain = model.module(x), operator(twice), model.module(twice)
        torch.testing.assert_close(operator(x), before)
    moved, apart = ((logits - before).norm(dim=1) for logits in (after, plain))
    assert (moved < apart).all()
    assert moved.mean() < 0.6 * apart.mean()


# What is kept, shared and left alone


def test_the_caller_s_network_is_not_changed():
    net = UNet().train()
    before, names = copy.deepcopy(net.state_dict()), [type(m) for m in net.modules()]
    operator, _ = to_neural_operator(net, [16, 16])
    operator(torch.randn(1, 1, 32, 32))
    assert net.training
    assert [type(m) for m in net.modules()] == names
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert not {id(p) for p in net.parameters()} & {id(p) for p in operator.parameters()}
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in operator.modules())


def test_layers_shared_between_two_places_stay_shared():
    conv = nn.Conv1d(2, 2, 5, padding=2)
    net = nn.Sequential(nn.Conv1d(1, 2, 1), conv, nn.Tanh(), nn.AvgPool1d(2), conv)
    operator, report = convert(net, [32])
    assert operator.module[1] is operator.module[4]
    assert operator.module[1].sizes == [(32,), (16,)]
    assert "shared with 1" in report.set_index("path").reason["4"]
    x = field(32)
    torch.testing.assert_close(operator(x), net(x), rtol=0, atol=1e-6)
    assert sum(p.numel() for p in operator.parameters()) == sum(p.numel() for p in net.parameters())
    table = discretisation_error(operator, field(512), [32, 64, 128], boundary="midpoint")
    assert table.error.iloc[-1] < 0.6 * table.error.iloc[0]


def test_parameters_tied_between_two_layers_stay_tied():
    one, two = nn.Conv1d(1, 1, 3, padding=1), nn.Conv1d(1, 1, 3, padding=1)
    two.weight = one.weight
    operator, _ = convert(nn.Sequential(one, two), [16])
    assert operator.module[0].original.weight is operator.module[1].original.weight


def test_pointwise_layers_are_left():
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.GELU(), nn.Dropout(), nn.Conv2d(4, 1, 1))
    operator, report = convert(net, [8, 8])
    assert report.empty
    assert [type(m) for m in operator.module] == [type(m) for m in net]


def test_it_is_trained_further_and_saved(tmp_path):
    net = nn.Sequential(nn.Conv1d(1, 4, 5, padding=2), nn.GELU(), nn.Conv1d(4, 1, 5, padding=2))
    operator, _ = to_neural_operator(net, [16])
    operator(torch.randn(2, 1, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in operator.parameters())
    other, _ = to_neural_operator(
        copy.deepcopy(net).apply(lambda m: m.reset_parameters() if hasattr(m, "reset_parameters") else None), [16]
    )
    torch.save(operator.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    x = torch.randn(1, 1, 48)
    assert torch.equal(operator(x), other(x))
    assert torch.equal(copy.deepcopy(operator)(x), operator(x))


def test_a_single_layer_is_a_network_too():
    operator, report = to_neural_operator(nn.MaxPool1d(2), [8], example=torch.randn(1, 1, 8))
    assert isinstance(operator, NeuralOperator)
    assert report.path.tolist() == [""]
    assert operator(torch.randn(1, 1, 32)).shape == (1, 1, 16)


def test_widths_are_told_in_the_domain_s_unit():
    axes = [Axis.uniform("x", 65, stop=2.0, unit="mm", boundary="closed")]
    _, report = to_neural_operator(
        nn.Sequential(nn.Conv1d(1, 1, 9, padding=4), nn.AvgPool1d(3, 2, 1), nn.Conv1d(1, 1, 3, padding=1)), axes
    )
    assert report.reason.str.extract(r"([\d.]+ mm)")[0].tolist() == ["0.281 mm", "0.0938 mm", "0.188 mm"]
    spacing, _ = to_neural_operator(nn.Conv1d(1, 1, 3, padding=1), [0.5], example=torch.randn(1, 1, 8))
    assert spacing.domain.spacing == (0.5,)


# What cannot be converted, and what is refused


def test_dense_layers_and_calls_in_the_forward_are_reported():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv1d(1, 2, 3, padding=1), nn.Linear(16, 3)

        def forward(self, x):
            return self.head(max_pool1d(self.conv(x), 2).flatten(1))

    operator, report = to_neural_operator(Net(), [16])
    failed = report[report["replaced by"] == ""].set_index("layer").reason
    assert "use the module of that name" in failed["function max_pool1d"]
    assert "dense=True" in failed["Linear"]
    assert operator(torch.randn(1, 1, 16)).shape == (1, 3)
    with pytest.raises(RuntimeError):
        operator(torch.randn(1, 1, 32))


def test_what_fails_on_a_finer_grid_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(16, 16)

        def forward(self, x):
            return self.mix(x)

    _, report = to_neural_operator(Net(), [16], example=torch.randn(1, 2, 16))
    row = report.iloc[0]
    assert (row.path, row.layer, row["replaced by"]) == ("mix", "Linear", "")
    assert "finer grid of (32,)" in row.reason


def test_recurrent_layers_and_indices_are_reported():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(1, 2, batch_first=True)

        def forward(self, x):
            return self.rnn(x)[0]

    _, report = to_neural_operator(Net(), [16], layout="points", example=torch.randn(1, 16, 1))
    assert "samples of the training grid" in report.reason[0]

    class Vision(nn.Module):
        def __init__(self):
            super().__init__()
            self.places, self.out = nn.Parameter(torch.zeros(1, 17, 3)), nn.Linear(3, 1)

        def forward(self, x):
            return self.out(torch.cat([x[:, :1], x], 1) + self.places)

    _, report = to_neural_operator(Vision(), [16], layout="points", example=torch.randn(1, 16, 3))
    assert "one more" in report.set_index("path").reason["places"]


def test_grids_that_are_not_divisible():
    operator, _ = to_neural_operator(
        nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.AvgPool1d(2), nn.MaxPool1d(2)), [16]
    )
    assert operator(torch.randn(1, 1, 40)).shape == (1, 1, 10)
    with pytest.raises(InputError, match="21 points, not divisible by 2"):
        operator(torch.randn(1, 1, 42))
    odd, _ = to_neural_operator(nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.AvgPool1d(2)), [15])
    assert odd(torch.randn(1, 1, 15)).shape == (1, 1, 7)
    with pytest.raises(InputError, match="not divisible"):
        odd(torch.randn(1, 1, 45))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda op: op(torch.randn(1, 1, 1)), "without neighbours"),
        (lambda op: op(torch.randn(1, 1, 8, 8)), "layout"),
        (lambda op: op(torch.randn(1, 1, 20), weights=torch.ones(20)), "uniform grid"),
        (lambda op: op(torch.randn(1, 1, 20), weights=torch.ones(19)), "19"),
    ],
)
def test_fields_that_do_not_fit(call, match):
    operator, _ = to_neural_operator(nn.Conv1d(1, 1, 3, padding=1), [16])
    with pytest.raises(InputError, match=match):
        call(operator)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda c: to_neural_operator(c, [Axis("x", 5, points=[0.0, 0.1, 0.3, 0.4, 1.0])]), "not uniform"),
        (lambda c: to_neural_operator(c, [Axis.uniform("x", 8)], boundary="periodic"), "must agree"),
        (lambda c: to_neural_operator(c, [Axis("x", 8)]), "spacing"),
        (lambda c: to_neural_operator(c, []), "sequence"),
        (lambda c: to_neural_operator(c, [0.1]), "needs an `example`"),
        (lambda c: to_neural_operator(c, [8], example=torch.randn(1, 1, 9)), "8"),
        (lambda c: to_neural_operator(c, [8], example=torch.full((1, 1, 8), math.nan)), "NaN"),
        (lambda c: to_neural_operator(c, [-8]), "positive"),
        (lambda c: to_neural_operator(nn.Tanh(), [8]), "example"),
        (lambda c: to_neural_operator(nn.Sequential(c, nn.Linear(5, 5)), [8]), "1 \\(Linear\\)"),
        (lambda c: to_neural_operator(c, [8, 8]), "does not run"),
        (lambda c: to_neural_operator(c, [8, 8], layout="points"), "in a row"),
    ],
)
def test_grids_that_are_refused(make, match):
    with pytest.raises(InputError, match=match):
        make(nn.Conv1d(1, 1, 3, padding=1))


def test_layouts_that_do_not_exist():
    with pytest.raises(UnknownNameError, match="channels"):
        to_neural_operator(nn.Conv1d(1, 1, 3), [8], layout="chanels")


class ByHand(nn.Module):
    """Attention out of functions."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).split(16, -1)
        weight = torch.einsum("bqd,bkd->bqk", q, k).softmax(-1)
        return self.out(weight @ v).softmax(-1) - x.mean(1, keepdim=True)


def test_functions_that_mix_positions_are_named_and_others_are_not() -> None:
    # 16 points and 16 features: only what grows with the grid is of space, which the einsum and the last softmax do not run over.
    _, report = to_neural_operator(ByHand(), [16], example=torch.randn(2, 16, 16), layout="points")
    assert sorted(report["layer"]) == ["function matmul", "function mean", "function softmax"]
    assert (report["replaced by"] == "").all()
    assert report["reason"].str.contains("uniform grids").all()
    with pytest.raises(InputError, match="axes"):
        to_neural_operator(nn.Conv1d(1, 1, 3), ["time"])  # type: ignore[list-item]
