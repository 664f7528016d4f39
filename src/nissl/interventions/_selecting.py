"""Units, positions and heads of an intervention, as boolean tensors that broadcast over the activity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from nissl.errors import InputError
from nissl.models import Site

Selector = int | slice | Sequence[int] | np.ndarray | Tensor | None


@dataclass
class Tokens:
    """Which columns of the current pass are which tokens: padding, and the tokens already in the cache, taken into
    account.
    """

    mask: Bool[Tensor, "sample position"] | None = None
    past: int = 0

    def numbers(self, value: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """For each column of `value`: its number among the sample's real tokens, whether it is real, and the samples'
        lengths.
        """
        n, width = value.shape[0], value.shape[axis]
        mask = self.mask
        if mask is None or mask.shape[0] != n or mask.shape[1] != self.past + width:
            mask = torch.ones(n, self.past + width, dtype=torch.bool, device=value.device)
        mask = mask.to(value.device).bool()
        return (mask.cumsum(1) - 1)[:, -width:], mask[:, -width:], mask.sum(1, keepdim=True)


def chosen(selector: Selector, size: int, name: str, site: Site) -> Bool[Tensor, "axis"]:
    """A selector as a boolean vector; out of range is an error and not a wrap."""
    chosen = torch.zeros(size, dtype=torch.bool)
    if isinstance(selector, slice):
        chosen[selector] = True
        return chosen
    index = torch.as_tensor(np.atleast_1d(np.asarray(selector)))
    if index.dtype == torch.bool:
        if len(index) != size:
            raise InputError(f"{len(index)} booleans for the {size} {name} of {site.name!r}")
        return index
    if index.is_floating_point() or index.dim() != 1:
        raise InputError(
            f"{name}={selector!r} at {site.name!r}; allowed: an int, a slice, a list of ints, a boolean array"
        )
    if len(index) and (int(index.max()) >= size or int(index.min()) < -size):
        raise InputError(f"{name}={selector!r} at {site.name!r}, which has {size}, so 0 to {size - 1}")
    chosen[index.long()] = True
    return chosen


def chosen_positions(selector: Selector, value: Tensor, site: Site, tokens: Tokens) -> Bool[Tensor, "..."]:
    dims = site.dims or ()
    spatial = [a for a in (site.axis("y"), site.axis("x")) if a is not None]
    flags = torch.as_tensor(np.asarray(selector)) if not isinstance(selector, slice) else torch.empty(0)
    if spatial:
        if flags.dtype != torch.bool or tuple(flags.shape) != tuple(value.shape[a] for a in spatial):
            size = " x ".join(str(value.shape[a]) for a in spatial)
            raise InputError(f"positions at {site.name!r} are places of a picture; give a boolean array of {size}")
        return flags.to(value.device)
    axis = site.axis("position")
    if axis is None:
        raise InputError(f"site {site.name!r} has no positions; its axes are {', '.join(dims)}")
    start, total = site.span or (0, value.shape[axis])
    if total is None:
        raise InputError(
            f"positions at {site.name!r} need a whole sequence; step by step nobody knows which step it is (nissl.nn.unroll does)"
        )
    if flags.dtype == torch.bool:
        if len(flags) != total:
            raise InputError(f"{len(flags)} booleans for the {total} positions of {site.name!r}")
        return along(flags[start : start + value.shape[axis]].to(value.device), axis, value.dim())
    number, real, length = tokens.numbers(value, axis) if site.span is None else _moments(value, axis, start, total)
    if isinstance(selector, slice):
        start = 0 if selector.start is None else selector.start
        begin = start if start >= 0 else length + start
        end = length if selector.stop is None else selector.stop if selector.stop >= 0 else length + selector.stop
        step = selector.step or 1
        if step < 1:
            raise InputError(f"positions={selector!r}: the step must be positive")
        chosen = (number >= begin) & (number < end) & ((number - begin) % step == 0)
    else:
        wanted = torch.atleast_1d(flags).to(value.device)
        if wanted.is_floating_point():
            raise InputError(f"positions={selector!r}; allowed: an int, a slice, a list of ints, a boolean array")
        longest = int(length.max())
        if tokens.past == 0 and len(wanted) and (int(wanted.max()) >= longest or int(wanted.min()) < -longest):
            raise InputError(f"positions={selector!r} at {site.name!r}; the longest sample has {longest} tokens")
        absolute = torch.where(wanted[None, :] >= 0, wanted[None, :], length + wanted[None, :])  # (sample, wanted)
        chosen = (number[:, :, None] == absolute[:, None, :]).any(-1)
    shape = [value.shape[0] if a == 0 else value.shape[axis] if a == axis else 1 for a in range(value.dim())]
    return (chosen & real).reshape(shape)


def _moments(value: Tensor, axis: int, start: int, total: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same as `Tokens.numbers`, for some steps of a network that runs in time."""
    n, width = value.shape[0], value.shape[axis]
    number = (start + torch.arange(width, device=value.device)).expand(n, width)
    return number, torch.ones_like(number, dtype=torch.bool), torch.full((n, 1), total, device=value.device)


def join(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a & b


def along(vector: Tensor, axis: int, dims: int) -> Tensor:
    """A vector laid along one axis of a tensor with `dims` axes."""
    return vector.reshape([-1 if a == axis else 1 for a in range(dims)])
