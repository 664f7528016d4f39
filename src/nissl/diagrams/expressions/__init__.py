"""Diagrams written by hand: building blocks, put one after another by `@`, side by side by `+`, and run along more axes.

A column is written as its arrays, `y k h, x k h`: axes by spaces, arrays by commas. One name is one axis and has one size in a
whole expression; where no number is given its size is free.
"""

from nissl.diagrams.expressions._expression import Expression, Rule
from nissl.diagrams.expressions.blocks import broadcast, contract, diagonal, inner, linear, outer, shape, strips, unit
from nissl.diagrams.expressions.einsum import fuse, transpose
from nissl.diagrams.expressions.rules import elementwise, rearrange, softmax

__all__ = [
    "Expression",
    "Rule",
    "broadcast",
    "contract",
    "diagonal",
    "elementwise",
    "fuse",
    "inner",
    "linear",
    "outer",
    "rearrange",
    "shape",
    "softmax",
    "strips",
    "transpose",
    "unit",
]
