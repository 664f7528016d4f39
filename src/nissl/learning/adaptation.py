"""How well a learner followed a stream that changed: late accuracy, advantage over another, time to recover."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nissl.errors import InputError
from nissl.statistics import Measured, measure


def late_accuracy(result: xr.Dataset, *, start: float = 0.5) -> xr.DataArray:
    """Mean online accuracy of each run from a fraction of the stream on, `(run,)`.

    Examples
    --------
    >>> late_accuracy(xr.Dataset({"accuracy": (("run", "batch"), [[0.0, 0.5, 1.0, 0.8]])})).values.round(3).tolist()
    [0.9]
    """
    if not 0 <= start < 1:
        raise InputError(f"start {start}; it is a fraction of the stream, in [0, 1)")
    accuracy = result["accuracy"]
    return accuracy.isel(batch=slice(int(start * accuracy.sizes["batch"]), None)).mean("batch", dtype=float)


def advantage(result: xr.Dataset, reference: xr.Dataset, *, start: float = 0.5) -> Measured:
    """How much more often learners are right than others that saw the same streams: pairs, with intervals over runs.

    Examples
    --------
    >>> ours, theirs = (xr.Dataset({"accuracy": (("run", "batch"), [[a, a], [a, a]])}) for a in (0.8, 0.6))
    >>> found = advantage(ours, theirs)
    >>> round(found.value - found.control, 3)
    0.2
    """
    values, control = (np.atleast_1d(late_accuracy(r, start=start).to_numpy()) for r in (result, reference))
    return measure("online accuracy", values, control)


def recovery_time(result: xr.Dataset, *, level: float = 0.9, window: int = 200) -> xr.DataArray:
    """Samples from each swap until accuracy is back at a share of what it was, `(event,)`.

    Accuracy is averaged over `window` samples: the last ones before the swap give the level, and the time is the beginning of the first such window after it that
    reaches ``level`` times as much. NaN where that does not happen before the next swap or the end of the stream: leave those out and recovery looks quicker than it is.

    Parameters
    ----------
    result
        Of `run_stream`.
    level
        Share of the accuracy before.
    window
        Samples averaged over; no longer than the time between swaps.

    Examples
    --------
    >>> accuracy = np.r_[np.full(50, 0.9), np.full(10, 0.5), np.full(40, 0.9)]
    >>> result = xr.Dataset(
    ...     {"accuracy": ("batch", accuracy), "swap_sample": ("event", [500]), "swap_run": ("event", [0])},
    ...     coords={"sample": ("batch", np.arange(0, 1000, 10))},
    ... )
    >>> recovery_time(result, window=100).values.tolist()
    [80.0]
    """
    if not 0 < level <= 1:
        raise InputError(f"level {level}; it is a share of the accuracy before the swap, in (0, 1]")
    samples = result["sample"].to_numpy()
    size = int(samples[1] - samples[0]) if len(samples) > 1 else 1
    width = window // size
    if width < 1:
        raise InputError(f"window {window}; a minibatch has {size} samples, so take at least that")
    accuracy = np.atleast_2d(result["accuracy"].transpose(..., "batch").to_numpy().astype(float))
    # Mean of the windows that begin at each minibatch.
    total = np.pad(accuracy.cumsum(1), ((0, 0), (1, 0)))
    means = (
        (total[:, width:] - total[:, :-width]) / width if width <= accuracy.shape[1] else np.empty((len(accuracy), 0))
    )
    found = np.full(result.sizes["event"], np.nan)
    runs, swaps = result["swap_run"].to_numpy(), result["swap_sample"].to_numpy() // size
    for i, (run, at) in enumerate(zip(runs, swaps, strict=True)):
        later = swaps[(runs == run) & (swaps > at)]
        end = later.min() if len(later) else accuracy.shape[1]
        earlier = swaps[(runs == run) & (swaps < at)]
        if at - (earlier.max() if len(earlier) else 0) < width:
            raise InputError(
                f"window {window} is longer than the time before the swap at sample {at * size}; take a shorter one"
            )
        # Rounding of the running sum must not hide an exact return.
        back = np.flatnonzero(means[run, at : end - width + 1] >= level * means[run, at - width] - 1e-9)
        if len(back):
            found[i] = back[0] * size
    kept = {k: result[k] for k in ("swap_sample", "swap_run")}
    return xr.DataArray(found, dims="event", coords=kept, name="recovery_time", attrs={"units": "samples", "level": level, "window": width * size})  # fmt: skip
