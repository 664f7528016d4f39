"""A small network for every neuron: from the history of what it was given to what it says next."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from nissl.errors import InputError


class Folded(NamedTuple):
    """Weights and biases of one layer with the layer's temperature divided in."""

    weight: Float[Tensor, "unit out in"]
    bias: Float[Tensor, "unit out 1"]


class NeuronModels(nn.Module):
    """Neuron-level models: each neuron applies weights of its own to its own history.

    Parameters
    ----------
    n_neurons
        D.
    history
        M: how many past inputs a neuron sees.
    hidden
        Width of each neuron's network; None for a linear one.
    shared
        One network for all neurons: the lesion that shows what private ones are worth.

    Raises
    ------
    InputError
        A size below 1.

    Notes
    -----
    h_d = GLU( (W1_d A_d + b1_d) / τ1 ),  z_d = GLU( (W2_d h_d + b2_d) / τ2 ),  for every neuron d and its history A_d.
    Without a hidden layer z_d = GLU( (W1_d A_d + b1_d) / τ1 ). A GLU halves its input, x σ(y), so that W1 is 2h wide and W2
    is 2 wide. Temperatures τ are learned and begin at 1; weights begin uniform in ±1 / √(in + out), biases at 0.

    References
    ----------
    Darlow et al. 2025, Continuous Thought Machines, section on neuron-level models, equation 3.

    Examples
    --------
    >>> models = NeuronModels(64, 6, hidden=4)
    >>> models(torch.rand(32, 64, 6)).shape
    torch.Size([32, 64])
    >>> sum(p.numel() for p in models.parameters()) == 64 * (6 * 8 + 8 + 8 + 2) + 2
    True
    """

    def __init__(self, n_neurons: int, history: int, *, hidden: int | None = 4, shared: bool = False) -> None:
        super().__init__()
        if min(n_neurons, history, hidden or 1) < 1 or hidden == 0:
            raise InputError(
                f"n_neurons={n_neurons}, history={history}, hidden={hidden}; each is 1 or more (hidden=None for linear ones)"
            )
        self.n_neurons, self.history, self.hidden, self.shared = n_neurons, history, hidden, shared
        widths = [(history, 2)] if hidden is None else [(history, 2 * hidden), (hidden, 2)]
        own = 1 if shared else n_neurons
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(own, out, into)) for into, out in widths)
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(own, out)) for _, out in widths)
        self.temperatures = nn.ParameterList(nn.Parameter(torch.ones(1)) for _ in widths)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        for weight, bias, temperature in zip(self.weights, self.biases, self.temperatures, strict=True):
            bound = (weight.shape[1] + weight.shape[2]) ** -0.5
            nn.init.uniform_(weight, -bound, bound)
            nn.init.zeros_(bias)
            nn.init.ones_(temperature)

    def forward(self, history: Float[Tensor, "batch unit history"]) -> Float[Tensor, "batch unit"]:
        """What every neuron says, given its history (oldest first)."""
        if history.dim() != 3 or history.shape[1:] != (self.n_neurons, self.history):
            raise InputError(
                f"a history of shape {tuple(history.shape)}; needed: (batch, {self.n_neurons}, {self.history})"
            )
        return self.advance(history.permute(1, 2, 0), self.folded()).T

    def folded(self) -> list[Folded]:
        """The layers with their temperatures divided in, which is done once a pass and not once a tick."""
        layers = zip(self.weights, self.biases, self.temperatures, strict=True)
        expanded = ((w / t, b / t) for w, b, t in layers)
        return [
            Folded(w.expand(self.n_neurons, -1, -1), b[..., None].expand(self.n_neurons, -1, 1)) for w, b in expanded
        ]

    def advance(
        self, history: Float[Tensor, "unit history batch"], layers: list[Folded]
    ) -> Float[Tensor, "unit batch"]:
        """The same with the batch as the last axis: the halves of each GLU are then contiguous."""
        value = history
        for layer in layers:
            value = functional.glu(torch.baddbmm(layer.bias, layer.weight, value), 1)
        return value.squeeze(1)

    def extra_repr(self) -> str:
        """Sizes."""
        kind = "linear" if self.hidden is None else f"hidden={self.hidden}"
        return f"neurons={self.n_neurons}, history={self.history}, {kind}" + (", shared" if self.shared else "")
