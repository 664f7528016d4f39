"""netCDF and zarr, in our own schema or with two-dimensional activity under another name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import list_engines

from nissl.errors import InputError, MissingExtraError, NisslError, StoreError, unknown
from nissl.recordings._collection import Collection
from nissl.recordings._files.guessing import ACTIVITY
from nissl.recordings._files.read_arrays import HDF5_MAGIC, damaged
from nissl.recordings._files.schema import Request, even_times, unit_names
from nissl.recordings._files.zarr_store import COLLECTION, VARIABLES, check_whole, folder_of
from nissl.recordings._traces import SYNONYMS


def read_netcdf(path: Path, request: Request) -> xr.Dataset:
    """NetCDF 3 by scipy, netCDF 4 by h5netcdf or netCDF4, whichever is installed; read where it is indexed."""
    with path.open("rb") as file:
        new = file.read(8) == HDF5_MAGIC
    engines = list_engines()
    engine: Any = next((e for e in ("h5netcdf", "netcdf4") if e in engines), None) if new else "scipy"
    if engine is None:
        raise MissingExtraError(
            f"{path.name} is netCDF 4 and h5netcdf is not installed; pip install nissl[brains] h5netcdf"
        )
    try:
        found = xr.open_dataset(path, engine=engine, decode_times=False, cache=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise damaged(path, "netCDF file", error) from error
    return in_schema(found, request, path.name)


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"))


def read_zarr(path: Path, request: Request) -> xr.Dataset | Collection:
    """A zarr store: one recording, or a collection written by `save`; read where it is indexed."""
    import zarr

    try:
        root = zarr.open_group(str(path), mode="r")
        animals = root.attrs.get(COLLECTION)
        if isinstance(animals, list):
            return Collection({str(a): _group(root, path, request, folder_of(str(a))) for a in animals})
        return _group(root, path, request, None)
    except (OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, NisslError):
            raise
        raise damaged(path, "zarr store", error) from error


def _group(root: Any, path: Path, request: Request, group: str | None) -> xr.Dataset:
    if group is not None and group not in root:
        raise StoreError(f"{str(path)!r} is truncated: animal {group!r} is missing; write it again")
    check_whole(root if group is None else root[group], path if group is None else path / group)
    found = xr.open_dataset(
        str(path), engine="zarr", group=group, decode_times=False, cache=False, backend_kwargs={"consolidated": False}
    )
    found.attrs.pop(VARIABLES, None)
    return in_schema(found, request, path.name if group is None else f"{path.name}/{group}")


def in_schema(found: xr.Dataset, request: Request, source: str) -> xr.Dataset:
    """The same Dataset with the names of our schema."""
    out = _named(found, request, source)
    if "activity" in out:
        activity = out["activity"]
        for wanted in ("time", "unit"):
            other = next((d for d in SYNONYMS[wanted] if d in activity.dims), None)
            if other is None:
                raise InputError(f"{source}: activity has axes {tuple(map(str, activity.dims))}; wanted: time and unit; rename them with xarray, or pass orientation=...")  # fmt: skip
            if other != wanted:
                out = (
                    out.rename({other: wanted}) if wanted not in out else out.drop_vars(wanted).rename({other: wanted})
                )
        if set(out["activity"].dims) != {"time", "unit"}:
            raise InputError(
                f"{source}: activity has axes {tuple(map(str, out['activity'].dims))}; wanted: time and unit"
            )
        if out["activity"].dims != ("time", "unit"):
            out["activity"] = out["activity"].transpose("time", "unit")
        if "time" not in out.coords:
            rate = request.rate or out.attrs.get("rate")
            if not rate:
                raise InputError(f"{source}: no coordinate 'time'; pass rate=... (samples a second)")
            out = out.assign_coords(time=("time", even_times(out.sizes["time"], float(rate)), {"units": "s"}))
        if "unit" not in out.coords:
            out = out.assign_coords(unit=np.arange(out.sizes["unit"]))
    if isinstance(request.units, list):
        out = out.assign_coords(unit=("unit", unit_names(request.units)))
    elif isinstance(request.units, str):
        if request.units not in out.variables:
            raise unknown("variable", request.units, map(str, out.variables), f"in {source}, passed as units")
        out = out.assign_coords(unit=("unit", unit_names(out[request.units].values)))
    if "unit" in out.coords:
        out = out.assign_coords(unit=("unit", unit_names(out["unit"].values), out["unit"].attrs))
    for name in [n for n, v in out.variables.items() if v.dtype.kind in "TSU"]:  # texts as Python has them
        texts = out.variables[name]
        plain = xr.Variable(
            texts.dims,
            np.array([str(t) for t in np.ravel(texts.values)], dtype=object).reshape(texts.shape),
            texts.attrs,
        )
        out = out.assign_coords({name: plain}) if name in out.coords else out.assign({str(name): plain})
    if "provenance" not in out.attrs:
        out.attrs.setdefault("source", source)
    return out


def _named(found: xr.Dataset, request: Request, source: str) -> xr.Dataset:
    """With its activity called `activity`."""
    if request.activity is not None:
        if request.activity not in found:
            raise unknown("variable", request.activity, map(str, found.data_vars), f"in {source}, passed as activity")
        return found.rename({request.activity: "activity"}) if request.activity != "activity" else found
    if any(n in found for n in ("activity", "spike_time", "spikes")):
        return found
    tables = [str(n) for n, v in found.data_vars.items() if v.ndim == 2 and v.dtype.kind in "fiu"]
    usual = [n for n in tables if n.lower() in ACTIVITY]
    chosen = usual if len(usual) == 1 else tables
    if len(chosen) != 1:
        what = "several variables could be the activity" if chosen else "no variable with two axes"
        raise InputError(f"{source}: {what}: {', '.join(map(repr, chosen or map(str, found.data_vars))) or 'nothing'}; pass activity='NAME'")  # fmt: skip
    return found.rename({chosen[0]: "activity"})
