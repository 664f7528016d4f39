"""What the steps of a pipeline share: scikit-learn's interface, recordings in and out, and a record of what was done."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin

from nissl.errors import InputError
from nissl.recordings._files.assembly import assembled
from nissl.recordings._homogenising.flow import by_rows
from nissl.recordings._homogenising.plan import Make, Plan, Result, execute, in_memory
from nissl.recordings._notes import RecordingWarning, note, plain, provenance
from nissl.recordings._traces import as_traces, listed


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
            return _with_coordinates(x)
        kinds = ", ".join(map(str, x.data_vars)) or "nothing"
        hint = "; bin its spikes first: recordings.bin_spikes(recording, width)" if "spike_time" in x else ""
        raise InputError(f"a recording with {kinds} in it; wanted: activity (time, unit){hint}")
    return xr.Dataset({"activity": as_traces(x, constant="keep")})


def _with_coordinates(x: xr.Dataset) -> xr.Dataset:
    """With a clock, by its rate where it has none, and with names, by number."""
    if "time" not in x.coords:
        rate = x.attrs.get("rate")
        if not rate:
            raise InputError(
                "a recording without a clock; give it a coordinate 'time' in seconds, or an attribute 'rate' in hertz"
            )
        x = x.assign_coords(time=("time", np.arange(x.sizes["time"]) / float(rate)))
    return x if "unit" in x.coords else x.assign_coords(unit=np.arange(x.sizes["unit"]))


_RAW = ("activity", "residual")  # what steps work on


def run(steps: list[Step], recording: xr.Dataset, make: Make | None = None, *, tell: bool = False) -> xr.Dataset:
    """All steps in one pass, into memory, or into arrays that `make` makes; `tell` of units that are empty or never change."""
    plan = planned(steps, recording)
    with ExitStack() as stack:
        found = {name: recording[name].transpose("time", "unit") for name in _RAW if name in recording}
        raw = {name: stack.enter_context(by_rows(x)) for name, x in found.items()}
        result = execute(plan, raw, make or in_memory)
    if tell:
        _tell_about_units(recording["unit"].values, result)
    out = assembled(recording, plan, result)
    note(out, *(step.settings() for step in steps))
    return out


def _tell_about_units(names: np.ndarray, result: Result) -> None:
    empty = result.seen.count == 0
    still = result.seen.constant & ~empty
    if (empty | still).all():
        raise InputError(f"no unit of this recording ever changes ({len(names)} units); look at how it was read")
    if empty.any():
        warnings.warn(f"units without a single sample: {listed(names[empty])}", RecordingWarning, stacklevel=4)
    if still.any():
        warnings.warn(
            f"units that never change, and so have no z-score: {listed(names[still])}", RecordingWarning, stacklevel=4
        )


def planned(steps: list[Step], recording: xr.Dataset) -> Plan:
    """What the steps will do to this recording."""
    plan = Plan.begin(recording["activity"].transpose("time", "unit"))
    if len(plan.time) < 2:
        raise InputError(f"a recording of {len(plan.time)} sample(s); wanted: 2 or more")
    if "residual" in recording:
        plan.chains["residual"] = []
    for step in steps:
        step._extend(plan)
    if len(plan.time) < 2:
        raise InputError("fewer than 2 samples are left; take a smaller dt")
    return plan


def check_choice(name: str, value: object, allowed: tuple[Any, ...]) -> None:
    """Raise unless a setting is one of those allowed, naming the nearest."""
    if value not in allowed:
        from nissl.errors import nearest, unknown

        # The right word may look nothing like the one given: 'zscore' is 'standard' here.
        options = [str(a) for a in allowed]
        hint = "allowed: " + ", ".join(map(repr, options)) if nearest(str(value), options) else ""
        raise unknown(name, value, options, hint)


def check_positive(name: str, value: Any, unit: str = "") -> None:
    """Raise unless a setting is a finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or not np.isfinite(value) or value <= 0:  # fmt: skip
        raise InputError(f"{name} is {value!r}; give a number above 0" + (f", in {unit}" if unit else ""))


__all__ = ["Step", "check_choice", "check_positive", "planned", "provenance", "recording_of", "run"]
