"""Networks that map functions to functions: the same weights on every sampling of the domain."""

from nissl.nn.operators._spectral import SpectralConv
from nissl.nn.operators.attention import QuadratureAttention
from nissl.nn.operators.converting import NeuralOperator, to_neural_operator
from nissl.nn.operators.coordinates import FourierFeatures, grid_coordinates, rotate
from nissl.nn.operators.differential import DifferentialConv
from nissl.nn.operators.discretisation import Discretisation
from nissl.nn.operators.fourier import FourierNeuralOperator, Pointwise
from nissl.nn.operators.integral import IntegralTransform
from nissl.nn.operators.local import LocalIntegralConv
from nissl.nn.operators.losses import relative_h1_loss, relative_l2_loss
from nissl.nn.operators.mixed import MixedResolution
from nissl.nn.operators.multigrid import (
    MgNO,
    MultigridLayer,
    MultigridOperator,
    greens_function,
    poisson_multigrid,
    refined,
)
from nissl.nn.operators.norm import QuadratureNorm, quadrature_mean
from nissl.nn.operators.patches import PatchIntegral
from nissl.nn.operators.resampling import InputOutputInterpolation, resample

__all__ = [
    "DifferentialConv",
    "Discretisation",
    "FourierFeatures",
    "FourierNeuralOperator",
    "InputOutputInterpolation",
    "IntegralTransform",
    "LocalIntegralConv",
    "MgNO",
    "MixedResolution",
    "MultigridLayer",
    "MultigridOperator",
    "NeuralOperator",
    "PatchIntegral",
    "Pointwise",
    "QuadratureAttention",
    "QuadratureNorm",
    "SpectralConv",
    "greens_function",
    "grid_coordinates",
    "poisson_multigrid",
    "quadrature_mean",
    "refined",
    "relative_h1_loss",
    "relative_l2_loss",
    "resample",
    "rotate",
    "to_neural_operator",
]
