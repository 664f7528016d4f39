"""Calls whose shapes torch's own C++ code would work out from numbers: here they keep a free size free."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_OUT = (Tensor.numpy, Tensor.tolist, Tensor.__array__)


class Freeing(TorchFunctionMode):
    """While sizes alone are traced, resampling and sums of three and more arrays take symbols for sizes; in any trace it is
    told where numbers leave torch.

    Parameters
    ----------
    fake
        Whether sizes alone are traced.
    leaving
        Called whenever numbers go to numpy or to a list.
    """

    def __init__(self, fake: bool, leaving: Callable[[], None]) -> None:
        super().__init__()
        self.fake, self.leaving = fake, leaving

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _OUT:
            self.leaving()
        elif self.fake and func is torch.functional.einsum and len(args) > 3 and isinstance(args[0], str):
            return _einsum(args[0], args[1:])
        elif self.fake and func is nn.functional.interpolate:
            found = _resampled(*args, **kwargs) if args else None
            if found is not None:
                return found
        return func(*args, **kwargs)


def _resampled(
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> Tensor | None:
    """The operator behind `interpolate`, given the new size as an expression of the old one; None for what else it can do."""
    target, count = _RESAMPLING.get((mode, x.ndim)), x.ndim - 2
    if target is None or recompute_scale_factor or antialias or (size is None) == (scale_factor is None):
        return None
    if isinstance(size, int | torch.SymInt):
        size = [size] * count
    scales = [scale_factor] * count if isinstance(scale_factor, int | float) else scale_factor
    if len(size or scales) != count:
        return None
    if size is None:
        size = [_times(n, s) for n, s in zip(x.shape[2:], scales, strict=True)]
    options = () if "nearest" in target else (bool(align_corners),)
    return getattr(torch.ops.aten, target).default(x, list(size), *options, *map(float, scales or ()))


def _times(size: Any, scale: float) -> Any:
    return size * int(scale) if float(scale).is_integer() else torch.sym_int(size * scale)


def _einsum(equation: str, operands: Any) -> Tensor:
    """Several products in the order that torch chooses at the sizes of the example."""
    flags = torch.backends.opt_einsum
    path = None
    if flags.is_available() and flags.enabled:
        module: Any = flags.get_opt_einsum()
        shapes = [tuple(n.node.hint if isinstance(n, torch.SymInt) else n for n in t.shape) for t in operands]
        pairs = module.contract_path(equation, *shapes, shapes=True, optimize=flags.strategy)[0]
        path = [i for pair in pairs for i in pair]
    return torch._VF.einsum(equation, operands, path=path)  # type: ignore[attr-defined]


_RESAMPLING: dict[tuple[str, int], str] = {
    **{("nearest", n + 2): f"upsample_nearest{n}d" for n in (1, 2, 3)},
    **{("nearest-exact", n + 2): f"_upsample_nearest_exact{n}d" for n in (1, 2, 3)},
    ("linear", 3): "upsample_linear1d",
    ("bilinear", 4): "upsample_bilinear2d",
    ("bicubic", 4): "upsample_bicubic2d",
    ("trilinear", 5): "upsample_trilinear3d",
}

# Shapes of operators that take numbers only.


def patches(x: Tensor, kernel: Any, dilation: Any, padding: Any, stride: Any) -> Tensor:
    """Of `im2col`: every patch a column."""
    *batch, channels, height, width = x.shape
    spans = zip((height, width), kernel, dilation, padding, stride, strict=True)
    columns = prod((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in spans)
    return x.new_empty([*batch, channels * prod(kernel), columns])


def unpatched(x: Tensor, size: Any, kernel: Any, *rest: Any) -> Tensor:
    """Of `col2im`: columns put back."""
    *batch, rows, _count = x.shape
    return x.new_empty([*batch, rows // prod(kernel), *size])


def spectrum(x: Tensor, dims: Any, _: Any, onesided: bool) -> Tensor:
    """Of the Fourier transform of real numbers."""
    shape = list(x.shape)
    if onesided:
        shape[dims[-1]] = shape[dims[-1]] // 2 + 1
    return x.new_empty(shape, dtype=x.dtype.to_complex())


def rotated(x: Tensor, *_: Any) -> Tensor:
    """Of the Fourier transform of complex numbers."""
    return x.new_empty(list(x.shape))


def unrotated(x: Tensor, dims: Any, _: Any, last: Any) -> Tensor:
    """Of the transform back to real numbers."""
    shape = list(x.shape)
    shape[dims[-1]] = last
    return x.new_empty(shape, dtype=x.dtype.to_real())
