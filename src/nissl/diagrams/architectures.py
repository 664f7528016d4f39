"""Small networks of the kinds that papers draw, each with an example of its input: to be drawn, and to test drawing on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nissl.errors import unknown


@dataclass(frozen=True)
class Architecture:
    """A network with what it takes.

    Attributes
    ----------
    module
        In evaluation mode.
    inputs
        An example.
    more
        Another, of other free sizes (batch, and time where there is one).
    axes
        Names of the axes of the first input.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    more: tuple[Tensor, ...]
    axes: str


class Attention(nn.Module):
    """Scaled dot-product attention of queries `batch y key`, keys and values `batch x key`."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Float[Tensor, "batch y key"]:
        """Values, weighted by how alike their keys are to each query."""
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return scores.softmax(-1) @ value


class MultiHeadAttention(nn.Module):
    """Self-attention in several heads, each with queries, keys and values of its own."""

    def __init__(self, model: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(model, model) for _ in range(4))

    def forward(self, x: Float[Tensor, "batch time model"], memory: Tensor | None = None) -> Tensor:
        """The same shape; keys and values come from `memory` where it is given."""
        source = x if memory is None else memory

        def split(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(source)), split(self.value(source))
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """A transformer's block: attention and two linear maps, each normalised before and added to the stream."""

    def __init__(self, model: int = 16, heads: int = 4, *, cross: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(model), nn.LayerNorm(model)
        self.attention = MultiHeadAttention(model, heads)
        self.mlp = nn.Sequential(nn.Linear(model, 4 * model), nn.GELU(), nn.Linear(4 * model, model))
        self.cross = MultiHeadAttention(model, heads) if cross else None
        self.norm3 = nn.LayerNorm(model) if cross else None

    def forward(self, x: Float[Tensor, "batch time model"], memory: Tensor | None = None) -> Tensor:
        """The same shape."""
        x = x + self.attention(self.norm1(x))
        if self.cross is not None and self.norm3 is not None:
            x = x + self.cross(self.norm3(x), memory)
        return x + self.mlp(self.norm2(x))


class EncoderDecoder(nn.Module):
    """A transformer that reads one sequence and writes another."""

    def __init__(self, model: int = 16) -> None:
        super().__init__()
        self.encoder, self.decoder = Block(model), Block(model, cross=True)
        self.readout = nn.Linear(model, 11)

    def forward(self, source: Float[Tensor, "batch source model"], target: Float[Tensor, "batch time model"]) -> Tensor:
        """Logits at every place of the target."""
        return self.readout(self.decoder(target, self.encoder(source)))


class ResidualBlock(nn.Module):
    """Two convolutions, normalised before, and added to what came in: the identity ResNet."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Tensor:
        """The same shape."""
        y = self.conv1(functional.relu(self.norm1(x)))
        return x + self.conv2(functional.relu(self.norm2(y)))


class UNet(nn.Module):
    """Down, and up again, with what was seen on the way down joined on the way up."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, channels, 3, padding=1)
        self.down = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.leave = nn.Conv2d(2 * channels, 2, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Tensor:
        """Two maps."""
        skip = functional.relu(self.enter(x))
        deep = functional.relu(self.down(functional.max_pool2d(skip, 2)))
        return self.leave(torch.cat([skip, functional.relu(self.up(deep))], 1))


class VisionTransformer(nn.Module):
    """Patches of a picture as tokens, one more token for the class, and blocks of a transformer."""

    def __init__(self, side: int = 16, patch: int = 4, model: int = 16, classes: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, model, patch, stride=patch)
        self.token = nn.Parameter(torch.randn(1, 1, model))
        self.position = nn.Parameter(torch.randn(1, (side // patch) ** 2 + 1, model))
        self.blocks = nn.Sequential(Block(model), Block(model))
        self.norm, self.head = nn.LayerNorm(model), nn.Linear(model, classes)

    def forward(self, x: Float[Tensor, "batch channel y x"]) -> Tensor:
        """Logits."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.position
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def _pictures(batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 3, 16, 16),)


def _mlp() -> Architecture:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 10))
    return Architecture(net, (torch.randn(3, 8, 8),), (torch.randn(5, 8, 8),), "batch y x")


def _attention() -> Architecture:
    def drawn(batch: int) -> tuple[Tensor, ...]:
        return torch.randn(batch, 5, 4), torch.randn(batch, 7, 4), torch.randn(batch, 7, 4)

    return Architecture(Attention(), drawn(2), drawn(3), "batch y key")


def _tokens(module: nn.Module) -> Architecture:
    return Architecture(module, (torch.randn(2, 10, 16),), (torch.randn(3, 7, 16),), "batch time model")


def _both() -> Architecture:
    def drawn(batch: int, time: int) -> tuple[Tensor, ...]:
        return torch.randn(batch, 6, 16), torch.randn(batch, time, 16)

    return Architecture(EncoderDecoder(), drawn(2, 10), drawn(3, 7), "batch source model")


def _picture_net(module: nn.Module) -> Architecture:
    return Architecture(module, _pictures(2), _pictures(3), "batch channel y x")


def _residual() -> Architecture:
    block = ResidualBlock()
    for norm in (block.norm1, block.norm2):  # statistics that are no longer those of the start
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return Architecture(block, (torch.randn(2, 6, 8, 8),), (torch.randn(3, 6, 8, 8),), "batch channel y x")


_MAKE: dict[str, Callable[[], Architecture]] = {
    "mlp": _mlp,
    "attention": _attention,
    "multi-head attention": lambda: _tokens(MultiHeadAttention()),
    "encoder-decoder": _both,
    "convolution": lambda: _picture_net(nn.Conv2d(3, 6, 3, padding=1)),
    "convolution, strided": lambda: _picture_net(nn.Conv2d(3, 6, 3, stride=2, padding=1)),
    "convolution, dilated": lambda: _picture_net(nn.Conv2d(3, 6, 3, dilation=2)),
    "convolution, grouped": lambda: _picture_net(nn.Conv2d(3, 6, 3, groups=3, padding=1)),
    "convolution, transposed": lambda: _picture_net(nn.ConvTranspose2d(3, 6, 3, stride=2, padding=1)),
    "residual block": _residual,
    "u-net": lambda: _picture_net(UNet()),
    "vision transformer": lambda: _picture_net(VisionTransformer()),
}
ARCHITECTURES = tuple(_MAKE)


def architecture(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Architecture:
    """A small network of a kind, with random weights.

    Parameters
    ----------
    name
        One of `ARCHITECTURES`.
    seed
        Of weights and inputs.
    dtype
        Of both.

    Raises
    ------
    UnknownNameError
        No such kind.

    Examples
    --------
    >>> net = architecture("multi-head attention")
    >>> net.module(*net.inputs).shape
    torch.Size([2, 10, 16])

    References
    ----------
    Abbott 2024, "Neural Circuit Diagrams", whose figures show these.
    """
    if name not in _MAKE:
        raise unknown("architecture", name, ARCHITECTURES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = _MAKE[name]()
    inputs, more = (tuple(t.to(dtype) for t in x) for x in (made.inputs, made.more))
    return Architecture(made.module.to(dtype).eval(), inputs, more, made.axes)
