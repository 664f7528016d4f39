"""Attention as a ratio of integrals."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import elu, scaled_dot_product_attention

from nissl.errors import InputError
from nissl.nn.operators._checks import whole
from nissl.nn.operators.coordinates import rotate


class QuadratureAttention(nn.Module):
    """Self- or cross-attention in which every point counts for the part of the domain it stands for.

    Parameters
    ----------
    channels
        Of the field, before and after.
    heads
        How many; a divisor of `channels`.
    context_channels
        Of the field that is attended to, where it has others.
    kind
        `softmax`, or `linear`: its cost is linear in the points.
    rotary
        Shortest wavelength, in the unit of the coordinates, of rotations that let attention depend on the difference between
        positions; None leaves positions out.

    Raises
    ------
    InputError
        Heads that do not divide the channels; fields, weights or positions that do not fit.

    Notes
    -----
    For a query at x and points y_j of weights Δ_j, a head of width d::

        softmax:  v(x) = Σ_j Δ_j exp(q(x)·k(y_j)/√d) v(y_j) / Σ_j Δ_j exp(q(x)·k(y_j)/√d)
        linear:   v(x) = φ(q(x))·Σ_j Δ_j φ(k(y_j)) v(y_j)ᵀ / (φ(q(x))·Σ_j Δ_j φ(k(y_j))),   φ(z) = elu(z) + 1

    The weights belong inside the sums. At the output, where some implementations put them, they are right on uniform grids only.
    Without weights all points count alike, and `softmax` is torch's `scaled_dot_product_attention`.

    With `rotary`, pair i of a head's channels turns by 2π p/λ_i at the coordinate p, λ_i from the shortest wavelength to a thousand
    times that; axes of space share the pairs.

    References
    ----------
    Calvello, Kovachki, Levine, Stuart 2024, Continuum Attention for Neural Operators; Katharopoulos and others 2020, Transformers
    are RNNs (the linear form); Su and others 2021, RoFormer (rotations).

    Examples
    --------
    >>> import torch
    >>> layer = QuadratureAttention(8, heads=2)
    >>> x, weights = torch.randn(3, 20, 8), torch.rand(20)
    >>> twice = layer(x, x.repeat_interleave(2, 1), weights=(weights / 2).repeat_interleave(2))
    >>> torch.allclose(layer(x, weights=weights), twice, atol=1e-6)
    True
    """

    def __init__(
        self,
        channels: int,
        heads: int = 1,
        *,
        context_channels: int | None = None,
        kind: str = "softmax",
        rotary: float | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.heads = whole("channels", channels, 1), whole("heads", heads, 1)
        if channels % heads:
            raise InputError(f"heads={heads} do not divide channels={channels}")
        if kind not in ("softmax", "linear"):
            raise InputError(f"kind={kind!r}; allowed: 'softmax', 'linear'")
        if rotary is not None and not (math.isfinite(rotary) and rotary > 0):
            raise InputError(f"rotary={rotary!r}; allowed: a positive wavelength, or None")
        self.kind, self.rotary = kind, rotary
        self.context_channels = channels if context_channels is None else whole("context_channels", context_channels, 1)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(self.context_channels, channels)
        self.value = nn.Linear(self.context_channels, channels)
        self.out = nn.Linear(channels, channels)

    def forward(
        self,
        x: Float[Tensor, "batch query channel"],
        context: Float[Tensor, "batch point context"] | None = None,
        *,
        weights: Float[Tensor, "point"] | Float[Tensor, "batch point"] | None = None,
        at: Float[Tensor, "query axis"] | None = None,
        context_at: Float[Tensor, "point axis"] | None = None,
    ) -> Float[Tensor, "batch query channel"]:
        """What each query reads.

        Parameters
        ----------
        x
            The field at the queries.
        context
            The field that is read; `x` itself if None.
        weights
            Quadrature weights of the points that are read; equal if None.
        at, context_at
            Coordinates, needed with `rotary`; those of the context are `at` where the context is `x`.
        """
        if context is None:
            context, context_at = x, at
        for name, field, width in (("x", x, self.channels), ("context", context, self.context_channels)):
            if field.dim() != 3 or field.shape[-1] != width:
                raise InputError(f"{name} has shape {tuple(field.shape)}; allowed: (batch, point, {width})")
        if weights is not None and (weights.shape[-1] != context.shape[1] or weights.dim() > 2):
            raise InputError(f"weights have shape {tuple(weights.shape)} for {context.shape[1]} points that are read")
        q, k, v = (
            layer(field).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, field in ((self.query, x), (self.key, context), (self.value, context))
        )
        if self.rotary is not None:
            if at is None or context_at is None:
                raise InputError(
                    "rotary attention needs the coordinates of queries (at) and of the context (context_at)"
                )
            q, k = rotate(q, at, self.rotary), rotate(k, context_at, self.rotary)
        if weights is not None:
            weights = weights.to(q).view(-1, 1, 1, context.shape[1])
        read = self._softmax(q, k, v, weights) if self.kind == "softmax" else self._linear(q, k, v, weights)
        return self.out(read.transpose(1, 2).flatten(2))

    def _softmax(self, q: Tensor, k: Tensor, v: Tensor, weights: Tensor | None) -> Tensor:
        mask = None if weights is None else weights.log().expand(len(q), 1, q.shape[2], k.shape[2])
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)

    def _linear(self, q: Tensor, k: Tensor, v: Tensor, weights: Tensor | None) -> Tensor:
        q, k = elu(q) + 1, elu(k) + 1
        k = k / k.shape[2] if weights is None else k * (weights / weights.sum(-1, keepdim=True)).transpose(-1, -2)
        return (q @ (k.transpose(-1, -2) @ v)) / (q @ k.sum(2)[..., None])

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.channels}, heads={self.heads}, context_channels={self.context_channels}, kind={self.kind!r}, rotary={self.rotary}"
