"""What every attribution method begins and ends with: a question made ready, and an answer with named axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from nissl.models import Inputs, Model, Target, load, resolve_target


@dataclass(frozen=True)
class Question:
    """A network, a batch, and the targets to be explained.

    `single` says that one sample was given, so that the answer has no sample axis; `several` that a list of targets was
    given, so that it has a class axis.
    """

    model: Model
    inputs: Inputs
    targets: list[Target]
    single: bool
    several: bool


def ask(model: Model | nn.Module, inputs: Any, target: Any) -> Question:
    """Open a question: everything that can be wrong with it is said here, before work starts."""
    model = load(model)
    ready = model.prepare(inputs)
    model.trace(ready)
    targets = resolve_target(model, target, ready)
    single = model.is_single(inputs)
    return Question(model, ready, targets, single, isinstance(target, list | tuple))


def answer(question: Question, values: Tensor, dims: tuple[str, ...], method: str, **attrs: Any) -> xr.DataArray:
    """Name the axes of `values` `(target, sample, ...)` and drop those that the question did not have.

    Parameters
    ----------
    values
        Attributions; `dims` names the axes after target and sample.
    """
    inputs = question.inputs
    array = xr.DataArray(
        values.detach().float().cpu().numpy(),
        dims=("class", "sample", *dims),
        coords={"class": [t.label for t in question.targets]},
        name=method,
        attrs={"method": method, "model": question.model.name, **attrs},
    )
    if "y" in dims and "x" in dims:
        y, x = picture_coordinates(inputs, array.sizes["y"], array.sizes["x"])
        array = array.assign_coords(y=y, x=x)
    if dims == ("position",):
        array = _with_tokens(array, inputs)
    if question.several:
        return array.isel(sample=0, drop=True) if question.single else array
    array = array.isel({"class": 0}, drop=True)
    array.attrs["target"] = question.targets[0].label
    return array.isel(sample=0, drop=True) if question.single else array


def picture_coordinates(inputs: Inputs, h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres of an `h` by `w` grid: in the photograph where all samples share its frame, else in the network's
    input.
    """
    frames = inputs.frames
    if frames and all(f == frames[0] for f in frames):
        return frames[0].coords(h, w)
    height, width = inputs.main.shape[-2:]
    return (np.arange(h) + 0.5) * height / h, (np.arange(w) + 0.5) * width / w


def _with_tokens(array: xr.DataArray, inputs: Inputs) -> xr.DataArray:
    """Token strings as a coordinate; NaN where there is only padding."""
    width = array.sizes["position"]
    tokens = np.full((inputs.n, width), "", dtype=object)
    for row, strings in zip(tokens, inputs.tokens or [], strict=False):
        row[: len(strings)] = strings
    real = torch.ones(inputs.n, width, dtype=torch.bool) if inputs.mask is None else inputs.mask.cpu()
    array = array.where(xr.DataArray(real.numpy(), dims=("sample", "position")))
    return array.assign_coords(token=(("sample", "position"), tokens.astype(str)), position=np.arange(width))
