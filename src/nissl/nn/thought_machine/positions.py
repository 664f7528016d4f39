"""Where a token stands: the positional code of the parity task."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError


class HalfTurn(nn.Module):
    """Add to each token where it stands: a unit vector that turns by 180 degrees from the first token to the last, through
    a learned linear map.

    Parameters
    ----------
    width
        Of the tokens.

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
        angle = torch.linspace(0, torch.pi, tokens.shape[1], dtype=tokens.dtype, device=tokens.device)
        return tokens + self.project(torch.stack([-angle.sin(), angle.cos()], 1))
