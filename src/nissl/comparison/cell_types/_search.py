"""The alternation: a stimulus for every cluster, a cluster for every unit, until nobody moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nissl.comparison.cell_types._objective import Ascent, Labels, Made, Respond, make_stimuli


@dataclass(frozen=True)
class State:
    """A partition with a stimulus a cluster, and the objective after every round."""

    labels: Labels
    stimuli: Tensor
    history: tuple[float, ...] = ()

    @property
    def n_clusters(self) -> int:
        return int(self.labels.max()) + 1


def random_partition(n: int, k: int, rng: np.random.Generator) -> Labels:
    """Clusters of equal size (as far as n allows), dealt out at random."""
    return rng.permutation(np.arange(n) % k)


def alternate(
    respond: Respond,
    partitions: Sequence[Labels],
    ascent: Ascent,
    *,
    steps: int,
    max_iter: int,
    warm_up: int = 1,
    seed: int = 0,
    start: Sequence[Tensor] | None = None,
) -> list[State]:
    """Expectation-maximisation of several partitions side by side (restarts, or sub-clusterings of several clusters).

    Parameters
    ----------
    steps, warm_up
        Steps of ascent in one round: the i-th round has `warm_up * i` of them, up to `steps`. Stimuli that converge on a
        random partition would freeze it.
    max_iter
        Rounds at most; a partition drops out when none of its units moves.
    """
    if not partitions:
        return []
    states = []
    first = ascent.noise(sum(int(p.max()) + 1 for p in partitions), seed) if start is None else torch.cat(list(start))
    begin = 0
    for labels in partitions:
        k = int(labels.max()) + 1
        states.append(State(labels, first[begin : begin + k]))
        begin += k
    going = list(range(len(states)))
    for iteration in range(max_iter):
        here = [states[i] for i in going]
        made = make_stimuli(
            respond,
            [s.labels for s in here],
            torch.cat([s.stimuli for s in here]),
            ascent,
            min(steps, warm_up * (iteration + 1)),
        )
        still = []
        for j, i in enumerate(going):
            moved = reassigned(states[i], made, j)
            # Few steps move few units: only a round with all its steps may end the search.
            full = warm_up * (iteration + 1) >= steps
            if moved.n_clusters > 1 and not (full and np.array_equal(moved.labels, states[i].labels)):
                still.append(i)
            states[i] = moved
        going = still
        if not going:
            break
    return states


def reassigned(state: State, made: Made, i: int) -> State:
    """The E-step: every unit goes to the stimulus that drives it most; clusters without units vanish."""
    rows = made.of(i)
    best = made.response[rows].argmax(0)
    members = state.labels >= 0
    kept, labels = np.unique(best[members], return_inverse=True)
    new = np.full_like(state.labels, -1)
    new[members] = labels
    history = (*state.history, float(made.objective[rows].mean()))
    return State(new, made.stimuli[rows][kept], history)
