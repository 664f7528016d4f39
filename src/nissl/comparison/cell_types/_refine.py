"""Split what may hide several types, merge what no held-out member tells apart, until nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nissl.comparison.cell_types._objective import Ascent, Labels, Respond
from nissl.comparison.cell_types._quality import Quality, judge
from nissl.comparison.cell_types._search import State, alternate, random_partition

Accept = Literal["margin", "objective"]

_SUB_ROUNDS = 50
_SUB_CLUSTERS = (2, 3, 4)
_WORST = 3
_RELATIVE_GAIN = 0.1  # by which a merge has to raise the mean objective under accept="objective"


@dataclass(frozen=True)
class Rules:
    """When a split or a merge is kept.

    Attributes
    ----------
    accept
        `objective`: the published rule, the mean objective over clusters must rise. `margin`: besides, every cluster must
        be told from the others on held-out members.
    min_margin, min_share
        By how many SD, and by which share of its own response.
    steps
        Of ascent, for every stimulus that a decision rests on.
    max_passes
        Over all clusters.
    """

    accept: Accept = "margin"
    min_margin: float = 0.5
    min_share: float = 0.15
    steps: int = 50
    max_passes: int = 10

    def better_split(self, new: Quality, old: Quality) -> bool:
        """Whether a partition with more clusters takes the place of one with fewer."""
        if new.objective <= old.objective:
            return False
        if self.accept == "objective":
            return True
        return new.failing <= old.failing and new.verified.sum() > old.verified.sum()

    def better_merge(self, new: Quality, old: Quality) -> bool:
        """Whether a partition with fewer clusters takes the place of one with more."""
        if self.accept == "objective":
            return new.objective > (1 + _RELATIVE_GAIN) * old.objective
        return new.failing < old.failing and new.verified.sum() >= old.verified.sum()

    def rank(self, quality: Quality) -> tuple[float, ...]:
        """What the best of several partitions has most of."""
        if self.accept == "objective":
            return (quality.objective,)
        return (quality.verified.sum() - quality.failing, np.nan_to_num(quality.held_out, nan=-np.inf))


def refine(
    respond: Respond, states: Sequence[State], ascent: Ascent, rules: Rules, *, split: bool, merge: bool, seed: int
) -> tuple[list[State], list[Quality]]:
    """Split and merge the clusters of several states side by side, until a full pass changes none of them."""
    states = list(states)
    qualities = _judge(respond, states, ascent, rules, seed)
    going = set(range(len(states)))
    for turn in range(rules.max_passes):
        changed: set[int] = set()
        for wanted, propose, better in (
            (merge, _merges, rules.better_merge),
            (split, _splits, rules.better_split),
        ):
            if wanted:
                changed |= _change(
                    respond, states, qualities, sorted(going), ascent, rules, propose, better, seed + 1000 * (turn + 1)
                )
        going = changed
        if not going:
            break
    return states, qualities


def _change(
    respond: Respond,
    states: list[State],
    qualities: list[Quality],
    which: list[int],
    ascent: Ascent,
    rules: Rules,
    propose: Callable[..., list[list[Labels]]],
    better: Callable[[Quality, Quality], bool],
    seed: int,
) -> set[int]:
    """One pass: all proposals of all states are worked out and judged in one batch; each state takes its best."""
    proposals = propose(respond, [states[i] for i in which], [qualities[i] for i in which], ascent, rules, seed)
    owner = [i for i, some in zip(which, proposals, strict=True) for _ in some]
    flat = [labels for some in proposals for labels in some]
    if not flat:
        return set()
    tried = _settled(respond, flat, ascent, rules, seed)
    judged = _judge(respond, tried, ascent, rules, seed)
    changed = set()
    for i in set(owner):
        good = [(rules.rank(q), j) for j, q in enumerate(judged) if owner[j] == i and better(q, qualities[i])]
        if good:
            _, j = max(good)
            states[i], qualities[i] = State(tried[j].labels, tried[j].stimuli, states[i].history), judged[j]
            changed.add(i)
    return changed


def _settled(respond: Respond, partitions: list[Labels], ascent: Ascent, rules: Rules, seed: int) -> list[State]:
    """Stimuli from scratch, then every unit to the cluster whose stimulus drives it most, twice over."""
    return alternate(respond, partitions, ascent, steps=rules.steps, warm_up=rules.steps, max_iter=2, seed=seed)


def _judge(respond: Respond, states: Sequence[State], ascent: Ascent, rules: Rules, seed: int) -> list[Quality]:
    return judge(
        respond,
        [s.labels for s in states],
        ascent,
        steps=rules.steps,
        min_margin=rules.min_margin,
        min_share=rules.min_share,
        seed=seed,
    )


def _splits(
    respond: Respond, states: list[State], qualities: list[Quality], ascent: Ascent, rules: Rules, seed: int
) -> list[list[Labels]]:
    """For every cluster, what the same algorithm makes of its members alone; and all of a state's splits at once."""
    rng = np.random.default_rng(seed)
    jobs: list[tuple[int, int, Labels]] = []
    for i, state in enumerate(states):
        for c in range(state.n_clusters):
            members = np.flatnonzero(state.labels == c)
            for k in _SUB_CLUSTERS:
                if len(members) >= 2 * k:
                    labels = np.full_like(state.labels, -1)
                    labels[members] = random_partition(len(members), k, rng)
                    jobs.append((i, c, labels))
    # One step of ascent a round, many rounds: a random start has to be able to move.
    found = alternate(respond, [j[2] for j in jobs], ascent, steps=1, max_iter=_SUB_ROUNDS, seed=seed)
    best = _best_sub_clusters(respond, jobs, [s.labels for s in found], ascent, rules, seed)
    proposals: list[list[Labels]] = []
    for i, state in enumerate(states):
        subs = {c: sub for (j, c), sub in best.items() if i == j}
        some = [_inserted(state.labels, c, sub) for c, sub in subs.items()]
        if len(subs) > 1:
            together = state.labels
            for c, sub in subs.items():
                together = _inserted(together, c, sub)
            some.append(together)
        proposals.append(some)
    return proposals


