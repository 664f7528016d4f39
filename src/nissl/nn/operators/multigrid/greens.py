"""What one connection does: the response of an output function to a point source in an input function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr

from nissl.axes import Axis
from nissl.errors import InputError, ModelError
from nissl.nn.operators.multigrid._grid import check_grid
from nissl.nn.operators.multigrid.network import MultigridLayer
from nissl.nn.operators.multigrid.operator import MultigridOperator


def greens_function(
    operator: MultigridOperator | MultigridLayer,
    out_unit: int,
    in_unit: int,
    location: Sequence[int],
    *,
    size: int | Sequence[int],
) -> xr.DataArray:
    """Response of one output unit to a unit impulse at one node of one input unit.

    Parameters
    ----------
    operator
        A multigrid operator, or a layer, of which its operator is taken: bias and GELU have no part.
    out_unit, in_unit
        The connection.
    location
        Indices of the node, y and x (or as many as there are axes).
    size
        Points of the grid along each axis, or of each.

    Returns
    -------
    xarray.DataArray
        Axes (y, x) with coordinates in units of a domain of length 1; `attrs` say which connection and where the impulse is. The
        sum over sources of a function's values times these is what the connection makes of the function.

    Raises
    ------
    InputError
        A unit or a node that does not exist, a grid that does not fit.
    ModelError
        The operator normalises, so it is not linear and has no Green's function.

    Examples
    --------
    >>> response = greens_function(MultigridOperator(2, 4), 3, 1, (10, 20), size=31)
    >>> response.dims, response.shape
    (('y', 'x'), (31, 31))
    """
    if isinstance(operator, MultigridLayer):
        operator = operator.operator
    if not isinstance(operator, MultigridOperator):
        raise InputError(
            f"greens_function takes a MultigridOperator or MultigridLayer, not {type(operator).__name__}; give one layer's operator, such as network.layers[0].operator"
        )
    if operator.norm:
        raise ModelError(
            "the operator normalises after prolongation, so it is not linear and has no Green's function; use norm=False"
        )
    n_dims = operator.n_dims
    grid = (size,) * n_dims if isinstance(size, int) else tuple(size)
    if len(grid) != n_dims or len(location) != n_dims:
        raise InputError(f"size={size!r}, location={tuple(location)}; allowed: {n_dims} numbers of each")
    check_grid(grid, len(operator.smoothing_steps), operator.nodes)
    for what, index, count in (("out_unit", out_unit, operator.channels), ("in_unit", in_unit, operator.in_channels)):
        if not 0 <= index < count:
            raise InputError(f"{what}={index}; allowed: 0 to {count - 1}")
    if any(not 0 <= i < n for i, n in zip(location, grid, strict=True)):
        raise InputError(
            f"location={tuple(location)}; allowed: nodes of a grid of {' x '.join(map(str, grid))}, from 0"
        )
    weight = next(operator.parameters())
    impulse = torch.zeros(1, operator.in_channels, *grid, dtype=weight.dtype, device=weight.device)
    impulse[(0, in_unit, *location)] = 1.0
    with torch.no_grad():
        response = operator(impulse)[0, out_unit].cpu().numpy()
    axes = [Axis.uniform(name, n, boundary=operator.nodes) for name, n in zip("zyx"[3 - n_dims :], grid, strict=True)]
    return xr.DataArray(
        response, {axis.name: axis.points for axis in axes}, tuple(axis.name for axis in axes), "greens_function",
        {"out_unit": out_unit, "in_unit": in_unit, "location": list(location), "boundary": operator.boundary},
    )  # fmt: skip
