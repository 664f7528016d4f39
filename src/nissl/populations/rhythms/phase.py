"""Phase and amplitude of a rhythm: zero-phase band-pass, analytic signal, edges cut."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Complex

from nissl.errors import InputError
from nissl.populations.rhythms._filters import analytic
from nissl.populations.rhythms._signals import Signals, as_signals, check_band, edge_seconds
from nissl.populations.rhythms.spectra import peaks
from nissl.recordings._traces import listed


def phase(
    recording: Any,
    band: tuple[float, float],
    *,
    rate: float | None = None,
    variable: str | None = None,
    order: int = 3,
    cycles: float = 3.0,
    indicator_bandwidth: float | None = None,
    check_peak: bool = True,
) -> xr.Dataset:
    """Instantaneous phase and amplitude of every unit in a band.

    Parameters
    ----------
    recording
        Traces `([trial,] time, unit)`: field potentials, calcium, rates, or hidden states `(sample, position, unit)` of a network,
        whose time is position and whose frequencies are cycles per token.
    band
        Low and high edge in hertz.
    rate
        Samples a second, for arrays without a clock.
    variable
        Which variable of a Dataset.
    order
        Of the Butterworth filter, run forwards and backwards.
    cycles
        How many cycles of the slow edge are cut at each end of each stretch (or three time constants of the filter, if longer).
    indicator_bandwidth
        Half-power frequency of a calcium indicator, in hertz; by default the recording's own attribute.
    check_peak
        Warn where a unit's spectrum has no peak in the band: its phase is then that of filtered noise.

    Returns
    -------
    xarray.Dataset
        `phase` (radians, 0 at the peak, -pi to pi) and `amplitude`, with the recording's axes; NaN at gaps and where an end was
        cut. Nothing is filtered across a gap.

    Raises
    ------
    InputError
        A band that the recording cannot carry, or no stretch longer than what its two ends lose.

    Examples
    --------
    >>> t = np.arange(0, 4, 0.01)
    >>> found = phase(np.cos(2 * np.pi * 8 * t)[:, None], (6, 10), rate=100)
    >>> bool(abs(found.phase.isel(time=200)) < 0.05), round(float(found.amplitude.isel(time=200, unit=0)), 2)
    (True, 1.0)

    Notes
    -----
    Section B of the methods for Monaco, Rajan and Hwang (2021).
    """
    signals = as_signals(recording, rate=rate, variable=variable)
    checked = check_band(band, signals, indicator_bandwidth=indicator_bandwidth)
    z = band_signals(signals, [checked], order=order, cycles=cycles)[0]
    if check_peak:
        warn_without_peak(signals, checked)
    found = xr.Dataset({"phase": signals.wrap(np.angle(z)), "amplitude": signals.wrap(np.abs(z))})
    found["phase"].attrs["units"] = "rad"
    found.attrs |= {"band": checked, "cut": edge_seconds(checked, cycles)}
    return found


def band_signals(
    signals: Signals,
    bands: Sequence[tuple[float, float]],
    *,
    order: int = 3,
    cycles: float = 3.0,
    cut: float | None = None,
) -> Complex[np.ndarray, "band time series"]:
    """Analytic signals in several bands with NaN at gaps and ends; the slowest band says how much is cut from all of them.

    Raises
    ------
    InputError
        No stretch is longer than what its two ends lose.
    """
    if order < 1 or cycles < 0:
        raise InputError(
            f"a filter of order {order} with {cycles:g} cycles cut; give an order of 1 or more and cycles of 0 or more"
        )
    cut = max(edge_seconds(b, cycles) for b in bands) if cut is None else cut
    samples = int(np.ceil(cut * signals.rate))
    out = np.full((len(bands), *signals.values.shape), np.nan, complex)
    longest = 0
    for window, series in signals.stretches():
        length = window.stop - window.start
        longest = max(longest, length)
        if length < 2 * samples + 2:
            continue
        found = analytic(signals.values[window][:, series], signals.rate, np.asarray(bands), order=order, pad=samples)
        # Advanced indices only on the last axis: the slice keeps its place.
        out[:, window.start + samples : window.stop - samples, series] = found[:, samples : length - samples]
    _report_unfiltered(signals, out, longest, samples)
    return out


def _report_unfiltered(signals: Signals, out: np.ndarray, longest: int, samples: int) -> None:
    seen = ~np.isnan(out[0]).all(0)
    if not seen.any():
        need = (2 * samples + 2) / signals.rate
        what = "tokens" if signals.per_token else "s"
        raise InputError(
            f"the longest stretch without gaps lasts {longest / signals.rate:.4g} {what}, but this band needs more than {need:.4g} {what}: "
            "its filter spoils both ends; give a longer recording, a faster or wider band, or fewer cycles to cut"
        )
    by_unit = seen.reshape(-1, signals.like.sizes["unit"]).any(0)
    if not by_unit.all():
        warnings.warn(
            f"gaps leave no stretch long enough for this band in {listed(signals.names[~by_unit])}: NaN there",
            stacklevel=4,
        )


def warn_without_peak(signals: Signals, band: tuple[float, float]) -> None:
    """Warn of units whose spectrum has no peak in the band."""
    table = peaks(signals, band)
    flat = table["unit"].to_numpy()[table["p"].to_numpy() > 0.05]
    if len(flat):
        warnings.warn(
            f"no spectral peak within {band[0]:g}-{band[1]:g} Hz above the background in {len(flat)} of {len(table)} units "
            f"({listed(flat, 3)}): there, phase is that of filtered noise",
            stacklevel=4,
        )
