"""Which stimuli are allowed: what the screen can show, the eye can take, or the network was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError

FULFILLED = 1e-3  # relative violation that counts as none
ROUNDS = 10  # alternating projections in one step


class Constraint:
    """A set of allowed stimuli. Join two with `&`: both must hold, the one named last is fulfilled exactly."""

    def project(self, x: Float[Tensor, "stimulus *canvas"]) -> Float[Tensor, "stimulus *canvas"]:
        """The allowed stimuli nearest to the given ones (exactly so for convex sets)."""
        raise NotImplementedError

    def tangent(self, x: Tensor, gradient: Tensor) -> Tensor:
        """What is left of a gradient at allowed stimuli when the part that leads straight out of the set is taken away.

        An optimiser that scales every pixel by itself (Adam) would else settle where the outward part is even over pixels,
        not where the objective is greatest: for a linear objective on a sphere at the sign of the filter, not the filter.
        """
        raise NotImplementedError

    def violation(self, x: Float[Tensor, "stimulus *canvas"]) -> Float[Tensor, "stimulus"]:
        """How far each stimulus is from being allowed, relative to the size of what is asked; 0 where it is."""
        raise NotImplementedError

    def check(self, canvas: tuple[int, ...]) -> None:
        """Refuse settings that make no sense for stimuli of this shape."""

    def __and__(self, other: Constraint) -> Constraint:
        return Composed((*_parts(self), *_parts(other)))


@dataclass(frozen=True)
class L2Ball(Constraint):
    """Stimuli of a given L2 norm (contrast energy).

    Parameters
    ----------
    norm
        Square root of the sum of squares over the whole stimulus.
    fixed
        True rescales every stimulus to this very norm; False lets weaker ones be.

    Examples
    --------
    >>> L2Ball(4.0).project(torch.ones(1, 1, 3, 3)).norm().item()
    4.0
    """

    norm: float
    fixed: bool = True

    def project(self, x: Tensor) -> Tensor:
        """Rescale."""
        norm = _norm(x)
        factor = self.norm / norm.clamp_min(1e-12)
        return x * (factor if self.fixed else factor.clamp_max(1.0))

    def tangent(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Without the component along the stimulus: on the ball's surface, and inside it nothing is taken away."""
        radial = (gradient * x).flatten(1).sum(1) / x.square().flatten(1).sum(1).clamp_min(1e-24)
        if not self.fixed:
            on_surface = x.flatten(1).norm(dim=1) > self.norm * (1 - FULFILLED)
            radial = torch.where(on_surface & (radial > 0), radial, 0.0)
        return gradient - radial.reshape(-1, *(1,) * (x.dim() - 1)) * x

    def violation(self, x: Tensor) -> Tensor:
        """How far the norm is off, as a share of what is asked."""
        excess = _norm(x).flatten() / self.norm - 1
        return excess.abs() if self.fixed else excess.clamp_min(0.0)

    def check(self, canvas: tuple[int, ...]) -> None:
        """The norm must be positive."""
        if not (math.isfinite(self.norm) and self.norm > 0):
            raise InputError(f"L2Ball(norm={self.norm}): the norm must be a positive number")


