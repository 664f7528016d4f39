"""A memory of pairs that fades: linear attention with decay, in three forms that give the same numbers.

    H_t = decay H_{t-1} + v_t k_t^T        o_t = H_t q_t

One step after another it needs one matrix a head, however long the past. Whole, it is a masked product of queries and
keys. In chunks it is whole within each chunk, and the matrices at the chunks' ends are a leaky trace of what the chunks add.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError, unknown
from nissl.nn._trace import leaky_trace

Form = Literal["chunked", "parallel", "step"]


def fading_memory(
    query: Float[Tensor, "batch time head key"],
    key: Float[Tensor, "batch time head key"],
    value: Float[Tensor, "batch time head value"],
    decay: float | Float[Tensor, "head"],
    state: Float[Tensor, "batch head value key"] | None = None,
    *,
    form: Form = "chunked",
    chunk: int = 64,
) -> tuple[Float[Tensor, "batch time head value"], Float[Tensor, "batch head value key"]]:
    """Store a pair of key and value at every step, and answer a query: linear attention with decay.

    Parameters
    ----------
    query, key, value
        Of every step and head.
    decay
        What is left of the memory after one step, in (0, 1]: one number, or one a head.
    state
        The memory before the first step; empty where None.
    form
        `chunked`; `parallel`, the masked product over the whole sequence; `step`, one step after another. All give the
        same numbers.
    chunk
        Steps in a chunk.

    Returns
    -------
    output, state
        The answer at every step, and the memory after the last.

    Raises
    ------
    UnknownNameError
        Another form.
    InputError
        No steps, shapes that do not fit, a chunk of no steps.

    Notes
    -----
    H_t = decay H_{t-1} + v_t k_t^T and o_t = H_t q_t = Σ_{j<=t} decay^(t-j) (k_j · q_t) v_j + decay^(t+1) H_before q_t.

    References
    ----------
    Katharopoulos et al. 2020, Transformers are RNNs (decay 1). Sun et al. 2023, Retentive network (decay a head, and the
    three forms).

    Examples
    --------
    >>> key = torch.eye(2).reshape(1, 2, 1, 2)  # two orthonormal keys, one after the other
    >>> value = torch.tensor([5.0, 7.0]).reshape(1, 2, 1, 1)
    >>> output, _ = fading_memory(key.flip(1), key, value, 0.5)  # at the second step the first is asked for
    >>> output.flatten().tolist()
    [0.0, 2.5]
    """
    if form not in ("chunked", "parallel", "step"):
        raise unknown("form", form, ("chunked", "parallel", "step"))
    if query.dim() != 4 or query.shape != key.shape or query.shape[:3] != value.shape[:3] or query.shape[1] == 0:
        raise InputError(
            f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}; each is (batch, time, head, width) with "
            "at least one step, queries and keys of one width"
        )
    if chunk < 1:
        raise InputError(f"chunk={chunk}; allowed: 1 step or more")
    batch, time, heads, width = key.shape
    left = torch.as_tensor(decay, dtype=key.dtype, device=key.device).expand(heads)
    if not torch.compiler.is_compiling() and not bool(((left > 0) & (left <= 1)).all()):
        raise InputError(f"decay={decay}; allowed: above 0, at most 1")
    memory = key.new_zeros(batch, heads, value.shape[-1], width) if state is None else state
    if form == "step":
        outputs = []
        for q, k, v in zip(query.unbind(1), key.unbind(1), value.unbind(1), strict=True):
            output, memory = fading_step(q, k, v, left, memory)
            outputs.append(output)
        return torch.stack(outputs, 1), memory
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))  # (batch, head, time, width)
    whole = time if form == "parallel" else chunk
    output, memory = _in_chunks(q, k, v, left, memory, whole)
    return output.transpose(1, 2), memory


def fading_step(
    query: Float[Tensor, "batch head key"],
    key: Float[Tensor, "batch head key"],
    value: Float[Tensor, "batch head value"],
    decay: Float[Tensor, "head"],
    state: Float[Tensor, "batch head value key"],
) -> tuple[Float[Tensor, "batch head value"], Float[Tensor, "batch head value key"]]:
    """One step of `fading_memory`."""
    state = stored(key, value, decay, state)
    return recalled(query, state), state


def stored(key: Tensor, value: Tensor, decay: Tensor, state: Tensor) -> Tensor:
    """The memory one step later: faded, with the pair in it."""
    return torch.addcmul(value[..., :, None] * key[..., None, :], state, decay[:, None, None])


def recalled(query: Tensor, state: Tensor) -> Tensor:
    """What the memory answers."""
    return (state @ query[..., None])[..., 0]


def every_state(
    key: Float[Tensor, "batch time head key"],
    value: Float[Tensor, "batch time head value"],
    decay: Float[Tensor, "head"],
    state: Float[Tensor, "batch head value key"],
) -> Float[Tensor, "batch time head value key"]:
    """The memory after each step. It takes a matrix a step; only who looks at it needs it."""
    pairs = value[..., :, None] * key[..., None, :]
    rate = decay[:, None, None].expand(pairs.shape[2:]).flatten()
    return leaky_trace(pairs.flatten(2), rate, state.flatten(1)).unflatten(2, pairs.shape[2:])


def _in_chunks(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, memory: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Full chunks side by side, then what remains as one shorter chunk."""
    time = q.shape[2]
    full = time // chunk * chunk
    parts = []
    for first, stop, length in ((0, full, chunk), (full, time, time - full)):
        if first == stop:
            continue
        query, key, value = (x[:, :, first:stop].unflatten(2, (-1, length)) for x in (q, k, v))
        output, memory = _chunks(query, key, value, decay, memory)
        parts.append(output.flatten(2, 3))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2), memory


def _chunks(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """q, k, v: (batch, head, chunk, step, width)."""
    size = q.shape[3]
    step = torch.arange(size, device=q.device, dtype=q.dtype)
    log = decay.log()[:, None]
    # Powers are taken of the logarithm: a product of many small numbers would lose its place in single precision.
    mask = ((step[:, None] - step).clamp(min=0) * log[:, :, None]).exp().tril()  # (head, step, earlier step)
    output = ((q @ k.mT) * mask[:, None]) @ v
    to_end = ((size - 1 - step) * log).exp()[:, None, :, None]
    added = (v * to_end).mT @ k  # what each chunk leaves at its end: (batch, head, chunk, value, key)
    fade = (size * decay.log()).exp()
    if added.shape[2] == 1:
        before, after = memory[:, :, None], fade[:, None, None] * memory + added[:, :, 0]
    else:
        rate = fade[:, None].expand(-1, added.shape[3] * added.shape[4])
        ends = leaky_trace(added.flatten(3), rate, memory.flatten(2)).unflatten(3, added.shape[3:])
        before, after = torch.cat([memory[:, :, None], ends[:, :, :-1]], 2), ends[:, :, -1]
    from_begin = ((step + 1) * log).exp()[:, None, :, None]
    return output + (q * from_begin) @ before.mT, after
