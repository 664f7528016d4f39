"""Layers on function spaces: the spectral convolution beside neuralop's, attention beside torch's, and what a conversion costs."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable

import torch
from timing import in_turn, table
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from nissl.nn.operators import QuadratureAttention, SpectralConv, to_neural_operator


class UNet(nn.Module):
    """Three levels, two convolutions each on the way down and up."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def block(i: int, o: int) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(1, o), nn.GELU(), nn.Conv2d(o, o, 3, padding=1), nn.GELU()
            )

        self.one, self.two, self.three = block(1, width), block(width, 2 * width), block(2 * width, 2 * width)
        self.pool, self.up = nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")
        self.four, self.five, self.out = block(4 * width, width), block(2 * width, width), nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.one(x)
        b = self.two(self.pool(a))
        y = self.four(torch.cat([self.up(self.three(self.pool(b))), b], 1))
        return self.out(self.five(torch.cat([self.up(y), a], 1)))


def pair(
    layers: dict[str, nn.Module], x: Tensor
) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]]]:
    """Forward alone, and forward with backward."""

    def forward(layer: nn.Module) -> Callable[[], object]:
        def run() -> object:
            with torch.no_grad():
                return layer(x)

        return run

    given = x.clone().requires_grad_()

    def both(layer: nn.Module) -> Callable[[], object]:
        return lambda: layer(given).square().sum().backward()

    return {n: forward(m) for n, m in layers.items()}, {n: both(m) for n, m in layers.items()}


def spectral() -> str:
    from neuralop.layers.spectral_convolution import SpectralConv as Theirs

    parts = []
    for n, modes, width, batch in ((64, 16, 32, 8), (128, 16, 32, 8), (256, 16, 32, 4)):
        ours, theirs = SpectralConv(width, width, modes, n_dims=2), Theirs(width, width, (2 * modes - 1,) * 2)
        x = torch.randn(batch, width, n, n)
        with torch.no_grad():
            weight = torch.fft.ifftshift(theirs.weight.tensor, dim=2)
            ours.weight.copy_(torch.view_as_real(weight.movedim((0, 1), (-2, -1))))
            ours.bias.copy_(theirs.bias.flatten())
            gap = float((ours(x) - theirs(x)).abs().max())
        forward, both = pair({"neuralop": theirs, "nissl": ours}, x)
        title = f"Spectral convolution, {n} by {n} points, {modes} modes, {width} channels, {batch} samples"
        note = f"The same weights; largest difference of outputs {gap:.1g}."
        parts += [
            table(f"{title}: forward", in_turn(forward), "neuralop", note),
            table(f"{title}: forward and backward", in_turn(both), "neuralop"),
        ]
    return "\n".join(parts)


class Plain(nn.Module):
    """The same projections around torch's attention, without weights."""

    def __init__(self, like: QuadratureAttention) -> None:
        super().__init__()
        self.like = like

    def forward(self, x: Tensor) -> Tensor:
        a = self.like
        q, k, v = (m(x).unflatten(-1, (a.heads, -1)).transpose(1, 2) for m in (a.query, a.key, a.value))
        return a.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Weighted(nn.Module):
    """Quadrature attention with weights of its points."""

    def __init__(self, like: QuadratureAttention, points: int) -> None:
        super().__init__()
        self.like, self.weights = like, torch.rand(points) + 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.like(x, weights=self.weights)


def attention(points: int = 1024, channels: int = 64) -> str:
    layer, linear = QuadratureAttention(channels, 4), QuadratureAttention(channels, 4, kind="linear")
    x = torch.randn(4, points, channels)
    layers = {
        "torch's attention": Plain(layer),
        "quadrature attention, equal weights": layer,
        "with weights": Weighted(layer, points),
        "linear, with weights": Weighted(linear, points),
    }
    forward, both = pair(layers, x)
    title = f"Attention on {points} points, {channels} channels, 4 heads, 4 samples"
    return "\n".join(
        table(f"{title}: {what}", in_turn(jobs), "torch's attention")
        for what, jobs in (("forward", forward), ("forward and backward", both))
    )


def conversion() -> str:
    net = UNet().eval()
    example = torch.randn(1, 1, 64, 64)
    operator, report = to_neural_operator(net, [64, 64], example=example)
    x = torch.randn(1, 1, 128, 128)

    def run(module: nn.Module) -> Callable[[], object]:
        def job() -> object:
            with torch.no_grad():
                return module(x)

        return job

    jobs = {
        "U-Net on 128 by 128, as it is": run(net),
        "U-Net converted from 64 by 64, on 128 by 128": run(operator),
        "the conversion itself": lambda: to_neural_operator(net, [64, 64], example=example),
    }
    note = (
        f"{len(report)} layers replaced. The conversion runs the network three times, once of them on the finer grid."
    )
    return table("Conversion of a U-Net into an operator", in_turn(jobs), "U-Net on 128 by 128, as it is", note)


def main() -> str:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    peer = [spectral()] if importlib.util.find_spec("neuralop") else []
    return "\n".join([*peer, attention(), conversion()])


if __name__ == "__main__":
    print(main())
