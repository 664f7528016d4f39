"""What the header of a table says: separator, clock and its unit of measurement, names, and which way round it is."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_SCALES = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3, "min": 60.0, "minutes": 60.0, "us": 1e-6}  # fmt: skip


def dialect(path: Path, head: list[str]) -> tuple[str, str]:
    """Separator and decimal mark; a semicolon usually comes with a decimal comma."""
    text = "".join(head)
    if path.suffix.lower() in (".tsv", ".tab") or text.count("\t") >= max(
        len(head), text.count(",") + 1, text.count(";")
    ):
        return "\t", "."
    if text.count(";") >= len(head) and text.count(";") >= text.count(",") / 2:
        return ";", "," if re.search(r"\d,\d", text) else "."
    return ",", "."


def transposed_header(head: list[str], separator: str, decimal: str) -> bool:
    rows = list(csv.reader(head, delimiter=separator))
    return len(rows) > 1 and bool(rows[1]) and number(rows[1][0], decimal) is None


def is_transposed(table: pd.DataFrame, names: list[str], texts: list[int], has_header: bool) -> bool:
    """Only the first column is text, and the header counts seconds."""
    if not has_header or texts != [0] or len(names) < 3:
        return False
    header = [number(re.sub(r"^(t|time)_?|s$", "", n.strip().lower()), ".") for n in names[1:]]
    return all(h is not None for h in header) and bool((np.diff(np.array(header, dtype=float)) > 0).all())


def base_name(name: str) -> str:
    """A column's name without its unit of measurement: `Time (ms)`, `time_ms`, `time[s]`."""
    text = re.sub(r"[\s_]*[\(\[].*?[\)\]]\s*$", "", name.strip().lower())
    text = re.sub(r"\s+", "_", text)
    return re.sub(r"_(s|sec|seconds|ms|msec|milliseconds|us|min)$", "", text)


def seconds_in(name: str) -> float:
    """Seconds in one unit of a clock, as its name has it."""
    inside = re.search(r"[\(\[]\s*([a-z]+)\s*[\)\]]", name.lower()) or re.search(r"_([a-z]+)$", name.strip().lower())
    return _SCALES.get(inside.group(1), 1.0) if inside else 1.0


def column_called(names: list[str], wanted: tuple[str, ...]) -> str | None:
    found = [n for n in names if base_name(n) in wanted]
    return found[0] if len(found) == 1 else None


def number(text: str, decimal: str) -> float | None:
    try:
        return float(text.strip().replace(decimal, ".") if decimal != "." else text)
    except ValueError:
        return None


def is_index(column: Any) -> bool:
    """Whether a column is 0, 1, 2, ... (or 1, 2, 3, ...)."""
    if not pd.api.types.is_numeric_dtype(column) or not len(column):
        return False
    values = column.to_numpy(dtype=float)
    return bool(np.array_equal(values - values[0], np.arange(len(values))) and values[0] in (0, 1))


def is_even(column: Any) -> bool:
    """Whether a column goes up in equal steps, as clocks and hardly any neuron do."""
    if not pd.api.types.is_numeric_dtype(column) or len(column) < 4:
        return False
    steps = np.diff(column.to_numpy(dtype=float))
    return bool((steps > 0).all() and steps.std() < 0.2 * steps.mean())
