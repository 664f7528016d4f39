"""Grids of a multigrid hierarchy: where coarse nodes lie among the fine ones, and how many levels fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import xarray as xr

from nissl.axes import Axis
from nissl.errors import InputError, unknown

PADDING = {"dirichlet": "zeros", "periodic": "circular", "neumann": "reflect"}
NODES_OF = {"dirichlet": "interior", "periodic": "periodic", "neumann": "closed"}


@dataclass(frozen=True)
class Nesting:
    """How a grid is halved.

    Attributes
    ----------
    padding
        Points added at each end before the strided convolution of three taps.
    taps, cropped
        Kernel size of the transposed convolution, and points that it leaves away at each end.
    wrapped
        Points of the coarse grid that are repeated at each end before the transposed convolution.
    """

    padding: int
    taps: int
    cropped: int
    wrapped: int = 0


NESTINGS = {
    "interior": Nesting(padding=0, taps=3, cropped=0),  # coarse node j is fine node 2j + 1: 31, 15, 7, 3
    "closed": Nesting(padding=1, taps=3, cropped=1),  # coarse node j is fine node 2j: 33, 17, 9, 5
    "periodic": Nesting(padding=1, taps=4, cropped=3, wrapped=1),  # the same, without an end: 32, 16, 8, 4
}


def coarser(size: int, nodes: str) -> int:
    """Points of the next coarser grid along one axis.

    Examples
    --------
    >>> [coarser(31, "interior"), coarser(33, "closed"), coarser(32, "periodic"), coarser(101, "interior")]
    [15, 17, 16, 50]
    """
    return (size + 2 * NESTINGS[nodes].padding - 3) // 2 + 1


def levels_that_fit(grid: Sequence[int], nodes: str) -> int:
    """How many levels a grid can have.

    Examples
    --------
    >>> levels_that_fit((31, 31), "interior"), levels_that_fit((24, 64), "periodic"), levels_that_fit((7, 31), "interior")
    (5, 4, 3)
    """
    least = 1 if nodes == "interior" else 2  # one point between two ends is a grid; one point alone is none
    levels, sizes = 1, list(grid)
    while True:
        if nodes == "periodic" and any(n % 2 for n in sizes):
            return levels
        halved = [coarser(n, nodes) for n in sizes]
        if min(halved) < least or halved == sizes:
            return levels
        levels, sizes = levels + 1, halved


def check_grid(grid: Sequence[int], levels: int, nodes: str) -> None:
    """Refuse grids on which the levels do not fit, and say how many would."""
    shape = " x ".join(map(str, grid))
    if min(grid) < 2:
        raise InputError(
            f"the grid has {shape} points; an axis one point wide has no neighbours, and needs at least 2. Drop that axis and give "
            "n_dims accordingly"
        )
    fit = levels_that_fit(grid, nodes)
    if fit >= levels:
        return
    if nodes == "periodic" and any(n % 2 ** (levels - 1) for n in grid):
        raise InputError(
            f"a periodic grid of {shape} points cannot be halved {levels - 1} times: each side must be divisible by "
            f"{2 ** (levels - 1)}; {fit} level{'s fit' if fit > 1 else ' fits'}, so give {fit} smoothing steps, or resample the data"
        )
    raise InputError(
        f"a grid of {shape} points is too coarse for {levels} levels; {fit} level{'s fit' if fit > 1 else ' fits'} ({nodes} "
        f"nodes), so give {fit} smoothing steps or a finer grid"
    )


def check_names(boundary: str, nodes: str | None) -> str:
    """The kind of nodes, after both names were looked up."""
    if boundary not in PADDING:
        raise unknown("boundary condition", boundary, PADDING)
    if nodes is not None and nodes not in NESTINGS:
        raise unknown("kind of nodes", nodes, NESTINGS)
    return NODES_OF[boundary] if nodes is None else nodes


def check_boundary(boundary: str, *fields: xr.DataArray | xr.Dataset | Axis) -> None:
    """Refuse data whose boundary condition is known and another one.

    Parameters
    ----------
    boundary
        `dirichlet`, `periodic` or `neumann`.
    fields
        Data with `attrs["boundary"]`, or axes: one with a period is periodic, one with points and no period is not.

    Raises
    ------
    InputError
        They differ.
    UnknownNameError
        No such boundary condition.

    Examples
    --------
    >>> check_boundary("periodic", Axis.uniform("x", 8, boundary="periodic"))
    >>> check_boundary("dirichlet", Axis.uniform("x", 8, boundary="periodic"))
    Traceback (most recent call last):
    nissl.errors.InputError: boundary='dirichlet', but axis 'x' has period 1; give boundary='periodic', or drop the period
    """
    check_names(boundary, None)
    for field in fields:
        if isinstance(field, Axis):
            if field.period is not None and boundary != "periodic":
                raise InputError(
                    f"boundary={boundary!r}, but axis {field.name!r} has period {field.period:g}; give boundary='periodic', or drop "
                    "the period"
                )
            if field.period is None and field.points is not None and boundary == "periodic":
                raise InputError(
                    f"boundary='periodic', but axis {field.name!r} has no period; give boundary='dirichlet' or 'neumann', or the "
                    "axis its period"
                )
        elif field.attrs.get("boundary", boundary) != boundary:
            raise InputError(
                f"boundary={boundary!r}, but the data say boundary={field.attrs['boundary']!r}; build the operator with that one"
            )
