"""Equations that move a field forward in time, solved well enough to be the truth."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr
from jaxtyping import Complex, Float
from tqdm import tqdm

from nissl.axes import positive_number, whole_number
from nissl.cache import cached_arrays
from nissl.errors import InputError

LEAST, MOST = 256, 16384  # points of the grid on which the equation is solved
COURANT = 0.5  # of the distance between points, the most that the flow crosses in a step
TAIL = 1e-9  # largest share of the spectrum that may lie in its last eighth, where it would be cut
FINEST = 64  # highest frequency drawn for an initial state, whatever the grid


def burgers(
    n_samples: int,
    size: int,
    *,
    viscosity: float = 0.01,
    time: float = 0.5,
    length: float = 1.0,
    amplitude: float = 0.5,
    correlation: float = 0.2,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Random smooth states and what the viscous Burgers equation makes of them, on a periodic domain.

    Parameters
    ----------
    n_samples
        How many. All samples are drawn at once: at another number, the first ones are others too.
    size
        Points of the grid. The same seed and `n_samples` give the same functions on every grid.
    viscosity
        ν, in units of length²/time.
    time
        T, from the initial to the final state.
    length
        Period of the domain.
    amplitude
        Standard deviation of an initial state, over space and samples.
    correlation
        Distance over which the covariance of an initial state falls to exp(-1/2), as a fraction of the domain.
    seed
        Of the initial states.
    progress
        Show a bar where standard error is a terminal.

    Returns
    -------
    xarray.Dataset
        `initial` and `final`, of axes (sample, x). Kept in the cache folder and read from there the next time.

    Raises
    ------
    InputError
        Settings that cannot be, or fronts so steep that 16,384 points do not resolve them.

    Notes
    -----
    ∂u/∂t + u ∂u/∂x = ν ∂²u/∂x². Initial states are Gaussian with covariance amplitude² exp(-d²/2ℓ²), made periodic. In
    Fourier space viscosity is an exact factor (integrating factor), and the rest is taken by the classical Runge-Kutta scheme
    of order four; products are free of aliasing by the rule of two thirds. The grid is doubled until the spectrum has fallen
    to 1e-9 of its largest value before it is cut.

    References
    ----------
    Canuto, Hussaini, Quarteroni, Zang 2006, Spectral Methods: Fundamentals in Single Domains.

    Examples
    --------
    >>> data = burgers(2, 64, progress=False)
    >>> dict(data.sizes)
    {'sample': 2, 'x': 64}
    >>> bool(abs(data.initial.mean("x") - data.final.mean("x")).max() < 1e-6)  # momentum is kept
    True
    """
    n_samples, size, seed = (
        whole_number(name, value, least)
        for name, value, least in (("n_samples", n_samples, 1), ("size", size, 2), ("seed", seed, 0))
    )
    if size > MOST:
        raise InputError(f"size={size}; allowed: from 2 to {MOST} points")
    viscosity, time, length = (
        positive_number(name, value) for name, value in (("viscosity", viscosity), ("time", time), ("length", length))
    )
    amplitude, correlation = positive_number("amplitude", amplitude), positive_number("correlation", correlation)
    settings = {
        "n_samples": n_samples, "size": size, "viscosity": viscosity, "time": time, "length": length,
        "amplitude": amplitude, "correlation": correlation, "seed": seed,
    }  # fmt: skip

    def make() -> dict[str, np.ndarray]:
        modes = _states(n_samples, amplitude, correlation, seed)
        initial, final = _solved(modes, size, viscosity, time, length, progress)
        return {"initial": initial, "final": final}

    arrays = cached_arrays("burgers", settings, make, names=("initial", "final"))
    return xr.Dataset(
        {name: (("sample", "x"), values) for name, values in arrays.items()},
        {"x": length * np.arange(size) / size},
        {**settings, "equation": "u_t + u u_x = viscosity u_xx, periodic"},
    )


def _states(n: int, amplitude: float, correlation: float, seed: int) -> Complex[np.ndarray, "sample mode"]:
    """Coefficients of random functions, `norm="forward"`; drawn alike for every grid."""
    k = np.arange(FINEST + 1)
    power = np.exp(-0.5 * (2 * math.pi * k * correlation) ** 2)
    power *= amplitude**2 / (power[0] + 2 * power[1:].sum())
    real, imaginary = np.random.default_rng(seed).standard_normal((2, n, FINEST + 1))
    modes = np.sqrt(power / 2) * (real + 1j * imaginary)
    modes[:, 0] = np.sqrt(power[0]) * real[:, 0]
    return modes


def _solved(
    modes: np.ndarray, size: int, viscosity: float, time: float, length: float, progress: bool
) -> tuple[Float[np.ndarray, "sample x"], Float[np.ndarray, "sample x"]]:
    """Initial and final states on the grid that was asked for, each a subsample of the grid that was needed."""
    n = size * math.ceil(LEAST / size)
    while n <= MOST:
        final = _evolve(modes, n, viscosity, time, length, progress)
        if final is not None:
            step = n // size
            return _values(modes, n)[:, ::step], _values(final, n)[:, ::step]
        n *= 2
    raise InputError(
        f"viscosity={viscosity:g} over time={time:g} makes fronts that {MOST} points do not resolve; raise the viscosity, or "
        "lower the amplitude or the time"
    )


def _values(modes: np.ndarray, n: int) -> np.ndarray:
    return np.fft.irfft(modes, n, norm="forward")


def _evolve(
    modes: np.ndarray, n: int, viscosity: float, time: float, length: float, progress: bool
) -> Complex[np.ndarray, "sample mode"] | None:
    """The state at `time`, or None where `n` points do not resolve it."""
    k = 2 * np.pi / length * np.arange(n // 2 + 1)
    kept = np.arange(n // 2 + 1) <= n // 3
    u = np.zeros((len(modes), n // 2 + 1), complex)
    u[:, : min(modes.shape[1], n // 3 + 1)] = modes[:, : n // 3 + 1]
    fastest = np.abs(_values(u, n)).max()  # viscosity only ever lowers it
    steps = max(20, math.ceil(time * fastest * n / (COURANT * length)))
    h = time / steps
    half = np.exp(-viscosity * k**2 * h / 2)
    advect = -0.5j * k * kept

    def rate(v: np.ndarray) -> np.ndarray:
        return advect * np.fft.rfft(_values(v, n) ** 2, norm="forward")

    last = slice(n // 3 - n // 24, n // 3 + 1)
    for step in tqdm(range(steps), desc=f"Burgers, {n} points", unit="step", disable=None if progress else True):
        a = h * rate(u)
        b = h * rate(half * (u + a / 2))
        c = h * rate(half * u + b / 2)
        d = h * rate(half**2 * u + half * c)
        u = half**2 * (u + a / 6) + half * (b + c) / 3 + d / 6
        if step % 10 == 9 or step + 1 == steps:
            size = np.abs(u)
            if not (size[:, last].max(1) <= TAIL * size.max(1)).all():
                return None
    return u
