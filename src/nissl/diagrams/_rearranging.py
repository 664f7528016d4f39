"""Writes rearrangements out where an operation needs them: crossings, bindings, copies along axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sympy

from nissl.axes import Axis
from nissl.diagrams.circuit import Array, CircuitDiagram, Operation, Ref
from nissl.diagrams.tracing.views import ONE, Group, Piece, View, Views


class Rearranging:
    """A diagram that is being written anew, in which rearrangements are put off until something needs them."""

    def __init__(self, diagram: CircuitDiagram, views: Views) -> None:
        self.diagram, self.views = diagram, views
        self.arrays: dict[str, Array] = dict(diagram.arrays)
        self.axes, self.sizes = dict(diagram.axes), dict(diagram.sizes)
        self.done: list[Operation] = []
        self.made_in: dict[str, str] = {}
        self.read_up_to = 0
        self.view: dict[str, View] = {}  # what an array of the old diagram is in the new one
        self.whole: dict[tuple[str, tuple[Group, ...]], str] = {}  # rearrangements that were written out
        self.taken = set(diagram.arrays) | {o.name for o in diagram.operations}
        self.by_leaves = {views.leaves(a): a for a in reversed(list(diagram.axes))}
        self.uses = Counter(n for o in diagram.operations for n in o.inputs)
        self.uses.update(diagram.outputs)

    def seen(self, name: str) -> View:
        """What an array is in the new diagram."""
        if name not in self.view:
            self.view[name] = self.views.root(name, self.arrays[name].axes)
        return self.view[name]

    def stored(self, array: Array, new: Mapping[str, str]) -> Array:
        """Storage under its new name."""
        if array.storage == array.name:
            return array
        now = new.get(array.storage) or (
            self.seen(array.storage).source if array.storage in self.diagram.arrays else array.name
        )
        return replace(array, storage=self.arrays[now].storage if now in self.arrays else array.name)

    def concrete(self, name: str) -> str:
        """The array in the new diagram that has the shape of this one of the old; written out where there is none yet."""
        view = self.seen(name)
        if view.plain:
            return view.source
        if view.copied:
            bare = tuple(tuple(p for p in g if p not in view.copied) for g in view.outer)
            if any(
                0 < len(b) < len(g) for b, g in zip(bare, view.outer, strict=True)
            ):  # bound with what it is copied along
                parts = tuple((p,) for g in view.outer for p in (g or ((ONE, 0),)))
                copied = self.expanded(view, tuple(() if p[0] == (ONE, 0) else p for p in parts))
                return self._reshaped(copied, self.diagram.arrays[name].axes, (name,))
            return self.expanded(view, view.outer)
        return self.shaped(view, view.outer, self.diagram.arrays[name].axes)

    def expanded(self, view: View, outer: tuple[Group, ...]) -> str:
        """Write out copies along axes."""
        bare = tuple(tuple(p for p in g if p not in view.copied) for g in outer)
        small = self.shaped(View(view.source, view.inner, bare), bare, [self.name(g) for g in bare])
        axes = tuple(self.name(g) for g in outer)
        key = (small, outer)
        if key not in self.whole:
            old = self.arrays[small]
            new = self._fresh(f"{view.source}.copied")
            self.arrays[new] = Array(new, axes, old.dtype, old.role, old.storage)
            born = tuple(a for a in axes if a not in old.axes)
            along = tuple(a for a in dict.fromkeys(old.axes) if a != ONE)
            sizes = tuple(self._size(a) for a in axes)
            self.done.append(
                Operation(
                    new,
                    "rearrangement",
                    "copy",
                    (small,),
                    (new,),
                    self._module(view.source),
                    born=born,
                    broadcast=along,
                    target="aten.expand.default",
                    arguments=(Ref(small), sizes),
                )
            )
            self.whole[key] = new
        return self.whole[key]

    def shaped(self, view: View, outer: tuple[Group, ...], axes: Sequence[str]) -> str:
        """The view written out with its axes bound as in `outer`: first crossed, then bound or unbound."""
        if view.inner == outer:
            return view.source
        key = (view.source, (*outer, (("", len(axes)),)))
        if key in self.whole:
            return self.whole[key]
        want = [p for g in outer for p in g]
        have = [p for g in view.inner for p in g]
        name = view.source
        if want != have:
            groups, order = _crossed(view.inner, want)
            if order is None:  # pieces of one axis go to different places: unbind it first
                loose = tuple((p,) for p in have)
                name = self._reshaped(name, [p[0] for p in have], ("unbound", loose))
                groups, order = _crossed(loose, want)
            assert order is not None
            name = self._crossed(name, order)
            if groups == outer:
                self.whole[key] = name
                return name
        self.whole[key] = made = self._reshaped(name, axes, ("bound", outer))
        return made

    def _crossed(self, name: str, order: Sequence[int]) -> str:
        if list(order) == list(range(len(order))):
            return name
        key: Any = (name, ("crossed", *order))
        if key not in self.whole:
            old = self.arrays[name]
            new = self._fresh(f"{name}.crossed")
            axes = tuple(old.axes[d] for d in order)
            self.arrays[new] = Array(new, axes, old.dtype, old.role, old.storage)
            self.done.append(
                Operation(
                    new,
                    "rearrangement",
                    "transpose",
                    (name,),
                    (new,),
                    self._module(name),
                    target="aten.permute.default",
                    broadcast=tuple(dict.fromkeys(axes)),
                    arguments=(Ref(name), tuple(order)),
                )
            )
            self.whole[key] = new
        return self.whole[key]

    def _reshaped(self, name: str, axes: Sequence[str], note: Any) -> str:
        key: Any = (name, ("bound", *axes))
        if tuple(axes) == self.arrays[name].axes:
            return name
        if key not in self.whole:
            old = self.arrays[name]
            binds = len(axes) < len(old.axes)
            new = self._fresh(f"{name}.{'bound' if binds else 'unbound'}")
            self.arrays[new] = Array(
                new, tuple(axes), old.dtype, old.role if old.role != "input" else "activation", old.storage
            )
            ended = tuple(a for a in dict.fromkeys(old.axes) if a not in axes and a != ONE)
            born = tuple(a for a in dict.fromkeys(axes) if a not in old.axes and a != ONE)
            along = tuple(a for a in dict.fromkeys(axes) if a in old.axes and a != ONE)
            self.done.append(
                Operation(
                    new,
                    "rearrangement",
                    "bind" if binds else "unbind",
                    (name,),
                    (new,),
                    self._module(name),
                    contracted=ended,
                    born=born,
                    broadcast=along,
                    target="aten.reshape.default",
                    arguments=(Ref(name), tuple(self._size(a) for a in axes)),
                )
            )
            self.whole[key] = new
        return self.whole[key]

    def _fresh(self, base: str) -> str:
        name = next(n for k in range(1, 1 << 30) if (n := base if k == 1 else f"{base}_{k}") not in self.taken)
        self.taken.add(name)
        return name

    def _module(self, name: str) -> str:
        """The module that made an array; it is also where its rearrangement stands."""
        while self.read_up_to < len(self.done):
            operation = self.done[self.read_up_to]
            self.made_in.update(dict.fromkeys(operation.outputs, operation.module))
            self.read_up_to += 1
        return self.made_in.get(name, "")

    def _size(self, axis: str) -> Any:
        size = sympy.sympify(self.sizes.get(axis, self.axes[axis].size))
        return int(size) if size.is_Integer else size

    def name(self, group: Group) -> str:
        """The axis that is bound from these pieces."""
        if len(group) == 1:
            return group[0][0]
        if not group:
            return ONE
        leaves = tuple(p[0] for p in group)
        if leaves in self.by_leaves:
            return self.by_leaves[leaves]
        name = "_".join(leaves)
        while name in self.axes:
            name += "_2"
        self.by_leaves[leaves] = name
        size = sympy.Mul(*(sympy.sympify(self._size(x)) for x in leaves))
        example = 1
        for x in leaves:
            example *= self.axes[x].size
        self.axes[name] = Axis(name, example)
        if not size.is_Integer:
            self.sizes[name] = size
        return name


def _crossed(groups: tuple[Group, ...], want: Sequence[Piece]) -> tuple[tuple[Group, ...], list[int] | None]:
    """The order of axes that brings pieces into the wanted order; None where an axis would have to come apart."""
    at = {p: i for i, p in enumerate(want)}
    filled = [i for i, g in enumerate(groups) if g]
    order = sorted(filled, key=lambda i: at[groups[i][0]])
    if [p for i in order for p in groups[i]] != list(want):
        return groups, None
    order = [i for i, g in enumerate(groups) if not g] + order
    return tuple(groups[i] for i in order), order
