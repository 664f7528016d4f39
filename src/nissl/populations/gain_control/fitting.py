"""How much of a recording's adaptation do gains explain? Two numbers fitted to curves before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from scipy.optimize import least_squares

from nissl.errors import InputError, unknown
from nissl.populations.gain_control import inputs as inputs
from nissl.populations.gain_control.effects import angles_of, preference
from nissl.populations.gain_control.models import BOUNDS, GainModel, NormalisationModel, rescaled, synaptic_curves
from nissl.populations.gain_control.ring import Ring, RingFit, fit_both, fit_ring, log_errors, number_table, regressed

MODELS = ("gain", "uncoupled", "normalisation", "synaptic")


@dataclass(frozen=True)
class AdaptationFit:
    """A model of adaptation fitted to recordings.

    Attributes
    ----------
    model
        "gain", "uncoupled", "normalisation" or "synaptic".
    parameters
        A row a free number: value, its 95 % interval (from curvature at the optimum), and whether it sits at its bound.
    share
        Share of the change from before to after that the model explains: 1 is all of it, 0 what "no change" would explain.
    share_held_out
        The same for stimuli that the fit has not seen; NaN without folds.
    n_parameters
        Numbers fitted to the curves after adaptation.
    predicted, pre, post
        Curves `(recording, unit, stimulus)` in each neuron's range before adaptation: the model's after it, and the data's.
    usual
        The model's curves before adaptation, `(unit, stimulus)`.
    ring
        What stage 1 found in the curves before adaptation; None where drive and weights were given.
    """

    model: str
    parameters: pd.DataFrame
    share: float
    share_held_out: float
    n_parameters: int
    predicted: xr.DataArray
    pre: xr.DataArray
    post: xr.DataArray
    usual: xr.DataArray
    ring: RingFit | None = None

    def __getitem__(self, name: str) -> float:
        """The value of a parameter."""
        if name not in self.parameters.index:
            raise unknown("parameter", name, self.parameters.index)
        return float(self.parameters.loc[name, "value"])  # type: ignore[arg-type]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in self.parameters["value"].items())
        return (
            f"{self.model} ({self.n_parameters} numbers{': ' + numbers if numbers else ''}): {self.share:.1%} of the change "
            "explained"
            + (f", {self.share_held_out:.1%} at stimuli left out" if np.isfinite(self.share_held_out) else "")
        )


def fit_adaptation(
    pre: Any,
    post: Any,
    probability: Any,
    *,
    drive: Any = None,
    recurrent: Any = None,
    orientation: Any = None,
    preferred: Any = None,
    model: Literal["gain", "uncoupled", "normalisation", "synaptic"] = "gain",
    rescale: Literal["regression", "range"] | None = "regression",
    decoder: Literal["matched", "optimal", "identity"] = "matched",
    activity_cost: Literal["l2", "l1"] = "l2",
    fixed: Mapping[str, float] | None = None,
    joint: bool = False,
    folds: int = 5,
) -> AdaptationFit:
    """Fit a model of adaptation to tuning curves before and after it.

    Stage 1 fits a ring (tuned drive and recurrent weights) to the curves before adaptation, unless `drive` and `recurrent` are
    given. Stage 2 freezes it and fits two numbers, the price of activity and the pull towards usual gains, to the curves
    after adaptation of all recordings together.

    Parameters
    ----------
    pre, post
        `(unit, stimulus)` or `(recording, unit, stimulus)`; NaN where missing.
    probability
        The adapted context, `(stimulus,)` or `(recording, stimulus)`.
    drive, recurrent
        The circuit, where it is known: `(unit, stimulus)` and `(target, source)`.
    orientation, preferred
        Degrees, `(stimulus,)` and `(unit,)`; by default the coordinates of `pre`, and the vector average of its curves.
    model
        "gain"; "uncoupled", gains of neurons that are not connected and have the same curves before; "normalisation",
        divisive weights that keep products of responses; "synaptic", any change of linear weights, a matrix a recording.
    rescale
        Curves are compared in each neuron's range before adaptation. "regression" finds minimum and range by regressing the
        curve before on the model's (a minimum of noisy numbers is too low); "range" takes them from the data as they are;
        None where this has been done.
    decoder, activity_cost
        As in `GainControl`.
    fixed
        Numbers of the ring that stage 1 should not fit: baseline, concentration, recurrence, width, inhibition. Curves before
        adaptation say little about the recurrence, since broad drive and broad weights look alike: see the intervals of
        `ring`, and give what is known or use `joint`.
    joint
        Whether ring and gains are fitted at once, to curves before and after: how curves shift tells the recurrence.
    folds
        Parts that stimuli are dealt into, each predicted by a fit to the others; 0 leaves that out.

    Returns
    -------
    AdaptationFit

    Raises
    ------
    InputError, UnknownNameError
        Shapes that do not match, recordings without a finite curve, no change to explain.

    Examples
    --------
    >>> from nissl.recordings.simulate.tuning import adapted_recordings
    >>> data = adapted_recordings([0.5, 0.3], noise=0.0)
    >>> fit = fit_adaptation(data.pre, data.post, data.probability, drive=data.drive, recurrent=data.recurrent)
    >>> round(fit["alpha"], 3), round(fit.share, 3)
    (1.0, 1.0)
    """
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    if joint and (drive is not None or model != "gain"):
        raise InputError("joint fits the ring with the gains: leave drive out, and use model='gain'")
    before, after = _stacked(pre, "pre"), _stacked(inputs.in_order_of(pre, post), "post")
    if before.shape != after.shape:
        raise InputError(f"curves of shape {before.shape} before and {after.shape} after adaptation; give the same")
    contexts = _contexts(inputs.in_order_of(pre, probability), before.shape)
    ring = known = None
    if drive is None:
        angles = angles_of(pre, orientation, before.shape[2])
        unfitted = Ring(_preferred(pre, preferred, before, angles), angles, fixed or {})
        ring, x, baseline = fit_ring(before, unfitted, rescale is not None)
        if joint:
            scale = partial(_in_range, rescale=rescale)
            ring, known = fit_both(
                before, after, contexts, unfitted, x, baseline, scale, decoder=decoder, cost=activity_cost
            )
        f, weights = ring.drive, ring.recurrent
    else:
        f = inputs.as_drive(drive)
        weights = inputs.as_recurrent(recurrent, f["unit"].to_numpy())
        f = f.to_numpy()
        if f.shape != before.shape[1:]:
            raise InputError(f"drive of shape {f.shape} for curves of shape {before.shape[1:]} (unit, stimulus)")
    coupled = GainModel.of(f, weights, contexts, decoder=decoder, cost=activity_cost)
    usual = coupled.curves(1.0, 1.0)[0]
    scaled_usual = rescaled(usual, usual)[0]
    before, after = _in_range(before, after, scaled_usual, rescale)
    change = after - scaled_usual
    if not np.nansum(change**2) > 1e-12:
        raise InputError("the curves after adaptation are those before; there is no change to explain")

    if model == "synaptic":

        def predict(seen: np.ndarray, near: pd.DataFrame | None = None) -> tuple[np.ndarray, pd.DataFrame, int]:
            guess = synaptic_curves(usual, np.nan_to_num(_unscaled(after, usual)), seen)
            return rescaled(usual, guess)[1], number_table((), np.empty(0), np.empty(0)), len(guess) * len(usual) ** 2

    else:
        uncoupled = GainModel.of(usual, np.zeros_like(weights), contexts, decoder=decoder, cost=activity_cost)
        chosen = {"gain": coupled, "uncoupled": uncoupled}.get(model) or NormalisationModel(usual, contexts)

        def predict(seen: np.ndarray, near: pd.DataFrame | None = None) -> tuple[np.ndarray, pd.DataFrame, int]:
            guess, table = _two_numbers(chosen, after, seen, near)
            return guess, table, len(table)

    def explained(guess: np.ndarray, where: np.ndarray) -> float:
        return float(1 - np.nansum((after - guess)[..., where] ** 2) / np.nansum(change[..., where] ** 2))

    n = after.shape[2]
    guess, table, count = predict(np.ones(n, bool))
    if known is not None:  # the same optimum, with intervals that know that the ring is uncertain too
        table, count = known, count + len(unfitted.names)
    held_out = np.full_like(after, np.nan)
    for fold in np.array_split(np.random.default_rng(0).permutation(n), min(folds, n)) if folds else ():
        seen = np.ones(n, bool)
        seen[fold] = False
        held_out[..., fold] = predict(seen, table)[0][..., fold]
    wrap = _wrapper(pre)
    every = np.ones(n, bool)
    return AdaptationFit(
        model, table, explained(guess, every), explained(held_out, every) if folds else float("nan"), count,
        wrap(guess), wrap(before), wrap(after), wrap(scaled_usual[None])[0].drop_vars("recording"), ring,
    )  # fmt: skip


def compare_adaptation(pre: Any, post: Any, probability: Any, **options: Any) -> pd.DataFrame:
    """Every model of adaptation on the same curves: share of the change explained, at all stimuli and at those left out.

    Parameters
    ----------
    pre, post, probability, options
        As `fit_adaptation` takes them.

    Returns
    -------
    DataFrame
        A row a model: share, share_held_out, n_parameters, and its parameters in words.
    """
    fits = [fit_adaptation(pre, post, probability, model=m, **options) for m in MODELS]  # type: ignore[arg-type]
    return pd.DataFrame(
        [
            {
                "share": f.share,
                "share_held_out": f.share_held_out,
                "n_parameters": f.n_parameters,
                "parameters": ", ".join(f"{k} {v:.3g}" for k, v in f.parameters["value"].items()),
                "at_bound": bool(f.parameters["at_bound"].any()),
            }
            for f in fits
        ],
        index=pd.Index([f.model for f in fits], name="model"),
    )


def _two_numbers(
    model: Any, after: np.ndarray, seen: np.ndarray, near: pd.DataFrame | None
) -> tuple[np.ndarray, pd.DataFrame]:
    """Least squares in the logarithms of two positive numbers, from several starts or `near` an optimum that is known."""
    known = np.isfinite(after) & seen

    def curves(x: np.ndarray) -> np.ndarray:
        return rescaled(*model.curves(*np.exp(x)))[1]

    def residual(x: np.ndarray) -> np.ndarray:
        return (curves(x) - after)[known]

    bounds = np.log(BOUNDS)
    starts = model.starts if near is None else [near["value"].to_numpy().clip(1.01 * BOUNDS[0], BOUNDS[1] / 1.01)]
    tries = [least_squares(residual, np.log(s), bounds=tuple(bounds), x_scale=1.0) for s in starts]
    best = min(tries, key=lambda t: t.cost)
    return curves(best.x), number_table(model.names, best.x, log_errors(best))


def _in_range(
    before: np.ndarray, after: np.ndarray, usual: np.ndarray, rescale: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both curves in each neuron's range before adaptation."""
    if rescale is None:
        return before, after
    if rescale == "range":
        low = np.nanmin(before, -1, keepdims=True)
        span = np.nanmax(before, -1, keepdims=True) - low
    elif rescale == "regression":
        low, span, _ = regressed(before, usual)
    else:
        raise unknown("rescale", rescale, ("regression", "range", "None"))
    if not (span > 0).all():
        r, u = np.argwhere(span[..., 0] <= 0)[0]
        raise InputError(
            f"unit {u} of recording {r} has no tuning like the model's before adaptation, so its range is not known; leave it out"
        )
    return (before - low) / span, (after - low) / span


