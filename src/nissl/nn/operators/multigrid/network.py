"""MgNO: a fully connected network whose neurons hold functions and whose connections are multigrid cycles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nissl.errors import InputError, unknown
from nissl.nn.operators._checks import check_field, whole
from nissl.nn.operators.multigrid._grid import check_boundary, check_grid
from nissl.nn.operators.multigrid.field import BiasField
from nissl.nn.operators.multigrid.operator import MultigridOperator, channels_last

BIASES = ("pointwise", "constant", "field")


class PointwiseMap(nn.Linear):
    """A linear map of the channels at each point, as a product along the last axis, where `channels_last` keeps them.

    Parameters
    ----------
    in_features, out_features, bias
        As for `torch.nn.Linear`: channels before and after.

    Notes
    -----
    ``v(x) = K u(x) + b``: a convolution of one tap, which torch would run slowly for small batches on one core.

    References
    ----------
    He, Liu, Xu 2024, MgNO: Efficient Parameterization of Linear Operators via Multigrid (section 3).

    Examples
    --------
    >>> PointwiseMap(3, 5)(torch.randn(2, 3, 8, 8)).shape
    torch.Size([2, 5, 8, 8])
    """

    def forward(self, input: Float[Tensor, "batch in_channel *grid"]) -> Float[Tensor, "batch channel *grid"]:  # noqa: A002
        """The channels of each point, mixed."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class MultigridLayer(nn.Module):
    """Neurons that hold functions, each connected to all input functions by multigrid cycles, and a GELU.

    Parameters
    ----------
    in_channels, channels
        Functions that come in, and neurons.
    smoothing_steps, **options
        As for `MultigridOperator`.
    bias
        What is added before the GELU: `pointwise`, a 1 x 1 convolution of the input and a constant; `constant`, the constant
        alone; `field`, a learned function for each neuron.
    grid
        For `field`: the points along each axis at which that function is kept.

    Raises
    ------
    InputError, UnknownNameError
        As for `MultigridOperator`; a field without a grid.

    Notes
    -----
    ``O(u) = GELU(V u + B(u))``, V a `MultigridOperator` and ``B(u) = K u + b``, ``b``, or ``b(x)``.

    References
    ----------
    He, Liu, Xu 2024, MgNO: Efficient Parameterization of Linear Operators via Multigrid (equation 2).

    Examples
    --------
    >>> MultigridLayer(3, 8, (1, 1, 2))(torch.randn(2, 3, 31, 31)).shape
    torch.Size([2, 8, 31, 31])
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        smoothing_steps: Sequence[int] = (1, 1, 1, 2),
        *,
        bias: str = "pointwise",
        grid: Sequence[int] | None = None,
        **options: object,
    ) -> None:
        super().__init__()
        self.operator = MultigridOperator(in_channels, channels, smoothing_steps, **options)  # type: ignore[arg-type]
        n_dims = self.operator.n_dims
        self.bias = bias
        if bias not in BIASES:
            raise unknown("bias", bias, BIASES)
        if bias == "field":
            self.added = BiasField(channels, _given_grid(grid, n_dims), self.operator.nodes)
        elif bias == "pointwise":
            self.added = PointwiseMap(in_channels, channels)
        else:
            self.added = BiasField(channels, (1,) * n_dims, self.operator.nodes)

    def forward(self, u: Float[Tensor, "batch in_channel *grid"]) -> Float[Tensor, "batch channel *grid"]:
        """Functions of the neurons."""
        u = channels_last(u)
        return functional.gelu(self.operator(u) + self.added(u))

    def extra_repr(self) -> str:
        """The kind of bias."""
        return f"bias={self.bias!r}"


class MgNO(nn.Module):
    """Multigrid neural operator, a network from functions to functions on a uniform grid.

    Parameters
    ----------
    in_channels, out_channels
        Functions that come in and go out.
    width
        Neurons of each hidden layer.
    depth
        Hidden layers.
    smoothing_steps, post_smoothing, boundary, coarse, norm, nodes, n_dims
        As for `MultigridOperator`, the same in all layers.
    bias, grid
        As for `MultigridLayer`.

    Raises
    ------
    InputError
        Sizes that cannot be; before the first layer works, a grid that does not fit, and data of another boundary condition.
    UnknownNameError
        Another boundary, bias, coarse or nodes.

    Notes
    -----
    Hidden layers are ``u <- GELU(V u + K u + b)`` with V a multigrid cycle, and the output is ``Q u`` without a bias, Q the same at
    every point. There is neither lifting nor projection: the first layer takes the input functions as they are. Standardise
    inputs and outputs; the outputs of differential equations are small numbers, and weight decay makes them smaller.

    Boundary conditions enter through the padding of the stencils, so `boundary` must be that of the data. The weights belong to
    the spacing of the training grid: other grids are accepted, and mean another operator there.

    References
    ----------
    He, Liu, Xu 2024, MgNO: Efficient Parameterization of Linear Operators via Multigrid.

    Examples
    --------
    >>> net = MgNO(1, 1, width=12, depth=3, boundary="dirichlet")
    >>> net(torch.randn(2, 1, 31, 31)).shape, sum(p.numel() for p in net.parameters())
    (torch.Size([2, 1, 31, 31]), 55779)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int,
        depth: int,
        smoothing_steps: Sequence[int] = (1, 1, 1, 2),
        *,
        post_smoothing: int | Sequence[int] = 0,
        boundary: str = "dirichlet",
        coarse: str = "restrict",
        norm: bool = False,
        nodes: str | None = None,
        bias: str = "pointwise",
        grid: Sequence[int] | None = None,
        n_dims: int = 2,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = (
            whole("in_channels", in_channels, 1),
            whole("out_channels", out_channels, 1),
        )
        self.width, self.depth, self.n_dims = whole("width", width, 1), whole("depth", depth, 1), n_dims
        self.boundary = boundary
        self.layers = nn.ModuleList(
            MultigridLayer(
                width if i else in_channels, width, smoothing_steps, post_smoothing=post_smoothing, boundary=boundary,
                coarse=coarse, norm=norm, nodes=nodes, bias=bias, grid=grid, n_dims=n_dims,
            )
            for i in range(depth)
        )  # fmt: skip
        self.readout = PointwiseMap(width, out_channels, bias=False)

    def forward(self, u: Float[Tensor, "batch in_channel *grid"]) -> Float[Tensor, "batch out_channel *grid"]:
        """Output functions on the input's grid.

        Raises
        ------
        InputError
            Another number of channels or axes, or a grid on which the levels do not fit.
        """
        check_field(u, self.in_channels, self.n_dims, "MgNO")
        operator: MultigridOperator = self.layers[0].operator  # type: ignore[assignment]
        check_grid(u.shape[2:], len(operator.smoothing_steps), operator.nodes)
        u = channels_last(u)
        for layer in self.layers:
            u = layer(u)
        return self.readout(u)

    def predict(self, field: xr.DataArray) -> xr.DataArray:
        """Output functions for a labelled field.

        Parameters
        ----------
        field
            Axes (sample, y, x), or (sample, channel, y, x); one space axis or three go by their own names. If
            `attrs["boundary"]` is there, it must be that of the network.

        Returns
        -------
        xarray.DataArray
            Axes (sample, channel, y, x), coordinates as given.

        Raises
        ------
        InputError
            Another boundary condition, values that are NaN or infinite, a grid that does not fit.
        """
        check_boundary(self.boundary, field)
        weight = next(self.parameters())
        values = torch.as_tensor(field.values, dtype=weight.dtype, device=weight.device)
        if not torch.isfinite(values).all():
            raise InputError("the field has values that are NaN or infinite; fill or leave out those samples")
        axes = field.dims[field.ndim - self.n_dims :]
        with torch.no_grad():
            out = self(values if "channel" in field.dims else values.unsqueeze(1))
        coords = {name: field.coords[name] for name in (field.dims[0], *axes) if name in field.coords}
        return xr.DataArray(out.cpu().numpy(), coords, (field.dims[0], "channel", *axes), attrs=dict(field.attrs))

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_channels}, {self.out_channels}, width={self.width}, depth={self.depth}"


def _given_grid(grid: Sequence[int] | None, n_dims: int) -> tuple[int, ...]:
    if grid is None or len(grid) != n_dims or min(grid) < 1:
        raise InputError(
            f"bias='field' with grid={grid!r}; give the points along each of the {n_dims} axes, for example the data's"
        )
    return tuple(grid)
