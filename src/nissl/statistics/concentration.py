"""How concentrated non-negative numbers are: the Gini index, for maps, codes and degrees alike."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


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
