"""How well a network decides, and how well its probabilities say so: rules that need order beside rules that need values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from nissl.errors import InputError
from nissl.learning.utility import UtilityView, gain_matrix, log_probability
from nissl.learning.utility._scoring import several
from nissl.learning.utility.gains import Gain
from nissl.statistics import bootstrap


def duality_report(
    view: UtilityView,
    inputs: Any,
    references: Sequence[Any],
    *,
    gain: Gain | np.ndarray = "exact",
    n: int | Sequence[int] = (4, 16),
    seed: int = 0,
) -> pd.DataFrame:
    """Every decision rule under the network's own softmax (P) and under the transformed probability (Q), on test data.

    Parameters
    ----------
    view
        With what `fit_beta` chose on other data.
    inputs, references
        Test data, and what is right for each input.
    gain
        Of an output against the reference.
    n
        Draws for minimum Bayes risk; the largest is drawn for the mean gain of a sample as well.
    seed
        Of the draws.

    Returns
    -------
    pandas.DataFrame
        A row for each rule: rule, probability, beta, gain with its bootstrap interval over inputs, nats a token of the
        references, share of distinct outputs. `greedy` needs no probability. The control draws under Q of utilities that were permuted
        among the options: as sharp, without the order.

    Raises
    ------
    InputError
        Not as many references as inputs, or no n.

    Examples
    --------
    >>> x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    >>> net = torch.nn.Linear(2, 3)
    >>> view = UtilityView(net).fit_beta(x, net(x).argmax(-1).tolist(), n=4, betas=(1.0, 4.0))
    >>> duality_report(view, x, net(x).argmax(-1).tolist(), n=(4,))["rule"].tolist()
    ['greedy', 'sample', 'mbr-4', 'sample', 'mbr-4', 'sample, options permuted']
    """
    inputs, draws = several(inputs), [int(k) for k in np.atleast_1d(np.asarray(n))]
    if isinstance(references, str) or len(references) != len(inputs) or not draws or min(draws) < 1:
        raise InputError(f"{len(references)} references for {len(inputs)} inputs, n={n}; give one each, and some n")
    right = [view.reader.show(row) for row in view.reader.encode(references)]
    most = max(draws)

    def worth(outputs: Sequence[Sequence[Any]], weights: np.ndarray | None = None) -> np.ndarray:
        """Mean gain of each input's outputs."""
        rows = [gain_matrix(o, gain, against=[r])[:, 0] for o, r in zip(outputs, right, strict=True)]
        return np.array([np.average(r, weights=None if weights is None else weights[i]) for i, r in enumerate(rows)])

    def distinct(outputs: Sequence[Sequence[Any]]) -> float:
        return float(np.mean([len(set(o)) / len(o) for o in outputs]))

    rows = [("greedy", "", np.nan, worth([[o] for o in view.decide(inputs, "greedy")]), np.nan, np.nan)]
    for name, transform, beta in (("P", "power", 1.0), ("Q", view.transform_, view.beta_)):
        whole = transform in ("sequence_power", "unnormalised")
        nats = np.nan if whole else view.negative_log_likelihood(inputs, references, transform=transform, beta=beta)
        outputs, weights = view.candidates(inputs, most, transform=transform, beta=beta, seed=seed)
        rows.append(("sample", name, beta, worth(outputs, weights), nats, distinct(outputs)))
        for k in draws:
            decided = view.decide(inputs, "mbr", n=k, gain=gain, transform=transform, beta=beta, seed=seed)
            rows.append((f"mbr-{k}", name, beta, worth([[o] for o in decided]), nats, np.nan))
    mixed = _permuted_draws(view, inputs, most, seed)
    rows.append(("sample, options permuted", "Q", view.beta_, worth(mixed), np.nan, distinct(mixed)))
    columns = ["rule", "probability", "beta", "values", "nats_per_token", "distinct"]
    table = pd.DataFrame(rows, columns=columns)
    intervals = [bootstrap(v, seed=seed) for v in table["values"]]
    table.insert(3, "gain", [v.mean() for v in table["values"]])
    table.insert(4, "low", [i[0] for i in intervals])
    table.insert(5, "high", [i[1] for i in intervals])
    return table.drop(columns="values")


def _permuted_draws(view: UtilityView, inputs: Any, n: int, seed: int) -> list[list[Any]]:
    """Outputs drawn when each option has the utility of another."""
    transform = view.transform_ if view.transform_ in ("power", "value", "rank") else "power"

    def log_q(utilities: torch.Tensor) -> torch.Tensor:
        size = utilities.shape[-1]
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).to(utilities.device)
        return log_probability(utilities[..., order], transform, view.beta_)

    return [[view.reader.show(t) for t in row] for row in view.reader.draw(inputs, n, log_q, seed)]
