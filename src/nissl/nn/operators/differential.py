"""A stencil that stays a derivative on every grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError
from nissl.nn.operators._checks import check_field, whole
from nissl.nn.operators._taps import convolve
from nissl.nn.operators.local import check_boundary, each_length, spacings


class DifferentialConv(nn.Module):
    """A convolution of few taps as a directional derivative: its mean is subtracted, and it is divided by the spacing.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the field before and after.
    taps
        Along each axis; an odd number.
    n_dims, length, boundary, padding_mode
        As in `LocalIntegralConv`.
    scale
        Weights begin within this share of a convolution's usual range. Small, since a trained stencil may come to lean on terms of
        the order of its training grid's spacing.

    Raises
    ------
    InputError
        An even number of taps, a field that does not fit, or axes with different spacings.

    Notes
    -----
    With spacing h, W̄ the mean of W over its taps, and t the taps from -(taps-1)/2 to (taps-1)/2 along each axis::

        v(x) = (1/h) Σ_t (W_t - W̄) u(x + t h)  →  Σ_t W_t (t · ∇) u(x)   as h → 0

    Symmetric parts of the stencil are of order h and fade; antisymmetric stencils converge with order two. The spacing must be the
    same along all axes.

    References
    ----------
    Liu-Schiaffini, Berner, Bonev and others 2024, Neural Operators with Localized Integral and Differential Kernels.

    Examples
    --------
    >>> layer = DifferentialConv(1, 1, taps=3)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[[-0.5, 0.0, 0.5]]]))
    >>> x = torch.arange(128) / 128
    >>> slope = layer(torch.sin(2 * torch.pi * x)[None, None])[0, 0]
    >>> bool((slope - 2 * torch.pi * torch.cos(2 * torch.pi * x)).abs().max() < 0.01)
    True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        taps: int = 3,
        *,
        n_dims: int = 1,
        length: float | Sequence[float] = 1.0,
        boundary: str = "periodic",
        padding_mode: str | None = None,
        scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = (
            whole("in_channels", in_channels, 1),
            whole("out_channels", out_channels, 1),
        )
        if n_dims not in (1, 2, 3) or whole("taps", taps, 3) % 2 == 0:
            raise InputError(f"taps={taps}, n_dims={n_dims}; allowed: an odd number of taps from 3, and 1, 2 or 3 axes")
        self.n_dims, self.taps = n_dims, taps
        self.length, self.boundary = each_length(length, n_dims), boundary
        self.padding_mode = check_boundary(boundary, padding_mode)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *(taps,) * n_dims))
        bound = scale / math.sqrt(in_channels * taps**n_dims)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch out *grid"]:
        """The derivative at each point."""
        check_field(x, self.in_channels, self.n_dims, "DifferentialConv")
        grid = list(x.shape[2:])
        steps = spacings(grid, self.length, self.boundary)
        if max(steps) > min(steps) * (1 + 1e-6):
            raise InputError(
                f"spacings {', '.join(f'{s:g}' for s in steps)} differ between the axes; one stencil is a derivative only where "
                "they are the same: resample the field, or give the domain's `length`"
            )
        stencil = self.weight - self.weight.mean(tuple(range(2, 2 + self.n_dims)), keepdim=True)
        first, ones = [-(self.taps // 2)] * self.n_dims, (1,) * self.n_dims
        return convolve(x, stencil / steps[0], first, grid, stride=ones, mode=self.padding_mode)

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"{self.in_channels}, {self.out_channels}, taps={self.taps}, n_dims={self.n_dims}, length={self.length}, "
            f"boundary={self.boundary!r}, padding_mode={self.padding_mode!r}"
        )
