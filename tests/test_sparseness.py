"""Sparse codes and sparse wiring: closed forms, networkx and brute force first, then known graphs, then bad input."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from nissl.errors import InputError, UnknownNameError
from nissl.populations import (
    active_fraction,
    hoyer,
    lottery_curve,
    reciprocity,
    sparseness,
    treves_rolls,
    treves_rolls_sparseness,
    weight_distributions,
    weight_statistics,
)
from nissl.populations.weights.triads import TRIADS, triad_census
from nissl.statistics import gini


def test_closed_forms() -> None:
    rng = np.random.default_rng(0)
    assert treves_rolls(rng.exponential(size=400_000)) == pytest.approx(0.5, abs=0.005)
    assert treves_rolls(np.abs(rng.normal(size=400_000))) == pytest.approx(2 / np.pi, abs=0.005)
    for k in (1, 7, 50):
        assert treves_rolls(np.arange(50) < k) == pytest.approx(k / 50)
        assert treves_rolls_sparseness(np.arange(50) < k) == pytest.approx((1 - k / 50) / (1 - 1 / 50))
    assert gini(rng.exponential(size=(1, 400_000)))[0] == pytest.approx(0.5, abs=0.005)
    assert hoyer(np.ones(9)) == pytest.approx(0)
    assert hoyer(np.eye(1, 9)[0]) == pytest.approx(1)
    assert active_fraction(np.arange(10.0), 6.5) == pytest.approx(0.3)


@given(st.lists(st.floats(0, 100), min_size=3, max_size=25).filter(lambda r: sum(r) > 1e-3), st.floats(0.1, 50))
@settings(max_examples=60, deadline=None)
def test_sparseness_lies_in_0_to_1_and_ignores_scale_and_order(rates: list[float], scale: float) -> None:
    r = np.array(rates)
    for measure in (treves_rolls_sparseness, hoyer):
        value = float(measure(r))
        assert -1e-9 <= value <= 1 + 1e-9
        assert float(measure(scale * r[::-1])) == pytest.approx(value, abs=1e-9)


def test_lifetime_and_population_by_hand_with_gaps() -> None:
    rng = np.random.default_rng(0)
    rates = rng.exponential(size=(40, 6))
    rates[3, 2] = rates[10:20, 4] = np.nan
    life = sparseness(rates, n_surrogates=20)
    moment = sparseness(rates, kind="population", n_surrogates=20)
    for unit in range(6):
        r = rates[~np.isnan(rates[:, unit]), unit]
        assert float(life.effect[unit]) == pytest.approx((1 - r.mean() ** 2 / (r**2).mean()) / (1 - 1 / len(r)))
    r = rates[3, [0, 1, 3, 4, 5]]
    assert float(moment.effect[3]) == pytest.approx((1 - r.mean() ** 2 / (r**2).mean()) / (1 - 1 / 5))


def test_controls_know_selective_neurons_and_synchronous_moments() -> None:
    rng = np.random.default_rng(0)
    rates = rng.exponential(size=(300, 20))
    assert float((sparseness(rates, n_surrogates=99).p < 0.05).mean()) < 0.3
    # One neuron responds to one stimulus in ten, and more strongly.
    picky = rates.copy()
    picky[:, 0] *= 10 * (np.arange(300) % 10 == 0)
    found = sparseness(picky, n_surrogates=99)
    assert float(found.p[0]) < 0.02
    # Bursts in which a few neurons fire together make those moments sparser than units moved apart.
    rates[100, :] = 0.01
    rates[100, 5] = 20
    assert float(sparseness(rates, kind="population", n_surrogates=99).p[100]) < 0.05


def test_hidden_states_and_stimuli_are_understood() -> None:
    rng = np.random.default_rng(0)
    hidden = xr.DataArray(np.abs(rng.normal(size=(3, 30, 5))), dims=("sample", "position", "unit"))
    found = sparseness(hidden, n_surrogates=5)
    assert found.effect.dims == ("unit",)
    np.testing.assert_allclose(found.effect, sparseness(hidden.values.reshape(90, 5), n_surrogates=5).effect)
    tuned = xr.DataArray(
        rng.random((12, 4)), dims=("stimulus", "unit"), coords={"stimulus": [f"s{k}" for k in range(12)]}
    )
    assert sparseness(tuned, n_surrogates=5).sizes["unit"] == 4
    assert sparseness(torch.rand(20, 3), n_surrogates=5).sizes["unit"] == 3


def test_signs_silence_and_names() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    with pytest.raises(InputError, match="signed='abs'"):
        sparseness(x)
    assert not np.isnan(sparseness(x, signed="abs", n_surrogates=5).effect).any()
    rates = np.abs(x)
    rates[:, 1] = 0
    with pytest.warns(UserWarning, match="silent units: '?1"):
        found = sparseness(rates, n_surrogates=5)
    assert np.isnan(found.effect[1])
    assert np.isnan(found.p[1])
    with pytest.raises(InputError, match="zero everywhere"):
        sparseness(np.zeros((10, 3)))
    with pytest.raises(UnknownNameError, match="treves_rolls"):
        sparseness(rates, measure="treves")  # type: ignore[arg-type]


def test_triads_are_networkxs() -> None:
    rng = np.random.default_rng(0)
    for p in (0.05, 0.3, 0.7):
        graph = (rng.random((25, 25)) < p) & ~np.eye(25, dtype=bool)
        theirs = nx.triadic_census(nx.from_numpy_array(graph.T.astype(int), create_using=nx.DiGraph))
        ours = triad_census(graph).iloc[0]
        assert {k: int(ours[k]) for k in TRIADS} == theirs


def test_graph_measures_are_networkxs() -> None:
    rng = np.random.default_rng(1)
    weights = np.where(rng.random((40, 40)) < 0.15, rng.lognormal(size=(40, 40)), 0)
    np.fill_diagonal(weights, 0)
    found = weight_statistics(weights, n_surrogates=5, n_partitions=1)
    directed = nx.from_numpy_array((weights.T != 0).astype(int), create_using=nx.DiGraph)
    plain = directed.to_undirected()
    assert found.tests.effect["reciprocity"] == pytest.approx(nx.reciprocity(directed))
    assert found.tests.effect["clustering"] == pytest.approx(nx.average_clustering(plain), abs=1e-6)
    assert found.tests.effect["path length"] == pytest.approx(nx.average_shortest_path_length(plain))
    assert found.density == pytest.approx(nx.density(directed))
    assert found.edges == directed.number_of_edges()


def test_aic_of_each_distribution_is_scipys() -> None:
    x = np.random.default_rng(0).lognormal(size=300)
    table = weight_distributions(x)
    shape, _, scale = stats.lognorm.fit(x, floc=0)
    assert table.log_likelihood["log-normal"] == pytest.approx(stats.lognorm.logpdf(x, shape, 0, scale).sum(), rel=1e-6)
    assert table.log_likelihood["exponential"] == pytest.approx(stats.expon.logpdf(x, 0, x.mean()).sum())
    assert table.aic["normal"] == pytest.approx(4 - 2 * stats.norm.logpdf(x, *stats.norm.fit(x)).sum())


@pytest.mark.parametrize(
    ("draw", "best"),
    [("lognormal", "log-normal"), ("exponential", "exponential"), ("standard_normal", "half-normal")],
)
def test_the_distribution_that_made_the_weights_is_the_best(draw: str, best: str) -> None:
    x = getattr(np.random.default_rng(0), draw)(size=2000)
    assert weight_distributions(x).index[0] == best


def test_reciprocal_wiring_beats_its_rewirings_and_random_wiring_does_not() -> None:
    rng = np.random.default_rng(0)
    random = rng.random((60, 60)) < 0.08
    found = weight_statistics(random, n_surrogates=99, n_partitions=2)
    assert found.tests.p["reciprocity"] > 0.01
    assert len(found.fits) == 0  # all weights are one
    assert not found.heavy_tailed
    mutual = random | (random.T & (rng.random((60, 60)) < 0.5))
    found = weight_statistics(mutual, n_surrogates=99, n_partitions=2)
    assert found.tests.p["reciprocity"] == pytest.approx(0.01)
    assert found.triads.z["102"] > 3
    assert "reciprocity" in str(found)
    assert "<table" in found._repr_html_()


def test_a_ring_with_shortcuts_is_a_small_world_with_modules() -> None:
    small = nx.to_numpy_array(nx.watts_strogatz_graph(80, 6, 0.1, seed=1))
    found = weight_statistics(small, n_surrogates=20, n_partitions=20)
    assert found.tests.effect["small world"] > 2
    assert found.tests.p["modularity"] < 0.05
    assert reciprocity(small) == 1


def test_graphs_that_cannot_be_judged() -> None:
    with pytest.raises(InputError, match="square matrix"):
        weight_statistics(np.ones((3, 4)))
    with pytest.raises(InputError, match="infinite"):
        weight_statistics(np.full((5, 5), np.inf))
    with pytest.raises(InputError, match="10 edges"):
        weight_statistics(np.eye(5))
    with pytest.raises(InputError, match="rewire"):
        weight_statistics(np.ones((6, 6)), n_surrogates=3)
    with pytest.raises(InputError, match="10 or more"):
        weight_distributions([1.0, 2.0])


def test_target_and_source_are_told_apart_by_name() -> None:
    w = np.where(np.random.default_rng(0).random((30, 30)) < 0.2, 1.0, 0)
    w[:, 0] = 1  # unit 0 sends to all
    labelled = xr.DataArray(w.T, dims=("source", "target"))
    found, plain = (weight_statistics(x, n_surrogates=10, n_partitions=1) for x in (labelled, w))
    assert found.tests.effect["out-degree Gini"] == plain.tests.effect["out-degree Gini"]
    assert found.tests.effect["out-degree Gini"] > found.tests.effect["in-degree Gini"]


def test_lottery_curve_leaves_the_network_alone_and_starts_at_its_loss() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 2))
    before = [p.clone() for p in network.parameters()]
    x = torch.randn(200, 20, generator=torch.Generator().manual_seed(1))
    y = network(x).detach()
    curve = lottery_curve(network, lambda n: float(((n(x) - y) ** 2).mean()), fractions=[0, 0.3, 0.6], repeats=10)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert curve.loss[0] == 0
    assert curve.loss[0.3] < curve.random_mean[0.3]
    assert curve.p[0.3] < 0.1
    assert curve.loss.is_monotonic_increasing
    with pytest.raises(InputError, match="from 0 to 1"):
        lottery_curve(network, lambda n: 0.0, fractions=[2])
