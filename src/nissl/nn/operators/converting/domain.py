"""What all layers of a converted network know together: the domain, the training grid, and the grid of the present call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nissl.errors import InputError

Grid = tuple[int, ...]


@dataclass
class Domain:
    """The domain of a network, and where its field is known at present.

    Attributes
    ----------
    grid
        Points of the training grid along each axis.
    boundary
        Where they lie: `periodic`, `closed` or `midpoint`.
    spacing, unit
        Distance between them along each axis.
    kernel
        `hats` or `points`: what a trained tap is between the points of the training grid.
    now
        The grid of the present call.
    weights
        Quadrature weights of the present call's points, where they are no uniform grid.
    """

    grid: Grid
    boundary: str
    spacing: tuple[float, ...]
    unit: str = ""
    kernel: str = "hats"
    now: Grid | None = None
    weights: Tensor | None = field(default=None, repr=False)

    @property
    def closed(self) -> int:
        """1 where both ends of an axis carry a point, so that n points make n - 1 steps."""
        return int(self.boundary == "closed")

    @contextmanager
    def at(self, grid: Grid, weights: Tensor | None) -> Iterator[None]:
        """Within the block, the network is run there."""
        before = self.now, self.weights
        self.now, self.weights = grid, weights
        try:
            yield
        finally:
            self.now, self.weights = before

    def trained(self, grid: Sequence[int], sizes: Sequence[Grid], path: str) -> Grid:
        """The grid on which the layer at `path` was trained that is as much coarser as the network's own.

        A layer that is used in two places has seen two grids; behind adaptive pooling a grid stays as it was trained.
        """
        grid, less = tuple(grid), self.closed
        now = self.now or grid
        for size in sizes:
            if len(size) != len(grid) or len(now) != len(self.grid) != len(grid):
                continue
            scaled = zip(grid, size, now, self.grid, strict=True)
            if all((n - less) * (m0 - less) == (s - less) * (m - less) for n, s, m, m0 in scaled):
                return size
        if grid in sizes:
            return grid
        seen = " or ".join(str(s) for s in sizes)
        raise InputError(
            f"{path} has {grid} points where the network's input has {now}; trained with {seen} for {self.grid}. The grid is not divisible as "
            f"the network divides it: choose one whose {'steps (points - 1)' if less else 'points'} are a multiple of what it takes to keep whole "
            "numbers at every level"
        )

    def ratios(self, grid: Sequence[int], size: Grid) -> tuple[float, ...]:
        """Present spacing by trained spacing along each axis."""
        less = self.closed
        return tuple(1.0 if n == s else (s - less) / max(n - less, 1e-9) for n, s in zip(grid, size, strict=True))

    def level_spacing(self, size: Grid) -> tuple[float, ...]:
        """Distance between the points of a level of the network that has `size` points in training."""
        less = self.closed
        steps = zip(self.spacing, self.grid, size, strict=True)
        return tuple(h * (n - less) / max(s - less, 1) for h, n, s in steps)

    def mean_weights(self, grid: Sequence[int], size: Grid, like: Tensor) -> Tensor | None:
        """Weights of a mean over all points that is the plain one on the trained grid and one functional on all; None: equal.

        On a closed grid the plain mean of n points is (n-1)/n of the trapezoid rule plus 1/(2n) of each end. Those shares
        belong to the trained grid.
        """
        if not self.closed:
            return None
        total = torch.ones((), dtype=like.dtype, device=like.device)
        for n, s in zip(grid, size, strict=True):
            line = torch.full((n,), (s - 1) / (s * max(n - 1, 1)), dtype=like.dtype, device=like.device)
            if n > 1:
                line[[0, -1]] = line[[0, -1]] / 2 + 1 / (2 * s)
            total = total[..., None] * line
        return total

    def refuse_points(self, path: str, layer: str) -> None:
        """For layers that need a uniform grid."""
        if self.weights is not None:
            raise InputError(
                f"{path} ({layer}) needs a uniform grid; points with weights of their own can only pass layers that act at a point, attend, or "
                "average over the domain. Interpolate the field onto a grid first"
            )
