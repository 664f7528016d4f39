"""How did it come to be so? Learners and what they know."""

from nissl.learning import checkpoint
from nissl.learning.exploration import (
    ExplorationAgent,
    missing_information,
    predicted_information_gain,
    value_iteration,
)
from nissl.learning.successor import SuccessorRepresentation, empowerment, successor_matrix, under_policy
from nissl.learning.training import train
from nissl.learning.worlds import dense_world, lock_chain

__all__ = [
    "ExplorationAgent",
    "SuccessorRepresentation",
    "checkpoint",
    "dense_world",
    "empowerment",
    "lock_chain",
    "missing_information",
    "predicted_information_gain",
    "successor_matrix",
    "train",
    "under_policy",
    "value_iteration",
]
