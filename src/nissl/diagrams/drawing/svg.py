"""Primitives as SVG: text stays text, colours follow the reader's page, and the same picture gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from nissl.diagrams.drawing.primitives import Group, Path, Picture, Primitive, Rect, Text, printable
from nissl.diagrams.drawing.theme import DARK, LIGHT, N_COLOURS, STYLES, Colours, Theme, check_theme, colour


def svg_of(picture: Picture, theme: Theme = "auto") -> str:
    """Write a picture as SVG."""
    check_theme(theme)
    style = _css(DARK if theme == "dark" else LIGHT, whole=True)
    if theme == "auto":
        style += "@media (prefers-color-scheme:dark){" + _css(DARK, whole=False) + "}"
    wide, high = _number(picture.width), _number(picture.height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ncd" role="img" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}">',
        f"<title>{_plain(picture.title)}</title><desc>{_plain(picture.description)}</desc>",
        f"<style>{style}</style>",
        f'<rect class="paper" width="{wide}" height="{high}"/>',
    ]
    lines += [_element(p) for p in picture.parts]
    return "\n".join([*lines, "</svg>", ""])


def _css(colours: Colours, *, whole: bool) -> str:
    """Rules of one page's colours; with `whole`, also those that are the same on every page."""
    rules = []
    if whole:
        rules.append(
            ".ncd text{font-family:'DejaVu Sans',Verdana,sans-serif}.ncd .dim{opacity:.22}.ncd .b{font-weight:bold}"
        )
        rules.append(".ncd path,.ncd line{fill:none}")
    for name, style in STYLES.items():
        said = ""
        if style.stroke and style.stroke != "axis":
            said += f"stroke:{colour(style.stroke, None, colours)};"
        if style.fill != "axis" and (style.fill or whole):
            said += f"fill:{colour(style.fill, None, colours) if style.fill else 'none'};"
        if whole and style.stroke:
            said += f"stroke-width:{style.width:g};"
            if style.dash:
                said += "stroke-dasharray:" + " ".join(f"{d:g}" for d in style.dash) + ";"
        if said:
            rules.append(f".ncd .{name}{{{said[:-1]}}}")
    for i in range(N_COLOURS):
        value = colour("axis", i, colours)
        rules.append(f".ncd .w.a{i}{{stroke:{value}}}.ncd text.a{i},.ncd .dot.a{i}{{fill:{value}}}")
    return "".join(rules)


def _element(part: Primitive) -> str:
    if isinstance(part, Group):
        inner = "".join(_element(p) for p in part.parts)
        title = f"<title>{_plain(part.title)}</title>" if part.title else ""
        return f'<g class="{part.style}"{_data(part.data)}>{title}{inner}</g>'
    if isinstance(part, Rect):
        left, top, right, bottom = part.extent
        place = (
            f'x="{_number(left)}" y="{_number(top)}" width="{_number(right - left)}" height="{_number(bottom - top)}"'
        )
        radius = f' rx="{_number(part.radius)}"' if part.radius else ""
        return f'<rect class="{_classes(part)}" {place}{radius}/>'
    if isinstance(part, Text):
        anchor = "" if part.anchor == "start" else f' text-anchor="{part.anchor}"'
        place = f'x="{_number(part.x)}" y="{_number(part.y)}" font-size="{_number(part.size)}"'
        return f'<text class="{_classes(part)}" {place}{anchor}{_data(part.data)}>{_plain(part.text)}</text>'
    if part.tag == "line":
        (_, a), (_, b) = part.pieces
        return f'<line class="{_classes(part)}" x1="{_number(a[0])}" y1="{_number(a[1])}" x2="{_number(b[0])}" y2="{_number(b[1])}"/>'
    return f'<path class="{_classes(part)}"{_data(part.data)} d="{_route(part)}"/>'


def _route(path: Path) -> str:
    """The pieces of a path; level lines need only where they end."""
    said, y = [], None
    for command, values in path.pieces:
        if command == "L" and y is not None and _number(values[1]) == _number(y):
            said.append("H" + _number(values[0]))
        else:
            said.append(command + " ".join(map(_number, values)))
        y = values[-1]
    return "".join(said) + ("Z" if path.closed else "")


def _classes(part: Path | Rect | Text) -> str:
    names = [part.style]
    if isinstance(part, Text) and part.bold:
        names.append("b")
    axis = None if isinstance(part, Rect) else part.axis
    if axis is not None:
        names += [f"a{axis % N_COLOURS}", f"x{axis}"]
    if part.dim:
        names.append("dim")
    return " ".join(names)


def _data(data: Mapping[str, str]) -> str:
    return "".join(f' data-{k}="{_plain(v)}"' for k, v in data.items())


def _plain(text: str) -> str:
    """Text from anywhere, made harmless."""
    return escape(printable(text))


def _number(value: float) -> str:
    said = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if said in ("-0", "") else said
