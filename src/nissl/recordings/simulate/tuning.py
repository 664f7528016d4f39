"""Tuning curves of a recurrent ring that adapts by its gains: the truth for fits of sensory adaptation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError

# Adapter probabilities of eleven recordings of cat V1 (Benucci, Saleem and Carandini 2013).
ADAPTER_PROBABILITIES = (0.5,) * 5 + (0.4,) * 2 + (0.35,) * 2 + (0.3,) * 2


def orientation_ring(
    n_units: int = 36,
    n_stimuli: int = 72,
    *,
    baseline: float = 0.2,
    concentration: float = 2.0,
    recurrence: float = 0.8,
    width: float = 10.0,
    inhibition: float = 0.0,
) -> xr.Dataset:
    """A ring of orientation-tuned neurons: von Mises drive, and recurrent weights that fall with the difference of
    preferred orientation.

    Parameters
    ----------
    n_units, n_stimuli
        Neurons and orientations, each spread evenly over 180 degrees.
    baseline, concentration
        Drive is ``baseline + exp(concentration (cos 2(orientation - preferred) - 1))``.
    recurrence, width
        Each row of excitatory weights is a Gaussian bump of standard deviation `width` (degrees) that sums to
        `recurrence`; below 1 the ring is stable.
    inhibition
        Sum over a row of broad (constant) inhibition, subtracted.

    Returns
    -------
    xarray.Dataset
        drive (unit, stimulus); recurrent (target, source); coordinates `preferred` (unit) and `orientation` (stimulus)
        in degrees.

    Raises
    ------
    InputError
        Sizes or widths that are not positive.

    Examples
    --------
    >>> ring = orientation_ring(12, 24)
    >>> dict(ring.sizes)
    {'unit': 12, 'stimulus': 24, 'target': 12, 'source': 12}
    """
    if n_units < 2 or n_stimuli < 3:
        raise InputError(f"a ring of {n_units} units and {n_stimuli} stimuli; give at least 2 units and 3 orientations")
    if not (width > 0 and concentration > 0):
        raise InputError(f"width {width} and concentration {concentration} must be positive")
    preferred = np.arange(n_units) * 180.0 / n_units
    orientation = np.arange(n_stimuli) * 180.0 / n_stimuli
    drive = tuned_drive(preferred, orientation, baseline=baseline, concentration=concentration)
    weights = ring_weights(preferred, recurrence=recurrence, width=width, inhibition=inhibition)
    names = [f"n{i:03d}" for i in range(n_units)]
    return xr.Dataset(
        {"drive": (("unit", "stimulus"), drive), "recurrent": (("target", "source"), weights)},
        {
            "unit": names,
            "target": names,
            "source": names,
            "preferred": ("unit", preferred, {"units": "degrees"}),
            "orientation": ("stimulus", orientation, {"units": "degrees"}),
        },
    )


def tuned_drive(
    preferred: Float[np.ndarray, "unit"],
    orientation: Float[np.ndarray, "stimulus"],
    *,
    baseline: float,
    concentration: float,
) -> Float[np.ndarray, "unit stimulus"]:
    """Von Mises tuning over orientation (degrees), peak ``1 + baseline``.

    Examples
    --------
    >>> tuned_drive(np.array([0.0]), np.array([0.0, 180.0]), baseline=0.5, concentration=1.0)
    array([[1.5, 1.5]])
    """
    angle = 2 * np.deg2rad(orientation[None, :] - preferred[:, None])
    return baseline + np.exp(concentration * (np.cos(angle) - 1))


def ring_weights(
    preferred: Float[np.ndarray, "unit"], *, recurrence: float, width: float, inhibition: float = 0.0
) -> Float[np.ndarray, "target source"]:
    """Weights between neurons by their difference of preferred orientation (degrees); rows sum to ``recurrence -
    inhibition``.

    Examples
    --------
    >>> ring_weights(np.arange(0, 180, 30.0), recurrence=0.8, width=10.0).sum(1).round(12).tolist()
    [0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    """
    difference = (preferred[:, None] - preferred[None, :] + 90) % 180 - 90
    bump = np.exp(-(difference**2) / (2 * width**2))
    return recurrence * bump / bump.sum(1, keepdims=True) - inhibition / len(preferred)


def adapter_ensemble(
    orientation: Any, probability: float, *, adapter: float = 90.0, width: float | None = None
) -> xr.DataArray:
    """Probabilities of orientations when one of them, the adapter, comes up more often than the rest.

    Parameters
    ----------
    orientation
        Orientations in degrees, `(stimulus,)`, evenly spread.
    probability
        Share of presentations that go to the adapter; the rest is dealt out equally over all orientations, so that 0
        is the uniform ensemble.
    adapter
        Its orientation in degrees.
    width
        The adapter's mass is spread as a Gaussian of this standard deviation (degrees). None: half in the nearest
        orientation and a quarter in each neighbour, the convention for the V1 data.

    Returns
    -------
    xarray.DataArray
        (stimulus), sums to 1, with the coordinate `orientation`.

    Raises
    ------
    InputError
        A probability outside 0 to 1, or fewer than three orientations.

    Examples
    --------
    >>> float(adapter_ensemble(np.arange(0, 180, 9.0), 0.4).max().round(3))
    0.23
    """
    angles = np.asarray(orientation, dtype=float)
    if angles.ndim != 1 or len(angles) < 3 or not np.isfinite(angles).all():
        raise InputError(f"orientation of shape {angles.shape}: give at least three finite angles in degrees")
    if not 0 <= probability <= 1:
        raise InputError(f"probability {probability} of the adapter; it lies between 0 and 1")
    difference = (angles - adapter + 90) % 180 - 90
    if width is None:
        mass = np.zeros(len(angles))
        # Neighbours on the circle, not in the list.
        centre, left, right = _neighbours(angles, int(np.abs(difference).argmin()))
        mass[centre] += 0.5
        mass[left] += 0.25
        mass[right] += 0.25
    elif width > 0:
        mass = np.exp(-(difference**2) / (2 * width**2))
        mass /= mass.sum()
    else:
        raise InputError(f"width {width} degrees must be positive")
    shares = (1 - probability) / len(angles) + probability * mass
    return xr.DataArray(
        shares,
        dims="stimulus",
        coords={"orientation": ("stimulus", angles)},
        attrs={"adapter": adapter, "probability": probability},
    )


def _neighbours(angles: np.ndarray, centre: int) -> tuple[int, int, int]:
    order = np.argsort(angles % 180)
    place = int(np.flatnonzero(order == centre)[0])
    return centre, int(order[place - 1]), int(order[(place + 1) % len(order)])


def adapted_tuning(
    ring: xr.Dataset,
    probability: Any,
    *,
    alpha: float = 1.0,
    gamma: float = 1.0,
    steps: int = 20_000,
    tolerance: float = 1e-12,
) -> xr.Dataset:
    """Tuning curves before and after gains have settled in a context, by running the local rule itself.

    Every neuron turns its gain by what it sees: its drive, the read-out error and the activity fed back to it (see
    `populations.GainControl`). Nothing is solved in closed form here, so that a fit of the closed form to these curves is
    a test. The read-out is that of the network at unit gain, ``D = I - W``.

    Parameters
    ----------
    ring
        As `orientation_ring` gives: drive (unit, stimulus), recurrent (target, source).
    probability
        The adapted context, `(stimulus,)`; before it the ring lives in the uniform one.
    alpha, gamma
        Price of activity and pull towards unit gain.
    steps, tolerance
        The rule is averaged over stimuli and stops when no gain moves by more than `tolerance` a step.

    Returns
    -------
    xarray.Dataset
        pre, post (unit, stimulus); gain_pre, gain_post (unit); probability (stimulus).

    Raises
    ------
    InputError
        Lengths that do not match, or gains that have not settled after `steps`.

    Examples
    --------
    >>> ring = orientation_ring(12, 24)
    >>> out = adapted_tuning(ring, adapter_ensemble(ring.orientation, 0.4))
    >>> bool(out.gain_post[6] < out.gain_pre[6])
    True
    """
    drive, weights = ring["drive"].to_numpy(), ring["recurrent"].to_numpy()
    context = np.asarray(probability, dtype=float)
    if context.shape != drive.shape[1:]:
        raise InputError(f"{len(context)} probabilities for {drive.shape[1]} stimuli; give one a stimulus")
    uniform = np.full(drive.shape[1], 1 / drive.shape[1])
    settle = _Settling(drive, weights, alpha, gamma, steps, tolerance)
    before = settle(uniform, np.ones(len(drive)))
    after = settle(context, before)
    return ring[["preferred", "orientation"]].assign(
        {
            "pre": (("unit", "stimulus"), settle.rates(before)),
            "post": (("unit", "stimulus"), settle.rates(after)),
            "gain_pre": ("unit", before),
            "gain_post": ("unit", after),
            "probability": ("stimulus", context),
        }
    )


class _Settling:
    """Gains of a ring run to rest by the local rule, averaged over stimuli."""

    def __init__(
        self, drive: np.ndarray, weights: np.ndarray, alpha: float, gamma: float, steps: int, tolerance: float
    ) -> None:
        self.drive, self.alpha, self.gamma, self.steps, self.tolerance = drive, alpha, gamma, steps, tolerance
        self.leak = np.eye(len(drive)) - weights
        if np.linalg.eigvals(weights).real.max() >= 1:
            raise InputError("the ring is unstable: an eigenvalue of its weights has a real part of 1 or more")

    def rates(self, gains: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.leak, gains[:, None] * self.drive)

    def __call__(self, context: np.ndarray, gains: np.ndarray) -> np.ndarray:
        for _ in range(self.steps):
            slope = self._slope(context, gains)
            moved = self._best_step(context, slope) * slope
            gains = gains + moved
            if np.abs(moved).max() < self.tolerance:
                return gains
        raise InputError(f"gains have not settled after {self.steps} steps; raise `steps` or gamma ({self.gamma})")

    def _slope(self, context: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Local rule: ``f (A^T D^T (f - D r)) - alpha f (A^T r) + gamma (1 - g)``, averaged over the context."""
        rates = self.rates(gains)
        back = self.leak.T @ (self.drive - self.leak @ rates) - self.alpha * rates
        return (self.drive * np.linalg.solve(self.leak.T, back)) @ context + self.gamma * (1 - gains)

    def _best_step(self, context: np.ndarray, slope: np.ndarray) -> float:
        """Along the slope the objective is a parabola; this is its bottom."""
        change = self.rates(slope)
        bend = ((self.leak @ change) ** 2 + self.alpha * change**2).sum(0) @ context + self.gamma * slope @ slope
        return float(slope @ slope / bend) if bend > 0 else 0.0


def adapted_recordings(
    probabilities: Sequence[float] = ADAPTER_PROBABILITIES,
    *,
    n_units: int = 13,
    n_stimuli: int = 21,
    alpha: float = 1.0,
    gamma: float = 1.0,
    noise: float = 0.05,
    seed: int = 0,
    **ring: Any,
) -> xr.Dataset:
    """Recordings of one ring adapted to a frequent orientation, one a probability, with noise on the curves.

    Parameters
    ----------
    probabilities
        Of the adapter, one a recording; by default those of the eleven recordings of cat V1.
    n_units, n_stimuli
        Preferred-orientation bins and orientations.
    alpha, gamma
        The truth that a fit should find.
    noise
        Standard deviation of Gaussian noise, as a share of each neuron's range before adaptation.
    ring
        Further settings of `orientation_ring`.

    Returns
    -------
    xarray.Dataset
        pre, post (recording, unit, stimulus), each neuron rescaled by its noise-free minimum and range before adaptation;
        probability (recording, stimulus); the ring's drive and recurrent weights. The adapter lies in the middle, at 90
        degrees. Attributes hold the truth.

    Examples
    --------
    >>> adapted_recordings(seed=1).pre.shape
    (11, 13, 21)
    """
    if noise < 0 or len(probabilities) == 0:
        raise InputError(
            f"noise {noise} and {len(probabilities)} recordings; noise is at least 0, recordings at least 1"
        )
    truth = orientation_ring(n_units, n_stimuli, **ring)
    adapter = float(truth.preferred[n_units // 2])
    # Orientations are laid out around the adapter, so that one of them is the adapter itself.
    shift = adapter - float(truth.orientation[n_stimuli // 2])
    truth = truth.assign_coords(orientation=("stimulus", truth.orientation.to_numpy() + shift))
    settings = {k: v for k, v in ring.items() if k in ("baseline", "concentration")}
    angles = truth.orientation.to_numpy()
    truth["drive"].values = tuned_drive(
        truth.preferred.to_numpy(), angles, **{"baseline": 0.2, "concentration": 2.0, **settings}
    )
    contexts = [adapter_ensemble(angles, p, adapter=adapter).to_numpy() for p in probabilities]
    adapted = [adapted_tuning(truth, c, alpha=alpha, gamma=gamma) for c in contexts]
    low = np.stack([a.pre.min("stimulus") for a in adapted])[..., None]
    span = np.stack([a.pre.max("stimulus") for a in adapted])[..., None] - low
    rng = np.random.default_rng(seed)

    def noisy(which: str) -> np.ndarray:
        clean = (np.stack([a[which] for a in adapted]) - low) / span
        return clean + noise * rng.standard_normal(clean.shape)

    dims = ("recording", "unit", "stimulus")
    return truth.assign(
        pre=(dims, noisy("pre")),
        post=(dims, noisy("post")),
        probability=(("recording", "stimulus"), np.stack(contexts)),
    ).assign_attrs(alpha=alpha, gamma=gamma, noise=noise, seed=seed, adapter=adapter)
