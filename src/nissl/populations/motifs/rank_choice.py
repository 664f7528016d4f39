"""How many components: as many as every good start agrees on, and as pay for themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from tqdm import tqdm

from nissl.errors import InputError
from nissl.populations.motifs.tensor_factors import TensorFactors, nonnegative_cp


@dataclass(frozen=True)
class RankCurve:
    """Models of 1, 2, ... components, and the number to keep.

    Attributes
    ----------
    table
        A row a number of components: `explained_variance`, its `gain` over one component fewer, `stability`, `reached` (starts that
        came as far as the best), `chosen`.
    chosen
        Number of components kept.
    models
        The best model of each number, from 1 on.
    """

    table: pd.DataFrame
    chosen: int
    models: tuple[TensorFactors, ...]

    @property
    def best(self) -> TensorFactors:
        """The model with the chosen number of components."""
        return self.models[self.chosen - 1]

    def plot(self, ax: Any = None) -> Any:
        """Explained variance and stability against the number of components; returns the axes."""
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(4.5, 3), layout="constrained")[1] if ax is None else ax
        ranks = self.table.index
        ax.plot(ranks, self.table["explained_variance"], "o-", color="#0072B2", label="explained variance")
        ax.plot(ranks, self.table["stability"], "s-", color="#D55E00", label="stability")
        ax.axvline(self.chosen, color="0.6", linestyle=":", label="kept")
        ax.set(xlabel="components", ylim=(0, 1.05), xticks=list(ranks))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8)
        return ax


def rank_curve(
    x: Float[np.ndarray, "..."],
    max_components: int = 8,
    *,
    mask: Bool[np.ndarray, "..."] | None = None,
    min_stability: float = 0.95,
    min_gain: float = 0.02,
    n_restarts: int = 10,
    tol: float = 1e-6,
    max_sweeps: int = 500,
    seed: int = 0,
    progress: bool = True,
) -> RankCurve:
    """Fit 1 to `max_components` components, and keep the largest number that is stable and that gains enough.

    Parameters
    ----------
    x, mask, n_restarts, tol, max_sweeps, seed
        As in `nonnegative_cp`.
    max_components
        The largest number tried; fewer where the array cannot need as many.
    min_stability
        Least mean similarity between the best start and the others that came as far.
    min_gain
        Least rise of explained variance over one component fewer.
    progress
        A progress bar over numbers, where there is a terminal.

    Returns
    -------
    RankCurve
        Where no number meets both, 1 is kept; the table says so.

    Raises
    ------
    InputError
        A single restart, which has nothing to be compared with, and what `nonnegative_cp` raises.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> parts = [rng.random((n, 2)) ** 4 for n in (12, 5, 20)]
    >>> x = np.einsum("ir,jr,kr->ijk", *parts) + 0.01 * rng.random((12, 5, 20))
    >>> rank_curve(x, 4, progress=False).chosen
    2
    """
    if n_restarts < 2:
        raise InputError(
            f"{n_restarts} restart(s); stability compares restarts: give 2 or more, or the number of components"
        )
    if max_components < 1:
        raise InputError(f"max_components = {max_components}; give 1 or more")
    most = min(max_components, np.size(x) // max(np.shape(x)))
    options: dict[str, Any] = {
        "mask": mask,
        "n_restarts": n_restarts,
        "tol": tol,
        "max_sweeps": max_sweeps,
        "seed": seed,
    }
    ranks = tqdm(range(1, most + 1), desc="ranks", disable=None if progress else True, leave=False)
    models = tuple(nonnegative_cp(x, r, progress=False, **options) for r in ranks)
    explained = np.array([m.explained_variance for m in models])
    table = pd.DataFrame(
        {
            "explained_variance": explained,
            "gain": np.diff(explained, prepend=0.0),
            "stability": [m.stability for m in models],
            "reached": [m.reached for m in models],
        },
        index=pd.RangeIndex(1, most + 1, name="n_components"),
    )
    stable, gains = (table[c].to_numpy() for c in ("stability", "gain"))
    good = np.flatnonzero((stable >= min_stability) & (gains >= min_gain))
    chosen = int(good[-1]) + 1 if len(good) else 1
    table["chosen"] = table.index == chosen
    return RankCurve(table, chosen, models)
