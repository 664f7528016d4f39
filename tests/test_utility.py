"""Utilities and probabilities: closed forms, enumeration of a tiny language, Hugging Face's own generation, bad input."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
import torch
import transformers
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare, rankdata
from torch import Tensor, nn

import nissl
from nissl.errors import InputError, ModelError, NisslError, UnknownNameError
from nissl.evaluation import duality_report
from nissl.learning.utility import (
    UtilityLogitsProcessor,
    UtilityView,
    gain_matrix,
    log_probability,
    mle_step,
    preference_perceptron_step,
    to_probability,
)
from nissl.learning.utility.transforms import TRANSFORMS

UTILITIES = arrays(float, (3, 5), elements=st.integers(-40, 40).map(lambda i: i / 8))


# Transforms


@given(UTILITIES)
def test_beta_one_is_the_softmax(u: np.ndarray) -> None:
    plain = torch.as_tensor(u).softmax(-1).numpy()
    for transform in ("power", "sequence_power", "unnormalised"):
        assert np.allclose(to_probability(u, transform, 1.0), plain, atol=1e-12)


@given(UTILITIES, st.sampled_from(TRANSFORMS), st.floats(0.1, 5))
def test_every_transform_keeps_the_order_of_each_context(u: np.ndarray, transform: str, beta: float) -> None:
    q = log_probability(torch.as_tensor(u), transform, beta).numpy()
    assert np.allclose(np.exp(q).sum(-1), 1)
    if transform == "value":  # the softmax of close options differs by less than rounding
        u, q = u.round(6), q.round(12)
        assert ((np.diff(np.take_along_axis(q, u.argsort(-1), -1), axis=-1)) >= -1e-9).all()
    else:
        assert (rankdata(u, axis=-1) == rankdata(q.round(9), axis=-1)).all()


@given(UTILITIES, st.floats(0.1, 5))
def test_power_is_temperature(u: np.ndarray, beta: float) -> None:
    theirs = transformers.TemperatureLogitsWarper(1 / beta)(None, torch.as_tensor(u)).softmax(-1)
    assert np.allclose(to_probability(u, "power", beta), theirs, atol=1e-10)


def test_two_classes_have_beta_times_their_log_odds() -> None:
    q = log_probability(torch.tensor([0.3, 1.7], dtype=torch.float64), "power", 2.5)
    assert float(q[1] - q[0]) == pytest.approx(2.5 * 1.4)


def test_a_large_beta_is_greedy_and_ranks_use_order_alone() -> None:
    u = np.array([0.0, 3.0, 2.9])
    assert to_probability(u, "power", 500.0)[1] > 1 - 1e-6
    assert np.allclose(to_probability(u, "rank", 0.7), to_probability(u**3 * 10, "rank", 0.7))
    tied = to_probability(np.array([1.0, 1.0, 0.0]), "rank", 1.0)
    assert tied[0] == tied[1] > tied[2]


def test_what_cannot_be_keeps_no_probability() -> None:
    u = np.array([1.0, -np.inf, 0.0])
    for transform in TRANSFORMS:
        q = to_probability(u, transform, 2.0)
        assert q[1] == 0
        assert q[0] > q[2] > 0
        assert q.sum() == pytest.approx(1)
    assert to_probability(u, "sequence_power", 0.5, drawn=True)[1] == 0


def test_gumbel_draws_follow_the_transformed_probability() -> None:
    generator = torch.Generator().manual_seed(0)
    u, beta, n = torch.tensor([0.0, 0.5, 1.5, -1.0], dtype=torch.float64), 1.6, 100_000
    gumbel = -(-torch.rand(n, 4, generator=generator, dtype=torch.float64).log()).log()
    counts = (beta * u + gumbel).argmax(-1).bincount(minlength=4).numpy()
    assert chisquare(counts, n * to_probability(u, "power", beta).numpy()).pvalue > 1e-3


def test_kinds_of_arrays_are_kept() -> None:
    u = xr.DataArray(np.zeros((2, 4)), dims=("sample", "class"))
    assert to_probability(u).dims == ("sample", "class")
    assert isinstance(to_probability(torch.zeros(2)), Tensor)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: to_probability(np.zeros(3), "powr"), "nearest: 'power'"),
        (lambda: to_probability(np.zeros(3), beta=0), "positive"),
        (lambda: to_probability(np.zeros(3), beta=np.inf), "rule='greedy'"),
        (lambda: to_probability(np.array([0.0, np.nan])), "NaN"),
        (lambda: to_probability(np.array([0.0, np.inf])), "plus infinity"),
        (lambda: to_probability(np.full(3, -np.inf)), "nothing to choose"),
        (lambda: to_probability(np.zeros((2, 0))), "no options"),
        (lambda: log_probability(torch.zeros(3, dtype=torch.long)), "floating-point"),
        (lambda: to_probability(np.zeros(3), "rank", drawn=True), "sequence_power"),
        (lambda: UtilityLogitsProcessor("powr"), "nearest: 'power'"),
        (lambda: UtilityLogitsProcessor(beta=-1.0), "positive"),
    ],
)
def test_bad_utilities_are_named(call, said: str) -> None:
    with pytest.raises(NisslError, match=said):
        call()


# Gains


TOKENS = st.lists(st.lists(st.integers(0, 4), min_size=0, max_size=6), min_size=1, max_size=5)


@given(TOKENS, TOKENS)
def test_gains_of_all_pairs_are_those_of_single_pairs(a: list[list[int]], b: list[list[int]]) -> None:
    exact, overlap = gain_matrix(a, "exact", against=b), gain_matrix(a, "overlap", against=b)
    for (i, x), (j, y) in itertools.product(enumerate(a), enumerate(b)):
        assert exact[i, j] == (x == y)
        shared = sum(min(x.count(t), y.count(t)) for t in set(x))
        assert overlap[i, j] == pytest.approx(2 * shared / (len(x) + len(y)) if x or y else 1.0)


def test_chrf_by_hand() -> None:
    """Popovic's formula written out for two words: mean precision and recall over lengths that both have, then F2."""
    found = gain_matrix(["abc d"], "chrf", against=["abd"])[0, 0]
    hypothesis, reference = "abcd", "abd"
    precision, recall = [], []
    for n in range(1, 4):
        h = [hypothesis[i : i + n] for i in range(len(hypothesis) - n + 1)]
        r = [reference[i : i + n] for i in range(len(reference) - n + 1)]
        shared = sum(min(h.count(g), r.count(g)) for g in set(h))
        precision.append(shared / len(h))
        recall.append(shared / len(r))
    p, r = np.mean(precision), np.mean(recall)
    assert found == pytest.approx(5 * p * r / (4 * p + r))
    assert gain_matrix(["the same", "thesame"], "chrf").tolist() == [[1, 1], [1, 1]]


