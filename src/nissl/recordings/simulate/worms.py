"""Simulated worms: one latent animal seen by several laboratories, or several animals that share one circuit.

The circuit is a sparse random network with saturating units, past the point where its activity lives on by itself
(Sompolinsky, Crisanti and Sommers 1988). Neurons adapt, so that it never comes to rest: activity is smooth and of few
dimensions, never the same twice, and for a while predictable from the wiring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError
from nissl.recordings._collection import Collection
from nissl.recordings._wiring.connectome import Connectome

STEP = 0.05  # seconds between steps of the simulation
ADAPTATION, SLOWNESS = 1.0, 4.0  # strength of a neuron's adaptation, and its time constant in the neuron's own
# How laboratories write the same name.
STYLES = ("plain", "padded", "lower case", "spaces", "on and off")


@dataclass(frozen=True)
class SimulatedWorms:
    """Recordings, and the truth that they come from.

    Attributes
    ----------
    recordings
        As the laboratories hand them over: own clocks, own spellings, gaps, neurons without a name.
    latent
        `activity (time, unit)` of one worm, or `(animal, time, unit)`, without noise, every 0.05 s.
    circuit
        The wiring, kind `chemical`, signed.
    neurons
        For each recording the true neuron of each of its columns.
    """

    recordings: Collection
    latent: xr.DataArray
    circuit: Connectome
    neurons: Mapping[str, Sequence[str]]


def worm_labs(
    neurons: Sequence[str],
    *,
    n_labs: int = 5,
    duration: float = 300.0,
    dt: tuple[float, float] = (0.1, 0.7),
    jitter: float = 0.2,
    recorded: tuple[float, float] = (0.6, 0.9),
    labelled: float = 0.8,
    missing: float = 0.03,
    noise: float = 0.1,
    tau: float = 3.0,
    seed: int = 0,
) -> SimulatedWorms:
    """One worm as several laboratories would have recorded it at the same time.

    Parameters
    ----------
    neurons
        Names, such as `recordings.worm.canonical_neurons()`.
    duration
        Seconds.
    dt
        Seconds between samples of the fastest and of the slowest laboratory.
    jitter
        SD of an interval, as a share of it.
    recorded
        Least and largest share of neurons that a laboratory records.
    labelled
        Share of those that it can name; the others are called by their column.
    missing
        Share of samples in gaps of one to three seconds.
    noise
        SD of what each sample adds, as a share of the trace's own. Every trace also has a gain and an offset of its
        own.
    tau
        Time constant of a neuron in seconds.

    Raises
    ------
    InputError
        Shares outside of [0, 1], no duration, too few neurons.

    Examples
    --------
    >>> labs = worm_labs([f"N{i}" for i in range(40)], n_labs=2, duration=30)
    >>> list(labs.recordings), labs.latent.dims
    (['lab1', 'lab2'], ('time', 'unit'))
    """
    _check(neurons, duration, tau, recorded=recorded[0], recorded_most=recorded[1], labelled=labelled, missing=missing)
    if not (0 < dt[0] <= dt[1] < duration / 10) or n_labs < 1:
        raise InputError(
            f"{n_labs} laboratories with {dt} s between samples of {duration} s; give 0 < fastest <= slowest < duration / 10"
        )
    rng = np.random.default_rng(seed)
    circuit = worm_circuit(neurons, seed=seed)
    latent = _activity(circuit, duration, tau, rng)
    recordings, truth = {}, {}
    for i, step in enumerate(np.geomspace(*dt, n_labs)):
        lab = f"lab{i + 1}"
        time = _clock(duration, step, jitter, rng)
        columns = rng.permutation(len(neurons))[: round(rng.uniform(*recorded) * len(neurons))]
        recordings[lab] = _observed(latent, time, columns, STYLES[i % len(STYLES)], labelled, missing, noise, rng)
        recordings[lab].attrs["source"] = lab
        truth[lab] = [neurons[c] for c in columns]
    return SimulatedWorms(Collection(recordings), latent, circuit, truth)


def worm_animals(
    neurons: Sequence[str],
    *,
    n_animals: int = 9,
    duration: float = 300.0,
    dt: tuple[float, float] = (0.2, 0.5),
    labelled: float = 0.5,
    noise: float = 0.1,
    tau: float = 3.0,
    seed: int = 0,
) -> SimulatedWorms:
    """Several worms with the same circuit, each with its own history and its own subset of neurons that could be named.

    Parameters
    ----------
    labelled
        Share of neurons that are recorded and named, drawn anew for every animal.
    dt
        Seconds between samples; each animal has its own rate within these bounds.

    Examples
    --------
    >>> worms = worm_animals([f"N{i}" for i in range(40)], n_animals=3, duration=30)
    >>> worms.latent.sizes["animal"], worms.recordings["animal2"].sizes["unit"]
    (3, 20)
    """
    _check(neurons, duration, tau, labelled=labelled)
    if n_animals < 1 or not 0 < dt[0] <= dt[1]:
        raise InputError(
            f"{n_animals} animals with {dt} s between samples; give at least 1, and 0 < fastest <= slowest"
        )
    rng = np.random.default_rng(seed)
    circuit = worm_circuit(neurons, seed=seed)
    recordings, truth, latents = {}, {}, []
    for i in range(n_animals):
        animal = f"animal{i + 1}"
        latent = _activity(circuit, duration, tau, rng)
        time = _clock(duration, float(rng.uniform(*dt)), 0.0, rng)
        columns = np.sort(rng.permutation(len(neurons))[: round(labelled * len(neurons))])
        recordings[animal] = _observed(latent, time, columns, "plain", 1.0, 0.0, noise, rng)
        truth[animal] = [neurons[c] for c in columns]
        latents.append(latent)
    both = xr.concat(latents, dim="animal").assign_coords(animal=list(recordings))
    return SimulatedWorms(Collection(recordings), both, circuit, truth)


def worm_circuit(neurons: Sequence[str], *, inputs: int = 10, gain: float = 1.8, seed: int = 0) -> Connectome:
    """A sparse random circuit: every neuron has the same number of inputs, of normal weights.

    Parameters
    ----------
    inputs
        Inputs of each neuron.
    gain
        Radius of the spectrum of weights; above 1 activity lives on by itself.
    """
    n = len(neurons)
    if n <= inputs:
        raise InputError(f"{n} neurons with {inputs} inputs each; give more neurons or fewer inputs")
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((n, n)) + 2 * np.eye(n), axis=1)[:, :inputs]  # nobody is his own input
    weights = np.zeros((n, n))
    np.put_along_axis(weights, order, rng.normal(scale=gain / np.sqrt(inputs), size=(n, inputs)), axis=1)
    return Connectome(neurons, chemical=weights, name="simulated circuit")


def _activity(circuit: Connectome, duration: float, tau: float, rng: np.random.Generator) -> xr.DataArray:
    """Activity after a start that is thrown away; a small noise keeps silent corners of the circuit awake."""
    weights = circuit.sparse("chemical")
    n, warm = len(circuit), int(20 * tau / STEP)
    steps = round(duration / STEP) + 1
    kicks = rng.normal(scale=0.05 * np.sqrt(2 * STEP / tau), size=(warm + steps, n))
    x, adapted = rng.normal(size=n), np.zeros(n)
    out = np.empty((steps, n))
    for t in range(warm + steps):
        if t >= warm:
            out[t - warm] = x
        drift = weights @ np.tanh(x) - x - ADAPTATION * adapted
        adapted = adapted + STEP / (SLOWNESS * tau) * (x - adapted)
        x = x + STEP / tau * drift + kicks[t]
    return xr.DataArray(
        out,
        dims=("time", "unit"),
        coords={"time": STEP * np.arange(steps), "unit": list(circuit.nodes)},
        name="activity",
    )


def _clock(duration: float, step: float, jitter: float, rng: np.random.Generator) -> Float[np.ndarray, "time"]:
    """Times from 0 to the end; intervals vary and never vanish."""
    gaps = step * np.clip(1 + jitter * rng.normal(size=int(2 * duration / step)), 0.2, None)
    time = np.append(0.0, np.cumsum(gaps))
    return time[time <= duration]


def _observed(
    latent: xr.DataArray,
    time: Float[np.ndarray, "time"],
    columns: np.ndarray,
    style: str,
    labelled: float,
    missing: float,
    noise: float,
    rng: np.random.Generator,
) -> xr.Dataset:
    clock, values = latent["time"].values, latent.values[:, columns]
    place = np.clip(np.searchsorted(clock, time), 1, len(clock) - 1)
    share = ((time - clock[place - 1]) / STEP)[:, None]
    clean = (1 - share) * values[place - 1] + share * values[place]
    spread = clean.std(0)
    traces = clean + noise * spread * rng.normal(size=clean.shape)
    traces = rng.uniform(0.5, 2.0, len(columns)) * traces + rng.normal(size=len(columns))
    traces[_gaps(time, len(columns), missing, rng)] = np.nan
    known = rng.random(len(columns)) < labelled
    names = [
        spelt(str(latent["unit"].values[c]), style) if yes else str(i)
        for i, (c, yes) in enumerate(zip(columns, known, strict=True))
    ]
    out = xr.Dataset(
        {"activity": (("time", "unit"), traces, {"quantity": "fluorescence"})}, {"time": time, "unit": names}
    )
    out.attrs["rate"] = 1 / float(np.median(np.diff(time)))
    return out


def _gaps(time: Float[np.ndarray, "time"], n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which samples are lost: runs of one to three seconds, each unit on its own."""
    out = np.zeros((len(time), n), dtype=bool)
    if share == 0:
        return out
    per_unit = rng.poisson(share * time[-1] / 2, n)
    unit = np.repeat(np.arange(n), per_unit)
    begin = rng.uniform(0, time[-1], len(unit))
    first, last = np.searchsorted(time, begin), np.searchsorted(time, begin + rng.uniform(1, 3, len(unit)))
    edges = np.zeros((len(time) + 1, n))
    np.add.at(edges, (first, unit), 1)
    np.add.at(edges, (last, unit), -1)
    return np.cumsum(edges, axis=0)[:-1] > 0


def spelt(name: str, style: str) -> str:
    """A neuron's name as a laboratory might write it."""
    if style == "padded" and name[-1].isdigit() and not name[-2:].isdigit():
        return f"{name[:-1]}0{name[-1]}"
    if style == "lower case":
        return name.lower()
    if style == "spaces":
        return f" {name} "
    if style == "on and off":
        return {"AWCL": "AWCOFF", "AWCR": "AWCON"}.get(name, name)
    return name


def _check(neurons: Sequence[str], duration: float, tau: float, **shares: float) -> None:
    if len(neurons) < 12:
        raise InputError(f"{len(neurons)} neurons; a circuit needs at least 12")
    if not (duration > 0 and tau > 0):
        raise InputError(f"{duration} s of neurons with a time constant of {tau} s; both must be above 0")
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"{name} = {share}; give a share from 0 to 1")
