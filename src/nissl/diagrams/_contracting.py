"""Products that read arrays as they were before they were rearranged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from nissl.axes import Axis
from nissl.diagrams._rearranging import Rearranging
from nissl.diagrams.circuit import Operation
from nissl.diagrams.tracing.views import ONE, Group, View


class Contracting(Rearranging):
    """Transposes, views and copies vanish into equations."""

    def equation(self, o: Operation) -> bool:
        """A product reads arrays as they were before they were rearranged, where its equation can say how."""
        if not o.equation or o.kind not in ("linear", "contraction"):
            return False
        columns, result = o.equation.split(" -> ")
        terms = [t.split() if t != "()" else [] for t in columns.split(", ")]
        out = result.split() if result != "()" else []
        views = [self.seen(n) for n in o.inputs[: len(terms)]]
        loose = self._loose(terms, views)
        operands, written = [], []
        for term, view in zip(terms, views, strict=True):
            name, axes = self._operand(term, view, loose, out)
            operands.append(name)
            written.append(" ".join(axes) or "()")

        def opened(names: Sequence[str]) -> tuple[str, ...]:
            return tuple(dict.fromkeys(x for n in names for x in ([self.name(g) for g in loose.get(n, ())] or [n])))

        meant = {x for x in opened([x for t in terms for x in t]) if not x.startswith(ONE)}
        if meant != {x for w in written for x in w.split() if x != "()" and not x.startswith(ONE)}:
            return False  # it cannot be said so
        target = o.outputs[0]
        old = self.arrays[target].axes
        new_axes, letters, groups = [], [], []
        count = 0
        for axis, letter in zip(old, out, strict=True):
            names = [self.name(g) for g in loose.get(letter, ())]
            leaves = [x for n in names or [axis] for x in self.views.leaves(n)]
            groups.append(tuple((n, count + k) for k, n in enumerate(leaves)))
            count += len(leaves)
            new_axes += names or [axis]
            letters += names or [letter]
        inner = self.views.root(target, new_axes).inner
        self.arrays[target] = replace(self.arrays[target], axes=tuple(new_axes), storage=target)
        self.view[target] = View(target, inner, tuple(groups))
        added = tuple(self.concrete(n) for n in o.inputs[len(terms) :])

        self.done.append(
            replace(
                o,
                inputs=(*operands, *added),
                equation=f"{', '.join(written)} -> {' '.join(letters) or '()'}",
                target="",
                arguments=(),
                options={},
                contracted=opened(o.contracted),
                born=opened(o.born),
                broadcast=opened(o.broadcast),
            )
        )
        return True

    def _loose(self, terms: Sequence[Sequence[str]], views: Sequence[View]) -> dict[str, tuple[Group, ...]]:
        """Letters of axes that need not be bound, and the axes that stand for each: no operand's source has it whole."""
        ends: dict[str, set[int]] = {}
        found: dict[str, Group] = {}
        held: set[str] = set()
        for term, view in zip(terms, views, strict=True):
            last = {g[-1] for g in view.inner if g} | set(view.copied)
            first = {g[0] for g in view.inner if g} | set(view.copied)
            for letter, group in zip(term, view.outer, strict=True):
                if len(group) < 2 or group in view.inner or self.views.leaves(letter) != tuple(p[0] for p in group):
                    held.add(letter)
                    continue
                cuts = {k for k in range(1, len(group)) if group[k - 1] in last or group[k] in first}
                ends.setdefault(letter, set()).update(cuts)
                found.setdefault(letter, group)
        every = {x for t in terms for x in t}
        loose = {}
        for letter, group in found.items():
            cuts = [0, *sorted(ends[letter]), len(group)]
            parts = tuple(group[a:b] for a, b in pairwise(cuts))
            names = [self.name(p) for p in parts]
            if letter not in held and len(parts) > 1 and len(set(names)) == len(names) and not set(names) & every:
                loose[letter] = parts
        return loose

    def _operand(
        self, term: Sequence[str], view: View, loose: Mapping[str, tuple[Group, ...]], out: Sequence[str]
    ) -> tuple[str, list[str]]:
        """The array that an operand is read from, and the letters of its axes."""
        pairs: list[tuple[Group, str]] = []
        for x, group in zip(term, view.outer, strict=True):
            at = 0
            for part in loose.get(x, (group,)):
                pairs.append((group[at : at + len(part)], self.name(part) if x in loose else x))
                at += len(part)
        letter = dict(pairs)
        wanted = tuple(letter)
        if view.copied:  # along a copy the product runs by itself
            partly = any(set(g) & view.copied and not set(g) <= view.copied for g in wanted)
            if partly or len(wanted) != len(set(wanted)) or () in wanted:
                return self._whole(pairs, view)
            wanted = tuple(g for g in wanted if not set(g) <= view.copied)
        places = sum(not g for g in view.inner)  # axes of one index
        if () in letter and (sum(not g for g in view.outer) > 1 or (places != 1 and letter[()] in out)):
            return self._whole(pairs, view)
        shape: list[Group] = []
        for group in view.inner:  # every axis of the source as one that is wanted, or as several
            pieces = cut(group, wanted)
            if pieces is None:
                break
            shape += pieces
        else:
            named = [g for g in shape if g]
            if len(named) == len([g for g in wanted if g]):
                source = self.shaped(
                    View(view.source, view.inner, tuple(shape)), tuple(shape), [self.name(g) for g in shape]
                )
                return source, [
                    letter[g] if g in letter and (g or places == 1) else self._alone(k) for k, g in enumerate(shape)
                ]
        return self._whole(pairs, view)

    def _alone(self, k: int) -> str:
        """A letter for an axis of one index."""
        name = f"{ONE}_{k}"
        self.axes.setdefault(name, Axis(name, 1))
        return name

    def _whole(self, pairs: Sequence[tuple[Group, str]], view: View) -> tuple[str, list[str]]:
        """An operand with its axes in their own order."""
        outer = tuple(g for g, _ in pairs)
        if view.copied:
            return self.expanded(view, outer), [x for _, x in pairs]
        return self.shaped(view, outer, [self.name(g) for g in outer]), [x for _, x in pairs]


def cut(group: Group, wanted: Sequence[Group]) -> list[Group] | None:
    """An axis of a source as one of the wanted axes, or as several in a row."""
    if not group:
        return [()]
    found, rest = [], group
    while rest:
        piece = next((w for w in wanted if w and rest[: len(w)] == w), None)
        if piece is None:
            return None
        found.append(piece)
        rest = rest[len(piece) :]
    return found
