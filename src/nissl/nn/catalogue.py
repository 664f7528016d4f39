"""What networks there are, read off their own documentation, so that a list cannot fall behind the code."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass

from torch import nn

from nissl.errors import unknown

_HEADING = re.compile(r"^(?P<title>[A-Z][A-Za-z ]+)\n-{3,}$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A network and what its documentation says.

    Attributes
    ----------
    name
        As it is imported from `room`.
    room
        `nissl.nn`, or `nissl.nn.operators`.
    summary
        One line.
    sections
        Text by title: `Parameters`, `Notes` (the equations), `Examples`, `References` and what else there is; what comes
        before the first title is under the empty one.
    """

    name: str
    room: str
    summary: str
    sections: dict[str, str]


def networks() -> dict[str, Entry]:
    """Every network of this room by name.

    Examples
    --------
    >>> networks()["LIF"].summary.startswith("Leaky integrate-and-fire")
    True
    """
    from nissl.nn._cell import Cell

    found = {}
    for room in ("nissl.nn", "nissl.nn.operators"):
        content = importlib.import_module(room)
        values = {name: getattr(content, name) for name in content.__all__}
        found |= {n: (v, room) for n, v in values.items() if inspect.isclass(v) and issubclass(v, nn.Module)}
    return {name: _read(name, *entry) for name, entry in sorted(found.items()) if entry[0] is not Cell}


def network(name: str) -> Entry:
    """One network; upper and lower case are the same.

    Raises
    ------
    UnknownNameError
        No such network; the message lists the nearest.
    """
    known = networks()
    own = {n.lower(): n for n in known}.get(name.lower())
    if own is None:
        raise unknown("network", name, known)
    return known[own]


def _read(name: str, module: type[nn.Module], room: str) -> Entry:
    text = inspect.getdoc(module) or ""
    titles = list(_HEADING.finditer(text))
    ends = [*(t.start() for t in titles), len(text)]
    sections = {"": text[: ends[0]].strip()}
    sections |= {t["title"]: text[t.end() : end].strip("\n").rstrip() for t, end in zip(titles, ends[1:], strict=True)}
    return Entry(name, room, sections[""].split("\n\n")[0].replace("\n", " "), sections)
