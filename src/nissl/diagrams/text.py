"""A diagram as text: one line a column and one an operation, JSON that is read back, and a LaTeX table."""

from __future__ import annotations

import math
from typing import Any

import sympy
import torch

from nissl.diagrams._equations import written
from nissl.diagrams._json import from_json, to_json
from nissl.diagrams.circuit import CircuitDiagram, Operation, Ref
from nissl.errors import DiagramError

__all__ = ["columns", "from_json", "signature", "to_json", "to_latex", "to_text"]


def columns(diagram: CircuitDiagram) -> list[tuple[str, ...]]:
    """Names of the arrays that are held before the first operation and after each: what is read later, or given out.

    Weights are no part of a column.
    """
    last: dict[str, int] = {}
    for step, operation in enumerate(diagram.operations):
        last.update(dict.fromkeys(operation.inputs, step))
    last.update(dict.fromkeys(diagram.outputs, len(diagram.operations)))
    held = dict.fromkeys(n for n in diagram.inputs if n in last)
    found = [tuple(held)]
    for step, operation in enumerate(diagram.operations):
        held |= dict.fromkeys(n for n in operation.outputs if n in last)
        held = {n: None for n in held if last[n] > step}
        found.append(tuple(held))
    return found


def signature(diagram: CircuitDiagram, operation: Operation) -> str:
    """The type of an operation without its weights: `batch time model -> batch time hidden`."""
    data = [n for n in operation.inputs if diagram.arrays[n].role != "parameter"]
    sides = ([diagram.arrays[n].axes for n in names] for names in (data, operation.outputs))
    return " -> ".join(written(s) or "()" for s in sides)


def to_text(diagram: CircuitDiagram) -> str:
    """All of a diagram in lines that a person can read and a program can follow.

    First its axes and arrays that come from outside; then, from left to right, a column of data as its arrays' axes (indented),
    and an operation as what it makes, what it takes, and what it does: an equation over names of axes, or one of torch's
    operators with its arguments.

    Examples
    --------
    >>> from nissl.diagrams.expressions import linear, softmax
    >>> print(to_text((linear("m -> k", "w", m=3, k=2) @ softmax("k")).diagram("choice")))
    diagram choice
    axis m = 3
    axis k = 2
    input x: m, float32
    weight w.weight: k m, float32
    <BLANKLINE>
        m
    w: k, float32 <- x, w.weight :: linear m, k m -> k
        k
    softmax: k, float32 <- w :: aten.softmax.int(ref('w'), 0, None)
        k
    <BLANKLINE>
    output softmax
    """
    lines = [f"diagram {diagram.name}"]
    for name, axis in diagram.axes.items():
        size = diagram.size(name)
        lines.append(f"axis {name} = {size}" + ("" if size.is_Integer else f" ({axis.size})"))
    made = {n for o in diagram.operations for n in o.outputs}
    for name, array in diagram.arrays.items():
        if name in diagram.inputs or name not in made:
            kind = "input" if name in diagram.inputs else "weight" if array.role == "parameter" else "constant"
            lines.append(f"{kind} {_typed(diagram, name)}")
    lines += [f"note {note}" for note in diagram.notes]
    lines.append("")
    held = columns(diagram)
    lines.append("    " + _types(diagram, held[0]))
    for operation, names in zip(diagram.operations, held[1:], strict=True):
        outputs = "; ".join(_typed(diagram, n) for n in operation.outputs)
        lines.append(f"{outputs} <- {', '.join(operation.inputs)} :: {_body(diagram, operation)}")
        lines.append("    " + _types(diagram, names))
    return "\n".join([*lines, "", *(f"output {n}" for n in diagram.outputs)])


def to_latex(diagram: CircuitDiagram) -> str:
    r"""A table (booktabs) of operations: name, type, axes acted on, axes that end, cost.

    Examples
    --------
    >>> from nissl.diagrams.expressions import linear
    >>> print(to_latex(linear("m -> k", "w", m=3, k=2).diagram()).splitlines()[3])
    w & $m \to k$ &  & $m$ & $12$ \\
    """
    rows = []
    for operation in diagram.operations:
        before, _, after = signature(diagram, operation).partition(" -> ")
        cells = [_escaped(operation.name)]
        cells.append(f"${_mathematical(before)} \\to {_mathematical(after)}$")
        cells += [f"${_mathematical(' '.join(a))}$" if a else "" for a in (operation.acted, operation.contracted)]
        cells.append(f"${sympy.latex(operation.flops)}$" if operation.flops != 0 else "")
        rows.append(" & ".join(cells) + r" \\")
    head = r"operation & type & acts on & ends & FLOPs \\"
    return "\n".join([r"\begin{tabular}{lllll}", head, r"\midrule", *rows, r"\end{tabular}"])


def _typed(diagram: CircuitDiagram, name: str) -> str:
    array = diagram.arrays[name]
    return f"{name}: {' '.join(array.axes) or '()'}, {array.dtype}"


def _types(diagram: CircuitDiagram, names: tuple[str, ...]) -> str:
    return written(diagram.arrays[n].axes for n in names) or "()"


def _body(diagram: CircuitDiagram, operation: Operation) -> str:
    if operation.kind in ("linear", "contraction") and operation.equation:
        return f"{operation.kind} {operation.equation}"
    if not operation.target:
        moved = operation.kind == "rearrangement"
        return f"rearrangement {signature(diagram, operation)}" if moved else f"{operation.kind} {operation.symbol}"
    arguments = [_literal(a) for a in operation.arguments]
    arguments += [f"{k}={_literal(v)}" for k, v in operation.options.items()]
    return f"{operation.target}({', '.join(arguments)})"


def _literal(value: Any) -> str:
    match value:
        case Ref(array=name):
            return f"ref({name!r})"
        case sympy.Basic():
            return str(value)
        case tuple():
            return f"({', '.join(map(_literal, value))}{',' if len(value) == 1 else ''})"
        case list():
            return f"[{', '.join(map(_literal, value))}]"
        case float() if not math.isfinite(value):
            return f"float({str(value)!r})"
        case torch.device():
            return f"device({str(value)!r})"
        case torch.Tensor():
            return f"tensor({value.tolist()!r})"
        case (
            torch.dtype() | torch.layout() | torch.memory_format() | None | bool() | int() | float() | str() | complex()
        ):
            return repr(value) if isinstance(value, str) else str(value)
    raise DiagramError(f"an argument of type {type(value).__name__} cannot be written down: {value!r}")


def _escaped(text: str) -> str:
    replaced = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(replaced.get(c) or (f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def _mathematical(names: str) -> str:
    """Names of axes: letters as they are, words upright."""
    parts = []
    for array in names.split(", "):
        axes = array.split()
        parts.append(r"\,".join(a if len(a) == 1 else rf"\mathrm{{{_escaped(a)}}}" for a in axes))
    return ",\\; ".join(parts)
