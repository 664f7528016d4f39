"""Attributions in whatever form, as plain checked arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch.nn import functional

from nissl.errors import InputError


def as_maps(
    maps: Any, shape: tuple[int, int] | None = None, *, constant: bool = True
) -> Float[np.ndarray, "sample y x"]:
    """Maps `(y, x)` or `(sample, y, x)` as an array with a sample axis, resized bilinearly to `shape`.

    Raises
    ------
    InputError
        NaN, another number of axes, or (where `constant` is False) a map with the same value everywhere.
    """
    if isinstance(maps, xr.DataArray) and "class" in maps.dims:
        raise InputError("the maps have a class axis; choose one target with .sel({'class': ...})")
    array = np.asarray(maps.detach().cpu() if isinstance(maps, torch.Tensor) else maps, dtype=np.float64)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"maps of shape {array.shape}; allowed: (y, x) or (sample, y, x)")
    _check(array.reshape(len(array), -1), "map", constant)
    if shape is None or array.shape[1:] == tuple(shape):
        return array
    tensor = torch.from_numpy(array)[:, None]
    return functional.interpolate(tensor, size=shape, mode="bilinear", align_corners=False)[:, 0].numpy()


def as_rows(values: Any, *, constant: bool = True) -> Float[np.ndarray, "sample place"]:
    """Attributions of tokens `(position,)` or `(sample, position)` with a sample axis; NaN is padding."""
    array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=np.float64)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(f"attributions of shape {array.shape}; allowed: (position,) or (sample, position)")
    if np.isnan(array).all(1).any():
        raise InputError(f"sample {int(np.isnan(array).all(1).argmax())} has no attributions but NaN")
    if not constant:
        _check(np.where(np.isnan(array), np.nanmean(array, 1, keepdims=True), array), "row", constant)
    return array


def as_masks(masks: Any, maps: np.ndarray) -> np.ndarray:
    """Boolean masks that fit the maps."""
    array = np.asarray(masks)
    array = array[None] if array.ndim == 2 else array
    if array.shape != maps.shape:
        raise InputError(
            f"masks of shape {array.shape} for maps of shape {maps.shape}; give one mask a map, of the same size"
        )
    return array.astype(bool)


def flat(values: Any) -> Float[np.ndarray, "sample place"]:
    """Maps or token attributions as rows of numbers."""
    array = (
        values.transpose(..., *[d for d in ("y", "x") if d in values.dims])
        if isinstance(values, xr.DataArray)
        else values
    )
    ndim = np.ndim(array)
    if isinstance(values, xr.DataArray):
        is_map = "y" in values.dims
        single = "sample" not in values.dims
    else:
        is_map, single = ndim == 3, ndim == 1
    if is_map or ndim == 3:
        maps = as_maps(array)
        return maps.reshape(len(maps), -1)
    return as_rows(np.asarray(array)[None] if single and ndim == 1 else array)


def _check(rows: np.ndarray, what: str, constant: bool) -> None:
    if not np.isfinite(rows).all():
        raise InputError(f"{what} {int((~np.isfinite(rows)).any(1).argmax())} holds NaN or infinite numbers")
    same = (rows == rows[:, :1]).all(1)
    if not constant and same.any():
        raise InputError(f"{what} {int(same.argmax())} has the same value everywhere, so it says nothing; leave it out")
