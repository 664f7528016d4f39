"""A second reading of diagrams, from their text alone: it shares no code with what writes them or compiles them.

If a network can be built again from the lines that a person reads, nothing was left out of them.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from nissl.errors import DiagramError

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_FUNCTIONS = {"floor": math.floor, "ceiling": math.ceil, "Max": max, "Min": min, "Mod": lambda a, b: a % b}


def run_text(text: str, inputs: Sequence[Tensor], weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Run a network as its text says.

    Parameters
    ----------
    text
        As `to_text` writes it.
    inputs
        In the order in which the text names them.
    weights
        Weights and buffers by path.

    Raises
    ------
    DiagramError
        A line that cannot be read.
    """
    reader = _Reader(text.splitlines(), inputs, weights)
    for line in reader.steps:
        reader.step(line)
    return [reader.values[name] for name in reader.outputs]


class _Reader:
    def __init__(self, lines: list[str], inputs: Sequence[Tensor], weights: Mapping[str, Tensor]) -> None:
        self.values: dict[str, Any] = {}
        self.axes: dict[str, list[str]] = {}
        self.sizes: dict[str, str] = {}
        self.symbols: dict[str, int] = {}
        self.steps = [x for x in lines if " <- " in x and " :: " in x]
        self.outputs = [x.removeprefix("output ") for x in lines if x.startswith("output ")]
        given = iter(inputs)
        for line in lines:
            if found := re.fullmatch(r"axis (\S+) = (.+?)( \(\d+\))?", line):
                self.sizes[found[1]] = found[2]
            elif found := re.fullmatch(r"(input|weight|constant) (\S+): (.+), (\w+)", line):
                name = found[2]
                self.values[name] = next(given) if found[1] == "input" else weights.get(name)
                self.axes[name] = _names(found[3])
        for name, axes in self.axes.items():
            value = self.values[name]
            for axis, size in zip(axes, value.shape if isinstance(value, Tensor) else (), strict=False):
                if self.sizes[axis].isidentifier():
                    self.symbols.setdefault(self.sizes[axis], size)

    def step(self, line: str) -> None:
        left, body = line.split(" :: ", 1)
        makes, takes = left.split(" <- ", 1)
        names = []
        for part in makes.split("; "):
            name, rest = part.split(": ", 1)
            names.append(name)
            self.axes[name] = _names(rest.rsplit(", ", 1)[0])
        operands = [n for n in takes.split(", ") if n]
        kind, _, rest = body.partition(" ")
        if kind in ("linear", "contraction"):
            result: Any = self._einsum(rest, operands)
        elif kind == "rearrangement":
            result = self._moved(operands[0], names[0])
        else:
            result = self._called(body)
        results = result if isinstance(result, (tuple, list)) else [result]
        self.values.update(zip(names, results, strict=False))

    def _einsum(self, equation: str, operands: list[str]) -> Tensor:
        left, right = equation.split(" -> ")
        terms, out = [_names(t) for t in left.split(", ")], _names(right)
        letter = {a: _LETTERS[i] for i, a in enumerate(dict.fromkeys(a for t in terms for a in t))}
        written = ",".join("".join(letter[a] for a in t) for t in terms) + "->" + "".join(letter[a] for a in out)
        result = torch.einsum(written, *(self.values[n] for n in operands[: len(terms)]))
        for name in operands[len(terms) :]:  # a bias: along the axes of its names, or the last ones
            own = self.axes[name]
            at = [out.index(a) for a in own] if set(own) <= set(out) else range(len(out) - len(own), len(out))
            shape = [1] * len(out)
            for place, size in zip(at, self.values[name].shape, strict=True):
                shape[place] = size
            result = result + self.values[name].reshape(shape)
        return result

    def _moved(self, before: str, after: str) -> Tensor:
        value, old, new = self.values[before], self.axes[before], self.axes[after]
        if sorted(old) == sorted(new):
            return value.permute([old.index(a) for a in new])
        return value.reshape([self._size(ast.parse(self.sizes[a], mode="eval").body) for a in new])

    def _called(self, body: str) -> Any:
        tree = ast.parse(body, mode="eval").body
        if not isinstance(tree, ast.Call):
            raise DiagramError(f"{body!r} is no call of an operator")
        target = ast.unparse(tree.func)
        arguments = [self._argument(a) for a in tree.args]
        options = {str(k.arg): self._argument(k.value) for k in tree.keywords}
        if target == "nissl.steps":
            return _chain(*arguments)
        return _operator(target)(*arguments, **options)

    def _argument(self, node: ast.AST) -> Any:
        match node:
            case ast.Call(func=ast.Name(id="ref"), args=[ast.Constant(value=str() as name)]):
                return self.values[name]
            case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str() as text)]):
                return float(text)
            case ast.Call(func=ast.Name(id="device"), args=[ast.Constant(value=str() as text)]):
                return torch.device(text)
            case ast.Call(func=ast.Name(id="tensor"), args=[inner]):
                return torch.tensor(ast.literal_eval(inner))
            case ast.Attribute(value=ast.Name(id="torch"), attr=name):
                return getattr(torch, name)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return [self._argument(i) for i in items]
            case ast.Constant(value=str() as text) if text.startswith("torch."):
                return getattr(torch, text.removeprefix("torch."))
            case ast.Constant(value=value) if not isinstance(value, int) or isinstance(value, bool):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=float() as value)):
                return -value
        return self._size(node)

    def _size(self, node: ast.AST) -> int:
        found = self._number(node)
        return int(found)

    def _number(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=int() as value):
                return Fraction(value)
            case ast.Name(id=name) if name in self.symbols:
                return Fraction(self.symbols[name])
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -self._number(inner)
            case ast.BinOp(left=left, op=op, right=right):
                a, b = self._number(left), self._number(right)
                match op:
                    case ast.Add():
                        return a + b
                    case ast.Sub():
                        return a - b
                    case ast.Mult():
                        return a * b
                    case ast.Div():
                        return a / b
                    case ast.Pow():
                        return a ** int(b)
            case ast.Call(func=ast.Name(id=name), args=items) if name in _FUNCTIONS:
                return Fraction(_FUNCTIONS[name](*(self._number(i) for i in items)))
        raise DiagramError(f"{ast.unparse(node)!r} is no size")


def _names(text: str) -> list[str]:
    return [] if text.strip() == "()" else text.split()


def _operator(target: str) -> Any:
    space, name, *overload = target.split(".")
    packet = getattr(getattr(torch.ops, space), name)
    return getattr(packet, overload[0] if overload else "default")


def _chain(steps: Any, result: str) -> Any:
    """Operators one after another; `%name` is what an earlier one made."""
    known: dict[str, Any] = {}

    def put(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("%"):
            return known[value[1:]]
        return [put(v) for v in value] if isinstance(value, list) else value

    for names, target, arguments, options in steps:
        given, named = put(arguments), {k: put(v) for k, v in options}
        made = (
            torch.tensor(given[0], **named) if target == "aten.tensor.default" else _operator(target)(*given, **named)
        )
        known.update(zip(names, made if isinstance(made, (tuple, list)) else [made], strict=False))
    return known[result]
