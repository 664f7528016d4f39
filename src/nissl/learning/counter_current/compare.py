"""Rules side by side: the same network from the same weights, the same samples in the same order, the same number of steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from nissl.errors import InputError, ModelError, unknown
from nissl.learning.counter_current._data import held_out as pair_of
from nissl.learning.counter_current._learner import Learner
from nissl.learning.counter_current._settings import Settings
from nissl.learning.counter_current.baselines import BackPropagation, FeedbackAlignment, TargetPropagation
from nissl.learning.counter_current.memory import saved_memory
from nissl.learning.counter_current.network import CounterCurrentNetwork

# A rule by name: its class, and the settings that make it what it is.
RULES: dict[str, tuple[Callable[..., Learner], dict[str, Any]]] = {
    "counter-current": (CounterCurrentNetwork, {}),
    "back-propagation": (BackPropagation, {}),
    "feedback alignment": (FeedbackAlignment, {}),
    "target propagation": (TargetPropagation, {}),
    "frozen feedback": (CounterCurrentNetwork, {"freeze_feedback": True}),
    "shuffled templates": (CounterCurrentNetwork, {"shuffle": True}),
    "last layer only": (CounterCurrentNetwork, {"local_loss": "top"}),
}


def make_rule(
    name: str,
    layers: nn.Sequential | Sequence[nn.Module],
    *,
    input_shape: Sequence[int] | None = None,
    autoencoder: bool = False,
    seed: int = 0,
) -> Learner:
    """A rule by its name, on a copy of the layers; `fit` it with `RULES[name][1]` among its settings.

    Raises
    ------
    UnknownNameError
        No such rule.

    Examples
    --------
    >>> type(make_rule("feedback alignment", [nn.Linear(3, 2)])).__name__
    'FeedbackAlignment'
    """
    if name not in RULES:
        raise unknown("rule", name, RULES)
    return RULES[name][0](copy.deepcopy(layers), input_shape=input_shape, autoencoder=autoencoder, seed=seed)


def compare_rules(
    layers: nn.Sequential | Sequence[nn.Module],
    X: Any,
    y: Any,
    *,
    rules: Sequence[str] | None = None,
    test: tuple[Any, Any] | float = 0.2,
    lr: float | Sequence[float] = 1.0,
    epochs: int = 16,
    batch_size: int = 64,
    input_shape: Sequence[int] | None = None,
    local_loss: str | None = None,
    seed: int = 0,
    progress: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Train a network by several rules on equal budget.

    Parameters
    ----------
    layers
        The network; it is copied, and stays as it is.
    X, y
        Samples and their classes.
    rules
        Names from `RULES`, each once; all where None.
    test
        X and y that are held out, or the share of samples to hold out.
    lr
        A rate for all, or several to choose from, for each rule by its accuracy on a fifth of the training samples; the rule then
        begins again with all of them.
    epochs, batch_size, input_shape, seed, progress
        As those of `CounterCurrentNetwork` and its `fit`.
    local_loss
        Of the counter-current rules.
    **settings
        `momentum`, `clip` and the like, for all rules; see `Settings`.

    Returns
    -------
    DataFrame
        A row a rule: `accuracy` on held-out samples; `seconds` of training; `weights` that were trained, feedback included; `memory`,
        the most bytes kept for gradients in one step; `lr`. `table.attrs["scores"]` has the accuracy after each epoch by rule, whose
        measurement is part of the seconds. A rule whose loss or gradient becomes infinite, at every rate where there are several,
        has NaN for its accuracy and memory, and `table.attrs["failed"]` says why by rule; the others go on.

    Raises
    ------
    UnknownNameError
        No such rule or setting.
    InputError, ModelError
        What `CounterCurrentNetwork` and its `fit` refuse; no rules, or one twice; no rates.

    Examples
    --------
    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> layers = [nn.Linear(4, 8), nn.ELU(), nn.Linear(8, 2)]
    >>> table = compare_rules(layers, x, (x[:, 0] > 0).long(), rules=["counter-current", "back-propagation"], epochs=2, progress=False)
    >>> list(table.rule)
    ['counter-current', 'back-propagation']
    """
    chosen = list(RULES) if rules is None else list(rules)
    if not chosen or len(set(chosen)) < len(chosen):
        raise InputError(f"rules={chosen}; allowed: at least one of {', '.join(RULES)}, each once")
    made = {
        name: make_rule(name, layers, input_shape=input_shape, seed=seed) for name in chosen
    }  # wrong names and layers first
    any_rule = next(iter(made.values()))
    x, labels = any_rule._pair(X, y)
    kept, held_out = _hold_out(x, labels, test, any_rule, seed)
    given: Sequence[Any] | np.ndarray = lr if isinstance(lr, Sequence | np.ndarray) and np.ndim(lr) else [lr]
    rates = [Settings(lr=rate).lr for rate in given]
    if not rates:
        raise InputError("lr is an empty list; give at least one rate")
    common = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "progress": progress, **settings}
    rows, scores, failed = [], {}, {}
    for name, rule in made.items():
        own = {**common, **RULES[name][1]}
        if isinstance(rule, CounterCurrentNetwork):
            own.setdefault("local_loss", local_loss)
        rate, begin = rates[0] if len(rates) == 1 else np.nan, time.perf_counter()
        accuracy = memory = np.nan
        try:
            rate = rates[0] if len(rates) == 1 else _best_rate(rule, rates, kept, own, seed)
            begin = time.perf_counter()
            rule.fit(*kept, lr=rate, test=held_out, **own)
            seconds = time.perf_counter() - begin
            accuracy, scores[name] = rule.score(*held_out), rule.curve_.score.values.tolist()
            memory = step_memory(rule, kept[0][:batch_size], kept[1][:batch_size])
        except ModelError as error:
            seconds, failed[name] = time.perf_counter() - begin, str(error)
            scores.setdefault(name, [])
        rows.append(
            {
                "rule": name,
                "accuracy": accuracy,
                "seconds": seconds,
                "weights": sum(p.numel() for group in rule.groups().values() for p in group),
                "memory": memory,
                "lr": rate,
            }
        )
    table = pd.DataFrame(rows)
    table.attrs["scores"], table.attrs["failed"] = scores, failed
    return table


