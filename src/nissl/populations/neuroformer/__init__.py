"""Neuroformer: spikes as tokens, predicted from the past, the stimulus and behaviour."""

from nissl.populations.neuroformer.companions import partial_correlation, poisson_glm
from nissl.populations.neuroformer.estimator import Neuroformer
from nissl.populations.neuroformer.losses import info_nce
from nissl.populations.neuroformer.model import Architecture, NeuroformerNetwork
from nissl.populations.neuroformer.scoring import SpikeScore
from nissl.populations.neuroformer.tokens import SpikeTokenizer, Tokens

__all__ = [
    "Architecture",
    "Neuroformer",
    "NeuroformerNetwork",
    "SpikeScore",
    "SpikeTokenizer",
    "Tokens",
    "info_nce",
    "partial_correlation",
    "poisson_glm",
]
