"""Learners that act, what they miss, the successor representation and empowerment."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import rel_entr
from sklearn.base import clone

from nissl.errors import InputError, UnknownNameError
from nissl.learning import (
    ExplorationAgent,
    SuccessorRepresentation,
    dense_world,
    empowerment,
    lock_chain,
    missing_information,
    predicted_information_gain,
    successor_matrix,
    under_policy,
    value_iteration,
)

# Information


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), prior=st.floats(0.01, 3))
def test_information_gain_is_its_definition_written_out(seed, prior):
    counts = np.random.default_rng(seed).integers(0, 6, (2, 3, 4)).astype(float)
    found = predicted_information_gain(counts, prior=prior)
    for s in range(2):
        for a in range(3):
            alpha = counts[s, a] + prior
            p = alpha / alpha.sum()
            total = 0.0
            for k in range(4):
                after = alpha + np.eye(4)[k]
                total += p[k] * rel_entr(after / after.sum(), p).sum()
            assert found[s, a] == pytest.approx(total, rel=1e-9, abs=1e-13)
    assert (found >= 0).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 200))
def test_expected_gain_falls_as_counts_grow_in_proportion(seed, n):
    p = np.random.default_rng(seed).dirichlet(np.ones(5), (3, 2))
    few, many = (predicted_information_gain(k * p, prior=0.2).sum() for k in (n, 2 * n))
    assert 0 <= many < few


def test_missing_information_is_the_sum_of_divergences():
    world, guess = dense_world(4, 2, seed=0)[0].to_numpy(), dense_world(4, 2, seed=1)[0].to_numpy()
    direct = (world * np.log(world / guess)).sum()
    assert missing_information(world, guess) == pytest.approx(direct)
    assert missing_information(world, world) == pytest.approx(0, abs=1e-12)
    sure = lock_chain(3, 2, slip=0.0)[0]
    assert missing_information(sure, np.full((3, 2, 3), 1 / 3)) == pytest.approx(6 * np.log(3))


def test_value_iteration_converges_to_the_solution_of_bellman():
    rng = np.random.default_rng(0)
    reward, p = rng.random((2, 5, 3)), rng.dirichlet(np.ones(5), (2, 5, 3))
    q = value_iteration(reward, p, discount=0.9, sweeps=500)
    np.testing.assert_allclose(q, reward + 0.9 * np.einsum("wsan,wn->wsa", p, q.max(-1)), atol=1e-9)
    one = value_iteration(reward, p, discount=0.9, sweeps=1)
    np.testing.assert_allclose(one, reward)


# Agents


def test_bookkeeping_of_an_agent():
    world = dense_world(5, 3, n_worlds=4, seed=2)
    agent = ExplorationAgent(strategy="random", prior=0.3).fit(world, 120, seed=5)
    path = agent.path_
    direct = np.zeros((4, 5, 3, 5))
    for k in range(4):
        np.add.at(direct[k], (path.state[k], path.action[k], path.next_state[k]), 1)
    np.testing.assert_array_equal(agent.counts_, direct)
    np.testing.assert_array_equal(path.next_state[:, :-1], path.state[:, 1:])
    # What is worked out row by row on the way equals what is worked out at the end.
    np.testing.assert_allclose(agent.missing_[:, -1], missing_information(world, agent.transitions_), rtol=1e-10)
    np.testing.assert_allclose(agent.missing_[:, 0], missing_information(world, np.full((4, 5, 3, 5), 0.2)), rtol=1e-10)
    assert agent.missing_.sizes == {"agent": 4, "time": 121}


def test_worlds_are_obeyed():
    world = dense_world(4, 2, seed=3)
    agent = ExplorationAgent(strategy="random").fit(world, 4000, n_agents=10)
    np.testing.assert_allclose(agent.transitions_.mean("agent"), world[0], atol=0.02)
    chain = lock_chain(5, 3, slip=0.0, seed=1)[0].to_numpy()
    assert ((chain == 0) | (chain == 1)).all()
    forward = [int(chain[s, :, min(s + 1, 4)].argmax()) for s in range(5)]
    assert all(chain[s, forward[s], min(s + 1, 4)] == 1 for s in range(5))
    assert all(chain[s, a, 0] == 1 for s in range(5) for a in range(3) if a != forward[s])
    slippery = lock_chain(5, 3, slip=0.25, seed=1)[0].to_numpy()
    np.testing.assert_allclose(slippery, 0.75 * chain + 0.05)


@pytest.mark.parametrize("seed", range(3))
def test_curious_agents_miss_less_of_a_chain_and_no_less_of_a_dense_world(seed):
    chain = lock_chain(n_worlds=8, seed=seed)
    left = {}
    for strategy in ("gain", "random", "least_tried"):
        left[strategy] = ExplorationAgent(strategy=strategy).fit(chain, 300, seed=seed)
    final = {k: float(v.missing_[:, -1].mean()) for k, v in left.items()}
    assert final["gain"] <= 0.5 * final["random"]
    assert final["gain"] < final["least_tried"]
    told = np.roll(left["gain"].path_.action, 1, axis=0)
    yoked = ExplorationAgent(strategy="yoked").fit(chain, 300, actions=told, seed=seed)
    np.testing.assert_array_equal(yoked.path_.action, told)
    assert final["gain"] < 0.5 * float(yoked.missing_[:, -1].mean())
    dense = dense_world(n_worlds=8, seed=seed)
    a, b = (ExplorationAgent(strategy=s).fit(dense, 300, seed=seed).missing_[:, -1].mean() for s in ("gain", "random"))
    assert float(a / b) == pytest.approx(1, abs=0.15)


def test_least_tried_is_even_in_each_state():
    agent = ExplorationAgent(strategy="least_tried").fit(dense_world(4, 3), 400, n_agents=5)
    tries = agent.counts_.sum("next_state").to_numpy()
    assert (np.ptp(tries, axis=-1) <= 1).all()


def test_a_changed_world_is_found_out_faster_by_acting():
    before = lock_chain(8, 3, n_worlds=10, seed=0)
    known = ExplorationAgent().fit(before, 400)
    after = lock_chain(8, 3, n_worlds=10, seed=1)
    acting = ExplorationAgent().fit(after, 600, counts=known.counts_, seed=1)
    told = np.roll(known.path_.action, 1, axis=0)
    passive = ExplorationAgent(strategy="yoked").fit(after, 400, counts=known.counts_, actions=told, seed=1)
    np.testing.assert_allclose(acting.missing_[:, 0], passive.missing_[:, 0])
    assert float(acting.missing_[:, 0].mean()) > float(acting.missing_[:, 400].mean())
    assert float(acting.missing_[:, 400].mean()) < float(passive.missing_[:, 400].mean())


def test_seeds():
    world = lock_chain(n_worlds=2)
    a, b, c = (ExplorationAgent().fit(world, 50, seed=s).path_.action for s in (0, 0, 1))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


# Successor representation


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), discount=st.floats(0, 0.95))
def test_successor_matrix_is_the_sum_over_the_future(seed, discount):
    p = np.random.default_rng(seed).dirichlet(np.ones(5), 5)
    found = successor_matrix(p, discount=discount)
    assert found.dims == ("target", "source")
    series, power = np.zeros((5, 5)), np.eye(5)
    for k in range(600):
        series, power = series + discount**k * power, power @ p
    np.testing.assert_allclose(found, series.T, atol=1e-8)
    np.testing.assert_allclose(found.sum("target"), 1 / (1 - discount))


def test_temporal_differences_converge_to_the_closed_form():
    p = np.random.default_rng(0).dirichlet(np.ones(6) * 0.5, 6)
    rng, state = np.random.default_rng(1), np.zeros(20, int)
    path, edges = [], p.cumsum(1)
    for _ in range(6000):
        path.append(state)
        state = (edges[state] < rng.random(20)[:, None]).sum(1).clip(max=5)
    learned = SuccessorRepresentation(discount=0.8).fit(np.array(path).T)
    exact = successor_matrix(p, discount=0.8)
    assert learned.matrix_.dims == ("agent", "target", "source")
    np.testing.assert_allclose(learned.matrix_.mean("agent"), exact, atol=0.05)
    early = SuccessorRepresentation(discount=0.8).fit(np.array(path).T[:, :60])
    error = [float(np.abs(m.matrix_ - exact).mean()) for m in (early, learned)]
    assert error[1] < 0.3 * error[0]
    alone = SuccessorRepresentation(discount=0.8).fit(np.array(path).T[3])
    np.testing.assert_allclose(alone.matrix_, learned.matrix_[3])


def test_one_step_of_learning_by_hand():
    m = SuccessorRepresentation(discount=0.5, rate=0.2, half=None).fit([0, 1]).matrix_.to_numpy().T
    np.testing.assert_allclose(m, [[1.0, 0.1], [0.0, 1.0]])  # M[0] + 0.2 (e_0 + 0.5 M[1] - M[0])


# Empowerment


def test_deterministic_worlds_have_the_logarithm_of_what_can_be_reached():
    chain = lock_chain(6, 3, slip=0.0)[0]
    reachable = [len(set(chain[s].argmax("next_state").values.tolist())) for s in range(6)]
    np.testing.assert_allclose(empowerment(chain), np.log(reachable), atol=1e-6)
    # A ring walked to the left or right: after n steps n + 1 places.
    n = 9
    ring = np.stack([np.roll(np.eye(n), 1, 1), np.roll(np.eye(n), -1, 1)], 1)
    for horizon in (1, 2, 3):
        np.testing.assert_allclose(empowerment(ring, horizon=horizon), np.log(horizon + 1), atol=1e-6)


def test_symmetric_and_useless_channels():
    flip = 0.11
    world = np.array([[[1 - flip, flip], [flip, 1 - flip]]] * 2)
    capacity = np.log(2) + flip * np.log(flip) + (1 - flip) * np.log(1 - flip)
    np.testing.assert_allclose(empowerment(world), capacity, atol=1e-8)
    same = np.broadcast_to(np.array([0.2, 0.5, 0.3]), (3, 4, 3))
    np.testing.assert_allclose(empowerment(same), 0, atol=1e-8)


def test_capacity_agrees_with_a_general_optimiser():
    world = dense_world(4, 3, concentration=0.4, seed=4)[0].to_numpy()

    direct = []
    for channel in world:

        def information(logits, channel=channel):
            use = np.exp(logits - logits.max())
            use /= use.sum()
            return -(use @ rel_entr(channel, np.broadcast_to(use @ channel, channel.shape)).sum(-1))

        direct.append(-min(minimize(information, x0, tol=1e-12).fun for x0 in (np.zeros(3), np.array([1.0, 0, -1]))))
    np.testing.assert_allclose(empowerment(world), direct, atol=1e-5)


# Bad input


def test_bad_worlds_and_agents():
    with pytest.raises(InputError, match="sum to 1"):
        ExplorationAgent().fit(np.ones((2, 2, 2)))
    with pytest.raises(InputError, match="give \\(state, action"):
        ExplorationAgent().fit(np.ones((2, 2)))
    with pytest.raises(InputError, match="wanted: state, action"):
        ExplorationAgent().fit(xr.DataArray(np.ones((2, 2, 2)) / 2, dims=("a", "b", "c")))
    world = dense_world(3, 2)
    with pytest.raises(UnknownNameError, match="random"):
        ExplorationAgent(strategy="rand").fit(world)
    with pytest.raises(InputError, match="repeat actions"):
        ExplorationAgent(strategy="yoked").fit(world)
    with pytest.raises(InputError, match="repeat actions"):
        ExplorationAgent().fit(world, 5, actions=np.zeros(5, int))
    with pytest.raises(InputError, match="numbers from 0 to 1"):
        ExplorationAgent(strategy="yoked").fit(world, 5, actions=np.full(5, 2))
    with pytest.raises(InputError, match="start 7"):
        ExplorationAgent().fit(world, 5, start=7)
    with pytest.raises(InputError, match="3 agents for 2 worlds"):
        ExplorationAgent().fit(dense_world(n_worlds=2), n_agents=3)
    with pytest.raises(InputError, match="prior"):
        ExplorationAgent(prior=0).fit(world)
    with pytest.raises(InputError, match="probability"):
        lock_chain(slip=2)
    assert clone(ExplorationAgent(every=3)).get_params()["every"] == 3


def test_bad_paths_and_channels():
    with pytest.raises(InputError, match="whole numbers"):
        SuccessorRepresentation().fit([0.5, 1.0])
    with pytest.raises(InputError, match="state 4 of 3"):
        SuccessorRepresentation().fit([0, 4], 3)
    with pytest.raises(InputError, match="discount 1"):
        successor_matrix(np.eye(2), discount=1.0)
    with pytest.raises(InputError, match="rows that sum"):
        successor_matrix(np.ones((2, 2)))
    with pytest.raises(InputError, match="too many"):
        empowerment(dense_world(12, 3)[0], horizon=20)
    with pytest.raises(InputError, match="a policy"):
        under_policy(dense_world(3, 2)[0], np.ones((3, 2)))
