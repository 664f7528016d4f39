"""Models of adaptation with a curve each predicts for every neuron: gains, gains without recurrence, normalisation, synapses."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from nissl.errors import InputError
from nissl.populations.gain_control.problem import GainProblem, decode_back, second_moment, steady_response

Curves = Float[np.ndarray, "recording unit stimulus"]
Contexts = Float[np.ndarray, "recording stimulus"]
# Of the two numbers of a model.
BOUNDS = (1e-3, 1e3)


@dataclass(frozen=True)
class GainModel:
    """Two numbers, alpha and gamma: the gains of every context follow."""

    drive: Float[np.ndarray, "unit stimulus"]
    lift: Float[np.ndarray, "unit unit"]
    uniform: GainProblem
    adapted: tuple[GainProblem, ...]

    names = ("alpha", "gamma")
    starts = ((1.0, 1.0), (10.0, 0.1), (0.1, 10.0))

    @classmethod
    def of(
        cls, drive: np.ndarray, weights: np.ndarray, contexts: Contexts, *, decoder: str = "matched", cost: str = "l2"
    ) -> GainModel:
        """From the frozen circuit. The moments of every context are worked out once; a fit then solves N x N systems only."""
        lift, _ = steady_response(weights)
        even = np.full(drive.shape[1], 1 / drive.shape[1])
        usual = np.ones(len(drive))
        back = decode_back(decoder, lift, second_moment(drive, even), usual)

        def problem(p: np.ndarray) -> GainProblem:
            return GainProblem.of(drive, p, lift, back, alpha=1.0, gamma=1.0, reference=usual, cost=cost)

        # Recordings with the same adapter share their problem.
        distinct = {p.tobytes(): problem(p) for p in contexts}
        return cls(drive, lift, problem(even), tuple(distinct[p.tobytes()] for p in contexts))

    def gains(self, alpha: float, gamma: float) -> tuple[np.ndarray, np.ndarray]:
        """Before `(unit,)` and after adaptation `(recording, unit)`."""
        solved: dict[int, np.ndarray] = {}
        for problem in (self.uniform, *self.adapted):
            if id(problem) not in solved:
                solved[id(problem)] = replace(problem, alpha=alpha, gamma=gamma).solve()[0]
        return solved[id(self.uniform)], np.stack([solved[id(p)] for p in self.adapted])

    def curves(self, alpha: float, gamma: float) -> tuple[np.ndarray, np.ndarray]:
        """Before `(unit, stimulus)` and after `(recording, unit, stimulus)`, in the units of the drive."""
        before, after = self.gains(alpha, gamma)
        return self.lift @ (before[:, None] * self.drive), self.lift @ (after[:, :, None] * self.drive)


@dataclass(frozen=True)
class NormalisationModel:
    """Two numbers: ``R_i = e_i / (sigma + sum_j w_ij e_j)``, and how long the weights w have learned.

    Weights start equal and move until products of responses, averaged over the context, are what they were in the uniform
    one (the homeostatic rule of Westrick, Heeger and Landy 2016): ``dw_ij = E_p1[R_i R_j] - E_p0[R_i R_j]``.
    """

    drive: Float[np.ndarray, "unit stimulus"]
    contexts: Contexts
    steps: int = 60

    names = ("sigma", "learning")
    starts = ((0.3, 1.0), (3.0, 0.1), (0.03, 10.0))

    def curves(self, sigma: float, learning: float) -> tuple[np.ndarray, np.ndarray]:
        """As `GainModel.curves`."""
        e = self.drive / self.drive.mean()
        n = len(e)
        weights = np.full((n, n), 1 / n)
        before = e / (sigma + weights @ e)
        usual = before @ before.T / e.shape[1]
        w = np.broadcast_to(weights, (len(self.contexts), n, n))
        for _ in range(self.steps):
            after = e / (sigma + w @ e)
            products = (after * self.contexts[:, None, :]) @ after.transpose(0, 2, 1)
            # Weights stay excitatory to the pool, so that the denominator stays positive.
            w = np.maximum(w + learning / self.steps * (products - usual), 0)
        return before, e / (sigma + w @ e)


def synaptic_curves(pre: Float[np.ndarray, "unit stimulus"], post: Curves, seen: np.ndarray) -> Curves:
    """What any change of linear weights could do: each neuron's curve after as the best mixture of all curves before.

    A free matrix a recording, fitted to the stimuli `seen`; the bound that models with few numbers are held against.
    """
    mixing = np.linalg.lstsq(pre[:, seen].T, post[:, :, seen].transpose(2, 0, 1).reshape(seen.sum(), -1), rcond=1e-10)[
        0
    ]
    return (pre.T @ mixing).reshape(pre.shape[1], *post.shape[:2]).transpose(1, 2, 0)


def rescaled(pre: np.ndarray, post: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both curves by each neuron's minimum and range *before* adaptation; rescaling each by its own erases the effect."""
    low = pre.min(-1, keepdims=True)
    span = pre.max(-1, keepdims=True) - low
    if (span <= 0).any():
        raise InputError("a neuron of the model responds to all stimuli alike")
    return (pre - low) / span, (post - low) / span
