"""Neurons with active dendrites that compete: the class of the one whose segments respond most."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator, ClassifierMixin

from nissl.errors import InputError
from nissl.nn.dendrites._neuron import DendriticNeuron, Nonlinearity
from nissl.nn.dendrites._overlap import BLOCK
from nissl.nn.dendrites._patterns import as_patterns
from nissl.nn.dendrites._permanences import Plasticity


class DendriticClassifier(ClassifierMixin, BaseEstimator):
    """One neuron with active dendrites a class; the one with the largest summed response of its segments decides.

    Parameters
    ----------
    n_segments
        Of each neuron; as many as its class has patterns where None.
    n_synapses, threshold, nonlinearity, power
        As of `DendriticNeuron`.
    learning
        "store": each pattern on a segment of its own. "permanences": synapses are grown and pruned over `epochs`, each neuron learning to respond
        to its class and to no other; needs `n_segments`.
    epochs
        Passes over the patterns, for "permanences".
    plasticity
        How permanences change.
    seed
        Of the choice of synapses.

    Attributes
    ----------
    classes_ : ndarray (class)
    neurons_ : list of DendriticNeuron, one a class
    n_features_in_ : int

    Raises
    ------
    InputError
        As `DendriticNeuron`; a single class; labels of another length.

    Notes
    -----
    ``class = argmax_c sum_k f(o_ck)``, o_ck the overlap of the pattern with segment k of neuron c, and f the nonlinearity of `DendriticNeuron`.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> from nissl.nn.dendrites import noisy_patterns, random_patterns
    >>> x, y = random_patterns(40, 1000, 32), np.arange(40) % 2
    >>> model = DendriticClassifier(n_synapses=20, threshold=8).fit(x, y)
    >>> float(model.score(noisy_patterns(x, 8), y))
    1.0
    """

    def __init__(
        self,
        *,
        n_segments: int | None = None,
        n_synapses: int = 24,
        threshold: float | None = None,
        nonlinearity: Nonlinearity = "threshold",
        power: float = 10.0,
        learning: Literal["store", "permanences"] = "store",
        epochs: int = 10,
        plasticity: Plasticity | None = None,
        seed: int = 0,
    ) -> None:
        self.n_segments = n_segments
        self.n_synapses = n_synapses
        self.threshold = threshold
        self.nonlinearity: Nonlinearity = nonlinearity
        self.power = power
        self.learning = learning
        self.epochs = epochs
        self.plasticity = plasticity
        self.seed = seed

    def fit(self, patterns: Any, labels: Any) -> DendriticClassifier:
        """Store, or learn, the patterns (sample, unit) of each class."""
        x, y = as_patterns(patterns), np.asarray(labels)
        if y.shape != (len(x),):
            raise InputError(f"labels of shape {y.shape} for {len(x)} patterns; give one a pattern")
        if self.learning not in ("store", "permanences") or self.epochs < 1:
            raise InputError(
                f"learning={self.learning!r} over {self.epochs} epochs; allowed: 'store' or 'permanences', 1 epoch or more"
            )
        if self.learning == "permanences" and self.n_segments is None:
            raise InputError("learning='permanences' needs n_segments: how many segments there are to learn with")
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"one class, {self.classes_[0]!r}; a choice needs two or more")
        self.n_features_in_ = x.shape[1]
        self.neurons_ = [self._neuron(x, index == k, self.seed + k) for k in range(len(self.classes_))]
        return self

    def decision_function(self, patterns: Any) -> xr.DataArray:
        """Response of each class's neuron (sample, class)."""
        x = as_patterns(patterns, self.n_features_in_)
        with torch.no_grad():
            found = [torch.cat([neuron.response(part) for part in x.split(BLOCK)]) for neuron in self.neurons_]
        return xr.DataArray(
            torch.stack(found, 1).numpy(), {"class": self.classes_}, dims=("sample", "class"), name="response"
        )

    def predict(self, patterns: Any) -> np.ndarray:
        """The class that responds most; the first of those that respond alike."""
        return self.classes_[self.decision_function(patterns).values.argmax(1)]

    def _neuron(self, x: torch.Tensor, own: np.ndarray, seed: int) -> DendriticNeuron:
        neuron = DendriticNeuron(
            x.shape[1],
            self.n_segments or int(own.sum()),
            self.n_synapses,
            self.threshold,
            nonlinearity=self.nonlinearity,
            power=self.power,
            seed=seed,
        )
        if self.learning == "store":
            return neuron.fit(x[torch.from_numpy(own)])
        rng = np.random.default_rng(seed)
        for epoch in range(self.epochs):
            order = rng.permutation(len(own))
            neuron.learn(x[order], own[order], plasticity=self.plasticity, seed=seed + 1000 * epoch)
        return neuron
