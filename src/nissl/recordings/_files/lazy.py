"""Arrays that stay in their file: what is indexed is read, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, CachingFileManager
from xarray.core import indexing


class FileArray(BackendArray):
    """An array in a file, perhaps stored with its axes the other way round, perhaps in other units.

    Parameters
    ----------
    read
        Gives the values for one slice or index array an axis, in the order of the file; at most one index array at a time.
    shape, dtype
        Of the file.
    transpose
        Whether the axes are turned round.
    scale, offset
        Values are stored number times `scale` plus `offset`.
    """

    def __init__(
        self,
        read: Callable[[tuple[Any, ...]], np.ndarray],
        shape: tuple[int, ...],
        dtype: np.dtype,
        *,
        transpose: bool = False,
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        self._read, self.transpose, self.scale, self.offset = read, transpose, scale, offset
        self.shape = tuple(shape[::-1]) if transpose else tuple(shape)
        scaled = scale != 1.0 or offset != 0.0
        self.dtype = np.result_type(dtype, np.float32) if scaled and np.dtype(dtype).kind in "fiu" else np.dtype(dtype)
        self._scaled = scaled

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER_1VECTOR, self._values)

    def _values(self, key: tuple[Any, ...]) -> np.ndarray:
        values = np.asarray(self._read(key[::-1] if self.transpose else key))
        if self.transpose:
            values = values.T
        if self._scaled:
            values = (values * self.dtype.type(self.scale) + self.dtype.type(self.offset)).astype(
                self.dtype, copy=False
            )
        return values


def lazy(array: BackendArray, dims: tuple[str, ...], chunks: tuple[int, ...] | None = None) -> xr.Variable:
    """A variable that reads from the array; `chunks` are those of the file, which are best read whole."""
    variable = xr.Variable(dims, indexing.LazilyIndexedArray(array))
    if chunks:
        variable.encoding["preferred_chunks"] = dict(zip(dims, chunks, strict=True))
    return variable


def as_variable(array: Any, dims: tuple[str, ...]) -> xr.Variable:
    """An array in memory, or one that is read by rows, as a variable."""
    if isinstance(array, np.ndarray):
        return xr.Variable(dims, array)
    return lazy(FileArray(lambda key: np.asarray(array[key]), tuple(array.shape), np.dtype(array.dtype)), dims)


def hdf5_array(
    path: str, name: str, dims: tuple[str, ...], *, transpose: bool = False, scale: float = 1.0, offset: float = 0.0
) -> xr.Variable:
    """A dataset of an HDF5 file; the file is opened when it is read and may be moved between processes."""
    import h5py

    # Chunks are read whole and once, in order, so a cache of a few of them is all that helps.
    manager = CachingFileManager(h5py.File, path, mode="r", kwargs={"rdcc_nbytes": 2**24})
    with manager.acquire_context() as file:
        data: Any = file[name]
        shape, dtype, chunks = data.shape, data.dtype, data.chunks

    def read(key: tuple[Any, ...]) -> np.ndarray:
        with manager.acquire_context() as file:
            data: Any = file[name]
            return data[key]

    turned = chunks[::-1] if chunks and transpose else chunks
    return lazy(FileArray(read, shape, dtype, transpose=transpose, scale=scale, offset=offset), dims, turned)


def plain_array(values: Any, dims: tuple[str, ...], *, transpose: bool = False) -> xr.Variable:
    """An array in memory, or a memory map of a file, read where it is indexed."""
    if not isinstance(values, np.memmap):
        return xr.Variable(dims, values.T if transpose else values)
    chosen = values.T if transpose else values

    def read(key: tuple[Any, ...]) -> np.ndarray:
        return np.array(chosen[key])

    return lazy(FileArray(read, chosen.shape, chosen.dtype), dims)
