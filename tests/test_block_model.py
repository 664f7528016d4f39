"""The weighted block model: incremental scores, invariances, planted blocks, noise, bad graphs."""

from __future__ import annotations

from math import lgamma, log

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score as nmi

from nissl.errors import InputError, MissingExtraError
from nissl.populations import correlation_communities, description_length, leiden, weighted_block_model
from nissl.populations.communities.integer_partitions import LogPartitions, _approximate, _table
from nissl.populations.communities.score import Graph, Partition, Score
from nissl.recordings import simulate


def random_graph(n, density, seed):
    rng = np.random.default_rng(seed)
    w = np.triu((rng.random((n, n)) < density) * rng.exponential(size=(n, n)), 1)
    return w + w.T


def score_of(w, degree_corrected=False, weighted=True):
    return Score(Graph((w > 0).astype(int), w), degree_corrected=degree_corrected, weighted=weighted)


def plain_score(w, labels, alpha=1.0):
    """The formula, written out pair of blocks by pair of blocks."""
    n, a = len(w), w > 0
    beta = w.sum() / a.sum()
    names, sizes = np.unique(labels, return_counts=True)
    total = (
        -log(n)
        - (lgamma(n) - lgamma(len(names)) - lgamma(n - len(names) + 1))
        - lgamma(n + 1)
        + sum(lgamma(s + 1) for s in sizes)
    )
    for k, r in enumerate(names):
        for s in names[k:]:
            block = np.ix_(labels == r, labels == s)
            half = 2 if r == s else 1
            e, x = a[block].sum() / half, w[block].sum() / half
            p = (labels == r).sum() * ((labels == s).sum() - (r == s)) / half
            total += lgamma(e + 1) + lgamma(p - e + 1) - lgamma(p + 2)
            total += alpha * log(beta) - lgamma(alpha) + lgamma(alpha + e) - (alpha + e) * log(beta + x)
    return total


@pytest.mark.parametrize("blocks", [1, 2, 5, 20])
def test_the_score_is_the_formula(blocks):
    w = random_graph(20, 0.4, 1)
    labels = np.random.default_rng(blocks).integers(0, blocks, 20)
    assert score_of(w).of(labels) == pytest.approx(plain_score(w, labels), abs=1e-9)
    assert description_length(w, labels) == pytest.approx(-plain_score(w, labels), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), blocks=st.integers(1, 6), degree_corrected=st.booleans(), weighted=st.booleans())
def test_moves_and_merges_change_the_score_as_they_say(seed, blocks, degree_corrected, weighted):
    w = random_graph(14, 0.4, seed)
    if not w.any():
        return
    rng = np.random.default_rng(seed)
    score = score_of(w, degree_corrected, weighted)
    partition = Partition(score, rng.integers(0, blocks, 14))
    for _ in range(4):  # also from tables that were kept in step, with blocks that have died
        before = score.of(partition.labels)
        assert partition.score() == pytest.approx(before, abs=1e-9)
        for node in range(14):
            for block, gain in enumerate(partition.gains(node)):
                moved = partition.labels.copy()
                moved[node] = block
                assert score.of(moved) - before == pytest.approx(gain, abs=1e-9)
        partition.move(int(rng.integers(14)), int(rng.integers(len(partition.n))))
    partition.relabel(partition.labels)
    before, merges = score.of(partition.labels), partition.merges()
    for r, s in np.argwhere(np.isfinite(merges)):
        merged = np.where(partition.labels == s, r, partition.labels)
        assert score.of(merged) - before == pytest.approx(merges[r, s], abs=1e-9)


@pytest.mark.parametrize("degree_corrected", [False, True])
def test_relabelling_and_reordering_do_not_matter(degree_corrected):
    w, rng = random_graph(16, 0.5, 3), np.random.default_rng(0)
    labels, order = rng.integers(0, 4, 16), rng.permutation(16)
    value = score_of(w, degree_corrected).of(labels)
    assert score_of(w, degree_corrected).of(7 - labels) == pytest.approx(value, abs=1e-9)
    assert score_of(w[np.ix_(order, order)], degree_corrected).of(labels[order]) == pytest.approx(value, abs=1e-9)


