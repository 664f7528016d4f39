"""How a convolution with a forward of its own pads its input: found by trying."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch
from torch import nn

from nissl.nn.operators._taps import convolve
from nissl.nn.operators.converting.domain import Grid


def measured_padding(layer: nn.Module, size: Grid) -> tuple[int, ...] | None:
    """Zeros that a subclass of torch's convolutions puts before each axis, or None where it does something else.

    Parameters
    ----------
    layer
        With the weights and settings of a convolution, whatever its `forward` does with them.
    size
        Its training grid.

    Examples
    --------
    >>> class Late(nn.Conv1d):
    ...     def forward(self, x):
    ...         return super().forward(nn.functional.pad(x, (0, 2)))
    >>> measured_padding(Late(1, 1, 3), (8,))
    (0,)
    """
    conv: Any = layer
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, conv.in_channels, *size, generator=generator).to(conv.weight)
    if any(d != 1 for d in conv.dilation) or conv.padding_mode != "zeros":
        return None
    with torch.no_grad():
        y = conv(x)
        out = [-(-n // s) for n, s in zip(size, conv.stride, strict=True)]
        if list(y.shape[2:]) != out:
            return None
        for before in product(*(range(k) for k in conv.kernel_size)):
            first = [-b for b in before]
            guess = convolve(x, conv.weight, first, out, stride=conv.stride, bias=conv.bias, groups=conv.groups)
            if guess.shape == y.shape and torch.allclose(guess, y, rtol=1e-4, atol=1e-4 * float(y.abs().max())):
                return before
    return None
