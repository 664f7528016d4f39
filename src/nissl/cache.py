"""The folder where nissl keeps what it made itself and would not like to make twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from nissl.errors import InputError


def cache_folder() -> Path:
    """`NISSL_CACHE` (`~` is the user's home), else `nissl` in the user's cache folder.

    Examples
    --------
    >>> cache_folder().name != ""
    True
    """
    given = os.environ.get("NISSL_CACHE")
    return (
        Path(given).expanduser()
        if given
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nissl"
    )


def cached_arrays(
    name: str,
    settings: Mapping[str, Any],
    make: Callable[[], dict[str, np.ndarray]],
    *,
    version: int = 1,
    names: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Arrays that were made before with the same settings, or are made now and kept.

    Parameters
    ----------
    name
        What they are, part of the file's name.
    settings
        All they depend on; anything JSON can say, and numpy's numbers and arrays.
    make
        Makes them.
    version
        Raised when `make` changes what it gives.
    names
        Arrays that must be there; a file without one of them is made again.

    Raises
    ------
    InputError
        A seed that is None: one draw by chance would be kept, and given for ever.

    Examples
    --------
    >>> cached_arrays("doctest", {"n": 3}, lambda: {"x": np.arange(3)})["x"].tolist()
    [0, 1, 2]
    """
    if settings.get("seed", 0) is None:
        raise InputError("seed=None; allowed: a whole number, as what is drawn is kept and given again")
    said = json.dumps({**settings, "version": version}, sort_keys=True, default=_plain)
    key = hashlib.sha256(said.encode()).hexdigest()[:16]
    path = cache_folder() / "data" / f"{name}-{key}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {k: found[k] for k in found.files}
            if arrays.keys() >= set(names):
                return arrays
        except Exception:  # whatever a damaged file makes the reader raise: it is made again
            path.unlink(missing_ok=True)
    made = make()
    part = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(part, **made)  # type: ignore[arg-type]
        part.replace(path)  # whole or not at all, also with two processes at once
    except OSError:  # a home that cannot be written only costs the next process its time
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return made


def _plain(value: Any) -> Any:
    """What JSON can say of numpy's numbers and arrays."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} among the settings of a data set")