def test_topology_alone_is_a_proper_code():
    """Summed over all graphs of three nodes, the plain chances of one partition's topology make one."""
    total = 0.0
    labels = np.array([0, 0, 1])
    sizes = -log(3) - log(2) - (lgamma(4) - lgamma(3))
    for bits in range(1, 8):
        w = np.zeros((3, 3))
        w[np.triu_indices(3, 1)] = [bits & 1, bits >> 1 & 1, bits >> 2 & 1]
        total += np.exp(score_of(w + w.T, weighted=False).of(labels) - sizes)
    empty = (1 / 2) * (1 / 3)  # one pair within, two between, each chance uniform
    assert total + empty == pytest.approx(1)


@pytest.mark.parametrize("strong", ["within", "between"])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_blocks_are_found(strong, seed):
    graph = simulate.planted_partition(90, 3, strong=strong, seed=seed)
    found = weighted_block_model(graph, seed=seed, progress=False)
    truth = graph["block"].values
    assert nmi(truth, found.labels) >= 0.9
    assert found.description_length <= description_length(graph, truth) + 1e-6
    assert found.evidence > 0
    assert not found.degree_corrected
    if strong == "between":
        assert nmi(truth, leiden(graph)) <= 0.1
        # Without the weights there is nothing to see.
        assert weighted_block_model(graph, weighted=False, progress=False).n_blocks == 1


def test_noise_is_one_block():
    graphs = [simulate.planted_partition(60, 1, ratio=1.0, distribution="constant", seed=s) for s in range(2)]
    assert all(weighted_block_model(g, progress=False).n_blocks == 1 for g in graphs)
    assert all(leiden(g).max() >= 1 for g in graphs)


def test_units_of_the_weights_do_not_matter():
    graph = simulate.planted_partition(60, 3, ratio=6.0, density=0.5).values
    one, big = (weighted_block_model(graph * k, progress=False) for k in (1.0, 1e6))
    assert (one.labels == big.labels).all()
    assert one.evidence == pytest.approx(big.evidence, abs=1e-4)


def test_unequal_degrees_ask_for_the_degree_corrected_model():
    rng = np.random.default_rng(1)
    activity = np.minimum(np.exp(rng.normal(size=200)), 5)
    activity /= activity.mean()
    block = np.arange(200) % 2
    rate = np.outer(activity, activity) * np.where(block[:, None] == block, 1.0, 0.02) * 12 / 200
    edges = np.triu(rng.random((200, 200)) < 1 - np.exp(-rate), 1)
    found = weighted_block_model((edges | edges.T).astype(float), weighted=False, progress=False)
    assert found.degree_corrected
    assert found.n_blocks == 2
    assert nmi(block, found.labels) > 0.7
    # The plain model needs blocks for busy and for quiet nodes.
    assert found.lengths["degree-corrected"] < found.lengths["plain"]


def test_integer_partitions():
    exact = _table(400, 60)
    assert np.exp(exact[5, 5]) == pytest.approx(7)
    assert exact[60, 60] == pytest.approx(log(966467))
    m, n = np.meshgrid([100, 250, 400], [1, 2, 10, 30, 60])
    assert np.allclose(_approximate(m, n), exact[n, m], atol=0.25, rtol=0.02)
    assert np.array_equal(LogPartitions(20, 10)(np.array([0, 3]), np.array([4, 0])), [0, -np.inf])


def test_levels_are_nested_up_to_one_block():
    # Six cliques in two groups of three.
    rng = np.random.default_rng(0)
    clique, group = np.arange(72) // 12, np.arange(72) // 36
    chance = np.where(clique[:, None] == clique, 0.95, np.where(group[:, None] == group, 0.3, 0.02))
    edges = np.triu(rng.random((72, 72)) < chance, 1)
    found = weighted_block_model((edges | edges.T).astype(float), weighted=False, progress=False)
    assert nmi(clique, found.labels) > 0.95
    assert (found.levels[-1] == 0).all()
    for low, high in zip(found.levels[:-1], found.levels[1:], strict=True):
        assert all(len(np.unique(high[low == b])) == 1 for b in np.unique(low))
        assert high.max() <= low.max()
    assert found.edges.shape == (found.n_blocks,) * 2
    assert np.triu(found.edges).sum() == edges.sum()


