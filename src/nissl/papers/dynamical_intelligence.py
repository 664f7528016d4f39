"""Dynamical intelligence (Monaco, Rajan and Hwang 2021): a perspective without experiments, whose statements are made
testable here on simulated data with known truth and on the worm's wiring.

A perspective is not evidence: each claim says which measure stands for which statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import special, stats

from nissl.learning import ExplorationAgent, dense_world, lock_chain
from nissl.papers.harness import Outcome, Paper
from nissl.populations import (
    ReplayDecoder,
    WeightStatistics,
    treves_rolls,
    weight_statistics,
)
from nissl.populations.attractors import (
    HierarchicalMemory,
    SequenceMemory,
    hierarchical_patterns,
    recalled_share,
    successor_share,
    transitions,
    visits,
)
from nissl.populations.rhythms import (
    pairwise_phase_consistency,
    phase_amplitude,
    phase_locking_value,
    rayleigh,
    spike_phase,
)
from nissl.recordings import worm
from nissl.recordings.simulate import nested_oscillation, phase_locked_spikes, place_cells, replay_events
from nissl.statistics import gini, phase_randomised

PAPER = Paper(
    "dynamical-intelligence",
    "A brain basis of dynamical intelligence for AI and computational neuroscience",
    "populations",
    "https://arxiv.org/abs/2105.07284",
)


@PAPER.claim(
    "sparse codes and sparse, heavy-tailed wiring are measurable (codes with closed forms; Cook 2019 worm)",
    paper_value="none: a perspective; brains are sparse networks with heavy-tailed weights",
    threshold="sparseness within 0.01 of its closed form; worm: log-normal weights best by AIC and reciprocity above every rewiring; "
    "Erdos-Renyi graphs with normal weights: neither",
    note="stands for: structured sparsity of networks and codes",
)
def _sparse(seeds: Sequence[int]) -> Outcome:
    rng = np.random.default_rng(seeds[0])
    n = 200_000
    codes = {
        "1/2 (exponential)": (treves_rolls(rng.exponential(size=n)), 0.5),
        "2/pi (half-normal)": (treves_rolls(np.abs(rng.normal(size=n))), 2 / np.pi),
        "k/n (30 of 200)": (treves_rolls(rng.permutation(np.arange(200) < 30).astype(float)), 0.15),
        "Gini 1/2 (exponential)": (gini(rng.exponential(size=(1, n)))[0], 0.5),
    }
    worst = max(abs(float(found) - truth) for found, truth in codes.values())
    brain = weight_statistics(worm.connectome("Cook2019Herm").chemical, n_surrogates=50, n_partitions=1, seed=seeds[0])
    size = 100
    random_graph = np.where(rng.random((size, size)) < 0.06, rng.normal(size=(size, size)), 0)
    control = weight_statistics(random_graph, n_surrogates=300, n_partitions=1, seed=seeds[0])

    def beats(found: WeightStatistics, rewirings: int) -> tuple[float, bool]:
        row = found.tests.loc["reciprocity"]
        return float(row["effect"]), bool(row["p"] < 1.5 / (1 + rewirings))  # no rewired copy reaches it

    (own, above), (theirs, theirs_above) = beats(brain, 50), beats(control, 300)
    aic = brain.fits["aic"]
    holds = worst < 0.01 and brain.heavy_tailed and above and not control.heavy_tailed and not theirs_above
    return Outcome(
        {"worst error of sparseness": worst, "worm's reciprocity": own, "AIC log-normal": aic["log-normal"]},
        {
            "rewired worm's reciprocity": brain.tests.loc["reciprocity", "surrogate_mean"], "AIC exponential": aic["exponential"],
            "AIC normal": aic["normal"], "random graph's reciprocity": theirs,
            "random graph, rewired": control.tests.loc["reciprocity", "surrogate_mean"],
        },
        holds,
        f"best for the random graph: {control.fits.index[0]}",
    )  # fmt: skip


_COUNTS = (10, 30, 100, 300)


@PAPER.claim(
    "synchrony is a code of its own: pairwise phase consistency reads phase locking whatever the number of spikes",
    paper_value="none: a perspective; timing relative to rhythms carries information beside rate",
    threshold="von Mises phases, kappa 0.5, n = 10 to 300: mean PPC within 0.01 of (I1/I0)^2 = 0.0588 for every n; control: PLV^2 at n = 10 is off by "
    "more than 0.05; uniform phases: mean PPC within 0.005 of 0 for every n, Rayleigh p uniform (KS p > 0.01)",
    note="20,000 runs a number of spikes, since 400 leave a standard error of 0.005 at n = 10; KS on 400 runs of each",
)
def _synchrony(seeds: Sequence[int]) -> Outcome:
    rng = np.random.default_rng(seeds[0])
    truth = float((special.iv(1, 0.5) / special.iv(0, 0.5)) ** 2)
    runs = 20_000
    worst = flat = biased = 0.0
    p = []
    for n in _COUNTS:
        locked, uniform = rng.vonmises(1.0, 0.5, (runs, n)), rng.uniform(-np.pi, np.pi, (runs, n))
        worst = max(worst, abs(float(pairwise_phase_consistency(locked).mean()) - truth))
        flat = max(flat, abs(float(pairwise_phase_consistency(uniform).mean())))
        if n == _COUNTS[0]:
            biased = float((phase_locking_value(locked) ** 2).mean())
        p.append(rayleigh(uniform[:400]))
    uniformity = float(stats.kstest(np.concatenate(p), "uniform").pvalue)
    seen, unlocked = _from_recording(seeds[0])
    holds = worst < 0.01 and biased - truth > 0.05 and flat < 0.005 and uniformity > 0.01
    return Outcome(
        {"largest error of mean PPC": worst, "PPC of uniform phases": flat, "KS p of Rayleigh's p": uniformity},
        {"PLV^2 at n = 10": biased, "truth": truth},
        holds,
        f"from field potential and spikes: mean PPC {seen:.3f} of 40 locked units, {unlocked:.3f} of 40 that are not",
    )


def _from_recording(seed: int) -> tuple[float, float]:
    """Mean PPC through the whole path, filter and all, of locked and of free units."""
    kappa = np.repeat([0.5, 0.0], 40)
    found = phase_locked_spikes(kappa=kappa, n_units=80, duration=60, seed=seed)
    ppc = spike_phase(found, found["lfp"], (5, 11), n_surrogates=1, seed=seed).effect.values[:, 0]
    return float(ppc[:40].mean()), float(ppc[40:].mean())


# A fast rhythm as faint as in the reference, whose modulation index at depth 0.2 is 0.001.
FAINT: dict[str, Any] = {"amplitude": 0.4, "noise": 1.0}


@PAPER.claim(
    "nested oscillations carry amplitude at a phase: 7 Hz phase, 60 Hz amplitude, in pink noise (20 s)",
    paper_value="none: a perspective; fast rhythms are nested in slow ones",
    threshold="modulation index rises with depth 0.2, 0.5, 1; p <= 0.01 and preferred phase within 0.35 rad at each; controls: at depth 0 and after phases are "
    "randomised p < 0.05 in at most 10 % of runs",
    seeds=3,
    expected=False,
    note="at the reference's index at depth 0.2 (0.001) index and p are as claimed, but the preferred phase of so weak a coupling is off by 0.35 to 0.45 rad in the worst of nine "
    "recordings; 200 runs without coupling rather than 50: at 5 % true, 50 runs exceed 10 % once in 26 times",
)
def _nested(seeds: Sequence[int]) -> Outcome:
    depths = (0.2, 0.5, 1.0)
    index, p, error = [], [], []
    for seed in seeds:
        runs = [_coupling(nested_oscillation(depth=d, **FAINT, seed=10 * seed + i), seed) for i, d in enumerate(depths)]
        index.append([float(r.effect[0]) for r in runs])
        p.append([float(r.p[0]) for r in runs])
        error.append([abs(float(np.angle(np.exp(1j * (r.preferred_phase[0] - np.pi / 3))))) for r in runs])
    free = np.concatenate(
        [
            _coupling(nested_oscillation(depth=0, **FAINT, n_units=25, seed=10_000 + 10 * seeds[0] + k), k).p.values
            for k in range(8)
        ]
    )
    coupled = nested_oscillation(depth=1, **FAINT, n_units=5, seed=seeds[0])
    copies = phase_randomised(coupled["activity"].values, 20, seed=seeds[0])
    shuffled = [_coupling(coupled["activity"].copy(data=c), k).p.values for k, c in enumerate(copies)]
    mean = np.mean(index, 0)
    false, after = float((free < 0.05).mean()), float((np.concatenate(shuffled) < 0.05).mean())
    holds = bool(
        (np.diff(index, axis=1) > 0).all()
        and np.max(p) <= 0.01
        and np.max(error) <= 0.35
        and false <= 0.1
        and after <= 0.1
    )
    # The margin: how often the weakest coupling is seen.
    faint = _coupling(nested_oscillation(depth=0.2, **FAINT, n_units=40, seed=seeds[0]), seeds[0])
    return Outcome(
        {
            **{f"MI at depth {d:g}": m for d, m in zip(depths, mean, strict=True)},
            "largest p": np.max(p),
            "largest phase error (rad)": np.max(error),
        },
        {"share p < 0.05 at depth 0": false, "share p < 0.05, phases randomised": after},
        holds,
        f"over 40 runs depth 0.2 gives MI {faint.effect.mean():.4f} and p <= 0.01 in {(faint.p <= 0.01).mean():.0%} of them",
    )


def _coupling(recording: xr.Dataset | xr.DataArray, seed: int) -> xr.Dataset:
    # Controls have no rhythm to be found, so no peak is looked for.
    return phase_amplitude(recording, (5, 9), (45, 75), n_surrogates=200, check_peak=False, seed=seed)


@PAPER.claim(
    "sequences are replayed, forwards and backwards (40 place cells, events of 12 bins of 20 ms)",
    paper_value="none: a perspective; hippocampal sequences are replayed flexibly",
    threshold="share of events that pass both shuffles (p < 0.05) >= 0.95; control: bins in random order 0.02 to 0.08; slope negative in >= 0.95 of reverse "
    "events, positive in >= 0.95 of forward ones",
    seeds=3,
    note="both shuffles are mildly liberal for bins in random order: 0.065 to 0.077 over seeds, not far from the bound; a shuffle of the bins' order keeps its level",
)
def _replay(seeds: Sequence[int]) -> Outcome:
    hits, signs, wrong, error = [], [], [], []
    for seed in seeds:
        run = place_cells(40, seed=seed)
        decoder = ReplayDecoder().fit(run, run.position)
        events = replay_events(run, 200, order="mixed", gain=1.0, seed=seed + 1)
        found = decoder.score(events, seed=seed)
        hits.append(found["p"] < 0.05)
        signs.append(np.sign(found["slope"]) == events["direction"].values)
        wrong.append(decoder.false_positives(events, repeats=4, seed=seed))
        error.append(decoder.validate(run, run.position, seed=seed).effect)
    detected, right, false = float(np.mean(hits)), float(np.mean(signs)), float(np.mean(wrong))
    # Replay comes in bursts: events livelier than the run itself.
    faint = replay_events(run, 200, order="mixed", gain=2.0, seed=seeds[0] + 1)
    found = float(np.mean(decoder.score(faint, seed=seeds[0])["p"].to_numpy() < 0.05))
    mistaken = decoder.false_positives(faint, repeats=4, seed=seeds[0])
    return Outcome(
        {"detected": detected, "direction right": right},
        {"detected, bins in random order": false},
        detected >= 0.95 and right >= 0.95 and 0.02 <= false <= 0.08,
        f"median error on held-out laps {np.mean(error) * 100:.1f} cm of 200; with twice the rates of the run, rather than the same, {found:.1%} found and "
        f"{mistaken:.1%} of events in random order",
    )


@PAPER.claim(
    "oscillations pace sequence read-out: a gated sequence memory gives one item a cycle, at one phase",
    paper_value="none: a perspective; flexible sequences nested in oscillations read out memories",
    threshold="0.9-1.1 items a cycle, PPC of the phase of transitions >= 0.9, share of transitions to the successor >= 0.95; push always on: |PPC| <= 0.1; "
    "stored in another order: share <= 0.3",
    seeds=3,
    note="stands for: nested oscillations and sequences that update attractor memories; N = 500, P = 8, tau 8, period 30, duty 0.3, push 1.5",
)
def _paced(seeds: Sequence[int]) -> Outcome:
    found = np.mean([_read_out(seed) for seed in seeds], 0)
    always = np.mean([_read_out(seed, duty=1.0) for seed in seeds], 0)
    permuted = np.mean([_read_out(seed, permuted=True) for seed in seeds], 0)
    holds = (
        0.9 <= found[0] <= 1.1 and found[1] >= 0.9 and found[2] >= 0.95 and abs(always[1]) <= 0.1 and permuted[2] <= 0.3
    )
    return Outcome(
        {"items a cycle": found[0], "PPC": found[1], "successor share": found[2], "best overlap": found[3]},
        {
            "push always on, PPC": always[1],
            "push always on, items a cycle": always[0],
            "order permuted, share": permuted[2],
        },
        bool(holds),
    )


def _read_out(
    seed: int, *, duty: float = 0.3, permuted: bool = False, networks: int = 6, cycles: int = 30, period: int = 30
) -> tuple[float, float, float, float]:
    """Items a cycle, PPC of the phases at which items begin, share of successors, and mean best overlap: means over networks."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(networks):
        patterns = rng.choice([-1.0, 1.0], (8, 500))
        follow = np.empty(8, int)
        order = rng.permutation(8) if permuted else np.arange(8)
        follow[order] = np.roll(order, -1)
        memory = SequenceMemory(tau=8, period=period, duty=duty).fit(patterns, follow)
        # Oscillations that begin anywhere: a phase that transitions keep is one they get from the oscillation.
        run = memory.run(cycles * period, phase=rng.random(8))
        stays = visits(run.overlap)
        later = stays[stays["start"] > 0]
        phases = run.phase.to_numpy()[later["trial"], later["start"].astype(int)]
        rows.append(
            (
                len(later) / (8 * cycles),
                float(pairwise_phase_consistency(phases)),
                successor_share(transitions(stays, 8)),
                float(run.overlap.max("pattern").mean()),
            )
        )
    return tuple(np.mean(rows, 0))


