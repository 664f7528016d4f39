"""Errors of functions, relative to the size of the function that should have come out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from nissl.errors import InputError, unknown

BOUNDARIES = ("dirichlet", "periodic", "neumann")
FORMS = ("difference", "spectral")


def relative_l2_loss(
    pred: Float[Tensor, "batch channel *grid"],
    target: Float[Tensor, "batch channel *grid"],
    weights: Float[Tensor, "*grid"] | None = None,
) -> Float[Tensor, ""]:
    """Error over size, both in the L2 norm, averaged over samples.

    Parameters
    ----------
    pred, target
        Functions on a grid; channels count as one function of several values.
    weights
        Quadrature weights of the points; equal where None.

    Raises
    ------
    InputError
        Shapes that differ, a target that is zero everywhere, or quadrature weights of another grid.

    Examples
    --------
    >>> y = torch.ones(2, 1, 8, 8)
    >>> round(relative_l2_loss(1.1 * y, y).item(), 6)
    0.1
    """
    _check(pred, target)
    if weights is not None and (weights.shape != pred.shape[2:] or not bool((weights >= 0).all())):
        raise InputError(
            f"weights of shape {tuple(weights.shape)}; allowed: {tuple(pred.shape[2:])}, none of them negative"
        )
    squared = [
        (u.square() if weights is None else u.square() * weights).flatten(1).sum(1) for u in (pred - target, target)
    ]
    return _ratio(*squared)


def relative_h1_loss(
    pred: Float[Tensor, "batch channel *grid"],
    target: Float[Tensor, "batch channel *grid"],
    spacing: float | Sequence[float],
    boundary: str = "dirichlet",
    *,
    form: str = "difference",
    highest: int = 20,
) -> Float[Tensor, ""]:
    """Error over size, both in the H1 norm (values and first derivatives), averaged over samples.

    Parameters
    ----------
    pred, target
        Functions on a uniform grid of one to three dimensions.
    spacing
        Distance between neighbours, in units of the domain; one number, or one for each axis.
    boundary
        `dirichlet` (zero just outside the grid), `periodic`, or `neumann` (nothing outside).
    form
        `difference` takes differences of neighbours. `spectral` takes derivatives mode by mode as if the field were periodic,
        as the authors do: squared amplitudes are multiplied by 1 + |k|^2, k in whole waves a period, so `spacing` does not count.
        Of fields that are not periodic the jump at the border then dominates.
    highest
        With `spectral`, the wave number from which on derivatives along an axis have no part.

    Raises
    ------
    InputError
        Shapes that differ, a target that is zero everywhere, spacings that are not positive.
    UnknownNameError
        Another boundary or form.

    Notes
    -----
    ``||u||^2 = sum u^2 + sum_axes sum ((u_{j+1} - u_j) / h)^2``, with the neighbours that the boundary condition gives.

    References
    ----------
    He, Liu, Xu 2024, MgNO: Efficient Parameterization of Linear Operators via Multigrid (section 5).

    Examples
    --------
    >>> x = torch.arange(64) / 64
    >>> wave = torch.sin(2 * math.pi * x).reshape(1, 1, -1)
    >>> ripple = 0.01 * torch.sin(20 * math.pi * x).reshape(1, 1, -1)
    >>> round(relative_l2_loss(wave + ripple, wave).item(), 4), round(relative_h1_loss(wave + ripple, wave, 1 / 64, "periodic").item(), 4)
    (0.01, 0.0949)
    """
    _check(pred, target)
    if boundary not in BOUNDARIES:
        raise unknown("boundary condition", boundary, BOUNDARIES)
    if form not in FORMS:
        raise unknown("form of the H1 loss", form, FORMS)
    n_dims = pred.dim() - 2
    steps = (float(spacing),) * n_dims if isinstance(spacing, int | float) else tuple(map(float, spacing))
    if len(steps) != n_dims or not all(h > 0 and math.isfinite(h) for h in steps):
        raise InputError(f"spacing={spacing!r}; allowed: a positive number, or one for each of {n_dims} axes")
    if form == "spectral":
        return _ratio(*(_spectral(u, highest) for u in (pred - target, target)))
    return _ratio(*(_differences(u, steps, boundary) for u in (pred - target, target)))


def _differences(u: Tensor, steps: Sequence[float], boundary: str) -> Float[Tensor, "batch"]:
    """Squared H1 norm of each sample."""
    total = u.square().flatten(1).sum(1)
    for axis, h in enumerate(steps, start=2):
        if boundary == "dirichlet":
            ends = [0, 0] * (u.dim() - 1 - axis) + [1, 1]
            step = pad(u, ends).diff(dim=axis)
        elif boundary == "periodic":
            step = u.roll(-1, axis) - u
        else:
            step = u.diff(dim=axis)
        total = total + step.square().flatten(1).sum(1) / h**2
    return total


def _spectral(u: Tensor, highest: int) -> Float[Tensor, "batch"]:
    grid = u.shape[2:]
    factor = u.new_ones(())
    for axis, n in enumerate(grid):
        k = torch.fft.fftfreq(n, 1 / n, device=u.device, dtype=u.dtype).abs()
        squared = torch.where(k < highest, k.square(), 0.0)
        factor = factor + squared.reshape(-1, *(1,) * (len(grid) - 1 - axis))
    modes = torch.fft.fftn(u, dim=tuple(range(2, u.dim())))
    return (factor * (modes.real.square() + modes.imag.square())).flatten(1).sum(1)


def _ratio(error: Float[Tensor, "batch"], size: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    """Mean of error over size, from their squares; an error of exactly zero has no gradient, rather than an infinite one."""
    smallest = torch.finfo(error.dtype).tiny
    return (error.clamp_min(smallest).sqrt() / size.sqrt()).mean()


def _check(pred: Tensor, target: Tensor) -> None:
    if pred.shape != target.shape or pred.dim() < 3:
        raise InputError(
            f"prediction {tuple(pred.shape)} and target {tuple(target.shape)}; allowed: two tensors (batch, channel, *grid) of one "
            "shape"
        )
    if not torch.compiler.is_compiling() and not bool(target.flatten(1).any(1).all()):
        raise InputError("a target is zero everywhere, and an error relative to it says nothing; leave that sample out")
