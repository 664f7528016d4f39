"""Spikes and the phase of a rhythm: locking, and precession through a field."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError, unknown
from nissl.populations._spike_trains import SpikeTrains, as_spike_trains
from nissl.populations.rhythms._chance import labelled
from nissl.populations.rhythms._circular import ppc_of, rayleigh_of
from nissl.populations.rhythms._signals import as_signals, check_band
from nissl.populations.rhythms.phase import band_signals, warn_without_peak
from nissl.recordings._traces import listed
from nissl.statistics import SurrogateTest, against, jittered, permutations


def spike_phase(
    spikes: Any,
    signal: Any,
    band: tuple[float, float],
    *,
    method: Literal["ppc", "plv"] = "ppc",
    surrogates: Literal["shift", "jitter"] = "shift",
    n_surrogates: int = 200,
    min_shift: float = 1.0,
    jitter: float | None = None,
    correct: Literal["max"] | None = None,
    rate: float | None = None,
    variable: str | None = None,
    order: int = 3,
    cycles: float = 3.0,
    check_peak: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """How closely each unit's spikes keep to a phase of each channel's rhythm.

    Parameters
    ----------
    spikes
        A recording with `spike_time` and `spike_unit`, a mapping from unit to times in seconds, or one array of times.
    signal
        Field potential `(time, channel)` on the same clock; a Dataset with the `variable` named.
    band
        Low and high edge in hertz.
    method
        `ppc`, pairwise phase consistency, does not depend on the number of spikes; `plv`, the mean vector's length, grows as they get
        fewer.
    surrogates
        `shift`: each train is shifted around the end of the recording by a lag of its own (at least `min_shift` seconds); `jitter`:
        each spike moves by up to `jitter` seconds (half a cycle of the band's centre by default), which keeps slow changes of
        rate and phase.

    correct
        `max`: p holds for all units and channels at once.

    Returns
    -------
    xarray.Dataset
        `(unit, channel)`: `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p`, and `spikes` (their number where the phase is known),
        `angle` (mean phase, radians), `length` (of the mean vector), `rayleigh_p` (for independent spikes). NaN for units with
        fewer than two spikes.

    Raises
    ------
    InputError, UnknownNameError
        No spike where the phase is known, a band the signal cannot carry, unknown names.

    Examples
    --------
    >>> t = np.arange(0, 10, 0.002)
    >>> found = spike_phase({"a": np.arange(1, 9, 0.125)}, np.cos(2 * np.pi * 8 * t)[:, None], (6, 10), rate=500)
    >>> bool(abs(found.angle[0, 0]) < 0.05), bool(found.effect[0, 0] > 0.99)
    (True, True)

    Notes
    -----
    Vinck et al. 2010 for PPC of spikes and field.
    """
    if method not in ("ppc", "plv"):
        raise unknown("method", method, ("ppc", "plv"))
    if surrogates not in ("shift", "jitter"):
        raise unknown("kind of surrogates", surrogates, ("shift", "jitter"))
    trains = as_spike_trains(spikes)
    signals = as_signals(signal, rate=rate, variable=variable)
    if signals.like.sizes["trial"] > 1:
        raise InputError("a signal with trials; spikes have one clock: give (time, channel)")
    checked = check_band(band, signals)
    if check_peak:
        warn_without_peak(signals, checked)
    z = band_signals(signals, [checked], order=order, cycles=cycles)[0]
    start = float(signals.like["time"].values[0])
    width = jitter if jitter is not None else 1 / (checked[0] + checked[1])
    parts = []
    for channel in z.T:
        total, count = _vectors(_phasors_at(channel, (trains.times - start) * signals.rate), trains)
        if surrogates == "shift":
            null = _shifted(channel, trains, start, signals.rate, n_surrogates, min_shift, seed)
        else:
            moved = jittered(trains.times, n_surrogates, width=width, seed=seed)
            null = _vectors(_phasors_at(channel, (moved - start) * signals.rate), trains)
        parts.append((total, count, *null))
    total, count, null_total, null_count = (np.stack(p, axis=-1) for p in zip(*parts, strict=True))
    if not count.any():
        raise InputError(
            f"no spike where the phase is known, {start + z.shape[0] / signals.rate:.4g} s of signal with its ends cut; "
            "compare the clocks of spikes and signal"
        )
    few = trains.names[(count < 2).any(1)]
    if len(few):
        warnings.warn(f"fewer than two spikes where the phase is known in {listed(few)}: NaN there", stacklevel=2)
    test = against(
        _locked(total, count, method),
        _locked(null_total, null_count, method),
        name=f"spike-phase locking ({method})",
        correct=correct,
    )
    enough = count >= 2
    size = np.where(enough, count, np.nan)
    found = labelled(
        test,
        ("unit", "channel"),
        {"unit": trains.names, "channel": signals.names},
        spikes=count,
        angle=np.where(enough, np.angle(total), np.nan),
        length=np.abs(total) / size,
        rayleigh_p=rayleigh_of(total, size),
    )
    found.attrs["band"] = checked
    return found


def _phasors_at(z: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Unit vectors at fractional samples, interpolated between neighbours; 0 where the phase is not known."""
    low = np.floor(place).astype(np.int64)
    ok = (low >= 0) & (low < len(z) - 1)
    low = np.where(ok, low, 0)
    share = place - low
    mixed = z[low] * (1 - share) + z[np.minimum(low + 1, len(z) - 1)] * share
    size = np.abs(mixed)
    ok &= size > 0
    return np.where(ok, mixed / np.where(ok, size, 1), 0)


def _vectors(phasors: np.ndarray, trains: SpikeTrains) -> tuple[np.ndarray, np.ndarray]:
    """Sum of unit vectors and their number for each unit `(..., unit)`; spikes of a unit lie side by side."""
    zero = np.zeros((*phasors.shape[:-1], 1))
    edges = np.concatenate([[0], np.cumsum(trains.counts)])
    running = np.concatenate([zero, np.cumsum(phasors, -1)], -1)
    known = np.concatenate([zero, np.cumsum(phasors != 0, -1)], -1)
    return np.diff(running[..., edges], axis=-1), np.diff(known[..., edges], axis=-1)


def _shifted(
    z: np.ndarray, trains: SpikeTrains, start: float, rate: float, n: int, min_shift: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of trains shifted around the end of what is known of the phase."""
    known = ~np.isnan(z)
    length, least = int(known.sum()), max(1, int(np.ceil(min_shift * rate)))
    if length < 2 * least + 1:
        raise InputError(
            f"{length / rate:.4g} s of known phase cannot be shifted by {min_shift:g} s both ways; give a smaller min_shift or a longer signal"
        )
    place = np.rint((trains.times - start) * rate).astype(np.int64)
    ok = (place >= 0) & (place < len(z))
    ok[ok] = known[place[ok]]
    among = np.where(ok, np.cumsum(known)[np.where(ok, place, 0)] - 1, 0)
    phasors = z[known] / np.abs(z[known])
    lags = np.random.default_rng(seed).integers(least, length - least + 1, (n, len(trains.names)))
    parts = [
        _vectors(np.where(ok, phasors[(among + lag[trains.unit]) % length], 0), trains) for lag in lags
    ]  # one surrogate at a time: a batch would hold every spike n times over
    return np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts])


def _locked(total: np.ndarray, count: np.ndarray, method: str) -> np.ndarray:
    enough = np.where(count >= 2, count, np.nan)
    return ppc_of(total, enough) if method == "ppc" else np.abs(total) / enough


@dataclass(frozen=True)
class PhasePrecession:
    """Phase as a line of position.

    Attributes
    ----------
    slope
        Cycles per field; negative where phase advances to earlier ones.
    offset
        Phase at the field's start, radians.
    correlation
        Circular-linear correlation, with the sign of the slope (Kempter et al. 2012).
    test
        Mean resultant length about the best line, against phases dealt to other spikes.
    n
        Number of spikes.
    """

    slope: float
    offset: float
    correlation: float
    test: SurrogateTest
    n: int

    @property
    def p(self) -> float:
        """Of the permutation test."""
        return self.test.p


def phase_precession(
    position: Float[np.ndarray, "spike"],
    phase: Float[np.ndarray, "spike"],
    *,
    field: tuple[float, float] | None = None,
    max_slope: float = 2.0,
    n_permutations: int = 1000,
    seed: int = 0,
) -> PhasePrecession:
    """Fit a line to phase over position, and ask whether shuffled phases lie as close to one.

    The slope s maximises |mean exp(i(phase - 2 pi s x))| within `max_slope` cycles either way, x the position within the field, 0 to 1.

    Parameters
    ----------
    position
        Of the animal at each spike.
    phase
        Of the rhythm at each spike, radians.
    field
        Where the field starts and ends; the range of positions by default.

    Raises
    ------
    InputError
        Fewer than ten spikes, lengths that differ, values that are not finite, an empty field.

    Examples
    --------
    >>> x = np.linspace(0, 1, 60)
    >>> found = phase_precession(x, 2 - 2 * np.pi * 0.8 * x)
    >>> round(found.slope, 3), found.p < 0.01
    (-0.8, True)

    Notes
    -----
    O'Keefe and Recce 1993; the regression is that of Kempter et al. 2012.
    """
    x, phi = np.asarray(position, dtype=float).ravel(), np.asarray(phase, dtype=float).ravel()
    if len(x) != len(phi):
        raise InputError(f"{len(x)} positions and {len(phi)} phases; give one of each a spike")
    if len(x) < 10 or not (np.isfinite(x).all() and np.isfinite(phi).all()):
        raise InputError(
            f"{len(x)} spikes, {int((~np.isfinite(x + phi)).sum())} of them not finite; give ten or more, all finite"
        )
    low, high = field if field is not None else (float(x.min()), float(x.max()))
    if not high > low or not max_slope > 0:
        raise InputError(
            f"a field from {low:g} to {high:g} and slopes up to {max_slope:g}; give a field with an extent and a slope above 0"
        )
    x = (x - low) / (high - low)
    slopes = np.linspace(-max_slope, max_slope, 2 * int(np.ceil(25 * max_slope)) + 1)
    lines = np.exp(-2j * np.pi * slopes[:, None] * x) / len(x)
    turned = np.exp(1j * phi)
    along = np.abs(lines @ turned)
    null = np.abs(lines @ turned[permutations(len(x), n_permutations, seed=seed)].T).max(0)
    test = against(float(along.max()), null, name="phase precession (resultant length about the best line)")
    slope = _refined(slopes, x, turned, int(along.argmax()))
    offset = float(np.angle((turned * np.exp(-2j * np.pi * slope * x)).mean()))
    return PhasePrecession(slope, offset, _circular_linear(x, phi, slope), test, len(x))


def _refined(slopes: np.ndarray, x: np.ndarray, turned: np.ndarray, best: int) -> float:
    from scipy.optimize import minimize_scalar

    bounds = slopes[max(best - 1, 0)], slopes[min(best + 1, len(slopes) - 1)]
    found = minimize_scalar(
        lambda s: -abs((turned * np.exp(-2j * np.pi * s * x)).mean()),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(found.x)  # type: ignore[union-attr]


def _circular_linear(x: np.ndarray, phi: np.ndarray, slope: float) -> float:
    theta = 2 * np.pi * abs(slope) * x
    a, b = (np.sin(v - np.angle(np.exp(1j * v).mean())) for v in (phi, theta))
    size = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / size) if size > 0 else float("nan")
