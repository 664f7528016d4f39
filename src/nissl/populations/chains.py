"""Hidden Markov chains: forward-backward, Viterbi and sampling, for many chains at once.

Everything here takes a table of log likelihoods `(..., time, state)`; what the emissions are is the caller's affair. Leading axes
(restarts, trials) are chains of their own. Bins without evidence are NaN, chains that end early have a length.

A chain is a product of S x S matrices, so time can be cut into blocks: products within all blocks at once, then one vector
through the blocks. That takes about 2 sqrt(T) steps where the recursion takes T, and is what makes the E-step quick. Vectors are
rescaled at each step; where that would lose a state to underflow (or an emission is impossible) the same recursion runs on logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from nissl.errors import InputError
from nissl.populations._chain_scan import checked, filter_scaled, forward_logs, smooth_logs, smooth_scaled


@dataclass(frozen=True)
class Posterior:
    """What the observations say about the states of each chain; numpy or torch, as was given.

    Attributes
    ----------
    log_marginal
        (...): log probability of all observations of a chain, in nats.
    probability
        (..., time, state): of each state in each bin given all observations (gamma); NaN after a chain's end.
    transitions
        (..., state, state): expected number of steps from state to next state (the sum over time of xi).
    """

    log_marginal: Any
    probability: Any
    transitions: Any


def forward_backward(
    log_likelihood: Float[Any, "*chain time state"],
    log_transition: Float[Any, "*#chain state state"],
    log_initial: Float[Any, "*#chain state"] | None = None,
    *,
    lengths: Int[Any, "*chain"] | None = None,
) -> Posterior:
    """Probabilities of the states given all observations, and the log probability of these.

    Parameters
    ----------
    log_likelihood
        (..., time, state): log p(observation in this bin | state), in nats; a bin that is NaN for all states is missing and says nothing.
    log_transition
        (..., state, next state): log probabilities, rows sum to one; shared by all chains, or one matrix a leading index.
    log_initial
        (..., state) of the first bin; uniform where None.
    lengths
        (...): bins of each chain that count, for trials of unequal length padded at the end.

    Returns
    -------
    Posterior
        `log_marginal`, `probability` (gamma) and `transitions` (sum over time of xi).

    Raises
    ------
    InputError
        Shapes that do not fit, probabilities that do not sum to one, NaN in some states of a bin only, observations that no path can give.

    Examples
    --------
    >>> stay = np.log([[0.9, 0.1], [0.1, 0.9]])
    >>> found = forward_backward(np.log([[0.8, 0.2], [0.7, 0.3], [0.1, 0.9]]), stay)
    >>> found.probability[:, 0].round(2).tolist()
    [0.7, 0.59, 0.3]

    References
    ----------
    Rabiner, "A tutorial on hidden Markov models", Proc. IEEE 1989, section III; Saerkkae and Garcia-Fernandez, "Temporal
    parallelization of Bayesian smoothers", IEEE TAC 2021 (products of elements in blocks).
    """
    chain = checked(log_likelihood, log_transition, log_initial, lengths)
    found = smooth_scaled(chain)
    if found is None:
        found = smooth_logs(chain)
    log_marginal, gamma, xi = found
    if not bool(torch.isfinite(log_marginal).all()):
        bad = torch.nonzero(~torch.isfinite(log_marginal)).flatten().tolist()
        raise InputError(
            f"observations that no path of states can give, in chains {bad[:6]}; look for log likelihoods of -inf"
        )
    gamma = torch.where(chain.inside[..., None], gamma, torch.nan)
    return Posterior(chain.out(log_marginal), chain.out(gamma), chain.out(xi))


def log_marginal(
    log_likelihood: Float[Any, "*chain time state"],
    log_transition: Float[Any, "*#chain state state"],
    log_initial: Float[Any, "*#chain state"] | None = None,
    *,
    lengths: Int[Any, "*chain"] | None = None,
) -> Any:
    """Log probability (...) of each chain's observations, in nats: the forward half of `forward_backward`.

    Takes and raises what `forward_backward` does; an impossible chain gives -inf.

    Examples
    --------
    >>> round(float(log_marginal(np.log([[0.5, 0.5]]), np.log(np.full((2, 2), 0.5)))), 4)
    -0.6931
    """
    chain = checked(log_likelihood, log_transition, log_initial, lengths)
    found = filter_scaled(chain)
    return chain.out(forward_logs(chain)[:, -1].logsumexp(-1) if found is None else found)


def viterbi(
    log_likelihood: Float[Any, "*chain time state"],
    log_transition: Float[Any, "*#chain state state"],
    log_initial: Float[Any, "*#chain state"] | None = None,
    *,
    lengths: Int[Any, "*chain"] | None = None,
) -> tuple[Any, Any]:
    """The most probable path of states, and its log probability together with the observations.

    Takes and raises what `forward_backward` does.

    Returns
    -------
    path, log_joint
        (..., time) of integers, -1 after a chain's end; (...) in nats.

    Examples
    --------
    >>> viterbi(np.log([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]]), np.log([[0.9, 0.1], [0.1, 0.9]]))[0].tolist()
    [0, 0, 0]
    """
    chain = checked(log_likelihood, log_transition, log_initial, lengths)
    n, length, states = chain.log_likelihood.shape
    best = chain.log_initial + chain.log_likelihood[:, 0]
    came_from = torch.empty(n, length, states, dtype=torch.int64, device=best.device)
    itself = torch.arange(states, device=best.device)
    inside_at = chain.inside
    for t in range(1, length):
        value, source = (best[:, :, None] + chain.log_transition).max(1)
        inside = inside_at[:, t, None]
        best = torch.where(inside, value + chain.log_likelihood[:, t], best)
        came_from[:, t] = torch.where(inside, source, itself)
    joint, state = best.max(-1)
    path = torch.empty(n, length, dtype=torch.int64, device=best.device)
    for t in range(length - 1, -1, -1):
        path[:, t] = state
        state = came_from[:, t].gather(1, state[:, None])[:, 0] if t else state
    if not bool(torch.isfinite(joint).all()):
        bad = torch.nonzero(~torch.isfinite(joint)).flatten().tolist()
        raise InputError(
            f"observations that no path of states can give, in chains {bad[:6]}; look for log likelihoods of -inf"
        )
    return chain.out(torch.where(chain.inside, path, -1)), chain.out(joint)


def sample_posterior(
    log_likelihood: Float[Any, "*chain time state"],
    log_transition: Float[Any, "*#chain state state"],
    log_initial: Float[Any, "*#chain state"] | None = None,
    *,
    lengths: Int[Any, "*chain"] | None = None,
    n: int = 1,
    seed: int = 0,
) -> Int[Any, "n *chain time"]:
    """Paths drawn from the posterior, forward filtering and backward sampling; takes and raises what `forward_backward` does.

    Returns
    -------
    array
        (n, ..., time) of integers, -1 after a chain's end.

    Examples
    --------
    >>> certain = np.log([[1.0, 1e-9], [1e-9, 1.0]])
    >>> sample_posterior(certain, np.log(np.full((2, 2), 0.5)), n=2).tolist()
    [[0, 1], [0, 1]]
    """
    if n < 1:
        raise InputError(f"n={n} paths; give 1 or more")
    chain = checked(log_likelihood, log_transition, log_initial, lengths)
    alpha = forward_logs(chain)
    if not bool(torch.isfinite(alpha[:, -1].logsumexp(-1)).all()):
        raise InputError("observations that no path of states can give; look for log likelihoods of -inf")
    chains, length, states = alpha.shape
    generator = torch.Generator(device=alpha.device).manual_seed(seed)
    # Adding Gumbel noise to log weights and taking the largest draws from them.
    noise = torch.rand(n, length, chains, states, generator=generator, dtype=alpha.dtype, device=alpha.device)
    noise = -torch.log(-torch.log(noise.clamp(1e-300, 1 - 1e-16)))
    path = torch.empty(n, chains, length, dtype=torch.int64, device=alpha.device)
    state = (alpha[:, -1] + noise[:, -1]).argmax(-1)
    path[..., -1] = state
    to_state = chain.log_transition.expand(chains, states, states).transpose(1, 2)  # [chain, next, now]
    each = torch.arange(chains, device=alpha.device)
    inside = chain.inside
    for t in range(length - 2, -1, -1):
        drawn = (alpha[:, t] + to_state[each, state] + noise[:, t]).argmax(-1)
        state = torch.where(inside[:, t + 1], drawn, state)
        path[..., t] = state
    path = torch.where(inside, path, -1).reshape(n, *chain.leading, length)
    return path.numpy() if chain.numpy else path


def sample_chain(
    transition: Float[np.ndarray, "state state"],
    n_steps: int,
    *,
    initial: Float[np.ndarray, " state"] | None = None,
    n_chains: int = 1,
    seed: int | np.random.Generator = 0,
) -> Int[np.ndarray, "chain time"]:
    """Paths of states drawn from the chain itself; `transition` holds probabilities, rows sum to one.

    Examples
    --------
    >>> sample_chain(np.eye(2), 3, initial=np.array([0.0, 1.0])).tolist()
    [[1, 1, 1]]
    """
    transition = np.asarray(transition, dtype=float)
    states = len(transition)
    initial = np.full(states, 1 / states) if initial is None else np.asarray(initial, dtype=float)
    if transition.shape != (states, states) or not np.allclose(transition.sum(1), 1) or (transition < 0).any():
        raise InputError("transition probabilities (state, next state); each row must sum to one")
    if initial.shape != (states,) or not np.isclose(initial.sum(), 1) or (initial < 0).any():
        raise InputError(f"{initial.shape} initial probabilities; give {states} that sum to one")
    if n_steps < 1 or n_chains < 1:
        raise InputError(f"{n_chains} chains of {n_steps} steps; give 1 or more of both")
    uniform = np.random.default_rng(seed).random((n_steps, n_chains, 1))
    # A state is how many cumulative probabilities a uniform number exceeds; the last one is 1 whatever rounding says.
    below, start = transition.cumsum(1)[:, :-1], initial.cumsum()[:-1]
    path = np.empty((n_chains, n_steps), dtype=np.int64)
    path[:, 0] = (uniform[0] >= start).sum(1)
    for t in range(1, n_steps):
        path[:, t] = (uniform[t] >= below[path[:, t - 1]]).sum(1)
    return path
