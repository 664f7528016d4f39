"""Circuits of spiking units whose wiring, drive and tuning are known.

Every spike may call forth spikes in the units that it drives, after the delay of that connection: a branching (Hawkes)
process with additive effects, drawn generation by generation, so that no loop runs over time.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d

from nissl.errors import InputError


def spiking_hubs(
    duration: float = 600.0,
    *,
    n_units: int = 20,
    n_hubs: int = 4,
    n_targets: int = 4,
    delay: tuple[float, float] = (0.01, 0.03),
    transmission: float = 0.5,
    hub_rate: float = 4.0,
    background: float = 1.0,
    spread: float = 0.5,
    n_hidden: int = 0,
    bin_width: float = 0.01,
    seed: int = 0,
) -> xr.Dataset:
    """A few hubs, each driving its own targets after a delay; where hubs stand among the units is drawn at random.

    Parameters
    ----------
    duration
        Seconds.
    n_units, n_hubs, n_targets
        Size of the population, hubs in it, and targets of each hub. Targets are shared out without overlap while they last.
    delay
        Shortest and longest delay of a connection in seconds; a connection keeps its delay, in whole bins.
    transmission
        Expected number of spikes that one spike of a hub calls forth in each of its targets.
    hub_rate, background
        Hertz: mean spontaneous rate of hubs and of all other units.
    spread
        Standard deviation of the logarithm of spontaneous rates; they are log-normal, as rates in cortex are.
    n_hidden
        Hubs that drive targets and are not recorded: a common drive, which makes units follow each other that are not connected.
    bin_width
        Seconds.
    seed
        Another seed, another circuit and other spikes.

    Returns
    -------
    xarray.Dataset
        `spikes (time, unit)` counts, and the truth: `adjacency (target, source)` in expected spikes a spike, and
        `delay (target, source)` in seconds, NaN where there is no connection.

    Raises
    ------
    InputError
        No duration, negative rates, more hubs than units, a delay shorter than a bin.

    Examples
    --------
    >>> recording = spiking_hubs(10, seed=1)
    >>> recording.spikes.sizes["unit"], int((recording.adjacency > 0).sum())
    (20, 16)
    """
    _positive(duration=duration, bin_width=bin_width, n_units=n_units, n_hubs=n_hubs, n_targets=n_targets)
    _not_negative(transmission=transmission, hub_rate=hub_rate, background=background, spread=spread, n_hidden=n_hidden)
    if n_hubs + n_targets > n_units:
        raise InputError(
            f"{n_hubs} hubs with {n_targets} targets each do not fit into {n_units} units; give n_units of at least {n_hubs + n_targets}"
        )
    rng = np.random.default_rng(seed)
    n_all, n_bins = n_units + n_hidden, _bins(duration, bin_width)
    order = rng.permutation(n_units)
    hubs, others = np.r_[order[:n_hubs], np.arange(n_units, n_all)], order[n_hubs:]
    weights = np.zeros((n_all, n_all))
    weights[_dealt(others, n_hubs, n_targets, rng), hubs[:n_hubs, None]] = transmission
    if n_hidden:
        weights[_dealt(others, n_hidden, n_targets, rng), hubs[n_hubs:, None]] = transmission
    delays = _delays(weights, delay, bin_width, rng)
    rates = np.full(n_all, background)
    rates[hubs] = hub_rate
    rates = rates * np.exp(rng.normal(0, spread, n_all) - spread**2 / 2)
    counts = cascade(rng.poisson(rates * bin_width, (n_bins, n_all)), weights, delays, rng)[:, :n_units]
    return _dataset(counts, weights[:n_units, :n_units], delays[:n_units, :n_units], bin_width)


def tuned_population(
    duration: float = 600.0,
    *,
    n_units: int = 24,
    rate: float = 8.0,
    gain: float = 0.7,
    timescale: float = 1.0,
    variable: str = "speed",
    behaviour_rate: float = 50.0,
    bin_width: float = 0.01,
    seed: int = 0,
) -> xr.Dataset:
    """Units whose rates follow one slow latent, which is also the behaviour; given the latent they fire independently.

    The rate of unit i is `rate * exp(g_i z - g_i^2 / 2)`, with z a Gaussian process of unit variance and g_i drawn from
    N(0, gain^2), so that its mean is `rate` whatever the gain.

    Parameters
    ----------
    duration, timescale, bin_width
        Seconds; `timescale` is the standard deviation of the Gaussian kernel that smooths the latent.
    rate, behaviour_rate
        Hertz: mean rate of a unit, sampling rate of the behaviour.
    gain
        Spread of the units' tuning.
    variable
        Name of the behaviour.

    Returns
    -------
    xarray.Dataset
        `spikes (time, unit)`, `behaviour (behaviour_time, variable)` and the truth: `tuning (unit)`.

    Examples
    --------
    >>> tuned_population(20, seed=1).behaviour.dims
    ('behaviour_time', 'variable')
    """
    _positive(
        duration=duration, bin_width=bin_width, n_units=n_units, timescale=timescale, behaviour_rate=behaviour_rate
    )
    _not_negative(rate=rate, gain=gain)
    rng = np.random.default_rng(seed)
    n_bins = _bins(duration, bin_width)
    latent = _slow(n_bins, 1, timescale / bin_width, rng)
    tuning = rng.normal(0, gain, n_units)
    counts = rng.poisson(rate * bin_width * np.exp(latent * tuning - tuning**2 / 2))
    out = _dataset(counts, None, None, bin_width)
    out["tuning"] = ("unit", tuning)
    return _with_behaviour(out, latent[:, 0], variable, behaviour_rate)


def visual_population(
    duration: float = 600.0,
    *,
    n_units: int = 24,
    n_latents: int = 3,
    rate: float = 4.0,
    gain: float = 0.7,
    frame_rate: float = 10.0,
    latency: float = 0.03,
    video: tuple[int, int] | None = None,
    noise: float = 0.3,
    n_connections: int = 24,
    transmission: float = 0.5,
    delay: tuple[float, float] = (0.01, 0.03),
    running: float = 0.3,
    timescale: float = 2.0,
    bin_width: float = 0.01,
    seed: int = 0,
) -> xr.Dataset:
    """Units that see a flickering stimulus, drive each other, and are modulated by running speed.

    A few visual latents are drawn anew with every frame, so that the past says nothing about the present stimulus; each
    unit's spontaneous rate is log-linear in them and in a slow speed. Spikes then call forth spikes along random
    connections that form no loop.

    Parameters
    ----------
    duration, latency, timescale, bin_width
        Seconds; `latency` from frame to spikes, `timescale` of the speed.
    rate, frame_rate
        Hertz.
    gain, running
        Spread of the tuning to visual latents and to speed.
    video
        Height and width in pixels: the latents are shown as patterns of light in a film with pixel noise `noise`. None gives the
        latents themselves as a stimulus vector.
    n_connections, transmission, delay
        Number of connections, spikes called forth by a spike along each, and the range of their delays in seconds.

    Returns
    -------
    xarray.Dataset
        `spikes (time, unit)`, `stimulus (stimulus_time, feature)` or `(stimulus_time, y, x)`, `behaviour (behaviour_time, variable)` with
        `speed`, and the truth: `adjacency`, `delay`, `tuning (unit, latent)`, and `patterns (latent, y, x)` of a film.

    Examples
    --------
    >>> visual_population(10, video=(16, 16)).stimulus.sizes["y"]
    16
    """
    _positive(
        duration=duration,
        bin_width=bin_width,
        n_units=n_units,
        n_latents=n_latents,
        frame_rate=frame_rate,
        timescale=timescale,
    )
    _not_negative(
        rate=rate,
        gain=gain,
        latency=latency,
        transmission=transmission,
        noise=noise,
        running=running,
        n_connections=n_connections,
    )
    rng = np.random.default_rng(seed)
    n_bins = _bins(duration, bin_width)
    frame_time = np.arange(int(np.ceil(duration * frame_rate))) / frame_rate
    latents = rng.normal(size=(len(frame_time), n_latents))
    seen = np.searchsorted(frame_time, (np.arange(n_bins) + 0.5) * bin_width - latency, side="right") - 1
    speed = _slow(n_bins, 1, timescale / bin_width, rng)
    tuning = rng.normal(0, gain / np.sqrt(n_latents), (n_units, n_latents))
    modulation = rng.normal(0, running, n_units)
    drive = np.where(seen[:, None] >= 0, latents[np.maximum(seen, 0)], 0.0) @ tuning.T + speed * modulation
    immigrants = rng.poisson(rate * bin_width * np.exp(drive - (tuning**2).sum(1) / 2 - modulation**2 / 2))
    weights = _acyclic(n_units, int(n_connections), transmission, rng)
    delays = _delays(weights, delay, bin_width, rng)
    out = _dataset(cascade(immigrants, weights, delays, rng), weights, delays, bin_width)
    out["tuning"] = (("unit", "latent"), tuning)
    out["modulation"] = ("unit", modulation)
    out = out.assign_coords(stimulus_time=frame_time)
    if video is None:
        out["stimulus"] = (("stimulus_time", "feature"), latents)
    else:
        patterns = _patterns(n_latents, video, rng)
        film = np.tensordot(latents, patterns, 1) + rng.normal(0, noise, (len(latents), *video))
        out["stimulus"] = (("stimulus_time", "y", "x"), film)
        out["patterns"] = (("latent", "y", "x"), patterns)
    return _with_behaviour(out, speed[:, 0], "speed", 50.0)


def cascade(
    immigrants: Int[np.ndarray, "time unit"],
    weights: Float[np.ndarray, "target source"],
    delays: Int[np.ndarray, "target source"],
    rng: np.random.Generator,
) -> Int[np.ndarray, "time unit"]:
    """All descendants of spontaneous spikes, themselves included.

    Each spike of `source` calls forth Poisson(`weights[target, source]`) spikes of `target`, `delays[target, source]` bins later
    (a Hawkes process as a branching process: Hawkes and Oakes 1974). Delays are at least one bin.

    Raises
    ------
    InputError
        A branching ratio (spectral radius of the weights) of 1 or more: spikes would never end.
    """
    ratio = float(np.abs(np.linalg.eigvals(weights)).max(initial=0.0))
    if ratio >= 1:
        raise InputError(
            f"each spike calls forth {ratio:.2f} others and activity explodes; weaken the connections until the spectral radius is below 1"
        )
    total = np.array(immigrants)
    generation = total
    by_delay = [(d, np.where(delays == d, weights, 0.0).T) for d in np.unique(delays[weights > 0])]
    while generation.any():
        children = np.zeros_like(total)
        for d, along in by_delay:
            children[d:] += rng.poisson(generation[: len(total) - d] @ along)
        total, generation = total + children, children
    return total


def _dealt(items: np.ndarray, hands: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Items dealt into hands of a size: without overlap while they last, then at random."""
    if hands * size <= len(items):
        return rng.permutation(items)[: hands * size].reshape(hands, size)
    return np.stack([rng.permutation(items)[:size] for _ in range(hands)])


