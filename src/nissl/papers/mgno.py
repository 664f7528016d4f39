"""Multigrid neural operators: their claims on Darcy flow through random ground, beside Fourier operators and single-level networks.

Settings are those of the card. Ground of two permeabilities on 31 x 31 interior nodes, 200 samples to train and 100 to test, 40 epochs
in batches of 10, Adam with weight decay 1e-4, one-cycle with its peak at 4e-3 unless said; fields standardised by the mean and
standard deviation of the training set, errors taken of the fields as they are. MgNO is measured at three seeds in the first claim; every
baseline at one, and at the rate that was best for it in a search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from nissl.learning import train
from nissl.nn.operators import FourierNeuralOperator
from nissl.nn.operators.losses import relative_h1_loss, relative_l2_loss
from nissl.nn.operators.multigrid import MgNO
from nissl.papers.harness import Outcome, Paper
from nissl.specimens import darcy_flow
from nissl.specimens._elliptic import poisson

PAPER = Paper(
    "mgno",
    "MgNO: Efficient Parameterization of Linear Operators via Multigrid",
    "nn",
    "https://arxiv.org/abs/2310.19809",
    threads=1,
)
TRAIN, TEST, SIZE, BATCH = 200, 100, 31, 10
PEAK = 4e-3
# The best of 4e-3, 1e-2 and 2e-2 for the Fourier operators (H1 at seed 0: 0.113, 0.099, 0.093; the larger one 0.093, 0.082, 0.078;
# of 40 samples for 200 epochs 0.181, 0.170, 0.158), and of 1e-3, 2e-3 and 4e-3 for one level (0.138, 0.105, 0.094). The whole
# searches take two more minutes.
FNO_RATES = (2e-2,)
LARGE_FNO_RATES = (2e-2,)
FEW_FNO_RATES = (2e-2,)
SINGLE_RATES = (2e-3, 4e-3)
NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Fields:
    """Inputs standardised, outputs as they are, and what standardises them; the last TEST samples are for the test."""

    x: Tensor
    y: Tensor
    mean: float
    sd: float
    spacing: float
    boundary: str


@dataclass
class Epochs:
    """Batches of a training set, in another order each epoch."""

    x: Tensor
    y: Tensor
    seed: int
    epoch: int = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch."""
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(1000 * self.seed + self.epoch))
        self.epoch += 1
        for rows in order.split(BATCH):
            yield self.x[rows], self.y[rows]


@lru_cache(maxsize=8)
def _darcy(seed: int) -> Fields:
    flow = darcy_flow(TRAIN + TEST, SIZE, seed=seed)
    return _fields(flow.coefficient.values, flow.pressure.values, 1 / (SIZE + 1), "dirichlet")


@lru_cache(maxsize=4)
def _waves(seed: int) -> Fields:
    problem = poisson(TRAIN + TEST, 32, boundary="periodic", seed=seed)
    return _fields(problem.source.values, problem.solution.values, 1 / 32, "periodic")


def _fields(x: np.ndarray, y: np.ndarray, spacing: float, boundary: str) -> Fields:
    x = (x - x[:TRAIN].mean()) / x[:TRAIN].std()
    mean, sd = float(y[:TRAIN].mean()), float(y[:TRAIN].std())
    inputs, outputs = (torch.from_numpy(a).float().unsqueeze(1) for a in (x, y))
    return Fields(inputs, outputs, mean, sd, spacing, boundary)


