"""One pass of a network on its training grid, and one on a finer grid, watched: who sees which sizes, and who fails."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nissl.nn.operators.converting.mixing import Call, summed_sizes

# Calls inside a `forward` that look at neighbours, and which no walk over modules can replace.
FUNCTIONS = {
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "max_pool1d", "max_pool2d", "max_pool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "group_norm", "instance_norm", "scaled_dot_product_attention",
}  # fmt: skip


@dataclass
class Trace:
    """What was seen.

    Attributes
    ----------
    inputs
        Shapes of each module's first tensor, by its identity, in the order of its calls; each once.
    indices
        For embeddings: the indices that were looked up, in the first call.
    flattened
        Shapes (channel, *grid) that were flattened to rows, by their number of features.
    fixed
        Shapes that adaptive pooling gave: they stay the same on every grid.
    functions
        Calls that look at neighbours: the module they stand in, and their name.
    mixing
        Calls that run over whole axes, in order: module, name, and the sizes of those axes.
    """

    inputs: dict[int, list[tuple[int, ...]]] = field(default_factory=lambda: defaultdict(list))
    indices: dict[int, Tensor] = field(default_factory=dict)
    flattened: dict[int, tuple[int, ...]] = field(default_factory=dict)
    fixed: set[tuple[int, ...]] = field(default_factory=set)
    functions: list[tuple[str, str]] = field(default_factory=list)
    mixing: list[Call] = field(default_factory=list)


class _Calls(TorchFunctionMode):
    """Sees every call of torch, and keeps those that no module of torch's own makes."""

    def __init__(self, trace: Trace, stack: list[tuple[str, nn.Module]], dims: int) -> None:
        super().__init__()
        self.trace, self.stack, self.dims = trace, stack, dims

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").lstrip("_").removesuffix("_with_indices")
        path, module = self.stack[-1] if self.stack else ("", None)
        torchs = type(module).__module__.startswith("torch.nn") and not isinstance(module, nn.Sequential)
        own = module is not None and (torchs or isinstance(module, nn.modules.conv._ConvNd))
        if (
            name in FUNCTIONS
            and not own
            and (path, name) not in self.trace.functions
            and not _pointwise(name, args, kwargs)
        ):
            self.trace.functions.append((path, name))
        plain = name.rstrip("_")
        if not torchs and (sizes := summed_sizes(plain, args, kwargs or {})):
            self.trace.mixing.append((path, plain, sizes))
        if name in ("flatten", "reshape", "view") and isinstance(out, Tensor) and args and isinstance(args[0], Tensor):
            given = args[0]
            rows = given.dim() == self.dims and out.dim() == 2 and len(out) == len(given)
            if rows:
                self.trace.flattened[out.shape[1]] = tuple(given.shape[1:])
        return out


def _pointwise(name: str, args: Sequence[Any], kwargs: Any) -> bool:
    """A convolution of one tap."""
    if not name.startswith("conv") or "transpose" in name:
        return False
    weight = args[1] if len(args) > 1 else (kwargs or {}).get("weight")
    return isinstance(weight, Tensor) and all(k == 1 for k in weight.shape[2:])


def trace(module: nn.Module, example: Tensor) -> Trace:
    """Run a network once, without gradients and without changing it."""
    seen, stack = Trace(), []

    def enter(path: str):
        def hook(child: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            stack.append((path, child))
            first = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
            if first is not None:
                shape = tuple(first.shape)
                if shape not in seen.inputs[id(child)]:
                    seen.inputs[id(child)].append(shape)
                if isinstance(child, nn.Embedding):
                    seen.indices.setdefault(id(child), first.detach().clone())

        return hook

    def leave(child: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        stack.pop()
        if "Adaptive" in type(child).__name__ and isinstance(out, Tensor):
            seen.fixed.add(tuple(out.shape[1:]))

    hooks = []
    for path, child in module.named_modules():
        hooks += [child.register_forward_pre_hook(enter(path), with_kwargs=True), child.register_forward_hook(leave)]
    try:
        with torch.no_grad(), _Calls(seen, stack, example.dim()):
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def first_failure(module: nn.Module, run: Any) -> tuple[str, nn.Module, str] | None:
    """Where a run of the network fails: the innermost module's path, the module, and what was said; None where it does not."""
    stack: list[tuple[str, nn.Module]] = []
    hooks = []
    for path, child in module.named_modules():
        hooks.append(child.register_forward_pre_hook(lambda m, args, path=path: stack.append((path, m))))
        hooks.append(child.register_forward_hook(lambda m, args, out: stack.pop() and None))
    try:
        with torch.no_grad():
            run()
    except Exception as error:  # whatever a stranger's forward raises is the answer
        path, child = stack[-1] if stack else ("", module)
        return path, child, str(error).splitlines()[0] if str(error) else type(error).__name__
    finally:
        for hook in hooks:
            hook.remove()
    return None
