"""Need is All You Need: Homeostatic Neural Networks Adapt to Concept Shift: its claims on streams of handwritten digits.

The paper takes 300,000 decisions on 3 million pictures. Here a stream has 40,000 and some 4,000 decisions, so the step is enlarged from a tenth of the
rate to the whole rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

from nissl.evaluation import spearman
from nissl.learning import (
    ConceptShift,
    HomeostaticSGD,
    best_constant_rate,
    elu_classifier,
    late_accuracy,
    recovery_time,
    run_stream,
)
from nissl.papers.harness import Outcome, Paper

PAPER = Paper(
    "homeostatic",
    "Need is All You Need: Homeostatic Neural Networks Adapt to Concept Shift",
    "learning",
    "https://arxiv.org/abs/2205.08645",
    threads=1,
)
LR = 1e-3
# Samples between swaps, from a stationary world to the fastest.
PACES: tuple[int | None, ...] = (None, 4000, 2000, 1000)
POLICIES = {"LRH": "homeostatic", "LRC": "constant", "SHUF": "shuffled"}
NOT_KNOWN = "reported in figures, without a number"
STEP = "step enlarged to eta_0 (the paper: eta_0 / 10, over 75 times as many decisions)"
Seeds = tuple[int, ...]


@lru_cache(maxsize=1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    """The digits of scikit-learn: 64 pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    pixels, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    return (pixels / 16).astype(np.float32), labels.astype(np.int64)


def _streams(seeds: Sequence[int], **settings: Any) -> list[ConceptShift]:
    return [ConceptShift(*_digits(), noise=0.05, seed=seed, **settings) for seed in seeds]


def _live(seeds: Sequence[int], streams: Sequence[ConceptShift], **learners: dict[str, Any]) -> dict[str, xr.Dataset]:
    """Learners of each kind, one a seed, all on the same streams and from the same weights."""
    settings = [(seed, kind) for kind in learners.values() for seed in seeds]
    models = [elu_classifier(64, 10, seed=seed) for seed, _ in settings]
    masters = [
        HomeostaticSGD(
            m, **{"lr": LR, "step_size": LR, "seed": s} | {k: v[s] if k == "takes" else v for k, v in kind.items()}
        )
        for m, (s, kind) in zip(models, settings, strict=True)
    ]
    result = run_stream(models, list(streams) * len(learners), masters, progress=False)
    n = len(seeds)
    return {name: _rows(result, i * n, n) for i, name in enumerate(learners)}


def _rows(result: xr.Dataset, first: int, n: int) -> xr.Dataset:
    events = (result.swap_run >= first) & (result.swap_run < first + n)
    part = result.isel(run=slice(first, first + n), event=events.to_numpy())
    return part.assign(swap_run=part.swap_run - first)


@lru_cache(maxsize=2)
def _lives(seeds: Seeds) -> dict[int | None, dict[str, xr.Dataset]]:
    """Every policy at every pace."""
    kinds = {name: {"policy": policy} for name, policy in POLICIES.items()}
    return {pace: _live(seeds, _streams(seeds, every=pace), **kinds) for pace in PACES}


def _accuracies(seeds: Sequence[int], policy: str) -> dict[int | None, np.ndarray]:
    return {pace: late_accuracy(kinds[policy]).to_numpy() for pace, kinds in _lives(tuple(seeds)).items()}


def _pace(pace: int | None) -> str:
    return "no swaps" if pace is None else f"every {pace}"


