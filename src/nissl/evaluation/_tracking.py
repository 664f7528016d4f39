"""How much memory a network really holds: every storage that torch makes is watched from its birth to its end."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Tracker(TorchDispatchMode):
    """Counts the bytes of storages that are made, once each, for as long as a tensor stands on them."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.outside = {t.untyped_storage().data_ptr() for t in known}
        self.standing: Counter[int] = Counter()
        self.bytes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.numel():
                self._see(tensor)
        self.peak = max(self.peak, self.now)
        return out

    def _see(self, tensor: Tensor) -> None:
        place = tensor.untyped_storage().data_ptr()
        if place in self.outside:
            return
        if not self.standing[place]:
            self.bytes[place] = tensor.untyped_storage().nbytes()
            self.now += self.bytes[place]
        self.standing[place] += 1
        weakref.finalize(tensor, self._gone, place)

    def _gone(self, place: int) -> None:
        self.standing[place] -= 1
        if not self.standing[place]:
            self.now -= self.bytes[place]


def measured_memory(
    module: nn.Module, inputs: Shaped[Tensor, "..."] | Sequence[Shaped[Tensor, "..."]]
) -> tuple[int, int]:
    """Bytes that a network holds, as torch runs it.

    Returns
    -------
    tuple of int
        The most that is held at once in a pass without gradients, what the network makes alone; and what autograd keeps for the way
        back to the weights, inputs included. Weights and buffers are in neither.

    Examples
    --------
    >>> measured_memory(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), [torch.randn(2, 4)])
    (128, 96)
    """
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    weights = [*module.parameters(), *module.buffers()]
    tracker = _Tracker([*weights, *inputs])
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), tracker:
        module(*inputs)
    outside = {w.untyped_storage().data_ptr() for w in weights}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in outside and tensor.numel():
            kept[place] = tensor
        return tensor

    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        module(*inputs)
    return tracker.peak, sum(t.untyped_storage().nbytes() for t in kept.values())
