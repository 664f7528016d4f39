"""Series, clocks and columns of NWB files, each asked the same questions whatever its type."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nissl.errors import InputError
from nissl.recordings._files.schema import even_times


def series_within(box: Any) -> Iterator[Any]:
    """Time series inside a container, at any depth."""
    for child in getattr(box, "children", ()):
        if is_series(child):
            yield child
        elif type(child).__name__ not in ("DynamicTable", "PlaneSegmentation", "ImageSegmentation"):
            yield from series_within(child)


def is_series(x: Any) -> bool:
    return any(c.__name__ == "TimeSeries" for c in type(x).__mro__)


def is_numeric(series: Any) -> bool:
    return hasattr(series.data, "dtype") and series.data.dtype.kind in "fiub"


def is_plain(series: Any) -> bool:
    """A series of numbers a moment, and none of the kinds that are voltages, pictures or traces of cells."""
    if not is_series(series) or not is_numeric(series):
        return False
    kinds = {c.__name__ for c in type(series).__mro__}
    other = {
        "ImageSeries",
        "ElectricalSeries",
        "RoiResponseSeries",
        "PatchClampSeries",
        "IntervalSeries",
        "OptogeneticSeries",
    }
    return not kinds & other and series.data.ndim <= 2


def times_of(series: Any, count: int) -> np.ndarray:
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[:], dtype=np.float64)
        if len(times) != count:
            raise InputError(
                f"series {series.name!r} has {count} samples and {len(times)} times; the file is inconsistent"
            )
        return times
    return even_times(count, float(series.rate), float(series.starting_time or 0.0))


def clock_key(series: Any) -> Any:
    if series.timestamps is None:
        return len(series.data), float(series.rate), float(series.starting_time or 0.0)
    times = np.asarray(series.timestamps[:], dtype=np.float64)
    return len(times), times.tobytes()


def scaled(series: Any) -> np.ndarray:
    data = np.asarray(series.data[:])
    if series.conversion in (1, 1.0) and not series.offset:
        return data
    return data * series.conversion + (series.offset or 0.0)


def column_names(series: Any, width: int) -> list[str]:
    axes = ("x", "y", "z")
    if width == 1:
        return [series.name]
    return [f"{series.name}_{axes[i] if width <= 3 else i}" for i in range(width)]


def word(name: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in name).split()).lower()


def plain_column(data: Any, count: int) -> np.ndarray | None:
    """A column with one number or one text a row; others have no place in a table."""
    with contextlib.suppress(TypeError, ValueError):
        values = np.asarray(data[:])
        if values.shape == (count,) and values.dtype.kind in "fiub":
            return values
        if values.shape == (count,) and all(isinstance(v, str) for v in values.tolist()):
            return values.astype(object)
    return None
