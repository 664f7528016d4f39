"""Gaussian random fields on the unit square, drawn mode by mode: the same field at every resolution."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def cosine_field(
    n_samples: int,
    y: Float[np.ndarray, "y"],
    x: Float[np.ndarray, "x"],
    rng: np.random.Generator,
    *,
    n_modes: int = 32,
    shift: float = 9.0,
    power: float = 2.0,
) -> Float[np.ndarray, "sample y x"]:
    """Fields of covariance `(shift - Laplacian) ** -power` whose slope is zero at the edges.

    Parameters
    ----------
    n_samples
        How many.
    y, x
        Where they are wanted, between 0 and 1.
    rng
        Draws the amplitudes of the modes, which do not depend on where the field is wanted.
    n_modes
        Cosines along each direction.
    shift, power
        Of the covariance.

    Examples
    --------
    >>> coarse, fine = (cosine_field(1, g, g, np.random.default_rng(0)) for g in (np.linspace(0, 1, 5), np.linspace(0, 1, 9)))
    >>> np.allclose(coarse, fine[:, ::2, ::2])
    True
    """
    k = np.arange(n_modes)
    sd = (np.pi**2 * (k[:, None] ** 2 + k**2) + shift) ** (-power / 2)
    norm = np.where(k == 0, 1.0, np.sqrt(2))
    amplitudes = rng.standard_normal((n_samples, n_modes, n_modes)) * sd
    along_y, along_x = (norm * np.cos(np.pi * np.outer(g, k)) for g in (y, x))
    return along_y @ amplitudes @ along_x.T


def fourier_field(
    n_samples: int,
    size: int,
    rng: np.random.Generator,
    *,
    n_modes: int = 32,
    shift: float = 49.0,
    power: float = 2.5,
    scale: float = 7.0**1.5,
) -> Float[np.ndarray, "sample y x"]:
    """Periodic fields of mean zero and covariance `scale ** 2 * (shift - Laplacian) ** -power`.

    Parameters
    ----------
    n_samples, rng
        As above. Drawn sample by sample, so that the first samples stay the same when there are more.
    size
        Points along each side; modes that it cannot hold are left out.
    n_modes
        Highest wave number along each direction.
    shift, power, scale
        Of the covariance.

    Examples
    --------
    >>> coarse, fine = (fourier_field(1, n, np.random.default_rng(0), n_modes=4) for n in (16, 32))
    >>> np.allclose(coarse, fine[:, ::2, ::2])
    True
    """
    k = np.arange(-n_modes, n_modes + 1)
    sd = scale * (4 * np.pi**2 * (k[:, None] ** 2 + k**2) + shift) ** (-power / 2)
    sd[n_modes, n_modes] = 0.0
    noise = rng.standard_normal((n_samples, 2, len(k), len(k)))
    modes = sd * (noise[:, 0] + 1j * noise[:, 1]) / np.sqrt(2)
    modes = (modes + modes[:, ::-1, ::-1].conj()) / np.sqrt(2)  # a real field
    spectrum = np.zeros((n_samples, size, size), complex)
    held = np.abs(k) < size / 2
    spectrum[:, k[held][:, None] % size, k[held] % size] = modes[:, held][:, :, held]
    return np.fft.ifft2(spectrum, norm="forward").real


def ground_field(
    noise: Float[np.ndarray, "sample mode_y mode_x"],
    y: Float[np.ndarray, "y"],
    x: Float[np.ndarray, "x"],
    tau: float,
) -> Float[np.ndarray, "sample y x"]:
    """Fields of cosine modes of variance `(pi^2 |k|^2 + tau^2) ** -2`, from noise that was drawn, without the constant."""
    k = np.arange(noise.shape[1])
    amplitude = 1 / (np.pi**2 * (k[:, None] ** 2 + k**2) + tau**2)
    amplitude[0, 0] = 0.0
    scale = np.where(k > 0, np.sqrt(2), 1.0)  # orthonormal cosines
    along_y, along_x = (np.cos(np.pi * k * points[:, None]) * scale for points in (y, x))
    return np.einsum("yk,skl,xl->syx", along_y, noise * amplitude, along_x, optimize=True)
