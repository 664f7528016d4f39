"""The feedback layer for a block: from c_l to c_{l-1}, of the shape that the forward network has there."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nissl.errors import InputError, ModelError
from nissl.learning.counter_current._blocks import (
    ACTIVATIONS,
    NORMS,
    NOT_ELEMENTWISE,
    POOLS,
    Block,
    Part,
    Shape,
)

NEUTRAL = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, *POOLS)
BY_HAND = "give its feedback in feedback_layers (a list from the first layer to the last, None where the mirror is to be built)"


def mirrors(blocks: list[Block], by_hand: Sequence[nn.Module | None] | None) -> nn.ModuleList:
    """One feedback layer a block, built or given.

    Raises
    ------
    InputError
        Another number of `feedback_layers` than layers.
    ModelError
        A layer that has no mirror, or a feedback layer of another shape, or one that shares weights.
    """
    given = list(by_hand) if by_hand is not None else [None] * len(blocks)
    if len(given) != len(blocks):
        names = ", ".join(repr(b.layer.name) for b in blocks)
        raise InputError(f"{len(given)} feedback_layers for {len(blocks)} layers with weights ({names}); {BY_HAND}")
    made = []
    for block, previous, own in zip(blocks, [None, *blocks], given, strict=False):
        module = _mirror(block, previous) if own is None else own
        _check(block, module, built=own is None)
        made.append(module)
    weights = [id(p) for b in blocks for part in b.parts for p in part.module.parameters()]
    weights += [id(p) for m in made for p in m.parameters()]
    if len(set(weights)) < len(weights):
        raise ModelError("a feedback layer shares weights with another layer; the two networks must be separate")
    return nn.ModuleList(made)


def _mirror(block: Block, previous: Block | None) -> nn.Sequential:
    layer = block.layer.module
    for part in block.head + block.tail:
        _refuse_unknown(part)
    weight = next(layer.parameters())
    like = {"device": weight.device, "dtype": weight.dtype}
    if isinstance(layer, nn.Linear) and len(block.layer.after) == 1 and len(block.after) == 1:
        bias = layer.bias is not None
        back: list[nn.Module] = [nn.Linear(layer.out_features, layer.in_features, bias=bias, **like)]
        shape: Shape = (layer.in_features,)
    elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        back, shape = _convolve_back(block, layer, like)
    else:
        raise ModelError(
            f"layer {block.layer.name!r} ({type(layer).__name__}) has no mirror; those of Linear (on vectors), Conv2d and "
            f"ConvTranspose2d are built; {BY_HAND}"
        )
    maps, vectors = _finish(previous.tail) if previous else ([], [])
    if previous and maps and len(shape) == 1:
        shape = _spatial([part.after for part in previous.tail])
        back.append(nn.Unflatten(1, shape))
    back += maps
    if shape != block.before:
        back.append(nn.Flatten() if len(block.before) == 1 else nn.Unflatten(1, block.before))
    return nn.Sequential(*back, *vectors)


def _convolve_back(
    block: Block, layer: nn.Conv2d | nn.ConvTranspose2d, like: dict[str, Any]
) -> tuple[list[nn.Module], Shape]:
    """Undo flatten and pooling by nearest upsampling, or upsampling by a stride, then convolve."""
    here = _spatial([block.layer.after] + [part.after for part in block.tail])
    there = next(s for s in [block.before, *(p.after for p in block.head)] if len(s) == 3)
    back: list[nn.Module] = [] if block.after == here else [nn.Unflatten(1, here)]
    dilation: Any = layer.dilation
    kernel: Any = layer.kernel_size
    stride: Any = layer.stride if isinstance(layer, nn.ConvTranspose2d) else 1
    padding: Any = layer.padding if isinstance(layer, nn.ConvTranspose2d) else "same"
    if isinstance(layer, nn.Conv2d) and any(a > b for a, b in zip(there[1:], here[1:], strict=True)):
        back.append(nn.Upsample(size=there[1:], mode="nearest"))
    elif isinstance(layer, nn.Conv2d) and there[1:] != here[1:]:
        stride = tuple(-(-a // b) for a, b in zip(here[1:], there[1:], strict=True))
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    bias = layer.bias is not None
    back.append(
        nn.Conv2d(
            layer.out_channels,
            layer.in_channels,
            kernel,
            stride,
            padding,
            dilation=dilation,
            groups=layer.groups,
            bias=bias,
            **like,
        )
    )
    return back, there


def _finish(tail: list[Part]) -> tuple[list[nn.Module], list[nn.Module]]:
    """Copies of the norms and activations of the layer below: those that act on maps, and those on vectors."""
    maps: list[nn.Module] = []
    vectors: list[nn.Module] = []
    for part in tail:
        if isinstance(part.module, (*NORMS, *ACTIVATIONS)):
            module = copy.deepcopy(part.module)
            if isinstance(module, NORMS) and hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
            (maps if len(part.before) == 3 else vectors).append(module)
    return maps, vectors


def _spatial(shapes: list[Shape]) -> Shape:
    """The last shape with channels and places."""
    return next((s for s in reversed(shapes) if len(s) == 3), ())


def _refuse_unknown(part: Part) -> None:
    known = (*NORMS, *ACTIVATIONS, *NEUTRAL, nn.Upsample, nn.Unflatten)
    if not isinstance(part.module, known):
        what = "mixes units, so that it" if isinstance(part.module, NOT_ELEMENTWISE) else "is not known here and"
        raise ModelError(f"layer {part.name!r} ({type(part.module).__name__}) {what} has no mirror; {BY_HAND}")


def _check(block: Block, module: nn.Module, built: bool) -> None:
    weight = next(block.layer.module.parameters())
    mode = module.training
    try:
        with torch.no_grad():
            found = tuple(
                module.eval()(torch.zeros(2, *block.after, dtype=weight.dtype, device=weight.device)).shape[1:]
            )
    except (RuntimeError, ValueError) as error:
        found = f"an error ({error})"
    module.train(mode)
    if found != block.before:
        whose = "the mirror" if built else "the feedback"
        raise ModelError(
            f"{whose} of layer {block.layer.name!r} must lead from {block.after} to {block.before}, and gives {found}"
            + (f"; {BY_HAND}" if built else "")
        )
