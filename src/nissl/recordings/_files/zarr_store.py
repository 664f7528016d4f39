"""A zarr folder that is written a stretch at a time, and whose parts are counted when it is opened."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import xarray as xr

from nissl.errors import StoreError
from nissl.recordings._homogenising.flow import block_rows
from nissl.recordings._notes import plain_attrs

COLLECTION = "nissl_collection"  # root attribute: names of the animals, in order
VARIABLES = "nissl_variables"  # attribute of a recording: what was written
_WHOLE: Any = {"write_empty_chunks": True}  # so that a part that is missing is a part that was lost


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
        written = {VARIABLES: [str(n) for n in recording.variables]}
        group.attrs.update({**plain_attrs(recording.attrs), **({"coordinates": coords} if coords else {}), **written})

    def finish(self, animals: list[str]) -> None:
        """Say which animals there are."""
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
        fill_value=np.nan if np.dtype(dtype).kind == "f" else 0, attributes=plain_attrs(attrs or {}), config=_WHOLE,
    )  # fmt: skip


def _write(group: Any, name: str, variable: xr.Variable) -> None:
    dims = tuple(map(str, variable.dims))
    if variable.dtype.kind in "OUST":
        texts = np.array([str(v) for v in np.ravel(variable.values)], dtype=object).reshape(variable.shape)
        chunks = tuple(max(1, s) for s in variable.shape) or "auto"
        array = group.create_array(name, shape=variable.shape, chunks=chunks, dtype="str", dimension_names=dims, compressors=None, attributes=plain_attrs(variable.attrs), config=_WHOLE)  # fmt: skip
        if texts.size:
            array[...] = texts
        return
    array = create(group, name, dims, variable.shape, variable.dtype, variable.attrs)
    if not variable.ndim:
        array[...] = variable.values
        return
    buffer, rows = RowBuffer(array), block_rows(xr.DataArray(variable))
    for start in range(0, variable.shape[0], rows):
        buffer[start : start + rows] = variable[start : start + rows].values


def check_whole(group: Any, folder: Path) -> None:
    """Every array that was written is there, and every chunk of it in full.

    Raises
    ------
    StoreError
        Something is missing: without this, zarr would give NaN for it.
    """
    for name in group.attrs.get(VARIABLES, ()):
        if name not in group:
            raise StoreError(f"{str(folder)!r} is truncated: array {name!r} is missing; write it again")
        array = group[name]
        size = int(np.prod(array.chunks)) * array.dtype.itemsize if array.dtype.kind in "fiub" else None
        counts = [range(-(-s // c)) for s, c in zip(array.shape, array.chunks, strict=True)]
        for chunk in itertools.product(*counts):
            file = folder / name / "c" / "/".join(map(str, chunk)) if chunk else folder / name / "c"
            if not file.is_file() or (size is not None and file.stat().st_size != size):
                raise StoreError(
                    f"{str(folder)!r} is truncated: part {chunk} of array {name!r} is missing or cut short; write it again"
                )
