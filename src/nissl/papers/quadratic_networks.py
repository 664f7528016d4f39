"""Quadratic networks and ReLinear: when they train, what they express, and how few neurons suffice.

Settings, fixed before anything was measured. Digits are scikit-learn's 8 x 8, each pixel standardised, 1,347 to train on and 450 to test; every layer of a
quadratic network is quadratic, the last included. "Non-finite" means that the training loop met a loss or a gradient that is NaN or infinite. Lines
through 1-D networks run from -3 to 3. Disks have a radius of 1.6, so that half of the square is inside; networks are tested on 1,000 fresh points.

Added afterwards, and no part of any threshold: the arms with one mean and deviation for all pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from nissl.errors import ModelError
from nissl.evaluation.expressivity import functional_dimension, spline_pieces
from nissl.learning import train
from nissl.nn.quadratic import QuadraticLinear, relinear_parameter_groups
from nissl.papers.harness import Outcome, Paper

PAPER = Paper(
    "quadratic-networks",
    "On Expressivity and Trainability of Quadratic Networks",
    "nn",
    "https://arxiv.org/abs/2110.06081",
    threads=1,
)
NOT_KNOWN = "reported in figures, without a number"
LR, BATCH, EPOCHS, HIDDEN = 0.01, 64, 20, (48, 48, 48, 48)


class Square(nn.Module):
    """The square of each number."""

    def forward(self, x: Tensor) -> Tensor:
        """x∘x."""
        return x * x


def _chain(
    widths: Sequence[int], layer: Callable[[int, int], nn.Module], between: Callable[[], nn.Module] | None
) -> nn.Sequential:
    """Layers of these widths, with something between them."""
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [between()] if parts and between else []
        parts.append(layer(before, after))
    return nn.Sequential(*parts)


def _seeded(seed: int, make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _shown(value: float) -> float | str:
    """A number, or what there is in its place: JSON has no infinity."""
    return value if math.isfinite(value) else "not finite"


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- digits -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A trained network, its loss on all training digits and its accuracy on the others; infinite and 0 where it diverged."""

    model: nn.Sequential
    loss: float
    accuracy: float


@lru_cache(maxsize=8)
def _digits(seed: int, by_pixel: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    split = train_test_split(pixels, labels, train_size=1347, stratify=labels, random_state=seed)
    x, other_x, y, other_y = (np.asarray(part) for part in split)
    mean, deviation = (x.mean(0), x.std(0)) if by_pixel else (x.mean(), x.std())
    scaled = ((part - mean) / np.where(deviation > 0, deviation, 1) for part in (x, other_x))
    x, other_x = (torch.tensor(part, dtype=torch.float32) for part in scaled)
    return x, torch.tensor(y), other_x, torch.tensor(other_y)


def _quadratic(seed: int, init: Any = "relinear", hidden: Sequence[int] = HIDDEN) -> nn.Sequential:
    return _seeded(seed, lambda: _chain([64, *hidden, 10], partial(QuadraticLinear, init=init), nn.ReLU))


def _conventional(seed: int, hidden: Sequence[int] = HIDDEN) -> nn.Sequential:
    """The conventional network with the weights r of the quadratic one of this seed."""
    model = _chain([64, *hidden, 10], nn.Linear, nn.ReLU)
    for part, other in zip(model, _quadratic(seed, hidden=hidden), strict=True):
        if isinstance(other, QuadraticLinear):
            part.load_state_dict({"weight": other.weight_r, "bias": other.bias_r})
    return model


def _equal_size(seed: int) -> nn.Sequential:
    """The narrowest conventional network with at least as many weights as the quadratic one."""
    least = _size(_quadratic(seed))
    width = next(w for w in range(48, 200) if _size(_chain([64, w, w, w, w, 10], nn.Linear, None)) >= least)
    return _conventional(seed, (width,) * 4)


@lru_cache(maxsize=64)
def _run(seed: int, init: str, gamma: float = 1.0, shuffled: bool = False, by_pixel: bool = True) -> Run:
    """Train on digits a quadratic network ("relinear" or "random"), or a "conventional" one, or a "wide" conventional one."""
    conventional = {"conventional": _conventional, "wide": _equal_size}
    model = conventional[init](seed) if init in conventional else _quadratic(seed, init)
    if shuffled:
        _shuffle_gradients(model, torch.Generator().manual_seed(seed))

    def sgd(parameters: Any, lr: float) -> torch.optim.Optimizer:
        groups = parameters if init in conventional else relinear_parameter_groups(model, lr, gamma, gamma)
        return torch.optim.SGD(groups, lr=lr, momentum=0.9)

    x, y, other_x, other_y = _digits(seed, by_pixel)
    order, full = torch.Generator().manual_seed(seed), len(x) // BATCH
    chosen = [some for _ in range(EPOCHS) for some in torch.randperm(len(x), generator=order).split(BATCH)[:full]]
    batches = [(x[some], y[some]) for some in chosen]
    loss = lambda m, x, y: cross_entropy(m(x), y)  # noqa: E731
    try:
        train(model, batches, loss, steps=len(batches), lr=LR, optimiser=sgd, progress=False)
    except ModelError:  # the loss or its gradient is no number
        return Run(model, math.inf, 0.0)
    with torch.no_grad():
        final = loss(model, x, y).item()
        right = (model(other_x).argmax(1) == other_y).double().mean().item()
    return Run(model, final, right) if math.isfinite(final) else Run(model, math.inf, 0.0)


def _shuffle_gradients(model: nn.Module, generator: torch.Generator) -> None:
    """The quadratic terms get their gradients in a random order, another each time."""

    def shuffle(grad: Tensor) -> Tensor:
        return grad.flatten()[torch.randperm(grad.numel(), generator=generator)].view_as(grad)

    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] in ("weight_g", "bias_g", "weight_b", "bias_b"):
            parameter.register_hook(shuffle)


