"""What is hooked to a network while a task lasts, and how it is taken away again."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from nissl.errors import InputError
from nissl.learning.hebbian_projection._layers import Layer, presynaptic, project_gradient, through_patches
from nissl.learning.hebbian_projection.subspace import HebbianSubspace
from nissl.nn._straight_through import straight_through

FORMS = ("gradient", "input")


class Hooks:
    """The hooks of one task. `calls` counts how often each layer passed activity on."""

    def __init__(self, seed: int) -> None:
        self.calls: dict[str, int] = {}
        self._generator = torch.Generator().manual_seed(seed)
        self._handles: list[Any] = []
        self._flags: list[tuple[nn.Parameter, bool]] = []
        self._modes: list[tuple[nn.Module, bool]] = []

    def remove(self) -> None:
        """Leave the network as it was found."""
        for handle in self._handles:
            handle.remove()
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)
        for module, mode in self._modes:
            module.training = mode

    def learn(
        self,
        name: str,
        layer: Layer,
        subspace: HebbianSubspace,
        activity: str | Callable[[Tensor], Tensor],
        every: int,
        samples: int,
    ) -> None:
        """Let a layer's lateral neurons learn from what passes while gradients are on."""
        if subspace.frozen_ == len(subspace.rows_):
            return

        def seen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not torch.is_grad_enabled():
                return
            n = self.calls.get(name, 0)
            self.calls[name] = n + 1
            if n % every:
                return
            with torch.no_grad():
                vectors = _vectors(layer, _input(args, kwargs).detach(), activity)
                if len(vectors) > samples:
                    chosen = torch.randperm(len(vectors), generator=self._generator)[:samples]
                    vectors = vectors[chosen.to(vectors.device)]
                try:
                    subspace.partial_fit(vectors)
                except InputError as error:
                    raise InputError(f"input of layer {name!r}: {error}") from None

        self._handles.append(layer.register_forward_pre_hook(seen, with_kwargs=True))

    def project(self, layer: Layer, subspace: HebbianSubspace, form: str) -> None:
        """Let a layer's weight learn only from what its protected rows leave over."""
        if not subspace.frozen_ or not layer.weight.requires_grad:
            return
        if form == "gradient":
            rows = subspace.protected
            self._handles.append(
                layer.weight.register_hook(lambda g: project_gradient(g.to(rows.dtype), rows.to(g.device)).to(g.dtype))
            )
            return

        def replace(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
            return _replaced(layer, _input(args, kwargs), output, subspace) if torch.is_grad_enabled() else None

        # First of all hooks, so that others see the output that takes part in the backward pass.
        self._handles.append(layer.register_forward_hook(replace, with_kwargs=True, prepend=True))

    def hold_still(self, model: nn.Module, layers: Mapping[str, Layer], excluded: Iterable[str]) -> None:
        """Only weight matrices move, and what is excluded; batch normalisation keeps its statistics."""
        free = {id(p) for name in excluded for p in model.get_submodule(name).parameters()}
        free |= {id(layer.weight) for layer in layers.values()}
        still = [n for n, p in model.named_parameters() if p.dim() > 1 and p.requires_grad and id(p) not in free]
        if still:
            warnings.warn(
                f"nothing protects {', '.join(still[:6])}{' ...' if len(still) > 6 else ''}, so these weights stand still from now on: only Linear and "
                "Conv2d layers are projected; exclude=(...) lets a module move unprotected",
                stacklevel=5,
            )
        for parameter in model.parameters():
            if id(parameter) not in free:
                self._flags.append((parameter, parameter.requires_grad))
                parameter.requires_grad_(False)
                parameter.grad = None  # an optimiser would use what is left of an earlier task
        for module in model.modules():
            if isinstance(module, _NormBase) and module.track_running_stats:
                self._modes.append((module, module.training))
                module.eval()
                # A loop that calls model.train() must not wake it.
                self._handles.append(module.register_forward_pre_hook(_asleep))


def _asleep(module: nn.Module, args: Any) -> None:
    module.eval()


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    return args[0] if args else kwargs["input"]


def _vectors(layer: Layer, x: Tensor, activity: str | Callable[[Tensor], Tensor]) -> Tensor:
    """Presynaptic vectors to learn from, (sample, unit)."""
    if callable(activity):
        seen = activity(x)
    else:
        seen = presynaptic(layer, x)
        if activity == "mean" and isinstance(layer, nn.Linear) and seen.ndim > 2:
            seen = seen.flatten(1, -2).mean(1)
    return seen.reshape(-1, seen.shape[-1])


def _replaced(layer: Layer, x: Tensor, output: Tensor, subspace: HebbianSubspace) -> Tensor:
    """A layer's output, bit for bit, whose weight learns from what the protected rows leave over of x."""
    with torch.no_grad():
        seen = presynaptic(layer, x.detach())
        left = subspace.residual(seen).to(seen)
    learning = through_patches(layer, left, output)
    if x.requires_grad:
        held = layer.weight.detach()
        back = nn.functional.linear(x, held) if isinstance(layer, nn.Linear) else layer._conv_forward(x, held, None)
        learning = learning + back
    return straight_through(learning, output.detach())
