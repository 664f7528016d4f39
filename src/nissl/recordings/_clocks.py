"""From one clock to another: spikes into bins, behaviour and stimuli onto the clock of the activity."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr

from nissl.errors import InputError, unknown
from nissl.recordings._homogenising.operators import Interpolation, segments
from nissl.recordings._homogenising.smoothing import GAP
from nissl.recordings._homogenising.step import check_choice, check_positive


def bin_spikes(
    recording: xr.Dataset, width: float = 0.01, start: float | None = None, stop: float | None = None
) -> xr.DataArray:
    """Spikes counted in bins of equal width.

    Parameters
    ----------
    recording
        With `spike_time (spike)` in seconds and `spike_unit (spike)`.
    width
        Of a bin, in seconds.
    start, stop
        Seconds. By default the recording's attributes `start` and `stop`, its observed intervals, else 0 and the bin of the last spike. Only whole
        bins are counted; a spike at an edge belongs to the bin that begins there.

    Returns
    -------
    xr.DataArray
        Counts `(time, unit)`, 64-bit integers (float with NaN where a unit was not observed); `time` is the centre of a bin;
        attrs `bin_width`.

    Raises
    ------
    InputError
        No spikes in the recording, or a window shorter than a bin.

    Examples
    --------
    >>> spikes = xr.Dataset({"spike_time": ("spike", [0.1, 0.4, 0.5]), "spike_unit": ("spike", [0, 1, 0])}, {"unit": ["a", "b"]})
    >>> bin_spikes(spikes, width=0.5, start=0, stop=1).values.tolist()
    [[1, 1], [1, 0]]
    """
    if "spike_time" not in recording:
        raise InputError(
            f"a recording with {', '.join(map(str, recording.data_vars)) or 'nothing'} in it; wanted: spike_time and spike_unit"
        )
    check_positive("width", width, "seconds")
    when, whose = recording["spike_time"].values, recording["spike_unit"].values
    names = recording["unit"].values
    begin, end = _window(recording, when, width, start, stop)
    # A window of 10 s has 1000 bins of 10 ms, whatever a double makes of 0.01.
    n_bins = int(np.floor((end - begin) / width + 1e-9))
    if n_bins < 1:
        raise InputError(
            f"from {begin:.4g} to {end:.4g} s there is no whole bin of {width:.4g} s; take narrower bins, or another window"
        )
    bins = np.floor((when - begin) / width + 1e-9).astype(np.int64)
    keep = (bins >= 0) & (bins < n_bins) & (when >= begin)
    counts = np.bincount(bins[keep] * len(names) + whose[keep], minlength=n_bins * len(names)).reshape(
        n_bins, len(names)
    )
    centres = begin + (np.arange(n_bins) + 0.5) * width
    values = _observed_only(recording, counts, centres, width)
    return xr.DataArray(
        values,
        dims=("time", "unit"),
        coords={"time": ("time", centres, {"units": "s"}), "unit": ("unit", names)},
        name="spikes",
        attrs={"bin_width": float(width), "quantity": "spikes"},
    )


def _window(
    r: xr.Dataset, when: np.ndarray, width: float, start: float | None, stop: float | None
) -> tuple[float, float]:
    observed = {"observed_start", "observed_stop"} <= set(r.variables) and r["observed_start"].size
    default_start = r.attrs.get("start", float(r["observed_start"].min()) if observed else 0.0)
    begin = float(default_start if start is None else start)
    last = float(when.max()) if len(when) else begin
    # Where nothing says when recording ended, the bin of the last spike is the last.
    unsaid = begin + width * (np.floor((last - begin) / width + 1e-9) + 1)
    default_stop = r.attrs.get("stop", float(r["observed_stop"].max()) if observed else unsaid)
    end = float(default_stop if stop is None else stop)
    if not (np.isfinite(begin) and np.isfinite(end) and end > begin):
        raise InputError(f"a window from {begin:.4g} to {end:.4g} s; it must end after it begins")
    return begin, end


def _observed_only(r: xr.Dataset, counts: np.ndarray, centres: np.ndarray, width: float) -> np.ndarray:
    """NaN in bins in which a unit was not watched throughout."""
    if not {"observed_start", "observed_stop", "observed_unit"} <= set(r.variables):
        return counts
    unit = r["observed_unit"].values
    known = np.ones(counts.shape, dtype=bool)
    known[:, np.unique(unit)] = False
    slack = 1e-9 + width / 2
    for i, start, stop in zip(unit, r["observed_start"].values, r["observed_stop"].values, strict=True):
        known[:, i] |= (centres - slack >= start - 2e-9) & (centres + slack <= stop + 2e-9)
    return counts if known.all() else np.where(known, counts, np.nan)


def on_clock(
    recording: xr.Dataset,
    variable: str = "behaviour",
    clock: Any = "time",
    *,
    method: Literal["auto", "interpolate", "mean", "previous"] = "auto",
    max_gap: float | None = None,
) -> xr.DataArray:
    """A variable with a clock of its own, put onto the clock of the activity; nothing is invented across gaps or beyond its ends.

    Parameters
    ----------
    recording
        Holds the variable, its clock (`behaviour_time`, ...) and the other clock.
    variable
        `behaviour`, `stimulus`, or any variable whose first dimension is a clock.
    clock
        Name of a coordinate, or times in seconds, in any order.
    method
        `interpolate` between neighbours; `mean` of the samples nearer to this moment than to any other; `previous` value, for what jumps, such
        as stimulus labels. `auto` averages where the variable is sampled at least twice as fast as the clock, else interpolates.
    max_gap
        Longest step of the variable's clock that is bridged, in seconds; 2.5 of its median intervals by default.

    Returns
    -------
    xr.DataArray
        The variable on the clock, NaN where nothing is known.

    Raises
    ------
    InputError, UnknownNameError
        No such variable, or one without a clock that runs forward; times that are not finite.

    Examples
    --------
    >>> x = xr.Dataset({"activity": (("time", "unit"), np.eye(3)), "behaviour": (("behaviour_time", "variable"), [[0.0], [2.0]])},
    ...                {"time": [0.0, 0.5, 3.0], "unit": list("abc"), "behaviour_time": [0.0, 1.0], "variable": ["speed"]})
    >>> on_clock(x, "behaviour").values.ravel().tolist()
    [0.0, 1.0, nan]
    """
    if variable not in recording:
        raise unknown("variable", variable, map(str, recording.data_vars))
    x = recording[variable]
    own = next(
        (str(d) for d in x.dims if str(d) in recording.coords and (str(d).endswith("_time") or str(d) == "time")), None
    )
    if own is None:
        raise InputError(f"{variable} has axes {tuple(map(str, x.dims))}, none of which is a clock")
    if isinstance(clock, str):
        if clock not in recording.coords:
            raise unknown("clock", clock, map(str, recording.coords))
        clock = recording[clock].values
    target = np.asarray(clock, dtype=float)
    check_choice("method", method, ("auto", "interpolate", "mean", "previous"))
    x = x.transpose(own, ...)
    time = np.asarray(x[own].values, dtype=float)
    if len(time) < 2 or len(target) < 1:
        raise InputError(f"{variable} has {len(time)} sample(s) on its own clock; wanted: 2 or more")
    if not (np.diff(time) >= 0).all() or not np.isfinite(target).all():
        raise InputError(f"the clock of {variable} must not run back, and no time be NaN; sort or drop such samples")
    order = np.argsort(target, kind="stable")  # events come in any order
    target = target[order]
    gap = max_gap if max_gap is not None else GAP * float(np.median(np.diff(time)))
    values = np.asarray(x.values, dtype=float).reshape(len(time), -1)
    if method == "auto":
        faster = len(target) > 1 and np.median(np.diff(target)) >= 2 * np.median(np.diff(time))
        method = "mean" if faster else "interpolate"
    out = np.empty((len(target), values.shape[1]))
    out[order] = _HOW[method](time, values, target, gap)
    dims = ("time", *x.dims[1:])
    coords = {str(d): x[d] for d in x.dims[1:] if d in x.coords}
    return xr.DataArray(
        out.reshape(len(target), *x.shape[1:]),
        dims=dims,
        coords={"time": target[np.argsort(order)], **coords},
        name=variable,
        attrs=x.attrs,
    )


def _interpolated(time: np.ndarray, x: np.ndarray, target: np.ndarray, gap: float) -> np.ndarray:
    known = (target >= time[0]) & (target <= time[-1])
    operator = Interpolation(time, segments(time, gap), target[known])
    first, last = operator.needs(0, operator.n_out)
    rows = operator.rows(0, operator.n_out, np.zeros(last - first, dtype=bool))
    out = np.full((len(target), x.shape[1]), np.nan)
    part = rows.matrix @ x[first:last] if known.any() else np.empty((0, x.shape[1]))
    part[rows.void] = np.nan
    out[known] = part
    return out


def _averaged(time: np.ndarray, x: np.ndarray, target: np.ndarray, gap: float) -> np.ndarray:
    """Means over the samples nearest to each moment."""
    middle = (target[1:] + target[:-1]) / 2
    first, last = 2 * target[0] - middle[0], 2 * target[-1] - middle[-1]
    bins = np.searchsorted(np.concatenate([[first], middle, [last]]), time, side="right") - 1
    inside = (bins >= 0) & (bins < len(target))
    known = ~np.isnan(x) & inside[:, None]
    total, count = np.zeros((2, len(target), x.shape[1]))
    np.add.at(total, bins[inside], np.where(known, x, 0.0)[inside])
    np.add.at(count, bins[inside], known[inside])
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _previous(time: np.ndarray, x: np.ndarray, target: np.ndarray, gap: float) -> np.ndarray:
    at = np.searchsorted(time, target, side="right") - 1
    out = x[np.maximum(at, 0)].copy()
    out[(at < 0) | (target - time[np.maximum(at, 0)] > gap)] = np.nan
    return out


_HOW = {"interpolate": _interpolated, "mean": _averaged, "previous": _previous}
