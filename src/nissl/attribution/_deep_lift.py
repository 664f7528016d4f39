"""What DeepLIFT needs of a network: activations as modules, each run once in a pass, and none that it cannot read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nissl.models import Model


class AsModule(nn.Module):
    """A forward function as the module that DeepLIFT hooks."""

    def __init__(self, function: Callable[..., Tensor], module: nn.Module) -> None:
        super().__init__()
        self.function, self.module = function, module

    def forward(self, *args: Any) -> Tensor:
        return self.function(*args)


class _Fresh(nn.Module):
    """Stands for a module that runs several times in a pass: one copy a call, since DeepLIFT keeps one activity a
    module.
    """

    def __init__(self, module: nn.Module, calls: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList([copy.deepcopy(module) for _ in range(calls)])
        self.next = 0

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.copies[self.next % len(self.copies)]
        self.next += 1
        return chosen(x)


def copied(model: Model) -> Model:
    """A copy of the network that DeepLIFT can work on; the user's own is never rewritten."""
    twin = Model(
        copy.deepcopy(model.module),
        name=model.name,
        tokenizer=model.tokenizer,
        processor=model.processor,
        classes=model.classes,
    )
    for path, site in model.sites.modules.items():
        old = module = twin.module.get_submodule(path)
        if isinstance(module, nn.ReLU6):  # captum knows the rule for ReLU, ReLU6 only by its gradient
            module = _capped_relu()
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
        if (site.calls or 1) > 1 and not list(module.parameters()):
            module = _Fresh(module, site.calls or 1)
        if module is not old:
            _replace_everywhere(twin.module, old, module)
    return twin


def _replace_everywhere(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """A module may hang in several places under several names."""
    for parent in list(root.modules()):
        for name in [n for n, c in parent._modules.items() if c is old]:
            setattr(parent, name, new)


def _capped_relu() -> nn.Module:
    """ReLU6 as 6 - relu(6 - relu(x)), for which the rescale rule is known."""
    return nn.Sequential(nn.ReLU(), _Affine(-1.0, 6.0), nn.ReLU(), _Affine(-1.0, 6.0))


class _Affine(nn.Module):
    def __init__(self, slope: float, offset: float) -> None:
        super().__init__()
        self.slope, self.offset = slope, offset

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x + self.offset


__all__ = ["AsModule", "copied"]
