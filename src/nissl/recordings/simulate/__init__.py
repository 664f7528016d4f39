"""Populations whose truth is known, seeded and fast."""

from nissl.recordings.simulate.block_graphs import planted_partition, weighted_lfr
from nissl.recordings.simulate.calcium import calcium
from nissl.recordings.simulate.hub_circuit import hub_circuit
from nissl.recordings.simulate.motifs import motifs
from nissl.recordings.simulate.tuning import adapted_recordings, adapted_tuning, adapter_ensemble, orientation_ring

__all__ = [
    "adapted_recordings",
    "adapted_tuning",
    "adapter_ensemble",
    "calcium",
    "hub_circuit",
    "motifs",
    "orientation_ring",
    "planted_partition",
    "weighted_lfr",
]
