"""Which stimulus was on when, and which one a time course belongs to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError
from nissl.recordings import Collection
from nissl.recordings._traces import listed

COLUMNS = ("start", "stop", "label")


def stimulus_table(source: Any, time: Float[np.ndarray, "time"], *, given: bool) -> pd.DataFrame | None:
    """Stimuli as a table of start, stop (seconds) and label, from such a table or from a recording; None where `source`, not `given`
    on purpose, has none.
    """
    if isinstance(source, Collection):
        # The protocol is common, so the first animal that has a table has the table.
        source = next((r for r in source.values() if "stimulus_start" in r), None)
    if isinstance(source, xr.Dataset):
        names = [f"stimulus_{c}" for c in COLUMNS]
        if not all(n in source for n in names):
            if given:
                raise InputError(f"a recording without {', '.join(names)}; give a table with start, stop and label")
            return None
        values = [source[n].values for n in names]
        # A stacked collection has the same table once an animal.
        values = [v[0] if v.ndim == 2 else v for v in values]
        table = pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
    elif given:
        table = pd.DataFrame(source)
        lacking = [c for c in COLUMNS if c not in table]
        if lacking:
            raise InputError(
                f"a table of stimuli with columns {list(map(str, table.columns))}; it lacks {', '.join(lacking)}"
            )
        table = pd.DataFrame({c: table[c].to_numpy() for c in COLUMNS})
    else:
        return None
    return _checked(table, time)


def _checked(table: pd.DataFrame, time: np.ndarray) -> pd.DataFrame:
    table = table.dropna(how="all").astype({"start": float, "stop": float, "label": str})
    start, stop, labels = (table[c].to_numpy() for c in COLUMNS)
    backwards = ~(stop > start)
    if backwards.any():
        raise InputError(f"stimuli that do not end after they begin: {listed(labels[backwards])}")
    outside = (start > time[-1]) | (stop < time[0])
    if outside.any():
        raise InputError(
            f"stimuli outside the recording ({time[0]:.4g} to {time[-1]:.4g} s): {listed(labels[outside])}; are they in seconds?"
        )
    return table


def dominant_stimulus(
    course: Float[np.ndarray, "time"], time: Float[np.ndarray, "time"], stimuli: pd.DataFrame | None, tail: float = 0.0
) -> tuple[str, float]:
    """The label whose intervals hold most of a time course, and the share they hold; "spontaneous" stands for the time outside all.

    Examples
    --------
    >>> table = pd.DataFrame({"start": [0.0], "stop": [2.0], "label": ["salt"]})
    >>> dominant_stimulus(np.array([1.0, 1.0, 0.5]), np.arange(3.0), table)
    ('salt', 0.8)
    """
    total = course.sum()
    if stimuli is None or not len(stimuli) or not total:
        return "spontaneous", 1.0
    start, stop, labels = (stimuli[c].to_numpy() for c in COLUMNS)
    on = (time >= start[:, None]) & (time < stop[:, None] + tail)
    mass = {str(label): float(course[on[labels == label].any(0)].sum() / total) for label in pd.unique(labels)}
    mass["spontaneous"] = float(course[~on.any(0)].sum() / total)
    best = max(mass, key=mass.__getitem__)
    return best, mass[best]
