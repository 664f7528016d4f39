"""One pass that learns what every site looks like."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nissl.errors import InputError, ModelError, NisslError
from nissl.models.inputs import Inputs
from nissl.models.outputs import main_tensor
from nissl.models.sites import Site, Visit
from nissl.models.taps import axes, muted, tap

if TYPE_CHECKING:
    from nissl.models.model import Model


def trace(model: Model, inputs: Inputs) -> None:
    """Run one sample through the whole network, undisturbed, and note shape, axes and number of calls of every site.

    Raises
    ------
    InputError
        The network cannot take such an input.
    ModelError
        The output is NaN; the message names the weights or the module where it begins.
    """
    calls: Counter[str] = Counter()
    seen: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {}
    broken: list[str] = []
    visits: list[Visit] = []
    handles = []

    def watch(path: str):
        def hook(module: torch.nn.Module, args: tuple, output: object) -> None:
            value, given = main_tensor(output), main_tensor(args)
            visits.append(
                Visit(
                    path,
                    calls[path],
                    None if given is None else tuple(given.shape),
                    None if value is None else tuple(value.shape),
                )
            )
            calls[path] += 1
            if value is not None:
                seen[path] = axes(model.sites.modules[path], value, module), tuple(value.shape)
                if not broken and value.is_floating_point() and not torch.isfinite(value).all():
                    broken.append(path)

        return hook

    for path, module in model.module.named_modules():
        if path:
            handles.append(module.register_forward_hook(watch(path)))
    try:
        with torch.no_grad(), model.evaluating(), muted():
            output = main_tensor(model.forward(inputs))
    except NisslError:
        raise
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        shape = tuple(inputs.main.shape)
        raise InputError(f"{model.name!r} cannot take an input of shape {shape}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()

    if output is not None and output.is_floating_point() and torch.isnan(output).any():
        raise ModelError(_where_broken(model, broken))
    model.sites.visits[:] = visits
    for path in model.sites.modules:
        dims, shape = seen.get(path, (None, None))
        model.sites.learn(path, calls=calls[path], dims=dims, shape=shape)
    if output is not None and "logits" in model.sites.canonical:
        logits = model.sites.canonical["logits"]
        model.sites.learn("logits", calls=1, dims=axes(logits, output), shape=tuple(output.shape))
    _learn_canonical(model, seen, inputs)


def _learn_canonical(model: Model, seen: dict, inputs: Inputs) -> None:
    """Shapes of the canonical sites; the large ones (heads, pattern) follow from the small ones."""
    names = [s.name for s in model.sites.canonical.values() if s.port in ("input", "query", "key", "value")]
    shapes: dict[str, tuple[int, ...]] = {}

    def note(value: Tensor, site: Site) -> None:
        shapes[site.name] = tuple(value.shape)

    if names:
        with torch.no_grad(), model.evaluating(), tap(model, dict.fromkeys(names, note)):
            model.forward(inputs)
    for site in list(model.sites.canonical.values()):
        if site.port == "output" and site.module in seen:
            shapes[site.name] = seen[site.module][1]
        elif site.port == "heads" and site.module in seen:
            query, out = shapes[f"query.{site.layer}"], seen[site.module][1]
            shapes[site.name] = (*query[:3], out[-1])
        elif site.port == "pattern":
            query, key = shapes[f"query.{site.layer}"], shapes[f"key.{site.layer}"]
            shapes[site.name] = (query[0], query[2], query[1], key[1])
        if site.name in shapes:
            model.sites.learn(site.name, shape=shapes[site.name])


def _where_broken(model: Model, broken: list[str]) -> str:
    for name, weight in [*model.module.named_parameters(), *model.module.named_buffers()]:
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            return f"the weights {name!r} of {model.name!r} hold NaN or infinite numbers; load a sound checkpoint"
    where = f" from module {broken[0]!r} on" if broken else ""
    return f"{model.name!r} gives NaN{where} though its weights are finite; try a wider dtype (float32)"
