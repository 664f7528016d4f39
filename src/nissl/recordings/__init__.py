"""What is this recording? Opened, homogenised, wired, simulated."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nissl.recordings import worm
from nissl.recordings._check import check
from nissl.recordings._clocks import bin_spikes, on_clock
from nissl.recordings._collection import Collection
from nissl.recordings._files.opening import open  # noqa: A004
from nissl.recordings._files.saving import save
from nissl.recordings._homogenising.normalising import DeltaF, Normalise
from nissl.recordings._homogenising.ordering import Order
from nissl.recordings._homogenising.pipeline import homogenise, homogeniser
from nissl.recordings._homogenising.resampling import Resample, Residual, StartAtZero
from nissl.recordings._homogenising.smoothing import Smooth
from nissl.recordings._mending import mend
from nissl.recordings._notes import RecordingWarning, provenance
from nissl.recordings._traces import as_traces
from nissl.recordings._wiring.compare import ConnectomeComparison, compare_connectomes
from nissl.recordings._wiring.connectome import Connectome
from nissl.recordings._wiring.merge import merge_connectomes

if TYPE_CHECKING:
    from nissl.recordings import simulate

__all__ = [
    "Collection",
    "Connectome",
    "ConnectomeComparison",
    "DeltaF",
    "Normalise",
    "Order",
    "RecordingWarning",
    "Resample",
    "Residual",
    "Smooth",
    "StartAtZero",
    "as_traces",
    "bin_spikes",
    "check",
    "compare_connectomes",
    "homogenise",
    "homogeniser",
    "mend",
    "merge_connectomes",
    "on_clock",
    "open",
    "provenance",
    "save",
    "simulate",
    "worm",
]


def __getattr__(name: str) -> Any:
    if name == "simulate":  # some simulators are torch modules, which reading a file has no need of
        return importlib.import_module("nissl.recordings.simulate")
    raise AttributeError(f"module 'nissl.recordings' has no attribute {name!r}")
