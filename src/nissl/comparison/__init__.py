"""What do two populations share? Types of units, matched and told apart."""

from nissl.comparison.cell_types import (
    Centred,
    DiscriminativeClustering,
    Rotated,
    SiteResponses,
    TypingStimuli,
    assignment_confusion,
    centred,
    cluster_responses,
    discriminability,
    most_discriminative_stimuli,
    most_exciting_stimuli,
    natural_crops,
    receptive_field_centres,
    response_confusion,
    typing_accuracy,
    typing_stimuli,
)
from nissl.comparison.constraints import Clip, Composed, Constraint, FixedContrast, L2Ball
from nissl.comparison.response_model import LinearNonlinear, ResponseModel, interval_responses
from nissl.comparison.stimuli import OptimisedStimuli, laplacian_penalty, noise_stimuli, optimise_stimuli

__all__ = [
    "Centred",
    "Clip",
    "Composed",
    "Constraint",
    "DiscriminativeClustering",
    "FixedContrast",
    "L2Ball",
    "LinearNonlinear",
    "OptimisedStimuli",
    "ResponseModel",
    "Rotated",
    "SiteResponses",
    "TypingStimuli",
    "assignment_confusion",
    "centred",
    "cluster_responses",
    "discriminability",
    "interval_responses",
    "laplacian_penalty",
    "most_discriminative_stimuli",
    "most_exciting_stimuli",
    "natural_crops",
    "noise_stimuli",
    "optimise_stimuli",
    "receptive_field_centres",
    "response_confusion",
    "typing_accuracy",
    "typing_stimuli",
]