def _diverged(runs: Sequence[Run]) -> int:
    return sum(not math.isfinite(run.loss) for run in runs)


@PAPER.claim(
    "trained plainly, quadratic networks without normalisation diverge, and with ReLinear they do not",
    paper_value=NOT_KNOWN,
    threshold="non-finite in >= 2 of 3 seeds from random weights (also with quadratic lr x 1e-3) and from ReLinear weights at full lr; with gamma 0.1 and 0.01 all finite, "
    "every accuracy >= 0.94; the conventional network trains in the same loop (>= 0.9)",
    seeds=3,
    expected=False,
    note="pixels that are hardly ever lit reach 37 standard deviations when each is standardised by itself, and their square is too much for gamma 0.1 and 0.01 too: 17 of 18 runs diverge at three settings of the seed "
    "(0.001 trains). With one mean and deviation for all pixels, tried afterwards, all 18 are finite, lowest accuracy 0.927, 0.962, 0.958; gamma 0.1 is near the edge, and with other rounding the first was 0.953",
)
def _collapse(seeds: Sequence[int]) -> Outcome:
    plain = {
        "random": ("random", 1.0), "random, gamma 0.001": ("random", 1e-3), "ReLinear start, gamma 1": ("relinear", 1.0),
    }  # fmt: skip
    lost = {name: _diverged([_run(s, *arm) for s in seeds]) for name, arm in plain.items()}
    slow, scaled = (
        [_run(s, "relinear", gamma, by_pixel=by_pixel) for gamma in (0.1, 0.01) for s in seeds] for by_pixel in (True, False)
    )  # fmt: skip
    usual = min(_run(s, "conventional").accuracy for s in seeds)
    lowest = min(run.accuracy for run in slow)
    return Outcome(
        {
            "lowest accuracy, gamma 0.1 and 0.01": lowest, "non-finite of 6": _diverged(slow),
            "one scale for all pixels: lowest accuracy": min(run.accuracy for run in scaled), "one scale: non-finite of 6": _diverged(scaled),
        },
        {**{f"non-finite of 3, {name}": n for name, n in lost.items()}, "lowest accuracy, conventional": usual},
        not _diverged(slow) and lowest >= 0.94 and min(lost.values()) >= 2 and usual >= 0.9,
    )  # fmt: skip


