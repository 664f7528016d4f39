"""Where will I be, and where could I be? Successor representation and empowerment."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.special import rel_entr
from sklearn.base import BaseEstimator

from nissl.errors import InputError
from nissl.learning.worlds import as_transitions


def successor_matrix(transitions: Any, *, discount: float = 0.95) -> xr.DataArray:
    """Discounted visits to every state to come, ``(I - discount P)^-1``, in closed form (Dayan 1993).

    Parameters
    ----------
    transitions
        `(state, next_state)`, rows sum to 1: a world under one policy, see `under_policy`.
    discount
        In [0, 1).

    Returns
    -------
    DataArray (target, source)
        Element [i, j]: visits to i, starting from j.

    Examples
    --------
    >>> successor_matrix(np.array([[0.0, 1.0], [0.0, 1.0]]), discount=0.5).values.tolist()
    [[1.0, 0.0], [1.0, 2.0]]
    """
    p = _chain(transitions)
    _discount(discount)
    m = np.linalg.solve(np.eye(len(p)) - discount * p, np.eye(len(p)))
    return _pair(m.T)


def under_policy(world: Any, policy: Any = None) -> Float[np.ndarray, "state next_state"]:
    """Transitions between states when actions are taken by a policy `(state, action)`, all alike where None.

    Examples
    --------
    >>> world = np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]])
    >>> under_policy(world).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    p = as_transitions(world)
    if len(p) != 1:
        raise InputError(f"{len(p)} worlds; give one")
    n_states, n_actions = p.shape[1:3]
    choice = np.full((n_states, n_actions), 1 / n_actions) if policy is None else np.asarray(policy, dtype=float)
    if choice.shape != (n_states, n_actions) or (choice < 0).any() or not np.allclose(choice.sum(1), 1):
        raise InputError(
            f"a policy of shape {choice.shape}; give probabilities of {n_actions} actions in each of {n_states} states"
        )
    return np.einsum("sa,san->sn", choice, p[0])


class SuccessorRepresentation(BaseEstimator):
    """Successor representation learned from experience by temporal differences.

    After each step from s to s', ``M[s] += rate (e_s + discount M[s'] - M[s])``.

    Parameters
    ----------
    discount
        In [0, 1).
    rate
        Step size. It falls with the number of visits n of a state, as ``rate / (1 + n / half)``, so that the estimate settles.
    half
        Visits after which the step size has fallen to one half; None for a constant step.

    Attributes
    ----------
    matrix_ : DataArray (target, source)
        Element [i, j]: discounted visits to i, starting from j.
    visits_ : (state,)

    Examples
    --------
    >>> path = np.tile([0, 1, 2], 2000)
    >>> learned = SuccessorRepresentation(discount=0.5).fit(path).matrix_
    >>> bool(np.allclose(learned, successor_matrix(np.eye(3)[[1, 2, 0]], discount=0.5), atol=1e-2))
    True
    """

    def __init__(self, *, discount: float = 0.95, rate: float = 0.5, half: float | None = 20.0) -> None:
        self.discount = discount
        self.rate = rate
        self.half = half

    def fit(self, states: Any, n_states: int | None = None) -> SuccessorRepresentation:
        """Learn from paths.

        Parameters
        ----------
        states
            Numbers of the states visited, `(time,)` or `(agent, time)`. Agents learn one matrix each; with one path the axis is dropped.
        n_states
            How many there are; the largest number seen plus one where None.
        """
        path = np.asarray(states)
        if path.ndim not in (1, 2) or path.dtype.kind not in "iu" or path.shape[-1] < 2 or path.min() < 0:
            raise InputError(
                f"states of shape {path.shape} and type {path.dtype}; give whole numbers from 0, (time,) or (agent, time)"
            )
        n = n_states or int(path.max()) + 1
        if path.max() >= n:
            raise InputError(f"state {path.max()} of {n}; states count from 0")
        _discount(self.discount)
        if not 0 < self.rate <= 1 or (self.half is not None and not self.half > 0):
            raise InputError(f"rate {self.rate} and half {self.half}; the rate lies in (0, 1], half is positive")
        alone = path.ndim == 1
        path = np.atleast_2d(path)
        who = np.arange(len(path))
        m = np.broadcast_to(np.eye(n), (len(path), n, n)).copy()
        visits, one = np.zeros((len(path), n)), np.eye(n)
        for now, after in zip(path.T[:-1], path.T[1:], strict=True):
            step = self.rate if self.half is None else self.rate / (1 + visits[who, now] / self.half)
            error = one[now] + self.discount * m[who, after] - m[who, now]
            m[who, now] += np.reshape(step, (-1, 1)) * error
            visits[who, now] += 1
        turned = m.transpose(0, 2, 1)
        self.matrix_ = _pair(turned[0]) if alone else xr.DataArray(turned, dims=("agent", "target", "source"))
        self.visits_ = visits[0] if alone else visits
        return self


