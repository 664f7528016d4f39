"""Rules to compare with, called as `CounterCurrentNetwork` is: back-propagation, feedback alignment, target propagation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nissl.errors import InputError
from nissl.learning.counter_current._learner import Learner
from nissl.learning.counter_current._modules import another, no_running_means
from nissl.learning.counter_current._paired import PairedNetwork
from nissl.learning.counter_current._settings import Settings, real
from nissl.learning.hebbian_projection import ErrorFeedback


class BackPropagation(Learner):
    """The gradient of the last layer's loss, through the whole network.

    Parameters
    ----------
    forward_layers, input_shape, autoencoder, seed
        As those of `CounterCurrentNetwork`.

    Notes
    -----
    All weights W of the network follow dE/dW, E the cross-entropy of the output (or an autoencoder's squared error, times `ends`).

    References
    ----------
    Rumelhart, Hinton and Williams 1986, Learning representations by back-propagating errors.

    Examples
    --------
    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> rule = BackPropagation([nn.Linear(4, 2)]).fit(x, (x[:, 0] > 0).long(), epochs=5, progress=False)
    >>> rule.score(x, (x[:, 0] > 0).long()) > 0.9
    True
    """

    def _gradients(self, x: Tensor, target: Tensor, scale: float, draw: torch.Generator) -> dict[str, Tensor]:
        loss = self._top_loss(self(x), target)
        (scale * loss).backward()
        return {str(len(self.blocks)): loss.detach()}


class FeedbackAlignment(BackPropagation):
    """Back-propagation in which errors travel back through random weights that never change.

    Parameters
    ----------
    forward_layers, input_shape, autoencoder, seed
        As those of `CounterCurrentNetwork`; the seed is that of the random weights.

    Notes
    -----
    A layer y = W x hands the error g of its output on as g B instead of g W; see `nissl.learning.ErrorFeedback`.

    References
    ----------
    Lillicrap and others 2016, Random synaptic feedback weights support error backpropagation for deep learning.

    Examples
    --------
    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> layers = [nn.Linear(4, 8), nn.ELU(), nn.Linear(8, 2)]
    >>> rule = FeedbackAlignment(layers).fit(x, (x[:, 0] > 0).long(), epochs=5, progress=False)
    >>> rule.score(x, (x[:, 0] > 0).long()) > 0.9
    True
    """

    def __init__(
        self,
        forward_layers: nn.Sequential | Sequence[nn.Module],
        *,
        input_shape: Sequence[int] | None = None,
        autoencoder: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_layers, input_shape=input_shape, autoencoder=autoencoder, seed=seed)
        self.errors = ErrorFeedback(self.network, "fa", seed=another(seed))

    def _gradients(self, x: Tensor, target: Tensor, scale: float, draw: torch.Generator) -> dict[str, Tensor]:
        with self.errors:
            return super()._gradients(x, target, scale, draw)

    def _more_state(self) -> dict[str, Any]:
        return {"errors": self.errors.weights}

    def _restore_more(self, state: dict[str, Any]) -> None:
        self.errors.weights = state["errors"]


@dataclass(frozen=True)
class TargetSettings(Settings):
    """`Settings`, and those of target propagation.

    Attributes
    ----------
    target_step
        How far the uppermost hidden code's target is moved against the gradient of a sample's loss.
    noise
        Standard deviation of what is added to codes where the inverses are learned.
    """

    target_step: float = 0.1
    noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("target_step", "noise"):
            object.__setattr__(self, name, real(name, getattr(self, name)))
        if not self.target_step > 0 or self.noise < 0:
            raise InputError(
                f"target_step={self.target_step}, noise={self.noise}; allowed: a positive step, noise from 0"
            )


class TargetPropagation(PairedNetwork):
    """Difference target propagation: targets travel down through inverses that are learned, and each layer moves to its target.

    Parameters
    ----------
    forward_layers, feedback_layers, input_shape, seed
        As those of `CounterCurrentNetwork`; the feedback layers are the inverses. Not for autoencoders.

    Notes
    -----
    h_l = F_l(h_{l-1}), E_i the cross-entropy of sample i, t the `target_step`, n noise, B_l the inverse of F_l. Targets are::

        g_{L-1} = h_{L-1} - t dE_i/dh_{L-1}        g_{l-1} = h_{l-1} + B_l(g_l) - B_l(h_l)

    F_l follows |F_l(h_{l-1}) - g_l|^2 / 2t, and B_l follows |B_l(F_l(h_{l-1} + n)) - h_{l-1} - n|^2 / 2, means over samples and sums over units. F_L
    follows the cross-entropy; B_1 and B_L are not used.

    References
    ----------
    Lee, Zhang, Fischer and Bengio 2015, Difference target propagation.

    Examples
    --------
    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> layers = [nn.Linear(4, 8), nn.ELU(), nn.Linear(8, 8), nn.ELU(), nn.Linear(8, 2)]
    >>> rule = TargetPropagation(layers).fit(x, (x[:, 0] > 0).long(), epochs=5, progress=False)
    >>> rule.score(x, (x[:, 0] > 0).long()) > 0.9
    True
    """

    kind: ClassVar[type[Settings]] = TargetSettings
    settings: TargetSettings  # pyright: ignore[reportIncompatibleVariableOverride]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Forward weights, and those of the inverses that are used."""
        if self.autoencoder:
            raise InputError("target propagation is written here for classifiers, not for autoencoders")
        inverses = list(self.feedback)[1:-1] if hasattr(self, "feedback") else []
        return {**super().groups(), "feedback": [p for m in inverses for p in m.parameters() if p.requires_grad]}

    def _gradients(self, x: Tensor, target: Tensor, scale: float, draw: torch.Generator) -> dict[str, Tensor]:
        depth, step = len(self.blocks), self.settings.target_step
        codes = self._upwards(x)
        top = codes[-1].detach().requires_grad_()
        loss = cross_entropy(self.blocks[-1](top), target)
        (scale * loss).backward()
        found = {str(depth): loss.detach()}
        assert top.grad is not None
        wanted = codes[-1] - step * len(x) / scale * top.grad
        for layer in range(depth - 1, 0, -1):
            below = codes[layer - 1]
            moved = _half_squared(self.blocks[layer - 1](below), wanted) / step
            (scale * moved).backward()
            found[str(layer)] = moved.detach()
            if layer > 1:
                wanted = self._invert(layer, below, codes[layer], wanted, scale, draw)
        return found

    @torch.no_grad()
    def _upwards(self, x: Tensor) -> list[Tensor]:
        """h_0, ..., h_{L-1}; running means are counted where each layer learns."""
        codes = [self._enter(x)]
        with no_running_means(self.network):
            for block in self.blocks[:-1]:
                codes.append(block(codes[-1]))
        return codes

    def _invert(
        self, layer: int, below: Tensor, code: Tensor, wanted: Tensor, scale: float, draw: torch.Generator
    ) -> Tensor:
        """The target of the layer below; and the inverse learns."""
        inverse = self.feedback[layer - 1]
        with torch.no_grad(), no_running_means(self):
            target = below + inverse(wanted) - inverse(code)
            drawn = torch.randn(below.shape, generator=draw, dtype=below.dtype).to(below.device)
            noisy = below + self.settings.noise * drawn
            above = self.blocks[layer - 1](noisy)
        (scale * _half_squared(inverse(above), noisy)).backward()
        return target


def _half_squared(a: Tensor, b: Tensor) -> Tensor:
    return 0.5 * (a - b).square().sum() / len(a)