@dataclass(frozen=True)
class Clip(Constraint):
    """Stimuli within what can be displayed.

    Parameters
    ----------
    low, high
        Least and greatest value; one number, or one a channel (first axis of the canvas).

    Examples
    --------
    >>> Clip(-1.0, (1.0, 2.0)).project(torch.full((1, 2, 1, 1), 5.0)).flatten().tolist()
    [1.0, 2.0]
    """

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]

    def project(self, x: Tensor) -> Tensor:
        """Cut off what lies outside."""
        return torch.minimum(torch.maximum(x, self._bound(self.low, x)), self._bound(self.high, x))

    def tangent(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Nothing where a pixel is at its bound and would go further."""
        outward = ((x <= self._bound(self.low, x)) & (gradient < 0)) | (
            (x >= self._bound(self.high, x)) & (gradient > 0)
        )
        return gradient.masked_fill(outward, 0.0)

    def violation(self, x: Tensor) -> Tensor:
        """The greatest excess, as a share of the range."""
        low, high = self._bound(self.low, x), self._bound(self.high, x)
        outside = torch.maximum(low - x, x - high).clamp_min(0.0)
        return (outside / (high - low).clamp_min(1e-12)).flatten(1).amax(1)

    def check(self, canvas: tuple[int, ...]) -> None:
        """One bound a channel at most, low below high."""
        for name, bound in (("low", self.low), ("high", self.high)):
            if isinstance(bound, tuple) and len(bound) != canvas[0]:
                raise InputError(
                    f"Clip({name}={bound}) has {len(bound)} values, but the canvas {canvas} has {canvas[0]} channels; "
                    "give one number, or one a channel"
                )
        if not np.all(np.subtract(self.high, self.low) > 0):  # also where one of them is NaN
            raise InputError(f"Clip(low={self.low}, high={self.high}): low must lie below high")

    @staticmethod
    def _bound(value: float | tuple[float, ...], x: Tensor) -> Tensor:
        bound = torch.as_tensor(value, dtype=x.dtype, device=x.device)
        return bound.reshape(-1, *(1,) * (x.dim() - 2)) if bound.dim() else bound


@dataclass(frozen=True)
class FixedContrast(Constraint):
    """Stimuli of a given mean and contrast.

    Parameters
    ----------
    mean
        Mean over the stimulus.
    contrast
        Standard deviation over the stimulus.
    per_channel
        Hold both for every channel (first axis of the canvas) by itself.
    """

    mean: float = 0.0
    contrast: float = 1.0
    per_channel: bool = False

    def project(self, x: Tensor) -> Tensor:
        """Shift and rescale."""
        flat = self._flat(x)
        centred = flat - flat.mean(-1, keepdim=True)
        sd = centred.square().mean(-1, keepdim=True).sqrt()
        return (self.mean + centred * (self.contrast / sd.clamp_min(1e-12))).reshape(x.shape)

    def tangent(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Without its mean, and without the component along the stimulus' own contrast."""
        flat, g = self._flat(x), self._flat(gradient)
        pattern = flat - flat.mean(-1, keepdim=True)
        along = (g * pattern).sum(-1, keepdim=True) / pattern.square().sum(-1, keepdim=True).clamp_min(1e-24)
        return (g - g.mean(-1, keepdim=True) - along * pattern).reshape(x.shape)

    def violation(self, x: Tensor) -> Tensor:
        """How far mean and SD are off, in units of the contrast."""
        flat = self._flat(x)
        off = (flat.mean(-1) - self.mean).abs() / self.contrast + (flat.std(-1, correction=0) / self.contrast - 1).abs()
        return off.flatten(1).amax(1)

    def check(self, canvas: tuple[int, ...]) -> None:
        """The contrast must be positive, and there must be pixels enough to have one."""
        if not (math.isfinite(self.mean) and math.isfinite(self.contrast) and self.contrast > 0):
            raise InputError(f"{self}: the contrast (a standard deviation) must be a positive number")
        if math.prod(canvas[1:] if self.per_channel else canvas) < 2:
            raise InputError(f"{self}: a canvas of shape {canvas} has one value only, which has no contrast")

    def _flat(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], -1) if self.per_channel else x.reshape(x.shape[0], 1, -1)


@dataclass(frozen=True)
class Composed(Constraint):
    """Several constraints at once, by projecting onto each in turn until all hold."""

    constraints: tuple[Constraint, ...]

    def project(self, x: Tensor) -> Tensor:
        """Onto each in turn, until all hold or ten rounds are over."""
        for _ in range(ROUNDS):
            for constraint in self.constraints:
                x = constraint.project(x)
            if bool((self.violation(x) < FULFILLED).all()):
                break
        return x

    def tangent(self, x: Tensor, gradient: Tensor) -> Tensor:
        """What each of them leaves."""
        for constraint in self.constraints:
            gradient = constraint.tangent(x, gradient)
        return gradient

    def violation(self, x: Tensor) -> Tensor:
        """The worst of them."""
        return torch.stack([c.violation(x) for c in self.constraints]).amax(0)

    def check(self, canvas: tuple[int, ...]) -> None:
        """All of them."""
        for constraint in self.constraints:
            constraint.check(canvas)


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).reshape(-1, *(1,) * (x.dim() - 1))


def _parts(constraint: Constraint) -> tuple[Constraint, ...]:
    return constraint.constraints if isinstance(constraint, Composed) else (constraint,)
