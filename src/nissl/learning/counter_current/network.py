"""Counter-current learning: a forward network and a feedback network that pull each other's codes together, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss, normalize

from nissl.errors import InputError, unknown
from nissl.learning.counter_current._modules import no_running_means
from nissl.learning.counter_current._paired import PairedNetwork
from nissl.learning.counter_current._settings import Settings, real
from nissl.learning.counter_current.losses import AUTOENCODER_LOSSES, CLASSIFIER_LOSSES, matches


@dataclass(frozen=True)
class CounterCurrentSettings(Settings):
    """`Settings`, and those of counter-current learning alone.

    Attributes
    ----------
    local_loss
        "template", "similarity" or "mse", see `losses`; an autoencoder has "similarity" and "mse". "top" trains the last layer alone,
        on top of a random network: a control. None is "template", or an autoencoder's "similarity".
    strength
        s, the weight of the local losses; None is 0.5 for classifiers and 30 for the autoencoder's similarity, 1 for "mse".
    target_filter
        Leave samples out of the local losses whose own class already has a probability above 0.9. Costs one more forward pass.
    freeze_feedback
        The feedback network stays as it was: a control.
    shuffle
        Samples are matched with other samples' classes (for an autoencoder, pictures): a control.
    """

    local_loss: str | None = None
    strength: float | None = None
    target_filter: bool = False
    freeze_feedback: bool = False
    shuffle: bool = False


class CounterCurrentNetwork(PairedNetwork):
    """A sequential network that learns from local losses, with a feedback network of mirrored shape beside it.

    Parameters
    ----------
    forward_layers
        An `nn.Sequential`, or a list of layers, that ends with a linear layer; trained in place. A layer with weights makes a pair
        of codes with the norms, activations, pooling and flatten that follow it.
    feedback_layers
        For each layer with weights, first to last, the module that leads back from its output to its input; None, alone or for
        single layers, where the mirror is to be built (Linear, Conv2d, ConvTranspose2d).
    input_shape
        Of one sample, for example (1, 28, 28); can be left out where the first layer is Linear.
    autoencoder
        The target is the input. Weights of norms are not trained.
    seed
        Of the feedback weights, and of what is drawn when `step` is called alone.

    Attributes
    ----------
    curve_ : xarray.Dataset
        Of the last `fit`: `loss` and `lr` by step, `score` by epoch where a test was given.

    Raises
    ------
    InputError
        Not sequential; no `input_shape` where it is needed; another number of feedback layers.
    ModelError
        A layer that has no mirror, feedback of another shape, weights that stand in two places, an output that is not linear.

    Notes
    -----
    Layers l = 1..L, a_0 = x the input and c_L the target: one-hot vectors of the K classes (or the input again, in an
    autoencoder). F_l is the l-th layer, B_l its mirror with weights of its own, sg stops gradients::

        a_l = F_l(sg(a_{l-1}))        c_{l-1} = B_l(sg(c_l))

        J_l = 256 s mse(a_l c_l^T, I) / d_l,  l < L        J_L = cross-entropy(a_L)

    d_l is the width, I says which class a sample belongs to. J_l reaches F_l through a_l and B_{l+1} through c_l, and nothing else. B_l
    ends with the norm and activation of layer l - 1; c_0 is linear. Each J_l is propagated as soon as it is formed, so what is
    kept for gradients is one layer at a time; the feedback runs twice for that, on K rows only.

    References
    ----------
    Kao and Hariharan 2024, Counter-Current Learning: A Biologically Plausible Dual Network Approach for Deep Learning.

    Examples
    --------
    >>> from nissl.learning.counter_current import CounterCurrentNetwork
    >>> x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    >>> y = (x[:, 0] > 0).long()
    >>> layers = [nn.Linear(8, 16, bias=False), nn.ELU(), nn.Linear(16, 2, bias=False)]
    >>> network = CounterCurrentNetwork(layers).fit(x, y, epochs=10, batch_size=10, lr=0.3, progress=False)
    >>> network.score(x, y) > 0.8
    True
    >>> network.templates()[1].dims
    ('class', 'unit')
    """

    kind: ClassVar[type[Settings]] = CounterCurrentSettings
    settings: CounterCurrentSettings  # pyright: ignore[reportIncompatibleVariableOverride]

    # ------------------------------------------------------------------ the rule

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """The weights that learn under these settings, by network."""
        if not hasattr(self, "feedback"):  # not made yet
            return super().groups()
        if self.settings.local_loss == "top":
            return {
                "forward": [p for part in self.blocks[-1].parts for p in part.module.parameters() if p.requires_grad]
            }
        feedback = [] if self.settings.freeze_feedback else [p for p in self.feedback.parameters() if p.requires_grad]
        return {**super().groups(), "feedback": feedback}

    def losses(self, x: Any, target: Any = None, *, stop: bool = True) -> dict[int, Float[Tensor, ""]]:
        """All J_l by layer, with their graphs, for looking at; `stop=False` lets gradients run through layers, which the rule forbids."""
        inputs, wanted = self._pair(x, target)
        cut = torch.Tensor.detach if stop else lambda z: z
        codes = [self.top_code(wanted)]
        for module in reversed(self.feedback):
            codes.insert(0, module(cut(codes[0])))
        a, match, found = self._enter(inputs), self._match(wanted), {}
        for layer, code in enumerate(codes):
            a = self.blocks[layer - 1](cut(a)) if layer else a
            if layer == len(self.blocks) or self.settings.local_loss != "top":
                found[layer] = self._pair_loss(layer, a, code, match, wanted)
        return found

    def _gradients(self, x: Tensor, target: Tensor, scale: float, draw: torch.Generator) -> dict[str, Tensor]:
        s, depth, found = self.settings, len(self.blocks), {}
        match = self._match(target)
        if s.shuffle:
            match = match[torch.randperm(len(match), generator=draw).to(match.device)]
        heard = self._unsure(x, target) if s.target_filter else None
        local = s.local_loss != "top"
        codes = self._targets(target) if local else []
        a = self._enter(x).detach()
        for layer in range(depth + 1):
            pair = local or layer == depth
            with torch.set_grad_enabled(pair):
                a = self.blocks[layer - 1](a.detach()) if layer else a
            if not pair:
                continue
            code = codes[layer] if local else a  # the last pair needs no code
            if layer < depth and not s.freeze_feedback:
                code = self.feedback[layer](codes[layer + 1])
            met = a if heard is None or layer == depth else a * heard.view(-1, *[1] * (a.ndim - 1))
            loss = self._pair_loss(layer, met, code, match, target)
            if loss.requires_grad:  # not the input's, where the feedback is frozen
                (scale * loss).backward()
            found[str(layer)] = loss.detach()
        return found

    def _pair_loss(self, layer: int, a: Tensor, code: Tensor, match: Tensor, target: Tensor) -> Tensor:
        if layer == len(self.blocks):
            return self._top_loss(a, target)
        if self.autoencoder and layer == 0:
            return self.settings.ends * mse_loss(code, a.detach())
        known = AUTOENCODER_LOSSES if self.autoencoder else CLASSIFIER_LOSSES
        loss, usual = known[str(self.settings.local_loss)]
        return loss(a, code, match, usual if self.settings.strength is None else self.settings.strength)

    @torch.no_grad()
    def _targets(self, target: Tensor) -> list[Tensor]:
        """All feedback codes, c_0 first, without graphs, and without a trace in running means."""
        with no_running_means(self.feedback):
            return self._downwards(self.top_code(target))

    def _agreement(self, a: Tensor, c: Tensor) -> Tensor:
        a, c = a.flatten(1), c.flatten(1)
        if self.settings.local_loss == "mse":
            return -torch.cdist(a, c)
        return a @ (normalize(c) if self.settings.local_loss == "similarity" else c).T

    def _match(self, target: Tensor) -> Tensor:
        dtype = next(self.network.parameters()).dtype
        if self.autoencoder:
            return torch.eye(len(target), dtype=dtype, device=target.device)
        return matches(target, self.n_outputs, dtype)

    @torch.no_grad()
    def _unsure(self, x: Tensor, target: Tensor) -> Tensor:
        """1 for samples whose own class has a probability below 0.9, else 0."""
        with no_running_means(self.network):
            own = self(x).softmax(1).gather(1, target[:, None]).squeeze(1)
        return (own <= 0.9).to(x.dtype)

    def _settled(self, settings: Settings) -> Settings:
        s = cast("CounterCurrentSettings", settings)
        known = list(AUTOENCODER_LOSSES if self.autoencoder else CLASSIFIER_LOSSES)
        if s.local_loss is None:
            s = replace(s, local_loss=known[0])
        if s.local_loss not in (*known, "top"):
            raise unknown("local loss", s.local_loss, [*known, "top"])
        if s.strength is not None:
            s = replace(s, strength=real("strength", s.strength))
        if s.strength is not None and not 0 < s.strength < float("inf"):
            raise InputError(f"strength={s.strength}; allowed: a positive number, or None")
        if s.freeze_feedback and s.local_loss == "top":
            raise InputError("freeze_feedback with local_loss='top': there is no feedback in that loss")
        if s.target_filter and self.autoencoder:
            raise InputError("target_filter asks how probable the sample's class is, and an autoencoder has no classes")
        return s
