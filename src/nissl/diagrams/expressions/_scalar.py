"""Small readers for expressions: what a function of numbers does, and which axes are bound."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from nissl.errors import DiagramError


@dataclass(frozen=True)
class Operand:
    """In the steps of a function, an earlier value: its inputs first, then the steps in order."""

    place: int


def scalar_steps(function: Callable[..., torch.Tensor], n_inputs: int) -> list[tuple[str, str, tuple[Any, ...]]]:
    """What a function does to numbers: symbol, torch operator and arguments of each step.

    Raises
    ------
    DiagramError
        It makes arrays of its own, gives several, or does what is not arithmetic at one index.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    # A 2 x 2 example is enough to be traced; what is recorded must not depend on it.
    graph = make_fx(function)(*(torch.rand(2, 2) + 0.25 for _ in range(n_inputs))).graph
    known: dict[Any, Operand] = {}
    steps: list[tuple[str, str, tuple[Any, ...]]] = []
    for node in graph.nodes:
        if node.op == "placeholder":
            known[node] = Operand(len(known))
        elif node.op == "call_function":
            if torch.Tag.pointwise not in node.target.tags:
                raise DiagramError(f"{function} is not elementwise: it runs {node.target}")
            name = node.target._schema.name.split("::")[1]
            overload = node.target._overloadname or "default"
            if node.kwargs:
                raise DiagramError(
                    f"{function} runs {node.target} with named arguments {dict(node.kwargs)}; give it without"
                )
            arguments = tuple(known[a] if isinstance(a, torch.fx.Node) else a for a in node.args)
            steps.append((name, f"aten.{name}.{overload}", arguments))
            known[node] = Operand(len(known))
        elif node.op == "output":
            returned = node.args[0]
            if returned not in known or known[returned].place != len(known) - 1:
                raise DiagramError(f"{function} must give one array that it computes")
        else:
            raise DiagramError(f"{function} reads {node.target}, which is not among its arguments")
    return steps


def bound(text: str) -> list[tuple[str, ...]]:
    """Axes of one side of a rearrangement, those in brackets together.

    Examples
    --------
    >>> bound("t (h k)")
    [('t',), ('h', 'k')]
    """
    if not re.fullmatch(r"(\s*(\([^()]+\)|[^\s()]+))*\s*", text):
        raise DiagramError(
            f"{text!r} cannot be read; axes by spaces, those that are bound in one pair of brackets: 't (h k)'"
        )
    return [tuple(part.strip("()").split()) for part in re.findall(r"\([^()]+\)|[^\s()]+", text)]
