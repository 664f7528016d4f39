"""The tensor that matters in whatever a module returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_FIELDS = ("logits", "prediction_logits", "last_hidden_state")


def main_tensor(output: Any) -> Tensor | None:
    """The logits, the last hidden state, or the first tensor of an output; None where it holds no tensor.

    Examples
    --------
    >>> import torch
    >>> main_tensor((torch.zeros(2), "cache")).shape
    torch.Size([2])
    """
    if isinstance(output, Tensor):
        return output
    place = _place(output)
    return None if place is None else output[place]


def replace_main(output: Any, tensor: Tensor) -> Any:
    """The same output with another main tensor."""
    if isinstance(output, Tensor):
        return tensor
    place = _place(output)
    if isinstance(output, Mapping):
        changed: Any = type(output)(**output)
        changed[place] = tensor
        return changed
    items = [tensor if i == place else item for i, item in enumerate(output)]
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


def _place(output: Any) -> Any:
    """Key or index of the main tensor."""
    if isinstance(output, Mapping):
        named = next((f for f in _FIELDS if isinstance(output.get(f), Tensor)), None)
        return named or next((k for k, v in output.items() if isinstance(v, Tensor)), None)
    if isinstance(output, list | tuple):
        return next((i for i, v in enumerate(output) if isinstance(v, Tensor)), None)
    return None
