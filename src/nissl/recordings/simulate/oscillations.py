"""Rhythms with known truth: coupled oscillators, fast rhythms nested in slow ones, spikes that keep to a phase."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError


def coupled_oscillators(
    coupling: Float[np.ndarray, "target source"],
    *,
    frequency: Float[np.ndarray, "unit"] | float = 8.0,
    diffusion: float = 2.0,
    noise: float = 0.3,
    duration: float = 20.0,
    rate: float = 250.0,
    seed: int = 0,
) -> xr.Dataset:
    """Noisy phase oscillators: d theta_i = 2 pi f_i dt + sum_j K_ij sin(theta_j - theta_i) dt + sqrt(2 D) dW (Kuramoto 1984).

    Parameters
    ----------
    coupling
        K, radians a second: element [i, j] pulls i towards j.
    frequency
        In hertz, one or one a unit.
    diffusion
        D, radians squared a second: how irregular each oscillator is.
    noise
        Standard deviation of white noise on the cosine that is recorded.
    duration, rate
        Seconds, and samples a second.

    Returns
    -------
    xarray.Dataset
        `activity (time, unit)` and the truth: `phase (time, unit)`, `coupling (target, source)`.

    Raises
    ------
    InputError
        A coupling that is not square, or settings outside their range.

    Examples
    --------
    >>> found = coupled_oscillators(np.array([[0, 20.0], [20.0, 0]]), duration=5)
    >>> lag = found.phase[:, 0] - found.phase[:, 1]
    >>> bool(abs(np.exp(1j * lag).mean()) > 0.8)
    True
    """
    k = np.asarray(coupling, dtype=float)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not np.isfinite(k).all():
        raise InputError(f"coupling of shape {k.shape}; give a square matrix (target, source) of finite numbers")
    time = _clock(duration, rate)
    _positive(diffusion=diffusion, noise=noise)
    rng = np.random.default_rng(seed)
    size = len(k)
    step = 2 * np.pi * np.broadcast_to(np.asarray(frequency, dtype=float), (size,)) / rate
    kicks = rng.normal(size=(len(time), size)) * np.sqrt(2 * diffusion / rate)
    theta = np.empty((len(time), size))
    now = rng.uniform(-np.pi, np.pi, size)
    # The pull depends on where all oscillators are now: one step after another.
    for row, kick in zip(theta, kicks, strict=True):
        row[:] = now
        s, c = np.sin(now), np.cos(now)
        now = now + step + (c * (k @ s) - s * (k @ c)) / rate + kick
    names = np.arange(size)
    return xr.Dataset(
        {
            "activity": (("time", "unit"), np.cos(theta) + noise * rng.normal(size=theta.shape)),
            "phase": (("time", "unit"), _wrapped(theta)),
            "coupling": (("target", "source"), k),
        },
        coords={"time": time, "unit": names, "target": names, "source": names},
        attrs={"rate": rate, "source": "simulate.coupled_oscillators"},
    )


def nested_oscillation(
    *,
    depth: float = 0.5,
    preferred_phase: float = np.pi / 3,
    slow: float = 7.0,
    fast: float = 60.0,
    amplitude: float = 0.5,
    diffusion: float = 2.0,
    noise: float = 0.5,
    n_units: int = 1,
    duration: float = 20.0,
    rate: float = 1000.0,
    seed: int = 0,
) -> xr.Dataset:
    """Field potentials whose fast rhythm grows and shrinks with the phase of a slow one, in pink noise.

    cos(phi) + amplitude (1 + depth cos(phi - preferred)) cos(psi) + noise: phi turns at the slow and psi at the fast frequency, each
    with a random walk of its own, as no rhythm of a brain is perfectly regular.

    Parameters
    ----------
    depth
        0, no coupling, to 1, the fast rhythm vanishes once a slow cycle.
    preferred_phase
        Of the slow rhythm at which the fast one is largest, radians; 0 is the peak.
    amplitude
        Mean amplitude of the fast rhythm; that of the slow one is 1.
    diffusion
        Of both phases, radians squared a second: D makes a spectral line D / pi hertz wide.
    noise
        Standard deviation of the pink (1/f) noise.

    Returns
    -------
    xarray.Dataset
        `activity (time, unit)` and the truth: `phase` (of the slow rhythm) and `envelope` (of the fast one) `(time, unit)`; settings in
        `attrs`.

    Raises
    ------
    InputError
        Settings outside their range.

    Examples
    --------
    >>> found = nested_oscillation(depth=1, duration=2)
    >>> best = found.phase[:, 0][found.envelope[:, 0].argmax("time")]
    >>> round(float(best), 1)
    1.0

    Notes
    -----
    After the simulations of Tort et al. 2010.
    """
    time = _clock(duration, rate)
    _positive(diffusion=diffusion, noise=noise, amplitude=amplitude)
    if not 0 <= depth <= 1:
        raise InputError(f"a depth of {depth:g}; allowed: 0 to 1")
    if not 0 < slow < fast < rate / 2:
        raise InputError(
            f"rhythms of {slow:g} and {fast:g} Hz at {rate:g} samples a second; give 0 < slow < fast < {rate / 2:g}"
        )
    rng = np.random.default_rng(seed)
    shape = (len(time), n_units)
    phi, psi = (_walk(f, time, diffusion, n_units, rng) for f in (slow, fast))
    envelope = amplitude * (1 + depth * np.cos(phi - preferred_phase))
    activity = np.cos(phi) + envelope * np.cos(psi) + noise * pink_noise(shape[0], shape[1], rng)
    return xr.Dataset(
        {
            "activity": (("time", "unit"), activity),
            "phase": (("time", "unit"), _wrapped(phi)),
            "envelope": (("time", "unit"), envelope),
        },
        coords={"time": time, "unit": np.arange(n_units)},
        attrs={
            "rate": rate, "source": "simulate.nested_oscillation", "depth": depth, "preferred_phase": preferred_phase,
            "slow": slow, "fast": fast,
        },
    )  # fmt: skip


def phase_locked_spikes(
    *,
    kappa: Float[np.ndarray, "unit"] | float = 0.5,
    mean_phase: Float[np.ndarray, "unit"] | float = 0.0,
    n_units: int = 10,
    firing_rate: float = 5.0,
    frequency: float = 8.0,
    diffusion: float = 1.0,
    noise: float = 0.3,
    duration: float = 60.0,
    rate: float = 500.0,
    seed: int = 0,
) -> xr.Dataset:
    """A field potential and Poisson spikes whose phases have a von Mises distribution.

    The rate of unit i is firing_rate exp(kappa_i cos(phi - mean_i)) / I0(kappa_i): a mean vector of length I1(kappa) / I0(kappa), and a pairwise
    phase consistency of its square.

    Parameters
    ----------
    kappa
        Concentration of each unit's phases; 0 is no locking.
    mean_phase
        Radians.
    firing_rate
        Mean, hertz.
    noise
        Standard deviation of pink noise on the field potential, whose rhythm has amplitude 1.

    Returns
    -------
    xarray.Dataset
        `lfp (time, channel)`, `spike_time (spike)` seconds, `spike_unit (spike)`, coordinate `unit`, and the truth: `phase (time)`,
        `kappa (unit)`, `mean_phase (unit)`, `ppc (unit)`.

    Raises
    ------
    InputError
        Settings outside their range.

    Examples
    --------
    >>> found = phase_locked_spikes(kappa=0.5, n_units=3, duration=5)
    >>> found.ppc.round(4).values.tolist()
    [0.0588, 0.0588, 0.0588]
    """
    from scipy.special import i0e, ive

    time = _clock(duration, rate)
    _positive(diffusion=diffusion, noise=noise, firing_rate=firing_rate)
    k, mu = (np.broadcast_to(np.asarray(v, dtype=float), (n_units,)) for v in (kappa, mean_phase))
    if n_units < 1 or not (k >= 0).all():
        raise InputError(f"{n_units} units with kappa {k.tolist()}; give one unit or more and kappa of 0 or more")
    rng = np.random.default_rng(seed)
    phi = _walk(frequency, time, diffusion, 1, rng)[:, 0]
    lfp = np.cos(phi)[:, None] + noise * pink_noise(len(time), 1, rng)
    # Thinning: draw spikes at each unit's largest rate, and keep them with probability rate / largest rate.
    peak = firing_rate / i0e(k)
    count = rng.poisson(peak * duration)
    unit = np.repeat(np.arange(n_units), count)
    times = rng.uniform(0, duration, len(unit))
    at = np.interp(times, time, phi)
    kept = rng.random(len(unit)) < np.exp(k[unit] * (np.cos(at - mu[unit]) - 1))
    times, unit = times[kept], unit[kept]
    order = np.argsort(times)
    return xr.Dataset(
        {
            "lfp": (("time", "channel"), lfp),
            "spike_time": ("spike", times[order]),
            "spike_unit": ("spike", unit[order]),
            "phase": ("time", _wrapped(phi)),
            "kappa": ("unit", k),
            "mean_phase": ("unit", mu),
            "ppc": ("unit", (ive(1, k) / i0e(k)) ** 2),
        },
        coords={"time": time, "channel": np.arange(1), "unit": np.arange(n_units)},
        attrs={"rate": rate, "source": "simulate.phase_locked_spikes", "frequency": frequency},
    )


def pink_noise(n_samples: int, n_units: int, rng: np.random.Generator) -> Float[np.ndarray, "time unit"]:
    """Gaussian noise whose power falls as 1/f, with standard deviation 1.

    Examples
    --------
    >>> x = pink_noise(1000, 2, np.random.default_rng(0))
    >>> x.shape, x.std(0).round(6).tolist()
    ((1000, 2), [1.0, 1.0])
    """
    spectrum = np.fft.rfft(rng.normal(size=(n_samples, n_units)), axis=0)
    frequency = np.fft.rfftfreq(n_samples)
    spectrum[0] = 0
    spectrum[1:] /= np.sqrt(frequency[1:, None])
    x = np.fft.irfft(spectrum, n_samples, axis=0)
    return x / x.std(0)


def _clock(duration: float, rate: float) -> Float[np.ndarray, "time"]:
    if not (rate > 0 and duration * rate >= 10):
        raise InputError(f"{duration:g} s at {rate:g} samples a second; give a rate above 0 and ten samples or more")
    return np.arange(round(duration * rate)) / rate


def _walk(frequency: float, time: np.ndarray, diffusion: float, n: int, rng: np.random.Generator) -> np.ndarray:
    """Phases `(time, unit)` that turn at a frequency and wander."""
    step = time[1] - time[0]
    wander = np.cumsum(rng.normal(size=(len(time), n)) * np.sqrt(2 * diffusion * step), axis=0)
    return 2 * np.pi * frequency * time[:, None] + wander + rng.uniform(-np.pi, np.pi, n)


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _positive(**settings: float) -> None:
    for name, value in settings.items():
        if not value >= 0:
            raise InputError(f"{name} of {value}; give 0 or more")
