"""Fourier modes of one axis: cutting them, and putting them into their places on another grid."""

from __future__ import annotations

import torch
from torch import Tensor


def lowest(u: Tensor, axis: int, modes: int) -> Tensor:
    """Frequencies 0 ... modes-1, -(modes-1) ... -1 of an axis in FFT order, or as many as it has.

    The mode n/2 of an even axis is one row for two frequencies, and becomes two rows of half of it.
    """
    n = u.shape[axis]
    h = min(modes - 1, n // 2)
    if 2 * h + 1 == n:
        return u
    if 2 * h == n:
        half = 0.5 * u.narrow(axis, h, 1)
        return torch.cat([u.narrow(axis, 0, h), half, half, u.narrow(axis, h + 1, h - 1)], axis)
    return torch.cat([u.narrow(axis, 0, h + 1), u.narrow(axis, n - h, h)], axis)


def spread(v: Tensor, axis: int, n: int, out: int) -> Tensor:
    """Frequencies of an axis of `n` points, or the lowest of them, in their places among those of `out` points.

    The mode n/2 of an even axis is one row for two frequencies: it is halved on the way to a finer grid, and both are
    added on the way to a coarser one.
    """
    if out == n == v.shape[axis]:
        return v
    if n % 2 == 0 and v.shape[axis] == n:
        v = lowest(v, axis, n)
    kept = v.shape[axis]
    h = kept // 2  # frequencies up to ±h
    if out >= kept:
        gap = v.new_zeros(()).expand(*v.shape[:axis], out - kept, *v.shape[axis + 1 :])
        return torch.cat([v.narrow(axis, 0, h + 1), gap, v.narrow(axis, h + 1, h)], axis)
    if out % 2:
        return lowest(v, axis, out // 2 + 1)
    q = out // 2
    both = v.narrow(axis, q, 1) + v.narrow(axis, kept - q, 1)
    return torch.cat([v.narrow(axis, 0, q), both, v.narrow(axis, kept - q + 1, q - 1)], axis)


def to_real(v: Tensor, n: int, out: int) -> Tensor:
    """The real field on `out` points from the modes 0, 1, ... of the last axis of a grid of `n`."""
    if n % 2 == 0 and out > n and v.shape[-1] == n // 2 + 1:  # half of mode n/2 belongs to -n/2
        v = torch.cat([v[..., :-1], 0.5 * v[..., -1:]], -1)
    elif out % 2 == 0 and out < n and v.shape[-1] > out // 2:  # both fall onto out/2
        v = torch.cat([v[..., : out // 2], 2 * v[..., out // 2 : out // 2 + 1]], -1)
    return torch.fft.irfft(v, n=out, dim=-1, norm="forward")
