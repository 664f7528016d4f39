"""Hebbian learning based orthogonal projection for continual learning of spiking neural networks: its claims on random subspaces, and on
digits whose pixels are shuffled anew in each task.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nissl.evaluation import average_accuracy, backward_transfer
from nissl.learning import ContinualTrainer, HebbianProjection, HebbianSubspace, Task, permuted_tasks
from nissl.nn import SpikingClassifier, SpikingNetwork
from nissl.papers.harness import Outcome, Paper

PAPER = Paper(
    "hebbian-projection",
    "Hebbian learning based orthogonal projection for continual learning of spiking neural networks",
    "learning",
    "https://arxiv.org/abs/2402.11984",
    threads=1,
)
# Directions of each layer's 576, 100 and 100 inputs: in the first task, and in each later one. What five tasks take must fit.
FIRST, LATER = (60, 60, 50), (40, 9, 10)
LR = 0.02  # of the subspaces alone: the plain rule, five iterations a minibatch
BATCHES, BATCH = 1500, 64


def _draw(basis: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
    """A minibatch whose principal directions are the rows of `basis`, with these standard deviations."""
    return (torch.randn(BATCH, len(basis), generator=generator) * spread) @ basis


def _basis(k: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(n, k, generator=generator))[0].T


def _alignment(rows: Tensor, basis: Tensor) -> float:
    """Smallest cosine of the principal angles between two subspaces."""
    return float(torch.linalg.svdvals(torch.linalg.qr(rows.T)[0].T @ torch.linalg.qr(basis.T)[0]).min())


NOT_KNOWN = "shown, without a number that we know of"
PRINCIPAL = "captured >= 0.99 of the optimum (eigenvectors), smallest principal cosine >= 0.99; no anti-Hebbian term: rows grow more than tenfold"


@PAPER.claim(
    "Hebbian and anti-Hebbian learning extracts the principal subspace of activity (1,500 minibatches)",
    paper_value=NOT_KNOWN,
    threshold=PRINCIPAL,
    seeds=3,
    expected=False,
    note="the twelfth and thirteenth variances differ by 15 percent, and in this time their ratio grows by exp(3.7) only: most starts arrive, one "
    "that begins nearly orthogonal to the twelfth direction does not (seed 7000)",
)
def _extracts(seeds: Sequence[int]) -> Outcome:
    return _principal(seeds, BATCHES)


@PAPER.claim(
    "Hebbian and anti-Hebbian learning extracts the principal subspace of activity from any start (three times as long)",
    paper_value=NOT_KNOWN,
    threshold=PRINCIPAL,
    seeds=3,
)
def _extracts_in_time(seeds: Sequence[int]) -> Outcome:
    return _principal(seeds, 3 * BATCHES)


def _principal(seeds: Sequence[int], batches: int) -> Outcome:
    """Twelve rows for 64 units whose variances fall as exp(-i / 6)."""
    found = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        basis, spread = _basis(64, 64, generator), torch.exp(-torch.arange(64) / 12)
        whole, lesion = (HebbianSubspace(64, lr=LR, seed=seed, anti_hebbian=a).extend(12) for a in (True, False))
        for _ in range(batches):
            x = _draw(basis, spread, generator)
            whole.partial_fit(x)
            if float(lesion.rows_.norm()) < 1e6:  # it grows without bound
                lesion.partial_fit(x)
        kept, variance = torch.linalg.qr(whole.rows_.T)[0].T @ basis.T, spread.square()
        captured = float((kept.square() @ variance).sum() / variance[:12].sum())
        off = float((whole.rows_ @ whole.rows_.T - torch.eye(12)).abs().max())
        growth = float(lesion.rows_.norm(dim=1).max())
        found.append([captured, _alignment(whole.rows_, basis[:12]), off, growth])
    captured, cosine, off, growth = np.array(found).T
    return Outcome(
        {"captured": captured.min(), "cosine": cosine.min(), "off orthonormal": off.max()},
        {"norm without the anti-Hebbian term": growth.min()},
        bool((captured >= 0.99).all() and (cosine >= 0.99).all() and (growth > 10).all()),
    )


@PAPER.claim(
    "a new task's subspace is added without touching the old one",
    paper_value=NOT_KNOWN,
    threshold="frozen rows bit-identical, joint smallest cosine >= 0.99, residual energy of old data < 0.01; of random data 1 - k/N +- 0.05",
    seeds=3,
)
def _added(seeds: Sequence[int]) -> Outcome:
    found = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        old, new = _basis(10, 100, generator), _basis(10, 100, generator)
        subspace, spread = HebbianSubspace(100, seed=seed, lr=LR), torch.ones(10)
        for basis in (old, new):
            subspace.extend(10)
            before = subspace.protected.clone()
            for _ in range(BATCHES):
                subspace.partial_fit(_draw(basis, spread, generator))
            same = torch.equal(before, subspace.rows_[: len(before)])
            subspace.freeze()
            same &= torch.equal(before, subspace.rows_[: len(before)])
        left = [
            _left_over(subspace, x)
            for x in (_draw(old, spread, generator), torch.randn(2000, 100, generator=generator))
        ]
        found.append([same, _alignment(subspace.rows_, torch.cat([old, new])), *left])
    same, cosine, residual, random = np.array(found).T
    expected = 1 - 20 / 100
    return Outcome(
        {"frozen rows the same": same.min(), "cosine": cosine.min(), "residual of old data": residual.max()},
        {"residual of random data": random.mean()},
        bool(
            same.all()
            and (cosine >= 0.99).all()
            and (residual < 1e-2).all()
            and (np.abs(random - expected) <= 0.05).all()
        ),
    )


def _left_over(subspace: HebbianSubspace, x: Tensor) -> float:
    return float(subspace.residual(x).square().sum() / x.square().sum())


# ---------------------------------------------------------------------------- digits with shuffled pixels


@lru_cache(maxsize=2)
def _tasks(seed: int, n_tasks: int) -> list[Task]:
    """Digits of 8 x 8 pixels, each drawn as 3 x 3, in orders of pixels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.kron(np.reshape(pixels, (-1, 8, 8)) / 16, np.ones((3, 3))).astype(np.float32)
    return permuted_tasks(images, labels, n_tasks, seed=seed)


