"""Attractor memories and the measurements on any network's states."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from nissl.errors import InputError, ModelError, UnknownNameError
from nissl.populations.attractors import (
    HierarchicalMemory,
    HopfieldMemory,
    SequenceMemory,
    basin_size,
    capacity,
    discover_patterns,
    fixed_points,
    hierarchical_patterns,
    overlaps,
    recalled_share,
    successor_share,
    transitions,
    visits,
)
from nissl.populations.rhythms import pairwise_phase_consistency


def random_patterns(n, units, seed=0):
    return np.random.default_rng(seed).choice([-1.0, 1.0], (n, units))


# Memories


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_few_patterns_are_fixed_points(seed):
    patterns = random_patterns(8, 400, seed)  # P / N = 0.02
    memory = HopfieldMemory().fit(patterns)
    # Crosstalk leaves about one unit in 10^9 beyond threshold at this load; a few in many draws are no matter.
    assert (memory.step(patterns) == patterns).mean() > 0.9999
    assert recalled_share(memory, patterns, noise=0.1, seed=seed) == 1.0


def test_weights_are_the_sums_written_out():
    patterns = random_patterns(3, 6)
    direct = sum(np.outer(p, p) for p in patterns) / 6
    np.testing.assert_allclose(HopfieldMemory().fit(patterns).weights_, direct)
    ancestors, descendants = hierarchical_patterns(2, 3, 50, similarity=0.6, seed=1)
    m = 0.55
    direct = sum(np.outer(a, a) for a in ancestors)
    for a, family in zip(ancestors, descendants, strict=True):
        direct = direct + sum(np.outer(d - m * a, d - m * a) for d in family) / (1 - m**2)
    found = HierarchicalMemory(similarity=m).fit(descendants, ancestors).weights_
    np.testing.assert_allclose(found, direct / 50, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_families_are_kept_apart_by_differences_only(seed):
    ancestors, descendants = hierarchical_patterns(4, 6, 600, similarity=0.6, seed=seed)
    good = HierarchicalMemory().fit(descendants, ancestors)
    assert good.similarity_ == pytest.approx(0.6, abs=0.02)
    assert recalled_share(good, good.patterns_, noise=0.1) >= 0.95
    plain = HierarchicalMemory(rule="hebb").fit(descendants, ancestors)
    assert recalled_share(plain, plain.patterns_, noise=0.1) <= 0.05
    # Plain Hebb blurs descendants into their ancestor.
    end = plain.recall(descendants)
    assert (end * ancestors[:, None]).mean() > (descendants * ancestors[:, None]).mean() + 0.1
    # Ancestors that nobody gave are what the family agrees on.
    guessed = HierarchicalMemory().fit(descendants)
    assert (guessed.ancestors_ * ancestors).mean() > 0.8


def test_sequence_by_overlaps_equals_sequence_by_weight_matrices():
    xi, n = random_patterns(4, 120), 120
    memory = SequenceMemory(strength=1.4, tau=5.0, period=20, duty=0.4).fit(xi)
    run = memory.run(60, start=1, phase=0.3, keep_states=True)
    sym, seq = xi.T @ xi / n, 1.4 * np.roll(xi, -1, 0).T @ xi / n
    s = trace = xi[1]
    for t in range(60):
        open_ = ((0.3 + t / 20) % 1) < 0.4
        s, trace = np.sign(sym @ s + open_ * (seq @ trace)), trace
        trace = trace + (s - trace) / 5
        np.testing.assert_array_equal(run.state[0, t], s)
        assert bool(run.gate[0, t]) == open_
    np.testing.assert_allclose(run.overlap, overlaps(run.state, xi), atol=1e-12)


def test_gate_sets_the_pace_and_an_open_push_keeps_its_own():
    xi = random_patterns(8, 500, 3)
    phase = np.random.default_rng(0).random(6)
    gated, free = (SequenceMemory(period=30, duty=d).fit(xi).run(600, phase=phase) for d in (0.3, 1.0))
    stays = visits(gated.overlap)
    later = stays[stays.start > 0]
    assert len(later) / (6 * 20) == pytest.approx(1, abs=0.06)
    at = gated.phase.to_numpy()[later.trial, later.start.astype(int)]
    assert pairwise_phase_consistency(at) > 0.9
    assert successor_share(transitions(stays, 8)) == 1.0
    stays = visits(free.overlap)
    later = stays[stays.start > 0]
    at = free.phase.to_numpy()[later.trial, later.start.astype(int)]
    assert abs(pairwise_phase_consistency(at)) < 0.1
    # Too weak a push never moves on; an open sequence stops at its end.
    still = SequenceMemory(strength=0.5).fit(xi).run(200)
    assert set(visits(still.overlap).pattern) == {0}
    ending = SequenceMemory(period=30, cyclic=False).fit(xi).run(400, phase=0.5)
    assert visits(ending.overlap).pattern.tolist() == list(range(8))


def test_long_sequences_exceed_the_capacity():
    def share(memory, patterns):
        run = memory.run(300)
        return float(run.overlap.max("pattern").mean()) * successor_share(
            transitions(visits(run.overlap, threshold=0.3), len(patterns))
        )

    curve = capacity(lambda p: SequenceMemory(period=30).fit(p), 500, [8, 60], score=share, n_networks=3)
    assert curve.sel(n_patterns=8).min() > 0.95
    assert curve.sel(n_patterns=60).mean() < 0.5


# Measurements


def test_visits_of_a_written_out_path():
    path = xr.DataArray(
        [
            [[0.9, 0], [0.2, 0.1], [0.8, 0], [0, 0.9], [0, 0.7], [0.1, 0.1]],
            [[0.1, 0.1], [0, 1], [0, 1], [1, 0], [0, 1], [0, 1]],
        ],
        dims=("trial", "time", "pattern"),
        coords={"time": np.arange(6) * 0.5},
    )
    stays = visits(path)
    assert stays.pattern.tolist() == [0, 1, 1, 0, 1]
    assert stays.start.tolist() == [0.0, 1.5, 0.5, 1.5, 2.0]
    assert stays.stop.tolist() == [1.5, 3.0, 1.5, 2.0, 3.0]
    assert stays.dwell.tolist() == [1.5, 1.5, 1.0, 0.5, 1.0]
    assert stays.complete.tolist() == [True, False, True, True, False]
    assert stays.overlap.tolist() == [0.9, 0.9, 1, 1, 1]
    counts = transitions(stays, 3)
    assert counts.values.tolist() == [[0, 1, 0], [2, 0, 0], [0, 0, 0]]  # [target, source]
    assert successor_share(counts, [1, 2, 0]) == pytest.approx(2 / 3)
    assert successor_share(counts, [1, -1, -1]) == pytest.approx(2 / 3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), trials=st.integers(1, 4), time=st.integers(2, 40))
def test_visits_agree_with_a_walk_through_time(seed, trials, time):
    m = np.random.default_rng(seed).uniform(-0.2, 1, (trials, time, 3))
    expected = []
    for trial in range(trials):
        now = -1
        for t in range(time):
            best = int(m[trial, t].argmax())
            if m[trial, t, best] >= 0.6 and best != now:
                expected.append((trial, best, t))
                now = best
    if not expected:
        return
    stays = visits(m, threshold=0.6)
    assert list(zip(stays.trial, stays.pattern, stays.start.astype(int), strict=True)) == expected
    assert stays.dwell.sum() == sum(
        time - next(t for k, _, t in expected if k == trial) for trial in {k for k, _, _ in expected}
    )


def test_overlaps_of_every_kind():
    rng = np.random.default_rng(0)
    x, p = rng.standard_normal((5, 7, 20)), rng.standard_normal((3, 20))
    out = overlaps(x, p, method="correlation")
    assert out.dims == ("trial", "time", "pattern")
    assert out[2, 3, 1] == pytest.approx(np.corrcoef(x[2, 3], p[1])[0, 1])
    cosine = overlaps(torch.from_numpy(x[0]), p, method="cosine")
    assert cosine[1, 2] == pytest.approx(x[0, 1] @ p[2] / np.linalg.norm(x[0, 1]) / np.linalg.norm(p[2]))
    np.testing.assert_allclose(overlaps(5 * x + 2, p, method="correlation"), out)


def test_patterns_are_discovered_where_the_network_dwells():
    xi = random_patterns(5, 300, 2)
    run = SequenceMemory(period=30).fit(xi).run(450, keep_states=True)
    found = discover_patterns(run.state, 5)
    similarity = overlaps(found, xi, method="cosine").to_numpy()
    assert (similarity.max(0) > 0.95).all()
    assert sorted(similarity.argmax(1)) == list(range(5))


def test_basin_shrinks_with_load_and_needs_every_level():
    small, large = (basin_size(HopfieldMemory().fit(p), p) for p in (random_patterns(5, 300), random_patterns(30, 300)))
    assert small.size >= 0.25
    assert large.size < small.size
    assert small.recalled.dims == ("noise", "pattern")
    assert np.isnan(basin_size(lambda s: -np.abs(s), random_patterns(3, 50), max_steps=1).size)
    # A function that gives back what it was given repairs nothing, but keeps what is clean.
    same = basin_size(lambda s: s, random_patterns(3, 400), noise=[0.0, 0.1])
    assert same.size == 0.0
    assert "repairs" in str(same)


def test_capacity_falls_at_the_known_load():
    curve = capacity(lambda p: HopfieldMemory().fit(p), 400, [8, 100], n_networks=3)
    assert curve.dims == ("n_patterns", "network")
    assert curve.sel(n_patterns=8).min() == 1.0  # 0.02
    assert curve.sel(n_patterns=100).max() < 0.5  # 0.25, beyond 0.138


# Fixed points


def test_linear_network_has_one_point_in_closed_form():
    rng = np.random.default_rng(0)
    w, b = rng.standard_normal((6, 6)) * 0.3, rng.standard_normal(6)
    found = fixed_points(lambda x: x @ torch.from_numpy(w.T) + torch.from_numpy(b), rng.standard_normal((40, 6)))
    assert len(found) == 1
    np.testing.assert_allclose(found.points.state[0], np.linalg.solve(np.eye(6) - w, b), atol=1e-7)
    np.testing.assert_allclose(
        np.sort_complex(found.points.eigenvalue[0].to_numpy()), np.sort_complex(np.linalg.eigvals(w)), atol=1e-10
    )
    assert bool(found.points.stable[0]) == (np.abs(np.linalg.eigvals(w)).max() < 1)
    assert found.n_lost == 0


def test_bistable_network_has_three_points():
    x = np.linspace(-2, 2, 41)[:, None]
    found = fixed_points(lambda s: torch.tanh(2 * s), x)
    states = np.sort(found.points.state[:, 0])
    np.testing.assert_allclose(states, [-0.957504, 0, 0.957504], atol=1e-5)
    table = dict(
        zip(found.points.state[:, 0].to_numpy().round(3).tolist(), found.points.stable.to_numpy().tolist(), strict=True)
    )
    assert table == {-0.958: True, 0.0: False, 0.958: True}
    assert float(found.points.eigenvalue.real.max()) == pytest.approx(2)
    # The same flow in continuous time, with its own rule of stability.
    flow = fixed_points(lambda s: torch.tanh(2 * s) - s, x, continuous=True)
    assert flow.points.stable.sum() == 2
    assert float(flow.points.eigenvalue.real.max()) == pytest.approx(1)


@pytest.mark.parametrize("kind", [torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM])
def test_torch_networks_rest_where_the_search_says(kind):
    torch.manual_seed(0)
    rnn = kind(3, 5)
    before = {k: v.clone() for k, v in rnn.state_dict().items()}
    x = torch.randn(3)
    wide = 10 if kind is torch.nn.LSTM else 5
    found = fixed_points(rnn, np.random.default_rng(0).standard_normal((30, wide)) * 0.3, inputs=x)
    state = torch.from_numpy(found.points.state.to_numpy()[0]).float()[None, None]
    hidden = state if kind is not torch.nn.LSTM else (state[..., :5], state[..., 5:])
    out = rnn(x[None, None], hidden if kind is torch.nn.LSTM else state)[1]
    after = torch.cat(out, -1) if kind is torch.nn.LSTM else out
    torch.testing.assert_close(after, state, atol=1e-5, rtol=0)
    assert all(torch.equal(v, before[k]) for k, v in rnn.state_dict().items())
    assert len(found) >= 1
    assert "fixed points" in str(found)


def test_gru_jacobian_equals_finite_differences():
    torch.manual_seed(1)
    cell = torch.nn.GRUCell(2, 4).double()
    found = fixed_points(cell, np.random.default_rng(1).standard_normal((20, 4)))
    point, step = found.points.state.to_numpy()[0], 1e-6
    zero = torch.zeros(1, 2, dtype=torch.float64)

    def f(h):
        return cell(zero, torch.from_numpy(h)[None])[0].detach().numpy()

    numeric = np.stack([(f(point + step * e) - f(point - step * e)) / (2 * step) for e in np.eye(4)], 1)
    np.testing.assert_allclose(
        np.sort(np.abs(np.linalg.eigvals(numeric))), np.sort(np.abs(found.points.eigenvalue[0])), atol=1e-6
    )


# Bad input


def test_bad_memories():
    xi = random_patterns(4, 50)
    with pytest.raises(InputError, match="-1 or 1"):
        HopfieldMemory().fit(np.random.default_rng(0).random((3, 5)))
    with pytest.raises(InputError, match="remembers nothing"):
        HopfieldMemory().recall(xi)
    with pytest.raises(InputError, match="for a network of 50"):
        HopfieldMemory().fit(xi).recall(xi[:, :9])
    with pytest.raises(UnknownNameError, match="hebb"):
        HierarchicalMemory(rule="heb").fit(xi[:, None])
    with pytest.raises(InputError, match="copies"):
        HierarchicalMemory().fit(np.repeat(xi[:, None], 3, 1))
    with pytest.raises(InputError, match="duty"):
        SequenceMemory(duty=0).fit(xi)
    with pytest.raises(InputError, match="successors"):
        SequenceMemory().fit(xi, [1, 2, 3, 7])
    with pytest.raises(InputError, match="at least two"):
        SequenceMemory().fit(xi[:1])
    with pytest.raises(InputError, match="from 0 to 3"):
        SequenceMemory().fit(xi).run(10, start=9)
    with pytest.raises(InputError, match="3 starts and 2 phases"):
        SequenceMemory().fit(xi).run(10, start=[0, 1, 2], phase=[0.0, 0.5])
    assert clone(SequenceMemory(tau=3.0)).get_params()["tau"] == 3.0


def test_bad_measurements():
    with pytest.raises(InputError, match="no pattern ever reaches"):
        visits(np.full((5, 2), 0.1))
    with pytest.raises(InputError, match="no transitions"):
        successor_share(transitions(pd.DataFrame({"trial": [0], "pattern": [1]})))
    with pytest.raises(InputError, match="for 4 units"):
        overlaps(np.ones((3, 4)), np.ones((2, 5)))
    with pytest.raises(InputError, match="no direction"):
        overlaps(np.ones((3, 4)), np.ones((2, 4)), method="correlation")
    with pytest.raises(InputError, match="NaN"):
        overlaps(np.full((3, 4), np.nan), np.ones((2, 4)))
    with pytest.raises(InputError, match="different states"):
        discover_patterns(np.ones((9, 4)), 2)
    with pytest.raises(InputError, match="shares from 0"):
        basin_size(lambda s: s, np.ones((1, 3)), noise=[2.0])


def test_bad_networks():
    x = np.random.default_rng(0).standard_normal((10, 4))
    with pytest.raises(InputError, match="one layer"):
        fixed_points(torch.nn.GRU(2, 4, num_layers=2), x)
    with pytest.raises(InputError, match="whose state has 8"):
        fixed_points(torch.nn.LSTM(2, 4), x)
    with pytest.raises(InputError, match="keep their shape"):
        fixed_points(lambda s: s[:, :2], x)
    with pytest.raises(InputError, match="input of shape"):
        fixed_points(torch.nn.GRU(2, 4), x, inputs=np.ones(3))
    with pytest.raises(ModelError, match="came to rest"):
        fixed_points(lambda s: s + 1, x)
