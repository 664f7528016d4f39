"""From a conventional network to a quadratic one that computes the same."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from nissl.errors import InputError, ModelError, unknown
from nissl.nn.quadratic.layers import Quadratic, QuadraticConv2d, QuadraticLinear


def quadraticize(module: nn.Module, layers: str | Sequence[str] | None = None, *, compact: bool = False) -> nn.Module:
    """A copy of a network in which Linear and Conv2d layers are quadratic, and which computes the same.

    The weights move to `r`; the quadratic terms begin at zero and are there to be trained (`relinear_parameter_groups`).

    Parameters
    ----------
    module
        Any torch module, also a single layer. It is not changed.
    layers
        Names or globs ("features.*") of the layers to convert; all that can be where None. `torch.nn.Linear`, `torch.nn.Conv2d` and the
        Conv1D of Hugging Face's GPT-2 can be. Quadratic layers are left as they are.
    compact
        Convert to neurons without interaction.

    Returns
    -------
    torch.nn.Module
        The copy. A layer used in two places stays one layer, tied weights stay tied, frozen layers stay frozen.

    Raises
    ------
    UnknownNameError
        A name or glob that matches no layer.
    ModelError
        Layers asked for that cannot be converted: other types (transposed convolutions, the output projection of
        `torch.nn.MultiheadAttention`, whose forward is never called), with hooks or parametrisations, or with NaN weights; or there is
        nothing to convert.

    References
    ----------
    Fan, Li, Wang, Lai, Wang 2023, On Expressivity and Trainability of Quadratic Networks, IEEE TNNLS, arXiv:2110.06081.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> same = quadraticize(net, "0")
    >>> x = torch.randn(5, 4)
    >>> type(same[0]).__name__, bool((same(x) - net(x)).abs().max() < 1e-6)
    ('QuadraticLinear', True)
    """
    if not isinstance(module, nn.Module):
        module = getattr(module, "module", module)  # the network of a loaded model
    if not isinstance(module, nn.Module):
        raise InputError(f"{type(module).__name__} given; quadraticize takes a torch.nn.Module")
    copied = copy.deepcopy(module)
    if not list(copied.children()):
        if layers is not None:
            raise unknown("layer", layers, (), f"this {type(module).__name__} is itself one layer, give no layers=")
        if isinstance(copied, Quadratic):
            return copied
        if problem := _problem(copied):
            raise ModelError(f"this {type(copied).__name__} cannot be quadratic: {problem}")
        return _converted(copied, compact)
    new: dict[int, Quadratic] = {}
    every = dict(copied.named_modules(remove_duplicate=False))
    for path in _chosen(every, layers):
        parent, _, name = path.rpartition(".")
        holder, old = every[parent], every[path]
        if id(old) not in new:
            new[id(old)] = _converted(old, compact)
        setattr(holder, name, new[id(old)])
    _call_every_layer(copied)
    return copied


def _chosen(every: dict[str, nn.Module], layers: str | Sequence[str] | None) -> list[str]:
    """Paths of the layers to convert; a shared layer has several."""
    whole, every = every[""], {path: m for path, m in every.items() if path}
    can = {path for path, m in every.items() if _is_plain(m)}
    there = {path for path, m in every.items() if isinstance(m, Quadratic)}
    if layers is None and not can | there:
        raise ModelError(f"{type(whole).__name__} has no torch.nn.Linear or torch.nn.Conv2d that could be quadratic")
    chosen: set[str] = set()
    for pattern in ["*"] if layers is None else [layers] if isinstance(layers, str) else layers:
        matched = {path for path in every if fnmatchcase(path, pattern)}
        if not matched:
            raise unknown("layer", pattern, sorted(can) or every)
        if not matched & (can | there):
            path = min(matched)
            raise ModelError(
                f"layer {path!r} ({type(every[path]).__name__}) cannot be quadratic: {_problem(every[path])}; "
                f"those that can: {', '.join(sorted(can)[:8]) or 'none'}"
            )
        chosen |= matched & can
    for path in sorted(chosen):
        if problem := _problem(every[path]):
            raise ModelError(f"layer {path!r} cannot be quadratic: {problem}")
    # Every place of a shared layer, not only the one that was named.
    wanted = {id(every[path]) for path in chosen}
    return sorted(path for path, m in every.items() if id(m) in wanted)


def _is_plain(layer: nn.Module) -> bool:
    return type(layer) in (nn.Linear, nn.Conv2d) or _is_conv1d(layer)


def _is_conv1d(layer: nn.Module) -> bool:
    return type(layer).__name__ == "Conv1D" and type(layer).__module__ == "transformers.pytorch_utils"


def _problem(layer: nn.Module) -> str:
    """Why a layer cannot be converted; empty where it can."""
    if not _is_plain(layer):
        return "only torch.nn.Linear, torch.nn.Conv2d and Hugging Face's Conv1D themselves can; subclasses may compute something else"
    weight = layer._parameters.get("weight")
    if weight is None:
        return "its weight is computed from other parameters; remove the parametrisation first"
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        return "it has hooks, which would be lost; remove them first"
    if weight.is_meta or not weight.is_floating_point():
        return f"its weights are {weight.dtype} on {weight.device.type}"
    if not all(bool(p.isfinite().all()) for p in layer.parameters()):
        return "its weights are NaN or infinite"
    return ""


def _converted(old: Any, compact: bool) -> Quadratic:
    weight: Tensor = old.weight
    options = {"bias": old.bias is not None, "compact": compact, "device": weight.device, "dtype": weight.dtype}
    with torch.random.fork_rng(devices=[]):  # weights are drawn only to be overwritten
        if isinstance(old, nn.Conv2d):
            new: Quadratic = QuadraticConv2d(
                old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, old.groups,  # type: ignore[arg-type]
                padding_mode=old.padding_mode, **options,
            )  # fmt: skip
        else:
            if _is_conv1d(old):
                weight = nn.Parameter(weight.detach().t().contiguous(), requires_grad=weight.requires_grad)
            new = QuadraticLinear(weight.shape[1], weight.shape[0], **options)
    new.take_over(weight, old.bias)
    biases = {id(b) for b in (new.bias_r, new.bias_g, new.bias_b) if b is not None} if old.bias is not None else set()
    for parameter in new.parameters():  # what was frozen stays frozen: the weights, the biases, or both
        like: Tensor = old.bias if id(parameter) in biases else weight  # type: ignore[assignment]
        parameter.requires_grad_(like.requires_grad)
    return new.train(old.training)


def _call_every_layer(module: nn.Module) -> None:
    """Turn off torch's fused inference of transformer layers, which reads the weights of layers instead of calling them."""
    for part in module.modules():
        own = any(isinstance(child, Quadratic) for child in part.modules())
        if isinstance(part, nn.TransformerEncoderLayer) and own:
            part.activation_relu_or_gelu = 0
        if isinstance(part, nn.TransformerEncoder) and own:
            part.use_nested_tensor = False
