"""What axes are called: by the inputs, by what is done with them, by the module they are from; short and unique."""

from __future__ import annotations

from collections.abc import Iterable

from nissl.diagrams.tracing.rules import Scene

ONE = "one"


class Names:
    """Names for the axes of a scene, given once all unions are made."""

    def __init__(self, scene: Scene, order: Iterable[int]) -> None:
        self.scene = scene
        self.sizes: dict[str, object] = {ONE: 1}
        self._by_root: dict[int, tuple[str, int]] = {}  # name, and the level that has no prime
        self._taken = {ONE}
        self._bases: dict[int, str] = {}  # names without their numbers
        identity = scene.identity
        lowest: dict[int, int] = {}
        waiting: dict[int, int] = {}
        for node in order:
            root, level = identity.find(node)
            lowest[root] = min(level, lowest.get(root, level))
            waiting.setdefault(root, node)
        # Axes that were named from outside come first, so that nothing else takes their name.
        by_worth = sorted(waiting, key=lambda r: -max((w for w, _ in identity.hints[r]), default=0) // 6)
        for root in by_worth:
            self._by_root[root] = ("", lowest[root])
        for root in by_worth:
            if root != identity.ONE:
                self._name(root)

    def _name(self, root: int) -> str:
        known = self._by_root.get(root, ("", 0))
        if known[0]:
            return known[0]
        hints = self.scene.identity.hints[root]
        atoms = self.scene.identity.pieces(root)
        if len(atoms) > 1 and max((w for w, _ in hints), default=0) < 3:
            base = "_".join(self._base(self.scene.identity.find(a)[0]) for a in atoms)
        else:
            best = max((w for w, _ in hints), default=0)
            base = next((n for w, n in hints if w == best), "part")
        name = next(n for k in range(1, 1 << 20) if (n := base if k == 1 else f"{base}_{k}") not in self._taken)
        self._taken.add(name)
        self._by_root[root] = (name, known[1])
        self._bases[root] = base
        return name

    def _base(self, root: int) -> str:
        self._name(root)
        return self._bases[root]

    def of(self, node: int) -> str:
        """The name of an axis; primes for copies."""
        identity = self.scene.identity
        if node == identity.ONE:
            return ONE
        root, level = identity.find(node)
        name = self._name(root)
        name += "'" * max(level - self._by_root[root][1], 0)
        self.sizes.setdefault(name, identity.sizes[node])
        return name

    def parts(self) -> dict[str, tuple[str, ...]]:
        """By name, the axes that an axis is bound from or was unbound into."""
        found = {}
        for root, (name, _) in list(self._by_root.items()):
            pieces = self.scene.identity.pieces(root)
            if name and len(pieces) > 1 and name in self.sizes:
                found[name] = tuple(self.of(p) for p in pieces)
        return found

    def equation(self, terms: tuple[str, ...], letters: dict[str, int]) -> str:
        """An einsum over names; where two of its letters have one name, the later gets a prime."""
        named: dict[str, str] = {}
        for letter in (*terms[-1], *letters):
            if letter in named:
                continue
            name = self.of(letters[letter])
            if name == ONE:
                name = f"{ONE}_{letter}"
            while name in named.values():
                name += "'"
            self.sizes.setdefault(name, self.scene.identity.sizes[letters[letter]])
            named[letter] = name
        columns = [" ".join(named[x] for x in term) or "()" for term in terms]
        return f"{', '.join(columns[:-1])} -> {columns[-1]}"
