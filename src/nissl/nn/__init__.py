"""Could it be built to be understood? Layers and networks whose neurons behave like neurons, as ordinary torch modules."""

from nissl.nn import operators
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
from nissl.nn.quadratic import (
    QuadraticConv2d,
    QuadraticLinear,
    ReLinearShrink,
    energy_filters,
    largest_preactivation,
    quadratic_form,
    quadratic_resnet,
    quadraticize,
    relinear_parameter_groups,
)
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
    "QuadraticConv2d",
    "QuadraticLinear",
    "ReLinearShrink",
    "SequenceMemory",
    "SpikingClassifier",
    "SpikingNetwork",
    "State",
    "ThoughtOutput",
    "WormSteering",
    "WormSwimmer",
    "certainty",
    "energy_filters",
    "fading_memory",
    "firing_rates",
    "largest_preactivation",
    "leaky_trace",
    "match_probability",
    "miss_probability",
    "operators",
    "optimal_threshold",
    "quadratic_form",
    "quadratic_resnet",
    "quadraticize",
    "relinear_parameter_groups",
    "spike_rates",
    "surrogate_gradient",
    "synchronisation",
    "tick_loss",
    "union_capacity",
    "union_size",
    "unroll",
]
