"""Utility-Probability Duality: what softmax training teaches is an order of preference, and probabilities made from it decide better
than the softmax itself.

The paper has no code here; its transform is reconstructed from the abstract (see `learning.utility`). A toy translation with
noisy references stands for machine translation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nissl.evaluation import duality_report
from nissl.learning import train
from nissl.learning.utility import UtilityView, mle_step, preference_perceptron_step
from nissl.papers.harness import Outcome, Paper

PAPER = Paper(
    "utility-probability",
    "Utility-Probability Duality of Neural Networks",
    "learning",
    "https://arxiv.org/abs/2305.14859",
    threads=1,
)
WORDS, LENGTH, UNITS = 12, 10, 64
SYNONYM, NOISE = 0.3, 0.1
FREQUENCIES = (0.35, 0.25, 0.17, 0.11, 0.08, 0.04)
NOT_KNOWN = "not known"


class Translator(nn.Module):
    """Bidirectional recurrent encoder; a recurrent decoder that reads the encoder's state at its own position and the last word."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(WORDS, UNITS), nn.Embedding(2 * WORDS + 1, UNITS)
        self.encoder = nn.GRU(UNITS, UNITS // 2, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(2 * UNITS, UNITS, batch_first=True)
        self.readout = nn.Linear(UNITS, 2 * WORDS)

    def forward(self, source: Tensor, tokens: Tensor) -> Tensor:
        """Logits of each target word given those before it."""
        before = torch.cat([torch.full_like(tokens[:, :1], 2 * WORDS), tokens[:, :-1]], 1)
        states = self.encoder(self.source(source))[0]
        return self.readout(self.decoder(torch.cat([states, self.target(before)], -1))[0])


def _pairs(n: int, seed: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Sources, clean targets, and targets of which a tenth of the words is replaced. Word i is p(i) or, less often, p(i) + 12."""
    dictionary = torch.randperm(WORDS, generator=torch.Generator().manual_seed(seed))
    source = torch.randint(WORDS, (n, LENGTH), generator=generator)
    clean = dictionary[source] + WORDS * (torch.rand(n, LENGTH, generator=generator) < SYNONYM)
    other = torch.randint(2 * WORDS, (n, LENGTH), generator=generator)
    return source, clean, torch.where(torch.rand(n, LENGTH, generator=generator) < NOISE, other, clean)


def _either_synonym(output: tuple[int, ...], reference: tuple[int, ...]) -> float:
    """1 where every word, or its synonym, is right."""
    return float(all(a % WORDS == b % WORDS for a, b in zip(output, reference, strict=True)))


@lru_cache
def _translator(seed: int) -> tuple[Translator, dict[str, tuple[Tensor, Tensor, Tensor]]]:
    """A trained network, and data that it has not seen."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Translator()

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        source, _, noisy = _pairs(64, seed, generator)
        return source, noisy

    def loss(model: nn.Module, source: Tensor, tokens: Tensor) -> Tensor:
        return cross_entropy(model(source, tokens).flatten(0, 1), tokens.flatten())

    train(model, batch, loss, steps=600, lr=5e-3, seed=seed, progress=False)
    fresh = torch.Generator().manual_seed(10_000 + seed)
    return model.eval(), {"validation": _pairs(100, seed, fresh), "test": _pairs(200, seed, fresh)}


@lru_cache
def _view(seed: int) -> UtilityView:
    """Beta chosen by the accuracy of one sample on the validation pairs."""
    model, data = _translator(seed)
    source, clean, _ = data["validation"]
    return UtilityView(model, length=LENGTH).fit_beta(source, clean.tolist(), gain=_either_synonym, seed=seed)


@PAPER.claim(
    "maximum likelihood is utility learning",
    paper_value=NOT_KNOWN,
    threshold="gradient identity to 1e-12; both rules give the exact order of choice frequencies, gap to centred log f below 0.3",
    note="control: choices drawn evenly, correlation of the order learned with the frequencies",
)
def _identity(seeds: Sequence[int]) -> Outcome:
    generator = torch.Generator().manual_seed(seeds[0])
    gap = _gradient_gap(generator)
    learned = {rule: _table(rule, FREQUENCIES, generator) for rule in ("likelihood", "perceptron")}
    truth = np.log(FREQUENCIES)
    truth -= truth.mean()
    gaps = {rule: float(abs(u - u.mean() - truth).max()) for rule, u in learned.items()}
    ordered = all((np.argsort(-u) == np.arange(len(truth))).all() for u in learned.values())
    uniform = _table("likelihood", (1 / 6,) * 6, generator)
    rho = float(pd.Series(uniform).corr(pd.Series(truth), method="spearman"))
    exact = bool((np.argsort(-uniform) == np.arange(len(truth))).all())
    return Outcome(
        {"gradient gap": gap, **gaps},
        {"rank correlation": rho},
        gap < 1e-12 and ordered and max(gaps.values()) < 0.3 and not exact,
    )


def _gradient_gap(generator: torch.Generator) -> float:
    """Largest difference between the gradient of the log-likelihood and that of utility learning, for a random network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 7)).double()
    x = torch.randn(5, generator=generator, dtype=torch.float64)
    weights = list(model.parameters())
    utilities = model(x)
    jacobian = [torch.autograd.grad(u, weights, retain_graph=True) for u in utilities]
    probability = utilities.softmax(-1).detach()
    likelihood = torch.autograd.grad(utilities.log_softmax(-1)[2], weights)
    mean = [sum(p * row[i] for p, row in zip(probability, jacobian, strict=True)) for i in range(len(weights))]
    return max(float((a - (b - c)).abs().max()) for a, b, c in zip(likelihood, jacobian[2], mean, strict=True))


def _table(rule: str, frequencies: Sequence[float], generator: torch.Generator, steps: int = 20_000) -> np.ndarray:
    """Utilities of six options after learning from choices."""
    table, one = nn.Linear(1, len(frequencies), bias=False), torch.ones(1, 1)
    nn.init.zeros_(table.weight)
    choices = torch.multinomial(torch.tensor(frequencies), steps, replacement=True, generator=generator)
    for choice in choices[:, None]:
        if rule == "likelihood":
            mle_step(table, one, choice, lr=0.01)
        else:
            preference_perceptron_step(table, one, choice, lr=0.01, generator=generator)
    return table.weight.detach()[:, 0].double().numpy()


@PAPER.claim(
    "order comes without values: one option always chosen",
    paper_value=NOT_KNOWN,
    threshold="gap of utilities grows by 2.3 +- 0.5 a decade of steps from 100 to 100,000; the order right throughout",
    note="control: the share of the gap at 100,000 steps that was there after 100, which would be 1 for values that converge",
)
def _order(seeds: Sequence[int]) -> Outcome:
    torch.manual_seed(seeds[0])
    table, one, chosen = nn.Linear(1, 6, bias=False), torch.ones(1, 1), torch.tensor([3])
    nn.init.zeros_(table.weight)
    gaps, always = {}, True
    for step in range(1, 100_001):
        mle_step(table, one, chosen, lr=0.1)
        if step in (1, 100, 1_000, 10_000, 100_000) or step % 1000 == 0:
            u = table.weight.detach()[:, 0]
            gap = float(u[3] - u[[0, 1, 2, 4, 5]].max())
            always &= gap > 0
            gaps[step] = gap
    decades = [gaps[100], gaps[1_000], gaps[10_000], gaps[100_000]]
    growth = np.diff(decades)
    return Outcome(
        {"least growth": growth.min(), "most growth": growth.max(), "gap at the end": decades[-1]},
        {"share after 100 steps": decades[0] / decades[-1]},
        bool(always and abs(growth - 2.3).max() <= 0.5),
    )


@PAPER.claim(
    "probabilities look wrong, preferences right",
    paper_value=NOT_KNOWN,
    threshold="median probability of noisy references below 1e-3, clean above corrupted in 98% of pairs",
    note="control: agreement when the pair belongs to another input",
)
def _paradox(seeds: Sequence[int]) -> Outcome:
    model, data = _translator(seeds[0])
    source, clean, noisy = data["test"]
    view = UtilityView(model, length=LENGTH)
    probability = np.exp(view.utilities(source, [[row] for row in noisy.tolist()]).values[:, 0])
    generator = torch.Generator().manual_seed(seeds[0])
    place = torch.randint(LENGTH, (len(clean), 1), generator=generator)
    shift = torch.randint(1, WORDS, (len(clean), 1), generator=generator)  # another word, never the synonym
    word = clean.gather(1, place)
    corrupted = clean.scatter(1, place, (word % WORDS + shift) % WORDS + word // WORDS * WORDS)
    agreement = view.order_agreement(source, clean.tolist(), corrupted.tolist(), seed=seeds[0])
    return Outcome(
        {"median probability": np.median(probability), "agreement": agreement.value},
        {"agreement": agreement.control},
        bool(np.median(probability) < 1e-3 and agreement.value >= 0.98),
    )


@PAPER.claim(
    "transformed probabilities decide better by tens of points",
    paper_value="double-digit gains (abstract)",
    threshold="sentence accuracy of one sample rises by 0.10, greedy the same, minimum Bayes risk with 4 draws no worse",
    note="control: the same beta on utilities permuted among the words",
)
def _gains(seeds: Sequence[int]) -> Outcome:
    model, data = _translator(seeds[0])
    source, clean, _ = data["test"]
    view = _view(seeds[0])
    table = duality_report(view, source, clean.tolist(), gain=_either_synonym, n=(4,), seed=seeds[0])
    found = {(r["rule"], r["probability"]): r["gain"] for r in table.to_dict("records")}
    plain = UtilityView(model, length=LENGTH)
    same = plain.decide(source, "greedy") == view.decide(source, "greedy")
    p, q = found["sample", "P"], found["sample", "Q"]
    return Outcome(
        {"sample P": p, "sample Q": q, "mbr-4 P": found["mbr-4", "P"], "mbr-4 Q": found["mbr-4", "Q"], "greedy": found["greedy", ""], "beta": view.beta_},
        {"permuted": found["sample, options permuted", "Q"]},
        bool(q - p >= 0.10 and same and found["mbr-4", "Q"] >= found["mbr-4", "P"]),
        f"distinct outputs among draws: P {_distinct(table, 'P'):.2f}, Q {_distinct(table, 'Q'):.2f}",
    )  # fmt: skip


def _distinct(table: pd.DataFrame, probability: str) -> float:
    rows = zip(table["rule"], table["probability"], table["distinct"], strict=True)
    return next(float(share) for rule, p, share in rows if (rule, p) == ("sample", probability))


@PAPER.claim(
    "this is no calibration: likelihood falls where decisions improve",
    paper_value=NOT_KNOWN,
    threshold="0.1 nats a token more under the chosen beta; the beta of highest likelihood between 0.9 and 1.1",
    note="control: nats under P",
)
def _not_calibration(seeds: Sequence[int]) -> Outcome:
    model, data = _translator(seeds[0])
    source, _, noisy = data["test"]
    view = _view(seeds[0])
    p, q = (view.negative_log_likelihood(source, noisy.tolist(), beta=b) for b in (1.0, view.beta_))
    likeliest = UtilityView(model, length=LENGTH).fit_beta(source, noisy.tolist(), betas=(1.0,), n=1).likelihood_beta_
    return Outcome(
        {"nats Q": q, "likeliest beta": likeliest, "chosen beta": view.beta_},
        {"nats P": p},
        q - p >= 0.1 and 0.9 <= likeliest <= 1.1,
    )
