"""Counts of spikes, on the bins a model wants, from whatever holds spikes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError
from nissl.populations.neuroformer.tokens import whole_bins
from nissl.recordings import RecordingWarning, as_traces, bin_spikes, check


def spike_counts(recording: Any, bin_width: float, *, silent: str = "raise") -> xr.DataArray:
    """Counts `(time, unit)` in bins of a width, with times of bin centres in seconds.

    Parameters
    ----------
    recording
        A Dataset with `spike_time` and `spike_unit`, or with counts `spikes (time, unit)`; a DataArray of counts; an array of
        counts `(time, unit)` whose bins already have the width.
    bin_width
        Seconds. Narrower bins of the recording are added up.
    silent
        `raise` refuses units without a spike, `keep` passes them on.

    Raises
    ------
    InputError
        Counts that are negative or fractional, spikes outside the recorded time, wider or incommensurable bins, silent units.
    """
    if silent not in ("raise", "keep"):
        raise InputError(f"silent={silent!r}; allowed: 'raise', 'keep'")
    if isinstance(recording, xr.Dataset) and "spikes" not in recording and "spike_time" in recording:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RecordingWarning)  # silent units are dealt with below
            check(recording)
        recording = bin_spikes(recording, width=bin_width)
    elif isinstance(recording, xr.Dataset) and "spikes" not in recording:
        held = ", ".join(map(str, recording.data_vars)) or "nothing"
        raise InputError(
            f"the recording holds {held}; a model of spikes wants `spikes` (time, unit) or `spike_time` and `spike_unit`"
        )
    counts = as_traces(
        recording,
        rate=None if hasattr(recording, "dims") else 1 / bin_width,
        variable=_variable(recording),
        constant="keep",
    )
    counts = _rebinned(counts, bin_width)
    known = counts.values[np.isfinite(counts.values)]
    if (known < 0).any():
        raise InputError(f"{(known < 0).sum()} counts are negative; counts of spikes are whole numbers from 0 up")
    if (known != np.round(known)).any():
        raise InputError(
            "counts are fractional, as in a trace of fluorescence; give spikes, or counts of spikes in bins"
        )
    quiet = counts["unit"].values[np.nansum(counts.values, axis=0) == 0]
    if len(quiet) and silent == "raise":
        raise InputError(
            f"{len(quiet)} unit(s) never fire: {', '.join(map(str, quiet[:6]))}{' ...' if len(quiet) > 6 else ''}; leave them out with "
            "recording.sel(unit=...), or give silent='keep'"
        )
    return counts


def _variable(recording: Any) -> str | None:
    return "spikes" if isinstance(recording, xr.Dataset) else None


def _rebinned(counts: xr.DataArray, bin_width: float) -> xr.DataArray:
    """Bins added up to the width asked for; times lost in gaps are filled with NaN, so that bins stay evenly spaced."""
    time = counts["time"].values.astype(float)
    own = float(counts.attrs.get("bin_width", 0)) or float(np.median(np.diff(time)))
    steps = np.diff(time) / own
    if np.abs(steps - np.round(steps)).max(initial=0) > 0.05:
        raise InputError(
            f"bins of {own:g} s do not lie on an even grid; bin the spike times anew with recordings.bin_spikes"
        )
    if own > bin_width * (1 + 1e-6):
        raise InputError(
            f"the recording's bins are {own:g} s wide, the model's {bin_width:g} s; give bin_width={own:g} or narrower bins"
        )
    factor = whole_bins(bin_width, own, "bin_width")
    values = counts.values
    if (np.round(steps) > 1).any():
        place = np.r_[0, np.cumsum(np.round(steps))].astype(int)
        filled = np.full((place[-1] + 1, values.shape[1]), np.nan)
        filled[place] = values
        values = filled
    n = len(values) // factor
    values = values[: n * factor].reshape(n, factor, -1).sum(1)
    start = time[0] - own / 2
    grid = start + (np.arange(n) + 0.5) * bin_width
    return xr.DataArray(
        values, {"time": grid, "unit": counts["unit"].values}, ("time", "unit"), attrs={"bin_width": bin_width}
    )
