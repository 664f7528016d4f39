"""Diagrams to JSON and back. What is read is data: sizes are parsed by a small grammar, and nothing of it is run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import sympy
import torch

from nissl.axes import Axis
from nissl.diagrams._sizes import parse, parse_relation, relation_text
from nissl.diagrams.circuit import Array, Box, CircuitDiagram, Operation, Ref
from nissl.errors import DiagramError

VERSION = 1
_ASSUMPTIONS = ("integer", "positive", "nonnegative", "real")


def to_json(diagram: CircuitDiagram) -> str:
    """All of a diagram; `from_json` reads it back.

    Examples
    --------
    >>> from nissl.diagrams.expressions import linear
    >>> diagram = linear("m -> k", "w", m=3).diagram(k=2)
    >>> from_json(to_json(diagram)) == diagram
    True
    """
    symbols = sorted(_symbols(diagram), key=str)
    for s in symbols:
        if not str(s).isidentifier():
            raise DiagramError(f"the free size {str(s)!r} is no plain word and cannot be written down; rename its axis")
    data = {
        "nissl diagram": VERSION,
        "name": diagram.name,
        "symbols": {str(s): [a for a in _ASSUMPTIONS if s.assumptions0.get(a)] for s in symbols},
        "axes": {n: _axis(a) for n, a in diagram.axes.items()},
        "sizes": {n: str(s) for n, s in diagram.sizes.items()},
        "arrays": {n: _plain(a) for n, a in diagram.arrays.items()},
        "operations": [_plain(o) for o in diagram.operations],
        "inputs": list(diagram.inputs),
        "outputs": list(diagram.outputs),
        "boxes": {p: _plain(b) for p, b in diagram.boxes.items()},
        "feedback": sorted(diagram.feedback),
        "notes": list(diagram.notes),
        "complete": diagram.complete,
        "guards": [[relation_text(g), line] for g, line in diagram.guards],
    }
    return json.dumps(data, ensure_ascii=False)


def from_json(text: str) -> CircuitDiagram:
    """The diagram that `to_json` wrote.

    Raises
    ------
    DiagramError
        No JSON, not of this form, or a size that holds anything but arithmetic.
    """
    try:
        data = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise DiagramError(f"this is no diagram in JSON: {error}") from None
    if not isinstance(data, dict) or data.get("nissl diagram") != VERSION:
        raise DiagramError(f"this is no diagram; allowed: JSON that to_json wrote, 'nissl diagram': {VERSION}")
    try:
        symbols = {n: sympy.Symbol(n, **dict.fromkeys(_allowed(a), True)) for n, a in data["symbols"].items()}
        return CircuitDiagram(
            data["name"],
            {n: _axis_back(a) for n, a in data["axes"].items()},
            {n: Array(**{**a, "axes": tuple(a["axes"])}) for n, a in data["arrays"].items()},
            tuple(_operation_back(o, symbols) for o in data["operations"]),
            tuple(data["inputs"]),
            tuple(data["outputs"]),
            {n: parse(s, symbols) for n, s in data["sizes"].items()},
            {p: Box(**b) for p, b in data["boxes"].items()},
            frozenset(data["feedback"]),
            tuple(data["notes"]),
            data["complete"],
            tuple((parse_relation(g, symbols), str(line)) for g, line in data.get("guards", ())),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DiagramError):
            raise
        raise DiagramError(f"this diagram lacks a part, or has one of another form: {error!r}") from None


def _symbols(diagram: CircuitDiagram) -> set[sympy.Symbol]:
    found: set[Any] = set()

    def look(value: Any) -> None:
        if isinstance(value, sympy.Basic):
            found.update(value.free_symbols)
        elif isinstance(value, Mapping):
            for v in value.values():
                look(v)
        elif isinstance(value, (tuple, list)):
            for v in value:
                look(v)

    look((diagram.sizes, diagram.guards))
    for o in diagram.operations:
        look((o.flops, o.elementwise, o.arguments, o.options))
    return found


def _axis(axis: Axis) -> dict[str, Any]:
    found: dict[str, Any] = {"size": axis.size, "name": axis.name, "unit": axis.unit, "period": axis.period}
    for what in ("points", "weights"):
        values = getattr(axis, what)
        found[what] = None if values is None else values.tolist()
    return found


def _axis_back(data: Mapping[str, Any]) -> Axis:
    points, weights = (None if data[k] is None else np.asarray(data[k], float) for k in ("points", "weights"))
    return Axis(data["name"], data["size"], data["unit"], points, weights, data["period"])


def _plain(item: Any) -> dict[str, Any]:
    """The fields of a part that are not as they are by default."""
    found = {}
    for f in fields(item):
        value = getattr(item, f.name)
        if f.name == "options":
            found[f.name] = {k: _coded(v) for k, v in value.items()}
        elif f.name == "arguments":
            found[f.name] = [_coded(v) for v in value]
        elif isinstance(value, sympy.Basic):
            found[f.name] = str(value)
        else:
            found[f.name] = list(value) if isinstance(value, tuple) else value
    return found


def _operation_back(data: Mapping[str, Any], symbols: Mapping[str, sympy.Symbol]) -> Operation:
    rest: dict[str, Any] = dict(data)
    for name in ("flops", "elementwise"):
        rest[name] = parse(rest[name], symbols)
    rest["arguments"] = tuple(_decoded(v, symbols) for v in rest["arguments"])
    rest["options"] = {k: _decoded(v, symbols) for k, v in rest["options"].items()}
    lists: dict[str, Any] = {k: tuple(v) for k, v in rest.items() if isinstance(v, list)}
    return Operation(**{**rest, **lists})


def _coded(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": str(value)}
        case Ref(array=name):
            return {"ref": name}
        case sympy.Basic():
            return {"size": str(value)}
        case tuple():
            return {"tuple": [_coded(v) for v in value]}
        case list():
            return [_coded(v) for v in value]
        case torch.dtype() | torch.layout() | torch.memory_format():
            return {"torch": str(value).removeprefix("torch.")}
        case torch.device():
            return {"device": str(value)}
        case complex():
            return {"complex": [value.real, value.imag]}
        case torch.Tensor():
            return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    raise DiagramError(f"an argument of type {type(value).__name__} cannot be written down: {value!r}")


def _decoded(value: Any, symbols: Mapping[str, sympy.Symbol]) -> Any:
    match value:
        case {"ref": str(name)}:
            return Ref(name)
        case {"size": str(text)}:
            return parse(text, symbols)
        case {"tuple": list(items)}:
            return tuple(_decoded(v, symbols) for v in items)
        case {"float": "inf" | "-inf" | "nan" as text}:
            return float(text)
        case {"torch": str(name)} if isinstance(
            getattr(torch, name, None), (torch.dtype, torch.layout, torch.memory_format)
        ):
            return getattr(torch, name)
        case {"device": str(name)}:
            return torch.device(name)
        case {"complex": [real, imag]}:
            return complex(real, imag)
        case {"tensor": items, "dtype": str(name)} if isinstance(getattr(torch, name, None), torch.dtype):
            return torch.tensor(items, dtype=getattr(torch, name))
        case list():
            return [_decoded(v, symbols) for v in value]
        case None | bool() | int() | float() | str():
            return value
    raise DiagramError(f"an argument {value!r} is of no known form")


def _allowed(assumptions: list[str]) -> list[str]:
    if not set(assumptions) <= set(_ASSUMPTIONS):
        raise DiagramError(f"a free size is said to be {assumptions}; allowed: {', '.join(_ASSUMPTIONS)}")
    return assumptions
