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
    digest = hashlib.blake2b(type(model.module).__name__.encode(), digest_size=16)
    digest.update(repr(model.processor).encode() if isinstance(model.processor, ImageSpec) else b"")
    for name, tensor in sorted(model.module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


class Chain:
    """A running hash over samples: equal chains have seen equal samples in the same order."""

    def __init__(self, state: str = "") -> None:
        self.state = state

    def add(self, sample: Any) -> None:
        """Take one more sample in."""
        self.state = hashlib.blake2b(self.state.encode() + _sample_bytes(sample), digest_size=16).hexdigest()


def _sample_bytes(sample: Any) -> bytes:
    if isinstance(sample, str) and Path(sample).suffix and len(sample) < 4096 and Path(sample).is_file():
        sample = Path(sample)
    if isinstance(sample, Path):
        return b"file" + hashlib.blake2b(sample.read_bytes()).digest()
    if isinstance(sample, str):
        return b"text" + sample.encode()
    if isinstance(sample, Image.Image):
        return b"picture" + str(sample.size).encode() + sample.tobytes()
    if isinstance(sample, Inputs):
        return b"".join(name.encode() + _bytes(t) for name, t in sorted(sample.tensors.items()))
    if isinstance(sample, Tensor):
        return str(tuple(sample.shape)).encode() + _bytes(sample)
    array = np.asarray(sample)
    return str((array.shape, array.dtype)).encode() + np.ascontiguousarray(array).tobytes()


def _bytes(tensor: Tensor) -> bytes | memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b""  # type: ignore[arg-type]
