"""r(x)∘g(x) + b(x∘x) with a backward pass by hand, which keeps x, r and g and no squares, and adds gradients up in place.

It takes about as long as three affine maps alone. Compilers, function transforms and forward derivatives see plain operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.functional import conv2d, linear


class Affine(Protocol):
    """An affine map and its gradients."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The map of x."""
        ...

    def back(self, grad: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool], onto: Tensor | None) -> Any:
        """Gradients of x (added onto something, where it is given), weight and bias; None for those not needed."""
        ...


class Dense:
    """`torch.nn.functional.linear`, of rows."""

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The map of x."""
        return linear(x, weight, bias)

    def back(self, grad: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool], onto: Tensor | None) -> Any:
        """Gradients of x, weight and bias."""
        for_x = None
        if needed[0]:
            for_x = grad @ weight if onto is None else onto.addmm_(grad, weight)
        return for_x, grad.t() @ x if needed[1] else None, grad.sum(0) if needed[2] else None


@dataclass(frozen=True)
class Convolution:
    """`torch.nn.functional.conv2d` of one geometry."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The map of x."""
        return conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def back(self, grad: Tensor, x: Tensor, weight: Tensor, needed: Sequence[bool], onto: Tensor | None) -> Any:
        """Gradients of x, weight and bias."""
        for_x, *others = torch.ops.aten.convolution_backward(
            grad, x, weight, [len(weight)], self.stride, self.padding, self.dilation, False, [0, 0], self.groups, list(needed)
        )  # fmt: skip
        return for_x if onto is None or for_x is None else onto.add_(for_x), *others


Weights = tuple[Tensor | None, Tensor | None]


def combine(affine: Affine, x: Tensor, r: Weights, g: Weights, b: Weights) -> Tensor:
    """r(x)∘g(x) + b(x∘x), or r(x) + b(x∘x) where g has no weight."""
    if _is_ordinary(x):
        return _Combine.apply(affine, x, *r, *g, *b)  # type: ignore[return-value]
    h, first = affine(x * x, *b), affine(x, *r)  # type: ignore[arg-type]
    # Stacking r and g into one product was measured, and is slower: their weights would be copied every pass.
    return h + first if g[0] is None else torch.addcmul(h, first, affine(x, *g))  # type: ignore[arg-type]


def _is_ordinary(x: Tensor) -> bool:
    """Whether this is a plain pass that may be followed backwards."""
    return (
        not torch.compiler.is_compiling()
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled(x.device.type)
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


class _Combine(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, affine: Affine, x: Tensor, w_r: Any, b_r: Any, w_g: Any, b_g: Any, w_b: Any, b_b: Any
    ) -> Tensor:
        h, r = affine(x * x, w_b, b_b), affine(x, w_r, b_r)
        g = None if w_g is None else affine(x, w_g, b_g)
        ctx.affine = affine
        ctx.save_for_backward(x, w_r, b_r, w_g, b_g, w_b, None if g is None else r, g)
        return h.add_(r) if g is None else h.addcmul_(r, g)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, w_r, b_r, w_g, b_g, w_b, r, g = ctx.saved_tensors
        affine, (_, need_x, *need) = ctx.affine, ctx.needs_input_grad
        if g is not None and torch.is_grad_enabled():  # second derivatives: what was kept has no history
            r, g = affine(x, w_r, b_r), affine(x, w_g, b_g)
        onto, for_w_b, for_b_b = affine.back(grad, x * x, w_b, (need_x, *need[4:]), None)
        if need_x:
            onto = (onto * x).mul_(2)
        if g is None:
            onto, for_w_r, for_b_r = affine.back(grad, x, w_r, (need_x, *need[:2]), onto)
            return None, onto, for_w_r, for_b_r, None, None, for_w_b, for_b_b
        onto, for_w_r, for_b_r = affine.back(grad * g, x, w_r, (need_x, *need[:2]), onto)
        onto, for_w_g, for_b_g = affine.back(grad * r, x, w_g, (need_x, *need[2:4]), onto)
        return None, onto, for_w_r, for_b_r, for_w_g, for_b_g, for_w_b, for_b_b
