"""Checkpoints: what a long run needs to go on where it stopped, and proof that it is the same run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nissl.errors import InputError, StoreError


def save(path: str | Path, content: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
    """Write a checkpoint in one step: a run that is killed meanwhile leaves the one before.

    Parameters
    ----------
    path
        The file.
    content
        Tensors, numbers, texts, and dictionaries and lists of these.
    configuration
        Settings that make it this run and no other; anything JSON can say.

    Raises
    ------
    StoreError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/run.pt", {"step": 3}, {"lr": 0.1})
    ...     load(f"{folder}/run.pt", {"lr": 0.1})["step"]
    3
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"configuration": json.dumps(configuration, sort_keys=True), "content": dict(content)}, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        raise StoreError(f"the checkpoint {str(path)!r} cannot be written: {error}") from error


def load(path: str | Path, configuration: Mapping[str, Any], *, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of the same configuration; no code in it is run.

    Parameters
    ----------
    path
        What `save` wrote.
    configuration
        The settings of the run that wants to go on.
    device
        Where the tensors go.

    Raises
    ------
    InputError
        A checkpoint from another configuration; the message names the first setting that differs.
    StoreError
        No checkpoint, or a damaged one.
    """
    try:
        found = torch.load(path, map_location=device, weights_only=True)
        before, content = json.loads(found["configuration"]), found["content"]
    except FileNotFoundError:
        raise StoreError(f"there is no checkpoint {str(path)!r}") from None
    except Exception as error:  # whatever a damaged file makes the unpickler raise
        raise StoreError(f"{str(path)!r} is no checkpoint of nissl, or damaged: {type(error).__name__}") from error
    now = json.loads(json.dumps(configuration))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            was, is_ = _short(before.get(name), now.get(name))
            raise InputError(
                f"the checkpoint {str(path)!r} is from another configuration: {name} was {was} and is {is_}; give the same "
                "settings, or another path"
            )
    return content


def _short(a: Any, b: Any, width: int = 80) -> tuple[str, str]:
    """Both as text, cut to where they begin to differ."""
    one, other = repr(a), repr(b)
    if max(len(one), len(other)) <= width:
        return one, other
    same = next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other)))
    start = max(0, same - width // 2)

    def cut(text: str) -> str:
        return f"{'...' * (start > 0)}{text[start : start + width]}{'...' * (len(text) > start + width)}"

    return cut(one), cut(other)
