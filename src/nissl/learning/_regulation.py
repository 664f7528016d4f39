"""The decision at the heart of homeostatic learning, for many learners together: ask, imagine, take or leave, live with the effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from nissl.errors import InputError, unknown

POLICIES = ("homeostatic", "constant", "random", "shuffled", "yoked")
DIRECTIONS = ("predicted", "true")
GRADIENTS = ("sample", "batch")
NOT_ASKED, LEFT, TAKEN = 0, 1, 2
DECISIONS = ("not asked", "left", "taken")
BLOCK = 1024


@dataclass(frozen=True)
class Settings:
    """What one learner lives by; see `HomeostaticSGD`, whose constructor checks them here."""

    lr: float
    step_size: float
    interval: int
    memory: int
    excitatory: tuple[int, ...] | None
    floor: float
    policy: str
    direction: str
    gradient: str
    takes: tuple[bool, ...] | None
    seed: int

    @classmethod
    def checked(
        cls,
        *,
        lr: float,
        step_size: float | None,
        interval: int,
        memory: int,
        excitatory: Iterable[int] | None,
        floor: float,
        policy: str,
        direction: str,
        gradient: str,
        takes: Any,
        seed: int,
    ) -> Settings:
        """Settings, or one clear error."""
        for kind, given, allowed in (
            ("policy", policy, POLICIES),
            ("direction", direction, DIRECTIONS),
            ("gradient", gradient, GRADIENTS),
        ):
            if given not in allowed:
                raise unknown(kind, given, allowed)
        lr = _number("lr", lr)
        step = lr / 10 if step_size is None else _number("step_size", step_size)
        floor = _number("floor", floor)
        if not 0 < floor < lr:
            raise InputError(f"floor {floor:g} and lr {lr:g}; wanted: 0 < floor < lr")
        if not 0 <= step <= lr:
            raise InputError(
                f"step_size {step:g} with lr {lr:g}; allowed: from 0 to lr (a larger step would starve the learner at its first inhibitory take)"
            )
        for name, value in (("interval", interval), ("memory", memory)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name} {value!r}; give a whole number of samples, at least 1")
        if excitatory is not None:
            excitatory = tuple(excitatory)
            if any(isinstance(c, bool) or not isinstance(c, int | np.integer) or c < 0 for c in excitatory):
                raise InputError(f"excitatory {excitatory}; give class indices from 0")
        if (policy == "yoked") != (takes is not None):
            raise InputError(
                "a yoked learner takes when it is told to, and only it does: give takes, one bool a decision, with policy='yoked'"
            )
        if takes is not None:
            takes = tuple(np.asarray(takes).ravel().tolist())
            if not all(isinstance(t, bool) for t in takes):
                raise InputError("takes must be bools, one a decision, such as result.decision == 'taken' where asked")
        return cls(
            lr, step, int(interval), int(memory), excitatory, floor, policy, direction, gradient, takes, int(seed)
        )

    def signs(self, n_classes: int) -> Float[np.ndarray, "class"]:
        """+1 for classes that raise the rate, -1 for those that lower it; by default the upper half of the labels excites.

        Raises
        ------
        InputError
            Excitatory classes beyond the labels.
        """
        chosen = range(n_classes // 2, n_classes) if self.excitatory is None else self.excitatory
        beyond = sorted(c for c in chosen if c >= n_classes)
        if beyond:
            raise InputError(
                f"excitatory classes {beyond}, but the network has {n_classes} classes, 0 to {n_classes - 1}"
            )
        signs = np.full(n_classes, -1.0)
        signs[list(chosen)] = 1.0
        return signs


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
        raise InputError(f"{name} {value!r}; give a finite number")
    return float(value)


class Regulation:
    """The rates of several learners, in float64, and the rule that moves them.

    All learners are asked at the same moments, so they share interval and memory; everything else may differ.

    Parameters
    ----------
    settings
        One a learner.
    n_classes
        Of the networks.
    """

    def __init__(self, settings: Sequence[Settings], n_classes: int) -> None:
        if len({(s.interval, s.memory) for s in settings}) != 1:
            raise InputError("learners that run together need the same interval and memory")
        self.settings, self.n_classes = list(settings), n_classes
        self.interval, self.memory = settings[0].interval, settings[0].memory
        self.eta = np.array([s.lr for s in settings])
        self.step = np.array([s.step_size for s in settings])
        self.floor = np.array([s.floor for s in settings])
        self.signs = np.stack([s.signs(n_classes) for s in settings])
        self.ups, self.downs = (np.zeros(len(settings), int) for _ in range(2))
        self.imagines = np.array([s.policy in ("homeostatic", "shuffled") for s in settings])
        self._policy = np.array([s.policy for s in settings])
        self._foresees = np.array([s.direction == "predicted" for s in settings])
        self._takes = [s.takes for s in settings]
        self._generators = [np.random.default_rng(s.seed) for s in settings]
        self._draws = np.empty((len(settings), 0, 2))
        self.asked, self._last = 0, self.memory
        self._who = np.arange(len(settings))

    def due(self, seen: int) -> bool:
        """Whether a decision falls on the minibatch that begins once `seen` samples are past: at each multiple of the interval, as
        soon as the memory is more than full.
        """
        return seen > self.memory and seen // self.interval > self._last // self.interval

    def decide(
        self,
        seen: int,
        predicted: Int[np.ndarray, "learner"],
        actual: Int[np.ndarray, "learner"],
        imagine: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    ) -> tuple[Bool[np.ndarray, "learner"], Float[np.ndarray, "learner"]]:
        """Let each learner take or leave what it perceives, and move its rate.

        Parameters
        ----------
        predicted, actual
            Class that each learner sees in the sample before it, and the class that it is.
        imagine
            From rates if it leaves and if it takes, `(learner,)` each, to the share of the memory that is right after an update
            with either.

        Returns
        -------
        taken, gain
            What was decided, and the imagined accuracy of taking minus that of leaving (NaN for learners that do not imagine).
        """
        self._last = seen
        chance = self._drawn()
        gain = np.full(len(self.eta), np.nan)
        if self.imagines.any():
            # What it believes to see decides about the imagined effect ...
            leave, take = imagine(self.eta, self._after(np.where(self._foresees, predicted, actual)))
            gain[self.imagines] = (take - leave)[self.imagines]
        taken = gain > 0
        taken |= (self._policy == "random") & (chance[:, 0] < 0.5)
        taken |= [bool(t and self.asked < len(t) and t[self.asked]) for t in self._takes]
        # ... and what it is about the real one; without stakes, any class at all.
        anything = np.minimum((chance[:, 1] * self.n_classes).astype(int), self.n_classes - 1)
        effect = np.where(self._policy == "shuffled", anything, actual)
        self.eta = np.where(taken, self._after(effect), self.eta)
        excites = self.signs[self._who, effect] > 0
        self.ups += taken & excites
        self.downs += taken & ~excites
        self.asked += 1
        return taken, gain

    def _after(self, consumed: Int[np.ndarray, "learner"]) -> Float[np.ndarray, "learner"]:
        return np.maximum(self.eta + self.step * self.signs[self._who, consumed], self.floor)

    def _drawn(self) -> Float[np.ndarray, "learner 2"]:
        """Two numbers a decision for each learner, whoever needs them, so that a learner's chance does not depend on its company."""
        at = self.asked % BLOCK
        if at == 0:
            self._draws = np.stack([g.random((BLOCK, 2)) for g in self._generators])
        return self._draws[:, at]

    def only(self, learner: int) -> Regulation:
        """One learner on its own, as it is now."""
        alone = Regulation([self.settings[learner]], self.n_classes)
        alone.restore(
            {
                "asked": self.asked,
                "last": self._last,
                "ups": self.ups[[learner]].tolist(),
                "downs": self.downs[[learner]].tolist(),
                "eta": self.eta[[learner]].tolist(),
            }
        )
        return alone

    def state(self) -> dict[str, Any]:
        """Plain numbers from which `restore` goes on."""
        return {
            "asked": self.asked,
            "last": self._last,
            "ups": self.ups.tolist(),
            "downs": self.downs.tolist(),
            "eta": self.eta.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; the settings must be those of then."""
        self.asked, self._last = int(state["asked"]), int(state["last"])
        self.ups, self.downs = np.array(state["ups"]), np.array(state["downs"])
        self.eta = np.array(state["eta"], dtype=float)
        for _ in range(-(-self.asked // BLOCK)):
            self._draws = np.stack([g.random((BLOCK, 2)) for g in self._generators])
