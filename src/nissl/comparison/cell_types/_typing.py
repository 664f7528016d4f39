"""Typing new units with a handful of stimuli: most discriminative against most exciting and natural ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float, Int
from torch import Tensor

from nissl.comparison.cell_types._clustering import ascent_for
from nissl.comparison.cell_types._objective import Ascent, Labels, answers, averaging, discriminability, make_stimuli
from nissl.comparison.cell_types._quality import cluster_means
from nissl.comparison.cell_types._responses import Responses, population
from nissl.comparison.constraints import Constraint
from nissl.errors import InputError


@dataclass(frozen=True)
class TypingStimuli:
    """A set of stimuli to type units with, and how.

    Attributes
    ----------
    name
        What they are.
    stimuli
        Dims `(stimulus, *canvas)`.
    centroids
        Mean normalised response of every cluster to every stimulus: a unit goes to the nearest. None where there is a
        stimulus a cluster: a unit goes to the one that drives it most.
    objective
        Discriminability of each stimulus among the units it was made for; None where there is no stimulus a cluster.
    """

    name: str
    stimuli: Float[Tensor, "stimulus *canvas"]
    centroids: Float[np.ndarray, "stimulus cluster"] | None = None
    objective: Float[np.ndarray, "stimulus"] | None = None

    def decide(self, responses: Float[np.ndarray, "... stimulus unit"]) -> Int[np.ndarray, "... unit"]:
        """The type of every unit from its normalised responses."""
        if self.centroids is None:
            return responses.argmax(-2)
        distance = ((responses[..., None, :] - self.centroids[..., None]) ** 2).sum(-3)
        return distance.argmin(-2)


def typing_stimuli(
    model: Any,
    labels: Any,
    *,
    constraint: Constraint | None = None,
    temperature: float = 1.6,
    steps: int = 200,
    n_starts: int = 2,
    n_random: Sequence[int] = (12, 24),
    seed: int = 0,
    **population_options: Any,
) -> dict[str, TypingStimuli]:
    """Stimuli that type units of known clusters, four ways.

    Parameters
    ----------
    model
        As for `DiscriminativeClustering.fit`; options for it (`site`, `units`, `canvas`, `natural`, `rotations`, ...) follow
        by name.
    labels
        Cluster of every unit: known types, or `labels_` of a clustering; -1 for units to leave out.
    constraint, temperature
        As for `DiscriminativeClustering`.
    steps, n_starts
        Of ascent, and starts of which the best is kept.
    n_random
        Sizes of the sets of random natural stimuli.

    Returns
    -------
    dict
        `MDS`: the most discriminative stimulus of each cluster; `MEI`: the most exciting one (greatest mean response of the
        cluster alone); `best natural`: for each cluster the natural stimulus of greatest discriminability; `N random
        natural`: for nearest-centroid typing.
    """
    responses = population(model, seed=seed, **population_options)
    clusters = _clusters(labels, len(responses.names))
    ascent = ascent_for(responses, constraint, temperature=temperature)
    k = int(clusters.max()) + 1
    mean, _ = averaging([clusters], responses.natural_response)
    average = responses.natural_response @ mean
    value = torch.stack(
        [
            discriminability(average, torch.full((len(average),), c, device=average.device), temperature)
            for c in range(k)
        ]
    )
    found = {
        name: TypingStimuli(name, *_best_of(responses, clusters, ascent, steps, n_starts, seed, exciting=exciting))
        for name, exciting in (("MDS", False), ("MEI", True))
    }
    best = value.max(1)
    found["best natural"] = TypingStimuli(
        "best natural", responses.natural[best.indices], None, best.values.cpu().numpy()
    )
    order = np.random.default_rng(seed).permutation(len(responses.natural))
    for n in n_random:
        if n > len(order):
            raise InputError(f"n_random={n}, but there are {len(order)} natural stimuli")
        rows = torch.as_tensor(order[:n])
        centroids = cluster_means(responses.natural_response[rows].cpu().numpy().astype(float), clusters, k)
        found[f"{n} random natural"] = TypingStimuli(f"{n} random natural", responses.natural[rows], centroids)
    return found


def most_discriminative_stimuli(model: Any, labels: Any, **options: Any) -> xr.DataArray:
    """The most discriminative stimulus of each cluster of units whose clusters are known.

    Parameters
    ----------
    model, labels, **options
        As for `typing_stimuli`.

    Returns
    -------
    xarray.DataArray
        Dims `(cluster, *canvas)`, with the discriminability of each as coordinate `objective (cluster)`.

    Examples
    --------
    >>> from nissl.recordings.simulate import retina
    >>> cells = retina(n_per_type=4)
    >>> most_discriminative_stimuli(cells.model, cells.types, natural=cells.natural(100), steps=20).sizes["cluster"]
    6
    """
    return _named(typing_stimuli(model, labels, n_random=(), **options)["MDS"])


def most_exciting_stimuli(model: Any, labels: Any, **options: Any) -> xr.DataArray:
    """The stimulus that drives each cluster most, whatever it does to others: parameters and result as
    `most_discriminative_stimuli`.
    """
    return _named(typing_stimuli(model, labels, n_random=(), **options)["MEI"])


def typing_accuracy(
    stimuli: dict[str, TypingStimuli],
    model: Any,
    labels: Any,
    *,
    repeats: Sequence[int] = (1, 2, 4, 8),
    noise: float = 1.0,
    n_trials: int = 50,
    seed: int = 0,
    **population_options: Any,
) -> pd.DataFrame:
    """How well new units are typed from noisy trials, by number of repeats.

    Parameters
    ----------
    stimuli
        From `typing_stimuli`, made for other units.
    model, labels
        New units, and their true clusters; options for the model follow by name, natural stimuli among them (they set each
        unit's mean and SD, not its type).
    repeats
        How often every stimulus is shown; responses are averaged.
    noise
        SD of one trial's noise, in SD of the unit's responses to natural stimuli.
    n_trials
        Simulated experiments to average over.

    Returns
    -------
    pandas.DataFrame
        stimuli (which), shown (how many), repeats, presentations (their product), accuracy (share of units typed right).

    Examples
    --------
    >>> from nissl.recordings.simulate import retina
    >>> cells, new = retina(n_per_type=4), retina(n_per_type=4, seed=1)
    >>> ways = typing_stimuli(cells.model, cells.types, natural=cells.natural(100), steps=20)
    >>> typing_accuracy(ways, new.model, new.types, natural=new.natural(100), repeats=(1, 4)).columns.tolist()
    ['stimuli', 'shown', 'repeats', 'presentations', 'accuracy']
    """
    if noise < 0 or min(repeats) < 1 or n_trials < 1:
        raise InputError(
            f"noise={noise}, repeats={tuple(repeats)}, n_trials={n_trials}: noise must not be negative, the others at least 1"
        )
    responses = population(model, seed=seed, **population_options)
    truth = _clusters(labels, len(responses.names), all_clusters=False)
    rng = np.random.default_rng(seed)
    rows = []
    for name, ways in stimuli.items():
        clean = answers(responses, ways.stimuli.to(**responses.like), None).cpu().numpy().astype(float)
        for n in repeats:
            # The mean of n trials has noise of SD noise / sqrt(n).
            measured = clean + noise / np.sqrt(n) * rng.standard_normal((n_trials, *clean.shape))
            right = (ways.decide(measured) == truth)[:, truth >= 0]
            rows.append((name, len(clean), n, len(clean) * n, float(right.mean())))
    return pd.DataFrame(rows, columns=["stimuli", "shown", "repeats", "presentations", "accuracy"])


def _best_of(
    responses: Responses, labels: Labels, ascent: Ascent, steps: int, n_starts: int, seed: int, *, exciting: bool
) -> tuple[Tensor, None, np.ndarray]:
    """Of several starts the best, for each cluster by itself."""
    k = int(labels.max()) + 1
    made = make_stimuli(
        responses, [labels] * n_starts, ascent.noise(k * n_starts, seed), ascent, steps, exciting=exciting
    )
    value = made.objective
    if exciting:
        value = np.concatenate([np.diag(cluster_means(made.response[made.of(i)], labels, k)) for i in range(n_starts)])
    best = value.reshape(n_starts, k).argmax(0)
    rows = best * k + np.arange(k)
    return made.stimuli[rows], None, made.objective[rows]


def _clusters(labels: Any, n: int, *, all_clusters: bool = True) -> Labels:
    given = np.asarray(labels)
    if given.shape != (n,) or given.dtype.kind not in "iu":
        raise InputError(
            f"labels of shape {given.shape} and type {given.dtype} for {n} units; give one integer a unit, -1 to leave it out"
        )
    present = np.unique(given[given >= 0])
    if all_clusters and (len(present) < 2 or not np.array_equal(present, np.arange(len(present)))):
        raise InputError(f"clusters {present.tolist()}; number them 0, 1, 2, ..., at least two, each with a unit")
    return given.astype(int)


def _named(ways: TypingStimuli) -> xr.DataArray:
    values = ways.stimuli.cpu().numpy()
    dims = {4: ("channel", "y", "x"), 5: ("channel", "frame", "y", "x"), 3: ("y", "x")}.get(
        values.ndim, tuple(f"axis_{i}" for i in range(values.ndim - 1))
    )
    coords = {"cluster": np.arange(len(values)), "objective": ("cluster", ways.objective)}
    return xr.DataArray(values, dims=("cluster", *dims), coords=coords, name=ways.name)
