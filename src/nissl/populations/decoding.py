"""What of a behaviour can be read from a population: ridge regression, the baseline of every decoder, with its control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from sklearn.linear_model import RidgeCV

from nissl.errors import InputError
from nissl.recordings import as_traces, on_clock
from nissl.statistics import against, circular_shifts

ALPHAS = np.logspace(-2, 6, 17)


def decode(
    recording: Any,
    behaviour: Any = None,
    *,
    folds: int = 5,
    gap: float | None = None,
    n_surrogates: int = 99,
    rate: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Read behaviour from activity by ridge regression, on stretches of time that were held out.

    Time is cut into `folds` stretches; each is predicted by a regression on the others, with `gap` seconds left out on both sides of it, since slow
    signals tell their neighbours. The control is the same with the behaviour shifted around its end by at least a twentieth of the recording: as slow,
    and unrelated.

    Parameters
    ----------
    recording
        Activity `(time, unit)` in any form, or a recording.
    behaviour
        `(time,)` or `(time, variable)` on the clock of the activity; the recording's own `behaviour` where None.
    folds
        Stretches of time.
    gap
        Seconds; a fiftieth of the recording by default.
    n_surrogates
        Shifted copies of the behaviour.
    rate
        Samples a second, where the recording has no clock.
    seed
        For the shifts.

    Returns
    -------
    pd.DataFrame
        A row a variable: `variable`, `correlation` of prediction and truth over all held-out samples, `r2`, `control` (mean correlation of shifted copies), `sd`, `z`,
        `p`, `samples`.

    Raises
    ------
    InputError
        No behaviour, one of another length, or one that never changes; too short a recording.

    Notes
    -----
    Shifting keeps its level for signals that are stationary over the recording (false positives of 5 to 10 % at p = 0.05 for correlation times up to
    a tenth of it); a drift over the whole recording, as from bleaching, makes almost any two signals agree (18 %): take it out first (Harris 2020,
    "Nonsense correlations in neuroscience").

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(500, 5)).cumsum(0)
    >>> decode(x, x[:, 0] - x[:, 3])["p"].tolist()
    [0.01]
    """
    traces = as_traces(recording, rate=rate, min_samples=20)
    target = _behaviour(recording, behaviour, traces)
    known = np.isfinite(traces.values).all(1) & np.isfinite(target.values).all(1)
    if folds < 2 or known.sum() < 20 * folds:
        raise InputError(
            f"{int(known.sum())} samples with all units and all behaviour known, in {folds} folds; this needs 2 folds of 20 samples or more"
        )
    x, y = traces.values[known], target.values[known]
    time = traces["time"].values[known]
    still = y.std(0) == 0
    if still.any():
        raise InputError(f"behaviour that never changes: {', '.join(map(str, target['variable'].values[still]))}")
    margin = (time[-1] - time[0]) / 50 if gap is None else gap
    copies = circular_shifts(y, n_surrogates, min_shift=max(len(y) // 20, 1), together=True, seed=seed)
    every = np.concatenate([y[None], copies]).transpose(1, 0, 2).reshape(len(y), -1)
    said = _predicted(x, every, time, folds, margin)
    r = _correlations(said, every).reshape(n_surrogates + 1, -1)
    test = against(r[0], r[1:], name="correlation of prediction and behaviour")
    error = ((said - every) ** 2).reshape(len(y), n_surrogates + 1, -1)[:, 0].mean(0)
    return pd.DataFrame(
        {
            "variable": [str(v) for v in target["variable"].values], "correlation": r[0], "r2": 1 - error / y.var(0), "control": test.mean, "sd": test.sd,
            "z": test.z, "p": test.p, "samples": len(y),
        }
    )  # fmt: skip


def _behaviour(recording: Any, behaviour: Any, traces: xr.DataArray) -> xr.DataArray:
    if behaviour is None:
        if not (isinstance(recording, xr.Dataset) and "behaviour" in recording):
            raise InputError("the recording holds no behaviour; give behaviour=, (time,) or (time, variable)")
        behaviour = on_clock(recording, "behaviour", traces["time"].values)
    if isinstance(behaviour, xr.DataArray):
        names = behaviour["variable"].values if "variable" in behaviour.coords else None
        values = np.asarray(behaviour.values, dtype=float)
    else:
        names, values = None, np.asarray(behaviour, dtype=float)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != traces.sizes["time"]:
        raise InputError(
            f"behaviour of shape {values.shape} for {traces.sizes['time']} samples of activity; give one value a sample, or put it on the clock: "
            "recordings.on_clock(recording, 'behaviour')"
        )
    return xr.DataArray(
        values, dims=("time", "variable"), coords={"variable": np.arange(values.shape[1]) if names is None else names}
    )


def _predicted(
    x: Float[np.ndarray, "time unit"], y: Float[np.ndarray, "time target"], time: np.ndarray, folds: int, margin: float
) -> Float[np.ndarray, "time target"]:
    """Each stretch from a regression on the others; all targets share one decomposition of the units."""
    out = np.empty_like(y)
    for test in np.array_split(np.arange(len(x)), folds):
        near = (time >= time[test[0]] - margin) & (time <= time[test[-1]] + margin)
        if (~near).sum() < 10:
            raise InputError(
                f"a gap of {margin:.4g} s leaves {int((~near).sum())} samples to learn from; give a smaller gap"
            )
        mean, sd = x[~near].mean(0), x[~near].std(0)
        scale = np.where(sd > 0, sd, 1)
        model = RidgeCV(ALPHAS, alpha_per_target=True).fit((x[~near] - mean) / scale, y[~near])
        out[test] = model.predict((x[test] - mean) / scale).reshape(len(test), -1)
    return out


def _correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's, column by column; 0 where a prediction is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.divide((a * b).sum(0), size, out=np.zeros(a.shape[1]), where=size > 0)
