"""Astrocyte-Enabled Advancements in Spiking Neural Networks for Large Language Modeling: its claims on delayed recall, on
short stories, and on what a generated token costs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn.functional import cross_entropy

from nissl.interventions import Clamp, intervene
from nissl.learning import token_recall, train
from nissl.models import load, stepping
from nissl.nn import LIF, AstrocyteMemory, AstroSNN, spike_rates
from nissl.papers.harness import Outcome, Paper
from nissl.specimens import stories

PAPER = Paper(
    "astro-snn",
    "Astrocyte-Enabled Advancements in Spiking Neural Networks for Large Language Modeling",
    "nn",
    "https://arxiv.org/abs/2312.07625",
    threads=1,
)
NOT_KNOWN = "reported for larger models; no code"
VOCABULARY, WIDTH = 17, 32  # 8 symbols, 8 fillers and the query
CLEARED_AT = 20
# Language: stories of 65 words are read as 64 predictions, in 8 bins of 8 positions.
LENGTH, BINS, LANGUAGE_WIDTH = 64, 8, 48
CONTEXTS, BASELINE_WIDTH = (64, 256, 1024, 4096), 256


# -------------------------------------------------------------------------------------------------------- delayed recall


@lru_cache(maxsize=16)
def _recaller(seed: int, delay: int, astrocytes: bool = True, target: float | None = None) -> AstroSNN:
    """A network trained to say, after the delay, the symbol it was shown first; with a target, spikes above it cost."""
    network = AstroSNN(VOCABULARY, WIDTH, layers=2, heads=2, astrocytes=astrocytes, seed=seed)

    def loss(model: AstroSNN, ids: Tensor, answer: Tensor) -> Tensor:
        with spike_rates(model, warn=False) as rates:
            error = cross_entropy(model(ids)[:, -1], answer)
        if target is None:
            return error
        return error + sum((r - target).clamp(min=0).square().mean() for r in rates.values())

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return token_recall(64, delay, seed=generator)

    train(network, batch, loss, steps=300, lr=5e-3, clip=1.0, schedule="cosine", seed=seed, progress=False)
    return network.eval()


def _recalls(network: AstroSNN, delay: int, seed: int, lesion: dict[str, Any] | None = None) -> float:
    """Share of 512 new samples that are answered rightly."""
    ids, answer = token_recall(512, delay, seed=10_000 + seed)
    with torch.no_grad(), intervene(load(network), lesion or {}):
        return float((network(ids)[:, -1].argmax(-1) == answer).float().mean())


@PAPER.claim(
    "astrocytes give spiking networks the memory that plain leaky integrate-and-fire networks lack (delayed recall)",
    paper_value=NOT_KNOWN,
    threshold="accuracy >= 0.95 at a delay of 40 tokens; <= 0.25 without astrocytes (chance 0.125); each in every seed",
    seeds=2,
)
def _memory(seeds: Sequence[int]) -> Outcome:
    found = [_recalls(_recaller(s, 40), 40, s) for s in seeds]
    without = [_recalls(_recaller(s, 40, astrocytes=False), 40, s) for s in seeds]
    return Outcome(
        {"delay 40": np.mean(found)},
        {"delay 40, no astrocytes": np.mean(without)},
        min(found) >= 0.95 and max(without) <= 0.25,
    )


@PAPER.claim(
    "the memory lives in the astrocytes, on their time scale",
    paper_value="derived",
    threshold="calcium cleared at token 20, or decay 0.5: accuracy <= 0.3; membranes cleared: costs <= 0.05; each in every seed",
    seeds=2,
)
def _where(seeds: Sequence[int]) -> Outcome:
    at = slice(CLEARED_AT, CLEARED_AT + 1)
    rows = []
    for seed in seeds:
        network = _recaller(seed, 40)
        calcium = _recalls(network, 40, seed, {"blocks.*.astrocyte.state": Clamp(0.0, positions=at)})
        membrane = _recalls(network, 40, seed, {"blocks.*.neuron.membrane": Clamp(0.0, positions=at)})
        longer = [_recalls(network, delay, seed) for delay in (60, 80)]
        rows.append([_recalls(network, 40, seed), calcium, _short(network, seed), membrane, *longer])
    whole, calcium, short, membrane, sixty, eighty = np.array(rows).T
    return Outcome(
        {"calcium cleared": calcium.mean(), "decay 0.5": short.mean()},
        {
            "untouched": whole.mean(), "membranes cleared": membrane.mean(), "delay 60, not trained": sixty.mean(),
            "delay 80, not trained": eighty.mean(),
        },
        bool(max(calcium.max(), short.max()) <= 0.3 and (whole - membrane).max() <= 0.05),
    )  # fmt: skip


def _short(network: AstroSNN, seed: int) -> float:
    """Accuracy while all astrocytes forget half at each token."""
    memories = [m for m in network.modules() if isinstance(m, AstrocyteMemory)]
    before = [m.decay.clone() for m in memories]
    try:
        for memory in memories:
            memory.set_decay(0.5)
        return _recalls(network, 40, seed)
    finally:
        for memory, decay in zip(memories, before, strict=True):
            memory.set_decay(decay)


@PAPER.claim(
    "spiking is sparse: neurons can be asked to be quiet",
    paper_value=NOT_KNOWN,
    threshold="accuracy >= 0.95 at delay 20 with every layer's rate <= 0.3 spikes a token; without the penalty the rate is higher",
)
def _sparse(seeds: Sequence[int]) -> Outcome:
    (right, rate), (free_right, free_rate) = (_quiet(seeds[0], target) for target in (0.2, None))
    return Outcome(
        {"accuracy": right, "highest rate": rate},
        {"no penalty, accuracy": free_right, "no penalty, highest rate": free_rate},
        right >= 0.95 and rate <= 0.3 < free_rate,
    )


@PAPER.claim(
    "asked to be quite silent, the network fails",
    paper_value="derived",
    threshold="a penalty on all spikes (target 0): accuracy < 0.95 at delay 20; with a target of 0.2 >= 0.95",
    expected=False,
    note=(
        "a penalty of weight 1 on squared rates costs less than an answer is worth: the network becomes sparser still and stays right"
    ),
)
def _silenced(seeds: Sequence[int]) -> Outcome:
    (right, rate), (asked_right, asked_rate) = (_quiet(seeds[0], target) for target in (0.0, 0.2))
    return Outcome(
        {"target 0, accuracy": right, "target 0, highest rate": rate},
        {"target 0.2, accuracy": asked_right, "target 0.2, highest rate": asked_rate},
        right < 0.95 <= asked_right,
    )


def _quiet(seed: int, target: float | None) -> tuple[float, float]:
    """Accuracy, and the mean rate of the layer that fires most."""
    network = _recaller(seed, 20, target=target)
    with torch.no_grad(), spike_rates(network, warn=False) as rates:
        network(token_recall(256, 20, seed=20_000 + seed)[0])
    return _recalls(network, 20, seed), max(float(r.mean()) for r in rates.values())


# --------------------------------------------------------------------------------------------------------------- language


def _words(n: int, seed: int, *, shuffled: bool) -> Tensor:
    """Stories as tokens; shuffled, every token of the corpus is put anywhere."""
    ids = torch.from_numpy(stories(n, LENGTH + 1, seed=seed).ids)
    if not shuffled:
        return ids
    order = torch.randperm(ids.numel(), generator=torch.Generator().manual_seed(seed))
    return ids.flatten()[order].reshape(ids.shape)


def _parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _language_network(vocabulary: int, astrocytes: bool, seed: int) -> AstroSNN:
    """Two layers; without astrocytes just so much wider that it has at least as many weights."""
    full = AstroSNN(vocabulary, LANGUAGE_WIDTH, layers=2, heads=2, seed=seed)
    if astrocytes:
        return full
    width = LANGUAGE_WIDTH
    while _parameters(plain := AstroSNN(vocabulary, width, layers=2, astrocytes=False, seed=seed)) < _parameters(full):
        width += 1
    return plain


@lru_cache(maxsize=8)
def _loss_by_position(seed: int, astrocytes: bool, shuffled: bool) -> tuple[np.ndarray, int]:
    """Nats a token on new stories, by bin of position, and how many weights the network has."""
    corpus, held_out = _words(4000, 2 * seed, shuffled=shuffled), _words(500, 2 * seed + 1, shuffled=shuffled)
    network = _language_network(len(stories(1).words), astrocytes, seed)

    def batch(generator: torch.Generator) -> Tensor:
        return corpus[torch.randint(len(corpus), (32,), generator=generator)]

    def loss(model: AstroSNN, ids: Tensor) -> Tensor:
        return cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())

    train(network, batch, loss, steps=300, lr=5e-3, clip=1.0, schedule="cosine", seed=seed, progress=False)
    with torch.no_grad():
        logits = network.eval()(held_out[:, :-1])
        nats = cross_entropy(logits.flatten(0, 1), held_out[:, 1:].flatten(), reduction="none").reshape(-1, LENGTH)
    return nats.mean(0).reshape(BINS, -1).mean(1).numpy(), _parameters(network)


def _rank_correlation(by_bin: np.ndarray) -> float:
    """Spearman's correlation with the number of the bin."""
    return float(np.corrcoef(np.arange(len(by_bin)), rankdata(by_bin))[0, 1])


