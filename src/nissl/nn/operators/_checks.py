"""What every operator asks of a field before it works."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nissl.axes import whole_number as whole
from nissl.errors import InputError


def check_field(x: object, channels: int | None, n_dims: int, who: str) -> None:
    """A floating-point tensor (batch, channel, *grid) with the right number of channels and axes.

    Raises
    ------
    InputError
        It is something else; the message says what was given and what is allowed.
    """
    given = f"a tensor of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
    grid = ", ".join(["z", "y", "x"][-n_dims:]) if n_dims <= 3 else f"{n_dims} axes of space"
    if not isinstance(x, Tensor) or x.dim() != n_dims + 2 or (channels is not None and x.shape[1] != channels):
        many = "channel" if channels is None else f"{channels} channel{'s' * (channels != 1)}"
        raise InputError(f"{who} takes a field of shape (batch, {many}, {grid}); given {given}")
    if not x.is_floating_point():
        raise InputError(f"{who} takes real floating-point values; given {x.dtype}; use .float()")
    if 0 in x.shape[2:]:
        raise InputError(f"{who} was given {given}; an axis without points has no field on it")


def each_axis(name: str, value: int | Sequence[int], n_dims: int, least: int) -> tuple[int, ...]:
    """One whole number an axis, from one for all or a sequence of them."""
    values = (value,) * n_dims if isinstance(value, int) else tuple(value)
    if len(values) != n_dims:
        raise InputError(f"{name}={value!r} gives {len(values)} numbers for {n_dims} axes; give one, or one an axis")
    return tuple(whole(name, v, least) for v in values)


def check_finite(values: Tensor, what: str) -> None:
    """No NaN and nothing infinite; for functions that are called by people, not for layers in a training loop."""
    if not torch.isfinite(values).all():
        bad = int((~torch.isfinite(values)).sum())
        raise InputError(f"{what} holds {bad} values that are NaN or infinite; mend or mask them first")
