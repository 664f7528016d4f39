"""Hebbian projection against plain training and against gradient projection memory (SVD of stored activations), written here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from timing import in_turn, table
from torch import Tensor, nn

from nissl.evaluation import average_accuracy, backward_transfer
from nissl.learning import ContinualTrainer, HebbianProjection, Task
from nissl.learning.hebbian_projection.trainer import Epochs, loss
from nissl.nn import SpikingClassifier, SpikingNetwork
from nissl.papers.hebbian_projection import FIRST, LATER, _tasks

SIZES = (576, 100, 100, 10)
EPOCHS, BATCH, LR = 15, 64, 0.2


def network() -> SpikingClassifier:
    return SpikingClassifier(SpikingNetwork(SIZES, seed=0), n_steps=6)


class GradientProjectionMemory:
    """Saha, Garg and Roy 2021: after a task, keep activations, and take as many left singular vectors of each layer's as we take directions.

    Activations are firing rates, as for the Hebbian rule; what earlier tasks keep is taken off them before the decomposition.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
        self.bases = [torch.zeros(0, layer.in_features) for layer in self.layers]
        self.stored = 0

    def project(self) -> None:
        """Take the protected part off all gradients."""
        for layer, basis in zip(self.layers, self.bases, strict=True):
            if layer.weight.grad is not None and len(basis):
                layer.weight.grad -= (layer.weight.grad @ basis.T) @ basis

    @torch.no_grad()
    def finish(self, x: Tensor, k: tuple[int, ...]) -> None:
        """Store the activations of a task, and decompose them."""
        kept: list[Tensor] = []
        handles = [
            layer.register_forward_pre_hook(lambda _, args: kept.append(args[0].mean(1).clone()))
            for layer in self.layers
        ]
        for part in x.split(256):
            self.model(part)
        for handle in handles:
            handle.remove()
        self.stored = sum(v.numel() for v in kept)
        for i, n in enumerate(k):
            r = torch.cat(kept[i :: len(self.layers)])
            r = r - (r @ self.bases[i].T) @ self.bases[i]
            found = torch.linalg.svd(r, full_matrices=False)[2][:n]
            self.bases[i] = torch.cat([self.bases[i], found])

    def learn(self, tasks: list[Task]) -> tuple[Any, list[float]]:
        """The same protocol as `ContinualTrainer`; accuracies, and seconds between the last step of a task and the first of the next."""
        judge, rows, latency = ContinualTrainer(self.model, progress=False), [], []
        judge._start_anew()
        for t, task in enumerate(tasks):
            optimiser = torch.optim.SGD(self.model.parameters(), lr=LR)
            batches = Epochs(task.x, task.y, BATCH, 1009 * t)
            self.model.train()
            for _ in range(EPOCHS):
                for x, y in batches:
                    optimiser.zero_grad()
                    loss(self.model, x, y).backward()
                    self.project()
                    optimiser.step()
            begin = time.perf_counter()
            self.finish(task.x, LATER if t else FIRST)
            latency.append(time.perf_counter() - begin)
            rows.append(judge.evaluate(tasks).to_numpy())
        return rows, latency


def epoch(model: nn.Module, task: Task) -> None:
    """One epoch of somebody's own loop."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for x, y in Epochs(task.x, task.y, BATCH, 0):
        optimiser.zero_grad()
        loss(model, x, y).backward()
        optimiser.step()


def training_step() -> str:
    """An epoch of the second task: plain, and projected with the rule every so often."""
    tasks = _tasks(0, 2)
    jobs: dict[str, Callable[[], object]] = {}
    for name, settings in {
        "plain training": None,
        "projected, rule every 2nd minibatch": {"every": 2},
        "projected, rule each minibatch": {"every": 1},
        "projected, five iterations each minibatch": {"every": 1, "iterations": 5},
        "projected inputs, spiking lateral neurons": {"every": 2, "levels": 40},
    }.items():
        model = network()
        if settings is not None:
            projection = HebbianProjection(model, FIRST, more=LATER, activity="mean", **settings)
            with projection:
                epoch(model, tasks[0])
            projection.attach()
        jobs[name] = lambda m=model: epoch(m, tasks[1])
    times = in_turn(jobs, rounds=9)
    note = f"{len(tasks[1].x)} digits, batches of {BATCH}, a spiking network {' - '.join(map(str, SIZES))} over 6 steps, back-propagation through time."
    return table("Hebbian projection, an epoch of training", times, "plain training", note)


def against_memory() -> str:
    """Five tasks with singular vectors of stored activations, and with Hebbian directions."""
    tasks = _tasks(0, 5)
    memory = GradientProjectionMemory(network())
    rows, latency = memory.learn(tasks)
    model = network()
    projection = HebbianProjection(model, FIRST, more=LATER, activity="mean", every=2)
    trainer = ContinualTrainer(model, projection, epochs=EPOCHS, batch=BATCH, lr=LR, progress=False)
    trainer.fit(tasks)
    # What stands between two tasks for the Hebbian rule: making new rows exactly orthonormal.
    begin = time.perf_counter()
    for n, subspace in zip(LATER, projection.subspaces.values(), strict=True):
        subspace.frozen_ -= n
        subspace.freeze()
    merging = time.perf_counter() - begin
    ours = sum(2 * n * s.n_units for n, s in zip(LATER, projection.subspaces.values(), strict=True))
    lines = [
        "## Hebbian projection and gradient projection memory, five tasks", "",
        "| what | ACC | BWT | numbers held to find directions | seconds at the end of a task |", "| --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    rates = sorted(latency[1:])[len(latency) // 2 - 1]
    for name, accuracy, held, seconds in (
        ("SVD of stored activations", rows, memory.stored, rates),
        ("nissl HebbianProjection", trainer.accuracy_, ours, merging),
    ):
        lines.append(
            f"| {name} | {average_accuracy(accuracy):.3f} | {backward_transfer(accuracy):.3f} | {held} | {seconds:.4f} |"
        )
    note = (
        f"Numbers held: {len(tasks[0].x)} samples of every layer's activity, against rows that learn and their momentum. "
        f"As many directions for both. Ratio of memory {memory.stored / ours:.1f}, of latency {rates / merging:.1f}."
    )
    return "\n".join([*lines, "", note, ""])


def main() -> str:
    torch.set_num_threads(1)
    return "\n".join([training_step(), against_memory()])


if __name__ == "__main__":
    print(main())
