"""Einsum over names of axes: `y k, x k -> y x`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, reduce

import sympy
import torch
from jaxtyping import Float
from torch import Tensor

from nissl.errors import DiagramError

Terms = tuple[tuple[str, ...], ...]


def column(text: str) -> Terms:
    """Types of a column: arrays by commas, axes by spaces. The empty text is one scalar.

    Examples
    --------
    >>> column("y k h, x")
    (('y', 'k', 'h'), ('x',))
    """
    return tuple(tuple(part.split()) for part in text.split(","))


def written(terms: Iterable[Iterable[str]]) -> str:
    """The text of a column; a scalar among others is written `()`."""
    found = [" ".join(t) for t in terms]
    return ", ".join(t or "()" for t in found)


@lru_cache(maxsize=8192)
def split(equation: str) -> tuple[Terms, tuple[str, ...]]:
    """Terms before the arrow, and the one after it.

    Raises
    ------
    DiagramError
        No arrow, or an axis after it that no term before it has.
    """
    if equation.count("->") != 1:
        raise DiagramError(f"equation {equation!r} needs one arrow, such as 'y k, x k -> y x'")
    left, right = equation.replace("()", "").split("->")
    terms, out = column(left), tuple(right.split())
    for axis in out:
        if not any(axis in t for t in terms):
            raise DiagramError(f"equation {equation!r} has {axis!r} after the arrow only")
    return terms, out


def join(terms: Iterable[Iterable[str]], out: Iterable[str]) -> str:
    """The text of an equation."""
    return f"{written(terms)} -> {' '.join(out) or '()'}"


def renamed(equation: str, names: Mapping[str, str]) -> str:
    """The same equation over other names."""
    terms, out = split(equation)
    return join(([names.get(a, a) for a in t] for t in terms), [names.get(a, a) for a in out])


def einsum(equation: str, tensors: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, "..."]:
    """`torch.einsum` over names of axes.

    Examples
    --------
    >>> einsum("y k, x k -> y x", [torch.ones(2, 3), torch.ones(4, 3)]).shape
    torch.Size([2, 4])
    """
    terms, out = split(equation)
    if len(terms) != len(tensors):
        raise DiagramError(f"equation {equation!r} takes {len(terms)} arrays; given {len(tensors)}")
    if len({t.dtype for t in tensors}) > 1:  # a unit is made without knowing what it will meet
        wide = reduce(torch.promote_types, (t.dtype for t in tensors))
        tensors = [t.to(wide) for t in tensors]
    number: dict[str, int] = {}
    operands: list[object] = []
    for term, tensor in zip(terms, tensors, strict=True):
        if len(term) != tensor.ndim:
            raise DiagramError(
                f"an array of shape {tuple(tensor.shape)} stands where {equation!r} has {' '.join(term)!r}"
            )
        operands += [tensor, [number.setdefault(a, len(number)) for a in term]]
    return torch.einsum(*operands, [number[a] for a in out])  # type: ignore[arg-type]


def products(equation: str, size: Callable[[str], sympy.Expr]) -> tuple[sympy.Expr, sympy.Expr]:
    """Its cost: products and sums, two a multiply-add, and steps of arithmetic where nothing is summed over a product.

    Sizes of all distinct axes are multiplied, each counted once, also those along which it is merely broadcast. A product of
    which nothing is summed counts as elementwise, as torch's counter has it.
    """
    terms, out = split(equation)
    axes = list(dict.fromkeys(a for t in terms for a in t))
    every = sympy.Mul(*(size(a) for a in axes))
    if len(terms) > 1 and set(axes) - set(out):
        return 2 * every * (len(terms) - 1), sympy.Integer(0)
    moved = len(terms) == 1 and not set(axes) - set(out)
    return sympy.Integer(0), sympy.Integer(0) if moved else every
