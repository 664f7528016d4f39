"""A circuit with a cause in it: one neuron passes a stimulus on to its group and to the read-out, and can be silenced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from nissl.errors import InputError, unknown
from nissl.recordings.simulate.motifs import _convolved, _events, _members, _protocol, calcium_kernel


def hub_circuit(
    *,
    silence: str | Sequence[str] = (),
    n_animals: int = 6,
    n_units: int = 30,
    sizes: Sequence[int] = (10, 9, 8),
    causal: int = 1,
    duration: float = 120.0,
    rate: float = 4.0,
    event_rate: float = 0.5,
    private_rate: float = 0.02,
    transmission: float = 0.7,
    leak: float = 0.02,
    noise: float = 0.05,
    seed: int = 0,
) -> xr.Dataset:
    """Groups of neurons, each woken by its stimulus through a sensory neuron and a hub; one hub drives the read-out besides.

    While stimulus k is on, sensory neuron k has events; hub k follows each of them; every other member of the group follows each of
    the hub's with a chance of `transmission`. Hub `causal` also drives the read-out, all other neurons do so with strength
    `leak`. The same seed gives the same chances whoever is silenced, so that two runs differ by the silencing alone.

    Parameters
    ----------
    silence
        Names of neurons whose activity is held at zero, noise apart.
    causal
        The group whose hub drives the read-out.
    transmission
        Chance that a member follows an event of its hub.
    leak
        Strength of the drive to the read-out of every neuron that is not the causal hub, whose strength is 1.
    n_animals, n_units, sizes, duration, rate, event_rate, private_rate, noise, seed
        As in `motifs`.

    Returns
    -------
    xr.Dataset
        `activity (animal, time, unit)`, the stimuli, `readout (animal, time)`; and the truth: `group (unit)` (-1 for none), `sensory (stimulus)`,
        `hub (stimulus)` (names) and `causal` in the attributes.

    Raises
    ------
    UnknownNameError, InputError
        No such neuron to silence; groups that do not fit.

    Examples
    --------
    >>> intact = hub_circuit(duration=60.0)
    >>> hub = str(intact.hub.values[1])
    >>> silenced = hub_circuit(duration=60.0, silence=hub)
    >>> float(silenced.readout.sum() / intact.readout.sum()) < 0.5
    True
    """
    silence = [silence] if isinstance(silence, str) else list(silence)
    names = [f"n{u:02d}" for u in range(n_units)]
    for name in silence:
        if name not in names:
            raise unknown("unit", name, names)
    if sum(sizes) > n_units or min(sizes, default=0) < 3:
        raise InputError(
            f"groups of {tuple(sizes)} among {n_units} neurons; give three or more each, and no more than there are"
        )
    if not 0 <= causal < len(sizes):
        raise InputError(f"causal = {causal}; there are {len(sizes)} groups, from 0 on")
    if not (0 <= transmission <= 1 and 0 <= event_rate <= rate and 0 <= private_rate <= rate):
        raise InputError("transmission is a chance, and events are no more than samples")
    rng = np.random.default_rng(seed)
    time = np.arange(round(duration * rate)) / rate
    weights = _members(n_units, sizes, 0.0, rng)
    start, stop, which = _protocol(len(sizes), 1, duration, rng)
    alive = np.stack([((time >= start[which == m]) & (time < stop[which == m])) for m in range(len(sizes))])
    shape = (n_animals, len(time))
    # All chances are drawn before anybody is silenced.
    stimulus = [_events(np.broadcast_to(on * event_rate / rate, shape), rng) for on in alive]
    drive = _events(np.full((*shape, n_units), private_rate / rate), rng)
    follows = rng.random((*shape, n_units)) < transmission
    white = noise * rng.normal(size=drive.shape)
    spared = ~np.isin(names, silence)
    sensory, hubs, group = [], [], np.full(n_units, -1)
    for m, row in enumerate(weights):
        members = rng.permutation(np.flatnonzero(row))
        group[members] = m
        sense, hub, rest = members[0], members[1], members[2:]
        sensory.append(names[sense])
        hubs.append(names[hub])
        drive[..., sense] += stimulus[m]
        drive[..., sense] *= spared[sense]
        drive[..., hub] += drive[..., sense]
        drive[..., hub] *= spared[hub]
        drive[..., rest] += drive[..., hub, None] * follows[..., rest] * row[rest]
    drive *= spared
    strength = np.full(n_units, leak)
    strength[names.index(hubs[causal])] = 1.0
    kernel = calcium_kernel(rate)
    labels = [f"stimulus {m}" for m in range(len(sizes))]
    # The read-out hears the causal hub only while its own stimulus is on.
    heard = drive * strength * np.where(np.isin(names, hubs[causal]), alive[causal][:, None], 1.0)
    return xr.Dataset(
        {
            "activity": (("animal", "time", "unit"), _convolved(drive, kernel) + white, {"quantity": "dF/F"}),
            "readout": (("animal", "time"), _convolved(heard.sum(-1, keepdims=True), kernel)[..., 0]),
            "stimulus_start": ("interval", start),
            "stimulus_stop": ("interval", stop),
            "stimulus_label": ("interval", [labels[m] for m in which]),
            "group": ("unit", group),
            "sensory": ("stimulus", sensory),
            "hub": ("stimulus", hubs),
        },
        coords={"time": time, "unit": names, "animal": [f"animal {a}" for a in range(n_animals)], "stimulus": labels},
        attrs={"rate": rate, "source": "nissl.recordings.simulate.hub_circuit", "seed": seed, "causal": causal},
    )
