"""Multitaper coherence of pairs of signals."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Complex
from scipy.signal.windows import dpss

from nissl.errors import InputError
from nissl.populations.rhythms._chance import labelled
from nissl.populations.rhythms._signals import as_signals
from nissl.populations.rhythms._transforms import fft
from nissl.statistics import SurrogateTest, against, permutations


def coherence(
    recording: Any,
    *,
    segment: float | None = None,
    time_bandwidth: float = 4.0,
    tapers: int = 7,
    fmin: float = 0.0,
    fmax: float | None = None,
    n_surrogates: int = 200,
    rate: float | None = None,
    variable: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Magnitude-squared coherence at every frequency, averaged over segments and tapers.

    Parameters
    ----------
    recording
        Traces `([trial,] time, unit)`, two units or more; segments lie within stretches without gaps.
    segment
        Seconds a segment; a twentieth of the recording by default. Frequencies closer than 2 time_bandwidth / segment hertz are not told
        apart.
    time_bandwidth, tapers
        Slepian tapers: half-bandwidth times duration, and how many of them (at most 2 time_bandwidth - 1 are concentrated).
    fmin, fmax
        Range of frequencies kept, hertz.
    n_surrogates
        Copies in which each unit's segments are dealt out in another order: spectra stay, simultaneity goes.

    Returns
    -------
    xarray.Dataset
        `(frequency, target, source)`: `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p`, `phase` (target minus source, radians) and
        `p_analytic` = (1 - coherence)^(segments x tapers - 1), for Gaussian signals. NaN on the diagonal.

    Raises
    ------
    InputError
        Fewer than two units, fewer than four segments, tapers that do not fit.

    Examples
    --------
    >>> rng = np.random.default_rng(0); t = np.arange(0, 40, 0.01)
    >>> shared = np.sin(2 * np.pi * 10 * t + np.cumsum(rng.normal(size=4000)) * 0.05)
    >>> found = coherence(shared[:, None] + rng.normal(size=(4000, 2)), rate=100, segment=2)
    >>> bool(abs(found.effect[:, 0, 1].idxmax() - 10) < 3), bool(found.p.sel(frequency=10)[0, 1] < 0.01)
    (True, True)

    Notes
    -----
    Thomson 1982; the analytic null is that of Goodman 1963.
    """
    signals = as_signals(recording, rate=rate, variable=variable, min_units=2)
    units, trials = len(signals.names), signals.like.sizes["trial"]
    size = round((segment if segment is not None else len(signals.values) / signals.rate / 20) * signals.rate)
    if not 1 <= tapers <= 2 * time_bandwidth:
        raise InputError(
            f"{tapers} tapers with a time-bandwidth of {time_bandwidth:g}; allowed: 1 to {int(2 * time_bandwidth - 1)}"
        )
    if size < 4 * time_bandwidth:
        raise InputError(
            f"segments of {size} samples; a time-bandwidth of {time_bandwidth:g} needs {int(4 * time_bandwidth)} or more"
        )
    pieces = _pieces(signals, size, units, trials)
    if len(pieces) < 4:
        raise InputError(
            f"{len(pieces)} segments of {size / signals.rate:.4g} s in which all units are known; this needs 4: give shorter segments"
        )
    window = np.asarray(dpss(size, time_bandwidth, tapers))
    spectra = fft.rfft((pieces - pieces.mean(1, keepdims=True))[:, None] * window[None, :, :, None], axis=2)
    frequency = fft.rfftfreq(size, 1 / signals.rate)
    keep = np.asarray(frequency >= fmin) & (frequency <= (np.inf if fmax is None else fmax))
    # The mean is gone, so the lowest frequency says nothing.
    keep[0] = False
    if not keep.any():
        raise InputError(
            f"no frequency from {fmin:g} to {fmax} Hz; segments resolve {frequency[1]:.4g} to {frequency[-1]:.4g} Hz"
        )
    spectra = spectra[:, :, keep]
    cross = _cross(spectra)
    null = np.empty((n_surrogates, *cross.shape))
    orders = permutations(len(pieces), n_surrogates * units, seed=seed).reshape(n_surrogates, units, -1)
    for k, order in enumerate(orders):
        null[k] = _squared(_cross(np.take_along_axis(spectra, order.T[:, None, None], 0)))
    effect = _squared(cross)
    same = np.broadcast_to(np.eye(units, dtype=bool), effect.shape)
    test = against(effect, null, name="coherence")
    blanked = {k: np.where(same, np.nan, getattr(test, k)) for k in ("effect", "mean", "sd", "z", "p")}
    test = SurrogateTest(test.name, **blanked, n=test.n, tail=test.tail, surrogates=null)
    found = labelled(
        test,
        ("frequency", "target", "source"),
        {"frequency": frequency[keep], "target": signals.names, "source": signals.names},
        phase=np.where(same, np.nan, np.angle(cross)),
        p_analytic=np.where(same, np.nan, (1 - np.minimum(effect, 1)) ** (len(pieces) * tapers - 1)),
    )
    found.attrs |= {"segments": len(pieces), "tapers": tapers, "half_bandwidth": time_bandwidth * signals.rate / size}
    return found


def _pieces(signals: Any, size: int, units: int, trials: int) -> np.ndarray:
    """Segments `(segment, time, unit)` without a gap in any unit."""
    cube = signals.values.reshape(-1, trials, units)
    known = ~np.isnan(cube).any(2)
    out = []
    for trial in range(trials):
        run = np.concatenate([[False], known[:, trial], [False]])
        edges = np.flatnonzero(np.diff(run.astype(int)))
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            inner = [a, *(k for k in signals.breaks if a < k < b), b]
            for start, stop in itertools.pairwise(inner):
                out += [cube[s : s + size, trial] for s in range(int(start), int(stop) - size + 1, size)]
    return np.array(out).reshape(-1, size, units)


def _cross(
    spectra: Complex[np.ndarray, "segment taper frequency unit"],
) -> Complex[np.ndarray, "frequency target source"]:
    flat = spectra.reshape(-1, *spectra.shape[2:]).transpose(1, 2, 0)
    return flat @ np.conj(flat).swapaxes(1, 2)


def _squared(cross: np.ndarray) -> np.ndarray:
    power = np.einsum("fii->fi", cross).real
    scale = power[:, :, None] * power[:, None]
    return np.abs(cross) ** 2 / np.where(scale > 0, scale, np.nan)