def test_bad_gains_are_named() -> None:
    with pytest.raises(UnknownNameError, match="nearest: 'chrf'"):
        gain_matrix(["a"], "chrff")
    with pytest.raises(InputError, match="compares texts"):
        gain_matrix([(1, 2)], "chrf")
    with pytest.raises(InputError, match="no outputs"):
        gain_matrix([])


# A tiny language, all of whose sentences can be listed


class Tiny(nn.Module):
    """Logits of the next of three tokens depend on the input, the place and the token before."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.table = nn.Parameter(torch.randn(2, 4, 4, 3, generator=generator))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        before = torch.cat([torch.full_like(tokens[:, :1], 3), tokens[:, :-1]], 1)
        place = torch.arange(tokens.shape[1])
        return self.table[x[:, None], place, before]


SENTENCES = list(itertools.product(range(3), repeat=4))
INPUTS = torch.tensor([0, 1])


@pytest.fixture(scope="module")
def tiny() -> UtilityView:
    return UtilityView(Tiny(), length=4)


def enumerated(transform: str = "power", beta: float = 1.0) -> np.ndarray:
    """Probability of every sentence, token by token, without the view."""
    table = log_probability(Tiny().table.detach().double(), transform, beta).numpy()
    found = np.zeros((2, 81))
    for x, (i, sentence) in itertools.product(range(2), enumerate(SENTENCES)):
        before = (3, *sentence[:-1])
        found[x, i] = sum(table[x, t, b, w] for t, (b, w) in enumerate(zip(before, sentence, strict=True)))
    return np.exp(found)


def test_utilities_of_sentences_are_their_log_probabilities(tiny: UtilityView) -> None:
    found = tiny.utilities(INPUTS, [SENTENCES, SENTENCES])
    assert found.dims == ("sample", "candidate")
    assert np.allclose(np.exp(found), enumerated(), atol=1e-6)
    assert np.allclose(np.exp(found).sum("candidate"), 1)
    mean = tiny.utilities(INPUTS, [SENTENCES, SENTENCES], utility="mean_log_probability")
    assert np.allclose(mean * 4, found)


@pytest.mark.parametrize(("transform", "beta"), [("power", 1.0), ("power", 2.0), ("value", 3.0), ("rank", 0.8)])
def test_draws_follow_the_transformed_probability(tiny: UtilityView, transform: str, beta: float) -> None:
    n = 20_000
    outputs, weights = tiny.candidates(INPUTS, n, transform=transform, beta=beta)
    truth = enumerated(transform, beta)
    for x in range(2):
        counts = np.array([outputs[x].count(s) for s in SENTENCES])
        likely = truth[x] * n > 5
        observed = np.r_[counts[likely], counts[~likely].sum()]
        expected = np.r_[truth[x][likely] * n, truth[x][~likely].sum() * n]
        assert chisquare(observed[expected > 0], expected[expected > 0]).pvalue > 1e-4
    assert np.allclose(weights, 1 / n)


def test_weights_make_whole_sentences_as_likely_as_they_should_be(tiny: UtilityView) -> None:
    beta, n = 1.7, 20_000
    outputs, weights = tiny.candidates(INPUTS, n, transform="sequence_power", beta=beta)
    p = enumerated() ** beta
    truth = p / p.sum(1, keepdims=True)
    for x in range(2):
        found = np.array([weights[x][[o == s for o in outputs[x]]].sum() for s in SENTENCES[:27]])
        assert np.abs(found - truth[x, :27]).max() < 0.015


def test_sampling_and_minimum_risk_have_their_closed_forms(tiny: UtilityView) -> None:
    q = enumerated("power", 1.5)
    right = [SENTENCES[i] for i in q.argmax(1)]
    table = duality_report(tiny, INPUTS, right, n=(64,), seed=1)
    p_row = table[(table["rule"] == "sample") & (table["probability"] == "P")].iloc[0]
    assert p_row["gain"] == pytest.approx(enumerated().max(1).mean(), abs=0.1)
    exact = gain_matrix(SENTENCES, "overlap") @ q.T
    decided = tiny.decide(INPUTS, "mbr", n=4_000, gain="overlap", beta=1.5)
    for x in range(2):
        assert exact[SENTENCES.index(decided[x]), x] > exact[:, x].max() - 0.01


def test_greedy_and_reranking_do_not_depend_on_beta(tiny: UtilityView) -> None:
    assert tiny.decide(INPUTS, "greedy", beta=1.0) == tiny.decide(INPUTS, "greedy", beta=5.0)
    p = enumerated()
    best = tiny.decide(INPUTS, "rerank", n=2_000)
    assert [SENTENCES.index(b) for b in best] == p.argmax(1).tolist()
    voted = tiny.decide(INPUTS, "vote", n=5_000)
    assert [SENTENCES.index(v) for v in voted] == p.argmax(1).tolist()


def test_likelihood_of_references(tiny: UtilityView) -> None:
    rows = [SENTENCES[5], SENTENCES[70]]
    for transform, beta in (("power", 1.0), ("value", 2.0)):
        truth = -np.log([enumerated(transform, beta)[x, SENTENCES.index(s)] for x, s in enumerate(rows)]).mean() / 4
        assert tiny.negative_log_likelihood(INPUTS, rows, transform=transform, beta=beta) == pytest.approx(
            truth, abs=1e-5
        )


def test_an_end_stops_an_output() -> None:
    view = UtilityView(Tiny(), length=4, end=2)
    outputs, _ = view.candidates(INPUTS, 500)
    lengths = {len(o) for row in outputs for o in row}
    assert lengths == {0, 1, 2, 3, 4}
    assert not any(2 in o for row in outputs for o in row)
    # All outputs that end, and all that fill the room, have probability 1 together.
    every = [s for n in range(1, 4) for s in itertools.product(range(2), repeat=n)]
    found = np.exp(view.utilities(INPUTS, [[*every, *itertools.product(range(2), repeat=4)]] * 2))
    at_once = Tiny().table.detach().double()[:, 0, 3].softmax(-1)[:, 2].numpy()
    assert np.allclose(found.sum("candidate") + at_once, 1, atol=1e-5)


# Classifiers


def classifier() -> tuple[nn.Module, Tensor, Tensor]:
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Linear(4, 5)
    return net, x, net(x).detach()


def test_a_classifier_decides_exactly() -> None:
    net, x, logits = classifier()
    view = UtilityView(net)
    u = view.utilities(x)
    assert np.allclose(u, logits)
    assert (view.decide(x) == logits.argmax(-1).numpy()).all()
    cost = np.eye(5) - 3 * np.eye(5)[[1, 0, 2, 3, 4]]
    q = (2.0 * logits.double()).softmax(-1).numpy()
    assert (view.decide(x, "mbr", gain=cost, beta=2.0) == (q @ cost.T).argmax(1)).all()
    gaps = view.gaps(x)
    assert ((gaps > 0).sum("class") == 1).all()
    assert (gaps.argmax("class").values == view.decide(x)).all()
    assert (view.prefer(x, logits.argmax(-1).tolist(), logits.argmin(-1).tolist())).all()


def test_the_best_beta_and_the_likeliest_differ() -> None:
    """True log-odds are the logits: likelihood wants beta 1, one sample wants the largest."""
    net, x, logits = classifier()
    y = torch.multinomial(logits.repeat(20, 1).softmax(-1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    view = UtilityView(net).fit_beta(x.repeat(20, 1), y.tolist(), n=8)
    assert view.likelihood_beta_ == pytest.approx(1.0, abs=0.15)
    assert view.beta_ == 8.0
    assert view.betas_ is not None
    assert view.betas_["distinct"].is_monotonic_decreasing
    assert view.betas_["nats_per_token"].idxmin() == view.betas_["beta"].sub(1).abs().idxmin()


# Language models of Hugging Face


@pytest.fixture(scope="module")
def language_model() -> nissl.Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=11, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=10, initializer_range=0.5
        )  # fmt: skip
        return nissl.load(transformers.GPT2LMHeadModel(config))


def test_continuations_are_scored_right_after_prompts_of_any_length(language_model: nissl.Model) -> None:
    view = UtilityView(language_model, length=3)
    prompts, outputs = [[1, 2, 3, 4], [5]], [[6, 7], [8, 9]]
    found = view.utilities(prompts, [[o] for o in outputs])
    for i, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        logits = language_model.module(torch.tensor([prompt + output])).logits[0].log_softmax(-1)
        truth = sum(logits[len(prompt) - 1 + t, w].item() for t, w in enumerate(output))
        assert float(found[i, 0]) == pytest.approx(truth, abs=1e-4)


def test_generate_draws_from_the_transformed_probability(language_model: nissl.Model) -> None:
    """One token, many draws: through transformers' own loop, and against the logits."""
    view = UtilityView(language_model, length=1)
    outputs, _ = view.candidates([[1, 2]], 4_000, beta=2.0)
    logits = language_model.module(torch.tensor([[1, 2]])).logits[0, -1].double()
    truth = (2 * logits).softmax(-1).detach().numpy()
    counts = np.array([outputs[0].count((t,)) for t in range(10)] + [outputs[0].count(())])
    assert (
        chisquare(
            counts[truth > 1e-3],
            4_000 * truth[truth > 1e-3] * counts[truth > 1e-3].sum() / (4_000 * truth[truth > 1e-3].sum()),
        ).pvalue
        > 1e-4
    )


