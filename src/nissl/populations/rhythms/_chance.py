"""Surrogates in batches that fit memory, and tests as labelled arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError
from nissl.populations.rhythms._signals import Signals
from nissl.statistics import SurrogateTest, circular_shifts

BUDGET = 4_000_000  # numbers in one batch of surrogates


def over_shifts(
    statistic: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    n: int,
    *,
    axis: int = 0,
    min_shift: int = 1,
    together: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """A batched statistic `(surrogate, *x.shape) -> (surrogate, ...)` of n circularly shifted copies of x, batch by batch."""
    if n < 1:
        raise InputError(f"{n} surrogates; give at least 1")
    size = max(1, min(n, BUDGET // max(x.size, 1)))
    seeds = np.random.SeedSequence(seed).generate_state(-(-n // size))
    parts = [
        statistic(
            circular_shifts(x, min(size, n - k * size), axis=axis, min_shift=min_shift, together=together, seed=int(s))
        )
        for k, s in enumerate(seeds)
    ]
    return np.concatenate(parts)


def least_shift(signals: Signals, bandwidth: float, min_shift: float | None) -> int:
    """The least circular shift in samples: a second, or as long as a signal of this bandwidth remembers itself."""
    if min_shift is None:
        min_shift = 1 / bandwidth if signals.per_token else max(1.0, 1 / bandwidth)
    if not min_shift > 0:
        raise InputError(f"a least shift of {min_shift} s; give one above 0")
    return max(1, int(np.ceil(min_shift * signals.rate)))


def labelled(test: SurrogateTest, dims: tuple[str, ...], coords: Mapping[str, Any], **more: Any) -> xr.Dataset:
    """A test as a Dataset: `effect`, `surrogate_mean`, `surrogate_sd`, `z`, `p` with names."""
    fields = {
        "effect": test.effect, "surrogate_mean": test.mean, "surrogate_sd": test.sd, "z": test.z, "p": test.p, **more,
    }  # fmt: skip
    return xr.Dataset(
        {name: (dims, np.asarray(values)) for name, values in fields.items()},
        coords=dict(coords),
        attrs={"measure": test.name, "surrogates": test.n, "tail": test.tail},
    )


def blank_diagonal(test: SurrogateTest) -> SurrogateTest:
    """A pair test without the pairs of a unit with itself, which mean nothing."""
    effect, mean, sd, z, p = (
        np.where(np.eye(len(test.effect), dtype=bool), np.nan, v)
        for v in (test.effect, test.mean, test.sd, test.z, test.p)
    )
    return SurrogateTest(test.name, effect, mean, sd, z, p, test.n, test.tail, test.surrogates)
