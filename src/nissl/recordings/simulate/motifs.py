"""Populations that work in motifs: groups of neurons that flare up together, in their own times, in some animals.

All is known of them: who takes part, when, in which animal, and under which stimulus. `hub_circuit` adds a cause: one
neuron drives a group and the read-out while one stimulus is on, and any neuron can be silenced with all else unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError


def calcium_kernel(rate: float, rise: float = 0.5, decay: float = 2.0) -> Float[np.ndarray, "time"]:
    """Response of an indicator to one event, with a peak of 1: (1 - exp(-t / rise)) exp(-t / decay), sampled at `rate` hertz
    for six decay times.

    Examples
    --------
    >>> float(calcium_kernel(10.0).max())
    1.0
    """
    t = np.arange(int(np.ceil(6 * decay * rate)) + 1) / rate
    kernel = -np.expm1(-t / rise) * np.exp(-t / decay)
    return kernel / kernel.max()


def motifs(
    *,
    n_animals: int = 8,
    n_units: int = 24,
    sizes: Sequence[int] = (12, 9, 6),
    duration: float = 120.0,
    rate: float = 4.0,
    presentations: int = 1,
    absent: int = 2,
    event_rate: float = 0.5,
    shared: float = 1.0,
    private_rate: float = 0.02,
    inverted: float = 0.0,
    noise: float = 0.05,
    missing: float = 0.0,
    seed: int = 0,
) -> xr.Dataset:
    """Calcium traces of several animals under one protocol, made of motifs that overlap in their neurons.

    The recording is divided into slots, as many as there are motifs times `presentations`. In the middle four fifths of each, one stimulus is on and
    its motif is alive: in every animal that has it, common events make all members rise, each by its own weight. A share of these events
    is locked to the stimulus, at the same times in all animals (their sizes differ); the others have times of their own. Every
    neuron has private events besides, all the time, and noise.

    Parameters
    ----------
    n_animals, n_units
        How many.
    sizes
        Neurons of each motif. Members are consecutive on a circle of shuffled neurons, so motifs overlap where there are more
        members than neurons.
    duration, rate
        Seconds, and samples a second.
    presentations
        How often each stimulus comes.
    absent
        Animals that lack each motif.
    event_rate, private_rate
        Events a second of a motif while it is alive, and of a neuron on its own.
    shared
        Share of a motif's events that is locked to the stimulus. Below 1, one factor a motif is an approximation.
    inverted
        Share of a motif's members that fall where the others rise.
    noise
        Standard deviation of white noise; an event of a full member has a peak of about 1.
    missing
        Share of neurons not recorded (NaN) in each animal.
    seed
        Of everything random.

    Returns
    -------
    xr.Dataset
        `activity (animal, time, unit)`, `stimulus_start`, `stimulus_stop`, `stimulus_label (interval)`, and the truth:
        `motif_unit (motif, unit)` signed weights, `motif_time (motif, time)` 1 while alive, `motif_animal (motif, animal)`,
        `motif_stimulus (motif)`.

    Raises
    ------
    InputError
        Counts, rates or shares out of range.

    Examples
    --------
    >>> worms = motifs(n_animals=3, duration=60.0, seed=1)
    >>> dict(worms.activity.sizes)
    {'animal': 3, 'time': 240, 'unit': 24}
    """
    _check(n_animals, n_units, sizes, presentations, absent, duration, rate)
    _check_rates(
        event_rate=event_rate,
        private_rate=private_rate,
        noise=noise,
        inverted=inverted,
        shared=shared,
        missing=missing,
        rate=rate,
    )
    rng = np.random.default_rng(seed)
    n_motifs = len(sizes)
    n_times = round(duration * rate)
    time = np.arange(n_times) / rate
    weights = _members(n_units, sizes, inverted, rng)
    start, stop, which = _protocol(n_motifs, presentations, duration, rng)
    alive = ((time >= start[:, None]) & (time < stop[:, None])).astype(float)
    alive = np.stack([alive[which == m].sum(0) for m in range(n_motifs)])
    present = np.ones((n_motifs, n_animals))
    for row in present:
        row[rng.permutation(n_animals)[:absent]] = 0
    # Events: Poisson, with sizes spread around 1; motifs' only while alive and where present.
    chance = present[:, :, None] * alive[:, None] * event_rate / rate
    locked = rng.random(alive.shape)[:, None] < shared * chance
    common = (locked + (rng.random(chance.shape) < (1 - shared) * chance)) * _sizes(chance.shape, rng)
    private = _events(np.full((n_animals, n_times, n_units), private_rate / rate), rng)
    drive = np.einsum("mu,mat->atu", weights, common) + private
    activity = _convolved(drive, calcium_kernel(rate)) + noise * rng.normal(size=drive.shape)
    if missing:
        order = rng.random((n_animals, n_units)).argsort(1)
        hidden = order < round(missing * n_units)
        activity = np.where(hidden[:, None], np.nan, activity)
    names = [f"stimulus {m}" for m in range(n_motifs)]
    return xr.Dataset(
        {
            "activity": (("animal", "time", "unit"), activity, {"quantity": "dF/F"}),
            "stimulus_start": ("interval", start),
            "stimulus_stop": ("interval", stop),
            "stimulus_label": ("interval", [names[m] for m in which]),
            "motif_unit": (("motif", "unit"), weights),
            "motif_time": (("motif", "time"), alive),
            "motif_animal": (("motif", "animal"), present),
            "motif_stimulus": ("motif", names),
        },
        coords={
            "time": time,
            "unit": [f"n{u:02d}" for u in range(n_units)],
            "animal": [f"animal {a}" for a in range(n_animals)],
        },
        attrs={"rate": rate, "source": "nissl.recordings.simulate.motifs", "seed": seed},
    )


def _members(n_units: int, sizes: Sequence[int], inverted: float, rng: np.random.Generator) -> np.ndarray:
    """Signed weights (motif, unit); the motifs start at even steps, each by its share of the members."""
    circle = rng.permutation(n_units)
    starts = np.cumsum([0, *sizes[:-1]]) * n_units // max(n_units, sum(sizes))
    weights = np.zeros((len(sizes), n_units))
    for row, start, size in zip(weights, starts, sizes, strict=True):
        sign = np.ones(size)
        sign[rng.permutation(size)[: round(inverted * size)]] = -1
        row[circle[(start + np.arange(size)) % n_units]] = sign * rng.uniform(0.7, 1.0, size)
    return weights


def _protocol(
    n_motifs: int, presentations: int, duration: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and stop in seconds, and motif, of each interval; every round presents all stimuli in a random order."""
    which = np.concatenate([rng.permutation(n_motifs) for _ in range(presentations)])
    slot = duration / len(which)
    start = slot * (np.arange(len(which)) + 0.1)
    return start, start + 0.8 * slot, which


