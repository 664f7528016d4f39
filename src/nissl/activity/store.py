"""Activity on disk: a zarr group that grows batch by batch, and a manifest that says how far it is.

A batch counts only once the manifest, replaced in one step, says so. A run that is killed begins again after the last
batch that counts and writes the same bytes over whatever the killed one left behind, so that it ends in the same store
as a run that was never disturbed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import xarray as xr
import zarr
import zarr.storage

from nissl.activity._corpus import Batch, Corpus, Question, filler
from nissl.activity._fingerprint import model_fingerprint
from nissl.activity._selection import TOKEN_AXES, AxisNames
from nissl.errors import StoreError
from nissl.models import Model

_MANIFEST = "manifest"
_FORMAT = 1


class Store:
    """A store that is being written, or is complete.

    Attributes
    ----------
    path
        Folder or URL.
    manifest
        What was asked, of which network, about which samples, and how far it is.
    """

    def __init__(self, path: str, manifest: dict[str, Any], corpus: Corpus, question: Question) -> None:
        self.path = path
        self.manifest = manifest
        self.corpus = corpus
        self.question = question
        self.names = AxisNames()
        self._group: zarr.Group | None = None

    @classmethod
    def open(cls, path: str, model: Model, corpus: Corpus, question: Question) -> Store:
        """Begin a store, or go on with one that was begun with the same question.

        Raises
        ------
        StoreError
            A path that cannot be written, holds something else, is damaged, or belongs to another question.
        """
        asked = _asked(model, corpus, question)
        with _explained(path, 0):
            known = _read(path)
            if known is None:
                _refuse_foreign(path)
                fresh = {
                    "format": _FORMAT,
                    **asked,
                    "batches": 0,
                    "samples": 0,
                    "digest": "",
                    "complete": False,
                    "chunks": {},
                }
                store = cls(path, fresh, corpus, question)
                store._save()
                return store
        _compare(path, known, asked)
        store = cls(path, known, corpus, question)
        store._check_finished_batches()
        store._check_stream()
        return store

    @property
    def complete(self) -> bool:
        """Whether every sample is in it."""
        return bool(self.manifest["complete"])

    @property
    def samples_done(self) -> int:
        """How many samples are in finished batches."""
        return int(self.manifest["samples"])

    def write(self, batch: Batch) -> None:
        """Add a batch; it counts once the manifest is replaced."""
        rows = len(next(iter(batch.activity.values()))[1])
        start, number = self.samples_done, int(self.manifest["batches"])
        with _explained(self.path, number):
            for name, (dims, array) in batch.variables().items():
                array = self._padded(dims, array)
                target = self._array(name, dims, array, start + rows)
                target[(slice(start, start + rows), *(slice(s) for s in array.shape[1:]))] = array
            if batch.position is not None:
                self._positions(batch.position)
            self.manifest.update(batches=number + 1, samples=start + rows, digest=self.corpus.digest())
            self._save()

    def finish(self) -> None:
        """Mark the store complete."""
        with _explained(self.path, int(self.manifest["batches"])):
            self.manifest["complete"] = True
            self._save()

    def dataset(self) -> xr.Dataset:
        """What is in the store, read when it is used."""
        dataset = xr.open_zarr(_place(self.path), consolidated=False, chunks=None)
        known = [n for n in ("token", "mask", "generated") if n in dataset]
        dataset = dataset[[*self.manifest["sites"], *known]]
        return dataset.set_coords(known).assign_coords(sample=np.arange(dataset.sizes["sample"]))

    # ------------------------------------------------------------------------------------------------------- writing

    def _padded(self, dims: tuple[str, ...], array: np.ndarray) -> np.ndarray:
        """The array as wide as the longest text of a list, so that every batch fills its chunk."""
        width = self.corpus.width if self.question.selection.positions is None else None
        if width is None:
            return array
        short = [
            (0, width - s if d in (*TOKEN_AXES, "key_position") else 0) for d, s in zip(dims, array.shape, strict=True)
        ]
        if not any(after for _, after in short):
            return array
        return np.pad(array, short, constant_values=filler(array.dtype))

    def _array(self, name: str, dims: tuple[str, ...], array: np.ndarray, rows: int) -> zarr.Array:
        group = self._open_group()
        total = self.corpus.n or rows
        if name not in group or name not in self.manifest["chunks"]:
            self._create(group, name, dims, array, total)
        target = group[name]
        assert isinstance(target, zarr.Array)
        wanted = tuple(map(max, target.shape, (total, *array.shape[1:])))
        if wanted != target.shape:
            target.resize(wanted)
        return target

    def _create(self, group: zarr.Group, name: str, dims: tuple[str, ...], array: np.ndarray, total: int) -> None:
        """One chunk a batch, so that no chunk is ever read back; activity hardly compresses, so it is not tried."""
        text = array.dtype == object
        kind = "str" if text else array.dtype
        chunks = (self.question.batch_size, *array.shape[1:])
        group.create_array(
            name,
            shape=(total, *array.shape[1:]),
            chunks=chunks,
            dtype=kind,
            fill_value=filler(array.dtype),
            compressors=None,
            dimension_names=self.names.name(dims, array.shape),
            config={"write_empty_chunks": True},
            overwrite=True,
        )
        self.manifest["chunks"][name] = list(chunks)

    def _positions(self, position: np.ndarray) -> None:
        group = self._open_group()
        if "position" in group:
            known = group["position"]
            assert isinstance(known, zarr.Array)
            if known.shape[0] >= len(position):
                return
        target = group.create_array(
            "position",
            shape=position.shape,
            chunks=position.shape,
            dtype="int64",
            compressors=None,
            dimension_names=("position",),
            overwrite=True,
        )
        target[:] = position

    def _open_group(self) -> zarr.Group:
        if self._group is None:
            self._group = zarr.open_group(_place(self.path), mode="a")
        return self._group

    def _save(self) -> None:
        # The manifest lives in the group's attributes; zarr replaces that file in one step, so the group never stands
        # without one.
        if self._group is None and not self.manifest["chunks"]:
            self._group = zarr.create_group(_place(self.path), attributes={_MANIFEST: self.manifest}, overwrite=True)
        else:
            self._group = self._open_group().update_attributes({_MANIFEST: self.manifest})

    # ------------------------------------------------------------------------------------------------------ checking

    def _check_stream(self) -> None:
        """A stream is hashed while the finished samples are skipped; a list was hashed as a whole."""
        if self.corpus.n is not None or self.samples_done == 0:
            return
        seen, more = self.corpus.skip(self.samples_done)
        if seen != self.manifest["digest"]:
            raise StoreError(f"{self.path!r} was begun with other inputs; record into another path")
        if self.complete and more:
            raise StoreError(
                f"{self.path!r} is complete with {self.samples_done} samples, and these inputs have more; record into another path"
            )

    def _check_finished_batches(self) -> None:
        """Every chunk of every finished batch is there in full; what a killed run left half-written is removed."""
        if not _is_local(self.path):
            return
        root = Path(self.path)
        for stray in root.rglob("*.partial"):
            stray.unlink(missing_ok=True)
        group = self._open_group() if self.manifest["batches"] else None
        for name, chunks in self.manifest["chunks"].items():
            if group is None or name not in group:
                raise StoreError(
                    f"{self.path!r} is truncated: array {name!r} is missing; delete the store and record again"
                )
            array = group[name]
            assert isinstance(array, zarr.Array)
            for axis, size in zip(array.metadata.dimension_names or (), array.shape, strict=True):  # type: ignore[union-attr]
                self.names.sizes.setdefault(str(axis), size)
            size = None if array.dtype.kind not in "fbiu" else int(np.prod(chunks)) * array.dtype.itemsize
            for batch in range(self.manifest["batches"]):
                file = root / name / "c" / "/".join([str(batch), *["0"] * (array.ndim - 1)])
                if not file.is_file() or (size is not None and file.stat().st_size != size):
                    raise StoreError(
                        f"{self.path!r} is truncated: batch {batch} of {name!r} is missing or cut short; delete the store and record again"
                    )


@contextmanager
def _explained(path: str, batches: int) -> Iterator[None]:
    """Turn what the file system says into what a person can do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        kept = f"; {batches} finished batches are kept, run again to go on" if batches else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError(f"no room left for {path!r} ({os.strerror(error.errno)}); make room{kept}") from error
        raise StoreError(
            f"{path!r} cannot be written: {error.strerror or error}; choose another place{kept}"
        ) from error


