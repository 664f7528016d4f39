"""Could it be built to be understood? Layers and networks whose neurons behave like neurons, as ordinary torch modules."""

from nissl.nn._cell import Cell, State, unroll
from nissl.nn._trace import leaky_trace
from nissl.nn._worm_steering import WormSteering
from nissl.nn.dendrites import (
    DendriticClassifier,
    DendriticNeuron,
    SequenceMemory,
    match_probability,
    miss_probability,
    optimal_threshold,
    union_capacity,
    union_size,
)
from nissl.nn.leaky_memory import LeakyMemoryNeuron
from nissl.nn.spiking import (
    LIF,
    AstrocyteMemory,
    AstrocyteModulatedUnit,
    AstroSNN,
    SpikingClassifier,
    SpikingNetwork,
    fading_memory,
    firing_rates,
    spike_rates,
    surrogate_gradient,
)
from nissl.nn.thought_machine import (
    ContinuousThoughtMachine,
    HalfTurn,
    ThoughtOutput,
    certainty,
    synchronisation,
    tick_loss,
)
from nissl.nn.worm_swimmer import WormSwimmer

__all__ = [
    "LIF",
    "AstroSNN",
    "AstrocyteMemory",
    "AstrocyteModulatedUnit",
    "Cell",
    "ContinuousThoughtMachine",
    "DendriticClassifier",
    "DendriticNeuron",
    "HalfTurn",
    "LeakyMemoryNeuron",
    "SequenceMemory",
    "SpikingClassifier",
    "SpikingNetwork",
    "State",
    "ThoughtOutput",
    "WormSteering",
    "WormSwimmer",
    "certainty",
    "fading_memory",
    "firing_rates",
    "leaky_trace",
    "match_probability",
    "miss_probability",
    "optimal_threshold",
    "spike_rates",
    "surrogate_gradient",
    "synchronisation",
    "tick_loss",
    "union_capacity",
    "union_size",
    "unroll",
]
