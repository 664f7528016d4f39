"""`nissl diagram`, as a person types it, with mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nissl import cli

NET = """
import torch
from torch import nn
from neighbour import WIDTH

class Net(nn.Module):
    def __init__(self, hidden=9):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(3)])
        self.out = nn.Linear(WIDTH, hidden)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.out(x)

def wide():
    return Net(30)

made = Net(11)
number = 3

class Needy(nn.Module):
    def __init__(self, width):
        super().__init__()

class Branching(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x * 3
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mynet.py").write_text(NET)
    (tmp_path / "neighbour.py").write_text("WIDTH = 6\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "failing.py").write_text("raise OSError('no data here')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(["diagram", *[str(a) for a in arguments]])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_a_network_of_ones_own_is_drawn(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, out, err = run(capsys, "mynet.py:Net", "--input", "2,6", "--axes", "batch feature")
    assert code == 0, err
    assert out.splitlines()[-1] == "nissl-out/Net.svg"
    assert "Net: " in out
    assert "floating-point operations: 324·batch" in out  # 2 (3 · 6 · 6 + 6 · 9)
    svg = (home / "nissl-out" / "Net.svg").read_text()
    assert svg.startswith("<svg")
    assert "feature" in svg
    assert 'data-shape="9 6"' in svg


@pytest.mark.parametrize(("name", "size"), [("wide", 30), ("made", 11), ("Net(hidden=14)", 14), ("Net(5)", 5)])
def test_a_function_an_object_or_arguments_do_too(
    capsys: pytest.CaptureFixture[str], home: Path, name: str, size: int
) -> None:
    code, out, err = run(capsys, f"mynet.py:{name}", "--input", "2,6", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["flops"]["example"] == 2 * 2 * (3 * 36 + 6 * size)
    assert found["complete"]
    assert Path(found["file"]).is_file()


@pytest.mark.parametrize("suffix", ["svg", "png", "html", "txt", "json"])
def test_the_suffix_says_what_is_written(capsys: pytest.CaptureFixture[str], home: Path, suffix: str) -> None:
    code, out, err = run(capsys, "mynet.py:Net", "--input", "2x6", "--to", f"out/net.{suffix}", "--theme", "dark")
    assert code == 0, err
    path = home / out.splitlines()[-1]
    assert path.stat().st_size > 500
    if suffix == "png":
        with Image.open(path) as image:
            assert image.convert("RGB").getpixel((0, 0)) == (20, 22, 26)
    if suffix == "json":
        assert json.loads(path.read_text())


def test_a_specimen_a_package_and_raw_text(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, out, err = run(capsys, "efficientnet-lite0", "--depth", 1)
    assert code == 0, err
    assert (home / "nissl-out" / "efficientnet-lite0.svg").stat().st_size < 300_000
    code, out, err = run(capsys, "torch.nn:TransformerEncoderLayer(8, 2)", "--input", "5,3,8", "--text")
    assert code == 0, err
    assert "softmax" in out
    assert not (home / "nissl-out" / "TransformerEncoderLayer.svg").exists()
    _, short, _ = run(capsys, "torch.nn:TransformerEncoderLayer(8, 2)", "--input", "5,3,8", "--json")
    _, raw, _ = run(capsys, "torch.nn:TransformerEncoderLayer(8, 2)", "--input", "5,3,8", "--json", "--raw")
    assert json.loads(raw)["operations"] > json.loads(short)["operations"]
    assert json.loads(raw)["flops"] == json.loads(short)["flops"]


def test_a_unit_is_followed(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, _, err = run(capsys, "mynet.py:Net", "--input", "2,6", "--highlight", "layers.1:3", "--to", "a.svg")
    assert code == 0, err
    assert "Unit 3 of layers.1" in (home / "a.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("mynet.py:Nett", "--input", "2,6"), "'Net'"),
        (("mynt.py:Net",), "'mynet.py'"),
        (("mynet.py",), "mynet.py:NAME"),
        (("mynet.py:number",), "a torch module, its class, or a function"),
        (("mynet.py:Needy",), "plain arguments in brackets"),
        (("mynet.py:Net(print(1))",), "allowed: plain values"),
        (("mynet.py:Net(hidden='x')",), "cannot be made"),
        (("broken.py:Net",), "line 1"),
        (("failing.py:Net",), "no data here"),
        (("no.such.package:Net",), "no Python package"),
        (("efficentnet-lite0",), "'efficientnet-lite0'"),
        (("mynet.py:Net", "--to", "a.gif"), ".svg, .png, .html, .txt, .json"),
        (("mynet.py:Net", "--to", "."), "allowed"),
        (("mynet.py:Net", "--theme", "drak"), "'dark'"),
        (("mynet.py:Net", "--depth", "-1"), "allowed: 0"),
        (("mynet.py:Net", "--depth", "two"), "integer"),
        (("mynet.py:Net", "--input", "2,six"), "positive sizes with commas"),
        (("mynet.py:Net", "--input", "2,0"), "positive sizes with commas"),
        (("mynet.py:Net", "--input", "2,7"), "7"),
        (("mynet.py:Net", "--input", "2,6", "--axes", "batch time feature"), "axes"),
        (("mynet.py:Net", "--input", "2,6", "--highlight", "layers.1"), "MODULE:UNIT"),
        (("mynet.py:Net", "--input", "2,6", "--highlight", "layers.9:1"), "'layers.9'"),
        (("mynet.py:Net", "--input", "2,6", "--highlight", "layers.1:6"), "0 to 5"),
        (("mynet.py:Net", "--inptu", "2,6"), "--input"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], home: Path, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert said in err
    assert err.startswith("nissl: ")
    assert err.count("\n") == 1
    assert out == ""
    assert not list(home.glob("nissl-out/*"))


def test_a_branch_on_values_is_told(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, out, err = run(capsys, "mynet.py:Branching", "--input", "2,6")
    assert code == 0, err
    assert "note: " in out
    assert "mynet.py:" in out


@pytest.mark.parametrize("shape", ["2,x,6", "2,,6", "2,a", ",6", "2,6,,"])
def test_an_input_with_an_empty_field_is_refused(capsys: pytest.CaptureFixture[str], home: Path, shape: str) -> None:
    code, _, err = run(capsys, "mynet.py:Net", "--input", shape)
    assert code != 0
    assert "positive sizes" in err


@pytest.mark.parametrize("shape", ["2x6", "2 6", "(2, 6)", "2,6"])
def test_shapes_may_be_written_in_several_ways(capsys: pytest.CaptureFixture[str], home: Path, shape: str) -> None:
    code, _, err = run(capsys, "mynet.py:Net", "--input", shape, "--text")
    assert code == 0, err


def test_mistakes_are_said_before_the_network_runs(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    code, _, err = run(capsys, "mynet.py:Net", "--input", "2,5", "--highlight", "outt:3")  # 5 does not fit either
    assert code != 0
    assert "unknown module 'outt'" in err
    code, _, err = run(capsys, "mynet.py:Net", "--input", "2,5", "--to", "mynet.py/a.svg")
    assert code != 0
    assert "cannot be written" in err


def test_a_folder_with_a_configuration_alone_is_drawn(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=20, n_positions=16, n_embd=8, n_layer=1, n_head=2)
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(home / "plan")
    code, out, err = run(capsys, "./plan")
    assert code == 0, err
    assert "random weights" in out
