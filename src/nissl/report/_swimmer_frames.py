"""One frame of a swimming episode: the body from above in moving water, and the circuit's state below it."""

from __future__ import annotations

from functools import lru_cache

import matplotlib
import numpy as np
import xarray as xr
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from scipy.interpolate import CubicSpline
from scipy.ndimage import uniform_filter1d

WATER, DOTS, INK, PALE, PANEL = (233, 243, 248), (190, 214, 226), (45, 55, 62), (226, 222, 214), (255, 255, 255)
DORSAL, VENTRAL = np.array((0, 114, 178)), np.array((213, 94, 0))
# Drawn twice as large and made smaller, edges are smooth.
FINE = 2
OUTLINE = 96


class Stage:
    """Draws the frames of one episode.

    Parameters
    ----------
    episode
        One body's.
    width
        Of the picture, in pixels.
    """

    def __init__(self, episode: xr.Dataset, width: int) -> None:
        self.width, self.water = width, round(0.44 * width)
        self.has_sites = {"bneuron.dorsal", "muscle.dorsal"} <= set(episode)
        self.height = self.water + (round(0.27 * width) if self.has_sites else 0)
        self.time, self.speed = episode["time"].to_numpy(), episode["forward_speed"].to_numpy()
        self.points = _turned(np.stack([episode["x"], episode["y"]], -1))
        self.links = self.points.shape[1] - 1
        self.scale = FINE * width / (0.1 * max(self.links, 6) * 1.95)
        middle = self.points.mean(1)
        step = self.time[1] - self.time[0] if len(self.time) > 1 else 0.03
        period = int(episode.attrs.get("period", round(1.8 / step)))
        # The camera follows the body's way, not its beats.
        self.camera = uniform_filter1d(middle, min(2 * period, 2 * len(middle) - 1), axis=0, mode="nearest")
        command = episode["command"].transpose("time", "joint").to_numpy()
        self.pull = {"dorsal": command.clip(0, 1), "ventral": (-command).clip(0, 1)}
        self.cells = {}
        if self.has_sites:
            self.cells = {
                (kind, side): episode[f"{kind}.{side}"].transpose("time", ...).to_numpy()
                for kind in ("bneuron", "muscle")
                for side in ("dorsal", "ventral")
            }

    def draw(self, i: int) -> Image.Image:
        """The frame of one control step."""
        image = Image.new("RGB", (FINE * self.width, FINE * self.height), PANEL)
        pen = ImageDraw.Draw(image)
        pen.rectangle((0, 0, FINE * self.width, FINE * self.water), fill=WATER)
        self._dots(pen, i)
        self._wake(pen, i)
        self._body(pen, i)
        self._words(pen, i)
        if self.has_sites:
            pen.rectangle((0, FINE * self.water, FINE * self.width, FINE * self.height), fill=PANEL)
            self._circuit(pen, i)
        return image.reduce(FINE)

    def _seen(self, points: Float[np.ndarray, "point 2"], i: int) -> Float[np.ndarray, "point 2"]:
        centre = FINE * np.array([self.width, self.water]) / 2
        return (points - self.camera[i]) * self.scale * [1, -1] + centre

    def _dots(self, pen: ImageDraw.ImageDraw, i: int) -> None:
        """Still water, in which the body is seen to move: a dot every 5 cm."""
        half = FINE * np.array([self.width, self.water]) / 2 / self.scale
        low, high = np.floor((self.camera[i] - half) / 0.05), np.ceil((self.camera[i] + half) / 0.05)
        grid = np.stack(np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)), -1)
        r = 1.2 * FINE
        for x, y in self._seen(0.05 * grid.reshape(-1, 2), i):
            pen.ellipse((x - r, y - r, x + r, y + r), fill=DOTS)

    def _wake(self, pen: ImageDraw.ImageDraw, i: int) -> None:
        path = self._seen(self.points[max(0, i - 400) : i + 1, 0], i)
        if len(path) > 1:
            pen.line([tuple(p) for p in path], fill=(150, 190, 210), width=2 * FINE, joint="curve")

    def _body(self, pen: ImageDraw.ImageDraw, i: int) -> None:
        spine = CubicSpline(np.arange(self.links + 1), self.points[i])
        along = self.links * np.linspace(0, 1, OUTLINE) ** 1.3  # closer together at the round head
        centre, heading = self._seen(spine(along), i), spine(along, 1) * [1, -1]
        # On the screen y points down: from head to tail, the dorsal side lies to the left.
        normal = np.stack([heading[:, 1], -heading[:, 0]], -1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        share = along / self.links
        # The head is blunt, the tail a point.
        girth = (
            0.021
            * self.scale
            * np.sqrt(np.clip(share / 0.1, 0, 1) * (2 - np.clip(share / 0.1, 0, 1)))
            * (1 - share**2.2) ** 0.7
        )
        joints = np.arange(1, self.links)
        for side, sign, full in (("dorsal", 1, DORSAL), ("ventral", -1, VENTRAL)):
            pull = np.interp(along, joints, self.pull[side][i])
            edge = centre + sign * girth[:, None] * normal
            for k in range(OUTLINE - 1):
                colour = tuple(np.round(np.array(PALE) + (full - PALE) * (pull[k] + pull[k + 1]) / 2).astype(int))
                pen.polygon([tuple(p) for p in (centre[k], centre[k + 1], edge[k + 1], edge[k])], fill=colour)
        edges = np.concatenate(
            [
                centre + girth[:, None] * normal,
                (centre - girth[:, None] * normal)[::-1],
                (centre + girth[:, None] * normal)[:1],
            ]
        )
        pen.line([tuple(p) for p in edges], fill=INK, width=round(1.4 * FINE), joint="curve")
        x, y = self._seen(spine(np.array([0.25])), i)[0]
        r = 0.0055 * self.scale
        pen.ellipse((x - r, y - r, x + r, y + r), fill=INK)

    def _words(self, pen: ImageDraw.ImageDraw, i: int) -> None:
        font, edge = _font(round(0.0195 * FINE * self.width)), 0.02 * FINE * self.width
        pen.text((edge, edge), f"{self.time[i]:5.2f} s", fill=INK, font=font)
        speed = f"{self.speed[i]:.3f}".replace("-", "−")
        pen.text((FINE * self.width - edge, edge), f"speed of the head {speed} m/s", fill=INK, font=font, anchor="ra")
        x, y = edge, FINE * self.water - edge
        pen.line((x, y, x + 0.1 * self.scale, y), fill=INK, width=2 * FINE)
        pen.text((x, y - 0.4 * edge), "10 cm", fill=INK, font=font, anchor="ls")

    def _circuit(self, pen: ImageDraw.ImageDraw, i: int) -> None:
        """A column a joint, a row a kind of cell; the fuller the colour, the more active the cell."""
        left, right = 0.2 * FINE * self.width, 0.95 * FINE * self.width
        top, bottom = FINE * (self.water + 0.075 * self.width), FINE * (self.height - 0.03 * self.width)
        font, small = _font(round(0.0185 * FINE * self.width)), _font(round(0.0165 * FINE * self.width))
        rows = (("bneuron", "dorsal"), ("muscle", "dorsal"), ("muscle", "ventral"), ("bneuron", "ventral"))
        names = ("dorsal B neurons", "dorsal muscles", "ventral muscles", "ventral B neurons")
        joints = self.cells["bneuron", "dorsal"].shape[1]
        across, gap = (right - left) / joints, (bottom - top) / len(rows)
        r = min(0.36 * gap, 0.3 * across)
        for j in range(joints):
            x = left + (j + 0.5) * across
            name = "head" if j == 0 else "tail" if j == joints - 1 else f"{j}"
            pen.text((x, top - 0.3 * gap), name, fill=INK, font=small, anchor="ms")
        for row, ((kind, side), label) in enumerate(zip(rows, names, strict=True)):
            y = top + (row + 0.5) * gap
            full = DORSAL if side == "dorsal" else VENTRAL
            pen.text((left - 0.15 * gap, y), label, fill=INK, font=font, anchor="rm")
            for j in range(joints):
                x, level = left + (j + 0.5) * across, float(np.clip(self.cells[kind, side][i, j], 0, 1))
                colour = tuple(np.round(np.array(PALE) + (full - PALE) * level).astype(int))
                shape = pen.ellipse if kind == "bneuron" else pen.rectangle
                half = r if kind == "bneuron" else 1.5 * r
                shape((x - half, y - r, x + half, y + r), fill=colour, outline=INK, width=FINE)


def _turned(points: Float[np.ndarray, "time point 2"]) -> Float[np.ndarray, "time point 2"]:
    """Turned so that the way leads to the right; where there is none, so that the head does."""
    way = points[-1].mean(0) - points[len(points) // 4].mean(0)
    if np.linalg.norm(way) < 0.05:
        way = (points[:, 0] - points[:, -1]).mean(0)
    c, s = way / max(float(np.linalg.norm(way)), 1e-12)
    return points @ np.array([[c, -s], [s, c]])


def palette() -> Image.Image:
    """The colours that frames are made of, and the way from each to its neighbours in the picture."""
    ways = (
        (PALE, DORSAL, 48),
        (PALE, VENTRAL, 48),
        (WATER, INK, 24),
        (PANEL, INK, 24),
        (WATER, DOTS, 8),
        (PALE, INK, 16),
        (DORSAL, INK, 16),
        (VENTRAL, INK, 16),
        (WATER, (150, 190, 210), 8),
    )
    ramps = [np.linspace(a, b, n).round().astype(np.uint8) for a, b, n in ways]
    colours = np.concatenate(ramps).ravel().tolist()
    image = Image.new("P", (1, 1))
    image.putpalette(colours + colours[:3] * (256 - len(colours) // 3))
    return image


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
