"""The synapse model: how neurons, and what was seen, mix before each neuron thinks for itself."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError, unknown

NARROWEST = 16  # width of the U-Net's bottleneck
KINDS = ("unet", "stack")


def synapse_model(
    n_inputs: int, n_neurons: int, *, depth: int = 1, kind: str = "unet", dropout: float = 0.0
) -> nn.Module:
    """A network from what was seen and the neurons' activity to their next input.

    Parameters
    ----------
    n_inputs
        Width of what was seen together with the neurons.
    n_neurons
        D.
    depth
        1: one gated layer, a = LayerNorm(GLU(W x + b)). More: see `kind`.
    kind
        Of a deeper model: "unet", or "stack" for gated layers one after another.
    dropout
        Share of inputs dropped in training.

    Raises
    ------
    InputError
        A depth below 1, a U-Net for fewer neurons than its bottleneck, a dropout outside 0 to 1.
    UnknownNameError
        A kind that does not exist.

    Examples
    --------
    >>> synapse_model(96, 64)(torch.rand(2, 96)).shape
    torch.Size([2, 64])
    """
    if depth < 1 or not 0 <= dropout < 1:
        raise InputError(f"synapse_depth={depth}, dropout={dropout}; the depth is 1 or more, dropout from 0 to below 1")
    if kind not in KINDS:
        raise unknown("synapse", kind, KINDS)
    if depth > 1 and kind == "unet":
        return SynapseUNet(n_inputs, n_neurons, depth, dropout)
    layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
    for i in range(depth):
        layers += [nn.Linear(n_neurons if i else n_inputs, 2 * n_neurons), nn.GLU(), nn.LayerNorm(n_neurons)]
    return nn.Sequential(*layers)


class SynapseUNet(nn.Module):
    """A U-Net of fully connected layers, with widths that fall evenly from the neurons to a bottleneck of 16.

    Notes
    -----
    x_0 = SiLU(LayerNorm(W x)),  x_i = SiLU(LayerNorm(W_i x_{i-1})) down to the bottleneck; then, going up,
    y_{i-1} = LayerNorm( SiLU(LayerNorm(V_i y_i)) + x_{i-1} ).

    References
    ----------
    Darlow et al. 2025, Continuous Thought Machines, section on the synapse model.

    Examples
    --------
    >>> SynapseUNet(96, 64, depth=4)(torch.rand(2, 96)).shape
    torch.Size([2, 64])
    """

    def __init__(self, n_inputs: int, n_neurons: int, depth: int, dropout: float = 0.0) -> None:
        super().__init__()
        if n_neurons < NARROWEST:
            raise InputError(
                f"a U-Net narrows to {NARROWEST} units, and there are {n_neurons} neurons; use synapse_depth=1 or more neurons"
            )
        widths = torch.linspace(n_neurons, NARROWEST, depth, dtype=torch.float64).long().tolist()
        self.first = _block(n_inputs, n_neurons)
        self.down = nn.ModuleList(_block(a, b, dropout) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_block(b, a, dropout) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(a) for a in widths[:-1])

    def forward(self, x: Float[Tensor, "batch input"]) -> Float[Tensor, "batch unit"]:
        """The neurons' next input."""
        levels = [self.first(x)]
        for down in self.down:
            levels.append(down(levels[-1]))
        y = levels.pop()
        for up, norm in zip(reversed(self.up), reversed(self.norms), strict=True):
            y = norm(up(y) + levels.pop())
        return y


def _block(n_inputs: int, n_outputs: int, dropout: float = 0.0) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(n_inputs, n_outputs), nn.LayerNorm(n_outputs), nn.SiLU())
