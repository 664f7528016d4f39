"""Where a token stands: the positional code of the parity task."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError


class HalfTurn(nn.Module):
    """Add to each token where it stands, as the angle of a vector that makes half a turn along the sequence.

    Parameters
    ----------
    width
        Of the tokens.

    Raises
    ------
    InputError
        A width below 1, or tokens of another.

    Notes
    -----
    token_i + W (-sin φ_i, cos φ_i) + b,  φ_i from 0 at the first token to 180 degrees at the last. It has no state.

    References
    ----------
    Darlow et al. 2025, Continuous Thought Machines, appendix on parity.

    Examples
    --------
    >>> backbone = nn.Sequential(nn.Embedding(2, 32), HalfTurn(32))  # bits as tokens
    >>> backbone(torch.tensor([[0, 1, 1]])).shape
    torch.Size([1, 3, 32])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 1:
            raise InputError(f"width={width}; it must be 1 or more")
        self.project = nn.Linear(2, width)

    def forward(self, tokens: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch token width"]:
        """Tokens with their places."""
        if tokens.dim() != 3 or tokens.shape[-1] != self.project.out_features:
            raise InputError(
                f"tokens of shape {tuple(tokens.shape)}; needed: (batch, token, {self.project.out_features})"
            )
        angle = torch.linspace(0, torch.pi, tokens.shape[1], dtype=tokens.dtype, device=tokens.device)
        return tokens + self.project(torch.stack([-angle.sin(), angle.cos()], 1))

    def extra_repr(self) -> str:
        """Size."""
        return f"width={self.project.out_features}"
