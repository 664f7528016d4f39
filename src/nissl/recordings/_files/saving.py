"""Writing recordings: zarr, NWB, netCDF. What is half-written never stands under the name asked for."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import list_engines

from nissl.errors import InputError, StoreError
from nissl.recordings._collection import Collection
from nissl.recordings._files.zarr_store import ZarrStore
from nissl.recordings._notes import plain_attrs

FORMATS = (".zarr", ".nwb", ".nc")


def save(recording: xr.Dataset | Collection, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a recording to zarr, NWB or netCDF, or a collection to one zarr folder; `open` gives it back without loss.

    Activity that is still in its file is copied a stretch at a time. The file stands under its name only once it is complete.

    Parameters
    ----------
    recording
        In the schema of `open`.
    path
        Ends in `.zarr`, `.nwb` or `.nc`.
    overwrite
        Whether a file or store that is there already is replaced.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    InputError
        Another ending, or something that is no recording.
    StoreError
        Something stands there already, or the place cannot be written.

    Examples
    --------
    >>> import tempfile, nissl
    >>> x = xr.Dataset({"activity": (("time", "unit"), np.eye(3))}, {"time": [0.0, 0.1, 0.2], "unit": list("abc")})
    >>> path = save(x, tempfile.mkdtemp() + "/worm.zarr")
    >>> bool((nissl.recordings.open(path)["activity"] == x["activity"]).all())
    True
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"cannot write {str(path)!r}: its name {f'ends in {suffix!r}' if suffix else 'has no ending'}; allowed: {', '.join(FORMATS)}"
        )
    if isinstance(recording, Mapping) and not isinstance(recording, xr.Dataset | Collection):
        recording = Collection.of(recording)
    if isinstance(recording, Collection):
        if suffix != ".zarr":
            raise InputError(
                f"a collection of {len(recording)} recordings goes into one .zarr folder; {suffix} holds a single recording"
            )
    elif not isinstance(recording, xr.Dataset):
        raise InputError(f"a {type(recording).__name__} is no recording; give an xarray.Dataset or a Collection")
    with replacing(path, overwrite) as partial:
        if suffix == ".nwb":
            from nissl.recordings._files.save_nwb import write_nwb

            write_nwb(recording, partial)  # type: ignore[arg-type]
        elif suffix == ".nc":
            _write_netcdf(recording, partial)  # type: ignore[arg-type]
        else:
            store = ZarrStore(partial)
            if isinstance(recording, Collection):
                for animal, one in recording.items():
                    store.recording(one, animal)
                store.finish(recording.animals)
            else:
                store.recording(recording)
    return path


@contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[Path]:
    """A name beside the one asked for, to write under; it takes its place when the block ends well."""
    refuse_existing(path, overwrite)
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
        _remove(old)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{str(path)!r} cannot be written: {error.strerror or error}; choose another place, or make room"
        ) from error
    finally:
        _remove(partial)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Nothing that stands there is replaced unasked, and never a folder that is no store."""
    if not path.exists():
        return
    if path.is_dir() and any(path.iterdir()) and not any((path / n).is_file() for n in ("zarr.json", ".zgroup")):
        raise StoreError(
            f"{str(path)!r} is a folder that is no zarr store; nothing in it was touched, choose another name"
        )
    if not overwrite:
        raise StoreError(f"{str(path)!r} exists already; choose another name, or pass overwrite=True (--overwrite)")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write_netcdf(recording: xr.Dataset, path: Path) -> None:
    engines = list_engines()
    engine: Any = next(e for e in ("h5netcdf", "netcdf4", "scipy") if e in engines)
    out = recording.copy()
    out.attrs = {k: int(v) if isinstance(v, bool) else v for k, v in plain_attrs(out.attrs).items() if v is not None}
    for name, variable in out.variables.items():
        if engine == "scipy" and variable.dtype.kind in "iu" and variable.dtype.itemsize == 8:
            values = variable.values
            if values.size and np.abs(values).max() >= 2**31:
                raise InputError(f"{name!r} has integers that netCDF 3 cannot hold; save as .zarr, or install h5netcdf")
        if variable.dtype == object:
            out[name] = out[name].astype(str)
    out.to_netcdf(path, engine=engine)
