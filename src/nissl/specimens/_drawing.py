"""The brushes of `scenes`: shapes, colours, textures and backgrounds, each drawn for many pictures at once."""

from __future__ import annotations

import numpy as np

# Each shape maps coordinates (u to the right, v down, in radii) to a distance from its outline, negative inside.


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 0.92


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(u), np.abs(v)) - 0.75


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    half = np.sqrt(3) / 2
    return np.maximum(np.maximum(-v, half * u + 0.5 * v), -half * u + 0.5 * v) - 0.5


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Five points: the angle is folded onto half a point, whose outer edge is a straight line."""
    angle = np.abs((np.arctan2(u, -v) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    radius = np.hypot(u, v)
    a, b = radius * np.cos(angle), radius * np.sin(angle)
    tip, notch = np.array([1.0, 0.0]), 0.45 * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    edge = notch - tip
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return (a - tip[0]) * normal[0] + (b - tip[1]) * normal[1]


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    along, across = np.maximum(np.abs(u), np.abs(v)), np.minimum(np.abs(u), np.abs(v))
    return np.maximum(along - 0.92, across - 0.3)


def _ring(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.abs(np.hypot(u, v) - 0.71) - 0.23


SHAPES = {"circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "cross": _cross, "ring": _ring}

COLOURS = {
    "red": (0.86, 0.16, 0.16), "green": (0.13, 0.62, 0.25), "blue": (0.15, 0.33, 0.85), "yellow": (0.96, 0.83, 0.16),
    "purple": (0.58, 0.22, 0.70), "cyan": (0.18, 0.76, 0.82),
}  # fmt: skip

# What captions call them.
TEXTURES = {"plain": "plain", "stripes": "striped", "dots": "dotted", "checks": "checked"}
BACKGROUNDS = {
    "plain": "a plain wall", "gradient": "a fading wall", "noise": "sand", "stripes": "a striped wall", "grass": "grass", "bricks": "bricks",
}  # fmt: skip

_PALETTE = np.array(list(COLOURS.values()), dtype=np.float32)
_SHAPE_LIST, _TEXTURE_LIST, _BACKGROUND_LIST = list(SHAPES.values()), list(TEXTURES), list(BACKGROUNDS)


def objects(
    canvas: np.ndarray,
    labels: np.ndarray,
    samples: np.ndarray,
    number: int,
    *,
    shape: np.ndarray,
    colour: np.ndarray,
    texture: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
    rotation: np.ndarray,
) -> None:
    """Draw one object into each of `samples`, in place: only the patch around it is touched."""
    if len(samples) == 0:
        return
    size = canvas.shape[1]
    side = min(2 * int(np.ceil(radius.max())) + 3, size)
    left = np.clip(np.round(x - side / 2), 0, size - side).astype(np.intp)
    top = np.clip(np.round(y - side / 2), 0, size - side).astype(np.intp)
    column, row = left[:, None] + np.arange(side), top[:, None] + np.arange(side)
    dx = (column + 0.5 - x[:, None]).astype(np.float32)[:, None, :]
    dy = (row + 0.5 - y[:, None]).astype(np.float32)[:, :, None]
    cos, sin = (f(rotation).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    u, v = cos * dx + sin * dy, cos * dy - sin * dx  # in pixels, turned with the object
    scale = radius.astype(np.float32)[:, None, None]

    distance = np.empty_like(u)
    for code, outline in enumerate(_SHAPE_LIST):
        mine = shape == code
        if mine.any():
            distance[mine] = outline(u[mine] / scale[mine], v[mine] / scale[mine])
    cover = np.clip(0.5 - distance * scale, 0, 1)  # the share of the pixel inside the outline
    paint = _PALETTE[colour][:, None, None, :] * _textured(texture, u, v, scale)[..., None]

    # One flat index a pixel: gathering and scattering rows of three is several times faster than with three indices.
    place = ((samples[:, None, None] * size + row[:, :, None]) * size + column[:, None, :]).ravel()
    pixels, flat_labels = canvas.reshape(-1, 3), labels.reshape(-1)
    under = pixels.take(place, axis=0)
    pixels[place] = under + cover.reshape(-1, 1) * (paint.reshape(-1, 3) - under)
    inside = cover.ravel() > 0.5
    flat_labels[place[inside]] = number + 1


def _textured(texture: np.ndarray, u: np.ndarray, v: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Brightness of the paint, 1 or darker, in a pattern that turns with the object."""
    bright = np.ones_like(u)
    step = np.maximum(scale * 0.55, 4.0)  # pixels from one stripe to the next
    for code, name in enumerate(_TEXTURE_LIST):
        mine = texture == code
        if name == "plain" or not mine.any():
            continue
        a, b = u[mine] / step[mine], v[mine] / step[mine]
        if name == "stripes":
            dark = (a % 1.0) < 0.45
        elif name == "checks":
            dark = ((a % 1.0) < 0.5) ^ ((b % 1.0) < 0.5)
        else:
            dark = np.hypot(a % 1.0 - 0.5, b % 1.0 - 0.5) < 0.3
        bright[mine] = np.where(dark, 0.42, 1.0)
    return bright


def backgrounds(kind: np.ndarray, u: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Muted grounds, `(sample, y, x, 3)` from 0 to 1; `u` holds five random numbers a sample, `noise` one a pixel."""
    n, size = noise.shape[:2]
    base = (0.48 + 0.34 * u[:, :3]).astype(np.float32)
    base = 0.6 * base + 0.4 * base.mean(1, keepdims=True)  # towards grey, so that objects stand out
    canvas = np.broadcast_to(base[:, None, None, :], (n, size, size, 3)).copy()
    angle, phase = 2 * np.pi * u[:, 3, None, None], u[:, 4, None, None]
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    gx, gy = grid[None, None, :], grid[None, :, None]
    for code, name in enumerate(_BACKGROUND_LIST):
        mine = np.flatnonzero(kind == code)
        if name == "plain" or len(mine) == 0:
            continue
        a, p, grain = angle[mine], phase[mine], noise[mine]
        along = (np.cos(a) * gx + np.sin(a) * gy).astype(np.float32)
        if name == "gradient":
            canvas[mine] *= (1 + 0.8 * along)[..., None]
        elif name == "noise":
            canvas[mine] *= (0.72 + 0.56 * grain)[..., None]
        elif name == "stripes":
            canvas[mine] *= np.where(((along * 9 + p) % 1.0) < 0.5, 0.84, 1.08).astype(np.float32)[..., None]
        elif name == "grass":
            blades = (grain + np.roll(grain, 1, axis=1) + np.roll(grain, 2, axis=1)) / 3  # smeared upwards
            meadow = np.array([0.36, 0.52, 0.26], dtype=np.float32)
            canvas[mine] = meadow * (0.55 + 0.9 * blades)[..., None]
        else:  # bricks: every other course is shifted by half a brick
            course = np.floor((gy + 0.5) * 10 + p)
            inside = ((gy + 0.5) * 10 + p) % 1.0 > 0.16
            inside = inside & (((gx + 0.5) * 5 + 0.5 * (course % 2) + p) % 1.0 > 0.08)
            clay, mortar = np.array([0.62, 0.42, 0.34]), np.array([0.78, 0.76, 0.72])
            wall = np.where(inside[..., None], clay, mortar).astype(np.float32)
            canvas[mine] = wall * (0.9 + 0.2 * grain)[..., None]
    return canvas
