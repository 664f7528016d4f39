"""Patch embedding of a vision transformer as an integral over patches of fixed physical size."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError
from nissl.nn.operators._checks import check_field, whole
from nissl.nn.operators._taps import along, convolve


class PatchIntegral(nn.Module):
    """A token for each patch of the domain: integrals of the field over it, against kernel functions.

    Parameters
    ----------
    in_channels, channels
        Channels of the field and of a token.
    patches
        Patches along each axis, whatever the grid.
    order
        Kernel functions along each axis: cosines of 0, 1, ... half-periods a patch.
    n_dims
        Axes of space, one to three.

    Raises
    ------
    InputError
        A field that does not fit, or a grid that the patches do not divide.

    Notes
    -----
    token_p = (1/|P|) ∫_P Σ_l W_l φ_l(x - x_P) u(x) dx + c by the midpoint rule, φ_l products of cos(π l s), s from 0 to 1 across the
    patch. Points are taken as middles of cells. Output: (batch, token, channel), tokens in row-major order.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> embed = PatchIntegral(3, 16, patches=4)
    >>> embed(torch.randn(2, 3, 32, 32)).shape, embed(torch.randn(2, 3, 64, 64)).shape
    (torch.Size([2, 16, 16]), torch.Size([2, 16, 16]))
    """

    def __init__(self, in_channels: int, channels: int, patches: int, *, order: int = 4, n_dims: int = 2) -> None:
        super().__init__()
        self.in_channels, self.channels = whole("in_channels", in_channels, 1), whole("channels", channels, 1)
        self.patches, self.order = whole("patches", patches, 1), whole("order", order, 1)
        if n_dims not in (1, 2, 3):
            raise InputError(f"n_dims={n_dims!r}; allowed: 1, 2, 3")
        self.n_dims = n_dims
        self.weight = nn.Parameter(torch.empty(channels, in_channels, *(order,) * n_dims))
        self.bias = nn.Parameter(torch.zeros(channels))
        bound = 1 / math.sqrt(in_channels)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch token channel"]:
        """Tokens of the patches."""
        check_field(x, self.in_channels, self.n_dims, "PatchIntegral")
        if any(n % self.patches for n in x.shape[2:]):
            raise InputError(
                f"a grid of {tuple(x.shape[2:])} points is not divisible into {self.patches} patches an axis"
            )
        kernel, points = self.weight, [n // self.patches for n in x.shape[2:]]
        for axis, n in enumerate(points):
            place = (torch.arange(n, dtype=torch.float64, device=x.device) + 0.5) / n
            cosines = torch.cos(math.pi * place[:, None] * torch.arange(self.order, device=x.device)) / n
            kernel = along(kernel, cosines.T, 2 + axis)
        out = [self.patches] * self.n_dims
        y = convolve(x, kernel, [0] * self.n_dims, out, stride=tuple(points), bias=self.bias)
        return y.flatten(2).transpose(1, 2)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_channels}, {self.channels}, patches={self.patches}, order={self.order}, n_dims={self.n_dims}"
