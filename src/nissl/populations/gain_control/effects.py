"""What adaptation does to tuning curves: where responses fall, where preferences move, what becomes equal and independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from nissl.errors import InputError
from nissl.populations.gain_control import inputs as inputs

# A neuron on the edge of a range, but for rounding, belongs to it (degrees).
EDGE = 1e-6


@dataclass(frozen=True)
class AdaptationEffects:
    """Effects of adaptation on a population.

    Attributes
    ----------
    neurons
        A row a neuron: `preferred` and `offset` from the adapter (degrees, signed), `max_ratio` and `min_ratio` of the response
        after and before, `shift` of the preferred stimulus (degrees, positive is away from the adapter).
    equalisation
        Coefficient of variation over neurons of the mean response in the adapted context, after / before; below 1 the responses
        have become more equal.
    decorrelation
        Mean absolute covariance, in the adapted context, of pairs of neurons near the adapter, after / before.
    adapter
        Degrees.
    """

    neurons: pd.DataFrame
    equalisation: float
    decorrelation: float
    adapter: float

    def summary(
        self, *, near: float = 8.0, far: float = 60.0, flank: tuple[float, float] = (7.0, 40.0)
    ) -> dict[str, float]:
        """Means over neurons near the adapter, far from it and on its flanks (degrees).

        Returns
        -------
        dict
            max_near, min_near, max_far, min_far (ratios), shift (degrees), equalisation, decorrelation; NaN where no neuron lies.
        """
        distance = self.neurons["offset"].abs()
        parts = {"near": distance <= near + EDGE, "far": distance > far + EDGE}
        out = {
            f"{e}_{p}": float(self.neurons.loc[k, f"{e}_ratio"].mean())
            for p, k in parts.items()
            for e in ("max", "min")
        }
        on_flank = (distance >= flank[0] - EDGE) & (distance <= flank[1] + EDGE)
        out["shift"] = float(self.neurons.loc[on_flank, "shift"].mean())
        return {**out, "equalisation": self.equalisation, "decorrelation": self.decorrelation}

    def __str__(self) -> str:
        s = self.summary()
        return (
            f"{len(self.neurons)} neurons, adapter {self.adapter:g} deg: maxima x {s['max_near']:.2f} near it and x "
            f"{s['max_far']:.2f} far from it, flanks shifted by {s['shift']:+.1f} deg, spread of mean responses x "
            f"{self.equalisation:.2f}, covariance x {self.decorrelation:.2f}"
        )

    def plot(self) -> Any:
        """Ratios and shifts against the distance from the adapter; a matplotlib figure."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3.2), layout="constrained")
        ratios, shifts = figure.subplots(1, 2)
        table = self.neurons.sort_values("offset")
        ratios.axhline(1, color="0.7", lw=1)
        ratios.plot(table["offset"], table["max_ratio"], color="#0072b2", marker="o", ms=3, label="maximum")
        ratios.plot(table["offset"], table["min_ratio"], color="#d55e00", marker="s", ms=3, label="minimum")
        ratios.set(ylabel="response, after / before")
        ratios.legend(frameon=False)
        shifts.axhline(0, color="0.7", lw=1)
        # Drawn in the direction it happens, so that repulsion is a curve through the origin.
        shifts.plot(table["offset"], table["shift"] * np.sign(table["offset"]), color="#009e73", marker="o", ms=3)
        shifts.set(ylabel="shift of preference (deg)")
        for axes in (ratios, shifts):
            axes.set_xlabel("preferred orientation - adapter (deg)")
            axes.spines[["top", "right"]].set_visible(False)
        return figure


