"""Layers of a converted network that sum over points, or look positions up, each around what it replaces."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from nissl.errors import InputError
from nissl.nn.operators._taps import along, hat_taps
from nissl.nn.operators.converting.domain import Domain, Grid
from nissl.nn.operators.converting.grids import Converted
from nissl.nn.operators.norm import normalised, quadrature_mean
from nissl.nn.operators.resampling import resample


class WeightedAttention(nn.Module):
    """torch's multi-head attention with the quadrature weights of its keys inside the sums.

    On a uniform periodic or midpoint grid all weights are equal, and the original is called as it is.
    """

    _qkv_same_embed_dim = False  # keeps the layers around it from passing it by on their fast path

    def __init__(self, original: nn.MultiheadAttention, domain: Domain) -> None:
        super().__init__()
        self.original, self.domain = original, domain

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `torch.nn.MultiheadAttention`."""
        points = key.shape[0 if key.dim() == 2 or not self.batch_first else 1]
        weights = self._weights(points, query)
        if weights is not None:
            length = query.shape[0 if query.dim() == 2 or not self.batch_first else 1]
            log = weights.log().expand(length, points)
            if attn_mask is not None and attn_mask.dtype == torch.bool:
                attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(attn_mask, -math.inf)
            if key_padding_mask is not None and key_padding_mask.dtype == torch.bool:
                key_padding_mask = torch.zeros_like(key_padding_mask, dtype=query.dtype).masked_fill(
                    key_padding_mask, -math.inf
                )
            attn_mask, is_causal = log if attn_mask is None else attn_mask + log, False
        return self.original(
            query, key, value, key_padding_mask=key_padding_mask, need_weights=need_weights, attn_mask=attn_mask,
            average_attn_weights=average_attn_weights, is_causal=is_causal,
        )  # fmt: skip

    def _weights(self, points: int, like: Tensor) -> Tensor | None:
        """Weights of the keys where they are the network's own points; others count alike."""
        given, grid = self.domain.weights, self.domain.now
        if given is not None:
            return given.to(like) if len(given) == points else None
        if grid is None or math.prod(grid) != points or grid == self.domain.grid:
            return None
        weights = self.domain.mean_weights(grid, self.domain.grid, like)
        return None if weights is None else weights.flatten()

    batch_first = property(lambda self: self.original.batch_first)
    in_proj_weight = property(lambda self: self.original.in_proj_weight)
    in_proj_bias = property(lambda self: self.original.in_proj_bias)
    out_proj = property(lambda self: self.original.out_proj)
    num_heads = property(lambda self: self.original.num_heads)
    embed_dim = property(lambda self: self.original.embed_dim)


class DomainMean(Converted):
    """Adaptive average pooling to one value, or to a fixed number of parts of the domain."""

    def forward(self, x: Tensor) -> Tensor:
        """A mean over the whole domain knows points of any weights."""
        grid = tuple(x.shape[2:])
        given = self.domain.weights
        if self.single and given is not None and math.prod(grid) == len(given):
            return quadrature_mean(x, given).view(*x.shape[:2], *(1,) * len(grid))
        return super().forward(x)

    @property
    def single(self) -> bool:
        """Whether one value is left."""
        size: Any = self.original.output_size  # type: ignore[union-attr]
        return size == 1 or (isinstance(size, tuple | list) and all(s == 1 for s in size))

    def refined(self, x: Tensor, size: Grid) -> Tensor:
        """Over parts, the grid must be divisible by their number."""
        if self.single and isinstance(self.original, AVERAGES):
            weights = self.domain.mean_weights(x.shape[2:], size, x)
            return quadrature_mean(x, weights).view(*x.shape[:2], *(1,) * len(size))
        y = self.original(x)
        if any(n % m for n, m in zip(x.shape[2:], y.shape[2:], strict=True)):
            raise InputError(
                f"{self.path} pools into {tuple(y.shape[2:])} parts; a grid of {tuple(x.shape[2:])} is not divisible by that"
            )
        return y


AVERAGES = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


class WeightedNorm(Converted):
    """Group, instance or layer norm over space with mean and variance as integrals."""

    def forward(self, x: Tensor) -> Tensor:
        """On points, with their weights."""
        given = self.domain.weights
        if given is not None and math.prod(x.shape[2:]) == len(given) and not isinstance(self.original, nn.LayerNorm):
            return self._normed(x, given)
        return super().forward(x)

    def refined(self, x: Tensor, size: Grid) -> Tensor:
        """With equal weights where the grid has them."""
        return self._normed(x, self.domain.mean_weights(x.shape[2:], size, x))

    def _normed(self, x: Tensor, weights: Tensor | None) -> Tensor:
        norm: Any = self.original
        scale, offset = norm.weight, norm.bias
        if isinstance(norm, nn.LayerNorm):  # its tables are samples of functions
            scale, offset = (
                read_table(t, tuple(x.shape[2:]), self.domain) if t is not None else None for t in (scale, offset)
            )
            groups = 1
        else:
            groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else x.shape[1]
        return normalised(x, groups, weights, scale, offset, norm.eps)


