"""Which axes are the same: never by size, only by what operators do with them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import sympy

from nissl.diagrams.tracing.sizes import probe

Sizes = tuple[int, ...]


class Identity:
    """Axes as numbers, and which of them are one (union-find).

    An array may hold one axis twice, as attention has every time against every time. The second is then a *copy*: a number
    one level above the first. Levels are kept through all unions, and an axis never merges with its own copy. Axes that were
    bound into one (`batch * head`), or unbound, remember their parts.
    """

    ONE = 0  # every axis of one index that no array was given with: born by `unsqueeze`, kept by `sum(keepdim)`

    def __init__(self) -> None:
        self.sizes: list[Any] = [1]
        self.probes: list[int] = [1]
        self.hints: list[list[tuple[int, str]]] = [[]]  # what it could be called, with how much that name is worth
        self.parts: dict[int, dict[Sizes, tuple[int, ...]]] = {}
        self.slices: dict[tuple[Any, ...], int] = {}
        self._parent = [0]
        self._above = [0]  # level over the parent
        self._bound: dict[int, tuple[int, ...]] = {}  # axes that were bound -> from what
        self._first: dict[int, list[tuple[int, tuple[int, ...]]]] = {}  # an axis -> those of which it is the first part
        self._cache: dict[Any, int] = {}

    def probe(self, size: Any) -> int:
        """A number that tells sizes apart."""
        return probe(size, self._cache)

    def new(self, size: Any, hint: str = "", worth: int = 1) -> int:
        """A new axis."""
        self.sizes.append(size)
        self.probes.append(self.probe(size))
        self.hints.append([(worth, hint)] if hint else [])
        self._parent.append(len(self._parent))
        self._above.append(0)
        return len(self._parent) - 1

    def find(self, node: int) -> tuple[int, int]:
        """The axis that it is, and the level of copy."""
        path, level = [], 0
        while self._parent[node] != node:
            path.append(node)
            node = self._parent[node]
        for n in reversed(path):
            level += self._above[n]
            self._parent[n], self._above[n] = node, level
        return node, level

    def same(self, a: int, b: int) -> bool:
        """Whether two are the same axis at the same level."""
        return self.find(a) == self.find(b)

    def copy(self, node: int) -> int:
        """The same axis a second time on one array."""
        made = self.new(self.sizes[node])
        self._parent[made], self._above[made] = node, 1
        return made

    def union(self, a: int, b: int) -> None:
        """Two axes turn out to be one; sizes must agree, and an axis of one index that is only a place joins nothing."""
        if self.ONE in (a, b) or self.probes[a] != self.probes[b]:
            return
        (ra, la), (rb, lb) = self.find(a), self.find(b)
        if ra == rb:  # the same already, or an axis and its copy
            return
        # What is above the other in level must stay so: parent[rb] = ra, with the difference.
        self._parent[rb], self._above[rb] = ra, la - lb
        self.hints[ra].extend(self.hints[rb])
        self._first.setdefault(ra, []).extend(self._first.pop(rb, ()))
        if rb in self._bound:
            self._bound.setdefault(ra, self._bound.pop(rb))
        if rb in self.parts:
            own = self.parts.setdefault(ra, {})
            for sizes, nodes in self.parts.pop(rb).items():
                if la != lb:
                    continue
                if sizes in own:
                    for x, y in zip(own[sizes], nodes, strict=True):
                        self.union(x, y)
                else:
                    own[sizes] = nodes

    def hint(self, node: int, name: str, worth: int) -> None:
        """A name that it could have."""
        if node != self.ONE:
            self.hints[self.find(node)[0]].append((worth, name))

    def distinct(self, nodes: Sequence[int]) -> tuple[int, ...]:
        """The same axes, each that comes again as a copy of the first."""
        seen: set[tuple[int, int]] = set()
        found = []
        for node in nodes:
            while node != self.ONE and self.find(node) in seen:
                node = self.copied(node)
            seen.add(self.find(node))
            found.append(node)
        return tuple(found)

    def copied(self, node: int) -> int:
        """The copy of an axis: always the same one."""
        root, level = self.find(node)
        key = ("copy", root, level)
        if key not in self.slices or self.find(self.slices[key]) != (root, level + 1):
            self.slices[key] = self.copy(node)
        return self.slices[key]

    def bind(self, nodes: Sequence[int]) -> int:
        """Several axes as one: the same one where they were bound before, or are what it was unbound into."""
        flat = [n for n in nodes if n != self.ONE] or [self.ONE]
        if len(flat) == 1:
            return flat[0]
        key = [self.find(n) for n in flat]
        for owner, parts in self._first.get(key[0][0], ()):
            if [self.find(n) for n in parts] == key:
                return owner
        sizes = [self.sizes[n] for n in flat]
        made = self.new(prod(sizes) if all(isinstance(s, int) for s in sizes) else sympy.Mul(*sizes))
        self._keep(made, tuple(flat))
        self._bound[made] = tuple(flat)
        return made

    def _keep(self, whole: int, parts: tuple[int, ...]) -> None:
        """Note the parts of an axis."""
        self.parts.setdefault(self.find(whole)[0], {})[tuple(self.probes[n] for n in parts)] = parts
        self._first.setdefault(self.find(parts[0])[0], []).append((whole, parts))

    def unbind(self, node: int, sizes: Sequence[Any]) -> tuple[int, ...]:
        """One axis as several."""
        probes = tuple(self.probe(s) for s in sizes)
        known = self.parts.get(self.find(node)[0], {})
        if probes in known:
            return known[probes]
        for nodes in list(known.values()):
            found = self.regroup(nodes, sizes, opaque=False)
            if found is not None:
                return found
        made = tuple(self.new(s) for s in sizes)
        self._keep(node, made)
        return made

    def regroup(self, nodes: Sequence[int], sizes: Sequence[Any], opaque: bool = True) -> tuple[int, ...] | None:
        """The axes of an array after `view`: its axes unbound and bound in order. Those that mix are new; then, or None."""
        nodes = [n for n in nodes if self.probes[n] != 1 or n != self.ONE]
        refined = refine([self.probes[n] for n in nodes], [self.probe(s) for s in sizes])
        if refined is None:
            if not opaque:
                return None
            return self._mixed(nodes, sizes)
        pieces: dict[int, list[tuple[int, int]]] = {}
        for size, i, j in refined:
            pieces.setdefault(i, []).append((size, j))
        into: dict[int, list[int]] = {}
        for i, found in pieces.items():
            if len(found) == 1:
                into.setdefault(found[0][1], []).append(nodes[i])
                continue
            shape = self._exact(self.sizes[nodes[i]], found, [sizes[j] for _, j in found])
            for part, (_, j) in zip(self.unbind(nodes[i], shape), found, strict=True):
                into.setdefault(j, []).append(part)
        return tuple(self.bind(into[j]) if j in into else self.ONE for j in range(len(sizes)))

    def _exact(self, whole: Any, found: Sequence[tuple[int, int]], outs: Sequence[Any]) -> list[Any]:
        """Sizes of the parts as expressions: an output's own where the part is all of it, else what is left of the whole."""
        exact: list[Any] = []
        for (size, _), out in zip(found, outs, strict=True):
            exact.append(out if self.probe(out) == size else size if size < 10**5 else None)
        if exact.count(None) == 1:
            rest = sympy.simplify(sympy.sympify(whole) / sympy.Mul(*(e for e in exact if e is not None)))
            exact[exact.index(None)] = int(rest) if rest.is_Integer else rest
        return [e if e is not None else size for e, (size, _) in zip(exact, found, strict=True)]

    def _mixed(self, nodes: Sequence[int], sizes: Sequence[Any]) -> tuple[int, ...]:
        """Axes that are kept at both ends stay; what mixes between them is new."""
        front = 0
        while front < min(len(nodes), len(sizes)) and self.probes[nodes[front]] == self.probe(sizes[front]):
            front += 1
        back = 0
        while back < min(len(nodes), len(sizes)) - front and self.probes[nodes[-1 - back]] == self.probe(
            sizes[-1 - back]
        ):
            back += 1
        middle = [self.new(s) if self.probe(s) != 1 else self.ONE for s in sizes[front : len(sizes) - back]]
        return (*nodes[:front], *middle, *nodes[len(nodes) - back :])

    def atoms(self, node: int) -> tuple[int, ...]:
        """An axis that was bound from others, as these."""
        parts = self._bound.get(self.find(node)[0])
        return tuple(a for n in parts for a in self.atoms(n)) if parts else (node,)

    def pieces(self, node: int) -> tuple[int, ...]:
        """An axis that was bound from others or unbound into them, as these."""
        known = self.parts.get(self.find(node)[0])
        return next(iter(known.values())) if known else (node,)


