"""From the channels that mattered to a sentence.

Selvaraju et al. 2017, section 7: channels sorted by their importance to a class, each named by the concept it overlaps
with best (Bau et al. 2017, "Network Dissection"), joined into an explanation of what speaks for the class and what
against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool, Float
from torch import nn

from nissl.errors import InputError
from nissl.models import Frame, Model, load


@dataclass(frozen=True)
class ChannelText:
    """A sentence, and the channels it rests on.

    Attributes
    ----------
    text
        The sentence.
    channels
        A row a channel that is named in it: unit, importance, description.
    target
        What was explained.
    """

    text: str
    channels: pd.DataFrame
    target: str

    def __str__(self) -> str:
        return self.text


def channel_text(
    importance: xr.DataArray, descriptions: Mapping[int, str] | pd.Series, *, target: str | None = None, k: int = 3
) -> ChannelText:
    """Say in a sentence which channels speak for a target and which against it.

    Parameters
    ----------
    importance
        `(unit,)`, with sign: what `channel_importance` returned for one picture and one target.
    descriptions
        A few words a unit: a concept from `name_channels`, or what its exemplars show. Units without one are called by
        their number.
    target
        Name of the target; by default that of `importance`.
    k
        How many names on each side; channels of the same name are told once.

    Examples
    --------
    >>> alpha = xr.DataArray([0.5, -0.2, 0.1, 0.0], dims="unit", attrs={"target": "cat"})
    >>> print(channel_text(alpha, {0: "ears", 1: "wheels", 2: "fur"}, k=2))
    For "cat" speak ears and fur; against it speaks wheels.
    """
    if importance.dims != ("unit",):
        raise InputError(
            f"importance has axes {importance.dims}; choose one sample and one target, so that only 'unit' is left"
        )
    values = importance.values
    if not np.isfinite(values).all():
        raise InputError("the importance holds NaN")
    named: dict[int, str] = {int(unit): str(name) for unit, name in dict(descriptions).items()}  # type: ignore[call-overload]
    label = target or str(importance.attrs.get("target", "the target"))
    order = np.argsort(-values, kind="stable")
    chosen_for = _distinct([u for u in order if values[u] > 0], named, k)
    chosen_against = _distinct([u for u in order[::-1] if values[u] < 0], named, k)
    rows = [(u, float(values[u]), _name(u, named)) for u in [*chosen_for, *reversed(chosen_against)]]
    table = pd.DataFrame(rows, columns=["unit", "importance", "description"])
    return ChannelText(_sentence(label, chosen_for, chosen_against, named), table, label)


def name_channels(
    activity: Float[np.ndarray, "sample unit y x"] | xr.DataArray,
    concepts: Mapping[str, Bool[np.ndarray, "sample y x"]],
    *,
    quantile: float = 0.98,
    block: int = 256,
) -> pd.DataFrame:
    """Name channels by the concept that their strongest activity overlaps with best (network dissection).

    Parameters
    ----------
    activity
        Maps of a layer for annotated pictures.
    concepts
        For each concept where it is in those pictures; resized to the maps.
    quantile
        A channel is on where it exceeds this quantile of its own activity over all pictures and places.
    block
        Channels worked on at once.

    Returns
    -------
    pandas.DataFrame
        A row a channel (index `unit`): `concept`, its intersection over union `iou`, and `chance`: the best overlap of
        the same channel with its places shuffled over pictures, which is what any name gets for nothing.

    Raises
    ------
    InputError
        Nothing to name them by, pictures that do not match, NaN activity.
    """
    maps = np.asarray(activity)
    if maps.ndim != 4 or not concepts:
        raise InputError(
            f"activity of shape {maps.shape} and {len(concepts)} concepts; give (sample, unit, y, x) and at least one concept"
        )
    if not np.isfinite(maps).all():
        raise InputError("the activity holds NaN")
    n, units, h, w = maps.shape
    masks = np.stack([_shrunk(np.asarray(mask), n, h, w) for mask in concepts.values()])  # (concept, sample, y, x)
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    other = (
        np.roll(masks, max(1, n // 2), axis=1).reshape(len(masks), -1).astype(np.float32)
    )  # the same masks under other pictures
    names = np.array(list(concepts))
    found: list[pd.DataFrame] = []
    for start in range(0, units, block):
        part = maps[:, start : start + block].transpose(1, 0, 2, 3).reshape(-1, n * h * w)
        on = part > np.quantile(part, quantile, axis=1, keepdims=True)
        overlap, chance = _iou(on, flat), _iou(on, other)
        best = overlap.argmax(1)
        rows = {"concept": names[best], "iou": overlap.max(1), "chance": chance.max(1)}
        found.append(pd.DataFrame(rows, index=pd.RangeIndex(start, start + len(best), name="unit")))
    return pd.concat(found)


def exemplars(
    model: Model | nn.Module,
    units: Any,
    pictures: Mapping[str, Any] | list[Any],
    site: str,
    *,
    k: int = 4,
    batch_size: int = 16,
) -> pd.DataFrame:
    """Which parts of a set of pictures drive each unit most.

    Parameters
    ----------
    units
        Channels of the site.
    pictures
        Photographs, by name or in a list.
    site
        A site with axes (sample, unit, y, x).
    k
        How many pictures a unit.

    Returns
    -------
    pandas.DataFrame
        A row a unit and rank: unit, rank, picture, activity (the peak), and the box left, top, right, bottom of the
        peak's surroundings, a third of the network's view wide, in the photograph's pixels.
    """
    from nissl.activity import top_examples

    model = load(model)
    names = list(pictures) if isinstance(pictures, Mapping) else list(range(len(pictures)))
    images = list(pictures.values()) if isinstance(pictures, Mapping) else list(pictures)
    wanted = np.atleast_1d(np.asarray(units))
    top = top_examples(model, images, site, k=min(k, len(images)), units=wanted, batch_size=batch_size, progress=False)
    if "y" not in top:
        raise InputError(f"site {site!r} has no places; exemplar crops need axes (sample, unit, y, x)")
    frames = [model.prepare(image).frames[0] for image in images]  # type: ignore[index]
    rows = []
    for u, unit in enumerate(wanted):
        for rank in range(top.sizes["rank"]):
            sample = int(top["sample"].values[u, rank])
            box = _surroundings(
                frames[sample],
                int(top["y"].values[u, rank]),
                int(top["x"].values[u, rank]),
                top.attrs["height"],
                top.attrs["width"],
            )
            rows.append((int(unit), rank, names[sample], float(top["value"].values[u, rank]), *box))
    return pd.DataFrame(rows, columns=["unit", "rank", "picture", "activity", "left", "top", "right", "bottom"])


def _surroundings(
    frame: Frame, row: int, column: int, h: int, w: int, share: float = 1 / 3
) -> tuple[int, int, int, int]:
    """A square around a place of the map, moved so that it stays within what the network saw."""
    y, x = frame.coords(h, w)
    side = share * min(frame.right - frame.left, frame.bottom - frame.top)
    left = float(np.clip(x[column] - side / 2, frame.left, frame.right - side))
    top = float(np.clip(y[row] - side / 2, frame.top, frame.bottom - side))
    return round(left), round(top), round(left + side), round(top + side)


def _iou(on: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Intersection over union of every channel with every concept, as one matrix product."""
    on = on.astype(np.float32)
    both = on @ masks.T
    union = on.sum(1)[:, None] + masks.sum(1)[None, :] - both
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _shrunk(mask: np.ndarray, n: int, h: int, w: int) -> np.ndarray:
    """A mask on the grid of the maps: a place counts where at least half of it is covered."""
    if mask.ndim != 3 or len(mask) != n:
        raise InputError(f"a concept mask of shape {mask.shape} for {n} pictures; give (sample, y, x)")
    if mask.shape[1:] == (h, w):
        return mask.astype(bool)
    if mask.shape[1] % h == 0 and mask.shape[2] % w == 0:
        return mask.reshape(n, h, mask.shape[1] // h, w, mask.shape[2] // w).mean((2, 4)) >= 0.5
    from skimage.transform import resize

    return np.asarray(resize(mask.astype(np.float32), (n, h, w), order=1, anti_aliasing=True)) >= 0.5


def _distinct(units: list[int], named: Mapping[int, str], k: int) -> list[int]:
    """The first `k` units with different names."""
    seen: dict[str, int] = {}
    for unit in units:
        seen.setdefault(_name(unit, named), int(unit))
        if len(seen) == k:
            break
    return list(seen.values())


def _name(unit: int, named: Mapping[int, str]) -> str:
    return str(named.get(int(unit), f"channel {int(unit)}"))


def _sentence(label: str, chosen_for: list[int], chosen_against: list[int], named: Mapping[int, str]) -> str:
    supporting, opposing = ([_name(u, named) for u in side] for side in (chosen_for, chosen_against))
    if supporting and opposing:
        return f'For "{label}" {_speak(supporting)}; against it {_speak(opposing)}.'
    if supporting:
        return f'For "{label}" {_speak(supporting)}; nothing speaks against it.'
    if opposing:
        return f'Nothing speaks for "{label}"; against it {_speak(opposing)}.'
    return f'No channel matters to "{label}".'


def _speak(names: list[str]) -> str:
    if len(names) == 1:
        return f"speaks {names[0]}"
    return f"speak {', '.join(names[:-1])} and {names[-1]}"