def _delays(weights: np.ndarray, delay: tuple[float, float], bin_width: float, rng: np.random.Generator) -> np.ndarray:
    low, high = (round(d / bin_width) for d in delay)
    if low < 1 or high < low:
        raise InputError(
            f"delays {delay[0]} to {delay[1]} s are {low} to {high} bins of {bin_width} s; give increasing delays of at least one bin"
        )
    return np.where(weights > 0, rng.integers(low, high + 1, weights.shape), 0)


def _acyclic(n_units: int, n_connections: int, weight: float, rng: np.random.Generator) -> np.ndarray:
    """Connections that run forward in a hidden random order of the units, so that activity always dies out."""
    later, earlier = np.tril_indices(n_units, -1)
    if n_connections > len(later):
        raise InputError(f"{n_connections} connections; {n_units} units have room for {len(later)} without loops")
    chosen, order = rng.permutation(len(later))[:n_connections], rng.permutation(n_units)
    weights = np.zeros((n_units, n_units))
    weights[order[later[chosen]], order[earlier[chosen]]] = weight
    return weights


def _slow(n: int, k: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth Gaussian processes of mean 0 and variance 1, `(time, k)`; sigma in bins."""
    rough = rng.normal(size=(n + 2 * int(4 * sigma), k))
    smooth = gaussian_filter1d(rough, sigma, axis=0)[int(4 * sigma) :][:n]
    # Variance of white noise after a Gaussian kernel of unit sum: 1 / (2 sigma sqrt(pi)).
    return smooth * np.sqrt(2 * sigma * np.sqrt(np.pi))


def _patterns(n: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """One patch of light for each latent, each in a quarter (or a cell of a grid) of the picture of its own."""
    side = int(np.ceil(np.sqrt(n)))
    cells = rng.permutation(side * side)[:n]
    y, x = np.mgrid[: size[0], : size[1]]
    cy, cx = (cells // side + 0.5) * size[0] / side, (cells % side + 0.5) * size[1] / side
    width = min(size) / side / 4
    return np.exp(-((y - cy[:, None, None]) ** 2 + (x - cx[:, None, None]) ** 2) / (2 * width**2))


def _dataset(counts: np.ndarray, weights: np.ndarray | None, delays: np.ndarray | None, bin_width: float) -> xr.Dataset:
    names = [f"u{i:0{len(str(counts.shape[1] - 1))}d}" for i in range(counts.shape[1])]
    time = (np.arange(len(counts)) + 0.5) * bin_width
    spikes = xr.DataArray(
        counts.astype(np.int64), {"time": time, "unit": names}, ("time", "unit"), attrs={"bin_width": bin_width}
    )
    out = xr.Dataset({"spikes": spikes}, attrs={"rate": 1 / bin_width, "source": "simulated"})
    if weights is not None and delays is not None:
        out = out.assign_coords(target=names, source=names)
        out["adjacency"] = (("target", "source"), weights)
        out["delay"] = (("target", "source"), np.where(weights > 0, delays * bin_width, np.nan))
    return out


def _with_behaviour(out: xr.Dataset, latent: np.ndarray, variable: str, rate: float) -> xr.Dataset:
    bins = out["time"].values
    n = int(np.floor((bins[-1] - bins[0]) * rate)) + 1
    clock = bins[0] + np.arange(n) / rate
    out = out.assign_coords(behaviour_time=clock, variable=[variable])
    out["behaviour"] = (("behaviour_time", "variable"), np.interp(clock, bins, latent)[:, None])
    return out


def _bins(duration: float, bin_width: float) -> int:
    n = round(duration / bin_width)
    if n < 2:
        raise InputError(f"{duration} s hold {n} bins of {bin_width} s; give at least two")
    return n


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; give a positive number")


def _not_negative(**values: float) -> None:
    for name, value in values.items():
        if not (np.isfinite(value) and value >= 0):
            raise InputError(f"{name} is {value}; give zero or more")
