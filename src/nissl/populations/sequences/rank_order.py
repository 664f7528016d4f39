"""Sequences without a template: orders of firing that recur, and how varied they are."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Int

from nissl.errors import InputError
from nissl.populations._spike_trains import as_spike_trains
from nissl.populations.sequences.events import event_windows
from nissl.recordings._traces import listed
from nissl.statistics import SurrogateTest, against


@dataclass(frozen=True)
class RankOrder:
    """Whether units fire in the same order again and again.

    Attributes
    ----------
    test
        Mean rank correlation of pairs of events, against events whose units change places.
    correlation
        `(event, event)` rank correlation over units active in both; NaN with fewer than `min_shared` of them.
    rank
        `(event, unit)`, 0 to 1 from first to last; NaN where a unit is silent.
    order
        `(target, source)` Dataset: `effect`, the share of their common events in which the source fires before the target; `z` and `p` (two-sided,
        largest over all pairs).
    """

    test: SurrogateTest
    correlation: xr.DataArray
    rank: xr.DataArray
    order: xr.Dataset


def rank_order(
    events: Any, spikes: Any = None, *, min_shared: int = 4, n_permutations: int = 500, seed: int = 0
) -> RankOrder:
    """Compare the order of first spikes across events.

    Parameters
    ----------
    events
        First-spike times `(event, unit)`, NaN for silent units; or a recording with spike times and `event_start`, `event_stop`; or pairs of
        start and stop with `spikes` given.
    spikes
        Spike trains, where `events` has none.
    min_shared
        Least number of units active in both events of a pair.
    n_permutations
        Surrogates: in each event, the active units' ranks are dealt out anew, so how many and which units take part stays.

    Raises
    ------
    InputError
        Fewer than two events or `min_shared` units, or no two events with as many units in common.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> first = np.arange(10.0) + rng.normal(0, 1, (20, 10))
    >>> found = rank_order(first)
    >>> bool(found.test.effect > 0.8), found.test.p < 0.01
    (True, True)

    Notes
    -----
    Spearman correlation of first spikes, as in Foster and Wilson 2006 without their template.
    """
    first, names = _first_spikes(events, spikes)
    if min_shared < 3 or n_permutations < 1:
        raise InputError(
            f"min_shared {min_shared}, {n_permutations} permutations; a rank correlation needs 3 units and a test 1 permutation or more"
        )
    if len(first) < 2 or first.shape[1] < min_shared:
        raise InputError(
            f"{len(first)} events of {first.shape[1]} units; give two events and {min_shared} units or more"
        )
    silent = np.isnan(first).all(0)
    if silent.any():
        warnings.warn(f"silent in all events: {listed(names[silent])}", stacklevel=2)
    active = ~np.isnan(first)
    rank = _ranks(first)
    shared = active.astype(float) @ active.T
    usable = np.triu(shared >= min_shared, 1)
    if not usable.any():
        raise InputError(
            f"no two events have {min_shared} active units in common; give a smaller min_shared or longer events"
        )
    dealt = _dealt(rank, n_permutations, seed)
    own = _correlations(rank[None], active)[0]
    null = np.concatenate(
        [_correlations(d, active)[:, usable] for d in np.array_split(dealt, max(1, n_permutations // 20))]
    )
    test = against(float(own[usable].mean()), null.mean(1), name="rank-order correlation of events")
    order = _edges(rank, dealt, active, names)
    event = np.arange(len(first))
    return RankOrder(
        test,
        xr.DataArray(
            np.where(usable | usable.T, own, np.nan),
            dims=("event", "event_2"),
            coords={"event": event, "event_2": event},
        ),
        xr.DataArray(rank, dims=("event", "unit"), coords={"event": event, "unit": names}),
        order,
    )


def _first_spikes(events: Any, spikes: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(events, xr.Dataset | pd.DataFrame) or spikes is not None:
        trains = as_spike_trains(events if spikes is None else spikes)
        starts, stops = event_windows(events)
        first = np.full((len(starts), len(trains.names)), np.nan)
        order = np.argsort(starts)
        event = np.searchsorted(starts[order], trains.times, side="right") - 1
        event = np.where(event >= 0, order[np.maximum(event, 0)], 0)
        inside = (trains.times >= starts[event]) & (trains.times < stops[event])
        np.fmin.at(first, (event[inside], trains.unit[inside]), trains.times[inside])
        return first, trains.names
    if isinstance(events, xr.DataArray):
        names = events["unit"].values if "unit" in events.coords else np.arange(events.shape[-1])
        return events.transpose(..., "unit").values.astype(float) if "unit" in events.dims else events.values, names
    first = np.asarray(events.detach().cpu() if hasattr(events, "detach") else events, dtype=float)
    if first.ndim != 2 or np.isinf(first).any():
        raise InputError(f"first spikes of shape {first.shape}; give finite times (event, unit), NaN for silent units")
    return first, np.arange(first.shape[1])


def _ranks(first: Float[np.ndarray, "event unit"]) -> Float[np.ndarray, "event unit"]:
    from scipy.stats import rankdata

    rank = rankdata(first, axis=1, nan_policy="omit") - 1
    last = np.maximum((~np.isnan(first)).sum(1, keepdims=True) - 1, 1)
    return rank / last


def _dealt(rank: np.ndarray, n: int, seed: int) -> Float[np.ndarray, "surrogate event unit"]:
    """Ranks of each event's active units in random order."""
    rng = np.random.default_rng(seed)
    missing = np.isnan(rank)
    place = np.argsort(missing, axis=1, kind="stable")
    source = np.argsort(np.where(missing, 2.0, rng.random((n, *rank.shape))), axis=-1)
    moved = np.take_along_axis(np.broadcast_to(rank, (n, *rank.shape)), source, -1)
    out = np.empty_like(moved)
    np.put_along_axis(out, np.broadcast_to(place, out.shape), moved, -1)
    return out


