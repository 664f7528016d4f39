"""Networks on function spaces: which layers carry over to another resolution, and what makes those that do not carry over.

Burgers' equation on a periodic domain of length 1: initial states with a standard deviation of 0.15, so that nothing travels further
than a convolutional network of 4 layers and 9 taps at 64 points can see. Both networks have 4 layers of 24 channels and are trained on 64
points only, alike; each control changes one thing. Errors are relative L2, averaged over 50 test states that are subsampled from one fine
solution.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, interpolate, pad

from nissl.axes import Axis
from nissl.learning import train
from nissl.nn.operators import (
    DifferentialConv,
    Discretisation,
    FourierNeuralOperator,
    InputOutputInterpolation,
    QuadratureAttention,
    SpectralConv,
    to_neural_operator,
)
from nissl.nn.operators.losses import relative_l2_loss
from nissl.papers.harness import Outcome, Paper
from nissl.specimens import burgers

PAPER = Paper(
    "function-spaces",
    "Principled Approaches for Extending Neural Architectures to Function Spaces for Operator Learning",
    "nn",
    "https://arxiv.org/abs/2506.10973",
    threads=1,
)
FINE, TRAINED, TRAINING, WIDTH, DEPTH, TAPS, MODES, BATCH, EPOCHS = 512, 64, 250, 24, 4, 9, 16, 20, 60
FIGURE = "shown as a figure, without a number on the card"
NOT_KNOWN = "not known"


@lru_cache(maxsize=4)
def _data(seed: int) -> tuple[Tensor, Tensor]:
    """Initial and final states on the fine grid, (sample, 1, x)."""
    data = burgers(300, FINE, viscosity=0.01, time=0.5, amplitude=0.15, correlation=0.2, seed=seed, progress=False)
    initial, final = (torch.as_tensor(data[name].values, dtype=torch.float32)[:, None] for name in ("initial", "final"))
    return initial, final


def _cnn() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv1d(1, WIDTH, 1)]
    for _ in range(DEPTH):
        layers += [nn.Conv1d(WIDTH, WIDTH, TAPS, padding="same", padding_mode="circular"), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv1d(WIDTH, 1, 1))


def _fno() -> nn.Module:
    # A periodic domain has no origin, so coordinates are left out, as they are of the convolutional network.
    return FourierNeuralOperator(1, 1, WIDTH, MODES, DEPTH, coordinates=False, n_dims=1)


@lru_cache(maxsize=8)
def _trained(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A network after 60 epochs on 64 points."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
    x, y = (part[:TRAINING, :, :: FINE // TRAINED].contiguous() for part in _data(seed))

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = torch.randperm(TRAINING, generator=generator)[:BATCH]
        return x[chosen], y[chosen]

    train(
        model,
        batch,
        lambda m, x, y: relative_l2_loss(m(x), y),
        steps=EPOCHS * TRAINING // BATCH,
        lr=2e-3,
        schedule="cosine",
        seed=seed,
        progress=False,
    )
    return model.eval()


def _error(model: nn.Module, seed: int, n: int) -> float:
    """Relative L2 on the test states at n points."""
    x, y = (part[TRAINING:, :, :: FINE // n].contiguous() for part in _data(seed))
    with torch.no_grad():
        return float(relative_l2_loss(model(x), y))


def _errors(model: nn.Module, seed: int, sizes: Sequence[int]) -> dict[str, float]:
    return {f"n={n}": _error(model, seed, n) for n in sizes}


class FromNyquist(SpectralConv):
    """The same weights, with modes numbered from the highest of the grid down: the same layer at 64 points, another elsewhere."""

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """The convolved field."""
        n = x.shape[-1]
        away = n // 2 - TRAINED // 2
        u, v = torch.fft.rfft(x, dim=-1, norm="forward"), x.new_zeros(())
        ours = torch.arange(max(away, 0), away + self.modes[0])
        weight = torch.view_as_complex(self.weight)[ours - away]
        v = torch.zeros_like(u).index_copy(-1, ours, torch.einsum("bik,kio->bok", u[..., ours], weight))
        return torch.fft.irfft(v, n=n, dim=-1, norm="forward")


class TapCount(nn.Module):
    """Kernel interpolation as released: resized from end to end and divided by the ratio of the numbers of taps."""

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """The convolution with the resized kernel."""
        scale = x.shape[-1] / TRAINED
        taps = int(scale * TAPS - scale + 1)
        kernel = interpolate(self.conv.weight, taps, mode="linear", align_corners=True) * (TAPS / taps)
        return conv1d(pad(x, ((taps - 1) // 2, taps // 2), mode="circular"), kernel, self.conv.bias)


def _as_released(cnn: nn.Module) -> nn.Module:
    return nn.Sequential(
        *(TapCount(m) if isinstance(m, nn.Conv1d) and m.kernel_size[0] > 1 else m for m in cnn.children())
    )


def _counted_from_nyquist(fno: nn.Module) -> nn.Module:
    other = copy.deepcopy(fno)
    for layer in other.modules():
        if isinstance(layer, SpectralConv):
            layer.__class__ = FromNyquist
    return other


@PAPER.claim(
    "ordinary networks do not transfer across resolution: a convolutional network of 9 taps, trained on 64 points",
    paper_value=FIGURE,
    threshold="error at 128 points at least 20 times that at 64",
    expected=False,
    note="it falls apart, by 11 to 15 times (14.7, 10.9 and 15.3 at seeds 0, 1 and 7): after 60 epochs the error at 64 points is still 0.014 to 0.018. "
    "After four times as many epochs (seeds 0 and 1) it is 0.005 and 0.007, and at 128 points as before: 40 and 27 times",
)
def _ordinary(seeds: Sequence[int]) -> Outcome:
    found = _errors(_trained(seeds[0], _cnn), seeds[0], (64, 128, 256))
    return Outcome(
        {"times that at 64": found["n=128"] / found["n=64"], "n=128": found["n=128"], "n=256": found["n=256"]},
        {"n=64": found["n=64"]},
        found["n=128"] >= 20 * found["n=64"],
    )


@PAPER.claim(
    "operators transfer: a Fourier neural operator of 16 modes, trained on 64 points",
    paper_value=FIGURE,
    threshold="errors at 32, 128, 256 and 512 points within 1.6 times that at 64; the same weights with modes counted from Nyquist down: more than 10 times",
    note="with 16 modes 32 points are under-resolved for every method; the worst of the others stands beside it",
)
def _operator(seeds: Sequence[int]) -> Outcome:
    fno = _trained(seeds[0], _fno)
    found = _errors(fno, seeds[0], (32, 64, 128, 256, 512))
    wrong = _errors(_counted_from_nyquist(fno), seeds[0], (64, 128))
    ratios = {n: found[f"n={n}"] / found["n=64"] for n in (32, 128, 256, 512)}
    return Outcome(
        {
            "n=64": found["n=64"],
            "32, times": ratios[32],
            "worst of 128 to 512, times": max(ratios[n] for n in (128, 256, 512)),
        },
        {"from Nyquist down, n=64": wrong["n=64"], "at 128, times": wrong["n=128"] / wrong["n=64"]},
        max(ratios.values()) <= 1.6 and wrong["n=128"] > 10 * wrong["n=64"],
    )


@PAPER.claim(
    "a convolutional network becomes an operator when its kernel is a function: hat functions, the same weights",
    paper_value=FIGURE,
    threshold="error at 512 points at most 1.2 times that at 64; the released interpolation of kernels: more",
)
def _hats(seeds: Sequence[int]) -> Outcome:
    cnn = _trained(seeds[0], _cnn)
    operator, _ = to_neural_operator(cnn, [Axis.uniform("x", TRAINED, boundary="periodic")])
    found = _errors(operator, seeds[0], (64, 128, 512))
    released = _errors(_as_released(cnn), seeds[0], (128, 512))
    return Outcome(
        {**found, "512, times": found["n=512"] / found["n=64"]},
        {f"released, {n}": error for n, error in released.items()},
        found["n=512"] <= 1.2 * found["n=64"] < released["n=512"],
    )


@PAPER.claim(
    "input-output interpolation is a fair baseline: Fourier resampling around the convolutional network, on band-limited data",
    paper_value=NOT_KNOWN,
    threshold="errors at 128 and 512 points within 5 percent of that at 64; squares of modes 40 and 41 through 64 points: relative error 1, the square itself exact",
)
def _interpolated(seeds: Sequence[int]) -> Outcome:
    cnn = _trained(seeds[0], _cnn)
    found = _errors(InputOutputInterpolation(cnn, TRAINED), seeds[0], (64, 128, 512))
    away = max(abs(found[n] / found["n=64"] - 1) for n in ("n=128", "n=512"))
    x = torch.arange(256, dtype=torch.float64) / 256
    waves = (torch.cos(2 * math.pi * 40 * x) + torch.cos(2 * math.pi * 41 * x))[None, None]
    turns = 2 * math.pi * x[None, None]
    truth = 1 + torch.cos(turns) + torch.cos(81 * turns) + 0.5 * (torch.cos(80 * turns) + torch.cos(82 * turns))
    wrapped, alone = (
        float(relative_l2_loss(operator(waves), truth))
        for operator in (InputOutputInterpolation(Square(), TRAINED), Square())
    )
    return Outcome(
        {**found, "largest difference": away},
        {"square through 64 points": wrapped, "square itself": alone},
        away <= 0.05 and abs(wrapped - 1) < 1e-6 and alone < 1e-6,
    )


class Square(nn.Module):
    """u -> u², which acts at each point."""

    def forward(self, x: Tensor) -> Tensor:
        """The square."""
        return x.square()


@PAPER.claim(
    "quadrature weights make attention converge on points ((j + 1/2)/n)², against 8,192 midpoints",
    paper_value=NOT_KNOWN,
    threshold="error from 32 to 256 points falls with an order of at least 1.8; without weights it stays: at 256 at least half of that at 32",
)
def _attention(seeds: Sequence[int]) -> Outcome:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[0])
        layer = QuadratureAttention(8, heads=2).double()
        phase = torch.rand(8, dtype=torch.float64)

    def field(x: Tensor) -> Tensor:
        """Eight smooth functions of position, two of each frequency."""
        return 2 * torch.sin(2 * math.pi * (x * torch.tensor([0.5, 0.5, 1, 1, 1.5, 1.5, 2, 2]).double() + phase))[None]

    queries = field((torch.arange(64)[:, None] + 0.5).double() / 64)
    sizes = (32, 64, 128, 256)
    weighted, plain = [], []
    with torch.no_grad():
        reference = layer(queries, field((torch.arange(8192)[:, None] + 0.5).double() / 8192))
        for n in sizes:
            points = ((torch.arange(n)[:, None].double() + 0.5) / n) ** 2
            weights = Discretisation.scattered(points.numpy(), [(0.0, 1.0)]).weights
            for found, w in ((weighted, weights), (plain, None)):
                found.append(float(relative_l2_loss(layer(queries, field(points), weights=w), reference)))
    order = -np.polyfit(np.log(sizes), np.log(weighted), 1)[0]
    return Outcome(
        {"order": order, **{f"n={n}": e for n, e in zip(sizes, weighted, strict=True)}},
        {f"unweighted, n={n}": e for n, e in zip(sizes, plain, strict=True)},
        bool(order >= 1.8 and plain[-1] >= 0.5 * plain[0]),
    )


@PAPER.claim(
    "differential kernels converge to derivatives: taps -0.3, 0.1, 0.5 on a sine",
    paper_value=NOT_KNOWN,
    threshold="largest error falls by 3.8 to 4.2 at each doubling from 32 to 256 points; without the mean subtracted, values grow with an order of 0.9 to 1.1",
)
def _differential(seeds: Sequence[int]) -> Outcome:
    layer = DifferentialConv(1, 1, taps=3).double()
    taps = torch.tensor([[[-0.3, 0.1, 0.5]]], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(taps)
    sizes, errors, plain = (32, 64, 128, 256), [], []
    for n in sizes:
        x = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
        sine = torch.sin(x)[None, None]
        with torch.no_grad():
            errors.append(float((layer(sine)[0, 0] - 0.8 * 2 * math.pi * torch.cos(x)).abs().max()))
        plain.append(float((n * conv1d(pad(sine, (1, 1), mode="circular"), taps)).abs().max()))
    falls = [a / b for a, b in pairwise(errors)]
    growth = np.polyfit(np.log(sizes), np.log(plain), 1)[0]
    return Outcome(
        {**{f"n={n}": e for n, e in zip(sizes, errors, strict=True)}, "least fall": min(falls), "most": max(falls)},
        {"growth without the mean subtracted": growth, **{f"n={n}": e for n, e in zip(sizes, plain, strict=True)}},
        bool(min(falls) >= 3.8 and max(falls) <= 4.2 and 0.9 <= growth <= 1.1),
    )
