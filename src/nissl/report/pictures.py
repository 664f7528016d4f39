"""Pictures of the report: heat laid on photographs, crops, curves; made without a display."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from nissl.models import Frame

if TYPE_CHECKING:
    from nissl.report.explanation import Explanation

_WIDTH = 560
_COLOURS = matplotlib.colormaps["inferno"]  # even steps to the eye, and readable without colour vision


def overlay(photo: Image.Image, heat: xr.DataArray, frame: Frame) -> Image.Image:
    """A heat map on its photograph: grey where nothing is, glowing where the evidence is, dark outside what the network
    saw.
    """
    scale = min(1.0, _WIDTH / photo.width)
    base = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    grey = np.asarray(base.convert("L").convert("RGB"), dtype=float) / 255
    strength = _placed(heat, frame, base.size, scale)
    glow = _COLOURS(0.25 + 0.75 * strength)[..., :3]
    alpha = (0.85 * strength**0.75)[..., None]
    mixed = (0.35 + 0.55 * grey) * (1 - alpha) + glow * alpha
    mixed[~_seen(frame, base.size, scale)] *= 0.35
    return Image.fromarray((np.clip(mixed, 0, 1) * 255).astype(np.uint8))


def detail(photo: Image.Image, heat: xr.DataArray, frame: Frame) -> Image.Image:
    """A fine-grained map as light on black, at the place where it lies in the photograph."""
    scale = min(1.0, _WIDTH / photo.width)
    size = (round(photo.width * scale), round(photo.height * scale))
    values = np.clip(heat.values, 0, None)
    top = np.quantile(values, 0.998)
    light = _placed(heat.copy(data=np.clip(values / (top if top > 0 else 1), 0, 1)), frame, size, scale)
    picture = matplotlib.colormaps["magma"](light**0.6)[..., :3]
    return Image.fromarray((picture * 255).astype(np.uint8))


def framed(photo: Image.Image, frame: Frame, box: dict[str, float] | None = None) -> Image.Image:
    """The photograph with what the network saw left bright, and a box around the evidence."""
    scale = min(1.0, _WIDTH / photo.width)
    base = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    pixels = np.asarray(base, dtype=float)
    pixels[~_seen(frame, base.size, scale)] *= 0.45
    picture = Image.fromarray(pixels.astype(np.uint8))
    if box is not None:
        corners = [box["left"] * scale, box["top"] * scale, box["right"] * scale, box["bottom"] * scale]
        draw = ImageDraw.Draw(picture)
        draw.rectangle(corners, outline=(0, 0, 0), width=5)
        draw.rectangle(corners, outline=(255, 196, 60), width=3)
    return picture


def crop(photo: Image.Image, box: tuple[float, float, float, float], side: int = 112) -> Image.Image:
    """A square part of a photograph."""
    return photo.crop((round(box[0]), round(box[1]), round(box[2]), round(box[3]))).resize(
        (side, side), Image.Resampling.LANCZOS
    )


def data_uri(image: Image.Image, quality: int = 86) -> str:
    """The picture as text that a page can carry."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def panel(explanation: Explanation) -> Figure:
    """Photograph, Grad-CAM of target and rival, and the counterfactual, side by side."""
    shown = [("photograph", framed(explanation.photo, explanation.frame))]
    for key, name in (
        ("grad_cam", explanation.target),
        ("rival_grad_cam", explanation.rival),
        ("counterfactual", f"against {explanation.target}"),
    ):
        heat = explanation.maps[key]
        if heat is not None:
            shown.append((name, overlay(explanation.photo, heat, explanation.frame)))
    ratio = explanation.photo.height / explanation.photo.width
    figure = Figure(figsize=(3.2 * len(shown), 3.2 * ratio + 0.4), layout="constrained")
    for axis, (name, picture) in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True):
        axis.imshow(picture)
        axis.set_title(name, fontsize=10)
        axis.set_axis_off()
    return figure


def _placed(heat: xr.DataArray, frame: Frame, size: tuple[int, int], scale: float) -> np.ndarray:
    """A map, normalised to its maximum, at its place in the scaled photograph; zero elsewhere."""
    values = np.clip(heat.values, 0, None)
    peak = values.max()
    normal = values / peak if peak > 0 else values
    left, top, right, bottom = (round(v * scale) for v in (frame.left, frame.top, frame.right, frame.bottom))
    part = Image.fromarray((normal * 255).astype(np.uint8)).resize(
        (max(1, right - left), max(1, bottom - top)), Image.Resampling.BICUBIC
    )
    whole = Image.new("L", size)
    whole.paste(part, (left, top))
    return np.asarray(whole, dtype=float) / 255


def _seen(frame: Frame, size: tuple[int, int], scale: float) -> np.ndarray:
    width, height = size
    seen = np.zeros((height, width), dtype=bool)
    seen[
        round(frame.top * scale) : round(frame.bottom * scale), round(frame.left * scale) : round(frame.right * scale)
    ] = True
    return seen
