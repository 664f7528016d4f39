"""What networks there are, read off their own documentation, so that a list cannot fall behind the code."""

from __future__ import annotations

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
        As it is imported from `nissl.nn`.
    summary
        One line.
    sections
        Text by title: `Parameters`, `Notes` (the equations), `Examples`, `References` and what else there is; what comes
        before the first title is under the empty one.
    """

    name: str
    summary: str
    sections: dict[str, str]


def networks() -> dict[str, Entry]:
    """Every network of this room by name.

    Examples
    --------
    >>> networks()["LIF"].summary.startswith("Leaky integrate-and-fire")
    True
    """
    import nissl.nn as room
    from nissl.nn._cell import Cell

    found = {name: getattr(room, name) for name in room.__all__}
    modules = {n: v for n, v in found.items() if inspect.isclass(v) and issubclass(v, nn.Module) and v is not Cell}
    return {name: _read(name, module) for name, module in sorted(modules.items())}


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


def _read(name: str, module: type[nn.Module]) -> Entry:
    text = inspect.getdoc(module) or ""
    titles = list(_HEADING.finditer(text))
    ends = [*(t.start() for t in titles), len(text)]
    sections = {"": text[: ends[0]].strip()}
    sections |= {t["title"]: text[t.end() : end].strip("\n").rstrip() for t, end in zip(titles, ends[1:], strict=True)}
    return Entry(name, sections[""].split("\n\n")[0].replace("\n", " "), sections)
