"""Means over space as integrals: normalisation and pooling."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError
from nissl.nn.operators._checks import whole


def quadrature_mean(
    x: Float[Tensor, "batch channel *grid"], weights: Float[Tensor, "*grid"] | Float[Tensor, "point"] | None = None
) -> Float[Tensor, "batch channel"]:
    """Mean of a field over its domain: the integral by the measure. What global average pooling means on any sampling.

    Parameters
    ----------
    x
        A field on a grid or on points.
    weights
        Quadrature weights, of the grid's shape or in a row; equal if None.

    Raises
    ------
    InputError
        Weights of another number than the points.

    Examples
    --------
    >>> x = torch.tensor([[[1.0, 1.0, 4.0]]])
    >>> quadrature_mean(x).item(), quadrature_mean(x, torch.tensor([0.5, 0.5, 1.0])).item()
    (2.0, 2.5)
    """
    values = x.flatten(2)
    if weights is None:
        return values.mean(-1)
    share = _shares(values, weights)
    return values @ share


class QuadratureNorm(nn.Module):
    """Normalisation over space in which mean and variance are integrals.

    Parameters
    ----------
    channels
        Of the field.
    groups
        Groups of channels that share mean and variance: `channels` (the default) is instance norm, 1 is layer norm over channels and
        space, between them is group norm.
    eps
        Added to the variance.
    affine
        Learn a scale and an offset for each channel.

    Raises
    ------
    InputError
        Groups that do not divide the channels, a field or weights that do not fit.

    Notes
    -----
    With D the domain and w_j quadrature weights, over the channels of a group::

        m = Σ_j w_j u_j / |D|,   s² = Σ_j w_j (u_j - m)² / |D|,   v = γ (u - m)/√(s² + eps) + β

    Without weights all points count alike; then this is torch's instance or group norm.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> norm = QuadratureNorm(4)
    >>> norm(torch.full((2, 4, 10), 3.0)).abs().max().item()
    0.0
    """

    def __init__(self, channels: int, groups: int | None = None, *, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.channels = whole("channels", channels, 1)
        self.groups = channels if groups is None else whole("groups", groups, 1)
        if channels % self.groups:
            raise InputError(f"groups={groups} do not divide channels={channels}")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(
        self,
        x: Float[Tensor, "batch channel *grid"],
        weights: Float[Tensor, "*grid"] | Float[Tensor, "point"] | None = None,
    ) -> Float[Tensor, "batch channel *grid"]:
        """The field with mean 0 and variance 1 in each group."""
        if x.dim() < 3 or x.shape[1] != self.channels:
            raise InputError(f"QuadratureNorm takes (batch, {self.channels}, *grid); given {tuple(x.shape)}")
        return normalised(x, self.groups, weights, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.channels}, groups={self.groups}, eps={self.eps:g}, affine={self.weight is not None}"


def normalised(
    x: Tensor, groups: int, weights: Tensor | None, scale: Tensor | None, offset: Tensor | None, eps: float
) -> Tensor:
    """Group norm by quadrature; scale and offset have a value a channel, or one a channel and point."""
    grid = x.shape[2:]
    values = x.flatten(2).unflatten(1, (groups, -1))
    if weights is None:
        var, mean = torch.var_mean(values, (2, 3), correction=0, keepdim=True)
    else:
        share = _shares(values, weights)
        mean = (values @ share).mean(2)[..., None, None]
        var = ((values - mean).square() @ share).mean(2)[..., None, None]
    y = ((values - mean) * torch.rsqrt(var + eps)).flatten(1, 2).unflatten(2, grid)
    if scale is not None:
        y = y * (scale.view(-1, *(1,) * len(grid)) if scale.dim() == 1 else scale)
    if offset is not None:
        y = y + (offset.view(-1, *(1,) * len(grid)) if offset.dim() == 1 else offset)
    return y


def _shares(values: Tensor, weights: Tensor) -> Tensor:
    share = weights.to(values).flatten()
    if len(share) != values.shape[-1]:
        raise InputError(f"{len(share)} quadrature weights for a field on {values.shape[-1]} points")
    return share / share.sum()
