"""The public collection of the worm's homogenised activity, in its own parquet schema: one row a worm and neuron.

Schema and meaning of the columns: Simeon et al., Homogenized C. elegans Neural Activity and Connectivity Data, and the
data set `qsimeon/celegans_neural_data` of the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError, MissingExtraError, unknown
from nissl.recordings._collection import Collection
from nissl.recordings._traces import listed
from nissl.recordings.worm._hub_files import hub_files

HUB = "qsimeon/celegans_neural_data"
TEXT = ("source_dataset", "raw_data_file", "worm", "neuron")
METHODS = ("smooth_method", "interpolate_method", "normalization_method")
SERIES = ("original_calcium_data", "calcium_data", "original_time_in_seconds", "time_in_seconds")
COUNTS = ("original_max_timesteps", "max_timesteps")
COLUMNS = (*TEXT, "slot", "is_labeled_neuron", *METHODS, *SERIES, *COUNTS)


def hub_schema() -> Any:
    """The schema as pyarrow has it."""
    pa = pyarrow_or_error()
    kinds = dict.fromkeys((*TEXT, *METHODS), pa.string()) | dict.fromkeys(SERIES, pa.list_(pa.float32()))
    kinds |= dict.fromkeys(("slot", *COUNTS), pa.int32()) | {"is_labeled_neuron": pa.bool_()}
    return pa.schema([(name, kinds[name]) for name in COLUMNS])


def read_hub(
    path: str | Path | Sequence[str | Path] = HUB,
    *,
    sources: str | Iterable[str] | None = None,
    worms: Iterable[str] | None = None,
    original: bool = True,
) -> Collection:
    """Activity in the schema of the public collection.

    Parameters
    ----------
    path
        A parquet file, a folder of them, a list of files; or a data set of the Hugging Face hub by its id
        (`owner/name`, `hf://datasets/owner/name`), which needs a network.
    sources
        Only these experiments, such as `Kato2015`. Row groups of others are not read.
    worms
        Only these animals, as the column `worm` calls them.
    original
        Whether to read the traces before smoothing and resampling as well.

    Returns
    -------
    Collection
        An animal is called by experiment and worm, such as `Kato2015/worm0`. Each has `activity (time, unit)` of the
        labelled neurons, `activity_unlabelled (time, unlabelled)` of those that nobody could name, `slot`, and with
        `original` the raw traces on their own clock, `original (original_time, unit)`. Values are the file's own,
        float32.

    Raises
    ------
    InputError
        No such file, a column missing or of another type, traces of one worm on different clocks, a neuron given twice.
    UnknownNameError
        An experiment or a worm that is not in it.
    MissingExtraError
        pyarrow is not installed.
    StoreError
        The hub cannot be reached.

    Examples
    --------
    >>> import tempfile
    >>> from nissl.recordings.worm import to_hub_parquet
    >>> time = np.arange(4) / 3
    >>> worm = xr.Dataset({"activity": (("time", "unit"), np.eye(4)[:, :2])}, {"time": time, "unit": ["AVAL", "RIML"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = to_hub_parquet({"Lab/worm0": worm}, folder + "/lab.parquet")
    ...     back = read_hub(folder + "/lab.parquet")
    >>> back["Lab/worm0"]["activity"].sel(unit="RIML").values.tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    pa = pyarrow_or_error()
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    files = hub_files(path, ".parquet")
    try:
        dataset = ds.dataset([str(f) for f in files], format="parquet")
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{files[0]} is no parquet file, or a truncated one: {error}") from error
    _check_schema(dataset.schema, files[0], original)
    columns = [c for c in COLUMNS if original or not c.startswith("original_")]
    keep = None
    for column, asked in (("source_dataset", [sources] if isinstance(sources, str) else sources), ("worm", worms)):
        if asked is None:
            continue
        asked = [str(a) for a in asked]
        there = dataset.to_table(columns=[column])[column].unique().to_pylist()
        for name in asked:
            if name not in there:
                raise unknown("experiment" if column == "source_dataset" else "worm", name, sorted(there))
        keep = pc.field(column).isin(asked) if keep is None else keep & pc.field(column).isin(asked)
    table = dataset.to_table(columns=columns, filter=keep).combine_chunks()
    if table.num_rows == 0:
        raise InputError(
            f"not one row in {files[0]} for what was asked; leave out sources or worms to see what there is"
        )
    names = [f"{s}/{w}" for s, w in zip(table["source_dataset"].to_pylist(), table["worm"].to_pylist(), strict=True)]
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    return Collection({name: _animal(name, table.take(r), np.array(r), original) for name, r in rows.items()})


def _animal(name: str, table: Any, rows: np.ndarray, original: bool) -> xr.Dataset:
    neurons = np.array(table["neuron"].to_pylist(), dtype=str)
    labelled = np.array(table["is_labeled_neuron"].to_pylist(), dtype=bool)
    unique, counts = np.unique(neurons, return_counts=True)
    if (counts > 1).any():
        raise InputError(f"{name}: neurons given twice: {listed(unique[counts > 1])}")
    out = xr.Dataset()
    slot = table["slot"].to_numpy().astype(np.int32)
    for dim, chosen in (("unit", labelled), ("unlabelled", ~labelled)):
        if dim == "unit" or chosen.any():
            out = out.assign_coords({dim: (dim, neurons[chosen])})
            out[f"{'slot' if dim == 'unit' else 'slot_unlabelled'}"] = (dim, slot[chosen])
            out[f"{'row' if dim == 'unit' else 'row_unlabelled'}"] = (dim, rows[chosen])
    for variable, clock, column in (
        ("activity", "time", "calcium_data"),
        ("original", "original_time", "original_calcium_data"),
    ):
        if variable == "original" and not original:
            continue
        time, values = (
            _clock(name, table, "original_time_in_seconds" if variable == "original" else "time_in_seconds"),
            _series(name, table, column),
        )
        if values.shape[1] != len(time):
            raise InputError(f"{name}: {values.shape[1]} samples of {column} on a clock of {len(time)}")
        out = out.assign_coords({clock: (clock, time.astype(np.float64))})
        for dim, chosen in (("unit", labelled), ("unlabelled", ~labelled)):
            if dim == "unit" or chosen.any():
                out[variable if dim == "unit" else f"{variable}_unlabelled"] = ((clock, dim), values[chosen].T)
    first = {c: table[c][0].as_py() for c in ("source_dataset", "raw_data_file", "worm", *METHODS)}
    normalised = first["normalization_method"] not in (None, "none")
    out["activity"].attrs["quantity"] = "z-score" if normalised else "fluorescence"
    out.attrs.update({k: "" if v is None else v for k, v in first.items()}, source=first["source_dataset"], animal=name)
    if out.sizes.get("time", 0) > 1:
        out.attrs["rate"] = 1 / float(np.median(np.diff(out["time"].values)))
    return out


def _series(name: str, table: Any, column: str) -> np.ndarray:
    """Lists of one length as one array (row, sample), without a Python object a sample."""
    array = table[column].combine_chunks()
    lengths = np.diff(array.offsets.to_numpy())
    if array.null_count or len(set(lengths.tolist())) != 1:
        raise InputError(
            f"{name}: {column} differs in length between neurons ({lengths.min()} to {lengths.max()}) or is missing; all share one clock"
        )
    return (
        array.flatten()
        .to_numpy(zero_copy_only=False)
        .reshape(len(array), int(lengths[0]))
        .astype(np.float32, copy=False)
    )


def _clock(name: str, table: Any, column: str) -> np.ndarray:
    times = _series(name, table, column)
    if not (times == times[0]).all():
        raise InputError(f"{name}: neurons on different clocks ({column}); give each clock an animal of its own")
    if not (np.diff(times[0]) > 0).all():
        raise InputError(f"{name}: {column} does not increase; mend the file's clock")
    return times[0]


def _check_schema(schema: Any, file: Path, original: bool) -> None:
    pa = pyarrow_or_error()
    for name in COLUMNS:
        if name.startswith("original_") and not original:
            continue
        if name not in schema.names:
            raise unknown(f"column (wanted by the public collection's schema) in {file.name}:", name, schema.names)
        if name in SERIES and not (
            pa.types.is_list(schema.field(name).type) and pa.types.is_floating(schema.field(name).type.value_type)
        ):
            raise InputError(
                f"{file.name}: column {name} has type {schema.field(name).type}; it should be a list of numbers"
            )


def pyarrow_or_error() -> Any:
    """The package, or how to install it."""
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("parquet files need pyarrow; install nissl[brains]") from error
    return pyarrow
