"""Which positions and units of a site are kept, and what their axes are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from nissl.errors import InputError
from nissl.models import Inputs, Site

# Axes along which a text network has one entry a token.
TOKEN_AXES = ("position", "time")


@dataclass(frozen=True)
class Selection:
    """What of each site is kept.

    Attributes
    ----------
    positions
        None for all; an int, a slice, a list of ints; negative ones count from each sample's last real token.
    units
        None for all; an int, a slice, a list of ints, or one of these for each site.
    """

    positions: Any = None
    units: Any = None

    def index(self, inputs: Inputs, width: int) -> Int[Tensor, "sample kept"] | None:
        """The column of each kept position, -1 where a sample has no such token; None for all positions."""
        if self.positions is None:
            return None
        wanted = self.wanted(width)
        lengths = inputs.lengths if inputs.kind == "text" else torch.full((inputs.n,), width, device=inputs.main.device)
        column = torch.where(wanted >= 0, wanted, lengths[:, None].cpu() + wanted)
        missing = (column < 0) | (column >= lengths[:, None].cpu())
        return torch.where(missing, -1, column).to(inputs.main.device)

    def wanted(self, width: int) -> Int[Tensor, "kept"]:
        """The positions asked for, as a person counts them."""
        chosen = self.positions
        if isinstance(chosen, slice):
            start, stop, step = chosen.start or 0, chosen.stop, chosen.step or 1
            if step < 1:
                raise InputError(f"positions={chosen}: the step must be positive")
            if start < 0:
                return torch.arange(start, 0 if stop is None else stop, step)
            if stop is not None and stop < 0:
                raise InputError(
                    f"positions={chosen}: from the start to a negative end has no fixed length; record all and select afterwards"
                )
            return torch.arange(start, width if stop is None else min(stop, width), step)
        return torch.as_tensor(np.atleast_1d(np.asarray(chosen)))

    def units_of(self, site: Site, width: int | None) -> Int[Tensor, "kept"] | None:
        """The units kept at a site; checked where the width is known."""
        chosen = self.units.get(site.name) if isinstance(self.units, Mapping) else self.units
        if chosen is None:
            return None
        if width is None:
            return torch.empty(0, dtype=torch.long)
        if isinstance(chosen, slice):
            return torch.arange(width)[chosen]
        index = torch.as_tensor(np.atleast_1d(np.asarray(chosen)))
        if index.is_floating_point() or index.dim() != 1 or len(index) == 0:
            raise InputError(f"units={chosen!r} at {site.name!r}; allowed: an int, a slice, a list of ints")
        if int(index.max()) >= width or int(index.min()) < -width:
            raise InputError(f"units={chosen!r} at {site.name!r}, which has {width} units, so 0 to {width - 1}")
        return index % width


def check(positions: Any, units: Any, sites: Sequence[Site]) -> Selection:
    """A selection, or a clear error before work starts."""
    if positions == "last" and isinstance(positions, str):
        positions = -1
    if isinstance(positions, str) or (
        not isinstance(positions, slice)
        and np.asarray(positions if positions is not None else 0).dtype.kind not in "iu"
    ):
        raise InputError(f"positions={positions!r}; allowed: an int, 'last', a slice, a list of ints")
    if positions is not None and not isinstance(positions, slice) and np.size(positions) == 0:
        raise InputError("positions is empty; name at least one")
    if isinstance(units, Mapping):
        names = {s.name for s in sites}
        for name in units:
            if name not in names:
                raise InputError(
                    f"units are given for {name!r}, which is not recorded; recorded are {', '.join(sorted(names))}"
                )
    selection = Selection(positions, units)
    for site in sites:
        dims = site.dims or ()
        if positions is not None and site.axis("position") is None:
            raise InputError(f"site {site.name!r} has no positions to select; its axes are {', '.join(dims)}")
        axis = site.axis("unit")
        if site.shape is not None and axis is not None:
            selection.units_of(site, site.shape[axis])
        if axis is None and units is not None and not isinstance(units, Mapping):
            raise InputError(f"site {site.name!r} has no units to select; its axes are {', '.join(dims)}")
    return selection


def apply(value: Tensor, site: Site, selection: Selection, inputs: Inputs) -> Tensor:
    """The kept part of a site's activity; padding is NaN."""
    dims = site.dims or ()
    axis = site.axis("unit")
    if axis is not None:
        units = selection.units_of(site, value.shape[axis])
        if units is not None:
            value = value.index_select(axis, units.to(value.device))
    position = site.axis("position")
    if position is None:
        if selection.positions is not None:
            raise InputError(f"site {site.name!r} has no positions to select; its axes are {', '.join(dims)}")
        return value
    index = selection.index(inputs, value.shape[position])
    if index is not None:
        shape = [-1 if a == 0 else index.shape[1] if a == position else 1 for a in range(value.dim())]
        spread = (
            index.clamp(min=0)
            .reshape(shape)
            .expand([index.shape[1] if a == position else s for a, s in enumerate(value.shape)])
        )
        value = value.gather(position, spread)
    if inputs.kind != "text" or dims[position] not in TOKEN_AXES:
        return value
    real = real_positions(inputs, selection)
    if real is not None and value.is_floating_point():
        shape = [len(real) if a == 0 else real.shape[1] if a == position else 1 for a in range(value.dim())]
        value = value.masked_fill(~real.to(value.device).reshape(shape), torch.nan)
    if "key_position" in dims and inputs.mask is not None and selection.units is None:
        keys = inputs.mask.to(value.device).reshape(len(inputs), 1, 1, -1)
        value = value.masked_fill(~keys, torch.nan)
    return value


def real_positions(inputs: Inputs, selection: Selection) -> Bool[Tensor, "sample kept"] | None:
    """Which kept positions are real tokens; None where all are."""
    index = selection.index(inputs, inputs.main.shape[1])
    return inputs.mask if index is None else index >= 0


class AxisNames:
    """Names for the axes of several sites in one Dataset, which allows one size a name.

    The first size met keeps the plain name; another is called by its size, such as `unit_3072`.
    """

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    def name(self, dims: Sequence[str], shape: Sequence[int]) -> tuple[str, ...]:
        """The names of one array's axes; sample and positions are shared by all."""
        named = []
        for dim, size in zip(dims, shape, strict=True):
            if dim in ("sample", "position"):
                named.append(dim)
                continue
            known = self.sizes.setdefault(dim, size)
            named.append(dim if known == size else f"{dim}_{size}")
        return tuple(named)
