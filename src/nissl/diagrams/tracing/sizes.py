"""Sizes that are free: symbols by name, and what the code asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sympy
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

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

    def notes(self) -> list[str]:
        """What the code asked of the free sizes, in words."""
        found = []
        for raw, name in self.asked:
            now = self.read_expr(raw)
            if now != name:
                found.append(f"{name} is always {now}, as the code asks")
        for guard in self.env.guards:
            expr = standard(guard.expr)
            asked = _asked_by(guard)
            if not asked or isinstance(expr, sympy.Eq) or not isinstance(expr, sympy.core.relational.Relational):
                continue
            free = expr.free_symbols
            if len(free) == 1 and free <= set(self.names) and expr.is_number is False:
                plain = expr.xreplace(self.names)
                text = f"holds for {plain} ({asked})"
                if text not in found and not _trivial(plain):
                    found.append(text)
        return found

    def read_expr(self, raw: Any) -> Any:
        """As `read`, of an expression."""
        return self._plain(self.env.replace(raw))


def _asked_by(guard: Any) -> str:
    """`file:line` that asked; empty where torch asked for its own sake, such as which kernel is faster."""
    place: Any = getattr(getattr(guard, "sloc", None), "framework_loc", None)
    file = Path(getattr(place, "filename", "") or _TORCH)
    return "" if file.is_relative_to(_TORCH) else f"{file.name}:{place.lineno}"


def _trivial(expr: Any) -> bool:
    """Whether it holds for every size from 2 on."""
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
