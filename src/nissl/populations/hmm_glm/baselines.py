"""Simpler models beside an `HMMGLM`, on held-out trials: what switching adds, what coupling adds, what the prior adds."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from sklearn.base import clone

from nissl.errors import InputError
from nissl.populations._pairwise import pairwise_correlation
from nissl.populations.hmm_glm.inputs import read_counts
from nissl.recordings import as_traces
from nissl.statistics import bootstrap

if TYPE_CHECKING:
    from nissl.populations.hmm_glm.estimator import HMMGLM


@dataclass(frozen=True)
class Comparison:
    """A model beside simpler ones.

    Attributes
    ----------
    table
        By model: `log_likelihood` held out, nats a spike; `gain` of the model in question over it, with a 95 % bootstrap interval over held-out trials
        (`gain_low`, `gain_high`); `as_good`, whether that interval reaches zero or below: then the simpler model does as well.
    connectivity
        With a known truth, by estimator: `correlation` of weights with the true ones over pairs and states. None without.
    """

    table: pd.DataFrame
    connectivity: pd.DataFrame | None

    @property
    def as_good(self) -> list[str]:
        """Baselines that do as well as the model, by held-out likelihood."""
        return [str(n) for n in self.table.index[self.table["as_good"].to_numpy(bool)]]


def compare_hmm_glm(
    model: HMMGLM, train: Any, test: Any, *, truth: xr.DataArray | None = None, seed: int = 0
) -> Comparison:
    """Fit the model, and simpler ones with the same settings, to `train`, and score all on `test`.

    The baselines: a hidden Markov model of constant rates (states without coupling), a Poisson GLM (coupling without states), constant rates (neither),
    and the same model without its prior. For connectivity: lagged correlation, and the GLM's weights.

    Parameters
    ----------
    model
        An `HMMGLM`, fitted or not; a clone is fitted.
    train, test
        Recordings of the same units, as for `HMMGLM.fit`; several trials in `test` give the interval.
    truth
        Weights (state, target, source) or (target, source) of a simulation, for the table of connectivity. With states, the states of the model and of the truth
        are matched by their weights; estimators without states are compared with the truth's mean over states.
    seed
        Of the bootstrap.

    Examples
    --------
    >>> from nissl.populations import HMMGLM, compare_hmm_glm
    >>> from nissl.recordings.simulate import simulate_switching_glm
    >>> data = simulate_switching_glm(n_units=5, n_states=2, n_trials=6, n_bins=300)
    >>> model = HMMGLM(n_states=2, prior="gaussian", link="sigmoid", n_restarts=2, max_iter=20)
    >>> list(compare_hmm_glm(model, data.spikes[:3], data.spikes[3:]).table.index)
    ['model', 'constant-rate HMM', 'GLM without states', 'constant rates', 'no prior']
    """
    counts = read_counts(test, model.observations)
    fits: dict[str, Any] = {"model": clone(model)}
    fits["constant-rate HMM"] = _other(model, coupling=False, prior=None)
    fits["GLM without states"] = _other(model, n_states=1, prior=None)
    fits["constant rates"] = _other(model, n_states=1, coupling=False, prior=None)
    if model.prior is not None:
        fits["no prior"] = _other(model, prior=None)
    per_trial = {}
    for name, fit in fits.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            fit.fit(train)
        per_trial[name] = fit.score_trials(counts).values
    values = counts.values
    spikes = np.isfinite(values).sum((1, 2)) if model.observations == "gaussian" else np.nansum(values, axis=(1, 2))
    if not spikes.sum():
        raise InputError("held-out trials without a single spike; give trials with spikes")
    rows = {}
    for name, own in per_trial.items():
        gain = (per_trial["model"] - own) / spikes.mean()
        low, high = bootstrap(gain, seed=seed) if name != "model" and len(gain) > 1 else (np.nan, np.nan)
        rows[name] = {
            "log_likelihood": own.sum() / spikes.sum(),
            "gain": gain.mean(),
            "gain_low": low,
            "gain_high": high,
            "as_good": name != "model" and not (low if np.isfinite(low) else gain.mean()) > 0,
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    return Comparison(table, None if truth is None else _connectivity(fits, train, truth, model.lags))


def _other(model: HMMGLM, **changes: Any) -> Any:
    other: Any = clone(model)
    return other.set_params(**changes)


def _connectivity(fits: dict[str, Any], train: Any, truth: xr.DataArray, lags: int) -> pd.DataFrame:
    mean = truth.mean("state") if "state" in truth.dims else truth
    off = ~np.eye(mean.shape[0], dtype=bool)

    def correlation(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a[..., off].ravel(), b[..., off].ravel())[0, 1]) if a[..., off].std() > 0 else np.nan

    rows = {"lagged correlation": (correlation(lagged_correlation(train, lags=lags).values, mean.values), np.nan)}
    for name in ("GLM without states", "no prior", "model"):
        if name not in fits:
            continue
        fit = fits[name]
        by_state = np.nan
        if "state" in truth.dims and fit.n_states_ > 1:
            by_state = correlation(*matched_states(fit.weights_.values, truth.values))
        rows[name] = (correlation(fit.mean_weights_.values, mean.values), by_state)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["correlation", "correlation_by_state"]).rename_axis(
        "estimator"
    )


def matched_states(
    mine: Float[np.ndarray, "state target source"], truth: Float[np.ndarray, "state target source"]
) -> tuple[np.ndarray, np.ndarray]:
    """The states of two sets of weights in pairs, as alike as they can be (least squares, Hungarian)."""
    from nissl.statistics import match

    cost = ((mine[:, None] - truth[None]) ** 2).sum((2, 3))
    pairs = match(cost, maximise=False)
    return mine[pairs.rows], truth[pairs.columns]


def lagged_correlation(spikes: Any, *, lags: int = 5) -> xr.DataArray:
    """The simple baseline of connectivity: correlation of each unit's activity with each other's recent past.

    Element [i, j] is the correlation between unit i now and unit j's mean over the last `lags` bins, over all bins that have both;
    the past does not reach over the start of a trial.

    Parameters
    ----------
    spikes
        (trial, time, unit) or (time, unit), NaN where missing; traces as well as counts.
    lags
        Bins of the past.

    Returns
    -------
    DataArray (target, source)
        From -1 to 1.

    Raises
    ------
    InputError
        Units that never change, trials no longer than the lags.

    Examples
    --------
    >>> x = np.random.default_rng(0).poisson(1.0, size=(500, 1)).astype(float)
    >>> follows = np.concatenate([x, np.roll(x, 1, axis=0)], axis=1)
    >>> r = lagged_correlation(follows, lags=1)
    >>> bool(r[1, 0] > 0.9), bool(abs(r[0, 1]) < 0.2)
    (True, True)
    """
    variable = "spikes" if isinstance(spikes, xr.Dataset) and "spikes" in spikes else None
    traces = as_traces(spikes, ("trial", "time", "unit"), variable=variable)
    x = traces.values
    if lags < 1 or x.shape[1] <= lags:
        raise InputError(f"lags={lags} for trials of {x.shape[1]} bins; give 1 or more, and fewer than the bins")
    windows = np.lib.stride_tricks.sliding_window_view(x[:, :-1], lags, axis=1)
    past = windows.mean(axis=-1).reshape(-1, x.shape[2])  # NaN where any bin of it is missing
    now = x[:, lags:].reshape(-1, x.shape[2])
    values = pairwise_correlation(now, past)
    names = traces["unit"].values
    return xr.DataArray(
        values, dims=("target", "source"), coords={"target": names, "source": names}, name="lagged correlation"
    )
