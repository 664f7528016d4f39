"""Layers of a converted network that work on a uniform grid, each around the layer that it replaces."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool1d, max_pool2d, max_pool3d

from nissl.errors import InputError
from nissl.nn.operators._taps import extended, hat_convolve
from nissl.nn.operators.converting.domain import Domain, Grid
from nissl.nn.operators.resampling import InputOutputInterpolation

MAX_POOL = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}


def tuple_of(value: Any, n: int) -> tuple[int, ...]:
    """One whole number an axis, as torch's layers take them."""
    return (value,) * n if isinstance(value, int) else tuple(value)


class Converted(nn.Module):
    """A layer that is the original on the grids it was trained on, and the function behind it on others.

    `original` holds the trained weights, which therefore stay shared wherever they were.
    """

    def __init__(self, original: nn.Module, domain: Domain, sizes: list[Grid], path: str) -> None:
        super().__init__()
        self.original, self.domain, self.sizes, self.path = original, domain, sizes, path

    def forward(self, x: Tensor) -> Tensor:
        """The original where it can be, else `refined`."""
        self.domain.refuse_points(self.path, type(self.original).__name__)
        grid = tuple(x.shape[2:])
        size = self.domain.trained(grid, self.sizes, self.path)
        return self.original(x) if size == grid else self.refined(x, size)

    def refined(self, x: Tensor, size: Grid) -> Tensor:
        """The answer on a grid that was not trained on; `size` is the one that was."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Grids in training."""
        return f"trained on {' and '.join(str(s) for s in self.sizes)}"