@PAPER.claim(
    "from conventional to quadratic as gamma grows: the training objective falls",
    paper_value="a figure on guaranteed improvement in the repository",
    threshold="gamma 0 equals the conventional run to 1e-5; mean training loss falls from gamma 0 to 0.01 to 0.1; shuffled gradients of (g, b) do not bring it below gamma 0",
    seeds=3,
    expected=False,
    note="with pixels standardised by themselves gamma above 0 diverges, as above. With one scale for all, gamma 0.01 brings the loss from 0.006-0.008 to 0.001-0.002; gamma 0.1 ends between 0.0002 and 0.013, since single runs leap; and "
    "shuffled gradients bring it down as well (0.0008 to 0.006): part of the gain is room, not direction. A conventional network of equal size reaches 0.004",
)
def _growth(seeds: Sequence[int]) -> Outcome:
    def losses(by_pixel: bool) -> dict[str, float]:
        arms = {f"gamma {gamma:g}": ("relinear", gamma) for gamma in (0.0, 0.01, 0.1)}
        arms |= {"shuffled": ("relinear", 0.1, True), "conventional": ("conventional",), "equal size": ("wide",)}
        return {
            name: float(np.mean([_run(s, *arm, by_pixel=by_pixel).loss for s in seeds])) for name, arm in arms.items()
        }

    apart = max(_apart(_run(s, "relinear", 0.0).model, _run(s, "conventional").model) for s in seeds)
    found, scaled = losses(True), losses(False)
    zero, some, more, shuffled, *_ = found.values()
    shown = {name: _shown(value) for name, value in found.items()}
    shown |= {f"one scale: {name}": _shown(value) for name, value in scaled.items()}
    ours = {name: value for name, value in shown.items() if "gamma" in name}
    return Outcome(
        {**ours, "gap of gamma 0 to conventional": apart},
        {name: value for name, value in shown.items() if name not in ours},
        apart <= 1e-5 and zero > some > more and shuffled >= zero,
        f"the conventional network of equal size has {_equal_size(0)[0].out_features} units a hidden layer",
    )


def _apart(quadratic: nn.Sequential, conventional: nn.Sequential) -> float:
    """Largest difference of weights."""
    layers: list[Any] = [(a, b) for a, b in zip(quadratic, conventional, strict=True) if isinstance(a, QuadraticLinear)]
    pairs = [(a.weight_r, b.weight) for a, b in layers] + [(a.bias_r, b.bias) for a, b in layers]
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


# --- expressivity -----------------------------------------------------------------------------------------------------


def _normal(seed: int, widths: Sequence[int], layer: Any, between: Any, last: Any = None) -> nn.Sequential:
    """A network of standard normal weights and biases."""
    model = _chain(widths, layer, between)
    if last is not None:
        model[-1] = last(*widths[-2:])
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


@PAPER.claim(
    "splines: with ReLU a quadratic network is polynomial in pieces, of a degree that doubles with each layer",
    paper_value="theorem",
    threshold="1-D networks of width 4, depth 1, 2, 3: highest degree exactly 2, 4, 8 (ReLU networks 1, 1, 1); more pieces than ReLU networks at each depth, on average; square activation: one piece",
    seeds=20,
)
def _splines(seeds: Sequence[int]) -> Outcome:
    kinds = {"quadratic": (QuadraticLinear, nn.ReLU), "ReLU": (nn.Linear, nn.ReLU), "square": (nn.Linear, Square)}
    degree, count = {}, {}
    for kind, (layer, between) in kinds.items():
        for depth in (1, 2, 3):
            networks = (_normal(s, [1, *[4] * depth, 1], layer, between, nn.Linear) for s in seeds)
            found = [spline_pieces(network, (-3.0, 3.0)) for network in networks]
            degree[kind, depth] = max(pieces.degree.max() for pieces in found)
            count[kind, depth] = np.array([len(pieces) for pieces in found])
    degrees = {kind: [degree[kind, depth] for depth in (1, 2, 3)] for kind in kinds}
    more = all(count["quadratic", d].mean() > count["ReLU", d].mean() for d in (1, 2, 3))
    one = all((count["square", d] == 1).all() for d in (1, 2, 3))

    def shown(kind: str) -> dict[str, float]:
        return {
            f"{what}, {kind}, depth {d}": value
            for d in (1, 2, 3)
            for what, value in (("degree", degree[kind, d]), ("pieces", count[kind, d].mean()))
        }

    return Outcome(
        shown("quadratic"), {**shown("ReLU"), **shown("square")}, degrees["quadratic"] == [2, 4, 8] and degrees["ReLU"] == [1, 1, 1] and more and one
    )  # fmt: skip


DIMENSIONS = {
    (2, 2, 1): (6, 12),
    (2, 3, 1): (6, 15),
    (2, 2, 2, 1): (10, 18),
    (3, 3, 1): (10, 28),
    (3, 3, 3, 1): (19, 46),
}


