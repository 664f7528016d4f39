"""Activity from whatever a person has it in, checked before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from nissl.errors import InputError, unknown

# Other names under which the same axes come in: token models count positions, thought machines ticks, their batches are trials.
SYNONYMS = {
    "time": ("time", "position", "tick", "sample_time", "frame", "bin"),
    "unit": ("unit", "neuron", "cell", "channel", "feature"),
    "trial": ("trial", "sample", "epoch", "sequence"),
    "animal": ("animal", "worm", "subject", "session"),
}


def as_traces(
    x: Any,
    dims: Sequence[str] = ("time", "unit"),
    *,
    rate: float | None = None,
    variable: str | None = None,
    min_units: int = 1,
    min_samples: int = 2,
    constant: Literal["raise", "keep"] = "raise",
    missing: Literal["keep", "raise"] = "keep",
) -> xr.DataArray:
    """Traces as a DataArray of float64 with the axes asked for, or one clear error.

    Parameters
    ----------
    x
        numpy or torch array with the axes in the order of `dims`; a DataArray with these dimensions (or a usual other name of
        theirs: `position` for time, `neuron` for unit, `sample` for trial); a Dataset, which gives its `activity`, its
        `spikes` or the `variable` named; a list of arrays of unequal length for a leading `trial` or `animal`.
    dims
        The axes wanted. A leading one that `x` lacks is added with size one.
    rate
        Samples a second, where `x` has no `time` coordinate; 1 where nothing says so.
    variable
        Which variable of a Dataset.
    min_units, min_samples
        How many units and samples the caller's question needs.
    constant
        Whether units that never change are refused, or passed on.
    missing
        Whether NaN is refused, or passed on. Units without a single sample are always refused.

    Returns
    -------
    xr.DataArray
        With coordinates `time` in seconds (in tokens or ticks for a `position` or `tick` axis, `attrs["time_unit"]` says which) and `unit`, the names.

    Raises
    ------
    InputError, UnknownNameError
        What cannot be used, named: axes, too few units or samples, names given twice, times that do not increase, infinite
        values, units that are empty or constant.

    Examples
    --------
    >>> as_traces(np.eye(4)[:, :2], rate=2.0).time.values.tolist()
    [0.0, 0.5, 1.0, 1.5]
    """
    found = _labelled(x, tuple(dims), variable)
    found = renamed(found, tuple(dims))
    absent = [d for d in dims if d not in found.dims]
    if set(found.dims) - set(dims) or absent != list(dims[: len(absent)]):
        raise InputError(f"axes {tuple(map(str, found.dims))}; allowed: {tuple(dims)}, each named or in this order")
    found = found.expand_dims(absent).transpose(*dims)
    if found.dtype.kind not in "fiub":
        raise InputError(f"activity of type {found.dtype}; allowed: real numbers")
    attrs = dict(found.attrs)
    found = _with_coordinates(found.astype(np.float64), rate)
    found.attrs.update(attrs)
    _check(found, min_units, min_samples, constant, missing)
    return found


def _labelled(x: Any, dims: tuple[str, ...], variable: str | None) -> xr.DataArray:
    if isinstance(x, xr.Dataset):
        names = [variable] if variable else [n for n in ("activity", "spikes") if n in x]
        if not names:
            raise InputError(
                f"a recording with {', '.join(map(str, x.data_vars)) or 'nothing'} in it; wanted: activity or spikes"
                + ("; bin its spike times first: recordings.bin_spikes(recording, width)" if "spike_time" in x else "")
            )
        if names[0] not in x:
            raise unknown("variable", names[0], map(str, x.data_vars))
        return x[names[0]]
    if isinstance(x, xr.DataArray):
        return x
    if hasattr(x, "stack") and hasattr(x, "keys"):  # recordings.Collection
        return _labelled(x.stack(), dims, variable)
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()  # numpy has no such type
    if isinstance(x, list | tuple) and x and all(np.ndim(part) == len(dims) - 1 for part in x) and len(dims) > 1:
        if all(isinstance(part, xr.DataArray) and set(part.dims) == set(dims[1:]) for part in x):
            return _stacked(list(x), dims)
        x = _padded([np.asarray(part, dtype=float) for part in x])
    values = np.asarray(x)
    if not len(dims) - 1 <= values.ndim <= len(dims):
        hint = "; for one unit give x[:, None]" if values.ndim == 1 and dims[-2:] == ("time", "unit") else ""
        raise InputError(f"an array of shape {values.shape}; allowed: axes {dims}{hint}")
    return xr.DataArray(values, dims=dims[len(dims) - values.ndim :])


def _stacked(parts: list[xr.DataArray], dims: tuple[str, ...]) -> xr.DataArray:
    """Labelled trials one above the other: axes and units in one order, whatever order each has them in."""
    last = dims[-1]
    named = [last in part.coords for part in parts]
    names = parts[0][last].values if all(named) else None
    if names is not None:
        for number, part in enumerate(parts):
            if sorted(map(str, part[last].values)) != sorted(map(str, names)):
                raise InputError(
                    f"{dims[0]} {number} has the {last}s {listed(part[last].values)}, the first one {listed(names)}; all need the same"
                )
        if len(set(map(str, names))) == len(names):
            parts = [part.sel({last: names}) for part in parts]
    values = _padded([np.asarray(part.transpose(*dims[1:]).values, dtype=float) for part in parts])
    return xr.DataArray(values, dims=dims, coords={} if names is None else {last: names})


def _padded(parts: list[np.ndarray]) -> np.ndarray:
    """Trials of unequal length one above the other, NaN where they have ended."""
    rest = {p.shape[1:] for p in parts}
    if len(rest) > 1:
        raise InputError(
            f"trials with {sorted(r[0] if r else 0 for r in rest)} units; all need the same units in the same order"
        )
    out = np.full((len(parts), max(len(p) for p in parts), *rest.pop()), np.nan)
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    return out


def renamed(x: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
    """The axes under the names of this library: `position` or `frame` is `time`, for example."""
    for wanted in dims:
        if wanted not in x.dims:
            other = next((d for d in SYNONYMS.get(wanted, ()) if d in x.dims and d not in dims), None)
            # Where sites of several widths were recorded together, one has `unit_48`, or `unit_memory`.
            other = other or next((d for d in map(str, x.dims) if d.startswith(f"{wanted}_") and d not in dims), None)
            if other is not None:
                # The index goes with the name; other coordinates along the axis stay.
                x = x.rename({other: wanted})
                if other in ("position", "tick"):
                    x.attrs = {**x.attrs, "time_unit": "token" if other == "position" else "tick"}
    return x


def _with_coordinates(x: xr.DataArray, rate: float | None) -> xr.DataArray:
    if rate is not None and not (np.isfinite(rate) and rate > 0):
        raise InputError(f"a rate of {rate} Hz; give a number above 0")
    if "time" in x.dims:
        if "time" not in x.coords:
            x = x.assign_coords(time=np.arange(x.sizes["time"]) / (rate or 1.0))
        elif rate is not None and x.sizes["time"] > 1:
            own = 1 / float(np.median(np.diff(x["time"].values.astype(float))))
            if not np.isclose(own, rate, rtol=0.01):
                raise InputError(f"rate {rate} Hz, but the recording's own clock has {own:.4g} Hz; leave rate out")
    if "unit" in x.dims and "unit" not in x.coords:
        x = x.assign_coords(unit=np.arange(x.sizes["unit"]))
    return x


def _check(x: xr.DataArray, min_units: int, min_samples: int, constant: str, missing: str) -> None:
    sizes = x.sizes
    if sizes.get("unit", min_units) < min_units:
        raise InputError(f"{sizes['unit']} unit(s); this needs {min_units} or more")
    if sizes.get("time", min_samples) < min_samples:
        raise InputError(f"{sizes['time']} sample(s) in time; this needs {min_samples} or more")
    if "time" in x.dims:
        time = x["time"].values
        if time.dtype.kind not in "fiu" or not (np.diff(time) > 0).all() or not np.isfinite(time).all():
            where = int(np.argmin(np.diff(time) > 0)) if time.dtype.kind in "fiu" else 0
            raise InputError(
                f"times that do not increase (at sample {where + 1}); sort the recording, or mend its clock"
            )
    if "unit" not in x.dims:
        return
    names = x["unit"].values
    unique, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"unit names given twice: {listed(unique[counts > 1])}")
    values = x.values
    others = tuple(i for i, d in enumerate(x.dims) if d != "unit")
    infinite = np.isinf(values).any(axis=others)
    if infinite.any():
        raise InputError(f"infinite activity in {listed(names[infinite])}; mark what is missing as NaN")
    known = ~np.isnan(values)
    if missing == "raise" and not known.all():
        gaps = (~known).any(axis=others)
        raise InputError(
            f"missing samples (NaN) in {listed(names[gaps])}; this needs all of them: select a stretch or units without gaps"
        )
    empty = ~known.any(axis=others)
    if empty.any():
        raise InputError(
            f"units without a single sample: {listed(names[empty])}; leave them out: recording.drop_sel(unit=[...])"
        )
    if constant == "raise":
        low = np.where(known, values, np.inf).min(axis=others)
        high = np.where(known, values, -np.inf).max(axis=others)
        still = low == high
        if still.any():
            raise InputError(
                f"units that never change: {listed(names[still])}; leave them out: recording.drop_sel(unit=[...])"
            )


def listed(names: Any, most: int = 6) -> str:
    """A few names, and how many more there are.

    Examples
    --------
    >>> listed(["AVAL", "AVAR", "RIML"], most=2)
    "'AVAL', 'AVAR' and 1 more"
    """
    shown = [str(n) for n in names]
    return ", ".join(repr(n) for n in shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
