"""The 302 neurons as a table."""

from __future__ import annotations

import csv
import json
from functools import lru_cache

import numpy as np
import pandas as pd

from nissl.recordings.worm._cect import read_cache
from nissl.recordings.worm._files import data_file
from nissl.recordings.worm._names import canonical_neurons, classes, clean_name, mirrored_name

# The atlas of positions is in units of a tenth of a millimetre (its numbers times 100 are the micrometres of OpenWorm's models).
MICROMETRES = 100.0
# Words of the categories of Cook et al. (2019), and the type that they make a neuron.
_TYPES = (
    ("polymodal", "polymodal"), ("motor neuron", "motor"), ("interneuron", "inter"), ("linker", "inter"), ("canal", "end organ"),
)  # fmt: skip
_GANGLIA = (
    "anterior pharyngeal bulb", "posterior pharyngeal bulb", "anterior ganglion", "dorsal ganglion", "lateral ganglion",
    "ventral ganglion", "retrovesicular ganglion", "ventral nerve cord", "midbody neurons", "preanal ganglion", "dorsorectal ganglion",
    "lumbar ganglion",
)  # fmt: skip


def neurons(which: str = "hermaphrodite-302") -> pd.DataFrame:
    """The adult hermaphrodite's neurons: class, type, transmitter, position.

    Parameters
    ----------
    which
        `hermaphrodite-302`, or `hermaphrodite-300` without the canal neurons.

    Returns
    -------
    pandas.DataFrame
        A row a neuron in alphabetical order, its name as index.

        - `class`: one of the 118 of White et al. (1986), such as RMD.
        - `type`: sensory, inter, motor, polymodal (pharyngeal neurons of several kinds) or end organ (the canal
          neurons), and `category`, the finer one of Cook et al. (2019) that it is read off.
        - `transmitter`: released according to Wang et al. (2024), several joined by a plus sign; empty where none is
          known.
        - `pharyngeal`: whether it belongs to the pharynx's own nervous system. `ganglion`: where its cell body lies.
        - `side`: L, R, or empty for a neuron in the middle. `partner`: the neuron on the other side.
        - `x`, `y`, `z`: place of the cell body in micrometres; left, towards the tail, and dorsal are positive.

    Raises
    ------
    MissingExtraError, UnknownNameError

    Examples
    --------
    >>> table = neurons()
    >>> len(table), table.loc["AVAL", "class"], table.loc["AVAL", "type"], table.loc["VD5", "transmitter"]
    (302, 'AVA', 'inter', 'GABA')
    """
    names = canonical_neurons(which)
    return _all_neurons().loc[list(names)].copy()


@lru_cache(maxsize=1)
def _all_neurons() -> pd.DataFrame:
    names = canonical_neurons("hermaphrodite-302")
    category, transmitter, place = _categories(), _transmitters(), _positions()
    ganglion = _ganglia()
    kind = classes(names)
    partner = {name: _partner(name, names) for name in names}
    table = pd.DataFrame(
        {
            "class": [kind[n] for n in names],
            "type": [_type(category[n]) for n in names],
            "category": [category[n] for n in names],
            "transmitter": [transmitter.get(n, "") for n in names],
            "pharyngeal": ["pharyn" in category[n].lower() and not n.startswith("RIP") for n in names],
            "ganglion": [ganglion.get(n, "") for n in names],
            "side": [n[-1] if partner[n] else "" for n in names],
            "partner": [partner[n] for n in names],
        },
        index=pd.Index(names, name="neuron"),
    )
    table[["x", "y", "z"]] = MICROMETRES * np.array([place.get(n, (np.nan,) * 3) for n in names])
    table.attrs["position_unit"] = "micrometre"
    return table


def cell_categories() -> dict[str, str]:
    """Category of every cell that cect knows, male neurons and muscles included."""
    return _categories()


@lru_cache(maxsize=1)
def _categories() -> dict[str, str]:
    path = data_file("cect", "data", "all_cell_info.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return {row[0].strip(): row[1] for row in rows[1:] if len(row) > 1}


def _type(category: str) -> str:
    low = category.lower().split(";")[0]
    return next((kind for word, kind in _TYPES if word in low), "sensory")


@lru_cache(maxsize=1)
def _transmitters() -> dict[str, str]:
    names, matrices = read_cache(data_file("cect", "cache", "Wang2024HermReader.json"))
    released: dict[str, list[str]] = {}
    for substance in sorted(matrices):
        out_degree = np.diff(matrices[substance].indptr)
        for i in np.flatnonzero(out_degree):
            released.setdefault(clean_name(names[i]), []).append(substance)
    return {name: "+".join(substances) for name, substances in released.items()}


def _positions() -> dict[str, tuple[float, ...]]:
    path = data_file("wormneuroatlas", "data", "anatlas_neuron_positions.txt")
    with path.open(encoding="utf-8") as file:
        names = file.readline().lstrip("#").split()
        places = np.loadtxt(file)
    return {clean_name(n): tuple(p) for n, p in zip(names, places, strict=True)}


def _ganglia() -> dict[str, str]:
    path = data_file("wormneuroatlas", "data", "aconnectome_ids_ganglia.json")
    table = json.loads(path.read_text(encoding="utf-8"))
    return {clean_name(n): g.removesuffix(" neurons") for g in _GANGLIA for n in table.get(g, ())}


def _partner(name: str, names: tuple[str, ...]) -> str:
    other = mirrored_name(name, names)
    return "" if other == name else other
