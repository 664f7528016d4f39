"""How a bend travels along a body."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nissl.errors import InputError


def wave_lags(episode: xr.Dataset, *, max_lag: int | None = None, skip: int = 0) -> xr.DataArray:
    """How long a bend takes from each joint to the next: the lag of the highest correlation of their angles.

    Parameters
    ----------
    episode
        What `swim` returned.
    max_lag
        Longest lag looked at in either direction, in control steps; half the policy's period, or 30, where None.
    skip
        Control steps at the beginning that are left out, while the wave builds up.

    Returns
    -------
    xarray.DataArray
        ``(joint)`` or ``(sample, joint)``: seconds from joint i to joint i + 1, positive where the wave travels to the tail; `attrs["control_step"]` is
        one step in seconds.

    Raises
    ------
    InputError
        An episode shorter than twice the longest lag, or a joint that does not move.

    Examples
    --------
    >>> from nissl.learning import swim
    >>> from nissl.nn import WormSwimmer
    >>> lags = wave_lags(swim(WormSwimmer(), steps=300), skip=60)
    >>> bool((lags > 0.2).all()), lags.sizes["joint"]
    (True, 4)
    """
    reach = max_lag if max_lag is not None else int(episode.attrs.get("period", 60)) // 2
    angle = episode["angle"].transpose(..., "joint", "time").to_numpy()[..., skip:]
    length = angle.shape[-1]
    if reach < 1 or length < 2 * reach:
        raise InputError(
            f"{length} steps for lags up to {reach}; an episode needs twice as many steps as the longest lag"
        )
    centred = angle - angle.mean(-1, keepdims=True)
    if (centred.std(-1) < 1e-9).any():
        raise InputError("a joint does not move; there is no wave to time")
    first, second = centred[..., :-1, :], centred[..., 1:, :]
    lags = np.arange(-reach, reach + 1)
    # One product of spectra gives all lags; zeros keep the ends from meeting.
    size = length + reach
    together = np.fft.irfft(np.fft.rfft(second, size) * np.fft.rfft(first, size).conj(), size)[..., lags]
    best = lags[(together / (length - np.abs(lags))).argmax(-1)]
    step = float(episode["time"][1] - episode["time"][0])
    dims = episode["angle"].transpose(..., "joint", "time").dims[:-1]
    return xr.DataArray(best * step, dims=dims, name="lag", attrs={"units": "s", "control_step": step})
