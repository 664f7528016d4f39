"""The spectral convolution: the lowest Fourier modes of a field, each multiplied by a learned complex matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.nn.operators._checks import check_field, each_axis, whole
from nissl.nn.operators._modes import lowest, spread, to_real


class SpectralConv(nn.Module):
    """Global convolution on a periodic grid: the lowest modes are multiplied by learned matrices, all others are zero.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the field before and after.
    modes
        How many frequencies are kept along each axis, counted from zero up: 16 keeps 0, ±1, ..., ±15 periods a domain. One
        number for all axes, or one an axis.
    n_dims
        Axes of space; taken from `modes` where that is a sequence.
    bias
        Add a constant to each channel.

    Raises
    ------
    InputError
        Sizes that cannot be; a field with other channels or axes.

    Notes
    -----
    With u_k = (1/n) Σ_j u(x_j) exp(-2πi k j/n) the coefficients of the field (`norm="forward"`, so that they do not depend on
    the number n of points of an axis), the layer is::

        v(x) = Re Σ_{|k| < modes} W_k u_k exp(2πi k x/L) + c

    `weight` has shape (*mode, in, out, 2), real and imaginary part last. The last axis of space holds k = 0 ... modes-1, since
    the field is real; the others k = 0 ... modes-1, -(modes-1) ... -1, as an FFT orders them.

    A grid of n points has the modes |k| ≤ n/2. Where that is fewer than are kept the weights of the others have nothing to
    act on, and the layer is exact for fields that this grid can show. For even n the mode n/2 is the sum of +n/2 and -n/2, which
    cannot be told apart: half of it is taken for each.

    Each axis is transformed and cut before the next, so the cost of d axes is little more than one transform.

    References
    ----------
    Li, Kovachki, Azizzadenesheli and others 2021, Fourier Neural Operator for Parametric Partial Differential Equations.

    Examples
    --------
    >>> layer = SpectralConv(3, 5, modes=8, n_dims=2)
    >>> layer(torch.randn(2, 3, 32, 48)).shape
    torch.Size([2, 5, 32, 48])
    >>> layer(torch.randn(2, 3, 32, 48), size=(64, 96)).shape  # the same function, read at more points
    torch.Size([2, 5, 64, 96])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: int | Sequence[int],
        *,
        n_dims: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = (
            whole("in_channels", in_channels, 1),
            whole("out_channels", out_channels, 1),
        )
        self.n_dims = whole("n_dims", n_dims, 1) if n_dims is not None else 1 if isinstance(modes, int) else len(modes)
        self.modes = each_axis("modes", modes, self.n_dims, 1)
        kept = [2 * m - 1 for m in self.modes[:-1]] + [self.modes[-1]]
        self.weight = nn.Parameter(torch.empty(*kept, in_channels, out_channels, 2))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin again: a layer that is given white noise below its cut gives noise of the same variance there."""
        nn.init.normal_(self.weight, std=math.sqrt(0.5 / self.in_channels))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self, x: Float[Tensor, "batch in *grid"], size: Sequence[int] | None = None
    ) -> Float[Tensor, "batch out *grid"]:
        """The convolved field, on the grid of the input or on one of `size` points."""
        check_field(x, self.in_channels, self.n_dims, "SpectralConv")
        grid = tuple(x.shape[2:])
        out_grid = grid if size is None else each_axis("size", tuple(size), self.n_dims, 1)
        dtype = torch.promote_types(self.weight.dtype, torch.float32)  # transforms know no halves
        with torch.autocast(x.device.type, enabled=False):  # transforms and products of halves lose the small modes
            kept = self._to_modes(x.to(dtype))
            weight = torch.view_as_complex(self._weight_on(grid).to(dtype))
            where = kept.shape[2:]
            product = torch.bmm(kept.flatten(2).permute(2, 0, 1), weight.reshape(-1, *weight.shape[-2:]))
            y = self._to_field(product.permute(1, 2, 0).unflatten(2, where), grid, out_grid)
        return y if self.bias is None else y + self.bias.view(-1, *(1,) * self.n_dims)

    def _to_modes(self, x: Tensor) -> Tensor:
        """Coefficients of the kept modes; the other axes see only what is left of the last."""
        last = min(self.modes[-1], x.shape[-1] // 2 + 1)
        u = torch.fft.rfft(x, dim=-1, norm="forward").narrow(-1, 0, last)
        for axis in range(self.n_dims - 2, -1, -1):
            u = torch.fft.fft(u, dim=2 + axis, norm="forward")
            u = lowest(u, 2 + axis, self.modes[axis])
        return u

    def _to_field(self, v: Tensor, grid: tuple[int, ...], out_grid: tuple[int, ...]) -> Tensor:
        for axis in range(self.n_dims - 1):
            v = spread(v, 2 + axis, grid[axis], out_grid[axis])
            v = torch.fft.ifft(v, dim=2 + axis, norm="forward")
        return to_real(v, grid[-1], out_grid[-1])

    def _weight_on(self, grid: tuple[int, ...]) -> Tensor:
        """Weights of the modes that the grid has."""
        weight = self.weight
        for axis, n in enumerate(grid[:-1]):
            weight = lowest(weight, axis, n // 2 + 1)
        axis = self.n_dims - 1
        return weight.narrow(axis, 0, min(self.modes[-1], grid[-1] // 2 + 1))

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_channels}, {self.out_channels}, modes={self.modes}, bias={self.bias is not None}"
