"""The sixteen ways in which three nodes can be wired, counted by matrix products over many graphs at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

TRIADS = (
    "003", "012", "102", "021D", "021U", "021C", "111D", "111U", "030T", "030C", "201", "120D", "120U", "120C", "210", "300",
)  # fmt: skip


def triad_census(adjacency: Float[np.ndarray, "... target source"]) -> pd.DataFrame:
    """How often each of the sixteen triads occurs, by the names of Holland and Leinhardt (1976).

    Each pair of nodes is joined both ways (M), one way (D) or not at all (N); a triad is a product of three such matrices, summed
    over triples and divided by the number of ways it maps onto itself.

    Parameters
    ----------
    adjacency
        Graphs `(..., target, source)`, non-zero where there is an edge; self-loops are left out.

    Returns
    -------
    pandas.DataFrame
        A column a triad, a row a graph.

    Examples
    --------
    >>> ring = np.roll(np.eye(3), 1, axis=0)
    >>> int(triad_census(ring)["030C"][0])
    1
    """
    a = np.asarray(adjacency)
    size = a.shape[-1]
    # Written from source to target, as the names of triads are. Single precision is exact up to 2^24 common neighbours.
    there = (np.swapaxes(a.reshape(-1, size, size), 1, 2) != 0).astype(np.float32)
    off = 1 - np.eye(size, dtype=np.float32)
    there *= off
    back = np.swapaxes(there, 1, 2)
    m, d = there * back, there * (1 - back)
    n = off * (1 - there) * (1 - back)
    dt = np.swapaxes(d, 1, 2)
    through, apart, onto = d @ d, dt @ d, d @ dt  # a -> c -> b; a <- c -> b; a -> c <- b
    leave, enter, mutual = m @ d, m @ dt, m @ m

    def count(pair: np.ndarray, path: np.ndarray, same: int = 1) -> np.ndarray:
        return np.einsum("gij,gij->g", pair, path, dtype=np.float64) / same

    nn = n @ n
    counts = {
        "003": count(n, nn, 6), "012": count(d, nn), "102": count(m, nn, 2),
        "021D": count(n, apart, 2), "021U": count(n, onto, 2), "021C": count(n, through),
        "111D": count(n, enter), "111U": count(n, leave),
        "030T": count(d, through), "030C": count(dt, through, 3), "201": count(n, mutual, 2),
        "120D": count(m, apart, 2), "120U": count(m, onto, 2), "120C": count(m, through),
        "210": count(d, mutual), "300": count(m, mutual, 6),
    }  # fmt: skip
    return pd.DataFrame({name: np.rint(counts[name]) for name in TRIADS})
