"""Tables: csv, tsv and parquet, with a row a sample, a row a unit, a row a value, or a row a spike."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nissl.errors import InputError, MissingExtraError, unknown
from nissl.recordings._files.columns import (
    base_name,
    column_called,
    dialect,
    is_even,
    is_index,
    is_transposed,
    number,
    seconds_in,
    transposed_header,
)
from nissl.recordings._files.guessing import ORIENTATIONS, SPIKES, TIME
from nissl.recordings._files.lazy import FileArray, lazy
from nissl.recordings._files.read_arrays import damaged
from nissl.recordings._files.schema import Request, build, even_times
from nissl.recordings._names import numbered
from nissl.recordings._traces import listed

_UNIT = (
    "unit",
    "neuron",
    "cell",
    "neuron_name",
    "cell_name",
    "unit_name",
    "label",
    "roi",
    "cell_id",
    "unit_id",
    "neuron_id",
    "roi_id",
)
_VALUE = ("value", "activity", "trace", "dff", "df_f", "fluorescence", "signal", "f", "calcium", "rate", "intensity")


def read_csv(path: Path, request: Request) -> xr.Dataset:
    """Text table; it is read whole, since text has no places to jump to. Save long recordings as zarr."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = [line for line in (file.readline() for _ in range(5)) if line.strip() and not line.startswith("#")]
        if not head:
            raise InputError(f"{str(path)!r} is empty")
        separator, decimal = dialect(path, head)
        first = next(csv.reader([head[0]], delimiter=separator))
        header = (
            None
            if all(number(cell, decimal) is not None for cell in first)
            and not transposed_header(head, separator, decimal)
            else 0
        )
        repeated = [n for n in dict.fromkeys(first) if n.strip() and first.count(n) > 1]
        if header == 0 and repeated and "duplicates" not in request.mend:
            raise InputError(
                f"{path.name}: columns given twice: {listed(repeated)}; mend=['duplicates'] keeps the first of each and numbers the others"
            )
        exact: Any = {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}
        table = pd.read_csv(
            path,
            sep=separator,
            decimal=decimal,
            header=header,
            comment="#",
            skip_blank_lines=True,
            encoding="utf-8-sig",
            **exact,
        )
    except UnicodeDecodeError as error:
        raise damaged(path, "UTF-8 text", error) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, "table", error) from error
    if table.empty:
        raise InputError(f"{str(path)!r} has a header and no rows")
    if header == 0 and repeated:  # pandas has numbered them in its own way
        table.columns = numbered(first)
    table.columns = [c.strip() if isinstance(c, str) else c for c in table.columns]
    return _recording(table, request, path.name, header is not None)


def read_parquet(path: Path, request: Request) -> xr.Dataset:
    """Parquet; a wide table of numbers is left in its file and read by row groups."""
    try:
        import pyarrow
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError(f"{path.name} needs pyarrow; pip install nissl[brains]") from None
    try:
        file = pq.ParquetFile(path)
        names = list(file.schema_arrow.names)
        numeric = [
            f.name for f in file.schema_arrow if pyarrow.types.is_floating(f.type) or pyarrow.types.is_integer(f.type)
        ]
        clock = _time_column(names, request, path.name)
        wide = len(numeric) == len(names) and request.orientation != "unit time" and not column_called(names, _UNIT)
        if wide:
            return _wide_parquet(path, file, names, clock, request)
        return _recording(pd.read_parquet(path), request, path.name, True)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowException, OSError) as error:
        raise damaged(path, "parquet file", error) from error


