"""Surrogates keep what they promise and lose what they should; p values are honest; matching is optimal."""

from __future__ import annotations

import itertools
from typing import Literal

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cluster

from nissl import statistics as ns
from nissl.errors import InputError, UnknownNameError


def drift(rng: np.random.Generator, n: int, units: int = 3) -> np.ndarray:
    return rng.normal(size=(n, units)).cumsum(0)


class TestSurrogates:
    @given(st.integers(5, 60), st.integers(1, 2), st.integers(0, 100))
    @settings(max_examples=30, deadline=None)
    def test_shifts_are_rolls_by_at_least_the_least_shift(self, length: int, least: int, seed: int) -> None:
        x = np.arange(float(length))[:, None] + 100 * np.arange(2)
        for copy in ns.circular_shifts(x, 5, min_shift=least, seed=seed):
            for unit in range(2):
                lag = int(np.flatnonzero(copy[:, unit] == x[0, unit])[0])
                assert least <= lag <= length - least
                np.testing.assert_array_equal(copy[:, unit], np.roll(x[:, unit], lag))

    def test_any_axis_and_all_series_together(self) -> None:
        x = np.random.default_rng(0).normal(size=(4, 30, 2))
        copies = ns.circular_shifts(x, 6, axis=1, together=True)
        assert copies.shape == (6, 4, 30, 2)
        for copy in copies:
            lag = int(np.flatnonzero(copy[0, :, 0] == x[0, 0, 0])[0])
            np.testing.assert_array_equal(copy, np.roll(x, lag, axis=1))

    @pytest.mark.parametrize("length", [63, 64])
    def test_phases_change_and_spectra_stay(self, length: int) -> None:
        x = drift(np.random.default_rng(1), length)
        for keep in (False, True):
            copy = ns.phase_randomised(x, 1, keep_cross=keep)[0]
            f, g = (np.fft.rfft(a, axis=0) for a in (x, copy))
            np.testing.assert_allclose(abs(f), abs(g), atol=1e-9)
            np.testing.assert_allclose(copy.mean(0), x.mean(0), atol=1e-9)
            cross = np.allclose(f[:, 0] * f[:, 1].conj(), g[:, 0] * g[:, 1].conj())
            assert cross is keep
            assert not np.allclose(x, copy)

    def test_jitter_stays_in_the_window(self) -> None:
        times = np.array([0.001, 0.5, 0.999])
        moved = ns.jittered(times, 500, width=0.02, start=0.0, stop=1.0)
        assert moved.min() >= 0
        assert moved.max() <= 1
        assert abs(moved - times).max() <= 0.02
        assert stats.kstest((moved[:, 1] - 0.5) / 0.02, stats.uniform(-1, 2).cdf).pvalue > 0.001

    def test_blocks_stay_whole(self) -> None:
        for order in ns.block_permutations(17, 20, block=5):
            assert sorted(order) == list(range(17))
            steps = np.flatnonzero(np.diff(order) != 1)
            assert all(order[s + 1] % 5 == 0 for s in steps)

    def test_same_seed_same_answer(self) -> None:
        x = drift(np.random.default_rng(2), 40)
        for make in (ns.circular_shifts, ns.phase_randomised):
            np.testing.assert_array_equal(make(x, 2, seed=3), make(x, 2, seed=3))
            assert not np.array_equal(make(x, 2, seed=3), make(x, 2, seed=4))

    def test_what_cannot_be_shifted_is_refused(self) -> None:
        with pytest.raises(InputError, match="4 samples"):
            ns.circular_shifts(np.zeros((4, 1)), 3, min_shift=2)
        with pytest.raises(InputError, match="NaN"):
            ns.phase_randomised(np.array([0, np.nan, 1.0]), 1)
        with pytest.raises(InputError, match="width"):
            ns.jittered(np.array([1.0]), 1, width=0)
        with pytest.raises(InputError, match="blocks of 9"):
            ns.block_permutations(5, 1, block=9)
        with pytest.raises(InputError, match="0 surrogates"):
            ns.permutations(3, 0)


