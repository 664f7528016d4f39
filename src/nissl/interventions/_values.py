"""What an intervention puts in, brought into the shape of the activity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError
from nissl.interventions._selecting import Selector, along
from nissl.models import Site

Number = float | Sequence[float] | np.ndarray | Tensor


def per_unit(number: Number, value: Tensor, site: Site, units: Selector) -> Float[Tensor, "..."]:
    given = torch.as_tensor(np.asarray(number) if not isinstance(number, Tensor) else number).to(value)
    if given.dim() == 0:
        return given.expand_as(value)
    axis = site.axis("unit")
    if axis is None or given.dim() != 1:
        raise InputError(
            f"a value of shape {tuple(given.shape)} for site {site.name!r}; give one number, or one for each unit"
        )
    width = value.shape[axis]
    if units is not None and not isinstance(units, slice):
        index = torch.as_tensor(np.atleast_1d(np.asarray(units)))
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index
    else:
        index = torch.arange(width)[units if isinstance(units, slice) else slice(None)]
    if len(given) != len(index):
        raise InputError(
            f"{len(given)} values for {len(index)} selected units of {site.name!r}; give one number, or one for each unit"
        )
    full = torch.zeros(width, dtype=value.dtype, device=value.device).index_put((index.to(value.device),), given)
    return along(full, axis, value.dim())


def ordered(source: Any, value: Tensor, site: Site) -> Tensor:
    """Recorded activity with its axes in the order of the site, on its device."""
    if isinstance(source, xr.DataArray):
        # Where sites of several widths were recorded together, an axis may be called unit_48, or unit_memory.
        plain = {str(d): own for d in source.dims if (own := _own_axis(str(d), site)) != d}
        source = source.rename(plain) if plain else source
        dims = [d for d in site.dims or () if d != "sample" or "sample" in source.dims]
        if set(dims) != set(map(str, source.dims)):
            raise InputError(
                f"activity with axes {', '.join(map(str, source.dims))} for site {site.name!r} with axes {', '.join(dims)}"
            )
        source = source.transpose(*dims).values
    tensor = torch.as_tensor(source).to(device=value.device, dtype=value.dtype)
    return tensor[None] if tensor.dim() == value.dim() - 1 else tensor


def _own_axis(dim: str, site: Site) -> str:
    if dim in (site.dims or ()):
        return dim
    return next((own for own in site.dims or () if dim.startswith(f"{own}_")), dim)


def aligned(source: Any, value: Tensor, site: Site) -> Tensor:
    """The same, cut to the positions of this pass; every other axis has to fit."""
    tensor = ordered(source, value, site)
    position = site.axis("position")
    if position is not None and tensor.dim() == value.dim() and tensor.shape[position] > value.shape[position]:
        # Recorded beside longer prompts, hence padded; or we are in the midst of a network that runs step by step.
        tensor = tensor.narrow(position, site.span[0] if site.span else 0, value.shape[position])
    if position is not None and tensor.dim() == value.dim() and tensor.shape[position] == 1:
        tensor = tensor.expand(
            [s if a == position else -1 for a, s in enumerate(value.shape)]
        )  # one position serves all
    if tensor.shape[1:] != value.shape[1:]:
        raise InputError(
            f"activity of shape {tuple(tensor.shape)} for site {site.name!r}, which has {tuple(value.shape)} in this pass"
        )
    return tensor


def finite_or(source: Tensor, value: Tensor) -> Tensor:
    return torch.where(torch.isnan(source), value, source)
