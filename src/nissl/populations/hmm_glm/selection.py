"""How many states: held-out likelihood with occupancy, since likelihood alone keeps adding rare states."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import clone
from tqdm import tqdm

from nissl.errors import InputError
from nissl.populations.hmm_glm.inputs import Counts, read_counts, read_covariates

if TYPE_CHECKING:
    from nissl.populations.hmm_glm.estimator import HMMGLM


@dataclass(frozen=True)
class StateSelection:
    """Numbers of states side by side.

    Attributes
    ----------
    table
        By number of states: `log_likelihood` held out, nats a spike, mean over folds; `behind` the best number, mean of the paired
        differences over held-out trials, in nats a spike, and its standard error `sem`; `least_occupancy` of a state, the least over
        folds; `died`, states lost in EM, the most over folds; `eligible`, whether every state is alive and kept.
    chosen
        The smallest eligible number that is at most one standard error behind the best eligible one.
    """

    table: pd.DataFrame
    chosen: int

    def plot(self, ax: Any = None) -> Any:
        """Held-out likelihood against the number of states, the chosen one marked; returns the matplotlib axes."""
        import matplotlib.pyplot as plt

        ax = ax or plt.figure(figsize=(4.5, 3), layout="constrained").add_subplot()
        table, best = self.table, self.table["log_likelihood"]
        ax.errorbar(
            table.index,
            best,
            yerr=table["sem"].fillna(0),
            fmt="o-",
            color="0.35",
            ms=5,
            lw=1.2,
            capsize=3,
            label="held out",
        )
        out = ~table["eligible"].to_numpy(bool)
        ax.plot(
            table.index[out], best[out], "o", mfc="white", mec="0.35", ms=7, zorder=5, label="a state died or is rare"
        )
        ax.plot(
            [self.chosen], [best[self.chosen]], "o", color="#0072b2", ms=9, zorder=6, label=f"chosen: {self.chosen}"
        )
        ax.set_xticks(table.index)
        ax.set_xlabel("number of states")
        ax.set_ylabel("log likelihood (nats a spike)")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8)
        return ax


def select_states(
    model: HMMGLM,
    spikes: Any,
    candidates: Iterable[int] = range(1, 7),
    *,
    folds: int = 3,
    least_occupancy: float = 0.02,
    covariates: Any = None,
) -> StateSelection:
    """Cross-validated choice of the number of states, with the other settings of `model`.

    Trials are dealt out to folds; a recording of one trial is cut into stretches that are. The chosen number is the smallest that is within one
    standard error of the best one's held-out likelihood (paired over trials), among those whose states all hold at least `least_occupancy`
    of the bins.

    Parameters
    ----------
    model
        An `HMMGLM`; it is not changed.
    spikes
        As for `HMMGLM.fit`.
    candidates
        Numbers of states.
    folds
        Parts, each held out once.
    least_occupancy
        Share of bins a state must have.
    covariates
        As for `HMMGLM.fit`.

    Returns
    -------
    StateSelection

    Raises
    ------
    InputError
        No candidates, fewer than two folds, or too little data for so many folds.

    Examples
    --------
    >>> from nissl.populations import HMMGLM, select_states
    >>> from nissl.recordings.simulate import simulate_switching_glm
    >>> data = simulate_switching_glm(n_units=5, n_states=2, n_trials=4, n_bins=300, stay=0.99)
    >>> model = HMMGLM(prior="gaussian", link="sigmoid", n_restarts=2, max_iter=20)
    >>> select_states(model, data, (1, 2), folds=2).table["eligible"].tolist()
    [True, True]
    """
    numbers = sorted({int(c) for c in candidates})
    if not numbers or numbers[0] < 1:
        raise InputError(f"candidates {numbers}; give one or more numbers of states, from 1")
    if folds < 2:
        raise InputError(f"folds={folds}; give 2 or more")
    counts = read_counts(spikes, model.observations)
    given, names = read_covariates(covariates, counts)
    counts, given = _cut(counts, given, folds)
    fold = np.arange(len(counts.lengths)) % folds
    trials = [np.flatnonzero(fold == f) for f in range(folds)]
    per_trial, least, died = {}, {}, {}
    jobs = [(n, f) for n in numbers for f in range(folds)]
    for n, f in tqdm(jobs, desc="states", unit="fit", disable=True if model.progress is False else None):
        train, test = counts.rows(np.flatnonzero(fold != f)), counts.rows(trials[f])
        one: Any = clone(model)
        one.set_params(n_states=n, progress=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            one.fit(train, covariates=_some(given, fold != f, names))
        held_out = one.score_trials(test, covariates=_some(given, fold == f, names)).values
        per_trial.setdefault(n, np.empty(len(fold)))[trials[f]] = held_out
        least[n] = min(least.get(n, 1.0), float(one.occupancy_.min()))
        died[n] = max(died.get(n, 0), one.dead_states_)
    return _choose(numbers, per_trial, least, died, counts, model.observations, least_occupancy)


def _choose(
    numbers: list[int],
    per_trial: dict[int, np.ndarray],
    least: dict[int, float],
    died: dict[int, int],
    counts: Counts,
    observations: str,
    least_occupancy: float,
) -> StateSelection:
    values = counts.values
    spikes = np.isfinite(values).sum((1, 2)) if observations == "gaussian" else np.nansum(values, axis=(1, 2))
    total = spikes.sum()
    eligible = {n: died[n] == 0 and least[n] >= least_occupancy for n in numbers}
    allowed = [n for n in numbers if eligible[n]] or numbers[:1]
    best = max(allowed, key=lambda n: per_trial[n].sum())
    rows = []
    for n in numbers:
        behind = per_trial[best] - per_trial[n]
        sem = behind.std(ddof=1) * np.sqrt(len(behind)) / total if len(behind) > 1 else np.nan
        rows.append((n, per_trial[n].sum() / total, behind.sum() / total, sem, least[n], died[n], eligible[n]))
    names = ["n_states", "log_likelihood", "behind", "sem", "least_occupancy", "died", "eligible"]
    table = pd.DataFrame(rows, columns=names).set_index("n_states")
    near = [n for n in allowed if table.loc[n, "behind"] <= np.nan_to_num(table.loc[n, "sem"])]  # type: ignore[operator]
    return StateSelection(table, min(near) if near else best)


def _cut(counts: Counts, given: np.ndarray | None, folds: int) -> tuple[Counts, np.ndarray | None]:
    """Enough trials for the folds: one trial is cut into stretches, two a fold."""
    if len(counts.lengths) >= folds:
        return counts, given
    if len(counts.lengths) > 1:
        raise InputError(
            f"{len(counts.lengths)} trials for {folds} folds; give folds={len(counts.lengths)} or more trials"
        )
    pieces = 2 * folds
    size = counts.values.shape[1] // pieces
    if size < 2:
        raise InputError(f"{counts.values.shape[1]} bins for {folds} folds; give a longer recording or fewer folds")
    names, time = counts.spikes["unit"].values, counts.spikes["time"].values[:size]
    values = counts.values[0, : size * pieces].reshape(pieces, size, -1)
    known = np.asarray(np.isfinite(values).any(axis=2))
    lengths = np.where(known.any(axis=1), size - known[:, ::-1].argmax(axis=1), 0)
    spikes = xr.DataArray(values, dims=("trial", "time", "unit"), coords={"time": time, "unit": names})
    keep = lengths > 0
    if given is not None:
        given = given[0, : size * pieces].reshape(pieces, size, -1)[keep]
    return Counts(spikes.isel(trial=keep), lengths[keep], False, counts.bin_width), given


def _some(given: np.ndarray | None, keep: np.ndarray, names: list[str]) -> xr.DataArray | None:
    if given is None:
        return None
    return xr.DataArray(given[keep], dims=("trial", "time", "covariate"), coords={"covariate": names})
