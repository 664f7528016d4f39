"""How one array is another rearranged: its axes crossed, bound and unbound, by the pieces of axes that never come apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nissl.diagrams.circuit import Operation

Piece = tuple[str, int]  # name of an axis, and a number that tells pieces of one name apart
Group = tuple[Piece, ...]
ONE = "one"


@dataclass(frozen=True)
class View:
    """An array as the rearrangement of another, its source.

    Attributes
    ----------
    source
        Name of the source.
    inner, outer
        For every axis of the source, and of the array, the pieces that it is bound from; none for an axis of one index.
    copied
        Pieces along which the source is copied: they are in `outer` only.
    """

    source: str
    inner: tuple[Group, ...]
    outer: tuple[Group, ...]
    copied: frozenset[Piece] = frozenset()

    @property
    def plain(self) -> bool:
        """Whether the array is its source."""
        return self.inner == self.outer and not self.copied


class Views:
    """Follows rearrangements by names of axes.

    Parameters
    ----------
    parts
        By name of an axis: those that it is bound from, or was unbound into.
    """

    def __init__(self, parts: Mapping[str, tuple[str, ...]]) -> None:
        self.parts = parts

    def leaves(self, axis: str) -> tuple[str, ...]:
        """The axes that an axis is bound from, and they from, to the last."""
        parts = self.parts.get(axis, ())
        return tuple(x for p in parts for x in self.leaves(p)) if parts else () if axis == ONE else (axis,)

    def root(self, name: str, axes: Sequence[str]) -> View:
        """An array as itself."""
        count = 0
        groups = []
        for axis in axes:
            leaves = self.leaves(axis)
            groups.append(tuple((leaf, count + k) for k, leaf in enumerate(leaves)))
            count += len(leaves)
        return View(name, tuple(groups), tuple(groups))

    def after(self, view: View, operation: Operation, axes: Sequence[str]) -> View | None:
        """The view after one more rearrangement, which gives an array of these axes; None where it cannot be told."""
        name = operation.target.split(".")[1] if operation.target.count(".") >= 1 else ""
        outer = view.outer
        if name in ("permute", "transpose", "t"):
            return View(
                view.source, view.inner, tuple(outer[d] for d in _order(name, operation, len(outer))), view.copied
            )
        if name == "expand":
            return self._copied(view, axes)
        if operation.symbol not in ("bind", "copy") or name in ("repeat", "flip", "roll"):
            return None
        flat = [p for group in outer for p in group]
        groups, at = [], 0
        for axis in axes:
            leaves = self.leaves(axis)
            found = tuple(flat[at : at + len(leaves)])
            if tuple(n for n, _ in found) != leaves:
                return None
            groups.append(found)
            at += len(leaves)
        return View(view.source, view.inner, tuple(groups), view.copied) if at == len(flat) else None

    def _copied(self, view: View, axes: Sequence[str]) -> View | None:
        old = ((),) * (len(axes) - len(view.outer)) + view.outer
        groups, new = [], set(view.copied)
        for axis, group in zip(axes, old, strict=True):
            leaves = self.leaves(axis)
            if not group and leaves:
                count = 1 + max((k for g in (*view.inner, *old, *groups) for _, k in g), default=0)
                group = tuple((leaf, count + k) for k, leaf in enumerate(leaves))
                new |= set(group)
            groups.append(group)
        return View(view.source, view.inner, tuple(groups), frozenset(new))


def _order(name: str, operation: Operation, rank: int) -> list[int]:
    order = list(range(rank))
    if name == "permute":
        return [d % rank for d in operation.arguments[1]]
    if rank > 1:
        a, b = (0, 1) if name == "t" else (operation.arguments[1] % rank, operation.arguments[2] % rank)
        order[a], order[b] = order[b], order[a]
    return order
