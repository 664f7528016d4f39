"""Behaviour from few labels: a new head on a trained body, with ridge regression on counts of spikes beside it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import nn

from nissl.errors import InputError
from nissl.populations.neuroformer.connectivity import past_counts
from nissl.populations.neuroformer.losses import losses
from nissl.populations.neuroformer.model import NeuroformerNetwork
from nissl.populations.neuroformer.training import Schedule, evaluate_batches, train
from nissl.populations.neuroformer.windows import Batch, Windows

ALPHAS = np.logspace(-2, 4, 13)


def choose_labelled(
    values: Float[np.ndarray, "window"],
    train_on: Int[np.ndarray, "sample"],
    *,
    name: str,
    fraction: float | None,
    labels: int | None,
    seed: int,
) -> Int[np.ndarray, "sample"]:
    """Some of the labelled training windows, drawn at random; `labels` of them, or a `fraction`.

    Raises
    ------
    InputError
        Both or neither given, or nothing left.
    """
    if (fraction is None) == (labels is None):
        raise InputError("give either fraction= (share of the labelled training windows) or labels= (how many of them)")
    known = train_on[np.isfinite(values[train_on])]
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(f"fraction={fraction}; give a share above 0 and up to 1")
    n = labels if labels is not None else round(float(fraction or 0) * len(known))
    if n < 2:
        raise InputError(
            f"{'fraction=' + str(fraction) if labels is None else 'labels=' + str(labels)} of {len(known)} windows with a label of {name!r} leaves {n}; "
            f"at least 2 are needed: give fraction of {2 / max(len(known), 1):.2g} or more, or labels=2 or more"
        )
    if n > len(known):
        raise InputError(f"labels={n}, but only {len(known)} training windows have a label of {name!r}")
    return np.sort(np.random.default_rng(seed).permutation(known)[:n])


def with_head(network: NeuroformerNetwork, name: str, classes: int, seed: int) -> NeuroformerNetwork:
    """A copy of a network with one more head; everything else keeps its weights."""
    shape = replace(network.shape, predict={**network.shape.predict, name: classes})
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        new = NeuroformerNetwork(shape)
    held = deepcopy(network.state_dict())
    new.load_state_dict(
        {**new.state_dict(), **{k: v for k, v in held.items() if not k.startswith(f"behaviour_heads.{name}.")}}
    )
    return new.to(network.id_head.weight.device)


def start_head(network: NeuroformerNetwork, windows: Windows, index: Int[np.ndarray, "sample"], name: str) -> None:
    """Set a new head for a number to ridge regression on the pooled last layer, strength chosen by leave-one-out."""
    states = pooled_states(network, windows, index)
    mean, sd = windows.target_scale[name]
    found = _ridge(states, (windows.target_values[name][index] - mean) / sd)
    head = network.behaviour_heads[name]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.copy_(torch.as_tensor(found.coef_)[None])
        head.bias.fill_(float(found.intercept_))


def tune(
    network: NeuroformerNetwork, windows: Windows, index: Int[np.ndarray, "sample"], name: str, schedule: Schedule, *,
    freeze: bool, seed: int, progress: bool, until: int | None = None, watch: Callable[[NeuroformerNetwork, int], None] | None = None,
) -> tuple[NeuroformerNetwork, list[dict[str, float]]]:  # fmt: skip
    """A copy of a network whose head is set by ridge, then trained with the body on labelled windows; with `freeze` the head alone."""
    new = deepcopy(network)
    if not network.shape.predict[name]:
        start_head(new, windows, index, name)
    if freeze:
        for key, p in new.named_parameters():
            p.requires_grad_(key.startswith(f"behaviour_heads.{name}."))
    seen = None if watch is None else (lambda step: watch(new, step))
    history = train(
        new,
        windows,
        index,
        schedule,
        seed=seed,
        progress=progress,
        description=f"tuning to {name}",
        until=until,
        watch=seen,
    )
    new.requires_grad_(True)
    return new, history


def best_steps(
    network: NeuroformerNetwork, windows: Windows, index: Int[np.ndarray, "sample"], name: str, schedule: Schedule, *,
    freeze: bool, seed: int, folds: int,
) -> int:  # fmt: skip
    """After how many steps labelled windows that were left out are predicted best, by cross-validation: few labels are soon overfitted."""
    errors: dict[int, float] = {}
    order = np.random.default_rng(seed).permutation(index)
    for fold in range(folds):
        left_out, kept = order[fold::folds], np.setdiff1d(order, order[fold::folds])
        batch = windows.batch(left_out, network.shape.predict)

        def watch(tuned: NeuroformerNetwork, step: int, batch: Batch = batch) -> None:
            with torch.no_grad():
                loss = losses(tuned, batch, tuned.eval()(batch))[name]
            errors[step] = errors.get(step, 0.0) + float(loss) * len(batch.ids)

        tune(network, windows, kept, name, schedule, freeze=freeze, seed=seed, progress=False, watch=watch)
    return min(errors, key=lambda step: errors[step])


def pooled_states(
    network: NeuroformerNetwork, windows: Windows, index: Int[np.ndarray, "sample"]
) -> Float[np.ndarray, "sample dim"]:
    """Mean of the last layer over the events of each window."""
    parts: list[np.ndarray] = []

    def keep(_: np.ndarray, batch: Batch) -> None:
        real = (batch.ids[:, :-1] < network.eos) | (batch.ids[:, :-1] == network.sos)
        states = network(batch).states.float() * real[..., None]
        parts.append((states.sum(1) / real.sum(1, keepdim=True)).cpu().numpy())

    evaluate_batches(network, windows, index, 1024, keep)
    return np.concatenate(parts).astype(float)


def predict_windows(
    network: NeuroformerNetwork, windows: Windows, index: Int[np.ndarray, "sample"], name: str
) -> np.ndarray:
    """A number, or probabilities of classes, a window, in the units of the recording."""
    parts: list[np.ndarray] = []

    def keep(_: np.ndarray, batch: Batch) -> None:
        found = network(batch).predicted[name].float()
        parts.append((found.softmax(-1) if network.shape.predict[name] else found).cpu().numpy())

    evaluate_batches(network, windows, index, 1024, keep)
    said = np.concatenate(parts).astype(float)
    mean, sd = windows.target_scale[name]
    return said if network.shape.predict[name] else said * sd + mean


def count_features(windows: Windows) -> Float[np.ndarray, "window feature"]:
    """Spikes of each unit in the past and in the window itself: what the model sees, without its order and times."""
    n_bins = windows.tokenizer.n_bins
    sums = np.concatenate([np.zeros((1, windows.counts.shape[1])), windows.counts.cumsum(0)])
    now = sums[windows.first_bin + n_bins] - sums[windows.first_bin]
    return np.sqrt(past_counts(windows) + now)


def compare_decoders(
    network: NeuroformerNetwork,
    windows: Windows,
    labelled: Int[np.ndarray, "sample"],
    held_out: Int[np.ndarray, "sample"],
    name: str,
) -> pd.DataFrame:
    """Held-out score of the network and of ridge (for classes: logistic) regression on counts from the same labels."""
    classes, values = network.shape.predict[name], windows.target_values[name]
    test = held_out[np.isfinite(values[held_out])]
    if len(test) < 2:
        raise InputError(f"{len(test)} held-out windows have a label of {name!r}; at least 2 are needed to test")
    ours = predict_windows(network, windows, test, name)
    features = count_features(windows)
    if classes:
        from sklearn.linear_model import LogisticRegression

        said = (
            LogisticRegression(max_iter=1000)
            .fit(features[labelled], values[labelled].astype(int))
            .predict(features[test])
        )
        scores = {"neuroformer": (ours.argmax(1) == values[test]).mean(), "counts": (said == values[test]).mean()}
    else:
        said = _ridge(features[labelled], values[labelled]).predict(features[test])
        scores = {"neuroformer": _correlation(ours, values[test]), "counts": _correlation(said, values[test])}
    table = pd.DataFrame({"accuracy" if classes else "correlation": scores})
    table["labels"], table["held_out"] = len(labelled), len(test)
    table.index.name = "decoder"
    return table


def _ridge(x: np.ndarray, y: np.ndarray):
    from sklearn.linear_model import RidgeCV

    return RidgeCV(ALPHAS).fit(x, y)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, NaN where one of the two is constant."""
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")
