"""How concentrated is an attribution? A map that marks everything explains nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from nissl.evaluation._maps import flat
from nissl.statistics import Measured, measure


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


def gini(rows: Float[np.ndarray, "sample place"]) -> Float[np.ndarray, "sample"]:
    """Gini index of each row of non-negative numbers; NaN places are left out, a row of zeros is flat (0).

    Examples
    --------
    >>> gini(np.ones((1, 5))).tolist()
    [0.0]
    """
    ordered = np.sort(rows, axis=1)  # NaN goes last
    count = (~np.isnan(rows)).sum(1, keepdims=True)
    rank = np.arange(1, rows.shape[1] + 1)
    total = np.nansum(ordered, 1, keepdims=True)
    weighted = np.nansum(ordered * (count - rank + 0.5), 1, keepdims=True)
    index = 1 - 2 * np.divide(weighted, total * count, out=np.full_like(total, 0.5), where=total > 0)
    return np.abs(index[:, 0].round(15))
