"""What a most discriminative stimulus maximises, and the one-batch machinery for it.

Burg et al. 2024. With `rbar_k(x)` the mean normalised response of cluster k to stimulus x, the stimulus of cluster c
maximises `O_c(x) = rbar_c(x)/tau - log(mean_k exp(rbar_k(x)/tau))`: 0 where it prefers nobody, at most log K.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nissl.comparison.constraints import Constraint
from nissl.comparison.stimuli import noise_stimuli, optimise_stimuli

Labels = Int[np.ndarray, "unit"]  # -1: the unit does not take part
Respond = Callable[[Tensor], Tensor]

_TOGETHER = 256  # stimuli of one batch, unless a single partition has more


def discriminability(
    mean_response: Float[Tensor, "stimulus cluster"],
    own: Int[Tensor, "stimulus"],
    temperature: float = 1.6,
    rivals: Bool[Tensor, "stimulus cluster"] | None = None,
) -> Float[Tensor, "stimulus"]:
    """How much more a stimulus drives its own cluster than the others: log-softmax over clusters, plus log K.

    Parameters
    ----------
    mean_response
        Mean normalised response of every cluster to every stimulus.
    own
        Which cluster each stimulus is for.
    temperature
        How strongly the runner-up counts: small values look at the strongest rival only.
    rivals
        Which clusters compete over a stimulus (its own among them); all where None.

    Returns
    -------
    Tensor
        At most log K, where K is the number of rivals; 0 where the stimulus drives all alike.

    Examples
    --------
    >>> discriminability(torch.tensor([[2.0, 2.0, 2.0]]), torch.tensor([0])).abs().item() < 1e-6
    True
    """
    scaled = mean_response / temperature
    if rivals is None:
        rivals = torch.ones_like(scaled, dtype=torch.bool)
    total = scaled.masked_fill(~rivals, -torch.inf).logsumexp(1)
    return scaled.gather(1, own[:, None])[:, 0] - total + rivals.sum(1).to(scaled.dtype).log()


@dataclass(frozen=True)
class Ascent:
    """How stimuli are made: everything but the population and its partition."""

    canvas: tuple[int, ...]
    constraint: Constraint
    temperature: float = 1.6
    learning_rate: float = 0.3
    optimiser: Literal["adam", "sgd"] = "adam"
    blur: float = 0.0
    smoothness: float = 0.0
    patience: int = 100
    batch_size: int | None = None
    like: dict = field(default_factory=dict)

    def noise(self, n: int, seed: int) -> Float[Tensor, "stimulus *canvas"]:
        """Stimuli to start from."""
        return noise_stimuli(n, self.canvas, self.constraint, seed=seed, **self.like)


@dataclass(frozen=True)
class Made:
    """Stimuli for the clusters of several partitions, one partition after another.

    Attributes
    ----------
    stimuli
        One a cluster.
    response
        Normalised response of every unit to every stimulus.
    objective
        Discriminability of each stimulus among the clusters of its partition.
    bounds
        Where each partition's stimuli begin, and where the last ends.
    """

    stimuli: Float[Tensor, "stimulus *canvas"]
    response: Float[np.ndarray, "stimulus unit"]
    objective: Float[np.ndarray, "stimulus"]
    bounds: Int[np.ndarray, "partition_plus_one"]

    def of(self, i: int) -> slice:
        """The stimuli of partition i."""
        return slice(self.bounds[i], self.bounds[i + 1])


def make_stimuli(
    respond: Respond,
    partitions: Sequence[Labels],
    start: Float[Tensor, "stimulus *canvas"],
    ascent: Ascent,
    steps: int,
    *,
    exciting: bool = False,
    progress: bool = False,
) -> Made:
    """The M-step, for every cluster of every partition in one batch.

    Partitions (restarts, candidate splits, halves) share each pass through the model: all units answer all stimuli, and
    a mask keeps the clusters of one partition from competing with those of another. `exciting` maximises the mean response
    of the cluster alone: its most exciting stimulus.
    """
    counts = [int(labels.max()) + 1 for labels in partitions]
    bounds = np.cumsum([0, *counts])
    parts = []
    for first, last in _groups(bounds):
        rows = slice(bounds[first], bounds[last])
        parts.append(_climb(respond, partitions[first:last], start[rows], ascent, steps, exciting, progress))
    stimuli, response, value = (torch.cat(v) for v in zip(*parts, strict=True))
    return Made(stimuli, response.cpu().numpy().astype(float), value.cpu().numpy().astype(float), bounds)


def _climb(
    respond: Respond,
    partitions: Sequence[Labels],
    start: Tensor,
    ascent: Ascent,
    steps: int,
    exciting: bool,
    progress: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Stimuli, responses and objectives of some partitions, in one batch."""
    mean, partition = averaging(partitions, start)
    own = torch.arange(len(start), device=start.device)
    rivals = partition[:, None] == partition[None]

    def objective(x: Tensor, which: Tensor) -> Tensor:
        average = respond(x) @ mean
        if exciting:
            return average.gather(1, which[:, None])[:, 0]
        return discriminability(average, own[which], ascent.temperature, rivals[which])

    found = optimise_stimuli(
        objective,
        start,
        ascent.constraint,
        steps=steps,
        learning_rate=ascent.learning_rate,
        optimiser=ascent.optimiser,
        blur=ascent.blur,
        smoothness=ascent.smoothness,
        patience=ascent.patience,
        batch_size=ascent.batch_size,
        progress=progress,
    )
    response = answers(respond, found.stimuli, ascent.batch_size)
    return found.stimuli, response, discriminability(response @ mean, own, ascent.temperature, rivals)


def _groups(bounds: Int[np.ndarray, "partition_plus_one"]) -> list[tuple[int, int]]:
    """Runs of partitions with few enough stimuli: masked competition costs the square of their number."""
    groups, first = [], 0
    for last in range(1, len(bounds)):
        if last == len(bounds) - 1 or bounds[last + 1] - bounds[first] > _TOGETHER:
            groups.append((first, last))
            first = last
    return groups


def answers(respond: Respond, x: Tensor, batch_size: int | None) -> Float[Tensor, "stimulus unit"]:
    """Normalised responses, without a graph, in batches."""
    with torch.no_grad():
        return torch.cat([respond(part) for part in x.split(batch_size or len(x))])


def averaging(
    partitions: Sequence[Labels], like: Tensor
) -> tuple[Float[Tensor, "unit stimulus"], Int[Tensor, "stimulus"]]:
    """The fixed matrix that turns responses of units into means of clusters, all partitions side by side; and which
    partition each cluster belongs to.
    """
    columns, owner = [], []
    for i, labels in enumerate(partitions):
        member = labels[:, None] == np.arange(labels.max() + 1)
        columns.append(member / member.sum(0))
        owner.append(np.full(member.shape[1], i))
    matrix = torch.as_tensor(np.concatenate(columns, 1)).to(like)
    return matrix, torch.as_tensor(np.concatenate(owner), device=like.device)
