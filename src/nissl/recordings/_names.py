"""Names of neurons: cleaning them up, telling a name from a number, and where each belongs on a list."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nissl.errors import nearest

# A number with a word that every program uses says which column it was, not which neuron.
_COUNTED = re.compile(r"(neuron|cell|unit|roi|trace|column|col|channel|ch|id|signal|component|comp|var|feature)?[\s_.#:-]*\d+(\.0)?", re.I)  # fmt: skip
_PADDED = re.compile(r"(?<=[A-Za-z])0+(?=[1-9]\d*$)")


@dataclass(frozen=True)
class Matching:
    """Which of the names given is which of the list.

    Attributes
    ----------
    slots, columns
        Name `columns[k]` of those given is name `slots[k]` of the list.
    rest
        Names that are on no list, or given a second time.
    renamed
        What was read as what.
    repeated
        Names of the list that were given more than once; the first counts.
    """

    slots: np.ndarray
    columns: np.ndarray
    rest: np.ndarray
    renamed: dict[str, str] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)


def is_name(name: object) -> bool:
    """Whether this says which neuron it is, and not merely which column of a file.

    Examples
    --------
    >>> [is_name(n) for n in ("AVAL", "VD9", "17", "cell_003", "")]
    [True, True, False, False, False]
    """
    text = str(name).strip()
    return bool(text) and text.lower() not in ("nan", "none", "?", "unknown", "unlabeled", "unlabelled") and not _COUNTED.fullmatch(text)  # fmt: skip


def clean(name: object) -> str:
    """A name without spaces around it and without zeros before its number.

    Examples
    --------
    >>> clean(" DB01"), clean("VA10"), clean("AS001")
    ('DB1', 'VA10', 'AS1')
    """
    return _PADDED.sub("", str(name).strip())


def match_names(
    names: Sequence[object] | np.ndarray, wanted: Sequence[str] | np.ndarray, aliases: Mapping[str, str] | None = None
) -> Matching:
    """Find each name on a list: as it is, by `aliases`, without padding zeros, or in another case if only one fits.

    Examples
    --------
    >>> found = match_names(["DB01", "aval", "17"], ["AVAL", "DB1"])
    >>> found.slots.tolist(), found.columns.tolist(), found.rest.tolist()
    ([1, 0], [0, 1], [2])
    """
    slot = {str(name): i for i, name in enumerate(wanted)}
    folded: dict[str, list[str]] = {}
    for name in slot:
        folded.setdefault(clean(name).lower(), []).append(name)
    given = {str(k): str(v) for k, v in (aliases or {}).items()}
    found: dict[int, int] = {}
    rest: list[int] = []
    renamed: dict[str, str] = {}
    repeated: list[str] = []
    for column, raw in enumerate(map(str, names)):
        name = given.get(raw, raw)
        if name not in slot:
            near = folded.get(clean(name).lower(), [])
            name = near[0] if len(near) == 1 else name
        if name not in slot:
            rest.append(column)
        elif slot[name] in found:
            rest.append(column)
            repeated.append(name)
        else:
            found[slot[name]] = column
            if name != raw:
                renamed[raw] = name
    return Matching(
        np.array(list(found), dtype=int), np.array(list(found.values()), dtype=int), np.array(rest, dtype=int), renamed, repeated
    )  # fmt: skip


def suggestions(unknown: Sequence[object] | np.ndarray, wanted: Sequence[str] | np.ndarray, most: int = 5) -> str:
    """Unknown names with what they may have been meant to be.

    Examples
    --------
    >>> suggestions(["AVAX"], ["AVAL", "RIML"])
    "'AVAX' (nearest: 'AVAL')"
    """
    options = [str(w) for w in wanted]
    parts = []
    for name in list(map(str, unknown))[:most]:
        near = nearest(name, options, n=1)
        parts.append(f"{name!r}" + (f" (nearest: {near[0]!r})" if near else ""))
    more = len(unknown) - most
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def numbered(names: Sequence[object] | np.ndarray) -> np.ndarray:
    """The same names, all but the first of each numbered.

    Examples
    --------
    >>> numbered(["a", "b", "a"]).tolist()
    ['a', 'b', 'a (2)']
    """
    seen: dict[str, int] = {}
    out = []
    for name in map(str, names):
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return np.asarray(out, dtype=object)


def natural(name: object) -> list[object]:
    """A sort key that puts VD2 before VD10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part.lower()) for part in re.split(r"(\d+)", str(name))]
