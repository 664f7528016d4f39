"""Learning one task after another: how good a learner is in the end, what it lost on the way, and what it took along."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError

DIMS = ("after_task", "task")


def average_accuracy(accuracy: Any) -> float:
    """Mean accuracy over all tasks once the last one is learnt.

    ``ACC = 1/T sum_j R[T, j]`` (Lopez-Paz and Ranzato 2017, eq. 2).

    Parameters
    ----------
    accuracy
        R, `(after_task, task)`: entry [i, j] is the accuracy on task j, from 0 to 1, when the i-th task has just been learnt. The
        tasks' names come from the coordinates, where there are any: rows in the order in which tasks were learnt, columns in any
        order. Only the last row is read.

    Raises
    ------
    InputError
        No square matrix, percentages, a task that was never learnt, or NaN where a number is needed.

    Examples
    --------
    >>> round(average_accuracy([[0.9, 0.1], [0.7, 0.8]]), 6)
    0.75
    """
    r = _accuracies(accuracy)
    return float(_needed(r, r.to_numpy()[-1:], "the last row: every task after the last one was learnt").mean())


def backward_transfer(accuracy: Any) -> float:
    """How much learning later tasks changed the earlier ones: negative where they were forgotten.

    ``BWT = 1/(T-1) sum_{j<T} (R[T, j] - R[j, j])`` (Lopez-Paz and Ranzato 2017, eq. 3).

    Parameters
    ----------
    accuracy
        As for `average_accuracy`; the diagonal and the last row are read.

    Examples
    --------
    >>> round(backward_transfer([[0.9, 0.1], [0.7, 0.8]]), 6)
    -0.2
    """
    r = _accuracies(accuracy, at_least=2)
    values = r.to_numpy()
    last = _needed(r, values[-1, :-1], "the last row: every task after the last one was learnt")
    return float((last - _needed(r, np.diag(values)[:-1], "the diagonal: every task once it was learnt")).mean())


def forward_transfer(accuracy: Any, baseline: Any) -> float:
    """How much earlier tasks help with one that has not been learnt yet, over a learner that knows nothing.

    ``FWT = 1/(T-1) sum_{j>1} (R[j-1, j] - b[j])`` (Lopez-Paz and Ranzato 2017, eq. 4).

    Parameters
    ----------
    accuracy
        As for `average_accuracy`; the entries just above the diagonal are read.
    baseline
        b, `(task,)`: the accuracy of the untrained network on each task, in the order in which they are learnt or with a `task`
        coordinate; one number for all.

    Examples
    --------
    >>> round(forward_transfer([[0.9, 0.3], [0.7, 0.8]], baseline=0.1), 6)
    0.2
    """
    r = _accuracies(accuracy, at_least=2)
    if isinstance(baseline, xr.DataArray) and "task" in baseline.coords and baseline.dims == ("task",):
        absent = set(r.task.values.tolist()) - set(baseline.task.values.tolist())
        if absent:
            raise InputError(f"a baseline without task {sorted(map(str, absent))}; give one for each task")
        baseline = baseline.sel(task=r.task)
    known = np.asarray(baseline, dtype=float)
    if known.shape not in ((), (r.sizes["task"],)):
        raise InputError(f"a baseline of shape {known.shape}; give one number, or one a task ({r.sizes['task']})")
    known = np.broadcast_to(known, r.sizes["task"])[1:]
    if not (np.isfinite(known).all() and (known >= 0).all() and (known <= 1).all()):
        raise InputError(f"baseline {known.tolist()}; accuracies lie from 0 to 1")
    ahead = _needed(r, np.diag(r.to_numpy(), 1), "just above the diagonal: each task before it was learnt")
    return float((ahead - known).mean())


def forgetting(accuracy: Any) -> xr.DataArray:
    """How far each task has fallen from the best it ever was since it was learnt, `(task,)`, all tasks but the last.

    ``F[j] = max_{j <= l < T} R[l, j] - R[T, j]`` (Chaudhry et al. 2018, eq. 3); its mean over tasks is their measure. It is negative
    where later tasks helped. With two tasks its mean is minus the backward transfer.

    Parameters
    ----------
    accuracy
        As for `average_accuracy`; the diagonal and all below it are read.

    Examples
    --------
    >>> forgetting([[0.7, 0.1, 0.1], [0.9, 0.8, 0.1], [0.6, 0.7, 0.9]]).values.round(6).tolist()
    [0.3, 0.1]
    """
    r = _accuracies(accuracy, at_least=2)
    values = r.to_numpy()
    learnt = np.tril(np.ones(values.shape, bool))
    learnt[:, -1] = False
    _needed(r, values[learnt], "on or below the diagonal: every task from when it was learnt")
    best = np.where(learnt, values, -np.inf)[:-1, :-1].max(0)
    return xr.DataArray(best - values[-1, :-1], dims="task", coords={"task": r.task[:-1]}, name="forgetting")


def _accuracies(accuracy: Any, at_least: int = 1) -> xr.DataArray:
    """The matrix with both axes in the order of learning, or one clear error."""
    r = _labelled(accuracy)
    if r.dtype.kind not in "fiub" or r.ndim != 2 or 0 in r.shape:
        raise InputError(f"accuracies of shape {r.shape} and type {r.dtype}; give numbers (after_task, task)")
    r = r.astype(float)
    learnt, tasks = r.after_task.values.tolist(), r.task.values.tolist()
    for axis, names in (("after_task", learnt), ("task", tasks)):
        twice = sorted({str(n) for n in names if names.count(n) > 1})
        if twice:
            raise InputError(f"{axis} {', '.join(twice)} occurs twice; each task is learnt once")
    unseen = [str(t) for t in tasks if t not in learnt]
    if unseen:
        raise InputError(
            f"task {', '.join(unseen)} is in no row: it was never learnt; leave it out, or add the row after it was learnt"
        )
    untested = [str(t) for t in learnt if t not in tasks]
    if untested:
        raise InputError(f"task {', '.join(untested)} was learnt, but is in no column: test it after each task")
    if len(tasks) < at_least:
        raise InputError(f"{len(tasks)} task; transfer and forgetting need at least {at_least}")
    r = r.sel(task=learnt)
    known = r.to_numpy()[~np.isnan(r.to_numpy())]
    if (known < 0).any() or (known > 1).any():
        worst = float(known[np.abs(known - 0.5).argmax()])
        raise InputError(f"an accuracy of {worst:g}; they lie from 0 to 1 (divide percentages by 100)")
    return r


def _labelled(accuracy: Any) -> xr.DataArray:
    if isinstance(accuracy, xr.DataArray):
        if set(accuracy.dims) != set(DIMS):
            raise InputError(f"accuracies with axes {accuracy.dims}; wanted: {DIMS}")
        r = accuracy.transpose(*DIMS)
    else:
        values = np.asarray(accuracy.detach().cpu() if hasattr(accuracy, "detach") else accuracy)
        if values.ndim != 2:
            raise InputError(f"accuracies of shape {values.shape}; give (after_task, task)")
        r = xr.DataArray(values, dims=DIMS)
    # Without names the tasks are called by their place in the order.
    return r.assign_coords({d: np.arange(r.sizes[d]) for d in DIMS if d not in r.coords})


def _needed(r: xr.DataArray, values: Float[np.ndarray, "..."], what: str) -> Float[np.ndarray, "..."]:
    if not np.isfinite(values).all():
        raise InputError(
            f"{int((~np.isfinite(values)).sum())} accuracies are NaN in {what} (tasks {r.task.values.tolist()}); measure them"
        )
    return values
