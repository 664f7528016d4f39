"""Look a recording over: run every model and every test that its report shows."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

import nissl
from nissl import recordings
from nissl.errors import InputError, MissingExtraError, unknown
from nissl.recordings import as_traces
from nissl.recordings._traces import listed, renamed
from nissl.report._parts import decoding, factors, rhythms, states, wiring
from nissl.report.survey import Refused, Survey

PARTS: dict[str, Callable[..., Any]] = {
    "states": states, "factors": factors, "rhythms": rhythms, "wiring": wiring, "decoding": decoding,
}  # fmt: skip
_MISSING_FOR_MODELS = 0.2  # units with a larger share missing are shown, not modelled


def survey(
    recording: Any,
    *,
    rate: float | None = None,
    bin_width: float | None = None,
    title: str | None = None,
    animal: str | None = None,
    most_units: int = 40,
    most_samples: int = 3000,
    seed: int = 0,
    progress: bool = True,
    **file: Any,
) -> Survey:
    """Look a recording over, and test what is found.

    Parameters
    ----------
    recording
        A path that `recordings.open` reads, the name of a sample (`recordings.simulate.samples()`), a recording, a DataArray or an array `(time, unit)`.
    rate
        Samples a second, where the recording has no clock.
    bin_width
        Seconds in which spikes are counted; by default such that a unit fires about once in three bins, from 10 to 200 ms.
    title
        For the page; the file's name by default.
    animal
        Which one, where the recording is a folder or a collection of several.
    most_units, most_samples
        Models are fitted to the most active units, and to means (counts: sums) over neighbouring samples, up to these numbers. The report says what
        it left out.
    seed
        For everything random.
    progress
        Show a bar where standard error is a terminal.
    **file
        For `recordings.open`: activity, time, units, orientation, series, mend.

    Returns
    -------
    Survey
        With `.save(path)`, `.verdict`, `.summary()` and the figures themselves. A part that cannot be had for this recording is a `Refused` with the reason.

    Raises
    ------
    InputError, UnknownNameError
        A file that cannot be read, an empty recording, times that do not increase.

    Examples
    --------
    >>> import nissl
    >>> nissl.report.survey("worm.nwb").save("worm.html")  # doctest: +SKIP
    """
    data, name = _opened(recording, animal, rate, file)
    shown, spikes, left_out = _shown(data, rate, bin_width)
    analysed = _analysed(shown, spikes, most_units, most_samples)
    found: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    with tqdm(total=len(PARTS), disable=not (progress and sys.stderr.isatty()), desc="surveying", leave=False) as bar:
        for part, job in PARTS.items():
            bar.set_postfix_str(part)
            with _timed(seconds, part), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    found[part] = job(data, analysed, shown, spikes, seed)
                except (InputError, MissingExtraError) as error:
                    found[part] = Refused(str(error))
            bar.update()
    return Survey(
        title=title or name,
        spikes=spikes,
        shown=shown,
        analysed=analysed,
        missing=_missing(shown),
        left_out=left_out,
        spans=_spans(data),
        behaviour=_behaviour(data),
        facts=_facts(data, shown, analysed, spikes, seed),
        seconds=seconds,
        **found,
    )


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    seconds[part] = time.perf_counter() - begin


def _opened(recording: Any, animal: str | None, rate: float | None, file: dict[str, Any]) -> tuple[xr.Dataset, str]:
    """The recording as a Dataset, and what to call it."""
    name = "A recording"
    if isinstance(recording, str | Path):
        name = Path(recording).name
        if str(recording) in recordings.simulate.samples() and not Path(recording).exists():
            recording = recordings.simulate.sample(str(recording))
        else:
            recording = recordings.open(recording, rate=rate, **file)
    elif file:
        raise InputError(f"{', '.join(file)} say(s) how a file is read; this recording is open already")
    if isinstance(recording, recordings.Collection):
        if animal is None and len(recording) > 1:
            raise InputError(
                f"{name} holds {len(recording)} animals: {listed(recording)}; survey one of them with animal= (--animal)"
            )
        chosen = next(iter(recording)) if animal is None else animal
        if chosen not in recording:
            raise unknown("animal", chosen, recording)
        return recording[chosen], f"{name}, {chosen}" if len(recording) > 1 else name
    if animal is not None:
        own = str(recording.attrs["animal"]) if "animal" in getattr(recording, "attrs", {}) else None
        if animal != own:
            raise unknown(
                "animal", animal, [own] if own else [], "a recording of one animal; leave animal= (--animal) out"
            )
    if isinstance(recording, xr.Dataset):
        source = recording.attrs.get("source")
        return recording, name if name != "A recording" else str(source or name)
    if isinstance(recording, xr.DataArray):
        kept = recording.name if recording.name in ("activity", "spikes") else "activity"
        return recording.to_dataset(name=kept), str(recording.name or name)
    values = np.asarray(recording.detach().cpu() if hasattr(recording, "detach") else recording)
    if values.ndim != 2:
        raise InputError(f"an array of shape {values.shape}; give (time, unit), a recording, or a path")
    return xr.Dataset({"activity": (("time", "unit"), values)}), name


def _shown(
    data: xr.Dataset, rate: float | None, bin_width: float | None
) -> tuple[xr.DataArray, bool, dict[str, list[str]]]:
    """Everything that has something in it, as traces or counts; and what was left out, by reason."""
    if "spike_time" in data and "activity" not in data and "spikes" not in data:
        counts = recordings.bin_spikes(data, bin_width or _bin_width(data)).astype(float)
        data = counts.to_dataset(name="spikes")
    spikes = "activity" not in data and "spikes" in data
    name = "spikes" if spikes else "activity"
    if name not in data:
        as_traces(data)  # which says what is wanted
    values = renamed(data[name], ("time", "unit"))
    if set(values.dims) != {"time", "unit"}:
        raise InputError(f"{name} with axes {values.dims}; survey one trial or animal at a time, (time, unit)")
    values = values.transpose("time", "unit")
    if rate is None and "time" not in values.coords and values.attrs.get("time_unit") != "token":
        warnings.warn(
            "no clock: a sample is taken to last a second; pass rate=... (samples a second)",
            recordings.RecordingWarning,
            stacklevel=3,
        )
    known = ~np.isnan(values.values.astype(float))
    low = np.where(known, values.values, np.inf).min(0)
    high = np.where(known, values.values, -np.inf).max(0)
    names = [str(n) for n in (values["unit"].values if "unit" in values.coords else range(values.shape[1]))]
    empty = np.asarray(~known.any(0))
    still = np.asarray(~empty & (low == high))
    left_out = {
        why: [n for n, w in zip(names, which.tolist(), strict=True) if w]
        for why, which in (("without a sample", empty), ("silent" if spikes else "constant", still))
        if which.any()
    }
    keep = np.asarray(~(empty | still))
    if keep.sum() < 2:
        raise InputError(f"{int(keep.sum())} unit(s) with something in it; a survey needs two or more")
    traces = as_traces(values.isel(unit=keep), rate=rate, constant="keep", min_samples=20)
    return traces.assign_coords(unit=[n for n, k in zip(names, keep.tolist(), strict=True) if k]), spikes, left_out


def _bin_width(data: xr.Dataset) -> float:
    """Bins in which a unit fires about once in three, rounded to 1, 2 or 5 times ten milliseconds."""
    when = data["spike_time"].values
    if len(when) == 0:
        raise InputError("a recording without a single spike")
    rate = len(when) / max(float(when.max() - when.min()), 1e-9) / max(data.sizes.get("unit", 1), 1)
    wanted = 1 / (3 * max(rate, 1e-9))
    return float(min((0.01, 0.02, 0.05, 0.1, 0.2), key=lambda w: abs(np.log(w / wanted))))


def _analysed(shown: xr.DataArray, spikes: bool, most_units: int, most_samples: int) -> xr.DataArray:
    """The units that vary most among those recorded nearly always, on a clock that models can afford."""
    missing = np.isnan(shown.values).mean(0)
    good = np.flatnonzero(missing <= max(_MISSING_FOR_MODELS, np.sort(missing)[min(1, len(missing) - 1)]))
    size = np.nansum(shown.values, 0) if spikes else 1 - missing + 1e-6 * np.nanstd(shown.values, 0)
    chosen = np.sort(good[np.argsort(-size[good], kind="stable")][:most_units])
    few = shown.isel(unit=chosen)
    group = int(np.ceil(few.sizes["time"] / most_samples))
    if group == 1:
        return few
    coarse = few.coarsen(time=group, boundary="trim")
    # A stretch with a sample missing has no sum; its mean is over what there is.
    return coarse.reduce(np.sum) if spikes else coarse.mean()


def _missing(shown: xr.DataArray) -> pd.DataFrame:
    """A row a unit: the share of samples that are missing, and the longest gap in seconds."""
    gone = np.isnan(shown.values)
    step = float(np.median(np.diff(shown["time"].values)))
    index = np.arange(len(gone))[:, None]
    since = index - np.maximum.accumulate(np.where(gone, -1, index), axis=0)
    longest = np.where(gone, since, 0).max(0)
    return pd.DataFrame({"unit": shown["unit"].values, "missing": gone.mean(0), "longest_gap": longest * step})


def _spans(data: xr.Dataset) -> list[tuple[float, float, str]]:
    if "stimulus_start" not in data or "stimulus_stop" not in data:
        return []
    labels = data["stimulus_label"].values if "stimulus_label" in data else np.arange(data.sizes["interval"])
    return [
        (float(a), float(b), str(label))
        for a, b, label in zip(data["stimulus_start"].values, data["stimulus_stop"].values, labels, strict=True)
    ]


def _behaviour(data: xr.Dataset) -> xr.DataArray | None:
    return data.get("behaviour")


def _facts(data: xr.Dataset, shown: xr.DataArray, analysed: xr.DataArray, spikes: bool, seed: int) -> dict[str, str]:
    step, coarse = (float(np.median(np.diff(x["time"].values))) for x in (shown, analysed))
    return {
        "source": str(data.attrs.get("source", "not said")),
        "units": f"{shown.sizes['unit']} with something in them, {analysed.sizes['unit']} in the models",
        "clock": f"{1 / step:.4g} Hz ({shown.sizes['time']} {'bins' if spikes else 'samples'}); {1 / coarse:.4g} Hz in the models",
        "quantity": str(shown.attrs.get("quantity", "counts" if spikes else "as recorded")),
        "seed": str(seed),
        "nissl": nissl.__version__,
    }
