"""A field on another grid, and a network that is only ever run on one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.axes import BOUNDARIES
from nissl.errors import InputError, unknown
from nissl.nn.operators._checks import check_finite, each_axis
from nissl.nn.operators._modes import spread, to_real

METHODS = ("fourier", "linear")


def resample(
    field: Float[Tensor, "batch channel *grid"],
    to: int | Sequence[int],
    method: str = "fourier",
    *,
    boundary: str = "periodic",
) -> Float[Tensor, "batch channel *grid"]:
    """The field that these samples show, read on a uniform grid of another size on the same domain.

    Parameters
    ----------
    field
        Samples on a uniform grid; after batch and channel, all axes are of space.
    to
        Points of the new grid; one number for all axes, or one an axis.
    method
        `fourier`: the one trigonometric polynomial through the samples; exact for band-limited periodic fields.
        `linear`: straight lines between neighbours.
    boundary
        Where points lie on the domain: `periodic`, `closed` or `midpoint`, as in `nissl.axes.Axis.uniform`.

    Raises
    ------
    InputError
        Axes or sizes that do not fit, NaN, or `fourier` on a domain that is not periodic.

    Notes
    -----
    On the way to a coarser grid `fourier` leaves out what that grid cannot show, which makes it an ideal low-pass; `linear`
    does not filter. The mode n/2 of an even grid is taken as half +n/2 and half -n/2.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> x = torch.sin(2 * torch.pi * torch.arange(8) / 8)[None, None]
    >>> fine = resample(x, 16)
    >>> torch.allclose(fine[0, 0], torch.sin(2 * torch.pi * torch.arange(16) / 16), atol=1e-6)
    True
    """
    sizes = _check(field, to, method, boundary)
    check_finite(field, "the field")
    return _fourier(field, sizes) if method == "fourier" else _linear(field, sizes, boundary)


def _fourier(field: Tensor, sizes: tuple[int, ...]) -> Tensor:
    grid = field.shape[2:]
    if tuple(grid) == sizes:
        return field
    v = torch.fft.rfft(field, dim=-1, norm="forward")
    for axis, (n, out) in enumerate(zip(grid[:-1], sizes[:-1], strict=True)):
        if n != out:
            v = torch.fft.fft(v, dim=2 + axis, norm="forward")
            v = torch.fft.ifft(spread(v, 2 + axis, n, out), dim=2 + axis, norm="forward")
    return to_real(v, grid[-1], sizes[-1])


def _linear(field: Tensor, sizes: tuple[int, ...], boundary: str) -> Tensor:
    for axis, out in enumerate(sizes):
        n = field.shape[2 + axis]
        if n == out:
            continue
        place = torch.arange(out, dtype=torch.float64, device=field.device)
        if boundary == "closed":
            place = place * ((n - 1) / max(out - 1, 1))
        elif boundary == "midpoint":
            place = ((place + 0.5) * (n / out) - 0.5).clamp(0, n - 1)
        else:
            place = place * (n / out)
        # Rounding must not push a point that lies on a sample past it.
        left = (place + 1e-9).floor().long().clamp(max=n - 1)
        right = (left + 1) % n if boundary == "periodic" else (left + 1).clamp(max=n - 1)
        share = (place - left).clamp(0, 1).to(field.dtype).view(-1, *(1,) * (len(sizes) - 1 - axis))
        a, b = field.index_select(2 + axis, left), field.index_select(2 + axis, right)
        field = a + share * (b - a)
    return field


def _check(field: Tensor, to: int | Sequence[int], method: str, boundary: str) -> tuple[int, ...]:
    if not isinstance(field, Tensor) or field.dim() < 3 or not field.is_floating_point() or 0 in field.shape[2:]:
        given = f"shape {tuple(field.shape)}, {field.dtype}" if isinstance(field, Tensor) else type(field).__name__
        raise InputError(f"resample takes a floating-point field of shape (batch, channel, *grid); given {given}")
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if boundary not in BOUNDARIES or boundary == "interior":
        raise unknown("boundary", boundary, ("periodic", "closed", "midpoint"))
    if method == "fourier" and boundary != "periodic":
        raise InputError(
            f"method='fourier' takes the domain as periodic, but boundary={boundary!r}; use method='linear'"
        )
    return each_axis("to", to, field.dim() - 2, 2 if boundary == "closed" else 1)


class InputOutputInterpolation(nn.Module):
    """A network that is run on its training grid only: the input is resampled to it, and the output back.

    The fair baseline for any change of resolution. What the training grid cannot show never reaches the network.

    Parameters
    ----------
    module
        From a field (batch, channel, *grid) to one on the same grid, or on a set fraction of it.
    grid
        Points of the grid on which it was trained.
    method, boundary
        As in `resample`; `linear` where the domain is not periodic, if nothing is said.

    Raises
    ------
    InputError
        A field that does not fit, or a network whose output is no field.

    Notes
    -----
    v = R_{n'} G(R_{n₀} u), where R_n reads a field on n points, n₀ is the training grid, and n' stands to the network's own
    output as the given grid to n₀.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> net = InputOutputInterpolation(nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), 32)
    >>> net(torch.randn(2, 1, 96)).shape
    torch.Size([2, 1, 96])
    """

    def __init__(
        self, module: nn.Module, grid: int | Sequence[int], *, method: str | None = None, boundary: str = "periodic"
    ) -> None:
        super().__init__()
        self.module = module
        self.grid = (grid,) if isinstance(grid, int) else tuple(grid)
        self.boundary, self.method = boundary, method or ("fourier" if boundary == "periodic" else "linear")
        _check(torch.zeros(1, 1, *self.grid), self.grid, self.method, boundary)

    def forward(self, x: Float[Tensor, "batch channel *grid"]) -> Float[Tensor, "batch out *grid"]:
        """The network's answer, read on the grid of the input."""
        if x.dim() != len(self.grid) + 2:
            raise InputError(
                f"the network was trained on a grid of {len(self.grid)} axes; given shape {tuple(x.shape)}"
            )
        grid = tuple(x.shape[2:])
        if grid == self.grid:
            return self.module(x)
        y = self.module(self._read(x, self.grid))
        if y.dim() != x.dim():
            raise InputError(
                f"the network's output has shape {tuple(y.shape)} and is no field; it needs no resampling back"
            )
        less = 1 if self.boundary == "closed" else 0
        out = []
        for n, n0, m0 in zip(grid, self.grid, y.shape[2:], strict=True):
            size, rest = divmod((n - less) * (m0 - less), n0 - less)
            if rest:
                raise InputError(
                    f"an axis of {n} points cannot be reduced as the network reduces {n0} to {m0}; choose a multiple of {n0}"
                )
            out.append(size + less)
        return self._read(y, tuple(out))

    def _read(self, x: Tensor, sizes: tuple[int, ...]) -> Tensor:
        return _fourier(x, sizes) if self.method == "fourier" else _linear(x, sizes, self.boundary)

    def extra_repr(self) -> str:
        """Grid and method."""
        return f"grid={self.grid}, method={self.method!r}, boundary={self.boundary!r}"
