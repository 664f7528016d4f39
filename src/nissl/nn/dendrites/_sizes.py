"""Sizes of populations, patterns and segments: whole numbers that broadcast, and that can be."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from nissl.errors import InputError

WORDS = {
    "n": "cells",
    "a": "active cells",
    "s": "synapses",
    "theta": "the threshold",
    "b": "the overlap",
    "flipped": "flipped cells",
    "m": "patterns",
}


def sizes(**given: Any) -> list[np.ndarray]:
    """Counts as float64 arrays of one shape; what is negative, fractional, NaN or of shapes that do not fit is refused."""
    arrays = {name: np.asarray(value) for name, value in given.items()}
    for name, value in arrays.items():
        if value.dtype.kind not in "iuf" or not np.isfinite(value).all():
            raise InputError(f"{name} ({WORDS[name]}) is {_shown(value)}; allowed: whole numbers from 0")
        bad = (value < 0) | (value != np.rint(value))
        if bad.any():
            hint = "; round it first: numpy.rint" if (value[bad] > 0).all() else ""
            raise InputError(f"{name} ({WORDS[name]}) is {value[bad].flat[0]}; allowed: whole numbers from 0{hint}")
    try:
        return [v.astype(float) for v in np.broadcast_arrays(*arrays.values())]
    except ValueError as error:
        shapes = ", ".join(f"{name} {v.shape}" for name, v in arrays.items())
        raise InputError(f"shapes that do not broadcast: {shapes}") from error


def within(part: np.ndarray, whole: np.ndarray, name: str, of: str) -> None:
    """Refuse a part that is larger than its whole."""
    bad = part > whole
    if bad.any():
        raise InputError(
            f"{name} = {part[bad].flat[0]:.0f} {WORDS[name]} of {of} = {whole[bad].flat[0]:.0f} {WORDS[of]}; {name} may be {of} at most"
        )


def exactly(function: Any, *arrays: np.ndarray) -> Fraction | np.ndarray:
    """A function of Python integers, at every element: a Fraction, or an array of them."""
    return np.frompyfunc(lambda *v: function(*map(int, v)), len(arrays), 1)(*arrays)


def one_form(log: bool, exact: bool) -> None:
    """Logarithm or fraction, not both."""
    if log and exact:
        raise InputError("log=True and exact=True; a fraction has no exact logarithm: ask for one of them")


def _shown(value: np.ndarray) -> str:
    return f"{value.flat[0]!s}" if value.size == 1 else f"an array of {value.dtype} with what is no number"
