"""Output neurons read as utilities: decision rules, and probabilities made from utilities, for any softmax network."""

from typing import TYPE_CHECKING, Any

from nissl.learning.utility.gains import gain_matrix
from nissl.learning.utility.transforms import log_probability, to_probability
from nissl.learning.utility.updates import mle_step, preference_perceptron_step
from nissl.learning.utility.view import UtilityView

if TYPE_CHECKING:
    from nissl.learning.utility.processor import UtilityLogitsProcessor

__all__ = [
    "UtilityLogitsProcessor",
    "UtilityView",
    "gain_matrix",
    "log_probability",
    "mle_step",
    "preference_perceptron_step",
    "to_probability",
]


def __getattr__(name: str) -> Any:
    if name == "UtilityLogitsProcessor":  # transformers takes a second to import
        from nissl.learning.utility.processor import UtilityLogitsProcessor

        return UtilityLogitsProcessor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
