"""Several animals: recordings of unequal length on one axis of neurons."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nissl.errors import InputError, unknown
from nissl.recordings._names import clean, is_name, natural
from nissl.recordings._traces import listed

RATIO = 300  # rates further apart than this are a mistake of units, such as milliseconds taken for seconds


class Collection(Mapping[str, xr.Dataset]):
    """Recordings by animal. What is ragged stays ragged until `stack` is asked for.

    Parameters
    ----------
    recordings
        Animal -> recording.

    Raises
    ------
    InputError
        No recordings, or sampling rates so far apart that one of them cannot be in seconds.

    Examples
    --------
    >>> def animal(n):
    ...     return xr.Dataset({"activity": (("time", "unit"), np.ones((n, 2)))}, {"time": np.arange(n) / 2, "unit": ["AVAL", "RIML"]})
    >>> worms = Collection({"first": animal(4), "second": animal(6)})
    >>> worms.stack()["activity"].shape, worms["first"]["activity"].shape
    ((2, 6, 2), (4, 2))
    """

    def __init__(self, recordings: Mapping[str, xr.Dataset]) -> None:
        self._recordings = {str(k): v for k, v in recordings.items()}
        if not self._recordings:
            raise InputError("a collection without a recording; give one or more")
        for animal, recording in self._recordings.items():
            if not isinstance(recording, xr.Dataset):
                raise InputError(f"{animal}: a {type(recording).__name__}; give a recording (xarray.Dataset)")
        check_rates(self._recordings)

    @classmethod
    def of(cls, recordings: Any) -> Collection:
        """A collection from a collection, a mapping, or a list of recordings (numbered, or named by their attribute `animal`)."""
        if isinstance(recordings, cls):
            return recordings
        if isinstance(recordings, Mapping):
            return cls({str(k): v for k, v in recordings.items()})
        if not isinstance(recordings, Iterable):
            raise InputError(
                f"a {type(recordings).__name__} is no recording; give a Dataset, a list or mapping of them, or a path"
            )
        from nissl.recordings._homogenising.step import recording_of

        names: dict[str, xr.Dataset] = {}
        for i, recording in enumerate(recordings):
            if isinstance(recording, xr.DataArray | np.ndarray) or hasattr(recording, "detach"):
                recording = recording_of(recording)
            name = str(getattr(recording, "attrs", {}).get("animal", i))
            names[name if name not in names else f"{name} ({i})"] = recording
        return cls(names)

    def __getitem__(self, animal: str) -> xr.Dataset:
        try:
            return self._recordings[animal]
        except KeyError:
            raise unknown("animal", animal, self._recordings) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._recordings)

    def __len__(self) -> int:
        return len(self._recordings)

    @property
    def animals(self) -> list[str]:
        """Their names."""
        return list(self._recordings)

    @property
    def units(self) -> np.ndarray:
        """Names on the common axis: the units of the first animal, then those that only others have."""
        names = dict.fromkeys(str(u) for r in self.values() if "unit" in r.coords for u in r["unit"].values)
        return np.asarray(list(names), dtype=object)

    def map(self, function: Callable[[xr.Dataset], xr.Dataset]) -> Collection:
        """The same animals with a function applied to each recording."""
        return Collection({animal: function(recording) for animal, recording in self.items()})

    def table(self) -> pd.DataFrame:
        """A row an animal: seconds, rate in hertz, units, units recorded, share of samples that are missing in those.

        Recordings on disk are read for it, one at a time.
        """
        rows = []
        for animal, recording in self.items():
            row: dict[str, Any] = {"animal": animal, "seconds": np.nan, "rate": rate_of(recording), "units": recording.sizes.get("unit", 0)}  # fmt: skip
            if "activity" in recording:
                time = recording["time"].values
                known = ~np.isnan(np.asarray(recording["activity"].values, dtype=float))
                seen = known.any(0)
                row |= {
                    "seconds": float(time[-1] - time[0]), "recorded": int(seen.sum()), "missing": float(1 - known[:, seen].mean()) if seen.any() else 1.0
                }  # fmt: skip
            elif "spike_time" in recording:
                row |= {"recorded": len(np.unique(recording["spike_unit"].values))}
            rows.append(row)
        return pd.DataFrame(rows).set_index("animal")

    def stack(self) -> xr.Dataset:
        """One Dataset with dims `(animal, time, unit)`, padded with NaN (False in masks) where an animal has no sample or no such unit.

        Recordings on disk are read when the result is.

        Raises
        ------
        InputError
            Animals on different clocks.
        """
        from nissl.recordings._stacking import stacked

        return stacked(self)

    def save(self, path: Any, *, overwrite: bool = False) -> Any:
        """Write every animal into one zarr folder; `recordings.open` reads it back."""
        from nissl.recordings._files.saving import save

        return save(self, path, overwrite=overwrite)

    def __repr__(self) -> str:
        lines = [f"Collection of {len(self)} recording(s), {len(self.units)} units"]
        for animal, recording in list(self.items())[:12]:
            sizes = ", ".join(
                f"{k} {v}" for k, v in recording.sizes.items() if k in ("time", "unit", "unlabelled", "spike")
            )
            lines.append(f"  {animal}: {sizes}")
        return "\n".join(lines + (["  ..."] if len(self) > 12 else []))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def rate_of(recording: xr.Dataset) -> float:
    """Samples a second: by the recording's own clock, else by its attribute; NaN where neither says."""
    if "time" in recording.coords and recording.sizes.get("time", 0) > 1:
        return 1 / float(np.median(np.diff(recording["time"].values)))
    return float(recording.attrs.get("rate", np.nan))


def check_rates(recordings: Mapping[str, xr.Dataset]) -> None:
    """Refuse rates that can only be a mistake of units."""
    rates = {animal: rate_of(r) for animal, r in recordings.items()}
    known = {a: r for a, r in rates.items() if np.isfinite(r) and r > 0}
    if not known or max(known.values()) <= RATIO * min(known.values()):
        return
    low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    raise InputError(
        f"sampling rates {known[high] / known[low]:.3g} times apart: {low!r} has {known[low]:.4g} Hz, {high!r} has {known[high]:.4g} Hz; times are in seconds: open the one in other units with rate=..., or homogenise them apart"
    )


def common_units(recordings: Iterable[xr.Dataset]) -> np.ndarray:
    """Every name that says which neuron it is, cleaned of padding zeros, in natural order."""
    names = {clean(u) for r in recordings if "unit" in r.coords for u in r["unit"].values if is_name(u)}
    return np.asarray(sorted(names, key=natural), dtype=object)


__all__ = ["Collection", "listed"]
