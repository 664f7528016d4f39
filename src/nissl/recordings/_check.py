"""What is wrong with a recording, and what can be worked with but should be known."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from nissl.errors import InputError
from nissl.recordings._collection import Collection, check_rates
from nissl.recordings._files.assembly import is_clock
from nissl.recordings._homogenising.flow import blocks
from nissl.recordings._homogenising.ordering import neuron_list
from nissl.recordings._homogenising.statistics import Moments
from nissl.recordings._mending import inside
from nissl.recordings._names import is_name, match_names, suggestions
from nissl.recordings._notes import RecordingWarning
from nissl.recordings._traces import listed

_SLOW = 20.0  # seconds between samples, beyond which a clock is asked about
SCAN = 2**22  # values that are looked at without being asked to, so that opening a long recording stays quick


@dataclass(frozen=True)
class Finding:
    """One thing found."""

    severity: Literal["error", "warning"]
    what: str
    message: str


def check(
    recording: xr.Dataset | Collection,
    *,
    neurons: Sequence[str] | str | None = None,
    scan: bool | None = None,
    errors: Literal["raise", "list"] = "raise",
) -> pd.DataFrame:
    """Look a recording over, as `open` does.

    Errors are what makes every later number wrong: times that are negative, not finite or do not increase; spikes outside the
    time that was recorded, or of units that do not exist; names given twice; infinite values; no unit, or none that ever changes;
    trials that end before they begin; arrays whose length differs from their clock's; sampling rates that differ so much between
    animals that one cannot be in seconds. Warnings are what a person should know and may well want: units without a
    sample, units that never change, silent units, an animal with one unit, names on no list, gaps in the clock.

    Parameters
    ----------
    recording
        A recording or a collection.
    neurons
        A list of names (or `hermaphrodite-300`); names that are not on it are told, with the nearest that are.
    scan
        Whether to read all activity to find constant and empty units. By default only where that is quick; `homogenise` sees every
        sample anyway, and says the same.
    errors
        `raise` them, or only `list` them.

    Returns
    -------
    pd.DataFrame
        A row a finding: severity, what, message (and animal, for a collection). Warnings are given as `RecordingWarning` too.

    Raises
    ------
    InputError
        All errors at once.

    Examples
    --------
    >>> x = xr.Dataset({"activity": (("time", "unit"), np.eye(2))}, {"time": [0.0, 0.0], "unit": ["a", "b"]})
    >>> check(x, errors="list")["what"].tolist()
    ['clock']
    """
    if isinstance(recording, Collection):
        parts = {a: findings(r, neurons, scan) for a, r in recording.items()}
        found = [Finding(f.severity, f.what, f"{animal}: {f.message}") for animal, fs in parts.items() for f in fs]
        check_rates(recording)
        animals = [animal for animal, fs in parts.items() for _ in fs]
    else:
        found, animals = findings(recording, neurons, scan), None
    if errors == "raise":
        raise_and_warn(found)
    table = pd.DataFrame([asdict(f) for f in found], columns=["severity", "what", "message"])
    if animals is not None:
        table["animal"] = animals
    return table


def raise_and_warn(found: Iterable[Finding], where: str = "") -> None:
    """All errors as one; warnings each on its own."""
    found = list(found)
    bad = [f.message for f in found if f.severity == "error"]
    if bad:
        raise InputError(where + "; also: ".join(bad))
    for finding in found:
        warnings.warn(where + finding.message, RecordingWarning, stacklevel=3)


def findings(r: xr.Dataset, neurons: Sequence[str] | str | None, scan: bool | None) -> list[Finding]:
    """Everything there is to say about one recording."""
    found: list[Finding] = []

    def error(what: str, message: str) -> None:
        found.append(Finding("error", what, message))

    def warn(what: str, message: str) -> None:
        found.append(Finding("warning", what, message))

    if not {"activity", "spike_time", "spikes"} & set(r.variables):
        error(
            "content",
            f"a recording with {', '.join(map(str, r.data_vars)) or 'nothing'} in it; wanted: activity, spikes or spike_time",
        )
        return found
    for name in ("activity", "spikes"):
        if name in r and set(r[name].dims) != {"time", "unit"}:
            error("axes", f"{name} has axes {tuple(map(str, r[name].dims))}; wanted: (time, unit)")
            return found
    for name in [n for n in r.variables if is_clock(str(n)) and r[n].dtype.kind in "fiu"]:
        _clock(str(name), r[name].values, r, error, warn)
    for name in [
        str(n)
        for n in r.data_vars
        if str(n).split("_")[0] in ("stimulus", "behaviour") and r[n].ndim and r[n].dtype.kind in "fiub"
    ]:
        if (
            not any(is_clock(str(d)) or str(d) in ("interval", "trial") for d in r[name].dims)
            and "unit" not in r[name].dims
        ):
            error(
                "clock",
                f"{name} has axes {tuple(map(str, r[name].dims))} and no clock; give it one: '{name.split('_')[0]}_time'",
            )
    _units(r, neurons, error, warn)
    if "spike_time" in r:
        _spikes(r, error, warn)
    if "activity" in r and "time" in r.coords and not found_errors(found):
        small = r["activity"].size <= SCAN
        if scan or (scan is None and small):
            _values(r, error, warn)
    return found


def found_errors(found: Iterable[Finding]) -> bool:
    """Whether there is an error among them."""
    return any(f.severity == "error" for f in found)


def _clock(name: str, time: np.ndarray, r: xr.Dataset, error, warn) -> None:
    if time.ndim != 1 or not len(time):
        if name == "time":
            error("clock", "a recording without a sample")
        return
    if not np.isfinite(time).all():
        error("clock", f"{name}: {int((~np.isfinite(time)).sum())} of {len(time)} times are not finite")
        return
    ordered = not name.endswith(("_start", "_stop"))
    negative = int((time < 0).sum())
    if negative:
        error(
            "negative",
            f"{name}: {negative} of {len(time)} times are negative (down to {time.min():.4g} s); mend=['negative'] moves all clocks so that the recording begins at 0",
        )
    if name == "spike_time":
        if (np.diff(time) < 0).any():
            error("clock", "spike times that do not increase; mend=['order'] sorts them")
        return
    if ordered and len(time) > 1 and (np.diff(time) <= 0).any():
        where = int(np.flatnonzero(np.diff(time) <= 0)[0]) + 1
        error(
            "clock",
            f"{name} does not increase at sample {where} ({time[where - 1]:.6g} s, then {time[where]:.6g} s); mend=['order'] sorts it and keeps the first of equal times",
        )
        return
    if name.endswith("_stop"):
        start = name.removesuffix("_stop") + "_start"
        if start in r.variables and (time < r[start].values).any():
            error(
                "clock",
                f"{int((time < r[start].values).sum())} of {len(time)} intervals end before they begin ({start}, {name})",
            )
    if name == "time" and len(time) > 2:
        steps = np.diff(time)
        if np.median(steps) > _SLOW:
            warn(
                "rate",
                f"one sample in {np.median(steps):.4g} s, {(time[-1] - time[0]) / 3600:.3g} h in all: is the clock in seconds? in milliseconds it would be {1000 / np.median(steps):.4g} Hz",
            )
        gaps = int((steps > 2.5 * np.median(steps)).sum())
        if gaps:
            warn(
                "gaps",
                f"{gaps} gap(s) in the clock, the longest {steps.max():.4g} s; nothing is interpolated across them",
            )


def _units(r: xr.Dataset, neurons: Sequence[str] | str | None, error, warn) -> None:
    if "unit" not in r.coords:
        error("units", "units have no names (coordinate 'unit')")
        return
    names = r["unit"].values
    if not len(names):
        error("units", "a recording without a unit")
        return
    if len(names) == 1:
        warn("units", f"one unit only ({names[0]!r}): nothing can be said about how units work together")
    unique, counts = np.unique(names.astype(str), return_counts=True)
    if (counts > 1).any():
        error(
            "names",
            f"names given twice: {listed(unique[counts > 1])}; mend=['duplicates'] keeps the first of each and numbers the others",
        )
    wanted = neuron_list(neurons)
    if wanted is not None:
        strangers = [n for n in names[match_names(names, wanted).rest] if is_name(n)]
        if strangers:
            warn("names", f"{len(strangers)} name(s) on no list: {suggestions(strangers, wanted)}")


def _spikes(r: xr.Dataset, error, warn) -> None:
    when, whose, n = r["spike_time"].values, r["spike_unit"].values, r.sizes.get("unit", 0)
    if len(whose) and (whose.min() < 0 or whose.max() >= n):
        error(
            "spikes",
            f"spikes of unit number {int(whose.max() if whose.max() >= n else whose.min())}; there are {n} units",
        )
        return
    outside = ~inside(r)
    if outside.any():
        names = r["unit"].values[np.unique(whose[outside])]
        error(
            "spikes",
            f"{int(outside.sum())} of {len(when)} spikes lie outside the time that was recorded (units {listed(names)}); mend=['outside'] drops them",
        )
    silent = np.setdiff1d(np.arange(n), whose)
    if len(silent):
        warn("silent", f"{len(silent)} unit(s) without a spike: {listed(r['unit'].values[silent])}")


def _values(r: xr.Dataset, error, warn) -> None:
    activity = r["activity"]
    moments = Moments(activity.sizes["unit"])
    try:
        for x in blocks(activity.transpose("time", "unit")):
            moments.push(x)
    except InputError as bad:
        error("values", str(bad))
        return
    names = activity["unit"].values
    empty, still = moments.count == 0, moments.constant & (moments.count > 0)
    if empty.all():
        error("values", f"not one sample in {len(names)} units; look at how the file was read")
    elif (empty | still).all():
        error("values", f"no unit ever changes ({len(names)} units); look at how the file was read")
    else:
        if "labeled" in r:  # slots of neurons that were not recorded are no surprise
            empty &= r["labeled"].values.astype(bool)
        if empty.any():
            warn("empty", f"{int(empty.sum())} unit(s) without a single sample: {listed(names[empty])}")
        if still.any():
            warn("constant", f"{int(still.sum())} unit(s) that never change: {listed(names[still])}")
