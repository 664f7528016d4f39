"""What is this recording? Opened, homogenised, wired, simulated."""

from nissl.recordings._check import check
from nissl.recordings._clocks import bin_spikes, on_clock
from nissl.recordings._collection import Collection
from nissl.recordings._connectome_compare import ConnectomeComparison, compare_connectomes
from nissl.recordings._connectome_merge import merge_connectomes
from nissl.recordings._homogenise import homogenise, homogeniser
from nissl.recordings._normalising import DeltaF, Normalise
from nissl.recordings._notes import RecordingWarning, provenance
from nissl.recordings._open import open  # noqa: A004
from nissl.recordings._ordering import Order
from nissl.recordings._resampling import Resample, Residual, StartAtZero
from nissl.recordings._save import save
from nissl.recordings._smoothing import Smooth
from nissl.recordings._traces import as_traces
from nissl.recordings.connectome import Connectome

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
    "merge_connectomes",
    "on_clock",
    "open",
    "provenance",
    "save",
]