class TestChance:
    def test_p_is_uniform_under_the_null(self) -> None:
        rng = np.random.default_rng(0)
        test = ns.against(rng.normal(size=2000), rng.normal(size=(199, 2000)))
        assert stats.kstest(test.p, "uniform").pvalue > 0.001
        assert test.p.min() >= 1 / 200

    def test_circular_shift_test_of_drifting_series_keeps_its_level(self) -> None:
        # Independent slow series: white-noise surrogates would find correlations everywhere.
        rng = np.random.default_rng(5)
        p = []
        for i in range(200):
            x = np.fft.irfft(
                np.fft.rfft(rng.normal(size=(200, 2)), axis=0) * np.exp(-np.arange(101) / 8)[:, None], axis=0
            )
            null = ns.circular_shifts(x[:, 0], 99, min_shift=5, seed=i) @ x[:, 1]
            p.append(ns.against(abs(x[:, 0] @ x[:, 1]), abs(null)).p)
        assert 0.005 <= np.mean(np.array(p) <= 0.05) <= 0.11

    def test_correction_for_the_maximum_holds_for_the_whole_array(self) -> None:
        rng = np.random.default_rng(1)
        hits = [
            ns.against(rng.normal(size=50), rng.normal(size=(99, 50)), correct="max").p.min() <= 0.05
            for _ in range(200)
        ]
        plain = [ns.against(rng.normal(size=50), rng.normal(size=(99, 50))).p.min() <= 0.05 for _ in range(50)]
        assert np.mean(hits) <= 0.1 < np.mean(plain)

    def test_tails_ties_and_nan(self) -> None:
        null = np.array([0.0, 1.0, 2.0, 3.0])
        assert ns.against(3.0, null).p == 2 / 5
        assert ns.against(0.0, null, tail="less").p == 2 / 5
        assert ns.against(4.0, null, tail="two-sided").p == 1 / 5
        assert np.isnan(ns.against(np.nan, null).p)
        assert np.isnan(ns.against(1.0, [1.0, 1.0]).z)
        assert ns.against(1.0, [1.0, 1.0]).p == 1

    def test_bad_shapes_and_names(self) -> None:
        with pytest.raises(InputError, match="shape"):
            ns.against(np.zeros(3), np.zeros((10, 2)))
        with pytest.raises(UnknownNameError, match="greater"):
            ns.against(0.0, [1.0], tail="great")  # type: ignore[arg-type]

    def test_one_at_a_time_equals_batched(self) -> None:
        x, y = np.random.default_rng(0).normal(size=(2, 50))
        test = ns.surrogate_test(lambda d: d[0] @ d[1], lambda d, r: (d[0], r.permutation(d[1])), (x, y), n=50, seed=4)
        rng = np.random.default_rng(4)
        again = ns.against(x @ y, [x @ rng.permutation(y) for _ in range(50)])
        assert test.p == again.p
        assert "surrogates" not in test.to_dict()
        assert "p " in str(test)


class TestMatching:
    @given(st.integers(2, 5), st.integers(0, 1000))
    @settings(max_examples=30, deadline=None)
    def test_no_pairing_is_better(self, n: int, seed: int) -> None:
        table = np.random.default_rng(seed).normal(size=(n, n))
        best = max(table[range(n), list(order)].sum() for order in itertools.permutations(range(n)))
        assert ns.match(table).total == pytest.approx(best)
        assert ns.match(table, maximise=False).total == pytest.approx(
            min(table[range(n), list(order)].sum() for order in itertools.permutations(range(n)))
        )

    def test_labels_are_renamed_not_changed(self) -> None:
        a, b = np.array([2, 2, 0, 0, 1, 1, 3]), np.array(["x", "x", "y", "y", "z", "z", "z"])
        again = ns.match_labels(a, b)
        assert cluster.adjusted_rand_score(a, again) == 1
        assert ns.label_accuracy(a, b) == pytest.approx(6 / 7)
        assert again[:6].tolist() == b[:6].tolist()

    def test_contingency_is_sklearns(self) -> None:
        a, b = np.random.default_rng(0).integers(0, 4, (2, 50))
        np.testing.assert_array_equal(ns.contingency(a, b)[0], cluster.contingency_matrix(a, b))

    def test_bad_input(self) -> None:
        with pytest.raises(InputError, match="finite"):
            ns.match([[np.nan, 1], [1, 0]])
        with pytest.raises(InputError, match="3 labels and 2"):
            ns.label_accuracy([1, 2, 3], [1, 2])


