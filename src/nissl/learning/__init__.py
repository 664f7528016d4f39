"""How did it come to be so? Learners and what they know."""

from typing import TYPE_CHECKING, Any

from nissl.learning import checkpoint
from nissl.learning.adaptation import advantage, late_accuracy, recovery_time
from nissl.learning.bodies import MujocoSwimmer, PlanarSwimmer, SwimmerPolicy, mlp_policy, swim, wave_lags
from nissl.learning.concept_shift import ConceptShift, ShiftBatch
from nissl.learning.counter_current import (
    BackPropagation,
    CounterCurrentNetwork,
    FeedbackAlignment,
    TargetPropagation,
    compare_rules,
)
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
from nissl.learning.utility import (
    UtilityView,
    gain_matrix,
    log_probability,
    mle_step,
    preference_perceptron_step,
    to_probability,
)
from nissl.learning.worlds import dense_world, lock_chain

if TYPE_CHECKING:
    from nissl.learning.bodies import SwimmerEnv, SwimmerVectorEnv
    from nissl.learning.utility import UtilityLogitsProcessor

__all__ = [
    "BackPropagation",
    "Candidates",
    "ConceptShift",
    "ContinualTrainer",
    "CounterCurrentNetwork",
    "ErrorFeedback",
    "EvolutionStrategies",
    "ExplorationAgent",
    "FeedbackAlignment",
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
    "TargetPropagation",
    "Task",
    "UtilityLogitsProcessor",
    "UtilityView",
    "advantage",
    "best_constant_rate",
    "checkpoint",
    "compare_rules",
    "delayed_cue",
    "dense_world",
    "digit_sums",
    "elu_classifier",
    "empowerment",
    "gain_matrix",
    "late_accuracy",
    "lock_chain",
    "log_probability",
    "missing_information",
    "mle_step",
    "mlp_policy",
    "permuted_tasks",
    "predicted_information_gain",
    "preference_perceptron_step",
    "recovery_time",
    "run_stream",
    "spoken_digits",
    "successor_matrix",
    "swim",
    "to_probability",
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
    if name == "UtilityLogitsProcessor":  # transformers takes a second to import
        from nissl.learning import utility

        return utility.UtilityLogitsProcessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