def test_the_processor_leaves_greedy_choice_alone_and_seeds_count(language_model: nissl.Model) -> None:
    plain = language_model.generate([[1, 2]], max_new_tokens=5)
    process = transformers.LogitsProcessorList([UtilityLogitsProcessor("rank", 2.0)])
    assert torch.equal(plain, language_model.generate([[1, 2]], max_new_tokens=5, logits_processor=process))
    view = UtilityView(language_model, length=4)
    before = torch.get_rng_state()
    one, two, three = (view.candidates([[1, 2], [3]], 3, seed=s)[0] for s in (0, 0, 1))
    assert one == two != three
    assert torch.equal(before, torch.get_rng_state())


def test_an_encoder_decoder_is_read_like_any_other() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.T5Config(
            vocab_size=12, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1
        )  # fmt: skip
        model = transformers.T5ForConditionalGeneration(config).eval()
    view = UtilityView(model, length=3)
    found = view.utilities([[3, 4, 5]], [[[6, 7]]])
    logits = (
        model(input_ids=torch.tensor([[3, 4, 5]]), decoder_input_ids=torch.tensor([[0, 6]])).logits[0].log_softmax(-1)
    )
    assert float(found[0, 0]) == pytest.approx((logits[0, 6] + logits[1, 7]).item(), abs=1e-4)
    outputs, _ = view.candidates([[3, 4, 5]], 5)
    assert all(len(o) <= 3 for o in outputs[0])


