"""Whether the explanation depends on what the network has learned.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps": weights are made random layer by layer, from the output down; a
map that stays the same does not explain the network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import nn

from nissl.errors import InputError, unknown
from nissl.evaluation._maps import flat
from nissl.evaluation.agreement import spearman
from nissl.models import Model, load


def weight_randomisation(
    model: Model | nn.Module,
    explain: Callable[[Model], Any],
    *,
    layers: list[str] | None = None,
    mode: Literal["cascading", "independent"] = "cascading",
    seed: int = 0,
) -> xr.Dataset:
    """How alike explanations stay when layers lose what they have learned.

    Parameters
    ----------
    model
        The network; a copy is changed, never itself.
    explain
        From a network to attributions of fixed inputs, `(sample, ...)`, for example `lambda m: grad_cam(m, pictures,
        "tabby")`. It may raise for a random network (an all-zero map): that counts as similarity 0.
    layers
        Modules to randomise, from the output down; by default all that hold weights, up to eight evenly spaced.
    mode
        `cascading`: each step randomises one layer more. `independent`: one layer at a time.
    seed
        Weights become random by a permutation of their own values, so that their distribution stays.

    Returns
    -------
    xarray.Dataset
        `similarity (layer, sample)`: Spearman's correlation with the original attributions, and `floor (sample)`: that
        between attributions of different samples, below which nothing more is to be lost.

    Raises
    ------
    InputError, UnknownNameError
        A layer without weights, an unknown mode or layer.
    """
    model = load(model)
    if mode not in ("cascading", "independent"):
        raise unknown("mode", mode, ("cascading", "independent"))
    chosen = layers if layers is not None else _layers(model)
    known = {path for path, m in model.module.named_modules() if any(True for _ in m.parameters())}
    for layer in chosen:
        if layer not in known:
            raise unknown("layer with weights", layer, known)
    original = flat(explain(model))
    rows = []
    twin = _twin(model)
    for i, layer in enumerate(chosen):
        if mode == "independent":
            twin = _twin(model)
        _permute(twin.module.get_submodule(layer), seed + i)
        rows.append(_similarity(original, explain, twin))
    floor = spearman(original, np.roll(original, 1, axis=0)) if len(original) > 1 else np.zeros(1)
    return xr.Dataset(
        {"similarity": (("layer", "sample"), np.stack(rows)), "floor": ("sample", floor)},
        {"layer": chosen},
        {"mode": mode},
    )


def randomised(model: Model | nn.Module, *, seed: int = 0) -> Model:
    """A copy of a network whose every weight tensor is permuted: the control that has learned nothing."""
    twin = _twin(load(model))
    _permute(twin.module, seed)
    return twin


def _similarity(original: np.ndarray, explain: Callable[[Model], Any], twin: Model) -> np.ndarray:
    from nissl.errors import ModelError

    try:
        changed = flat(explain(twin))
    except ModelError:
        return np.zeros(len(original))
    if changed.shape != original.shape:
        raise InputError(
            f"explain gave shape {changed.shape} for the random network and {original.shape} for the trained one"
        )
    return spearman(original, changed)


def _twin(model: Model) -> Model:
    return Model(
        copy.deepcopy(model.module),
        name=model.name,
        tokenizer=model.tokenizer,
        processor=model.processor,
        classes=model.classes,
    )


def _permute(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].reshape(weight.shape))


def _layers(model: Model, most: int = 8) -> list[str]:
    """Modules that hold weights of their own, from the output down."""
    own = [
        path for path, m in model.module.named_modules() if path and next(m.parameters(recurse=False), None) is not None
    ][::-1]
    if not own:
        raise InputError(f"{model.name!r} has no weights to randomise")
    return [own[i] for i in np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).astype(int))]
