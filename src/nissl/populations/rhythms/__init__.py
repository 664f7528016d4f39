"""Rhythms, synchrony and coupling of signals and spikes, each measured beside its surrogates."""

from nissl.populations.rhythms._circular import pairwise_phase_consistency, phase_locking_value, rayleigh
from nissl.populations.rhythms._coupling_kernels import mean_vector_length, modulation_index
from nissl.populations.rhythms.coherence import coherence
from nissl.populations.rhythms.coupling import comodulogram, phase_amplitude
from nissl.populations.rhythms.dimensionality import dimensionality, participation_ratio
from nissl.populations.rhythms.locking import phase_locking, weighted_phase_lag
from nissl.populations.rhythms.phase import phase
from nissl.populations.rhythms.spectra import power_spectrum, spectral_peaks
from nissl.populations.rhythms.spikes import PhasePrecession, phase_precession, spike_phase
from nissl.populations.rhythms.synchrony import population_synchrony, spike_covariance

__all__ = [
    "PhasePrecession",
    "coherence",
    "comodulogram",
    "dimensionality",
    "mean_vector_length",
    "modulation_index",
    "pairwise_phase_consistency",
    "participation_ratio",
    "phase",
    "phase_amplitude",
    "phase_locking",
    "phase_locking_value",
    "phase_precession",
    "population_synchrony",
    "power_spectrum",
    "rayleigh",
    "spectral_peaks",
    "spike_covariance",
    "spike_phase",
    "weighted_phase_lag",
]
