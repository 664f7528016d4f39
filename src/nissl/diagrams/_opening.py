"""Open what is to be drawn: a module, a model, or a folder that says how one is built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nissl.errors import InputError, unknown
from nissl.models import Model, load

_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.index.json")


@dataclass(frozen=True)
class Opened:
    """A network that is ready to be drawn, and what a reader must know of it."""

    loaded: nn.Module | Model
    notes: tuple[str, ...] = ()

    @property
    def module(self) -> nn.Module:
        """The torch module."""
        return self.loaded if isinstance(self.loaded, nn.Module) else self.loaded.module

    def check_module(self, path: str) -> None:
        """Raise where the network has no module of that path."""
        paths = [p for p, _ in self.module.named_modules(remove_duplicate=False) if p]
        if re.sub(r"#\d+", "", path) not in paths:
            raise unknown("module", path, paths)


def opened(model: Any) -> Opened:
    """Open anything that `circuit` takes.

    Raises
    ------
    InputError
        A class in place of an instance, or anything else that is no network.
    """
    if isinstance(model, nn.Module):
        return Opened(model)
    if isinstance(model, type):
        raise InputError(f"{model.__name__} is a class; give an instance, {model.__name__}(...)")
    if not isinstance(model, str | Path | Model):
        raise InputError(
            f"a {type(model).__name__} is no network ({model!r:.60}); give a torch module, or the name or folder of one"
        )
    folder = None if isinstance(model, Model) else Path(model).expanduser()
    if folder is not None and (folder / "config.json").is_file() and not any(any(folder.glob(w)) for w in _WEIGHTS):
        return Opened(
            load(_untrained(folder), name=folder.name), ("random weights: the folder holds a configuration alone",)
        )
    return Opened(load(model))


def _untrained(folder: Path) -> nn.Module:
    """The network that a configuration describes, with weights as they begin."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        architecture = (getattr(config, "architectures", None) or [""])[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            kind: Any = getattr(transformers, architecture, None)
            return (transformers.AutoModel.from_config(config) if kind is None else kind(config)).eval()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"folder {str(folder)!r} holds no model that can be built: {str(error).splitlines()[0]}"
        ) from error
