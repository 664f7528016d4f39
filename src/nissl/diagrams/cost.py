"""What a diagram costs, read off its wires.

A product costs two a multiply-add, over the sizes of all distinct wires that it touches or runs along, as torch's own counter has
it; products with a vector and bilinear maps, which that counter leaves out, cost the same way. Steps of arithmetic at each index by itself are kept apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import pandas as pd
import sympy

from nissl.diagrams._sizes import at_example
from nissl.diagrams.circuit import CircuitDiagram, Operation
from nissl.errors import InputError, unknown

By = Literal["operation", "module", "kind"]


def flops(diagram: CircuitDiagram, by: By | None = None) -> sympy.Expr | pd.DataFrame:
    """Operations of all products and sums.

    Parameters
    ----------
    diagram
        What to count.
    by
        A row each `operation`, `module` or `kind`; one total where None.

    Returns
    -------
    sympy.Expr or pandas.DataFrame
        The total in the free sizes. Or a table: `name`, `module`, `kind`, `equation` (of operations), `flops`, `elementwise`
        (both in the free sizes), `example` (flops at the sizes that were traced, whole numbers), and a column `degree SYMBOL` for
        every free size.

    Raises
    ------
    InputError
        Another `by`.

    Examples
    --------
    >>> from nissl.diagrams.expressions import broadcast, linear
    >>> diagram = broadcast(linear("m -> k", "w", m=8, k=5), "b").diagram(b=21)
    >>> flops(diagram)
    80*b
    >>> flops(diagram, by="operation")[["equation", "example", "degree b"]].values.tolist()
    [['b m, k m -> b k', 1680, 1]]

    References
    ----------
    Abbott 2024, "Neural Circuit Diagrams", section on analysis.
    """
    if by is None:
        return total(o.flops for o in diagram.operations)
    if by not in ("operation", "module", "kind"):
        raise InputError(f"by={by!r}; allowed: operation, module, kind")
    groups: dict[str, list[Operation]] = {}
    for operation in diagram.operations:
        groups.setdefault(operation.name if by == "operation" else getattr(operation, by), []).append(operation)
    symbols = diagram.symbols()
    rows = []
    for key, operations in groups.items():
        found, steps = total(o.flops for o in operations), total(o.elementwise for o in operations)
        row = {by if by != "operation" else "name": key}
        if by == "operation":
            (one,) = operations
            row |= {"module": one.module, "kind": one.kind, "equation": one.equation}
        row |= {"flops": found, "elementwise": steps, "example": at_example(diagram, found)}
        rows.append(row | {f"degree {s}": degree_in(found, s) for s in symbols})
    return pd.DataFrame(rows)


def degree(diagram: CircuitDiagram, symbol: str, *, module: str = "") -> int:
    """How cost grows with a size: 1 where twice the size costs twice as much, 2 where it costs four times.

    Parameters
    ----------
    diagram
        What to read it from.
    symbol
        A free size: `time`.
    module
        Only what this module and those in it run.

    Raises
    ------
    UnknownNameError
        No such free size, no such module.

    Examples
    --------
    >>> from nissl.diagrams.expressions import contract
    >>> degree(contract("t k, s k -> t s", k=4, s="t").diagram(t=10), "t")
    2
    """
    names = {str(s): s for s in diagram.symbols()}
    if symbol not in names:
        raise unknown("free size", symbol, names, "sizes that were fixed when the diagram was drawn have no degree")
    chosen = [o for o in diagram.operations if inside(o.module, module)]
    if not chosen:
        raise unknown("module", module, sorted({o.module for o in diagram.operations}))
    return degree_in(total(o.flops for o in chosen), names[symbol])


def degree_in(expression: sympy.Expr, symbol: sympy.Symbol) -> int:
    """The highest power of a symbol; what is rounded grows as what it is rounded from."""
    smooth = sympy.sympify(expression).replace(
        lambda e: isinstance(e, (sympy.floor, sympy.ceiling)), lambda e: e.args[0]
    )
    if symbol not in smooth.free_symbols:
        return 0
    return int(sympy.Poly(sympy.expand(smooth), symbol).degree())


def total(expressions: Iterable[sympy.Expr]) -> sympy.Expr:
    """Their sum, equal terms gathered first, which keeps deep networks fast."""
    counts: dict[sympy.Expr, int] = {}
    for expression in expressions:
        counts[expression] = counts.get(expression, 0) + 1
    return sympy.expand(sympy.Add(*(n * sympy.sympify(e) for e, n in counts.items())))


def inside(path: str, module: str) -> bool:
    """Whether a module's path is another or lies in it."""
    plain = path.split("#")[0]
    return not module or path == module or plain == module or plain.startswith(module + ".")
