"""Arrays that share memory: what a view holds once its base was written into, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nissl.diagrams.tracing.record import Place, Step


class Written:
    """Which values are views of which, and which of them are out of date."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[int, Step, int]] = {}  # view -> base, the step that took it, which of its outputs
        self._after: dict[int, int] = {}  # a value -> the value that holds its memory since it was written into
        self._fresh: dict[int, int] = {}  # a value of a view -> the base that it was taken from

    def add(self, view: int, base: int, step: Step, which: int) -> None:
        """Note a view."""
        self._of[view] = (base, step, which)

    def newest(self, index: int) -> int:
        """What stands in a value's place since it was written into."""
        while index in self._after:
            index = self._after[index]
        return index

    def write(self, old: int, new: int, scatter: Callable[[Step, int, int, int], int]) -> None:
        """`old` was written into and is now `new`; its bases follow at once, its other views when they are read."""
        self._after[old] = new
        if old in self._of:
            base, step, which = self._of[old]
            now = self.newest(base)
            whole = scatter(_on(step, base, now), which, now, new)
            self._of[new] = (whole, _on(step, base, whole), which)
            self.write(now, whole, scatter)

    def refresh(self, index: int, replay: Callable[[Step, int, int], tuple[int, ...]]) -> int:
        """The value that a tensor holds now, taking its view again where its base has changed."""
        index = self.newest(index)
        if not self._after or index not in self._of:
            return index
        base, step, which = self._of[index]
        now = self.refresh(base, replay)
        if now == base:
            return index
        made = replay(step, base, now)
        fresh = _on(step, base, now)
        fresh.outputs = made
        for k, old in enumerate(step.outputs):
            self._after[old if k != which else index] = made[k]
            self._of[made[k]] = (now, fresh, k)
        return made[which]


def _on(step: Step, old: int, new: int) -> Step:
    """The same view of another value."""

    def put(x: Any) -> Any:
        if isinstance(x, Place):
            return Place(new if x.index == old else x.index)
        return tuple(put(v) for v in x) if isinstance(x, tuple) else x

    inputs = tuple(new if i == old else i for i in step.inputs)
    return Step(step.target, put(step.arguments), step.options, inputs, step.outputs, step.module, step.line)


def inverse(step: Step, which: int, base: int, view: int, shape: tuple[Any, ...]) -> Step:
    """The step that puts a view that was written into back into its base.

    Where no torch operator does that, an operator `nissl.put_back` stands for it: its types are right, and nothing is known of
    what it does.
    """
    there = Place(view)
    args: Any = step.arguments
    name = step.operator
    target, arguments = "nissl.put_back.default", (Place(base), there)
    if name in ("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "reshape"):
        target, arguments = "aten.reshape.default", (there, shape)
    elif name in ("detach", "alias", "lift_fresh"):
        target, arguments = "aten.alias.default", (there,)
    elif name == "t":
        target, arguments = "aten.t.default", (there,)
    elif name == "transpose":
        target, arguments = "aten.transpose.int", (there, *args[1:])
    elif name == "permute":
        order = [d % len(shape) for d in args[1]]
        target, arguments = "aten.permute.default", (there, tuple(order.index(i) for i in range(len(order))))
    elif name in ("select", "slice", "diagonal"):
        target, arguments = f"aten.{name}_scatter.default", (Place(base), there, *args[1:])
    elif name == "unbind":
        target, arguments = "aten.select_scatter.default", (Place(base), there, args[1] if len(args) > 1 else 0, which)
    elif name in ("split", "split_with_sizes"):
        dim = args[2] if len(args) > 2 else 0
        sizes = args[1] if name == "split_with_sizes" else [args[1]] * len(step.outputs)
        start = sum(sizes[:which])
        target, arguments = "aten.slice_scatter.default", (Place(base), there, dim, start, start + sizes[which])
    inputs = tuple(p.index for p in arguments if isinstance(p, Place))
    return Step(target, arguments, {}, inputs, (), step.module, step.line)
