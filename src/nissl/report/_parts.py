"""The parts of a survey, each a question with its test. A part that a recording cannot answer raises `InputError`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm, rankdata
from sklearn.metrics import adjusted_rand_score

from nissl import populations, recordings
from nissl.errors import InputError, NisslError
from nissl.populations import HMMGLM, DynamicConnectome, functional_connectivity
from nissl.populations.dynamics.report import dynamics_report
from nissl.recordings import worm
from nissl.report.survey import Decoding, Factors, States, Wiring
from nissl.statistics import against, circular_shifts

Kind = Literal["poisson", "gaussian"]
_BLOCKS = 16  # stretches of time; every other one is held out
_SHIFTS = 99
_STATES = (1, 2, 3, 4)
_FEWEST = 200  # samples below which groups are read into noise
_LEAST = 400  # samples below which states and decoders only fit noise


def states(data: xr.Dataset, x: xr.DataArray, shown: xr.DataArray, spikes: bool, seed: int) -> States:
    """Hidden states: how many predict held-out stretches best, with couplings between units and without."""
    if x.sizes["time"] < _LEAST:
        raise InputError(f"{x.sizes['time']} samples; states need {_LEAST} or more")
    # Calcium has heavy tails, which a Gaussian state takes for states of their own; ranks have none.
    values = x if spikes else _normal_scores(x)
    kind: Kind = "poisson" if spikes else "gaussian"
    models, table = _held_out(values, kind, seed)
    family, best = max(models, key=lambda m: table[m])
    gain = table[family, best] - table[family, 1]
    control = 0.0
    if best > 1:
        shifted = _shifted(values, seed)
        _, null = _held_out(shifted, kind, seed, [(family, 1), (family, best)])
        control = null.get((family, best), null[family, 1]) - null[family, 1]
    model = models[family, best]
    path = model.predict(values)
    path = path.isel(trial=0, drop=True) if "trial" in path.dims else path
    rows = [
        {"model": f"{n} state{'s' * (n > 1)}, {'with' if name == 'coupled' else 'no'} couplings", "score": score}
        for (name, n), score in table.items()
    ]
    z = _standardised(x)
    alive = int(model.n_states_)
    profile = xr.concat([z.where(path.values[:, None] == s).mean("time") for s in range(alive)], "state")
    occupancy = np.array([float((path == s).mean()) for s in range(alive)])
    dwell = np.array([_visit(path.values == s) * _step(x) for s in range(alive)])
    return States(path, family == "coupled", pd.DataFrame(rows), occupancy, dwell, profile, float(gain), float(control))


def _held_out(
    values: xr.DataArray, kind: Kind, seed: int, asked: list[tuple[str, int]] | None = None
) -> tuple[dict[tuple[str, int], HMMGLM], dict[tuple[str, int], float]]:
    """Models of every other stretch, and the log likelihood of the rest under each."""
    length = values.sizes["time"] // _BLOCKS
    cut = values.isel(time=slice(0, length * _BLOCKS)).values.reshape(_BLOCKS, length, -1)
    coords = {"time": values["time"].values[:length], "unit": values["unit"].values}
    train, test = (xr.DataArray(cut[i::2], dims=("trial", "time", "unit"), coords=coords) for i in (0, 1))
    models, scores = {}, {}
    for family, n in asked or [(f, n) for f in ("rates", "coupled") for n in _STATES]:
        coupled = family == "coupled"
        model = HMMGLM(
            n_states=n, prior="gaussian" if coupled else None, observations=kind, coupling=coupled, lags=3, n_restarts=2, max_iter=40, seed=seed,
            progress=False,
        )  # fmt: skip
        try:
            models[family, n], scores[family, n] = model.fit(train), float(model.score(test))
        except InputError:
            if n == 1:  # a unit is silent in every other stretch, or the like: then no number of states will do
                raise
    return models, scores


def _visit(inside: np.ndarray) -> float:
    """Mean length of the runs of True, in samples; 0 where there is none."""
    visits = int((np.diff(inside.astype(int), prepend=0) == 1).sum())
    return float(inside.sum()) / max(visits, 1)


def _normal_scores(x: xr.DataArray) -> xr.DataArray:
    """Each unit's ranks as quantiles of a normal distribution; NaN stays."""
    ranks = rankdata(x.values, axis=0, nan_policy="omit")
    return x.copy(data=norm.ppf((ranks - 0.5) / np.maximum((~np.isnan(x.values)).sum(0), 1)))


