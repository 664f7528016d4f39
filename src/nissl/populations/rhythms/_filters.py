"""Zero-phase band-pass and analytic signal in one product of spectra."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float

from nissl.populations.rhythms._transforms import fft


def analytic(
    x: Float[np.ndarray, "time series"],
    rate: float,
    bands: Float[np.ndarray, "band 2"],
    *,
    order: int = 3,
    pad: int = 0,
) -> Complex[np.ndarray, "band time series"]:
    """Analytic signals of one stretch without gaps, in several bands.

    A Butterworth filter run forwards and backwards multiplies the spectrum by its power response |H(f)|^2, and the analytic signal
    doubles positive and drops negative frequencies: both are one product, and all bands share one transform of the signal. Equals
    `scipy.signal.hilbert(sosfiltfilt(butter(order, band), x))` away from the ends.

    Parameters
    ----------
    bands
        Low and high edges in hertz, where the filter run once passes half the power.
    pad
        Samples added at each end by reflection about the end point, and cut off again.

    Returns
    -------
    ndarray
        Real part: the band-passed signal. Modulus: its amplitude. Argument: its phase, 0 at the peak.
    """
    length = len(x)
    pad = min(pad, length - 1)
    if pad:
        x = np.concatenate([2 * x[0] - x[pad:0:-1], x, 2 * x[-1] - x[-2 : -pad - 2 : -1]])
    # Removing the mean keeps the step to the zeros behind the end small.
    x = x - x.mean(0)
    size = int(fft.next_fast_len(len(x)))
    spectrum = fft.rfft(x, size, axis=0)
    gains = power_response(fft.rfftfreq(size, 1 / rate), rate, bands, order=order)
    out = np.empty((len(gains), length, x.shape[1]), complex)
    full = np.zeros((size, x.shape[1]), complex)
    for gain, found in zip(gains, out, strict=True):  # one band at a time: memory of one transform
        full[: len(spectrum)] = 2 * gain[:, None] * spectrum
        found[:] = fft.ifft(full, axis=0)[pad : pad + length]
    return out


def power_response(
    frequency: Float[np.ndarray, "frequency"],
    rate: float,
    bands: Float[np.ndarray, "band 2"],
    *,
    order: int = 3,
) -> Float[np.ndarray, "band frequency"]:
    """|H(f)|^2 of the digital Butterworth band-pass (bilinear transform with pre-warped edges), in closed form."""
    warped = np.tan(np.pi * np.minimum(frequency, rate / 2) / rate)
    low, high = np.tan(np.pi * np.asarray(bands, dtype=float).T / rate)[:, :, None]
    with np.errstate(divide="ignore", over="ignore"):
        ratio = (warped**2 - low * high) / (warped * (high - low))
        return 1 / (1 + ratio ** (2 * order))
