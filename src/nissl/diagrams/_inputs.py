"""An example of what a network takes, and what its axes are called."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nissl.errors import InputError, unknown
from nissl.models import Inputs, Model

Naming = list[tuple[str, int]]  # of every axis its name, and how much it is worth: more than 6 where a user gave it


@dataclass(frozen=True)
class Example:
    """What `trace` runs on.

    Attributes
    ----------
    args, kwargs
        Of the module's forward.
    names
        Of the tensors among them.
    axes
        By name of a tensor: what its axes are called.
    free
        By name of a tensor: axes of free size, and the name of their symbol.
    notes
        What was made up.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    names: list[str]
    axes: dict[str, Naming]
    free: dict[str, dict[int, str]]
    notes: tuple[str, ...] = ()


def prepare(
    module: nn.Module, model: Model | None, inputs: Any, axes: str | Mapping[str, str] | None, dynamic: tuple[str, ...]
) -> Example:
    """Anything a person gives as an example; see `circuit`."""
    notes: tuple[str, ...] = ()
    if inputs is None:
        inputs, notes = _made(module, model), ("the input is made up",)
    elif _is_shape(inputs):
        inputs, notes = _of_shape(module, inputs), ("the input is made up, of the shape given",)
    elif isinstance(inputs, list | tuple) and inputs and all(_is_shape(s) for s in inputs):
        inputs, notes = tuple(_of_shape(module, s) for s in inputs), ("the inputs are made up, of the shapes given",)
    elif model is not None and not isinstance(inputs, Tensor | Mapping | Inputs) and not _has_tensors(inputs):
        inputs = model.prepare(inputs)
    args, kwargs = _arguments(inputs)
    if hasattr(module, "config") and "use_cache" in inspect.signature(module.forward).parameters:
        kwargs.setdefault("use_cache", False)  # what a language model keeps for the next token is no part of this pass
    names = _names(module, args, kwargs)
    leaves = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    if not leaves:
        raise InputError(
            f"no tensor among the inputs ({type(inputs).__name__}); give one, or shapes such as (2, 3, 64, 64)"
        )
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    args, kwargs = pytree.tree_map_only(Tensor, lambda t: t.to(device), (args, kwargs))
    kinds = [_kinds(module, t, i) for i, t in enumerate(leaves)]
    given = _given(axes, names, leaves)
    found: dict[str, Naming] = {}
    free: dict[str, dict[int, str]] = {}
    for i, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        own = given.get(name)
        if own:
            found[name] = [(n, 9) for n in own]
            kind = own
        else:
            found[name] = [(k, 6) if i == 0 or k == "batch" else (f"{name}_{k}".replace(".", "_"), 5) for k in kind]
        free[name] = {}
        for d, k in enumerate(kind):
            if k in dynamic:
                free[name][d] = k if own or i == 0 or k == "batch" else found[name][d][0]
    return Example(args, kwargs, names, found, free, notes)


def _is_shape(x: Any) -> bool:
    return (
        isinstance(x, tuple | list | torch.Size)
        and bool(x)
        and all(isinstance(n, int) and not isinstance(n, bool) for n in x)
    )


