"""Positions as functions of coordinates: what replaces a table of learned positions."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.axes import Axis
from nissl.errors import InputError
from nissl.nn.operators._checks import whole


def grid_coordinates(
    x: Float[Tensor, "batch channel *grid"], *, boundary: str = "periodic"
) -> Float[Tensor, "1 axis *grid"]:
    """Coordinates of a uniform grid on the unit cube, a channel an axis.

    Parameters
    ----------
    x
        A field on the grid; its type and device are kept.
    boundary
        Where the points lie: `periodic`, `closed`, `interior` or `midpoint`, as in `nissl.axes.Axis.uniform`.

    Examples
    --------
    >>> grid_coordinates(torch.zeros(1, 3, 2, 4))[0, 1, 0].tolist()
    [0.0, 0.25, 0.5, 0.75]
    """
    axes = [Axis.uniform(f"axis {i}", n, boundary=boundary).points for i, n in enumerate(x.shape[2:])]
    points = [torch.as_tensor(p, dtype=x.dtype, device=x.device) for p in axes]
    return torch.stack(torch.meshgrid(*points, indexing="ij"))[None]


class FourierFeatures(nn.Module):
    """Sines and cosines of coordinates: an embedding of positions that exists at every point.

    Parameters
    ----------
    n_dims
        Axes of space.
    frequencies
        How many along each axis, or in all where they are random.
    length
        Of the domain: the lowest frequency is one period in it.
    random
        Standard deviation, in periods a domain, of random frequencies (random Fourier features); None takes 1, 2, 4, ... periods along
        each axis.
    seed
        Of the random frequencies.

    Raises
    ------
    InputError
        Numbers that cannot be, coordinates with other axes.

    Notes
    -----
    γ(p) = [cos 2πBp, sin 2πBp]; the rows of B are powers of two along single axes, or Gaussian. B is kept and not learned.

    References
    ----------
    Tancik and others 2020, Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains.

    Examples
    --------
    >>> embed = FourierFeatures(2, frequencies=4)
    >>> embed(torch.rand(100, 2)).shape, embed.width
    (torch.Size([100, 16]), 16)
    """

    def __init__(
        self, n_dims: int, frequencies: int = 8, *, length: float = 1.0, random: float | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.n_dims, self.frequencies = whole("n_dims", n_dims, 1), whole("frequencies", frequencies, 1)
        if not (length > 0 and (random is None or random > 0)):
            raise InputError(f"length={length!r}, random={random!r}; allowed: positive numbers")
        self.length, self.random = float(length), random
        if random is None:
            octaves = 2.0 ** torch.arange(frequencies)
            matrix = torch.kron(torch.eye(n_dims), octaves[:, None])
        else:
            matrix = random * torch.randn(frequencies, n_dims, generator=torch.Generator().manual_seed(seed))
        self.matrix: Tensor
        self.register_buffer("matrix", (matrix / length).to(torch.get_default_dtype()))

    @property
    def width(self) -> int:
        """Numbers that each position becomes."""
        return 2 * len(self.matrix)

    def forward(self, at: Float[Tensor, "*point axis"]) -> Float[Tensor, "*point feature"]:
        """Cosines, then sines."""
        if at.shape[-1] != self.n_dims:
            raise InputError(f"coordinates have shape {tuple(at.shape)}; allowed: (..., {self.n_dims})")
        turn = 2 * math.pi * at @ self.matrix.T
        return torch.cat([turn.cos(), turn.sin()], -1)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"n_dims={self.n_dims}, frequencies={self.frequencies}, length={self.length:g}, random={self.random}"


def rotate(
    x: Float[Tensor, "batch head point channel"], at: Float[Tensor, "point axis"], shortest: float
) -> Float[Tensor, "batch head point channel"]:
    """Pairs of channels turned by angles proportional to coordinates, so that products depend on physical differences.

    Parameters
    ----------
    x
        Queries or keys; their width must hold a pair for each axis.
    at
        Coordinates.
    shortest
        Shortest wavelength; the longest is a thousand times that.

    Examples
    --------
    >>> x, at = torch.ones(1, 1, 3, 4), torch.tensor([[0.0], [1.0], [2.0]])
    >>> y = rotate(x, at, 3.0)[0, 0]
    >>> torch.allclose(y[0] @ y[1], y[1] @ y[2])
    True
    """
    n_dims, pairs = at.shape[-1], x.shape[-1] // 2
    if at.dim() != 2 or len(at) != x.shape[2] or pairs < n_dims or x.shape[-1] % 2:
        raise InputError(
            f"coordinates of shape {tuple(at.shape)} for heads of shape {tuple(x.shape)}; allowed: (point, axis), and an even width of at "
            "least two channels an axis"
        )
    axis = torch.arange(pairs, device=x.device) % n_dims
    step = torch.arange(pairs, device=x.device) // n_dims / max((pairs - 1) // n_dims, 1)
    angle = (2 * math.pi / shortest * 1000.0**-step).to(x) * at.to(x)[:, axis]
    cos, sin = angle.cos(), angle.sin()
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
