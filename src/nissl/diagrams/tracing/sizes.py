"""Sizes that are free: symbols by name, and what the code asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sympy
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from nissl.diagrams._sizes import relation_text

_TORCH = Path(torch.__file__).parent
# Two sizes are compared with every symbol at one of these: as good as a proof for products, and fast.
PRIMES = (1000003, 999983, 999979, 999961, 999959, 999953, 999931, 999917, 999907, 999883, 999863, 999853)


def symbol(name: str) -> sympy.Symbol:
    """The symbol of a free size. Two of one name are equal.

    Examples
    --------
    >>> symbol("batch") == symbol("batch")
    True
    """
    return sympy.Symbol(name, integer=True, positive=True)


class Sizes:
    """Reads torch's symbolic integers as expressions over named symbols."""

    def __init__(self) -> None:
        self.env = ShapeEnv(duck_shape=False, allow_scalar_outputs=False, allow_dynamic_output_shape_ops=False)
        self.fake = FakeTensorMode(shape_env=self.env, allow_non_fake_inputs=True)
        self.names: dict[sympy.Symbol, sympy.Symbol] = {}
        self.hints: dict[str, int] = {}
        self._traced: dict[str, int] = {}
        self._first: dict[str, torch.SymInt] = {}
        self.asked: list[tuple[sympy.Symbol, sympy.Symbol]] = []
        self._read: dict[Any, Any] = {}
        self._probes: dict[Any, int] = {}

    def input(self, tensor: torch.Tensor, free: Mapping[int, str]) -> torch.Tensor:
        """A fake of `tensor` whose axes in `free` have no fixed size; by axis, the name of its symbol. Axes of one name and size
        share the symbol.
        """
        kinds = [DimDynamic.DYNAMIC if i in free else DimDynamic.STATIC for i in range(tensor.ndim)]
        fake = self.fake.from_tensor(
            tensor, symbolic_context=StatelessSymbolicContext(dynamic_sizes=kinds), source=_source(len(self.names))
        )
        for i, name in free.items():
            size = fake.shape[i]
            if not isinstance(size, torch.SymInt):
                continue
            if name in self._first and self._traced[name] == tensor.shape[i]:
                self.names[size.node._expr] = symbol(name)
                bool(size == self._first[name])  # torch then holds the two for one
                continue
            own = next(n for k in range(1, 10_000) if (n := name if k == 1 else f"{name}_{k}") not in self.hints)
            self._first[own] = size
            self.names[size.node._expr] = symbol(own)
            self.hints[own] = self._traced[own] = tensor.shape[i]
        return fake

    def read(self, value: Any) -> Any:
        """A whole number, or an expression over the named symbols; call it only when the trace is over."""
        if not isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            return value
        raw = value.node._expr
        if raw not in self._read:
            self._read[raw] = self._plain(self.env.replace(raw))
        return self._read[raw]

    def settle(self) -> None:
        """At the end of the trace: of sizes that turned out to be equal the first gives its name."""
        first: dict[Any, sympy.Symbol] = {}
        for raw, name in list(self.names.items()):
            now = self.env.replace(raw)
            if isinstance(now, sympy.Symbol):
                first.setdefault(now, name)
        self.asked = list(self.names.items())
        self.names = {**self.names, **first}

    def _plain(self, expr: Any) -> Any:
        expr = sympy.sympify(expr)
        names = {s: self.names[s] for s in expr.free_symbols if s in self.names}
        expr = standard(expr).xreplace(names)
        if expr.is_Integer:
            return int(expr)
        return (
            float(expr) if expr.is_Float else bool(expr) if isinstance(expr, sympy.logic.boolalg.BooleanAtom) else expr
        )

    def notes(self, asked_in: Mapping[int, str]) -> list[str]:
        """What was asked of the free sizes, in words.

        Parameters
        ----------
        asked_in
            By id of a guard: the call of torch that asked, where it was not the network's code.
        """
        found = []
        for raw, name in self.asked:
            now = self.read_expr(raw)
            if now != name:
                found.append(self._fixed(raw, name, now, asked_in))
        shown = [f"holds for {relation_text(g)} ({line})" for g, line in self.guards()]
        return [*found, *dict.fromkeys(shown)]

    def _fixed(self, raw: Any, name: Any, now: Any, asked_in: Mapping[int, str]) -> str:
        guards = [g for g in self.env.guards if isinstance(g.expr, sympy.Eq) and raw in g.expr.free_symbols]
        line = next((a for g in guards if (a := _asked_by(g))), "")
        call = next((asked_in[id(g)] for g in guards if id(g) in asked_in), "")
        if line or not isinstance(now, int):
            return f"{name} is always {now}, as the code asks" + (f" ({line})" if line else "")
        return f"{name} is fixed at {now}: torch's own code" + (f" for {call}" if call else "") + " asks for it"

    def guards(self) -> list[tuple[Any, str]]:
        """What the network's code asked of the free sizes, as relations, and where it asked."""
        found: dict[Any, str] = {}
        for guard in self.env.guards:
            line = _asked_by(guard)
            if not line or not isinstance(guard.expr, sympy.core.relational.Relational):
                continue
            expr = standard(self.env.replace(guard.expr))
            if not isinstance(expr, sympy.core.relational.Relational) or not expr.free_symbols <= set(self.names):
                continue
            plain = expr.xreplace(self.names)
            plain = plain.xreplace({f: sympy.Rational(float(f)) for f in plain.atoms(sympy.Float)})
            if plain not in found and not _always(plain):
                found[plain] = line
        return list(found.items())

    def read_expr(self, raw: Any) -> Any:
        """As `read`, of an expression."""
        return self._plain(self.env.replace(raw))


