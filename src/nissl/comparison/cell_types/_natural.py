"""What units meet in life: pieces of photographs for networks that see, 1/f noise for anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nissl.errors import InputError
from nissl.models import Model, load
from nissl.specimens import photo, photos


def natural_crops(
    model: Model | nn.Module | str, canvas: tuple[int, int, int], n: int = 500, *, seed: int = 0
) -> Float[Tensor, "stimulus channel y x"]:
    """Square pieces of the package's photographs at many scales, in the pixels that a network was trained on.

    Parameters
    ----------
    model
        A network that takes pictures.
    canvas
        Channels, height and width of a piece.
    n
        How many.

    Returns
    -------
    Tensor
        `(stimulus, channel, y, x)`, normalised as the network's own inputs.

    Raises
    ------
    InputError
        A network that takes no pictures, other channels than its pictures have, a canvas larger than they are.

    Examples
    --------
    >>> natural_crops("efficientnet-lite0", (3, 32, 32), 5).shape
    torch.Size([5, 3, 32, 32])
    """
    network = load(model)
    if network.kind != "image":
        raise InputError(f"{network.name!r} takes no pictures; give natural=stimuli of its own kind")
    pictures = network.prepare([photo(name) for name in photos()]).main
    if len(canvas) != 3 or canvas[0] != pictures.shape[1] or max(canvas[1:]) > min(pictures.shape[2:]):
        raise InputError(
            f"pieces of shape {canvas} from pictures of shape {tuple(pictures.shape[1:])}; the channels must agree, the size at most"
        )
    rng = np.random.default_rng(seed)
    pieces = []
    for _ in range(n):
        picture = pictures[int(rng.integers(len(pictures)))]
        side = int(rng.integers(max(canvas[1:]), min(picture.shape[1:]) + 1))
        top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape[1:])
        piece = picture[None, :, top : top + side, left : left + side]
        pieces.append(
            functional.interpolate(piece, size=canvas[1:], mode="bilinear", antialias=True, align_corners=False)
        )
    return torch.cat(pieces)


def sees_photographs(model: Any, canvas: tuple[int, ...]) -> bool:
    """Whether a network takes pictures of three channels, as photographs are."""
    return isinstance(model, Model) and model.kind == "image" and len(canvas) == 3 and canvas[0] == 3
