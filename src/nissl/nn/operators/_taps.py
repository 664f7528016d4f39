"""A kernel that is a function, read at the points of a grid, and the convolution with what was read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, conv3d, pad

from nissl.errors import InputError

CONVOLVE = {1: conv1d, 2: conv2d, 3: conv3d}
PAD_MODES = {"zeros": "constant", "circular": "circular", "reflect": "reflect", "replicate": "replicate"}


def hat_taps(
    nodes: Float[Tensor, "node"], ratio: float, shift: float = 0.0, *, narrow: bool = False
) -> tuple[int, Float[Tensor, "tap node"]]:
    """How much each hat function gives to each tap of a grid.

    Parameters
    ----------
    nodes
        Where the hats have their peaks, in distances between nodes.
    ratio
        Spacing of the grid, in the same unit. Tap t lies at (t + shift) ratio.
    shift
        Of the taps against the point whose value is computed.
    narrow
        Hats are as wide as the grid's spacing on finer grids too: the field is read at the nodes, between points by straight lines.

    Returns
    -------
    int, Tensor
        The first tap's t, and the shares. Those of a node sum to one on every grid, so that the kernel's integral is kept. On the
        nodes' own grid the shares are the identity. On coarser grids the hats are as wide as the grid's spacing.
    """
    wide = ratio if narrow else max(ratio, 1.0)
    first = math.floor((float(nodes[0]) - wide) / ratio - shift + 1e-9) + 1
    last = math.ceil((float(nodes[-1]) + wide) / ratio - shift - 1e-9) - 1
    places = (torch.arange(first, last + 1, dtype=torch.float64, device=nodes.device) + shift) * ratio
    shares = (1 - (places[:, None] - nodes.double()).abs() / wide).clamp(min=0)
    return first, shares / shares.sum(0)


def along(values: Tensor, matrix: Float[Tensor, "before after"], axis: int) -> Tensor:
    """The product with a matrix along one axis."""
    return (values.movedim(axis, -1) @ matrix.to(values)).movedim(-1, axis)


def read_kernel(weight: Float[Tensor, "out in *node"], shares: list[Tensor]) -> Float[Tensor, "out in *tap"]:
    """A product of hats, one an axis, with the given weights, at the taps."""
    for axis, share in enumerate(shares):
        weight = along(weight, share.T, 2 + axis)
    return weight


def hat_convolve(
    x: Float[Tensor, "batch in *grid"],
    weight: Float[Tensor, "out in *node"],
    nodes: list[Tensor],
    ratios: Sequence[float],
    out: list[int],
    *,
    shifts: Sequence[float] | None = None,
    stride: tuple[int, ...],
    mode: str = "zeros",
    bias: Tensor | None = None,
    groups: int = 1,
    narrow: bool = False,
) -> Float[Tensor, "batch out *grid"]:
    """Convolution with a sum of hats, one at each of the equally spaced nodes of each axis, with the given weights.

    Where the distance between nodes is a whole number of the grid's spacings, this is one hat over all channels, and then a dilated
    convolution with as many taps as nodes: the cost for a point does not grow as the grid is refined.
    """
    shifts = shifts or [0.0] * len(nodes)
    counts = [round(1 / r) for r in ratios]
    if any(q < 1 or abs(q * r - 1) > 1e-9 for q, r in zip(counts, ratios, strict=True)):
        taps = [hat_taps(n.to(x.device), r, c, narrow=narrow) for n, r, c in zip(nodes, ratios, shifts, strict=True)]
        kernel = read_kernel(weight, [shares for _, shares in taps])
        return convolve(x, kernel, [t for t, _ in taps], out, stride=stride, mode=mode, bias=bias, groups=groups)
    first, dilation, hats = [], [], []
    for place, q, shift in zip(nodes, counts, shifts, strict=True):
        start = float(place[0]) * q - shift  # of the first node, in spacings of this grid
        begin = math.floor(start + 1e-9)
        part = start - begin
        wide = 1 if narrow else q
        low, high = math.floor(part - wide + 1e-9) + 1, math.ceil(part + wide - 1e-9) - 1
        hat = 1 - (torch.arange(low, high + 1, dtype=torch.float64, device=x.device) - part).abs() / wide
        first.append(begin + low)
        dilation.append(round(float(place[1] - place[0])) * q if len(place) > 1 else 1)
        hats.append(hat / hat.sum())
    sizes = [(len(n) - 1) * d + len(h) for n, d, h in zip(nodes, dilation, hats, strict=True)]
    x = extended(x, first, sizes, out, stride, mode)
    channels, dims = x.shape[1], len(out)
    for axis, hat in enumerate(hats):
        if len(hat) > 1:
            line = (
                hat.to(x.dtype).view(*(-1 if a == axis else 1 for a in range(dims))).expand(channels, 1, *[-1] * dims)
            )
            x = CONVOLVE[dims](x, line, groups=channels)
    y = CONVOLVE[dims](x, weight, bias, stride=stride, dilation=tuple(dilation), groups=groups)
    return y[(slice(None), slice(None), *(slice(m) for m in out))]


def convolve(
    x: Float[Tensor, "batch in *grid"],
    kernel: Float[Tensor, "out in *tap"],
    first: list[int],
    out: list[int],
    *,
    stride: tuple[int, ...],
    mode: str = "zeros",
    bias: Tensor | None = None,
    groups: int = 1,
) -> Float[Tensor, "batch out *grid"]:
    """Output i is the sum over taps of kernel[t] x[i stride + first + t]; beyond the grid x goes on as `mode` says."""
    x = extended(x, first, list(kernel.shape[2:]), out, stride, mode)
    y = CONVOLVE[len(out)](x, kernel, bias, stride=stride, groups=groups)
    return y[(slice(None), slice(None), *(slice(m) for m in out))]


def extended(
    x: Tensor,
    first: list[int],
    sizes: list[int],
    out: list[int],
    stride: tuple[int, ...],
    mode: str,
    value: float = 0.0,
) -> Tensor:
    """The field with all that windows of the given sizes look at, and nothing before the first of them."""
    sides: list[int] = []
    for n, size, begin, m, step in zip(x.shape[2:], sizes, first, out, stride, strict=True):
        left, right = max(-begin, 0), max((m - 1) * step + begin + size - n, 0)
        if (mode == "circular" and max(left, right) > n) or (mode == "reflect" and max(left, right) >= n):
            raise InputError(
                f"a kernel that reaches {max(left, right)} points beyond an axis of {n} cannot be continued there by {mode!r}; "
                "use a finer grid or a smaller radius"
            )
        sides = [left, right, *sides]
    if any(sides):
        x = pad(x, sides, mode=PAD_MODES[mode], value=value if mode == "zeros" else None)
    return x[(slice(None), slice(None), *(slice(max(b, 0), None) for b in first))]
