"""Hidden Markov chains against brute force over all paths, against one another, and on bad input."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nissl.errors import InputError
from nissl.populations import _chain_scan as scan
from nissl.populations import chains


def _random(rng, *lead, time=6, states=3, scale=2.0):
    table = rng.normal(scale=scale, size=(*lead, time, states))
    transition = np.log(rng.dirichlet(np.ones(states), size=states))
    initial = np.log(rng.dirichlet(np.ones(states)))
    return table, transition, initial


def _log(x):
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(x, dtype=float))


def _brute_force(table, transition, initial):
    """Every path, its log probability; marginal, gamma, xi and the best path from these."""
    time, states = table.shape
    paths = np.array(list(product(range(states), repeat=time)))
    logs = initial[paths[:, 0]] + table[np.arange(time), paths].sum(1)
    logs += transition[paths[:, :-1], paths[:, 1:]].sum(1)
    marginal = np.logaddexp.reduce(logs)
    weight = np.exp(logs - marginal)
    gamma = np.stack([[weight[paths[:, t] == s].sum() for s in range(states)] for t in range(time)])
    xi = np.zeros((states, states))
    for t in range(time - 1):
        np.add.at(xi, (paths[:, t], paths[:, t + 1]), weight)
    return marginal, gamma, xi, paths[logs.argmax()], logs.max()


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_sum_over_all_paths(seed):
    table, transition, initial = _random(np.random.default_rng(seed))
    marginal, gamma, xi, path, joint = _brute_force(table, transition, initial)
    found = chains.forward_backward(table, transition, initial)
    np.testing.assert_allclose(found.log_marginal, marginal, atol=1e-10)
    np.testing.assert_allclose(found.probability, gamma, atol=1e-10)
    np.testing.assert_allclose(found.transitions, xi, atol=1e-10)
    np.testing.assert_allclose(chains.log_marginal(table, transition, initial), marginal, atol=1e-10)
    best, value = chains.viterbi(table, transition, initial)
    assert best.tolist() == path.tolist()
    np.testing.assert_allclose(value, joint, atol=1e-10)


@pytest.mark.parametrize(("time", "n"), [(700, 1), (700, 60), (97, 3)])
def test_blocks_and_recursion_and_logarithms_agree(time, n):
    """Blocks of time, one step after the other, and logarithms are three ways to the same numbers."""
    table, transition, initial = _random(np.random.default_rng(0), n, time=time)
    chain = scan.checked(table, transition, initial, None)
    emission, first, _ = chain.scaled()
    given = (emission[1:], chain.groups.transpose(1, 2), first / first.sum(1, keepdim=True))
    _agree(scan.blocks(*given), scan.one_by_one(*given))
    _agree(scan.smooth_scaled(chain), scan.smooth_logs(chain))


def _agree(a, b):
    assert a is not None
    assert b is not None
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, atol=1e-9, rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), states=st.integers(1, 5), time=st.integers(1, 80), scale=st.floats(0.1, 30))
def test_probabilities_are_probabilities(seed, states, time, scale):
    """Gamma sums to one, and xi summed over the next state is gamma without its last bin."""
    table, transition, initial = _random(np.random.default_rng(seed), time=time, states=states, scale=scale)
    found = chains.forward_backward(table, transition, initial)
    np.testing.assert_allclose(found.probability.sum(-1), 1, atol=1e-9)
    np.testing.assert_allclose(found.transitions.sum(1), found.probability[:-1].sum(0), atol=1e-8)
    np.testing.assert_allclose(found.transitions.sum(0), found.probability[1:].sum(0), atol=1e-8)


def test_a_state_that_must_be_reached_through_the_improbable_is_not_lost():
    """A chain that only moves forwards, and emissions 2,000 nats apart: rescaled vectors alone would give 0/0."""
    transition = _log([[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1.0]])
    table = np.zeros((50, 3))
    table[:25, 2] = 2000.0  # pulls to the last state, which nothing leaves...
    table[25:, 0] = 4000.0  # ...while the first state is worth more later on
    found = chains.forward_backward(table, transition, _log([1.0, 0, 0]))
    np.testing.assert_allclose(found.log_marginal, 25 * 4000 + 49 * np.log(0.5), rtol=1e-12)
    np.testing.assert_allclose(found.probability[:, 0], 1)


def test_impossible_in_one_state_is_possible_in_another():
    table, transition, initial = _random(np.random.default_rng(3))
    table[2, 0] = table[4, 1] = -np.inf
    marginal, gamma, xi, path, _ = _brute_force(table, transition, initial)
    found = chains.forward_backward(table, transition, initial)
    np.testing.assert_allclose(found.log_marginal, marginal, atol=1e-10)
    np.testing.assert_allclose(found.probability, gamma, atol=1e-10)
    np.testing.assert_allclose(found.transitions, xi, atol=1e-10)
    assert chains.viterbi(table, transition, initial)[0].tolist() == path.tolist()


@pytest.mark.parametrize("n", [5, 60])
def test_trials_of_unequal_length_are_as_if_alone(n):
    rng = np.random.default_rng(1)
    table, transition, initial = _random(rng, n, time=60)
    lengths = rng.integers(1, 61, size=n)
    for row, length in zip(table, lengths, strict=True):
        row[length:] = np.nan
    found = chains.forward_backward(table, transition, initial, lengths=lengths)
    paths, joints = chains.viterbi(table, transition, initial, lengths=lengths)
    drawn = chains.sample_posterior(table, transition, initial, lengths=lengths)[0]
    for i, length in enumerate(lengths):
        alone = chains.forward_backward(table[i, :length], transition, initial)
        np.testing.assert_allclose(found.log_marginal[i], alone.log_marginal, atol=1e-9)
        np.testing.assert_allclose(found.probability[i, :length], alone.probability, atol=1e-10)
        np.testing.assert_allclose(found.transitions[i], alone.transitions, atol=1e-9)
        path, joint = chains.viterbi(table[i, :length], transition, initial)
        assert paths[i, :length].tolist() == path.tolist()
        np.testing.assert_allclose(joints[i], joint)
        assert (paths[i, length:] == -1).all()
        assert (drawn[i, length:] == -1).all()
        assert (drawn[i, :length] >= 0).all()
        assert np.isnan(found.probability[i, length:]).all()


def test_missing_bins_say_nothing():
    table, transition, initial = _random(np.random.default_rng(5))
    known = table.copy()
    known[2:4] = 0  # a likelihood of one whatever the state
    table[2:4] = np.nan
    marginal, gamma, _, path, _ = _brute_force(known, transition, initial)
    found = chains.forward_backward(table, transition, initial)
    np.testing.assert_allclose(found.log_marginal, marginal, atol=1e-10)
    np.testing.assert_allclose(found.probability, gamma, atol=1e-10)
    assert chains.viterbi(table, transition, initial)[0].tolist() == path.tolist()


def test_a_transition_matrix_of_its_own_for_each_restart():
    rng = np.random.default_rng(6)
    table = rng.normal(size=(2, 4, 40, 3))
    transition = np.log(rng.dirichlet(np.ones(3), size=(2, 1, 3)))
    found = chains.forward_backward(table, transition)
    for r in range(2):
        alone = chains.forward_backward(table[r], transition[r, 0])
        np.testing.assert_allclose(found.log_marginal[r], alone.log_marginal)
        np.testing.assert_allclose(found.transitions[r], alone.transitions)


def test_paths_drawn_from_the_posterior_occur_as_often_as_they_should():
    table, transition, initial = _random(np.random.default_rng(7), time=5, scale=1.0)
    _, gamma, xi, _, _ = _brute_force(table, transition, initial)
    drawn = chains.sample_posterior(table, transition, initial, n=40_000, seed=1)
    np.testing.assert_allclose(np.stack([(drawn == s).mean(0) for s in range(3)], 1), gamma, atol=0.01)
    counts = np.zeros((3, 3))
    np.add.at(counts, (drawn[:, :-1], drawn[:, 1:]), 1 / len(drawn))
    np.testing.assert_allclose(counts, xi, atol=0.02)


def test_chains_drawn_have_their_transition_matrix():
    transition = np.array([[0.9, 0.1, 0], [0.2, 0.5, 0.3], [0.0, 0.4, 0.6]])
    path = chains.sample_chain(transition, 400, n_chains=200, seed=2, initial=np.array([0.2, 0.3, 0.5]))
    counts = np.zeros((3, 3))
    np.add.at(counts, (path[:, :-1], path[:, 1:]), 1)
    np.testing.assert_allclose(counts / counts.sum(1, keepdims=True), transition, atol=0.01)
    assert counts[0, 2] == counts[2, 0] == 0
    again = chains.sample_chain(transition, 400, n_chains=200, seed=2, initial=np.array([0.2, 0.3, 0.5]))
    assert (path == again).all()


def test_torch_in_torch_out():
    table, transition, initial = _random(np.random.default_rng(8))
    found = chains.forward_backward(torch.tensor(table), torch.tensor(transition), torch.tensor(initial))
    assert isinstance(found.probability, torch.Tensor)
    np.testing.assert_allclose(
        found.probability.numpy(), chains.forward_backward(table, transition, initial).probability
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"log_transition": np.log(np.full((3, 3), 0.5))}, "sum to one"),
        ({"log_transition": np.log(np.full((2, 2), 0.5))}, "for 3 states"),
        ({"log_initial": np.log([0.5, 0.5])}, "for 3 states"),
        ({"log_likelihood": np.zeros(3)}, "time, state"),
        ({"log_likelihood": np.full((6, 3), np.inf)}, "infinite"),
        ({"log_likelihood": np.array([[0.0, np.nan, 0.0]])}, "some states of a bin only"),
        ({"log_likelihood": np.array([[-np.inf] * 3, [0.0] * 3])}, "no path"),
        ({"lengths": [7]}, "from 1 to 6"),
        ({"lengths": [1, 2]}, "1 chains"),
    ],
)
def test_what_is_no_chain_is_refused(change, says):
    table, transition, initial = _random(np.random.default_rng(0))
    given_ = {"log_likelihood": table, "log_transition": transition, "log_initial": initial} | change
    for function in (chains.forward_backward, chains.viterbi, chains.sample_posterior):
        with pytest.raises(InputError, match=says):
            function(**given_)  # type: ignore[arg-type]
