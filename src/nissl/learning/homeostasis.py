"""A learning rate that is an inner state of the learner, moved by what it perceives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from nissl.errors import InputError
from nissl.learning._regulation import DECISIONS, LEFT, NOT_ASKED, TAKEN, Regulation, Settings

Loss = Callable[[Tensor, Tensor], Tensor]


class HomeostaticSGD(torch.optim.SGD):
    """Stochastic gradient descent whose learning rate is regulated by what the network perceives.

    Half of the classes are excitatory, half inhibitory: consuming one raises or lowers the rate. At regular moments the learner
    imagines the next update with and without the effect of what it *believes* to see, and consumes only if that would have served it
    better on its most recent samples; the world then applies the effect of what it *really was*. No schedule is needed, and where
    labels change their meaning the rate rises by itself.

    It is an ordinary torch optimiser: any training loop can use it, if it shows each minibatch to `observe` between ``backward`` and ``step``.
    With ``step_size=0`` or ``policy="constant"`` it is `torch.optim.SGD`, bit for bit.

    Parameters
    ----------
    model
        Any classifier: from a batch of inputs to logits (sample, class). What it imagines is computed in evaluation mode, beside the network, and leaves
        no trace in it.
    lr
        Rate to begin with, per mean gradient of the minibatch.
    step_size
        How far one excitatory or inhibitory object moves the rate; ``lr / 10`` where None. Needs about ``10 * lr / step_size``
        decisions to show: for streams of some ten thousand samples use `lr`.
    interval
        Samples between decisions. A decision falls on the first sample of a minibatch, so there is at most one a minibatch.
    memory
        How many of the most recent samples it looks back upon.
    excitatory
        Classes that raise the rate; the others lower it. The upper half of the labels where None.
    floor
        The rate never falls below.
    policy
        "homeostatic"; "constant": never asks; "random": takes with probability 1/2; "shuffled": decides as homeostatic does, but the effect is
        that of a random class (no stakes); "yoked": takes when told to by `takes`.
    direction
        Whether the "predicted" or (an ablation) the "true" class decides about the imagined effect.
    gradient
        Whether the imagined update is that of the "sample" alone, still divided by the size of the minibatch, or (an ablation: it adapts less) of the whole
        "batch".
    takes
        For "yoked": one bool a decision; nothing is taken once they are used up.
    loss
        Mean loss of logits and targets.
    seed
        Of the random policies; the learner has a generator of its own.

    Attributes
    ----------
    rate : float
        The learning rate now; the same as ``param_groups[0]["lr"]``.
    ups, downs : int
        How often something excitatory and inhibitory was taken. As long as the floor is not met, ``rate = lr + step_size * (ups - downs)``.

    Raises
    ------
    InputError, UnknownNameError
        Settings that cannot be used: a floor at or above the rate, a step larger than the rate, no interval or memory, an unknown policy.

    References
    ----------
    Man, Damasio and Neven 2022, Need is All You Need: Homeostatic Neural Networks Adapt to Concept Shift, arXiv:2205.08645.

    Examples
    --------
    >>> model = torch.nn.Linear(4, 2)
    >>> optimiser = HomeostaticSGD(model, lr=0.01, step_size=0.01)
    >>> generator = torch.Generator().manual_seed(0)
    >>> for _ in range(50):
    ...     x = torch.randn(10, 4, generator=generator)
    ...     y = (x[:, 0] > 0).long()
    ...     logits = model(x)
    ...     optimiser.zero_grad()
    ...     torch.nn.functional.cross_entropy(logits, y).backward()
    ...     decision = optimiser.observe(x, y, logits)
    ...     optimiser.step()
    >>> decision in ("not asked", "left", "taken") and optimiser.rate > 0
    True
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        step_size: float | None = None,
        interval: int = 10,
        memory: int = 20,
        excitatory: Iterable[int] | None = None,
        floor: float = 1e-8,
        policy: Literal["homeostatic", "constant", "random", "shuffled", "yoked"] = "homeostatic",
        direction: Literal["predicted", "true"] = "predicted",
        gradient: Literal["sample", "batch"] = "sample",
        takes: Any = None,
        loss: Loss = nn.functional.cross_entropy,
        seed: int = 0,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(f"{type(model).__name__} given; the learner needs the network itself, not its parameters")
        self.settings = Settings.checked(
            lr=lr, step_size=step_size, interval=interval, memory=memory, excitatory=excitatory, floor=floor, policy=policy,
            direction=direction, gradient=gradient, takes=takes, seed=seed,
        )  # fmt: skip
        self.model, self.loss = model, loss
        self.last_gain = float("nan")
        self._regulation: Regulation | None = None
        self._seen = 0
        self._memory: tuple[Tensor, Tensor] | None = None
        super().__init__([p for p in model.parameters() if p.requires_grad], lr=self.settings.lr)

    def __getstate__(self) -> dict[str, Any]:
        # torch keeps rates and momenta only; a copy of a learner has its settings, its memory and, copied with it, its network.
        return self.__dict__.copy()

    @property
    def rate(self) -> float:
        """The learning rate now."""
        return float(self.param_groups[0]["lr"])

    @property
    def ups(self) -> int:
        """Excitatory objects taken."""
        return int(self._regulation.ups[0]) if self._regulation else 0

    @property
    def downs(self) -> int:
        """Inhibitory objects taken."""
        return int(self._regulation.downs[0]) if self._regulation else 0

    def observe(
        self,
        inputs: Float[Tensor, "sample ..."],
        targets: Int[Tensor, "sample"],
        predictions: Float[Tensor, "sample class"],
    ) -> str:
        """Perceive a minibatch, decide where a decision is due, and set the rate of the coming ``step``.

        Parameters
        ----------
        inputs, targets
            The minibatch.
        predictions
            What the network made of it: logits or probabilities.

        Returns
        -------
        str
            "not asked", "left" or "taken".

        Raises
        ------
        InputError
            Sizes that do not agree, targets that are no class, NaN among the predictions, excitatory classes that the network does not
            have, or no gradient yet where ``gradient="batch"``.
        """
        predictions = predictions.detach()
        _check_batch(inputs, targets, predictions, self.settings)
        if self._regulation is None:
            self._regulation = Regulation([self.settings], predictions.shape[1])
        elif predictions.shape[1] != self._regulation.n_classes:
            raise InputError(
                f"{predictions.shape[1]} classes, but {self._regulation.n_classes} in the minibatches before"
            )
        decision = NOT_ASKED
        if self.settings.policy != "constant" and self._regulation.due(self._seen):
            decision = self._decide(self._regulation, inputs, targets, predictions)
        self._remember(inputs.detach(), targets)
        return DECISIONS[decision]

    def relabel(self, first: int, second: int) -> None:
        """Two classes have exchanged their labels: so do the samples in memory, which carries labels as of now."""
        if self._memory is not None:
            x, y = self._memory
            self._memory = x, torch.where(y == first, second, torch.where(y == second, first, y))

    def forget(self) -> None:
        """Empty the memory and begin to count anew; the rate stays what it is."""
        self._regulation, self._seen, self._memory = None, 0, None

    def adopt(self, regulation: Regulation, seen: int, memory: tuple[Tensor, Tensor] | None) -> None:
        """Take over the inner state of a learner that lived together with others."""
        self._regulation, self._seen = regulation, seen
        self._memory = memory if self.settings.policy in ("homeostatic", "shuffled") else None
        for group in self.param_groups:
            group["lr"] = float(regulation.eta[0])

    def _decide(self, regulation: Regulation, inputs: Tensor, targets: Tensor, predictions: Tensor) -> int:
        regulation.eta[0] = self.rate  # a schedule of the user's may have moved it
        guess, truth = predictions[0].argmax().item(), targets[0].item()

        def imagine(leave: np.ndarray, take: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return self._imagined(inputs, targets, float(leave[0]), float(take[0]))

        taken, gain = regulation.decide(self._seen, np.array([guess]), np.array([truth]), imagine)
        self.last_gain = float(gain[0])
        for group in self.param_groups:
            group["lr"] = float(regulation.eta[0])
        return TAKEN if taken[0] else LEFT

    def _imagined(self, inputs: Tensor, targets: Tensor, leave: float, take: float) -> tuple[np.ndarray, np.ndarray]:
        """Shares of the memory that are right after an update with either rate."""
        assert self._memory is not None
        x, y = self._memory
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        with _undisturbed(self.model):
            if self.settings.gradient == "sample":
                with torch.enable_grad():
                    loss = self.loss(self.model(inputs[:1]), targets[:1]) / len(inputs)
                    gradient = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            else:
                gradient = tuple(p.grad for p in named.values())
                if all(g is None for g in gradient):
                    raise InputError("no gradient yet; with gradient='batch' call observe after backward")
            with torch.no_grad():
                right = []
                for rate in (leave, take):
                    moved = {
                        name: p if g is None else p - rate * g
                        for (name, p), g in zip(named.items(), gradient, strict=True)
                    }
                    guess = functional_call(self.model, moved, (x,)).argmax(-1)
                    right.append(np.array([(guess == y).sum().item() / len(y)]))
        return right[0], right[1]

    def _remember(self, inputs: Tensor, targets: Tensor) -> None:
        self._seen += len(inputs)
        if self.settings.policy in ("homeostatic", "shuffled"):
            if self._memory is not None:
                inputs, targets = torch.cat([self._memory[0], inputs]), torch.cat([self._memory[1], targets])
            n = self.settings.memory
            self._memory = inputs[-n:].clone(), targets[-n:].clone()

    def state_dict(self) -> dict[str, Any]:
        """As of any optimiser, with the learner's inner state under "homeostasis": a loop that goes on from it makes the same decisions."""
        x, y = self._memory or (None, None)
        inner = self._regulation.state() | {"classes": self._regulation.n_classes} if self._regulation else None
        return super().state_dict() | {
            "homeostasis": {"seen": self._seen, "inputs": x, "targets": y, "regulation": inner}
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the settings must be those of then."""
        if "homeostasis" not in state_dict:
            raise InputError("the state of another optimiser: it says nothing of what was seen and remembered")
        inner = state_dict["homeostasis"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "homeostasis"})
        self._seen = inner["seen"]
        self._memory = None if inner["inputs"] is None else (inner["inputs"].clone(), inner["targets"].clone())
        self._regulation = None
        if inner["regulation"] is not None:
            self._regulation = Regulation([self.settings], inner["regulation"]["classes"])
            self._regulation.restore(inner["regulation"])


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, then every module as it was: no dropout is drawn and no running mean moved by what is only imagined."""
    training = [m for m in model.modules() if m.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _check_batch(inputs: Tensor, targets: Tensor, predictions: Tensor, settings: Settings) -> None:
    if predictions.ndim != 2 or not predictions.is_floating_point() or predictions.shape[1] < 2:
        raise InputError(
            f"predictions of shape {tuple(predictions.shape)}; give logits (sample, class) of at least 2 classes"
        )
    n, classes = predictions.shape
    if len(inputs) != n or targets.shape != (n,) or n == 0:
        raise InputError(
            f"{len(inputs)} inputs, targets {tuple(targets.shape)} and {n} predictions; give as many of each, at least one"
        )
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise InputError(f"targets of type {targets.dtype}; give class indices")
    if not torch.isfinite(predictions).all():
        raise InputError(
            f"NaN or infinite predictions: the inputs hold NaN, or the network has diverged (lr {settings.lr:g}, step_size {settings.step_size:g})"
        )
    if targets.min() < 0 or targets.max() >= classes:
        raise InputError(
            f"targets from {int(targets.min())} to {int(targets.max())}; the network has classes 0 to {classes - 1}"
        )
