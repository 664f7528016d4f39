"""Writing recordings: zarr, NWB, netCDF. What is half-written never stands under the name asked for."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import xarray as xr
from xarray.backends import list_engines

from nissl.errors import InputError, StoreError
from nissl.recordings._collection import Collection
from nissl.recordings._flow import block_rows

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
            f"cannot write {str(path)!r}: its name ends in {suffix or 'nothing'!r}; allowed: {', '.join(FORMATS)}"
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
            from nissl.recordings._save_nwb import write_nwb

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


def folder_of(animal: str) -> str:
    """The name of an animal's folder: its own, with what file systems do not take written in another way."""
    return quote(animal, safe=" ()+,=@#") if not re.fullmatch(r"\.+", animal) else animal.replace(".", "%2E")


class ZarrStore:
    """A zarr folder that is filled recording by recording, array by array, stretch by stretch."""

    def __init__(self, path: Path) -> None:
        import zarr

        self.root = zarr.create_group(str(path))

    def group(self, animal: str | None) -> Any:
        """The folder of an animal, or the store itself."""
        return self.root if animal is None else self.root.require_group(folder_of(animal))

    def array(self, animal: str | None) -> Callable[[str, tuple[str, ...], tuple[int, ...], np.dtype], Any]:
        """A maker of empty arrays, filled with NaN; chunks hold whole rows and about four megabytes."""
        group = self.group(animal)

        def make(name: str, dims: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype) -> Any:
            return RowBuffer(create(group, name, dims, shape, dtype))

        return make

    def drop(self, animal: str) -> None:
        """Forget an animal that could not be finished."""
        if folder_of(animal) in self.root:
            del self.root[folder_of(animal)]

    def recording(self, recording: xr.Dataset, animal: str | None = None) -> None:
        """Write every variable that was not written yet, and the attributes."""
        group = self.group(animal)
        for name, variable in recording.variables.items():
            if name in group:
                group[name].attrs.update(plain_attrs(variable.attrs))
            else:
                _write(group, str(name), variable)
        coords = " ".join(str(c) for c in recording.coords if c not in recording.dims)
        group.attrs.update({**plain_attrs(recording.attrs), **({"coordinates": coords} if coords else {})})

    def finish(self, animals: list[str]) -> None:
        """Say which animals there are."""
        from nissl.recordings._read_xarray import COLLECTION

        self.root.attrs[COLLECTION] = animals


class RowBuffer:
    """Rows on their way into a zarr array: they are written a chunk at a time, so that no chunk is written twice."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, array.chunks
        self.start = self.stop = 0
        self.rows = np.empty((self.chunks[0], *self.shape[1:]), dtype=self.dtype)

    def __setitem__(self, key: slice, values: np.ndarray) -> None:
        if key.start != self.stop:
            self.flush()
            self.start = self.stop = key.start
        done = 0
        while done < len(values):
            at = self.stop - self.start
            room = self.chunks[0] - self.stop % self.chunks[0]
            part = values[done : done + room]
            self.rows[at : at + len(part)] = part
            done, self.stop = done + len(part), self.stop + len(part)
            if self.stop % self.chunks[0] == 0 or self.stop == self.shape[0]:
                self.flush()

    def __getitem__(self, key: Any) -> np.ndarray:
        self.flush()
        return self.array[key]

    def flush(self) -> None:
        """Write what is waiting."""
        if self.stop > self.start:
            self.array[self.start : self.stop] = self.rows[: self.stop - self.start]
        self.start = self.stop


def create(
    group: Any, name: str, dims: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype, attrs: Any = None
) -> Any:
    """An array in a group. Activity hardly compresses, so it is not tried."""
    row = max(1, int(np.prod(shape[1:])) * np.dtype(dtype).itemsize)
    chunks = (max(1, min(shape[0], 2**22 // row)), *[max(1, s) for s in shape[1:]]) if shape else ()
    return group.create_array(
        name, shape=shape, chunks=chunks or "auto", dtype=dtype, dimension_names=dims, compressors=None,
        fill_value=np.nan if np.dtype(dtype).kind == "f" else 0, attributes=plain_attrs(attrs or {}),
    )  # fmt: skip


def _write(group: Any, name: str, variable: xr.Variable) -> None:
    dims = tuple(map(str, variable.dims))
    if variable.dtype.kind in "OUST":
        texts = np.array([str(v) for v in np.ravel(variable.values)], dtype=object).reshape(variable.shape)
        array = group.create_array(name, shape=variable.shape, chunks=tuple(max(1, s) for s in variable.shape) or "auto", dtype="str", dimension_names=dims, compressors=None, attributes=plain_attrs(variable.attrs))  # fmt: skip
        if texts.size:
            array[...] = texts
        return
    array = create(group, name, dims, variable.shape, variable.dtype, variable.attrs)
    if not variable.ndim:
        array[...] = variable.values
        return
    rows = block_rows(xr.DataArray(variable, dims=variable.dims)) if variable.ndim else 1
    rows = max(rows, array.chunks[0] // max(1, array.chunks[0]) * array.chunks[0]) // array.chunks[0] * array.chunks[0]
    for start in range(0, variable.shape[0], rows):
        array[start : start + rows] = variable[start : start + rows].values


def plain_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as JSON has them."""
    from nissl.recordings._notes import plain

    return {str(k): plain(v) for k, v in attrs.items()}


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