class PositionTable(nn.Module):
    """A learned table of positions as samples of a function: a parametrisation of the parameter that holds it.

    `axes` says which of the table's axes are those of the grid.
    """

    def __init__(self, domain: Domain, axes: tuple[int, ...], flat: bool, path: str) -> None:
        super().__init__()
        self.domain, self.axes, self.flat, self.path = domain, axes, flat, path

    def forward(self, table: Tensor) -> Tensor:
        """The table on the grid of the present call."""
        self.domain.refuse_points(self.path, "position table")
        now = self.domain.now or self.domain.grid
        if now == self.domain.grid:
            return table
        if self.flat:
            table = table.unflatten(self.axes[0], self.domain.grid)
        first, n = self.axes[0], len(now)
        front = table.movedim(tuple(range(first, first + n)), tuple(range(-n, 0)))
        read = read_table(front.reshape(-1, *self.domain.grid), now, self.domain).reshape(*front.shape[:-n], *now)
        back = read.movedim(tuple(range(-n, 0)), tuple(range(first, first + n)))
        return back.flatten(first, first + n - 1) if self.flat else back


class PositionEmbedding(nn.Module):
    """An embedding that is looked up by the indices of all points in turn, as samples of a function."""

    def __init__(self, original: nn.Embedding, domain: Domain, path: str) -> None:
        super().__init__()
        self.original, self.table = original, PositionTable(domain, (0,), True, path)

    def forward(self, index: Tensor) -> Tensor:
        """Rows of the table as it is on the present grid."""
        table = self.original.weight[: math.prod(self.table.domain.grid)]
        return self.table(table)[index]


class DenseIntegral(nn.Module):
    """A dense layer over all channels and points as an integral: its weights are samples of functions of position."""

    def __init__(self, original: nn.Linear, domain: Domain, channels: int, size: Grid, path: str) -> None:
        super().__init__()
        self.original, self.domain, self.channels, self.size, self.path = original, domain, channels, size, path

    def forward(self, x: Tensor) -> Tensor:
        """The field is averaged with the hats around the trained points, then goes through the trained weights."""
        self.domain.refuse_points(self.path, "Linear across positions")
        if x.shape[-1] == self.original.in_features:
            return self.original(x)
        now, less = self.domain.now or self.domain.grid, self.domain.closed
        grid = tuple(
            (s - less) * (m - less) // (m0 - less) + less
            for s, m, m0 in zip(self.size, now, self.domain.grid, strict=True)
        )
        if x.shape[-1] != self.channels * math.prod(grid):
            raise InputError(
                f"{self.path} was given {x.shape[-1]} features; {self.channels} channels on {grid} points were expected"
            )
        field = x.unflatten(-1, (self.channels, *grid))
        for axis, (n, s) in enumerate(zip(grid, self.size, strict=True)):
            field = along(field, self._shares(n, s), x.dim() + axis)
        return linear(field.flatten(x.dim() - 1), self.original.weight, self.original.bias)

    def _shares(self, n: int, s: int) -> Tensor:
        """How much of each of `n` points goes to each of `s` trained ones."""
        less = self.domain.closed
        ratio = (s - less) / max(n - less, 1)
        shift = 0.5 if self.domain.boundary == "midpoint" else 0.0
        first, shares = hat_taps(torch.arange(s, dtype=torch.float64) + shift, ratio, shift)
        if self.domain.boundary == "periodic":
            wrapped = torch.zeros(n, s, dtype=torch.float64)
            return wrapped.index_add(0, torch.arange(first, first + len(shares)) % n, shares)
        inside = shares[max(-first, 0) : n - first]
        whole = torch.zeros(n, s, dtype=torch.float64)
        begin = max(first, 0)
        whole[begin : begin + len(inside)] = inside
        return whole / whole.sum(0)


def read_table(table: Tensor, grid: Grid, domain: Domain) -> Tensor:
    """A table (row, *trained grid) read on another grid."""
    method = "fourier" if domain.boundary == "periodic" else "linear"
    return resample(table[None], grid, method, boundary=domain.boundary)[0]
