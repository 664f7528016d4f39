"""The Connectome type: orientation, symmetry, forms in and out, consensus, comparison, bad input. No package of data is needed."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.stats import pearsonr, spearmanr

from nissl.errors import InputError, UnknownNameError
from nissl.recordings import Connectome, compare_connectomes, merge_connectomes

NAMES = [f"N{i}" for i in range(12)]


def wiring(seed: int = 0, n: int = 12, density: float = 0.3, *, whole: bool = True) -> Connectome:
    rng = np.random.default_rng(seed)
    chemical = (rng.random((n, n)) < density) * rng.integers(1, 9, (n, n))
    gap = np.tril((rng.random((n, n)) < density / 2) * rng.integers(1, 5, (n, n)))
    names = NAMES[:n] if n <= 12 else [f"N{i}" for i in range(n)]
    return Connectome(names, chemical=chemical, electrical=gap if whole else None, name=f"wiring {seed}")


def test_element_i_j_runs_from_j_to_i_in_every_form() -> None:
    c = Connectome(["a", "b", "c"], chemical=[[0, 0, 0], [2, 0, 0], [0, 0, 0]])
    assert float(c.chemical.sel(target="b", source="a")) == 2
    assert c.edges().iloc[0][["source", "target", "weight"]].tolist() == ["a", "b", 2.0]
    assert list(c.to_networkx("chemical").edges(data="weight")) == [("a", "b", 2.0)]
    assert c.to_torch()["edge_index"].tolist() == [[0], [1]]
    assert c.to_torch()["edge_attr"].tolist() == [[0.0, 2.0]]


@given(st.integers(0, 10_000), st.floats(0.05, 0.6))
@settings(max_examples=30, deadline=None)
def test_electrical_is_the_mean_of_the_values_of_an_unordered_pair(seed: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    raw = (rng.random((7, 7)) < density) * rng.integers(1, 9, (7, 7)).astype(float)
    if not raw.any():
        return
    e = Connectome([f"N{i}" for i in range(7)], electrical=raw).electrical.values
    assert np.array_equal(e, e.T)
    for i in range(7):
        for j in range(7):
            listed = [x for x in ((raw[i, j], raw[j, i]) if i != j else (raw[i, i],)) if x]
            assert e[i, j] == (np.mean(listed) if listed else 0)


def test_repeated_edges_add_up_and_gap_junctions_are_averaged() -> None:
    table = pd.DataFrame(
        {"pre": list("aaabba"), "post": list("bbcaba"), "type": ["chemical", "chemical", "electrical", "gap junction", "electrical", "gap"], "synapses": [1, 2, 3, 4, 7, 9]}
    )  # fmt: skip
    c = Connectome.from_edges(table)
    assert float(c.chemical.sel(target="b", source="a")) == 3
    assert float(c.electrical.sel(target="c", source="a")) == 3
    assert float(c.electrical.sel(target="a", source="b")) == 4
    assert float(c.electrical.sel(target="b", source="b")) == 7
    assert float(c.electrical.sel(target="a", source="a")) == 9


def test_csv_and_graph_and_matrix_say_the_same(tmp_path) -> None:
    c = wiring()
    c.edges().rename(columns={"source": "pre", "target": "post", "kind": "type", "weight": "synapses"}).to_csv(
        tmp_path / "w.tsv", sep="\t", index=False
    )
    from_file = Connectome.from_edges(tmp_path / "w.tsv", nodes=NAMES)
    from_graph = Connectome.from_networkx(c.to_networkx())
    for kind in c.kinds:
        assert from_file.matrix(kind).equals(c.matrix(kind).rename(kind))
        assert np.array_equal(from_graph.matrix(kind).values, c.matrix(kind).values)
    assert from_file.name == "w"


def test_undirected_graph_is_electrical_and_sparse_matrices_are_taken() -> None:
    graph = nx.Graph()
    graph.add_edge("a", "b", weight=2.0)
    assert Connectome.from_networkx(graph).kinds == ("electrical",)
    m = sparse.random(300, 300, 0.01, rng=0, format="csc")
    c = Connectome([str(i) for i in range(300)], chemical=m)
    assert np.array_equal(c.chemical.values, m.toarray())


def test_a_dataarray_is_matched_by_name() -> None:
    m = xr.DataArray(
        [[0.0, 5.0], [0.0, 0.0]], dims=("source", "target"), coords={"source": ["b", "a"], "target": ["b", "a"]}
    )
    c = Connectome(["a", "b"], chemical=m)
    assert float(c.chemical.sel(target="a", source="b")) == 5


def test_graph_edge_counts_equal_array_counts_and_the_complete_graph_has_every_pair() -> None:
    c = wiring()
    for kind in c.kinds:
        assert c.to_networkx(kind).number_of_edges() == int((c.matrix(kind) != 0).sum()) == c.sparse(kind).nnz
    either = (c.chemical.values != 0) | (c.electrical.values != 0)
    tensors, complete = c.to_torch(), c.to_torch(complete=True)
    assert tensors["edge_index"].shape == (2, either.sum())
    assert complete["edge_index"].shape == (2, 144)
    assert complete["edge_attr"].shape == (144, 2)
    source, target = complete["edge_index"].numpy()
    assert np.array_equal(complete["edge_attr"].numpy()[:, 0], c.electrical.values[target, source].astype(np.float32))
    assert np.array_equal(complete["edge_attr"].numpy()[:, 1], c.chemical.values[target, source].astype(np.float32))


def test_align_puts_units_in_order_and_marks_strangers_as_not_measured() -> None:
    c = wiring()
    order = ["N5", "stranger", "N0", "N3"]
    got = c.align(order)
    assert got.nodes == tuple(order)
    assert np.isnan(got.chemical.sel(target="stranger")).all()
    assert np.isnan(got.chemical.sel(source="stranger")).all()
    known = ["N5", "N0", "N3"]
    assert np.array_equal(got.chemical.sel(target=known, source=known), c.chemical.sel(target=known, source=known))
    recording = xr.DataArray(np.zeros((3, 2)), dims=("time", "unit"), coords={"unit": ["N1", "N2"]})
    assert c.align(recording).nodes == ("N1", "N2")
    assert c.align(c.nodes) is c


def test_three_states_survive_selection() -> None:
    m = np.array([[0, np.nan, 3], [0, 0, 0], [np.nan, 2, 0]])
    c = Connectome("abc", functional=m)
    assert c.functional.equals(c.functional.copy(data=m))
    assert np.array_equal(c.select(["c", "a"]).functional.values, m[[2, 0]][:, [2, 0]], equal_nan=True)
    assert c.measured("functional").sum() == 7


def test_how_many_gap_junctions_were_listed_one_way_is_kept() -> None:
    raw = np.array([[0, 2, 0], [0, 0, 1], [0, 1, 0]])
    assert Connectome("abc", electrical=raw).one_sided == 1
    assert Connectome("abc", electrical=raw).select("ba").one_sided == 1
    assert wiring(whole=False).one_sided == 0


def test_reciprocity_by_hand() -> None:
    assert Connectome("abc", chemical=[[0, 1, 0], [1, 0, 0], [0, 1, 1]]).reciprocity() == pytest.approx(2 / 3)
    assert wiring().reciprocity("electrical") == 1
    with pytest.raises(InputError, match="no chemical connection between two"):
        Connectome("ab", chemical=np.eye(2)).reciprocity()


def test_comparison_against_the_plain_definitions() -> None:
    a, b = wiring(1), wiring(2)
    found = compare_connectomes(a, b, over="nodes", n=60)
    for kind in ("chemical", "electrical"):
        x, y = a.matrix(kind).values, b.matrix(kind).values
        row = found.table.to_dict("index")[kind]
        assert row["jaccard"] == pytest.approx(((x != 0) & (y != 0)).sum() / ((x != 0) | (y != 0)).sum())
        assert row["correlation"] == pytest.approx(pearsonr(x.ravel(), y.ravel())[0])
        assert row["rank_correlation"] == pytest.approx(spearmanr(x.ravel(), y.ravel())[0])
        assert row["jaccard_permuted"] == pytest.approx(found.tests[kind]["jaccard"].surrogates.mean())
        assert found.table.loc[kind, "correlation_p"] > 0.01  # two independent ones


def test_comparison_of_partly_measured_ones_uses_what_both_measured() -> None:
    rng = np.random.default_rng(0)
    x, y = (
        np.where(rng.random((9, 9)) < 0.2, np.nan, (rng.random((9, 9)) < 0.5) * rng.normal(size=(9, 9)))
        for _ in range(2)
    )
    for m in (x, y):
        np.fill_diagonal(m, 0)
    a, b = (Connectome([f"N{i}" for i in range(9)], functional=m) for m in (x, y))
    both = ~np.isnan(x) & ~np.isnan(y) & ~np.eye(9, dtype=bool)
    table = a.compare(b, over="nodes", n=9).table
    assert table.loc["functional", "correlation"] == pytest.approx(pearsonr(x[both], y[both])[0])


def test_a_connectome_agrees_with_itself_under_any_order_of_its_nodes() -> None:
    a = wiring(3)
    b = a.select(list(reversed(a.nodes)))
    table = a.compare(b, n=99).table
    assert table[["jaccard", "correlation", "rank_correlation"]].to_numpy() == pytest.approx(np.ones((2, 3)))
    assert (table["jaccard_p"] == 0.01).all()


def test_consensus_by_hand() -> None:
    a = Connectome("ab", chemical=[[0, 0], [2, 0]], electrical=[[0, 1], [1, 0]], name="one")
    b = Connectome("ab", chemical=[[0, 6], [4, 0]], electrical=[[0, 5], [5, 0]], name="two")
    c = Connectome("abc", chemical=[[0, 0, 0], [0, 0, 0], [9, 0, 0]], name="three")
    mean, present, most, middle = (
        merge_connectomes([a, b, c], how).chemical for how in ("mean", "present", "max", "median")
    )
    assert float(mean.sel(target="b", source="a")) == 2
    assert float(present.sel(target="b", source="a")) == 3
    assert float(most.sel(target="b", source="a")) == 4
    assert float(middle.sel(target="b", source="a")) == 2
    assert float(mean.sel(target="c", source="a")) == 9  # only the third knows c
    merged = Connectome.merge([a, b, c])
    facts = merged.evidence
    assert facts is not None
    assert float(facts["uncertainty"].sel(target="b", source="a")) == pytest.approx(0.9 * 1 + 0.1 * 2)
    assert int(facts["chemical_n"].sel(target="b", source="a")) == 2
    assert int(facts["chemical_known"].sel(target="b", source="a")) == 3
    table = merged.consensus_table().set_index(["from_neuron", "to_neuron"])
    assert table.loc[("a", "b"), "data_sources"] == "one, two"
    gaps = dict(zip(table.index, table["mean_gap_weight"].to_numpy(float), strict=True))
    assert gaps["b", "a"] == merged.electrical.sel(target="a", source="b")
    assert np.isnan(gaps["a", "c"])


def test_equal_values_of_two_annotations_count_twice() -> None:
    """Pooling unique values, as the public collection does, would give 2 here."""
    parts = [Connectome("ab", electrical=[[0, w], [w, 0]], name=str(i)) for i, w in enumerate((1, 1, 3))]
    assert float(merge_connectomes(parts).electrical[0, 1]) == pytest.approx(5 / 3)


def test_scaling_makes_units_irrelevant() -> None:
    a = wiring(4)
    b = Connectome(a.nodes, other={k: a.matrix(k) * 1000 for k in a.kinds}, name="thousandfold")
    for scale in ("total", "rank"):
        merged = merge_connectomes([a, b], scale=scale)
        alone = merge_connectomes([a, a], scale=scale)
        assert np.allclose(merged.chemical, alone.chemical)


def test_representations() -> None:
    c = wiring()
    assert "12 nodes" in repr(c)
    assert "reciprocity" in c._repr_html_()
    assert "Jaccard" in str(c.compare(wiring(1), n=9))
    assert c.to_dataset()["chemical"].dims == ("target", "source")
    assert len(c) == 12


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Connectome([], chemical=np.zeros((0, 0))), InputError, "without nodes"),
        (lambda: Connectome(["a", "a"], chemical=np.eye(2)), InputError, "given twice: 'a'"),
        (lambda: Connectome(["a", "b"]), InputError, "without a matrix"),
        (lambda: Connectome(["a", "b"], chemical=np.eye(3)), InputError, "shape"),
        (lambda: Connectome(["a", "b"], chemical=np.zeros(4)), InputError, "shape"),
        (lambda: Connectome(["a", "b"], chemical=[[0, np.inf], [0, 0]]), InputError, "infinite"),
        (lambda: Connectome(["a", "b"], chemical=xr.DataArray(np.eye(2), dims=("x", "y"))), InputError, "dimensions"),
        (lambda: Connectome(["a", "b"], chemical=xr.DataArray(np.eye(2), dims=("target", "source"), coords={"target": ["a", "c"]})), InputError, "differ in 'b', 'c'"),
        (lambda: Connectome(["a", "b"], chemical=np.eye(2), table=pd.DataFrame(index=["a"])), InputError, "no row"),
        (lambda: wiring().matrix("chemcial"), UnknownNameError, "nearest: 'chemical'"),
        (lambda: wiring(whole=False).electrical, UnknownNameError, "electrical"),
        (lambda: wiring().select(["N1", "M1"]), UnknownNameError, "'M1'"),
        (lambda: wiring().align(["x", "y"]), InputError, "no name in common"),
        (lambda: wiring().compare(Connectome(["p", "q"], chemical=[[0, 1], [1, 0]])), InputError, "share 0 node"),
        (lambda: wiring().compare(Connectome(NAMES, functional=np.eye(12))), InputError, "no kind in common"),
        (lambda: wiring().compare(wiring(1), over="all"), UnknownNameError, "connected"),
        (lambda: wiring().compare(wiring(1), kinds=["peptide"]), UnknownNameError, "peptide"),
        (lambda: Connectome.from_edges(pd.DataFrame({"pre": ["a"], "weight": [1]})), UnknownNameError, "target"),
        (lambda: Connectome.from_edges(pd.DataFrame({"pre": ["a"], "post": ["b"], "weight": ["many"]})), InputError, "no number"),
        (lambda: Connectome.from_edges(pd.DataFrame({"pre": ["a"], "post": ["b"]}), nodes=["a"]), UnknownNameError, "'b'"),
        (lambda: Connectome.from_edges("no_such_file.csv"), InputError, "no file"),
        (lambda: Connectome.from_networkx(nx.DiGraph()), InputError, "without an edge"),
        (lambda: merge_connectomes([wiring()]), InputError, "two connectomes"),
        (lambda: merge_connectomes([wiring(), wiring(1)], "average"), UnknownNameError, "average"),
        (lambda: merge_connectomes([wiring(), wiring(1)], scale="log"), UnknownNameError, "log"),
    ],
)  # fmt: skip
def test_bad_input(make, error, text) -> None:
    with pytest.raises(error, match=text):
        make()
