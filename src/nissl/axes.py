"""An axis: its name, its size and, where it is one of space or time, where its points lie and how much each stands for."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float

from nissl.errors import InputError

BOUNDARIES = ("closed", "interior", "periodic", "midpoint")


@dataclass(frozen=True)
class Axis:
    """One axis of an array. Two axes are equal when name, size and unit are; points and weights describe the same axis closer.

    Attributes
    ----------
    name
        What runs along it: `time`, `x`, `head`.
    size
        How many indices it has.
    unit
        Of its points: `s`, `mm`; empty where indices are all there is.
    points
        Coordinates of the indices, ascending, in `unit`.
    weights
        Quadrature weights: the length that each point stands for, so that `sum(weights * values)` is an integral.
    period
        Length after which the axis begins again; None where it does not.

    Raises
    ------
    InputError
        No name, a size that is no whole number from 0, points or weights of another size, not finite, points that do not ascend, a period
        that is not positive and finite, or shorter than the points reach.

    Examples
    --------
    >>> Axis("head", 4)
    Axis(name='head', size=4, unit='')
    >>> x = Axis.uniform("x", 5, start=0, stop=2, unit="mm")
    >>> x.points.tolist(), x.weights.tolist()
    ([0.0, 0.5, 1.0, 1.5, 2.0], [0.25, 0.5, 0.5, 0.5, 0.25])
    """

    name: str
    size: int
    unit: str = ""
    points: Float[np.ndarray, "point"] | None = field(default=None, compare=False, repr=False)
    weights: Float[np.ndarray, "point"] | None = field(default=None, compare=False, repr=False)
    period: float | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name:
            raise InputError(f"an axis needs a name; given name={self.name!r}, size={self.size}")
        object.__setattr__(self, "size", whole_number(f"axis {self.name!r} with size", self.size, 0))
        if self.period is not None:
            object.__setattr__(self, "period", positive_number(f"axis {self.name!r} with period", self.period))
        for what in ("points", "weights"):
            given = getattr(self, what)
            if given is None:
                continue
            values = np.array(given, dtype=float)  # a copy, that stays as it is when the caller's array changes
            object.__setattr__(self, what, values)
            if values.shape != (self.size,) or not np.isfinite(values).all():
                raise InputError(
                    f"{what} of axis {self.name!r} have shape {values.shape}; allowed: {self.size} finite numbers"
                )
        if self.points is not None and (np.diff(self.points) <= 0).any():
            raise InputError(f"points of axis {self.name!r} must ascend; sort them, and their values with them")
        if self.period is not None and self.points is not None and self.size:
            reach = float(self.points[-1] - self.points[0])
            if not self.period > reach:
                raise InputError(
                    f"axis {self.name!r} has period {self.period:g}, but its points reach over {reach:g}; leave out the last "
                    "point where it repeats the first"
                )
        if self.weights is None and self.points is not None:
            object.__setattr__(self, "weights", quadrature_weights(self.points, period=self.period))

    @classmethod
    def uniform(
        cls, name: str, size: int, *, start: float = 0.0, stop: float = 1.0, unit: str = "", boundary: str = "closed"
    ) -> Axis:
        """Equally spaced points.

        Parameters
        ----------
        name, size, unit
            As above.
        start, stop
            Ends of the domain.
        boundary
            Where the points lie: `closed` on both ends too (trapezoid rule), `interior` between the ends only,
            `midpoint` in the middle of equal cells (midpoint rule), `periodic` from the start on, the stop being the start again.

        Raises
        ------
        InputError
            No such boundary, a domain without length, too few points.
        """
        if boundary not in BOUNDARIES:
            raise InputError(f"boundary={boundary!r}; allowed: {', '.join(BOUNDARIES)}")
        if not (math.isfinite(start) and math.isfinite(stop) and stop > start):
            raise InputError(f"axis {name!r} runs from {start} to {stop}; the stop must lie above the start")
        size = whole_number(f"axis {name!r} with size", size, 0)
        if size < (2 if boundary == "closed" else 1):
            raise InputError(
                f"axis {name!r} with {size} points; a {boundary} axis needs at least {1 + (boundary == 'closed')}"
            )
        length = stop - start
        if boundary == "closed":
            return cls(name, size, unit, np.linspace(start, stop, size))
        if boundary == "interior":
            step = length / (size + 1)
            points = start + step * np.arange(1, size + 1)
        else:
            step = length / size
            points = start + step * (np.arange(size) + (0.5 if boundary == "midpoint" else 0.0))
        period = length if boundary == "periodic" else None
        return cls(name, size, unit, points, np.full(size, step), period)

    @property
    def spacing(self) -> float:
        """Distance between neighbours.

        Raises
        ------
        InputError
            The axis has no points, one point, or points that are not equally spaced.
        """
        if self.points is None or self.size < 2:
            raise InputError(f"axis {self.name!r} has {self.size} points with coordinates; spacing needs two")
        steps = np.diff(self.points)
        if not np.allclose(steps, steps[0], rtol=1e-6):
            raise InputError(
                f"axis {self.name!r} is not uniform: spacings from {steps.min():.6g} to {steps.max():.6g}; resample it first"
            )
        return float((self.points[-1] - self.points[0]) / (self.size - 1))


def quadrature_weights(
    points: Float[np.ndarray, "point"], *, period: float | None = None
) -> Float[np.ndarray, "point"]:
    """Trapezoid weights of ascending points: half the distance to each neighbour.

    Parameters
    ----------
    points
        Ascending coordinates.
    period
        The last point's neighbour is then the first, one period on.

    Examples
    --------
    >>> quadrature_weights(np.array([0.0, 1.0, 3.0])).tolist()
    [0.5, 1.5, 1.0]
    """
    if len(points) < 2:
        return np.full(len(points), 1.0 if period is None else period)
    steps = np.diff(points)
    if period is None:
        return 0.5 * (np.r_[steps, 0.0] + np.r_[0.0, steps])
    steps = np.r_[steps, points[0] + period - points[-1]]
    return 0.5 * (steps + np.roll(steps, 1))


def whole_number(name: str, value: Any, least: int) -> int:
    """The value as an int, numpy's whole numbers too; InputError where it is none, or below `least`."""
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or found < least:
        raise InputError(f"{name}={value!r}; allowed: a whole number of at least {least}")
    return found


def positive_number(name: str, value: Any) -> float:
    """The value as a float, numpy's numbers too; InputError where it is not positive and finite."""
    found = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0 < found < math.inf:
        raise InputError(f"{name}={value!r}; allowed: a positive number")
    return found