class TestRewiring:
    @pytest.mark.parametrize("directed", [True, False])
    def test_degrees_stay_and_wiring_changes(self, directed: bool) -> None:
        rng = np.random.default_rng(0)
        a = (rng.random((30, 30)) < 0.15) * rng.random((30, 30))
        if not directed:
            a = np.triu(a, 1) + np.triu(a, 1).T
        np.fill_diagonal(a, 0)
        a[3, 3] = 7.0
        for copy in ns.rewired(a, 3):
            off, before = (m * (1 - np.eye(30)) for m in (copy, a))
            np.testing.assert_array_equal((off > 0).sum(0), (before > 0).sum(0))
            np.testing.assert_array_equal((off > 0).sum(1), (before > 0).sum(1))
            assert copy[3, 3] == 7
            np.testing.assert_allclose(np.sort(copy.ravel()), np.sort(a.ravel()))
            if directed:
                np.testing.assert_allclose(off.sum(0), before.sum(0))  # weights stay with the source
            else:
                np.testing.assert_array_equal(copy, copy.T)
            shared = ((off > 0) & (before > 0)).sum() / (before > 0).sum()
            assert shared < 0.5

    def test_every_graph_with_these_degrees_is_equally_likely(self) -> None:
        # Two-regular directed graphs on four nodes without loops, counted by enumeration.
        cells = [(i, j) for i in range(4) for j in range(4) if i != j]
        graphs = set()
        for chosen in itertools.combinations(cells, 4):
            m = np.zeros((4, 4), int)
            m[tuple(zip(*chosen, strict=True))] = 1
            if (m.sum(0) == 1).all() and (m.sum(1) == 1).all():
                graphs.add(m.tobytes())
        start = np.roll(np.eye(4), 1, axis=0)
        seen = [(c > 0).astype(int).tobytes() for c in ns.rewired(start, 3000, swaps_per_edge=25)]
        counts = [seen.count(g) for g in graphs]
        assert len(graphs) == 9
        assert min(counts) > 0
        assert max(counts) / min(counts) < 1.6

    def test_reciprocity_of_a_reciprocal_graph_falls(self) -> None:
        graph = nx.to_numpy_array(nx.gnp_random_graph(40, 0.1, seed=1))
        copies = ns.rewired(graph, 2, directed=True)
        assert all((c * c.T).sum() < 0.6 * (graph * graph.T).sum() for c in copies)

    def test_bad_input(self) -> None:
        with pytest.raises(InputError, match="square"):
            ns.rewired(np.zeros((2, 3)))
        with pytest.raises(InputError, match="edge"):
            ns.rewired(np.eye(4))
        with pytest.raises(InputError, match="symmetric"):
            ns.rewired(np.roll(np.eye(4), 1, 0), directed=False)


@pytest.mark.parametrize("tail", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("correct", [None, "max"])
def test_surrogates_without_a_value_are_left_out(
    tail: Literal["greater", "less", "two-sided"], correct: Literal["max"] | None
) -> None:
    null = np.random.default_rng(2).normal(size=(60, 3))
    null[[3, 30], 1] = np.nan
    null[:, 2] = np.nan
    test = ns.against(np.array([0.1, -0.2, 0.3]), null, tail=tail, correct=correct)
    assert test.p[0] == ns.against(np.array([0.1]), null[:, :1], tail=tail).p[0] or correct == "max"
    assert np.isnan(test.p[2])
    assert 0.2 < test.p[1] <= 1  # an effect in the middle of its surrogates
    np.testing.assert_allclose([test.mean[1], test.sd[1]], [np.nanmean(null[:, 1]), np.nanstd(null[:, 1], ddof=1)])
    if correct is None:
        whole = null[~np.isnan(null[:, 1]), 1]
        assert test.p[1] == ns.against(-0.2, whole, tail=tail).p
    assert ns.against(1e3, np.append(null[:, 0], np.nan), tail=tail).p == pytest.approx(1 / 61 if tail != "less" else 1)
