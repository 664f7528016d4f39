"""Coupling from phases and amplitudes, at many lags at once."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from scipy.special import xlogy

from nissl.errors import InputError
from nissl.populations.rhythms._transforms import fft

Method = Literal["tort", "mvl", "glm"]
METHODS = get_args(Method)


def modulation_index(phase: Any, amplitude: Any, *, bins: int = 18) -> float:
    """Tort's modulation index: 0 where the mean amplitude is the same in all phase bins, 1 where it lies in one.

    Parameters
    ----------
    phase, amplitude
        `(time,)`, radians and any positive unit.

    Raises
    ------
    InputError
        Lengths that differ, NaN, negative amplitudes, or a bin that no phase falls into.

    Examples
    --------
    >>> phi = np.linspace(-np.pi, np.pi, 1800, endpoint=False)
    >>> round(modulation_index(phi, np.ones(1800)), 12), round(modulation_index(phi, phi < -np.pi + 2 * np.pi / 18), 12)
    (0.0, 1.0)
    """
    return coupling_of(phase, amplitude, method="tort", bins=bins)


def mean_vector_length(phase: Any, amplitude: Any) -> float:
    """|mean A exp(i phi)| / sqrt(mean A^2), from 0 to 1 (Ozkurt and Schnitzler 2011).

    Examples
    --------
    >>> phi = np.linspace(-np.pi, np.pi, 1000, endpoint=False)
    >>> round(mean_vector_length(phi, 1 + np.cos(phi)), 4)
    0.4082
    """
    return coupling_of(phase, amplitude, method="mvl")


def coupling_of(phase: Any, amplitude: Any, *, method: Method = "tort", bins: int = 18) -> float:
    """Coupling of one phase and one amplitude series."""
    angle, size = np.asarray(phase, dtype=float).ravel(), np.asarray(amplitude, dtype=float).ravel()
    if len(angle) != len(size):
        raise InputError(f"{len(angle)} phases and {len(size)} amplitudes; give one of each a sample")
    if not (np.isfinite(angle).all() and np.isfinite(size).all()) or (size < 0).any():
        raise InputError("phases and amplitudes that are NaN, infinite or negative; leave such samples out")
    return float(Lagged(angle, method, bins, trim=False)(size, np.array([0]))[0])


def preferred_phase(angle: Float[np.ndarray, "time"], size: Float[np.ndarray, "time"]) -> float:
    """Circular mean of the phase, weighted with how far the amplitude lies above its mean; NaN samples are left out."""
    known = ~(np.isnan(angle) | np.isnan(size))
    a = size[known]
    return float(np.angle(((a - a.mean()) * np.exp(1j * angle[known])).mean()))


class Lagged:
    """One phase series, ready to be coupled with amplitudes at any lag.

    With B_k(t) the k-th function of phase (indicator of a bin; cosine and sine), every coupling here depends on the amplitude A
    only through sum_t B_k(t) A(t + lag), a circular cross-correlation, and on sums that do not change with the lag.
    """

    def __init__(self, angle: Float[np.ndarray, "time"], method: Method, bins: int = 18, *, trim: bool = True) -> None:
        # A length without large prime factors transforms fast; less than a hundredth is lost.
        self.length = fft.prev_fast_len(len(angle), real=True) if trim and len(angle) > 100 else len(angle)
        angle = angle[: self.length]
        self.method: Method = method
        self.bins = bins
        if method == "tort":
            if bins < 2:
                raise InputError(f"{bins} phase bins; give 2 or more")
            self.place = np.floor((angle + np.pi) / (2 * np.pi) * bins).astype(int) % bins
            self.basis = (self.place == np.arange(bins)[:, None]).astype(float)
            self.count = self.basis.sum(1)
            if (self.count == 0).any():
                raise InputError(
                    f"no phase falls into {int((self.count == 0).sum())} of {bins} bins; give a longer recording or fewer bins"
                )
        else:
            self.basis = np.stack([np.cos(angle), np.sin(angle)])
        self._spectrum: np.ndarray | None = None

    def lags(self, n: int, least: int, seed: int) -> Int[np.ndarray, "lag"]:
        """No lag, then `n` random ones at least `least` samples either way."""
        if self.length < 2 * least + 1:
            raise InputError(
                f"{self.length} samples with known phase cannot be shifted by {least} both ways; give a smaller min_shift or a longer recording"
            )
        return np.concatenate([[0], np.random.default_rng(seed).integers(least, self.length - least + 1, n)])

    def __call__(self, size: Float[np.ndarray, "time"], lags: Int[np.ndarray, "lag"]) -> Float[np.ndarray, "lag"]:
        """Coupling with the amplitude moved by each lag."""
        size = size[: self.length]
        if len(lags) == 1 and lags[0] == 0:
            sums = (self.basis @ size)[:, None]
        else:
            if self._spectrum is None:
                self._spectrum = np.conj(fft.rfft(self.basis, axis=1))
            sums = fft.irfft(self._spectrum * fft.rfft(size), self.length, axis=1)[:, lags]
        return self._statistic(sums, size)

    def _statistic(self, sums: Float[np.ndarray, "basis lag"], size: np.ndarray) -> Float[np.ndarray, "lag"]:
        if self.method == "tort":
            means = np.maximum(sums / self.count[:, None], 0)  # rounding may leave -1e-17
            total = means.sum(0)
            share = means / np.where(total > 0, total, np.nan)
            return np.maximum(1 + xlogy(share, share).sum(0) / np.log(self.bins), 0)
        if self.method == "mvl":
            power = (size**2).mean()
            return np.hypot(*sums) / self.length / np.sqrt(power if power > 0 else np.nan)
        # Regression of the amplitude on cosine and sine, all centred.
        mean = self.basis.mean(1)
        gram = self.basis @ self.basis.T - self.length * np.outer(mean, mean)
        cross = sums - (mean * size.sum())[:, None]
        spread = ((size - size.mean()) ** 2).sum()
        return (cross * np.linalg.solve(gram, cross)).sum(0) / (spread if spread > 0 else np.nan)
