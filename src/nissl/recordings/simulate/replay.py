"""Place cells on a track, and events that replay it: forwards, backwards, compressed in time, or in no order at all."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import xarray as xr

from nissl.errors import InputError, unknown

Order = Literal["forward", "reverse", "mixed", "shuffled"]


def place_cells(
    n_units: int = 40,
    *,
    length: float = 2.0,
    width: float = 0.15,
    peak_rate: float = 20.0,
    base_rate: float = 0.1,
    speed: float = 0.3,
    n_laps: int = 20,
    rate: float = 50.0,
    seed: int = 0,
) -> xr.Dataset:
    """An animal that runs up and down a track, and cells that fire in places spread over it.

    Parameters
    ----------
    length, width
        Of the track, and standard deviation of a place field, metres.
    peak_rate, base_rate
        Hertz, within and outside the field.
    speed
        Metres a second; every lap is a little faster or slower, and the animal slows down at the ends.
    n_laps
        Each one up and one down.
    rate
        Samples of the position a second.

    Returns
    -------
    xarray.Dataset
        `position (time)` metres, `spike_time`, `spike_unit`, and the truth: `field (unit, position_bin)` hertz at `position_bin` metres,
        `centre (unit)`.

    Raises
    ------
    InputError
        Settings that are not above 0.

    Examples
    --------
    >>> run = place_cells(5, n_laps=2)
    >>> bool(run.position.min() >= 0), bool(run.position.max() <= 2), run.sizes["unit"]
    (True, True, 5)
    """
    settings = {
        "n_units": n_units,
        "length": length,
        "width": width,
        "peak_rate": peak_rate,
        "speed": speed,
        "n_laps": n_laps,
        "rate": rate,
    }
    for name, value in settings.items():
        if not value > 0:
            raise InputError(f"{name} of {value}; give a number above 0")
    rng = np.random.default_rng(seed)
    # Position is a smoothed triangle wave of the distance run.
    seconds = 2 * length / (speed * rng.uniform(0.8, 1.2, n_laps))
    turn = np.concatenate([[0], np.cumsum(seconds)])
    time = np.arange(0, turn[-1], 1 / rate)
    lap = np.interp(time, turn, np.arange(n_laps + 1))
    position = length * (0.5 - 0.5 * np.cos(2 * np.pi * lap))
    position = 0.5 * position + 0.5 * length * (1 - np.abs(2 * (lap % 1) - 1))
    centre = np.sort((np.arange(n_units) + rng.uniform(0, 1, n_units)) / n_units * length)
    where = (np.arange(100) + 0.5) / 100 * length
    field = _field(where, centre, width, peak_rate, base_rate)
    unit, times = _poisson(_field(position, centre, width, peak_rate, base_rate), time, 1 / rate, rng)
    return xr.Dataset(
        {
            "position": ("time", position),
            "spike_time": ("spike", times),
            "spike_unit": ("spike", unit),
            "field": (("unit", "position_bin"), field),
            "centre": ("unit", centre),
        },
        coords={"time": time, "unit": np.arange(n_units), "position_bin": where},
        attrs={
            "rate": rate, "source": "simulate.place_cells", "length": length, "width": width, "peak_rate": peak_rate,
            "base_rate": base_rate,
        },
    )  # fmt: skip


def replay_events(
    run: xr.Dataset,
    n_events: int = 100,
    *,
    order: Order = "mixed",
    n_bins: int = 12,
    bin_width: float = 0.02,
    share: float = 0.8,
    gain: float = 2.0,
    pause: float = 0.5,
    seed: int = 0,
) -> xr.Dataset:
    """Events in which the cells of a run fire as if the animal swept over the track in a fraction of a second.

    Parameters
    ----------
    run
        From `place_cells`; its true fields and length are used.
    order
        `forward`, `reverse`, `mixed` (each event one or the other), or `shuffled`: the places of a sweep in random order, bin by bin,
        which has the same spikes in every bin and no sequence.
    n_bins, bin_width
        How long an event lasts, in bins of so many seconds.
    share
        Of the track that an event covers, at least; it starts at random within what is left.
    gain
        Rates in the event over rates in the run; replay comes in bursts of the population.
    pause
        Seconds of silence between events.

    Returns
    -------
    xarray.Dataset
        `spike_time`, `spike_unit`, `event_start`, `event_stop (event)` seconds, and the truth: `trajectory (event, bin)` metres,
        `direction (event)`, 1, -1 or 0.

    Raises
    ------
    InputError, UnknownNameError
        Settings outside their range; an order that does not exist.

    Examples
    --------
    >>> events = replay_events(place_cells(10, n_laps=2), 3, order="reverse")
    >>> events.direction.values.tolist(), bool(events.trajectory[0, 0] > events.trajectory[0, -1])
    ([-1, -1, -1], True)
    """
    if order not in get_args(Order):
        raise unknown("order", order, get_args(Order))
    if not (n_events >= 1 and n_bins >= 2 and bin_width > 0 and 0 < share <= 1 and gain > 0 and pause >= 0):
        raise InputError(
            f"{n_events} events of {n_bins} bins of {bin_width} s over a share of {share} with gain {gain} and pauses of {pause} s; give "
            "one event of two bins or more, a share from 0 to 1, and the rest above 0"
        )
    rng = np.random.default_rng(seed)
    length = float(run.attrs["length"])
    extent = rng.uniform(share, 1, n_events) * length
    begin = rng.uniform(0, 1, n_events) * (length - extent)
    place = begin[:, None] + extent[:, None] * (np.arange(n_bins) + 0.5) / n_bins
    direction = {"forward": 1, "reverse": -1, "shuffled": 0}.get(order)
    direction = rng.choice([-1, 1], n_events) if direction is None else np.full(n_events, direction)
    place = np.where(direction[:, None] < 0, place[:, ::-1], place)
    if order == "shuffled":
        place = rng.permuted(place, axis=1)
    start = pause + np.arange(n_events) * (n_bins * bin_width + pause)
    attrs = run.attrs
    rates = gain * _field(place.ravel(), run["centre"].values, attrs["width"], attrs["peak_rate"], attrs["base_rate"])
    edges = (start[:, None] + np.arange(n_bins) * bin_width).ravel()
    unit, times = _poisson(rates, edges, bin_width, rng)
    return xr.Dataset(
        {
            "spike_time": ("spike", times),
            "spike_unit": ("spike", unit),
            "event_start": ("event", start),
            "event_stop": ("event", start + n_bins * bin_width),
            "trajectory": (("event", "bin"), place),
            "direction": ("event", direction),
        },
        coords={"unit": run["unit"].values},
        attrs={"source": "simulate.replay_events", "bin_width": bin_width, "order": order},
    )


def _field(position: np.ndarray, centre: np.ndarray, width: float, peak: float, base: float) -> np.ndarray:
    """Rates `(unit, position)`."""
    return base + peak * np.exp(-0.5 * ((position - centre[:, None]) / width) ** 2)


def _poisson(
    rates: np.ndarray, starts: np.ndarray, width: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Spikes at rates `(unit, bin)` that hold for bins of a width from their starts: unit and time of each, by ascending time."""
    unit, place = np.nonzero(counts := rng.poisson(rates * width))
    repeat = counts[unit, place]
    unit, place = np.repeat(unit, repeat), np.repeat(place, repeat)
    times = starts[place] + rng.uniform(0, width, len(place))
    order = np.argsort(times)
    return unit[order], times[order]
