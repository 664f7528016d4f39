"""PPO: advantages, learning where the answer is known, the worm, checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nissl.errors import InputError, ModelError
from nissl.learning import PolicyGradient, SwimmerPolicy
from nissl.learning._rollout import Segment, as_vector, collect
from nissl.nn import WormSwimmer

gymnasium = pytest.importorskip("gymnasium")

from nissl.learning import SwimmerEnv, SwimmerVectorEnv  # noqa: E402


class Target(gymnasium.Env):
    """Say what you see: the reward is how near the action is to twice the observation."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-3, 3, (2,), np.float32)

    def __init__(self, length=10):
        self.length = length

    def _see(self):
        self.seen = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._see(), {}

    def step(self, action):
        reward = 1 - float(np.square(action - 2 * self.seen).mean())
        self.t += 1
        return self._see(), reward, self.t >= self.length, False, {}


def learner(**settings) -> PolicyGradient:
    return PolicyGradient(
        **{"iterations": 3, "segment": 120, "passes": 5, "progress": False, "critic_hidden": (8,)} | settings
    )


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), discount=st.floats(0, 1), trace=st.floats(0, 1))
def test_advantages_are_their_sum_written_out(seed, discount, trace):
    rng = np.random.default_rng(seed)
    steps, n = 9, 3
    reward, value, following = rng.normal(size=(3, steps, n))
    ended, cut = rng.random((2, steps, n)) < 0.2
    tensors = [torch.as_tensor(v) for v in (reward, ended, cut)]
    nothing = torch.zeros(steps, n, 1)
    segment = Segment(nothing, nothing, tensors[0], nothing, tensors[1], tensors[2], 0.0)
    found = segment.advantages(torch.as_tensor(value), torch.as_tensor(following), discount, trace)
    for i in range(n):
        for t in range(steps):
            total, weight = 0.0, 1.0
            for k in range(t, steps):
                after = 0.0 if ended[k, i] else discount * following[k, i]
                total += weight * (reward[k, i] + after - value[k, i])
                weight *= discount * trace
                if ended[k, i] or cut[k, i]:
                    break
            assert float(found[t, i]) == pytest.approx(total, abs=1e-9)


def test_a_segment_keeps_episodes_apart():
    env = as_vector(Target(4))
    policy, generator = nn.Linear(2, 2), torch.Generator().manual_seed(0)
    segment = collect(env, policy, torch.full((2,), 0.1), 10, 5, generator, policy.weight)
    assert segment.ended[:, 0].tolist() == [False, False, False, True] * 2 + [False] * 2
    torch.testing.assert_close(segment.following[0], segment.observation[1])
    assert not torch.allclose(segment.following[3], segment.observation[4])  # the last of one, the first of the next
    rewards = segment.reward[:, 0]
    assert segment.episode_return == pytest.approx(float((rewards[:4].sum() + rewards[4:8].sum()) / 2), rel=1e-5)
    noise = segment.action - policy(segment.observation)
    assert 0.03 < noise.std().item() < 0.2


def test_it_learns_what_it_is_rewarded_for():
    policy = nn.Linear(2, 2)
    nn.init.zeros_(policy.weight)
    nn.init.zeros_(policy.bias)
    found = learner(iterations=12, segment=400, passes=20, lr=0.05, std=0.3, divergence_limit=0.3, discount=0.0).fit(
        policy, Target()
    )
    np.testing.assert_allclose(found.policy_.weight.detach(), 2 * np.eye(2), atol=0.35)
    assert found.history_["reward"][-1] > found.history_["reward"][0] + 0.5
    assert (found.history_["passes"] >= 1).all()
    assert torch.equal(policy.weight, torch.zeros(2, 2))  # the given one is left as it is


