"""What an output is worth when another is right: exact match, shared tokens, shared pieces of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from nissl.errors import InputError, unknown

ORDER, RECALL_WEIGHT = 6, 2.0  # of chrF, as Popovic (2015) has it
Gain = str | Callable[[Any, Any], float]


def gain_matrix(
    outputs: Sequence[Any],
    gain: Gain | Float[np.ndarray, "class class"] = "exact",
    *,
    against: Sequence[Any] | None = None,
) -> Float[np.ndarray, "output other"]:
    """Worth of each output where each other is the right one, all pairs at once.

    Parameters
    ----------
    outputs
        Sequences of tokens, or texts.
    gain
        `exact`: 1 where they are equal. `overlap`: F1 of the tokens they share, counted as often as they occur. `chrf`: F2 of the
        pieces of up to six letters that texts share, mean over lengths, white space left out. Or a function of two outputs; or, where outputs are classes, a table (class,
        right class).
    against
        The others; the outputs themselves where None.

    Raises
    ------
    UnknownNameError
        No such gain.
    InputError
        `chrf` of what is no text; no outputs; a function that gives NaN; a table that does not hold the classes.

    References
    ----------
    Popovic (2015), chrF: character n-gram F-score for automatic MT evaluation.

    Examples
    --------
    >>> gain_matrix([[1, 2, 3], [1, 2, 4]], "overlap").round(2).tolist()
    [[1.0, 0.67], [0.67, 1.0]]
    """
    outputs = _plain(outputs)
    others = outputs if against is None else _plain(against)
    if not len(outputs) or not len(others):
        raise InputError("there are no outputs to compare")
    if isinstance(gain, np.ndarray):
        return _from_table(gain, outputs, others)
    if callable(gain):
        return _finite(np.array([[float(gain(a, b)) for b in others] for a in outputs]))
    if gain not in GAINS:
        raise unknown("gain", gain, GAINS)
    return GAINS[gain](outputs, others)


def _from_table(table: np.ndarray, outputs: Sequence[int], others: Sequence[int]) -> np.ndarray:
    rows, columns = np.array(outputs), np.array(others)
    most = max(int(rows.max()), int(columns.max())) if rows.dtype.kind == columns.dtype.kind == "i" else -1
    if table.ndim != 2 or most < 0 or most >= min(table.shape):
        raise InputError(f"a table of gains of shape {table.shape} goes with classes from 0 to {min(table.shape) - 1}")
    return _finite(table[np.ix_(rows, columns)].astype(float))


def _finite(gains: np.ndarray) -> np.ndarray:
    if not np.isfinite(gains).all():
        raise InputError("a gain is NaN or infinite")
    return gains


def _exact(outputs: Sequence[Sequence[Hashable]], others: Sequence[Sequence[Hashable]]) -> np.ndarray:
    number: dict[Hashable, int] = {}
    rows, columns = (np.array([number.setdefault(_key(o), len(number)) for o in side]) for side in (outputs, others))
    return (rows[:, None] == columns).astype(float)


def _overlap(outputs: Sequence[Sequence[Hashable]], others: Sequence[Sequence[Hashable]]) -> np.ndarray:
    for output in (*outputs, *others):
        if not isinstance(output, Sequence):
            raise InputError(
                f"overlap compares sequences of tokens, and {output!r:.60} is {type(output).__name__}; use gain='exact'"
            )
    shared, a, b = _shared([Counter(o) for o in outputs], [Counter(o) for o in others])
    both = a[:, None] + b
    return np.where(both > 0, 2 * shared / np.maximum(both, 1), 1.0)  # two empty outputs are equal


def _chrf(outputs: Sequence[Sequence[Hashable]], others: Sequence[Sequence[Hashable]]) -> np.ndarray:
    for text in (*outputs, *others):
        if not isinstance(text, str):
            raise InputError(f"chrf compares texts, and {text!r:.60} is {type(text).__name__}; use gain='overlap'")
    rows, columns = (["".join(str(t).split()) for t in side] for side in (outputs, others))
    precision = recall = orders = 0.0
    for n in range(1, ORDER + 1):
        left, right = ([Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in side] for side in (rows, columns))
        shared, a, b = _shared(left, right)
        counted = (a[:, None] > 0) & (b > 0)  # lengths that both texts have
        precision = precision + np.where(counted, shared / np.maximum(a[:, None], 1), 0)
        recall = recall + np.where(counted, shared / np.maximum(b, 1), 0)
        orders = orders + counted
    precision, recall = precision / np.maximum(orders, 1), recall / np.maximum(orders, 1)
    weight = RECALL_WEIGHT**2
    score = (1 + weight) * precision * recall / np.maximum(weight * precision + recall, 1e-16)
    return np.where(_exact(rows, columns) > 0, 1.0, score)


def _shared(rows: list[Counter], columns: list[Counter]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For all pairs how many items they share, an item as often as the rarer has it; and how many each has."""
    number: dict[Hashable, int] = {}
    left, right = (_counts(side, number) for side in (rows, columns))
    width = max(len(number), 1)
    for side in (left, right):
        side.resize((len(side.indptr) - 1, width))
    # min(a, b) is the sum over k of (a >= k)(b >= k): a few sparse products in place of a table of triples.
    shared = np.zeros((len(rows), len(columns)))
    most = int(min(left.data.max(initial=0), right.data.max(initial=0)))
    for k in range(1, most + 1):
        one, other = (
            csr_array((side.data >= k, side.indices, side.indptr), side.shape, dtype=float) for side in (left, right)
        )
        shared += (one @ other.T).toarray()
    return shared, np.asarray(left.sum(1)).ravel(), np.asarray(right.sum(1)).ravel()


def _counts(side: list[Counter], number: dict[Hashable, int]) -> csr_array:
    places = [[number.setdefault(item, len(number)) for item in counter] for counter in side]
    data = np.array([count for counter in side for count in counter.values()], dtype=float)
    ends = np.cumsum([0, *(len(p) for p in places)])
    flat = np.array([p for row in places for p in row], dtype=np.int64)
    return csr_array((data, flat, ends), shape=(len(side), max(len(number), 1)))


def _plain(outputs: Any) -> Any:
    """Arrays and tensors as lists, which can be compared."""
    if isinstance(outputs, str):
        raise InputError(f"outputs are the text {outputs!r:.40}; give a list of outputs")
    listed = outputs.tolist() if hasattr(outputs, "tolist") else list(outputs)
    return [o.tolist() if hasattr(o, "tolist") else o for o in listed]


def _key(output: Any) -> Hashable:
    return tuple(output) if isinstance(output, list | np.ndarray) else output


GAINS = {"exact": _exact, "overlap": _overlap, "chrf": _chrf}
