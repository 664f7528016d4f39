"""How concentrated is an attribution? A map that marks everything explains nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from nissl.evaluation._maps import flat
from nissl.statistics import Measured, gini, measure


def sparsity(maps: Any, *, seed: int = 0) -> Measured:
    """Gini index of the magnitudes: 0 for a flat map, near 1 for one place (Hurley and Rickard 2009; Chalasani et al.
    2020).

    The control is a map of the same size with normally distributed values, which is as concentrated as noise is.

    Examples
    --------
    >>> round(sparsity(np.eye(1, 100).reshape(1, 10, 10)).value, 2)
    0.99
    """
    rows = np.abs(flat(maps))
    noise = np.abs(np.random.default_rng(seed).standard_normal(rows.shape))
    return measure("sparsity (Gini index)", gini(rows), gini(np.where(np.isnan(rows), np.nan, noise)), seed=seed)
