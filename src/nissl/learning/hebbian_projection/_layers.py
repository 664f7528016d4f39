"""Layers with a weight matrix, and what each of its rows listens to: the presynaptic vectors of linear and convolutional layers."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError, ModelError, unknown

Layer = nn.Linear | nn.Conv2d


def find_layers(model: nn.Module, chosen: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> dict[str, Layer]:
    """Linear and two-dimensional convolutional layers by name, in the order of the model.

    Raises
    ------
    UnknownNameError
        A name or pattern that no such layer has.
    ModelError
        No layer, a weight that two layers share, or one that is computed (weight norm and the like).
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, Layer)}
    for pattern in (*(chosen or ()), *exclude):
        if not fnmatch.filter(layers, pattern):
            raise unknown("layer", pattern, layers, "Linear and Conv2d layers can be named")
    wanted = [n for p in (chosen or ["*"]) for n in fnmatch.filter(layers, p)]
    left_out = {n for p in exclude for n in fnmatch.filter(layers, p)}
    found = {name: m for name, m in layers.items() if name in wanted and name not in left_out}
    if not found:
        raise ModelError("no Linear or Conv2d layer to protect in this network")
    owner: dict[int, str] = {}
    for name, layer in found.items():
        weight = layer.weight
        if isinstance(weight, nn.UninitializedParameter) or not isinstance(weight, nn.Parameter):
            raise ModelError(
                f"the weight of layer {name!r} is not a plain parameter (lazy, or parametrised); run the network once, or remove it"
            )
        if id(weight) in owner:
            raise ModelError(f"layers {owner[id(weight)]!r} and {name!r} share one weight; exclude one of them")
        owner[id(weight)] = name
    return found


def n_inputs(layer: Layer) -> int:
    """Length of a layer's presynaptic vector."""
    return layer.weight[0].numel()


def presynaptic(layer: Layer, x: Tensor) -> Float[Tensor, "*sample unit"]:
    """What each output of a layer listens to: x itself, or the patches under a convolution's kernel.

    Patches of a grouped convolution are `(batch, group, place, unit)`: a filter sees one group only, and all share one subspace.
    """
    if isinstance(layer, nn.Linear):
        return x
    if x.ndim == 3:
        x = x[None]
    if layer.padding_mode != "zeros":
        x = nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode)
    elif isinstance(layer.padding, str):
        x = nn.functional.pad(x, layer._reversed_padding_repeated_twice)
    plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    padding: Any = layer.padding if plain else 0
    patches = nn.functional.unfold(x, layer.kernel_size, layer.dilation, padding, layer.stride)
    return patches.unflatten(1, (layer.groups, -1)).transpose(2, 3)


def through_patches(layer: Layer, patches: Float[Tensor, "*sample unit"], like: Tensor) -> Tensor:
    """The layer's output for given presynaptic vectors, in the shape of `like`, its ordinary output."""
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(patches, layer.weight, layer.bias)
    filters = layer.weight.flatten(1).unflatten(0, (layer.groups, -1))
    out = torch.einsum("bgpu,gou->bgop", patches, filters).flatten(1, 2)
    if layer.bias is not None:
        out = out + layer.bias[:, None]
    return out.reshape(like.shape)


def project_gradient(gradient: Tensor, rows: Float[Tensor, "component unit"]) -> Tensor:
    """The gradient of a weight without its part along `rows`: G - (G H^T) H, for layers of any shape of kernel.

    Examples
    --------
    >>> project_gradient(torch.ones(2, 3), torch.tensor([[1.0, 0.0, 0.0]])).tolist()
    [[0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]
    """
    flat = gradient.reshape(len(gradient), -1)
    return (flat - (flat @ rows.T) @ rows).reshape(gradient.shape)


def numbers(k: int | Sequence[int] | Mapping[str, int], layers: Mapping[str, Layer], what: str) -> dict[str, int]:
    """Directions a layer, from one number, one a layer, or a mapping of names."""
    if isinstance(k, Mapping):
        for name in k:
            if name not in layers:
                raise unknown("layer", name, layers)
        found = {name: k.get(name, 0) for name in layers}
    else:
        each = [k] * len(layers) if isinstance(k, int) else list(k)
        if len(each) != len(layers):
            raise InputError(
                f"{what} has {len(each)} numbers for {len(layers)} layers ({', '.join(layers)}); give one for each, or one for all"
            )
        found = dict(zip(layers, each, strict=True))
    for name, number in found.items():
        if isinstance(number, bool) or int(number) != number or number < 0:
            raise InputError(f"{what}: {number!r} directions for layer {name!r}; give whole numbers from 0")
    return {name: int(number) for name, number in found.items()}


def check_room(wanted: Mapping[str, int], free: Mapping[str, int], layers: Mapping[str, Layer]) -> None:
    """Raise where a layer has fewer inputs left than directions are asked for."""
    for name, number in wanted.items():
        if number > free[name]:
            taken = n_inputs(layers[name]) - free[name]
            raise InputError(
                f"{number} directions for layer {name!r}, which has {n_inputs(layers[name])} inputs"
                + (f", {taken} of them protected already" if taken else "")
                + f": at most {free[name]} can be asked for"
            )
