"""Small things that are done to modules and weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from nissl.learning.counter_current._blocks import NORMS


def another(seed: int) -> int:
    """A seed for the feedback: layers that a caller made under `seed` itself must not have the same numbers."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode while the block lasts."""
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


def sample_dims(value: Tensor) -> tuple[str, ...]:
    """Names of the axes of one sample's activity."""
    known = {1: (), 2: ("unit",), 3: ("position", "unit"), 4: ("unit", "y", "x")}
    return known.get(value.ndim, tuple(f"axis_{i}" for i in range(1, value.ndim)))


def as_numpy(value: Tensor) -> np.ndarray:
    """Without graph and device; numpy does not know bfloat16, so that becomes float32."""
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def fix_norms(module: nn.Module) -> None:
    """Norms go on normalising, and do not learn."""
    for m in module.modules():
        if isinstance(m, NORMS):
            m.requires_grad_(False)


@torch.no_grad()
def centralise(weights: list[nn.Parameter]) -> None:
    for weight in weights:
        if weight.grad is not None and weight.ndim > 1:
            weight.grad -= weight.grad.mean(tuple(range(1, weight.ndim)), keepdim=True)


@contextmanager
def no_running_means(module: nn.Module) -> Iterator[None]:
    """Batch norms do not count what passes while the block lasts."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def cosine(a: Tensor, b: Tensor) -> float:
    """Of the angle between two weights, or gradients."""
    return float((normalize(a.reshape(1, -1)) * normalize(b.reshape(1, -1))).sum())
