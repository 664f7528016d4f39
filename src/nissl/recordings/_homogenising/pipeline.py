"""One clock, one order and one scale for recordings from anywhere."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from sklearn.pipeline import Pipeline
from tqdm import tqdm

from nissl.errors import InputError, NisslError
from nissl.recordings._check import findings, raise_and_warn
from nissl.recordings._clocks import bin_spikes
from nissl.recordings._collection import Collection, common_units, rate_of
from nissl.recordings._files.saving import replacing
from nissl.recordings._files.zarr_store import ZarrStore
from nissl.recordings._homogenising.normalising import DeltaF, Normalise
from nissl.recordings._homogenising.ordering import Order, neuron_list
from nissl.recordings._homogenising.resampling import CENTRE, FINE, Resample, Residual, StartAtZero
from nissl.recordings._homogenising.smoothing import Smooth
from nissl.recordings._homogenising.step import Step, check_choice, check_positive, planned, recording_of, run
from nissl.recordings._notes import RecordingWarning


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
    check_choice("normalisation", normalise, ("standard", "causal", "dF/F", None))
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
    to: str | Path | None = None,
    overwrite: bool = False,
    skip_bad: bool = False,
    progress: bool = True,
) -> xr.Dataset | Collection:
    """Put recordings on one clock, in one order, on one scale; what is missing stays missing.

    In this order: time begins at 0; the residual (rate of change of raw activity); causal smoothing of both; resampling to an even
    clock, with nothing invented across gaps; normalisation; every neuron into its slot. Each step is also a class with the same
    name, and the settings travel with the result (`recordings.provenance`).

    Parameters
    ----------
    recordings
        A recording (Dataset; one of spikes is taken as rates in hertz, counted in sixths of `dt`), a Collection, a list or a mapping animal -> recording, or a path that `recordings.open` reads.
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
    to
        A zarr folder to write to, a stretch at a time, so that memory does not grow with the length of the recordings; `overwrite` replaces one
        that is there. The result is then read from it where it is indexed.
    skip_bad
        Whether recordings that cannot be used are left out, with a warning, rather than refused.
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
    single = isinstance(recordings, xr.Dataset | xr.DataArray | np.ndarray) or hasattr(recordings, "detach")
    if isinstance(recordings, str | Path):
        from nissl.recordings._files.opening import Request, opened

        recordings = opened(recordings, Request(), scan=False)  # every sample is seen below
        single = isinstance(recordings, xr.Dataset)
    if single:
        recordings = {_ALONE: recordings if isinstance(recordings, xr.Dataset) else recording_of(recordings)}
    collection = Collection.of(recordings)
    jobs = prepared(collection, settings, skip_bad)
    with ExitStack() as stack:
        store = None
        if to is not None:
            store = ZarrStore(stack.enter_context(replacing(zarr_path(to), overwrite)))
        bar = tqdm(total=len(jobs), desc="homogenise", unit="recording", disable=None if progress and len(jobs) > 1 else True)  # fmt: skip
        stack.callback(bar.close)
        out: dict[str, xr.Dataset] = {}
        for animal, steps in jobs.items():
            group = None if animal == _ALONE else animal
            try:
                with naming(animal):
                    made = run(
                        steps,
                        with_activity(collection[animal], dt),
                        None if store is None else store.array(group),
                        tell=True,
                    )
            except NisslError as error:
                if not skip_bad:
                    raise
                warnings.warn(f"left out: {error}", RecordingWarning, stacklevel=2)
                if store is not None:
                    store.drop(animal)
                continue
            if store is None:
                out[animal] = made
            else:
                store.recording(made, group)
                out[animal] = xr.Dataset()
            bar.update()
        if not out:
            raise InputError(f"none of {len(collection)} recordings could be homogenised")
        if store is not None and not single:
            store.finish(list(out))
    if to is not None:
        from nissl.recordings._files.opening import Request, opened

        return opened(zarr_path(to), Request(), scan=False)
    return out[_ALONE] if single else Collection(out)


_ALONE = ""  # the name of a recording that is no animal of several


