"""What comes in, checked before any work starts: counts of named units in trials, covariates beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from nissl.errors import InputError
from nissl.recordings._traces import SYNONYMS, as_traces, listed


@dataclass(frozen=True)
class Counts:
    """Spike counts of one recording.

    Attributes
    ----------
    spikes
        (trial, time, unit), NaN where missing or after a trial's end; coordinates in seconds and names.
    lengths
        (trial,): bins up to the last one with a count.
    single
        Whether the recording came without a trial axis.
    bin_width
        Seconds.
    named
        Whether the units came with names; without, they are numbered.
    """

    spikes: xr.DataArray
    lengths: Int[np.ndarray, " trial"]
    single: bool
    bin_width: float
    named: bool = True

    @property
    def values(self) -> Float[np.ndarray, "trial time unit"]:
        """The counts as numpy."""
        return self.spikes.values

    @property
    def names(self) -> np.ndarray:
        """Names of the units."""
        return self.spikes["unit"].values

    def rows(self, keep: np.ndarray) -> Counts:
        """Some of the trials."""
        return replace(self, spikes=self.spikes.isel(trial=keep), lengths=self.lengths[keep])


def read_counts(x: Any, observations: str) -> Counts:
    """Counts from whatever holds them; values that such observations cannot have are refused."""
    if isinstance(x, Counts):
        return x
    variable = "spikes" if isinstance(x, xr.Dataset) and "spikes" in x else None
    spikes = as_traces(x, ("trial", "time", "unit"), variable=variable, constant="keep", min_samples=1)
    single = _without_trials(x, variable)
    values = spikes.values
    known = np.isfinite(values)
    some = np.asarray(known.any(axis=2))
    empty = ~some.any(axis=1)
    if empty.any():
        raise InputError(f"trials without a single bin: {listed(np.flatnonzero(empty))}; leave them out")
    _check_values(values, known, spikes["unit"].values, observations)
    lengths = values.shape[1] - some[:, ::-1].argmax(axis=1)
    time = spikes["time"].values
    width = spikes.attrs.get("bin_width") or (float(np.median(np.diff(time))) if len(time) > 1 else 1.0)
    named = all(
        isinstance(part, xr.DataArray | xr.Dataset) and any(n in part.coords for n in SYNONYMS["unit"])
        for part in (x if isinstance(x, list | tuple) else [x])
    )
    return Counts(spikes, lengths, single, float(width), named)


def _without_trials(x: Any, variable: str | None) -> bool:
    if isinstance(x, xr.Dataset):
        x = x[variable or next(n for n in ("activity", "spikes") if n in x)]
    return not isinstance(x, list | tuple) and getattr(x, "ndim", 3) == 2


def _check_values(values: np.ndarray, known: np.ndarray, names: np.ndarray, observations: str) -> None:
    def of(bad: np.ndarray) -> str:
        return listed(names[bad.any(axis=(0, 1))])

    if observations == "gaussian":
        return
    filled = np.where(known, values, 0)
    if observations == "bernoulli":
        wrong = (filled != 0) & (filled != 1)
        if wrong.any():
            raise InputError(
                f"values other than 0 and 1 in {of(wrong)}; mark bins with a spike: (spikes > 0), or use observations='poisson'"
            )
        return
    negative, broken = filled < 0, filled != np.round(filled)
    if negative.any():
        raise InputError(
            f"negative counts in {of(negative)}; give spike counts, or use observations='gaussian' for traces"
        )
    if broken.any():
        raise InputError(
            f"counts that are no whole numbers in {of(broken)}; bin spike times, or use observations='gaussian' for traces"
        )


def check_for_fit(counts: Counts, observations: str, lags: int, n_states: int, coupling: bool) -> None:
    """What can be read but not fitted: silent, constant and duplicated units, too short recordings, too many states."""
    values, names = counts.values, counts.names
    known = np.isfinite(values)
    low = np.where(known, values, np.inf).min(axis=(0, 1))
    high = np.where(known, values, -np.inf).max(axis=(0, 1))
    silent = (high == 0) & (observations != "gaussian")
    if silent.any():
        raise InputError(
            f"units without a single spike: {listed(names[silent])}; leave them out, their rate has no logarithm"
        )
    if observations != "poisson" and (low == high).any():
        raise InputError(f"units that never change: {listed(names[low == high])}; leave them out")
    if coupling:
        twins = _same(np.where(known, values, -1.0).reshape(-1, len(names)), names)
        if twins:
            pairs = ", ".join(f"{str(a)!r} and {str(b)!r}" for a, b in twins[:4])
            raise InputError(
                f"units with the same spikes: {pairs}; keep one of each, their couplings cannot be told apart"
            )
        if counts.lengths.max() <= lags:
            raise InputError(
                f"trials of at most {counts.lengths.max()} bins and lags={lags}; use fewer lags or longer trials"
            )
    bins = int(known.any(axis=2).sum())
    if n_states > bins:
        raise InputError(f"n_states={n_states} for {bins} bins; give fewer states or more data")


def _same(columns: np.ndarray, names: np.ndarray) -> list[tuple[Any, Any]]:
    """Pairs of names whose columns are equal: equal random projections first, then the columns themselves."""
    key = np.random.default_rng(0).random(len(columns)) @ columns
    order = np.argsort(key, kind="stable")
    near = np.isclose(key[order[1:]], key[order[:-1]], rtol=1e-12)
    pairs = zip(order[:-1][near], order[1:][near], strict=True)
    return [(names[min(a, b)], names[max(a, b)]) for a, b in pairs if (columns[:, a] == columns[:, b]).all()]


def matched_units(counts: Counts, names: np.ndarray) -> Counts:
    """The same recording with its units in the order of the fit; units without names are taken in their order."""
    if not counts.named and len(counts.names) == len(names):
        return replace(counts, spikes=counts.spikes.assign_coords(unit=names))
    mine = list(counts.names)
    absent = [n for n in names if n not in mine]
    extra = [n for n in mine if n not in set(names)]
    if absent or extra:
        said = [f"lacks {listed(absent)}"] * bool(absent) + [f"has {listed(extra)} beside them"] * bool(extra)
        raise InputError(f"the model was fitted to {len(names)} units; this recording {' and '.join(said)}")
    return replace(counts, spikes=counts.spikes.sel(unit=names))


def read_covariates(x: Any, counts: Counts, names: list[str] | None = None) -> tuple[np.ndarray | None, list[str]]:
    """(trial, time, covariate) beside the counts, and their names; finite wherever something was observed."""
    if x is None:
        if names:
            raise InputError(f"the model was fitted with covariates {listed(names)}; give them here too")
        return None, []
    shape = counts.values.shape[:2]
    if isinstance(x, xr.Dataset):
        x = x.to_dataarray("variable")
    found = x
    if isinstance(x, xr.DataArray):
        lead = ("trial", "time") if "trial" in x.dims else ("time",)
        rest = [d for d in x.dims if d not in lead]
        if set(lead) - set(map(str, x.dims)) or len(rest) > 1:
            raise InputError(f"covariates with axes {x.dims}; allowed: trial, time and one more")
        found = x.transpose(*lead, *rest)
    values = np.asarray(found, dtype=float)
    if values.shape[:2] != shape and values.shape[:1] == shape[1:] and shape[0] == 1:
        values = values[None]
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3 or values.shape[:2] != shape:
        raise InputError(
            f"covariates of shape {values.shape} for {shape[0]} trials of {shape[1]} bins; give (trial, time, covariate)"
        )
    own = [d for d in found.dims if d not in ("trial", "time")] if isinstance(found, xr.DataArray) else []
    named = isinstance(found, xr.DataArray) and bool(own) and own[0] in found.coords
    numbered = [f"covariate {i}" for i in range(values.shape[2])]
    labels = [str(v) for v in found[own[0]].values] if named else numbered  # type: ignore[index, union-attr]
    if named and names is not None and sorted(labels) == sorted(names):
        values = values[..., [labels.index(n) for n in names]]  # in the order of the fit, as units are
    elif named and names is not None and len(names) == len(labels) and names != numbered:
        raise InputError(f"covariates {listed(labels)}; the model was fitted with {listed(names)}")
    observed = np.asarray(np.isfinite(counts.values).any(axis=2))
    if not np.isfinite(values[observed]).all():
        raise InputError(
            "covariates that are missing (NaN) or infinite where spikes were counted; fill them, or mark these bins' spikes NaN"
        )
    if names is not None and len(names) != values.shape[2]:
        raise InputError(f"{values.shape[2]} covariates; the model was fitted with {len(names)}: {listed(names)}")
    return np.where(observed[..., None], values, 0.0), labels
