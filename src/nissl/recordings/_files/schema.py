"""How a recording looks in memory: which variable has which axes, and which clock belongs to what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError
from nissl.recordings._names import is_name


@dataclass(frozen=True)
class Request:
    """What the caller has said about a file."""

    activity: str | None = None
    time: str | int | None = None
    units: str | list[str] | None = None
    rate: float | None = None
    orientation: str | None = None
    series: str | None = None
    mend: frozenset[str] = field(default_factory=frozenset)


def build(
    *,
    activity: xr.Variable | None = None,
    time: np.ndarray | None = None,
    names: Any = None,
    spikes: tuple[np.ndarray, np.ndarray] | None = None,
    attrs: dict[str, Any] | None = None,
) -> xr.Dataset:
    """A recording from its parts; units without names are numbered from 0.

    Parameters
    ----------
    activity
        `(time, unit)`.
    time
        Seconds.
    names
        One a unit.
    spikes
        Times in seconds and the index of each spike's unit, in any order.
    """
    out = xr.Dataset(attrs={k: v for k, v in (attrs or {}).items() if v not in (None, "")})
    if activity is not None:
        assert time is not None
        if len(time) != activity.shape[0]:
            raise InputError(f"{activity.shape[0]} samples of activity, but {len(time)} times; each sample needs one")
        out["activity"] = activity
        out = out.assign_coords(time=("time", np.asarray(time, dtype=np.float64), {"units": "s"}))
        names = list(range(activity.shape[1])) if names is None else names
        if len(names) != activity.shape[1]:
            raise InputError(f"{activity.shape[1]} units, but {len(names)} names; each unit needs one")
        if len(time) > 1:
            out.attrs.setdefault("rate", float(f"{1 / np.median(np.diff(out['time'].values)):.12g}"))
    if spikes is not None:
        when, whose = (np.asarray(part) for part in spikes)
        order = np.argsort(when, kind="stable")
        out["spike_time"] = ("spike", when[order].astype(np.float64), {"units": "s"})
        out["spike_unit"] = ("spike", whose[order].astype(np.int64))
        names = list(range(int(whose.max()) + 1 if len(whose) else 0)) if names is None else names
    if names is not None:
        out = out.assign_coords(unit=("unit", unit_names(names)))
    return out


def unit_names(names: Any) -> np.ndarray:
    """Names as strings; a unit whose name is empty goes by its number."""
    texts = [(n.decode() if isinstance(n, bytes) else str(n)).strip() for n in np.asarray(names, dtype=object).ravel()]
    taken = set(texts)
    out = []
    for i, text in enumerate(texts):
        if text and text.lower() not in ("nan", "none"):
            out.append(text)
            continue
        number = str(i)
        while number in taken:
            number = f"unit {number}"
        taken.add(number)
        out.append(number)
    return np.asarray(out, dtype=object)


def named(recording: xr.Dataset) -> np.ndarray:
    """Which units have a name that says which neuron they are."""
    return np.array([is_name(n) for n in recording["unit"].values], dtype=bool)


def even_times(count: int, rate: float, start: float = 0.0) -> np.ndarray:
    """Times of samples at an even rate, in seconds."""
    if not (np.isfinite(rate) and rate > 0):
        raise InputError(f"a rate of {rate} Hz; give a number above 0")
    return start + np.arange(count) / rate
