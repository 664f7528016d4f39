"""Do units move together? Synchrony of a population, and covariance of spike counts beyond what slow rates give."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import xarray as xr

from nissl.errors import InputError
from nissl.populations._spike_trains import as_spike_trains
from nissl.populations.rhythms._chance import blank_diagonal, labelled, over_shifts
from nissl.populations.rhythms._signals import Signals, as_signals
from nissl.recordings._traces import listed
from nissl.statistics import SurrogateTest, against, jittered


def population_synchrony(
    recording: Any,
    *,
    n_surrogates: int = 200,
    min_shift: float | None = None,
    rate: float | None = None,
    variable: str | None = None,
    seed: int = 0,
) -> SurrogateTest:
    """chi^2 = variance over time of the population's mean / mean variance over time of its units, against units shifted apart.

    1 where all units do the same, about 1/N where N units are independent.

    Parameters
    ----------
    recording
        Traces or counts `([trial,] time, unit)`, of two or more units; moments at which any unit is missing are left out.
    min_shift
        Least shift in seconds (tokens); a tenth of the recording by default.

    Raises
    ------
    InputError
        Fewer than two units, constant units, no moment at which all units are known.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(500, 1))
    >>> test = population_synchrony(shared + rng.normal(size=(500, 20)))
    >>> bool(0.4 < test.effect < 0.6), bool(test.mean < 0.1), test.p < 0.01
    (True, True, True)

    Notes
    -----
    Golomb and Rinzel 1993. Each unit is scaled to nothing: loud units count more; z-score first if they should not.
    """
    signals = as_signals(recording, rate=rate, variable=variable, min_units=2)
    x, least = complete(signals, min_shift)

    def statistic(copies: np.ndarray) -> np.ndarray:
        return copies.mean(-1).var(-1) / copies.var(-2).mean(-1)

    null = over_shifts(statistic, x, n_surrogates, min_shift=least, seed=seed)
    return against(float(statistic(x[None])[0]), null, name="population synchrony (chi squared)")


def complete(signals: Signals, min_shift: float | None) -> tuple[np.ndarray, int]:
    """The moments `(time, unit)` at which every unit is known, trials one after another, and the least shift in samples."""
    units = len(signals.names)
    cube = signals.values.reshape(-1, signals.like.sizes["trial"], units).swapaxes(0, 1).reshape(-1, units)
    x = cube[~np.isnan(cube).any(1)]
    if len(x) < 10:
        gaps = np.isnan(cube).mean(0)
        worst = signals.names[np.argsort(-gaps)[:3]]
        raise InputError(
            f"all units are known together at {len(x)} moments; this needs 10: leave out those with most gaps ({listed(worst)})"
        )
    still = x.std(0) == 0
    if still.any():
        raise InputError(f"units that never change while all are known: {listed(signals.names[still])}; leave them out")
    least = max(1, len(x) // 10) if min_shift is None else max(1, int(np.ceil(min_shift * signals.rate)))
    return x, least


def spike_covariance(
    spikes: Any,
    *,
    width: float = 0.005,
    jitter: float = 0.02,
    start: float | None = None,
    stop: float | None = None,
    n_surrogates: int = 200,
    correct: Literal["max"] | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Covariance of spike counts, against spikes jittered in time: synchrony finer than the jitter.

    Parameters
    ----------
    spikes
        A recording with spike times, or a mapping from unit to times in seconds.
    width
        Of the bins, seconds.
    jitter
        Each spike moves by up to this many seconds either way; rates slower than that stay.
    start, stop
        Window in seconds; first and last spike by default.
    correct
        `max`: p holds for all pairs at once.

    Returns
    -------
    xarray.Dataset
        `(target, source)`, symmetric: `effect` (squared counts), `surrogate_mean`, `surrogate_sd`, `z`, `p`, and `correlation`. NaN on the
        diagonal and for silent units.

    Raises
    ------
    InputError
        Fewer than two units, bins as wide as the jitter (it would hardly move spikes out of their bin), an empty window.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shared = np.sort(rng.uniform(0, 60, 300))
    >>> found = spike_covariance({"a": shared, "b": np.sort(shared + rng.normal(0, 1e-3, 300)), "c": np.sort(rng.uniform(0, 60, 300))})
    >>> bool(found.p[0, 1] < 0.01), bool(found.p[0, 2] > 0.05)
    (True, True)

    Notes
    -----
    Date, Bienenstock and Geman 1998; Amarasingham et al. 2012 for jitter as a test of fine timing.
    """
    trains = as_spike_trains(spikes, min_units=2)
    if not 0 < width < jitter:
        raise InputError(
            f"bins of {width:g} s and jitter of {jitter:g} s; give 0 < width < jitter, so that jitter moves spikes out of their bin"
        )
    first = float(trains.times.min()) if start is None else start
    last = float(trains.times.max()) if stop is None else stop
    bins = int(np.ceil((last - first) / width + 1e-9))
    if bins < 10:
        raise InputError(
            f"a window from {first:g} to {last:g} s holds {max(bins, 0)} bins of {width:g} s; this needs 10"
        )
    inside = (trains.times >= first) & (trains.times <= last)
    times, unit, units = trains.times[inside], trains.unit[inside], len(trains.names)
    silent = np.bincount(unit, minlength=units) == 0
    if silent.all():
        raise InputError(f"no spike from {first:g} to {last:g} s; give a window with spikes")
    if silent.any():
        warnings.warn(f"units without a spike: {listed(trains.names[silent])}: NaN there", stacklevel=2)

    def covariance(moved: np.ndarray) -> np.ndarray:
        place = np.clip(((moved - first) / width).astype(np.int64), 0, bins - 1)
        counts = np.bincount(place * units + unit, minlength=bins * units).reshape(bins, units).astype(np.float32)
        mean = counts.mean(0, dtype=float)
        return (counts.T @ counts).astype(float) / bins - np.outer(mean, mean)

    # Bins overlap among units only: one surrogate at a time, since counts of all would not fit memory.
    seeds = np.random.SeedSequence(seed).generate_state(n_surrogates)
    null = np.stack(
        [covariance(jittered(times, 1, width=jitter, start=first, stop=last, seed=int(s))[0]) for s in seeds]
    )
    effect = covariance(times)
    null[:, np.eye(units, dtype=bool)] = 0.0
    own = np.sqrt(np.diag(effect))
    apart = np.where(np.eye(units, dtype=bool), 0.0, effect)
    test = blank_diagonal(against(apart, null, name="spike-count covariance", correct=correct))
    quiet = silent[:, None] | silent
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.where(np.eye(units, dtype=bool) | quiet, np.nan, effect / np.outer(own, own))
    found = labelled(
        test, ("target", "source"), {"target": trains.names, "source": trains.names}, correlation=correlation
    )
    found.attrs |= {"width": width, "jitter": jitter}
    return found.where(xr.DataArray(~quiet, dims=("target", "source")))