@lru_cache(maxsize=32)
def _learned(
    seed: int, protection: str, n_tasks: int = 5, gradient: Any = "through_time", error: str = "bp"
) -> dict[str, float]:
    """Average accuracy and backward transfer of a spiking network that learns the orders one after another."""
    network = SpikingNetwork((576, 100, 100, 10), gradient=gradient, seed=seed)
    model = SpikingClassifier(network, n_steps=6, average=gradient != "online")
    settings: dict[str, dict[str, Any]] = {
        "Hebbian": {}, "random": {"lr": 0.0}, "40 levels": {"levels": 40}, "1 level": {"levels": 1},
    }  # fmt: skip
    projection = None
    if protection != "none":
        # Firing rates are learned from, once every other minibatch.
        projection = HebbianProjection(
            model, FIRST, more=LATER, activity="mean", every=2, seed=seed, **settings[protection]
        )
    trainer = ContinualTrainer(model, projection, error=error, epochs=15, batch=64, lr=0.2, seed=seed, progress=False)
    accuracy = trainer.fit(_tasks(seed, n_tasks)).accuracy_
    return {"ACC": average_accuracy(accuracy), "BWT": backward_transfer(accuracy)}


def _named(results: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{measure}, {name}": value for name, found in results.items() for measure, value in found.items()}


@PAPER.claim(
    "nearly zero forgetting, and better accuracy than plain training (five orders of pixels)",
    paper_value="permuted MNIST: ACC about 95, BWT about -1 percent (unsure)",
    threshold="BWT >= -0.03 and ACC >= plain + 0.10; as many random directions: BWT < -0.03",
)
def _forgetting(seeds: Sequence[int]) -> Outcome:
    found, plain, random = (_learned(seeds[0], kind) for kind in ("Hebbian", "none", "random"))
    return Outcome(
        found,
        _named({"plain": plain, "random directions": random}),
        found["BWT"] >= -0.03 and found["ACC"] >= plain["ACC"] + 0.1 and random["BWT"] < -0.03,
    )


@PAPER.claim(
    "spiking lateral neurons do as well as linear ones",
    paper_value="ablation table, numbers not known",
    threshold="40 levels up to 20: ACC and BWT within 0.02 of linear responses; 1 level: not within 0.02",
    expected=False,
    note="holds for some seeds and misses by a little for others: a response is rounded to halves of a spike here, and what is weaker than a quarter "
    "is neither learned nor protected",
)
def _spiking(seeds: Sequence[int]) -> Outcome:
    linear, spiking, silent = (_learned(seeds[0], kind) for kind in ("Hebbian", "40 levels", "1 level"))
    return Outcome(
        spiking, _named({"linear": linear, "1 level": silent}), _near(spiking, linear) and not _near(silent, linear)
    )


def _near(found: dict[str, float], other: dict[str, float]) -> bool:
    return all(abs(found[name] - other[name]) <= 0.02 for name in found)


def _protects(seed: int, gradient: str, error: str) -> tuple[dict[str, float], dict[str, float], bool]:
    found, plain = (_learned(seed, kind, 3, gradient, error) for kind in ("Hebbian", "none"))
    return found, plain, found["BWT"] >= -0.05 and plain["BWT"] <= found["BWT"] - 0.05


def _with_rules(seed: int, rules: dict[str, tuple[str, str]]) -> Outcome:
    results = {name: _protects(seed, *rule) for name, rule in rules.items()}
    found = _named({name: r[0] for name, r in results.items()})
    plain = _named({f"{name}, plain": r[1] for name, r in results.items()})
    return Outcome(found, plain, all(r[2] for r in results.values()))


@PAPER.claim(
    "it works with any training method: online through time, and sign-symmetric feedback (three orders of pixels)",
    paper_value="table, numbers not known",
    threshold="BWT >= -0.05, and plain training at least 0.05 lower, for each",
)
def _any_method(seeds: Sequence[int]) -> Outcome:
    return _with_rules(seeds[0], {"online": ("online", "bp"), "sign-symmetric": ("through_time", "ss")})


@PAPER.claim(
    "it works with any training method: feedback alignment (three orders of pixels)",
    paper_value="table, numbers not known",
    threshold="BWT >= -0.05, and plain training at least 0.05 lower",
    expected=False,
    note="holds for some seeds: with random feedback plain training itself forgets little here, often by less than the 0.05 to be gained",
)
def _alignment_of_feedback(seeds: Sequence[int]) -> Outcome:
    return _with_rules(seeds[0], {"feedback alignment": ("through_time", "fa")})