def _shifted(x: xr.DataArray, seed: int) -> xr.DataArray:
    """Every unit rolled by a lag of its own, at least a twentieth of the recording."""
    return x.copy(data=circular_shifts(x.values, 1, min_shift=max(x.sizes["time"] // 20, 1), seed=seed)[0])


def _step(x: xr.DataArray) -> float:
    return float(np.median(np.diff(x["time"].values)))


def factors(data: xr.Dataset, x: xr.DataArray, shown: xr.DataArray, spikes: bool, seed: int) -> Factors:
    """Groups of units that change together, and when; beside shifted units, and beside Leiden on plain correlations."""
    if x.sizes["time"] < _FEWEST:
        raise InputError(f"{x.sizes['time']} samples; factors need {_FEWEST} or more")
    smooth = max(0.5, 2 * _step(x))
    intervals = data[[v for v in data.data_vars if str(v).startswith("stimulus_") and data[v].dims == ("interval",)]]
    recording = intervals.assign(activity=x)
    model = DynamicConnectome(smooth=smooth, n_restarts=3, seed=seed, progress=False).fit(recording)
    shifted = _shifted(x, seed)
    n = model.time_factors_.sizes["component"]
    null = DynamicConnectome(n_factors=n, smooth=smooth, n_restarts=1, seed=seed, progress=False).fit(shifted)
    communities = model.communities_.isel(level=0)
    baseline, _ = populations.correlation_communities(x, seed=seed)
    agreement = float(adjusted_rand_score(communities.isel(component=0).values, baseline))
    return Factors(
        model.time_factors_, communities, model.atlas(), float(model.explained_variance_), float(null.explained_variance_), baseline, agreement
    )  # fmt: skip


def rhythms(data: xr.Dataset, x: xr.DataArray, shown: xr.DataArray, spikes: bool, seed: int) -> pd.DataFrame:
    """Sparsity, synchrony, nested rhythms and sequences, each beside its surrogates."""
    names = x["unit"].values
    if spikes and "spike_time" in data:
        return dynamics_report(_spikes_of(data, names), seed=seed)
    return dynamics_report(shown.sel(unit=names).to_dataset(name="spikes" if spikes else "activity"), seed=seed)


def _spikes_of(data: xr.Dataset, names: np.ndarray) -> xr.Dataset:
    """The spike times of some units, and what else belongs to the recording as a whole."""
    place = {str(name): i for i, name in enumerate(names)}
    index = np.array([place.get(str(unit), -1) for unit in data["unit"].values])[data["spike_unit"].values]
    others = [v for v in ("lfp", "event_start", "event_stop") if v in data]
    kept = data[others].drop_vars("unit", errors="ignore").assign_coords(unit=names)
    return kept.assign(
        spike_time=("spike", data["spike_time"].values[index >= 0]), spike_unit=("spike", index[index >= 0])
    )


def wiring(data: xr.Dataset, x: xr.DataArray, shown: xr.DataArray, spikes: bool, seed: int) -> Wiring:
    """Which units lead which by one step, beyond what shifted units do; and, where the names are those of the worm, beside its wiring."""
    step = _step(x)
    lagged = functional_connectivity(x, "lagged")
    filled = np.nan_to_num(_standardised(x).values)
    copies = circular_shifts(filled, _SHIFTS, min_shift=max(len(filled) // 20, 1), seed=seed)
    null = np.einsum("kti,ktj->kij", copies[:, 1:], copies[:, :-1], optimize=True) / (len(filled) - 1)
    each = np.arange(null.shape[1])
    null[:, each, each] = np.nan
    test = against(lagged.values, null, name="lagged correlation", tail="two-sided", correct="max")
    return Wiring(lagged, test, step, _structure(lagged))


def _structure(functional: xr.DataArray) -> Any:
    """The lagged correlation beside the worm's chemical synapses and gap junctions, or why not."""
    try:
        known = set(worm.canonical_neurons())
        if sum(str(n) in known for n in functional["target"].values) < 8:
            return None
        return populations.structure_function(worm.connectome("Cook2019Herm"), functional)
    except NisslError as error:
        return str(error)


def decoding(data: xr.Dataset, x: xr.DataArray, shown: xr.DataArray, spikes: bool, seed: int) -> Decoding:
    """Ridge regression of the behaviour on the units, on held-out stretches, beside behaviour shifted in time."""
    if "behaviour" not in data:
        raise InputError("the recording holds no behaviour")
    on_clock = recordings.on_clock(data, "behaviour", x["time"].values)
    values = on_clock.values.reshape(len(on_clock), -1).astype(float)
    moves = np.nanstd(values, axis=0) > 0
    if not moves.any():
        raise InputError("no behaviour that changes while the units were recorded")
    names = on_clock["variable"].values if "variable" in on_clock.coords else np.arange(values.shape[1])
    chosen = xr.DataArray(values[:, moves], dims=("time", "variable"), coords={"variable": names[moves]})
    return Decoding(populations.decode(x, chosen, n_surrogates=_SHIFTS, seed=seed))


def _standardised(x: xr.DataArray) -> xr.DataArray:
    return (x - x.mean("time")) / x.std("time")
