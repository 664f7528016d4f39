"""`nissl recording homogenise`, as a person types it, with mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io

from nissl import cli, recordings


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "worms").mkdir()
    for name, rate, units in (("worm1", 5.0, ["AVAL", "DB01"]), ("worm2", 3.5, ["DB1", "RIML", "3"])):
        x = np.cumsum(rng.normal(size=(int(100 * rate), len(units))), 0)
        clock = np.arange(len(x)) / rate
        if name == "worm1":
            pd.DataFrame(x, columns=units).assign(time=clock).to_csv(tmp_path / "worms" / "worm1.csv", index=False)
        else:
            scipy.io.savemat(
                tmp_path / "worms" / "worm2.mat", {"traces": x, "time": clock, "names": np.array(units, dtype=object)}
            )
    return tmp_path / "worms"


def test_a_folder_of_different_files_becomes_one_collection(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    code, out, err = run(capsys, "recording", "homogenise", folder, "--to", tmp_path / "out")
    assert code == 0, err
    assert out.splitlines()[0].startswith("worm1: 99 s, 299 samples, 2 of 3 neurons")
    assert out.splitlines()[-1] == str(tmp_path / "out.zarr")
    worms = recordings.open(tmp_path / "out.zarr")
    assert worms.units.tolist() == ["AVAL", "DB1", "RIML"]
    assert worms["worm2"]["unlabelled"].values.tolist() == ["3"]
    steps = recordings.provenance(worms["worm1"])
    assert [s["step"] for s in steps][:2] == ["open", "StartAtZero"]
    assert steps[0]["source"] == "worm1.csv"


def test_json_and_options(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("RIML\nAVAL\nAVAR\n")
    code, out, err = run(
        capsys, "recording", "homogenise", folder, "--to", tmp_path / "o.zarr", "--rate", 2, "--smooth", "none", "--normalise", "causal", "--neurons", names, "--no-residual", "--json"
    )  # fmt: skip
    assert code == 0
    assert err == ""
    result = json.loads(out)
    assert result["store"] == str(tmp_path / "o.zarr")
    assert [a["recorded"] for a in result["animals"]] == [1, 1]
    assert any("DB1" in w for w in result["warnings"])
    worm = recordings.open(tmp_path / "o.zarr")["worm1"]
    assert worm.attrs["rate"] == 2.0
    assert "residual" not in worm
    assert worm["unit"].values.tolist() == ["RIML", "AVAL", "AVAR"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["wurms", "--to", "o"], "nearest: 'worms'"),
        (["worms", "--to", "o.nwb"], "go to a .zarr folder"),
        (["worms", "--to", "o", "--smooth", "movng"], "nissl: unknown smoothing 'movng'; nearest: 'moving'"),
        (["worms", "--to", "o", "--neurons", "hermaphrodite"], "nearest"),
        (["worms", "--to", "o", "--neurons", "PVDL,PVDR"], "2 of 2 recordings cannot"),
        (["worms", "--to", "o", "--rate", "0"], "above 0"),
        (["worms", "--to", "o", "--rate", "0.001"], "take a shorter dt"),
        (["worms", "--to", "o", "--mend", "order", "--mend", "names"], "unknown remedy 'names'"),
        (["worms", "--to", "o", "--window", "3000"], "shorter than the filter"),
        (["worms"], "--to"),
    ],
)
def test_mistakes_cost_one_line_and_leave_nothing(
    capsys: pytest.CaptureFixture[str], folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(folder.parent)
    before = sorted(p.name for p in folder.parent.iterdir())
    code, out, err = run(capsys, "recording", "homogenise", *arguments)
    assert code == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert sorted(p.name for p in folder.parent.iterdir()) == before


def test_bad_files_are_all_named_or_left_out(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    (folder / "broken.nwb").write_text("x")
    (folder / "short.csv").write_text("time,AVAL\n0,1\n1,2\n2,1\n")
    (folder / "notes.md").write_text("about")
    code, _, err = run(capsys, "recording", "homogenise", folder, "--to", tmp_path / "o")
    assert code == 2
    assert "broken.nwb" in err
    code, _, err = run(capsys, "recording", "homogenise", folder, "--to", tmp_path / "o", "--skip-bad")
    assert code == 0
    assert "note: left out: " in err
    assert "short: a recording of 3 samples is shorter than the filter" in err
    assert recordings.open(tmp_path / "o.zarr").animals == ["worm1", "worm2"]
    code, _, err = run(capsys, "recording", "homogenise", folder, "--to", tmp_path / "o", "--skip-bad")
    assert code == 2
    assert "exists already" in err
    assert run(capsys, "recording", "homogenise", folder, "--to", tmp_path / "o", "--skip-bad", "--overwrite")[0] == 0


def test_one_file(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    code, out, _ = run(capsys, "recording", "homogenise", folder / "worm1.csv", "--to", tmp_path / "one")
    assert code == 0
    assert out.startswith("99 s, 299 samples, 2 of 2 neurons")
    assert recordings.open(tmp_path / "one.zarr")["activity"].sizes == {"time": 299, "unit": 2}
