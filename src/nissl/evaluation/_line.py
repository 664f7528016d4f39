"""A network of rectifiers and polynomials along a line: its outputs and the states of all its rectifiers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn
from torch.overrides import TorchFunctionMode

from nissl.errors import InputError, ModelError

RECTIFIERS = {"relu", "relu_", "leaky_relu", "leaky_relu_"}
# What keeps a polynomial a polynomial, by the names of torch's functions; pow and division are looked at more closely.
POLYNOMIAL = {
    "linear", "bilinear", "conv1d", "conv2d", "conv3d", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "dot", "einsum", "addmm", "addmv", "baddbmm",
    "add", "add_", "__add__", "__radd__", "__iadd__", "sub", "sub_", "__sub__", "__rsub__", "rsub", "__isub__", "mul", "mul_", "__mul__", "__rmul__",
    "__imul__", "neg", "__neg__", "square", "square_", "addcmul", "addcmul_", "sum", "mean", "reshape", "view", "flatten", "unflatten", "permute", "transpose",
    "t", "squeeze", "unsqueeze", "expand", "expand_as", "repeat", "contiguous", "clone", "detach", "to", "double", "cat", "concat", "stack", "chunk", "split",
    "unbind", "__getitem__", "pad", "batch_norm", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "zeros_like", "ones_like", "new_zeros", "size", "dim", "numel", "is_floating_point", "is_contiguous", "__get__", "__len__", "__bool__", "movedim",
    "roll", "flip", "type_as", "stride",
}  # fmt: skip


class Watch(TorchFunctionMode):
    """Sees every function of torch that is called: rectifiers leave their state, and what makes no polynomial is refused."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.states = n, []

    def __torch_function__(self, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", str(func)), kwargs or {}
        if name in RECTIFIERS:
            x = args[0] if args else kwargs["input"]
            if not x.dim() or x.shape[0] != self.n:
                raise ModelError(
                    f"a rectifier sees a tensor of shape {tuple(x.shape)} for {self.n} inputs; its first axis must be the batch"
                )
            self.states.append((x > 0).reshape(self.n, -1).cpu())
        elif not (name in POLYNOMIAL or _is_power(name, args) or _is_share(name, args) or _is_idle(name, args, kwargs)):
            raise ModelError(
                f"the network calls {name!r}, which is neither a rectifier nor keeps polynomials polynomial; allowed: ReLU, leaky ReLU, affine "
                "maps, sums, products, whole powers, average pooling, batch norm at rest"
            )
        return func(*args, **kwargs)


def _is_power(name: str, args: Any) -> bool:
    whole = len(args) > 1 and isinstance(args[1], int | float) and args[1] >= 0 and float(args[1]).is_integer()
    return name in ("pow", "__pow__", "pow_") and whole


def _is_share(name: str, args: Any) -> bool:
    return name in ("div", "__truediv__", "true_divide", "div_", "__itruediv__") and isinstance(args[1], int | float)


def _is_idle(name: str, args: Any, kwargs: Any) -> bool:
    return name.startswith("dropout") and not (args[2] if len(args) > 2 else kwargs.get("training", True))


class Along:
    """A network along a line: from places between 0 and 1 to outputs and to the states of all rectifiers."""

    def __init__(self, model: nn.Module, line: tuple[Any, Any], batch_size: int) -> None:
        ends = [torch.atleast_1d(torch.as_tensor(end, dtype=torch.float64)) for end in line]
        if (
            len(ends) != 2
            or ends[0].shape != ends[1].shape
            or torch.equal(*ends)
            or not all(e.isfinite().all() for e in ends)
        ):
            raise InputError("a line is two different inputs of one shape, without NaN, such as (-3.0, 3.0) or (x, y)")
        self.model, self.batch_size = copy.deepcopy(model).double().eval(), batch_size
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        self.start, self.step = ends[0].to(device), (ends[1] - ends[0]).to(device)
        holder = next((m for m in self.model.modules() if m._parameters), None)
        width = getattr(holder, "in_features", 1)
        if self.one_number and isinstance(width, int) and width != 1:
            raise InputError(
                f"the line runs between single numbers, but the network takes {width}; give two inputs, such as "
                f"(torch.zeros({width}), torch.ones({width}))"
            )

    @property
    def one_number(self) -> bool:
        """Whether an input is one number, so that places on the line have a value."""
        return self.start.numel() == 1

    def places(self, t: np.ndarray) -> np.ndarray:
        """The input itself where it is one number, otherwise the fraction of the line."""
        return float(self.start) + t * float(self.step) if self.one_number else t

    def __call__(self, t: np.ndarray) -> tuple[Float[np.ndarray, "place output"], Bool[np.ndarray, "place unit"]]:
        parts = [self._some(t[i : i + self.batch_size]) for i in range(0, len(t), self.batch_size)]
        values, states = (np.concatenate(part) for part in zip(*parts, strict=True))
        if not np.isfinite(values).all():
            raise ModelError("the output is NaN or infinite along the line")
        return values, states

    def _some(self, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = torch.as_tensor(t, device=self.start.device).reshape(-1, *[1] * self.start.dim())
        x = self.start + places * self.step
        with torch.no_grad(), Watch(len(t)) as watch:
            values = self.model(x)
        states = torch.cat(watch.states, 1) if watch.states else torch.zeros(len(t), 1, dtype=torch.bool)
        return values.reshape(len(t), -1).cpu().numpy(), states.numpy()
