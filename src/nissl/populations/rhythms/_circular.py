"""Angles: the kernels that all measures of phase share."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from nissl.errors import InputError


def resultant(angles: Float[np.ndarray, "..."], axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Sum of unit vectors at the angles and their number; NaN angles are left out."""
    angles = np.asarray(angles, dtype=float)
    known = ~np.isnan(angles)
    n = known.sum(axis)
    if (n == 0).any():
        raise InputError("no angles; give at least one along the axis")
    turned = np.where(known, np.exp(1j * np.where(known, angles, 0)), 0)
    return turned.sum(axis), n


def phase_locking_value(angles: Any, axis: int = -1) -> Any:
    """Phase-locking value: length of the mean of unit vectors at the angles (Lachaux et al. 1999).

    Parameters
    ----------
    angles
        Phase differences, or phases at spikes, in radians; NaN is left out.

    Examples
    --------
    >>> round(float(phase_locking_value([0.3, 0.3])), 12)
    1.0
    """
    total, n = resultant(angles, axis)
    return np.abs(total) / n


def pairwise_phase_consistency(angles: Any, axis: int = -1) -> Any:
    """Pairwise phase consistency: the mean cosine over all pairs of angles, (n PLV^2 - 1) / (n - 1) (Vinck et al. 2010).

    Unbiased for independent angles, so it may be negative, and conditions with unequal n may be compared. NaN where there is only
    one angle.

    Examples
    --------
    >>> round(float(pairwise_phase_consistency([0.0, np.pi / 2])), 12)
    0.0
    """
    total, n = resultant(angles, axis)
    return ppc_of(total, n)


def ppc_of(total: Any, n: Any) -> Any:
    """PPC from the sum of n unit vectors."""
    pairs = np.asarray(n, dtype=float) * (np.asarray(n) - 1.0)
    return (np.abs(total) ** 2 - n) / np.where(pairs > 0, pairs, np.nan)


def rayleigh(angles: Any, axis: int = -1) -> Any:
    """P value of Rayleigh's test that independent angles are uniform (Zar's approximation, good from n = 5 on).

    p = exp(sqrt(1 + 4n + 4(n^2 - R_n^2)) - (1 + 2n)), R_n the length of the sum of unit vectors.

    Examples
    --------
    >>> float(rayleigh(np.arange(8) * np.pi / 4)) > 0.99
    True
    """
    total, n = resultant(angles, axis)
    return rayleigh_of(total, n)


def rayleigh_of(total: Any, n: Any) -> Any:
    """Rayleigh's p from the sum of n unit vectors."""
    n = np.asarray(n, dtype=float)
    return np.minimum(np.exp(np.sqrt(1 + 4 * n + 4 * (n**2 - np.abs(total) ** 2)) - (1 + 2 * n)), 1.0)
