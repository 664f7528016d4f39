"""What acts on numbers or on one axis, and runs along all others; and axes bound and unbound."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import sympy
import torch

from nissl.diagrams._equations import Terms, written
from nissl.diagrams.circuit import Ref
from nissl.diagrams.expressions._building import Building, Size, resolved
from nissl.diagrams.expressions._expression import Expression, Rule, checked, two_sides
from nissl.diagrams.expressions._scalar import bound, scalar_steps
from nissl.errors import DiagramError


def elementwise(function: Callable[..., torch.Tensor]) -> Rule:
    """A function of numbers, run at every index of whatever comes: `elementwise(torch.relu)`.

    With several arrays on the column it takes a number of each, and arrays that lack an axis are shared along it.

    Raises
    ------
    DiagramError
        The function does more than arithmetic at one index.
    """

    def where(axes: Terms, sizes: Mapping[str, Size]) -> Expression:
        steps = scalar_steps(function, len(axes))
        whole = max(axes, key=len)
        every = tuple(dict.fromkeys((*whole, *(a for t in axes for a in t))))

        def build(net: Building, names: tuple[str, ...]) -> tuple[str, ...]:
            full = net.leading(names, [0] * len(names)) if len(names) > 1 else net.arrays[next(iter(names))].axes
            full = tuple(sorted(full, key=lambda a: every.index(a) if a in every else -1))
            made = [net.aligned(n, full) for n in names]
            for symbol, target, arguments in steps:
                filled = [Ref(made[a.place]) if hasattr(a, "place") else a for a in arguments]
                made.append(
                    net.operator(
                        target,
                        filled,
                        full,
                        symbol=symbol,
                        kind="elementwise",
                        broadcast=full,
                        elementwise=_count(net, full),
                    )
                )
            return (made[-1],)

        return Expression(axes, (every,), sizes, build)

    return Rule(where)


def softmax(axis: str) -> Rule:
    """Along one axis, which it keeps: shares that add up to one."""

    def where(axes: Terms, sizes: Mapping[str, Size]) -> Expression:
        if len(axes) != 1 or axis not in axes[0]:
            raise DiagramError(f"softmax along {axis!r} cannot act on the column {written(axes)!r}")

        def build(net: Building, names: tuple[str, ...]) -> tuple[str, ...]:
            own = net.arrays[next(iter(names))].axes
            others = tuple(a for a in own if a != axis)
            arguments = (Ref(names[0]), own.index(axis), None)
            options = {"acted": (axis,), "broadcast": others, "elementwise": 3 * _count(net, own)}
            return (
                net.operator("aten.softmax.int", arguments, own, symbol="softmax", kind="normalisation", **options),
            )

        return Expression(axes, axes, sizes, build)

    return Rule(where)


def rearrange(axes: str, **sizes: Size) -> Expression:
    """Axes bound, unbound and reordered: `rearrange("t (h k) -> h t k", h=4, k=4)`; a bound axis is called `(h·k)`.

    Raises
    ------
    DiagramError
        An axis that stands on one side only.
    """
    before, after = (bound(side) for side in two_sides(axes))
    plain = [tuple(a for part in side for a in part) for side in (before, after)]
    if sorted(plain[0]) != sorted(plain[1]):
        raise DiagramError(f"rearrange({axes!r}) must have the same axes on both sides; copies are made by broadcast")
    names = [tuple(p[0] if len(p) == 1 else f"({'·'.join(p)})" for p in side) for side in (before, after)]
    groups: dict[str, Size] = {f"({'·'.join(p)})": p for side in (before, after) for p in side if len(p) > 1}

    def build(net: Building, arrays: tuple[str, ...]) -> tuple[str, ...]:
        now = arrays[0]
        extra = net.arrays[now].axes[: len(net.arrays[now].axes) - len(names[0])]
        for symbol, target in (("unbind", plain[0]), ("transpose", plain[1]), ("bind", names[1])):
            old, new = net.arrays[now].axes, extra + tuple(target)
            if new != old:
                ended, born = tuple(a for a in old if a not in new), tuple(a for a in new if a not in old)
                kept = tuple(a for a in old if a in new)
                now = net.operation(symbol, "rearrangement", [now], new, contracted=ended, born=born, broadcast=kept)
        return (now,)

    return Expression((names[0],), (names[1],), checked(sizes, plain) | groups, build)


def _count(net: Building, axes: Sequence[str]) -> sympy.Expr:
    return sympy.Mul(*(resolved(a, net.sizes) for a in axes))