def _has_tensors(x: Any) -> bool:
    return any(isinstance(t, Tensor) for t in pytree.tree_leaves(x))


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Inputs):
        return (), dict(inputs.tensors)
    if isinstance(inputs, Mapping):
        return (), {k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    if isinstance(inputs, np.ndarray):
        inputs = torch.as_tensor(inputs)
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def _names(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str]:
    """The parameter of forward that each tensor is given to; tensors within one by number."""
    parameters = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    heads = [parameters[i] if i < len(parameters) else f"input_{i}" for i in range(len(args))]
    found: list[str] = []
    for head, value in [*zip(heads, args, strict=True), *kwargs.items()]:
        leaves = [t for t in pytree.tree_leaves(value) if isinstance(t, Tensor)]
        found += (
            [head] if len(leaves) == 1 and isinstance(value, Tensor) else [f"{head}.{k}" for k in range(len(leaves))]
        )
    return found


def _kinds(module: nn.Module, t: Tensor, index: int) -> list[str]:
    """Names of axes by what sort of array it is."""
    first = next((m for m in module.modules() if not list(m.children()) and list(m.parameters(recurse=False))), None)
    whole = t.is_floating_point() or t.is_complex()
    if t.ndim == 3 and isinstance(first, nn.Conv1d | nn.ConvTranspose1d):
        return ["batch", "channel", "x"]
    if whole and t.ndim in (4, 5):
        return ["batch", "channel", "z", "y", "x"] if t.ndim == 5 else ["batch", "channel", "y", "x"]
    if t.ndim == 3:
        later = getattr(module, "batch_first", True) is False
        return ["time", "batch", "feature"] if later else ["batch", "time", "feature"]
    if t.ndim == 2:
        return ["batch", "feature"] if whole else ["batch", "time"]
    if t.ndim == 1:
        return ["feature"] if whole else ["batch"]
    return ["batch", *(f"axis_{k}" for k in range(1, t.ndim))] if t.ndim else []


def _given(
    axes: str | Mapping[str, str] | None, names: Sequence[str], leaves: Sequence[Tensor]
) -> dict[str, list[str]]:
    if axes is None:
        return {}
    by_name = {names[0]: axes} if isinstance(axes, str) else dict(axes)
    found = {}
    for name, text in by_name.items():
        if name not in names:
            raise unknown("input", name, names)
        own = text.split() if isinstance(text, str) else list(text)
        rank = leaves[names.index(name)].ndim
        if len(own) != rank or len(set(own)) != rank or not all(n.replace("_", "a").isalnum() for n in own):
            raise InputError(
                f"axes {' '.join(own)!r} for {name!r}, which has {rank} axes of sizes "
                f"{tuple(leaves[names.index(name)].shape)}; give {rank} different names of letters, digits and underscores"
            )
        found[name] = own
    return found


def _first_layer(module: nn.Module) -> nn.Module | None:
    return next((m for m in module.modules() if not list(m.children()) and list(m.parameters(recurse=False))), None)


def _dtype(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _of_shape(module: nn.Module, shape: Sequence[int]) -> Tensor:
    if min(shape) < 1:
        raise InputError(f"shape {tuple(shape)}; every axis needs at least one index")
    first = _first_layer(module)
    generator = torch.Generator().manual_seed(0)
    if isinstance(first, nn.Embedding) and len(shape) <= 2:
        return torch.randint(0, first.num_embeddings, tuple(shape), generator=generator)
    return torch.randn(tuple(shape), generator=generator, dtype=_dtype(module))


def _made(module: nn.Module, model: Model | None) -> Any:
    """An input, where the network says what it takes."""
    config = getattr(module, "config", None)
    text = config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config
    main = getattr(module, "main_input_name", "")
    generator = torch.Generator().manual_seed(0)
    if main == "input_ids" and text is not None and getattr(text, "vocab_size", None):
        longest = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or 16
        kwargs: dict[str, Any] = {
            "input_ids": torch.randint(0, text.vocab_size, (2, min(16, longest)), generator=generator)
        }
        if "decoder_input_ids" in inspect.signature(module.forward).parameters:
            kwargs["decoder_input_ids"] = kwargs["input_ids"][:, : min(8, longest)].clone()
        return kwargs
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None)
    if main == "pixel_values" and size:
        y, x = size if isinstance(size, list | tuple) else (size, size)
        shape = (2, getattr(vision, "num_channels", 3), y, x)
        return {"pixel_values": torch.randn(shape, generator=generator, dtype=_dtype(module))}
    if model is not None and model.processor is not None:
        spec = getattr(model.processor, "size", None)
        if isinstance(spec, int):
            return torch.randn((2, 3, spec, spec), generator=generator, dtype=_dtype(module))
    first = _first_layer(module)
    if isinstance(first, nn.Embedding):
        return torch.randint(0, first.num_embeddings, (2, 16), generator=generator)
    if isinstance(first, nn.Linear):
        return torch.randn((2, first.in_features), generator=generator, dtype=first.weight.dtype)
    if isinstance(first, nn.Bilinear | nn.MultiheadAttention) or first is None:
        first = None
    if isinstance(first, nn.RNNBase):
        return torch.randn((2, 8, first.input_size), generator=generator, dtype=_dtype(module))
    channels = getattr(first, "in_channels", None)
    if isinstance(channels, int):
        rank = first.weight.ndim - 2  # type: ignore[union-attr]
        return torch.randn((2, channels, *[64 if rank < 3 else 16] * rank), generator=generator, dtype=_dtype(module))
    raise InputError(
        f"what {type(module).__name__} takes cannot be told from its layers; give an example, or its shape: "
        "inputs=(2, 3, 64, 64), several as inputs=((2, 8), (2, 4))"
    )
