"""What can be put right in a recording when its owner asks for it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr

from nissl.errors import unknown
from nissl.recordings._files.assembly import is_clock
from nissl.recordings._names import numbered

MENDS = ("duplicates", "negative", "order", "outside")


def mend(recording: xr.Dataset, what: Iterable[str]) -> xr.Dataset:
    """The recording with what was asked for put right; what `check` says names the remedy.

    Parameters
    ----------
    what
        `duplicates`: of units of the same name all but the first are numbered. `negative`: every clock is moved so that none has times below
        0. `order`: samples and spikes are sorted by time, and of equal times the first is kept. `outside`: spikes outside the time that
        was recorded are dropped.

    Raises
    ------
    UnknownNameError
        No such remedy.

    Examples
    --------
    >>> x = xr.Dataset({"activity": (("time", "unit"), [[1.0, 2.0], [3.0, 4.0]])}, {"time": [1.0, 0.0], "unit": ["AVAL", "AVAL"]})
    >>> x = mend(x, ["duplicates", "order"])
    >>> x["unit"].values.tolist(), x["activity"].values[:, 0].tolist()
    (['AVAL', 'AVAL (2)'], [3.0, 1.0])
    """
    r, mend = recording, remedies(what)
    if "duplicates" in mend and "unit" in r.coords:
        r = r.assign_coords(unit=("unit", numbered(r["unit"].values), r["unit"].attrs))
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


def remedies(what: Iterable[str] | str) -> frozenset[str]:
    """The names of remedies, checked."""
    asked = frozenset({what} if isinstance(what, str) else what)
    for one in asked - set(MENDS):
        raise unknown("remedy", one, MENDS)
    return asked


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