def _events(chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sizes of events (about 1, standard deviation a quarter) where there are any, 0 elsewhere."""
    return (rng.random(chance.shape) < chance) * _sizes(chance.shape, rng)


def _sizes(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return rng.gamma(16, 1 / 16, shape)


def _convolved(drive: Float[np.ndarray, "animal time unit"], kernel: Float[np.ndarray, "lag"]) -> np.ndarray:
    from scipy.signal import fftconvolve

    return fftconvolve(drive, kernel[None, :, None], axes=1)[:, : drive.shape[1]]


def _check(
    n_animals: int, n_units: int, sizes: Sequence[int], presentations: int, absent: int, duration: float, rate: float
) -> None:
    for name, given, least in (
        ("n_animals", n_animals, 1),
        ("n_units", n_units, 2),
        ("presentations", presentations, 1),
    ):
        if given < least:
            raise InputError(f"{name} = {given}; give {least} or more")
    if not len(sizes) or not all(2 <= size <= n_units for size in sizes):
        raise InputError(
            f"sizes = {tuple(sizes)} among {n_units} neurons; give from 2 to n_units neurons for each motif"
        )
    if not 0 <= absent < n_animals:
        raise InputError(f"absent = {absent} of {n_animals} animals; each motif must be in one at least")
    if not (rate > 0 and 2 <= duration * rate < np.inf):
        raise InputError(f"{duration} s at {rate} Hz; at least two samples are needed")


def _check_rates(*, rate: float, **given: float) -> None:
    most = {"event_rate": rate, "private_rate": rate, "noise": np.inf, "inverted": 1.0, "shared": 1.0, "missing": 0.99}
    for name, value in given.items():
        if not 0 <= value <= most[name]:
            raise InputError(f"{name} = {value}; allowed: 0 to {most[name]}")
