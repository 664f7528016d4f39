"""One photograph, explained and tested: everything the report shows, computed first and drawn later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from nissl.attribution import (
    ChannelText,
)
from nissl.evaluation import Agreement, Curve
from nissl.models import Frame
from nissl.report._saving import Saved

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Channels:
    """The channels that mattered most.

    Attributes
    ----------
    table
        A row a channel: unit, contribution (share of the score it carries, in units of the score), peak.
    maps
        Their activity, `(unit, y, x)`.
    examples
        What else drives them: rows of `nissl.attribution.exemplars`.
    text
        The sentence.
    ablated, ablated_control
        Drop of the score when the supporting channels are set to zero, and when as many other channels of like activity
        are (one number a draw).
    """

    table: pd.DataFrame
    maps: xr.DataArray
    examples: pd.DataFrame
    text: ChannelText
    ablated: float
    ablated_control: np.ndarray


@dataclass(frozen=True)
class Explanation(Saved):
    """What a network sees in a photograph, and how far each statement was tested. Made by `nissl.report.explain`."""

    photo: Image.Image
    frame: Frame
    title: str
    model: str
    classes: pd.DataFrame
    target: str
    rival: str
    maps: dict[str, xr.DataArray | None]
    where: dict[str, Any]
    channels: Channels
    methods: dict[str, xr.DataArray]
    agreement: Agreement
    deletion: dict[str, Curve]
    insertion: dict[str, Curve]
    randomised: xr.Dataset
    facts: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One sentence in plain words, from the measured numbers."""
        top = self.classes.iloc[0]
        share, area = self.where["inside"], self.where["area"]
        tested = (
            "and the tests below bear that out" if self._stands else "but the tests below do not fully bear that out"
        )
        leader = f"{self.model} takes this for {_article(self.target)} ({_percent(self._probability(self.target))})"
        if self.target != top["class"]:
            leader = f"{self.model} takes this for {_article(top['class'])}; for {_article(self.target)} ({_percent(self._probability(self.target))})"
        return f"{leader}. The evidence lies {self.where['words']}: {_percent(share)} of it on {_percent(area)} of the picture, {tested}."

    @property
    def _stands(self) -> bool:
        """The map beats nearly all of its uninformed copies, and depends on what the network learned."""
        name = next(iter(self.methods))
        return (
            min(self.deletion[name].beats, self.insertion[name].beats) >= 0.9
            and float(self.randomised["similarity"][-1].mean()) < 0.5
        )

    def _probability(self, name: str) -> float:
        rows = self.classes.loc[self.classes["class"] == name, "probability"]
        return float(rows.iloc[0]) if len(rows) else float("nan")

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        return {
            "title": self.title,
            "model": self.model,
            "target": self.target,
            "rival": self.rival,
            "classes": self.classes.to_dict("records"),
            "where": {k: v for k, v in self.where.items() if k != "mask"},
            "verdict": self.verdict,
            "channels": self.channels.table.to_dict("records"),
            "sentence": self.channels.text.text,
            "ablation": {"drop": self.channels.ablated, "control": float(self.channels.ablated_control.mean())},
            "curves": {
                name: {
                    "deletion": self.deletion[name].area.value, "deletion_control": self.deletion[name].area.control,
                    "deletion_beats": self.deletion[name].beats, "insertion": self.insertion[name].area.value,
                    "insertion_control": self.insertion[name].area.control, "insertion_beats": self.insertion[name].beats,
                }
                for name in self.methods
            },
            "agreement": self.agreement.matrix.to_dict(),
            "similarity_after_randomisation": float(self.randomised["similarity"][-1].mean()),
            "facts": self.facts,
            "seconds": self.seconds,
        }  # fmt: skip

    def to_html(self) -> str:
        """The self-contained report."""
        from nissl.report.page import render

        return render(self)

    def plot(self) -> Figure:
        """Photograph and main maps side by side, as a matplotlib figure."""
        from nissl.report.pictures import panel

        return panel(self)


def _article(name: str) -> str:
    return f"“{name}”"


def _percent(value: float) -> str:
    if not np.isfinite(value):
        return "under 1%"
    return f"{value:.0%}" if value >= 0.01 else "under 1%"


__all__ = ["Channels", "Explanation"]
