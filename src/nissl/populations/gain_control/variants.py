"""Adaptive gains without a closed form: gains that multiply the whole input, and rates that cannot be negative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from nissl.errors import InputError
from nissl.populations.gain_control.problem import refuse_unstable

Rates = Float[np.ndarray, "unit stimulus"]


@dataclass(frozen=True)
class Circuit:
    """Neurons whose steady rates are ``phi(g f + W r)`` (gain on the drive) or ``phi(g (f + W r))`` (on the whole input).

    Attributes
    ----------
    weights
        (target, source).
    on_input
        Whether the gain multiplies the whole input.
    rectified
        Whether phi cuts off what is negative; else it is the identity.
    """

    weights: Float[np.ndarray, "target source"]
    on_input: bool = False
    rectified: bool = False

    def velocity(self, rates: Rates, drive: Rates, gains: Float[np.ndarray, "unit"]) -> Rates:
        """``tau dr/dt``."""
        gain, recurrent = gains[:, None], self.weights @ rates
        total = gain * (drive + recurrent) if self.on_input else gain * drive + recurrent
        return (np.maximum(total, 0) if self.rectified else total) - rates

    def rates(self, drive: Rates, gains: Float[np.ndarray, "unit"]) -> Rates:
        """Steady rates.

        Raises
        ------
        InputError
            They do not settle.
        """
        effective = gains[:, None] * self.weights if self.on_input else self.weights
        if not self.rectified:
            refuse_unstable(float(np.linalg.eigvals(effective).real.max()), "recurrent weights times gains")
            return np.linalg.solve(np.eye(len(effective)) - effective, gains[:, None] * drive)
        rates, step = np.maximum(gains[:, None] * drive, 0), 1 / (1 + np.linalg.norm(effective, 2))
        for _ in range(20_000):
            moved = step * self.velocity(rates, drive, gains)
            rates = rates + moved
            if np.abs(moved).max() <= 1e-12 * (1 + np.abs(rates).max()):
                return rates
            if not np.isfinite(rates).all() or np.abs(rates).max() > 1e12:
                break
        raise InputError("rectified rates do not settle: recurrent excitation wins; use weaker recurrent weights")

    def felt(self, rates: Rates, drive: Rates, gains: Float[np.ndarray, "unit"], upstream: Rates) -> np.ndarray:
        """Gradient with respect to the gains of a loss whose gradient with respect to the rates is `upstream`.

        The rates are an implicit function of the gains, so that the gradient solves a system of its own, the transposed
        dynamics, instead of walking back through the simulation.
        """
        recurrent = self.weights @ rates
        inside = drive + recurrent if self.on_input else drive
        awake = np.ones_like(rates)
        if self.rectified:
            total = gains[:, None] * inside if self.on_input else gains[:, None] * drive + recurrent
            awake = (total > 0).astype(float)
        pass_on = gains[:, None] * awake if self.on_input else awake
        if not self.rectified:
            system = np.eye(len(rates)) - pass_on[:, :1] * self.weights
            adjoint = np.linalg.solve(system.T, upstream)
        else:
            adjoint = _relax(self.weights, pass_on, upstream)
        return (adjoint * awake * inside).sum(1)


def _relax(weights: np.ndarray, pass_on: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """Solve ``v = upstream + W^T (pass_on v)`` by relaxation, as the rates were."""
    step = 1 / (1 + np.linalg.norm(weights, 2) * max(1.0, float(np.abs(pass_on).max())))
    adjoint = upstream.copy()
    for _ in range(20_000):
        moved = step * (upstream + weights.T @ (pass_on * adjoint) - adjoint)
        adjoint += moved
        if np.abs(moved).max() <= 1e-11 * (1 + np.abs(adjoint).max()):
            return adjoint
    raise InputError("the gradient does not settle; use weaker recurrent weights")


def optimise(
    circuit: Circuit,
    drive: Rates,
    probability: Float[np.ndarray, "stimulus"],
    decoder: Float[np.ndarray, "unit unit"],
    *,
    alpha: float,
    gamma: float,
    reference: Float[np.ndarray, "unit"],
    cost: str,
    nonnegative: bool,
    max_iter: int = 2000,
) -> tuple[Float[np.ndarray, "unit"], dict[str, float]]:
    """Gains at a minimum of the objective, by L-BFGS with implicit gradients, from the reference gains.

    Returns
    -------
    gains, terms
        As `GainProblem.terms` names them.
    """

    def terms(gains: np.ndarray, rates: np.ndarray) -> dict[str, float]:
        error = ((drive - decoder @ rates) ** 2).sum(0) @ probability
        spent = (rates**2 if cost == "l2" else np.abs(rates)).sum(0) @ probability
        away = ((gains - reference) ** 2).sum()
        total = error + alpha * spent + gamma * away
        return {
            "fidelity": float(error),
            "activity": float(spent),
            "homeostasis": float(away),
            "objective": float(total),
        }

    start = _stable_start(circuit, reference)
    wall = 10 * (1 + abs(terms(start, circuit.rates(drive, start))["objective"]))

    def objective(gains: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            rates = circuit.rates(drive, gains)
        except InputError:  # beyond the edge of stability: a wall that points back
            return wall, gains - start
        upstream = -2 * decoder.T @ (drive - decoder @ rates)
        upstream = (upstream + alpha * (2 * rates if cost == "l2" else np.sign(rates))) * probability
        slope = circuit.felt(rates, drive, gains, upstream) + 2 * gamma * (gains - reference)
        return terms(gains, rates)["objective"], slope

    bounds: Any = [(0, None)] * len(start) if nonnegative else None
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": max_iter, "maxfun": 10 * max_iter, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30},
    )  # fmt: skip
    gains = found.x
    return gains, terms(gains, circuit.rates(drive, gains))


def _stable_start(circuit: Circuit, reference: np.ndarray) -> np.ndarray:
    """The reference gains, turned down as far as a circuit whose gains scale its recurrence needs it."""
    if not circuit.on_input:
        return reference.astype(float).copy()
    abscissa = float(np.linalg.eigvals(reference[:, None] * circuit.weights).real.max())
    return reference * min(1.0, 0.9 / abscissa if abscissa > 0 else 1.0)
