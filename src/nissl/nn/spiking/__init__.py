"""Neurons that spike, and the astrocytes beside them."""

from nissl.nn.spiking._lif import LIF
from nissl.nn.spiking._surrogates import Surrogate, surrogate_gradient

__all__ = ["LIF", "Surrogate", "surrogate_gradient"]