def test_a_report_shows_its_control(language_model: nissl.Model) -> None:
    view = UtilityView(language_model, length=2)
    prompts = [[i, j] for i in range(1, 5) for j in range(1, 5)]
    right = view.decide(prompts)
    view.fit_beta(prompts, right, betas=(1.0, 6.0), n=8)
    table = duality_report(view, prompts, right, n=(4,))
    gain = dict(zip(table["rule"] + table["probability"], table["gain"], strict=True))
    assert gain["greedy"] == 1
    assert view.beta_ == 6
    assert gain["sampleQ"] > gain["sampleP"]
    assert gain["sampleQ"] > gain["sample, options permutedQ"]


# Updates


def test_one_step_of_likelihood_is_gradient_ascent() -> None:
    net, x, _ = classifier()
    y = torch.randint(5, (60,), generator=torch.Generator().manual_seed(2))
    other = nn.Linear(4, 5)
    other.load_state_dict(net.state_dict())
    descent = torch.optim.SGD(other.parameters(), lr=0.3)
    loss = nn.functional.cross_entropy(other(x), y)
    loss.backward()
    descent.step()
    assert mle_step(net, x, y, lr=0.3) == pytest.approx(-loss.item())
    assert torch.allclose(net.weight, other.weight, atol=1e-6)


