"""Reading a fitted dynamic connectome: tables, graphs, candidates, the traces behind a motif."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nissl.errors import UnknownNameError, unknown
from nissl.populations.motifs.stimuli import dominant_stimulus


class MotifAtlas:
    """What can be read from fitted motifs; `DynamicConnectome` has all of it."""

    traces_: xr.DataArray
    time_factors_: xr.DataArray
    animal_factors_: xr.DataArray
    affinity_factors_: xr.DataArray
    communities_: xr.DataArray
    weights_: np.ndarray
    stimuli_: pd.DataFrame | None
    edge_fraction: float

    def graph(self, component: int) -> Any:
        """The pattern of a component as a networkx Graph, with `weight` on edges and `community` on nodes."""
        import networkx as nx

        weights = self._edges(component)
        names = [str(u) for u in self.traces_["unit"].values]
        graph = nx.Graph()
        communities = self.communities_.values[component, 0]
        graph.add_nodes_from((n, {"community": int(c)}) for n, c in zip(names, communities, strict=True))
        i, j = np.nonzero(np.triu(weights))
        graph.add_weighted_edges_from((names[a], names[b], float(weights[a, b])) for a, b in zip(i, j, strict=True))
        return graph

    def atlas(self, tail: float = 0.0) -> pd.DataFrame:
        """A row a component.

        Parameters
        ----------
        tail
            Seconds by which a stimulus is taken to outlast its interval.

        Returns
        -------
        pd.DataFrame
            `weight`; `label`, the stimulus whose intervals hold most of the time course, or "spontaneous", and `label_share`, how much they
            hold; `start`, `stop`, `peak`: seconds, first and last sample above half of the maximum, and the maximum;
            `animals`, those with at least half of the largest loading; `n_communities`; `core`, the units of the community with the most
            affinity inside, `core_affinity`, the mean inside it, and `rest_affinity`, the mean of all other pairs; `top_pairs`.
        """
        rows = []
        time = self.traces_["time"].values
        for c in range(self.time_factors_.sizes["component"]):
            course = np.nan_to_num(self.time_factors_.values[:, c])
            label, share = dominant_stimulus(course, time, self.stimuli_, tail)
            above = time[course >= course.max() / 2]
            loading = self.animal_factors_.values[:, c]
            table = self.community_table(c)
            core = table.iloc[0]
            rows.append(
                {
                    "weight": float(self.weights_[c]),
                    "label": label,
                    "label_share": share,
                    "start": float(above[0]),
                    "stop": float(above[-1]),
                    "peak": float(time[course.argmax()]),
                    "animals": [
                        a for a, on in zip(self._animals(), loading >= np.nanmax(loading) / 2, strict=True) if on
                    ],
                    "n_communities": len(table),
                    "core": core["units"],
                    "core_affinity": core["affinity"],
                    "rest_affinity": core["rest"],
                    "top_pairs": [f"{a}-{b}" for a, b in self.pairs(c, 5)[["first", "second"]].to_numpy().tolist()],
                }
            )
        return pd.DataFrame(rows, index=pd.RangeIndex(len(rows), name="component"))

    def components_of(self, stimulus: str, tail: float = 0.0) -> list[int]:
        """The components labelled with a stimulus, or with "spontaneous", heaviest first.

        Raises
        ------
        UnknownNameError
            No such stimulus in the table; the message lists the nearest.
        """
        known = ["spontaneous"] + ([] if self.stimuli_ is None else sorted(set(self.stimuli_["label"])))
        if stimulus not in known:
            raise unknown("stimulus", stimulus, known)
        return [c for c, label in enumerate(self.atlas(tail)["label"]) if label == stimulus]

    def community_table(self, component: int, level: int = 0) -> pd.DataFrame:
        """Communities of a component, most affinity inside first: `units`, `size`, `total` and mean `affinity` inside, and `rest`, the mean
        over all pairs that are not inside.
        """
        pattern = np.nan_to_num(self.affinity_factors_.values[self._component(component)])
        labels, names = self._labels(component, level), self.traces_["unit"].values
        n, rows = len(names), []
        everything = pattern.sum() / 2
        for community in np.unique(labels):
            inside = labels == community
            size = int(inside.sum())
            pairs, total = size * (size - 1) / 2, pattern[np.ix_(inside, inside)].sum() / 2
            others = n * (n - 1) / 2 - pairs
            rows.append(
                {
                    "community": int(community),
                    "size": size,
                    "total": total,
                    "affinity": total / pairs if pairs else 0.0,
                    "rest": (everything - total) / others if others else np.nan,
                    "units": [str(u) for u in names[inside]],
                }
            )
        return pd.DataFrame(rows).sort_values("total", ascending=False, kind="stable").reset_index(drop=True)

    def pairs(self, component: int, n: int = 10) -> pd.DataFrame:
        """The `n` pairs with the most affinity in a component: `first`, `second`, `affinity`."""
        pattern = self.affinity_factors_.values[self._component(component)]
        i, j = np.triu_indices(len(pattern), 1)
        order = np.argsort(-np.nan_to_num(pattern[i, j]), kind="stable")[:n]
        names = self.traces_["unit"].values
        return pd.DataFrame({"first": names[i[order]], "second": names[j[order]], "affinity": pattern[i, j][order]})

    def candidates(self, component: int, unit: str, level: int = 0) -> pd.Series:
        """Neurons to perturb next: the others of one neuron's community, by their summed affinity inside it.

        Affinity is no cause. The test is a perturbation: silence the first candidate, and a matched neuron from elsewhere.

        Parameters
        ----------
        unit
            For instance the sensory neuron of the component's stimulus.

        Raises
        ------
        UnknownNameError
            No such unit.
        """
        names = [str(u) for u in self.traces_["unit"].values]
        if str(unit) not in names:
            raise unknown("unit", unit, names)
        labels, own = self._labels(component, level), names.index(str(unit))
        inside = np.flatnonzero(labels == labels[own])
        pattern = np.nan_to_num(self.affinity_factors_.values[component])
        total = pd.Series(pattern[np.ix_(inside, inside)].sum(1), index=[names[i] for i in inside], name="affinity")
        return total.drop(str(unit)).sort_values(ascending=False, kind="stable")

    def reversion(self, component: int, community: int | None = None, level: int = 0) -> xr.DataArray:
        """The original traces of one community while the component's time course is above half of its maximum.

        Parameters
        ----------
        community
            Number of the community; the one with the most affinity inside where None.
        """
        table = self.community_table(component, level)
        community = int(table["community"].iloc[0]) if community is None else community
        if community not in set(table["community"]):
            raise unknown("community", community, table["community"])
        course = np.nan_to_num(self.time_factors_.values[:, component])
        return self.traces_.isel(time=course >= course.max() / 2, unit=self._labels(component, level) == community)

    def plot(self, level: int = 0) -> Any:
        """A figure with a row a component: time course over the stimuli, animals, and the pattern sorted by community."""
        from nissl.populations.motifs.plots import plot_motifs

        return plot_motifs(self, level)

    def _animals(self) -> np.ndarray:
        return self.traces_["animal"].values

    def _component(self, component: int) -> int:
        if not 0 <= component < len(self.weights_):
            raise UnknownNameError(f"component {component}; there are {len(self.weights_)}, from 0 on")
        return component

    def _labels(self, component: int, level: int) -> np.ndarray:
        if not 0 <= level < self.communities_.sizes["level"]:
            raise UnknownNameError(f"level {level}; there are {self.communities_.sizes['level']}, from 0 on")
        return self.communities_.values[self._component(component), level]

    def _edges(self, component: int) -> np.ndarray:
        """The pattern without what is too small to be an edge."""
        pattern = np.nan_to_num(self.affinity_factors_.values[self._component(component)])
        return np.where(pattern >= self.edge_fraction * pattern.max(), pattern, 0.0)
