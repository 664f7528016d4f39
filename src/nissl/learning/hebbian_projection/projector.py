"""Protect what a network has learned while it learns something new: hooks around any network, in any training loop."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError, ModelError, unknown
from nissl.learning.hebbian_projection._hooks import FORMS, Hooks
from nissl.learning.hebbian_projection._layers import (
    Layer,
    check_room,
    find_layers,
    n_inputs,
    numbers,
)
from nissl.learning.hebbian_projection.subspace import HebbianSubspace

Directions = int | Sequence[int] | Mapping[str, int]
ACTIVITY = ("each", "mean")


class HebbianProjection:
    """Hebbian learning based orthogonal projection around any network's Linear and Conv2d layers, spiking or not.

    Each ``with`` block is one task. While it lasts, every layer's lateral neurons learn, from the activity that passes, the principal
    subspace of its inputs; and from the second task on, the part of each weight's gradient that reads directions of earlier tasks is
    removed, so that responses to earlier tasks stay as they were. The forward pass is never changed: only the presynaptic factor of
    the weights' gradients is. All other parameters (biases, normalisation, thresholds) stand still from the second task on, and batch
    normalisation uses the statistics of the first. When the block ends, however it ends, no hook is left.

    Parameters
    ----------
    model
        A network. It is trained by your own loop; or see `ContinualTrainer`.
    k, more
        Directions to learn in the first task and in each later one (as `k` where None): a number for all layers, one for each in the order of
        the network, or a mapping by name. Over all tasks a layer has no more of them than inputs; where all are taken it learns nothing more.
    layers, exclude
        Names or patterns of layers to protect, and not to. Excluded layers train freely, such as a task's own head.
    activity
        What a layer's lateral neurons learn from: "each" presynaptic vector, or their "mean" over all axes between the batch and the unit of a
        linear layer's input, the firing rate where that is time; a convolution learns from each patch either way. A function from a layer's input to
        `(..., unit)` gives anything else, such as rates that weigh the present most.
    form
        "gradient" projects the gradients of weights, G - (G H^T) H; "input" replaces the presynaptic vectors in them. They agree;
        the second is slower, and needed where lateral neurons spike.
    levels, bound
        Spiking lateral neurons, see `HebbianSubspace`.
    every
        Learn from one pass in so many only, which is cheaper.
    samples
        At most so many presynaptic vectors are learned from at once, drawn at random.
    lr, momentum, iterations, normalise, seed
        Of the Hebbian rule, see `HebbianSubspace`; ``lr=0`` protects random directions, a control.

    Attributes
    ----------
    subspaces : dict of HebbianSubspace, by layer
    n_tasks : int
        Tasks finished.

    Raises
    ------
    InputError, UnknownNameError, ModelError
        More directions than inputs, unknown layers, shared or parametrised weights; before anything is hooked.

    Notes
    -----
    Weights move only as the optimiser moves them. Momentum or moments of an earlier task, weight decay, and Adam's scaling of single elements move
    them inside the protected subspace: take a new SGD for every task. `report` shows how far they moved there, and a warning is given.
    Activity is observed where gradients are on: evaluate under ``torch.no_grad()``.

    References
    ----------
    Xiao et al. 2024, Hebbian learning based orthogonal projection for continual learning of spiking neural networks.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    >>> projection = HebbianProjection(model, k=4)
    >>> old, new = torch.randn(2, 64, 4) @ torch.randn(2, 4, 20)
    >>> for x in (old, new):
    ...     with projection:
    ...         optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    ...         for _ in range(100):
    ...             optimiser.zero_grad()
    ...             model(x).square().mean().backward()
    ...             optimiser.step()
    >>> projection.report()["protected"].tolist()
    [8, 8]
    """

    def __init__(
        self,
        model: nn.Module,
        k: Directions,
        *,
        more: Directions | None = None,
        layers: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        activity: Literal["each", "mean"] | Callable[[Tensor], Tensor] = "each",
        form: Literal["gradient", "input"] | None = None,
        levels: int | None = None,
        bound: float = 20.0,
        every: int = 1,
        samples: int = 1024,
        lr: float = 1.0,
        momentum: float = 0.9,
        iterations: int = 1,
        normalise: bool = True,
        seed: int = 0,
    ) -> None:
        if form is None:
            form = "gradient" if levels is None else "input"
        if form not in FORMS:
            raise unknown("form", form, FORMS)
        if form == "gradient" and levels is not None:
            raise InputError("spiking lateral neurons round what they say of each input; they need form='input'")
        if not callable(activity) and activity not in ACTIVITY:
            raise unknown("activity", activity, ACTIVITY)
        if every < 1 or samples < 1:
            raise InputError(f"every {every}, samples {samples}; both at least 1")
        self.model = model
        self.layers = find_layers(model, layers, exclude)
        self.excluded = {n for n, m in model.named_modules() if isinstance(m, Layer)} - set(self.layers)
        self.k = numbers(k, self.layers, "k")
        self.more = self.k if more is None else numbers(more, self.layers, "more")
        self.activity, self.form, self.levels, self.every, self.samples, self.seed = (
            activity,
            form,
            levels,
            every,
            samples,
            seed,
        )
        rule: dict[str, Any] = {
            "levels": levels,
            "bound": bound,
            "lr": lr,
            "momentum": momentum,
            "iterations": iterations,
            "normalise": normalise,
        }
        self.subspaces = {
            name: HebbianSubspace(n_inputs(layer), seed=seed + i, **rule)
            for i, (name, layer) in enumerate(self.layers.items())
        }
        for subspace in self.subspaces.values():
            subspace._check()
        check_room(self.k, self.free, self.layers)
        self.n_tasks = 0
        self._hooks: Hooks | None = None
        self._last_moved: dict[str, float] = {}

    @property
    def free(self) -> dict[str, int]:
        """Directions of each layer's input that nobody has taken."""
        return {name: subspace.free_ for name, subspace in self.subspaces.items()}

    def check(self, n_tasks: int) -> None:
        """Raise now if so many more tasks will not fit, rather than when they come."""
        later = n_tasks - (self.n_tasks == 0)
        for name, free in self.free.items():
            ahead = later * self.more[name] + (self.k[name] if self.n_tasks == 0 else 0)
            if ahead > free:
                raise InputError(
                    f"{n_tasks} tasks take {ahead} directions of layer {name!r}, of whose {n_inputs(self.layers[name])} inputs "
                    f"{free} are free; ask for fewer in k or more"
                )

    # ------------------------------------------------------------------ a task

    def __enter__(self) -> Self:
        return self.attach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach(keep=kind is None)

    def attach(self, k: Directions | None = None) -> Self:
        """Begin a task: add directions that learn, and hook the network.

        Parameters
        ----------
        k
            Directions of this task; as the constructor said where None.

        Raises
        ------
        InputError
            Attached already, or more directions than a layer has inputs left.
        """
        if self._hooks is not None:
            raise InputError("a task is under way already; detach() ends it")
        wanted = (self.more if self.n_tasks else self.k) if k is None else numbers(k, self.layers, "k")
        check_room(wanted, self.free, self.layers)
        self._check_weights()
        for name, subspace in self.subspaces.items():
            subspace.extend(wanted[name], like=self.layers[name].weight)
        self._before = {name: self._protected_response(name) for name in self.layers}
        self._hooks = Hooks(self.seed + 104729 * (self.n_tasks + 1))
        try:
            if self.n_tasks:
                self._hooks.hold_still(self.model, self.layers, self.excluded)
            for name, layer in self.layers.items():
                subspace = self.subspaces[name]
                self._hooks.learn(name, layer, subspace, self.activity, self.every, self.samples)
                if self.n_tasks:
                    self._hooks.project(layer, subspace, self.form)
        except BaseException:
            self.detach(keep=False)
            raise
        return self

    def detach(self, *, keep: bool = True) -> HebbianProjection:
        """End the task: take all hooks away, and protect what was learned (or forget the new directions, with ``keep=False``).

        Raises
        ------
        ModelError
            Layers that saw no activity, so that nothing could be learned of them; the new directions are dropped.
        InputError
            The rule was unstable.
        """
        if self._hooks is None:
            return self
        hooks, self._hooks = self._hooks, None
        hooks.remove()
        try:
            if keep:
                self._merge(hooks.calls)
        finally:
            for subspace in self.subspaces.values():
                if subspace.frozen_ < len(subspace.rows_):
                    subspace.drop()
        return self

    def _merge(self, calls: Mapping[str, int]) -> None:
        silent = [n for n, s in self.subspaces.items() if not calls.get(n) and s.frozen_ < len(s.rows_)]
        if silent:
            raise ModelError(
                f"layers {', '.join(map(repr, silent))} saw no activity in this task, so nothing can be protected: train inside "
                "the block, with gradients on, or exclude them"
            )
        self._last_moved = self._moved()
        for name, moved in self._last_moved.items():
            if moved > 1e-2 and self.levels is None:  # spiking responses round, and so protect less exactly
                warnings.warn(
                    f"weights of layer {name!r} moved {moved:.1%} inside the protected subspace: weight decay, or an optimiser that "
                    "remembers an earlier task or scales single elements (Adam); take a new SGD for each task",
                    stacklevel=4,
                )
        frozen = []
        try:
            for subspace in self.subspaces.values():
                before = (subspace.rows_, subspace.frozen_)
                subspace.freeze()
                frozen.append((subspace, before))
        except InputError:
            for subspace, (rows, n) in frozen:  # all layers or none
                subspace.rows_, subspace.frozen_ = rows, n
            raise
        self.n_tasks += 1

    # ------------------------------------------------------------------ kept for later

    def configuration(self) -> dict[str, Any]:
        """Settings that make it this projection and no other, as JSON can say them."""
        first = next(iter(self.subspaces.values()))
        rule = {k: v for k, v in first.get_params().items() if k not in ("n_units", "seed")}
        name = (
            self.activity if isinstance(self.activity, str) else getattr(self.activity, "__name__", repr(self.activity))
        )
        return {
            **rule,
            "inputs": {name: n_inputs(layer) for name, layer in self.layers.items()},
            "k": self.k,
            "more": self.more,
            "activity": name,
            "form": self.form,
            "every": self.every,
            "samples": self.samples,
            "seed": self.seed,
        }

    def state_dict(self) -> dict[str, Any]:
        """What is protected by now: tensors and numbers, for `torch.save` or `nissl.learning.checkpoint`."""
        kept = {name: s.state_dict() for name, s in self.subspaces.items() if hasattr(s, "rows_")}
        return {"n_tasks": self.n_tasks, "layers": kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> HebbianProjection:
        """Go on after the tasks that another projection of the same layers has finished.

        Raises
        ------
        InputError
            A task is under way, or other layers.
        """
        if self._hooks is not None:
            raise InputError("a task is under way; detach() ends it")
        for name, kept in state["layers"].items():
            if name not in self.subspaces:
                raise unknown("layer", name, self.subspaces)
            if kept["rows"].shape[1:] != (self.subspaces[name].n_units,):
                raise InputError(
                    f"layer {name!r} has {self.subspaces[name].n_units} inputs, and the saved projection {kept['rows'].shape[-1]}: it is of "
                    "another network"
                )
        if state["layers"] and len(state["layers"]) != len(self.subspaces):
            missing = [n for n in self.subspaces if n not in state["layers"]]
            raise InputError(f"the saved projection has nothing of layers {', '.join(map(repr, missing))}")
        for name, kept in state["layers"].items():
            self.subspaces[name].load_state_dict(kept)
        self.n_tasks, self._last_moved = int(state["n_tasks"]), {}
        return self

    # ------------------------------------------------------------------ what it did

    def _check_weights(self) -> None:
        for name, layer in self.layers.items():
            if not bool(torch.isfinite(layer.weight).all()):
                raise ModelError(f"the weight of layer {name!r} holds NaN or infinite values")

    def _protected_response(self, name: str) -> Float[Tensor, "unit component"]:
        weight = self.layers[name].weight.detach().flatten(1)
        return weight @ self.subspaces[name].protected.to(weight).T

    def _moved(self) -> dict[str, float]:
        """How far weights moved inside the protected subspace in this task, as a share of what they are there."""
        found = {}
        for name, before in self._before.items():
            size = float(before.norm())
            found[name] = float((self._protected_response(name) - before).norm()) / size if size > 0 else 0.0
        return found

    def report(self) -> pd.DataFrame:
        """Each layer's directions: inputs, protected, learning, free, and the share of activity that they explain in each task.

        Columns `task 0`, `task 1`, ... hold the share of a task's mean square activity along the directions that it brought itself; earlier
        directions may carry more of it. `moved` is how far weights moved inside the protected subspace in the last task, as a share.
        """
        moved = self._last_moved if self._hooks is None else self._moved()
        rows = []
        for name, subspace in self.subspaces.items():
            there = hasattr(subspace, "rows_")
            row: dict[str, Any] = {
                "layer": name,
                "inputs": subspace.n_units,
                "protected": subspace.frozen_ if there else 0,
                "learning": len(subspace.rows_) - subspace.frozen_ if there else 0,
                "free": subspace.free_,
                "moved": moved.get(name, 0.0),
            }
            for t in range(getattr(subspace, "n_tasks_", 0)):
                row[f"task {t}"] = float(subspace.explained_.to_numpy()[subspace.task_ == t].sum())
            rows.append(row)
        return pd.DataFrame(rows).set_index("layer")
