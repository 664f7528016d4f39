"""Adaptation by gains alone: recurrent weights stay, one number a neuron changes, and its optimum has a closed form."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, clone

from nissl.errors import InputError, unknown
from nissl.populations.gain_control import inputs as inputs
from nissl.populations.gain_control.problem import GainProblem, decode_back, second_moment, steady_response
from nissl.populations.gain_control.variants import Circuit, optimise


class GainControl(BaseEstimator):
    """Gains of a recurrent network that keep stimuli readable, activity low, and themselves near what they usually are.

    Rates follow ``tau dr/dt = -r + g f(s) + W r`` and settle at ``A (g f(s))``, ``A = (I - W)^-1``. In a context, which is
    how often each stimulus comes, gains minimise ``E[|f - D r|^2 + alpha |r|^2] + gamma |g - g0|^2``. The minimum is the
    solution of one linear system, ``((B^T B + alpha A^T A) * E[f f^T] + gamma I) g = (B^T * E[f f^T]) 1 + gamma g0``
    with ``B = D A`` and * elementwise.

    Parameters
    ----------
    alpha
        Price of activity.
    gamma
        Pull of each gain towards its usual value.
    decoder
        Linear read-out D: "matched" inverts the network at unit gain (``I - W``), "optimal" is that of least squares at the
        reference gains in the context of `fit`, "identity" reads the rates as they are; or a matrix `(unit, unit)` of your own.
    activity_cost
        "l2" (mean squared rate) or "l1" (mean rate, for rates that are not negative).
    nonnegative
        Whether gains below zero are forbidden.
    gain_on
        "drive": gains multiply the feed-forward drive. "input": they multiply everything that comes in, which has no closed
        form and is solved by descent with implicit gradients.
    rectified
        Whether rates below zero are cut off; solved by descent too.
    reference
        Usual gain g0: one number, or one a unit.

    Attributes
    ----------
    gains_ : DataArray (unit)
    objective_, fidelity_, activity_, homeostasis_ : float
        The minimum, and its terms before they are weighted.
    condition_ : float
        Condition number of the system (1-norm, LAPACK's estimate); NaN where there is no closed form.
    abscissa_ : float
        Largest real part of the eigenvalues of W; the network is stable below 1.
    decoder_ : DataArray (target, source)
    probability_, contrast_ : DataArray (stimulus)

    References
    ----------
    Adaptive coding efficiency in recurrent cortical circuits via gain control; the data that it explains are those of
    Benucci, Saleem and Carandini (2013).

    Examples
    --------
    >>> from nissl.recordings.simulate.tuning import adapter_ensemble, orientation_ring
    >>> ring = orientation_ring(12, 24)
    >>> before = GainControl().fit(ring["drive"], ring["recurrent"])
    >>> after = before.adapt(adapter_ensemble(ring.orientation, 0.4))
    >>> bool((after.gains_ / before.gains_)[6] < 0.8)
    True
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        gamma: float = 1.0,
        decoder: Any = "matched",
        activity_cost: Literal["l2", "l1"] = "l2",
        nonnegative: bool = False,
        gain_on: Literal["drive", "input"] = "drive",
        rectified: bool = False,
        reference: Any = 1.0,
    ) -> None:
        self.alpha = alpha
        self.gamma = gamma
        self.decoder = decoder
        self.activity_cost = activity_cost
        self.nonnegative = nonnegative
        self.gain_on = gain_on
        self.rectified = rectified
        self.reference = reference

    def fit(self, drive: Any, recurrent: Any = None, probability: Any = None, *, contrast: Any = 1.0) -> GainControl:
        """Gains for a context.

        Parameters
        ----------
        drive
            `(unit, stimulus)`, what each stimulus drives each neuron with, in hertz or any unit of rate.
        recurrent
            `(target, source)` weights; None for neurons that are not connected.
        probability
            `(stimulus,)`, sums to 1; None for the uniform context.
        contrast
            Factor on the drive, one number or one a stimulus.

        Raises
        ------
        InputError
            Shapes that do not match, NaN, negative prices, an unstable network, gains that the context leaves undetermined,
            or an L1 cost with negative rates.
        """
        self._check_settings()
        drive = inputs.as_drive(drive)
        self.drive_ = drive
        self._weights = inputs.as_recurrent(recurrent, drive["unit"].to_numpy())
        self._reference = self._reference_gains(drive.sizes["unit"])
        self._lift, self.abscissa_ = steady_response(self._weights)
        p, c = self._context(probability, contrast)
        if isinstance(self.decoder, str):
            # Only the optimal decoder depends on the context.
            moment = second_moment(drive.to_numpy() * c, p) if self.decoder == "optimal" else np.empty((0, 0))
            self._back = decode_back(self.decoder, self._lift, moment, self._reference)
        else:
            self._back = inputs.as_recurrent(self.decoder, drive["unit"].to_numpy(), "decoder weights") @ self._lift
        return self._solve(p, c)

    def adapt(self, probability: Any = None, *, contrast: Any = 1.0) -> GainControl:
        """The same network, read-out and prices in another context; this one stays as it is.

        Returns
        -------
        GainControl
            Fitted. Adapting back to a context gives its gains back exactly, since nothing but gains has changed.
        """
        self._fitted()
        p, c = self._context(probability, contrast)
        other = cast("GainControl", clone(self))
        for name in ("drive_", "_weights", "_reference", "_lift", "abscissa_", "_back"):
            setattr(other, name, getattr(self, name))
        return other._solve(p, c)

    def respond(self, drive: Any = None, *, contrast: Any = 1.0) -> xr.DataArray:
        """Steady rates `(unit, stimulus)` at these gains, to the drive of the fit or to another."""
        self._fitted()
        drive = self.drive_ if drive is None else self._same_units(drive)
        scaled = drive.to_numpy() * inputs.as_contrast(contrast, drive.sizes["stimulus"], drive)
        return drive.copy(data=self._rates(scaled, self.gains_.to_numpy())).rename("rate")

    def simulate(
        self, drive: Any = None, *, tau: float = 0.02, duration: float | None = None, n_times: int = 101
    ) -> xr.DataArray:
        """Rates over time from rest, by integrating the network's equation at these gains.

        Parameters
        ----------
        drive
            `(unit, stimulus)`, constant in time; that of the fit where None.
        tau
            Time constant in seconds.
        duration
            Seconds; by default 25 times the slowest time constant of the network.
        n_times
            Moments kept.

        Returns
        -------
        DataArray (time, unit, stimulus)
            The last moment equals `respond` to the tolerance of the solver (1e-10).
        """
        from scipy.integrate import solve_ivp

        self._fitted()
        drive = self.drive_ if drive is None else self._same_units(drive)
        if not tau > 0 or (duration is not None and not duration > 0) or n_times < 2:
            raise InputError(
                f"tau {tau} s and duration {duration} s must be positive, and n_times {n_times} at least 2"
            )
        duration = duration or 25 * tau / (1 - min(self._effective_abscissa(), 0.999))
        circuit, gains, f = self._circuit(), self.gains_.to_numpy(), drive.to_numpy()
        moments = np.linspace(0, duration, n_times)
        found = solve_ivp(
            lambda _, r: circuit.velocity(r.reshape(f.shape), f, gains).ravel() / tau,
            (0, duration), np.zeros(f.size), t_eval=moments, method="DOP853", rtol=1e-10, atol=1e-12,
        )  # fmt: skip
        if not found.success:
            raise InputError(f"the solver gave up: {found.message}")
        coords = {"time": moments, **dict(drive.coords)}
        return xr.DataArray(
            found.y.T.reshape(-1, *f.shape), dims=("time", "unit", "stimulus"), coords=coords, name="rate"
        )

    def learn(
        self,
        probability: Any = None,
        *,
        n_samples: int = 40_000,
        rate: float = 0.005,
        start: Any = None,
        every: int = 100,
        contrast: Any = 1.0,
        seed: int = 0,
    ) -> xr.Dataset:
        """Gains found by the local online rule: one stimulus, one step down the slope, with fixed weights.

        ``dg = rate [f (A^T D^T (f - D r)) - alpha f (A^T r) + gamma (g0 - g)]``, which on average points to the closed form.

        Parameters
        ----------
        probability, contrast
            The context stimuli are drawn from.
        n_samples, rate
            Stimuli shown, and step size; the step times the largest squared drive should stay well below 1.
        start
            Gains at the start; those of the fit where None.
        every
            Gains are kept each so many stimuli.

        Returns
        -------
        Dataset
            gains (step, unit), and average (unit): gains averaged over the second half, which lie nearer to the optimum than
            the last ones.

        Raises
        ------
        InputError
            Steps so large that gains run away, or a variant without a closed form.
        """
        self._fitted()
        self._refuse_variant("learn")
        n = self.drive_.sizes["stimulus"]
        p, c = self._context(probability, contrast)
        if n_samples < 2 or not rate > 0 or every < 1:
            raise InputError(f"n_samples {n_samples}, rate {rate} and every {every} must be positive")
        drive = np.ascontiguousarray((self.drive_.to_numpy() * c).T)
        shown = np.random.default_rng(seed).choice(n, n_samples, p=p)
        gains = self.gains_.to_numpy().copy() if start is None else inputs.plain(start).copy()
        if gains.shape != (drive.shape[1],):
            raise InputError(f"start of shape {gains.shape} for {drive.shape[1]} units")
        kept, average = np.empty((n_samples // every, len(gains))), np.zeros(len(gains))
        for step, stimulus in enumerate(shown):
            gains = gains + rate * self._local_change(drive[stimulus], gains)
            if step >= n_samples // 2:
                average += gains
            if (step + 1) % every == 0:
                kept[(step + 1) // every - 1] = gains
            if not np.abs(gains).max() < 1e6:
                raise InputError(f"gains run away at rate {rate}; lower it below {1 / (drive**2).sum(1).max():.3g}")
        return xr.Dataset(
            {
                "gains": (("step", "unit"), kept),
                "average": ("unit", average / (n_samples - n_samples // 2)),
            },
            {"step": every * np.arange(1, len(kept) + 1), "unit": self.drive_["unit"]},
        )

    # How a context is solved.

    def _context(self, probability: Any, contrast: Any) -> tuple[np.ndarray, np.ndarray]:
        n = self.drive_.sizes["stimulus"]
        return inputs.as_probability(probability, n, self.drive_), inputs.as_contrast(contrast, n, self.drive_)

    def _solve(self, p: np.ndarray, c: np.ndarray) -> GainControl:
        drive = self.drive_.to_numpy() * c
        if self._closed_form:
            problem = GainProblem.of(
                drive, p, self._lift, self._back,
                alpha=self.alpha, gamma=self.gamma, reference=self._reference, cost=self.activity_cost,
            )  # fmt: skip
            gains, self.condition_ = problem.solve(nonnegative=self.nonnegative)
            terms = problem.terms(gains)
        else:
            gains, terms = optimise(
                self._circuit(), drive, p, self._decoder(), alpha=self.alpha, gamma=self.gamma,
                reference=self._reference, cost=self.activity_cost, nonnegative=self.nonnegative,
            )  # fmt: skip
            self.condition_ = float("nan")
        if self.activity_cost == "l1" and self._rates(drive, gains).min() < -1e-9:
            raise InputError(
                "activity_cost='l1' prices rates that are not negative, and some are; use nonnegative=True, a lower alpha, rectified=True or activity_cost='l2'"
            )
        units = {"unit": self.drive_["unit"]}
        self.gains_ = xr.DataArray(gains, dims="unit", coords=units, name="gain").assign_coords(
            {k: v for k, v in self.drive_.coords.items() if v.dims == ("unit",)}
        )
        self.objective_, self.fidelity_ = terms["objective"], terms["fidelity"]
        self.activity_, self.homeostasis_ = terms["activity"], terms["homeostasis"]
        names = units["unit"].to_numpy()
        self.decoder_ = xr.DataArray(
            self._decoder(), dims=("target", "source"), coords={"target": names, "source": names}
        )
        along = {k: v for k, v in self.drive_.coords.items() if v.dims == ("stimulus",)}
        self.probability_ = xr.DataArray(p, dims="stimulus", coords=along)
        self.contrast_ = xr.DataArray(c, dims="stimulus", coords=along)
        return self

    @property
    def _closed_form(self) -> bool:
        return self.gain_on == "drive" and not self.rectified

    def _circuit(self) -> Circuit:
        return Circuit(self._weights, on_input=self.gain_on == "input", rectified=self.rectified)

    def _decoder(self) -> np.ndarray:
        """D itself: ``B = D A`` undone."""
        leak = np.eye(len(self._weights)) - self._weights
        return leak if self._back is None else self._back @ leak

    def _rates(self, drive: np.ndarray, gains: np.ndarray) -> np.ndarray:
        return self._lift @ (gains[:, None] * drive) if self._closed_form else self._circuit().rates(drive, gains)

    def _local_change(self, f: np.ndarray, gains: np.ndarray) -> np.ndarray:
        seen = gains * f
        rates = self._lift @ seen
        error = f - (seen if self._back is None else self._back @ seen)
        felt = error if self._back is None else error @ self._back
        spent = rates @ self._lift if self.activity_cost == "l2" else self._lift.sum(0) / 2
        return f * (felt - self.alpha * spent) + self.gamma * (self._reference - gains)

    def _effective_abscissa(self) -> float:
        gained = self.gains_.to_numpy()[:, None] * self._weights if self.gain_on == "input" else self._weights
        return float(np.linalg.eigvals(gained).real.max())

    # What is allowed.

    def _check_settings(self) -> None:
        for name, allowed in (
            ("decoder", ("matched", "optimal", "identity")),
            ("activity_cost", ("l2", "l1")),
            ("gain_on", ("drive", "input")),
        ):
            if (name != "decoder" or isinstance(self.decoder, str)) and getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        for name in ("alpha", "gamma"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise InputError(f"{name} = {value}; give a finite number, at least 0")

    def _reference_gains(self, n: int) -> np.ndarray:
        reference = inputs.plain(self.reference)
        if reference.shape not in ((), (n,)) or not np.isfinite(reference).all():
            raise InputError(
                f"reference gains of shape {reference.shape}; give one finite number, or one for each of {n} units"
            )
        return np.broadcast_to(reference, n).astype(float)

    def _same_units(self, drive: Any) -> xr.DataArray:
        drive = inputs.as_drive(drive, self.drive_["unit"].to_numpy())
        if not np.array_equal(drive["unit"].values, self.drive_["unit"].values):
            raise InputError(
                f"a drive of {drive.sizes['unit']} units whose names differ from the {self.drive_.sizes['unit']} fitted"
            )
        return drive

    def _refuse_variant(self, what: str) -> None:
        if not self._closed_form:
            raise InputError(
                f"{what} is the rule of gains on the drive of linear rates; use gain_on='drive', rectified=False"
            )

    def _fitted(self) -> None:
        if not hasattr(self, "gains_"):
            raise InputError("this GainControl has not been fitted; call fit(drive, recurrent, probability) first")
