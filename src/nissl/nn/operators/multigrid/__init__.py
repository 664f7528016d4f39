"""Multigrid operators: layers between functions that are made of small convolutions on a hierarchy of grids."""

from nissl.nn.operators.multigrid._grid import check_boundary, levels_that_fit
from nissl.nn.operators.multigrid.field import BiasField
from nissl.nn.operators.multigrid.greens import greens_function
from nissl.nn.operators.multigrid.network import MgNO, MultigridLayer
from nissl.nn.operators.multigrid.operator import MultigridOperator
from nissl.nn.operators.multigrid.textbook import poisson_multigrid, refined

__all__ = [
    "BiasField",
    "MgNO",
    "MultigridLayer",
    "MultigridOperator",
    "check_boundary",
    "greens_function",
    "levels_that_fit",
    "poisson_multigrid",
    "refined",
]
