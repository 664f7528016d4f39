"""Continuing texts with a network that carries its state from token to token."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from nissl.errors import InputError
from nissl.models import Probe, stepping
from nissl.nn._cell import State


@torch.no_grad()
def generate(
    network: Any,
    prompts: Int[Tensor, "batch time"],
    count: int,
    *,
    attention_mask: Tensor | None,
    temperature: float | None,
    top_k: int | None,
    eos: int | None,
    pad: int,
    seed: int,
) -> Int[Tensor, "batch longer"]:
    """Prompts, and `count` tokens after them; `temperature` None takes the likeliest token.

    Prompts of one length run side by side, each from its own first token, so that padding never enters a state.
    """
    vocab = network.config.vocab_size
    if (
        count < 0
        or (temperature is not None and not temperature > 0)
        or (top_k is not None and not 1 <= top_k <= vocab)
    ):
        raise InputError(
            f"max_new_tokens={count}, temperature={temperature}, top_k={top_k}; allowed: 0 or more, above 0, 1 to {vocab}"
        )
    lengths = _lengths(prompts, attention_mask)
    pick = _Picker(temperature, top_k, torch.Generator(prompts.device).manual_seed(seed))
    edited = any(isinstance(m, Probe) and m.edited for m in network.modules())
    new = prompts.new_full((len(prompts), count), pad)
    if edited:  # an intervention may choose positions, and they differ where prompts differ in length
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            new[rows] = _in_steps(network, prompts[rows, -length:], count, pick, eos, pad)
    else:
        state, logits = _read(network, prompts, lengths)
        new = _go_on(network, logits, state, count, pick, eos, pad)
    out = torch.cat([prompts, new], 1)
    ended = int(_ended_at(new, eos).max()) if count else 0
    return out[:, : prompts.shape[1] + ended]


def _read(network: Any, prompts: Tensor, lengths: Tensor) -> tuple[State, Tensor]:
    """The state and the logits after each prompt; prompts of one length side by side."""
    groups, order = [], []
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero()[:, 0]
        logits, state = network.run(prompts[rows, -length:])
        groups.append((state, logits[:, -1]))
        order.append(rows)
    back = torch.cat(order).argsort()
    state = {k: torch.cat([s[k] for s, _ in groups])[back] for k in groups[0][0]}
    return state, torch.cat([logits for _, logits in groups])[back]


def _go_on(network: Any, logits: Tensor, state: State, count: int, pick: Any, eos: int | None, pad: int) -> Tensor:
    """Token by token until all have ended."""
    new = torch.full((len(logits), count), pad, device=logits.device)
    going = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    for i in range(count):
        token = torch.where(going, pick(logits), pad)
        new[:, i] = token
        if eos is not None:
            going &= token != eos
            if not going.any():
                break
        if i + 1 < count:
            logits, state = network.step(token, state)
    return new


def _in_steps(network: Any, prompts: Tensor, count: int, pick: Any, eos: int | None, pad: int) -> Tensor:
    """The same with a clock over prompt and continuation, for interventions."""
    new = prompts.new_full((len(prompts), count), pad)
    going = torch.ones(len(prompts), dtype=torch.bool, device=prompts.device)
    length, state = prompts.shape[1], None
    with stepping(network, length + count) as at:
        token = prompts[:, 0]
        for t in range(length + count - 1):
            at(t)
            logits, state = network.step(token, state)
            if t + 1 < length:
                token = prompts[:, t + 1]
                continue
            token = torch.where(going, pick(logits), pad)
            new[:, t + 1 - length] = token
            if eos is not None:
                going &= token != eos
                if not going.any():
                    break
    return new


class _Picker:
    """The next token of each text."""

    def __init__(self, temperature: float | None, top_k: int | None, generator: torch.Generator) -> None:
        self.temperature, self.top_k, self.generator = temperature, top_k, generator

    def __call__(self, logits: Tensor) -> Tensor:
        if self.temperature is None:
            return logits.argmax(-1)
        if self.top_k is not None:
            least = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        return torch.multinomial((logits / self.temperature).softmax(-1), 1, generator=self.generator)[:, 0]


def _lengths(prompts: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.full((len(prompts),), prompts.shape[1], device=prompts.device)
    if mask.shape != prompts.shape:
        raise InputError(f"an attention_mask of shape {tuple(mask.shape)} for prompts of {tuple(prompts.shape)}")
    real = mask.bool()
    if not real[:, -1].all() or (real[:, 1:] < real[:, :-1]).any():
        raise InputError("prompts are padded on the left to be continued, and each needs a token")
    return real.sum(1)


def _ended_at(new: Tensor, eos: int | None) -> Tensor:
    """How many new tokens each text has, its end included."""
    if eos is None:
        return torch.full((len(new),), new.shape[1])
    is_end = new == eos
    return torch.where(is_end.any(1), is_end.int().argmax(1) + 1, new.shape[1])