def test_rivals_give_the_same_step_in_the_mean() -> None:
    net, x, _ = classifier()
    many, y = x[:1].expand(200_000, -1), torch.full((200_000,), 2)
    start = net.weight.detach().clone()
    preference_perceptron_step(net, many, y, lr=1.0, generator=torch.Generator().manual_seed(0))
    sampled = net.weight.detach() - start
    net.load_state_dict({"weight": start, "bias": net.bias})
    net2, _, _ = classifier()
    mle_step(net2, x[:1], y[:1], lr=1.0)
    assert torch.allclose(sampled, net2.weight.detach() - start, atol=0.02)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda n, x: mle_step(n, x, torch.zeros(60).long(), lr=0), "positive"),
        (lambda n, x: mle_step(n, x, torch.full((60,), 5), lr=0.1), "allowed: 0 to 4"),
        (lambda n, x: mle_step(n, x, torch.zeros(60), lr=0.1), "one index a context"),
        (lambda n, x: preference_perceptron_step(n, x, torch.zeros(3).long(), lr=0.1), "one index a context"),
        (lambda n, x: mle_step(n, x * torch.nan, torch.zeros(60).long(), lr=0.1), "NaN"),
        (lambda n, x: UtilityView(n).decide(x, "greddy"), "nearest: 'greedy'"),
        (lambda n, x: UtilityView(n).decide(x, "mbr", gain=np.eye(3)), r"\(5, 5\)"),
        (lambda n, x: UtilityView(n).utilities(x, utility="logits"), "nearest: 'logit'"),
        (lambda n, x: UtilityView(n).utilities(x, [[1]]), "1 lists of candidates for 60"),
        (lambda n, x: UtilityView(n).fit_beta(x, [0]), "1 references for 60"),
        (lambda n, x: UtilityView(n).fit_beta(x, [0] * 60, rule="greedy"), "do not depend on beta"),
        (lambda n, x: UtilityView(n).fit_beta(x, [7] * 60), "option 7 does not exist"),
        (lambda n, x: UtilityView(n, length=0), "at least 1"),
        (lambda n, x: UtilityView(n, length=3), "takes no tokens"),
        (lambda n, x: UtilityView(nn.Conv1d(1, 1, 1)).utilities(torch.zeros(2, 1, 3)), r"not \(sample, class\)"),
        (lambda n, x: duality_report(UtilityView(n), x, [0]), "1 references for 60"),
    ],
)
def test_bad_input_is_named(call, said: str) -> None:
    net, x, _ = classifier()
    with pytest.raises(NisslError, match=said):
        call(net, x)