@dataclass(frozen=True)
class Run:
    """What is trained, and how."""

    kind: str = "mgno"
    width: int = 12
    depth: int = 3
    steps: tuple[int, ...] = (1, 1, 1, 2)
    boundary: str = "dirichlet"
    modes: int = 6
    rate: float = PEAK
    epochs: int = 40
    samples: int = TRAIN
    loss: str = "h1"
    shuffled: bool = False
    data: str = "darcy"

    def network(self, seed: int) -> nn.Module:
        """A network at its beginning."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.kind == "fno":  # eight zeros at the end of 31 points
                return FourierNeuralOperator(
                    1, 1, self.width, self.modes, self.depth, padding=8 / SIZE, projection=64, boundary="interior"
                )
            # The nodes are those of the data, also where the boundary condition is wrong.
            nodes = "interior" if self.data == "darcy" else "periodic"
            return MgNO(1, 1, self.width, self.depth, self.steps, boundary=self.boundary, nodes=nodes)


@lru_cache(maxsize=256)
def _errors(run: Run, seed: int) -> tuple[float, float]:
    """Relative H1 and L2 error on the test samples after training."""
    fields = (_darcy if run.data == "darcy" else _waves)(seed)
    h1 = partial(relative_h1_loss, spacing=fields.spacing, boundary=fields.boundary)
    measure = h1 if run.loss == "h1" else relative_l2_loss
    x, y = fields.x[: run.samples], fields.y[: run.samples]
    if run.shuffled:
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]
    network = run.network(seed)

    def answer(model: nn.Module, x: Tensor) -> Tensor:
        return fields.mean + fields.sd * model(x)

    train(
        network,
        Epochs(x, y, seed),
        lambda model, x, y: measure(answer(model, x), y),
        steps=run.epochs * len(x) // BATCH,
        lr=run.rate,
        optimiser=partial(torch.optim.Adam, weight_decay=1e-4, fused=True),
        schedule="one-cycle",
        seed=seed,
        progress=False,
    )
    with torch.no_grad():
        found = answer(network.eval(), fields.x[-TEST:])
    return h1(found, fields.y[-TEST:]).item(), relative_l2_loss(found, fields.y[-TEST:]).item()


def _h1(run: Run, seed: int) -> float:
    return _errors(run, seed)[0]


def _best(runs: Sequence[Run], seed: int) -> tuple[float, float]:
    """Errors of the run with the least H1 error."""
    return min(_errors(run, seed) for run in runs)


def _weights(run: Run) -> int:
    return sum(p.numel() for p in run.network(0).parameters())


def _mean_predictor(seed: int) -> tuple[float, float]:
    fields = _darcy(seed)
    truth = fields.y[-TEST:]
    mean = fields.y[:TRAIN].mean(0, keepdim=True).expand_as(truth)
    h1 = relative_h1_loss(mean, truth, fields.spacing, fields.boundary)
    return h1.item(), relative_l2_loss(mean, truth).item()


@PAPER.claim(
    "accurate with few weights: below a Fourier neural operator of equal size and one 3.6 times as large, each at its own rate",
    paper_value=NOT_KNOWN,
    threshold="test relative H1 <= 0.07, <= 0.75 x the FNO of equal size and <= 0.9 x the larger one; relative L2 <= 0.03",
    seeds=3,
    expected=False,
    note="holds where all three networks train (H1 0.059 and 0.057 at seeds 1 and 7), and not at seed 0, where one of three is stuck at 0.28 from its beginning on; of 16 beginnings two are. The FNOs run at 2e-2, the best of 4e-3, 1e-2 and 2e-2 at seed 0",
)
def _accurate(seeds: Sequence[int]) -> Outcome:
    h1, l2 = np.mean([_errors(Run(), s) for s in seeds], 0)
    small = [Run("fno", 12, modes=6, rate=r) for r in FNO_RATES]
    large = [Run("fno", 16, modes=8, rate=r) for r in LARGE_FNO_RATES]
    (equal, equal_l2), (larger, larger_l2) = (_best(runs, seeds[0]) for runs in (small, large))
    shuffled = _h1(Run(shuffled=True, epochs=12), seeds[0])
    mean, mean_l2 = _mean_predictor(seeds[0])
    sizes = ", ".join(f"{_weights(run):,}" for run in (Run(), small[0], large[0]))
    return Outcome(
        {"H1": h1, "L2": l2},
        {
            "FNO of equal size, H1": equal, "its L2": equal_l2, "larger FNO, H1": larger, "its L2 ": larger_l2,
            "trained on shuffled inputs for 12 epochs, H1": shuffled, "mean of the training set, H1": mean, "its L2  ": mean_l2,
        },
        bool(h1 <= 0.07 and h1 <= 0.75 * equal and h1 <= 0.9 * larger and l2 <= 0.03),
        f"{sizes} weights",
    )  # fmt: skip


@PAPER.claim(
    "coarse levels matter: the same width and depth with five smoothing steps on one level is worse at any rate",
    paper_value=NOT_KNOWN,
    threshold="the best single-level network's H1 error >= 1.5 x that of MgNO",
    seeds=3,
    expected=False,
    note="holds at seeds 1 and 7, and not at 0, where the mean of three holds a network that is stuck; those that train reach 0.05 to 0.06. At seed 7 the network of one level is stuck too, at both rates (0.39, 0.33), so that little follows from it. One level at 1e-3 was worse (0.138 at seed 0)",
)
def _coarse_levels(seeds: Sequence[int]) -> Outcome:
    h1 = np.mean([_h1(Run(), s) for s in seeds])
    single = {rate: _h1(Run(steps=(5,), rate=rate), seeds[0]) for rate in SINGLE_RATES}
    return Outcome(
        {"four levels": h1},
        {f"one level, rate {rate:g}": error for rate, error in single.items()},
        bool(min(single.values()) >= 1.5 * h1),
        f"{_weights(Run(steps=(5,))):,} weights on one level",
    )


@PAPER.claim(
    "boundary conditions are respected: stencils padded as if the field were periodic are worse where it is zero on the border",
    paper_value=NOT_KNOWN,
    threshold="H1 error with the wrong boundary condition >= 1.25 x that with the right one",
    seeds=3,
    expected=False,
    note="1.4 times at seed 1 and 1.1 times at seed 7; at seed 0 the mean of three holds a network that is stuck, and the first network alone gives 1.3 times. On the periodic problem the wrong padding costs 1.7 to 2.4 times",
)
def _boundary(seeds: Sequence[int]) -> Outcome:
    right = np.mean([_h1(Run(), s) for s in seeds])
    wrong = _h1(Run(boundary="periodic"), seeds[0])
    waves = [Run(boundary=b, data="waves", depth=2, epochs=12) for b in ("periodic", "dirichlet")]
    right_wave, wrong_wave = (_h1(run, seeds[0]) for run in waves)
    return Outcome(
        {"zero padding": right, "periodic problem, circular padding": right_wave},
        {"circular padding": wrong, "periodic problem, zero padding (no part in the threshold)": wrong_wave},
        bool(wrong >= 1.25 * right),
    )


@PAPER.claim(
    "training on the H1 error gives better gradients than training on the L2 error",
    paper_value=NOT_KNOWN,
    threshold="H1 error after 12 epochs at peak 2e-3 with the L2 loss >= 1.6 x that with the H1 loss",
    seeds=1,
)
def _loss(seeds: Sequence[int]) -> Outcome:
    h1, l2 = (np.mean([_errors(Run(rate=2e-3, epochs=12, loss=loss), s) for s in seeds], 0) for loss in ("h1", "l2"))
    return Outcome(
        {"H1 loss, H1": h1[0], "its L2": h1[1]}, {"L2 loss, H1": l2[0], "its L2 ": l2[1]}, bool(l2[0] >= 1.6 * h1[0])
    )


@PAPER.claim(
    "less over-fitting than spectral operators: of 40 samples the test error falls from 60 to 200 epochs, and ends below the FNO's",
    paper_value=NOT_KNOWN,
    threshold="H1 at 200 epochs below that at 60, and below the FNO's at 200",
    seeds=1,
)
def _few_samples(seeds: Sequence[int]) -> Outcome:
    few = {epochs: Run(samples=40, epochs=epochs) for epochs in (60, 200)}
    short, long = (np.mean([_errors(few[e], s) for s in seeds], 0) for e in (60, 200))
    spectral = {
        e: np.mean([_best([Run("fno", 12, samples=40, epochs=e, rate=r) for r in FEW_FNO_RATES], s) for s in seeds], 0)
        for e in (60, 200)
    }
    return Outcome(
        {"60 epochs, H1": short[0], "200 epochs, H1": long[0], "200 epochs, L2": long[1]},
        {"FNO, 60 epochs, H1": spectral[60][0], "200 epochs, H1": spectral[200][0], "200 epochs, L2": spectral[200][1]},
        bool(long[0] < short[0] and long[0] < spectral[200][0]),
    )
