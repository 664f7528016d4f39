"""Is it more than chance? Surrogates, permutations, intervals and matching, shared by all rooms."""

from nissl.statistics.chance import SurrogateTest, against, surrogate_test
from nissl.statistics.concentration import gini
from nissl.statistics.intervals import Measured, bootstrap, measure
from nissl.statistics.matching import Matching, contingency, label_accuracy, match, match_labels
from nissl.statistics.rewiring import rewired
from nissl.statistics.surrogates import (
    block_permutations,
    circular_shifts,
    jittered,
    permutations,
    phase_randomised,
)

__all__ = [
    "Matching",
    "Measured",
    "SurrogateTest",
    "against",
    "block_permutations",
    "bootstrap",
    "circular_shifts",
    "contingency",
    "gini",
    "jittered",
    "label_accuracy",
    "match",
    "match_labels",
    "measure",
    "permutations",
    "phase_randomised",
    "rewired",
    "surrogate_test",
]
