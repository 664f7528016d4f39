"""Files of named arrays: numpy's `.npz` and `.npy`, MATLAB's `.mat` (all versions), plain HDF5."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError, MissingExtraError
from nissl.recordings._files.guessing import Entry, recording_from
from nissl.recordings._files.lazy import hdf5_array, plain_array
from nissl.recordings._files.schema import Request

_DEPTH = 4  # levels of structures that are looked into
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def read_npz(path: Path, request: Request) -> xr.Dataset:
    """Numpy archive; an array is read when it is used."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            entries = {name: _npz_entry(path, archive, name) for name in archive.files}
    except (zipfile.BadZipFile, ValueError, EOFError, KeyError, OSError) as error:
        raise damaged(path, "numpy archive", error) from error
    return recording_from({k: e for k, e in entries.items() if e is not None}, request, path.name)


def _npz_entry(path: Path, archive: Any, name: str) -> Entry | None:
    # The header alone says shape and type; the data stay where they are.
    member = f"{name}.npy" if f"{name}.npy" in archive.zip.namelist() else name
    with archive.zip.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if dtype.hasobject:
        return None  # a pickle: never read

    def load() -> np.ndarray:
        try:
            with np.load(path, allow_pickle=False) as again:
                return again[name]
        except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
            raise damaged(path, "numpy archive", error) from error

    return Entry(shape, _kind(dtype), load)


def read_npy(path: Path, request: Request) -> xr.Dataset:
    """One numpy array, mapped into memory; `rate` has to be said."""
    try:
        data = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise damaged(path, "numpy array", error) from error
    entry = Entry(data.shape, _kind(data.dtype), lambda: np.asarray(data), lambda dims, turned: plain_array(data, dims, transpose=turned))  # fmt: skip
    return recording_from({path.stem: entry}, request, path.name)


def read_mat(path: Path, request: Request) -> xr.Dataset:
    """MATLAB file: version 5 to 7 by scipy, 7.3 (HDF5) by h5py, its arrays left in the file."""
    with path.open("rb") as file:
        head = file.read(1024)
    if HDF5_MAGIC in (head[:8], head[512:520]):
        return read_hdf5(path, request)
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, simplify_cells=True)
    except (MatReadError, ValueError, TypeError, OSError, EOFError, IndexError, KeyError) as error:
        raise damaged(path, "MATLAB file", error) from error
    found = {k: v for k, v in content.items() if not k.startswith("__")}
    return recording_from(dict(_flattened(found)), request, path.name)


def _flattened(content: Mapping[str, Any], prefix: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, Entry]]:
    """Arrays of nested structures, under dotted names."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if depth:
                yield from _flattened(value, f"{name}.", depth - 1)
        elif (entry := _entry_of(value)) is not None:
            yield name, entry


def _entry_of(value: Any) -> Entry | None:
    if isinstance(value, str):
        value = np.array([value])
    array = value if isinstance(value, np.ndarray) and value.dtype != object else None
    if array is None and isinstance(value, np.ndarray | list | tuple):
        parts = list(np.ravel(np.asarray(value, dtype=object))) if isinstance(value, np.ndarray) else list(value)
        if parts and all(isinstance(p, str) or (isinstance(p, np.ndarray) and p.size == 0) for p in parts):
            array = np.array([p if isinstance(p, str) else "" for p in parts])
        elif parts and all(np.ndim(p) <= 1 and np.asarray(p).dtype.kind in "fiu" for p in parts):
            return Entry((len(parts),), "L", lambda: parts)  # a cell of spike trains
    if array is None and np.isscalar(value):
        array = np.asarray(value)
    if array is None:
        return None
    return Entry(array.shape, _kind(array.dtype), lambda: array)


def read_hdf5(path: Path, request: Request) -> xr.Dataset:
    """HDF5 of plain arrays; MATLAB's 7.3 has its axes the other way round, and says so in every array."""
    try:
        import h5py
    except ImportError:
        raise MissingExtraError(
            f"{path.name} is an HDF5 file and h5py is not installed; pip install nissl[brains]"
        ) from None
    try:
        with h5py.File(path, "r") as file:
            if "nwb_version" in file.attrs:
                raise InputError(f"{path.name} is an NWB file by another name; call it {path.stem}.nwb")
            entries = dict(_hdf5_entries(path, file))
    except (OSError, KeyError, RuntimeError) as error:
        raise damaged(path, "HDF5 file", error) from error
    return recording_from(entries, request, path.name)


