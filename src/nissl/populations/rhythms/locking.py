"""Phase locking of pairs of signals: locking value, pairwise consistency, weighted lag index, n:m locking."""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from jaxtyping import Complex, Float

from nissl.errors import InputError, unknown
from nissl.populations.rhythms._chance import blank_diagonal, labelled, least_shift, over_shifts
from nissl.populations.rhythms._circular import ppc_of
from nissl.populations.rhythms._signals import as_signals, check_band
from nissl.populations.rhythms.phase import band_signals, warn_without_peak
from nissl.statistics import against

Method = Literal["ppc", "plv", "wpli", "wpli2_debiased"]


def phase_locking(
    recording: Any,
    band: tuple[float, float],
    *,
    method: Method = "ppc",
    source_band: tuple[float, float] | None = None,
    n: int = 1,
    m: int = 1,
    n_surrogates: int = 200,
    min_shift: float | None = None,
    correct: Literal["max"] | None = None,
    rate: float | None = None,
    variable: str | None = None,
    order: int = 3,
    cycles: float = 3.0,
    indicator_bandwidth: float | None = None,
    check_peak: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """How constant the phase difference of each pair of units is, against circularly shifted copies.

    Parameters
    ----------
    recording
        Traces `([trial,] time, unit)`; trials are pooled, and shifted each within itself.
    band
        Low and high edge in hertz (cycles per token for hidden states).
    method
        `ppc`, pairwise phase consistency; `plv`, phase-locking value; `wpli` and `wpli2_debiased`, the weighted phase-lag index
        |E Im S| / E|Im S| and its debiased square, which discount locking at zero lag (volume conduction, shared reference).
    source_band, n, m
        n:m locking: the phase n phi_target - m phi_source, source phases taken in `source_band` (`ppc` and `plv` only).
    n_surrogates
        Copies in which every filtered signal is shifted around its end by a lag of its own.
    min_shift
        Least shift in seconds; a second, or one over the bandwidth where that is longer.
    correct
        `max`: p holds for all pairs at once.

    Returns
    -------
    xarray.Dataset
        `(target, source)`: `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p`, `angle` (mean phase of the target minus that of the
        source, radians) and `samples`. NaN on the diagonal unless the two bands differ.

    Raises
    ------
    InputError, UnknownNameError
        A band the recording cannot carry, fewer than two units, an unknown method.

    Examples
    --------
    >>> rng = np.random.default_rng(0); t = np.arange(0, 20, 0.01)
    >>> phi = 2 * np.pi * 8 * t + np.cumsum(rng.normal(size=2000)) * 0.15
    >>> x = np.stack([np.cos(phi), np.cos(phi - 1)], 1) + 0.3 * rng.normal(size=(2000, 2))
    >>> found = phase_locking(x, (6, 10), rate=100)
    >>> round(float(found.angle[0, 1]), 1), float(found.p[0, 1]) < 0.01
    (1.0, True)

    Notes
    -----
    Lachaux et al. 1999 (PLV), Vinck et al. 2010 (PPC), Vinck et al. 2011 (wPLI). Samples of a filtered signal are not independent, so PPC
    over time is as good as PLV squared; what chance gives is read from the surrogates. Two perfectly regular rhythms of one
    frequency stay locked however they are shifted: one recording cannot show that they are coupled, and p then says so.
    """
    if method not in get_args(Method):
        raise unknown("method", method, get_args(Method))
    crossed = source_band is not None or n != 1 or m != 1
    if crossed and method.startswith("wpli"):
        raise InputError(f"n:m locking with method {method!r}; allowed: 'ppc', 'plv'")
    if min(n, m) < 1 or int(n) != n or int(m) != m:
        raise InputError(f"{n}:{m} locking; give whole numbers of 1 or more")
    signals = as_signals(recording, rate=rate, variable=variable, min_units=1 if crossed else 2)
    bands = [check_band(b, signals, indicator_bandwidth=indicator_bandwidth) for b in (band, source_band or band)]
    if check_peak:
        for b in dict.fromkeys(bands):
            warn_without_peak(signals, b)
    z = band_signals(signals, bands if crossed else bands[:1], order=order, cycles=cycles)
    trials, units = signals.like.sizes["trial"], signals.like.sizes["unit"]
    # (band, time, trial, unit), without the times at which nothing was recorded
    z = z[:, ~np.isnan(z).all((0, 2))].reshape(len(z), -1, trials, units)
    shift = least_shift(signals, min(b[1] - b[0] for b in bands), min_shift)

    def statistic(copies: np.ndarray) -> np.ndarray:
        pooled = copies.reshape(*copies.shape[:2], -1, units) if copies.ndim == 5 else copies
        return _matrix(pooled[:, 0], pooled[:, -1], method, n, m)

    effect = statistic(z[None])[0]
    surrogates = over_shifts(statistic, z, n_surrogates, axis=1, min_shift=shift, seed=seed)
    if not crossed:
        surrogates[:, np.eye(units, dtype=bool)] = 0.0  # a unit with itself takes no part in the maximum
        effect[np.eye(units, dtype=bool)] = 0.0
    test = against(effect, surrogates, name=f"phase locking ({method})", correct=correct)
    total, samples = _sums(z[0].reshape(-1, units), z[-1].reshape(-1, units), n, m)
    if (samples[~np.eye(units, dtype=bool)] == 0).any():
        warnings.warn("some pairs were never recorded at the same time: NaN there", stacklevel=2)
    found = labelled(
        test if crossed else blank_diagonal(test),
        ("target", "source"),
        {"target": signals.names, "source": signals.names},
        angle=np.angle(total),
        samples=samples,
    )
    found.attrs |= {"band": bands[0], "source_band": bands[1], "n:m": f"{n}:{m}"}
    return found


def _sums(target: np.ndarray, source: np.ndarray, n: int = 1, m: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Sum of unit vectors at n phi_target - m phi_source for each pair `(..., target, source)`, and how many there were."""
    a, known_a = _units(target)
    b, known_b = (a, known_a) if source is target else _units(source)
    total = np.swapaxes(a**n, -1, -2) @ np.conj(b**m)
    return total, np.swapaxes(known_a, -1, -2) @ known_b


def _units(z: Complex[np.ndarray, "... time unit"]) -> tuple[np.ndarray, np.ndarray]:
    size = np.abs(z)
    known = size > 0  # NaN compares as false
    return np.where(known, z / np.where(known, size, 1), 0), known.astype(float)


def _matrix(target: np.ndarray, source: np.ndarray, method: str, n: int, m: int) -> np.ndarray:
    if method in ("ppc", "plv"):
        total, count = _sums(target, source, n, m)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.abs(total) / count if method == "plv" else ppc_of(total, count)
    return np.stack(
        [
            weighted_phase_lag(z[..., :, None] * np.conj(source), axis=-2, debiased=method == "wpli2_debiased")
            for z in np.moveaxis(target, -1, 0)
        ],
        axis=-2,
    )


def weighted_phase_lag(
    cross: Complex[np.ndarray, "..."], axis: int = -1, *, debiased: bool = False
) -> Float[np.ndarray, "..."]:
    """Weighted phase-lag index |E Im S| / E|Im S| of cross-spectra S, or its debiased square (Vinck et al. 2011).

    Parameters
    ----------
    cross
        Cross-spectra or products of analytic signals, samples (trials, times, tapers) along `axis`; NaN is left out.

    Examples
    --------
    >>> float(weighted_phase_lag(np.exp(1j * np.array([0.5, 1.0, 2.0]))))
    1.0
    """
    lag = np.imag(cross)
    total, size, square = np.nansum(lag, axis), np.nansum(np.abs(lag), axis), np.nansum(lag**2, axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total**2 - square) / (size**2 - square) if debiased else np.abs(total) / size
