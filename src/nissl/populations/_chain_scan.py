"""The recursions behind `chains`: rescaled vectors in blocks of time, and logarithms where these would underflow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nissl.errors import InputError

# Above this many chains the plain recursion is as quick as blocks: its vectors are long enough.
_MANY_CHAINS = 48


@dataclass(frozen=True)
class Chain:
    """Checked input: all chains on one axis, missing bins without evidence, bins after the end marked."""

    log_likelihood: Tensor  # (chain, time, state); 0 where missing or after the end
    log_transition: Tensor  # (chain or 1, state, state)
    log_initial: Tensor  # (chain or 1, state)
    inside: Tensor  # (chain, time)
    leading: tuple[int, ...]
    numpy: bool

    def out(self, x: Tensor) -> Any:
        x = x.reshape((*self.leading, *x.shape[1:]))
        return x.numpy() if self.numpy else x

    def scaled(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Matrices of each step (chain, time - 1, state, next), the first vector, rescaled emissions, and the log scale taken out."""
        top = self.log_likelihood.amax(-1, keepdim=True).nan_to_num(neginf=0.0)
        emission = (self.log_likelihood - top).exp()
        first = self.log_initial.exp() * emission[:, 0]
        steps = self.log_transition.exp()[:, None] * emission[:, 1:, None]
        if not bool(self.inside.all()):
            steps = torch.where(
                self.inside[:, 1:, None, None],
                steps,
                torch.eye(steps.shape[-1], dtype=steps.dtype, device=steps.device),
            )
        return steps, first, emission, top.sum((1, 2))


def checked(log_likelihood: Any, log_transition: Any, log_initial: Any, lengths: Any) -> Chain:
    is_numpy = not isinstance(log_likelihood, Tensor)
    table = torch.as_tensor(np.asarray(log_likelihood) if is_numpy else log_likelihood).detach()
    device = table.device
    table = table.to(torch.float64)
    if table.ndim < 2 or 0 in table.shape:
        raise InputError(
            f"log likelihoods of shape {tuple(table.shape)}; give (..., time, state) with at least one of each"
        )
    *lead, length, states = table.shape
    n = math.prod(lead)

    def spread(x: Any, name: str, *tail: int) -> Tensor:
        x = torch.as_tensor(x if isinstance(x, Tensor) else np.asarray(x), dtype=torch.float64, device=device).detach()
        if tuple(x.shape[-len(tail) :]) != tail or x.ndim - len(tail) > len(lead):
            raise InputError(
                f"{name} of shape {tuple(x.shape)} for {states} states; give (..., {', '.join(map(str, tail))})"
            )
        if torch.isnan(x).any() or not torch.allclose(
            x.exp().sum(-1), torch.ones((), dtype=x.dtype, device=device), atol=1e-6
        ):
            raise InputError(
                f"{name} holds log probabilities that do not sum to one; give logarithms of a normalised table"
            )
        if x.ndim == len(tail):
            return x[None]
        try:
            return x.expand(*lead, *tail).reshape(n, *tail)
        except RuntimeError:
            raise InputError(
                f"{name} of shape {tuple(x.shape)} for chains of shape {tuple(lead)}; leading axes must fit"
            ) from None

    transition = spread(log_transition, "log_transition", states, states)
    initial = spread(np.full(states, -np.log(states)) if log_initial is None else log_initial, "log_initial", states)
    table = table.reshape(n, length, states)
    inside = torch.ones(n, length, dtype=torch.bool, device=device)
    if lengths is not None:
        ends = torch.as_tensor(lengths, device=device).reshape(-1)
        if ends.shape != (n,) or (ends < 1).any() or (ends > length).any():
            raise InputError(
                f"lengths {ends.tolist()[:6]} for {n} chains of {length} bins; give one a chain, from 1 to {length}"
            )
        inside = torch.arange(length, device=device) < ends[:, None]
    empty = torch.isnan(table)
    known = inside & ~empty.all(-1)
    if (empty.any(-1) & known).any() or (table == torch.inf).any():
        raise InputError(
            "log likelihoods that are NaN for some states of a bin only, or infinite; a missing bin is NaN for all states"
        )
    table = torch.where(known[..., None], table, 0.0)
    return Chain(table, transition, initial, inside, tuple(lead), is_numpy)


def smooth_scaled(chain: Chain) -> tuple[Tensor, Tensor, Tensor] | None:
    """Log marginal, gamma and summed xi with rescaled vectors; None where a state was lost to underflow."""
    steps, first, emission, offset = chain.scaled()
    n = len(first)
    # Backwards is forwards on the transposed matrices in reverse: both directions in one pass.
    both = torch.cat([steps, steps.flip(1).transpose(2, 3)])
    done = products(both, torch.cat([first, torch.ones_like(first)]))
    if done is None:
        return None
    vectors, scale = done
    alpha, beta = vectors[:n], vectors[n:].flip(1)
    gamma = alpha * beta
    total = gamma.sum(-1, keepdim=True)
    if not bool((total > 1e-250).all()):
        return None
    gamma = gamma / total
    # xi_t[i, j] is alpha_t[i] A_t[i, j] beta_t+1[j] over its sum; the sum over time is one matrix product.
    after = (steps * beta[:, 1:, None]).sum(-1)
    weight = (alpha[:, :-1] * after).sum(-1, keepdim=True)
    weight = torch.where(chain.inside[:, 1:, None], 1 / weight, 0.0)
    xi = chain.log_transition.exp() * ((alpha[:, :-1] * weight).transpose(1, 2) @ (emission[:, 1:] * beta[:, 1:]))
    return scale[:n, -1] + offset, gamma, xi


