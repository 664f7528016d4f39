"""The command line, as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import transformers

import nissl
from nissl import cli

NISSL = [sys.executable, "-c", "import sys; from nissl.cli import main; sys.exit(main())"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=16, bos_token_id=1, eos_token_id=2
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_help_and_version_are_quick_and_import_nothing_heavy() -> None:
    begin = time.perf_counter()
    out = subprocess.run([*NISSL, "--version"], capture_output=True, text=True, check=True).stdout
    assert out.strip() == f"nissl {nissl.__version__}"
    assert time.perf_counter() - begin < 3
    code = "import sys, nissl.cli; assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", ["", "explain", "record", "sites", "papers", "reproduce", "specimens"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, *([command] if command else []), "--help")
    assert code == 0
    assert "Usage" in out
    if command != "specimens":
        assert "Example" in out


def test_explain_prints_classes_place_and_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(
        capsys, "explain", "coffee", "--out", str(tmp_path), "--method", "grad_cam", "--method", "saliency"
    )
    lines = out.strip().splitlines()
    assert code == 0
    assert "espresso" in lines[0]
    assert any(line.startswith("Evidence for espresso: in the ") for line in lines)
    assert Path(lines[-1]) == tmp_path / "coffee.html"
    assert Path(lines[-1]).stat().st_size > 100_000


def test_json_is_all_that_standard_output_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [*NISSL, "explain", "coffee", "--json", "--out", str(tmp_path / "r.html"), "--method", "grad_cam", "--method", "saliency", "--target", "cup"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["target"] == "cup"
    assert Path(found["report"]).is_file()


def test_record_texts_and_pictures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    nissl.specimens.photo("coffee").save(tmp_path / "a.png")
    nissl.specimens.photo("rocket").save(tmp_path / "b.jpg")
    store = tmp_path / "acts.zarr"
    code, out, _ = run(
        capsys,
        "record",
        "efficientnet-lite0",
        str(tmp_path),
        "--at",
        "_avg_pooling:in",
        "--to",
        str(store),
        "--units",
        "0:5",
        "--json",
    )
    assert code == 0
    assert json.loads(out)["sites"] == {"_avg_pooling:in": {"sample": 2, "unit": 5, "y": 7, "x": 7}}


def test_sites_papers_and_specimens(capsys: pytest.CaptureFixture[str], gpt2: Path) -> None:
    assert "neurons.0  (sample, position, unit)" in run(capsys, "sites", str(gpt2), "neurons.*")[1]
    assert {"grad-cam", "worm-data"} <= {paper["slug"] for paper in json.loads(run(capsys, "papers", "--json")[1])}
    assert "Grad-CAM" in run(capsys, "papers")[1]
    assert "efficientnet-lite0" in run(capsys, "specimens")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explian", "x"], "nearest: explain"),
        (["explain"], "Missing argument"),
        (["explain", "nowhere.jpg"], "there is no file 'nowhere.jpg'"),
        (["explain", "cofee"], "nearest: 'coffee'"),
        (["explain", "coffee", "--model", "efficientnet-lite"], "nearest: 'efficientnet-lite0'"),
        (["explain", "coffee", "--target", "expresso"], "'espresso'"),
        (["explain", "coffee", "--method", "gradcam"], "'grad_cam'"),
        (["explain", "coffee", "--out", "/proc/nissl/x.html"], "cannot be written"),
        (["explain", "coffee", "--sead", "1"], "--seed"),
        (["record", "efficientnet-lite0", "nowhere", "--at", "x", "--to", "y"], "no file or folder"),
        (["record", "efficientnet-lite0", ".", "--at", "x", "--to", "y"], "no pictures"),
        (["sites", "efficientnet-lite0", "blocks*"], "unknown site"),
        (["reproduce"], "--all"),
        (["reproduce", "gradcam"], "nearest: 'grad-cam'"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_damaged_corpora(capsys: pytest.CaptureFixture[str], tmp_path: Path, gpt2: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "bad.jsonl").write_text('{"txt": "x"}\n')
    (tmp_path / "photo.jpg").write_text("I am no picture")
    for name, message in (("empty.txt", "is empty"), ("bad.jsonl", "field 'text'")):
        code, _, err = run(
            capsys, "record", str(gpt2), str(tmp_path / name), "--at", "resid.0", "--to", str(tmp_path / "s")
        )
        assert (code, message in err) == (2, True)
    code, _, err = run(capsys, "explain", str(tmp_path / "photo.jpg"))
    assert (code, "no picture" in err) == (2, True)


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(nissl.errors.NisslError):
        cli.main(["--debug", "explain", "cofee"])


def test_a_failed_claim_exits_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from nissl.papers import Outcome, Paper, harness

    paper = Paper("made-up", "A paper made up for this test", "activity", "nowhere")
    paper.claim("holds", paper_value="1", threshold="> 0", seeds=2)(lambda seeds: Outcome(len(seeds), 0, True))
    paper.claim("does not, as expected", paper_value="1", threshold="> 0", expected=False, note="too small")(
        lambda seeds: Outcome(0, 0, False)
    )
    monkeypatch.setattr(harness, "papers", lambda: {"made-up": paper})
    code, out, _ = run(capsys, "reproduce", "--all", "--json", "--seed", "3")
    results = json.loads(out)
    assert code == 0
    assert results[0]["seeds"] == [3000, 3001]
    assert set(results[0]) == {
        "paper",
        "claim",
        "paper_value",
        "measured",
        "control",
        "threshold",
        "holds",
        "expected",
        "note",
        "seeds",
        "seconds",
    }
    paper.claim("should hold", paper_value="1", threshold="> 0")(lambda seeds: Outcome(0, 0, False))
    assert run(capsys, "reproduce", "made-up")[0] == 1


def test_the_network_of_a_user(capsys: pytest.CaptureFixture[str], gpt2: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("hello there\n")
    code, _, err = run(
        capsys, "record", str(gpt2), str(tmp_path / "ids.txt"), "--at", "resid.0", "--to", str(tmp_path / "s")
    )
    assert code == 2
    assert "no tokenizer" in err
    assert torch.is_grad_enabled()
