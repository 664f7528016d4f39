"""Drawn scenes: pictures of several shapes in which everything is known - where each object is, what it is, and what
lies behind.

All pictures of a call are drawn at once. The random numbers of picture i come from row i of one table, so that a longer
call begins with the pictures of a shorter one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int8, UInt8

from nissl.errors import InputError, unknown
from nissl.specimens import _drawing as draw

SHAPES = tuple(draw.SHAPES)
COLOURS = tuple(draw.COLOURS)
TEXTURES = tuple(draw.TEXTURES)
BACKGROUNDS = tuple(draw.BACKGROUNDS)

_TRIES = 16  # places tried for each object
_BLOCK = 64  # pictures drawn at once: as many as fit the cache
_PER_OBJECT = 6 + 2 * _TRIES  # random numbers an object takes


@dataclass(frozen=True)
class Scenes:
    """Pictures and the whole truth about them.

    Attributes
    ----------
    images
        8-bit RGB.
    labels
        For every pixel 0 for the background or 1 + number of the object.
    objects
        A row an object: sample, object, shape, colour, texture, x, y (centre), radius (pixels), rotation (radians),
        left, top, right, bottom (box of its visible pixels; right and bottom are one past the last).
    background
        Name of each picture's background.
    """

    images: UInt8[np.ndarray, "sample y x 3"]
    labels: Int8[np.ndarray, "sample y x"]
    objects: pd.DataFrame
    background: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice | np.ndarray | Sequence[int]) -> Scenes:
        """Some of the pictures, renumbered from 0."""
        chosen = np.arange(len(self))[index]
        rank = pd.Series(np.arange(len(chosen)), index=chosen)
        objects = self.objects[self.objects["sample"].isin(chosen.tolist())]
        objects = objects.assign(sample=rank.loc[objects["sample"]].to_numpy()).sort_values(
            ["sample", "object"], ignore_index=True
        )
        return Scenes(self.images[chosen], self.labels[chosen], objects, self.background[chosen])

    @cached_property
    def masks(self) -> Bool[np.ndarray, "sample object y x"]:
        """Where each object is visible; all False for objects that a picture does not have."""
        count = int(self.objects["object"].to_numpy().max()) + 1 if len(self.objects) else 0
        return self.labels[:, None] == np.arange(1, count + 1)[:, None, None]

    @cached_property
    def boxes(self) -> Float[np.ndarray, "sample object 4"]:
        """Left, top, right, bottom of each object in pixels; NaN for objects that a picture does not have."""
        boxes = np.full((*self.masks.shape[:2], 4), np.nan)
        boxes[self.objects["sample"], self.objects["object"]] = self.objects[["left", "top", "right", "bottom"]]
        return boxes

    @cached_property
    def concepts(self) -> pd.DataFrame:
        """Which concept (shape, colour, texture, background) occurs in which picture: a row a picture, a column a
        concept.
        """
        table = {}
        for column, names in (("shape", SHAPES), ("colour", COLOURS), ("texture", TEXTURES)):
            for name in names:
                table[name] = np.isin(np.arange(len(self)), self.objects.loc[self.objects[column] == name, "sample"])
        for name in BACKGROUNDS:
            table[_background_concept(name)] = self.background == name
        return pd.DataFrame(table)

    def shape_labels(self, shapes: Sequence[str] = SHAPES) -> Bool[np.ndarray, "sample shape"]:
        """Which shapes each picture holds: the answer a shape classifier has to give."""
        return self.concepts[list(shapes)].to_numpy()

    def mask_of(self, **attributes: str) -> Bool[np.ndarray, "sample y x"]:
        """Pixels of the objects with these attributes, for example `mask_of(shape="circle", colour="red")`."""
        keep = np.ones(len(self.objects), dtype=bool)
        for column, name in attributes.items():
            if column not in ("shape", "colour", "texture"):
                raise unknown("attribute", column, ("shape", "colour", "texture"))
            keep &= (self.objects[column] == name).to_numpy()
        chosen = self.objects[keep]
        wanted = np.zeros((len(self), int(self.labels.max()) + 1), dtype=bool)
        wanted[chosen["sample"], chosen["object"] + 1] = True
        return np.take_along_axis(wanted, self.labels.reshape(len(self), -1).astype(np.intp), axis=1).reshape(
            self.labels.shape
        )

    def concept_mask(self, concept: str) -> Bool[np.ndarray, "sample y x"]:
        """Pixels of one concept: a shape, colour or texture, or a background such as `grass background`.

        Raises
        ------
        UnknownNameError
            No such concept; the message lists the nearest.
        """
        for column, names in (("shape", SHAPES), ("colour", COLOURS), ("texture", TEXTURES)):
            if concept in names:
                return self.mask_of(**{column: concept})
        for name in BACKGROUNDS:
            if concept == _background_concept(name):
                return (self.labels == 0) & (self.background == name)[:, None, None]
        raise unknown("concept", concept, self.concepts.columns)

    @cached_property
    def captions(self) -> list[str]:
        """A sentence a picture: its objects from left to right, and the background."""
        spoken: list[list[str]] = [[] for _ in range(len(self))]
        for row in self.objects.sort_values(["sample", "x"]).to_dict("records"):
            texture = "" if row["texture"] == "plain" else f"{draw.TEXTURES[row['texture']]} "
            spoken[row["sample"]].append(f"a {row['colour']} {texture}{row['shape']}")
        behind = (draw.BACKGROUNDS[b] for b in self.background)
        return [" left of ".join(parts) + f" on {ground}" for parts, ground in zip(spoken, behind, strict=True)]


def scenes(
    n: int,
    *,
    seed: int = 0,
    size: int = 64,
    n_objects: tuple[int, int] = (1, 3),
    shapes: Sequence[str] = SHAPES,
    colours: Sequence[str] = COLOURS,
    textures: Sequence[str] = TEXTURES,
    backgrounds: Sequence[str] = BACKGROUNDS,
    unique_shapes: bool = True,
    background_given_shape: Mapping[str, str] | None = None,
    bias: float = 0.95,
) -> Scenes:
    """Draw scenes.

    Parameters
    ----------
    n
        How many pictures.
    seed
        Same seed, same pictures; a larger `n` only adds to them.
    size
        Side in pixels, 32 or more.
    n_objects
        Fewest and most objects in a picture, 1 to 4.
    shapes, colours, textures, backgrounds
        What to draw from.
    unique_shapes
        No shape occurs twice in a picture.
    background_given_shape
        For each shape the background that goes with it: a confounder. The first object's shape decides.
    bias
        With which probability it does; otherwise the background is drawn freely.

    Raises
    ------
    UnknownNameError
        A shape, colour, texture or background that does not exist.
    InputError
        Numbers out of range, or more objects than different shapes.

    Examples
    --------
    >>> s = scenes(3, seed=1)
    >>> s.images.shape, s.labels.shape
    ((3, 64, 64, 3), (3, 64, 64))
    """
    _check(n, size, n_objects, shapes, colours, textures, backgrounds, unique_shapes, background_given_shape, bias)
    most = n_objects[1]
    table = np.random.default_rng([seed, 0]).random((n, 8 + 4 * _PER_OBJECT))
    own, each = table[:, :8], table[:, 8:].reshape(n, 4, _PER_OBJECT)[:, :most]

    count = n_objects[0] + _pick(own[:, 0], most - n_objects[0] + 1)
    if unique_shapes:  # a draw without replacement: rank one random number a shape
        drawn = np.random.default_rng([seed, 1]).random((n, len(shapes))).argsort(1)[:, :most]
    else:
        drawn = _pick(each[:, :, 0], len(shapes))
    shape = _codes(shapes, SHAPES)[drawn]
    colour = _codes(colours, COLOURS)[_pick(each[:, :, 1], len(colours))]
    texture = _codes(textures, TEXTURES)[_pick(each[:, :, 2], len(textures))]
    rotation = each[:, :, 3] * 2 * np.pi
    radius = size * (0.13 + 0.08 * each[:, :, 4])
    x, y, radius = _place(each[:, :, 6:], radius, size)

    ground = _codes(backgrounds, BACKGROUNDS)[_pick(own[:, 1], len(backgrounds))]
    if background_given_shape is not None:
        tied = np.array(
            [BACKGROUNDS.index(background_given_shape[s]) if s in background_given_shape else -1 for s in SHAPES]
        )
        follows = (own[:, 2] < bias) & (tied[shape[:, 0]] >= 0)
        ground = np.where(follows, tied[shape[:, 0]], ground)

    present = np.arange(most) < count[:, None]
    images, labels = np.empty((n, size, size, 3), dtype=np.uint8), np.zeros((n, size, size), dtype=np.int8)
    grain = np.random.default_rng([seed, 2])
    parts = {
        "shape": shape,
        "colour": colour,
        "texture": texture,
        "x": x,
        "y": y,
        "radius": radius,
        "rotation": rotation,
    }
    for start in range(0, n, _BLOCK):
        block = slice(start, min(start + _BLOCK, n))
        noise = grain.random((block.stop - start, size, size), dtype=np.float32)
        canvas = draw.backgrounds(ground[block], own[block, 3:], noise)
        for k in range(most):
            here = np.flatnonzero(present[block, k])
            draw.objects(
                canvas, labels[block], here, k, **{name: values[block][here, k] for name, values in parts.items()}
            )
        canvas += (noise[..., None] - 0.5) * 0.03
        images[block] = np.clip(canvas, 0, 1) * 255 + 0.5

    sample, number = np.nonzero(present)
    rows = {
        "sample": sample, "object": number,
        "shape": np.array(SHAPES)[shape[present]], "colour": np.array(COLOURS)[colour[present]],
        "texture": np.array(TEXTURES)[texture[present]],
        "x": x[present], "y": y[present], "radius": radius[present], "rotation": rotation[present],
    }  # fmt: skip
    boxes = _boxes(labels, sample, number)
    objects = pd.DataFrame({**rows, **dict(zip(("left", "top", "right", "bottom"), boxes, strict=True))})
    return Scenes(images, labels, objects, np.array(BACKGROUNDS)[ground])


def _place(u: np.ndarray, radius: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres so that objects do not touch: of several random places the first that is free, or the freest, with a
    smaller object.
    """
    n, most = radius.shape
    tries = u.reshape(n, most, _TRIES, 2)
    x, y, radius = np.zeros((n, most)), np.zeros((n, most)), radius.copy()
    every = np.arange(n)
    for k in range(most):
        room = radius[:, k, None] + 1
        tx, ty = (room + tries[:, k, :, axis] * (size - 2 * room) for axis in (0, 1))  # (sample, try)
        gap = np.full(tx.shape, np.inf)
        for j in range(k):
            distance = np.hypot(tx - x[:, j, None], ty - y[:, j, None])
            gap = np.minimum(gap, distance - radius[:, j, None] - radius[:, k, None] - 2)
        best = np.where((gap >= 0).any(1), (gap >= 0).argmax(1), gap.argmax(1))
        x[:, k], y[:, k] = tx[every, best], ty[every, best]
        radius[:, k] = np.maximum(radius[:, k] + np.minimum(gap[every, best], 0), 0.06 * size)
    return x, y, radius