def test_the_spread_of_actions_is_learned_only_where_asked():
    fixed = learner().fit(nn.Linear(2, 2), Target())
    np.testing.assert_allclose(fixed.std_, 0.1, rtol=1e-6)
    moved = learner(learn_std=True, lr=0.01).fit(nn.Linear(2, 2), Target())
    assert abs(moved.std_ - 0.1).max() > 1e-4


def test_policy_updates_end_where_the_policy_has_moved_far():
    near = learner(iterations=1, passes=60, lr=0.05, divergence_limit=1e-3).fit(nn.Linear(2, 2), Target())
    assert near.history_["passes"][0] < 20
    assert near.history_["divergence"][0] > 1e-3


def test_the_worm_learns_with_its_signs_held():
    policy = SwimmerPolicy(WormSwimmer().set_weights(prop=0.4, osc=0.6, ipsi=0.5, contra=-0.02))
    found = learner(iterations=4, segment=320, passes=10, lr=0.05).fit(policy, SwimmerVectorEnv(8, steps=40))
    weights = found.policy_.circuit.named_weights()
    assert not torch.equal(flat(found.policy_), flat(policy))
    assert all(float(w.detach()) >= 0 for name, w in weights.items() if name != "contra")
    assert float(weights["contra"].detach()) <= 0
    assert np.isfinite(found.history_["episode_return"]).all()


def test_a_run_goes_on_to_the_bit(tmp_path):
    policy = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    whole = learner(iterations=4, learn_std=True).fit(policy, Target())
    path = tmp_path / "run.pt"
    learner(iterations=2, learn_std=True, checkpoint=path).fit(policy, Target())
    resumed = learner(iterations=4, learn_std=True, checkpoint=path).fit(policy, Target())
    assert torch.equal(flat(resumed.policy_), flat(whole.policy_))
    assert torch.equal(flat(resumed.critic_), flat(whole.critic_))
    np.testing.assert_array_equal(resumed.std_, whole.std_)
    np.testing.assert_array_equal(resumed.history_["reward"], whole.history_["reward"])
    with pytest.raises(InputError, match=r"discount was 0\.99 and is 0\.9"):
        learner(discount=0.9, learn_std=True, checkpoint=path).fit(policy, Target())


def test_one_environment_and_many_of_them():
    policy = SwimmerPolicy(WormSwimmer(3))
    for env in (SwimmerEnv(4, steps=10), SwimmerVectorEnv(2, 4, steps=10)):
        found = learner(iterations=1, segment=20).fit(policy, env)
        assert found.history_["episode_return"][0] == pytest.approx(10 * float(found.history_["reward"][0]), rel=1e-5)


def test_environments_and_policies_that_cannot_be():
    with pytest.raises(InputError, match="no gymnasium environment"):
        learner().fit(nn.Linear(2, 2), object())
    with pytest.raises(InputError, match="vector"):
        learner().fit(nn.Linear(2, 2), gymnasium.make("CartPole-v1"))
    with pytest.raises(InputError, match="SAME_STEP"):
        learner().fit(nn.Linear(2, 2), gymnasium.vector.SyncVectorEnv([Target, Target]))
    with pytest.raises(InputError, match=r"\(2, 3\) for 2 observations"):
        learner().fit(nn.Linear(2, 3), Target())
    with pytest.raises(InputError, match="no trainable weight"):
        learner().fit(nn.ReLU(), Target())
    with pytest.raises(InputError, match="shorter than one step"):
        learner(segment=2).fit(SwimmerPolicy(WormSwimmer(3)), SwimmerVectorEnv(4, 4))
    broken = nn.Linear(2, 2)
    nn.init.constant_(broken.weight, float("nan"))
    with pytest.raises(ModelError, match="NaN"):
        learner().fit(broken, Target())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"iterations": 0}, "from 1"),
        ({"discount": 1.5}, "from 0 to 1"),
        ({"clip": 0.0}, "above 0"),
        ({"std": -0.1}, "above 0"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(InputError, match=words):
        learner(**settings).fit(nn.Linear(2, 2), Target())