@PAPER.claim(
    "dimension: quadratic networks reach a larger set of functions than networks with square activation",
    paper_value="theorem",
    threshold="(2,2,1), (2,3,1), (2,2,2,1), (3,3,1), (3,3,3,1): square 6, 6, 10, 10, 19; quadratic 12, 15, 18, 28, 46; singular values fall by > 1e6 at the rank; a unit that copies another's "
    "weights lowers it",
    expected=False,
    note="all ten dimensions are as stated; the control cannot hold in (2,3,1), where a network with a copied unit still reaches every polynomial: all 6 of degree 2 and all 15 of degree 4 in two variables",
)
def _dimension(seeds: Sequence[int]) -> Outcome:
    measured, control, gaps, holds = {}, {}, [], True
    for shape, expected in DIMENSIONS.items():
        for kind, layer, between, rank in zip(
            ("square", "quadratic"), (nn.Linear, QuadraticLinear), (Square, None), expected, strict=True
        ):
            model = _normal(seeds[0], shape, layer, between)
            free, tied = functional_dimension(model), functional_dimension(_with_copy(model))
            measured[f"{kind} {shape}"], control[f"{kind} {shape}, a copy"] = free.rank, tied.rank
            gaps.append(free.gap)
            holds = holds and free.rank == rank and tied.rank < rank
    return Outcome({**measured, "smallest gap": _shown(min(gaps))}, control, holds and min(gaps) > 1e6)


def _with_copy(model: nn.Sequential) -> nn.Sequential:
    """The second unit of the first layer gets the weights of the first."""
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter[1] = parameter[0]
    return model


# --- few neurons ------------------------------------------------------------------------------------------------------

TASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "XOR": lambda x: (x[:, 0] * x[:, 1] < 0).float(),
    "disk": lambda x: (x.square().sum(1) < 1.6**2).float(),
}
WIDTHS = (1, 2, 4, 8, 16)


def _points(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return 4 * torch.rand(1000, 2, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 2


def _learned(make: Callable[[], nn.Module], task: str, seed: int) -> float:
    """Accuracy on fresh points."""
    model, x, fresh = _seeded(seed, make), _points(seed), _points(500_000 + seed)
    train(
        model,
        [(x, TASKS[task](x))],
        lambda m, x, y: binary_cross_entropy_with_logits(m(x)[:, 0], y),
        steps=600,
        lr=0.03,
        optimiser="adam",
        progress=False,
    )
    with torch.no_grad():
        return ((model(fresh)[:, 0] > 0) == (TASKS[task](fresh) > 0)).double().mean().item()


def _set(layer: QuadraticLinear, **values: Any) -> QuadraticLinear:
    """Weights by hand; all others are zero."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(torch.as_tensor(values.get(name, 0.0)).expand(parameter.shape))
    return layer


@PAPER.claim(
    "fewer neurons suffice: one quadratic unit solves XOR and the disk",
    paper_value=NOT_KNOWN,
    threshold="one quadratic unit >= 0.98 on both at every seed, one conventional unit <= 0.70; ReLU networks need about 8 hidden units (between 4 and 16) for a mean of 0.98; weights set by hand: product "
    "to 1e-12, ring of two units 100 %",
    seeds=3,
)
def _few(seeds: Sequence[int]) -> Outcome:
    unit = {task: min(_learned(lambda: QuadraticLinear(2, 1), task, s) for s in seeds) for task in TASKS}
    usual = {task: max(_learned(lambda: nn.Linear(2, 1), task, s) for s in seeds) for task in TASKS}
    needed, hidden = {}, {}
    for task in TASKS:
        for width in WIDTHS:
            make = partial(_chain, [2, width, 1], nn.Linear, nn.ReLU)
            hidden[f"{task}, {width} hidden ReLU units"] = np.mean([_learned(make, task, s) for s in seeds])
        reached = [w for w in WIDTHS if hidden[f"{task}, {w} hidden ReLU units"] >= 0.98]
        needed[task] = min(reached, default=32)
    x = _points(seeds[0], torch.float64)
    product = _set(QuadraticLinear(2, 1, dtype=torch.float64), weight_r=[[1.0, 0.0]], weight_g=[[0.0, 1.0]])
    error = float((product(x)[:, 0] - x[:, 0] * x[:, 1]).detach().abs().max())
    squared = _set(QuadraticLinear(2, 1, dtype=torch.float64), weight_b=1.0)
    between = _set(QuadraticLinear(1, 1, dtype=torch.float64), weight_r=1.0, bias_r=-1.0, weight_g=-1.0, bias_g=3.0)
    radius = x.square().sum(1)
    inside = nn.Sequential(squared, nn.ReLU(), between)(x)[:, 0] > 0
    ring = (inside == ((radius > 1) & (radius < 3))).double().mean().item()
    return Outcome(
        {**{f"{task}, one quadratic unit": value for task, value in unit.items()}, "error of the product": error, "ring of two units": ring},
        {**{f"{task}, one conventional unit": value for task, value in usual.items()}, **hidden},
        min(unit.values()) >= 0.98 and max(usual.values()) <= 0.70 and all(4 <= n <= 16 for n in needed.values()) and error < 1e-12 and ring == 1.0,
    )  # fmt: skip
