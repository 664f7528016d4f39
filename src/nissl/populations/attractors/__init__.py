"""Memories as attractors: networks that hold patterns, families and sequences, and measurements on any network's states."""

from nissl.populations.attractors.fixed_points import FixedPoints, fixed_points
from nissl.populations.attractors.measures import discover_patterns, overlaps, successor_share, transitions, visits
from nissl.populations.attractors.memories import (
    HierarchicalMemory,
    HopfieldMemory,
    SequenceMemory,
    hierarchical_patterns,
)
from nissl.populations.attractors.storage import Basin, basin_size, capacity, recalled_share

__all__ = [
    "Basin",
    "FixedPoints",
    "HierarchicalMemory",
    "HopfieldMemory",
    "SequenceMemory",
    "basin_size",
    "capacity",
    "discover_patterns",
    "fixed_points",
    "hierarchical_patterns",
    "overlaps",
    "recalled_share",
    "successor_share",
    "transitions",
    "visits",
]
