"""Sizes of axes as expressions: evaluated at given numbers, and read from text without running it."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import sympy

from nissl.diagrams.circuit import CircuitDiagram
from nissl.errors import DiagramError, InputError

LONGEST = 10_000  # characters of an expression; what is longer was not written by this package
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.FloorDiv: lambda a, b: sympy.floor(a / b),
    ast.Mod: lambda a, b: sympy.Mod(a, b),
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "floor": sympy.floor,
    "ceiling": sympy.ceiling,
    "Mod": sympy.Mod,
    "Max": sympy.Max,
    "Min": sympy.Min,
}
_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_NUMBERS: dict[str, Callable[..., Any]] = {
    "Add": lambda *a: sum(a),
    "Mul": lambda *a: math.prod(a),
    "Pow": lambda a, b: a**b if b >= 0 else sympy.Rational(1, a**-b),
    "floor": lambda a: int(sympy.floor(a)),
    "ceiling": lambda a: int(sympy.ceiling(a)),
    "Mod": lambda a, b: a % b,
    "Max": max,
    "Min": min,
}


def evaluate(expression: Any, values: Mapping[sympy.Symbol, int]) -> int:
    """The number that an expression is at given sizes; faster than `subs`, for what sizes are made of.

    Examples
    --------
    >>> t = sympy.Symbol("time")
    >>> evaluate(sympy.floor((t + 1) / 2) * 3, {t: 10})
    15
    """
    if isinstance(expression, int):
        return expression
    found = _value(expression, values)
    if isinstance(found, sympy.Rational):
        if found.q != 1:
            raise DiagramError(f"the size {expression} is {found} here, which is no whole number")
        return int(found.p)
    return int(found)


def _value(expression: Any, values: Mapping[sympy.Symbol, int]) -> Any:
    if isinstance(expression, sympy.Integer):
        return int(expression)
    if isinstance(expression, sympy.Symbol):
        if expression not in values:
            raise DiagramError(
                f"the size {expression} follows from none of the inputs; known: {list(map(str, values))}"
            )
        return values[expression]
    if isinstance(expression, sympy.Rational):
        return expression
    known = _NUMBERS.get(type(expression).__name__)
    if known is None:
        return sympy.sympify(expression).subs(dict(values))
    return known(*(_value(a, values) for a in expression.args))


def at_example(diagram: CircuitDiagram, expression: Any) -> int:
    """The number that an expression is in the example that was traced."""
    return evaluate(expression, diagram.symbols())


def sizes_of(diagram: CircuitDiagram, shapes: Mapping[str, tuple[int, ...]]) -> dict[sympy.Symbol, int]:
    """What the free sizes are, read from the shapes of the inputs.

    Raises
    ------
    InputError
        A shape that the diagram does not allow: the array, the axis, what was given and what is allowed.
    """
    known: dict[sympy.Symbol, int] = {}
    later: list[tuple[str, str, sympy.Expr, int]] = []
    for name, shape in shapes.items():
        axes = diagram.arrays[name].axes
        if len(axes) != len(shape):
            raise InputError(f"{name!r} has shape {tuple(shape)}; the diagram has {len(axes)} axes: {' '.join(axes)}")
        for axis, given in zip(axes, shape, strict=True):
            size = diagram.size(axis)
            if isinstance(size, sympy.Symbol) and size not in known:
                known[size] = given
            else:
                later.append((name, axis, size, given))
    for name, axis, size, given in later:
        missing: list[Any] = [s for s in size.free_symbols if s not in known]
        if len(missing) == 1:
            known_sizes: Any = {s: sympy.Integer(n) for s, n in known.items()}
            left: Any = size.xreplace(known_sizes)
            answers = sympy.solve(left - given, missing[0])
            if answers and sympy.sympify(answers[0]).is_Integer:
                known[missing[0]] = int(answers[0])
        if evaluate(size, known) != given:
            raise InputError(
                f"axis {axis!r} of {name!r} has {given} indices; allowed: {evaluate(size, known)} ({size})"
            )
    for guard, line in diagram.guards:
        if set(guard.free_symbols) <= set(known) and not _holds(guard, known):
            here = ", ".join(f"{s} = {known[s]}" for s in sorted(guard.free_symbols, key=str))
            raise InputError(
                f"{diagram.name} holds for {relation_text(guard)}, which {line} asked; given {here}. Elsewhere the code takes another "
                "way: draw it from an example of that size"
            )
    return known


def _holds(relation: Any, values: Mapping[sympy.Symbol, int]) -> bool:
    return _COMPARED[relation.rel_op](_value(relation.lhs, values), _value(relation.rhs, values))


def relation_text(relation: Any) -> str:
    """A relation of sizes as text, which `parse_relation` reads."""
    return f"{relation.lhs} {relation.rel_op} {relation.rhs}"


def parse_relation(text: str, symbols: Mapping[str, sympy.Symbol]) -> Any:
    """A relation of two sizes from its text; nothing is run.

    Raises
    ------
    DiagramError
        Anything else.

    Examples
    --------
    >>> parse_relation("2*t <= 4", {"t": sympy.Symbol("t")})
    2*t <= 4
    """
    sides = re.split(r"\s(<=|>=|==|!=|<|>)\s", text)
    if len(sides) != 3:
        raise DiagramError(f"{text!r} is no relation of two sizes; allowed: {' '.join(_COMPARED)} between them")
    return sympy.Rel(parse(sides[0], symbols), parse(sides[2], symbols), sides[1])


def parse(text: str, symbols: Mapping[str, sympy.Symbol]) -> sympy.Expr:
    """An expression from its text: whole numbers, known symbols, `+ - * / // % **`, floor, ceiling, Mod, Max, Min. Nothing is run.

    Raises
    ------
    DiagramError
        Anything else.

    Examples
    --------
    >>> parse("2*t**2 + 1", {"t": sympy.Symbol("t")})
    2*t**2 + 1
    >>> parse("__import__('os')", {})
    Traceback (most recent call last):
    ...
    nissl.errors.DiagramError: a size may not hold "__import__('os')": ...
    """
    if len(text) > LONGEST:
        raise DiagramError(f"a size of {len(text)} characters; allowed: {LONGEST}")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DiagramError(f"{text!r} is no size: {error}") from None
    return sympy.sympify(_read(tree.body, text, symbols))


def _read(node: ast.AST, text: str, symbols: Mapping[str, sympy.Symbol]) -> Any:
    match node:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return sympy.Integer(value)
        case ast.Name(id=name) if name in symbols:
            return symbols[name]
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_read(inner, text, symbols)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            a, b = _read(left, text, symbols), _read(right, text, symbols)
            if isinstance(op, ast.Pow) and not (b.is_Integer and abs(b) <= 16):
                raise DiagramError(f"{text!r} has a power of {b}; allowed: whole numbers up to 16")
            return _ARITHMETIC[type(op)](a, b)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_read(a, text, symbols) for a in arguments))
    allowed = f"whole numbers, {', '.join(symbols) or 'no symbols'}, + - * / // % **, {', '.join(_FUNCTIONS)}"
    raise DiagramError(f'a size may not hold "{ast.unparse(node)}": allowed are {allowed}')
