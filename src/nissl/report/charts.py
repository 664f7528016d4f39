"""Charts of recordings as inline SVG: they follow the page's light or dark colours, stay sharp, and their text can be read aloud.

Values become pictures inside the SVG (a heat map of a thousand units would be too many shapes); axes, names and lines are
shapes and text of the page.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, Int
from markupsafe import Markup, escape
from PIL import Image

# Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#6a645f")
WIDTH, LEFT, COLUMNS = 1000, 84, 1200


def colour(index: int) -> str:
    """The colour of the k-th state, factor or community."""
    return COLOURS[index % len(COLOURS)]


def heat(
    values: Float[np.ndarray, "time unit"],
    seconds: Float[np.ndarray, "time"],
    names: Sequence[str],
    *,
    label: str,
    colours: Sequence[str] | None = None,
    spikes: bool = False,
    time_unit: str = "s",
) -> Markup:
    """Units above each other over time: dark where a unit is active, hatched grey where nothing was recorded.

    Parameters
    ----------
    values
        Activity or counts; NaN is missing.
    names
        Of the units, from the top.
    colours
        One a unit, drawn as a strip at the left (communities).
    spikes
        Draw a mark wherever there is a spike, as in a raster, in place of shades.
    """
    shown = columns(values, spikes)
    rows = max(4, min(16, 420 // max(len(names), 1)))
    image = _raster(shown) if spikes else _shades(shown)
    height = rows * len(names)
    parts = [_image(image, LEFT, 0, WIDTH - LEFT, height)]
    if colours is not None:
        parts += [
            f'<rect x="{LEFT - 8}" y="{i * rows}" width="5" height="{rows}" fill="{c}"/>' for i, c in enumerate(colours)
        ]
    parts += _row_names(names, rows, LEFT - (12 if colours is not None else 6))
    parts += _time_axis(seconds, height, time_unit)
    return _svg(parts, height + 30, label)


def lines(
    curves: dict[str, Float[np.ndarray, "time"]],
    seconds: Float[np.ndarray, "time"],
    *,
    label: str,
    height: int = 44,
    spans: Sequence[tuple[float, float, str]] = (),
    colours: Sequence[str] | None = None,
    time_unit: str = "s",
) -> Markup:
    """Curves one above the other, each on its own scale; `spans` (start, stop, label) shade stretches of time."""
    parts, gap = [], 10
    total = len(curves) * (height + gap)
    parts += _spans(spans, seconds, total)
    for i, (name, curve) in enumerate(curves.items()):
        top = i * (height + gap)
        tint = colours[i] if colours is not None else colour(i)
        parts.append(f'<text x="{LEFT - 8}" y="{top + height - 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<path d="{_curve(columns(curve[:, None])[:, 0], top, height)}" fill="none" stroke="{tint}" stroke-width="1.6"/>'
        )
    return _svg([*parts, *_time_axis(seconds, total, time_unit)], total + 30, label)


def ribbon(
    states: Int[np.ndarray, "time"],
    seconds: Float[np.ndarray, "time"],
    *,
    label: str,
    spans: Sequence[tuple[float, float, str]] = (),
    time_unit: str = "s",
) -> Markup:
    """Which state the recording is in, over time; -1 is none."""
    edges = np.flatnonzero(np.diff(states)) + 1
    starts, stops = np.r_[0, edges], np.r_[edges, len(states)]
    scale = (WIDTH - LEFT) / len(states)
    parts = [
        f'<rect x="{LEFT + a * scale:.2f}" y="0" width="{(b - a) * scale:.2f}" height="34" fill="{colour(int(states[a]))}"/>'
        for a, b in zip(starts, stops, strict=True)
        if states[a] >= 0
    ]
    parts.append(f'<text x="{LEFT - 8}" y="22" text-anchor="end">state</text>')
    return _svg([*parts, *_spans(spans, seconds, 34), *_time_axis(seconds, 34, time_unit)], 64, label)


def matrix(values: Float[np.ndarray, "row column"], names: Sequence[str], *, label: str, axes: bool = True) -> Markup:
    """A square matrix from blue (negative) over nothing to orange (positive); rows are targets, columns sources."""
    limit = np.nanmax(np.abs(values)) if np.isfinite(values).any() else 1.0
    scaled = np.clip(values / (limit or 1), -1, 1)
    side, margin = 380, 64
    parts = [_image(_diverging(scaled), margin, 18, side, side)]
    if axes:
        parts += [
            f'<text x="{margin + side / 2}" y="10" text-anchor="middle">source</text>',
            f'<text x="{margin - 8}" y="{18 + side / 2}" text-anchor="end">target</text>',
        ]
    every = max(1, len(names) // 12)
    if len(names) <= 40:
        every = 1 if len(names) <= 24 else 2
        parts = parts[:1] + (parts[1:2] if axes else [])
    for i in range(0, len(names), every):
        y = 18 + (i + 0.5) * side / len(names)
        parts.append(f'<text x="{margin - 5}" y="{y + 3:.1f}" text-anchor="end" class="tiny">{escape(names[i])}</text>')
    return _svg(parts, side + 24, label, width=side + margin + 4)


def bars(values: dict[str, float], *, label: str, limit: float = 1.0, words: str = "{:.0%}") -> Markup:
    """Horizontal bars, the largest first as given."""
    parts = []
    for i, (name, value) in enumerate(values.items()):
        y = 20 * i
        length = (WIDTH / 2 - LEFT - 60) * min(value / limit, 1)
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y + 3}" width="{max(length, 1):.1f}" height="11" rx="3" class="fill"/>',
            f'<text x="{LEFT + length + 8:.1f}" y="{y + 12}">{escape(words.format(value))}</text>',
        ]
    return _svg(parts, 20 * len(values) + 4, label, width=WIDTH // 2)


def columns(values: Float[np.ndarray, "time unit"], most: bool = False) -> Float[np.ndarray, "column unit"]:
    """At most `COLUMNS` steps of time: means of what was recorded in each (sums where `most`), NaN where nothing was."""
    if len(values) <= COLUMNS:
        return values
    edge = np.linspace(0, len(values), COLUMNS + 1).astype(int)
    known: Bool[np.ndarray, ...] = ~np.isnan(values)
    total = np.add.reduceat(np.where(known, values, 0), edge[:-1], axis=0)
    count = np.add.reduceat(known, edge[:-1], axis=0)
    return np.where(count > 0, total if most else total / np.maximum(count, 1), np.nan)


def _shades(values: np.ndarray) -> np.ndarray:
    """Each unit on its own scale, from its 2nd to its 99th percentile."""
    low, high = np.nanpercentile(values, [2, 99], axis=0)
    scaled = np.clip((values - low) / np.where(high > low, high - low, 1), 0, 1)
    picture = (255 * matplotlib.colormaps["cividis"](np.nan_to_num(scaled))).astype(np.uint8)
    return _hatched(picture, np.isnan(values)).transpose(1, 0, 2)


def _raster(counts: np.ndarray) -> np.ndarray:
    """The more spikes, the darker, up to what nearly all bins stay below; a single spike is always seen."""
    most = max(3.0, float(np.nanquantile(counts, 0.99)))
    strength = np.clip(np.nan_to_num(counts), 0, most) / most
    picture = np.zeros((*counts.shape, 4), np.uint8)
    picture[..., :3] = (154, 52, 18)
    picture[..., 3] = np.where(strength > 0, 50 + 205 * strength**1.5, 0)
    return _hatched(picture, np.isnan(counts)).transpose(1, 0, 2)


def _diverging(scaled: np.ndarray) -> np.ndarray:
    picture = (255 * matplotlib.colormaps["PuOr_r"](0.5 + 0.5 * np.nan_to_num(scaled))).astype(np.uint8)
    return _hatched(picture, np.isnan(scaled))


def _hatched(picture: np.ndarray, absent: np.ndarray) -> np.ndarray:
    """Grey diagonals where nothing is known, which no colour of the maps looks like."""
    a, b = np.indices(absent.shape)
    picture[absent] = (150, 146, 140, 70)
    picture[absent & ((a + b) % 4 == 0)] = (150, 146, 140, 190)
    return picture


def _image(pixels: np.ndarray, x: float, y: float, width: float, height: float) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA" if pixels.shape[2] == 4 else "RGB").save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="none" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
    )


def _row_names(names: Sequence[str], rows: float, x: float) -> list[str]:
    """As many names as there is room for, evenly chosen."""
    every = int(np.ceil(11 / rows))
    return [
        f'<text x="{x}" y="{(i + 0.5) * rows + 3:.1f}" text-anchor="end" class="tiny">{escape(str(names[i])[:14])}</text>'
        for i in range(0, len(names), every)
    ]


def _time_axis(seconds: np.ndarray, top: float, unit: str) -> list[str]:
    start, stop = float(seconds[0]), float(seconds[-1])
    ticks = _ticks(start, stop)
    scale = (WIDTH - LEFT) / max(stop - start, 1e-12)
    parts = [f'<line x1="{LEFT}" x2="{WIDTH}" y1="{top + 1}" y2="{top + 1}" class="axis"/>']
    for i, tick in enumerate(ticks):
        x = LEFT + (tick - start) * scale
        anchor = "start" if x < LEFT + 12 else "end" if x > WIDTH - 24 else "middle"
        words = f"{tick:g}" + (f" {unit}" if i == 0 else "")
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + 1}" y2="{top + 6}" class="axis"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + 20}" text-anchor="{anchor}">{words}</text>')
    return parts


def _ticks(start: float, stop: float) -> list[float]:
    """Round numbers, five to ten of them."""
    span = max(stop - start, 1e-12)
    step = 10.0 ** np.floor(np.log10(span / 5))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 8)
    first = np.ceil(start / step - 1e-9)
    return [float(round(k * step, 10)) + 0.0 for k in np.arange(first, np.floor(stop / step + 1e-9) + 1)]


def _spans(spans: Sequence[tuple[float, float, str]], seconds: np.ndarray, height: float) -> list[str]:
    start, stop = float(seconds[0]), float(seconds[-1])
    scale = (WIDTH - LEFT) / max(stop - start, 1e-12)
    parts = []
    for a, b, name in spans:
        left, right = max(a, start), min(b, stop)
        if right > left:
            parts.append(
                f'<rect x="{LEFT + (left - start) * scale:.1f}" y="0" width="{(right - left) * scale:.1f}" height="{height}" class="span">'
                f"<title>{escape(name)}</title></rect>"
            )
    return parts


def _curve(values: np.ndarray, top: float, height: float) -> str:
    """A path that is broken where values are missing."""
    known = np.isfinite(values)
    if not known.any():
        return ""
    low, high = float(values[known].min()), float(values[known].max())
    x = LEFT + (WIDTH - LEFT) * (np.arange(len(values)) + 0.5) / len(values)
    y = top + height * (1 - (values - low) / (high - low or 1))
    begins = known & ~np.r_[False, known[:-1]]
    return "".join(f"{'M' if b else 'L'}{a:.1f},{c:.1f}" for a, c, k, b in zip(x, y, known, begins, strict=True) if k)


def _svg(parts: Sequence[str], height: float, label: str, width: float = WIDTH) -> Markup:
    return Markup(  # noqa: S704 - every name in `parts` was escaped where it was put in
        f'<svg viewBox="0 -4 {width} {height + 8:.0f}" role="img" aria-label="{escape(label)}" class="chart" style="max-width:{width}px">{"".join(parts)}</svg>'
    )
