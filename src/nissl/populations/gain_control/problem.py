"""The quadratic problem behind adaptive gains: its matrices, its solution, and how well it is posed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import linalg
from scipy.linalg import get_lapack_funcs
from scipy.optimize import nnls
from scipy.sparse.linalg import ArpackError, eigs

from nissl.errors import InputError

# Up to here all eigenvalues are quicker than an iteration that looks for one.
_ALL_EIGENVALUES = 300

Matrix = Float[np.ndarray, "unit unit"]
Vector = Float[np.ndarray, "unit"]


def spectral_abscissa(weights: Matrix) -> float:
    """Largest real part of the eigenvalues: below 1, rates settle.

    Examples
    --------
    >>> spectral_abscissa(np.array([[0.0, 0.5], [-0.5, 0.2]])).__round__(3)
    0.1
    """
    if len(weights) > _ALL_EIGENVALUES and weights.any():
        start = np.random.default_rng(0).standard_normal(len(weights))
        try:
            found = eigs(weights, k=1, which="LR", v0=start, ncv=40, tol=1e-4, return_eigenvectors=False)  # type: ignore[arg-type]
            return float(np.real(np.asarray(found)).max())
        except ArpackError:  # many eigenvalues lie close to the edge: take them all
            pass
    return float(np.linalg.eigvals(weights).real.max())


def steady_response(weights: Matrix) -> tuple[Matrix, float]:
    """``A = (I - W)^-1``, what a unit of drive does to every rate, and the spectral abscissa of W.

    Raises
    ------
    InputError
        Rates would grow without bound.
    """
    if not weights.any():
        return np.eye(len(weights)), 0.0
    abscissa = spectral_abscissa(weights)
    refuse_unstable(abscissa)
    identity = np.eye(len(weights))
    return np.linalg.solve(identity - weights, identity), abscissa


def refuse_unstable(abscissa: float, what: str = "the recurrent weights") -> None:
    """An error where the largest real part of the eigenvalues is 1 or more."""
    if abscissa >= 1 - 1e-9:
        raise InputError(
            f"{what} have an eigenvalue with real part {abscissa:.4g}, so rates never settle; "
            f"it must lie below 1 (scaled by {0.95 / abscissa:.3g} they would be stable)"
        )


def decode_back(kind: str, lift: Matrix, moment: Matrix, reference: Vector) -> Matrix | None:
    """``B = D A``: what the read-out makes of a unit of drive; None stands for the identity.

    The optimal decoder is that of least squares at the reference gains, ``D = E[f r^T] E[r r^T]^+``. Where the drive
    spans all neurons it is the inverse of the network, and so the matched one.
    """
    if kind == "matched":
        return None
    if kind == "identity":
        return lift
    driven = reference[:, None] * moment
    rates = lift @ (driven * reference) @ lift.T
    return driven.T @ lift.T @ np.linalg.pinv(rates, rcond=1e-12, hermitian=True) @ lift


@dataclass(frozen=True)
class GainProblem:
    """``L(g) = total - 2 link g + g fidelity g + alpha (cost of activity) + gamma |g - reference|^2`` in one context.

    Attributes
    ----------
    fidelity, activity
        ``(B^T B) * C`` and ``(A^T A) * C``, elementwise; for the L1 cost `activity` is None.
    link
        ``(B^T * C) 1``.
    price
        ``(A^T 1) * E[f]``, the L1 cost of a unit of gain; None for the L2 cost.
    total
        Trace of the second moment of the drive.
    """

    fidelity: Matrix
    activity: Matrix | None
    link: Vector
    price: Vector | None
    total: float
    alpha: float
    gamma: float
    reference: Vector

    @classmethod
    def of(
        cls,
        drive: Float[np.ndarray, "unit stimulus"],
        probability: Float[np.ndarray, "stimulus"],
        lift: Matrix,
        back: Matrix | None,
        *,
        alpha: float,
        gamma: float,
        reference: Vector,
        cost: str,
    ) -> GainProblem:
        """From drive, context and circuit."""
        moment = second_moment(drive, probability)
        # With A and B the same matrix (identity decoder) one product serves both terms.
        squared = (lift.T @ lift) * moment if cost == "l2" or back is lift else None
        if back is None:
            fidelity, link = np.diag(np.diag(moment)), np.diag(moment).copy()
        else:
            same = squared is not None and back is lift
            fidelity, link = (squared if same else (back.T @ back) * moment), (back.T * moment).sum(1)  # type: ignore[assignment]
        return cls(
            fidelity=fidelity,  # type: ignore[arg-type]
            activity=squared if cost == "l2" else None,
            link=link,
            price=None if cost == "l2" else lift.sum(0) * (drive @ probability),
            total=float(np.trace(moment)),
            alpha=alpha,
            gamma=gamma,
            reference=reference,
        )

    @property
    def quadratic(self) -> Matrix:
        """Q, positive definite for gamma > 0 by Schur's product theorem."""
        q = self.fidelity if self.activity is None else self.fidelity + self.alpha * self.activity
        q = q.copy()
        q[np.diag_indices_from(q)] += self.gamma
        return q

    @property
    def linear(self) -> Vector:
        """h, so that the optimum is ``Q^-1 h``."""
        h = self.link + self.gamma * self.reference
        return h if self.price is None else h - self.alpha / 2 * self.price

    def terms(self, gains: Vector) -> dict[str, float]:
        """What the gains cost: fidelity, activity (before alpha), homeostasis (before gamma) and their sum."""
        fidelity = self.total - 2 * self.link @ gains + gains @ self.fidelity @ gains
        activity = self.price @ gains if self.activity is None else gains @ self.activity @ gains  # type: ignore[operator]
        homeostasis = ((gains - self.reference) ** 2).sum()
        return {
            "fidelity": float(fidelity),
            "activity": float(activity),
            "homeostasis": float(homeostasis),
            "objective": float(fidelity + self.alpha * activity + self.gamma * homeostasis),
        }

    def solve(self, *, nonnegative: bool = False) -> tuple[Vector, float]:
        """The optimal gains and the condition number of Q (1-norm, LAPACK's estimate).

        Raises
        ------
        InputError
            Q is singular, so that many gains do equally well.
        """
        q, h = self.quadratic, self.linear
        norm = np.abs(q).sum(0).max()
        cholesky, condition = get_lapack_funcs(("potrf", "pocon"), (q,))
        factor, failed = cholesky(q, lower=False, clean=True)
        reciprocal = 0.0 if failed else float(condition(factor, norm)[0])
        if reciprocal < 1e-15:
            raise InputError(
                f"gamma = {self.gamma} leaves the gains undetermined: some neurons, or mixtures of them, are not driven in this "
                "context; give gamma > 0, which pulls those to their usual gain"
            )
        if nonnegative:
            target = linalg.solve_triangular(factor, h, trans=1)
            gains, _ = nnls(factor, target, maxiter=30 * len(h))
        else:
            gains = linalg.cho_solve((factor, False), h)
        return gains, 1 / reciprocal


def second_moment(drive: Float[np.ndarray, "unit stimulus"], probability: Float[np.ndarray, "stimulus"]) -> Matrix:
    """``E[f f^T]``: not the covariance, since the mean drive costs activity too."""
    scaled = drive * np.sqrt(probability)
    return scaled @ scaled.T