def _correlations(rank: np.ndarray, active: np.ndarray) -> Float[np.ndarray, "surrogate event event"]:
    """Correlation of ranks over the units that both events share, for all pairs by products."""
    x, a = np.nan_to_num(rank), active.astype(float)
    n = a @ a.T
    xt = np.swapaxes(x, -1, -2)
    sums, squares = x @ a.T, (x**2) @ a.T  # [e, f]: of event e over the units that f has too
    cross = x @ xt - sums * np.swapaxes(sums, -1, -2) / np.maximum(n, 1)
    spread = squares - sums**2 / np.maximum(n, 1)
    size = np.sqrt(np.maximum(spread * np.swapaxes(spread, -1, -2), 0))
    return np.where(size > 1e-12, cross / np.where(size > 1e-12, size, 1), 0)


def _edges(rank: np.ndarray, dealt: np.ndarray, active: np.ndarray, names: np.ndarray) -> xr.Dataset:
    """How often the source fires before the target, [target, source]."""
    common = active.T.astype(float) @ active
    possible = (common > 0) & ~np.eye(len(names), dtype=bool)

    def share(r: np.ndarray) -> np.ndarray:
        before = sum((e[None, :] < e[:, None]).astype(float) + 0.5 * (e[None, :] == e[:, None]) for e in r)
        return np.asarray(before)[possible] / common[possible]

    with np.errstate(invalid="ignore"):
        test = against(
            share(rank),
            np.stack([share(d) for d in dealt]),
            name="share of events in this order",
            tail="two-sided",
            correct="max",
        )
    fields = {}
    for key, values in {
        "effect": test.effect,
        "surrogate_mean": test.mean,
        "surrogate_sd": test.sd,
        "z": test.z,
        "p": test.p,
    }.items():
        full = np.full(possible.shape, np.nan)
        full[possible] = values
        fields[key] = (("target", "source"), full)
    fields["events"] = (("target", "source"), common)
    return xr.Dataset(
        fields, coords={"target": names, "source": names}, attrs={"surrogates": test.n, "tail": test.tail}
    )


@dataclass(frozen=True)
class Flexibility:
    """How varied sequences over the same items are.

    Attributes
    ----------
    distinct
        Number of different sequences.
    entropy
        Of the distribution over sequences, bits (plug-in estimate).
    transition_entropy
        Mean entropy of what follows an item, bits, against items in random order: low where the same steps recur, high where items are
        recombined.
    repeats
        Share of sequences that occurred before.
    n
        Number of sequences.
    """

    distinct: int
    entropy: float
    transition_entropy: SurrogateTest
    repeats: float
    n: int


def flexibility(sequences: Any, *, n_permutations: int = 200, seed: int = 0) -> Flexibility:
    """Entropy and number of distinct sequences over the same items, against their items in random order.

    Parameters
    ----------
    sequences
        Lists of items (units in order of first spike, states visited), at least two items each.

    Raises
    ------
    InputError
        No sequences, or shorter ones than two items.

    Examples
    --------
    >>> found = flexibility([[0, 1, 2, 3]] * 5 + [[0, 1, 3, 2]] * 5)
    >>> found.distinct, found.entropy, found.transition_entropy.p < 0.05
    (2, 1.0, True)
    """
    lists = [list(s) for s in sequences]
    short = [i for i, s in enumerate(lists) if len(s) < 2]
    if not lists or short:
        raise InputError(f"{len(lists)} sequences, of which {len(short)} have fewer than two items; leave those out")
    items, flat = np.unique(np.array([i for s in lists for i in s]), return_inverse=True)
    lengths = np.array([len(s) for s in lists])
    which = np.repeat(np.arange(len(lists)), lengths)
    _, counts = np.unique(np.array([" ".join(map(str, s)) for s in lists]), return_counts=True)
    rng = np.random.default_rng(seed)
    orders = np.argsort(which + rng.random((n_permutations, len(flat))), axis=1)
    test = against(
        _step_entropy(flat, which, len(items)),
        [_step_entropy(flat[o], which, len(items)) for o in orders],
        name="entropy of the next item (bits)",
        tail="less",
    )
    share = counts / counts.sum()
    return Flexibility(
        len(counts), float(-(share * np.log2(share)).sum()) + 0.0, test, 1 - len(counts) / len(lists), len(lists)
    )


def _step_entropy(flat: Int[np.ndarray, "item"], which: np.ndarray, n: int) -> float:
    inside = which[1:] == which[:-1]
    table = np.bincount(flat[:-1][inside] * n + flat[1:][inside], minlength=n * n).reshape(n, n).astype(float)
    leaving = table.sum(1, keepdims=True)
    share = table / np.where(leaving > 0, leaving, 1)
    each = -np.where(share > 0, share * np.log2(np.where(share > 0, share, 1)), 0).sum(1)
    return float((each * leaving[:, 0]).sum() / leaving.sum())
