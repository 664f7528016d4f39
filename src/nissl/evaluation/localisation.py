"""Does the map lie on the object? Tests against ground truth: pointing game, energy inside, boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation, label

from nissl.errors import InputError
from nissl.evaluation._maps import as_maps, as_masks
from nissl.evaluation.controls import shifted
from nissl.statistics import Measured, measure

_REPEATS = 20


def pointing_game(
    maps: Any, masks: Any, *, tolerance: int = 0, threshold: float | None = None, seed: int = 0
) -> Measured:
    """How often the maximum of the map lies inside the object (Zhang et al. 2016).

    Parameters
    ----------
    maps
        `(sample, y, x)`.
    masks
        Where the object is, of the same shape. An empty mask means that the object is not there: then only a map that
        says so is right.
    tolerance
        Pixels by which the maximum may miss.
    threshold
        A map whose maximum is lower says "not there" (section 4.1 of the Grad-CAM paper); None never says so.
    seed
        For the control: the same maps shifted at random, which hit as often as chance does.

    Examples
    --------
    >>> maps = np.zeros((1, 4, 4)); maps[0, 1, 2] = 1
    >>> pointing_game(maps, maps > 0).value
    1.0
    """
    values = as_maps(maps)
    inside = as_masks(masks, values)
    present = np.asarray(inside.any((1, 2)))
    if threshold is None and not present.all():
        raise InputError(
            f"mask {int((~present).argmax())} is empty; give threshold=..., so that a map can say that the object is not there"
        )
    if tolerance:
        y, x = np.mgrid[-tolerance : tolerance + 1, -tolerance : tolerance + 1]
        inside = binary_dilation(inside, structure=(np.hypot(y, x) <= tolerance)[None])
    copies = shifted(values, _REPEATS, seed=seed)
    hits = _hits(values, inside, present, threshold)
    chance = np.mean([_hits(c, inside, present, threshold) for c in copies], 0)
    return measure("pointing game", hits, chance, seed=seed)


def energy_inside(maps: Any, masks: Any, control_masks: Any = None, *, seed: int = 0) -> Measured:
    """The share of the map's positive mass that lies inside the object (Wang et al. 2020).

    Parameters
    ----------
    maps, masks
        `(sample, y, x)`.
    control_masks
        Masks of another object in the same pictures, whose share is then the control; by default the same maps shifted
        at random.
    """
    values = as_maps(maps)
    inside = as_masks(masks, values)
    _refuse_empty(inside)
    share = _share(values, inside)
    if control_masks is not None:
        return measure("map mass inside", share, _share(values, as_masks(control_masks, values)), seed=seed)
    chance = np.mean([_share(c, inside) for c in shifted(values, _REPEATS, seed=seed)], 0)
    return measure("map mass inside", share, chance, seed=seed)


def localise(maps: Any, boxes: Any, *, threshold: float = 0.15, iou: float = 0.5, seed: int = 0) -> Measured:
    """How often the box around the largest bright region overlaps the true box enough (Grad-CAM paper, section 4.1).

    Parameters
    ----------
    maps
        `(sample, y, x)`.
    boxes
        Left, top, right, bottom in pixels of the map, `(sample, 4)`.
    threshold
        Bright is what exceeds this share of the map's maximum.
    iou
        Enough is this intersection over union.

    Returns
    -------
    Measured
        Rate of enough overlap. The control is a box in the middle of every picture, of the median true width and
        height: the best that can be said without looking.
    """
    values = as_maps(maps)
    truth = np.atleast_2d(np.asarray(boxes, dtype=float))
    if truth.shape != (len(values), 4) or not np.isfinite(truth).all():
        raise InputError(f"boxes of shape {truth.shape} for {len(values)} maps; give left, top, right, bottom for each")
    found = threshold_boxes(values, threshold)
    h, w = values.shape[1:]
    half_w, half_h = np.median(truth[:, 2] - truth[:, 0]) / 2, np.median(truth[:, 3] - truth[:, 1]) / 2
    centre = np.array([w / 2 - half_w, h / 2 - half_h, w / 2 + half_w, h / 2 + half_h])
    name = f"boxes with IoU of {iou} or more"
    return measure(
        name, box_iou(found, truth) >= iou, box_iou(np.broadcast_to(centre, truth.shape), truth) >= iou, seed=seed
    )


def threshold_boxes(maps: Any, threshold: float = 0.15) -> Float[np.ndarray, "sample 4"]:
    """The box around the largest connected region above a share of each map's maximum: left, top, right, bottom; a dark
    map gives the whole picture.

    Examples
    --------
    >>> maps = np.zeros((1, 6, 6)); maps[0, 1:3, 2:5] = 1
    >>> threshold_boxes(maps)[0].tolist()
    [2.0, 1.0, 5.0, 3.0]
    """
    if not 0 <= threshold < 1:
        raise InputError(f"threshold={threshold}; it is a share of the maximum, from 0 to 1")
    values = as_maps(maps)
    peak = values.max((1, 2), keepdims=True)
    bright = (values > threshold * peak) & (peak > 0)
    boxes = []
    for mask in bright:  # connected components are found picture by picture
        regions, count = label(mask, structure=np.ones((3, 3)))  # type: ignore[misc]
        sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
        largest = regions == sizes.argmax() + 1 if count else np.ones_like(mask)
        rows, columns = np.flatnonzero(largest.any(1)), np.flatnonzero(largest.any(0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return np.array(boxes, dtype=float)


def box_iou(a: Any, b: Any) -> Float[np.ndarray, "sample"]:
    """Intersection over union of boxes, pair by pair.

    Examples
    --------
    >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2]]).round(3).tolist()
    [0.333]
    """
    a, b = (np.atleast_2d(np.asarray(v, dtype=float)) for v in (a, b))
    size = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    both = size.prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _hits(
    values: np.ndarray, inside: Bool[np.ndarray, "sample y x"], present: np.ndarray, threshold: float | None
) -> np.ndarray:
    flat = values.reshape(len(values), -1)
    place = flat.argmax(1)
    hit = inside.reshape(len(values), -1)[np.arange(len(values)), place]
    if threshold is None:
        return hit
    says_there = flat.max(1) >= threshold
    return np.where(present, hit & says_there, ~says_there)


def _share(values: np.ndarray, inside: np.ndarray) -> Float[np.ndarray, "sample"]:
    """An empty map has its mass nowhere: share 0."""
    mass = np.clip(values, 0, None)
    total = mass.sum((1, 2))
    return np.divide((mass * inside).sum((1, 2)), total, out=np.zeros_like(total), where=total > 0)


def _refuse_empty(inside: np.ndarray) -> None:
    empty = ~inside.any((1, 2))
    if empty.any():
        raise InputError(f"mask {int(empty.argmax())} is empty; every map needs an object to be on")