def _boxes(labels: np.ndarray, sample: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, ...]:
    """Left, top, right, bottom of each object's visible pixels."""
    mask = labels[sample] == (number + 1)[:, None, None]
    columns, rows = mask.any(1), mask.any(2)
    size = labels.shape[1]
    return columns.argmax(1), rows.argmax(1), size - columns[:, ::-1].argmax(1), size - rows[:, ::-1].argmax(1)


def _pick(u: np.ndarray, count: int) -> np.ndarray:
    """Uniform numbers in [0, 1) as choices from 0 to count - 1."""
    return (u * count).astype(np.intp)


def _codes(chosen: Sequence[str], names: Sequence[str]) -> np.ndarray:
    return np.array([list(names).index(c) for c in chosen])


def _background_concept(name: str) -> str:
    return f"{name} background"


def _check(n, size, n_objects, shapes, colours, textures, backgrounds, unique_shapes, tied, bias) -> None:
    for kind, chosen, names in (
        ("shape", shapes, SHAPES), ("colour", colours, COLOURS), ("texture", textures, TEXTURES),
        ("background", backgrounds, BACKGROUNDS), ("shape", tied or {}, SHAPES), ("background", (tied or {}).values(), BACKGROUNDS),
    ):  # fmt: skip
        for name in chosen:
            if name not in names:
                raise unknown(kind, name, names)
    if not (shapes and colours and textures and backgrounds):
        raise InputError("name at least one shape, colour, texture and background")
    if n < 1 or size < 32:
        raise InputError(f"n={n}, size={size}; allowed: n of 1 or more, size of 32 or more")
    if not 1 <= n_objects[0] <= n_objects[1] <= 4:
        raise InputError(f"n_objects={n_objects}; allowed: 1 <= fewest <= most <= 4")
    if unique_shapes and n_objects[1] > len(shapes):
        raise InputError(
            f"{n_objects[1]} objects of {len(shapes)} different shapes; name more shapes, or unique_shapes=False"
        )
    if not 0 <= bias <= 1:
        raise InputError(f"bias={bias}; it is a probability, 0 to 1")
