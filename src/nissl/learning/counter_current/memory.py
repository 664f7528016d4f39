"""How much a computation keeps for its gradients."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Kept:
    """A saved tensor; when autograd lets it go, so does the count."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def saved_memory(run: Callable[[], Any], *modules: nn.Module) -> int:
    """The most bytes that autograd held at one time for backward passes while `run` ran.

    Storage that several operations keep counts once; weights and buffers of `modules` do not count, as they are there anyway.

    Parameters
    ----------
    run
        What is to be looked at, for example one step of learning.
    modules
        Whose weights are left out.

    Examples
    --------
    >>> layer = nn.Linear(4, 4, bias=False)
    >>> saved_memory(lambda: layer(torch.ones(2, 4)).sum().backward(), layer)  # the input: 2 x 4 numbers of 4 bytes
    32
    """
    weights = {t.untyped_storage().data_ptr() for m in modules for t in (*m.parameters(), *m.buffers())}
    held: Counter[int] = Counter()
    size = {"now": 0, "peak": 0}

    def release(storage: int, n_bytes: int) -> None:
        held[storage] -= 1
        if not held[storage]:
            size["now"] -= n_bytes

    def pack(tensor: Tensor) -> _Kept:
        kept, storage = _Kept(tensor), tensor.untyped_storage()
        key, n_bytes = storage.data_ptr(), storage.nbytes()
        if key not in weights:
            held[key] += 1
            if held[key] == 1:
                size["now"] += n_bytes
                size["peak"] = max(size["peak"], size["now"])
            weakref.finalize(kept, release, key, n_bytes)
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        run()
    return size["peak"]
