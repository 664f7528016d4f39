"""The numbers of one tensor with the gradient of another: how a learning rule replaces what its gradient is made of."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, autograd


def straight_through(gradient_of: Float[Tensor, "..."], value_of: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """What is computed with is `value_of`; what learns is `gradient_of`, as if it had been there.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> y = straight_through(3 * x, torch.tensor(1.0))
    >>> y.item(), torch.autograd.grad(y, x)[0].item()
    (1.0, 3.0)
    """
    return _StraightThrough.apply(gradient_of, value_of)  # type: ignore[return-value]


class _StraightThrough(autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient_of: Tensor, value_of: Tensor) -> Tensor:
        return value_of.view_as(value_of)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient, None
