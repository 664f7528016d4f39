"""The one-hot HMM-GLM (Li et al. 2024): its claims on simulated networks whose states, scaffold and weights are known."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import xarray as xr
from sklearn.metrics import balanced_accuracy_score, mutual_info_score

from nissl.papers.harness import Outcome, Paper
from nissl.populations import HMMGLM
from nissl.recordings.simulate import simulate_switching_glm
from nissl.statistics import block_permutations, circular_shifts, contingency, label_accuracy, match

PAPER = Paper(
    "one-hot-hmm-glm",
    "One-hot Generalized Linear Model for Switching Brain State Discovery",
    "populations",
    "https://arxiv.org/abs/2310.15263",
)
TRAIN, TEST = slice(0, 3), slice(3, 7)
# All models of a claim see the same data: sigmoid link, one bias a unit in all states, the best of three restarts.
COMMON = {"n_states": 3, "link": "sigmoid", "n_restarts": 3, "progress": False}
# How units fire is not in the card; these biases give the constant-rate model the held-out likelihood of the reference runs, about -1.93 nats a spike.
UNITS = {"n_units": 12, "link": "sigmoid", "bias": (-1.0, -0.5)}
MODELS = {
    "one-hot": {"prior": "one-hot", "shared_bias": True},
    "one-hot, no entropy penalty": {"prior": "one-hot", "shared_bias": True, "kind_prior": "kl"},
    "gaussian": {"prior": "gaussian", "shared_bias": True},
    "naive": {"prior": None, "shared_bias": True},
    "constant rates": {"prior": None, "coupling": False},
}


@lru_cache(maxsize=32)
def _data(seed: int) -> xr.Dataset:
    """Twelve units, three states, three trials to train and four to test."""
    return simulate_switching_glm(**UNITS, n_states=3, n_trials=7, n_bins=600, seed=seed)  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _fit(name: str, seed: int) -> HMMGLM:
    return HMMGLM(**COMMON, **MODELS[name], seed=seed).fit(_data(seed).spikes[TRAIN])  # type: ignore[arg-type]


def _score(name: str, seed: int) -> float:
    return _fit(name, seed).score(_data(seed).spikes[TEST])


def _mean(name: str, seeds: Sequence[int], measure: Callable[[str, int], float]) -> float:
    return float(np.mean([measure(name, seed) for seed in seeds]))


@PAPER.claim(
    "priors raise held-out likelihood: one-hot above Gaussian above none",
    paper_value="one-hot best in every comparison (table); reference runs -1.759, -1.774, -1.782 nats a spike",
    threshold="one-hot > Gaussian > naive on average, one-hot - naive >= 0.01 nats a spike; units shifted apart: one-hot gains < 0.01 over constant rates",
    seeds=3,
)
def _likelihood(seeds: Sequence[int]) -> Outcome:
    one_hot, gaussian, naive = (_mean(name, seeds, _score) for name in ("one-hot", "gaussian", "naive"))
    gains = []
    for seed in seeds:
        # Each unit's spikes rolled within its trials by a lag of its own: no coupling is left, rates are.
        spikes = _data(seed).spikes
        shifted = np.stack(
            [circular_shifts(x, 1, axis=0, min_shift=20, seed=seed + i)[0] for i, x in enumerate(spikes.values)]
        )
        apart = spikes.copy(data=shifted)
        scores = [
            HMMGLM(**COMMON, **MODELS[name], seed=seed).fit(apart[TRAIN]).score(apart[TEST])
            for name in ("one-hot", "constant rates")
        ]  # type: ignore[arg-type]
        gains.append(scores[0] - scores[1])
    gain = float(np.mean(gains))
    return Outcome(
        {"one-hot": one_hot, "gaussian": gaussian, "naive": naive, "one-hot - naive": one_hot - naive},
        {"shifted apart: one-hot - constant rates": gain},
        one_hot > gaussian > naive and one_hot - naive >= 0.01 > gain,
        f"constant rates: {_mean('constant rates', seeds, _score):.3f}",
    )


def _weight_correlation(name: str, seed: int) -> float:
    """Over all pairs and states, states matched by the paths on test trials."""
    mine, theirs = _matched(name, seed)
    return float(np.corrcoef(mine.ravel(), theirs.ravel())[0, 1])


def _matched(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    data, model = _data(seed), _fit(name, seed)
    counts, mine, theirs = contingency(model.predict(data.spikes[TEST]), data.state[TEST])
    pairs = match(counts)
    return model.weights_.values[mine[pairs.rows]], data.weights.values[theirs[pairs.columns]]


@PAPER.claim(
    "recovers the interaction matrices of every state",
    paper_value="smallest weight error (figure); reference runs 0.93 to 0.96, Gaussian 0.88 to 0.91, naive 0.75 to 0.89",
    threshold="correlation with the true weights >= 0.92 and >= Gaussian + 0.02; control: true weights with sources permuted",
    seeds=3,
    expected=False,
    note="0.90, 0.94 and 0.95 over three draws of the data: in the first even the true parameters find only 0.91 of the states. With units coupled to themselves, as the release's "
    "generator has them, 0.94 to 0.95 against 0.88 to 0.91 over six data sets",
)
def _weights(seeds: Sequence[int]) -> Outcome:
    one_hot, gaussian, naive = (_mean(name, seeds, _weight_correlation) for name in ("one-hot", "gaussian", "naive"))
    permuted = []
    for seed in seeds:
        mine, theirs = _matched("one-hot", seed)
        order = np.random.default_rng(seed).permutation(mine.shape[2])
        permuted.append(np.corrcoef(mine.ravel(), theirs[:, :, order].ravel())[0, 1])
    return Outcome(
        {"one-hot": one_hot, "gaussian": gaussian, "naive": naive},
        {"sources permuted": float(np.mean(permuted))},
        one_hot >= 0.92 and one_hot >= gaussian + 0.02,
    )


def _state_accuracy(name: str, seed: int) -> float:
    data = _data(seed)
    return label_accuracy(_fit(name, seed).predict(data.spikes[TEST]), data.state[TEST])


@PAPER.claim(
    "recovers the states of test trials",
    paper_value="highest accuracy (figure); reference runs 0.92 to 0.96, constant rates 0.55 to 0.65",
    threshold="accuracy after matching >= 0.90 and >= naive; constant-rate model <= 0.7; shuffled labels about a third",
    seeds=3,
    expected=False,
    note="0.87, 0.94 and 0.97 over three draws of the data: in the first even the true parameters find only 0.91 of the states. With units coupled to themselves, as the release's "
    "generator has them, 0.93 to 0.96",
)
def _states(seeds: Sequence[int]) -> Outcome:
    one_hot, naive, constant = (_mean(name, seeds, _state_accuracy) for name in ("one-hot", "naive", "constant rates"))
    shuffled = []
    for seed in seeds:
        truth = _data(seed).state[TEST].values.ravel()
        shuffled.append(label_accuracy(np.random.default_rng(seed).permutation(truth), truth))
    return Outcome(
        {"one-hot": one_hot, "naive": naive},
        {"constant rates": constant, "shuffled labels": float(np.mean(shuffled))},
        bool(one_hot >= 0.90 and one_hot >= naive and constant <= 0.7 and np.mean(shuffled) < 0.45),
    )


def _scaffold_accuracy(name: str, seed: int, order: np.ndarray | None = None) -> float:
    """Balanced accuracy over inhibitory, none and excitatory of the most probable kinds in the shared prior."""
    truth = _data(seed).adjacency.values
    found = _fit(name, seed).global_adjacency_.values.argmax(-1) - 1
    pairs = ~np.eye(len(truth), dtype=bool)
    truth, found = truth[pairs], found[pairs]
    return float(balanced_accuracy_score(truth, found if order is None else found[order]))


@PAPER.claim(
    "the learned prior is the scaffold that the states share",
    paper_value="read as the anatomical connectome; reference runs 0.96 to 0.98, 0.83 without the entropy penalty",
    threshold="balanced accuracy of the prior's kinds >= 0.93; permuted pairs about a third (< 0.45)",
    seeds=3,
    note="a functional scaffold, consistent across states; not anatomy",
)
def _scaffold(seeds: Sequence[int]) -> Outcome:
    found = _mean("one-hot", seeds, _scaffold_accuracy)
    without = _mean("one-hot, no entropy penalty", seeds, _scaffold_accuracy)
    n = 12 * 11
    permuted = float(
        np.mean(
            [
                _scaffold_accuracy("one-hot", s, np.random.default_rng((s, i)).permutation(n))
                for s in seeds
                for i in range(20)
            ]
        )
    )
    return Outcome(
        {"with entropy penalty": found, "without": without},
        {"permuted pairs": permuted},
        found >= 0.93 and permuted < 0.45,
    )


@PAPER.claim(
    "one-hot needs a good start: from scratch it merges states",
    paper_value="not in the paper; reference runs 0.62 to 0.85 from scratch, 0.92 to 0.96 from a Gaussian fit",
    threshold="accuracy of a single start from scratch lower by >= 0.1 on average",
    seeds=3,
    expected=False,
    note="one start a fit, three a data set: the best of several starts hides how often one fails. This fit merges states from scratch less often than the reference "
    "(0.66 to 0.87 right): over seeds the gap is 0.06 to 0.12, so that a gap of 0.1 is reached with most draws of the data and not with all",
)
def _needs_a_start(seeds: Sequence[int]) -> Outcome:
    accuracy: dict[str, list[float]] = {"gaussian": [], "scratch": []}
    for seed in seeds:
        data = _data(seed)
        for start, found in accuracy.items():
            for i in range(3):
                settings = {**COMMON, **MODELS["one-hot"], "n_restarts": 1, "start": start, "seed": seed + i}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # a state that dies here is what is counted
                    model = HMMGLM(**settings).fit(data.spikes[TRAIN])
                found.append(label_accuracy(model.predict(data.spikes[TEST]), data.state[TEST]))
    warm, scratch = (float(np.mean(accuracy[start])) for start in ("gaussian", "scratch"))
    return Outcome(
        scratch,
        {"from a Gaussian fit": warm},
        warm - scratch >= 0.1,
        f"worst of the starts from scratch {min(accuracy['scratch']):.2f}",
    )


@PAPER.claim(
    "states can be read: on a simulated recording with three task epochs the path follows the epochs",
    paper_value="states align with the stages of the task (figure)",
    threshold="mutual information of Viterbi path and epoch >= 0.5 bit; epochs dealt out in another order <= 0.1 bit",
    seeds=2,
    expected=False,
    note="epochs of 3 s and states of 1 s: the true states themselves say hardly more than 0.5 bit of the epoch; with epochs of 10 s the path says 0.8 to 0.9 bit on held-out trials",
)
def _epochs(seeds: Sequence[int]) -> Outcome:
    found: dict[str, list[float]] = {"path": [], "dealt": [], "true states": []}
    epoch_bins = 150
    for seed in seeds:
        data = simulate_switching_glm(**UNITS, n_trials=8, n_bins=900, epoch_bins=epoch_bins, seed=seed)  # type: ignore[arg-type]
        model = HMMGLM(**COMMON, **MODELS["one-hot"], seed=seed).fit(data.spikes[TRAIN])  # type: ignore[arg-type]
        path, epoch = model.predict(data.spikes).values.ravel(), data.epoch.values.ravel()
        orders = block_permutations(len(epoch), 50, block=epoch_bins, seed=seed)
        found["path"].append(_bits(path, epoch))
        found["dealt"].append(float(np.mean([_bits(path, epoch[order]) for order in orders])))
        found["true states"].append(_bits(data.state.values.ravel(), epoch))
    path, dealt, truth = (float(np.mean(found[name])) for name in ("path", "dealt", "true states"))
    return Outcome(
        path, {"epochs shuffled in blocks": dealt}, path >= 0.5 and dealt <= 0.1, f"true states {truth:.2f} bit"
    )


def _bits(a: np.ndarray, b: np.ndarray) -> float:
    return float(mutual_info_score(a, b) / np.log(2))
