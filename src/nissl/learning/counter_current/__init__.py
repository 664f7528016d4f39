"""Counter-current learning: two networks that run against each other and learn from local losses, beside other rules."""

from nissl.learning.counter_current._learner import Learner
from nissl.learning.counter_current._paired import PairedNetwork
from nissl.learning.counter_current._settings import Settings
from nissl.learning.counter_current.baselines import (
    BackPropagation,
    FeedbackAlignment,
    TargetPropagation,
    TargetSettings,
)
from nissl.learning.counter_current.compare import RULES, compare_rules, make_rule, step_memory
from nissl.learning.counter_current.initialisation import lopsided
from nissl.learning.counter_current.losses import (
    centred_similarity_loss,
    code_loss,
    similarity_loss,
    template_loss,
)
from nissl.learning.counter_current.measures import (
    code_rank,
    code_similarity,
    effective_rank,
    linear_cka,
    update_agreement,
)
from nissl.learning.counter_current.memory import saved_memory
from nissl.learning.counter_current.network import CounterCurrentNetwork, CounterCurrentSettings

__all__ = [
    "RULES",
    "BackPropagation",
    "CounterCurrentNetwork",
    "CounterCurrentSettings",
    "FeedbackAlignment",
    "Learner",
    "PairedNetwork",
    "Settings",
    "TargetPropagation",
    "TargetSettings",
    "centred_similarity_loss",
    "code_loss",
    "code_rank",
    "code_similarity",
    "compare_rules",
    "effective_rank",
    "linear_cka",
    "lopsided",
    "make_rule",
    "saved_memory",
    "similarity_loss",
    "step_memory",
    "template_loss",
    "update_agreement",
]
