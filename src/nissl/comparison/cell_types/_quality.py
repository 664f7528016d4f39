"""What a partition is worth: stimuli are made on one half of every cluster and tried on the other.

Objectives may be compared at equal numbers of clusters only, for their ceiling is log K. What does compare is whether a
cluster's held-out members respond to its stimulus more than any other cluster does: true of types, false of a type that was
cut in two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from nissl.comparison.cell_types._objective import Ascent, Labels, Made, Respond, discriminability, make_stimuli


@dataclass(frozen=True)
class Quality:
    """A partition, judged.

    Attributes
    ----------
    objective
        Mean objective over clusters, on the units that the stimuli were made for.
    held_out
        The same on held-out members; NaN where no cluster can be halved.
    margin
        For every cluster: how much more its held-out members respond to its stimulus than any other cluster's do, in SD;
        the smaller of two halves. NaN for a cluster of one unit, which cannot be halved.
    rival
        The cluster that responds most to each cluster's stimulus beside its own members.
    verified
        Which clusters have the margin that is asked for.
    """

    objective: float
    held_out: float
    margin: Float[np.ndarray, "cluster"]
    rival: Int[np.ndarray, "cluster"]
    verified: np.ndarray

    @property
    def failing(self) -> int:
        """How many clusters lack the margin."""
        return int((~self.verified).sum())


def judge(
    respond: Respond,
    partitions: Sequence[Labels],
    ascent: Ascent,
    *,
    steps: int,
    min_margin: float,
    min_share: float = 0.15,
    seed: int = 0,
    repeats: int = 1,
) -> list[Quality]:
    """Value each partition on all its units, and on held-out halves of every cluster, all in one batch.

    Stimuli are made from scratch with the same number of steps for every partition, so that comparisons are fair. Several
    `repeats` halve the clusters anew and average the margins.

    A cluster is verified when its margin reaches `min_margin` SD and `min_share` of its own response. The second is needed
    because the units of a cluster were chosen by their responses to its stimulus: pieces of one type therefore differ a little
    on held-out members as well, in proportion to how strongly the type responds.
    """
    rng = np.random.default_rng(seed)
    halves = [[halved(labels, rng) for _ in range(repeats)] for labels in partitions]
    jobs = [
        j for labels, pairs in zip(partitions, halves, strict=True) for j in (labels, *(h for p in pairs for h in p))
    ]
    noise = ascent.noise(sum(int(j.max()) + 1 for j in jobs), seed)
    made = make_stimuli(respond, jobs, noise, ascent, steps)
    each = 1 + 2 * repeats
    return [
        _judged(made, each * i, labels, pairs, ascent.temperature, (min_margin, min_share))
        for i, (labels, pairs) in enumerate(zip(partitions, halves, strict=True))
    ]


def halved(labels: Labels, rng: np.random.Generator) -> tuple[Labels, Labels]:
    """Two partitions, each with half the members of every cluster; a single unit is in both."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels[labels >= 0])
    first, second = np.full_like(labels, -1), np.full_like(labels, -1)
    for k, members in enumerate(np.split(order[(labels < 0).sum() :], np.cumsum(sizes)[:-1])):
        half = (len(members) + 1) // 2
        first[members[:half]] = k
        second[members[half:] if len(members) > 1 else members] = k
    return first, second


def cluster_means(
    response: Float[np.ndarray, "stimulus unit"], labels: Labels, k: int
) -> Float[np.ndarray, "stimulus cluster"]:
    """Mean response of every cluster to every stimulus; units labelled -1 count nowhere."""
    member = labels[:, None] == np.arange(k)
    with np.errstate(invalid="ignore"):
        return response @ member / member.sum(0)


def row_margin(
    means: Float[np.ndarray, "stimulus cluster"],
) -> tuple[Float[np.ndarray, "cluster"], Int[np.ndarray, "cluster"]]:
    """Own response minus the greatest other one, and whose that is; stimuli and clusters in the same order."""
    others = np.where(np.eye(len(means), dtype=bool), -np.inf, means)
    return np.diag(means) - others.max(1), others.argmax(1)


def _judged(
    made: Made,
    at: int,
    labels: Labels,
    halves: Sequence[tuple[Labels, Labels]],
    temperature: float,
    least: tuple[float, float],
) -> Quality:
    k = int(labels.max()) + 1
    if k == 1:  # there is nobody to be told from
        return Quality(0.0, 0.0, np.array([np.inf]), np.array([0]), np.array([True]))
    single = np.bincount(labels[labels >= 0], minlength=k) < 2
    margins, rivals, values, own = [], [], [], []
    for i, (first, second) in enumerate(halves):
        for j, test in ((1, second), (2, first)):
            means = cluster_means(made.response[made.of(at + 2 * i + j)], test, k)
            margin, rival = row_margin(means)
            margins.append(margin)
            rivals.append(rival)
            own.append(np.diag(means))
            values.append(discriminability(torch.as_tensor(means), torch.arange(k), temperature).numpy())
    worse = np.argmin(margins, 0)
    margin = np.where(single, np.nan, np.reshape(margins, (len(halves), 2, k)).min(1).mean(0))
    held_out = float(np.mean(values, 0)[~single].mean()) if not single.all() else float("nan")
    with np.errstate(invalid="ignore"):
        verified = margin >= np.maximum(least[0], least[1] * np.mean(own, 0))
    objective = float(made.objective[made.of(at)].mean())
    return Quality(objective, held_out, margin, np.stack(rivals)[worse, np.arange(k)], verified)
