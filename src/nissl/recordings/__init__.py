"""What is this recording? Opened, homogenised, wired, simulated."""

from nissl.recordings._collection import Collection
from nissl.recordings._homogenise import homogenise, homogeniser
from nissl.recordings._normalising import DeltaF, Normalise
from nissl.recordings._ordering import Order
from nissl.recordings._resampling import Resample, Residual, StartAtZero
from nissl.recordings._smoothing import Smooth
from nissl.recordings._step import RecordingWarning, provenance
from nissl.recordings._traces import as_traces

__all__ = [
    "Collection",
    "DeltaF",
    "Normalise",
    "Order",
    "RecordingWarning",
    "Resample",
    "Residual",
    "Smooth",
    "StartAtZero",
    "as_traces",
    "homogenise",
    "homogeniser",
    "provenance",
]
