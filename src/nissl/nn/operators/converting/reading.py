"""What a person says about the training grid, and a field on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nissl.axes import Axis
from nissl.errors import InputError, unknown
from nissl.nn.operators.converting.domain import Domain


def read_domain(
    axes: Sequence[Axis | int | float], boundary: str | None, example: Tensor | None, layout: str
) -> Domain:
    """The domain and the training grid, from what was given."""
    if not isinstance(axes, Sequence) or not axes:
        raise InputError(
            f"axes={axes!r}; give a sequence with an Axis, a number of points or a spacing for each axis of space"
        )
    if layout == "points" and len(axes) != 1:
        raise InputError(
            f"{len(axes)} axes with layout='points'; points in a row have one, which runs over all of them"
        )
    sizes = None if example is None else tuple(example.shape[2:] if layout == "channels" else example.shape[1:2])
    if example is not None and sizes is not None and len(sizes) != len(axes):
        raise InputError(
            f"{len(axes)} axes for an example of shape {tuple(example.shape)}, which has {len(sizes)} of space"
        )
    kinds = {_boundary(axis) for axis in axes if isinstance(axis, Axis)}
    if (boundary is not None and kinds - {boundary}) or len(kinds) > 1:
        raise InputError(f"boundary={boundary!r}, but the axes are {' and '.join(sorted(kinds))}; they must agree")
    boundary = boundary or (kinds.pop() if kinds else "midpoint")
    if boundary not in ("periodic", "closed", "midpoint"):
        raise unknown("boundary", boundary, ("periodic", "closed", "midpoint"))
    grid, spacing, less = [], [], int(boundary == "closed")
    for i, axis in enumerate(axes):
        if isinstance(axis, Axis):
            grid.append(axis.size)
            spacing.append(axis.spacing)
        elif isinstance(axis, bool) or not isinstance(axis, int | float) or not axis > 0 or not math.isfinite(axis):
            raise InputError(
                f"axes[{i}]={axis!r}; allowed: an Axis, a positive number of points, or a positive spacing"
            )
        elif isinstance(axis, int):
            grid.append(axis)
            spacing.append(1 / max(axis - less, 1))
        elif sizes is None:
            raise InputError(f"axes[{i}]={axis!r} is a spacing, which needs an `example` that has the number of points")
        else:
            grid.append(sizes[i])
            spacing.append(float(axis))
    if min(grid) < 2:
        raise InputError(
            f"a training grid of {tuple(grid)} has an axis without neighbours; at least two points are needed"
        )
    if sizes is not None and tuple(grid) != sizes:
        raise InputError(f"the axes have {tuple(grid)} points and the example {sizes}")
    unit = next((a.unit for a in axes if isinstance(a, Axis) and a.unit), "")
    return Domain(tuple(grid), boundary, tuple(spacing), unit)


def _boundary(axis: Axis) -> str:
    """What the points and weights of an axis say about its ends."""
    if axis.size >= 2:
        axis.spacing  # noqa: B018 - raises where the axis is not uniform
    if axis.period is not None:
        return "periodic"
    equal = axis.weights is None or bool(abs(axis.weights - axis.weights[0]).max() <= 1e-9 * abs(axis.weights[0]))
    return "midpoint" if equal else "closed"


def make_example(module: nn.Module, domain: Domain, layout: str) -> Tensor:
    """Noise with as many channels as the first layer takes."""
    for layer in module.modules():
        width = None
        if layout == "channels":
            width = getattr(layer, "in_channels", None) or getattr(layer, "num_features", None)
        elif isinstance(layer, nn.Linear):
            width = layer.in_features
        elif isinstance(layer, nn.MultiheadAttention):
            width = layer.embed_dim
        if isinstance(width, int):
            first = next(module.parameters(), torch.zeros(()))
            shape = (1, width, *domain.grid) if layout == "channels" else (1, *domain.grid, width)
            return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(first)
    raise InputError(
        "the number of channels cannot be read off the network's layers; give `example`, a field on the training grid"
    )
