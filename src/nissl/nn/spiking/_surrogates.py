"""The step from membrane to spike, and the smooth derivatives that stand in for the one it does not have."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError, unknown

SurrogateName = Literal["triangle", "arctan", "sigmoid", "fast_sigmoid"]


def _triangle(z: Tensor, k: float) -> Tensor:
    return z.abs().mul_(-k).add_(1).clamp_(min=0).mul_(k)


def _triangle_step(z: Tensor, k: float) -> Tensor:
    r = (k * z).clamp(-1, 1)
    return 0.5 + r - 0.5 * r * r.abs()


def _arctan(z: Tensor, k: float) -> Tensor:
    return (z * (math.pi / 2 * k)).square_().add_(1).reciprocal_().mul_(k / 2)


def _arctan_step(z: Tensor, k: float) -> Tensor:
    return torch.atan(math.pi / 2 * k * z) / math.pi + 0.5


def _sigmoid(z: Tensor, k: float) -> Tensor:
    s = torch.sigmoid(k * z)
    return s.sub_(s.square()).mul_(k)


def _sigmoid_step(z: Tensor, k: float) -> Tensor:
    return torch.sigmoid(k * z)


def _fast_sigmoid(z: Tensor, k: float) -> Tensor:
    return z.abs().mul_(k).add_(1).square_().reciprocal_()


def _fast_sigmoid_step(z: Tensor, k: float) -> Tensor:
    return z / (1 + k * z.abs())


# Each name with its derivative, the smooth step whose derivative that is, and the slope it is usually used with.
_SHAPES: dict[str, tuple[Callable[[Tensor, float], Tensor], Callable[[Tensor, float], Tensor], float]] = {
    "triangle": (_triangle, _triangle_step, 1.0),
    "arctan": (_arctan, _arctan_step, 2.0),
    "sigmoid": (_sigmoid, _sigmoid_step, 4.0),
    "fast_sigmoid": (_fast_sigmoid, _fast_sigmoid_step, 25.0),
}


@dataclass(frozen=True)
class Surrogate:
    """A step function with a smooth derivative; made by `surrogate_gradient`.

    Attributes
    ----------
    name
        Shape of the derivative.
    slope
        Its steepness k.
    """

    name: str
    slope: float

    def __call__(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """1 where z >= 0, else 0; backwards the surrogate derivative."""
        return _Spike.apply(z, self)  # type: ignore[return-value]

    def derivative(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What the backward pass multiplies by."""
        return _SHAPES[self.name][0](z, self.slope)

    def smooth(self, z: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The smooth function whose derivative is the surrogate: the step seen from afar."""
        return _SHAPES[self.name][1](z, self.slope)


def surrogate_gradient(name: str = "triangle", slope: float | None = None) -> Surrogate:
    """A spike function: exactly 0 or 1 forward, a smooth derivative backward.

    With z = membrane - threshold and slope k the derivatives are

    - `triangle`:      k max(0, 1 - k |z|)
    - `arctan`:        (k/2) / (1 + (pi k z / 2)^2)
    - `sigmoid`:       k s (1 - s), s = 1 / (1 + exp(-k z))
    - `fast_sigmoid`:  1 / (1 + k |z|)^2

    The first three have an area of one, as the step's own derivative has; the last one is 1 at threshold, as in the paper it comes from.

    Parameters
    ----------
    name
        Shape of the derivative.
    slope
        k; where None 1 for `triangle`, 2 for `arctan`, 4 for `sigmoid`, 25 for `fast_sigmoid`.

    Returns
    -------
    Surrogate
        Call it with z of any shape.

    Raises
    ------
    UnknownNameError
        Another name.
    InputError
        A slope that is not positive and finite.

    References
    ----------
    Neftci, Mostafa and Zenke 2019, Surrogate gradient learning in spiking neural networks. `fast_sigmoid`: Zenke and Ganguli 2018, SuperSpike.

    Examples
    --------
    >>> z = torch.tensor([-0.5, 0.0, 2.0], requires_grad=True)
    >>> spikes = surrogate_gradient("triangle")(z)
    >>> spikes.sum().backward()
    >>> spikes.tolist(), z.grad.tolist()
    ([0.0, 1.0, 1.0], [0.5, 1.0, 0.0])
    """
    if name not in _SHAPES:
        raise unknown("surrogate", name, _SHAPES)
    chosen = _SHAPES[name][2] if slope is None else float(slope)
    if not (chosen > 0 and math.isfinite(chosen)):
        raise InputError(f"slope {slope} of surrogate {name!r}; it must be positive and finite")
    return Surrogate(name, chosen)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(z)
        ctx.surrogate = surrogate
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return grads[0] * ctx.surrogate.derivative(z), None