def _best_sub_clusters(
    respond: Respond,
    jobs: Sequence[tuple[int, int, Labels]],
    subs: list[Labels],
    ascent: Ascent,
    rules: Rules,
    seed: int,
) -> dict[tuple[int, int], Labels]:
    """For every cluster of every state its best sub-clustering, if there is one worth a trial in the whole.

    Members of one type that cannot be told apart among themselves cannot be told apart in the whole either: judging them
    alone first costs a few stimuli a cluster instead of all of them.
    """
    keys = [(i, c) for i, c, _ in jobs]
    kept = [j for j, sub in enumerate(subs) if sub.max() > 0]
    if not kept:
        return {}
    keys, subs = [keys[j] for j in kept], [subs[j] for j in kept]
    judged = judge(
        respond, subs, ascent, steps=rules.steps, min_margin=rules.min_margin, min_share=rules.min_share, seed=seed
    )
    if rules.accept == "margin":
        # What no held-out member tells from its rival goes back to it; what is told from nobody is no type.
        joined = [
            _joined(sub, [(int(c), int(q.rival[c])) for c in np.flatnonzero(~q.verified)])
            if q.verified.any()
            else sub * 0
            for sub, q in zip(subs, judged, strict=True)
        ]
    else:
        joined = subs
    best: dict[tuple[int, int], tuple[tuple[float, ...], int]] = {}
    for j, (key, sub, q) in enumerate(zip(keys, joined, judged, strict=True)):
        if sub.max() > 0:
            best[key] = max(best.get(key, ((-np.inf,), -1)), (rules.rank(q), j))
    return {key: joined[j] for key, (_, j) in best.items()}


def _inserted(labels: Labels, c: int, sub: Labels) -> Labels:
    """Cluster c replaced by its sub-clusters: the first keeps its number, the others come last."""
    new = labels.copy()
    here = labels == c
    new[here] = np.where(sub[here] == 0, c, labels.max() + sub[here])
    return new


def _merges(
    respond: Respond, states: list[State], qualities: list[Quality], ascent: Ascent, rules: Rules, seed: int
) -> list[list[Labels]]:
    """Clusters that are not told from the others, joined with their strongest rivals: the worst one by one, all that touch
    no other pair, and all.
    """
    proposals = []
    for state, quality in zip(states, qualities, strict=True):
        if state.n_clusters == 1:
            proposals.append([])
            continue
        worst_first = np.argsort(np.nan_to_num(quality.margin, nan=-np.inf))
        failing = [c for c in worst_first if rules.accept == "objective" or not quality.verified[c]]
        pairs = [(int(c), int(quality.rival[c])) for c in failing]
        disjoint: list[tuple[int, int]] = []
        for a, b in pairs:
            if not {a, b} & {i for pair in disjoint for i in pair}:
                disjoint.append((a, b))
        some = [[pair] for pair in pairs[:_WORST]] + [many for many in (disjoint, pairs) if len(many) > 1]
        proposals.append([_joined(state.labels, join) for join in some])
    return proposals


def _joined(labels: Labels, pairs: Sequence[tuple[int, int]]) -> Labels:
    """Clusters of every pair made one, chains of pairs too; renumbered."""
    group = np.arange(labels.max() + 1)
    for a, b in pairs:
        group[group == group[a]] = group[b]
    new = np.full_like(labels, -1)
    members = labels >= 0
    new[members] = np.unique(group[labels[members]], return_inverse=True)[1]
    return new
