"""Settings checked before any work starts, and resolved into what the model is made of."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError, unknown
from nissl.populations.neuroformer.tokens import whole_bins


def check_settings(model: Any) -> None:
    """Refuse hyper-parameters that cannot work, all before the recording is opened."""
    whole_bins(model.window, model.bin_width, "window")
    whole_bins(model.past, model.bin_width, "past")
    for name in ("dim", "heads", "batch_size", "max_events", "max_past", "contrast_dim", "checkpoint_every"):
        _whole(name, getattr(model, name), 1)
    _whole("steps", model.steps, 0)
    for name in ("learning_rate", "clip", "temperature", "stimulus_window"):
        value = getattr(model, name)
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{name}={value}; give a positive number")
    for name, low, high in (("dropout", 0, 1), ("warmup", 0, 1), ("weight_decay", 0, np.inf)):
        if not low <= getattr(model, name) < high:
            raise InputError(f"{name}={getattr(model, name)}; give a number from {low} to below {high}")
    if model.dim % model.heads:
        raise InputError(
            f"dim={model.dim} cannot be shared out among {model.heads} heads; give a multiple, such as {-(-model.dim // model.heads) * model.heads}"
        )
    layers = tuple(model.layers)
    if (
        len(layers) != 4
        or any(not isinstance(n, int | np.integer) or n < 0 for n in layers)
        or layers[3] < 1
        or layers[1] < 1
    ):
        raise InputError(
            f"layers={model.layers}; give four numbers of blocks (state, past, stimulus and groups, final), the second and last at least 1"
        )
    if len(tuple(model.patch)) != 3 or min(model.patch) < 1:
        raise InputError(f"patch={model.patch}; give frames, height and width of a patch")


def _whole(name: str, value: Any, low: int) -> None:
    if not isinstance(value, int | np.integer) or value < low:
        raise InputError(f"{name}={value!r}; give a whole number of {low} or more")


def inputs_of(
    inputs: str | Sequence[str] | Mapping[str, Sequence[str]], contrast: Sequence[str], recording: Any, callback: bool
) -> tuple[bool, bool, dict[str, tuple[str, ...]]]:
    """Whether the past, and the stimulus, are looked at, and the groups of behaviour."""
    shown = callback or (isinstance(recording, xr.Dataset) and "stimulus" in recording)
    if isinstance(inputs, str):
        if inputs != "auto":
            raise InputError(f"inputs={inputs!r}; give 'auto', or a sequence such as ('past', 'stimulus', 'gaze')")
        past, see, groups = True, shown, {}
    elif isinstance(inputs, Mapping):
        past, see = "past" in inputs, "stimulus" in inputs
        groups = {str(k): tuple(v) for k, v in inputs.items() if k not in ("past", "stimulus")}
    else:
        past, see = "past" in inputs, "stimulus" in inputs
        groups = {str(k): (str(k),) for k in inputs if k not in ("past", "stimulus")}
    for name, variables in groups.items():
        if not variables or "." in name:
            raise InputError(
                f"group {name!r} with variables {variables}; give it at least one, and a name without a dot"
            )
    allowed = ["spikes", "stimulus", *groups]
    for name in contrast:
        if name not in allowed:
            raise unknown("modality", name, allowed)
    if len(set(contrast)) != len(contrast) or len(contrast) == 1:
        raise InputError(
            f"contrast={tuple(contrast)}; give two or more different modalities out of {', '.join(allowed)}, or none"
        )
    if ("stimulus" in contrast or see) and not shown:
        raise InputError(
            "the recording has no `stimulus`; add one with its clock `stimulus_time`, give a callback, or leave 'stimulus' out of inputs and contrast"
        )
    return past, see, groups


def classes_of(targets: Sequence[str] | Mapping[str, int], groups: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Number of classes of each target, 0 for a number."""
    found = (
        {str(k): int(v) for k, v in targets.items()} if isinstance(targets, Mapping) else {str(k): 0 for k in targets}
    )
    given = [v for group in groups.values() for v in group]
    for name, classes in found.items():
        if name in given:
            raise InputError(f"{name!r} is both an input and a target; predicting it would be reading it off")
        if classes < 0 or classes == 1:
            raise InputError(f"target {name!r} with {classes} classes; give 0 for a number, or at least 2 classes")
    return found


def as_pair(value: float | tuple[float, float], name: str, most: float) -> tuple[float, float]:
    """One number for units and times alike, or a pair."""
    pair = (value, value) if isinstance(value, int | float) else tuple(value)
    if len(pair) != 2 or not all(0 < v <= most and np.isfinite(v) for v in pair):
        raise InputError(
            f"{name}={value}; give a number above 0{'' if np.isinf(most) else f' and up to {most:g}'}, or a pair of them (units, times)"
        )
    return float(pair[0]), float(pair[1])


def warn_truncated(share: Mapping[str, float], max_events: int, max_past: int) -> None:
    """Say so where windows were cut."""
    for what, limit, name in (("window", max_events, "max_events"), ("past", max_past, "max_past")):
        if share[what] > 0:
            warnings.warn(
                f"{100 * share[what]:.2g}% of windows hold more than {limit} events in their {what}; the most recent are kept, which biases rates: raise {name}",
                stacklevel=4,
            )


Callback = Callable[[Any, float], Any]
