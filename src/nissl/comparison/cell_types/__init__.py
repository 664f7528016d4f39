"""Functional cell types by their most discriminative stimuli (Burg et al. 2024)."""

from nissl.comparison.cell_types._clustering import DiscriminativeClustering
from nissl.comparison.cell_types._evaluation import assignment_confusion, cluster_responses, response_confusion
from nissl.comparison.cell_types._geometry import Centred, Rotated, centred, receptive_field_centres
from nissl.comparison.cell_types._natural import natural_crops
from nissl.comparison.cell_types._objective import discriminability
from nissl.comparison.cell_types._responses import SiteResponses
from nissl.comparison.cell_types._typing import (
    TypingStimuli,
    most_discriminative_stimuli,
    most_exciting_stimuli,
    typing_accuracy,
    typing_stimuli,
)

__all__ = [
    "Centred",
    "DiscriminativeClustering",
    "Rotated",
    "SiteResponses",
    "TypingStimuli",
    "assignment_confusion",
    "centred",
    "cluster_responses",
    "discriminability",
    "most_discriminative_stimuli",
    "most_exciting_stimuli",
    "natural_crops",
    "receptive_field_centres",
    "response_confusion",
    "typing_accuracy",
    "typing_stimuli",
]
