"""Local convolution whose kernel is a function of physical distance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError, unknown
from nissl.nn.operators._checks import check_field, whole
from nissl.nn.operators._taps import PAD_MODES, convolve, hat_convolve


class LocalIntegralConv(nn.Module):
    """Integral of a field against a kernel of compact support, the same function on every grid.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the field before and after.
    radius
        Where the kernel ends, in the unit of `length`.
    basis
        How many hat functions an axis, on a box; or, in the plane, (rings, angles) on a disc.
    n_dims
        Axes of space, one to three.
    length
        Of the domain along each axis; one number, or one an axis. With the number of points it gives the spacing.
    boundary
        Where points lie: `periodic`, `closed` or `midpoint`, as in `nissl.axes.Axis.uniform`.
    padding_mode
        How the field goes on beyond the domain: `zeros`, `circular`, `reflect`, `replicate`. Circular if nothing is said and the
        domain is periodic, else zeros.
    bias
        Add a constant to each channel.

    Raises
    ------
    InputError
        A radius or basis that cannot be, a field that does not fit, a grid of one point, circular padding of a domain that is not
        periodic.

    Notes
    -----
    With spacing h, weights W_l and basis functions φ_l of support at most `radius`::

        v(x) = Σ_j h^d κ(x_j - x) u(x_j) + c,    κ(s) = Σ_l W_l φ_l(s) / (Σ_j h^d φ_l(x_j))

    φ_l are products of hat functions with peaks 2 radius/(basis + 1) apart, or on a disc a hat over the distance times a periodic
    hat over the angle, with one function in the middle. The sum under the fraction is the integral of φ_l by the grid's own
    quadrature, so a constant field gives exactly Σ_l W_l on any grid. On a grid whose spacing is that of the peaks, the
    layer on a box is a convolution of torch with `basis` taps, and W its weight. `weight` has shape (out, in, *basis).

    References
    ----------
    Liu-Schiaffini, Berner, Bonev and others 2024, Neural Operators with Localized Integral and Differential Kernels.

    Examples
    --------
    >>> layer = LocalIntegralConv(3, 5, radius=0.1, basis=5, n_dims=2)
    >>> layer(torch.ones(2, 3, 32, 32)).shape
    torch.Size([2, 5, 32, 32])
    >>> flat = [layer(torch.ones(1, 3, n, n))[0, 0, 0, 0].item() for n in (32, 100)]
    >>> abs(flat[0] - flat[1]) < 1e-4
    True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        radius: float,
        basis: int | tuple[int, int] = 5,
        *,
        n_dims: int = 1,
        length: float | Sequence[float] = 1.0,
        boundary: str = "periodic",
        padding_mode: str | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = (
            whole("in_channels", in_channels, 1),
            whole("out_channels", out_channels, 1),
        )
        if n_dims not in (1, 2, 3):
            raise InputError(f"n_dims={n_dims!r}; allowed: 1, 2, 3")
        self.n_dims = n_dims
        self.length = each_length(length, n_dims)
        self.disc = not isinstance(basis, int)
        if not isinstance(basis, int) and (n_dims != 2 or len(basis) != 2):
            raise InputError(f"basis={basis!r}; (rings, angles) make a disc in the plane, so n_dims must be 2")
        self.basis = (
            tuple(whole("basis", b, 1) for b in basis) if not isinstance(basis, int) else whole("basis", basis, 1)
        )
        if not (math.isfinite(radius) and 0 < radius <= min(self.length) / 2):
            raise InputError(
                f"radius={radius!r}; allowed: above 0 and at most half the domain, {min(self.length) / 2:g}"
            )
        self.radius, self.boundary = float(radius), boundary
        self.padding_mode = check_boundary(boundary, padding_mode)
        if isinstance(self.basis, int):
            shape, count = (self.basis,) * n_dims, self.basis**n_dims
        else:
            count = 1 + (self.basis[0] - 1) * self.basis[1]
            shape = (count,)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *shape))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * count)
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Float[Tensor, "batch in *grid"]) -> Float[Tensor, "batch out *grid"]:
        """The integral at each point of the grid."""
        check_field(x, self.in_channels, self.n_dims, "LocalIntegralConv")
        grid = list(x.shape[2:])
        steps = spacings(grid, self.length, self.boundary)
        ones = (1,) * self.n_dims
        if self.boundary == "closed" and self.padding_mode == "zeros":
            x = x * _end_halves(grid, x)  # trapezoid rule: a point at an end stands for half as much
        if not self.disc:
            k = self.weight.shape[2]
            nodes, apart = torch.arange(k) - (k - 1) / 2, 2 * self.radius / (k + 1)
            ratios = [step / apart for step in steps]
            return hat_convolve(
                x, self.weight, [nodes] * self.n_dims, ratios, grid, stride=ones, mode=self.padding_mode, bias=self.bias
            )
        first, kernel = self._on_disc(steps)
        return convolve(x, kernel, first, grid, stride=ones, mode=self.padding_mode, bias=self.bias)

    def _on_disc(self, steps: list[float]) -> tuple[list[int], Tensor]:
        rings, angles = self.basis  # type: ignore[misc]
        reach = [math.ceil(self.radius / step - 1e-9) - 1 for step in steps]
        if min(reach) < 1:
            raise InputError(
                f"radius={self.radius:g} holds no neighbour on a grid of spacing {max(steps):g}; use a finer grid or a larger radius"
            )
        at = [step * torch.arange(-r, r + 1, dtype=torch.float64) for step, r in zip(steps, reach, strict=True)]
        y, x = torch.meshgrid(*at, indexing="ij")
        distance = torch.hypot(y, x) * (rings / self.radius)
        turn = torch.atan2(y, x) * (angles / (2 * math.pi))
        values = [(1 - distance).clamp(min=0)]
        for ring in range(1, rings):
            radial = (1 - (distance - ring).abs()).clamp(min=0)
            for angle in range(angles):
                away = torch.remainder(turn - angle + angles / 2, angles) - angles / 2
                values.append(radial * (1 - away.abs()).clamp(min=0))
        functions = torch.stack(values)
        total = functions.sum((1, 2), keepdim=True)
        if (total == 0).any():
            raise InputError(
                f"{rings} rings of {angles} angles within {self.radius:g} are finer than the grid of spacing {max(steps):g}; use a "
                "finer grid or fewer of them"
            )
        functions = (functions / total).to(self.weight)
        return [-r for r in reach], torch.einsum("oil,lyx->oiyx", self.weight, functions)

    def extra_repr(self) -> str:
        """Sizes, in the domain's unit."""
        return (
            f"{self.in_channels}, {self.out_channels}, radius={self.radius:g}, basis={self.basis}, n_dims={self.n_dims}, "
            f"length={self.length}, boundary={self.boundary!r}, padding_mode={self.padding_mode!r}"
        )


