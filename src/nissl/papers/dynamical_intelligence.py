"""Dynamical intelligence (Monaco, Rajan and Hwang 2021): a perspective without experiments, whose statements are made
testable here on simulated data with known truth and on the worm's wiring.

A perspective is not evidence: each claim says which measure stands for which statement.
"""

from __future__ import annotations

from nissl.papers.harness import Paper

PAPER = Paper(
    "dynamical-intelligence",
    "A brain basis of dynamical intelligence for AI and computational neuroscience",
    "populations",
    "https://arxiv.org/abs/2105.07284",
)
