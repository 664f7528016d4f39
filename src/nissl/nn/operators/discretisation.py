"""Where a field is known, and how much of the domain each point stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import ConvexHull, QhullError, Voronoi
from torch import Tensor

from nissl.axes import Axis
from nissl.errors import InputError


@dataclass(frozen=True)
class Discretisation:
    """Points of a domain with quadrature weights: `sum(weights * values)` is the integral of a field.

    Attributes
    ----------
    points
        Coordinates.
    weights
        The measure (length, area, volume) that each point stands for; their sum is that of the domain.
    shape
        Sizes of the grid that the points form in row-major order; None where they form none.
    period
        Length after which each axis begins again, or None.

    Raises
    ------
    InputError
        Shapes that do not fit, values that are not finite, weights that are negative or all zero.

    Examples
    --------
    >>> square = Discretisation.grid(Axis.uniform("y", 3), Axis.uniform("x", 4, boundary="periodic"))
    >>> square.shape, round(square.measure, 6)
    ((3, 4), 1.0)
    >>> line = Discretisation.scattered([[0.1], [0.2], [0.9]], [(0.0, 1.0)])
    >>> [round(w, 3) for w in line.weights.tolist()]
    [0.15, 0.4, 0.45]
    """

    points: Float[Tensor, "point axis"]
    weights: Float[Tensor, "point"]
    shape: tuple[int, ...] | None = None
    period: tuple[float | None, ...] | None = None

    def __post_init__(self) -> None:
        points, weights = self.points, self.weights
        if points.dim() != 2 or weights.shape != points.shape[:1] or not len(points):
            raise InputError(
                f"points of shape {tuple(points.shape)} and weights of shape {tuple(weights.shape)}; allowed: (point, axis) and (point,)"
            )
        if not (torch.isfinite(points).all() and torch.isfinite(weights).all()):
            raise InputError("points and weights must be finite; some are NaN or infinite")
        if (weights < 0).any() or not (weights > 0).any():
            raise InputError("quadrature weights must not be negative, nor all zero")
        if self.shape is not None and int(np.prod(self.shape)) != len(points):
            raise InputError(f"a grid of {self.shape} has {int(np.prod(self.shape))} points; given {len(points)}")

    @classmethod
    def grid(cls, *axes: Axis) -> Discretisation:
        """The grid of all pairs of points of axes that carry coordinates; weights are the products of theirs."""
        for axis in axes:
            if axis.points is None or axis.weights is None:
                raise InputError(f"axis {axis.name!r} has no coordinates; make it with Axis.uniform, or give it points")
        points = np.stack(np.meshgrid(*[a.points for a in axes], indexing="ij"), -1).reshape(-1, len(axes))  # type: ignore[arg-type]
        weights = np.ones(1)
        for axis in axes:
            weights = np.outer(weights, axis.weights).ravel()  # type: ignore[arg-type]
        periods = tuple(a.period for a in axes)
        return cls(
            torch.as_tensor(points, dtype=torch.get_default_dtype()),
            torch.as_tensor(weights, dtype=torch.get_default_dtype()),
            tuple(a.size for a in axes),
            periods if any(p is not None for p in periods) else None,
        )

    @classmethod
    def scattered(cls, points: object, box: Sequence[tuple[float, float]]) -> Discretisation:
        """Points anywhere in a box; each stands for the part of the box that is nearest to it (its Voronoi cell).

        Parameters
        ----------
        points
            Of shape (point, axis), no two the same.
        box
            Lower and upper end of each axis.
        """
        at = np.asarray(points, dtype=float)
        low, high = np.array([b[0] for b in box], float), np.array([b[1] for b in box], float)
        if at.ndim != 2 or at.shape[1] != len(box) or not np.isfinite(at).all() or not (high > low).all():
            raise InputError(
                f"points of shape {at.shape} in a box of {len(box)} axes; allowed: finite points (point, axis), and each axis from lower to upper"
            )
        if (at < low).any() or (at > high).any():
            raise InputError(f"{int(((at < low) | (at > high)).any(1).sum())} points lie outside the box {list(box)}")
        if len(np.unique(at, axis=0)) < len(at):
            raise InputError("some points are given twice; each needs a cell of its own")
        weights = _cells(at, low, high)
        dtype = torch.get_default_dtype()
        return cls(torch.as_tensor(at, dtype=dtype), torch.as_tensor(weights, dtype=dtype))

    @property
    def measure(self) -> float:
        """Length, area or volume of the domain."""
        return float(self.weights.sum())

    def repeated(self, times: int = 2) -> Discretisation:
        """Each point so many times in a row, with its weight shared out: the same quadrature."""
        return Discretisation(
            self.points.repeat_interleave(times, 0), self.weights.repeat_interleave(times) / times, None, self.period
        )

    def to(self, like: Tensor) -> Discretisation:
        """With the type and on the device of a tensor."""
        return replace(self, points=self.points.to(like), weights=self.weights.to(like))

    def differences(self, others: Float[Tensor, "other axis"]) -> Float[Tensor, "point other axis"]:
        """Own points less others, the shorter way round where an axis is periodic."""
        away = self.points[:, None] - others
        for i, period in enumerate(self.period or ()):
            if period is not None:
                wrapped = torch.remainder(away[..., i] + period / 2, period) - period / 2
                away = torch.cat([away[..., :i], wrapped[..., None], away[..., i + 1 :]], -1)
        return away


def _cells(at: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Measure of each Voronoi cell within the box."""
    if at.shape[1] == 1:
        order = np.argsort(at[:, 0])
        inner = at[order, 0]
        edges = np.r_[low, (inner[1:] + inner[:-1]) / 2, high]
        weights = np.empty(len(at))
        weights[order] = np.diff(edges)
        return weights
    # Mirror images in every face make the faces borders of cells, so that each cell is bounded by the box.
    images = [at]
    for axis in range(at.shape[1]):
        for face in (low, high):
            image = at.copy()
            image[:, axis] = 2 * face[axis] - image[:, axis]
            images.append(image)
    try:
        cells = Voronoi(np.concatenate(images))
        return np.array(
            [ConvexHull(cells.vertices[cells.regions[cells.point_region[i]]]).volume for i in range(len(at))]
        )
    except (QhullError, ValueError, IndexError) as error:
        raise InputError(
            "the points' Voronoi cells could not be found, for example since some lie on the box's own faces; move them inside, or give "
            "weights of your own"
        ) from error
