"""Streams of tasks that differ in what they ask of the same input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nissl.errors import InputError
from nissl.learning.hebbian_projection.subspace import as_tensor


@dataclass(frozen=True)
class Task:
    """One task: what to learn from, and what it is tested on.

    Attributes
    ----------
    name
        For axes and messages.
    x, y
        Training inputs, samples first, and their classes.
    x_test, y_test
        The same for testing.
    """

    name: str
    x: Float[Tensor, "sample *input"]
    y: Int[Tensor, "sample"]
    x_test: Float[Tensor, "test *input"]
    y_test: Int[Tensor, "test"]


def permuted_tasks(images: Any, labels: Any, n_tasks: int = 5, *, test: float = 0.25, seed: int = 0) -> list[Task]:
    """The same pictures with their pixels in another order in each task; the first task has them as they are.

    Parameters
    ----------
    images
        `(sample, ...)`; flattened. Integers are divided by their maximum.
    labels
        `(sample,)`, whole numbers.
    n_tasks
        Orders of pixels.
    test
        Share of pictures that are kept for testing, the same in all tasks.

    Raises
    ------
    InputError
        Shapes that do not fit, NaN, a class that training or testing never sees.

    Examples
    --------
    >>> tasks = permuted_tasks(np.arange(48).reshape(12, 2, 2), np.tile([0, 1], 6), 3)
    >>> [t.name for t in tasks], tuple(tasks[0].x.shape)
    (['order 0', 'order 1', 'order 2'], (9, 4))
    """
    x = torch.as_tensor(np.asarray(images).copy()) if not isinstance(images, Tensor) else images
    x = x.float() / max(float(x.max()), 1.0) if not x.is_floating_point() else as_tensor(x)
    y = torch.as_tensor(np.asarray(labels).copy()).long()
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or not len(y):
        raise InputError(
            f"images {tuple(x.shape)} and labels {tuple(y.shape)}; give (sample, ...) and one label for each"
        )
    if n_tasks < 1 or not 0 < test < 1:
        raise InputError(f"{n_tasks} tasks, test share {test}; tasks from 1, the share between 0 and 1")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    x, y = x.flatten(1)[order], y[order]
    n = len(x) - max(1, round(test * len(x)))
    tasks = []
    for t in range(n_tasks):
        pixels = torch.randperm(x.shape[1], generator=generator) if t else torch.arange(x.shape[1])
        tasks.append(Task(f"order {t}", x[:n, pixels], y[:n], x[n:, pixels], y[n:]))
    return check_tasks(tasks)


def check_tasks(tasks: Sequence[Task], n_classes: int | None = None) -> list[Task]:
    """Tasks that can be learned one after another, or a clear error.

    Raises
    ------
    InputError
        No tasks, two of one name, no samples, NaN, labels that are no classes of the network, a test that asks for a class no task up to
        then has shown.
    """
    tasks = list(tasks)
    if not tasks:
        raise InputError("no tasks; give at least one")
    names = [t.name for t in tasks]
    if len(set(names)) < len(names):
        raise InputError(f"tasks {names}; each needs a name of its own")
    seen: set[int] = set()
    for task in tasks:
        for x, y, what in ((task.x, task.y, "training"), (task.x_test, task.y_test, "test")):
            if not len(x) or len(x) != len(y):
                raise InputError(f"task {task.name!r} has {len(x)} {what} samples and {len(y)} labels")
            if not bool(torch.isfinite(x).all()):
                raise InputError(f"the {what} samples of task {task.name!r} hold NaN or infinite values")
            if y.is_floating_point() or int(y.min()) < 0 or (n_classes is not None and int(y.max()) >= n_classes):
                raise InputError(
                    f"labels of task {task.name!r} run from {y.min().item()} to {y.max().item()}; the network has "
                    + (f"{n_classes} classes" if n_classes is not None else "classes from 0")
                )
        seen |= set(task.y.unique().tolist())
        unseen = sorted(set(task.y_test.unique().tolist()) - seen)
        if unseen:
            raise InputError(
                f"task {task.name!r} is tested on class {', '.join(map(str, unseen))}, which no task up to it has shown; move the task that "
                "shows it ahead, or leave these samples out"
            )
    return tasks