def test_a_language_model_needs_candidates_and_a_tokenizer_for_texts(language_model: nissl.Model) -> None:
    view = UtilityView(language_model)
    with pytest.raises(InputError, match="give candidates"):
        view.utilities([[1, 2]])
    with pytest.raises(InputError, match="no tokenizer"):
        view.utilities([[1, 2]], [["a text"]])
    with pytest.raises((InputError, ModelError)):
        UtilityView(Tiny(), length=2).utilities(INPUTS, [SENTENCES[:1]] * 2)


def test_sixty_four_samples_of_a_hundred_inputs_are_compared_at_once() -> None:
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 200, (100, 64, 20)).tolist()
    begin = time.perf_counter()
    found = [gain_matrix(row, "overlap") for row in draws]
    assert time.perf_counter() - begin < 60  # a loop over pairs would take minutes; benchmarks/ says how long it is
    assert all(np.allclose(np.diag(f), 1) for f in found)


# What an independent check found


def test_inputs_whose_keys_would_be_read_are_refused(language_model: nissl.Model) -> None:
    import pandas as pd

    net, x, _ = classifier()
    view = UtilityView(language_model, length=2)
    for what in ({"input_ids": torch.ones(2, 3).long(), "attention_mask": torch.ones(2, 3)}, pd.DataFrame({"a": [1]})):
        with pytest.raises(InputError, match="give a list"):
            view.decide(what)
    for empty in ([], x[:0]):
        with pytest.raises(InputError, match="no inputs"):
            UtilityView(net).decide(empty)


@pytest.mark.parametrize("option", [-1, 1.7, True])
def test_options_that_are_no_index_are_refused(option: object) -> None:
    net, x, _ = classifier()
    with pytest.raises(InputError, match="is no index"):
        UtilityView(net).utilities(x[:1], [[option]])
    with pytest.raises(InputError, match="is no index"):
        UtilityView(Tiny(), length=4).utilities(INPUTS, [[(0, option, 1)]] * 2)


