"""Batches at several resolutions, for training that is not tied to one grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError
from nissl.nn.operators._checks import whole


class MixedResolution:
    """Draws batches of one resolution each from fields on a fine grid; what `nissl.learning.train` takes for `batches`.

    Parameters
    ----------
    x, y
        Inputs and targets on one periodic fine grid, as many points along each axis.
    sizes
        Points of the grids that batches are on; each must divide the fine grid.
    batch
        Samples of a batch on the finest of `sizes`. Coarser ones get more, so that all cost about the same, at most all samples.

    Raises
    ------
    InputError
        Shapes that do not fit, or sizes that do not divide the grid.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> x = torch.randn(40, 1, 64)
    >>> batches = MixedResolution(x, 2 * x, [16, 32], batch=5)
    >>> a, b = batches(torch.Generator().manual_seed(0))
    >>> a.shape == b.shape and tuple(a.shape) in {(5, 1, 32), (10, 1, 16)}
    True
    """

    def __init__(
        self,
        x: Float[Tensor, "sample in *grid"],
        y: Float[Tensor, "sample out *grid"],
        sizes: Sequence[int],
        *,
        batch: int = 8,
    ) -> None:
        if x.dim() < 3 or len(x) != len(y) or x.shape[2:] != y.shape[2:] or len(set(x.shape[2:])) != 1:
            raise InputError(
                f"inputs {tuple(x.shape)} and targets {tuple(y.shape)}; allowed: as many samples on the same grid, with equal axes"
            )
        fine = x.shape[2]
        if not sizes or any(n < 1 or fine % n for n in sizes):
            raise InputError(f"sizes={list(sizes)}; allowed: numbers of points that divide {fine}")
        self.x, self.y, self.sizes, self.batch = x, y, list(sizes), whole("batch", batch, 1)

    def __call__(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A batch on one of the grids, drawn at random."""
        n = self.sizes[int(torch.randint(len(self.sizes), (), generator=generator))]
        dims = self.x.dim() - 2
        many = min(len(self.x), self.batch * (max(self.sizes) // n) ** dims)
        chosen = torch.randperm(len(self.x), generator=generator)[:many]
        some = (chosen, slice(None), *(slice(None, None, self.x.shape[2] // n),) * dims)
        return self.x[some], self.y[some]