def products(steps: Tensor, first: Tensor) -> tuple[Tensor, Tensor] | None:
    """Running products first @ steps[0] @ ... @ steps[t] for every t: vectors that sum to one, logs of their scale.

    steps (chain, time - 1, state, state) and first (chain, state), non-negative. None where a vector vanished.
    """
    n, length, _, _ = steps.shape
    scale = first.sum(-1)
    if not bool((scale > 0).all()):
        return None
    plain = n >= _MANY_CHAINS or length < 32
    found = one_by_one(steps, first / scale[:, None]) if plain else in_blocks(steps, first / scale[:, None])
    if found is None:
        return None
    vectors, scales = found
    return vectors, scales + scale.log()[:, None]


def one_by_one(steps: Tensor, vector: Tensor) -> tuple[Tensor, Tensor] | None:
    n, length, states, _ = steps.shape
    vectors = torch.empty(n, length + 1, states, dtype=steps.dtype, device=steps.device)
    sums = torch.ones(length + 1, n, dtype=steps.dtype, device=steps.device)
    vectors[:, 0], row = vector, vector[:, None]
    for t in range(length):
        row = torch.bmm(row, steps[:, t])
        total = row.sum(-1, keepdim=True)
        row = row / total
        vectors[:, t + 1], sums[t + 1] = row[:, 0], total[:, 0, 0]
    if not bool((sums > 0).all()):  # NaN after a zero fails too
        return None
    return vectors, sums.log().T.cumsum(1)


def in_blocks(steps: Tensor, vector: Tensor) -> tuple[Tensor, Tensor] | None:
    n, length, states, _ = steps.shape
    size = max(16, math.isqrt(length))
    blocks = -(-length // size)
    if blocks * size > length:
        eye = torch.eye(states, dtype=steps.dtype, device=steps.device)
        steps = torch.cat([steps, eye.expand(n, blocks * size - length, states, states)], 1)
    steps = steps.reshape(n * blocks, size, states, states)
    product = torch.empty(size, n * blocks, states, states, dtype=steps.dtype, device=steps.device)
    sums = torch.empty(size, n * blocks, states, 1, dtype=steps.dtype, device=steps.device)
    # Each row of a product is the filter that starts in that state, with a scale of its own.
    row = torch.eye(states, dtype=steps.dtype, device=steps.device).expand(n * blocks, states, states)
    for k in range(size):
        row = torch.bmm(row, steps[:, k])
        sums[k] = row.sum(-1, keepdim=True)
        row = row / sums[k]
        product[k] = row
    if not bool((sums > 0).all()):
        return None
    scale = sums[..., 0].log().cumsum(0)
    top = scale.amax(-1)  # (size, n * blocks)
    product *= (scale - top[..., None]).exp()[..., None]
    product, top = product.reshape(size, n, blocks, states, states), top.reshape(size, n, blocks)

    entering = torch.empty(n, blocks, states, dtype=steps.dtype, device=steps.device)
    entered = torch.empty(n, blocks, dtype=steps.dtype, device=steps.device)
    now, logs = vector, torch.zeros(n, dtype=steps.dtype, device=steps.device)
    for b in range(blocks):
        entering[:, b], entered[:, b] = now, logs
        now = torch.bmm(now[:, None], product[-1][:, b])[:, 0]
        total = now.sum(-1, keepdim=True)
        now, logs = now / total, logs + total[:, 0].log() + top[-1, :, b]
    vectors = torch.einsum("nbs,knbsr->nbkr", entering, product)
    total = vectors.sum(-1, keepdim=True)
    if not bool((total > 1e-250).all()):
        return None
    vectors = torch.cat([vector[:, None], (vectors / total).reshape(n, -1, states)[:, :length]], 1)
    scales = total[..., 0].log() + top.permute(1, 2, 0) + entered[..., None]
    return vectors, torch.cat([torch.zeros_like(scales[:, :1, 0]), scales.reshape(n, -1)[:, :length]], 1)


def forward_logs(chain: Chain) -> Tensor:
    """Log alpha (chain, time, state), by logarithms all the way; constant after a chain's end."""
    alpha = torch.empty_like(chain.log_likelihood)
    now = alpha[:, 0] = chain.log_initial + chain.log_likelihood[:, 0]
    for t in range(1, alpha.shape[1]):
        moved = (now[:, :, None] + chain.log_transition).logsumexp(1) + chain.log_likelihood[:, t]
        now = alpha[:, t] = torch.where(chain.inside[:, t, None], moved, now)
    return alpha


def smooth_logs(chain: Chain) -> tuple[Tensor, Tensor, Tensor]:
    alpha = forward_logs(chain)
    beta = torch.zeros_like(alpha)
    for t in range(alpha.shape[1] - 2, -1, -1):
        ahead = chain.log_transition + (chain.log_likelihood[:, t + 1] + beta[:, t + 1])[:, None]
        beta[:, t] = torch.where(chain.inside[:, t + 1, None], ahead.logsumexp(2), beta[:, t + 1])
    log_marginal = alpha[:, -1].logsumexp(-1)
    gamma = (alpha + beta - log_marginal[:, None, None]).exp()
    ahead = (chain.log_likelihood + beta)[:, 1:, None] + chain.log_transition[:, None]
    xi = (alpha[:, :-1, :, None] + ahead - log_marginal[:, None, None, None]).exp()
    return log_marginal, gamma, torch.where(chain.inside[:, 1:, None, None], xi, 0.0).sum(1)
