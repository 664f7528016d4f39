"""Learning a world by acting in it: how much is still missing, what would tell most, and learners that do not ask."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Float
from scipy.special import rel_entr
from sklearn.base import BaseEstimator

from nissl.errors import InputError, unknown
from nissl.learning.worlds import as_transitions

STRATEGIES = ("gain", "random", "least_tried", "yoked")
Counts = Float[np.ndarray, "*agent state action next_state"]


def missing_information(world: Any, predicted: Any) -> Float[np.ndarray, "*agent"]:
    """What a model does not know of a world: ``sum over states and actions of KL(true || predicted)``, in nats.

    Parameters
    ----------
    world, predicted
        `(..., state, action, next_state)`, probabilities of the next state.

    Examples
    --------
    >>> world = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> float(missing_information(world, np.full((2, 1, 2), 0.5)).round(4))
    1.3863
    """
    return rel_entr(np.asarray(world, dtype=float), np.asarray(predicted, dtype=float)).sum((-3, -2, -1))


def predicted_information_gain(counts: Counts, *, prior: float) -> Float[np.ndarray, "*agent state action"]:
    """How much trying an action once more is expected to change the model, in nats (Little and Sommer 2013).

    ``PIG(s, a) = sum_s' P(s'|s,a) KL(P after seeing s' || P)``, with P the mean of a Dirichlet posterior, counts plus `prior`. Only
    the entry of s' grows, so that the divergence has a closed form and all states, actions and agents are one expression.

    Examples
    --------
    >>> gain = predicted_information_gain(np.array([[[0.0, 0.0], [10.0, 10.0]]]), prior=1.0)
    >>> bool(gain[0, 0] > 10 * gain[0, 1] > 0)
    True
    """
    if not prior > 0:
        raise InputError(f"prior {prior}; it must be positive")
    alpha = np.asarray(counts, dtype=float) + prior
    total = alpha.sum(-1, keepdims=True)
    seen = alpha / total * (alpha + 1) / (total + 1) * np.log1p(1 / alpha)
    # Rounding may leave -1e-17 where nothing can be learnt.
    return np.maximum(seen.sum(-1) - np.log1p(1 / total[..., 0]), 0)


def value_iteration(
    reward: Float[np.ndarray, "*agent state action"],
    transitions: Float[np.ndarray, "*agent state action next_state"],
    *,
    discount: float = 0.95,
    sweeps: int = 15,
) -> Float[np.ndarray, "*agent state action"]:
    """Values of actions, ``Q = reward + discount * P max_a Q``, swept over all states, actions and agents together.

    Examples
    --------
    >>> move = np.array([[[0.0, 1.0]], [[0.0, 1.0]]])  # both states lead to the second
    >>> value_iteration(np.array([[0.0], [1.0]]), move, discount=0.5, sweeps=50).round(6).tolist()
    [[1.0], [2.0]]
    """
    if not 0 <= discount < 1 or sweeps < 1:
        raise InputError(f"discount {discount} and {sweeps} sweeps; the discount lies in [0, 1), sweeps from 1")
    value = np.zeros(reward.shape[:-1])
    q = reward
    for _ in range(sweeps):
        q = reward + discount * (transitions @ value[..., None, :, None])[..., 0]
        value = q.max(-1)
    return q


class ExplorationAgent(BaseEstimator):
    """Agents that build a model of their world by acting in it.

    Each counts what followed what, and believes the mean of a Dirichlet posterior. They differ in how they choose:

    - "gain": plans, by value iteration, where most information is to be had;
    - "random": at random;
    - "least_tried": what was tried least in this state;
    - "yoked": repeats the actions of others, whatever they lead to here: as much experience, but no choice.

    Parameters
    ----------
    strategy
        See above.
    prior
        Added to every count; 1 / number of states where None, one observation's worth in all.
    discount, sweeps, every
        Of value iteration, which is run anew each so many steps.

    Attributes
    ----------
    counts_ : DataArray (agent, state, action, next_state)
    transitions_ : DataArray, the model: probabilities of the next state
    missing_ : DataArray (agent, time)
        Missing information after each step, in nats; `time` 0 is before the first.
    path_ : Dataset
        state, action and next_state (agent, time).

    References
    ----------
    Little and Sommer 2013, Learning and exploration in action-perception loops.

    Examples
    --------
    >>> from nissl.learning import lock_chain
    >>> worlds = lock_chain(n_worlds=4)
    >>> curious, idle = (ExplorationAgent(strategy=s).fit(worlds, 200) for s in ("gain", "random"))
    >>> bool(curious.missing_[:, -1].mean() < 0.6 * idle.missing_[:, -1].mean())
    True
    """

    def __init__(
        self,
        *,
        strategy: Literal["gain", "random", "least_tried", "yoked"] = "gain",
        prior: float | None = None,
        discount: float = 0.95,
        sweeps: int = 15,
        every: int = 5,
    ) -> None:
        self.strategy = strategy
        self.prior = prior
        self.discount = discount
        self.sweeps = sweeps
        self.every = every

    def fit(
        self,
        world: Any,
        n_steps: int = 300,
        *,
        n_agents: int | None = None,
        start: int = 0,
        actions: Any = None,
        counts: Any = None,
        seed: int = 0,
    ) -> ExplorationAgent:
        """Live in a world for some steps, all agents together.

        Parameters
        ----------
        world
            `(state, action, next_state)` for all, or `(world, state, action, next_state)`, one world an agent.
        n_steps
            Actions taken.
        n_agents
            Agents in one world; a world each where several worlds are given.
        start
            First state.
        actions
            For yoked agents: `(agent, time)`, such as another agent's ``path_.action``.
        counts
            What the agents have seen before, `(agent, state, action, next_state)`: the way to change a world and watch them find out.
        seed
            Of the world's chance and the agents' own.
        """
        p = as_transitions(world)
        if n_agents is not None and len(p) not in (1, n_agents):
            raise InputError(f"{n_agents} agents for {len(p)} worlds; give one world, or one an agent")
        p = np.broadcast_to(p, (n_agents or len(p), *p.shape[1:]))
        agents, n_states, n_actions, _ = p.shape
        told = self._check(n_steps, n_states, n_actions, agents, start, actions)
        prior = self.prior if self.prior is not None else 1 / n_states
        seen = (
            np.zeros(p.shape) if counts is None else np.array(np.broadcast_to(np.asarray(counts, dtype=float), p.shape))
        )
        if (seen < 0).any():
            raise InputError("counts are negative")

        rng, who = np.random.default_rng(seed), np.arange(agents)
        state, values = np.full(agents, start), np.zeros(p.shape[:-1])
        outcome = p.cumsum(-1)
        path = np.empty((3, agents, n_steps), int)
        # Only the row that was tried changes, so only its share of what is missing is worked out again.
        left = rel_entr(p, _model(seen, prior)).sum(-1)
        missing = np.empty((agents, n_steps + 1))
        missing[:, 0] = left.sum((1, 2))
        for t in range(n_steps):
            if self.strategy == "gain" and t % self.every == 0:
                gain = predicted_information_gain(seen, prior=prior)
                values = value_iteration(gain, _model(seen, prior), discount=self.discount, sweeps=self.sweeps)
            action = told[:, t] if told is not None else self._choose(state, values, seen, rng)
            after = (outcome[who, state, action] < rng.random(agents)[:, None]).sum(1).clip(max=n_states - 1)
            path[:, :, t] = state, action, after
            seen[who, state, action, after] += 1
            left[who, state, action] = rel_entr(p[who, state, action], _model(seen[who, state, action], prior)).sum(-1)
            missing[:, t + 1] = left.sum((1, 2))
            state = after
        dims = ("agent", "state", "action", "next_state")
        self.counts_ = xr.DataArray(seen, dims=dims)
        self.transitions_ = xr.DataArray(_model(seen, prior), dims=dims)
        self.missing_ = xr.DataArray(
            missing, dims=("agent", "time"), coords={"time": np.arange(n_steps + 1)}, attrs={"units": "nats"}
        )
        self.path_ = xr.Dataset(
            {n: (("agent", "time"), v) for n, v in zip(("state", "action", "next_state"), path, strict=True)}
        )
        return self

    def _choose(self, state: np.ndarray, values: np.ndarray, seen: Counts, rng: np.random.Generator) -> np.ndarray:
        who = np.arange(len(state))
        if self.strategy == "random":
            return rng.integers(0, values.shape[-1], len(state))
        worth = values[who, state] if self.strategy == "gain" else -seen[who, state].sum(-1)
        # Of equals one is taken at random.
        best = worth >= worth.max(1, keepdims=True) - 1e-12
        return (best * rng.random(best.shape)).argmax(1)

    def _check(
        self, n_steps: int, n_states: int, n_actions: int, agents: int, start: int, actions: Any
    ) -> np.ndarray | None:
        if self.strategy not in STRATEGIES:
            raise unknown("strategy", self.strategy, STRATEGIES)
        if self.prior is not None and not self.prior > 0:
            raise InputError(f"prior {self.prior}; it must be positive")
        if n_steps < 1 or self.every < 1 or not 0 <= start < n_states:
            raise InputError(
                f"n_steps {n_steps}, every {self.every}, start {start}; steps from 1, the start one of {n_states} states"
            )
        if (self.strategy == "yoked") != (actions is not None):
            raise InputError(
                "yoked agents repeat actions (agent, time), and only they do: give actions with strategy='yoked'"
            )
        if actions is None:
            return None
        told = np.asarray(actions)
        told = np.broadcast_to(told, (agents, told.shape[-1]))
        if told.dtype.kind not in "iu" or told.shape[1] < n_steps or told.min() < 0 or told.max() >= n_actions:
            raise InputError(
                f"actions of shape {told.shape}; give numbers from 0 to {n_actions - 1}, (agent, at least {n_steps} steps)"
            )
        return told


def _model(counts: Counts, prior: float) -> Counts:
    alpha = counts + prior
    return alpha / alpha.sum(-1, keepdims=True)