@PAPER.claim(
    "memory is hierarchical: descendants that resemble their ancestor are kept apart by a rule that stores differences",
    paper_value="none: a perspective; hierarchical models in long-term memory networks",
    threshold="4 x 6 patterns, similarity 0.6, 10% noise: share recalled (overlap > 0.95) >= 0.95; plain Hebb <= 0.05; at similarity 0.3 both >= 0.9",
    seeds=3,
    note="stands for: memory networks that hold hierarchies; N = 600",
)
def _hierarchical(seeds: Sequence[int]) -> Outcome:
    shares: dict[tuple[str, float], list[float]] = {}
    for seed in seeds:
        for similarity in (0.6, 0.3):
            for draw in range(4):
                ancestors, descendants = hierarchical_patterns(4, 6, 600, similarity=similarity, seed=100 * seed + draw)
                for rule in ("hierarchical", "hebb"):
                    memory = HierarchicalMemory(rule=rule).fit(descendants, ancestors)
                    share = recalled_share(memory, memory.patterns_, noise=0.1, seed=seed)
                    shares.setdefault((rule, similarity), []).append(share)
    mean = {key: float(np.mean(values)) for key, values in shares.items()}
    holds = mean["hierarchical", 0.6] >= 0.95 and mean["hebb", 0.6] <= 0.05
    holds &= min(mean["hierarchical", 0.3], mean["hebb", 0.3]) >= 0.9
    return Outcome(
        {"similarity 0.6": mean["hierarchical", 0.6], "similarity 0.3": mean["hierarchical", 0.3]},
        {"plain Hebb, 0.6": mean["hebb", 0.6], "plain Hebb, 0.3": mean["hebb", 0.3]},
        holds,
    )


