"""What a pipeline is going to do to one recording, worked out from its clock before a sample is read; and doing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.recordings._homogenising.flow import Stage, block_rows, blocks, feed, finish, fused
from nissl.recordings._homogenising.statistics import CausalScore, Moments, Seen, standardised


@dataclass(frozen=True)
class Layout:
    """Which column goes where: `slots[k]` of the common axis holds column `columns[k]`; the rest have an axis of their own."""

    units: np.ndarray  # names on the common axis
    slots: np.ndarray
    columns: np.ndarray
    rest_units: np.ndarray  # names of the columns that are on no list
    rest_columns: np.ndarray


@dataclass
class Plan:
    """The clock after every step so far, and for each variable the stages that make it from raw activity."""

    time: Float[np.ndarray, "time"]
    chains: dict[str, list[Stage]]
    layout: Layout
    standardise: bool = False  # a second pass: mean and SD are known only at the end
    shift: float = 0.0  # seconds taken off every clock
    attrs: dict[str, Any] = field(default_factory=dict)
    quantity: str | None = None

    @classmethod
    def begin(cls, activity: xr.DataArray) -> Plan:
        names = np.asarray(activity["unit"].values)
        everything = np.arange(len(names))
        layout = Layout(names, everything, everything, names[:0], everything[:0])
        return cls(
            np.asarray(activity["time"].values, dtype=float),
            {"activity": []},
            layout,
            quantity=activity.attrs.get("quantity"),
        )

    @property
    def interval(self) -> float:
        """Median seconds between samples."""
        return float(np.median(np.diff(self.time)))


Target = Any  # an array that is written by rows: numpy's or zarr's
Make = Callable[[str, tuple[str, ...], tuple[int, ...], np.dtype], Target]


@dataclass
class Result:
    """Arrays by name, with their dimensions; what the whole pass has seen of every unit."""

    arrays: dict[str, tuple[tuple[str, ...], Target]]
    valid: np.ndarray
    seen: Seen  # of activity before the steps, by column


def in_memory(name: str, dims: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A numpy array; every row of it is going to be written."""
    return np.empty(shape, dtype=dtype)


def execute(plan: Plan, raw: dict[str, xr.DataArray], make: Make = in_memory) -> Result:
    """Read what is there once, a stretch at a time, and write every variable of the plan.

    `raw` holds `activity`, and `residual` where the recording has it already; other variables of the plan are made from activity.
    """
    activity = raw["activity"]
    writer = _Writer(plan, make, kind(activity.dtype))
    seen, scored = Seen(activity.shape[1]), Moments(activity.shape[1])
    chains = {name: fused(stages) for name, stages in plan.chains.items()}

    def put(name: str, x: np.ndarray) -> None:
        score = chains[name][-1] if chains[name] else None
        if name == "activity" and plan.standardise:
            scored.push(x)
        writer.write(name, x)
        if isinstance(score, CausalScore) and len(x):
            writer.write("activity_mean", score.mean)
            writer.write("activity_sd", score.sd)

    rows = block_rows(activity)
    for parts in zip(*(blocks(x, rows) for x in raw.values()), strict=True):
        now = dict(zip(raw, parts, strict=True))
        seen.push(now["activity"])
        for name, processors in chains.items():
            put(name, feed(processors, now.get(name, now["activity"])))
    for name, processors in chains.items():
        for rest in finish(processors):
            put(name, rest)
    short = [name for name, rows in writer.position.items() if rows != len(plan.time)]
    assert not short, f"rows of {short} were not written"
    if plan.standardise:
        writer.again("activity", lambda x, columns: standardised(x, scored.mean[columns], scored.spread[columns]), rows)
        writer.fixed("activity_mean", scored.mean)
        writer.fixed("activity_sd", scored.spread)
    return Result(writer.arrays, writer.valid, seen)


def kind(dtype: np.dtype) -> np.dtype:
    """The type results are kept in: float64 for what has more than 24 bits, else float32."""
    return np.dtype(np.float32) if dtype.itemsize <= 2 or dtype == np.float32 else np.dtype(np.float64)


class _Writer:
    """Puts columns into their slots and rows behind those already written."""

    def __init__(self, plan: Plan, make: Make, dtype: np.dtype) -> None:
        self.plan, self.make, self.dtype = plan, make, dtype
        self.arrays: dict[str, tuple[tuple[str, ...], Target]] = {}
        self.position: dict[str, int] = {}
        self.valid = np.zeros(len(plan.time), dtype=bool)
        self._whole = len(plan.layout.slots) == len(plan.layout.units) and not len(plan.layout.rest_columns)

    def write(self, name: str, x: np.ndarray) -> None:
        start = self.position.setdefault(name, 0)
        stop = min(start + len(x), len(self.plan.time))
        x = x[: stop - start]
        self._array(name, "unit")[start:stop] = self._slotted(x)
        if len(self.plan.layout.rest_columns):
            self._array(f"{name}_unlabelled", "unlabelled")[start:stop] = x[:, self.plan.layout.rest_columns].astype(
                self.dtype
            )
        if name == "activity":
            self.valid[start:stop] = ~np.isnan(x).all(1)
        self.position[name] = stop

    def again(self, name: str, change: Callable[[np.ndarray, np.ndarray], np.ndarray], rows: int) -> None:
        """A second pass over what was written, in place."""
        layout = self.plan.layout
        for array, slots, columns in (
            (name, layout.slots, layout.columns),
            (f"{name}_unlabelled", np.arange(len(layout.rest_columns)), layout.rest_columns),
        ):
            if array not in self.arrays:
                continue
            target = self.arrays[array][1]
            rows = getattr(target, "chunks", (rows,))[0]
            for start in range(0, len(self.plan.time), rows):
                stop = min(start + rows, len(self.plan.time))
                x = np.asarray(target[start:stop])
                if len(slots) == x.shape[1]:  # every slot is taken
                    x = change(x.astype(np.float64), columns[np.argsort(slots)])
                else:
                    x[:, slots] = change(x[:, slots].astype(np.float64), columns)
                target[start:stop] = x

    def fixed(self, name: str, x: np.ndarray) -> None:
        """One number a unit."""
        layout = self.plan.layout
        array = np.full(len(layout.units), np.nan)
        array[layout.slots] = x[layout.columns]
        self.arrays[name] = (("unit",), array)
        if len(layout.rest_columns):
            self.arrays[f"{name}_unlabelled"] = (("unlabelled",), x[layout.rest_columns])

    def _slotted(self, x: np.ndarray) -> np.ndarray:
        layout = self.plan.layout
        if self._whole and np.array_equal(layout.columns, np.arange(x.shape[1])):
            return x.astype(self.dtype)
        out = np.full((len(x), len(layout.units)), np.nan, dtype=self.dtype)
        out[:, layout.slots] = x[:, layout.columns]
        return out

    def _array(self, name: str, axis: str) -> Target:
        if name not in self.arrays:
            width = len(self.plan.layout.units) if axis == "unit" else len(self.plan.layout.rest_columns)
            dims = ("time", axis)
            self.arrays[name] = (dims, self.make(name, dims, (len(self.plan.time), width), self.dtype))
        return self.arrays[name][1]
