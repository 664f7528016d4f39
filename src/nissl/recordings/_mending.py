"""What can be put right in a recording when its owner asks for it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from nissl.recordings._assembly import is_clock

MENDS = ("duplicates", "negative", "order", "outside")


def mended(r: xr.Dataset, mend: Iterable[str]) -> xr.Dataset:
    """The recording with what was asked to be mended: see `open`."""
    mend = set(mend)
    if "duplicates" in mend and "unit" in r.coords:
        seen: dict[str, int] = {}
        names = []
        for name in map(str, r["unit"].values):
            seen[name] = seen.get(name, 0) + 1
            names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
        r = r.assign_coords(unit=("unit", np.asarray(names, dtype=object), r["unit"].attrs))
    if "order" in mend:
        for clock in [str(c) for c in r.variables if is_clock(str(c)) and r[c].dims == (c,)]:
            _, first = np.unique(r[clock].values, return_index=True)
            if len(first) != r.sizes[clock] or (np.diff(first) < 0).any():
                r = r.isel({clock: first})
        if "spike_time" in r:
            r = r.isel(spike=np.argsort(r["spike_time"].values, kind="stable"))
    if "outside" in mend and "spike_time" in r:
        r = r.isel(spike=np.flatnonzero(inside(r)))
    if "negative" in mend:
        clocks = [str(n) for n in r.variables if is_clock(str(n)) and r[n].dtype.kind in "fiu" and r[n].size]
        earliest = min((float(np.nanmin(r[n].values)) for n in clocks), default=0.0)
        if earliest < 0:
            moved = {n: (r[n].dims, r[n].values - earliest, r[n].attrs) for n in clocks}
            r = r.assign_coords({n: v for n, v in moved.items() if n in r.coords}).assign(
                {n: v for n, v in moved.items() if n not in r.coords}
            )
            r.attrs["start_time"] = earliest
    return r


def inside(r: xr.Dataset) -> np.ndarray:
    """Which spikes lie in the time that was recorded: each unit's observed intervals, else attributes `start` and `stop`, else all."""
    when, whose = r["spike_time"].values, r["spike_unit"].values
    keep = np.ones(len(when), dtype=bool)
    if {"observed_start", "observed_stop", "observed_unit"} <= set(r.variables):
        keep = np.zeros(len(when), dtype=bool)
        spans = zip(r["observed_start"].values, r["observed_stop"].values, r["observed_unit"].values, strict=True)
        for start, stop, unit in spans:
            keep |= (whose == unit) & (when >= start) & (when <= stop)
        unwatched = np.setdiff1d(whose, r["observed_unit"].values)
        return keep | np.isin(whose, unwatched)
    if "start" in r.attrs:
        keep &= when >= float(r.attrs["start"])
    if "stop" in r.attrs:
        keep &= when <= float(r.attrs["stop"])
    return keep
