"""What a picture is made of, whatever it is written as: paths, rectangles, texts, and groups of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple, TypeAlias

Point: TypeAlias = tuple[float, float]


class Extent(NamedTuple):
    """A rectangle: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Extent, slack: float = 0.0) -> bool:
        """Whether two rectangles share more than `slack` in both directions."""
        return (
            min(self.right, other.right) - max(self.left, other.left) > slack
            and min(self.bottom, other.bottom) - max(self.top, other.top) > slack
        )


@dataclass(frozen=True)
class Path:
    """Straight and curved pieces: `M` and `L` with a point each, `C` with two handles and a point."""

    pieces: tuple[tuple[str, tuple[float, ...]], ...]
    style: str
    axis: int | None = None
    dim: bool = False
    data: Mapping[str, str] = field(default_factory=dict)
    closed: bool = False
    tag: str = "path"


@dataclass(frozen=True)
class Rect:
    """A rectangle."""

    extent: Extent
    style: str
    radius: float = 0.0
    dim: bool = False


@dataclass(frozen=True)
class Text:
    """One line of text; `y` is its baseline."""

    x: float
    y: float
    text: str
    size: float
    style: str
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False
    axis: int | None = None
    dim: bool = False
    data: Mapping[str, str] = field(default_factory=dict)

    @property
    def extent(self) -> Extent:
        """The rectangle it covers, measured in DejaVu Sans."""
        wide = width(self.text, self.size, bold=self.bold)
        left = self.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return Extent(left, self.y - 0.76 * self.size, left + wide, self.y + 0.24 * self.size)


@dataclass(frozen=True)
class Group:
    """Parts that belong together."""

    parts: tuple[Path | Rect | Text | Group, ...]
    style: str
    data: Mapping[str, str] = field(default_factory=dict)
    title: str = ""


Primitive: TypeAlias = Path | Rect | Text | Group


@dataclass(frozen=True)
class Picture:
    """Everything to be drawn, and how large the page is."""

    width: float
    height: float
    title: str
    description: str
    parts: tuple[Primitive, ...]

    def flat(self) -> Iterator[Path | Rect | Text]:
        """All parts without their groups, in the order in which they are painted."""
        yield from _flat(self.parts)


def _flat(parts: tuple[Primitive, ...]) -> Iterator[Path | Rect | Text]:
    for part in parts:
        if isinstance(part, Group):
            yield from _flat(part.parts)
        else:
            yield part


def printable(text: str) -> str:
    """A text without control characters and halves of characters, which neither XML nor fonts allow."""
    return "".join(
        c
        for c in text
        if c >= " " and not "\x7f" <= c < "\xa0" and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff"
    )


@cache
def _font(bold: bool) -> Any:
    import matplotlib as mpl
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/{name}", 64, layout_engine=ImageFont.Layout.BASIC)


@cache
def width(text: str, size: float, *, bold: bool = False) -> float:
    """How wide a line of text is, in DejaVu Sans; other fonts that a reader may have are narrower.

    Examples
    --------
    >>> width("model", 10) < width("model", 10, bold=True) < width("model", 20)
    True
    """
    return float(_font(bold).getlength(printable(text))) * size / 64


def fitting(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """As much of a text as fits into a width, with an ellipsis where some is left out.

    Examples
    --------
    >>> fitting("a long name", 10, 1000), fitting("a long name", 10, 40).endswith("…")
    ('a long name', True)
    """
    if width(text, size, bold=bold) <= room:
        return text
    kept = len(text) - 1
    while kept > 0 and width(text[:kept] + "…", size, bold=bold) > room:
        kept -= 1
    return text[:kept] + "…" if kept > 0 else ""


def overlapping(picture: Picture) -> list[tuple[str, str]]:
    """Pairs of texts that overlap, and texts that leave the page (paired with `page`). None in a good picture."""
    texts = sorted((t for t in picture.flat() if isinstance(t, Text) and t.text), key=lambda t: t.extent.left)
    found, active = [], []
    for text in texts:
        here = text.extent
        active = [t for t in active if t.extent.right > here.left]
        found += [(t.text, text.text) for t in active if t.extent.meets(here, 0.5)]
        active.append(text)
        if here.left < 0 or here.top < 0 or here.right > picture.width or here.bottom > picture.height:
            found.append((text.text, "page"))
    return found
