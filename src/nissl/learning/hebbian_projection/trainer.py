"""Learn one task after another, and remember after each how well all of them are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from nissl.errors import InputError, unknown
from nissl.learning import checkpoint as checkpoints
from nissl.learning.hebbian_projection.feedback import PATHS, ErrorFeedback
from nissl.learning.hebbian_projection.projector import HebbianProjection
from nissl.learning.hebbian_projection.tasks import Task, check_tasks
from nissl.learning.training import train

HEADS = ("shared", "own")


class ContinualTrainer(BaseEstimator):
    """A classifier that learns tasks one after another, each with a fresh optimiser, protected by Hebbian projection or not.

    Parameters
    ----------
    model
        A network from inputs to logits `(sample, class)`, or `(sample, time, class)`: then each moment has its own loss, as online learning
        asks, and the mean over time decides.
    projection
        A `HebbianProjection` of this network; None for plain sequential training.
    error
        How errors travel back: "bp", "fa" or "ss", see `ErrorFeedback`.
    epochs, batch, lr, momentum
        Of stochastic gradient descent in each task. No weight decay, which would undo the protection.
    heads, head
        "shared": one classifier for all tasks, protected too. "own": each task gets a copy of the layer called `head` as it was in the beginning,
        which is not protected (leave it out of the projection) and is put back when the task is tested.
    refine
        Passes over a task's data after it was learned, with weights at rest, in which lateral neurons go on learning. The activity
        that must be protected is that of the trained network.
    replay, replay_lr
        Samples kept of each class and task, on which the network trains for one epoch after each later task, without protection.
    seed
        Of the order of samples.
    progress
        Show a bar for each task.

    Attributes
    ----------
    accuracy_ : DataArray (after_task, task)
        What `nissl.evaluation.average_accuracy` and `backward_transfer` take. Tasks ahead that have no head of their own yet are NaN.
    loss_ : DataArray (task, step)

    References
    ----------
    Xiao et al. 2024, Hebbian learning based orthogonal projection for continual learning of spiking neural networks.

    Examples
    --------
    >>> from nissl.learning import ContinualTrainer, HebbianProjection, permuted_tasks
    >>> x = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    >>> tasks = permuted_tasks(x, (x[:, 0] > 0).long(), 2)
    >>> model = nn.Linear(16, 2, bias=False)
    >>> trainer = ContinualTrainer(model, HebbianProjection(model, k=6), epochs=5, progress=False).fit(tasks)
    >>> trainer.accuracy_.dims
    ('after_task', 'task')
    """

    def __init__(
        self,
        model: nn.Module,
        projection: HebbianProjection | None = None,
        *,
        error: str = "bp",
        epochs: int = 1,
        batch: int = 64,
        lr: float = 0.1,
        momentum: float = 0.0,
        heads: Literal["shared", "own"] = "shared",
        head: str | None = None,
        refine: int = 0,
        replay: int = 0,
        replay_lr: float = 0.01,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.model = model
        self.projection = projection
        self.error = error
        self.epochs = epochs
        self.batch = batch
        self.lr = lr
        self.momentum = momentum
        self.heads = heads
        self.head = head
        self.refine = refine
        self.replay = replay
        self.replay_lr = replay_lr
        self.seed = seed
        self.progress = progress

    def fit(self, tasks: Sequence[Task], *, checkpoint: str | Path | None = None) -> ContinualTrainer:
        """Learn all tasks in their order.

        Parameters
        ----------
        tasks
            See `permuted_tasks`.
        checkpoint
            A file, written after each task. A later call with the same settings goes on after the last finished task, bit for bit.

        Raises
        ------
        InputError
            Tasks or settings that cannot be, more directions than a layer has for all tasks, a checkpoint of another configuration; all before
            work starts.
        """
        tasks = self._check(tasks)
        self.accuracy_ = xr.DataArray(
            np.full((len(tasks), len(tasks)), np.nan),
            coords={"after_task": [t.name for t in tasks], "task": [t.name for t in tasks]},
            dims=("after_task", "task"),
        )
        self._start_anew()
        losses: list[np.ndarray] = []
        if checkpoint is not None and Path(checkpoint).exists():
            losses = self._resume(checkpoint, tasks)
        for task in tasks[len(losses) :]:
            losses.append(self.fit_task(task))
            self.accuracy_[len(losses) - 1] = self.evaluate(tasks).to_numpy()
            if checkpoint is not None:
                self._save(checkpoint, tasks, losses)
        longest = max(map(len, losses))
        padded = np.stack([np.pad(v, (0, longest - len(v)), constant_values=np.nan) for v in losses])
        self.loss_ = xr.DataArray(padded, dims=("task", "step"), coords={"task": self.accuracy_["task"].to_numpy()})
        return self

    def fit_task(self, task: Task) -> np.ndarray:
        """Learn one more task; the loss at each step."""
        self._check([task])
        if not hasattr(self, "n_tasks_"):
            self._start_anew()
        if self.heads == "own":
            self._module().load_state_dict(self._first_head)
        seed = self.seed + 1009 * self.n_tasks_
        protection = self.projection if self.projection is not None else nullcontext()
        with protection, self._feedback:
            batches = Epochs(task.x, task.y, self.batch, seed)
            curve = self._train(batches, self.epochs, self.lr)
            self._look_again(task, seed + 1)
        if self.replay:
            self._rehearse(task, seed + 2)
        if self.heads == "own":
            self.heads_[task.name] = _copied(self._module().state_dict())
        self.n_tasks_ += 1
        return curve

    @torch.no_grad()
    def evaluate(self, tasks: Sequence[Task]) -> xr.DataArray:
        """Accuracy on each task's test samples, (task)."""
        self.model.eval()
        found = []
        now = _copied(self._module().state_dict()) if self.heads == "own" else None
        for task in tasks:
            if now is not None and task.name not in self.heads_:
                found.append(np.nan)
                continue
            if now is not None:
                self._module().load_state_dict(self.heads_[task.name])
            right = sum(
                int((decide(self.model(x)) == y).sum())
                for x, y in zip(task.x_test.split(512), task.y_test.split(512), strict=True)
            )
            found.append(right / len(task.y_test))
        if now is not None:
            self._module().load_state_dict(now)
        return xr.DataArray(found, dims="task", coords={"task": [t.name for t in tasks]})

    # ------------------------------------------------------------------ parts

    def _train(self, batches: Epochs, epochs: int, lr: float) -> np.ndarray:
        def sgd(parameters: Any, lr: float) -> torch.optim.Optimizer:
            return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum)

        steps = epochs * len(batches)
        curve = train(self.model, batches, loss, steps=steps, lr=lr, optimiser=sgd, progress=self.progress)
        return curve["loss"].to_numpy()

    def _look_again(self, task: Task, seed: int) -> None:
        """Lateral neurons watch the trained network; gradients are on, as that is how they know it matters, but none is taken."""
        if self.projection is None:
            return
        self.model.eval()
        for batches in [Epochs(task.x, task.y, self.batch, seed)] * self.refine:
            for x, _ in batches:
                self.model(x)

    def _rehearse(self, task: Task, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(task.y), generator=generator)
        chosen = torch.cat([order[task.y[order] == c][: self.replay] for c in task.y.unique()])
        self._kept.append((task.x[chosen], task.y[chosen]))
        if len(self._kept) == 1:
            return
        x, y = (torch.cat(v) for v in zip(*self._kept, strict=True))
        with self._feedback:
            self._train(Epochs(x, y, self.batch, seed), 1, self.replay_lr)

    def _start_anew(self) -> None:
        self.n_tasks_, self._kept, self.heads_ = 0, [], {}
        self._feedback = ErrorFeedback(self.model, self.error, seed=self.seed)
        if self.heads == "own":
            self._first_head = _copied(self._module().state_dict())

    def _module(self) -> nn.Module:
        return self.model.get_submodule(str(self.head))

    def _check(self, tasks: Sequence[Task]) -> list[Task]:
        if self.error not in PATHS:
            raise unknown("path of errors", self.error, PATHS)
        if self.heads not in HEADS:
            raise unknown("kind of heads", self.heads, HEADS)
        if min(self.epochs, self.batch) < 1 or min(self.refine, self.replay) < 0 or not 0 <= self.momentum < 1:
            raise InputError(
                f"epochs {self.epochs}, batch {self.batch}, refine {self.refine}, replay {self.replay}, momentum {self.momentum}; epochs and "
                "batch from 1, refine and replay from 0, momentum in [0, 1)"
            )
        projection = self.projection
        if projection is not None and projection.model is not self.model:
            raise InputError("the projection belongs to another network; make it with this trainer's model")
        if self.heads == "own":
            names = [n for n, m in self.model.named_modules() if n]
            if self.head not in names:
                raise unknown(
                    "head", self.head, names, "heads='own' needs the name of the layer that each task has for itself"
                )
            if projection is not None and self.head in projection.layers:
                raise InputError(
                    f"the head {self.head!r} is each task's own; leave it out: HebbianProjection(..., exclude=[{self.head!r}])"
                )
            if self.replay:
                raise InputError("replay trains one head on all tasks; it needs heads='shared'")
        tasks = check_tasks(tasks, self._n_classes(tasks))
        if projection is not None:
            projection.check(len(tasks))
        return tasks

    @torch.no_grad()
    def _n_classes(self, tasks: Sequence[Task]) -> int | None:
        if not len(tasks) or not len(tasks[0].x):
            return None
        mode = self.model.training
        out = self.model.eval()(tasks[0].x[:1])
        self.model.train(mode)
        if not isinstance(out, Tensor) or out.ndim not in (2, 3):
            raise InputError("the network must return logits (sample, class) or (sample, time, class)")
        return out.shape[-1]

    # ------------------------------------------------------------------ going on later

    def _configuration(self, tasks: Sequence[Task]) -> dict[str, Any]:
        settings = {
            k: v for k, v in self.get_params(deep=False).items() if k not in ("model", "projection", "progress")
        }
        return {
            **settings,
            "model": repr(self.model),
            "projection": None if self.projection is None else self.projection.configuration(),
            "tasks": [[t.name, list(t.x.shape), float(t.x.double().sum()), int(t.y.sum())] for t in tasks],
        }

    def _save(self, path: str | Path, tasks: Sequence[Task], losses: list[np.ndarray]) -> None:
        content = {
            "model": self.model.state_dict(),
            "projection": None if self.projection is None else self.projection.state_dict(),
            "feedback": self._feedback.weights,
            "heads": [self.heads_, getattr(self, "_first_head", {})],
            "kept": [list(pair) for pair in self._kept],
            "losses": [torch.from_numpy(v) for v in losses],
            "accuracy": torch.from_numpy(self.accuracy_.to_numpy()),
        }
        checkpoints.save(path, content, self._configuration(tasks))

    def _resume(self, path: str | Path, tasks: Sequence[Task]) -> list[np.ndarray]:
        device = next(self.model.parameters()).device
        content = checkpoints.load(path, self._configuration(tasks), device=device)
        self.model.load_state_dict(content["model"])
        if self.projection is not None:
            self.projection.load_state_dict(content["projection"])
        self._feedback.weights = content["feedback"]
        self.heads_, first = content["heads"]
        if self.heads == "own":
            self._first_head = first
        self._kept = [tuple(pair) for pair in content["kept"]]
        self.accuracy_[:] = content["accuracy"].cpu().numpy()
        self.n_tasks_ = len(content["losses"])
        return [v.cpu().numpy() for v in content["losses"]]


class Epochs:
    """Minibatches without end, in a new order each time round."""

    def __init__(self, x: Tensor, y: Tensor, size: int, seed: int) -> None:
        self.x, self.y, self.size = x, y, size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.x) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(self.x), generator=self.generator).split(self.size):
            yield self.x[rows], self.y[rows]


def loss(model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy, of every moment where the network answers at every moment."""
    logits = model(x)
    if logits.ndim == 3:
        y = y[:, None].expand(-1, logits.shape[1])
    return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten())


def decide(logits: Tensor) -> Tensor:
    """The class of the largest logit, of their mean over time."""
    return (logits.mean(1) if logits.ndim == 3 else logits).argmax(-1)


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}