def _asked_by(guard: Any) -> str:
    """`file:line` that asked; empty where torch asked for its own sake, such as which kernel is faster."""
    place: Any = getattr(getattr(guard, "sloc", None), "framework_loc", None)
    file = Path(getattr(place, "filename", "") or _TORCH)
    return "" if file.is_relative_to(_TORCH) else f"{file.name}:{place.lineno}"


def _always(expr: Any) -> bool:
    """Whether it holds for every size: an order that holds at both ends of one size, which torch asks of its own accord."""
    if not isinstance(expr, sympy.core.relational.Relational):
        return bool(expr)
    if isinstance(expr, sympy.Eq | sympy.Ne) or len(expr.free_symbols) != 1:
        return False
    (name,) = expr.free_symbols
    return all(bool(expr.subs(name, n)) for n in (2, 3, 5, 17, 1 << 40))


def _source(index: int) -> Any:
    from torch._dynamo.source import ConstantSource

    return ConstantSource(f"input_{index}")


def standard(expr: Any) -> Any:
    """Torch's own integer functions in sympy's."""
    if not expr.args:
        return expr
    args = [standard(a) for a in expr.args]
    name = type(expr).__name__
    if name in ("FloorDiv", "CleanDiv"):
        return sympy.floor(args[0] / args[1])
    if name in ("Mod", "PythonMod") and not isinstance(expr, sympy.Mod):
        return sympy.Mod(args[0], args[1])
    if name in ("IntTrueDiv", "FloatTrueDiv"):
        return args[0] / args[1]
    if name in ("Max", "Min"):
        return getattr(sympy, name)(*args)
    if name == "ToFloat":
        return args[0]
    if name == "CeilToInt":
        return sympy.ceiling(args[0])
    if name in ("FloorToInt", "TruncToInt"):
        return sympy.floor(args[0])
    return expr.func(*args)


def probe(size: Any, cache: dict[Any, int]) -> int:
    """A number for a size, so that equal expressions, and hardly ever others, have equal numbers."""
    if isinstance(size, int):
        return size
    found = cache.get(size)
    if found is None:
        free = sorted(size.free_symbols, key=str)
        chosen = {s: PRIMES[sum(map(ord, str(s))) % len(PRIMES)] for s in free}
        if len(set(chosen.values())) < len(free):
            chosen = dict(zip(free, PRIMES, strict=False))
        found = cache[size] = int(size.subs(chosen))
    return found