def _wide_parquet(path: Path, file: Any, names: list[str], clock: str | None, request: Request) -> xr.Dataset:
    import pyarrow.parquet as pq

    units = _chosen_units([n for n in names if n != clock and not n.startswith("__index_level")], request, path.name)
    starts = np.concatenate([[0], np.cumsum([file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)])])
    count = int(starts[-1])
    time = even_times(count, _rate(request, path.name, names)) if clock is None else file.read([clock]).column(0).to_numpy() * seconds_in(clock)  # fmt: skip
    kinds = [np.dtype(file.schema_arrow.field(u).type.to_pandas_dtype()) for u in units]
    dtype = np.result_type(*kinds, np.float32)

    def read(key: tuple[Any, ...]) -> np.ndarray:
        rows, columns = key
        wanted = np.atleast_1d(np.arange(count)[rows])
        chosen = [units[i] for i in np.atleast_1d(np.arange(len(units))[columns])]
        if not len(wanted) or not chosen:
            values = np.empty((len(wanted), len(chosen)), dtype)
        else:
            groups = np.unique(np.searchsorted(starts, wanted, side="right") - 1)
            part = pq.ParquetFile(path).read_row_groups(groups.tolist(), columns=chosen)
            # Of the groups read, where each wanted row is.
            before = np.concatenate([[0], np.cumsum(np.diff(starts)[groups])])
            group = np.searchsorted(starts, wanted, side="right") - 1
            at = before[np.searchsorted(groups, group)] + wanted - starts[group]
            values = np.stack([part.column(c).to_numpy().astype(dtype)[at] for c in chosen], 1)
        return values[0 if isinstance(rows, int | np.integer) else slice(None), ...][..., 0 if isinstance(columns, int | np.integer) else slice(None)]  # fmt: skip

    rows_in_group = int(np.diff(starts).max()) if count else 1
    variable = lazy(FileArray(read, (count, len(units)), dtype), ("time", "unit"), (rows_in_group, len(units)))
    return build(activity=variable, time=np.asarray(time, dtype=float), names=units, attrs={"source": path.name})


def _recording(table: Any, request: Request, source: str, has_header: bool) -> xr.Dataset:
    if request.orientation is not None and request.orientation not in ORIENTATIONS:
        raise unknown("orientation", request.orientation, ORIENTATIONS)
    # A column without a name and with 0, 1, 2, ... is the index that pandas wrote.
    first = table.columns[0]
    if (
        has_header
        and str(first).startswith("Unnamed: 0")
        and request.orientation != "unit time"
        and is_index(table[first])
    ):
        table = table.drop(columns=first)
    columns = list(table.columns)
    names = [str(c) for c in columns]
    clock = _time_column(names, request, source)
    whose = column_called(names, _UNIT) if request.orientation is None and request.activity is None else None
    if clock is not None and whose is not None and not isinstance(request.units, list):
        return _long(table.set_axis(names, axis=1), clock, whose, request, source)
    texts = [i for i, c in enumerate(columns) if not pd.api.types.is_numeric_dtype(table[c])]
    if request.orientation == "unit time" or (
        request.orientation is None and clock is None and is_transposed(table, names, texts, has_header)
    ):
        return _unit_rows(table, names, texts, request, source)
    return _sample_rows(table.set_axis(names, axis=1), clock, [names[i] for i in texts], request, source, has_header)


def _sample_rows(
    table: Any, clock: str | None, texts: list[str], request: Request, source: str, has_header: bool
) -> xr.Dataset:
    if texts:
        bad = texts[0]
        cells = table[bad].dropna().astype(str)
        wrong = next((c for c in cells if number(c, ".") is None), cells.iloc[0] if len(cells) else "")
        row = int(cells.index[list(cells).index(wrong)]) + (2 if has_header else 1) if len(cells) else 0
        if bad == clock:
            raise InputError(f"{source}: the clock {bad!r} holds text ({wrong!r}); give seconds, as numbers")
        if len(texts) == 1 and names_first(table, bad):
            raise InputError(
                f"{source}: the first column {bad!r} holds text ({wrong!r}); if a row is a unit, pass orientation='unit time' and rate=..., else leave that column out"
            )
        raise InputError(
            f"{source}: column {bad!r} holds text ({wrong!r}, line {row}); activity is numbers, with empty cells for what is missing"
        )
    if clock is None and request.rate is None:
        first = table.columns[0]
        hint = f"the first column {first!r} looks like a clock: pass time={first!r}" if is_even(table[first]) else "pass rate=... (samples a second) or time='COLUMN'"  # fmt: skip
        raise InputError(
            f"{source}: no column is called time; {hint}; columns: {', '.join(map(repr, table.columns[:8]))}"
        )
    if clock is None and not has_header and is_even(table.iloc[:, 0]):
        raise InputError(
            f"{source}: no header, and its first column looks like a clock; pass time='0' if it is one, or give the columns names"
        )
    units = _chosen_units([c for c in table.columns if c != clock], request, source)
    if request.activity is not None:
        if request.activity not in units:
            raise unknown("column", request.activity, units, f"in {source}, passed as activity")
        units = [request.activity]
    if not units:
        raise InputError(f"{source}: no column of activity beside the clock {clock!r}")
    time = (
        even_times(len(table), float(request.rate or 1))
        if clock is None
        else table[clock].to_numpy(dtype=float) * seconds_in(clock)
    )
    if clock is not None and clock.lower().startswith("frame"):
        time = time / _rate(request, source, list(table.columns))
    names = request.units if isinstance(request.units, list) and len(request.units) == len(units) and not set(request.units) <= set(units) else units  # fmt: skip
    values = table[units].to_numpy(dtype=np.float64)
    return build(
        activity=xr.Variable(("time", "unit"), values),
        time=time,
        names=names if has_header else None,
        attrs={"source": source},
    )