def _unscaled(curves: np.ndarray, usual: np.ndarray) -> np.ndarray:
    low = usual.min(-1, keepdims=True)
    return curves * (usual.max(-1, keepdims=True) - low) + low


def _stacked(values: Any, name: str) -> np.ndarray:
    dims = ("recording", "unit", "stimulus")
    if isinstance(values, xr.DataArray) and set(values.dims) <= set(dims):
        values = values.transpose(*[d for d in dims if d in values.dims])
    out = inputs.plain(values)
    out = out[None] if out.ndim == 2 else out
    if out.ndim != 3 or out.shape[1] < 2 or out.shape[2] < 3:
        raise InputError(
            f"{name} of shape {out.shape}; give (unit, stimulus) or (recording, unit, stimulus), 2 units and 3 stimuli at least"
        )
    if np.isinf(out).any():
        raise InputError(f"{name} holds infinite responses")
    lacking = np.argwhere(np.isfinite(out).sum(-1) < 3)
    if len(lacking):
        r, u = lacking[0]
        raise InputError(
            f"{name}: unit {u} of recording {r} has fewer than three responses ({len(lacking)} such curves); leave it out"
        )
    return out


def _contexts(probability: Any, shape: tuple[int, ...]) -> np.ndarray:
    p = inputs.plain(probability)
    p = np.broadcast_to(p, (shape[0], p.shape[-1])) if p.ndim == 1 else p
    if p.shape != (shape[0], shape[2]):
        raise InputError(f"probabilities of shape {p.shape} for {shape[0]} recordings of {shape[2]} stimuli")
    return np.stack([inputs.as_probability(row, shape[2]) for row in p])


def _preferred(pre: Any, preferred: Any, before: np.ndarray, angles: np.ndarray) -> np.ndarray:
    if preferred is None and isinstance(pre, xr.DataArray) and "preferred" in pre.coords:
        preferred = pre["preferred"]
    if preferred is None:
        return preference(np.nanmean(before, 0), angles)
    out = inputs.plain(preferred)
    if out.shape != before.shape[1:2]:
        raise InputError(f"preferred of shape {out.shape} for {before.shape[1]} units")
    return out


def _wrapper(pre: Any) -> Callable[[np.ndarray], xr.DataArray]:
    """Curves with the coordinates that the data came with."""
    coords = {}
    if isinstance(pre, xr.DataArray):
        coords = {k: v for k, v in pre.coords.items() if set(v.dims) <= {"unit", "stimulus"}}

    def wrap(values: np.ndarray) -> xr.DataArray:
        return xr.DataArray(
            values, dims=("recording", "unit", "stimulus"), coords={"recording": range(len(values)), **coords}
        )

    return wrap