def test_a_draw_that_ends_at_once_can_be_reranked(language_model: nissl.Model) -> None:
    outputs = UtilityView(language_model, length=2).candidates([[1, 2]], 300)[0][0]
    assert () in outputs
    assert UtilityView(language_model, length=2).decide([[1, 2]], "rerank", n=300)


def test_an_end_is_not_added_twice_and_nothing_follows_it() -> None:
    view = UtilityView(Tiny(), length=4, end=2)
    with_end, without = (view.utilities(INPUTS, [[o]] * 2) for o in ((1, 2), (1,)))
    assert np.allclose(with_end, without)
    with pytest.raises(InputError, match="goes on after its end"):
        view.utilities(INPUTS, [[(1, 2, 0)]] * 2)


def test_a_table_of_gains_is_fitted_by_what_decide_does() -> None:
    net, x, logits = classifier()
    right = logits.argmax(-1).tolist()
    view = UtilityView(net).fit_beta(x, right, rule="mbr", gain=np.eye(5), n=4)
    assert view.beta_ == 0.5  # every beta decides the same here, and the smallest is taken
    assert duality_report(view, x, right, gain=np.eye(5), n=4)["gain"].iloc[0] == 1
    with pytest.raises(InputError, match="goes with classes"):
        gain_matrix([0, 7], np.eye(5))
    with pytest.raises(InputError, match="NaN"):
        gain_matrix([0, 1], lambda a, b: float("nan"))


def test_transforms_of_whole_candidates_are_not_taken_for_tokens() -> None:
    net, x, _ = classifier()
    view = UtilityView(net)
    with pytest.raises(InputError, match="whole candidates"):
        UtilityLogitsProcessor("sequence_power", 2.0)
    with pytest.raises(InputError, match="whole candidates"):
        view.negative_log_likelihood(x, [0] * 60, transform="unnormalised")
    view.fit_beta(x, [0] * 60, transform="unnormalised", n=2)
    assert np.isnan(view.likelihood_beta_)
    sure = UtilityView(nn.Identity()).fit_beta(torch.eye(5), list(range(5)), n=2)
    assert sure.likelihood_beta_ == np.inf


def test_arrays_and_tensors_compare_like_lists() -> None:
    for make in (np.array, torch.tensor):
        assert gain_matrix(make([1, 1, 2])).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
        assert gain_matrix(make([[1, 2], [1, 3]]), "overlap").tolist() == [[1, 0.5], [0.5, 1]]


def test_half_precision_and_large_betas() -> None:
    net, x, _ = classifier()
    view = UtilityView(net.bfloat16())
    assert view.utilities(x.bfloat16()).dtype == np.float32
    assert view.decide(x.bfloat16(), "mbr").shape == (60,)
    assert to_probability(torch.tensor([10.0, 20.0]), "power", 1e38).tolist() == [0, 1]


def test_learning_needs_weights_and_a_batch() -> None:
    net, x, _ = classifier()
    with pytest.raises(InputError, match="empty"):
        mle_step(net, x[:0], torch.zeros(0).long(), lr=0.1)
    for p in net.parameters():
        p.requires_grad_(False)
    with pytest.raises(ModelError, match="frozen"):
        preference_perceptron_step(net, x, torch.zeros(60).long(), lr=0.1)
    with pytest.raises(InputError, match="at least two"):
        UtilityView(net).order_agreement(x[:1], [0], [1])


def test_outputs_that_the_model_cannot_hold_are_refused(language_model: nissl.Model) -> None:
    view = UtilityView(language_model, length=40)
    with pytest.raises(InputError, match="32 positions"):
        view.decide([[1, 2]])
    with pytest.raises(InputError, match="vocabulary has 11"):
        UtilityView(language_model, length=2).utilities([[1, 2]], [[[11]]])
    for what, said in ((transformers.GPT2Config(), "holds no weights"), (3, "no model"), (nn.Linear, "is a class")):
        with pytest.raises(InputError, match=said):
            UtilityView(what)
