"""Operations put one after another into a diagram, along whatever axes their arrays have beyond those that are acted on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sympy

from nissl.axes import Axis
from nissl.diagrams import _equations
from nissl.diagrams._sizes import evaluate
from nissl.diagrams.circuit import Array, Box, CircuitDiagram, Kind, Operation, Ref
from nissl.errors import DiagramError, InputError

Size = int | str | tuple[str, ...]  # a number, as many as another axis, or as many as several bound together


def symbol(name: str) -> sympy.Symbol:
    """The symbol of a free size; two of one name are equal."""
    return sympy.Symbol(name, integer=True, positive=True)


def resolved(axis: str, sizes: Mapping[str, Size]) -> sympy.Expr:
    """Size of an axis: a number, or symbols where it is free."""
    seen = []
    while isinstance(known := sizes.get(axis), str):
        seen.append(axis)
        axis = known
        if axis in seen:
            raise DiagramError(
                f"the sizes of {', '.join(map(repr, seen))} are said to be each other's, and no number is given"
            )
    if known is None:
        return symbol(axis)
    return sympy.Integer(known) if isinstance(known, int) else sympy.Mul(*(resolved(a, sizes) for a in known))


@dataclass
class Building:
    """A diagram in the making."""

    sizes: Mapping[str, Size]
    arrays: dict[str, Array] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    def array(self, stem: str, axes: Sequence[str], **options: Any) -> str:
        """A new array; its name."""
        name = self._fresh(stem, self.arrays)
        self.arrays[name] = Array(name, tuple(axes), **options)
        return name

    def parameter(self, name: str, axes: Sequence[str]) -> str:
        """A weight; the same one where the name is known."""
        known = self.arrays.get(name)
        if known is not None and (known.axes != tuple(axes) or known.role != "parameter"):
            raise DiagramError(
                f"the weight {name!r} has axes {' '.join(known.axes)!r} in one place and {' '.join(axes)!r} in another; "
                "give one of them another name"
            )
        self.arrays[name] = Array(name, tuple(axes), role="parameter")
        return name

    def operation(self, symbol: str, kind: Kind, inputs: Sequence[str], axes: Sequence[str], **options: Any) -> str:
        """A step with one output; its name."""
        learned = any(self.arrays[n].role == "parameter" for n in inputs)
        name = self._fresh(symbol, {o.name for o in self.operations})
        view = kind == "rearrangement" and {"storage": self.arrays[inputs[0]].storage}
        out = self.array(name, axes, **(view or {}))
        self.operations.append(Operation(name, kind, symbol, tuple(inputs), (out,), learned=learned, **options))
        return out

    def einsum(
        self, equation: str, inputs: Sequence[str], symbol: str, kind: Kind = "contraction", **options: Any
    ) -> str:
        """A product of arrays along the axes of `equation`, and for every index of the others that the arrays have."""
        terms, out = _equations.split(equation)
        actual = [self.arrays[n].axes for n in inputs[: len(terms)]]
        extra = self.leading(inputs[: len(terms)], [len(t) for t in terms])
        full = [a[: len(a) - len(t)] + t for a, t in zip(actual, terms, strict=True)]
        cost, steps = _equations.products(_equations.join(full, extra + out), lambda a: resolved(a, self.sizes))
        before = dict.fromkeys(a for t in terms for a in t)
        data = {a for n, t in zip(inputs, terms, strict=False) if self.arrays[n].role != "parameter" for a in t}
        return self.operation(
            symbol,
            kind,
            inputs,
            extra + out,
            equation=_equations.join(full, extra + out),
            contracted=tuple(a for a in before if a not in out),
            born=tuple(a for a in out if a not in data),
            broadcast=extra + tuple(a for a in out if a in data),
            flops=cost,
            elementwise=steps,
            **options,
        )

    def leading(self, inputs: Sequence[str], own: Sequence[int]) -> tuple[str, ...]:
        """Axes that stand before those that an operation acts on."""
        found = [self.arrays[n].axes[: len(self.arrays[n].axes) - k] for n, k in zip(inputs, own, strict=True)]
        return tuple(dict.fromkeys(a for axes in found for a in axes))

    def aligned(self, name: str, axes: Sequence[str]) -> str:
        """The array with these axes, in this order: permuted, and copied along those that it lacks."""
        own = self.arrays[name].axes
        if own == tuple(axes):
            return name
        born = tuple(a for a in axes if a not in own)
        return self.operation("copy" if born else "transpose", "rearrangement", [name], axes, born=born, broadcast=own)

    def ending(
        self, name: str, inputs: Sequence[str], outputs: Sequence[str], example: Mapping[str, int]
    ) -> CircuitDiagram:
        """The diagram, with numbers for the sizes that are free."""
        used = dict.fromkeys(a for array in self.arrays.values() for a in array.axes)
        sizes = {a: resolved(a, self.sizes) for a in used}
        free = {s for size in sizes.values() for s in size.free_symbols}
        missing = sorted(str(s) for s in free if str(s) not in example)
        if missing:
            raise InputError(f"no size is known for {', '.join(missing)}; give one: .diagram({missing[0]}=4)")
        for given, size in example.items():
            if symbol(given) not in free:
                raise InputError(
                    f"the size of {given!r} is not free; free: {', '.join(sorted(map(str, free))) or 'none'}"
                )
            if not isinstance(size, int) or size < 1:
                raise InputError(f"{given}={size!r}; allowed: a whole number of at least 1")
        numbers: Any = {s: example[str(s)] for s in free}
        axes = {a: Axis(a, math.prod(evaluate(f, numbers) for f in sympy.Mul.make_args(s))) for a, s in sizes.items()}
        arrays = {n: replace(a, role="input") if n in inputs else a for n, a in self.arrays.items()}
        open_sizes = {a: s for a, s in sizes.items() if not s.is_Integer}
        ops = tuple(self.operations)
        return CircuitDiagram(name, axes, arrays, ops, tuple(inputs), tuple(outputs), open_sizes, {"": Box("", name)})

    def operator(self, target: str, arguments: Sequence[Any], axes: Sequence[str], **options: Any) -> str:
        """A step that torch's operator takes."""
        inputs = [a.array for a in arguments if isinstance(a, Ref)]
        return self.operation(inputs=inputs, axes=axes, target=target, arguments=tuple(arguments), **options)

    @staticmethod
    def _fresh(stem: str, taken: Any) -> str:
        return next(n for k in range(1, 1_000_000) if (n := stem if k == 1 else f"{stem}_{k}") not in taken)