def refine(before: Sequence[int], after: Sequence[int]) -> list[tuple[int, int, int]] | None:
    """Cut two shapes of one array into the same pieces: (size, axis before, axis after) each; None where they mix.

    Examples
    --------
    >>> refine([2, 16], [8, 4])
    [(2, 0, 0), (4, 1, 0), (4, 1, 1)]
    >>> refine([6, 4], [8, 3]) is None
    True
    """
    pieces: list[tuple[int, int, int]] = []
    i = j = 0
    a, b = (before[0] if before else 1), (after[0] if after else 1)
    while i < len(before) and j < len(after):
        if a == b:
            if not (a == 1 and before[i] != 1):
                pieces.append((a, i, j))
            i, j = i + 1, j + 1
            a, b = (before[i] if i < len(before) else 1), (after[j] if j < len(after) else 1)
        elif b == 1:
            j += 1
            b = after[j] if j < len(after) else 1
        elif a == 1:
            i += 1
            a = before[i] if i < len(before) else 1
        elif a and b % a == 0:
            pieces.append((a, i, j))
            b //= a
            i += 1
            a = before[i] if i < len(before) else 1
        elif b and a % b == 0:
            pieces.append((b, i, j))
            a //= b
            j += 1
            b = after[j] if j < len(after) else 1
        else:
            return None
    if any(n != 1 for n in before[i + 1 :]) or any(n != 1 for n in after[j + 1 :]) or a != b:
        return None
    return pieces
