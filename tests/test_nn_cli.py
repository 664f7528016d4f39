"""`nissl nn`, as a person types it, with mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nissl import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def test_the_list_is_that_of_the_room(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "nn", "list", "--json")
    found = {entry["name"]: entry["summary"] for entry in json.loads(out)}
    assert code == 0
    assert {
        "LIF",
        "LeakyMemoryNeuron",
        "ContinuousThoughtMachine",
        "AstroSNN",
        "DendriticNeuron",
        "WormSwimmer",
    } <= set(found)
    assert "Cell" not in found
    code, out, _ = run(capsys, "nn", "list")
    assert code == 0
    assert all(name in out for name in found)


def test_a_network_shows_its_equations_and_an_example_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "nn", "show", "lif", "--json")
    entry = json.loads(out)
    assert code == 0
    assert "u_t" in entry["notes"]
    lines = [line[4:] for line in entry["examples"].splitlines() if line.startswith((">>> ", "... "))]
    exec("\n".join(lines), {})


def test_the_worm_swims_from_the_shell(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "nn", "swim", "--steps", 300, "--to", tmp_path / "swim.gif")
    assert code == 0, err
    assert out.splitlines()[-1] == str(tmp_path / "swim.gif")
    with Image.open(tmp_path / "swim.gif") as picture:
        assert getattr(picture, "n_frames", 1) > 100
    _, whole, _ = run(capsys, "nn", "swim", "--steps", 300, "--to", tmp_path / "a.gif", "--json")
    _, lame, _ = run(capsys, "nn", "swim", "--steps", 300, "--to", tmp_path / "b.gif", "--no-proprioception", "--json")
    assert json.loads(whole)["return"] > 2 * json.loads(lame)["return"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sho"], "nearest: show"),
        (["show", "LeakyMemoryNeurone"], "nearest: 'LeakyMemoryNeuron'"),
        (["swim", "--links", 2], "one joint"),
        (["swim", "--links", 0], "n_joints"),
        (["swim", "--body", "mujocoo"], "nearest: 'mujoco'"),
        (["swim", "--to", "worm.mp4"], "must end in .gif"),
        (["swim", "--period", 1], "period"),
        (["swim", "--steps", 0], "step"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, "nn", *arguments)
    assert code == 2
    assert not out
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())
