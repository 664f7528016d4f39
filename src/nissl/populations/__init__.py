"""What is this brain doing? Models fitted to recordings, each beside a simple baseline."""

from nissl.populations import attractors, rhythms
from nissl.populations.communities.block_model import BlockModel, description_length, weighted_block_model
from nissl.populations.communities.leiden import correlation_communities, leiden
from nissl.populations.decoding import decode
from nissl.populations.dynamics.report import dynamics_report
from nissl.populations.gain_control import (
    AdaptationEffects,
    AdaptationFit,
    GainControl,
    adaptation_effects,
    compare_adaptation,
    fit_adaptation,
    layer_drive,
)
from nissl.populations.hmm_glm import HMMGLM, StateSelection, compare_hmm_glm, lagged_correlation, select_states
from nissl.populations.motifs.affinity import differential_affinity, run_lengths, sliding_correlation
from nissl.populations.motifs.dynamic_connectome import DynamicConnectome
from nissl.populations.motifs.rank_choice import RankCurve, rank_curve
from nissl.populations.motifs.tensor_factors import TensorFactors, factor_similarity, nonnegative_cp
from nissl.populations.neuroformer import Neuroformer, SpikeTokenizer
from nissl.populations.neuron_model import NeuronModel, fit_neuron
from nissl.populations.sdr import estimate_sdr
from nissl.populations.sequences.rank_order import Flexibility, RankOrder, flexibility, rank_order
from nissl.populations.sequences.replay import ReplayDecoder
from nissl.populations.sequences.sequenceness import sequenceness
from nissl.populations.sparseness import active_fraction, hoyer, sparseness, treves_rolls, treves_rolls_sparseness
from nissl.populations.structure.structure_function import (
    StructureFunction,
    functional_connectivity,
    structure_function,
)
from nissl.populations.weights.weight_statistics import (
    WeightStatistics,
    lottery_curve,
    reciprocity,
    weight_distributions,
    weight_statistics,
)

__all__ = [
    "HMMGLM",
    "AdaptationEffects",
    "AdaptationFit",
    "BlockModel",
    "DynamicConnectome",
    "Flexibility",
    "GainControl",
    "Neuroformer",
    "NeuronModel",
    "RankCurve",
    "RankOrder",
    "ReplayDecoder",
    "SpikeTokenizer",
    "StateSelection",
    "StructureFunction",
    "TensorFactors",
    "WeightStatistics",
    "active_fraction",
    "adaptation_effects",
    "attractors",
    "compare_adaptation",
    "compare_hmm_glm",
    "correlation_communities",
    "decode",
    "description_length",
    "differential_affinity",
    "dynamics_report",
    "estimate_sdr",
    "factor_similarity",
    "fit_adaptation",
    "fit_neuron",
    "flexibility",
    "functional_connectivity",
    "hoyer",
    "lagged_correlation",
    "layer_drive",
    "leiden",
    "lottery_curve",
    "nonnegative_cp",
    "rank_curve",
    "rank_order",
    "reciprocity",
    "rhythms",
    "run_lengths",
    "select_states",
    "sequenceness",
    "sliding_correlation",
    "sparseness",
    "structure_function",
    "treves_rolls",
    "treves_rolls_sparseness",
    "weight_distributions",
    "weight_statistics",
    "weighted_block_model",
]
