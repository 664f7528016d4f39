"""Adaptation by gains alone: the population model, what it does to tuning, and its fit to recordings."""

from nissl.populations.gain_control.effects import AdaptationEffects, adaptation_effects
from nissl.populations.gain_control.estimator import GainControl
from nissl.populations.gain_control.fitting import AdaptationFit, compare_adaptation, fit_adaptation
from nissl.populations.gain_control.inputs import layer_drive

__all__ = [
    "AdaptationEffects",
    "AdaptationFit",
    "GainControl",
    "adaptation_effects",
    "compare_adaptation",
    "fit_adaptation",
    "layer_drive",
]
