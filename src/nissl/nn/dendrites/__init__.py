"""Active dendrites: how reliably small segments recognise large sparse patterns, in formulas and as a neuron."""

from nissl.nn.dendrites._competition import DendriticClassifier
from nissl.nn.dendrites._experiments import competition_sweep, correlation_sweep, noise_sweep
from nissl.nn.dendrites._neuron import DendriticNeuron
from nissl.nn.dendrites._patterns import correlated_patterns, equal_frequency_code, noisy_patterns, random_patterns
from nissl.nn.dendrites._permanences import Plasticity
from nissl.nn.dendrites._probability import (
    any_match_probability,
    match_bounds,
    match_probability,
    miss_probability,
    overlap_probability,
)
from nissl.nn.dendrites._sequence_memory import SequenceMemory
from nissl.nn.dendrites._thresholds import optimal_threshold, total_error
from nissl.nn.dendrites._unions import union_capacity, union_match_probability, union_size

__all__ = [
    "DendriticClassifier",
    "DendriticNeuron",
    "Plasticity",
    "SequenceMemory",
    "any_match_probability",
    "competition_sweep",
    "correlated_patterns",
    "correlation_sweep",
    "equal_frequency_code",
    "match_bounds",
    "match_probability",
    "miss_probability",
    "noise_sweep",
    "noisy_patterns",
    "optimal_threshold",
    "overlap_probability",
    "random_patterns",
    "total_error",
    "union_capacity",
    "union_match_probability",
    "union_size",
]
