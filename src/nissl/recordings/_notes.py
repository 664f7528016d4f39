"""What is said about a recording: warnings, and the steps it has been through, which travel with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from nissl.errors import InputError


class RecordingWarning(UserWarning):
    """Something in a recording that can be worked with, and that its owner should know of."""


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


def plain_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes as JSON has them."""
    return {str(k): plain(v) for k, v in attrs.items()}