def step_memory(rule: Learner, x: Any, target: Any = None) -> int:
    """The most bytes that one step keeps for gradients; weights stay as they are."""
    x, target = (part.clone() for part in rule._pair(x, target))  # not a view, which would keep all samples
    trial = copy.deepcopy(rule).train()
    return saved_memory(lambda: trial._update(x, target), trial)


def _hold_out(
    x: Tensor, labels: Tensor, test: tuple[Any, Any] | float, rule: Learner, seed: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What is trained on, and what is tested on."""
    if not isinstance(test, int | float | np.number):
        return (x, labels), rule._pair(*pair_of(test))
    n = round(float(test) * len(x)) if np.isfinite(test) else 0
    if not 0 < n < len(x):
        raise InputError(f"test={test} of {len(x)} samples; allowed: a share that leaves some for both, or (X, y)")
    order = torch.from_numpy(np.random.default_rng([seed, 3]).permutation(len(x)))
    return (x[order[n:]], labels[order[n:]]), (x[order[:n]], labels[order[:n]])


def _best_rate(rule: Learner, rates: list[float], kept: tuple[Tensor, Tensor], own: dict[str, Any], seed: int) -> float:
    """The rate with the best accuracy on a fifth of the training samples; one that ends in NaN has none."""
    train, validate = _hold_out(*kept, 0.2, rule, seed)
    found = []
    for rate in rates:
        trial = copy.deepcopy(rule)
        try:
            found.append(trial.fit(*train, lr=rate, **own).score(*validate))
        except ModelError:
            found.append(-1.0)
    if max(found) < 0:
        raise ModelError(f"no rate of {rates} is small enough: the loss or its gradient became infinite at each")
    return rates[int(np.argmax(found))]
