"""The forms in which wiring comes in and goes out: matrices, edge lists, graphs, tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from nissl.errors import InputError, unknown
from nissl.recordings._traces import listed

_ENDS = {
    "source": (
        "source",
        "pre",
        "from",
        "from_neuron",
        "presynaptic",
        "pre_pt_root_id",
        "bodyid_pre",
        "origin",
        "neuron1",
    ),
    "target": ("target", "post", "to", "to_neuron", "postsynaptic", "post_pt_root_id", "bodyid_post", "neuron2"),
}
_WEIGHTS = ("weight", "synapses", "syn_count", "count", "number", "n", "n_syn", "size")
_KINDS = ("kind", "type", "synapse_type", "connection_type")
_SAME = {
    "electrical": ("electrical", "gap", "gap junction", "gap_junction", "gapjunction", "generic_gj", "ej", "e"),
    "chemical": ("chemical", "chem", "synapse", "send", "generic_cs", "c"),
    "functional": ("functional", "func"),
}  # fmt: skip


def check_nodes(nodes: Sequence[str]) -> None:
    if not nodes:
        raise InputError("a connectome without nodes; give the names of at least one")
    unique, counts = np.unique(np.array(nodes), return_counts=True)
    if (counts > 1).any():
        raise InputError(f"names given twice: {listed(unique[counts > 1])}")


def node_table(table: pd.DataFrame | None, nodes: Sequence[str]) -> pd.DataFrame:
    if table is None:
        return pd.DataFrame(index=pd.Index(list(nodes), name="node"))
    missing = [n for n in nodes if n not in table.index]
    if missing:
        raise InputError(f"no row in the table of nodes for {listed(missing)}; its index must hold their names")
    return table.loc[list(nodes)].copy()


def as_layer(matrix: Any, nodes: Sequence[str], kind: str) -> tuple[sparse.csr_array, np.ndarray | None]:
    """A sparse matrix (target, source), and where not every pair was looked at, which were."""
    if isinstance(matrix, xr.DataArray):
        matrix = _matched(matrix, nodes, kind)
    if sparse.issparse(matrix):
        layer, measured = sparse.csr_array(matrix, dtype=float), None
    else:
        if hasattr(matrix, "detach"):
            matrix = matrix.detach().cpu().numpy()
        values = np.asarray(matrix, dtype=float)
        unseen = np.isnan(values)
        measured = ~unseen if unseen.any() else None
        layer = np.where(unseen, 0.0, values)
    if layer.shape != (len(nodes), len(nodes)):
        raise InputError(
            f"{kind} matrix of shape {layer.shape} for {len(nodes)} nodes; give one row a target and one column a source"
        )
    layer = sparse.csr_array(layer)
    if not np.isfinite(layer.data).all():
        raise InputError(
            f"{kind} weights that are infinite (or NaN in a sparse matrix); zero is no connection, NaN in a dense one not measured"
        )
    return pruned(layer), measured


def _matched(matrix: xr.DataArray, nodes: Sequence[str], kind: str) -> np.ndarray:
    if set(matrix.dims) != {"target", "source"}:
        raise InputError(f"{kind} matrix with dimensions {tuple(map(str, matrix.dims))}; allowed: ('target', 'source')")
    for dim in ("target", "source"):
        if dim in matrix.coords:
            names = [str(n) for n in matrix[dim].values]
            check_nodes(tuple(names))
            lost = set(names) ^ set(nodes)
            if lost:
                raise InputError(
                    f"{kind} matrix and nodes differ in {listed(sorted(lost))}; use the same names in both"
                )
            order = {n: i for i, n in enumerate(names)}
            matrix = matrix.isel({dim: [order[n] for n in nodes]})
    return matrix.transpose("target", "source").values


def pruned(layer: Any) -> sparse.csr_array:
    layer = sparse.csr_array(layer)
    layer.sum_duplicates()
    layer.eliminate_zeros()
    return layer


def off_diagonal(layer: sparse.csr_array) -> sparse.csr_array:
    coo = layer.tocoo()
    row, column = coo.coords
    keep = row != column
    return sparse.csr_array((coo.data[keep], (row[keep], column[keep])), shape=layer.shape)


def symmetrised(layer: sparse.csr_array) -> sparse.csr_array:
    """Mean of the values that an unordered pair has: one that is listed in one direction only counts for both."""
    there = layer.astype(bool).astype(float)
    total, count = (layer + layer.T).tocsr(), (there + there.T).tocsr()
    return pruned(total.multiply(count.power(-1)))


def edge_table(edges: pd.DataFrame | str | Path, kind: str) -> pd.DataFrame:
    """Columns source, target, kind, weight, whatever they were called."""
    if not isinstance(edges, pd.DataFrame):
        path = Path(edges)
        if not path.is_file():
            raise InputError(f"no file {path}")
        edges = pd.read_csv(path, sep=None, engine="python", comment="#")
    columns = {str(c).strip().lower(): c for c in edges.columns}
    found = {}
    for end, names in _ENDS.items():
        name = next((n for n in names if n in columns), None)
        if name is None:
            raise unknown("column for the " + end, end, map(str, edges.columns), f"it may be called {', '.join(names)}")
        found[end] = edges[columns[name]].astype(str).str.strip()
    weight = next((columns[n] for n in _WEIGHTS if n in columns), None)
    type_ = next((columns[n] for n in _KINDS if n in columns), None)
    table = pd.DataFrame(found)
    table["kind"] = kind if type_ is None else [canonical_kind(k) for k in edges[type_]]
    table["weight"] = 1.0 if weight is None else pd.to_numeric(edges[weight], errors="coerce")
    bad = ~np.isfinite(table["weight"].to_numpy(float))
    if bad.any():
        raise InputError(f"{bad.sum()} edge(s) whose weight is no number, the first in row {int(np.argmax(bad))}")
    if table.empty:
        raise InputError("an edge list without an edge")
    return table


def canonical_kind(kind: object) -> str:
    low = str(kind).strip().lower()
    return next((name for name, same in _SAME.items() if low in same), str(kind).strip())


def layers_from_edges(table: pd.DataFrame, nodes: Sequence[str]) -> dict[str, sparse.csr_array]:
    """Ordered pairs added up; electrical pairs averaged over all raw values, whichever way round they are listed."""
    place = {n: i for i, n in enumerate(nodes)}
    lost = sorted((set(table["source"]) | set(table["target"])) - set(place))
    if lost:
        raise unknown("node in the edge list", lost[0], nodes, f"{len(lost)} such name(s)")
    out = {}
    for kind, rows in table.groupby("kind", sort=False):
        source, target = (np.array([place[n] for n in rows[end]]) for end in ("source", "target"))
        weight = rows["weight"].to_numpy(float)
        if kind == "electrical":
            pair, which = np.unique(np.sort(np.stack([source, target]), axis=0), axis=1, return_inverse=True)
            weight = np.bincount(which.ravel(), weights=weight) / np.bincount(which.ravel())
            source, target = pair
        out[str(kind)] = sparse.csr_array((weight, (target, source)), shape=(len(nodes),) * 2)
    return out


def edges_of_graph(graph: nx.Graph, weight: str, kind: str | None) -> pd.DataFrame:
    default = kind or ("chemical" if graph.is_directed() else "electrical")
    rows = []
    for source, target, data in graph.edges(data=True):
        named = {} if kind else {k: v for k, v in data.items() if k in _SAME}
        found = named or {canonical_kind(data.get("kind", default)) if kind is None else kind: data.get(weight, 1.0)}
        for k, w in found.items():
            rows.append((str(source), str(target), k, w))
            if not graph.is_directed() and k != "electrical" and source != target:
                rows.append((str(target), str(source), k, w))
    if not rows:
        raise InputError("a graph without an edge")
    return edge_table(pd.DataFrame(rows, columns=["source", "target", "kind", "weight"]), default)


def as_tensors(
    layers: Mapping[str, sparse.csr_array], nodes: Sequence[str], table: pd.DataFrame, complete: bool
) -> dict[str, Any]:
    import torch

    n = len(nodes)
    empty = sparse.csr_array((n, n))
    gap, chemical = layers.get("electrical", empty), layers.get("chemical", empty)
    if complete:
        source, target = (a.ravel() for a in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    else:
        target, source = (gap.astype(bool) + chemical.astype(bool)).tocoo().coords
        order = np.lexsort((target, source))
        target, source = target[order], source[order]
    attributes = np.stack([np.asarray(m[target, source]).ravel() for m in (gap, chemical)], axis=1)
    out = {
        "edge_index": torch.from_numpy(np.stack([source, target]).astype(np.int64)),
        "edge_attr": torch.from_numpy(attributes).float(),
        "nodes": list(nodes),
    }
    if {"x", "y", "z"} <= set(table.columns):
        out["pos"] = torch.tensor(table[["x", "y", "z"]].to_numpy(np.float32))
    return out
