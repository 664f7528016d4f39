"""Inputs and labels as tensors that a network can take, or an error before work starts."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nissl.errors import InputError


def inputs(X: Any, shape: tuple[int, ...], like: Tensor) -> Float[Tensor, "sample ..."]:
    """Samples of the network's shape, type and device; a sample may come flat, or as the picture that it is."""
    x = _tensor("X", X)
    if x.dtype == torch.bool or x.is_complex():
        raise InputError(f"X is of type {x.dtype}; give numbers")
    if x.ndim < 2 or not len(x) or math.prod(x.shape[1:]) != math.prod(shape):
        raise InputError(
            f"X has shape {tuple(x.shape)}; allowed: (sample, {', '.join(map(str, shape))}), with at least one sample"
        )
    x = x.to(like.device, like.dtype).reshape(-1, *shape)
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bad.any():
        raise InputError(
            f"X has NaN or infinite values in {int(bad.sum())} samples, first in sample {int(bad.nonzero()[0])}"
        )
    return x


def labels(y: Any, n: int, n_classes: int, device: torch.device, *, every: bool = False) -> Int[Tensor, "sample"]:
    """Whole numbers from 0 to the number of classes; with `every`, each class must have a sample."""
    given = _tensor("y", y)
    if given.ndim != 1 or len(given) != n:
        raise InputError(f"y has shape {tuple(given.shape)}; allowed: ({n},), one whole number for each sample of X")
    whole = (given.real if given.is_complex() else given).to(torch.int64)
    if (
        given.dtype == torch.bool
        or given.is_complex()
        or (given.is_floating_point() and not torch.equal(whole.to(given.dtype), given))
    ):
        raise InputError(f"y is of type {given.dtype}; give the number of each sample's class, from 0")
    outside = (whole < 0) | (whole >= n_classes)
    if outside.any():
        raise InputError(
            f"y has label {int(whole[outside][0])}; allowed: 0 to {n_classes - 1}, as the network has {n_classes} outputs"
        )
    if every:
        missing = sorted(set(range(n_classes)) - set(whole.tolist()))
        if missing:
            raise InputError(
                f"no sample of class {', '.join(map(str, missing))}: its template would be learned from other classes only; give "
                f"samples of all {n_classes} classes, or a network with fewer outputs"
            )
    return whole.to(device)


def held_out(test: Any) -> tuple[Any, ...]:
    """What `test` of a fit holds: X and y, or X of an autoencoder."""
    if not isinstance(test, tuple | list) or len(test) not in (1, 2):
        raise InputError(f"test is {type(test).__name__}; allowed: a pair (X, y), or (X,) for an autoencoder")
    return tuple(test)


def fingerprint(*data: Tensor) -> str:
    """A hash of all bytes, which also another order of the samples changes."""
    found = hashlib.sha256()
    for part in data:
        found.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _tensor(name: str, value: Any) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError, RuntimeError) as error:
        kind = "the number of each sample's class, from 0" if name == "y" else "numbers, as many for each sample"
        raise InputError(f"{name} cannot be read ({error}); give {kind}") from error