def test_networkx_and_names_are_taken():
    graph = nx.relabel_nodes(nx.karate_club_graph(), str)
    found = weighted_block_model(graph, progress=False)
    assert found.units[0] == "0"
    assert found.to_xarray().sizes["unit"] == 34
    assert 1 <= found.n_blocks <= 6


def test_same_seed_same_answer():
    graph = simulate.planted_partition(50, 3, density=0.4)
    one, two = (weighted_block_model(graph, seed=3, progress=False) for _ in range(2))
    assert (one.levels == two.levels).all()


def test_merge_split_never_makes_it_longer():
    graph = simulate.planted_partition(60, 4, density=0.4)
    short = weighted_block_model(graph, refine=0, degree_corrected=False, progress=False).description_length
    assert (
        weighted_block_model(graph, refine=20, degree_corrected=False, progress=False).description_length
        <= short + 1e-9
    )


def test_lfr_graphs_keep_their_promises():
    graph = simulate.weighted_lfr(125, mixing=0.4, weight_mixing=0.2, seed=2)
    w, block = graph.values, graph["block"].values
    same = block[:, None] == block
    assert ((w > 0) & ~same).sum() / (w > 0).sum() == pytest.approx(0.4, abs=0.05)
    assert (w * ~same).sum() / w.sum() == pytest.approx(0.2, abs=0.05)
    assert nmi(block, weighted_block_model(graph, progress=False).labels) > 0.7


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((3, 4)), "square"),
        (np.ones((1, 1)), "two nodes"),
        (np.triu(np.ones((4, 4))), "symmetric"),
        (-np.ones((4, 4)), "at least 0"),
        (np.full((4, 4), np.inf), "finite"),
        (np.zeros((4, 4)), "without an edge"),
        (np.full((4, 4), np.nan), "without an edge"),
    ],
)
def test_what_is_no_graph_is_said(weights, message):
    for method in (weighted_block_model, leiden):
        with pytest.raises(InputError, match=message):
            method(weights)


def test_options_are_checked():
    w = random_graph(10, 0.5, 0)
    for options in ({"backend": "graphtool"}, {"degree_corrected": "maybe"}, {"alpha": 0.0}):
        with pytest.raises(InputError):
            weighted_block_model(w, **options)
    with pytest.raises(InputError):
        leiden(w, objective="modularty")
    with pytest.raises(InputError):
        description_length(w, np.zeros(3))


def test_graph_tool_orders_partitions_alike():
    gt = pytest.importorskip("graph_tool.all")
    graph = simulate.planted_partition(60, 3, density=0.4)
    w, truth = graph.values, graph["block"].values
    found = weighted_block_model(w, backend="graph-tool", progress=False)
    assert nmi(truth, found.labels) > 0.9
    i, j = np.nonzero(np.triu(w))
    g = gt.Graph(directed=False)
    g.add_vertex(60)
    weight = g.new_edge_property("double")
    g.add_edge_list(np.column_stack([i, j, w[i, j]]), eprops=[weight])

    def entropy(labels):
        state = gt.BlockState(g, b=labels, deg_corr=False, recs=[weight], rec_types=["real-exponential"])
        return state.entropy()

    other = np.random.default_rng(0).permutation(truth)
    assert np.sign(entropy(truth) - entropy(other)) == np.sign(
        description_length(w, truth) - description_length(w, other)
    )


def test_graph_tool_is_asked_for_in_words():
    try:
        import graph_tool  # type: ignore[import-not-found] # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match="graph-tool is not installed"):
            weighted_block_model(random_graph(10, 0.5, 0), backend="graph-tool")


def test_pairwise_correlation_is_pandas():
    import pandas as pd

    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5))
    x[rng.random(x.shape) < 0.2] = np.nan
    _, r = correlation_communities(x)
    assert np.allclose(r, pd.DataFrame(x).corr().values)


@pytest.mark.parametrize("objective", ["modularity", "surprise", "cpm"])
def test_leiden_finds_cliques(objective):
    w = np.kron(np.eye(3), np.ones((5, 5))) + 0.01
    assert nmi(np.arange(15) // 5, leiden(w, objective=objective, resolution=0.5)) == pytest.approx(1)
