"""Layers of the transformer: attention that shows its weights when asked, blocks, and encoders of what is no spike."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Cache = dict[int, tuple[Tensor, Tensor]]


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself or to a context.

    Fused (`scaled_dot_product_attention`) unless the weights are asked for.
    """

    def __init__(self, dim: int, heads: int, *, cross: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.cross, self.dropout = heads, cross, dropout
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "sample query dim"],
        context: Float[Tensor, "sample key dim"] | None = None,
        real: Bool[Tensor, "sample key"] | None = None,
        *,
        weights: bool = False,
        cache: Cache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend to `context` where `real`, or causally to `x` itself.

        With a cache (one dict for all layers), keys of a context are computed once, and those of `x` are added to the ones of
        earlier calls.
        """
        q = self._split(self.query(x))
        keys, values = self._keys_values(x if context is None else context, cache)
        causal = context is None and x.shape[1] > 1
        mask = None if real is None else real[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        if not weights:
            mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, is_causal=causal, dropout_p=dropout)
            return self.out(mixed.transpose(1, 2).flatten(2)), None
        scores = q @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1])
        if causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).tril()
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        pattern = scores.softmax(-1)
        mixed = F.dropout(pattern, dropout) @ values
        return self.out(mixed.transpose(1, 2).flatten(2)), pattern

    def _keys_values(self, source: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        old = None if cache is None else cache.get(id(self))
        if old is not None and self.cross:
            return old
        keys, values = (self._split(part) for part in self.key_value(source).chunk(2, -1))
        if old is not None:
            keys, values = torch.cat([old[0], keys], 2), torch.cat([old[1], values], 2)
        if cache is not None:
            cache[id(self)] = (keys, values)
        return keys, values

    def _split(self, x: Tensor) -> Float[Tensor, "sample head place width"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """x + attention(norm x), then x + perceptron(norm x)."""

    def __init__(self, dim: int, heads: int, *, cross: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, cross=cross, dropout=dropout)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, context: Tensor | None = None, real: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        """The block's output, and its attention where asked."""
        mixed, pattern = self.attention(self.norm_attention(x), context, real, **options)
        x = x + self.drop(mixed)
        return x + self.drop(self.mlp(self.norm_mlp(x))), pattern


class Stack(nn.Module):
    """Blocks one after another, and a last norm; `causal` lets a self-attention look back only."""

    def __init__(self, n: int, dim: int, heads: int, *, cross: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads, cross=cross, dropout=dropout) for _ in range(n))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, x: Tensor, context: Tensor | None = None, real: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, list[Tensor]]:
        """The stack's output, and the attention of each block where asked."""
        patterns = []
        for block in self.blocks:
            x, pattern = block(x, context, real, **options)
            if pattern is not None:
                patterns.append(pattern)
        return self.norm(x), patterns


def fourier(position: Float[Tensor, "*any"], dim: int, shortest: float, longest: float) -> Float[Tensor, "*any dim"]:
    """Sines and cosines of a position, their wavelengths spread evenly on a logarithmic scale."""
    n = -(-dim // 2)
    wavelength = torch.logspace(math.log10(shortest), math.log10(longest), n, dtype=torch.float64)
    angle = 2 * math.pi * position.double()[..., None] / wavelength
    return torch.cat([angle.sin(), angle.cos()], -1)[..., :dim].float()


class StimulusEncoder(nn.Module):
    """Clips to tokens: patches of space and time by 3D convolution (or frames of a vector by a linear map), norm, rectifier, sinusoidal
    positions, then self-attention over all tokens of the clip.
    """

    position: Tensor

    def __init__(
        self, shape: tuple[int, ...], patch: tuple[int, int, int], n: int, dim: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.video = len(shape) == 3
        if self.video:
            self.patch = (min(patch[0], shape[0]), min(patch[1], shape[1]), min(patch[2], shape[2]))
            # Patches may overlap: half of their side is the stride in space.
            self.stride = (self.patch[0], max(1, self.patch[1] // 2), max(1, self.patch[2] // 2))
            self.project: nn.Module = nn.Conv3d(1, dim, self.patch, self.stride)
            self.grid = tuple((s - p) // q + 1 for s, p, q in zip(shape, self.patch, self.stride, strict=True))
        else:
            self.project = nn.Linear(shape[1], dim)
            self.grid = (shape[0],)
        self.norm = nn.LayerNorm(dim)
        places = torch.cartesian_prod(*[torch.arange(g) for g in self.grid]).reshape(-1, len(self.grid))
        share = -(-dim // places.shape[1])
        parts = [fourier(axis, share, 2.0, 4.0 * max(self.grid)) for axis in places.T]
        self.register_buffer("position", torch.cat(parts, -1)[:, :dim], persistent=False)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(EncoderBlock(dim, heads, dropout) for _ in range(n))
        self.last = nn.LayerNorm(dim)

    def forward(self, clip: Float[Tensor, "sample frame *place"]) -> Float[Tensor, "sample token dim"]:
        """Tokens of clips."""
        x = self.project(clip[:, None]).flatten(2).transpose(1, 2) if self.video else self.project(clip)
        x = self.drop(F.relu(self.norm(x)) + self.position)
        for block in self.blocks:
            x = block(x)
        return self.last(x)


class EncoderBlock(Block):
    """A block whose tokens all see each other."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__(dim, heads, cross=True, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Tokens after one round of seeing each other."""
        seen = self.norm_attention(x)
        x = x + self.drop(self.attention(seen, seen)[0])
        return x + self.drop(self.mlp(self.norm_mlp(x)))


class SeriesEncoder(nn.Module):
    """Samples of scalar series to tokens: a two-layer perceptron, the time of the sample and which variable it is.

    The paper puts a layer norm before the perceptron; over a single number that norm is always zero, so samples are
    standardised over the training windows instead.
    """

    time: Tensor

    def __init__(self, variables: int, samples: int, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(1, dim), nn.GELU(), nn.Linear(dim, dim))
        self.variable = nn.Parameter(torch.randn(variables, 1, dim) * 0.1)
        self.null = nn.Parameter(torch.randn(1, 1, dim) * 0.1)
        self.register_buffer("time", fourier(torch.arange(samples), dim, 2.0, 4.0 * samples), persistent=False)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, values: Float[Tensor, "sample variable time"], real: Bool[Tensor, "sample variable time"]
    ) -> tuple[Float[Tensor, "sample token dim"], Bool[Tensor, "sample token"]]:
        """Tokens, the first of which says nothing and is always there, and which of them are real."""
        x = (self.mlp(values[..., None]) + self.time + self.variable).flatten(1, 2)
        x = torch.cat([self.null.expand(len(x), -1, -1), x], 1)
        return self.norm(x), F.pad(real.flatten(1), (1, 0), value=True)
