"""Attention as an attribution: raw, and rolled out through the layers.

Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers": the residual stream carries half of what each
layer passes on, so the layers' patterns, averaged over heads and mixed half and half with the identity, are multiplied
from the first layer to the last.
"""

from __future__ import annotations

from typing import Any

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from nissl.attribution._question import Question, answer, ask
from nissl.attribution._spatial import token_grid
from nissl.errors import InputError
from nissl.models import Model, run_until


def attention(model: Model | nn.Module, inputs: Any, target: Any = None, *, layer: int = -1) -> xr.DataArray:
    """How much the reading position attends to each token in one layer, averaged over heads. Does not depend on the
    target.

    Parameters
    ----------
    layer
        Which layer; the last by default.

    Returns
    -------
    xarray.DataArray
        `(position,)` for texts, `(y, x)` on the network's grid of patches for pictures.
    """
    question = ask(model, inputs, target)
    patterns = _patterns(question, [_layers(question)[layer]])
    return _read(question, patterns[0], "attention", layer=layer)


def attention_rollout(model: Model | nn.Module, inputs: Any, target: Any = None) -> xr.DataArray:
    """How much of each token reaches the reading position through all layers. Does not depend on the target."""
    question = ask(model, inputs, target)
    patterns = _patterns(question, _layers(question))
    return _read(question, roll_out(patterns), "attention_rollout")


def roll_out(
    patterns: list[Float[Tensor, "sample position key_position"]],
) -> Float[Tensor, "sample position key_position"]:
    """The product of the layers' patterns, each mixed half and half with the identity; its rows sum to one.

    Examples
    --------
    >>> roll_out([torch.eye(2)[None], torch.full((1, 2, 2), 0.5)]).tolist()
    [[[0.75, 0.25], [0.25, 0.75]]]
    """
    flow = torch.eye(patterns[0].shape[-1], device=patterns[0].device).expand_as(patterns[0])
    for pattern in patterns:
        mixed = 0.5 * pattern + 0.5 * torch.eye(pattern.shape[-1], device=pattern.device)
        flow = mixed / mixed.sum(-1, keepdim=True) @ flow
    return flow


def _layers(question: Question) -> list[str]:
    names = [name for name in question.model.sites.canonical if name.startswith("pattern.")]
    if not names:
        raise InputError(
            f"{question.model.name!r} has no attention patterns; attention methods need a transformer of a known family"
        )
    return names


def _patterns(question: Question, sites: list[str]) -> list[Tensor]:
    """The patterns of the given layers, averaged over heads."""
    kept: dict[str, Tensor] = {}
    with torch.no_grad(), question.model.evaluating():
        run_until(
            question.model,
            question.inputs,
            dict.fromkeys(sites, lambda v, s: kept.__setitem__(s.name, v.float().mean(1))),
        )
    return [kept[name] for name in sites]


def _read(
    question: Question, flow: Float[Tensor, "sample position key_position"], method: str, **attrs: Any
) -> xr.DataArray:
    """The row of the position that the output is read from: the class token, or a language model's last real token."""
    inputs, model = question.inputs, question.model
    rows = torch.arange(len(flow), device=flow.device)
    reads_last = getattr(model.module, "can_generate", lambda: False)() and model.kind == "text"
    row = flow[rows, inputs.lengths.to(flow.device) - 1 if reads_last else 0]
    if inputs.kind == "image":
        grid = token_grid(model, inputs, row.shape[1])
        if grid is None:
            raise InputError(f"the {row.shape[1]} tokens of {model.name!r} form no grid of patches")
        spare = row.shape[1] - grid[0] * grid[1]
        if spare == 0:  # no class token: the output is pooled over all tokens
            row = flow.mean(1)
        values = row[:, spare:].unflatten(1, grid)
        return answer(question, values.expand(len(question.targets), *values.shape), ("y", "x"), method, **attrs)
    return answer(question, row.expand(len(question.targets), *row.shape), ("position",), method, **attrs)
