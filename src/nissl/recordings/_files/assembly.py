"""A recording put together again after its activity was changed: other clocks, names, masks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from nissl.recordings._files.lazy import as_variable
from nissl.recordings._homogenising.plan import Layout, Plan, Result
from nissl.recordings._notes import RecordingWarning


def assembled(recording: xr.Dataset, plan: Plan, result: Result) -> xr.Dataset:
    """The recording with its new activity, and everything else where it belongs now."""
    layout = plan.layout
    out = recording.drop_vars([n for n in (*result.arrays, "labeled", "valid") if n in recording])
    before = np.asarray(recording["time"].values, dtype=float)
    if len(plan.time) != len(before) or not np.allclose(plan.time + plan.shift, before, rtol=0, atol=1e-9):
        out = _off_the_clock(out, before)
    if plan.shift:
        out = _shifted(out, plan.shift)
    if not np.array_equal(layout.units, recording["unit"].values):
        out = _reordered(out, layout)
    for name, (dims, array) in result.arrays.items():
        out[name] = xr.DataArray(as_variable(array, dims), attrs=recording[name].attrs if name in recording else {})
    out = out.assign_coords(time=("time", plan.time, {"units": "s"}), unit=("unit", layout.units, dict(recording["unit"].attrs)))  # fmt: skip
    if len(layout.rest_units):
        out = out.assign_coords(unlabelled=("unlabelled", layout.rest_units))
    labelled = np.zeros(len(layout.units), dtype=bool)
    labelled[layout.slots] = result.seen.count[layout.columns] > 0
    out["labeled"] = ("unit", labelled, {"long_name": "recorded under this name"})
    out["valid"] = ("time", result.valid, {"long_name": "at least one unit was recorded"})
    if plan.quantity:
        out["activity"].attrs["quantity"] = plan.quantity
    if "residual" in out:
        out["residual"].attrs.update(long_name="rate of change of raw activity, not normalised")
    out.attrs.update(rate=float(f"{1 / plan.interval:.12g}"), **plan.attrs)
    return out


def _off_the_clock(r: xr.Dataset, time: np.ndarray) -> xr.Dataset:
    """What lay on the activity's old clock gets that clock for its own: `stimulus (time)` becomes `stimulus (stimulus_time)`."""
    for name in [str(n) for n in r.variables if "time" in r[n].dims and n != "time"]:
        clock = f"{name}_time"
        value = r[name].variable.copy(deep=False)
        value.dims = tuple(clock if d == "time" else d for d in value.dims)
        r = r.drop_vars(name).assign({name: value}).assign_coords({clock: (clock, time, {"units": "s"})})
    return r.drop_vars("time")


def _shifted(r: xr.Dataset, seconds: float) -> xr.Dataset:
    """Every clock, `seconds` earlier."""
    for name in [str(n) for n in r.variables if is_clock(str(n)) and r[n].dtype.kind in "fiu"]:
        moved = (r[name].dims, r[name].values - seconds, r[name].attrs)
        r = r.assign_coords({name: moved}) if name in r.coords else r.assign({name: moved})
    return r


def _reordered(r: xr.Dataset, layout: Layout) -> xr.Dataset:
    """What there is for each unit, in the units' new places; what belongs to unlabelled ones beside it."""
    r = _spikes_renumbered(r, layout)
    along = {str(n): v for n, v in r.variables.items() if "unit" in v.dims and n != "unit"}
    coords = [n for n in along if n in r.coords]
    r = r.drop_vars([*along, "unit"], errors="ignore")
    for name, value in along.items():
        new = {name: _placed(value, layout)}
        if len(layout.rest_columns):
            dims = tuple("unlabelled" if d == "unit" else d for d in value.dims)
            new[f"{name}_unlabelled"] = xr.Variable(dims, value.isel(unit=layout.rest_columns).values, value.attrs)
        r = r.assign_coords(new) if name in coords else r.assign(new)
    return r


def _placed(x: xr.Variable, layout: Layout) -> xr.Variable:
    """A value a unit, moved into the unit's slot; NaN, False or an empty text in the others."""
    axis = x.dims.index("unit")
    filler: Any = np.nan if x.dtype.kind in "fiu" else (False if x.dtype.kind == "b" else "")
    kinds = {"f": x.dtype, "b": x.dtype, "i": np.float64, "u": np.float64}
    shape = (*x.shape[:axis], len(layout.units), *x.shape[axis + 1 :])
    out = np.full(shape, filler, dtype=kinds.get(x.dtype.kind, object))
    out[(slice(None),) * axis + (layout.slots,)] = np.take(x.values, layout.columns, axis=axis)
    return xr.Variable(x.dims, out, x.attrs)


def _spikes_renumbered(r: xr.Dataset, layout: Layout) -> xr.Dataset:
    """Indices of units by the new order; what belongs to units without a slot is left out."""
    for whose, dim in (("spike_unit", "spike"), ("observed_unit", "observation")):
        if whose not in r:
            continue
        old = r[whose].values
        slot = np.full(max(int(old.max(initial=-1)) + 1, r.sizes.get("unit", 0)), -1)
        slot[layout.columns] = layout.slots
        keep = slot[old] >= 0
        if not keep.all() and dim == "spike":
            warnings.warn(
                f"{int((~keep).sum())} spikes of units on no list were left out", RecordingWarning, stacklevel=2
            )
        r = r.isel({dim: np.flatnonzero(keep)})
        r[whose] = (dim, slot[old[keep]])
    return r


def is_clock(name: str) -> bool:
    """Whether a variable holds seconds on the recording's clock."""
    return name == "time" or name.endswith(("_time", "_start", "_stop"))
