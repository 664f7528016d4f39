"""What the steps of a pipeline share: scikit-learn's interface, recordings in and out, and a record of what was done."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin

from nissl.errors import InputError
from nissl.recordings._lazy import as_variable
from nissl.recordings._plan import Make, Plan, Result, execute, in_memory
from nissl.recordings._traces import as_traces, listed


class RecordingWarning(UserWarning):
    """Something in a recording that can be worked with, and that its owner should know of."""


class Step(TransformerMixin, BaseEstimator):
    """A step of a pipeline: `fit`, `transform`, `get_params`, clone-able.

    Works on a recording (Dataset) and on plain traces: a DataArray or array `(time, unit)`, which come back as a DataArray.
    """

    def fit(self, recording: Any, y: Any = None) -> Step:
        """Check the settings against the recording; steps that learn from it do so here."""
        self._extend(Plan.begin(recording_of(recording)["activity"]))
        return self

    def transform(self, recording: Any) -> Any:
        """The recording after this step; the one given is left as it was."""
        whole = recording_of(recording)
        out = run([self], whole)
        return out if isinstance(recording, xr.Dataset) else out["activity"]

    def _extend(self, plan: Plan) -> None:
        """Add this step to what will be done, or say why it cannot."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """The name of the step and its parameters, as they are kept with the data."""
        return {"step": type(self).__name__, "settings": {k: plain(v) for k, v in self.get_params(deep=False).items()}}


def recording_of(x: Any) -> xr.Dataset:
    """A Dataset with `activity (time, unit)` from whatever traces come in; a Dataset is taken as it is.

    Raises
    ------
    InputError
        No activity in it.
    """
    if isinstance(x, xr.Dataset):
        if "activity" in x and set(x["activity"].dims) == {"time", "unit"}:
            return x
        kinds = ", ".join(map(str, x.data_vars)) or "nothing"
        hint = "; bin its spikes first: recordings.bin_spikes(recording, width)" if "spike_time" in x else ""
        raise InputError(f"a recording with {kinds} in it; wanted: activity (time, unit){hint}")
    return xr.Dataset({"activity": as_traces(x, constant="keep")})


def run(steps: list[Step], recording: xr.Dataset, make: Make | None = None) -> xr.Dataset:
    """All steps in one pass, into memory, or into arrays that `make` makes."""
    plan = planned(steps, recording)
    result = execute(plan, recording["activity"].transpose("time", "unit"), make or in_memory)
    arrays = {name: xr.DataArray(as_variable(array, dims)) for name, (dims, array) in result.arrays.items()}
    return assembled(steps, recording, plan, result, arrays)


def planned(steps: list[Step], recording: xr.Dataset) -> Plan:
    """What the steps will do to this recording."""
    plan = Plan.begin(recording["activity"].transpose("time", "unit"))
    if len(plan.time) < 2:
        raise InputError(f"a recording of {len(plan.time)} sample(s); wanted: 2 or more")
    if "residual" in recording:
        raise InputError("this recording has residuals already; start from the recording as it was opened")
    for step in steps:
        step._extend(plan)
    if len(plan.time) < 2:
        raise InputError("fewer than 2 samples are left; take a smaller dt")
    return plan


def assembled(
    steps: list[Step], recording: xr.Dataset, plan: Plan, result: Result, arrays: dict[str, xr.DataArray]
) -> xr.Dataset:
    """The recording with its new activity, everything else on its own clock, and the steps in its provenance."""
    layout = plan.layout
    resampled = not (len(plan.time) == recording.sizes["time"] and np.allclose(plan.time + plan.shift, recording["time"].values, rtol=0, atol=1e-9))  # fmt: skip
    out = _others(recording, plan, resampled)
    for name, array in arrays.items():
        array.attrs = dict(recording["activity"].attrs) if name == "activity" else {}
        out[name] = array
    out = out.assign_coords(time=("time", plan.time, {"units": "s"}), unit=("unit", layout.units, dict(recording["unit"].attrs)))  # fmt: skip
    if len(layout.rest_units):
        out = out.assign_coords(unlabelled=("unlabelled", layout.rest_units))
    labelled = np.zeros(len(layout.units), dtype=bool)
    labelled[layout.slots] = result.seen.count[layout.columns] > 0
    out["labeled"] = ("unit", labelled, {"long_name": "recorded under this name"})
    out["valid"] = ("time", result.valid, {"long_name": "at least one unit was recorded"})
    if plan.quantity:
        out["activity"].attrs["quantity"] = plan.quantity
    if "residual" in out:
        out["residual"].attrs.update(long_name="rate of change of raw activity, not normalised", quantity="1/s")
    out.attrs.update(rate=float(f"{1 / plan.interval:.12g}"), **plan.attrs)
    note(out, *(step.settings() for step in steps))
    _tell_about_units(recording, result)
    return out


def _others(recording: xr.Dataset, plan: Plan, resampled: bool) -> xr.Dataset:
    """What is not activity: clocks moved along; what lay on the activity's clock gets a clock of its own."""
    made = {"activity", "residual", "labeled", "valid", "activity_mean", "activity_sd"}
    keep = recording.drop_vars([n for n in made if n in recording], errors="ignore")
    along_unit = [n for n in keep.variables if "unit" in keep[n].dims and n != "unit"]
    if len(plan.layout.units) != recording.sizes["unit"] or not np.array_equal(plan.layout.columns, np.arange(recording.sizes["unit"])):  # fmt: skip
        moved = {n: _placed(keep[n], plan) for n in along_unit}
        keep = keep.drop_vars([*along_unit, "unit"], errors="ignore").assign({n: v for n, v in moved.items() if n in recording.data_vars}).assign_coords({n: v for n, v in moved.items() if n in recording.coords})  # fmt: skip
    if resampled:
        for name in [n for n in keep.variables if "time" in keep[n].dims and n != "time"]:
            clock = f"{name}_time"
            value = keep[name].variable
            value = value.copy(deep=False)
            value.dims = tuple(clock if d == "time" else d for d in value.dims)
            keep = keep.drop_vars(name).assign({str(name): value}).assign_coords({clock: (clock, recording["time"].values)})  # fmt: skip
        keep = keep.drop_vars("time", errors="ignore")
    if plan.shift:
        for name in [n for n in keep.variables if is_clock(str(n)) and keep[n].dtype.kind == "f"]:
            moved = keep[name].copy(data=keep[name].values - plan.shift)
            keep = keep.assign_coords({name: moved}) if name in keep.coords else keep.assign({str(name): moved})
    return keep


