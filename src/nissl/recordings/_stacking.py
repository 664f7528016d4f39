"""Ragged recordings as one padded array, read only where it is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from nissl.errors import InputError


def stacked(recordings: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Animals one above the other on their common clock and axis of units."""
    animals = list(recordings)
    first = next(iter(recordings.values()))
    for animal, recording in recordings.items():
        if "activity" not in recording:
            raise InputError(
                f"{animal}: no activity to stack; bin its spikes first: recordings.bin_spikes(recording, width)"
            )
    time = _common_clock(recordings)
    units = list(dict.fromkeys(str(u) for r in recordings.values() for u in r["unit"].values))
    place = {u: i for i, u in enumerate(units)}
    slots = [np.array([place[str(u)] for u in r["unit"].values]) for r in recordings.values()]
    sizes = {"time": len(time), "unit": len(units)}
    out: dict[str, Any] = {}
    for name in ("activity", "residual", "activity_mean", "activity_sd", "labeled", "valid"):
        parts = [r.get(name) for r in recordings.values()]
        dims = next((p.dims for p in parts if p is not None), None)
        if dims is None or any(p is not None and set(p.dims) != set(dims) for p in parts):
            continue
        dims = tuple(d for d in ("time", "unit") if d in dims)
        parts = [None if p is None else p.transpose(*dims) for p in parts]
        out[name] = (("animal", *dims), _padded(parts, slots, tuple(sizes[str(d)] for d in dims), dims), {} if parts[0] is None else parts[0].attrs)  # fmt: skip
    source = [str(r.attrs.get("source", "")) for r in recordings.values()]
    stack = xr.Dataset(
        out,
        {"animal": animals, "time": ("time", time, {"units": "s"}), "unit": units, "source": ("animal", source)},
        {k: first.attrs[k] for k in ("rate",) if k in first.attrs},
    )
    if all("provenance" in r.attrs for r in recordings.values()):
        stack.attrs["provenance"] = first.attrs["provenance"]
    return stack


def _common_clock(recordings: Mapping[str, xr.Dataset]) -> np.ndarray:
    clocks = {a: np.asarray(r["time"].values, dtype=float) for a, r in recordings.items()}
    longest = max(clocks.values(), key=len)
    step = float(np.median(np.diff(longest))) if len(longest) > 1 else 1.0
    for animal, clock in clocks.items():
        if np.abs(clock - longest[: len(clock)]).max() > 1e-6 * step:
            raise InputError(f"{animal}: its clock differs from that of the longest recording; homogenise the recordings first: recordings.homogenise(...)")  # fmt: skip
    return longest


def _padded(parts: list[Any], slots: list[np.ndarray], shape: tuple[int, ...], dims: tuple[Any, ...]) -> Any:
    lazy = any(p is not None and not p.variable._in_memory for p in parts)
    array = Padded(parts, slots, shape, dims)
    return indexing.LazilyIndexedArray(array) if lazy else array.read((slice(None),) * (len(shape) + 1))


class Padded(BackendArray):
    """Arrays of several animals as one; NaN (False) where there is nothing."""

    def __init__(
        self, parts: list[Any], slots: list[np.ndarray], shape: tuple[int, ...], dims: tuple[Any, ...]
    ) -> None:
        self.parts, self.slots, self.dims = parts, slots, dims
        self.shape = (len(parts), *shape)
        kinds = [p.dtype for p in parts if p is not None]
        self.dtype = np.dtype(bool) if all(k.kind == "b" for k in kinds) else np.result_type(np.float32, *kinds)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self.read)

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Only the animals asked for are read, and of each only the time asked for."""
        wanted = [np.atleast_1d(np.arange(size)[k]) for k, size in zip(key, self.shape, strict=True)]
        out = np.full([len(w) for w in wanted], False if self.dtype == bool else np.nan, dtype=self.dtype)
        for row, animal in enumerate(wanted[0]):
            part = self.parts[animal]
            if part is not None:
                self._fill(out[row], part, self.slots[animal], dict(zip(self.dims, wanted[1:], strict=True)))
        scalar = tuple(0 if isinstance(k, int | np.integer) else slice(None) for k in key)
        return out[scalar]

    def _fill(self, out: np.ndarray, part: xr.DataArray, slots: np.ndarray, wanted: dict[Any, np.ndarray]) -> None:
        source, target = {}, []
        for dim, indices in wanted.items():
            if dim == "unit":
                column = {int(s): c for c, s in enumerate(slots)}
                there = np.array([int(i) in column for i in indices], dtype=bool)
                source[dim] = np.array([column[int(i)] for i in indices[there]], dtype=int)
            else:
                there = indices < part.sizes[dim]
                source[dim] = _as_slice(indices[there])
            target.append(np.flatnonzero(there))
        if all(len(t) for t in target):
            out[np.ix_(*target)] = part.isel(source).values


def _as_slice(indices: np.ndarray) -> Any:
    """A slice where the indices are one, since files read those faster."""
    if len(indices) and np.array_equal(indices, np.arange(indices[0], indices[-1] + 1)):
        return slice(int(indices[0]), int(indices[-1]) + 1)
    return indices
