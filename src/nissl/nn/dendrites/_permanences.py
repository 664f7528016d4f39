"""Synapses that are grown by use: permanences, and what happens to those that fall too low."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nissl.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Plasticity:
    """How permanences change.

    Attributes
    ----------
    initial
        Permanence of a new synapse.
    connected
        Below this a synapse is gone.
    gain, loss
        For active and inactive synapses of a segment that fires on a wanted pattern.
    decay
        For active synapses of the segment that fires most strongly on an unwanted one.

    Examples
    --------
    >>> from nissl.nn.dendrites import DendriticNeuron
    >>> neuron = DendriticNeuron(10, 1, 4, 3)
    >>> learnt = neuron.learn(np.ones((5, 10)), [1] * 5, plasticity=Plasticity(gain=0.1))
    >>> learnt.depolarised.values.tolist(), round(float(neuron.permanence[0, 0]), 3)
    ([False, True, True, True, True], 0.9)
    """

    initial: float = 0.5
    connected: float = 0.15
    gain: float = 0.02
    loss: float = 0.0125
    decay: float = 0.0125

    def checked(self) -> Plasticity:
        """Itself, or an error."""
        if not 0 < self.connected <= self.initial <= 1 or min(self.gain, self.loss, self.decay) < 0:
            raise InputError(f"{self}; allowed: 0 < connected <= initial <= 1, and gain, loss and decay from 0")
        return self

    def run(
        self,
        patterns: Bool[np.ndarray, "sample input"],
        wanted: Bool[np.ndarray, "sample"],
        synapses: Int[np.ndarray, "segment place"],
        permanence: Float[np.ndarray, "segment place"],
        threshold: int,
        n_synapses: int,
        rng: np.random.Generator,
    ) -> Bool[np.ndarray, "sample"]:
        """Learn from one pattern after another, in place; whether any segment fired on each, before it was learnt from."""
        short = wanted & (patterns.sum(1) < n_synapses)
        if short.any():
            row = int(short.nonzero()[0][0])
            raise InputError(
                f"pattern {row} has {patterns[row].sum()} active cells for {n_synapses} synapses; take fewer synapses"
            )
        fired = np.zeros(len(patterns), dtype=bool)
        for i, (x, want) in enumerate(zip(patterns, wanted, strict=True)):
            # An empty place sees a cell that is never active.
            seen = np.append(x, False)[synapses]
            overlap = seen.sum(1)
            firing = np.flatnonzero(overlap >= threshold)
            fired[i] = firing.size > 0
            if want and firing.size:
                self._strengthen(firing, x, seen, synapses, permanence, rng)
            elif want:
                self._recruit(x, synapses, permanence, n_synapses, rng)
            elif firing.size:
                strongest = firing[overlap[firing].argmax()]
                permanence[strongest, seen[strongest]] -= self.decay
                self._prune(np.array([strongest]), len(x), synapses, permanence)
        return fired

    def _strengthen(
        self,
        firing: np.ndarray,
        x: np.ndarray,
        seen: np.ndarray,
        synapses: np.ndarray,
        permanence: np.ndarray,
        rng: np.random.Generator,
    ) -> None:
        there = synapses[firing] < len(x)
        change = np.where(seen[firing], self.gain, -self.loss) * there
        permanence[firing] = np.clip(permanence[firing] + change, 0, 1)
        self._prune(firing, len(x), synapses, permanence)
        for k in firing[(there & (synapses[firing] == len(x))).any(1)]:
            lost = np.flatnonzero((synapses[k] == len(x)) & there[firing == k][0])
            free = np.setdiff1d(np.flatnonzero(x), synapses[k])
            new = rng.permutation(free)[: len(lost)]
            synapses[k, lost[: len(new)]] = new
            permanence[k, lost[: len(new)]] = self.initial

    def _recruit(
        self, x: np.ndarray, synapses: np.ndarray, permanence: np.ndarray, n_synapses: int, rng: np.random.Generator
    ) -> None:
        weakest = permanence.sum(1).argmin()
        synapses[weakest], permanence[weakest] = len(x), 0
        synapses[weakest, :n_synapses] = rng.choice(np.flatnonzero(x), n_synapses, replace=False)
        permanence[weakest, :n_synapses] = self.initial

    def _prune(self, segments: np.ndarray, empty: int, synapses: np.ndarray, permanence: np.ndarray) -> None:
        gone = permanence[segments] < self.connected
        synapses[segments] = np.where(gone, empty, synapses[segments])
        permanence[segments] = np.where(gone, 0, permanence[segments])
