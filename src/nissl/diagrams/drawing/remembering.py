"""Draw a module, and remember what was derived while it stays the same."""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from nissl.diagrams.circuit import CircuitDiagram
from nissl.diagrams.drawing.picture import save, to_svg

KEPT = 4  # diagrams of one module
_known: WeakKeyDictionary[nn.Module, dict[Any, tuple[CircuitDiagram, dict[Any, str]]]] = WeakKeyDictionary()
_BOOKKEEPING = frozenset(vars(nn.Module())) - {"training", "_forward_hooks", "_forward_pre_hooks"}
_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device, types.CodeType)


class _UnseenError(Exception):
    """Something whose changes could not be seen."""


def draw(
    model: Any,
    inputs: Any = None,
    *,
    axes: str | Mapping[str, str] | None = None,
    to: str | Path | None = None,
    training: bool = False,
    simplified: bool = True,
    fresh: bool = False,
    **options: Any,
) -> str | Path:
    """Derive the circuit diagram of a network and draw it.

    Parameters
    ----------
    model, inputs, axes, training, simplified
        As `nissl.diagrams.circuit` takes them.
    to
        A file to write, see `save`; None returns the SVG.
    fresh
        Derive it anew, whatever is remembered.
    **options
        As `to_svg` takes them: `depth`, `fold`, `theme`, `costs`, `highlight`, `width`.

    Returns
    -------
    str or Path
        The SVG, or where the file is.

    Notes
    -----
    A module that was drawn before is not traced again while nothing changed that a trace could see: the classes and the code of
    their `forward`, hooks, every attribute, mode, shapes and types of all weights and inputs. A diagram that followed a branch on
    values is never remembered, nor is one of a module that holds something whose changes cannot be seen. What this does not
    see is a function outside the module's classes that is replaced while the program runs: give `fresh=True` then.

    Examples
    --------
    >>> import torch
    >>> from nissl.diagrams.drawing import draw
    >>> layer = torch.nn.Linear(3, 2)
    >>> draw(layer, (5, 3)) == draw(layer, (5, 3))
    True
    """
    diagram, pictures = _derived(model, inputs, axes, training, simplified, fresh)
    if to is not None:
        return save(diagram, to, **options)
    key = tuple(sorted((k, repr(v)) for k, v in options.items()))
    if key not in pictures:
        pictures[key] = to_svg(diagram, **options)
    return pictures[key]


def _derived(
    model: Any, inputs: Any, axes: Any, training: bool, simplified: bool, fresh: bool
) -> tuple[CircuitDiagram, dict[Any, str]]:
    from nissl.diagrams.deriving import circuit

    key = _key(model, inputs, axes, training, simplified)
    if key is not None and not fresh and key in _known.get(model, {}):
        return _known[model][key]
    diagram = circuit(model, inputs, axes=axes, training=training, simplified=simplified)
    pictures: dict[Any, str] = {}
    if key is not None and diagram.complete and not any("branch" in n for n in diagram.notes):
        kept = _known.setdefault(model, {})
        kept[key] = (diagram, pictures)
        while len(kept) > KEPT:
            kept.pop(next(iter(kept)))
    return diagram, pictures


def _key(model: Any, inputs: Any, *rest: Any) -> tuple[Any, ...] | None:
    """All that a trace of a module could see; None where that cannot be known."""
    if not isinstance(model, nn.Module):
        return None
    seen: dict[int, Any] = {}
    try:
        parts = [_module(name, m, seen) for name, m in model.named_modules(remove_duplicate=False)]
        return (tuple(parts), _state(inputs, seen), *(_state(r, seen) for r in rest))
    except _UnseenError:
        return None


def _module(name: str, module: nn.Module, seen: dict[int, Any]) -> tuple[Any, ...]:
    held = vars(module)
    tensors = tuple((k, _state(t, seen)) for group in ("_parameters", "_buffers") for k, t in held[group].items())
    own = tuple((k, _state(v, seen)) for k, v in held.items() if k not in _BOOKKEEPING)
    code = getattr(type(module).forward, "__code__", None)
    # id: one module in two places is not two modules that look alike
    return (name, id(module), type(module), code, tensors, own)


def _state(value: Any, seen: dict[int, Any]) -> Any:
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, Tensor):
        return "tensor", tuple(value.shape), value.dtype, value.device, value.requires_grad
    if isinstance(value, np.generic):
        return type(value), value.item()
    if isinstance(value, (tuple, list)):
        return type(value), tuple(_state(v, seen) for v in value)
    if isinstance(value, Mapping):
        return type(value), tuple((_state(k, seen), _state(v, seen)) for k, v in value.items())
    if isinstance(value, (set, frozenset)):
        return type(value), frozenset(_state(v, seen) for v in value)
    if isinstance(value, type):
        return value
    if isinstance(value, types.MethodType):
        return "method", value.__func__.__code__ if hasattr(value.__func__, "__code__") else value.__func__
    if isinstance(value, types.FunctionType):
        cells = tuple(_state(c.cell_contents, seen) for c in value.__closure__ or ())
        return "function", value.__code__, cells
    if isinstance(value, types.BuiltinFunctionType):
        return "builtin", value.__module__, value.__qualname__
    if isinstance(value, nn.Module) or not hasattr(value, "__dict__"):
        raise _UnseenError
    if id(value) not in seen:  # settings such as a configuration, which many modules share
        seen[id(value)] = ("within itself", type(value))
        seen[id(value)] = (type(value), tuple((k, _state(v, seen)) for k, v in vars(value).items()))
    return seen[id(value)]
