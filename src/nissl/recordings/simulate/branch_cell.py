"""A neuron whose branches decide: synapses that fire together count if they sit together."""

from __future__ import annotations

import numpy as np
import xarray as xr
from jaxtyping import Bool
from scipy.signal import lfilter
from scipy.special import expit

from nissl.errors import InputError


def branch_cell(
    *,
    n_trials: int = 200,
    duration: float = 300.0,
    n_branches: int = 8,
    synapses_per_branch: int = 8,
    background: float = 5.0,
    volley: int = 6,
    interval: tuple[float, float] = (10.0, 30.0),
    plateau: float = 6.0,
    slope: float = 5.0,
    threshold: float = 2.5,
    tau_synapse: float = 5.0,
    tau_plateau: float = 40.0,
    tau_soma: float = 20.0,
    resistance: float = 5.0,
    seed: int = 0,
) -> xr.Dataset:
    """Input spikes, voltage and output spikes of a cell with plateau potentials in its branches.

    Besides background, input comes in volleys: as many synapses as `volley` fire in the same millisecond, with even chances
    all on one branch or each on a branch of its own. Both are the same number of spikes; only the first make a plateau.

    Parameters
    ----------
    n_trials, duration
        How many, and ms of each; all begin at rest.
    n_branches, synapses_per_branch
        Sizes. Channels lie in random order; the coordinate `branch` says where each ends.
    background
        Spikes a second of each channel.
    volley, interval
        Spikes of a volley, and least and most ms between two.
    plateau, slope, threshold
        Current of a plateau, and of the sigmoid that decides on it: plateau * sigmoid(slope (I - threshold)).
    tau_synapse, tau_plateau, tau_soma
        Time constants of synaptic traces, plateaus and soma, ms.
    resistance
        mV a unit of current.
    seed
        Of everything random.

    Returns
    -------
    xr.Dataset
        `spikes_in (trial, time, channel)`, `voltage (trial, time)` in mV, `spikes_out (trial, time)`, 0 or 1, and the truth:
        `plateau (trial, time, branch_index)`, `volley (trial, time)` with 1 where one lands on a single branch, -1 where it is
        scattered, 0 elsewhere. `time` is in ms, attribute `dt` too.

    Raises
    ------
    InputError
        Sizes, times or rates that cannot be; more spikes in a volley than synapses on a branch, or than branches.

    Notes
    -----
    I_j = Σ of 5-ms traces of the branch's spikes; P_j follows plateau * sigmoid(slope (I_j - threshold)) at tau_plateau; the
    soma follows Σ P_j at tau_soma, and V = -70 mV + resistance * soma. Spikes are drawn at 200 Hz * sigmoid((V + 62 mV) / 1 mV),
    and do not feed back on the voltage.

    Examples
    --------
    >>> cell = branch_cell(n_trials=3, seed=1)
    >>> dict(cell.spikes_in.sizes)
    {'trial': 3, 'time': 300, 'channel': 64}
    """
    _check(n_trials, duration, n_branches, synapses_per_branch, volley, interval, background)
    for name, tau in (("tau_synapse", tau_synapse), ("tau_plateau", tau_plateau), ("tau_soma", tau_soma)):
        if not 0 < tau < np.inf:
            raise InputError(f"{name}={tau}; allowed: a positive number of ms")
    rng = np.random.default_rng(seed)
    times = round(duration)
    landed = _volleys(n_trials, times, interval, rng)
    spikes = rng.random((n_trials, times, n_branches, synapses_per_branch)) < background / 1000
    together, apart = landed == 1, landed == -1
    spikes[together] |= _on_one_branch(int(together.sum()), n_branches, synapses_per_branch, volley, rng)
    spikes[apart] |= _on_many_branches(int(apart.sum()), n_branches, synapses_per_branch, volley, rng)

    current = _leaky(spikes.sum(-1).astype(float), tau_synapse, average=False)
    plateaus = _leaky(plateau * expit(slope * (current - threshold)), tau_plateau)
    voltage = -70.0 + resistance * _leaky(plateaus.sum(-1), tau_soma)
    fired = rng.random(voltage.shape) < 0.2 * expit(voltage + 62.0)
    order = rng.permutation(n_branches * synapses_per_branch)
    return xr.Dataset(
        {
            "spikes_in": (
                ("trial", "time", "channel"),
                spikes.reshape(n_trials, times, -1)[..., order].astype(np.int8),
            ),
            "spikes_out": (("trial", "time"), fired.astype(np.int8)),
            "voltage": (("trial", "time"), voltage, {"units": "mV"}),
            "plateau": (("trial", "time", "branch_index"), plateaus),
            "volley": (("trial", "time"), landed),
        },
        coords={
            "time": ("time", np.arange(times, dtype=float), {"units": "ms"}),
            "branch": ("channel", order // synapses_per_branch),
        },
        attrs={"dt": 1.0, "time_unit": "ms", "source": "nissl.recordings.simulate.branch_cell", "seed": seed},
    )


def _leaky(x: np.ndarray, tau: float, average: bool = True) -> np.ndarray:
    """Leaky sum along the second axis, or leaky average, with a time constant in steps."""
    keep = np.exp(-1 / tau)
    return lfilter([1 - keep if average else 1.0], [1.0, -keep], x, axis=1)  # type: ignore[return-value]


def _volleys(trials: int, times: int, interval: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """When volleys come, and of which kind: 1 on one branch, -1 scattered."""
    most = int(np.ceil(times / interval[0])) + 1
    when = rng.uniform(*interval, (trials, most)).cumsum(1).round().astype(int)
    trial, which = np.nonzero(when < times)
    landed = np.zeros((trials, times), np.int8)
    landed[trial, when[trial, which]] = rng.choice([1, -1], len(trial))
    return landed


def _on_one_branch(
    n: int, branches: int, synapses: int, volley: int, rng: np.random.Generator
) -> Bool[np.ndarray, "volley branch synapse"]:
    """Different synapses of one branch, drawn anew for each volley."""
    spikes = np.zeros((n, branches, synapses), bool)
    chosen = rng.random((n, synapses)).argsort(1)[:, :volley]
    spikes[np.arange(n)[:, None], rng.integers(branches, size=n)[:, None], chosen] = True
    return spikes


def _on_many_branches(
    n: int, branches: int, synapses: int, volley: int, rng: np.random.Generator
) -> Bool[np.ndarray, "volley branch synapse"]:
    """One synapse on each of several branches, drawn anew for each volley."""
    spikes = np.zeros((n, branches, synapses), bool)
    chosen = rng.random((n, branches)).argsort(1)[:, :volley]
    spikes[np.arange(n)[:, None], chosen, rng.integers(synapses, size=(n, volley))] = True
    return spikes


def _check(
    n_trials: int,
    duration: float,
    n_branches: int,
    synapses: int,
    volley: int,
    interval: tuple[float, float],
    background: float,
) -> None:
    if n_trials < 1 or round(duration) < 1 or n_branches < 1 or synapses < 1:
        raise InputError(
            f"{n_trials} trials of {duration} ms, {n_branches} branches of {synapses} synapses; give 1 or more of each"
        )
    if not 0 <= volley <= min(n_branches, synapses):
        raise InputError(
            f"volley={volley}; allowed: 0 to {min(n_branches, synapses)}, since its spikes fit on one branch, and on a branch each"
        )
    if not 1 <= interval[0] <= interval[1]:
        raise InputError(f"interval={interval}; give the least and the most ms between volleys, from 1")
    if not 0 <= background <= 1000:
        raise InputError(f"background={background} spikes a second; allowed: 0 to 1000, one a millisecond")
