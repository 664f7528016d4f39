"""Two recordings to try things on, when none is at hand. Both are simulated, and say so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from nissl.errors import unknown
from nissl.recordings.simulate.motifs import motifs
from nissl.recordings.simulate.switching_glm import simulate_switching_glm


def samples() -> list[str]:
    """Names of the sample recordings.

    Examples
    --------
    >>> samples()
    ['motifs', 'states']
    """
    return list(_SAMPLES)


def sample(name: str, *, seed: int = 0) -> xr.Dataset:
    """A simulated recording: `motifs`, calcium traces of groups that flare up under three stimuli, with a behaviour that follows one
    group, and with samples missing; or `states`, spikes of a network that switches between three couplings.

    Raises
    ------
    UnknownNameError
        No such sample.

    Examples
    --------
    >>> sample("states")["spikes"].dims
    ('time', 'unit')
    """
    if name not in _SAMPLES:
        raise unknown("sample recording", name, _SAMPLES)
    out = _SAMPLES[name](seed)
    out.attrs["source"] = f"simulated by nissl: {name}"
    return out


def _motifs(seed: int) -> xr.Dataset:
    out = motifs(n_animals=1, absent=0, duration=360.0, seed=seed).isel(animal=0, drop=True)
    rng = np.random.default_rng(seed)
    group = out["motif_unit"].values[0] > 0
    drive = out["activity"].values[:, group].mean(1)
    speed = 0.1 + 0.05 * drive / drive.std() + 0.03 * rng.normal(size=len(drive))
    traces = out["activity"].values.copy()
    traces[300:340, 4:8] = np.nan  # a part of the picture out of focus
    traces[rng.random(traces.shape) < 0.002] = np.nan
    out = out.assign(activity=out["activity"].copy(data=traces))
    return out.assign(behaviour=(("behaviour_time", "variable"), speed[:, None])).assign_coords(
        behaviour_time=out["time"].values, variable=["speed"]
    )


def _states(seed: int) -> xr.Dataset:
    return simulate_switching_glm(n_units=16, n_states=3, n_trials=1, n_bins=6000, seed=seed).isel(trial=0, drop=True)


_SAMPLES: dict[str, Callable[[int], xr.Dataset]] = {"motifs": _motifs, "states": _states}
