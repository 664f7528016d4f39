"""What if this neuron were different? Change activity while a network runs, and leave nothing behind.

An intervention is a function of a site's activity. `intervene` holds one or several of them in force for the length of
a `with` block, around anything: a forward pass, `nissl.record`, `model.generate`, a training step. Gradients flow
through.
"""

from nissl.interventions._intervene import intervene
from nissl.interventions._kinds import Ablate, Clamp, Intervention, Patch, Steer

__all__ = ["Ablate", "Clamp", "Intervention", "Patch", "Steer", "intervene"]
