"""Controls of attributions: what a map has to beat.

A control has the form of the explanation and none of its information. Weak controls mislead: a map shuffled pixel by
pixel loses its smoothness as well as its information, so smooth maps are compared with shifted copies of themselves,
and boxes with the best box that looks at no picture.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def shifted(
    maps: Float[np.ndarray, "sample y x"], repeats: int = 1, *, seed: int = 0
) -> Float[np.ndarray, "repeat sample y x"]:
    """Copies of maps moved by a random step around the torus and mirrored at random: same values, same smoothness, no
    information.
    """
    rng = np.random.default_rng(seed)
    n, h, w = maps.shape
    dy, dx = rng.integers(0, h, (repeats, n)), rng.integers(0, w, (repeats, n))
    up, left = rng.choice([-1, 1], (2, repeats, n))
    y = (up[..., None] * np.arange(h) + dy[..., None]) % h
    x = (left[..., None] * np.arange(w) + dx[..., None]) % w
    return maps[np.arange(n)[None, :, None, None], y[..., :, None], x[..., None, :]]


def shuffled(
    values: Float[np.ndarray, "sample place"], repeats: int = 1, *, seed: int = 0
) -> Float[np.ndarray, "repeat sample place"]:
    """Copies with their values in random order, NaN staying where it is: the control for tokens, which have no
    smoothness to keep.
    """
    rng = np.random.default_rng(seed)
    out = np.broadcast_to(values, (repeats, *values.shape)).copy()
    for i, row in enumerate(values):
        real = np.flatnonzero(~np.isnan(row))
        order = rng.random((repeats, len(real))).argsort(1)
        out[:, i, real] = row[real][order]
    return out
