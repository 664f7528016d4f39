"""How far methods agree with each other, and a map with what occlusion shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import kendalltau, rankdata
from torch import nn

from nissl.attribution import occlusion
from nissl.errors import InputError, unknown
from nissl.evaluation._maps import as_maps, flat
from nissl.evaluation.controls import shifted
from nissl.models import Model, load
from nissl.statistics import Measured, measure


@dataclass(frozen=True)
class Agreement:
    """Rank agreement of every pair of methods.

    Attributes
    ----------
    matrix, low, high
        Mean over samples and its bootstrap interval, method by method.
    chance
        The same for copies of the maps shifted (pictures) or shuffled (texts) at random.
    """

    matrix: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame
    chance: pd.DataFrame

    def _repr_html_(self) -> str:
        return self.matrix.round(2).to_html()


def agreement(
    maps: Mapping[str, Any],
    *,
    kind: Literal["spearman", "kendall", "top_k"] = "spearman",
    k: float = 0.1,
    seed: int = 0,
) -> Agreement:
    """How far methods rank the places of the same inputs alike.

    Parameters
    ----------
    maps
        For each method its attributions of the same inputs.
    kind
        `spearman`, `kendall` (tau b), or `top_k`: the overlap of the top share `k` of the places.
    seed
        For the control.

    Raises
    ------
    InputError, UnknownNameError
        Fewer than two methods, attributions of different shape, an unknown kind.

    Examples
    --------
    >>> a = np.arange(16.0).reshape(1, 4, 4)
    >>> agreement({"one": a, "other": a**3}).matrix.loc["one", "other"].item()
    1.0
    """
    if len(maps) < 2:
        raise InputError(f"{len(maps)} method; agreement needs two or more")
    if kind not in ("spearman", "kendall", "top_k"):
        raise unknown("kind of agreement", kind, ("spearman", "kendall", "top_k"))
    names = list(maps)
    rows = {name: flat(maps[name]) for name in names}
    shapes = {name: r.shape for name, r in rows.items()}
    if len(set(shapes.values())) > 1:
        raise InputError(f"the methods' attributions differ in shape: {shapes}; bring them to one size first")
    spatial = {name: _copies(maps[name], rows[name], seed) for name in names}
    tables = {part: pd.DataFrame(np.eye(len(names)), names, names) for part in ("matrix", "low", "high", "chance")}
    for i, a in enumerate(names):
        for b in names[:i]:
            found = measure(
                kind, _compare(rows[a], rows[b], kind, k), _compare(spatial[a], rows[b], kind, k), seed=seed
            )
            for part, value in (
                ("matrix", found.value),
                ("low", found.low),
                ("high", found.high),
                ("chance", found.control),
            ):
                tables[part].loc[a, b] = tables[part].loc[b, a] = value
    return Agreement(**tables)


def spearman(a: Float[np.ndarray, "sample place"], b: Float[np.ndarray, "sample place"]) -> Float[np.ndarray, "sample"]:
    """Spearman's rank correlation, row by row; NaN places are left out, and a constant row correlates with nothing (0).

    Examples
    --------
    >>> spearman(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 4.0, 9.0]])).tolist()
    [1.0]
    """
    real = ~(np.isnan(a) | np.isnan(b))
    ranks = [rankdata(np.where(real, v, np.nan), axis=1, nan_policy="omit") for v in (a, b)]
    centred = [np.where(real, r - np.nanmean(np.where(real, r, np.nan), 1, keepdims=True), 0) for r in ranks]
    norm = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return np.divide((centred[0] * centred[1]).sum(1), norm, out=np.zeros(len(a)), where=norm > 0)


def occlusion_agreement(
    model: Model | nn.Module,
    inputs: Any,
    maps: Any,
    target: Any = None,
    *,
    window: int | None = None,
    grid: int = 14,
    seed: int = 0,
) -> Measured:
    """Rank correlation of maps with the drop of the score under a sliding cover (Grad-CAM paper, section 5.2).

    Parameters
    ----------
    model, inputs, target
        What was explained.
    maps
        `(sample, y, x)`.
    window
        Side of the cover in pixels; an eighth of the picture by default.
    grid
        Both maps are compared on this many cells a side, since the occlusion map knows no finer detail.

    Returns
    -------
    Measured
        Spearman's correlation a sample; the control is the same maps shifted at random.
    """
    model = load(model)
    truth = occlusion(model, inputs, target, window=window)
    reference = _coarse(as_maps(truth), grid)
    values = as_maps(maps)
    if len(values) != len(reference):
        raise InputError(f"{len(values)} maps for {len(reference)} pictures; give one a picture")
    coarse = _coarse(values, grid)
    flat_reference = reference.reshape(len(reference), -1)
    found = spearman(coarse.reshape(len(coarse), -1), flat_reference)
    chance = np.mean([spearman(c.reshape(len(c), -1), flat_reference) for c in shifted(coarse, 20, seed=seed)], 0)
    return measure("rank correlation with occlusion", found, chance, seed=seed)


def _coarse(maps: Float[np.ndarray, "sample y x"], grid: int) -> Float[np.ndarray, "sample row column"]:
    """Mean over the cells of a grid."""
    import torch
    from torch.nn import functional

    cells = min(grid, *maps.shape[1:])
    return functional.adaptive_avg_pool2d(torch.from_numpy(maps)[:, None], cells)[:, 0].numpy()


def _copies(original: Any, rows: np.ndarray, seed: int) -> np.ndarray:
    """One copy of each row without information; maps keep their smoothness."""
    from nissl.evaluation.controls import shuffled

    shape = np.shape(original)
    if (
        rows.shape[1] == int(np.prod(shape[-2:]))
        and len(shape) >= 2
        and not (len(shape) == 2 and len(rows) == shape[0])
    ):
        return shifted(rows.reshape(len(rows), *shape[-2:]), seed=seed)[0].reshape(rows.shape)
    return shuffled(rows, seed=seed)[0]


def _compare(a: np.ndarray, b: np.ndarray, kind: str, k: float) -> Float[np.ndarray, "sample"]:
    if kind == "spearman":
        return spearman(a, b)
    if kind == "kendall":
        pairs = zip(a, b, strict=True)
        taus = [float(kendalltau(x[~np.isnan(x)], y[~np.isnan(y)])[0]) for x, y in pairs]  # type: ignore[arg-type]
        return np.nan_to_num(np.array(taus))
    tops = []
    for rows in (a, b):
        filled = np.nan_to_num(rows, nan=-np.inf)
        count = np.maximum(1, np.round(k * (~np.isnan(rows)).sum(1)))
        tops.append((-filled).argsort(1, kind="stable").argsort(1) < count[:, None])
    return (tops[0] & tops[1]).sum(1) / tops[0].sum(1)
