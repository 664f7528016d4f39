"""Decoded states that follow each other along known transitions, ahead or back."""

from __future__ import annotations

from itertools import islice
from itertools import permutations as orders
from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError, unknown
from nissl.recordings import as_traces
from nissl.statistics import against


def sequenceness(
    states: Any,
    transition: Float[np.ndarray, "target source"],
    *,
    max_lag: float,
    n_permutations: int = 200,
    rate: float | None = None,
    method: Literal["difference", "forward", "backward"] = "difference",
    seed: int = 0,
) -> xr.Dataset:
    """Test whether decoded states follow each other along a transition matrix, and after what lag.

    Parameters
    ----------
    states
        Evidence for each state `(time, unit)`, a unit a state: decoded probabilities, or activity itself.
    transition
        `(target, source)`: element [i, j] is 1 (or a probability) where j leads to i.
    max_lag
        Longest lag in seconds (tokens).
    n_permutations
        Transition matrices with their states renamed; p is by the largest over all lags.
    method
        `difference` of forward and backward, in which what is common to both (autocorrelation, rhythms) cancels; or one of them.

    Returns
    -------
    xarray.Dataset
        Along `lag` (seconds): `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p` (two-sided for `difference`), `forward` and `backward`, the mean
        correlation of the source's evidence with the target's a lag later, and the reverse.

    Raises
    ------
    InputError
        Shapes that do not fit, a symmetric matrix (no direction to find), gaps, lags beyond half of the recording.

    Examples
    --------
    >>> states = np.zeros((400, 4)); at = np.arange(0, 396, 10)
    >>> for k in range(4): states[at + k, k] = 1  # 0 -> 1 -> 2 -> 3, one step apart
    >>> found = sequenceness(states + 0.1 * np.random.default_rng(0).normal(size=states.shape), np.eye(4, k=-1), max_lag=5)
    >>> int(found.effect.idxmax()), bool(found.effect.max() > 0.5)
    (1, True)

    Notes
    -----
    Kurth-Nelson et al. 2016; Liu et al. 2021. With four states there are 24 names, so p cannot fall below about 1/12.
    """
    traces = as_traces(states, ("time", "unit"), rate=rate, min_units=3, missing="raise")
    steps = np.asarray(transition, dtype=float)
    x = traces.values
    size, units = x.shape
    if steps.shape != (units, units) or not np.isfinite(steps).all():
        raise InputError(
            f"transitions of shape {steps.shape} for {units} states; give a finite matrix (target, source)"
        )
    steps = steps * ~np.eye(units, dtype=bool)
    if method not in ("difference", "forward", "backward"):
        raise unknown("method", method, ("difference", "forward", "backward"))
    if not steps.any() or (method == "difference" and np.allclose(steps, steps.T)):
        raise InputError(
            "transitions that are empty or the same both ways; there is no direction to find: method='forward' compares with others"
        )
    interval = float(np.median(np.diff(traces["time"].values)))
    lags = np.arange(1, int(max_lag / interval + 1e-6) + 1)
    if not len(lags) or lags[-1] > size // 2:
        raise InputError(f"lags up to {max_lag:g}; allowed: {interval:g} to {interval * (size // 2):g}")
    x = (x - x.mean(0)) / x.std(0)
    # [lag, i, j]: correlation of state i with state j a lag before.
    lagged = np.stack([x[k:].T @ x[:-k] / (size - k) for k in lags])
    rng = np.random.default_rng(seed)
    if units <= 6:  # few enough names to go through all of them but the true one
        named = np.array(list(islice(orders(range(units)), 1, None)))
        named = named[rng.permutation(len(named))[:n_permutations]]
    else:
        named = rng.random((n_permutations, units)).argsort(1)
    total = steps.sum()

    def along(order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m = steps[np.ix_(order, order)] / total
        return np.einsum("lij,ij->l", lagged, m), np.einsum("lij,ji->l", lagged, m)

    def statistic(order: np.ndarray) -> np.ndarray:
        forward, backward = along(order)
        return {"difference": forward - backward, "forward": forward, "backward": backward}[method]

    own = np.arange(units)
    null = np.stack([statistic(o) for o in named])
    test = against(
        statistic(own),
        null,
        name=f"sequenceness ({method})",
        tail="two-sided" if method == "difference" else "greater",
        correct="max",
    )
    forward, backward = along(own)
    fields = {"effect": test.effect, "surrogate_mean": test.mean, "surrogate_sd": test.sd, "z": test.z, "p": test.p}
    fields |= {"forward": forward, "backward": backward}
    return xr.Dataset(
        {k: ("lag", v) for k, v in fields.items()}, coords={"lag": lags * interval},
        attrs={"surrogates": test.n, "tail": test.tail, "method": method},
    )  # fmt: skip