def with_activity(recording: xr.Dataset, dt: float) -> xr.Dataset:
    """The recording with activity: where it has spikes instead, their rate in hertz, counted in sixths of a step."""
    if "activity" in recording or not {"spike_time", "spikes"} & set(recording.variables):
        return recording_of(recording)
    check_positive("dt", dt, "seconds")
    if "spikes" in recording:
        counts, width = recording["spikes"].transpose("time", "unit"), 1 / rate_of(recording)
    else:
        counts, width = bin_spikes(recording, dt / FINE), dt / FINE
    rate = counts / width
    rate.attrs = {"quantity": "spikes/s"}
    return recording.drop_vars("spikes", errors="ignore").assign(activity=rate)


def zarr_path(to: str | Path) -> Path:
    """Where a result goes: a zarr folder."""
    path = Path(to)
    if path.suffix.lower() not in ("", ".zarr"):
        raise InputError(f"{str(path)!r} ends in {path.suffix!r}; homogenised recordings go to a .zarr folder")
    return path if path.suffix else path.with_name(path.name + ".zarr")


def prepared(collection: Collection, settings: dict[str, Any], skip_bad: bool) -> dict[str, list[Step]]:
    """The steps for every animal, each checked against its clock and names before any is run."""
    check_positive("dt", settings["dt"], "seconds")
    pipelines = pipelines_for(collection, settings)
    bad: dict[str, NisslError] = {}
    for animal, recording in collection.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                one = with_activity(recording, settings["dt"])
                # Time begins at 0 in any case, so times below 0 are none the worse.
                raise_and_warn(f for f in findings(one, None, False) if f.severity == "error" and f.what != "negative")
                planned(pipelines[animal], one)
        except NisslError as error:
            bad[animal] = error
            del pipelines[animal]
    if len(bad) == len(collection) and len({str(e) for e in bad.values()}) == 1:
        raise next(iter(bad.values()))  # it lies with the settings, not with an animal
    told = [f"{animal}: {error}" for animal, error in bad.items()]
    if bad and (not skip_bad or not pipelines):
        raise InputError(f"{len(bad)} of {len(collection)} recordings cannot be homogenised: " + "; ".join(told[:5]) + ("; ..." if len(told) > 5 else ""))  # fmt: skip
    for message in told:
        warnings.warn(f"left out: {message}", RecordingWarning, stacklevel=3)
    return pipelines


def pipelines_for(collection: Collection, settings: dict[str, Any]) -> dict[str, list[Step]]:
    """The steps for each animal, so that all end on one clock and one axis."""
    wanted = neuron_list(settings["neurons"])
    if wanted is None and collection.animals != [_ALONE]:
        wanted = common_units(collection.values())
        if len(wanted):
            settings = {**settings, "neurons": [str(n) for n in wanted]}
        else:
            warnings.warn(
                "no unit has a name that says which neuron it is, so animals share no axis of neurons; give names in the files, or neurons=[...]", RecordingWarning, stacklevel=4
            )  # fmt: skip
    out = {animal: steps_of(homogeniser(**settings)) for animal in collection}
    averaged = {a: _resample(out[a]).averages(median_interval(r)) for a, r in collection.items()}
    if any(averaged.values()):  # the others are put onto the clock of these
        for animal, grouped in averaged.items():
            if not grouped:
                _resample(out[animal]).set_params(offset=CENTRE)
    return out


def median_interval(recording: xr.Dataset) -> float:
    """Seconds between samples."""
    steps = np.diff(recording["time"].values) if "time" in recording.coords else np.empty(0)
    return float(np.median(steps)) if len(steps) else np.inf


def steps_of(pipeline: Pipeline) -> list[Step]:
    """The steps without their names."""
    return [step for _, step in pipeline.steps]


def _resample(steps: list[Step]) -> Resample:
    return next(s for s in steps if isinstance(s, Resample))


@contextmanager
def naming(animal: str) -> Iterator[None]:
    """Say which animal an error or a warning is about."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except NisslError as error:
            if animal == _ALONE:
                raise
            raise type(error)(f"{animal}: {error}") from error
    for one in caught:
        text = f"{animal}: {one.message}" if animal != _ALONE else str(one.message)
        warnings.warn(text, one.category, stacklevel=5)
