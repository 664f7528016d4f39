"""The residual network of the paper, for small pictures."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from nissl.errors import InputError
from nissl.nn.quadratic.layers import QuadraticConv2d


def quadratic_resnet(
    depth: int = 20,
    n_classes: int = 10,
    *,
    in_channels: int = 3,
    width: int = 16,
    conventional: bool = False,
    compact: bool = False,
    rezero: bool = False,
) -> nn.Sequential:
    """The residual network of He and others for 32 x 32 pictures, with quadratic convolutions in its blocks.

    The first convolution and the last layer are conventional; every 3 x 3 convolution of a block is quadratic, begins as a conventional one
    and is followed by batch norm. Shortcuts have no weights: where a stage halves the picture they take every second pixel and add channels of zeros.

    Parameters
    ----------
    depth
        6 n + 2 layers: 20, 32, 44, 56, 110 in the paper.
    n_classes
        Width of the output.
    in_channels
        Channels of the pictures.
    width
        Channels of the first stage; the second has twice, the third four times as many.
    conventional
        Ordinary convolutions everywhere, for comparison.
    compact
        Quadratic neurons without interaction.
    rezero
        Scale each block's contribution by a number that is learned and begins at 0 (Bachlechner and others 2021).

    Returns
    -------
    torch.nn.Sequential
        From (batch, channel, y, x) to logits (batch, class).

    Raises
    ------
    InputError
        A depth that is not 6 n + 2, or sizes below 1.

    References
    ----------
    Fan, Li, Wang, Lai, Wang 2023, On Expressivity and Trainability of Quadratic Networks, IEEE TNNLS, arXiv:2110.06081. He, Zhang, Ren, Sun 2016, Deep
    residual learning for image recognition (section 4.2).

    Examples
    --------
    >>> net = quadratic_resnet(8, width=4)
    >>> net(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        near = max(8, 6 * round((depth - 2) / 6) + 2) if isinstance(depth, int | float) else 20
        raise InputError(f"depth={depth!r}; allowed: 6 n + 2, such as {near}")
    for name, size in (("n_classes", n_classes), ("in_channels", in_channels), ("width", width)):
        if not isinstance(size, int) or size < 1:
            raise InputError(f"{name}={size!r}; allowed: whole numbers from 1")
    make = nn.Conv2d if conventional else partial(QuadraticConv2d, compact=compact)
    blocks, now = [], width
    for stage in range(3):
        for i in range((depth - 2) // 6):
            after = width * 2**stage
            blocks.append(_Block(now, after, 2 if stage and not i else 1, make, rezero))
            now = after
    begin = [nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*begin, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(now, n_classes))


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int, make: type[nn.Module] | partial, rezero: bool) -> None:
        super().__init__()
        self.stride, self.more = stride, after - before
        self.body = nn.Sequential(
            make(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            make(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.scale = nn.Parameter(torch.zeros(())) if rezero else 1.0

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Float[Tensor, "batch channel_out y_out x_out"]:
        """What the block adds, and what it leaves."""
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = pad(shortcut, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return relu(self.scale * self.body(x) + shortcut)
