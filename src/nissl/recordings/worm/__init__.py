"""The worm: its 302 neurons, its connectomes, its signal-propagation atlas, and the public collection of its activity."""

from nissl.recordings.worm._atlas import propagation_kernel, signal_propagation
from nissl.recordings.worm._connectomes import connectome, connectomes, edges, mirrored
from nissl.recordings.worm._names import canonical_neurons, clean_name, clean_names
from nissl.recordings.worm._neurons import neurons

__all__ = [
    "canonical_neurons",
    "clean_name",
    "clean_names",
    "connectome",
    "connectomes",
    "edges",
    "mirrored",
    "neurons",
    "propagation_kernel",
    "signal_propagation",
]
