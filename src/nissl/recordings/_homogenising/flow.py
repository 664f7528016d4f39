"""Running steps over a recording a stretch at a time, in memory that does not grow with its length.

A processor is pushed stretches of samples, one after another, and gives back what it can say by then; `close` gives the rest.
Whatever the stretches, the answer is the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError
from nissl.recordings._files.lazy import plain_array
from nissl.recordings._homogenising.operators import Operator, Rows
from nissl.recordings._traces import listed

MOST = 2**24  # values of a chunked file that may stand in memory at once
BLOCK = 2**20  # values in one stretch: eight megabytes, large enough that making the operators costs little


class Processor(Protocol):
    """A step with a memory."""

    def push(self, x: Float[np.ndarray, "time unit"]) -> Float[np.ndarray, "row unit"]:
        """The next stretch of samples."""
        ...

    def close(self) -> Float[np.ndarray, "row unit"] | None:
        """What is left at the end."""
        ...


Stage = Operator | Processor


class LinearChain:
    """Several operators in a row, as one product a stretch."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = list(operators)
        self.seen = self.done = self.kept_from = 0
        self.kept: np.ndarray | None = None

    def push(self, x: Float[np.ndarray, "time unit"]) -> Float[np.ndarray, "row unit"]:
        before, self.seen = self.seen, self.seen + len(x)
        ready = self.seen
        for operator in self.operators:
            ready = operator.ready(ready)
        stop = max(ready, self.done)
        # Rows that need nothing from before are made from the new stretch as it stands; for the few others it is joined to what was kept.
        alone = self._first_row_from(before, stop)
        out = []
        if alone > self.done:
            upto = self._stretches(self.done, alone)[0][1]
            joined = (
                x[: upto - before] if self.kept is None else np.concatenate([self.kept, x[: max(0, upto - before)]])
            )
            out.append(self._compute(self.done, alone, joined, self.kept_from))
        if stop > alone:
            out.append(self._compute(alone, stop, x, before))
        self.done = stop
        self._keep(x, before)
        if len(out) == 1:
            return out[0]
        return np.concatenate(out) if out else np.empty((0, x.shape[1]))

    def _first_row_from(self, sample: int, stop: int) -> int:
        """The first row not yet given that needs no sample before this one; needs grow with the row, so it is found by halving."""
        low, high = self.done, stop
        while low < high:
            middle = (low + high) // 2
            if self._stretches(middle, middle + 1)[0][0] >= sample:
                high = middle
            else:
                low = middle + 1
        return low

    def close(self) -> None:
        return None

    def _compute(self, start: int, stop: int, samples: np.ndarray, sample: int) -> np.ndarray:
        """Rows from samples, the first of which is number `sample`."""
        stretches = self._stretches(start, stop)
        steps: list[tuple[Operator, int, Rows]] = []
        first, last = stretches[0]
        void = np.zeros(last - first, dtype=bool)
        for operator, (a, b) in zip(self.operators, stretches[1:], strict=True):
            rows = operator.rows(a, b, void)
            steps.append((operator, a, rows))
            void = rows.void
        x = samples[first - sample : last - sample]
        product = steps[0][2].matrix
        for _, _, rows in steps[1:]:
            product = rows.matrix @ product
        out = np.asarray(product @ x)
        missing = np.isnan(out.sum(0))  # what is missing anywhere is missing in the product too
        if missing.any():
            out[:, missing] = _masked(steps, x[:, missing])
        out[void] = np.nan
        return out

    def _stretches(self, start: int, stop: int) -> list[tuple[int, int]]:
        """What each operator has to give, from the samples of the first to the rows of the last."""
        found = [(start, stop)]
        for operator in reversed(self.operators):
            found.append(operator.needs(*found[-1]))
        return found[::-1]

    def _keep(self, x: np.ndarray, before: int) -> None:
        """Samples that later rows need; a copy, or the whole stretch would stay in memory behind a few of its rows."""
        finished = self.done >= self.operators[-1].n_out
        first = self.seen if finished else min(self._stretches(self.done, self.done + 1)[0][0], self.seen)
        old = np.empty((0, x.shape[1])) if self.kept is None else self.kept[max(0, first - self.kept_from) :]
        self.kept, self.kept_from = np.concatenate([old, x[max(0, first - before) :]]), max(first, self.kept_from)


