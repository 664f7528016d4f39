"""Several annotations in one consensus, with its spread and its sources."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from scipy.stats import rankdata

from nissl.errors import InputError, unknown

if TYPE_CHECKING:
    from nissl.recordings._wiring.connectome import Connectome

HOW = ("mean", "median", "max", "present")
SCALES = ("total", "rank")
# Share of the chemical synapses' spread in the uncertainty of a pair; gap junctions have the rest.
CHEMICAL_SHARE = 0.9


def merge_connectomes(
    connectomes: Sequence[Connectome | str],
    how: str = "mean",
    *,
    scale: str | None = None,
    nodes: Iterable[str] | None = None,
    name: str = "consensus",
) -> Connectome:
    """One consensus of several annotations.

    Parameters
    ----------
    connectomes
        Connectomes, or names of the worm's.
    how
        `mean` and `median` over the annotations that know both neurons, a connection that one of them lacks counting as
        zero; `present`: mean over those that have the connection, as the worm's public collection does it; `max`.
    scale
        What to do about units before: None takes weights as they are, which is right for annotations that count the
        same thing; `total` divides each kind by its mean weight, `rank` replaces weights by their rank among the
        annotation's own, over their number.
    nodes
        The nodes of the result; all that occur, sorted, where None.

    Returns
    -------
    Connectome
        Its `evidence` holds, for each kind and pair `(target, source)`: `KIND_sd` over the annotations that have the
        connection, `KIND_n` their number, `KIND_known` how many know both neurons; and `uncertainty`, 0.9 times the
        chemical and 0.1 times the electrical spread. `source_matrix` `(annotation, target, source)` says which
        annotations have any connection.

    Raises
    ------
    InputError, UnknownNameError
        Fewer than two connectomes, unknown `how` or `scale`.

    Examples
    --------
    >>> from nissl.recordings import Connectome
    >>> a = Connectome("ab", chemical=[[0, 0], [2, 0]], name="one")
    >>> b = Connectome("abc", chemical=[[0, 0, 0], [4, 0, 0], [1, 0, 0]], name="two")
    >>> both = Connectome.merge([a, b])
    >>> float(both.chemical.sel(target="b", source="a")), float(both.chemical.sel(target="c", source="a"))
    (3.0, 1.0)
    """
    from nissl.recordings._wiring.connectome import Connectome

    if how not in HOW:
        raise unknown("way to merge", how, HOW)
    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if isinstance(connectomes, str) or len(connectomes) < 2:
        raise InputError("a consensus needs two connectomes or more, as a list")
    parts = [Connectome.from_package(c) if isinstance(c, str) else c for c in connectomes]
    labels = [p.name if [q.name for q in parts].count(p.name) == 1 else f"{p.name} {i}" for i, p in enumerate(parts)]
    names = sorted({n for p in parts for n in p.nodes}) if nodes is None else [str(n) for n in nodes]
    kinds = list(dict.fromkeys(k for p in parts for k in p.kinds))
    merged, evidence, has = {}, {}, np.zeros((len(parts), len(names), len(names)), dtype=bool)
    for kind in kinds:
        stack = np.stack(
            [
                _scaled(p.align(names).matrix(kind).values, scale)
                if kind in p.kinds
                else np.full((len(names),) * 2, np.nan)
                for p in parts
            ]
        )
        merged[kind], evidence[f"{kind}_sd"], evidence[f"{kind}_n"], evidence[f"{kind}_known"] = _pooled(stack, how)
        has |= np.nan_to_num(stack) != 0
    dims = ("target", "source")
    facts = xr.Dataset(
        {k: (dims, v) for k, v in evidence.items()} | {"source_matrix": (("annotation", *dims), has)},
        coords={"annotation": labels, "target": names, "source": names},
    )
    # One kind alone decides where the other is absent: a spread that is unknown adds nothing.
    spread = [
        share * facts[f"{k}_sd"]
        for k, share in (("chemical", CHEMICAL_SHARE), ("electrical", 1 - CHEMICAL_SHARE))
        if k in kinds
    ]
    if spread:
        known = np.logical_or.reduce([s.notnull() for s in spread])
        facts["uncertainty"] = sum(s.fillna(0.0) for s in spread).where(known)  # type: ignore[union-attr]
    tables = [p.table for p in parts if len(p.table.columns)]
    table = None
    if tables:
        all_rows = pd.concat(tables)
        table = pd.DataFrame(all_rows[~all_rows.index.duplicated()]).reindex(names)
    sources = tuple(dict.fromkeys(s for p in parts for s in p.sources))
    return Connectome(names, other=merged, name=name, sources=sources, table=table, evidence=facts)


def _scaled(values: Float[np.ndarray, "target source"], scale: str | None) -> Float[np.ndarray, "target source"]:
    there = np.nan_to_num(values) != 0
    if scale is None or not there.any():
        return values
    out = values.copy()
    out[there] = (
        values[there] / np.abs(values[there]).mean() if scale == "total" else rankdata(values[there]) / there.sum()
    )
    return out


def _pooled(stack: Float[np.ndarray, "annotation target source"], how: str) -> tuple[np.ndarray, ...]:
    """Weight, spread over annotations that have the connection, how many have it, how many know the pair."""
    known, there = ~np.isnan(stack), np.nan_to_num(stack) != 0
    n_known, n = known.sum(0), there.sum(0)
    filled = np.where(known, stack, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_there = filled.sum(0) / n
        sd = np.sqrt((np.where(there, stack - mean_there, 0.0) ** 2).sum(0) / n)
        if how == "mean":
            weight = filled.sum(0) / n_known
        elif how == "present":
            weight = np.where(n > 0, mean_there, 0.0)
        elif how == "max":
            weight = np.where(known, stack, -np.inf).max(0)
        else:
            weight = np.nanmedian(np.where(n_known > 0, stack, 0.0), axis=0)
    return np.where(n_known > 0, weight, np.nan), np.where(n > 0, sd, np.nan), n, n_known


def consensus_table(connectome: Connectome) -> pd.DataFrame:
    """Every connected ordered pair in the columns of the public collection: from_neuron, to_neuron, places and types of
    both, mean_gap_weight, mean_chem_weight, functional_weight (those that there are), uncertainty and data_sources. NaN
    where a pair has no such connection.
    """
    named = {"electrical": "mean_gap_weight", "chemical": "mean_chem_weight", "functional": "functional_weight"}
    matrices = {named.get(k, k): np.nan_to_num(connectome.matrix(k).values) for k in connectome.kinds}
    target, source = np.nonzero(np.logical_or.reduce([m != 0 for m in matrices.values()]))
    order = np.lexsort((target, source))
    target, source = target[order], source[order]
    nodes, table = np.array(connectome.nodes, dtype=object), connectome.table
    out = pd.DataFrame({"from_neuron": nodes[source], "to_neuron": nodes[target]})
    for end, at in (("from", source), ("to", target)):
        if {"x", "y", "z"} <= set(table.columns):
            out[f"{end}_pos"] = list(map(tuple, table[["x", "y", "z"]].to_numpy(float)[at].tolist()))
        if "type" in table.columns:
            out[f"{end}_type"] = table["type"].to_numpy()[at]
    for label, m in matrices.items():
        weight = m[target, source]
        out[label] = np.where(weight != 0, weight, np.nan)
    facts = connectome.evidence
    if facts is not None and "uncertainty" in facts:
        out["uncertainty"] = facts["uncertainty"].values[target, source]
    if facts is not None:
        has, labels = facts["source_matrix"].values[:, target, source].T, facts["annotation"].values
        out["data_sources"] = [", ".join(labels[row]) for row in has]
    else:
        out["data_sources"] = connectome.name
    return out
