"""A wiring diagram: named nodes, and one matrix a kind of connection, always in the orientation (target, source)."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool
from scipy import sparse

from nissl.errors import InputError, unknown
from nissl.recordings._traces import listed
from nissl.recordings._wiring import forms as forms

if TYPE_CHECKING:
    from nissl.recordings._wiring.compare import ConnectomeComparison


class Connectome:
    """Connections between named nodes, by kind.

    Electrical connections have no direction, so they are made symmetric: where a pair is listed both ways its values
    are averaged, where it is listed once the value counts for both directions. Every other kind is directed.

    Parameters
    ----------
    nodes
        Names, each once.
    chemical, electrical, functional
        Weights `(target, source)`: arrays, scipy sparse matrices, or DataArrays with these dimensions, whose names are
        then matched. Zero is a pair that was looked at and has no connection, NaN one that was not looked at.
    other
        Further kinds by name, such as `peptide` or `contact`.
    name
        For tables and reports.
    sources
        Where each of it comes from.
    table
        What is known of the nodes, a row each, with their names as index.
    evidence
        For a merged connectome: spread and number of annotations behind each weight.

    Attributes
    ----------
    nodes : tuple of str
    kinds : tuple of str
    name, sources, table, evidence
        As given.
    one_sided : int
        Unordered electrical pairs whose two directions differed before they were made symmetric.

    Raises
    ------
    InputError
        Names given twice, matrices of another shape or with other names, infinite weights, no matrix at all.

    Examples
    --------
    >>> c = Connectome(["a", "b", "c"], chemical=[[0, 0, 0], [2, 0, 0], [0, 1, 0]], electrical=[[0, 3, 0], [0, 0, 0], [0, 0, 0]])
    >>> float(c.chemical.sel(target="b", source="a")), float(c.electrical.sel(target="b", source="a"))
    (2.0, 3.0)
    >>> c.edges()[["source", "target", "kind"]].values.tolist()
    [['a', 'b', 'chemical'], ['b', 'c', 'chemical'], ['b', 'a', 'electrical'], ['a', 'b', 'electrical']]
    """

    def __init__(
        self,
        nodes: Iterable[str],
        chemical: Any = None,
        electrical: Any = None,
        functional: Any = None,
        *,
        other: Mapping[str, Any] | None = None,
        name: str = "connectome",
        sources: Sequence[str] = (),
        table: pd.DataFrame | None = None,
        evidence: xr.Dataset | None = None,
    ) -> None:
        self.nodes = tuple(str(n) for n in nodes)
        forms.check_nodes(self.nodes)
        given = {"chemical": chemical, "electrical": electrical, "functional": functional, **(other or {})}
        given = {kind: matrix for kind, matrix in given.items() if matrix is not None}
        if not given:
            raise InputError(
                "a connectome without a matrix; give chemical, electrical, functional or other={'kind': matrix}"
            )
        self._layers: dict[str, sparse.csr_array] = {}
        self._measured: dict[str, Bool[np.ndarray, "target source"]] = {}
        self.one_sided = 0
        for kind, matrix in given.items():
            layer, measured = forms.as_layer(matrix, self.nodes, kind)
            if kind == "electrical":
                self.one_sided = (layer != layer.T).nnz // 2
                layer = forms.symmetrised(layer)
            self._layers[kind] = layer
            if measured is not None:
                self._measured[kind] = measured | measured.T if kind == "electrical" else measured
        self.name = name
        self.sources = tuple(sources) or (name,)
        self.table = forms.node_table(table, self.nodes)
        self.evidence = evidence

    # Making one

    @classmethod
    def from_package(cls, name: str, **options: Any) -> Connectome:
        """A published wiring diagram of the worm by name, such as `Cook2019Herm`; see `recordings.worm.connectome`."""
        from nissl.recordings.worm import connectome

        return connectome(name, **options)

    @classmethod
    def from_edges(
        cls,
        edges: pd.DataFrame | str | Path,
        *,
        nodes: Iterable[str] | None = None,
        kind: str = "chemical",
        **options: Any,
    ) -> Connectome:
        """From a list of edges: a table, or a csv or tab-separated file.

        Parameters
        ----------
        edges
            Columns for the two ends (`source`/`target`, `pre`/`post`, `from`/`to` ...), and where there are such, for
            the `weight` (synapses, count; one each where there is none) and the `kind` (chemical, electrical, gap
            junction ...).
        nodes
            All names, where some have no edge; else those that occur, sorted.
        kind
            Of edges, where no column says so.
        **options
            As for `Connectome`.

        Notes
        -----
        An ordered pair that is listed several times is added up; values of an unordered electrical pair are averaged.

        Examples
        --------
        >>> table = pd.DataFrame({"pre": ["a", "b"], "post": ["b", "c"], "synapses": [2, 5]})
        >>> float(Connectome.from_edges(table).chemical.sel(target="c", source="b"))
        5.0
        """
        if not isinstance(edges, pd.DataFrame):
            options.setdefault("name", Path(edges).stem)
        table = forms.edge_table(edges, kind)
        names = sorted(set(table["source"]) | set(table["target"])) if nodes is None else [str(n) for n in nodes]
        return cls(names, other=forms.layers_from_edges(table, names), **options)

    @classmethod
    def from_networkx(
        cls, graph: nx.Graph, *, weight: str = "weight", kind: str | None = None, **options: Any
    ) -> Connectome:
        """From a networkx graph, whose edges run from source to target.

        Parameters
        ----------
        weight
            The edge attribute that holds the weight; 1 where an edge lacks it.
        kind
            Of its edges; where None an edge attribute `kind` says so, else a directed graph is chemical and an
            undirected one electrical. Edges with attributes called chemical, electrical or functional, as `to_networkx`
            writes them, are read back as such.
        """
        options.setdefault("name", graph.name or "connectome")
        table = forms.edges_of_graph(graph, weight, kind)
        return cls(
            [str(n) for n in graph.nodes],
            other=forms.layers_from_edges(table, [str(n) for n in graph.nodes]),
            **options,
        )

    @classmethod
    def merge(
        cls, connectomes: Sequence[Connectome | str], how: str = "mean", *, scale: str | None = None, **options: Any
    ) -> Connectome:
        """One consensus of several annotations; see `recordings.merge_connectomes`."""
        from nissl.recordings._wiring.merge import merge_connectomes

        return merge_connectomes(connectomes, how, scale=scale, **options)

    # Looking at it

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of connection that it has."""
        return tuple(self._layers)

    def __len__(self) -> int:
        return len(self.nodes)

    def matrix(self, kind: str) -> xr.DataArray:
        """Weights of one kind as a labelled matrix `(target, source)`: zero where there is no connection, NaN where
        nobody looked.
        """
        values = self.sparse(kind).toarray()
        if kind in self._measured:
            values[~self._measured[kind]] = np.nan
        coords = {"target": list(self.nodes), "source": list(self.nodes)}
        return xr.DataArray(
            values, dims=("target", "source"), coords=coords, name=kind, attrs={"connectome": self.name}
        )

    @cached_property
    def chemical(self) -> xr.DataArray:
        """Chemical synapses `(target, source)`."""
        return self.matrix("chemical")

    @cached_property
    def electrical(self) -> xr.DataArray:
        """Gap junctions `(target, source)`, symmetric."""
        return self.matrix("electrical")

    @cached_property
    def functional(self) -> xr.DataArray:
        """Measured effect of one neuron on another `(target, source)`."""
        return self.matrix("functional")

    def sparse(self, kind: str) -> sparse.csr_array:
        """Weights of one kind as a sparse matrix, rows targets, columns sources."""
        if kind not in self._layers:
            raise unknown(f"kind of connection in {self.name}", kind, self.kinds)
        return self._layers[kind]

    def measured(self, kind: str) -> Bool[np.ndarray, "target source"]:
        """Which pairs were looked at."""
        self.sparse(kind)
        return self._measured.get(kind, np.ones((len(self),) * 2, dtype=bool))

    def to_dataset(self) -> xr.Dataset:
        """All kinds as one Dataset of matrices `(target, source)`."""
        return xr.Dataset(
            {k: self.matrix(k) for k in self.kinds}, attrs={"name": self.name, "sources": ", ".join(self.sources)}
        )

    def edges(self, kinds: Iterable[str] | None = None) -> pd.DataFrame:
        """Connections as a table: source, target, kind, weight; an electrical one in both directions."""
        parts = []
        names = np.array(self.nodes, dtype=object)
        for kind in self.kinds if kinds is None else kinds:
            layer = self.sparse(kind).tocoo()
            target, source = layer.coords
            parts.append(
                pd.DataFrame({"source": names[source], "target": names[target], "kind": kind, "weight": layer.data})
            )
        return pd.concat(parts, ignore_index=True)

    def reciprocity(self, kind: str = "chemical") -> float:
        """Share of edges whose counterpart exists, self-loops aside; 1 for a symmetric kind.

        Examples
        --------
        >>> Connectome("abc", chemical=[[0, 1, 0], [1, 0, 0], [0, 1, 0]]).reciprocity()
        0.6666666666666666
        """
        there = forms.off_diagonal(self.sparse(kind)).astype(bool)
        if there.nnz == 0:
            raise InputError(f"{self.name} has no {kind} connection between two different nodes")
        return float(there.multiply(there.T).nnz / there.nnz)

    def compare(self, other: Connectome | str, **options: Any) -> ConnectomeComparison:
        """How far two connectomes agree; see `recordings.compare_connectomes`."""
        from nissl.recordings._wiring.compare import compare_connectomes

        return compare_connectomes(self, other, **options)

    # Changing its nodes

    def select(self, nodes: Iterable[str]) -> Connectome:
        """Only these nodes, in this order.

        Raises
        ------
        UnknownNameError
            A name that it does not have, with the nearest.
        """
        return self._on(self._places(nodes), None)

    def align(self, units: Iterable[Any] | xr.DataArray | xr.Dataset) -> Connectome:
        """The connectome on the units of a recording, in their order: pairs with a unit that it does not know are NaN.

        Parameters
        ----------
        units
            Names, or a recording, whose `unit` coordinate is taken.

        Raises
        ------
        InputError
            Not one name in common, or a name twice.

        Examples
        --------
        >>> c = Connectome(["a", "b"], chemical=[[0, 0], [2, 0]]).align(["b", "x", "a"])
        >>> c.chemical.values.tolist()
        [[0.0, nan, 2.0], [nan, nan, nan], [0.0, nan, 0.0]]
        """
        names = [str(u) for u in (units["unit"].values if isinstance(units, xr.DataArray | xr.Dataset) else units)]
        forms.check_nodes(tuple(names))
        own = {n: i for i, n in enumerate(self.nodes)}
        place = np.array([own.get(n, -1) for n in names])
        if (place < 0).all():
            raise InputError(
                f"no name in common between {self.name} ({listed(self.nodes)}) and the units ({listed(names)}); for worms, "
                "recordings.worm.clean_names brings labels into the same spelling"
            )
        return self if tuple(names) == self.nodes else self._on(place, names)

    def _places(self, nodes: Iterable[str]) -> np.ndarray:
        own = {n: i for i, n in enumerate(self.nodes)}
        names = [str(n) for n in nodes]
        forms.check_nodes(tuple(names))
        for name in names:
            if name not in own:
                raise unknown(f"node of {self.name}", name, self.nodes)
        return np.array([own[n] for n in names], dtype=int)

    def _on(self, place: np.ndarray, names: Sequence[str] | None) -> Connectome:
        """The same connections among the nodes at `place`, where -1 is a node that is not there."""
        there = np.flatnonzero(place >= 0)
        gather = sparse.csr_array((np.ones(len(there)), (there, place[there])), shape=(len(place), len(self)))
        new = [self.nodes[i] for i in place] if names is None else list(names)
        out = object.__new__(Connectome)
        out.nodes, out.name, out.sources, out.one_sided = tuple(new), self.name, self.sources, self.one_sided
        out._layers = {k: forms.pruned(gather @ layer @ gather.T) for k, layer in self._layers.items()}
        known = (place >= 0)[:, None] & (place >= 0)[None, :]
        out._measured = {}
        for kind in self.kinds:
            if kind in self._measured or not known.all():
                out._measured[kind] = known & self.measured(kind)[place[:, None], place[None, :]]
        out.table = self.table.reindex(new)
        out.evidence = None if self.evidence is None else self.evidence.reindex(target=new, source=new)
        return out

    # Handing it on

    def to_networkx(self, kind: str | None = None) -> nx.DiGraph:
        """A directed graph from source to target.

        Parameters
        ----------
        kind
            One kind, whose weights are the edge attribute `weight`; all where None, each kind under its own name.
        """
        graph = nx.DiGraph(name=self.name)
        for node, row in zip(self.nodes, self.table.to_dict("records"), strict=True):
            graph.add_node(node, **{str(k): v for k, v in row.items()})
        for k in self.kinds if kind is None else (kind,):
            rows = self.edges([k])
            label = "weight" if kind else k
            graph.add_edges_from(
                (s, t, {label: float(w)})
                for s, t, w in zip(rows["source"], rows["target"], rows["weight"], strict=True)
            )
        return graph

    def to_torch(self, *, complete: bool = False) -> dict[str, Any]:
        """Tensors in the form of graph networks.

        Parameters
        ----------
        complete
            Add an edge of weight zero for every ordered pair without a connection, self-loops included.

        Returns
        -------
        dict
            `edge_index` (2, edge) with source above target, `edge_attr` (edge, 2) with the electrical and the chemical
            weight, `nodes` the names, `pos` (node, 3) where positions are known.
        """
        return forms.as_tensors(self._layers, self.nodes, self.table, complete)

    def consensus_table(self) -> pd.DataFrame:
        """Every connected ordered pair with its mean weights, their uncertainty, the annotations behind it and the
        ends' types and places.
        """
        from nissl.recordings._wiring.merge import consensus_table

        return consensus_table(self)

    def __repr__(self) -> str:
        counts = ", ".join(f"{layer.nnz} {kind}" for kind, layer in self._layers.items())
        return f"<Connectome {self.name}: {len(self)} nodes, {counts}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(kind)}</td><td>{layer.nnz:,}</td><td>{layer.sum():,.6g}</td>"
            f"<td>{self.measured(kind).mean():.0%}</td><td>{self._reciprocity_text(kind)}</td></tr>"
            for kind, layer in self._layers.items()
        )
        return (
            f"<b>{html.escape(self.name)}</b>: {len(self)} nodes<table><tr><th>kind</th><th>ordered pairs</th><th>total weight</th>"
            f"<th>measured</th><th>reciprocity</th></tr>{rows}</table>"
        )

    def _reciprocity_text(self, kind: str) -> str:
        return f"{self.reciprocity(kind):.2f}" if forms.off_diagonal(self.sparse(kind)).nnz else ""