def adaptation_effects(
    pre: Any,
    post: Any,
    probability: Any,
    adapter: float,
    *,
    orientation: Any = None,
    preferred: Any = None,
    neighbours: float = 30.0,
    period: float = 180.0,
) -> AdaptationEffects:
    """Effects of adaptation from tuning curves before and after it.

    Parameters
    ----------
    pre, post
        Responses `(unit, stimulus)`.
    probability
        The adapted context `(stimulus,)`; both curves are averaged under it, since mixing contexts fakes decorrelation.
    adapter
        Degrees.
    orientation
        Degrees `(stimulus,)`; by default the coordinate `orientation` of `pre`.
    preferred
        Degrees `(unit,)`; by default the vector average of each curve before adaptation.
    neighbours
        Covariance is averaged over pairs of neurons within so many degrees of the adapter.
    period
        Degrees after which a stimulus returns: 180 for orientation, 360 for direction.

    Returns
    -------
    AdaptationEffects

    Raises
    ------
    InputError
        Shapes that do not match, NaN, neurons whose response never changes, or fewer than two neurons near the adapter.

    Notes
    -----
    A ratio of minima is NaN where the minimum before adaptation is not positive, and equalisation where mean responses are
    not: there they mean nothing.

    Examples
    --------
    >>> from nissl.recordings.simulate.tuning import adapted_tuning, adapter_ensemble, orientation_ring
    >>> ring = orientation_ring(24, 48)
    >>> out = adapted_tuning(ring, adapter_ensemble(ring.orientation, 0.4))
    >>> effects = adaptation_effects(out.pre, out.post, out.probability, adapter=90)
    >>> effects.summary()["shift"] > 1
    True
    """
    before, after = curves(pre, "pre"), curves(inputs.in_order_of(pre, post), "post")
    if before.shape != after.shape:
        raise InputError(
            f"curves of shape {before.shape} before and {after.shape} after adaptation; give the same (unit, stimulus)"
        )
    angles = angles_of(pre, orientation, before.shape[1])
    p = inputs.as_probability(probability, before.shape[1], pre)
    flat = np.flatnonzero(np.ptp(before, axis=1) <= 1e-12 * (1 + np.abs(before).max(1)))
    if len(flat):
        raise InputError(
            f"{len(flat)} units respond to all stimuli alike (numbers {flat[:5].tolist()}); they have no preference to follow"
        )
    favourite = preference(before, angles, period) if preferred is None else inputs.plain(preferred)
    if favourite.shape != (len(before),):
        raise InputError(f"preferred of shape {favourite.shape} for {len(before)} units")
    offset = wrapped(favourite - adapter, period)
    moved = wrapped(preference(after, angles, period) - preference(before, angles, period), period)
    low = before.min(1)
    table = pd.DataFrame(
        {
            "preferred": favourite,
            "offset": offset,
            "max_ratio": after.max(1) / before.max(1),
            "min_ratio": np.where(low > 0, after.min(1) / np.where(low > 0, low, 1), np.nan),
            # At the adapter itself no direction is away from it.
            "shift": moved * np.sign(np.where(np.abs(offset) < 1e-9, 0, offset)),
        },
        index=pd.Index(pre["unit"].values if isinstance(pre, xr.DataArray) and "unit" in pre.coords else range(len(before)), name="unit"),
    )  # fmt: skip
    close = np.abs(offset) <= neighbours + EDGE
    if close.sum() < 2:
        raise InputError(
            f"{close.sum()} units lie within {neighbours} degrees of the adapter at {adapter}; two are needed for a covariance"
        )
    return AdaptationEffects(
        table,
        equalisation=_variation(after @ p) / _variation(before @ p),
        decorrelation=_covariance(after[close], p) / _covariance(before[close], p),
        adapter=adapter,
    )


def preference(
    response: Float[np.ndarray, "unit stimulus"], orientation: Float[np.ndarray, "stimulus"], period: float = 180.0
) -> Float[np.ndarray, "unit"]:
    """Preferred stimulus, in degrees: the vector average over a period, after each neuron's minimum is taken away.

    Stimuli count for the part of the circle that is nearest to them, so that unevenly spread ones do not pull.

    Examples
    --------
    >>> angles = np.arange(0, 180, 10.0)
    >>> preference(np.exp(np.cos(2 * np.deg2rad(angles - 34)))[None], angles).round(6).tolist()
    [34.0]
    """
    order = np.argsort(orientation % period)
    ring = (orientation % period)[order]
    gap = np.diff(ring, append=ring[0] + period)
    share = np.empty(len(ring))
    share[order] = (gap + np.roll(gap, 1)) / 2
    turn = np.exp(2j * np.pi * orientation / period) * share
    average = (response - response.min(1, keepdims=True)) @ turn
    return np.angle(average) * period / (2 * np.pi) % period


def wrapped(difference: Float[np.ndarray, "*shape"], period: float = 180.0) -> Float[np.ndarray, "*shape"]:
    """Differences of angles brought to within half a period of zero.

    Examples
    --------
    >>> wrapped(np.array([170.0, -100.0])).tolist()
    [-10.0, 80.0]
    """
    return (difference + period / 2) % period - period / 2


def curves(values: Any, name: str) -> Float[np.ndarray, "unit stimulus"]:
    """Tuning curves as a plain array, finite."""
    out = inputs.plain(
        values.transpose("unit", "stimulus") if isinstance(values, xr.DataArray) and "unit" in values.dims else values
    )
    if out.ndim != 2 or 0 in out.shape or not np.isfinite(out).all():
        raise InputError(f"{name} of shape {out.shape}: give finite responses (unit, stimulus)")
    return out


def angles_of(values: Any, orientation: Any, n: int) -> Float[np.ndarray, "stimulus"]:
    """Orientations as given, or those that the curves carry."""
    if orientation is None and isinstance(values, xr.DataArray) and "orientation" in values.coords:
        orientation = values["orientation"]
    if orientation is None:
        raise InputError("no orientations: give orientation=(stimulus,) in degrees, or curves with that coordinate")
    angles = inputs.plain(orientation)
    if angles.shape != (n,) or not np.isfinite(angles).all():
        raise InputError(f"orientations of shape {angles.shape} for {n} stimuli; give one finite angle each")
    return angles


def _variation(mean: Float[np.ndarray, "unit"]) -> float:
    """Coefficient of variation; NaN where it means nothing, around a mean that is not positive."""
    return (
        float(mean.std() / mean.mean()) if mean.mean() > 1e-12 * np.abs(mean).max() and mean.mean() > 1e-12 else np.nan
    )


def _covariance(response: Float[np.ndarray, "unit stimulus"], p: Float[np.ndarray, "stimulus"]) -> float:
    """Mean absolute covariance of different neurons under a context."""
    deviation = response - (response @ p)[:, None]
    covariance = (deviation * p) @ deviation.T
    return float(np.abs(covariance[~np.eye(len(covariance), dtype=bool)]).mean())
