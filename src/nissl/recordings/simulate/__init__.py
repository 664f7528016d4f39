"""Populations whose truth is known, seeded and fast."""

from nissl.recordings.simulate.block_graphs import planted_partition, weighted_lfr
from nissl.recordings.simulate.branch_cell import branch_cell
from nissl.recordings.simulate.calcium import calcium
from nissl.recordings.simulate.circuits import spiking_hubs, tuned_population, visual_population
from nissl.recordings.simulate.hub_circuit import hub_circuit
from nissl.recordings.simulate.motifs import motifs
from nissl.recordings.simulate.oscillations import (
    coupled_oscillators,
    nested_oscillation,
    phase_locked_spikes,
    pink_noise,
)
from nissl.recordings.simulate.replay import place_cells, replay_events
from nissl.recordings.simulate.retina import (
    RETINA_TYPES,
    SIMPLE_AND_COMPLEX,
    CellType,
    Retina,
    RetinaModel,
    natural_stimuli,
    retina,
)
from nissl.recordings.simulate.samples import sample, samples
from nissl.recordings.simulate.switching_glm import lag_kernel, simulate_switching_glm
from nissl.recordings.simulate.tuning import adapted_recordings, adapted_tuning, adapter_ensemble, orientation_ring
from nissl.recordings.simulate.worms import SimulatedWorms, worm_animals, worm_circuit, worm_labs

__all__ = [
    "RETINA_TYPES",
    "SIMPLE_AND_COMPLEX",
    "CellType",
    "Retina",
    "RetinaModel",
    "SimulatedWorms",
    "adapted_recordings",
    "adapted_tuning",
    "adapter_ensemble",
    "branch_cell",
    "calcium",
    "coupled_oscillators",
    "hub_circuit",
    "lag_kernel",
    "motifs",
    "natural_stimuli",
    "nested_oscillation",
    "orientation_ring",
    "phase_locked_spikes",
    "pink_noise",
    "place_cells",
    "planted_partition",
    "replay_events",
    "retina",
    "sample",
    "samples",
    "simulate_switching_glm",
    "spiking_hubs",
    "tuned_population",
    "visual_population",
    "weighted_lfr",
    "worm_animals",
    "worm_circuit",
    "worm_labs",
]
