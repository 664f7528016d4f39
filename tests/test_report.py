"""The report: self-contained, complete, readable by a machine that reads to people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import nissl
from nissl.errors import InputError, UnknownNameError
from pages import Page


@pytest.fixture(scope="module")
def result(efficientnet: nissl.Model) -> nissl.report.Explanation:
    return nissl.explain(efficientnet, "coffee", methods=("grad_cam", "saliency"), progress=False)


def test_the_page_is_whole_and_asks_nothing_of_a_network(result: nissl.report.Explanation, tmp_path: Path) -> None:
    path = result.save(tmp_path / "deep" / "report.html")
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.requests == []
    assert page.mute == []
    assert not re.search(r"url\(|@import|https?://", text)
    assert len(text) < 3_000_000
    for part in (
        "Where the evidence lies",
        "Which channels carried it",
        "Do other methods agree?",
        "Is it true?",
        "What was run",
        "prefers-color-scheme",
        "@media print",
    ):
        assert part in text


def test_figures_hang_together(result: nissl.report.Explanation) -> None:
    assert result.target == "espresso"
    assert result.rival == result.classes["class"][1]
    assert (result.classes["probability"].diff().dropna() <= 0).all()
    summary = result.summary()
    assert summary["where"]["left"] < summary["where"]["right"] <= result.photo.width
    assert set(summary["curves"]) == {"grad_cam", "saliency"}
    assert result.channels.ablated > result.channels.ablated_control.mean()
    assert all(v > 0 for v in result.seconds.values())
    assert len(result.plot().axes) >= 3


def test_names_with_markup_are_escaped(efficientnet: nissl.Model, tmp_path: Path) -> None:
    odd = tmp_path / "<b>&amp;.png"
    nissl.specimens.photo("coffee").save(odd)
    page = nissl.explain(efficientnet, str(odd), methods=("grad_cam", "saliency"), progress=False).to_html()
    assert "<b>&amp;.png" not in page
    assert "&lt;b&gt;&amp;amp;.png" in page


def test_bad_requests(efficientnet: nissl.Model) -> None:
    with pytest.raises(UnknownNameError, match="coffee"):
        nissl.explain(efficientnet, "cofee")
    with pytest.raises(UnknownNameError, match="espresso"):
        nissl.explain(efficientnet, "coffee", target="expresso")
    with pytest.raises(UnknownNameError, match="grad_cam"):
        nissl.explain(efficientnet, "coffee", methods=("grad_cm", "saliency"))
    with pytest.raises(InputError, match="two methods"):
        nissl.explain(efficientnet, "coffee", methods=("grad_cam",))
    with pytest.raises(InputError, match="no image classifier"):
        nissl.explain(nissl.load(nn.Linear(3, 2)), "coffee")


def test_a_place_that_cannot_be_written(result: nissl.report.Explanation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        result.save(tmp_path / "file" / "report.html")


def test_a_small_network_of_ones_own() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 12, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)
    )
    model = nissl.load(module, processor=nissl.specimens.ImageSpec(64), classes=["a", "b", "c", "d"], name="mine")
    page = nissl.explain(model, "rocket", methods=("grad_cam", "occlusion"), progress=False).to_html()
    assert "mine takes this for" in page