class Windowed(Converted):
    """What convolution and pooling have in common: a window, a stride, and where the taps of another grid lie in it."""

    def __init__(self, original: nn.Module, domain: Domain, sizes: list[Grid], path: str) -> None:
        super().__init__(original, domain, sizes, path)
        n = len(sizes[0])
        given: Any = original
        self.kernel_size = tuple_of(given.kernel_size, n)
        self.stride = tuple_of(given.stride, n)
        self.dilation = tuple_of(getattr(given, "dilation", 1), n)
        self.measured = False
        if given.padding == "same":
            self.padding = tuple(d * (k - 1) // 2 for d, k in zip(self.dilation, self.kernel_size, strict=True))
        else:
            self.padding = (0,) * n if given.padding == "valid" else tuple_of(given.padding, n)

    def pad_before(self, padding: tuple[int, ...]) -> None:
        """What was measured of a layer that pads in its own way, with as many outputs as the stride says."""
        self.padding, self.measured = padding, True

    @property
    def keeps_domain(self) -> bool:
        """Whether windows follow each other over the whole domain, as many as the stride says and no fewer."""
        if self.measured:
            return True
        less = self.domain.closed
        ends = zip(self.kernel_size, self.dilation, self.padding, self.stride, strict=True)
        same = (
            self.original.padding == "same"
            or 0 <= less + 2 * p - d * (k - 1) - 1 + s * (1 - less) < s  # one window for each stride
            for k, d, p, s in ends
        )
        return all(same)

    def window(self, axis: int) -> tuple[Tensor, float]:
        """Offsets of the trained taps from the output's point in trained spacings, and the shift of any grid's taps."""
        k, d, p, s = self.kernel_size[axis], self.dilation[axis], self.padding[axis], self.stride[axis]
        shift = 0.5 - s / 2 if self.domain.boundary == "midpoint" else 0.0
        return torch.arange(k, dtype=torch.float64) * d - p + shift, shift

    def with_hats(self, x: Tensor, weight: Tensor, size: Grid, **options: Any) -> Tensor:
        """Convolution with a hat of each weight at its trained tap."""
        nodes, shifts = zip(*map(self.window, range(len(size))), strict=True)
        ratios, out = self.domain.ratios(x.shape[2:], size), self.outputs(tuple(x.shape[2:]))
        return hat_convolve(
            x,
            weight,
            list(nodes),
            ratios,
            out,
            shifts=shifts,
            stride=self.stride,
            narrow=self.domain.kernel == "points",
            **options,
        )

    def outputs(self, grid: Grid) -> list[int]:
        """Points after the stride."""
        less = self.domain.closed
        out = []
        for n, s in zip(grid, self.stride, strict=True):
            if (n - less) % s:
                what = f"{n} points make {n - 1} steps" if less else f"{n} points"
                raise InputError(f"{self.path} has stride {s}, but {what}, not divisible by {s}; choose another grid")
            out.append((n - less) // s + less)
        return out


class HatConv(Windowed):
    """A convolution whose kernel is a sum of hat functions, one at each trained tap."""

    def refined(self, x: Tensor, size: Grid) -> Tensor:
        """Hats read at the taps of this grid; the weights of each sum to what they were."""
        conv: Any = self.original
        return self.with_hats(x, conv.weight, size, mode=conv.padding_mode, bias=conv.bias, groups=conv.groups)


class PatchConv(HatConv):
    """A convolution over patches side by side, of which there are as many on every grid: integrals over them, against hats."""

    def window(self, axis: int) -> tuple[Tensor, float]:
        """From the patch's corner."""
        shift = 0.5 if self.domain.boundary == "midpoint" else 0.0
        return torch.arange(self.kernel_size[axis], dtype=torch.float64) + shift, shift

    def refined(self, x: Tensor, size: Grid) -> Tensor:
        """The windows grow with the grid."""
        conv: Any = self.original
        grid, out = tuple(x.shape[2:]), [s // k for s, k in zip(size, self.kernel_size, strict=True)]
        if any(n % m for n, m in zip(grid, out, strict=True)):
            raise InputError(
                f"{self.path} makes {tuple(out)} patches; a grid of {grid} points is not divisible by that"
            )
        stride = tuple(n // m for n, m in zip(grid, out, strict=True))
        nodes, shifts = zip(*map(self.window, range(len(size))), strict=True)
        return hat_convolve(
            x, conv.weight, list(nodes), self.domain.ratios(grid, size), out, shifts=shifts, stride=stride,
            mode=conv.padding_mode if self.domain.boundary == "periodic" else "replicate", bias=conv.bias, groups=conv.groups,
        )  # fmt: skip


class RadiusAverage(Windowed):
    """Average pooling over a window of the trained physical size."""

    def refined(self, x: Tensor, size: Grid) -> Tensor:
        """As a convolution of each channel with equal weights at the trained taps."""
        equal = x.new_full((x.shape[1], 1, *self.kernel_size), 1 / math.prod(self.kernel_size))
        return self.with_hats(x, equal, size, groups=x.shape[1])


class RadiusMaximum(Windowed):
    """Max pooling over a window of the trained physical size."""

    def refined(self, x: Tensor, size: Grid) -> Tensor:
        """The largest of the points within the window; on coarser grids at least the nearest one."""
        grid, out = tuple(x.shape[2:]), self.outputs(tuple(x.shape[2:]))
        ratios = self.domain.ratios(grid, size)
        first, spans = [], []
        for axis, r in enumerate(ratios):
            nodes, shift = self.window(axis)
            first.append(math.ceil(float(nodes[0]) / r - shift - 1e-9))
            spans.append(max(math.floor(float(nodes[-1]) / r - shift + 1e-9), first[-1]) - first[-1] + 1)
        x = extended(x, first, spans, out, self.stride, "zeros", value=-math.inf)
        y = MAX_POOL[len(grid)](x, spans, stride=self.stride)
        return y[(slice(None), slice(None), *(slice(m) for m in out))]


class Resampled(Converted):
    """A layer that is run on its trained grid, with its input resampled to that and its output back."""

    def __init__(self, original: nn.Module, domain: Domain, sizes: list[Grid], path: str, *, method: str) -> None:
        super().__init__(original, domain, sizes, path)
        self.method = method

    def refined(self, x: Tensor, size: Grid) -> Tensor:
        """By Fourier modes on a periodic domain, else by straight lines."""
        boundary = self.domain.boundary
        return InputOutputInterpolation(self.original, size, method=self.method, boundary=boundary)(x)


class Upsampled(Converted):
    """Upsampling to a fixed size as upsampling by a factor."""

    def refined(self, x: Tensor, size: Grid) -> Tensor:
        """To the same multiple of the present grid."""
        up: Any = self.original
        less = self.domain.closed
        out = []
        for n, s, target in zip(x.shape[2:], size, tuple_of(up.size, len(size)), strict=True):
            steps, rest = divmod((n - less) * (target - less), s - less)
            if rest:
                raise InputError(
                    f"{self.path} takes {s} points to {target}; {n} points cannot be taken to as many times more"
                )
            out.append(steps + less)
        return nn.functional.interpolate(x, size=out, mode=up.mode, align_corners=up.align_corners)