def _masked(steps: list[tuple[Operator, int, Rows]], x: np.ndarray) -> np.ndarray:
    for operator, start, rows in steps:
        x = operator.masked(rows, x, start)
        x[rows.void] = np.nan
    return x


def fused(stages: Sequence[Stage]) -> list[Processor]:
    """The same stages with operators that follow each other run as one."""
    out: list[Processor] = []
    run: list[Operator] = []
    for stage in stages:
        if isinstance(stage, Operator):
            run.append(stage)
            continue
        if run:
            out.append(LinearChain(run))
            run = []
        out.append(stage)
    return [*out, LinearChain(run)] if run else out


def feed(processors: Sequence[Processor], x: np.ndarray) -> np.ndarray:
    """Push a stretch through all of them."""
    for processor in processors:
        x = processor.push(x)
    return x


def finish(processors: Sequence[Processor]) -> Iterator[np.ndarray]:
    """What the processors still hold, passed on to those behind them."""
    for i, processor in enumerate(processors):
        rest = processor.close()
        if rest is not None and len(rest):
            yield feed(processors[i + 1 :], rest)


def block_rows(x: xr.DataArray, values: int = BLOCK) -> int:
    """How many samples to read at once: whole chunks of the file, and a few megabytes."""
    width = max(1, int(np.prod(x.shape[1:])))
    rows = max(1, values // width)
    chunk = int((x.encoding.get("preferred_chunks") or {}).get(x.dims[0], 0))
    if chunk > 1:
        rows = max(1, rows // chunk) * chunk
    return min(max(rows, 1), max(1, x.shape[0]))


@contextmanager
def by_rows(x: xr.DataArray) -> Iterator[xr.DataArray]:
    """The same array, readable by rows in flat memory.

    A file whose chunks run along time would be read as a whole for every row; such an array is first copied, some units at a time, to a
    temporary file that lies the other way.
    """
    chunk = (x.encoding.get("preferred_chunks") or x.variable.encoding.get("preferred_chunks") or {}).get(x.dims[0], 0)
    if x.variable._in_memory or chunk * x.shape[1] <= MOST or x.shape[1] < 2:
        yield x
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = np.memmap(f"{folder}/by_rows", dtype=x.dtype, mode="w+", shape=x.shape)
        own = int((x.encoding.get("preferred_chunks") or {}).get(x.dims[1], 1))
        width = max(1, MOST // x.shape[0] // own) * own
        for start in range(0, x.shape[1], width):
            copy[:, start : start + width] = x.variable[:, start : start + width].values
        variable = plain_array(copy, tuple(map(str, x.dims)))
        yield xr.DataArray(variable, coords=x.coords, attrs=x.attrs)
        del copy, variable


def blocks(x: xr.DataArray, rows: int | None = None) -> Iterator[np.ndarray]:
    """The values, a stretch at a time, as float64; infinite values are refused.

    Raises
    ------
    InputError
        Infinite values, or values that are no numbers.
    """
    if x.dtype.kind not in "fiub":
        raise InputError(f"activity of type {x.dtype}; allowed: real numbers")
    rows = rows or block_rows(x)
    for part in _ahead(x.variable, rows):
        if not np.isfinite(part.sum()) and np.isinf(part).any():
            where = np.isinf(part).any(0)
            names = x["unit"].values[where] if "unit" in x.coords else np.flatnonzero(where)
            raise InputError(f"infinite activity in {listed(names)}; mark what is missing as NaN")
        yield part


def _ahead(x: xr.Variable, rows: int) -> Iterator[np.ndarray]:
    """Stretches as float64; from a file, the next one is read while the present one is worked on."""

    def read(start: int) -> np.ndarray:
        return np.asarray(x[start : start + rows].values, dtype=np.float64)

    starts = range(0, x.shape[0], rows)
    if x._in_memory or not len(starts):
        yield from map(read, starts)
        return
    with ThreadPoolExecutor(1) as pool:
        coming: Any = pool.submit(read, starts[0])
        for after in [*starts[1:], None]:
            now, coming = coming.result(), None if after is None else pool.submit(read, after)
            yield now
