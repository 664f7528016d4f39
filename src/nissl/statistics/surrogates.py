"""Surrogate data: what a recording would look like if the question's answer were no.

A surrogate keeps everything but the relation that is asked about. White noise is too weak a control for anything that has
a rhythm or a slow drift, so whole series are shifted around their end, their phases drawn anew, or their blocks dealt
out in another order: autocorrelation stays.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from nissl.errors import InputError


def circular_shifts(
    x: Float[np.ndarray, "..."], n: int, *, axis: int = 0, min_shift: int = 1, together: bool = False, seed: int = 0
) -> Float[np.ndarray, "surrogate ..."]:
    """Copies in which each series is rolled around its end by a random lag of its own.

    Parameters
    ----------
    x
        Series along `axis`; every other axis counts series (units, trials).
    n
        How many surrogates.
    axis
        The axis of time.
    min_shift
        Least shift in samples, in either direction; at least the correlation time of the series.
    together
        Roll all series of a surrogate by one lag: relations among them stay, those to anything else go.
    seed
        For the lags.

    Returns
    -------
    ndarray
        `(surrogate, *x.shape)`.

    Raises
    ------
    InputError
        Fewer samples than `2 * min_shift + 1`: nothing would be shifted far enough.

    Examples
    --------
    >>> x = np.arange(8.0)[:, None].repeat(2, 1)
    >>> y = circular_shifts(x, 3, min_shift=2)
    >>> y.shape, bool((np.sort(y, axis=1) == x).all())
    ((3, 8, 2), True)
    """
    x = np.asarray(x)
    series = np.moveaxis(x, axis, -1)
    length = series.shape[-1]
    _enough(n)
    if min_shift < 1 or length < 2 * min_shift + 1:
        raise InputError(
            f"{length} samples cannot be shifted by {min_shift} or more in both directions; "
            f"give a min_shift from 1 to {max((length - 1) // 2, 1)}"
        )
    lags = np.random.default_rng(seed).integers(
        min_shift, length - min_shift + 1, (n, *(1,) * (series.ndim - 1)) if together else (n, *series.shape[:-1])
    )
    where = (np.arange(length) - lags[..., None]) % length
    rolled = np.take_along_axis(np.broadcast_to(series, (n, *series.shape)), where, -1)
    return np.moveaxis(rolled, -1, axis % x.ndim + 1)


def phase_randomised(
    x: Float[np.ndarray, "..."], n: int, *, axis: int = 0, keep_cross: bool = False, seed: int = 0
) -> Float[np.ndarray, "surrogate ..."]:
    """Copies with the same power spectrum and random phases (Theiler et al. 1992).

    Parameters
    ----------
    keep_cross
        Add the same random phases to every series: cross-spectra, and so all linear relations among them, stay.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(64, 2))
    >>> y = phase_randomised(x, 1)[0]
    >>> bool(np.allclose(abs(np.fft.rfft(y, axis=0)), abs(np.fft.rfft(x, axis=0))))
    True
    """
    x = np.asarray(x, dtype=float)
    _enough(n)
    if not np.isfinite(x).all():
        raise InputError("phases can only be drawn anew for series without gaps; select a stretch without NaN")
    series = np.moveaxis(x, axis, -1)
    length = series.shape[-1]
    spectrum = np.fft.rfft(series, axis=-1)
    shape = (n, *(1,) * (series.ndim - 1), spectrum.shape[-1]) if keep_cross else (n, *spectrum.shape)
    turn = np.exp(2j * np.pi * np.random.default_rng(seed).random(shape))
    # The mean, and at even length the highest frequency, are real numbers and stay so.
    turn[..., 0] = 1
    if length % 2 == 0:
        turn[..., -1] = 1
    return np.moveaxis(np.fft.irfft(spectrum * turn, length, axis=-1), -1, axis % x.ndim + 1)


def jittered(
    times: Float[np.ndarray, "spike"],
    n: int,
    *,
    width: float,
    start: float | None = None,
    stop: float | None = None,
    seed: int = 0,
) -> Float[np.ndarray, "surrogate spike"]:
    """Spike times moved by up to `width` seconds either way, uniformly: rates stay, fine timing goes.

    Parameters
    ----------
    start, stop
        The window of the recording; a spike that would leave it is reflected at the edge.

    Returns
    -------
    ndarray
        In the order of the spikes given, not sorted.

    Examples
    --------
    >>> float(abs(jittered(np.array([1.0, 2.0]), 100, width=0.02) - [1.0, 2.0]).max()) <= 0.02
    True
    """
    times = np.asarray(times, dtype=float)
    _enough(n)
    if not width > 0:
        raise InputError(f"jitter of {width} s; give a width above 0")
    moved = times + np.random.default_rng(seed).uniform(-width, width, (n, len(times)))
    if start is not None:
        moved = np.where(moved < start, 2 * start - moved, moved)
    if stop is not None:
        moved = np.where(moved > stop, 2 * stop - moved, moved)
    return moved


def permutations(n_items: int, n: int, *, seed: int = 0) -> Int[np.ndarray, "surrogate item"]:
    """Random orders of `n_items` things, a row each.

    Examples
    --------
    >>> np.sort(permutations(5, 2), axis=1).tolist()
    [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    """
    _enough(n)
    return np.random.default_rng(seed).random((n, n_items)).argsort(1)


def block_permutations(n_samples: int, n: int, *, block: int, seed: int = 0) -> Int[np.ndarray, "surrogate sample"]:
    """Orders of samples in which whole blocks of `block` samples change places; a shorter last block travels too.

    Examples
    --------
    >>> block_permutations(6, 1, block=3, seed=1)[0].tolist() in ([0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2])
    True
    """
    if not 1 <= block <= n_samples:
        raise InputError(f"blocks of {block} samples of {n_samples}; allowed: 1 to {n_samples}")
    of = np.arange(n_samples) // block
    place = permutations(int(of[-1]) + 1, n, seed=seed).argsort(1)
    # A stable sort by the block's new place keeps the order inside blocks.
    return place[:, of].argsort(1, kind="stable")


def _enough(n: int) -> None:
    if n < 1:
        raise InputError(f"{n} surrogates; give at least 1")
