"""Primitives as pixels, with Pillow alone."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

from nissl.diagrams.drawing.primitives import Path, Picture, Rect, Text, printable
from nissl.diagrams.drawing.theme import DARK, LIGHT, STYLES, Theme, check_theme, colour
from nissl.errors import InputError

SCALED = "the picture was scaled down"
MORE = "an SVG shows all of it, less depth (--depth N) larger"
LARGEST = 120_000_000  # pixels, before they are averaged


def image_of(picture: Picture, theme: Theme = "light", scale: float = 2.0) -> Any:
    """Paint a picture; `scale` pixels of the result for each of the SVG's, fewer with a warning where it is too large.

    Raises
    ------
    InputError
        A picture too large for pixels.
    """
    import matplotlib as mpl
    from PIL import Image, ImageDraw, ImageFont

    check_theme(theme)
    colours = DARK if theme == "dark" else LIGHT
    fine = 2 * scale  # painted twice as fine and averaged, so that edges are smooth
    wide, high = math.ceil(picture.width * fine), math.ceil(picture.height * fine)
    if wide * high > LARGEST:
        if scale <= 0.5:
            raise InputError(
                f"the picture of {picture.width:.0f} by {picture.height:.0f} is too large for a PNG; write an SVG, or draw less depth"
            )
        smaller = scale / 2
        while smaller > 0.5 and picture.width * picture.height * 4 * smaller**2 > LARGEST:
            smaller /= 2
        image = image_of(picture, theme, smaller)
        warnings.warn(
            f"{SCALED} to {image.width} × {image.height} pixels, 1 / {scale / smaller:g} of what was asked; {MORE}",
            stacklevel=2,
        )
        return image
    canvas = Image.new("RGB", (wide, high), colours.paper)
    draw = ImageDraw.Draw(canvas)
    fonts: dict[tuple[float, bool], Any] = {}

    def tint(name: str, axis: int | None, dim: bool) -> str | tuple[int, ...]:
        value = colour(name, axis, colours)
        return _mixed(value, colours.paper, 0.22) if dim else value

    for part in picture.flat():
        style = STYLES[part.style]
        axis = None if isinstance(part, Rect) else part.axis
        fill = tint(style.fill, axis, part.dim) if style.fill else None
        stroke = tint(style.stroke, axis, part.dim) if style.stroke else None
        pen = max(1, round(style.width * fine))
        if isinstance(part, Text):
            key = (part.size, part.bold)
            if key not in fonts:
                name = "DejaVuSans-Bold.ttf" if part.bold else "DejaVuSans.ttf"
                fonts[key] = ImageFont.truetype(
                    f"{mpl.get_data_path()}/fonts/ttf/{name}", part.size * fine, layout_engine=ImageFont.Layout.BASIC
                )
            anchor = {"start": "ls", "middle": "ms", "end": "rs"}[part.anchor]
            draw.text((part.x * fine, part.y * fine), printable(part.text), fill=fill, font=fonts[key], anchor=anchor)
        elif isinstance(part, Rect):
            corners = [v * fine for v in part.extent]
            draw.rounded_rectangle(corners, part.radius * fine, fill=fill, outline=stroke, width=pen if stroke else 0)
        else:
            for line in _lines(part, fine):
                if part.closed:
                    draw.polygon(line, fill=fill, outline=stroke, width=pen if stroke else 0)
                elif style.dash:
                    for piece in _dashes(line, [d * fine for d in style.dash]):
                        draw.line(piece, fill=stroke, width=pen)
                else:
                    draw.line(line, fill=stroke, width=pen, joint="curve")
    return canvas.resize((math.ceil(wide / 2), math.ceil(high / 2)), Image.Resampling.BOX)


def _mixed(value: str, paper: str, share: float) -> tuple[int, ...]:
    ink = [int(value[i : i + 2], 16) for i in (1, 3, 5)]
    ground = [int(paper[i : i + 2], 16) for i in (1, 3, 5)]
    return tuple(round(share * a + (1 - share) * b) for a, b in zip(ink, ground, strict=True))


def _lines(path: Path, fine: float) -> list[list[tuple[float, float]]]:
    """Polylines of a path, its curves in twelve pieces each."""
    lines: list[list[tuple[float, float]]] = []
    for command, values in path.pieces:
        points = [(values[i] * fine, values[i + 1] * fine) for i in range(0, len(values), 2)]
        if command == "M":
            lines.append(points)
        elif command == "L":
            lines[-1].append(points[0])
        else:
            a, (b, c, d) = lines[-1][-1], points
            for t in (i / 12 for i in range(1, 13)):
                u = 1 - t
                lines[-1].append(
                    tuple(u**3 * a[k] + 3 * u * u * t * b[k] + 3 * u * t * t * c[k] + t**3 * d[k] for k in (0, 1))  # type: ignore[arg-type]
                )
    if path.closed:
        lines = [line[:-1] if line[0] == line[-1] else line for line in lines]
    return lines


def _dashes(line: list[tuple[float, float]], dash: list[float]) -> list[list[tuple[float, float]]]:
    pieces = []
    for (x0, y0), (x1, y1) in itertools.pairwise(line):
        length = math.hypot(x1 - x0, y1 - y0)
        at = 0.0
        while at < length:
            stop = min(at + dash[0], length)
            a, b = at / length, stop / length
            pieces.append([(x0 + (x1 - x0) * a, y0 + (y1 - y0) * a), (x0 + (x1 - x0) * b, y0 + (y1 - y0) * b)])
            at += sum(dash)
    return pieces