def _gain(seed: int, *, shuffled: bool) -> np.ndarray:
    """Nats a token that astrocytes save, by bin of position."""
    return _loss_by_position(seed, False, shuffled)[0] - _loss_by_position(seed, True, shuffled)[0]


@PAPER.claim(
    "astrocytes model language better at an equal number of weights",
    paper_value=NOT_KNOWN,
    threshold="loss >= 5% lower in nats a token; tokens of the corpus shuffled: the difference is less than a tenth of that",
)
def _language(seeds: Sequence[int]) -> Outcome:
    (astro, n_astro), (plain, n_plain) = (_loss_by_position(seeds[0], a, False) for a in (True, False))
    gain, shuffled = _gain(seeds[0], shuffled=False).mean(), _gain(seeds[0], shuffled=True).mean()
    return Outcome(
        {"loss, nats": astro.mean(), "lower by": gain / plain.mean()},
        {"no astrocytes, nats": plain.mean(), "shuffled, difference in nats": shuffled},
        bool(gain / plain.mean() >= 0.05 and abs(shuffled) < 0.1 * gain),
        f"{n_astro} weights against {n_plain}; stories from templates, a word a token",
    )


@PAPER.claim(
    "the advantage of astrocytes grows with the context",
    paper_value=NOT_KNOWN,
    threshold=(
        "Spearman of advantage and position > 0.5 over 8 bins; from the first half of positions to the second it grows, with the "
        "tokens of the corpus shuffled by less than a tenth of that"
    ),
    expected=False,
    note=(
        "in these stories all people and things have been named after some thirty words: the advantage rises over the first third "
        "of positions and stays, so the rank correlation lies at its threshold, above or below it by the seed"
    ),
)
def _context(seeds: Sequence[int]) -> Outcome:
    gain, shuffled = (_gain(seeds[0], shuffled=s) for s in (False, True))
    growth, growth_shuffled = (float(g[BINS // 2 :].mean() - g[: BINS // 2].mean()) for g in (gain, shuffled))
    rank = _rank_correlation(gain)
    return Outcome(
        {"Spearman": rank, "growth, nats": growth, "first bin, nats": gain[0], "last bin, nats": gain[-1]},
        {"shuffled, growth": growth_shuffled, "shuffled, Spearman": _rank_correlation(shuffled)},
        bool(rank > 0.5 and growth > 0 and abs(growth_shuffled) < 0.1 * growth),
    )


# ----------------------------------------------------------------------------------------------------- training = generating


@PAPER.claim(
    "parallel training and recurrent generation are the same network",
    paper_value=NOT_KNOWN,
    threshold="largest difference of logits < 1e-4 in float32; spikes equal in float64; with calcium lost between tokens > 1e-2",
    seeds=3,
)
def _same(seeds: Sequence[int]) -> Outcome:
    single, wrong, lost = [], [], []
    for seed in seeds:
        network = AstroSNN(50, WIDTH, layers=2, heads=2, seed=seed).eval()
        ids = torch.randint(50, (4, 20), generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            whole = network(ids)
            single.append(float((whole - _token_by_token(network, ids)).abs().max()))
            lost.append(float((whole - _token_by_token(network, ids, forgetful=True)).abs().max()))
            exact = network.double()
            wrong.append(_spikes_that_differ(exact, ids))
    return Outcome(
        {"float32, logits": max(single), "float64, spikes that differ": sum(wrong)},
        {"calcium lost between tokens": min(lost)},
        max(single) < 1e-4 and sum(wrong) == 0 and min(lost) > 1e-2,
    )


def _token_by_token(network: AstroSNN, ids: Tensor, *, forgetful: bool = False) -> Tensor:
    state: Any = network.initial_state(len(ids))
    logits = []
    for token in ids.unbind(1):
        if forgetful:
            state = {k: torch.zeros_like(v) if k.endswith("calcium") else v for k, v in state.items()}
        out, state = network.step(token, state)
        logits.append(out)
    return torch.stack(logits, 1)


def _spikes_that_differ(network: AstroSNN, ids: Tensor) -> int:
    """Spikes of all layers from the whole sequence, and token by token."""
    probes = [m.spikes for m in network.modules() if isinstance(m, LIF)]
    seen: list[Any] = []
    handles = [p.register_forward_hook(lambda _, args, value: seen.append(value)) for p in probes]
    try:
        network(ids)
        state = network.initial_state(len(ids))
        with stepping(network, ids.shape[1]) as at:
            for t, token in enumerate(ids.unbind(1)):
                at(t)
                _, state = network.step(token, state)
    finally:
        for handle in handles:
            handle.remove()
    whole, steps = seen[: len(probes)], seen[len(probes) :]
    return int(sum((a != b).sum() for a, b in zip(whole, steps, strict=True)))


# ------------------------------------------------------------------------------------------------------ cost of a token


@PAPER.claim(
    "a generated token takes the same memory and time however long the context",
    paper_value=NOT_KNOWN,
    threshold=(
        "contexts of 64 to 4,096 tokens: state bytes constant, median time a token within 20%; a GPT-2 of equal width with key-value "
        "cache: its cache grows as the context does, and its time by more than 20%"
    ),
)
def _cost(seeds: Sequence[int]) -> Outcome:
    ids = torch.randint(50, (1, max(CONTEXTS)), generator=torch.Generator().manual_seed(seeds[0]))
    ours = AstroSNN(50, BASELINE_WIDTH, layers=2, heads=4, seed=seeds[0]).eval()
    theirs = _gpt2(seeds[0])
    with torch.no_grad():
        spiking = {n: ours.run(ids[:, :n])[1] for n in CONTEXTS}
        attending = {n: theirs(ids[:, :n], use_cache=True).past_key_values for n in CONTEXTS}
        sizes = [sum(v.nbytes for v in state.values()) for state in spiking.values()]
        cached = [sum(layer.keys.nbytes + layer.values.nbytes for layer in c.layers) for c in attending.values()]
        ours_take = _times({n: lambda n=n: _spend(ours, spiking[n]) for n in CONTEXTS})
        theirs_take = _times({n: lambda n=n: _attend(theirs, attending[n]) for n in CONTEXTS})
    spread = max(ours_take.values()) / min(ours_take.values())
    longest = max(CONTEXTS)
    grown = theirs_take[longest] / theirs_take[min(CONTEXTS)]
    return Outcome(
        {"state, kB": sizes[0] / 1e3, "slowest / fastest": spread, "ms a token": 1e3 * ours_take[longest]},
        {"cache at 4,096, kB": cached[-1] / 1e3, "time at 4,096 / at 64": grown, "ms a token at 4,096": 1e3 * theirs_take[longest]},
        len(set(sizes)) == 1 and spread <= 1.2 and cached[-1] == cached[0] * CONTEXTS[-1] / CONTEXTS[0] and grown > 1.2,
    )  # fmt: skip


def _gpt2(seed: int) -> torch.nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=50,
                n_embd=BASELINE_WIDTH,
                n_layer=2,
                n_head=4,
                n_positions=2 * max(CONTEXTS),
                bos_token_id=0,
                eos_token_id=0,
            )
        ).eval()


TOKENS, ROUNDS = 5, 80


def _spend(network: AstroSNN, state: dict[str, Tensor]) -> None:
    token = torch.zeros(1, dtype=torch.long)
    for _ in range(TOKENS):
        _, state = network.step(token, state)


def _attend(network: Any, cache: Any) -> None:
    """The cache is as long afterwards as it was before, so that every round asks for the same context."""
    token = torch.zeros(1, 1, dtype=torch.long)
    for _ in range(TOKENS):
        network(token, past_key_values=cache, use_cache=True)
    cache.crop(-TOKENS)


def _times(jobs: dict[int, Callable[[], None]]) -> dict[int, float]:
    """Median seconds a token. The jobs take turns, each round beginning with another one, and what the machine's speed
    does from round to round is taken out: a job's time is its share of the round.
    """
    names, shares, rounds = list(jobs), {name: [] for name in jobs}, []
    with torch.no_grad():
        for round_ in range(-2, ROUNDS):
            turn = round_ % len(names)
            spent = {}
            for name in names[turn:] + names[:turn]:
                begin = time.perf_counter()
                jobs[name]()
                spent[name] = (time.perf_counter() - begin) / TOKENS
            if round_ >= 0:
                rounds.append(sum(spent.values()))
                for name, seconds in spent.items():
                    shares[name].append(seconds / rounds[-1])
    return {name: statistics.median(values) * statistics.median(rounds) for name, values in shares.items()}
