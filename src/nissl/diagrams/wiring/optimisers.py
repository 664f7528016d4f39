"""Boxes that descend: a differentiable function with its weights, and the optimiser, inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nissl.diagrams.wiring.box import Back
from nissl.diagrams.wiring.interface import Interface, real
from nissl.diagrams.wiring.kinds import Learner
from nissl.diagrams.wiring.types import Space, Values, bare, named
from nissl.errors import InputError, unknown

Params = dict[str, Tensor]
Optimizer = Literal["sgd", "momentum", "adam"]


@dataclass(frozen=True)
class Descent:
    """How weights follow a direction p + lr * (...): the optimiser's rule, whose memory is part of the state of the box that it is in.

    Attributes
    ----------
    optimizer
        `sgd`; `momentum`, with a velocity for each weight; `adam`, with two moments.
    lr
        Step. Directions are increments (negative gradients), so steps are added.
    momentum, betas, eps
        As in `torch.optim`.
    reduce
        Over the batch axis: `sum` of the samples' changes, or their `mean`.
    """

    optimizer: Optimizer = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    reduce: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "momentum", "adam"):
            raise unknown("optimizer", self.optimizer, ["sgd", "momentum", "adam"])
        if self.reduce not in ("sum", "mean"):
            raise unknown("reduction over the batch", self.reduce, ["sum", "mean"])
        numbers = (self.lr, self.momentum, self.eps, *self.betas)
        if not all(isinstance(n, int | float) for n in numbers):
            raise InputError(f"{self}; lr, momentum, betas and eps must be numbers")
        if not self.lr >= 0 or not 0 <= self.momentum < 1 or not all(0 <= b < 1 for b in self.betas):
            raise InputError(f"{self}; lr must be at least 0, momentum and betas in [0, 1)")

    def begin(self, params: Params) -> dict[str, Any]:
        """State of a box with these weights."""
        state: dict[str, Any] = {"params": params}
        if self.optimizer != "sgd":
            state["velocity"] = {n: torch.zeros_like(p) for n, p in params.items()}
        if self.optimizer == "adam":
            state |= {"square": {n: torch.zeros_like(p) for n, p in params.items()}, "steps": 0}
        return state

    def learn(self, state: dict[str, Any], change: Params) -> dict[str, Any]:
        """The state after one change."""
        params = state["params"]
        if self.optimizer == "sgd":
            return {"params": {n: torch.add(p, change[n], alpha=self.lr) for n, p in params.items()}}
        if self.optimizer == "momentum":
            velocity = {n: torch.add(change[n], v, alpha=self.momentum) for n, v in state["velocity"].items()}
            moved = {n: torch.add(p, velocity[n], alpha=self.lr) for n, p in params.items()}
            return {"params": moved, "velocity": velocity}
        (b1, b2), steps = self.betas, state["steps"] + 1
        velocity = {n: torch.lerp(v, change[n], 1 - b1) for n, v in state["velocity"].items()}
        square = {n: torch.addcmul(v * b2, change[n], change[n], value=1 - b2) for n, v in state["square"].items()}
        scale, rate = (1 - b2**steps) ** 0.5, self.lr / (1 - b1**steps)
        moved = {
            n: torch.addcdiv(p, velocity[n], (square[n].sqrt() / scale).add_(self.eps), value=rate)
            for n, p in params.items()
        }
        return {"params": moved, "velocity": velocity, "square": square, "steps": steps}


def batched(interface: Interface) -> bool:
    """Whether values of an interface have a batch axis."""
    return any(isinstance(t, Space) and t.batch for t in interface.output.values())


def descender(
    f: Callable[[Params, Any], Any],
    params: Mapping[str, Tensor],
    source: Interface,
    target: Interface,
    *,
    descent: Descent | None = None,
    label: str = "",
) -> Learner:
    """A learner whose weights follow the directions that flow back through it.

    Parameters
    ----------
    f
        From weights and a value at the source to a value at the target; differentiable.
    params
        Weights at first, by name.
    source, target
        Interfaces whose ports carry directions of their own types.
    descent
        The optimiser; `Descent()` by default.

    Returns
    -------
    Learner
        State (weights, optimiser's memory); get(x) = f(p, x), put(x, dy) = D_x f^T dy, and p follows D_p f^T dy.

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> t = real(2, dtype="float64")
    >>> scale = descender(lambda p, x: p["w"] * x, {"w": torch.ones(2, dtype=torch.float64)}, t, t)
    >>> scale.step(torch.tensor([1.0, 2.0], dtype=torch.float64), lambda y: 3 - y)[2].state["params"]["w"]
    tensor([1.2000, 1.2000], dtype=torch.float64)
    """
    descent = descent or Descent()
    label = label or getattr(f, "__name__", "descender").strip("<>")
    mean = descent.reduce == "mean" and batched(source)
    has_input = bool(source.input)

    def flow(state: dict[str, Any], x: Values) -> tuple[Values, Back]:
        weights, value = state["params"], bare(x)
        if has_input:
            y, pull = torch.func.vjp(f, weights, value)  # type: ignore[misc]
        else:  # the source does not want to know
            y, pull = torch.func.vjp(lambda p: f(p, value), weights)  # type: ignore[misc]

        def back(dy: Values) -> tuple[Values, Params]:
            change, *dx = pull(bare(dy))
            if mean:
                n = len(next(iter(x.values())))
                change = {k: c / n for k, c in change.items()}
            return named(source.input, dx[0] if dx else {}, label), change

        return named(target.output, y, label), back

    return Learner.of(source, target, descent.begin(dict(params)), flow, descent.learn, label=label)


# Value and derivative, the latter from the output, so that a neuron need not remember what it summed.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor | float]]] = {
    "identity": (lambda z: z, lambda y: 1.0),
    "tanh": (torch.tanh, lambda y: 1 - y * y),
    "relu": (torch.relu, lambda y: (y > 0).to(y.dtype)),
    "sigmoid": (torch.sigmoid, lambda y: y * (1 - y)),
}


def neuron(
    weight: Float[Tensor, "input"],
    bias: float | Tensor = 0.0,
    *,
    activation: str = "identity",
    descent: Descent | None = None,
    batch: str = "",
    label: str = "neuron",
) -> Learner:
    """An artificial neuron as a learner on [t^m, t], with its derivatives written out.

    Parameters
    ----------
    weight
        (input,), the weights at first.
    bias
        At first.
    activation
        `identity`, `tanh`, `relu` or `sigmoid`.
    descent
        The optimiser inside it.
    batch
        Name of a leading axis of samples.

    Notes
    -----
    State w in R^(m+1). get(x) = act(w.[x, 1]); put(x, dy) = act' dy w[:m]; w follows act' dy [x, 1]. It manages weights, and so plays the role of
    a synapse rather than of a nerve cell.

    Examples
    --------
    >>> from nissl.diagrams.wiring import after
    >>> cell = neuron(torch.tensor([1.0, -1.0], dtype=torch.float64), activation="relu", descent=Descent(lr=1.0))
    >>> y, dx, after = cell.step(torch.tensor([3.0, 1.0], dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64))
    >>> y.item(), dx.tolist(), after.state["params"]["w"].tolist()
    (2.0, [0.5, -0.5], [2.5, -0.5, 0.5])
    """
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    descent = descent or Descent()
    act, slope = ACTIVATIONS[activation]
    m, dtype = len(weight), str(weight.dtype)
    source, target = real(m, dtype=dtype, batch=batch), real(dtype=dtype, batch=batch)
    w = torch.cat([weight.detach().clone(), torch.as_tensor(bias, dtype=weight.dtype).detach().reshape(1)])
    mean = descent.reduce == "mean" and bool(batch)

    def flow(state: dict[str, Any], x: Values) -> tuple[Values, Back]:
        held, value = state["params"]["w"], x["value"]
        y = act(value @ held[:m] + held[m])

        def back(dy: Values) -> tuple[Values, Params]:
            felt = slope(y) * dy["value"]
            dx = felt.unsqueeze(-1) * held[:m]
            seen = torch.cat([(felt.unsqueeze(-1) * value).reshape(-1, m).sum(0), felt.sum().reshape(1)])
            return {"value": dx}, {"w": seen / len(value) if mean else seen}

        return named(target.output, y, label), back

    return Learner.of(source, target, descent.begin({"w": w}), flow, descent.learn, label=label)
