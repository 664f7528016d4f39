"""Nested oscillations: the amplitude of a fast rhythm that follows the phase of a slow one."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError, unknown
from nissl.populations.rhythms._chance import labelled, least_shift
from nissl.populations.rhythms._coupling_kernels import METHODS, Lagged, Method, preferred_phase
from nissl.populations.rhythms._signals import Signals, as_signals, check_band
from nissl.populations.rhythms.phase import band_signals, warn_without_peak
from nissl.statistics import SurrogateTest, against, phase_randomised


def phase_amplitude(
    recording: Any,
    phase_band: tuple[float, float],
    amplitude_band: tuple[float, float],
    *,
    method: Method = "tort",
    pairs: bool = False,
    surrogates: Literal["shift", "phase_randomised"] = "shift",
    n_surrogates: int = 200,
    min_shift: float | None = None,
    bins: int = 18,
    rate: float | None = None,
    variable: str | None = None,
    order: int = 3,
    cycles: float = 3.0,
    indicator_bandwidth: float | None = None,
    check_peak: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Phase-amplitude coupling of each unit with itself (or of all pairs), against shifted amplitudes.

    Parameters
    ----------
    recording
        Traces `([trial,] time, unit)`; trials are joined after filtering.
    phase_band, amplitude_band
        Edges in hertz of the slow and the fast rhythm. An amplitude modulated at f has side bands f away on either side: an
        amplitude band narrower than twice the slow rhythm cannot show the coupling, and a warning says so.
    method
        `tort`, modulation index (log K - entropy of the mean amplitude over K phase bins) / log K; `mvl`, mean vector length
        |mean A exp(i phi)| / sqrt(mean A^2); `glm`, share of the amplitude's variance explained by cosine and sine of the phase.
    pairs
        Phase of every unit with the amplitude of every unit: dims `(target, source)`, target gives the amplitude.
    surrogates
        `shift`: the amplitude is shifted around its end after filtering; `phase_randomised`: the whole signal's phases are drawn anew
        and it is filtered again, which also destroys couplings that only reflect a sharp waveform.
    n_surrogates, min_shift
        How many, and by how many seconds at least (a second, or one over the phase band's width where that is longer).

    Returns
    -------
    xarray.Dataset
        `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p` and `preferred_phase` (radians; 0 is the slow rhythm's peak).

    Raises
    ------
    InputError, UnknownNameError
        Bands that the recording cannot carry or that overlap, a phase bin that is never visited, unknown names.

    Examples
    --------
    >>> rng = np.random.default_rng(0); t = np.arange(0, 20, 0.004)
    >>> phi = 2 * np.pi * 5 * t + np.cumsum(rng.normal(size=t.size)) * 0.1  # no rhythm is perfectly regular
    >>> x = np.cos(phi) + 0.5 * (1 + np.cos(phi - 1)) * np.cos(2 * np.pi * 50 * t)
    >>> found = phase_amplitude((x + 0.3 * rng.normal(size=t.size))[:, None], (4, 6), (40, 60), rate=250)
    >>> round(float(found.preferred_phase[0]), 1), float(found.p[0]) < 0.01
    (1.0, True)

    Notes
    -----
    Tort et al. 2010 (modulation index), Canolty et al. 2006 and Ozkurt and Schnitzler 2011 (vector length), Penny et al. 2008 (GLM).
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if surrogates not in ("shift", "phase_randomised"):
        raise unknown("kind of surrogates", surrogates, ("shift", "phase_randomised"))
    signals = as_signals(recording, rate=rate, variable=variable)
    slow, fast = (check_band(b, signals, indicator_bandwidth=indicator_bandwidth) for b in (phase_band, amplitude_band))
    if slow[1] > fast[0]:
        raise InputError(
            f"phase band {slow[0]:g}-{slow[1]:g} Hz and amplitude band {fast[0]:g}-{fast[1]:g} Hz overlap; keep them apart"
        )
    if fast[1] - fast[0] < slow[0] + slow[1]:
        warnings.warn(
            f"the amplitude band is {fast[1] - fast[0]:g} Hz wide; modulation at {(slow[0] + slow[1]) / 2:g} Hz has side bands that need "
            f"{slow[0] + slow[1]:g} Hz, and coupling is missed or weakened",
            stacklevel=2,
        )
    if check_peak:
        warn_without_peak(signals, slow)
    shift = least_shift(signals, slow[1] - slow[0], min_shift)

    def filtered(s: Signals) -> tuple[np.ndarray, np.ndarray]:
        z = band_signals(s, [slow, fast], order=order, cycles=cycles)
        trials = s.like.sizes["trial"]
        # trials one after another: (time of all trials, unit)
        z = z.reshape(2, z.shape[1], trials, -1).swapaxes(1, 2).reshape(2, z.shape[1] * trials, -1)
        return np.angle(z[0]), np.abs(z[1])

    angle, size = filtered(signals)
    units = len(signals.names)
    where = [(i, j) for i in range(units) for j in range(units)] if pairs else [(i, i) for i in range(units)]
    shape = (units, units) if pairs else (units,)
    lags = [0] if surrogates == "phase_randomised" else None
    measured = np.array(
        [_lagged(angle[:, j], size[:, i], method, bins, n_surrogates, shift, seed, lags) for i, j in where]
    )  # (pair, lag)
    preferred = np.array([preferred_phase(angle[:, j], size[:, i]) for i, j in where])
    if surrogates == "phase_randomised":
        copies = _randomised(signals, n_surrogates, seed)
        null = np.array(
            [
                [_lagged(a[:, j], b[:, i], method, bins, 0, shift, seed, [0])[0] for i, j in where]
                for a, b in map(filtered, copies)
            ]
        )
    else:
        null = measured[:, 1:].T
    test = against(
        measured[:, 0].reshape(shape),
        null.reshape(-1, *shape),
        name=f"phase-amplitude coupling ({method}, {surrogates})",
    )
    coords = {"target": signals.names, "source": signals.names} if pairs else {"unit": signals.names}
    found = labelled(test, tuple(coords), coords, preferred_phase=preferred.reshape(shape))
    found.attrs |= {"phase_band": slow, "amplitude_band": fast, "method": method}
    return found


def _lagged(
    angle: np.ndarray, size: np.ndarray, method: Method, bins: int, n: int, shift: int, seed: int, lags: Any = None
) -> np.ndarray:
    """Coupling without a shift, then at `n` random ones."""
    known = ~(np.isnan(angle) | np.isnan(size))
    if not known.any():
        raise InputError("phase and amplitude are never known at the same time; give units without such gaps")
    lagged = Lagged(angle[known], method, bins)
    return lagged(size[known], lagged.lags(n, shift, seed) if lags is None else np.asarray(lags))


def _randomised(signals: Signals, n: int, seed: int) -> list[Signals]:
    values = np.repeat(signals.values[None], n, 0)
    seeds = np.random.SeedSequence(seed).generate_state(sum(1 for _ in signals.stretches()))
    for s, (window, series) in zip(seeds, signals.stretches(), strict=True):
        values[:, window, series] = phase_randomised(signals.values[window][:, series], n, seed=int(s))
    return [Signals(v, signals.rate, signals.breaks, signals.like) for v in values]


def comodulogram(
    recording: Any,
    *,
    phase: Float[np.ndarray, "phase"] | None = None,
    amplitude: Float[np.ndarray, "amplitude"] | None = None,
    phase_bandwidth: float = 2.0,
    amplitude_bandwidth: float = 10.0,
    method: Method = "tort",
    n_surrogates: int = 200,
    min_shift: float | None = None,
    correct: Literal["max"] | None = "max",
    bins: int = 18,
    rate: float | None = None,
    variable: str | None = None,
    order: int = 3,
    cycles: float = 3.0,
    indicator_bandwidth: float | None = None,
    progress: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Phase-amplitude coupling over all pairs of a slow and a fast frequency, with one test for the whole plane.

    Parameters
    ----------
    recording
        Traces `([trial,] time, unit)`.
    phase, amplitude
        Centre frequencies in hertz; by default 2 to 20 in steps of 1 and 20 to 200 in steps of 10, as far as the sampling rate
        reaches.
    phase_bandwidth
        Width of the bands for phase, in hertz.
    amplitude_bandwidth
        Least width of the bands for amplitude; each is widened until the side bands of its phase band lie inside.
    correct
        `max`: p by the largest standardised coupling of the whole plane (a unit each); None: each pair alone.

    Returns
    -------
    xarray.Dataset
        `(unit, amplitude, phase)`: `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p`. NaN where the amplitude band would reach
        into the phase band.

    Raises
    ------
    InputError
        Frequencies that the recording cannot carry.

    Examples
    --------
    >>> rng = np.random.default_rng(0); t = np.arange(0, 20, 0.004)
    >>> x = np.cos(2 * np.pi * 5 * t) + 0.5 * (1 + np.cos(2 * np.pi * 5 * t)) * np.cos(2 * np.pi * 50 * t)
    >>> x = (x + 0.3 * rng.normal(size=t.size))[:, None]
    >>> found = comodulogram(x, phase=[3, 5, 7], amplitude=[30, 50, 70], rate=250)
    >>> best = found.effect[0].argmax(("amplitude", "phase"))
    >>> int(found.phase[best["phase"]]), int(found.amplitude[best["amplitude"]])
    (5, 50)

    Notes
    -----
    A circular shift of the amplitude changes only the lag at which it meets the phase, so that couplings at all lags come from one
    cross-correlation of the amplitude with each phase bin, and all surrogates cost one inverse transform a bin.
    """
    from tqdm import tqdm

    if method not in METHODS:
        raise unknown("method", method, METHODS)
    signals = as_signals(recording, rate=rate, variable=variable)
    nyquist = signals.rate / 2
    slow_centres = _centres(phase, np.arange(2.0, 21.0), phase_bandwidth / 2, nyquist, "phase")
    fast_centres = _centres(amplitude, np.arange(20.0, 201.0, 10.0), amplitude_bandwidth / 2, nyquist, "amplitude")
    slow = [
        check_band((c - phase_bandwidth / 2, c + phase_bandwidth / 2), signals, indicator_bandwidth=indicator_bandwidth)
        for c in slow_centres
    ]
    check_band((slow[0][0], float(fast_centres.max())), signals, indicator_bandwidth=indicator_bandwidth)
    shift = least_shift(signals, phase_bandwidth, min_shift)
    cut = max(cycles / b[0] for b in slow)
    cut = max(cut, 2.0 / phase_bandwidth, 2.0 / amplitude_bandwidth)
    units, trials = len(signals.names), signals.like.sizes["trial"]
    measured = np.full((n_surrogates + 1, units, len(fast_centres), len(slow)), np.nan)

    def of_unit(z: np.ndarray, unit: int) -> np.ndarray:
        return z.reshape(len(z), -1, trials, units)[..., unit].swapaxes(1, 2).reshape(len(z), -1)

    for column, low in enumerate(tqdm(slow, desc="comodulogram", disable=not progress or None)):
        half = max(amplitude_bandwidth / 2, low[1])
        rows = [r for r, c in enumerate(fast_centres) if c - half >= low[1] and c + half < nyquist]
        if not rows:
            continue
        bands = [low, *((float(fast_centres[r]) - half, float(fast_centres[r]) + half) for r in rows)]
        z = band_signals(signals, bands, order=order, cycles=cycles, cut=cut)
        for unit in range(units):
            mine = of_unit(z, unit)
            known = ~np.isnan(mine[0])
            if not known.any():
                continue
            lagged = Lagged(np.angle(mine[0, known]), method, bins)
            # The same lags in every cell, so that the largest of a surrogate plane belongs to one surrogate.
            lags = lagged.lags(n_surrogates, shift, seed)
            for row, fast in zip(rows, np.abs(mine[1:, known]), strict=True):
                measured[:, unit, row, column] = lagged(fast, lags)
    if np.isnan(measured).all():
        raise InputError(
            "no amplitude band lies above its phase band and below the Nyquist frequency; give other frequencies"
        )
    return _plane(measured, correct, signals, fast_centres, slow_centres, method)