def names_first(table: Any, column: str) -> bool:
    """Whether the column of text is the first one, as names of rows are."""
    return table.columns[0] == column


def _unit_rows(table: Any, names: list[str], texts: list[int], request: Request, source: str) -> xr.Dataset:
    """A row a unit: its name first, then its samples; the header may hold the times."""
    labels = table.iloc[:, texts[0]].astype(str).to_list() if texts else None
    named_columns = texts or ([0] if column_called(names[:1], _UNIT) else [])
    if named_columns and not texts:
        labels = table.iloc[:, 0].astype(str).to_list()
    columns = [i for i in range(len(names)) if i not in named_columns]
    header = [number(re.sub(r"^(t|time)?_?|s$", "", names[i].strip().lower()), ".") for i in columns]
    values = table.iloc[:, columns].to_numpy(dtype=np.float64).T
    if request.rate is not None:
        time = even_times(len(values), request.rate)
    elif len(header) > 1 and all(h is not None for h in header) and not is_index(pd.Series(header)):
        time = np.array(header, dtype=float)
    else:
        raise InputError(f"{source}: a row a unit, and a header without times; pass rate=... (samples a second)")
    names_given = request.units if isinstance(request.units, list) else labels
    return build(activity=xr.Variable(("time", "unit"), values), time=time, names=names_given, attrs={"source": source})


def _long(table: Any, clock: str, whose: str, request: Request, source: str) -> xr.Dataset:
    """A row a value (time, unit, value), or a row a spike (time, unit)."""
    rest = [c for c in table.columns if c not in (clock, whose)]
    time = table[clock].to_numpy(dtype=float) * seconds_in(clock)
    if not rest:
        names = list(table[whose].unique())
        index = pd.Index(names).get_indexer(table[whose])
        return build(spikes=(time, index), names=names, attrs={"source": source})
    value = column_called(rest, _VALUE) or (rest[0] if len(rest) == 1 else None)
    if value is None:
        raise InputError(f"{source}: columns {clock!r} and {whose!r}, and several that could be the value: {', '.join(map(repr, rest[:8]))}; pass activity='COLUMN'")  # fmt: skip
    if table.duplicated([clock, whose]).any():
        twice = table[table.duplicated([clock, whose])].iloc[0]
        raise InputError(f"{source}: two values of unit {twice[whose]!r} at {twice[clock]} s; give one")
    wide = table.pivot(index=clock, columns=whose, values=value)
    wide = wide[list(table[whose].unique())]
    return build(activity=xr.Variable(("time", "unit"), wide.to_numpy(dtype=np.float64)), time=np.asarray(wide.index, dtype=float) * seconds_in(clock), names=list(wide.columns), attrs={"source": source})  # fmt: skip


def _time_column(names: list[str], request: Request, source: str) -> str | None:
    if request.time is not None:
        wanted = str(request.time)
        if wanted not in names:
            raise unknown("column", wanted, names, f"in {source}, passed as time")
        return wanted
    found = [n for n in names if base_name(n) in TIME or base_name(n) in SPIKES]
    if not found and request.rate is not None:
        found = [n for n in names if base_name(n) in ("frame", "frames")]
    if len(found) > 1:
        raise InputError(
            f"{source}: several columns could be the clock: {', '.join(map(repr, found))}; pass time='COLUMN'"
        )
    return found[0] if found else None


def _chosen_units(columns: list[str], request: Request, source: str) -> list[str]:
    """The columns asked for, where they are columns; a list of other names renames all of them."""
    if not isinstance(request.units, list) or not set(request.units) & set(columns):
        return columns
    strange = [u for u in request.units if u not in columns]
    if strange:
        raise unknown("column", strange[0], columns, f"in {source}")
    return list(request.units)


def _rate(request: Request, source: str, names: list[str]) -> float:
    if request.rate is None:
        raise InputError(
            f"{source}: no column is called time; pass rate=... (samples a second) or time='COLUMN'; columns: {', '.join(map(repr, names[:8]))}"
        )
    return float(request.rate)
