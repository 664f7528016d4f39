"""How is it wired? Neural circuit diagrams of networks, wiring diagrams of systems."""

from importlib import import_module
from typing import Any

from nissl.diagrams.circuit import Array, Box, CircuitDiagram, Operation, Ref
from nissl.diagrams.deriving import circuit

# What is opened when it is first asked for: the file of each name, and files that are asked for themselves.
_LATER = {
    "Expression": "expressions",
    "Memory": "memory",
    "backward": "derivative",
    "collapse": "folding",
    "compile_diagram": "program",
    "degree": "cost",
    "draw": "drawing",
    "expand": "folding",
    "flops": "cost",
    "folded": "folding",
    "from_json": "text",
    "gradients": "derivative",
    "highlight": "folding",
    "save": "drawing",
    "simplified": "simplifying",
    "to_depth": "folding",
    "to_html": "drawing",
    "to_json": "text",
    "to_latex": "text",
    "to_svg": "drawing",
    "to_text": "text",
}
_FILES = ("architectures", "cost", "drawing", "expressions", "folding", "memory", "program", "text", "wiring")


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"nissl.diagrams.{_LATER[name]}"), name)
    if name in _FILES:
        return import_module(f"nissl.diagrams.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER, *_FILES])


__all__ = ["Array", "Box", "CircuitDiagram", "Operation", "Ref", "circuit"]