def _end_halves(grid: Sequence[int], like: Tensor) -> Tensor:
    """1, and half of it at the ends of each axis."""
    found = like.new_ones(())
    for n in grid:
        along = like.new_ones(n)
        along[0] = along[-1] = 0.5
        found = found[..., None] * along
    return found


def each_length(length: float | Sequence[float], n_dims: int) -> tuple[float, ...]:
    """Length of the domain along each axis."""
    values = (length,) * n_dims if isinstance(length, int | float) else tuple(length)
    if len(values) != n_dims or not all(math.isfinite(v) and v > 0 for v in values):
        raise InputError(f"length={length!r}; allowed: one positive number, or {n_dims} of them")
    return tuple(float(v) for v in values)


def check_boundary(boundary: str, padding_mode: str | None) -> str:
    """How a field goes on beyond the domain."""
    if boundary not in ("periodic", "closed", "midpoint"):
        raise unknown("boundary", boundary, ("periodic", "closed", "midpoint"))
    mode = padding_mode or ("circular" if boundary == "periodic" else "zeros")
    if mode not in PAD_MODES:
        raise unknown("padding_mode", mode, PAD_MODES)
    if mode == "circular" and boundary == "closed":
        raise InputError(
            "padding_mode='circular' on a closed domain would count its end twice; use boundary='periodic' and leave out the last "
            "point, or another padding"
        )
    return mode


def spacings(grid: Sequence[int], length: Sequence[float], boundary: str) -> list[float]:
    """Distance between the points of each axis."""
    if min(grid) < 2:
        raise InputError(f"a grid of {tuple(grid)} points has an axis without neighbours; at least two are needed")
    less = 1 if boundary == "closed" else 0
    return [size / (n - less) for n, size in zip(grid, length, strict=True)]