def _hdf5_entries(path: Path, group: Any, prefix: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, Entry]]:
    import h5py

    for key, item in group.items():
        if key.startswith("#"):
            continue  # what MATLAB's cells refer to
        name = f"{prefix}{key}"
        if isinstance(item, h5py.Group):
            if depth:
                yield from _hdf5_entries(path, item, f"{name}.", depth - 1)
        elif (entry := _hdf5_entry(path, item)) is not None:
            yield name, entry


def _hdf5_entry(path: Path, data: Any) -> Entry | None:
    import h5py

    place, matlab = data.name, data.attrs.get("MATLAB_class")
    shape = tuple(data.shape or ())
    if matlab is not None:
        matlab = matlab.decode() if isinstance(matlab, bytes) else str(matlab)
        shape = shape[::-1]
        if matlab == "char":
            return Entry((1,), "U", lambda: np.array([_read(path, place, _text)]))
        if matlab == "cell":
            return _cell(path, data)
    if h5py.check_string_dtype(data.dtype) is not None:
        return Entry(shape, "U", lambda: _read(path, place, lambda d: np.ravel(d.asstr()[()])))
    if data.dtype.kind not in "fiub":
        return None
    flipped = matlab is not None
    # MATLAB knows no vectors: a column of numbers is an array of one axis here.
    if flipped and len(shape) == 2 and 1 in shape:
        vector = int(np.prod(shape))
        return Entry((vector,), data.dtype.kind, lambda: np.ravel(_read(path, place, lambda d: d[()])))

    def variable(dims: tuple[str, ...], turned: bool) -> xr.Variable:
        return hdf5_array(str(path), place, dims, transpose=turned != flipped)

    return Entry(shape, data.dtype.kind, lambda: _read(path, place, lambda d: d[()].T if flipped else d[()]), variable if len(shape) == 2 else None)  # fmt: skip


def _cell(path: Path, data: Any) -> Entry | None:
    """A MATLAB cell of texts, or of vectors of numbers."""
    references = list(np.ravel(data[()]))
    if not references:
        return None
    parts = [data.file[r] for r in references]
    kinds = {
        p.attrs.get("MATLAB_class", b"").decode() if isinstance(p.attrs.get("MATLAB_class", b""), bytes) else ""
        for p in parts
    }
    place = data.name
    if kinds <= {"char"} or all(p.attrs.get("MATLAB_empty") for p in parts):
        return Entry(
            (len(parts),),
            "U",
            lambda: np.array(_read(path, place, lambda d: [_text(d.file[r]) for r in np.ravel(d[()])])),
        )
    if all(p.dtype.kind in "fiu" for p in parts):
        return Entry(
            (len(parts),), "L", lambda: _read(path, place, lambda d: [_numbers(d.file[r]) for r in np.ravel(d[()])])
        )
    return None


def _text(data: Any) -> str:
    return "" if data.attrs.get("MATLAB_empty") else "".join(chr(c) for c in np.ravel(data[()].T))


def _numbers(data: Any) -> np.ndarray:
    return np.empty(0) if data.attrs.get("MATLAB_empty") else np.ravel(data[()].T)


def _read(path: Path, place: str, how: Callable[[Any], Any]) -> Any:
    import h5py

    with h5py.File(path, "r") as file:
        return how(file[place])


def _kind(dtype: np.dtype) -> str:
    return "U" if dtype.kind in "US" else dtype.kind


def damaged(path: Path, what: str, error: Exception) -> InputError:
    """The error for a file that cannot be read as what its name says."""
    reason = " ".join(str(error).split())[:160]
    size = path.stat().st_size if path.is_file() else 0
    return InputError(
        f"{str(path)!r} cannot be read: it is empty, truncated, or no {what} ({size} bytes; {reason}); copy it again"
    )
