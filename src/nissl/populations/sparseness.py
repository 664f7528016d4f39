"""Sparse codes: how few neurons carry a moment, and how few moments a neuron."""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError, unknown
from nissl.recordings import as_traces
from nissl.recordings._traces import listed
from nissl.statistics import SurrogateTest, against, circular_shifts, gini

Measure = Literal["treves_rolls", "hoyer", "gini", "active"]
Kind = Literal["lifetime", "population"]
Signed = Literal["refuse", "abs", "rectify"]


def treves_rolls(rates: Float[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."]:
    """Treves and Rolls' a = (mean r)^2 / mean(r^2): the share of active neurons in a code of zeros and ones (1991).

    NaN rates are left out; NaN where all are zero.

    Examples
    --------
    >>> float(treves_rolls(np.array([1.0, 0, 0, 0])))
    0.25
    """
    r = np.asarray(rates, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _mean(r, axis) ** 2 / _mean(r**2, axis)


def treves_rolls_sparseness(rates: Float[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."]:
    """(1 - a) / (1 - 1/n): 0 where all respond alike, 1 where one of n responds (Vinje and Gallant 2000).

    Examples
    --------
    >>> float(treves_rolls_sparseness(np.array([1.0, 0, 0, 0])))
    1.0
    """
    n = (~np.isnan(rates)).sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (1 - treves_rolls(rates, axis)) / np.where(n > 1, 1 - 1 / np.maximum(n, 1), np.nan)


def hoyer(rates: Float[np.ndarray, "..."], axis: int = -1) -> Float[np.ndarray, "..."]:
    """Hoyer's sparseness (sqrt n - L1/L2) / (sqrt n - 1), from 0 to 1 (2004); NaN is left out.

    Examples
    --------
    >>> float(hoyer(np.array([0.0, 3.0, 0.0])))
    1.0
    """
    r = np.abs(np.asarray(rates, dtype=float))
    root = np.sqrt((~np.isnan(r)).sum(axis))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.nansum(r, axis) / np.sqrt(np.nansum(r**2, axis))
        return (root - ratio) / np.where(root > 1, root - 1, np.nan)


def active_fraction(
    rates: Float[np.ndarray, "..."], threshold: float = 0.0, axis: int = -1
) -> Float[np.ndarray, "..."]:
    """Share of values above a threshold; NaN is left out.

    Examples
    --------
    >>> float(active_fraction(np.array([0.0, 2.0, np.nan, 0.0, 1.0])))
    0.5
    """
    r = np.asarray(rates, dtype=float)
    return _mean(np.where(np.isnan(r), np.nan, r > threshold), axis)


def sparseness(
    responses: Any,
    *,
    kind: Kind = "lifetime",
    measure: Measure = "treves_rolls",
    signed: Signed = "refuse",
    threshold: float = 0.0,
    n_surrogates: int = 200,
    variable: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Sparseness of each neuron over time or stimuli, or of each moment over neurons, against dealt-out responses.

    Parameters
    ----------
    responses
        `(time, unit)`, a `stimulus` or `position` axis in place of time; further axes before it (trials, samples) are pooled.
    kind
        `lifetime`: over moments, one number a unit. Its surrogates deal the responses of each moment out to other units: each moment
        stays as sparse as it was. `population`: over units, one number a moment. Its surrogates shift units against each other: each
        unit stays as sparse as it was.
    measure
        `treves_rolls` (1 - a) / (1 - 1/n), `hoyer`, `gini`, or the `active` fraction above `threshold`.
    signed
        What is done with negative activity: it is refused, its size is taken, or it is cut at 0.

    Returns
    -------
    xarray.Dataset
        `(unit)` or `(time)`: `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p` (of being as sparse by chance). NaN for silent units
        and moments.

    Raises
    ------
    InputError, UnknownNameError
        Negative activity that was not to be, nothing but zeros, fewer than two units or moments, unknown names.

    Examples
    --------
    >>> rates = np.random.default_rng(0).exponential(size=(300, 20))
    >>> rates[:, 0] = np.eye(1, 300)[0] * 300  # one neuron fires for one stimulus alone
    >>> found = sparseness(rates)
    >>> round(float(found.effect[0]), 3), bool(found.p[0] < 0.01), round(float(found.effect[1:].mean()), 1)
    (1.0, True, 0.5)

    Notes
    -----
    Rolls and Tovee 1995, Vinje and Gallant 2000, Willmore and Tolhurst 2001 on why the two kinds differ.
    """
    for what, given, allowed in (
        ("kind", kind, Kind),
        ("measure", measure, Measure),
        ("way with signs", signed, Signed),
    ):
        if given not in get_args(allowed):
            raise unknown(what, given, get_args(allowed))
    traces, rates = as_rates(responses, signed=signed, variable=variable)
    test = sparseness_test(rates, kind, measure, threshold=threshold, n_surrogates=n_surrogates, seed=seed)
    silent = np.isnan(test.effect)
    if kind == "lifetime" and silent.any():
        warnings.warn(f"silent units: {listed(traces['unit'].values[silent])}: NaN there", stacklevel=2)
    dim = "unit" if kind == "lifetime" else "time"
    single = traces.sizes["trial"] == 1
    index = traces[dim].values if dim == "unit" or single else np.arange(len(effect))
    fields = {"effect": test.effect, "surrogate_mean": test.mean, "surrogate_sd": test.sd, "z": test.z, "p": test.p}
    attrs = {"measure": test.name, "surrogates": test.n, "tail": test.tail, "signed": signed}
    if traces.attrs.get("time_unit") == "token":
        attrs["note"] = "moments are positions in the sequence"
    return xr.Dataset({k: (dim, np.where(silent, np.nan, v)) for k, v in fields.items()}, {dim: index}, attrs)


def sparseness_test(
    rates: Float[np.ndarray, "moment unit"],
    kind: Kind,
    measure: Measure,
    *,
    threshold: float = 0.0,
    n_surrogates: int,
    seed: int,
) -> SurrogateTest:
    """Sparseness of each unit or moment of checked rates, against its surrogates; the effect of silent ones is NaN."""
    statistic = _statistic(measure, threshold)
    axis = 0 if kind == "lifetime" else 1
    make = _dealt if kind == "lifetime" else _moved
    seeds = np.random.SeedSequence(seed).generate_state(n_surrogates)
    null = np.stack([statistic(make(rates, int(s)), axis) for s in seeds])
    silent = ~(np.nansum(rates, axis) > 0)
    return against(
        np.where(silent, np.nan, statistic(rates, axis)),
        np.nan_to_num(null),
        name=f"{kind} sparseness ({measure})",
        tail="less" if measure == "active" else "greater",
    )


def as_rates(
    responses: Any, *, signed: Signed = "refuse", variable: str | None = None
) -> tuple[xr.DataArray, Float[np.ndarray, "moment unit"]]:
    """Responses as they were labelled, and as non-negative rates with all axes but the last pooled."""
    if (
        isinstance(responses, xr.DataArray | xr.Dataset)
        and "stimulus" in responses.dims
        and "time" not in responses.dims
    ):
        # The names of stimuli are no times.
        responses = responses.rename(stimulus="time").drop_vars("time", errors="ignore")
    traces = as_traces(responses, ("trial", "time", "unit"), variable=variable, min_units=2, constant="keep")
    rates = traces.values.reshape(-1, traces.sizes["unit"])
    negative = (rates < 0).any(0)
    if negative.any() and signed == "refuse":
        raise InputError(
            f"negative activity in {listed(traces['unit'].values[negative])}; sparseness is about rates: signed='abs' takes its size, "
            "signed='rectify' cuts it at 0"
        )
    rates = np.abs(rates) if signed == "abs" else np.maximum(rates, 0)
    if not np.nansum(rates) > 0:
        raise InputError("activity that is zero everywhere; give responses")
    return traces, rates


def _statistic(measure: Measure, threshold: float) -> Any:
    def of_rows(rates: np.ndarray, axis: int) -> np.ndarray:
        return gini(np.moveaxis(rates, axis, -1))

    return {
        "treves_rolls": treves_rolls_sparseness,
        "hoyer": hoyer,
        "gini": of_rows,
        "active": lambda rates, axis: active_fraction(rates, threshold, axis),
    }[measure]


def _dealt(rates: np.ndarray, seed: int) -> np.ndarray:
    """Each moment's responses dealt out to other units, gaps staying where they are."""
    missing = np.isnan(rates)
    keys = np.random.default_rng(seed).random(rates.shape)
    # Known places of a row in their order, and the same places in random order.
    place, source = (
        np.argsort(np.where(missing, np.inf, k), axis=1, kind="stable") for k in (np.zeros_like(keys), keys)
    )
    out = np.full_like(rates, np.nan)
    np.put_along_axis(out, place, np.take_along_axis(rates, source, 1), 1)
    return out


def _moved(rates: np.ndarray, seed: int) -> np.ndarray:
    return circular_shifts(rates, 1, seed=seed)[0]


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0).sum(axis) / known.sum(axis)
