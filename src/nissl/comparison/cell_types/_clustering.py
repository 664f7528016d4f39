"""Functional cell types and, with each, the one stimulus that tells it from all others."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.metrics import adjusted_rand_score

from nissl.comparison.cell_types._measured import measured, unit_margin
from nissl.comparison.cell_types._objective import Ascent, Labels, Made, Respond, answers, make_stimuli
from nissl.comparison.cell_types._quality import Quality, cluster_means, judge
from nissl.comparison.cell_types._refine import Accept, Rules, refine
from nissl.comparison.cell_types._responses import Reduce, Responses, population
from nissl.comparison.cell_types._search import State, alternate, random_partition
from nissl.comparison.constraints import Constraint, L2Ball
from nissl.errors import InputError

_FINAL_HALVINGS = 4


class DiscriminativeClustering(ClusterMixin, BaseEstimator):
    """Cluster units by the stimuli that tell them apart, for any differentiable model of their responses.

    Alternates like expectation-maximisation: every cluster gets the stimulus that drives its members and no others (its most
    discriminative stimulus, MDS), then every unit goes to the cluster whose stimulus drives it most. Splits and merges
    lead out of bad optima, several restarts run side by side, and all stimuli of all of them are one batch.

    Parameters
    ----------
    n_clusters
        How many to start from; more than are expected, for clusters that lose every unit vanish.
    temperature
        How strongly the runner-up cluster counts, in SD of the responses.
    steps, max_iter
        Steps of ascent in one round (fewer in the first rounds) and rounds at most.
    split, merge
        Try to split clusters, and to join those that are not told apart.
    accept
        What a split or a merge must pass. `margin`: the objective rises and, on held-out members, every cluster responds to
        its own stimulus `min_margin` SD more than any other cluster does. `objective`: the published rule, the mean
        objective over clusters alone; it over-splits populations whose units differ, for its ceiling is log K.
    min_margin, min_share
        In SD of the responses to natural stimuli, and as a share of the cluster's own response. A type that was cut in two
        has a share of a few per cent, for its pieces were chosen by how they respond.
    min_unit_margin
        Units whose best stimulus beats their second best by less stay unassigned (label -1).
    n_restarts
        The best is kept: most clusters that are told apart on held-out members, then the objective there (under
        `accept="objective"` the mean objective).
    constraint
        Which stimuli are allowed (`L2Ball`, `Clip`, `FixedContrast`, joined with `&`); by default the median norm of the
        natural stimuli.
    rotations
        Take each unit's greatest response over so many rotations of the stimulus (or over these angles in degrees).
    learning_rate, optimiser, blur, smoothness, batch_size
        See `optimise_stimuli`.
    polish_steps
        Steps for stimuli that are shown or that a decision rests on.
    floor
        Least SD that responses are divided by; by default a hundredth of the unit's mean.
    seed
        Of partitions and noise.
    progress
        Show a bar over the stages.

    Attributes
    ----------
    labels_ : xarray.DataArray
        Cluster of every unit, dims `(unit,)`; -1 where no stimulus is clearly best.
    stimuli_ : xarray.DataArray
        The most discriminative stimuli, dims `(cluster, channel, y, x)` (or the canvas' own).
    objective_ : xarray.DataArray
        Of every stimulus, dims `(cluster,)`; at most log K.
    confusion_ : xarray.DataArray
        Mean normalised response of every cluster to every stimulus, dims `(stimulus, cluster)`: diagonal where types are
        told apart.
    held_out_margin_ : xarray.DataArray
        How much more a cluster's held-out members respond to its stimulus than any other cluster, in SD, dims `(cluster,)`.
    margin_ : xarray.DataArray
        Best minus second best response of every unit, in SD, dims `(unit,)`.
    responses_ : xarray.DataArray
        Normalised responses, dims `(stimulus, unit)`.
    restarts_ : pandas.DataFrame
        A row a restart: clusters, how many of them are told apart on held-out members, objective, objective there.
    restart_labels_ : xarray.DataArray
        Dims `(restart, unit)`.
    stability_ : float
        Mean adjusted Rand index between restarts; NaN for one restart.
    history_ : pandas.DataFrame
        Mean objective after every round of the alternation: restart, round, objective.
    population_
        The responses as they were normalised (mean, sd, natural stimuli).

    Examples
    --------
    >>> from nissl.recordings.simulate import retina
    >>> cells = retina(n_per_type=8)
    >>> found = DiscriminativeClustering(n_clusters=8, n_restarts=1, steps=10, max_iter=8, polish_steps=30, progress=False)
    >>> found.fit(cells.model, natural=cells.natural(200)).stimuli_.dims
    ('cluster', 'channel', 'y', 'x')

    References
    ----------
    Burg, Zenkel, Vystrcilova, Oesterle, Höfling, Willeke, Lause, Müller, Fahey, Ding, Restivo, Sridhar, Gollisch, Berens,
    Tolias, Euler, Bethge, Ecker 2024, "Most discriminative stimuli for functional cell type clustering", ICLR.
    """

    def __init__(
        self,
        *,
        n_clusters: int = 20,
        temperature: float = 1.6,
        steps: int = 40,
        max_iter: int = 20,
        split: bool = True,
        merge: bool = True,
        accept: Accept = "margin",
        min_margin: float = 0.5,
        min_share: float = 0.15,
        min_unit_margin: float = 0.1,
        n_restarts: int = 4,
        constraint: Constraint | None = None,
        rotations: int | Sequence[float] | None = None,
        learning_rate: float = 0.3,
        optimiser: str = "adam",
        blur: float = 0.0,
        smoothness: float = 0.0,
        polish_steps: int = 100,
        batch_size: int | None = None,
        floor: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.n_clusters = n_clusters
        self.temperature = temperature
        self.steps = steps
        self.max_iter = max_iter
        self.split = split
        self.merge = merge
        self.accept = accept
        self.min_margin = min_margin
        self.min_share = min_share
        self.min_unit_margin = min_unit_margin
        self.n_restarts = n_restarts
        self.constraint = constraint
        self.rotations = rotations
        self.learning_rate = learning_rate
        self.optimiser = optimiser
        self.blur = blur
        self.smoothness = smoothness
        self.polish_steps = polish_steps
        self.batch_size = batch_size
        self.floor = floor
        self.seed = seed
        self.progress = progress

    def fit(
        self,
        model: Any,
        y: None = None,
        *,
        site: str | None = None,
        units: Sequence[int] | None = None,
        canvas: tuple[int, ...] | None = None,
        natural: Any = None,
        labels: Any = None,
        reduce: Reduce = "centre",
    ) -> DiscriminativeClustering:
        """Find the types.

        Parameters
        ----------
        model
            The units' responses as a function of the stimulus: a torch module or callable from `(stimulus, *canvas)` to
            `(stimulus, unit)`; a network (with `site`); a fitted `ResponseModel`; a `Centred` population.
        site, reduce
            For a network: where its units are, for example `features.12.conv`, and whether a unit that answers at many
            places is read at the place in the middle (`centre`) or averaged over places (`mean`).
        units
            Which of the model's units; all where None.
        canvas
            Shape of a stimulus, `(channel, y, x)` or `(channel, frame, y, x)`; that of the natural stimuli, or that a
            `ResponseModel` was fitted to, where None.
        natural
            Stimuli `(stimulus, *canvas)` that mean and SD of the responses are taken over, in the model's own units; where
            None, 500 pieces of photographs for a network that sees colour (`natural_crops`), else pictures of 1/f noise with
            unit variance.
        labels
            Clusters to start from, one a unit; a random partition where None.

        Raises
        ------
        InputError
            Units that answer all natural stimuli alike or with NaN (named), fewer units than clusters, one cluster without
            splits, a canvas that the model does not take, a constraint that no stimulus fulfils, settings that make no sense.
        ModelError
            A model without gradient by the stimulus.
        """
        self._check_settings()
        responses = population(
            model,
            site=site,
            units=units,
            canvas=canvas,
            natural=natural,
            reduce=reduce,
            rotations=self.rotations,
            floor=self.floor,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        ascent = self._ascent(responses)
        starts = self._starts(labels, len(responses.names))
        ascent.noise(1, self.seed)  # a constraint that cannot be fulfilled is refused here
        states, qualities, searched = self._search(responses, ascent, starts)
        rules = self._rules()
        best = max(range(len(states)), key=lambda i: rules.rank(qualities[i]))
        self.population_ = responses
        self._keep_restarts(states, qualities, searched)
        self._keep_best(states[best], qualities[best], ascent)
        return self

    def fit_predict(self, X: Any, y: None = None, **kwargs: Any) -> xr.DataArray:
        """`fit`, then `labels_`."""
        return self.fit(X, **kwargs).labels_

    def respond(
        self, model: Any, *, site: str | None = None, units: Sequence[int] | None = None, reduce: Reduce = "centre"
    ) -> xr.DataArray:
        """Normalised responses of another population (new units, another seed of the model) to the found stimuli.

        Returns
        -------
        xarray.DataArray
            Dims `(stimulus, unit)`, in SD over the natural stimuli of the fit.
        """
        other = population(
            model,
            site=site,
            units=units,
            natural=self._fitted().natural,
            reduce=reduce,
            rotations=self.rotations,
            floor=self.floor,
            batch_size=self.batch_size,
        )
        stimuli = torch.as_tensor(self.stimuli_.values).to(**other.like)
        values = answers(other, stimuli, self.batch_size).cpu().numpy().astype(float)
        return xr.DataArray(values, dims=("stimulus", "unit"), coords={"unit": other.names})

    def predict(self, responses_to_stimuli: Any, *, min_margin: float | None = None) -> xr.DataArray:
        """Type units by their responses to the found stimuli alone.

        A unit's mean and SD are the same for all stimuli, so the greatest response needs no normalisation; a margin in SD
        does, and so do responses that are given raw with `min_margin`.

        Parameters
        ----------
        responses_to_stimuli
            Dims `(stimulus, unit)` in the order of `stimuli_`, or `(repeat, stimulus, unit)`: averaged over repeats, leaving
            out NaN.
        min_margin
            Units whose best stimulus beats the second best by less get -1; none where None.

        Returns
        -------
        xarray.DataArray
            Cluster of every unit, dims `(unit,)`.

        Raises
        ------
        InputError
            Another number of stimuli, NaN, a unit that answers all stimuli alike.
        """
        values, names = measured(responses_to_stimuli, self._n_stimuli())
        margin = unit_margin(values)
        if (tied := margin == 0).any() and len(values) > 1:
            some = [repr(n) for n in np.asarray(names)[tied]]
            raise InputError(
                f"units {', '.join(some[:8])} answer their two best stimuli alike, so no type can be named; leave them out"
            )
        labels = values.argmax(0)
        if min_margin is not None:
            labels = np.where(margin < min_margin, -1, labels)
        return xr.DataArray(labels, dims="unit", coords={"unit": names}, name="cluster")

    def margin(self, units: Any = None) -> xr.DataArray:
        """Best minus second best response of units, in SD over natural stimuli; of all units where None."""
        self._fitted()
        return self.margin_ if units is None else self.margin_.sel(unit=units)

    def plot(self) -> Any:
        """The stimuli, the response confusion and the margins of the units, as a matplotlib Figure."""
        from nissl.comparison.cell_types._picture import draw

        self._fitted()
        return draw(self)

    def _search(
        self, responses: Responses, ascent: Ascent, starts: list[Labels]
    ) -> tuple[list[State], list[Quality], list[State]]:
        """The alternation, splits and merges for all restarts side by side; then each is judged anew."""
        from tqdm import tqdm

        rules = self._rules()
        bar = tqdm(total=3, desc="cell types", unit="stage", disable=None if self.progress else True, leave=False)
        warm_up = -(-self.steps // self.max_iter)
        searched = alternate(
            responses, starts, ascent, steps=self.steps, max_iter=self.max_iter, warm_up=warm_up, seed=self.seed
        )
        bar.update()
        states = searched
        if self.split or self.merge:
            states, _ = refine(responses, states, ascent, rules, split=self.split, merge=self.merge, seed=self.seed)
        bar.update()
        # With other halves than those that splits and merges were chosen by.
        qualities = judge(
            responses,
            [s.labels for s in states],
            ascent,
            steps=rules.steps,
            min_margin=self.min_margin,
            min_share=self.min_share,
            seed=self.seed + 999,
            repeats=_FINAL_HALVINGS,
        )
        bar.close()
        return states, qualities, searched

    def _keep_restarts(self, states: list[State], qualities: list[Quality], searched: list[State]) -> None:
        names = self.population_.names
        self.restart_labels_ = xr.DataArray(
            np.stack([s.labels for s in states]), dims=("restart", "unit"), coords={"unit": names}
        )
        self.restarts_ = pd.DataFrame(
            [
                {
                    "clusters": s.n_clusters,
                    "told apart": int(q.verified.sum()),
                    "objective": q.objective,
                    "objective on held-out units": q.held_out,
                }
                for s, q in zip(states, qualities, strict=True)
            ]
        ).rename_axis("restart")
        pairs = [(a, b) for i, a in enumerate(states) for b in states[:i]]
        self.stability_ = (
            float(np.mean([adjusted_rand_score(a.labels, b.labels) for a, b in pairs])) if pairs else float("nan")
        )
        self.history_ = pd.DataFrame(
            [
                {"restart": i, "round": j, "objective": value}
                for i, s in enumerate(searched)
                for j, value in enumerate(s.history)
            ]
        )

    def _keep_best(self, state: State, quality: Quality, ascent: Ascent) -> None:
        responses = self.population_
        made = _polished(responses, state, ascent, self.polish_steps, self.seed)
        best = made.response.argmax(0)
        # The last ascent may move a few units, and in rare cases leave a stimulus with none.
        kept, labels = np.unique(best, return_inverse=True)
        rows, k = made.response[kept], len(kept)
        if k == 1:
            warnings.warn(
                "all units are of one type, so no stimulus tells them apart: stimuli_ holds their most exciting stimulus",
                stacklevel=3,
            )
        names, clusters = responses.names, {"cluster": np.arange(k)}
        margin = unit_margin(rows)
        self.responses_ = xr.DataArray(rows, dims=("stimulus", "unit"), coords={"unit": names})
        self.margin_ = xr.DataArray(margin, dims="unit", coords={"unit": names}, attrs={"units": "SD"})
        assigned = np.where(margin < self.min_unit_margin, -1, labels)
        self.labels_ = xr.DataArray(assigned, dims="unit", coords={"unit": names}, name="cluster")
        self.confusion_ = xr.DataArray(
            cluster_means(rows, labels, k),
            dims=("stimulus", "cluster"),
            coords=clusters,
            name="mean response",
            attrs={"units": "SD"},
        )
        self.objective_ = xr.DataArray(made.objective[kept], dims="cluster", coords=clusters)
        self.held_out_margin_ = xr.DataArray(
            quality.margin[kept], dims="cluster", coords=clusters, attrs={"units": "SD"}
        )
        dims = {3: ("channel", "y", "x"), 4: ("channel", "frame", "y", "x"), 2: ("y", "x")}.get(
            len(ascent.canvas), tuple(f"axis_{i}" for i in range(len(ascent.canvas)))
        )
        self.stimuli_ = xr.DataArray(
            made.stimuli[kept].cpu().numpy(), dims=("cluster", *dims), coords=clusters, name="stimulus"
        )
        self.n_clusters_ = k

    def _starts(self, labels: Any, n: int) -> list[Labels]:
        rng = np.random.default_rng(self.seed)
        if labels is not None:
            given = np.asarray(labels)
            if given.shape != (n,):
                raise InputError(f"{given.shape} labels for {n} units; give one label a unit")
            start = np.unique(given, return_inverse=True)[1]
            self._check_cluster_count(int(start.max()) + 1, n)
            return [start.astype(int)] * self.n_restarts
        self._check_cluster_count(self.n_clusters, n)
        return [random_partition(n, self.n_clusters, rng) for _ in range(self.n_restarts)]

    def _check_cluster_count(self, k: int, n: int) -> None:
        if k > n:
            raise InputError(f"{k} clusters for {n} units; ask for at most {n}, better for a few units a cluster")
        if k == 1 and not self.split:
            raise InputError(
                "one cluster and no splits: the objective is 0 for every stimulus, so there is nothing to find; start from n_clusters > 1, or "
                "leave split=True. For the stimulus that drives a population most: most_exciting_stimuli"
            )

    def _check_settings(self) -> None:
        wrong = {
            "n_clusters must be at least 1": self.n_clusters < 1,
            "n_restarts must be at least 1": self.n_restarts < 1,
            "steps must be at least 1": self.steps < 1,
            "polish_steps must be at least 1": self.polish_steps < 1,
            "max_iter must be at least 1": self.max_iter < 1,
            "temperature must be positive": not self.temperature > 0,
            "accept must be 'margin' or 'objective'": self.accept not in ("margin", "objective"),
            "floor must be positive": self.floor is not None and not self.floor > 0,
        }
        for message, is_wrong in wrong.items():
            if is_wrong:
                raise InputError(f"{message}; got {self}")

    def _ascent(self, responses: Responses) -> Ascent:
        return ascent_for(
            responses,
            self.constraint,
            temperature=self.temperature,
            learning_rate=self.learning_rate,
            optimiser=self.optimiser,
            blur=self.blur,
            smoothness=self.smoothness,
            batch_size=self.batch_size,
        )

    def _rules(self) -> Rules:
        return Rules(cast("Accept", self.accept), self.min_margin, self.min_share, max(1, self.polish_steps // 2))

    def _fitted(self) -> Responses:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "stimuli_")
        return self.population_

    def _n_stimuli(self) -> int:
        self._fitted()
        return self.n_clusters_


def ascent_for(responses: Responses, constraint: Constraint | None, **settings: Any) -> Ascent:
    """How stimuli are made for a population; the natural stimuli's median norm where nothing else is asked for."""
    if constraint is None:
        constraint = L2Ball(float(responses.natural.flatten(1).norm(dim=1).median()))
    constraint.check(responses.canvas)
    return Ascent(responses.canvas, constraint, like=responses.like, **settings)


def _polished(respond: Respond, state: State, ascent: Ascent, steps: int, seed: int) -> Made:
    """The final stimuli: from where the search left them and from noise, whichever ends higher."""
    labels, k = state.labels, state.n_clusters
    start = torch.cat([state.stimuli, ascent.noise(k, seed)])
    made = make_stimuli(respond, [labels, labels], start, ascent, steps, exciting=k == 1)
    value = made.objective if k > 1 else made.response.mean(1)
    rows = np.where(value[:k] >= value[k:], np.arange(k), np.arange(k) + k)
    return Made(made.stimuli[rows], made.response[rows], made.objective[rows], np.array([0, k]))
