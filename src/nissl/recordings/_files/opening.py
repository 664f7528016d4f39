"""One door for recordings in any format."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from nissl.errors import InputError, NisslError, nearest
from nissl.recordings._check import findings, raise_and_warn
from nissl.recordings._collection import Collection
from nissl.recordings._files.schema import Request
from nissl.recordings._mending import mend as mended
from nissl.recordings._mending import remedies
from nissl.recordings._names import natural
from nissl.recordings._notes import RecordingWarning, note

Reader = Callable[[Path, Request], Any]


def _readers() -> dict[str, Reader]:
    from nissl.recordings._files.read_arrays import read_hdf5, read_mat, read_npy, read_npz
    from nissl.recordings._files.read_nwb import read_nwb
    from nissl.recordings._files.read_table import read_csv, read_parquet
    from nissl.recordings._files.read_xarray import read_netcdf, read_zarr

    return {
        ".nwb": read_nwb, ".zarr": read_zarr, ".nc": read_netcdf, ".npz": read_npz, ".npy": read_npy, ".mat": read_mat, ".h5": read_hdf5, ".hdf5": read_hdf5,
        ".csv": read_csv, ".tsv": read_csv, ".tab": read_csv, ".txt": read_csv, ".parquet": read_parquet,
    }  # fmt: skip


def open(  # noqa: A001
    path: str | Path,
    *,
    activity: str | None = None,
    time: str | int | None = None,
    units: str | Sequence[str] | None = None,
    rate: float | None = None,
    orientation: str | None = None,
    series: str | None = None,
    mend: Iterable[str] = (),
    check: bool = True,
) -> xr.Dataset | Collection:
    r"""Open a recording, or a folder of them.

    Activity stays in its file where the format allows it (NWB, zarr, netCDF, MATLAB 7.3, HDF5, npy, parquet): what is indexed is
    read, and a recording longer than the memory can be homogenised or saved elsewhere. Text tables, npz archives and old MATLAB files
    are read whole. Which array is the activity, and which axis is time, is never guessed where the file leaves it open.

    Parameters
    ----------
    path
        `.nwb`, `.zarr`, `.nc`, `.npz`, `.npy`, `.mat`, `.h5`, `.csv`, `.tsv`, `.txt`, `.parquet`; or a folder, whose files are one animal each.
    activity, time, units
        Key, column or variable of the traces, of their clock (seconds), and of the names. `units` may also be the names themselves, or
        the columns of a table to take.
    rate
        Samples a second, where the file has no clock.
    orientation
        `time unit` (a row a sample) or `unit time`, where the file leaves it open.
    series
        Which series of traces of an NWB file, by name or address; `units` for its spike times.
    mend
        What to put right: `duplicates` (number units of the same name), `negative` (begin at 0), `order` (sort by time), `outside` (drop
        spikes outside the time recorded).
    check
        Whether to look the recording over; see `recordings.check`.

    Returns
    -------
    xr.Dataset or Collection
        `activity (time, unit)`, or `spike_time (spike)` and `spike_unit (spike)`, indices into coordinate `unit`; where the file has them,
        `behaviour (behaviour_time, variable)`, `stimulus (stimulus_time, ...)`, `stimulus_start/stop/label (interval)`, `trial_start/stop (trial)`
        and their columns. Several behaviours on different clocks are `behaviour_NAME`. Times are in seconds. attrs: `rate`, `source`,
        `provenance`.

    Raises
    ------
    InputError, UnknownNameError
        No such file, a format that is not read, a damaged file, several arrays that could be meant, or a recording that cannot
        be used; the message says what to pass.
    MissingExtraError
        A format whose library is not installed.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "worm.csv"
    >>> _ = file.write_text("time,AVAL,AVAR\n0.0,1.0,2.0\n0.5,1.5,\n1.0,1.0,1.0\n")
    >>> worm = open(file)
    >>> worm["activity"].sel(unit="AVAR").values.tolist(), worm.attrs["rate"]
    ([2.0, nan, 1.0], 2.0)
    """
    request = requested(
        activity=activity, time=time, units=units, rate=rate, orientation=orientation, series=series, mend=mend
    )
    return opened(path, request, check=check)


def opened(
    path: str | Path, request: Request, *, check: bool = True, scan: bool | None = None, skip_bad: bool = False
) -> xr.Dataset | Collection:
    """The same for what was asked as a whole; `scan` says whether all activity is looked at, `skip_bad` whether files that cannot be read are
    left out of a folder.
    """
    place = existing(path)
    found = _read(place, request, skip_bad)
    if not isinstance(found, Collection):
        return _looked_over(found, request, place.name, f"{place.name}: ", check, scan)
    out: dict[str, xr.Dataset] = {}
    bad: list[str] = []
    for animal, recording in found.items():
        try:
            out[animal] = _looked_over(
                recording, request, recording.attrs.get("source", animal), f"{animal}: ", check, scan
            )
        except NisslError as error:
            bad.append(str(error))
    if bad and (not skip_bad or not out):
        raise InputError(f"{len(bad)} of {len(found)} recordings of {str(place)!r} cannot be used: " + "; ".join(bad[:5]) + ("; ..." if len(bad) > 5 else ""))  # fmt: skip
    for message in bad:
        warnings.warn(f"left out: {message}", RecordingWarning, stacklevel=3)
    return Collection(out)


def requested(*, units: Any = None, rate: Any = None, mend: Iterable[str] = (), **rest: Any) -> Request:
    """What was said about the files, checked."""
    if rate is not None and not (isinstance(rate, int | float) and 0 < rate < float("inf")):
        raise InputError(f"rate is {rate!r}; give samples a second, above 0")
    if units is not None and not isinstance(units, str):
        units = [str(u) for u in units]
    return Request(units=units, rate=rate, mend=remedies(mend), **rest)


def existing(path: str | Path) -> Path:
    """The path, or an error that names the nearest."""
    text = str(path)
    if re.match(r"^[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise InputError(f"{text!r} is not on this machine; copy it here first, then open the copy")
    place = Path(text).expanduser()
    if not place.exists():
        around = [p.name for p in place.parent.iterdir()] if place.parent.is_dir() else []
        near = nearest(place.name, around, n=3)
        told = (
            f"; nearest: {', '.join(map(repr, near))}"
            if near
            else ("" if place.parent.is_dir() else f"; there is no folder {str(place.parent)!r} either")
        )
        raise InputError(f"there is no file or folder {text!r}{told}")
    return place


def _read(place: Path, request: Request, skip_bad: bool = False) -> xr.Dataset | Collection:
    from nissl.recordings._files.read_xarray import is_zarr, read_zarr

    if place.is_dir():
        return read_zarr(place, request) if is_zarr(place) else read_folder(place, request, skip_bad)
    readers = _readers()
    suffix = place.suffix.lower()
    if suffix not in readers:
        near = nearest(suffix, readers, n=1) if suffix else []
        raise InputError(f"{place.name!r} {f'ends in {suffix!r}' if suffix else 'has no ending'}; " + (f"nearest: {near[0]!r}; " if near else "") + f"recordings end in {', '.join(readers)}")  # fmt: skip
    if suffix == ".zarr":
        raise InputError(f"{str(place)!r} is a file; a zarr store is a folder")
    if place.stat().st_size == 0:
        raise InputError(f"{str(place)!r} is empty")
    return readers[suffix](place, request)


def files_of(folder: Path) -> tuple[list[Path], list[Path]]:
    """The recordings of a folder and its subfolders in natural order, and the files that are none."""
    from nissl.recordings._files.read_xarray import is_zarr

    readers, found, others = _readers(), [], []

    def walk(here: Path) -> None:
        for item in here.iterdir():
            if item.name.startswith((".", "__")):
                continue
            if item.is_dir():
                if is_zarr(item):
                    found.append(item)
                else:
                    walk(item)
            elif item.suffix.lower() in readers and item.suffix.lower() != ".txt":
                found.append(item)
            else:
                others.append(item)

    walk(folder)
    return sorted(found, key=lambda p: natural(p.relative_to(folder))), others


def read_folder(folder: Path, request: Request, skip_bad: bool = False) -> Collection:
    """Every recording of a folder, an animal each, named after its file.

    Raises
    ------
    InputError
        No recordings, or some that cannot be read: all of them are named at once.
    """
    found, others = files_of(folder)
    if not found:
        kinds = sorted({p.suffix or p.name for p in others})
        raise InputError(
            f"folder {str(folder)!r} holds no recordings"
            + (f" (only {', '.join(kinds[:6])})" if kinds else "")
            + f"; they end in {', '.join(_readers())}"
        )
    names = _animal_names(found, folder)
    out: dict[str, xr.Dataset] = {}
    bad: list[str] = []
    for file, name in zip(found, names, strict=True):
        try:
            one = _read(file, request)
        except NisslError as error:
            bad.append(str(error) if file.name in str(error) else f"{file.name}: {error}")
            continue
        parts = {f"{name}/{a}": r for a, r in one.items()} if isinstance(one, Collection) else {name: one}
        out |= {str(a): r for a, r in parts.items()}
    if bad and (not skip_bad or not out):
        raise InputError(
            f"{len(bad)} of {len(found)} files of {str(folder)!r} cannot be read: "
            + "; ".join(bad[:5])
            + ("; ..." if len(bad) > 5 else "")
        )
    for message in bad:
        warnings.warn(f"left out: {message}", RecordingWarning, stacklevel=3)
    if others:
        skipped = sorted(p.name for p in others)
        warnings.warn(
            f"{len(skipped)} file(s) that are no recordings were left alone: {', '.join(skipped[:5])}",
            RecordingWarning,
            stacklevel=3,
        )
    return Collection(out)


def _animal_names(files: list[Path], folder: Path) -> list[str]:
    """Stems, where they tell the files apart; else paths within the folder, with the ending if need be."""
    for how in (
        lambda p: p.stem,
        lambda p: p.relative_to(folder).with_suffix("").as_posix(),
        lambda p: p.relative_to(folder).as_posix(),
    ):
        names = [how(p) for p in files]
        if len(set(names)) == len(names):
            return names
    return names


def _looked_over(recording: xr.Dataset, request: Request, source: str, where: str, check: bool, scan: bool | None) -> xr.Dataset:  # fmt: skip
    out = mended(recording, request.mend) if request.mend else recording
    if check:
        raise_and_warn(findings(out, None, scan), where)
    if not out.attrs.get("provenance"):
        settings = {k: sorted(v) if isinstance(v, frozenset) else v for k, v in vars(request).items()}
        note(out, {"step": "open", "source": source, "settings": {k: v for k, v in settings.items() if v not in (None, [])}})  # fmt: skip
    return out
