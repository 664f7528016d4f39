"""The survey of a recording finds what was put in, refuses what it cannot answer, and its page is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import nissl
from nissl import recordings
from nissl.cli import main
from nissl.errors import InputError, UnknownNameError
from nissl.recordings import simulate
from nissl.report import Survey, charts
from nissl.report.survey import Refused
from pages import Page


@pytest.fixture(scope="module")
def motifs() -> Survey:
    return nissl.survey("motifs", progress=False)


@pytest.fixture(scope="module")
def states() -> Survey:
    data = simulate.simulate_switching_glm(n_units=10, n_states=3, n_trials=1, n_bins=4000, seed=1).isel(trial=0)
    return nissl.survey(data, title="switching", progress=False)


def test_motifs_are_found_beside_their_control(motifs: Survey) -> None:
    assert motifs.factors.explained > motifs.factors.control + 0.2
    truth = simulate.sample("motifs")["motif_unit"].values > 0
    cores = [set(row["core"]) for row in motifs.factors.atlas.to_dict("records")]
    names = motifs.shown["unit"].values
    for group in truth:
        members = set(names[group])
        assert max(len(members & core) / len(members | core) for core in cores) > 0.6


def test_what_is_missing_is_counted(motifs: Survey) -> None:
    values = simulate.sample("motifs")["activity"].values
    np.testing.assert_allclose(motifs.missing["missing"], np.isnan(values).mean(0))
    assert motifs.missing["longest_gap"].max() == pytest.approx(40 / 4, abs=1)


def test_behaviour_is_read_beyond_chance(motifs: Survey) -> None:
    row = motifs.decoding.table.iloc[0]
    assert row["variable"] == "speed"
    assert row["p"] <= 0.05
    assert row["correlation"] > row["control"] + 0.3


def test_states_of_a_switching_network_gain_and_shifted_units_do_not(states: Survey) -> None:
    assert len(states.states.occupancy) >= 2
    assert states.states.coupled
    assert states.states.gain > 0.005 > states.states.control
    assert isinstance(states.decoding, Refused)
    assert states.spikes


def test_wiring_of_a_network_is_seen_at_the_right_pairs(states: Survey) -> None:
    data = simulate.simulate_switching_glm(n_units=10, n_states=3, n_trials=1, n_bins=4000, seed=1)
    connected = data["adjacency"].values != 0
    p = states.wiring.test.p
    off = ~np.eye(len(p), dtype=bool)
    assert (p[connected & off] <= 0.05).mean() > 3 * max((p[~connected & off] <= 0.05).mean(), 0.05)


def test_noise_has_no_states_factors_or_behaviour() -> None:
    rng = np.random.default_rng(5)
    x = np.apply_along_axis(
        lambda v: np.convolve(v, np.exp(-np.arange(20) / 4), "same"), 0, rng.normal(size=(1200, 12))
    )
    data = xr.Dataset(
        {
            "activity": (("time", "unit"), x),
            "behaviour": (
                ("behaviour_time", "variable"),
                np.convolve(rng.normal(size=1200), np.ones(8), "same")[:, None],
            ),
        },
        {
            "time": np.arange(1200) / 4,
            "unit": [f"n{i}" for i in range(12)],
            "behaviour_time": np.arange(1200) / 4,
            "variable": ["speed"],
        },
    )
    found = nissl.survey(data, progress=False)
    assert found.states.gain <= max(found.states.control, 0) + 0.02
    assert (found.wiring.test.p <= 0.05).sum() <= 2
    assert found.decoding.table["p"].iloc[0] > 0.05
    assert found.factors.explained < found.factors.control + 0.1


def test_the_page_is_whole_and_asks_nothing_of_a_network(motifs: Survey, states: Survey, tmp_path: Path) -> None:
    for found in (motifs, states):
        text = found.save(tmp_path / "page.html").read_text()
        page = Page()
        page.feed(text)
        assert page.open == []
        assert page.requests == []
        assert page.mute == []
        assert not re.search(r"@import|https?://(?!www\.w3\.org)", text)
        assert len(text) < 3_000_000
        for part in (
            "What was recorded",
            "Does the population have states?",
            "Which units work together",
            "Rhythms",
            "Tested.",
        ):
            assert part in text
    json.dumps(motifs.summary(), allow_nan=False)


def test_units_that_say_nothing_are_named_and_left_out() -> None:
    x = np.random.default_rng(0).normal(size=(60, 5))
    x[:, 1], x[:, 3] = 2.0, np.nan
    found = nissl.survey(x, rate=10.0, progress=False)
    assert found.left_out == {"without a sample": ["3"], "constant": ["1"]}
    assert isinstance(found.states, Refused)
    assert "60 samples" in found.states.reason


@pytest.mark.parametrize(
    ("given", "keywords", "message"),
    [
        (np.zeros((30, 3)), {}, "0 unit"),
        (np.zeros((3, 3, 3)), {}, "shape"),
        (np.random.default_rng(0).normal(size=(10, 3)), {}, "10 sample"),
        (xr.Dataset({"x": ("time", [1.0])}), {}, "activity or spikes"),
        ("motifs", {"rate": -1.0}, "rate"),
        (np.eye(30), {"activity": "dff"}, "open already"),
    ],
)
def test_bad_input(given: object, keywords: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nissl.survey(given, progress=False, **keywords)


def test_one_animal_of_several_must_be_named(tmp_path: Path) -> None:
    one = simulate.sample("states")
    many = recordings.Collection({"a": one, "b": one})
    with pytest.raises(InputError, match="2 animals: 'a', 'b'"):
        nissl.survey(many, progress=False)
    with pytest.raises(UnknownNameError, match="'a'"):
        nissl.survey(many, animal="aa", progress=False)
    with pytest.raises(UnknownNameError, match="one animal; leave"):
        nissl.survey(one, animal="a", progress=False)


def test_a_clock_is_asked_for_where_samples_have_none() -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    with pytest.warns(recordings.RecordingWarning, match="no clock"):
        nissl.survey(x, progress=False)


def test_positions_of_tokens_stand_for_time(tmp_path: Path) -> None:
    x = xr.DataArray(np.random.default_rng(0).normal(size=(1, 60, 4)), dims=("sample", "position", "unit"))
    with pytest.raises(InputError, match="one trial or animal at a time"):
        nissl.survey(x, progress=False)
    found = nissl.survey(x[0], progress=False)
    assert "over 60 tokens" in found.verdict
    text = found.save(tmp_path / "a.html").read_text()
    assert "60 samples; states need 400 or more." in text
    assert "The recording holds no behaviour." in text


def test_charts_break_lines_and_hatch_where_nothing_is_known() -> None:
    x = np.arange(10.0)
    x[4:6] = np.nan
    drawn = str(charts.lines({"<a>": x}, np.arange(10.0), label="x"))
    assert drawn.count("M") == 2
    assert "&lt;a&gt;" in drawn
    assert "<a>" not in drawn


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).cumsum(0)
    rows = ["time," + ",".join("abcd"), *(f"{i / 4}," + ",".join(f"{v:.4f}" for v in row) for i, row in enumerate(x))]
    Path("worm.csv").write_text("\n".join(rows))
    with pytest.raises(SystemExit) as done:
        main(["recording", "worm.csv", "--json"])
    assert done.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["units"] == 4
    assert Path(said["report"]).read_text().startswith("<!doctype html>")
    for arguments, message in (
        (["recording", "worm.cvs"], "worm.csv"),
        (["recording", "homogenize"], "homogenise"),
        (["recording", "motifs", "--units", "1"], "--units 1"),
    ):
        with pytest.raises(SystemExit) as done:
            main(arguments)
        assert done.value.code == 2
        assert message in capsys.readouterr().err