def empowerment(world: Any, *, horizon: int = 1, tolerance: float = 1e-9, max_iter: int = 10_000) -> xr.DataArray:
    """How much an agent can decide where it will be: the capacity, in nats, of the channel from its actions to its state
    (Klyubin, Polani and Nehaniv 2005), by the algorithm of Blahut and Arimoto for all states together.

    Parameters
    ----------
    world
        `(state, action, next_state)`.
    horizon
        Actions taken one after another before the state is looked at; there are ``actions ** horizon`` ways to do so.
    tolerance
        Largest distance between the bounds on the capacity.

    Returns
    -------
    DataArray (state)

    Raises
    ------
    InputError
        Too many sequences of actions, or bounds that do not meet.

    Examples
    --------
    >>> world = np.eye(3)[None].repeat(3, 0)  # three actions, each leads to a state of its own
    >>> bool(np.allclose(empowerment(world), np.log(3)))
    True
    """
    p = as_transitions(world)
    if len(p) != 1:
        raise InputError(f"{len(p)} worlds; give one")
    p = p[0]
    n_states, n_actions = p.shape[:2]
    if horizon < 1 or n_actions**horizon * n_states**2 > 5e7:
        raise InputError(
            f"horizon {horizon}: {n_actions}^{horizon} sequences of actions in {n_states} states are too many; shorten it"
        )
    channel = p
    for _ in range(horizon - 1):
        channel = np.einsum("scn,nam->scam", channel, p).reshape(n_states, -1, n_states)
    use = np.full(channel.shape[:2], 1 / channel.shape[1])
    low = high = np.zeros(n_states)
    for _ in range(max_iter):
        mixed = np.einsum("sa,san->sn", use, channel)
        told = rel_entr(channel, mixed[:, None]).sum(-1)
        grown = use * np.exp(told)
        low, high = np.log(grown.sum(1)), told.max(1)
        if (high - low).max() < tolerance:
            return xr.DataArray(np.maximum(low, 0), dims="state", attrs={"units": "nats"})
        use = grown / grown.sum(1, keepdims=True)
    raise InputError(
        f"after {max_iter} iterations the capacity is known to {(high - low).max():.2g} nats only; raise max_iter or tolerance"
    )


def _chain(transitions: Any) -> np.ndarray:
    p = np.asarray(transitions.detach().cpu() if hasattr(transitions, "detach") else transitions, dtype=float)
    if p.ndim != 2 or p.shape[0] != p.shape[1] or (p < 0).any() or not np.allclose(p.sum(1), 1):
        raise InputError(
            f"transitions of shape {p.shape}; give (state, next_state), rows that sum to 1; under_policy makes them of a world"
        )
    return p


def _discount(discount: float) -> None:
    if not 0 <= discount < 1:
        raise InputError(f"discount {discount}; it lies in [0, 1)")


def _pair(values: np.ndarray) -> xr.DataArray:
    names = np.arange(len(values))
    return xr.DataArray(values, dims=("target", "source"), coords={"target": names, "source": names})
