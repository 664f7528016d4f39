"""Networks of binary neurons that remember: patterns, families of patterns, sequences."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Bool, Float
from sklearn.base import BaseEstimator

from nissl.errors import InputError, unknown

States = Float[np.ndarray, "... unit"]


class HopfieldMemory(BaseEstimator):
    """Patterns as fixed points of a symmetric network, ``s <- sign(J s)`` with ``J = (1/N) sum xi xi^T`` (Hopfield 1982).

    Parameters
    ----------
    max_steps
        Updates of all neurons together before a state is given up as unsettled.

    Attributes
    ----------
    patterns_ : (pattern, unit), each -1 or 1
    weights_ : (target, source)

    Examples
    --------
    >>> patterns = np.random.default_rng(0).choice([-1.0, 1.0], (3, 200))
    >>> memory = HopfieldMemory().fit(patterns)
    >>> bool((memory.recall(patterns) == patterns).all())
    True
    """

    def __init__(self, *, max_steps: int = 50) -> None:
        self.max_steps = max_steps

    def fit(self, patterns: Any) -> HopfieldMemory:
        """Store patterns, `(pattern, unit)`."""
        self.patterns_ = binary(patterns, "patterns")
        self.weights_ = self.patterns_.T @ self.patterns_ / self.patterns_.shape[1]
        return self

    def step(self, states: Any) -> States:
        """All neurons updated once, from `(..., unit)`; a neuron without any input stays as it is."""
        fitted(self, "weights_")
        s = binary(states, "states", ndim=None, units=len(self.weights_))
        return decided(s @ self.weights_.T, s)

    def recall(self, states: Any) -> States:
        """States updated until none changes, or `max_steps`."""
        s = self.step(states)
        for _ in range(self.max_steps - 1):
            after = decided(s @ self.weights_.T, s)
            if np.array_equal(after, s):
                break
            s = after
        return s


class HierarchicalMemory(HopfieldMemory):
    """Families of patterns: ancestors, and descendants that resemble theirs.

    Descendants of one ancestor are correlated, and a plain Hebb rule blurs them into their ancestor. Storing the ancestors, and
    of the descendants only what differs from them, keeps all: ``J = (1/N) [sum_a xi^a xi^a^T + 1/(1-m^2) sum_ab d d^T]``,
    ``d = xi^ab - m xi^a``.

    Parameters
    ----------
    rule
        "hierarchical", or "hebb" for the plain rule on descendants.
    similarity
        m, the mean overlap of descendants with their ancestor; measured where None.
    max_steps
        As in `HopfieldMemory`.

    Attributes
    ----------
    ancestors_, descendants_, patterns_
        As stored; `patterns_` are the descendants in one list.
    similarity_ : float

    Examples
    --------
    >>> ancestors, descendants = hierarchical_patterns(4, 6, 600, similarity=0.6)
    >>> memory = HierarchicalMemory().fit(descendants, ancestors)
    >>> bool((memory.recall(descendants) == descendants).mean() > 0.99)
    True
    """

    def __init__(
        self,
        *,
        rule: Literal["hierarchical", "hebb"] = "hierarchical",
        similarity: float | None = None,
        max_steps: int = 50,
    ) -> None:
        super().__init__(max_steps=max_steps)
        self.rule = rule
        self.similarity = similarity

    def fit(self, patterns: Any, ancestors: Any = None) -> HierarchicalMemory:
        """Store descendants `(ancestor, descendant, unit)` and their ancestors `(ancestor, unit)`.

        Where ancestors are not known, each is what most of its descendants say.
        """
        if self.rule not in ("hierarchical", "hebb"):
            raise unknown("rule", self.rule, ("hierarchical", "hebb"))
        self.descendants_ = binary(patterns, "descendants", ndim=3)
        n = self.descendants_.shape[-1]
        if ancestors is None:
            ancestors = np.where(self.descendants_.mean(1) >= 0, 1.0, -1.0)
        self.ancestors_ = binary(ancestors, "ancestors", units=n)
        if len(self.ancestors_) != len(self.descendants_):
            raise InputError(
                f"{len(self.ancestors_)} ancestors of {len(self.descendants_)} families; give one a family"
            )
        self.patterns_ = self.descendants_.reshape(-1, n)
        measured = float((self.descendants_ * self.ancestors_[:, None]).mean())
        m = self.similarity_ = measured if self.similarity is None else self.similarity
        if not -1 < m < 1:
            raise InputError(
                f"similarity {m:.4g} of descendants to their ancestor; it must lie between -1 and 1, or they are copies"
            )
        if self.rule == "hebb":
            self.weights_ = self.patterns_.T @ self.patterns_ / n
        else:
            own = (self.descendants_ - m * self.ancestors_[:, None]).reshape(-1, n)
            self.weights_ = (self.ancestors_.T @ self.ancestors_ + own.T @ own / (1 - m**2)) / n
        return self


class SequenceMemory(BaseEstimator):
    """A sequence of patterns, read out at its own pace or at that of an oscillation (Sompolinsky and Kanter 1986).

    Symmetric weights hold a pattern, asymmetric ones, which act on a trace of past states, push to its successor:
    ``s <- sign(J_sym s + strength J_seq trace)``, ``trace += (s - trace) / tau``. An oscillation that opens the push for a part of
    each cycle sets the pace: one item a cycle.

    Parameters
    ----------
    strength
        Of the push (lambda). Above 1 an ungated network moves on after about tau steps; from about 2 it skips and blends.
    tau
        Steps of the trace.
    period, duty
        Steps of the oscillation, and the part of each cycle in which the push acts; a period of None leaves it always on.
    cyclic
        Whether the last pattern leads to the first.

    Attributes
    ----------
    patterns_ : (pattern, unit)
    successors_ : (pattern,), the pattern each leads to; -1 for none

    Examples
    --------
    >>> patterns = np.random.default_rng(0).choice([-1.0, 1.0], (8, 500))
    >>> run = SequenceMemory(period=30).fit(patterns).run(300)
    >>> np.unique(run.overlap[0].argmax("pattern")).size  # ten cycles see all eight items
    8
    """

    def __init__(
        self,
        *,
        strength: float = 1.5,
        tau: float = 8.0,
        period: float | None = None,
        duty: float = 0.3,
        cyclic: bool = True,
    ) -> None:
        self.strength = strength
        self.tau = tau
        self.period = period
        self.duty = duty
        self.cyclic = cyclic

    def fit(self, patterns: Any, successors: Any = None) -> SequenceMemory:
        """Store patterns `(pattern, unit)` in their order, or with the successor of each given, `(pattern,)`."""
        for name, value, ok in (
            ("strength", self.strength, self.strength >= 0),
            ("tau", self.tau, self.tau >= 1),
            ("period", self.period, self.period is None or self.period > 1),
            ("duty", self.duty, 0 < self.duty <= 1),
        ):
            if not ok:
                raise InputError(
                    f"{name} = {value}; strength is at least 0, tau at least 1 step, the period above 1 step, duty in (0, 1]"
                )
        self.patterns_ = binary(patterns, "patterns")
        n = len(self.patterns_)
        if n < 2:
            raise InputError("a sequence of one pattern; give at least two")
        if successors is None:
            follow = np.arange(1, n + 1)
            follow[-1] = 0 if self.cyclic else -1
        else:
            follow = np.asarray(successors)
            if follow.shape != (n,) or follow.dtype.kind not in "iu" or not ((follow >= -1) & (follow < n)).all():
                raise InputError(
                    f"successors {follow.tolist()}; give the number (0 to {n - 1}, or -1) of each of {n} patterns' successor"
                )
        self.successors_ = follow
        return self

    def run(
        self,
        n_steps: int,
        *,
        start: Any = 0,
        phase: Any = 0.0,
        noise: float = 0.0,
        keep_states: bool = False,
        seed: int = 0,
    ) -> xr.Dataset:
        """Read the sequence out, all trials together.

        Parameters
        ----------
        n_steps
            Updates.
        start
            Number of the first pattern, an array `(trial,)` of these, or states `(trial, unit)`.
        phase
            Of the oscillation at the start, in cycles: a number or `(trial,)`.
        noise
            Standard deviation of Gaussian noise on every neuron's input.
        keep_states
            Whether the states are returned too.

        Returns
        -------
        Dataset
            overlap (trial, time, pattern) with the stored patterns; gate (trial, time), whether the push acted; phase (trial, time)
            of the oscillation in radians, which is also given where the oscillation does not act; state (trial, time, unit)
            if asked for. `time` counts steps.
        """
        fitted(self, "patterns_")
        if n_steps < 1 or noise < 0:
            raise InputError(f"n_steps {n_steps} and noise {noise}; at least one step, noise at least 0")
        xi, n = self.patterns_, self.patterns_.shape[1]
        begin = np.asarray(start)
        if begin.ndim == 2:
            s = binary(begin, "start", units=n)
        else:
            numbers = np.atleast_1d(begin)
            if numbers.dtype.kind not in "iu" or not ((numbers >= 0) & (numbers < len(xi))).all():
                raise InputError(f"start {begin.tolist()}; give numbers from 0 to {len(xi) - 1}, or states")
            s = xi[numbers]
        at = np.atleast_1d(np.asarray(phase, dtype=float))
        trials = max(len(s), len(at))
        if len(s) not in (1, trials) or len(at) not in (1, trials):
            raise InputError(f"{len(s)} starts and {len(at)} phases; give as many, or one")
        s = np.broadcast_to(s, (trials, n)).copy()
        angle = (np.broadcast_to(at, trials)[:, None] + np.arange(n_steps) / (self.period or np.inf)) % 1
        gate = angle < self.duty if self.period is not None else np.ones_like(angle, bool)

        # Weights of rank P act through overlaps: N x P products in place of N x N ones.
        leads = self.successors_ >= 0
        pushed = xi[self.successors_[leads]]
        rng, trace = np.random.default_rng(seed), s.copy()
        overlap, kept = np.empty((trials, n_steps, len(xi))), []
        for step in range(n_steps):
            push = self.strength * gate[:, step, None] * (trace @ xi[leads].T)
            field = (s @ xi.T @ xi + push @ pushed) / n
            if noise:
                field += noise * rng.standard_normal(field.shape)
            s = decided(field, s)
            trace += (s - trace) / self.tau
            overlap[:, step] = s @ xi.T / n
            if keep_states:
                kept.append(s)
        out = {
            "overlap": (("trial", "time", "pattern"), overlap),
            "gate": (("trial", "time"), gate),
            "phase": (("trial", "time"), 2 * np.pi * angle),
        }
        if keep_states:
            out["state"] = (("trial", "time", "unit"), np.stack(kept, 1))
        coords = {"trial": np.arange(trials), "time": np.arange(n_steps, dtype=float), "pattern": np.arange(len(xi))}
        return xr.Dataset(out, coords, {"time_unit": "step", "period": self.period or np.nan})


def hierarchical_patterns(
    n_ancestors: int, n_descendants: int, n_units: int, *, similarity: float, seed: int = 0
) -> tuple[Float[np.ndarray, "ancestor unit"], Float[np.ndarray, "ancestor descendant unit"]]:
    """Random ancestors, and descendants whose units are turned over with probability ``(1 - similarity) / 2``.

    Examples
    --------
    >>> ancestors, descendants = hierarchical_patterns(2, 3, 4000, similarity=0.6)
    >>> round(float((descendants * ancestors[:, None]).mean()), 1)
    0.6
    """
    if min(n_ancestors, n_descendants, n_units) < 1 or not 0 <= similarity <= 1:
        raise InputError(
            f"{n_ancestors} x {n_descendants} patterns of {n_units} units, similarity {similarity}; counts from 1, similarity 0 to 1"
        )
    rng = np.random.default_rng(seed)
    ancestors = rng.choice([-1.0, 1.0], (n_ancestors, n_units))
    turned = rng.random((n_ancestors, n_descendants, n_units)) < (1 - similarity) / 2
    return ancestors, np.where(turned, -1, 1) * ancestors[:, None]


def noisy(states: States, share: float, rng: np.random.Generator) -> States:
    """States with a share of the units turned over, each with that probability."""
    turned: Bool[np.ndarray, "..."] = rng.random(states.shape) < share
    return np.where(turned, -states, states)


def decided(field: States, before: States) -> States:
    """Sign of the input; a neuron without any stays as it is."""
    return np.where(field == 0, before, np.sign(field))


def binary(values: Any, name: str, *, ndim: int | None = 2, units: int | None = None) -> np.ndarray:
    """Values -1 and 1 as float64, with the axes and units asked for."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    out = np.asarray(values, dtype=float)
    if (ndim is not None and out.ndim != ndim) or out.ndim == 0 or 0 in out.shape:
        raise InputError(
            f"{name} of shape {out.shape}; give {ndim or 'one or more'} axes, units last, none of them empty"
        )
    if units is not None and out.shape[-1] != units:
        raise InputError(f"{name} of {out.shape[-1]} units for a network of {units}")
    if not np.isin(out, (-1, 1)).all():
        raise InputError(
            f"{name} must be -1 or 1 everywhere; threshold activity first, such as np.where(x > np.median(x, 0), 1, -1)"
        )
    return out


def fitted(memory: object, name: str) -> None:
    """An error where nothing has been stored yet."""
    if not hasattr(memory, name):
        raise InputError(f"this {type(memory).__name__} remembers nothing; call fit(patterns) first")
