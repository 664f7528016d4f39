"""What nissl raises, and how it says so.

Every error names what was given, what is allowed, the nearest match and how to go on. All of them are `NisslError`, so
that the command line can print one line and exit with 2, and each also is the built-in error that a Python user would
expect.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NisslError(Exception):
    """Anything that the person at the keyboard can mend."""


class InputError(NisslError, ValueError):
    """An argument, a picture, a text or a corpus that cannot be used."""


class UnknownNameError(NisslError, KeyError):
    """A name (model, site, class, method, paper) that does not exist."""

    def __str__(self) -> str:  # KeyError would print the repr, quotes and all
        return str(self.args[0]) if self.args else ""


class ModelError(NisslError, RuntimeError):
    """A network that cannot do what was asked: no gradient at the site, NaN weights, no generation head."""


class StoreError(NisslError, OSError):
    """A store on disk that cannot be written, is truncated, or belongs to another question."""


class DiagramError(NisslError, ValueError):
    """A diagram whose parts do not fit together."""


class MissingExtraError(NisslError, ImportError):
    """An optional dependency is not installed."""


def nearest(name: str, allowed: Iterable[str], n: int = 5, cutoff: float = 0.4) -> list[str]:
    """The `n` allowed names nearest to `name`, best first; case does not matter.

    `cutoff` is the least similarity, from 0 to 1, of names that do not contain the given one.

    Examples
    --------
    >>> nearest("efficientnet", ["efficientnet-lite0", "digits"])
    ['efficientnet-lite0']
    """
    names = {str(a).lower(): str(a) for a in allowed}
    close = difflib.get_close_matches(name.lower(), names, n=n, cutoff=cutoff)
    # A name that contains the given one is near, however much longer it is.
    inside = [low for low in names if name.lower() in low and low not in close]
    return [names[low] for low in (close + sorted(inside, key=len))[:n]]


def unknown(kind: str, name: object, allowed: Iterable[str], hint: str = "") -> UnknownNameError:
    """The error for a name that does not exist, with the nearest that do.

    Examples
    --------
    >>> str(unknown("model", "scnes", ["scenes", "digits"]))
    "unknown model 'scnes'; nearest: 'scenes'"
    """
    options = [str(a) for a in allowed]
    near = nearest(str(name), options)
    if near:
        rest = "nearest: " + ", ".join(repr(n) for n in near)
    elif options:
        shown = ", ".join(repr(o) for o in options[:10])
        rest = f"allowed: {shown}" + (f" and {len(options) - 10} more" if len(options) > 10 else "")
    else:
        rest = f"there is no {kind} to choose from"
    return UnknownNameError(f"unknown {kind} {name!r}; {rest}" + (f"; {hint}" if hint else ""))
