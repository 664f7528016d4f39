"""The recursions behind `chains`: rescaled vectors in blocks of time, and logarithms where these would underflow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nissl.errors import InputError

# Blocks hold a matrix for every bin: above so many numbers the plain recursion, which holds a vector, is better.
_BLOCKS_UP_TO = 30_000_000
# Products of matrices are rescaled every few steps; the least probability of any step bounds what they lose in between.
_RESCALE = 4
# A sum below this has lost states that may matter later: then logarithms.
_LEAST = 1e-200


@dataclass(frozen=True)
class Chain:
    """Checked input: all chains on one axis, missing bins without evidence, bins after the end marked."""

    log_likelihood: Tensor  # (chain, time, state); 0 where missing or after the end
    log_transition: Tensor  # (chain or 1, state, state)
    log_initial: Tensor  # (chain or 1, state)
    groups: Tensor  # (group, state, state): transition probabilities; chains of a group follow one another
    lengths: Tensor  # (chain,)
    leading: tuple[int, ...]
    numpy: bool

    @property
    def inside(self) -> Tensor:
        """(chain, time): before a chain's end."""
        return torch.arange(self.log_likelihood.shape[1], device=self.lengths.device) < self.lengths[:, None]

    def out(self, x: Tensor) -> Any:
        """With the leading axes, and as the kind of array, that came in."""
        x = x.reshape((*self.leading, *x.shape[1:]))
        return x.numpy() if self.numpy else x

    def by_time(self, x: Tensor) -> Tensor:
        """(time, group, state, member) of (chain, time, state): the long axis last, for arithmetic over all chains at once."""
        return x.reshape(len(self.groups), -1, *x.shape[1:]).permute(2, 0, 3, 1).contiguous()

    def by_chain(self, x: Tensor) -> Tensor:
        """The reverse of `by_time`."""
        length, _, states, _ = x.shape
        return x.permute(1, 3, 0, 2).reshape(-1, length, states)

    def scaled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Emissions by time, at most one in each bin, the first vector, and the log scale (chain,) taken out."""
        top = self.log_likelihood.amax(-1, keepdim=True).nan_to_num(neginf=0.0)
        emission = self.by_time((self.log_likelihood - top).exp())
        initial = self.log_initial.exp().expand(len(top), -1)[:, None]
        return emission, self.by_time(initial)[0] * emission[0], top.sum((1, 2))

    def at_end(self, scales: Tensor) -> Tensor:
        """(chain,): the last bin's of (time, group, member)."""
        return self.by_chain(scales[:, :, None])[..., 0].gather(1, self.lengths[:, None] - 1)[:, 0]


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

    given = tuple(np.shape(log_transition)[:-2])
    transition = spread(log_transition, "log_transition", states, states)
    initial = spread(np.full(states, -np.log(states)) if log_initial is None else log_initial, "log_initial", states)
    table = table.reshape(n, length, states)
    ends = torch.full((n,), length, device=device)
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
    groups = transition.exp()[:: n // _groups(given, tuple(lead))] if len(transition) > 1 else transition.exp()
    return Chain(table, transition, initial, groups, ends, tuple(lead), is_numpy)


def _groups(given: tuple[int, ...], lead: tuple[int, ...]) -> int:
    """How many matrices there are to chains of shape `lead`, whose later axes share one: (5, 1) for (5, 30) is 5."""
    given = (1,) * (len(lead) - len(given)) + given
    shared = 0
    while shared < len(lead) and given[len(lead) - 1 - shared] == 1:
        shared += 1
    first = lead[: len(lead) - shared]
    return math.prod(first) if given[: len(first)] == first else math.prod(lead)


def smooth_scaled(chain: Chain) -> tuple[Tensor, Tensor, Tensor] | None:
    """Log marginal, gamma and summed xi with rescaled vectors; None where a state was lost to underflow."""
    emission, first, offset = chain.scaled()
    p = chain.groups
    g = len(p)
    # The backward vector times the emission obeys the forward recursion with the transposed matrix, in reverse: both in one pass.
    both = torch.cat([emission[1:], emission[:-1].flip(0)], 1)
    found = recursion(both, torch.cat([p.transpose(1, 2), p]), torch.cat([first, emission[-1]]))
    if found is None:
        return None
    alpha, ahead = found[0][:, :g], found[0][:, g:].flip(0)
    beta = torch.cat([p @ ahead[1:], torch.ones_like(ahead[:1])])
    gamma = alpha * beta
    total = gamma.sum(2, keepdim=True)
    if not bool((total > _LEAST).all()):
        return None
    # xi_t[i, j] is alpha_t[i] P[i, j] ahead_t+1[j] over the same total; the sum over time is one matrix product.
    inside = chain.by_time(chain.inside[..., None].to(gamma.dtype))[1:]
    now = (alpha[:-1] * (inside / total[:-1])).permute(1, 3, 2, 0)
    xi = p[:, None] * (now @ ahead[1:].permute(1, 3, 0, 2))
    return chain.at_end(found[1][:, :g]) + offset, chain.by_chain(gamma / total), xi.reshape(-1, *xi.shape[2:])


def filter_scaled(chain: Chain) -> Tensor | None:
    """Log marginal (chain,) alone; None where a state was lost to underflow."""
    emission, first, offset = chain.scaled()
    found = recursion(emission[1:], chain.groups.transpose(1, 2), first)
    return None if found is None else chain.at_end(found[1]) + offset


def recursion(emission: Tensor, mixing: Tensor, first: Tensor) -> tuple[Tensor, Tensor] | None:
    """Vectors v_t = emission_t * (mixing @ v_t-1) from v_0 = first, rescaled to sum to one, and logs of their scale.

    emission (time - 1, group, state, member), mixing (group, state, state), first (group, state, member), none negative. Gives
    (time, group, state, member) and (time, group, member); None where a vector all but vanished.
    """
    length, groups, states, members = emission.shape
    scale = first.sum(1, keepdim=True)
    if not bool((scale > 0).all()):
        return None
    in_blocks = length >= 32 and length * groups * states * states * members < _BLOCKS_UP_TO
    found = (blocks if in_blocks else one_by_one)(emission, mixing, first / scale)
    return None if found is None else (found[0], found[1] + scale[:, 0].log())


def one_by_one(emission: Tensor, mixing: Tensor, vector: Tensor) -> tuple[Tensor, Tensor] | None:
    """The recursion as it is written, one step of time after another."""
    vectors, sums = emission.new_empty(len(emission) + 1, *vector.shape), emission.new_ones(len(emission) + 1, 1, 1, 1)
    sums = sums.repeat(1, vector.shape[0], 1, vector.shape[2])
    vectors[0] = vector
    for t in range(len(emission)):
        vector = (mixing @ vector) * emission[t]
        sums[t + 1] = vector.sum(1, keepdim=True)
        vector = vector / sums[t + 1]
        vectors[t + 1] = vector
    if not bool((sums > _LEAST).all()):  # NaN after a zero fails too
        return None
    return vectors, sums[:, :, 0].log().cumsum(0)


def blocks(emission: Tensor, mixing: Tensor, vector: Tensor) -> tuple[Tensor, Tensor] | None:
    """The same in blocks of time: products of matrices within all blocks at once, then one vector through the blocks."""
    length, groups, states, members = emission.shape
    size = max(8, math.isqrt(length))
    n = -(-length // size)
    padded = torch.nn.functional.pad(emission, (0, 0, 0, 0, 0, 0, 0, n * size - length), value=1.0)
    step = padded.reshape(n, size, groups, states, members).permute(1, 2, 3, 4, 0).reshape(size, groups, states, -1)
    # product[k][:, j, i]: from state i before the block to state j after k + 1 of its steps; each i has a scale of its own.
    product = step.new_empty(size, groups, states, states, members * n)
    scale = step.new_empty(size, groups, states, members * n)
    row = torch.eye(states, dtype=step.dtype, device=step.device)[None, :, :, None].expand_as(product[0])
    logs, least = torch.zeros_like(scale[0]), step.new_ones(())
    for k in range(size):
        row = (mixing @ row.reshape(groups, states, -1)).reshape(product[0].shape) * step[k][:, :, None]
        if k % _RESCALE == _RESCALE - 1 or k == size - 1:
            total = row.sum(1)
            least = torch.minimum(least, total.amin())
            row, logs = row / total[:, None], logs + total.log()
        product[k], scale[k] = row, logs
    if not bool(least > _LEAST):
        return None
    top = scale.amax(2)
    weight = (scale - top[:, :, None]).exp().reshape(size, groups, states, members, n)
    top = top.reshape(size, groups, members, n)

    entering = step.new_empty(groups, states, members, n)
    entered = step.new_empty(groups, members, n)
    last = product[-1].reshape(groups, states, states, members, n) * weight[-1][:, None]
    now, logs = vector, torch.zeros_like(vector[:, 0])
    for b in range(n):
        entering[..., b], entered[..., b] = now, logs
        now = (last[..., b] * now[:, None]).sum(2)
        total = now.sum(1)
        now, logs = now / total[:, None], logs + total.log() + top[-1, ..., b]
    share = (weight * entering).reshape(scale.shape)
    vectors = product[:, :, :, 0] * share[:, :, None, 0]
    for i in range(1, states):
        vectors.addcmul_(product[:, :, :, i], share[:, :, None, i])
    total = vectors.sum(2)
    if not bool((total > _LEAST).all()):
        return None
    scales = total.log().reshape(top.shape) + top + entered
    vectors = (vectors / total[:, :, None]).reshape(size, groups, states, members, n)
    vectors = vectors.permute(4, 0, 1, 2, 3).reshape(n * size, groups, states, members)[:length]
    scales = scales.permute(3, 0, 1, 2).reshape(n * size, groups, members)[:length]
    return torch.cat([vector[None], vectors]), torch.cat([torch.zeros_like(scales[:1]), scales])


def forward_logs(chain: Chain) -> Tensor:
    """Log alpha (chain, time, state), by logarithms all the way; constant after a chain's end."""
    alpha = torch.empty_like(chain.log_likelihood)
    now = alpha[:, 0] = chain.log_initial + chain.log_likelihood[:, 0]
    inside = chain.inside
    for t in range(1, alpha.shape[1]):
        moved = (now[:, :, None] + chain.log_transition).logsumexp(1) + chain.log_likelihood[:, t]
        now = alpha[:, t] = torch.where(inside[:, t, None], moved, now)
    return alpha


def smooth_logs(chain: Chain) -> tuple[Tensor, Tensor, Tensor]:
    alpha = forward_logs(chain)
    beta = torch.zeros_like(alpha)
    inside = chain.inside
    for t in range(alpha.shape[1] - 2, -1, -1):
        ahead = chain.log_transition + (chain.log_likelihood[:, t + 1] + beta[:, t + 1])[:, None]
        beta[:, t] = torch.where(inside[:, t + 1, None], ahead.logsumexp(2), beta[:, t + 1])
    log_marginal = alpha[:, -1].logsumexp(-1)
    gamma = (alpha + beta - log_marginal[:, None, None]).exp()
    ahead = (chain.log_likelihood + beta)[:, 1:, None] + chain.log_transition[:, None]
    xi = (alpha[:, :-1, :, None] + ahead - log_marginal[:, None, None, None]).exp()
    return log_marginal, gamma, torch.where(inside[:, 1:, None, None], xi, 0.0).sum(1)
