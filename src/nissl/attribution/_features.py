"""Groups of entries that perturbation methods switch together, and what they switch them to."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nissl.errors import InputError

Baseline = Literal["zero", "blur"] | float


def groups(x: Tensor, features: Any) -> Tensor:
    """Which feature each entry belongs to: superpixels of a picture, positions of a text, entries of a vector."""
    if x.dim() == 4:
        labels = _superpixels(x[0], features)
        return labels.expand(1, x.shape[1], *labels.shape)
    shape = [1, x.shape[1], *[1] * (x.dim() - 2)]
    if x.dim() == 2:
        return torch.arange(x.shape[1], device=x.device).reshape(shape)
    return torch.arange(x.shape[1], device=x.device).reshape(shape).expand(1, *x.shape[1:])


def _superpixels(picture: Tensor, features: Any) -> Tensor:
    if not isinstance(features, int):
        labels = torch.as_tensor(np.asarray(features)).long()
        if labels.shape != picture.shape[-2:]:
            raise InputError(f"a label map of shape {tuple(labels.shape)} for pictures of {tuple(picture.shape[-2:])}")
        return torch.unique(labels, return_inverse=True)[1].to(picture.device)
    from skimage.segmentation import slic

    pixels = picture.detach().permute(1, 2, 0).cpu().double().numpy()
    spread = pixels.max() - pixels.min()
    pixels = (pixels - pixels.min()) / (spread if spread > 0 else 1.0)
    return torch.from_numpy(slic(pixels, n_segments=features, start_label=0, channel_axis=-1)).to(picture.device)


def baseline_of(x: Tensor, baseline: Baseline) -> Tensor:
    if baseline == "zero":
        return torch.zeros_like(x)
    if isinstance(baseline, int | float):
        return torch.full_like(x, float(baseline))
    if baseline != "blur" or x.dim() != 4:
        raise InputError(f"baseline={baseline!r}; allowed: 'zero', a number, or 'blur' for pictures")
    return blurred(x.detach())


def blurred(x: Tensor, share: float = 1 / 12) -> Tensor:
    """A picture `(sample, channel, y, x)` under a Gaussian blur whose width is a share of its side."""
    from scipy.ndimage import gaussian_filter

    sigma = share * x.shape[-1]
    return torch.from_numpy(gaussian_filter(x.cpu().numpy(), (0, 0, sigma, sigma), mode="nearest")).to(x)


__all__ = ["Baseline", "baseline_of", "blurred", "groups"]