def _centres(given: Any, default: np.ndarray, half: float, nyquist: float, what: str) -> np.ndarray:
    centres = default[default + half < nyquist] if given is None else np.atleast_1d(np.asarray(given, dtype=float))
    if (
        not len(centres)
        or not (np.diff(centres) > 0).all()
        or (centres[0] - half <= 0 and what == "phase")
        or centres[-1] + half >= nyquist
    ):
        raise InputError(
            f"frequencies for {what} {np.array2string(centres, threshold=8)} Hz with bands {2 * half:g} Hz wide; give ascending ones whose "
            f"bands lie between 0 and the Nyquist frequency, {nyquist:g} Hz"
        )
    return centres


def _plane(
    measured: np.ndarray, correct: Any, signals: Signals, fast: np.ndarray, slow: np.ndarray, method: str
) -> xr.Dataset:
    """The test of each unit's plane; p of cells that do not exist is NaN."""
    parts: list[SurrogateTest] = []
    for unit in range(measured.shape[1]):
        cells = ~np.isnan(measured[0, unit])
        full: dict[str, np.ndarray] = {k: np.full(cells.shape, np.nan) for k in ("effect", "mean", "sd", "z", "p")}
        name = f"comodulogram ({method})"
        if cells.any():
            test = against(measured[0, unit][cells], measured[1:, unit][:, cells], name=name, correct=correct)
            for k, values in full.items():
                values[cells] = getattr(test, k)
        parts.append(SurrogateTest(name, **full, n=len(measured) - 1, tail="greater", surrogates=measured[1:, unit]))
    stacked = {k: np.stack([getattr(t, k) for t in parts]) for k in ("effect", "mean", "sd", "z", "p")}
    whole = SurrogateTest(parts[0].name, **stacked, n=parts[0].n, tail="greater", surrogates=measured[1:])
    found = labelled(whole, ("unit", "amplitude", "phase"), {"unit": signals.names, "amplitude": fast, "phase": slow})
    found.attrs |= {"method": method, "correct": correct or "none"}
    return found
