"""Which neurons work together, when, and in which animals: an atlas of motifs from traces.

Traces become affinities of pairs, moment by moment; the affinities of all animals become a few components, each one pattern over
pairs with one time course and one profile over animals; each pattern is a weighted graph and falls into communities.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator

from nissl.errors import InputError, UnknownNameError, unknown
from nissl.populations._stimuli import dominant_stimulus, stimulus_table
from nissl.populations.affinity import differential_affinity, sliding_correlation
from nissl.populations.block_model import BlockModel, weighted_block_model
from nissl.populations.communities import leiden
from nissl.populations.rank_choice import rank_curve
from nissl.populations.tensor_factors import nonnegative_cp
from nissl.recordings import as_traces
from nissl.recordings._traces import listed


class DynamicConnectome(BaseEstimator):
    """Motifs of a recorded population: patterns of affinity between neurons with their times and animals.

    Parameters
    ----------
    n_factors
        Number of components; None chooses it by stability and gain (`rank_curve`).
    combine, sign, smooth, scale, threshold
        Of the affinity, see `differential_affinity`.
    affinity
        "differential", or "correlation" for the customary sliding window of `window` seconds.
    communities
        "block-model" (`weighted_block_model`), "graph-tool" (the same by that library) or "leiden" (modularity).
    edge_fraction
        Pairs below this share of a component's largest affinity are no edges.
    max_factors, min_stability, min_gain
        Of the choice of the number of components.
    n_restarts, tol, max_sweeps
        Of the factorisation, see `nonnegative_cp`.
    constant
        What a trace without any change is: "raise" takes it for a broken sensor, "keep" for a silent neuron with affinity 0.
    seed
        Of everything random.
    progress
        Progress bars, where there is a terminal.

    Attributes
    ----------
    time_factors_, animal_factors_
        `(time, component)` and `(animal, component)`, the former with a peak of 1, the latter with a largest value of 1; NaN where
        nothing was recorded. Components are sorted by weight.
    affinity_factors_
        `(component, target, source)`, symmetric, in units of affinity: the product of the three factors is the model. NaN for
        pairs never recorded together.
    weights_
        Share of each component in the model's total affinity.
    explained_variance_
        1 - |x - model|^2 / |x|^2 of the affinities.
    stability_
        Agreement of restarts, from 0 to 1.
    rank_curve_
        The table of `rank_curve`, or None where the number was given.
    communities_
        `(component, level, unit)`: level 0 is the finest.
    block_models_
        The `BlockModel` of each component; empty for "leiden".
    traces_, stimuli_
        What was fitted: `(animal, time, unit)`; and start, stop, label, or None.

    Examples
    --------
    >>> from nissl.recordings import simulate
    >>> worms = simulate.motifs(n_animals=4, duration=60.0, absent=1)
    >>> fit = DynamicConnectome(n_factors=3, n_restarts=3, progress=False).fit(worms)
    >>> sorted(fit.atlas()["label"])
    ['stimulus 0', 'stimulus 1', 'stimulus 2']

    Notes
    -----
    Dyballa and Zucker, "Learning dynamic representations of the functional connectome in neurobiological networks". Animals' gains are
    scaled away, so their profile tells presence rather than strength. Where two motifs share times and animals, their split is
    not unique: look at `stability_` and `rank_curve_`.
    """

    def __init__(
        self,
        *,
        n_factors: int | None = None,
        combine: Literal["min", "geometric", "product"] = "min",
        sign: Literal["any", "same"] = "any",
        smooth: float = 0.5,
        scale: Literal["minmax", "percentile", "none"] = "minmax",
        threshold: float | Literal["noise"] = "noise",
        affinity: Literal["differential", "correlation"] = "differential",
        window: float = 10.0,
        communities: Literal["block-model", "graph-tool", "leiden"] = "block-model",
        edge_fraction: float = 0.01,
        max_factors: int = 8,
        min_stability: float = 0.95,
        min_gain: float = 0.02,
        n_restarts: int = 10,
        tol: float = 1e-6,
        max_sweeps: int = 500,
        constant: Literal["raise", "keep"] = "raise",
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.n_factors, self.combine, self.sign, self.smooth = n_factors, combine, sign, smooth
        self.scale, self.threshold, self.affinity, self.window = scale, threshold, affinity, window
        self.communities, self.edge_fraction, self.max_factors = communities, edge_fraction, max_factors
        self.min_stability, self.min_gain, self.n_restarts = min_stability, min_gain, n_restarts
        self.tol, self.max_sweeps, self.constant, self.seed, self.progress = tol, max_sweeps, constant, seed, progress

    def fit(self, x: Any, y: Any = None, *, stimuli: Any = None, rate: float | None = None) -> DynamicConnectome:
        """Find the motifs of traces.

        Parameters
        ----------
        x
            `(time, unit)` or `(animal, time, unit)`, or a recording or collection of them; NaN where not recorded. Animals are aligned in
            time: the same protocol for all.
        stimuli
            A table with `start`, `stop` (seconds) and `label`; by default the `stimulus_start`, `stimulus_stop`, `stimulus_label` of the
            recording.
        rate
            Samples a second, for arrays without a clock.

        Raises
        ------
        InputError
            Before work starts: an animal with fewer than two neurons, traces that never change, a recording shorter than the
            smoothing, more components than possible, stimuli that end before they begin or lie outside the recording.
        """
        self._check()
        self.traces_ = self._checked_traces(x, rate)
        self.stimuli_ = stimulus_table(
            stimuli if stimuli is not None else x, self.traces_["time"].values, given=stimuli is not None
        )
        self._factorise(self.affinity_.values)
        self._find_communities()
        return self

    @property
    def affinity_(self) -> xr.DataArray:
        """Affinity `(time, animal, pair)` of what was fitted; computed when asked for, since it is large."""
        if self.affinity == "correlation":
            return sliding_correlation(self.traces_, window=self.window, sign=self.sign)
        return differential_affinity(
            self.traces_,
            combine=self.combine,
            sign=self.sign,
            smooth=self.smooth,
            scale=self.scale,
            threshold=self.threshold,
        )

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
                    "top_pairs": [f"{p.first}-{p.second}" for p in self.pairs(c, 5).itertuples()],
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
        labels = self.atlas(tail)["label"]
        return [int(c) for c in labels.index[labels == stimulus]]

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
        from nissl.populations._motif_plots import plot_motifs

        return plot_motifs(self, level)

    # Fitting

    def _check(self) -> None:
        if self.affinity not in ("differential", "correlation"):
            raise InputError(f"affinity = {self.affinity!r}; allowed: 'differential', 'correlation'")
        if self.communities not in ("block-model", "graph-tool", "leiden"):
            raise InputError(f"communities = {self.communities!r}; allowed: 'block-model', 'graph-tool', 'leiden'")
        if self.n_factors is not None and (int(self.n_factors) != self.n_factors or self.n_factors < 1):
            raise InputError(f"n_factors = {self.n_factors}; give a whole number from 1 on, or None")
        if not 0 <= self.edge_fraction < 1:
            raise InputError(f"edge_fraction = {self.edge_fraction}; give a share from 0 to below 1")

    def _checked_traces(self, x: Any, rate: float | None) -> xr.DataArray:
        traces = as_traces(x, ("animal", "time", "unit"), rate=rate, min_units=2, min_samples=3, constant=self.constant)
        if "animal" not in traces.coords:
            traces = traces.assign_coords(animal=np.arange(traces.sizes["animal"]))
        known = ~np.isnan(traces.values)
        recorded = known.any(1)
        few = recorded.sum(1) < 2
        if few.any():
            raise InputError(
                f"fewer than two recorded neurons in animals {listed(traces['animal'].values[few])}; pairs need two: leave them out"
            )
        values = np.where(known, traces.values, np.inf)
        still = recorded & (values.min(1) == np.where(known, traces.values, -np.inf).max(1))
        if self.constant == "raise" and still.any():
            animals, units = np.nonzero(still)
            named = [
                f"{traces['unit'].values[u]} of {traces['animal'].values[a]}"
                for a, u in zip(animals, units, strict=True)
            ]
            raise InputError(f"traces that never change: {listed(named)}; set them to NaN, or pass constant='keep'")
        together = recorded.T.astype(int) @ recorded.astype(int)
        i, j = np.triu_indices(len(together), 1)
        most = min(
            traces.sizes["time"] * traces.sizes["animal"], int((together[i, j] > 0).sum()) * traces.sizes["animal"]
        )
        if self.n_factors is not None and self.n_factors > most:
            raise InputError(f"n_factors = {self.n_factors}; {traces.sizes['unit']} neurons allow at most {most}")
        return traces

    def _factorise(self, x: np.ndarray) -> None:
        """Factors of what was recorded; NaN elsewhere."""
        known = ~np.isnan(x)
        times, pairs = known.any((1, 2)), known.any((0, 1))
        if not known.any() or not (known.any((0, 2))).all():
            empty = self._animals()[~known.any((0, 2))] if known.any() else self._animals()
            raise InputError(
                f"no pair of neurons was recorded at the same time in animals {listed(empty)}; leave them out"
            )
        if not np.nanmax(x) > 0:
            raise InputError(
                "no two neurons ever change together: every affinity is 0; make `smooth` or `threshold` smaller"
            )
        inner = x if times.all() and pairs.all() else x[times][:, :, pairs]
        options = {
            "n_restarts": self.n_restarts,
            "tol": self.tol,
            "max_sweeps": self.max_sweeps,
            "seed": self.seed,
            "progress": self.progress,
        }
        self.rank_curve_ = None
        if self.n_factors is None:
            curve = rank_curve(
                inner, self.max_factors, min_stability=self.min_stability, min_gain=self.min_gain, **options
            )
            self.rank_curve_, self.model_ = curve.table, curve.best
        else:
            self.model_ = nonnegative_cp(inner, self.n_factors, **options)
        self.explained_variance_, self.stability_ = self.model_.explained_variance, self.model_.stability
        course, profile, pattern = self.model_.factors
        # Time courses and animals peak at 1; the pattern takes the size.
        tops = [np.where(f.max(0) > 0, f.max(0), 1) for f in (course, profile)]
        pattern = pattern * self.model_.weights * tops[0] * tops[1]
        self.weights_ = self.model_.weights * np.prod([f.sum(0) for f in self.model_.factors], axis=0)
        order = np.argsort(-self.weights_, kind="stable")
        course, profile, pattern, tops = (
            course[:, order],
            profile[:, order],
            pattern[:, order],
            [t[order] for t in tops],
        )
        self.weights_ = self.weights_[order] / self.weights_.sum()
        component = np.arange(len(self.weights_))
        whole = np.full((len(times), len(component)), np.nan)
        whole[times] = course / tops[0]
        self.time_factors_ = xr.DataArray(
            whole, dims=("time", "component"), coords={"time": self.traces_["time"].values, "component": component}
        )
        self.animal_factors_ = xr.DataArray(
            profile / tops[1], dims=("animal", "component"), coords={"animal": self._animals(), "component": component}
        )
        self.affinity_factors_ = self._square(pattern, pairs, component)

    def _square(self, pattern: np.ndarray, pairs: np.ndarray, component: np.ndarray) -> xr.DataArray:
        names = self.traces_["unit"].values
        first, second = (index[pairs] for index in np.triu_indices(len(names), 1))
        square = np.full((len(component), len(names), len(names)), np.nan)
        square[:, first, second] = square[:, second, first] = pattern.T
        square[:, np.arange(len(names)), np.arange(len(names))] = 0
        coords = {"component": component, "target": names, "source": names}
        return xr.DataArray(square, dims=("component", "target", "source"), coords=coords, name="affinity")

    def _find_communities(self) -> None:
        self.block_models_: list[BlockModel] = []
        found = []
        for c in range(len(self.weights_)):
            if self.communities == "leiden":
                found.append(leiden(self._edges(c), seed=self.seed)[None])
            else:
                backend = "graph-tool" if self.communities == "graph-tool" else "nissl"
                self.block_models_.append(
                    weighted_block_model(self._edges(c), backend=backend, seed=self.seed, progress=self.progress)
                )
                found.append(self.block_models_[-1].levels)
        depth = max(map(len, found))
        # Hierarchies of fewer levels end in a single block, which stays one.
        levels = np.stack([np.concatenate([f, np.repeat(f[-1:], depth - len(f), axis=0)]) for f in found])
        coords = {"component": np.arange(len(found)), "unit": self.traces_["unit"].values}
        self.communities_ = xr.DataArray(levels, dims=("component", "level", "unit"), coords=coords, name="community")

    # Looking

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
