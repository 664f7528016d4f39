"""The worm: its 302 neurons, connectomes, signal-propagation atlas, and the public collection of its activity."""

from nissl.recordings.worm._atlas import propagation_kernel, signal_propagation
from nissl.recordings.worm._connectomes import connectome, connectomes, edges, mirrored
from nissl.recordings.worm._hub import hub_schema, read_hub
from nissl.recordings.worm._hub_connectome import read_hub_connectome
from nissl.recordings.worm._hub_write import to_hub_parquet
from nissl.recordings.worm._names import canonical_neurons, clean_name, clean_names
from nissl.recordings.worm._neurons import neurons

__all__ = [
    "canonical_neurons",
    "clean_name",
    "clean_names",
    "connectome",
    "connectomes",
    "edges",
    "hub_schema",
    "mirrored",
    "neurons",
    "propagation_kernel",
    "read_hub",
    "read_hub_connectome",
    "signal_propagation",
    "to_hub_parquet",
]
