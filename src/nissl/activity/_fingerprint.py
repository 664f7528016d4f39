"""Short names for large things: which network, which samples."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nissl.models import Inputs, Model
from nissl.specimens import ImageSpec


def model_fingerprint(model: Model) -> str:
    """A hash of the architecture's parameter names and of every weight."""
    digest = hashlib.sha256(type(model.module).__name__.encode())
    digest.update(repr(model.processor).encode() if isinstance(model.processor, ImageSpec) else b"")
    for name, tensor in sorted(model.module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:32]


class Chain:
    """A running hash over samples: equal chains have seen equal samples in the same order."""

    def __init__(self, state: str = "") -> None:
        self.state = state

    def add(self, sample: Any) -> None:
        """Take one more sample in."""
        self.state = _hash(self.state.encode(), *_sample_parts(sample))


def _sample_parts(sample: Any) -> list[bytes | memoryview]:
    """What a sample is made of, without copying large arrays."""
    if isinstance(sample, str) and Path(sample).suffix and len(sample) < 4096 and Path(sample).is_file():
        sample = Path(sample)
    if isinstance(sample, Path):
        return [b"file", sample.read_bytes()]
    if isinstance(sample, str):
        return [b"text", sample.encode()]
    if isinstance(sample, Image.Image):
        return [b"picture", str(sample.size).encode(), sample.tobytes()]
    if isinstance(sample, Inputs):
        return [part for name, t in sorted(sample.tensors.items()) for part in (name.encode(), _bytes(t))]
    if isinstance(sample, Tensor):
        return [str(tuple(sample.shape)).encode(), _bytes(sample)]
    array = np.ascontiguousarray(sample)
    return [str((array.shape, array.dtype)).encode(), array.tobytes()]


def _hash(*parts: bytes | memoryview) -> str:
    # SHA-256 has instructions of its own on today's processors and is faster there than younger hashes.
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def _bytes(tensor: Tensor) -> bytes | memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b""  # type: ignore[arg-type]
