"""One question at a time to all tokens: attention whose keys and values are computed once, and asked every tick."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nissl.errors import InputError


class Asked(NamedTuple):
    """What stays the same at all ticks.

    Attributes
    ----------
    query, bias
        From the asker's representation to the queries of all heads: two linear maps made one, with the scale in it.
    keys
        Of all heads and tokens.
    values
        Of all heads and tokens: as they are, or already through the output projection.
    projected
        Whether they are.
    """

    query: Float[Tensor, "width input"]
    bias: Float[Tensor, " width"]
    keys: Float[Tensor, "batch head unit token"]
    values: Float[Tensor, "batch head token width"]
    projected: bool

    def rows(self, which: Tensor) -> Asked:
        """Of some samples only."""
        return self._replace(keys=self.keys[which], values=self.values[which])


class SingleQueryAttention(nn.Module):
    """Multi-head attention of one query a sample, asked again and again of the same tokens.

    Parameters
    ----------
    n_inputs
        Width of what asks.
    width
        d_input: of the tokens, the queries and the answer.
    heads
        How many heads share the width.

    Raises
    ------
    InputError
        A width that the heads cannot share evenly.

    Notes
    -----
    q = W_q (W s + b) + b_q,  w = softmax( q·k / √d ) for every head,  o = W_o [Σ w v for all heads] + b_o.

    The same numbers as `torch.nn.MultiheadAttention` behind a linear layer. What does not change between ticks is done once:
    keys, values, the product W_q W, and, where it is the cheaper way, W_o applied to the values instead of to the answers.

    References
    ----------
    Vaswani et al. 2017, Attention is all you need. Darlow et al. 2025, Continuous Thought Machines, equation 9.

    Examples
    --------
    >>> attention = SingleQueryAttention(10, 16, 2)
    >>> answer, weights = attention(torch.rand(3, 10), torch.rand(3, 5, 16))
    >>> answer.shape, weights.shape
    (torch.Size([3, 16]), torch.Size([3, 2, 5]))
    """

    def __init__(self, n_inputs: int, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise InputError(f"d_input={width} for {heads} heads; the heads must share the width evenly")
        self.width, self.heads = width, heads
        self.ask = nn.Linear(n_inputs, width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, as `torch.nn.MultiheadAttention` draws its own."""
        for layer in (self.ask, self.out):
            layer.reset_parameters()
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight, gain=2**-0.5)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, s: Float[Tensor, "batch input"], tokens: Float[Tensor, "batch token width"]
    ) -> tuple[Float[Tensor, "batch width"], Float[Tensor, "batch head token"]]:
        """The answer, and how much of it came from where."""
        asked = self.prepare(tokens)
        weights = self.weigh(s, asked)
        return self.gather(weights, asked), weights

    def prepare(self, tokens: Float[Tensor, "batch token width"]) -> Asked:
        """All that can be computed before the first question."""
        scale = (self.width // self.heads) ** -0.5
        query = self.query.weight @ self.ask.weight * scale
        bias = functional.linear(self.ask.bias, self.query.weight, self.query.bias) * scale
        keys = self.key(tokens).unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1).contiguous()
        values = self.value(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        # A tick then costs heads * tokens * width products instead of (tokens + width) * width, and one kernel less.
        projected = tokens.shape[1] * (self.heads - 1) <= self.width
        if projected:
            values = values @ self.out.weight.unflatten(1, (self.heads, -1)).permute(1, 2, 0)
        return Asked(query, bias, keys, values.contiguous(), projected)

    def weigh(self, s: Float[Tensor, "batch input"], asked: Asked) -> Float[Tensor, "batch head token"]:
        """How much each head looks at each token."""
        query = functional.linear(s, asked.query, asked.bias).view(len(s), self.heads, 1, -1)
        return (query @ asked.keys).squeeze(2).softmax(-1)

    def gather(self, weights: Float[Tensor, "batch head token"], asked: Asked) -> Float[Tensor, "batch width"]:
        """What the weights bring back."""
        if asked.projected:
            return torch.baddbmm(self.out.bias, weights.flatten(1).unsqueeze(1), asked.values.flatten(1, 2)).squeeze(1)
        return self.out((weights.unsqueeze(2) @ asked.values).flatten(1))

    def extra_repr(self) -> str:
        """Sizes."""
        return f"width={self.width}, heads={self.heads}"
