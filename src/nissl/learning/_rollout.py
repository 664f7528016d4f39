"""What a policy did in some environments, and how much better it was than expected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nissl.errors import InputError, MissingExtraError, ModelError


@dataclass(frozen=True)
class Segment:
    """Steps of several environments.

    Attributes
    ----------
    observation, following
        Before each step and after it, `following` in the same episode.
    ended, cut
        Whether the episode came to its end with the step, or was cut there.
    episode_return
        Mean over episodes that were over within the segment; NaN where none was.
    """

    observation: Float[Tensor, "time environment feature"]
    action: Float[Tensor, "time environment action"]
    reward: Float[Tensor, "time environment"]
    following: Float[Tensor, "time environment feature"]
    ended: Bool[Tensor, "time environment"]
    cut: Bool[Tensor, "time environment"]
    episode_return: float

    def advantages(
        self,
        value: Float[Tensor, "time environment"],
        following: Float[Tensor, "time environment"],
        discount: float,
        trace: float,
    ) -> Float[Tensor, "time environment"]:
        """Generalised advantages: surprises added up backwards in time, within episodes."""
        surprise = self.reward + discount * following * (~self.ended).to(value) - value
        keep = discount * trace * (~(self.ended | self.cut)).to(value)
        # How much is kept changes where an episode is over. One small product a step is nothing beside the steps themselves.
        total, found = torch.zeros_like(value[0]), []
        for gained, kept in zip(surprise.flip(0), keep.flip(0), strict=True):
            total = gained + kept * total
            found.append(total)
        return torch.stack(found).flip(0)


def as_vector(env: Any) -> Any:
    """An environment as one of many side by side, checked: vectors in, vectors out."""
    try:
        import gymnasium
        from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
    except ImportError as error:
        raise MissingExtraError("gymnasium is not installed: pip install 'nissl[papers]'") from error
    if isinstance(env, gymnasium.Env):
        env = SyncVectorEnv([lambda single=env: single], autoreset_mode=AutoresetMode.SAME_STEP)
    if not isinstance(env, VectorEnv):
        raise InputError(f"{type(env).__name__} is no gymnasium environment; such as nissl.learning.SwimmerEnv()")
    for name, space in (("observations", env.single_observation_space), ("actions", env.single_action_space)):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise InputError(f"{name} are {space}; a vector (Box of one axis) is needed, see gymnasium.wrappers")
    if env.metadata.get("autoreset_mode") is not AutoresetMode.SAME_STEP:
        raise InputError(
            "the environments reset in another mode; make them with autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP"
        )
    return env


def collect(
    env: Any, policy: nn.Module, std: Tensor, steps: int, seed: int, generator: torch.Generator, like: Tensor
) -> Segment:
    """Let a policy act from a reset on, with normally distributed actions around what it says."""
    if steps < 1:
        raise InputError(f"a segment is shorter than one step for each of {env.num_envs} environments; lengthen it")
    space, rows = env.single_action_space, []
    running, returns = np.zeros(env.num_envs), []
    observed, _ = env.reset(seed=seed)
    for _ in range(steps):
        with torch.no_grad():
            seen = torch.as_tensor(observed).to(like)
            mean = policy(seen)
            action = mean + std * torch.randn(mean.shape, generator=generator).to(mean)
        if not torch.isfinite(mean).all():
            raise ModelError("the policy returns NaN or infinity; look at its weights and inputs")
        after, reward, ended, cut, info = env.step(action.cpu().numpy().clip(space.low, space.high))
        over = ended | cut
        following = after
        if over.any():
            following = np.where(over[:, None], 0.0, after)
            following[over] = np.stack(list(info["final_obs"][over]))
        running += reward
        returns += running[over].tolist()
        running[over] = 0
        rows.append((seen, action, reward, following, ended, cut))
        observed = after
    seen, action, reward, following, ended, cut = zip(*rows, strict=True)

    def stacked(values: Any) -> Tensor:
        return torch.as_tensor(np.stack(values)).to(like.device)

    return Segment(
        torch.stack(seen), torch.stack(action), stacked(reward).to(like), stacked(following).to(like),
        stacked(ended), stacked(cut), float(np.mean(returns)) if returns else float("nan"),
    )  # fmt: skip
