"""One call of `fit`: which samples come when, what was seen, and how to go on after a stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nissl.learning.training import _factor

if TYPE_CHECKING:
    from nissl.learning.counter_current._learner import Learner


class Run:
    """Order of samples, rates, losses and scores. Orders follow from the seed and the epoch, so that a run can begin anywhere."""

    def __init__(self, learner: Learner, n: int, epochs: int, batch_size: int, seed: int) -> None:
        self.learner, self.n, self.batch_size, self.seed = learner, n, batch_size, seed
        # A single sample that is left over joins the batch before: batch norm and similarities need two.
        self.per_epoch = max(1, -(-n // batch_size) - (n % batch_size == 1))
        self.steps = epochs * self.per_epoch
        settings = learner.settings
        self.rates = [settings.lr * _factor(step, self.steps, 0, settings.schedule) for step in range(self.steps)]
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.facts = {
            "rule": type(learner).__name__, "model": repr(learner), "epochs": epochs, "batch_size": batch_size, "seed": seed,
            **asdict(settings),
        }  # fmt: skip

    def batches(self) -> Iterator[tuple[int, Tensor]]:
        """Steps that are still to be taken, each with the samples of its minibatch."""
        order = torch.empty(0, dtype=torch.long)
        first = self.learner._taken
        for step in range(first, self.steps):
            epoch, i = divmod(step, self.per_epoch)
            if i == 0 or step == first:
                order = torch.from_numpy(np.random.default_rng([self.seed, epoch]).permutation(self.n))
            stop = self.n if i + 1 == self.per_epoch else (i + 1) * self.batch_size
            yield step, order[i * self.batch_size : stop]

    def draw(self, step: int) -> int:
        """A seed for what the rule itself draws at a step."""
        return int(np.random.SeedSequence([self.seed, step, 1]).generate_state(1)[0])

    def ends_epoch(self, step: int) -> bool:
        """Whether this step is the last of an epoch."""
        return (step + 1) % self.per_epoch == 0

    def content(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "model": self.learner.state_dict(),
            "optimisers": {name: o.state_dict() for name, o in self.learner._optimisers.items()},
            "more": self.learner._more_state(),
            "step": self.learner._taken,
            "losses": self.losses,
            "scores": self.scores,
            "torch": torch.get_rng_state(),  # for dropout
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Be where a checkpoint was written."""
        self.learner.load_state_dict(content["model"])
        for name, optimiser in self.learner._optimisers.items():
            optimiser.load_state_dict(content["optimisers"][name])
        self.learner._restore_more(content["more"])
        self.learner._taken = content["step"]
        self.losses, self.scores = list(content["losses"]), list(content["scores"])
        torch.set_rng_state(content["torch"].cpu())

    def curve(self) -> xr.Dataset:
        """`loss` and `lr` by step, `score` by epoch."""
        found = xr.Dataset(
            {"loss": ("step", np.array(self.losses)), "lr": ("step", np.array(self.rates))},
            {"step": np.arange(self.steps)},
        )
        if self.scores:
            found = found.assign(score=("epoch", np.array(self.scores))).assign_coords(
                epoch=1 + np.arange(len(self.scores))
            )
        return found
