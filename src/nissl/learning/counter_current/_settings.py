"""How weights follow their gradients, whatever the rule."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from nissl.axes import whole_number
from nissl.errors import InputError, unknown

SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True)
class Settings:
    """How weights follow their gradients; the same for every rule.

    Attributes
    ----------
    lr, momentum, weight_decay
        Of stochastic gradient descent, one optimiser a network.
    clip
        Largest norm of the gradient, of each network separately; None leaves it.
    centralise
        Subtract from each output unit's weight gradient its mean over inputs.
    warmup
        Steps over which losses are scaled by (step + 1) / warmup.
    schedule
        "constant", or "cosine": the rate falls towards 0 over the epochs of one `fit`.
    ends
        Of an autoencoder: the weight of the squared error between what is put out and what is wanted.
    """

    lr: float = 1.0
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = 1.0
    centralise: bool = False
    warmup: int = 0
    schedule: str = "constant"
    ends: float = 10.0

    def __post_init__(self) -> None:
        for name in ("lr", "momentum", "weight_decay", "ends", *([] if self.clip is None else ["clip"])):
            object.__setattr__(self, name, real(name, getattr(self, name)))
        object.__setattr__(self, "warmup", whole_number("warmup", self.warmup, 0))
        numbers = {"lr": self.lr, "ends": self.ends} | ({} if self.clip is None else {"clip": self.clip})
        for name, value in numbers.items():
            if not (np.isfinite(value) and value > 0):
                raise InputError(
                    f"{name}={value}; allowed: a positive number" + (", or None" if name == "clip" else "")
                )
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < np.inf:
            raise InputError(
                f"momentum={self.momentum}, weight_decay={self.weight_decay}; allowed: momentum in [0, 1), weight_decay from 0"
            )
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", self.schedule, SCHEDULES)


def real(name: str, value: Any) -> float:
    """The value as a float, numpy's numbers too; InputError where it is none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise InputError(f"{name}={value!r}; allowed: a number" + (", or None" if name in ("clip", "strength") else ""))
    return float(value)