def _asked(model: Model, corpus: Corpus, question: Question) -> dict[str, Any]:
    """Everything that the bytes in the store depend on."""
    return {
        "model": {"name": model.name, "hash": model_fingerprint(model)},
        "sites": [s.name for s in question.sites],
        "positions": repr(question.selection.positions),
        "units": repr(question.selection.units),
        "dtype": question.dtype,
        "batch_size": question.batch_size,
        "generate": question.generate,
        "inputs": {"samples": corpus.n, "hash": corpus.fingerprint()},
    }


def _compare(path: str, known: dict[str, Any], asked: dict[str, Any]) -> None:
    differing = [key for key in asked if known.get(key) != asked[key]]
    if not differing:
        return
    key = differing[0]
    told = ", ".join(differing)
    was, now = (
        f"{{'samples': {v.get('samples')}, ...}}" if key == "inputs" else repr(v)
        for v in (known.get(key) or {}, asked[key])
    )
    if key == "model":
        was, now = (f"{v['name']} ({v['hash'][:8]})" for v in (known[key], asked[key]))
    raise StoreError(
        f"{path!r} belongs to another question: it differs in {told} ({key} was {was}, now {now}); record into another path"
    )


def _read(path: str) -> dict[str, Any] | None:
    """The manifest, or None where there is none."""
    if _is_local(path) and Path(path).exists() and not Path(path).is_dir():
        raise StoreError(f"{path!r} is a file; give a folder to write to")
    damaged = StoreError(f"{path!r} is damaged: its manifest cannot be read; delete the store and record again")
    try:
        manifest = zarr.open_group(_place(path), mode="r").attrs.get(_MANIFEST)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged from None
    if manifest is None:
        return None
    try:
        known: dict[str, Any] = {str(k): v for k, v in manifest.items()}  # type: ignore[union-attr]
        if known["format"] != _FORMAT:
            raise StoreError(
                f"{path!r} was written in format {known['format']}, this nissl reads {_FORMAT}; record into another path"
            )
        known["batches"], known["chunks"], known["samples"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged from None
    return known


def _refuse_foreign(path: str) -> None:
    """A folder with anything in it is somebody's; only what a run killed in its first moment left may be written
    over.
    """
    if not (_is_local(path) and Path(path).is_dir()):
        return
    if any(not p.name.endswith(".partial") for p in Path(path).iterdir()):
        raise StoreError(
            f"{path!r} holds something else than a store of activity; nothing in it was touched, choose another path"
        )


def _place(path: str) -> Any:
    return zarr.storage.LocalStore(path) if _is_local(path) else zarr.storage.FsspecStore.from_url(path)


def _is_local(path: str) -> bool:
    return urlparse(path).scheme in ("", "file") or len(urlparse(path).scheme) == 1