def _median_rates(result: xr.Dataset) -> np.ndarray:
    """Median learning rate of each run over the second half."""
    return result.lr.isel(batch=slice(result.sizes["batch"] // 2, None)).median("batch").to_numpy()


def _starved(result: xr.Dataset) -> int:
    """Runs whose rate lies near the floor for most of the second half."""
    return int((_median_rates(result) < LR / 10).sum())


def _each(values: np.ndarray) -> str:
    return "/".join(f"{v:.3g}" for v in values)


def _seed_note(seeds: Sequence[int]) -> str:
    """Median and every seed of LRH, and the starved among them."""
    found, lives = _accuracies(seeds, "LRH"), _lives(tuple(seeds))
    parts = [
        f"{_pace(p)} median {np.median(a):.3f} ({_each(a)}; {_starved(lives[p]['LRH'])} starved)"
        for p, a in found.items()
    ]
    return "LRH by seed: " + ", ".join(parts)


def _recovery(seeds: Sequence[int], policy: str, pace: int) -> tuple[float, float]:
    """Median time back to 90% and the share of swaps after which it was reached before the next."""
    times = recovery_time(_lives(tuple(seeds))[pace][policy])
    return float(times.median()), float(times.notnull().mean())


@PAPER.claim(
    "a homeostatic learner adapts better than one with the same, constant rate, most where labels shift most",
    paper_value=NOT_KNOWN,
    threshold="advantage over a constant, untuned rate >= 0.10 with a swap every 2000 and every 1000 samples, and larger there than without swaps",
    seeds=5,
    note=STEP,
)
def _adapts(seeds: Sequence[int]) -> Outcome:
    ours, constant = _accuracies(seeds, "LRH"), _accuracies(seeds, "LRC")
    gain = {p: float((ours[p] - constant[p]).mean()) for p in PACES}
    (time, share), (time_c, share_c) = _recovery(seeds, "LRH", 4000), _recovery(seeds, "LRC", 4000)
    return Outcome(
        {f"advantage, {_pace(p)}": g for p, g in gain.items()}
        | {f"accuracy, {_pace(p)}": ours[p].mean() for p in PACES},
        {f"constant, {_pace(p)}": constant[p].mean() for p in PACES},
        min(gain[2000], gain[1000]) >= 0.10 and min(gain[2000], gain[1000]) > gain[None],
        f"{_seed_note(seeds)}; back to 90% after a swap (every 4000): {share:.0%} of swaps, median {time:.0f} samples; constant {share_c:.0%}, {time_c:.0f}",
    )


@PAPER.claim(
    "vulnerability does not impair performance in a world without shift",
    paper_value=NOT_KNOWN,
    threshold="accuracy without swaps >= that of the constant rate - 0.02",
    seeds=5,
    note=STEP,
)
def _unimpaired(seeds: Sequence[int]) -> Outcome:
    ours, constant = (_accuracies(seeds, name)[None] for name in ("LRH", "LRC"))
    note = f"by seed {_each(ours)} against {_each(constant)}; {_starved(_lives(tuple(seeds))[None]['LRH'])} starved"
    return Outcome(ours.mean(), constant.mean(), ours.mean() >= constant.mean() - 0.02, note)


@PAPER.claim(
    "the rate is regulated by the environment: the more shift, the higher",
    paper_value=NOT_KNOWN,
    threshold="Spearman's rho of swap rate and rate (median of the second half, median of seeds) over four swap rates >= 0.8",
    seeds=5,
    expected=False,
    note=f"{STEP}; the order of medians of five seeds is not stable: of three sets of seeds two have it and one has not, and over all 15 only the fastest pace stands out "
    "(0.007 against 0.004); random effects (SHUF) may be in order by chance, a constant rate has no order",
)
def _regulated(seeds: Sequence[int]) -> Outcome:
    lives = _lives(tuple(seeds))
    rates = {k: np.array([np.median(_median_rates(lives[p][k])) for p in PACES]) for k in POLICIES}
    swaps = np.array([[0.0 if p is None else 1 / p for p in PACES]])
    order = {k: float(spearman(swaps, r[None])[0]) for k, r in rates.items()}
    measured = {"rho": order["LRH"]} | {f"rate, {_pace(p)}": r for p, r in zip(PACES, rates["LRH"], strict=True)}
    control = {"rho, SHUF": order["SHUF"], "rho, LRC": order["LRC"]}
    by_seed = ", ".join(f"{_pace(p)} {_each(_median_rates(lives[p]['LRH']))}" for p in PACES)
    return Outcome(measured, control, order["LRH"] >= 0.8, f"rates by seed: {by_seed}")


@PAPER.claim(
    "superior where the pace of shift itself changes with the seasons",
    paper_value=NOT_KNOWN,
    threshold="accuracy >= constant rate + 0.10 on average, and better in at least 4 of 6 seeds",
    seeds=6,
    note=f"{STEP}; the claim is against the constant rate, and not that the rate follows the seasons: random effects (SHUF) do as well",
)
def _seasons(seeds: Sequence[int]) -> Outcome:
    streams = _streams(seeds, n_samples=64_000, every=(8000, 1000), season=8000)
    lives = _live(seeds, streams, **{name: {"policy": policy} for name, policy in POLICIES.items()})
    found = {k: late_accuracy(r).to_numpy() for k, r in lives.items()}
    better = int((found["LRH"] > found["LRC"]).sum())
    lr, high = lives["LRH"].lr, lives["LRH"].season == 1
    follows = int((lr.where(high).mean("batch") > lr.where(~high).mean("batch")).sum())
    return Outcome(
        {"LRH": found["LRH"].mean(), "seeds better": better},
        {"LRC": found["LRC"].mean(), "SHUF": found["SHUF"].mean()},
        found["LRH"].mean() >= found["LRC"].mean() + 0.10 and better >= 4,
        f"by seed {_each(found['LRH'])} against {_each(found['LRC'])}; {_starved(lives['LRH'])} starved; the rate is higher in the high season in {follows} of {len(seeds)} seeds",
    )


@PAPER.claim(
    "stakes matter: the effect is that of what was really consumed, chosen through perception",
    paper_value=NOT_KNOWN,
    threshold="mean accuracy without swaps, every 4000 and every 2000 >= that with random effects (SHUF) + 0.05",
    seeds=5,
    expected=False,
    note=f"{STEP}; not stable: in three sets of five seeds the difference was 0.02, -0.03 and 0.09, over all 15 it is 0.03. At a swap every 1000 samples any rise of the rate helps, "
    "and random effects do about as well",
)
def _stakes(seeds: Sequence[int]) -> Outcome:
    ours, shuffled = _accuracies(seeds, "LRH"), _accuracies(seeds, "SHUF")
    measured, control = (float(np.mean([a[p].mean() for p in PACES[:3]])) for a in (ours, shuffled))
    return Outcome(
        {"mean": measured} | {_pace(p): ours[p].mean() for p in PACES},
        {"mean": control} | {_pace(p): shuffled[p].mean() for p in PACES},
        measured >= control + 0.05,
        "SHUF by seed: " + ", ".join(f"{_pace(p)} {_each(a)}" for p, a in shuffled.items()),
    )


@PAPER.claim(
    "beats random regulation (a swap every 2000 samples, step eta_0 / 10 as published)",
    paper_value=NOT_KNOWN,
    threshold="accuracy above that of takes at random with probability 1/2, and of as many takes as its own at random moments",
    seeds=5,
    expected=False,
    note="the random walk of LRR is reflected at the floor and drifts upwards, where any rise helps; with so few decisions homeostasis moves the rate less",
)
def _random(seeds: Sequence[int]) -> Outcome:
    streams = _streams(seeds, n_samples=60_000, every=2000)
    lives = _live(seeds, streams, LRH={"step_size": LR / 10}, LRR={"step_size": LR / 10, "policy": "random"})
    plans = {}
    for run, seed in enumerate(seeds):
        decision = lives["LRH"].decision[run].to_numpy()
        taken = decision[decision != "not asked"] == "taken"
        plans[seed] = np.random.default_rng(seed).permutation(taken)
    as_many = _live(seeds, streams, same={"step_size": LR / 10, "policy": "yoked", "takes": plans})["same"]
    found = {k: late_accuracy(r).to_numpy() for k, r in (lives | {"as many": as_many}).items()}
    mean = {k: float(v.mean()) for k, v in found.items()}
    rates = {k: _each(_median_rates(r)) for k, r in (lives | {"as many": as_many}).items()}
    return Outcome(
        {"LRH": mean["LRH"]},
        {"LRR": mean["LRR"], "as many takes, random moments": mean["as many"]},
        mean["LRH"] > max(mean["LRR"], mean["as many"]),
        f"by seed LRH {_each(found['LRH'])}, LRR {_each(found['LRR'])}, as many {_each(found['as many'])}; median rates {rates['LRH']}; {rates['LRR']}; {rates['as many']}",
    )


@PAPER.claim(
    "what a user will ask: better than the best constant rate, had it been known beforehand",
    paper_value="not claimed",
    threshold="accuracy above that of the constant rate which is best on the same streams, at each pace",
    seeds=5,
    expected=False,
    note="a constant rate tuned on the stream itself is an oracle; homeostasis is measured against one that nobody tuned",
)
def _oracle(seeds: Sequence[int]) -> Outcome:
    ours = _accuracies(seeds, "LRH")
    best = {}
    for pace in PACES:
        models = [elu_classifier(64, 10, seed=seed) for seed in seeds]
        best[pace] = best_constant_rate(models, _streams(seeds, every=pace), np.geomspace(0.01, 1, 5), progress=False)
    return Outcome(
        {_pace(p): ours[p].mean() for p in PACES},
        {_pace(p): best[p].best_accuracy.mean() for p in PACES},
        all(ours[p].mean() > float(best[p].best_accuracy.mean()) for p in PACES),
        "best rates " + ", ".join(f"{_pace(p)} {float(best[p].best):.3g}" for p in PACES),
    )


@PAPER.claim(
    "imagining one sample's update is what works: with the whole minibatch's, recent memory favours small steps",
    paper_value="an implementation detail of the reference",
    threshold="eta_0 0.0058, a swap every 2000: accuracy with the whole minibatch imagined below that of the constant rate; rate below eta_0 (medians)",
    seeds=5,
    expected=False,
    note=f"{STEP}; one sample does better, but with the whole minibatch the rate does not decay here, nor with the published step; this is no claim of the paper",
)
def _one_sample(seeds: Sequence[int]) -> Outcome:
    lr = {"lr": 0.0058, "step_size": 0.0058}
    kinds = {"sample": lr, "batch": lr | {"gradient": "batch"}, "LRC": lr | {"policy": "constant"}}
    lives = _live(seeds, _streams(seeds, every=2000), **kinds)
    found = {k: late_accuracy(r).to_numpy() for k, r in lives.items()}
    rates = {k: float(np.median(_median_rates(r))) for k, r in lives.items()}
    return Outcome(
        {"whole minibatch": found["batch"].mean(), "its rate": rates["batch"]},
        {"constant": found["LRC"].mean(), "one sample": found["sample"].mean(), "its rate": rates["sample"]},
        bool(found["batch"].mean() < found["LRC"].mean() and rates["batch"] < 0.0058),
        f"whole minibatch by seed {_each(found['batch'])}",
    )
