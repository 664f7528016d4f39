"""Colours and line widths, for light and for dark pages."""

from __future__ import annotations

from typing import Literal, NamedTuple

from nissl.errors import unknown

Theme = Literal["auto", "light", "dark"]
THEMES = ("auto", "light", "dark")


class Colours(NamedTuple):
    """One page's colours; `axes` are told apart by people who see fewer colours too, and repeat after ten."""

    paper: str
    ink: str
    faint: str
    band: str
    box: str
    fence: str
    axes: tuple[str, ...]


LIGHT = Colours(
    "#ffffff", "#1a1a1a", "#6b6b6b", "#f1f1ee", "#ffffff", "#9a9a94",
    ("#0072b2", "#c24e00", "#00805d", "#a8457f", "#a66f00", "#5b4bb5", "#2a86ad", "#7a5230", "#5f6d00", "#4d4d4d"),
)  # fmt: skip
DARK = Colours(
    "#14161a", "#ececec", "#a0a4aa", "#21252b", "#14161a", "#70757d",
    ("#5ab4ec", "#ff9350", "#3fcf9f", "#ee9fcb", "#edb83d", "#b0a5ff", "#86d3ef", "#d3a67c", "#c3d14d", "#c9c9c9"),
)  # fmt: skip
N_COLOURS = len(LIGHT.axes)


class Style(NamedTuple):
    """How a kind of primitive is drawn: names of colours, `axis` for the colour of its axis."""

    stroke: str = ""
    fill: str = ""
    width: float = 1.0
    dash: tuple[float, float] | None = None


STYLES = {
    "w": Style("axis", "", 1.5),  # a wire
    "dot": Style("", "axis"),
    "scalar": Style("faint", "", 1.0, (1.0, 3.0)),
    "strip": Style("faint", "", 1.0, (5.0, 4.0)),
    "band": Style("", "band"),
    "box": Style("ink", "box", 1.0),
    "bold": Style("ink", "box", 2.4),  # a box with learned weights
    "soft": Style("fence", "box", 1.0),  # a rearrangement: nothing is computed
    "fence": Style("fence", "", 1.2),
    "paper": Style("", "paper"),
    "rule": Style("band", "", 1.0),
    "wire": Style("", "axis"),  # texts from here on
    "again": Style("", "axis"),
    "key": Style("", "axis"),
    "symbol": Style("", "ink"),
    "title": Style("", "ink"),
    "weight": Style("", "faint"),
    "module": Style("", "faint"),
    "cost": Style("", "faint"),
    "note": Style("", "faint"),
    "unit": Style("", "ink"),
}


def check_theme(theme: str) -> None:
    """Raise where a theme does not exist."""
    if theme not in THEMES:
        raise unknown("theme", theme, THEMES)


def colour(name: str, axis: int | None, colours: Colours) -> str:
    """The colour of a name in `Style`."""
    if name == "axis":
        return colours.faint if axis is None else colours.axes[axis % N_COLOURS]
    return getattr(colours, name)
