"""How did it come to be so? Learners and what they know."""

from typing import TYPE_CHECKING, Any

from nissl.learning import checkpoint
from nissl.learning.adaptation import advantage, late_accuracy, recovery_time
from nissl.learning.bodies import MujocoSwimmer, PlanarSwimmer, SwimmerPolicy, mlp_policy, swim, wave_lags
from nissl.learning.concept_shift import ConceptShift, ShiftBatch
from nissl.learning.evolution import Candidates, EvolutionStrategies
from nissl.learning.exploration import (
    ExplorationAgent,
    missing_information,
    predicted_information_gain,
    value_iteration,
)
from nissl.learning.hebbian_projection import (
    ContinualTrainer,
    ErrorFeedback,
    HebbianProjection,
    HebbianSubspace,
    Task,
    permuted_tasks,
)
from nissl.learning.homeostasis import HomeostaticSGD
from nissl.learning.online import best_constant_rate, elu_classifier, run_stream
from nissl.learning.policy_gradient import PolicyGradient
from nissl.learning.sequence_tasks import delayed_cue, digit_sums, spoken_digits
from nissl.learning.successor import SuccessorRepresentation, empowerment, successor_matrix, under_policy
from nissl.learning.token_recall import token_recall
from nissl.learning.training import train
from nissl.learning.worlds import dense_world, lock_chain

if TYPE_CHECKING:
    from nissl.learning.bodies import SwimmerEnv, SwimmerVectorEnv

__all__ = [
    "Candidates",
    "ConceptShift",
    "ContinualTrainer",
    "ErrorFeedback",
    "EvolutionStrategies",
    "ExplorationAgent",
    "HebbianProjection",
    "HebbianSubspace",
    "HomeostaticSGD",
    "MujocoSwimmer",
    "PlanarSwimmer",
    "PolicyGradient",
    "ShiftBatch",
    "SuccessorRepresentation",
    "SwimmerEnv",
    "SwimmerPolicy",
    "SwimmerVectorEnv",
    "Task",
    "advantage",
    "best_constant_rate",
    "checkpoint",
    "delayed_cue",
    "dense_world",
    "digit_sums",
    "elu_classifier",
    "empowerment",
    "late_accuracy",
    "lock_chain",
    "missing_information",
    "mlp_policy",
    "permuted_tasks",
    "predicted_information_gain",
    "recovery_time",
    "run_stream",
    "spoken_digits",
    "successor_matrix",
    "swim",
    "token_recall",
    "train",
    "under_policy",
    "value_iteration",
    "wave_lags",
]


def __getattr__(name: str) -> Any:
    # These are gymnasium's classes underneath, and gymnasium is optional.
    if name in ("SwimmerEnv", "SwimmerVectorEnv"):
        from nissl.learning import bodies

        return getattr(bodies, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