@PAPER.claim(
    "acting builds better world models: an agent that looks for information knows more of a chain of locks (6 agents a seed)",
    paper_value="none: a perspective; intelligence learns interactively, by acting",
    threshold="missing information after 300 steps <= 0.5 x random and below least-tried; after 3,000 steps equal within 20%; dense world: within 15% of random",
    seeds=3,
    note="stands for: interactive learning; 12 states, 3 actions, 10% slips to any state. Without slips a random learner never sees the chain's end, and the gap stays",
)
def _acting(seeds: Sequence[int]) -> Outcome:
    chains = [lock_chain(n_worlds=6, seed=seed) for seed in seeds]
    strict = [lock_chain(n_worlds=6, slip=0.0, seed=seed) for seed in seeds]
    dense = [dense_world(n_worlds=6, seed=seed) for seed in seeds]
    gain, late = _missing(chains, seeds, "gain", (300, 3000))
    random, random_late = _missing(chains, seeds, "random", (300, 3000))
    (least,), (yoked,) = (_missing(chains, seeds, s, (300,)) for s in ("least_tried", "yoked"))
    (in_dense,), (random_in_dense,) = (_missing(dense, seeds, s, (300,)) for s in ("gain", "random"))
    (strict_gain,), (strict_random,) = (_missing(strict, seeds, s, (3000,)) for s in ("gain", "random"))
    apart = max(late, random_late) / min(late, random_late) - 1
    holds = gain <= 0.5 * random and gain < least and apart <= 0.2 and abs(in_dense / random_in_dense - 1) <= 0.15
    return Outcome(
        {"300 steps, nats": gain, "3,000 steps": late, "dense, 300 steps": in_dense, "no slips, 3,000 steps": strict_gain},
        {
            "random": random, "least-tried": least, "yoked": yoked, "random, 3,000 steps": random_late,
            "random, dense": random_in_dense, "random, no slips, 3,000 steps": strict_random,
        },
        holds,
    )  # fmt: skip


def _missing(worlds: Sequence[object], seeds: Sequence[int], strategy: str, steps: tuple[int, ...]) -> list[float]:
    """Mean missing information after some steps, over agents and seeds; yoked agents repeat what their neighbour chose."""
    rows = []
    for world, seed in zip(worlds, seeds, strict=True):
        actions = None
        if strategy == "yoked":
            actions = np.roll(ExplorationAgent().fit(world, max(steps), seed=seed).path_.action, 1, axis=0)
        agent = ExplorationAgent(strategy=strategy).fit(world, max(steps), actions=actions, seed=seed)  # type: ignore[arg-type]
        rows.append(agent.missing_.mean("agent").sel(time=list(steps)).to_numpy())
    return np.mean(rows, 0).tolist()
