"""How a neuron of the worm is called: one canonical list, and the many ways in which laboratories write a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from nissl.errors import InputError, unknown
from nissl.recordings._names import clean
from nissl.recordings.worm._files import data_file

# The asymmetric pair of olfactory neurons is named after its state in atlases that pool animals; which side is which differs from
# animal to animal. Both packages place AWCOFF on the left.
ALIASES = {"AWCOFF": "AWCL", "AWCOF": "AWCL", "AWCON": "AWCR"}
# Both are end organs rather than neurons of the network (Cook et al. 2019): no synapse is known.
END_ORGANS = ("CANL", "CANR")
LISTS = ("hermaphrodite-300", "hermaphrodite-302")


@lru_cache(maxsize=2)
def canonical_neurons(which: str = "hermaphrodite-300") -> tuple[str, ...]:
    """Names of the adult hermaphrodite's neurons in alphabetical order.

    Parameters
    ----------
    which
        `hermaphrodite-300`, without the canal neurons CANL and CANR, which have no known synapse; or
        `hermaphrodite-302`.

    Raises
    ------
    UnknownNameError, MissingExtraError
        No such list, or wormneuroatlas is not installed.

    Examples
    --------
    >>> names = canonical_neurons()
    >>> len(names), names[0], names[-1], "CANL" in names
    (300, 'ADAL', 'VD9', False)
    """
    if which not in LISTS:
        raise unknown("list of neurons", which, LISTS)
    text = data_file("wormneuroatlas", "data", "neuron_ids.txt").read_text(encoding="utf-8")
    names = {_alias(line.split("\t")[1].strip()) for line in text.splitlines() if "\t" in line}
    return tuple(sorted(names | set(END_ORGANS) if which.endswith("302") else names - set(END_ORGANS)))


def clean_name(name: object) -> str:
    """One neuron's name in its canonical spelling: capitals, no zero before an index, AWCON and AWCOFF by their side.

    Case and surrounding blanks do not matter. Nothing is checked against the list; see `clean_names`.

    Examples
    --------
    >>> clean_name("DB01"), clean_name("VA10"), clean_name(" aval "), clean_name("AWCOFF")
    ('DB1', 'VA10', 'AVAL', 'AWCL')
    """
    return _alias(clean(name).upper())


def _alias(name: str) -> str:
    return ALIASES.get(name, name)


def clean_names(
    names: Iterable[object], *, unknown_names: str = "raise", which: str = "hermaphrodite-300"
) -> list[str | None]:
    """Canonical names, in the order given.

    Parameters
    ----------
    names
        Labels as a laboratory writes them.
    unknown_names
        `raise` names what is not in the list, with the nearest that are; `none` gives None there, as for neurons that a
        laboratory recorded and could not identify.

    Raises
    ------
    UnknownNameError
        A label that is in no list, where `unknown_names="raise"`.

    Examples
    --------
    >>> clean_names(["DB01", "AVAL", "Neuron 17"], unknown_names="none")
    ['DB1', 'AVAL', None]
    """
    if unknown_names not in ("raise", "none"):
        raise InputError(f"unknown_names={unknown_names!r}; allowed: 'raise', 'none'")
    known = canonical_neurons(which)
    allowed = frozenset(known)
    out: list[str | None] = []
    for label in names:
        name = clean_name(label)
        if name in allowed:
            out.append(name)
        elif unknown_names == "none":
            out.append(None)
        else:
            hint = "the canal neurons are left out of the list of 300" if name in END_ORGANS else ""
            raise unknown("neuron", str(label), known, hint)
    return out


def classes(names: Sequence[str]) -> dict[str, str]:
    """The class of each neuron (White et al. 1986): its name without side, quadrant or place in a row.

    Read off the whole list: a side is dropped only where the other side exists, dorsal and ventral only where both do.
    """
    known = set(names)

    def without_side(name: str) -> str:
        other = {"L": "R", "R": "L"}.get(name[-1])
        return name[:-1] if other and len(name) > 2 and name[:-1] + other in known else name

    stems = {name: without_side(name) for name in names}
    all_stems = set(stems.values())
    out = {}
    for name, stem in stems.items():
        other = {"D": "V", "V": "D"}.get(stem[-1])
        if other and len(stem) > 3 and (stem[:-1] in all_stems or stem[:-1] + other in all_stems):
            stem = stem[:-1]
        row = re.fullmatch(r"(AS|D[ABD]|V[ABCD])\d+", stem)
        out[name] = row[1] if row else stem
    return out


def mirrored_name(name: str, names: Iterable[str]) -> str:
    """The neuron on the other side, or the neuron itself where it has none.

    Examples
    --------
    >>> mirrored_name("AVAL", ["AVAL", "AVAR"]), mirrored_name("AVL", ["AVL"])
    ('AVAR', 'AVL')
    """
    other = {"L": "R", "R": "L"}.get(name[-1:])
    partner = name[:-1] + other if other else name
    return partner if partner in set(names) else name
