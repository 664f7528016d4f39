"""Functional cell types by their most discriminative stimuli (Burg et al. 2024)."""

from nissl.comparison.cell_types._clustering import DiscriminativeClustering
from nissl.comparison.cell_types._geometry import Centred, Rotated, centred, receptive_field_centres
from nissl.comparison.cell_types._objective import discriminability
from nissl.comparison.cell_types._responses import SiteResponses

__all__ = [
    "Centred",
    "DiscriminativeClustering",
    "Rotated",
    "SiteResponses",
    "centred",
    "discriminability",
    "receptive_field_centres",
]
