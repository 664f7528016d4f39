"""Which neurons work together, when, and in which animals: an atlas of motifs from traces.

Traces become affinities of pairs, moment by moment; the affinities of all animals become a few components, each one pattern over
pairs with one time course and one profile over animals; each pattern is a weighted graph and falls into communities.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator

from nissl.errors import InputError
from nissl.populations.communities.block_model import BlockModel, weighted_block_model
from nissl.populations.communities.leiden import leiden
from nissl.populations.motifs.affinity import differential_affinity, sliding_correlation
from nissl.populations.motifs.atlas import MotifAtlas
from nissl.populations.motifs.rank_choice import rank_curve
from nissl.populations.motifs.stimuli import stimulus_table
from nissl.populations.motifs.tensor_factors import nonnegative_cp
from nissl.recordings import as_traces
from nissl.recordings._traces import listed


class DynamicConnectome(MotifAtlas, BaseEstimator):
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
        options: dict[str, Any] = {"sign": self.sign}
        if self.affinity == "correlation":
            return sliding_correlation(self.traces_, window=self.window, **options)
        options |= {"combine": self.combine, "smooth": self.smooth, "scale": self.scale, "threshold": self.threshold}
        return differential_affinity(self.traces_, **options)

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
        constant: Any = self.constant
        if constant not in ("raise", "keep"):
            raise InputError(f"constant = {constant!r}; allowed: 'raise', 'keep'")
        traces = as_traces(x, ("animal", "time", "unit"), rate=rate, min_units=2, min_samples=3, constant=constant)
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
        times, pairs = (np.asarray(known.any(axes)) for axes in ((1, 2), (0, 1)))
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
