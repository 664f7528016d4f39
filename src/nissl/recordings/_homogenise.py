"""One clock, one order and one scale for recordings from anywhere."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from sklearn.pipeline import Pipeline
from tqdm import tqdm

from nissl.errors import InputError, NisslError
from nissl.recordings._collection import Collection, common_units
from nissl.recordings._normalising import DeltaF, Normalise
from nissl.recordings._ordering import Order, neuron_list
from nissl.recordings._resampling import CENTRE, Resample, Residual, StartAtZero
from nissl.recordings._smoothing import Smooth
from nissl.recordings._step import RecordingWarning, Step, recording_of, run


def homogeniser(
    *,
    dt: float = 1 / 3,
    smooth: Literal["moving", "exponential", "gaussian"] | None = "moving",
    window: int = 15,
    alpha: float = 0.5,
    sigma: float = 5.0,
    normalise: Literal["standard", "causal", "dF/F"] | None = "standard",
    baseline: float = 60.0,
    neurons: Sequence[str] | str | None = None,
    aliases: Mapping[str, str] | None = None,
    interpolate: Literal["linear", "quadratic", "cubic"] = "linear",
    max_gap: float | None = None,
    residual: bool = True,
    burn_in: float = 0.0,
) -> Pipeline:
    """The steps of `homogenise` as a scikit-learn pipeline, to be changed, cloned, searched over or applied by hand.

    Parameters
    ----------
    dt, smooth, window, alpha, sigma, normalise, baseline, neurons, aliases, interpolate, max_gap, residual, burn_in
        As in `homogenise`.

    Examples
    --------
    >>> steps = homogeniser(smooth="gaussian", normalise="causal")
    >>> [name for name, _ in steps.steps]
    ['start', 'residual', 'smooth', 'resample', 'normalise', 'order']
    >>> steps.set_params(smooth__sigma=3.0)["smooth"].sigma
    3.0
    """
    steps: list[tuple[str, Step]] = [("start", StartAtZero())]
    if residual:
        steps.append(("residual", Residual()))
    steps.append(("smooth", Smooth(method=smooth, window=window, alpha=alpha, sigma=sigma)))
    steps.append(("resample", Resample(dt=dt, interpolate=interpolate, max_gap=max_gap)))
    if normalise == "dF/F":
        steps.append(("normalise", DeltaF(window=baseline)))
    else:
        steps.append(("normalise", Normalise(method=normalise, burn_in=burn_in)))
    steps.append(("order", Order(neurons=neurons, aliases=aliases)))
    return Pipeline(steps)


def homogenise(
    recordings: Any,
    dt: float = 1 / 3,
    smooth: Literal["moving", "exponential", "gaussian"] | None = "moving",
    window: int = 15,
    normalise: Literal["standard", "causal", "dF/F"] | None = "standard",
    neurons: Sequence[str] | str | None = None,
    interpolate: Literal["linear", "quadratic", "cubic"] = "linear",
    *,
    alpha: float = 0.5,
    sigma: float = 5.0,
    baseline: float = 60.0,
    aliases: Mapping[str, str] | None = None,
    max_gap: float | None = None,
    residual: bool = True,
    burn_in: float = 0.0,
    progress: bool = True,
) -> xr.Dataset | Collection:
    """Put recordings on one clock, in one order, on one scale; what is missing stays missing.

    In this order: time begins at 0; the residual (rate of change of raw activity); causal smoothing of both; resampling to an even
    clock, with nothing invented across gaps; normalisation; every neuron into its slot. Each step is also a class with the same
    name, and the settings travel with the result (`recordings.provenance`).

    Parameters
    ----------
    recordings
        A recording (Dataset), a Collection, a list or a mapping animal -> recording, or a path that `recordings.open` reads.
    dt
        Seconds between samples of the result.
    smooth, window, alpha, sigma
        See `Smooth`: `moving` over `window` samples of the recording's own clock, `exponential` by `alpha`, `gaussian` by `sigma` samples.
    normalise
        `standard`: z-score over the recording. `causal`: over the past only, for forecasting. `dF/F`: by a running percentile over
        `baseline` seconds. None.
    neurons
        Names of the common axis: a list, or `hermaphrodite-300` for the worm. None takes the union of all names that say which
        neuron it is; names that only number a column (`17`, `cell_003`) are nobody's, and their traces are kept as unlabelled. A
        single recording keeps its units as they are.
    interpolate, max_gap
        See `Resample`.
    aliases
        Other names of neurons.
    residual
        Whether to keep rates of change as well.
    burn_in
        Seconds marked missing at the beginning after causal normalisation.
    progress
        Whether to show a bar for several recordings.

    Returns
    -------
    xr.Dataset or Collection
        A Dataset for a Dataset, else a Collection. `activity (time, unit)`, `residual`, `labeled (unit)` (recorded under this name), `valid
        (time)` (something was recorded), `activity_mean` and `activity_sd` to undo the normalisation, `activity_unlabelled (time, unlabelled)`;
        stimulus, behaviour and trials on their own clocks, begun at 0 too.

    Raises
    ------
    InputError, UnknownNameError
        Settings that are not allowed, a recording that cannot be used, sampling rates that cannot all be in seconds.

    Examples
    --------
    >>> import nissl
    >>> rng = np.random.default_rng(0)
    >>> def animal(names, rate):
    ...     x = rng.normal(size=(300, len(names)))
    ...     return xr.Dataset({"activity": (("time", "unit"), x)}, {"time": np.arange(300) / rate, "unit": names})
    >>> both = nissl.recordings.homogenise({"a": animal(["AVAL", "DB01"], 10.0), "b": animal(["DB1", "RIML"], 5.0)}, dt=0.5)
    >>> both.units.tolist(), dict(both.stack()["activity"].sizes)
    (['AVAL', 'DB1', 'RIML'], {'animal': 2, 'time': 119, 'unit': 3})

    References
    ----------
    Simeon et al., homogenised C. elegans neural activity and connectivity data.
    """
    settings: dict[str, Any] = dict(
        dt=dt, smooth=smooth, window=window, alpha=alpha, sigma=sigma, normalise=normalise, baseline=baseline, neurons=neurons,
        aliases=aliases, interpolate=interpolate, max_gap=max_gap, residual=residual, burn_in=burn_in,
    )  # fmt: skip
    if isinstance(recordings, str | Path):
        from nissl.recordings._open import open as open_path

        recordings = open_path(recordings)
    if not isinstance(recordings, Mapping | Sequence) or isinstance(recordings, xr.Dataset):
        return run(steps_of(homogeniser(**settings)), recording_of(recordings))
    collection = Collection.of(recordings)
    pipelines = pipelines_for(collection, settings)
    out: dict[str, xr.Dataset] = {}
    bar = tqdm(collection.items(), total=len(collection), desc="homogenise", unit="recording", disable=None if progress else True)  # fmt: skip
    for animal, recording in bar:
        with naming(animal):
            out[animal] = run(pipelines[animal], recording)
    return Collection(out)


def pipelines_for(collection: Collection, settings: dict[str, Any]) -> dict[str, list[Step]]:
    """The steps for each animal, so that all end on one clock and one axis; checked against its clock and names."""
    wanted = neuron_list(settings["neurons"])
    if wanted is None:
        wanted = common_units(collection.values())
    if not len(wanted):
        warnings.warn(
            "no unit has a name that says which neuron it is, so animals share no axis of neurons; give names in the files, or neurons=[...]", RecordingWarning, stacklevel=3
        )  # fmt: skip
    out: dict[str, list[Step]] = {}
    for animal, recording in collection.items():
        steps = steps_of(homogeniser(**{**settings, "neurons": settings["neurons"] if len(wanted) else None}))
        if len(wanted) and settings["neurons"] is None:
            steps[-1].set_params(neurons=[str(n) for n in wanted])
        out[animal] = steps
        _ = recording
    averaged = {a: _resample(out[a]).averages(median_interval(r)) for a, r in collection.items()}
    if any(averaged.values()):
        for animal, grouped in averaged.items():
            if not grouped:
                _resample(out[animal]).set_params(offset=CENTRE)
    return out


def median_interval(recording: xr.Dataset) -> float:
    """Seconds between samples."""
    return float(np.median(np.diff(recording["time"].values)))


def steps_of(pipeline: Pipeline) -> list[Step]:
    """The steps without their names."""
    return [step for _, step in pipeline.steps]


def _resample(steps: list[Step]) -> Resample:
    return next(s for s in steps if isinstance(s, Resample))


class naming:  # noqa: N801
    """Say which animal an error is about."""

    def __init__(self, animal: str) -> None:
        self.animal = animal

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NisslError):
            raise type(error)(f"{self.animal}: {error}") from error


__all__ = ["InputError", "homogenise", "homogeniser"]
