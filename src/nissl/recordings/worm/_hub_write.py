"""Writing recordings in the schema of the worm's public collection."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError, unknown
from nissl.recordings._collection import Collection
from nissl.recordings._names import clean
from nissl.recordings._notes import provenance
from nissl.recordings._traces import listed
from nissl.recordings.worm._hub import METHODS, hub_schema, pyarrow_or_error
from nissl.recordings.worm._names import canonical_neurons

# The step of `homogenise`, and its setting, that each of the schema's method columns names.
STEPS = (("Smooth", "method"), ("Resample", "interpolate"), ("Normalise", "method"))


def to_hub_parquet(
    recordings: Collection | Mapping[str, xr.Dataset],
    path: str | Path,
    *,
    originals: Mapping[str, xr.Dataset] | None = None,
) -> Path:
    """Write recordings in the schema of the public collection.

    Parameters
    ----------
    recordings
        Animal -> recording, with `activity (time, unit)`; names like `Kato2015/worm0` give experiment and worm. Units
        without a sample are left out: the schema has no row for a neuron that was not recorded.
    path
        The parquet file.
    originals
        Animal -> the recording before it was homogenised, for the columns `original_*`; else a variable `original`, as
        `read_hub` gives it, else the recording itself.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    InputError, MissingExtraError
        No activity, an animal without its original, pyarrow missing.

    Notes
    -----
    What `read_hub` has read is written back bit for bit, in the file's own order of rows.
    """
    pa = pyarrow_or_error()
    import pyarrow.parquet as pq

    animals = Collection.of(recordings)
    tables, order = [], []
    for animal, recording in animals.items():
        if "activity" not in recording:
            raise InputError(f"{animal}: no activity; the schema of the public collection is for traces")
        rows, place = _rows(animal, recording, None if originals is None else _original(animal, originals))
        tables.append(pa.table(rows, schema=hub_schema()))
        order.append(place)
    table = pa.concat_tables(tables)
    places = np.concatenate(order)
    if (places >= 0).all() and len(np.unique(places)) == len(places):
        table = table.take(np.argsort(places, kind="stable"))
    path = Path(path)
    pq.write_table(table, path)
    return path


def _original(animal: str, originals: Mapping[str, xr.Dataset]) -> xr.Dataset:
    if animal not in originals:
        raise unknown("animal among the originals", animal, originals)
    return originals[animal]


def _rows(animal: str, recording: xr.Dataset, original: xr.Dataset | None) -> tuple[dict[str, Any], np.ndarray]:
    """Columns of one animal, and where its rows stood in the file that they come from (-1 where in none)."""
    source, _, worm = (
        animal.partition("/")
        if "/" in animal
        else (str(recording.attrs.get("source_dataset") or recording.attrs.get("source") or "unknown"), "", animal)
    )
    values, names, labelled = _both(recording, "activity")
    # What was read from a file in this schema goes back whole; elsewhere a slot without a sample is no neuron.
    seen = np.ones(len(names), dtype=bool) if "row" in recording else np.asarray(~np.isnan(values).all(0))
    values, names, labelled = values[:, seen], names[seen], labelled[seen]
    if not seen.any():
        raise InputError(f"{animal}: not one unit has a sample")
    if original is None and "original" in recording:
        raw, raw_names, _ = _both(recording, "original")
        raw_time = recording["original_time"].values
    else:
        from_ = recording if original is None else original
        raw, raw_names, _ = _both(from_, "activity")
        raw_time = from_["time"].values
    column = {clean(n): i for i, n in reversed(list(enumerate(raw_names)))}
    names = np.array([clean(n) for n in names], dtype=str) if "row" not in recording else names
    lost = [n for n in names if clean(n) not in column]
    if lost:
        raise InputError(f"{animal}: no original trace of {listed(lost)}; names must agree with the homogenised ones")
    raw = raw[:, [column[clean(n)] for n in names]]
    n = len(names)
    method = {c: recording.attrs.get(c) or _setting(recording, *step) for c, step in zip(METHODS, STEPS, strict=True)}
    return {
        "source_dataset": [source] * n,
        "raw_data_file": [str(recording.attrs.get("raw_data_file", ""))] * n,
        "worm": [worm] * n,
        "neuron": names.tolist(),
        "slot": _per_unit(recording, "slot", _slots(names, labelled), seen),
        "is_labeled_neuron": labelled,
        **{c: [m] * n for c, m in method.items()},
        "original_calcium_data": _lists(raw.T),
        "calcium_data": _lists(values.T),
        "original_time_in_seconds": _lists(np.broadcast_to(raw_time, (n, len(raw_time)))),
        "time_in_seconds": _lists(np.broadcast_to(recording["time"].values, (n, recording.sizes["time"]))),
        "original_max_timesteps": np.full(n, len(raw_time), np.int32),
        "max_timesteps": np.full(n, recording.sizes["time"], np.int32),
    }, _per_unit(recording, "row", np.full(n, -1), seen)  # fmt: skip


def _setting(recording: xr.Dataset, step: str, name: str) -> str | None:
    """A setting that a step of `homogenise` has noted in the recording."""
    settings = [s["settings"].get(name) for s in provenance(recording) if s.get("step") == step]
    return str(settings[-1]).lower() if settings else None


def _both(recording: xr.Dataset, variable: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labelled and unlabelled traces side by side, their names, and which are which."""
    clock = "original_time" if variable == "original" else "time"
    parts, names, labelled = [], [], []
    for dim, suffix in (("unit", ""), ("unlabelled", "_unlabelled")):
        if variable + suffix in recording:
            found = recording[variable + suffix].transpose(clock, dim)
            parts.append(found.values)
            names.append(found[dim].values.astype(str))
            labelled.append(np.full(found.sizes[dim], dim == "unit"))
    return np.concatenate(parts, axis=1), np.concatenate(names), np.concatenate(labelled)


def _per_unit(recording: xr.Dataset, name: str, otherwise: np.ndarray, seen: np.ndarray) -> np.ndarray:
    if name not in recording:
        return otherwise
    parts = [recording[n].values for n in (name, f"{name}_unlabelled") if n in recording]
    return np.concatenate(parts)[seen].astype(otherwise.dtype)


def _slots(names: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """A labelled neuron's slot is its place in the list of 300; the others fill free slots from the first one on."""
    place = {n: i for i, n in enumerate(canonical_neurons())}
    slot = np.array([place.get(n, -1) if yes else -1 for n, yes in zip(names, labelled, strict=True)], dtype=np.int32)
    free = np.setdiff1d(np.arange(len(place) + len(names)), slot)
    slot[slot < 0] = free[: (slot < 0).sum()]
    return slot


def _lists(rows: np.ndarray) -> Any:
    pa = pyarrow_or_error()
    flat = np.ascontiguousarray(rows, dtype=np.float32)
    offsets = np.arange(0, flat.size + 1, flat.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat.ravel()))
