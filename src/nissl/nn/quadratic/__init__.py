"""Quadratic neurons: drop-in layers whose pre-activation is a quadratic function, how to train them, and how to read them."""

from nissl.nn.quadratic.conversion import quadraticize
from nissl.nn.quadratic.layers import QuadraticConv2d, QuadraticLinear
from nissl.nn.quadratic.reading import energy_filters, largest_preactivation, quadratic_form
from nissl.nn.quadratic.relinear import ReLinearShrink, relinear_parameter_groups
from nissl.nn.quadratic.resnet import quadratic_resnet

__all__ = [
    "QuadraticConv2d",
    "QuadraticLinear",
    "ReLinearShrink",
    "energy_filters",
    "largest_preactivation",
    "quadratic_form",
    "quadratic_resnet",
    "quadraticize",
    "relinear_parameter_groups",
]