def _placed(x: xr.DataArray, plan: Plan) -> xr.Variable:
    """A value a unit, moved into the unit's slot."""
    x = x.transpose("unit", ...)
    layout = plan.layout
    filler: Any = np.nan if x.dtype.kind in "fiu" else (False if x.dtype.kind == "b" else "")
    dtype = (
        np.result_type(x.dtype, np.float32) if x.dtype.kind in "iu" else (x.dtype if x.dtype.kind in "fb" else object)
    )
    out = np.full((len(layout.units), *x.shape[1:]), filler, dtype=dtype)
    out[layout.slots] = x.values[layout.columns]
    return xr.Variable(x.dims, out, x.attrs)


def is_clock(name: str) -> bool:
    """Whether a variable holds seconds on the recording's clock."""
    return name == "time" or name.endswith(("_time", "_start", "_stop"))


def _tell_about_units(recording: xr.Dataset, result: Result) -> None:
    names = recording["unit"].values
    empty = result.seen.count == 0
    still = result.seen.constant & ~empty
    if (empty | still).all():
        raise InputError(f"no unit of this recording ever changes ({len(names)} units); look at how it was read")
    if empty.any():
        warnings.warn(f"units without a single sample: {listed(names[empty])}", RecordingWarning, stacklevel=4)
    if still.any():
        warnings.warn(f"units that never change: {listed(names[still])}; their z-score is NaN", RecordingWarning, stacklevel=4)  # fmt: skip


def note(recording: xr.Dataset, *steps: dict[str, Any]) -> None:
    """Add steps to the provenance that travels with a recording."""
    from nissl import __version__

    known = provenance(recording)
    recording.attrs["provenance"] = json.dumps([*known, *({**s, "nissl": __version__} for s in steps)])


def provenance(recording: xr.Dataset) -> list[dict[str, Any]]:
    """The steps a recording has been through, each with its settings, the first one first.

    Examples
    --------
    >>> import nissl
    >>> traces = np.random.default_rng(0).normal(size=(100, 3))
    >>> recording = xr.Dataset({"activity": (("time", "unit"), traces)}, {"time": np.arange(100) / 10, "unit": list("abc")})
    >>> smooth = nissl.recordings.Smooth(method="exponential").fit_transform(recording)
    >>> [s["step"] for s in nissl.recordings.provenance(smooth)]
    ['Smooth']
    """
    text = recording.attrs.get("provenance", "[]")
    try:
        found = json.loads(text) if isinstance(text, str) else list(text)
    except ValueError:
        raise InputError("the attribute 'provenance' of this recording is no JSON list; remove it") from None
    return found if isinstance(found, list) else [found]


def plain(value: Any) -> Any:
    """A setting as JSON knows it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray | xr.DataArray):
        return [plain(v) for v in np.asarray(value).tolist()]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def check_choice(name: str, value: object, allowed: tuple[Any, ...]) -> None:
    """Raise unless a setting is one of those allowed, naming the nearest."""
    if value not in allowed:
        from nissl.errors import unknown

        raise unknown(name, value, [str(a) for a in allowed])


def check_positive(name: str, value: Any, unit: str = "") -> None:
    """Raise unless a setting is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or not np.isfinite(value) or value <= 0:  # fmt: skip
        raise InputError(f"{name} is {value!r}; give a number above 0" + (f", in {unit}" if unit else ""))
