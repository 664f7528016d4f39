"""A learned function for each neuron, kept on one grid and read on any."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class BiasField(nn.Module):
    """A function for each channel, linear between the points at which it is kept.

    Parameters
    ----------
    channels
        How many functions.
    grid
        Points along each axis; one point makes it a constant along that axis.
    nodes
        Where points lie on an axis, of this grid and of those it is read on: `interior`, `closed` or `periodic`.

    Notes
    -----
    Between nodes the function is linear along each axis; beyond the outermost interior nodes it is constant.

    References
    ----------
    He, Liu, Xu 2024, MgNO: Efficient Parameterization of Linear Operators via Multigrid (equation 2).

    Examples
    --------
    >>> field = BiasField(4, (15, 15), "interior")
    >>> field(torch.zeros(2, 1, 31, 31)).shape
    torch.Size([1, 4, 31, 31])
    """

    def __init__(self, channels: int, grid: tuple[int, ...], nodes: str) -> None:
        super().__init__()
        self.grid, self.nodes = grid, nodes
        self.value = nn.Parameter(torch.zeros(1, channels, *grid))

    def forward(self, u: Float[Tensor, "batch any *grid"]) -> Float[Tensor, "one channel *grid"]:
        """The functions on the grid of u."""
        value = self.value
        for axis, (n, m) in enumerate(zip(u.shape[2:], self.grid, strict=True), start=2):
            if m > 1 and n != m:
                matrix = between(n, m, self.nodes, value.dtype, value.device)
                value = (value.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
        return value

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.value.shape[1]}, grid={self.grid}, nodes={self.nodes!r}"


def between(
    n: int, m: int, nodes: str, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Float[Tensor, "n m"]:
    """Linear interpolation from m nodes to n nodes of the same axis.

    Examples
    --------
    >>> between(3, 2, "closed").tolist()
    [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    """
    index = torch.arange(n, dtype=dtype, device=device)
    if nodes == "periodic":
        place = index / n * m
    elif nodes == "closed":
        place = index / (n - 1) * (m - 1)
    else:
        place = ((index + 1) / (n + 1) * (m + 1) - 1).clamp(0, m - 1)
    node = torch.arange(m, dtype=dtype, device=device)
    distance = (place[:, None] - node).abs()
    if nodes == "periodic":
        distance = torch.minimum(distance, m - distance)
    return (1 - distance).clamp_min(0)
