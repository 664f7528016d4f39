"""Neurons that spike, and the astrocytes beside them."""

from nissl.nn.spiking._astro_snn import AstroSNN
from nissl.nn.spiking._astrocyte import AstrocyteMemory
from nissl.nn.spiking._lif import LIF
from nissl.nn.spiking._linear_attention import fading_memory
from nissl.nn.spiking._network import SpikingClassifier, SpikingNetwork
from nissl.nn.spiking._rates import firing_rates, spike_rates
from nissl.nn.spiking._surrogates import Surrogate, surrogate_gradient
from nissl.nn.spiking._unit import AstrocyteModulatedUnit

__all__ = [
    "LIF",
    "AstroSNN",
    "AstrocyteMemory",
    "AstrocyteModulatedUnit",
    "SpikingClassifier",
    "SpikingNetwork",
    "Surrogate",
    "fading_memory",
    "firing_rates",
    "spike_rates",
    "surrogate_gradient",
]
