"""Power spectra over the stretches between gaps, and whether a band holds a peak at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from scipy import special, stats

from nissl.errors import InputError
from nissl.populations.rhythms._signals import TOKENS, Signals, as_signals, check_band
from nissl.populations.rhythms._transforms import fft

# Neighbouring Hann segments that overlap by half share a little: this many segments count as one independent one.
SHARED = 1.056


def power_spectrum(
    recording: Any, *, segment: float | None = None, rate: float | None = None, variable: str | None = None
) -> xr.DataArray:
    """Power spectral density by Welch's method; no segment spans a gap.

    Parameters
    ----------
    recording
        Traces `([trial,] time, unit)`; trials are pooled.
    segment
        Seconds a segment; an eighth of the longest stretch by default.

    Returns
    -------
    xarray.DataArray
        `(frequency, unit)`, squared units of the activity per hertz; `attrs["segments"]` counts the segments of each unit. NaN for
        units without a stretch that long.

    Raises
    ------
    InputError
        No stretch as long as the segment.

    Examples
    --------
    >>> t = np.arange(0, 8, 0.01)
    >>> float(power_spectrum(np.sin(2 * np.pi * 5 * t)[:, None], rate=100, segment=2).idxmax("frequency")[0])
    5.0
    """
    signals = as_signals(recording, rate=rate, variable=variable)
    frequency, power, segments = welch(signals, segment)
    found = xr.DataArray(
        power, dims=("frequency", "unit"), coords={"frequency": frequency, "unit": signals.names}, name="power",
        attrs={"segments": segments},
    )  # fmt: skip
    if signals.per_token:
        found.attrs["note"] = TOKENS
    return found


def welch(
    signals: Signals, segment: float | None = None
) -> tuple[Float[np.ndarray, "frequency"], Float[np.ndarray, "frequency unit"], np.ndarray]:
    """Frequencies, power and number of segments, pooled over stretches and trials."""
    stretches = list(signals.stretches())
    longest = max(w.stop - w.start for w, _ in stretches)
    size = max(longest // 8, 8) if segment is None else round(segment * signals.rate)
    if not 8 <= size <= longest:
        raise InputError(
            f"segments of {size / signals.rate:.4g} s ({size} samples); allowed: 8 samples to the longest stretch without gaps, "
            f"{longest / signals.rate:.4g} s"
        )
    taper = np.hanning(size + 1)[:-1, None]
    units = signals.like.sizes["unit"]
    total = np.zeros((size // 2 + 1, units))
    count = np.zeros(units, int)
    for window, series in stretches:
        x = signals.values[window][:, series]
        for start in range(0, len(x) - size + 1, size // 2):
            piece = x[start : start + size]
            power = np.abs(fft.rfft((piece - piece.mean(0)) * taper, axis=0)) ** 2
            np.add.at(total.T, series % units, power.T)
            np.add.at(count, series % units, 1)
    scale = np.full(len(total), 2.0) / (signals.rate * (taper**2).sum())
    scale[0] /= 2
    if size % 2 == 0:
        scale[-1] /= 2
    with np.errstate(invalid="ignore"):
        power = scale[:, None] * total / np.where(count, count, np.nan)
    return fft.rfftfreq(size, 1 / signals.rate), power, count


def spectral_peaks(
    recording: Any, band: tuple[float, float], *, rate: float | None = None, variable: str | None = None
) -> pd.DataFrame:
    """Whether each unit's spectrum rises above its own 1/f background within a band.

    The background is a power law fitted to the spectrum around the band (a third of the low to three times the high edge). Under it,
    power divided by background is chi-squared with two degrees of freedom a segment, which gives the probability of the
    largest ratio in the band.

    Returns
    -------
    pandas.DataFrame
        A row a unit: `frequency` of the largest ratio (Hz), `ratio` of power to background, `p` (NaN where too little spectrum
        surrounds the band to fit a background).

    Examples
    --------
    >>> rng = np.random.default_rng(0); t = np.arange(0, 20, 0.01)
    >>> x = np.stack([np.sin(2 * np.pi * 8 * t), 0 * t], 1) + rng.normal(size=(2000, 2))
    >>> (spectral_peaks(x, (6, 10), rate=100).p < 0.01).tolist()
    [True, False]
    """
    signals = as_signals(recording, rate=rate, variable=variable)
    return peaks(signals, check_band(band, signals))


def peaks(signals: Signals, band: tuple[float, float]) -> pd.DataFrame:
    """The table of `spectral_peaks`, for signals that are checked already."""
    low, high = band
    longest = max(w.stop - w.start for w, _ in signals.stretches()) / signals.rate
    # Fine enough for four bins in the band and a few below it, coarse enough for a few segments.
    frequency, power, count = welch(
        signals, min(longest, max(min(4 / (high - low), longest / 3), 6 / low, 9 / signals.rate))
    )
    inside = (frequency >= low) & (frequency <= high)
    # The Hann window spreads a peak over the neighbouring bins; they are no background.
    margin = 2 * frequency[1]
    around = (frequency > 0) & (frequency >= low / 3) & (frequency <= min(3 * high, 0.95 * signals.rate / 2))
    around &= (frequency < low - margin) | (frequency > high + margin)
    table = pd.DataFrame({"unit": signals.names, "frequency": np.nan, "ratio": np.nan, "p": np.nan})
    if inside.sum() < 1 or around.sum() < 4:
        return table
    freedom = 2 * np.maximum(count, 1) / SHARED
    with np.errstate(divide="ignore"):
        logs = np.log(power)
    design = np.stack([np.ones(around.sum()), np.log(frequency[around])], 1)
    weights = np.linalg.lstsq(design, np.nan_to_num(logs[around], nan=0.0, neginf=-700.0), rcond=None)[0]
    background = np.stack([np.ones(inside.sum()), np.log(frequency[inside])], 1) @ weights
    # The mean of the logarithm of a chi-squared variable lies below the logarithm of its mean.
    background -= special.digamma(freedom / 2) - np.log(freedom / 2)
    ratio = np.exp(np.clip(logs[inside] - background, -700, 700))
    best = np.nan_to_num(ratio, nan=-1.0).argmax(0)
    top = ratio[best, np.arange(ratio.shape[1])]
    single = stats.chi2.sf(top * freedom, freedom)
    table["frequency"], table["ratio"] = frequency[inside][best], top
    table["p"] = np.where(count > 0, -np.expm1(inside.sum() * np.log1p(-np.minimum(single, 1 - 1e-16))), np.nan)
    return table
