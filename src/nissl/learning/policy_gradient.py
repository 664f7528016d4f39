"""Proximal policy optimisation for any torch policy on a gymnasium environment."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from tqdm import tqdm

from nissl.errors import InputError, ModelError
from nissl.learning import checkpoint as checkpoints
from nissl.learning._rollout import Segment, as_vector, collect

COLUMNS = ("reward", "episode_return", "divergence", "passes", "value_loss")


class PolicyGradient(BaseEstimator):
    """PPO: try, see what did better than expected, and make it more likely by a little (Schulman et al. 2017).

    Parameters
    ----------
    iterations
        How many in all, those that a checkpoint holds included.
    segment
        Environment steps an iteration, over all environments together. Every iteration begins with a reset, so let it be at least an
        episode for each environment.
    passes
        Updates over the whole segment an iteration, at most.
    discount, trace
        Discount of rewards a step, and lambda of the advantages.
    clip
        How far the probability of an action may move before its gradient is cut.
    divergence_limit
        Policy updates of an iteration end when the policy has moved this far (KL divergence, nats).
    std, learn_std
        Spread of the actions around what the policy says; fixed, or where learning begins.
    lr, critic_lr
        Of Adam, for the policy and for the critic.
    critic_hidden
        Widths of the critic's hidden layers (tanh).
    seed
        For actions, environments and the critic's weights.
    checkpoint
        A file that is written every `every` iterations and at the end. A later fit with the same settings goes on from it, to the bit.
    every
        Iterations between checkpoints.
    progress
        Show a bar where standard error is a terminal.

    Attributes
    ----------
    policy_, critic_
        A copy of the policy with the weights that were learned, and the network that predicts returns.
    std_
        Spread of the actions at the end.
    history_
        By iteration: mean `reward` a step, mean `episode_return` of episodes that ended (NaN where none did), `divergence`, `passes` done, `value_loss`.

    Notes
    -----
    Advantages: A_t = sum_k (discount trace)^k d_{t+k} with d_t = r_t + discount V(o_{t+1}) - V(o_t); what follows a cut episode is valued, what follows its end is
    not. They are standardised over the segment. Policy: the mean of min(w A, clip(w, 1 - clip, 1 + clip) A) with w the ratio of probabilities.
    Actions are drawn without bounds and clipped at the environment's door. After each policy update the policy's own `project()` is called where it has one.

    References
    ----------
    Schulman et al. (2017), Proximal Policy Optimization Algorithms; Schulman et al. (2016), Generalized Advantage Estimation. Defaults
    as in Pardo (2020), Tonic.

    Examples
    --------
    >>> from importlib.util import find_spec
    >>> if find_spec("gymnasium"):
    ...     from nissl.learning import SwimmerPolicy, SwimmerVectorEnv
    ...     from nissl.nn import WormSwimmer
    ...     learner = PolicyGradient(iterations=1, segment=40, passes=2, progress=False)
    ...     worm = learner.fit(SwimmerPolicy(WormSwimmer()), SwimmerVectorEnv(4)).policy_.circuit
    """

    def __init__(
        self,
        *,
        iterations: int = 100,
        segment: int = 4096,
        passes: int = 80,
        discount: float = 0.99,
        trace: float = 0.97,
        clip: float = 0.2,
        divergence_limit: float = 0.015,
        std: float = 0.1,
        learn_std: bool = False,
        lr: float = 3e-4,
        critic_lr: float = 1e-3,
        critic_hidden: Sequence[int] = (64, 64),
        seed: int = 0,
        checkpoint: str | Path | None = None,
        every: int = 10,
        progress: bool = True,
    ) -> None:
        self.iterations = iterations
        self.segment = segment
        self.passes = passes
        self.discount = discount
        self.trace = trace
        self.clip = clip
        self.divergence_limit = divergence_limit
        self.std = std
        self.learn_std = learn_std
        self.lr = lr
        self.critic_lr = critic_lr
        self.critic_hidden = critic_hidden
        self.seed = seed
        self.checkpoint = checkpoint
        self.every = every
        self.progress = progress

    def fit(self, policy: nn.Module, env: Any) -> PolicyGradient:
        """Learn by acting.

        Parameters
        ----------
        policy
            From observations ``(environment, feature)`` to the means of actions ``(environment, action)``; it is left as it is.
        env
            A `gymnasium.Env`, or a `gymnasium.vector.VectorEnv` that begins a new episode with the last step of the old (mode SAME_STEP).

        Raises
        ------
        InputError
            Settings that cannot be, no trainable weight, an environment whose observations or actions are no plain vectors, a policy for other
            actions, or a checkpoint from another configuration.
        ModelError
            The policy returns NaN.
        MissingExtraError
            gymnasium is not installed.
        """
        self._check()
        many = as_vector(env)
        actor = copy.deepcopy(policy)
        trained = [p for p in actor.parameters() if p.requires_grad]
        if not trained:
            raise InputError(f"{type(policy).__name__} has no trainable weight")
        like = trained[0]
        features, actions = many.single_observation_space.shape[0], many.single_action_space.shape[0]
        with torch.no_grad():
            shape = tuple(actor(like.new_zeros(2, features)).shape)
        if shape != (2, actions):
            raise InputError(f"the policy gives {shape} for 2 observations; this environment takes {(2, actions)}")
        log_std = nn.Parameter(like.new_full((actions,), float(np.log(self.std))), requires_grad=self.learn_std)
        critic = _critic(features, self.critic_hidden, self.seed).to(like)
        self._parts = {"actor": actor, "critic": critic}
        optimisers: dict[str, torch.optim.Optimizer] = {
            "actor": torch.optim.Adam([*trained, *([log_std] if self.learn_std else [])], lr=self.lr),
            "critic": torch.optim.Adam(critic.parameters(), lr=self.critic_lr),
        }
        generator = torch.Generator().manual_seed(self.seed)
        settings = self._settings(policy, many.num_envs)
        history: list[list[float]] = []
        if self.checkpoint is not None and Path(self.checkpoint).exists():
            found = checkpoints.load(self.checkpoint, settings)
            for name, part in self._parts.items():
                part.load_state_dict(found[name])
                optimisers[name].load_state_dict(found[f"{name} optimiser"])
            with torch.no_grad():
                log_std.copy_(found["log_std"])
            generator.set_state(found["generator"])
            history = list(found["history"])
        bar = tqdm(
            total=self.iterations, initial=len(history), unit="iteration", disable=None if self.progress else True
        )
        with bar:
            for iteration in range(len(history), self.iterations):
                seed = int(torch.randint(2**31, (), generator=generator))
                segment = collect(many, actor, log_std.exp(), self.segment // many.num_envs, seed, generator, like)
                history.append(self._learn(segment, actor, critic, log_std, optimisers))
                bar.update()
                bar.set_postfix(reward=f"{history[-1][0]:.3f}", refresh=False)
                last = iteration + 1 == self.iterations
                if self.checkpoint is not None and (last or (iteration + 1) % self.every == 0):
                    content = {"log_std": log_std.detach(), "generator": generator.get_state(), "history": history}
                    for name, part in self._parts.items():
                        content |= {name: part.state_dict(), f"{name} optimiser": optimisers[name].state_dict()}
                    checkpoints.save(self.checkpoint, content, settings)
        del self._parts
        self.policy_, self.critic_, self.std_ = actor, critic, log_std.detach().exp().cpu().numpy()
        table = np.array(history, dtype=float).reshape(-1, len(COLUMNS))
        self.history_ = xr.Dataset(
            {name: ("iteration", table[:, i]) for i, name in enumerate(COLUMNS)},
            {"iteration": np.arange(len(table))},
        )
        return self

    def _learn(
        self,
        segment: Segment,
        actor: nn.Module,
        critic: nn.Module,
        log_std: Tensor,
        optimisers: dict[str, torch.optim.Optimizer],
    ) -> list[float]:
        with torch.no_grad():
            value, following = critic(segment.observation)[..., 0], critic(segment.following)[..., 0]
            advantage = segment.advantages(value, following, self.discount, self.trace)
            target = (advantage + value).flatten()
            before = Normal(actor(segment.observation.flatten(0, 1)), log_std.exp())
        seen, taken = segment.observation.flatten(0, 1), segment.action.flatten(0, 1)
        likely = before.log_prob(taken).sum(-1)
        worth = ((advantage - advantage.mean()) / advantage.std().clamp(min=1e-8)).flatten()
        project = getattr(actor, "project", None)
        divergence, done = 0.0, 0
        for _ in range(self.passes):
            now = Normal(actor(seen), log_std.exp())
            with torch.no_grad():
                divergence = float(kl_divergence(before, now).sum(-1).mean())
            if divergence > self.divergence_limit:
                break
            ratio = (now.log_prob(taken).sum(-1) - likely).exp()
            gain = torch.minimum(ratio * worth, ratio.clamp(1 - self.clip, 1 + self.clip) * worth).mean()
            _descend(optimisers["actor"], -gain)
            if callable(project):
                project()
            done += 1
        loss = torch.zeros(())
        for _ in range(self.passes):
            loss = (critic(seen)[..., 0] - target).square().mean()
            _descend(optimisers["critic"], loss)
        if not all(p.isfinite().all() for p in actor.parameters()):
            raise ModelError("a weight of the policy has become NaN or infinite; try a lower lr")
        return [float(segment.reward.mean()), segment.episode_return, divergence, float(done), float(loss.detach())]

    def _settings(self, policy: nn.Module, n_envs: int) -> dict[str, Any]:
        left = ("iterations", "checkpoint", "every", "progress")
        settings = {name: value for name, value in self.get_params().items() if name not in left}
        return settings | {"critic_hidden": list(self.critic_hidden), "policy": repr(policy), "environments": n_envs}

    def _check(self) -> None:
        if self.iterations < 1 or self.segment < 2 or self.passes < 1 or self.every < 1:
            raise InputError(
                f"iterations {self.iterations}, segment {self.segment}, passes {self.passes}, every {self.every}; give whole numbers from 1, a segment from 2"
            )
        if not (0 <= self.discount <= 1 and 0 <= self.trace <= 1):
            raise InputError(f"discount {self.discount}, trace {self.trace}; both lie from 0 to 1")
        if not all(v > 0 for v in (self.clip, self.divergence_limit, self.std, self.lr, self.critic_lr)):
            raise InputError(
                f"clip {self.clip}, divergence_limit {self.divergence_limit}, std {self.std}, lr {self.lr}, critic_lr {self.critic_lr}; all are above 0"
            )


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _critic(features: int, hidden: Sequence[int], seed: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for width in hidden:
            layers += [nn.Linear(features, width), nn.Tanh()]
            features = width
        return nn.Sequential(*layers, nn.Linear(features, 1))
