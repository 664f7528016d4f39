"""Linear steps over time as sparse matrices made for a stretch of samples at a time.

Smoothing, differences and resampling are all matrices with a narrow band, the same for every unit. A step is told which rows
are wanted, says which samples it needs for them, and gives the matrix between the two. Steps in a row are multiplied
together once a stretch, so that a unit with nothing missing costs one product; units with missing samples go step by step,
under each step's own rule about what is missing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float


@dataclass(frozen=True)
class Rows:
    """Some rows of an operator, cut to the samples they need, which begin with sample `first`."""

    matrix: sp.csr_matrix
    first: int
    void: np.ndarray  # rows that nothing is known about, whatever the data


class Operator(ABC):
    """A linear step from `n_in` samples to `n_out`."""

    n_in: int
    n_out: int

    @abstractmethod
    def ready(self, known: int) -> int:
        """How many rows can be had from the first `known` samples."""

    @abstractmethod
    def needs(self, start: int, stop: int) -> tuple[int, int]:
        """First and one past the last sample that rows `start` to `stop` need."""

    @abstractmethod
    def rows(self, start: int, stop: int, void: np.ndarray) -> Rows:
        """The matrix of these rows; `void` says which of the samples it needs are known to nobody."""

    def masked(self, rows: Rows, x: Float[np.ndarray, "time unit"], start: int) -> Float[np.ndarray, "row unit"]:
        """The rows of data with missing samples: missing where any sample that counts is missing."""
        return rows.matrix @ x


class Smoothing(Operator):
    """Weighted means of the present sample and those before it; never across a break of the clock.

    Missing samples are left out of the mean, and stay missing themselves. Where there is less past than weights, the mean is
    over the past there is.
    """

    def __init__(self, weights: Float[np.ndarray, "lag"], segment: np.ndarray) -> None:
        self.weights = np.asarray(weights, dtype=float)
        self.segment = segment  # for every sample, the first sample after the last break
        self.n_in = self.n_out = len(segment)

    def ready(self, known: int) -> int:
        return known

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        return max(0, start - len(self.weights) + 1), stop

    def rows(self, start: int, stop: int, void: np.ndarray) -> Rows:
        first, last = self.needs(start, stop)
        lag = np.arange(len(self.weights))
        column = np.arange(start, stop)[:, None] - lag
        weight = np.where(column >= self.segment[start:stop, None], self.weights, 0.0)
        if void.any():
            weight *= ~void[np.maximum(column - first, 0)]
        total = weight.sum(1, keepdims=True)
        weight = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
        return Rows(_csr(weight, column - first, last - first), first, void[start - first :])

    def masked(self, rows: Rows, x: Float[np.ndarray, "time unit"], start: int) -> Float[np.ndarray, "row unit"]:
        known = ~np.isnan(x)
        share = rows.matrix @ known.astype(float)
        here = known[start - rows.first :]
        return np.divide(rows.matrix @ np.where(known, x, 0.0), share, out=np.full(share.shape, np.nan), where=here & (share > 0))  # fmt: skip


class Gradient(Operator):
    """Second-order differences on an uneven clock, as `numpy.gradient(x, time)`; one-sided at the ends and at breaks."""

    def __init__(self, time: Float[np.ndarray, "time"], segment: np.ndarray) -> None:
        self.time, self.segment = time, segment
        self.n_in = self.n_out = len(time)

    def ready(self, known: int) -> int:
        return known if known == self.n_in else max(0, known - 1)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        return max(0, start - 1), min(self.n_in, stop + 1)

    def rows(self, start: int, stop: int, void: np.ndarray) -> Rows:
        first, last = self.needs(start, stop)
        here = np.arange(start, stop)
        has_past = here > self.segment[start:stop]
        after = np.minimum(here + 1, self.n_in - 1)
        has_future = (after > here) & (self.segment[after] == self.segment[here])
        past = np.where(has_past, self.time[here] - self.time[here - 1], np.inf)
        future = np.where(has_future, self.time[after] - self.time[here], np.inf)
        both = has_past & has_future
        with np.errstate(invalid="ignore"):
            w_past = np.where(both, -future / (past * (past + future)), np.where(has_past, -1 / past, 0.0))
            w_future = np.where(both, past / (future * (past + future)), np.where(has_future, 1 / future, 0.0))
        weight = np.stack([w_past, -(w_past + w_future), w_future], 1)
        column = np.stack([here - 1, here, here + 1], 1)
        alone = ~(has_past | has_future)
        return Rows(
            _csr(weight, column - first, last - first, keep=1), first, void[start - first :][: len(here)] | alone
        )


class Interpolation(Operator):
    """Values between samples by a polynomial through the nearest ones; nothing inside a break of the clock.

    `degree` 1 joins neighbours by straight lines, 2 and 3 use the three or four samples around (Lagrange's polynomial), which
    is exact for parabolas and cubics.
    """

    def __init__(
        self, time: Float[np.ndarray, "time"], segment: np.ndarray, target: Float[np.ndarray, "row"], degree: int = 1
    ) -> None:
        self.time, self.segment, self.target, self.degree = time, segment, target, degree
        self.n_in, self.n_out = len(time), len(target)
        self.left = np.clip(np.searchsorted(time, target, side="right") - 1, 0, len(time) - 1)
        self.ends = _segment_ends(segment)

    def ready(self, known: int) -> int:
        if known >= self.n_in:
            return self.n_out
        return int(np.searchsorted(self.left, known - self.degree - 1, side="right"))

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        if stop <= start:
            return 0, 0
        back = self.degree + 1
        first = max(0, int(self.left[start]) - back)
        return first, min(self.n_in, int(self.left[stop - 1]) + self.degree + 1)

    def rows(self, start: int, stop: int, void: np.ndarray) -> Rows:
        first, last = self.needs(start, stop)
        at, left = self.target[start:stop], self.left[start:stop]
        right = np.minimum(left + 1, self.n_in - 1)
        exact = self.time[left] == at
        broken = ~exact & ((self.segment[right] != self.segment[left]) | (right == left))
        if self.degree == 1:
            step = np.where(right > left, self.time[right] - self.time[left], 1.0)
            share = np.where(exact | broken, 0.0, (at - self.time[left]) / step)
            weight, column = np.stack([1 - share, share], 1), np.stack([left, left + 1], 1)
        else:
            weight, column = self._lagrange(at, left, exact | broken)
        matrix = _csr(weight, column - first, last - first)
        touched = abs(matrix) @ void.astype(float) > 0 if void.any() else np.zeros(len(at), dtype=bool)
        return Rows(matrix, first, broken | touched)

    def _lagrange(self, at: np.ndarray, left: np.ndarray, plain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the `degree + 1` samples around each point; fewer where a break of the clock is near."""
        k = self.degree + 1
        low, high = self.segment[left], self.ends[left]  # the samples of this segment: low <= i < high
        first = np.clip(left - (1 if k == 4 else 0), low, np.maximum(low, high - k))
        column = first[:, None] + np.arange(k)
        inside = column < high[:, None]
        t = self.time[np.minimum(column, self.n_in - 1)]
        weight = np.ones((len(at), k))
        for j in range(k):
            for m in range(k):
                if m != j:
                    ratio = (at - t[:, m]) / np.where(t[:, j] == t[:, m], 1.0, t[:, j] - t[:, m])
                    weight[:, j] *= np.where(inside[:, m], ratio, 1.0)
        weight *= inside
        weight[plain] = (column == left[:, None])[plain]
        return weight, column


class Grouping(Operator):
    """Means of groups of `size` samples that do not overlap; missing unless half of the group is there."""

    def __init__(self, n_in: int, size: int) -> None:
        self.size, self.n_in, self.n_out = size, n_in, n_in // size

    def ready(self, known: int) -> int:
        return min(self.n_out, known // self.size)

    def needs(self, start: int, stop: int) -> tuple[int, int]:
        return start * self.size, stop * self.size

    def rows(self, start: int, stop: int, void: np.ndarray) -> Rows:
        known = ~void.reshape(-1, self.size)
        total = known.sum(1, keepdims=True)
        weight = known / np.maximum(total, 1)
        column = np.arange(len(void)).reshape(-1, self.size)
        return Rows(_csr(weight, column, len(void)), start * self.size, total[:, 0] * 2 < self.size)

    def masked(self, rows: Rows, x: Float[np.ndarray, "time unit"], start: int) -> Float[np.ndarray, "row unit"]:
        groups = x.reshape(-1, self.size, x.shape[1])
        known = ~np.isnan(groups)
        total = known.sum(1)
        return np.divide(np.where(known, groups, 0.0).sum(1), total, out=np.full(total.shape, np.nan), where=total * 2 >= self.size)  # fmt: skip


def segments(time: Float[np.ndarray, "time"], max_gap: float) -> np.ndarray:
    """For every sample, the first sample since the last break: a step of the clock longer than `max_gap` seconds."""
    start = np.zeros(len(time), dtype=np.int64)
    broken = np.flatnonzero(np.diff(time) > max_gap) + 1
    start[broken] = broken
    return np.maximum.accumulate(start)


def _segment_ends(segment: np.ndarray) -> np.ndarray:
    """For every sample, one past the last sample of its segment."""
    starts = np.append(np.unique(segment), len(segment))
    return starts[np.searchsorted(starts, segment, side="right")]


def _csr(weight: np.ndarray, column: np.ndarray, width: int, keep: int | None = None) -> sp.csr_matrix:
    """A sparse matrix from a few weights a row; zeros are left out but for column number `keep` of `weight`."""
    used = weight != 0
    if keep is not None:
        used[:, keep] = True
    indptr = np.concatenate([[0], np.cumsum(used.sum(1))])
    return sp.csr_matrix((weight[used], column[used], indptr), shape=(len(weight), width))
