"""Small worlds whose rules are known, for learners that act: a chain of locks, and a world without structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError

Transitions = Float[np.ndarray, "*agent state action next_state"]
DIMS = ("state", "action", "next_state")


def lock_chain(
    n_states: int = 12, n_actions: int = 3, *, slip: float = 0.1, n_worlds: int = 1, seed: int = 0
) -> xr.DataArray:
    """A chain of locks: in every state one action, the key, leads on, the others lead back to the first state.

    Parameters
    ----------
    n_states, n_actions
        Length of the chain, and choices in each state; the key differs from state to state. In the last state the key stays.
    slip
        Probability that an action ends in any state at all. With 0 a learner that acts at random sees the end of the chain
        about once in ``n_actions ** n_states`` tries.
    n_worlds
        Chains with keys of their own.

    Returns
    -------
    DataArray (world, state, action, next_state)
        Probabilities of the next state.

    Examples
    --------
    >>> world = lock_chain(4, 2, slip=0.0)
    >>> world.sel(world=0).sum("action").values.tolist()
    [[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0]]
    """
    _sizes(n_states, n_actions, n_worlds)
    if not 0 <= slip <= 1:
        raise InputError(f"slip {slip}; it is a probability")
    key = np.random.default_rng(seed).integers(0, n_actions, (n_worlds, n_states))
    p = np.zeros((n_worlds, n_states, n_actions, n_states))
    p[..., 0] = 1
    world, state = np.ogrid[:n_worlds, :n_states]
    p[world, state, key] = np.eye(n_states)[np.minimum(np.arange(n_states) + 1, n_states - 1)]
    return xr.DataArray((1 - slip) * p + slip / n_states, dims=("world", *DIMS))


def dense_world(
    n_states: int = 12, n_actions: int = 3, *, concentration: float = 1.0, n_worlds: int = 1, seed: int = 0
) -> xr.DataArray:
    """A world without structure: every action leads anywhere, with probabilities drawn from a Dirichlet distribution.

    Returns
    -------
    DataArray (world, state, action, next_state)

    Examples
    --------
    >>> bool(np.allclose(dense_world(5, 2).sum("next_state"), 1))
    True
    """
    _sizes(n_states, n_actions, n_worlds)
    if not concentration > 0:
        raise InputError(f"concentration {concentration} must be positive")
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(n_states, concentration), (n_worlds, n_states, n_actions))
    return xr.DataArray(p, dims=("world", *DIMS))


def as_transitions(world: Any) -> Transitions:
    """Transition probabilities `(world, state, action, next_state)`, checked.

    Raises
    ------
    InputError
        Other axes, negative probabilities, rows that do not sum to 1.
    """
    if isinstance(world, xr.DataArray):
        if not set(DIMS) <= set(world.dims):
            raise InputError(f"a world with dims {world.dims}; wanted: state, action, next_state")
        world = world.transpose(..., *DIMS)
    if hasattr(world, "detach"):
        world = world.detach().cpu()
    p = np.asarray(world, dtype=float)
    p = p[None] if p.ndim == 3 else p
    if p.ndim != 4 or p.shape[1] != p.shape[3] or 0 in p.shape:
        raise InputError(
            f"transitions of shape {np.shape(world)}; give (state, action, next_state), or one such a world"
        )
    if not np.isfinite(p).all() or (p < 0).any() or not np.allclose(p.sum(-1), 1, atol=1e-8):
        raise InputError("transitions must be probabilities that sum to 1 over next_state")
    return p


def _sizes(*sizes: int) -> None:
    if min(sizes) < 1:
        raise InputError(f"states, actions and worlds {sizes}; each at least 1")
