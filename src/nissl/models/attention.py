"""Query, key, value and attention pattern of a transformer that runs whatever attention it likes, fused kernels
included.

Hugging Face models look their attention function up by a name in `module.config`. While a tap listens to an attention
module, that module alone sees a configuration whose name leads to `_tapped_attention`; it calls the model's own
function unless somebody asked for the pattern, in which case the softmax is written out. The configuration goes back
when the last tap leaves.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nissl.errors import ModelError

_IMPLEMENTATION = "nissl"
_lock = threading.Lock()
_listeners: dict[nn.Module, list[AttentionTap]] = {}


class AttentionTap:
    """One listener on one attention module.

    Parameters
    ----------
    port
        `query`, `key`, `value` or `pattern`.
    fn
        Gets the tensor (query, key and value as `(sample, position, head, unit)`, pattern as `(sample, head, position,
        key_position)`) and returns a replacement or None.
    active
        Asked at each call whether the tap is to fire.
    """

    def __init__(self, port: str, fn: Callable[[Tensor], Tensor | None], active: Callable[[], bool]) -> None:
        self.port = port
        self.fn = fn
        self.active = active


class _Routed:
    """A configuration that says everything the original says, except which attention function to use."""

    def __init__(self, original: Any) -> None:
        self.__dict__["original"] = original

    _attn_implementation = _IMPLEMENTATION

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["original"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["original"], name, value)


def listen(module: nn.Module, tap: AttentionTap) -> Callable[[], None]:
    """Let `tap` listen to an attention module; returns the function that ends it."""
    from transformers import AttentionInterface

    with _lock:
        AttentionInterface.register(_IMPLEMENTATION, _tapped_attention)
        if module not in _listeners:
            module.__dict__["config"] = _Routed(module.config)
        # A new list, so that a pass under way in another thread keeps iterating over the old one.
        _listeners[module] = [*_listeners.get(module, []), tap]

    def stop() -> None:
        with _lock:
            rest = [t for t in _listeners[module] if t is not tap]
            if rest:
                _listeners[module] = rest
            else:
                del _listeners[module]
                module.__dict__["config"] = module.config.original  # type: ignore[union-attr]

    return stop


def _tapped_attention(
    module: nn.Module,
    query: Float[Tensor, "sample head position unit"],
    key: Float[Tensor, "sample kv_head key_position unit"],
    value: Float[Tensor, "sample kv_head key_position unit"],
    attention_mask: Any,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    taps = [t for t in _listeners.get(module, []) if t.active()]
    config: Any = module.config
    own = getattr(config, "original", config)._attn_implementation

    query = _apply(taps, "query", query.transpose(1, 2)).transpose(1, 2)
    key = _apply(taps, "key", key.transpose(1, 2)).transpose(1, 2)
    value = _apply(taps, "value", value.transpose(1, 2)).transpose(1, 2)
    if not any(t.port == "pattern" for t in taps):
        return _own_function(module, own)(module, query, key, value, attention_mask, **kwargs)

    probabilities = _pattern(module, query, key, attention_mask, fused=own != "eager", **kwargs)
    probabilities = torch.dropout(probabilities, kwargs.get("dropout") or 0.0, module.training)
    probabilities = _apply(taps, "pattern", probabilities)
    mixed = probabilities @ _repeat(value, query.shape[1])
    return mixed.transpose(1, 2).contiguous(), probabilities


def _apply(taps: list[AttentionTap], port: str, tensor: Tensor) -> Tensor:
    for tap in taps:
        if tap.port == port:
            replaced = tap.fn(tensor)
            tensor = tensor if replaced is None else replaced
    return tensor


def _own_function(module: nn.Module, name: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    eager = sys.modules[type(module).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)


def _pattern(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    attention_mask: Any,
    *,
    fused: bool,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> Float[Tensor, "sample head position key_position"]:
    """Attention probabilities: softmax(scaling * query key^T + mask), in float32 as the eager functions do it."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ _repeat(key, query.shape[1]).transpose(-1, -2) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if position_bias is not None:
        scores = scores + position_bias
    scores = scores.float()
    if attention_mask is not None and not isinstance(attention_mask, Tensor):
        raise ModelError(
            "the attention pattern cannot be read under flex attention; load the model with attn_implementation='sdpa' or 'eager'"
        )
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is not None and attention_mask.dim() == 2:  # flash attention gets the padding alone
        scores = _hide(scores, attention_mask.bool()[:, None, None, :])
        attention_mask = None
    if attention_mask is None:
        # A fused kernel without a mask is causal by its flag; an eager function without a mask sees everything.
        if fused and causal and query.shape[2] > 1:
            scores = _hide(scores, _causal(query.shape[2], key.shape[2], sliding_window, scores.device))
    elif attention_mask.dtype == torch.bool:
        scores = _hide(scores, attention_mask[..., : key.shape[2]])
    else:
        scores = scores + attention_mask[..., : key.shape[2]]
    return scores.softmax(-1).to(query.dtype)


def _hide(scores: Tensor, visible: Bool[Tensor, "..."]) -> Tensor:
    # The most negative number rather than -inf: a row with nothing to see (padding) stays finite.
    return scores.masked_fill(~visible, torch.finfo(scores.dtype).min)


def _causal(queries: int, keys: int, window: int | None, device: torch.device) -> Bool[Tensor, "position key_position"]:
    behind = torch.arange(queries, device=device)[:, None] - torch.arange(keys, device=device)[None, :]
    return (behind >= 0) if window is None else (behind >= 0) & (behind < window)


def _repeat(tensor: Tensor, heads: int) -> Tensor:
    """Keys and values of grouped-query attention, repeated for every query head."""
    return tensor if tensor.shape[1] == heads else tensor.repeat_interleave(heads // tensor.shape[1], dim=1)
