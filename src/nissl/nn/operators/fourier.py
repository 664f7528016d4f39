"""The Fourier neural operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from nissl.errors import InputError
from nissl.nn.operators._checks import check_field, each_axis, whole
from nissl.nn.operators._spectral import SpectralConv
from nissl.nn.operators.coordinates import grid_coordinates


class Pointwise(nn.Module):
    """A linear map of the channels at each point: a convolution of one tap, and so an operator on any grid.

    Parameters
    ----------
    in_channels, out_channels
        Channels before and after.

    Notes
    -----
    v(x) = W u(x) + c, the same W and c at every point x.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> Pointwise(3, 5)(torch.randn(2, 3, 8, 8)).shape
    torch.Size([2, 5, 8, 8])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(whole("in_channels", in_channels, 1), whole("out_channels", out_channels, 1))

    def forward(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch out *grid"]:
        """The channels of each point, mixed."""
        weight, bias = self.linear.weight, self.linear.bias
        y = torch.matmul(weight, x.flatten(2)) + bias[:, None]
        return y.unflatten(2, x.shape[2:])

    def extra_repr(self) -> str:
        """Channels."""
        return f"{self.linear.in_features}, {self.linear.out_features}"


class FourierNeuralOperator(nn.Module):
    """Fourier neural operator: spectral convolutions beside pointwise maps, on any uniform grid.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the given field and of the one that is predicted.
    width
        Channels in between.
    modes
        Frequencies kept along each axis, counted from zero up; one number, or one an axis.
    depth
        Layers.
    padding
        Zeros added at the end of each axis before the layers and cut off after them, as a fraction of the axis: for fields
        that are not periodic. A fraction, so that it is the same length on every grid.
    coordinates
        Append the coordinates of the grid as channels.
    projection
        Width of the hidden layer of the pointwise maps at both ends.
    n_dims
        Axes of space.
    boundary
        Where the points of the grid lie on the domain, for the coordinates: `periodic`, `closed`, `interior` or `midpoint`.

    Raises
    ------
    InputError
        Sizes that cannot be, a field with other channels or axes.

    Notes
    -----
    With P and Q pointwise maps of one hidden layer, K_l a `SpectralConv`, W_l a pointwise linear map::

        h_0 = P([u, x]),   h_{l+1} = gelu(K_l h_l + W_l h_l),   v = Q(h_depth)

    and no gelu after the last layer. Whatever the grid, the weights are those of one map between functions.

    References
    ----------
    Li, Kovachki, Azizzadenesheli and others 2021, Fourier Neural Operator for Parametric Partial Differential Equations.

    Examples
    --------
    >>> net = FourierNeuralOperator(1, 2, width=16, modes=8, depth=3)
    >>> net(torch.randn(4, 1, 32, 32)).shape, net(torch.randn(4, 1, 48, 40)).shape
    (torch.Size([4, 2, 32, 32]), torch.Size([4, 2, 48, 40]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        modes: int | Sequence[int],
        depth: int,
        *,
        padding: float = 0.0,
        coordinates: bool = True,
        projection: int = 64,
        n_dims: int = 2,
        boundary: str = "periodic",
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = (
            whole("in_channels", in_channels, 1),
            whole("out_channels", out_channels, 1),
        )
        self.width, self.depth = whole("width", width, 1), whole("depth", depth, 1)
        self.n_dims = whole("n_dims", n_dims, 1)
        self.modes = each_axis("modes", modes, self.n_dims, 1)
        self.projection = whole("projection", projection, 1)
        if not 0 <= padding <= 2:
            raise InputError(f"padding={padding!r}; allowed: a fraction of the axis from 0 to 2")
        self.padding, self.coordinates, self.boundary = float(padding), bool(coordinates), boundary
        lifted = in_channels + (self.n_dims if coordinates else 0)
        self.lift = nn.ModuleList([Pointwise(lifted, projection), Pointwise(projection, width)])
        self.spectral = nn.ModuleList(SpectralConv(width, width, self.modes, bias=False) for _ in range(depth))
        self.pointwise = nn.ModuleList(Pointwise(width, width) for _ in range(depth))
        self.project = nn.ModuleList([Pointwise(width, projection), Pointwise(projection, out_channels)])

    def forward(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch out *grid"]:
        """The predicted field, on the grid of the given one."""
        check_field(x, self.in_channels, self.n_dims, "FourierNeuralOperator")
        grid = x.shape[2:]
        if self.coordinates:
            where = grid_coordinates(x, boundary=self.boundary)
            x = torch.cat([x, where.expand(len(x), *where.shape[1:])], 1)
        x = self.lift[1](gelu(self.lift[0](x)))
        added = [round(self.padding * n) for n in grid]
        if any(added):
            x = pad(x, [side for n in reversed(added) for side in (0, n)])
        for i, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            x = spectral(x) + pointwise(x)
            if i + 1 < self.depth:
                x = gelu(x)
        if any(added):
            x = x[(slice(None), slice(None), *(slice(n) for n in grid))]
        return self.project[1](gelu(self.project[0](x)))

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"{self.in_channels}, {self.out_channels}, width={self.width}, modes={self.modes}, depth={self.depth}, "
            f"padding={self.padding:g}, coordinates={self.coordinates}, projection={self.projection}, n_dims={self.n_dims}, "
            f"boundary={self.boundary!r}"
        )
