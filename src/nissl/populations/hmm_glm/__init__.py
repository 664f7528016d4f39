"""Hidden Markov models whose states are couplings between neurons."""

from nissl.populations.hmm_glm.baselines import Comparison, compare_hmm_glm, lagged_correlation
from nissl.populations.hmm_glm.estimator import HMMGLM
from nissl.populations.hmm_glm.selection import StateSelection, select_states

__all__ = ["HMMGLM", "Comparison", "StateSelection", "compare_hmm_glm", "lagged_correlation", "select_states"]
