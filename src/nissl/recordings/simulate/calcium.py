"""Fluorescence from spikes: the indicator's rise and decay, its saturation, noise and bleaching."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.signal import lfilter

from nissl.errors import InputError
from nissl.recordings._traces import as_traces


def calcium(
    spikes: Any,
    *,
    rate: float | None = None,
    rise: float = 0.05,
    decay: float = 0.5,
    amplitude: float | Float[np.ndarray, "unit"] = 1.0,
    saturation: float | None = None,
    noise: float = 0.1,
    bleaching: float | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Calcium imaging of spikes whose times are known.

    A spike lifts the indicator by ``exp(-t / decay) - exp(-t / rise)``, scaled to peak at `amplitude`; transients add up, and
    where the indicator saturates they add up to less: ``c / (1 + c / saturation)``. Bleaching fades everything, the resting
    fluorescence too. Shot and read-out noise are one Gaussian.

    Parameters
    ----------
    spikes
        Counts `(time, unit)`: an array, a DataArray or a recording with `spikes`. A recording of spike times is binned at
        `rate` first.
    rate
        Frames a second, where the spikes do not carry a clock.
    rise, decay
        Time constants in seconds; a rise of 0 is a jump.
    amplitude
        Peak dF/F of one spike; one number, or one a unit.
    saturation
        Largest dF/F there can be; None for an indicator that never saturates.
    noise
        Standard deviation of noise in dF/F.
    bleaching
        Time constant in seconds with which fluorescence fades; None for none.
    seed
        Of the noise.

    Returns
    -------
    xarray.Dataset
        activity (time, unit), in dF/F of the fluorescence at the start; truth (time, unit), the same without noise and
        bleaching; spikes (time, unit). Attribute `rate` in hertz.

    Raises
    ------
    InputError
        Negative counts, missing counts, a rise that is not quicker than the decay, frames too far apart for the decay,
        frames at unequal distances.

    Notes
    -----
    Both exponentials are recursive filters and exact at the frames; a spike is taken to come at the start of its frame.

    Examples
    --------
    >>> one = np.zeros((100, 1))
    >>> one[10] = 1
    >>> trace = calcium(one, rate=100.0, noise=0.0).activity
    >>> round(float(trace.max()), 2), float(trace[:10].max())
    (1.0, 0.0)
    """
    counts = _counts(spikes, rate)
    frames = 1 / float(counts.attrs["rate"])
    _check(rise, decay, saturation, noise, bleaching, frames)
    height = np.asarray(amplitude, dtype=float)
    if height.shape not in ((), (counts.sizes["unit"],)) or not (np.isfinite(height) & (height > 0)).all():
        raise InputError(
            f"amplitude of shape {height.shape}; give a positive number, or one for each of {counts.sizes['unit']} units"
        )
    clean = height * _filtered(counts.to_numpy(), rise / frames, decay / frames)
    if saturation is not None:
        clean = clean / (1 + clean / saturation)
    seen = clean
    if bleaching is not None:
        seen = (1 + clean) * np.exp(-frames * np.arange(len(clean)) / bleaching)[:, None] - 1
    seen = seen + noise * np.random.default_rng(seed).standard_normal(clean.shape)
    activity = counts.copy(data=seen).assign_attrs(quantity="dF/F")
    truth = counts.copy(data=clean).assign_attrs(quantity="dF/F")
    settings = {
        "rise": rise, "decay": decay, "saturation": saturation or np.inf, "noise": noise, "bleaching": bleaching or np.inf,
        "seed": seed,
    }  # fmt: skip
    return xr.Dataset(
        {"activity": activity, "truth": truth, "spikes": counts},
        attrs={"rate": 1 / frames, "source": "simulated calcium", **settings},
    )


def _filtered(counts: np.ndarray, rise: float, decay: float) -> np.ndarray:
    """Difference of two exponentials, with a peak of one a spike; time constants in frames."""
    slow = np.asarray(lfilter([1.0], [1.0, -np.exp(-1 / decay)], counts, axis=0))
    if rise < 1e-6 * decay:  # a jump, as far as a frame can tell
        return slow
    fast = np.asarray(lfilter([1.0], [1.0, -np.exp(-1 / rise)], counts, axis=0))
    # Where the slope of the difference is zero.
    top = np.log(decay / rise) * rise * decay / (decay - rise)
    return (slow - fast) / (np.exp(-top / decay) - np.exp(-top / rise))


def _counts(spikes: Any, rate: float | None) -> xr.DataArray:
    if isinstance(spikes, xr.Dataset) and "spike_time" in spikes:
        from nissl.recordings import bin_spikes

        if rate is None:
            raise InputError("spike times have no frames; give rate in hertz")
        spikes = bin_spikes(spikes, width=1 / rate)
    counts = as_traces(
        spikes, rate=rate, variable="spikes" if isinstance(spikes, xr.Dataset) else None, constant="keep"
    )
    values = counts.to_numpy()
    if not np.isfinite(values).all():
        bad = counts["unit"].to_numpy()[~np.isfinite(values).all(0)]
        raise InputError(
            f"spike counts of {len(bad)} units are missing at times ({bad[:5].tolist()}); calcium remembers, so there can be no gap"
        )
    if (values < 0).any():
        raise InputError("spike counts are negative; give how many spikes fell into each frame")
    step = np.diff(counts["time"].to_numpy())
    if not np.allclose(step, step[0], rtol=1e-3):
        raise InputError(
            f"frames lie between {step.min():.4g} and {step.max():.4g} s apart; bin the spikes at one rate"
        )
    return counts.assign_attrs(rate=1 / float(np.median(step)), quantity="spikes")


def _check(
    rise: float, decay: float, saturation: float | None, noise: float, bleaching: float | None, frame: float
) -> None:
    if not 0 <= rise < decay or not np.isfinite(decay):
        raise InputError(f"rise {rise} s and decay {decay} s; the rise is at least 0 and quicker than the decay")
    if decay < frame:
        raise InputError(f"a decay of {decay} s is over within one frame of {frame:.4g} s; give more frames a second")
    if not noise >= 0:
        raise InputError(f"noise {noise}; it is at least 0")
    for name, value in (("saturation", saturation), ("bleaching", bleaching)):
        if value is not None and not value > 0:
            raise InputError(f"{name} {value}; give a positive number, or None for none")
