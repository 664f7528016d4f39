"""What do two populations share? Types of units, matched and told apart."""

from nissl.comparison.cell_types import (
    Centred,
    DiscriminativeClustering,
    Rotated,
    SiteResponses,
    centred,
    discriminability,
    receptive_field_centres,
)
from nissl.comparison.stimuli import (
    Clip,
    Constraint,
    FixedContrast,
    L2Ball,
    OptimisedStimuli,
    noise_stimuli,
    optimise_stimuli,
)

__all__ = [
    "Centred",
    "Clip",
    "Constraint",
    "DiscriminativeClustering",
    "FixedContrast",
    "L2Ball",
    "OptimisedStimuli",
    "Rotated",
    "SiteResponses",
    "centred",
    "discriminability",
    "noise_stimuli",
    "optimise_stimuli",
    "receptive_field_centres",
]
