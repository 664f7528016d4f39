"""A differentiable response model from a recording: what each unit would answer to any stimulus.

A linear-nonlinear model with a few quadratic filters: `r = a f(w.x + sum_q s_q (u_q.x)^2 + b)`. The linear filter starts from
ridge regression, the quadratic ones from the covariance of stimuli weighted by responses (spike-triggered covariance); both are
then fitted together, all units at once, and stopped where the validation stimuli are predicted best.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn import functional

from nissl.errors import InputError

_LEAST = 30  # stimuli
_WHITENING = (0.02, 0.2, 2.0)  # added to the stimuli's variances, as a share of their mean
_RIDGES = tuple(10.0**k for k in range(-4, 4))


class LinearNonlinear(nn.Module):
    """Responses of units with a linear filter, quadratic filters and an output nonlinearity each.

    `forward` takes stimuli `(stimulus, *canvas)` and gives responses `(stimulus, unit)`.
    """

    mean: Tensor

    def __init__(self, mean: Float[Tensor, "*canvas"], n_units: int, n_quadratic: int, width: int, output: str) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.output = output
        self.linear = nn.Parameter(torch.zeros(n_units, width))
        self.quadratic = nn.Parameter(torch.zeros(n_units, n_quadratic, width))
        self.sign = nn.Parameter(torch.ones(n_units, n_quadratic), requires_grad=False)
        self.offset = nn.Parameter(torch.zeros(n_units))
        self.gain = nn.Parameter(torch.ones(n_units))

    def forward(self, x: Float[Tensor, "stimulus *canvas"]) -> Float[Tensor, "stimulus unit"]:
        """Responses to stimuli."""
        return self.respond((x - self.mean).flatten(1))

    def respond(self, flat: Float[Tensor, "stimulus width"]) -> Float[Tensor, "stimulus unit"]:
        """Responses to stimuli that are laid out flat, their mean taken away."""
        drive = flat @ self.linear.T + self.offset
        if self.quadratic.shape[1]:
            squares = (flat @ self.quadratic.flatten(0, 1).T).square().unflatten(1, self.quadratic.shape[:2])
            drive = drive + (squares * self.sign).sum(2)
        if self.output == "identity":
            return self.gain * drive
        return self.gain * (drive.exp() if self.output == "exp" else functional.softplus(drive))


class ResponseModel(BaseEstimator):
    """A differentiable model of recorded units, fitted to their responses to stimuli.

    Parameters
    ----------
    n_quadratic
        Quadratic filters a unit, for responses that do not depend on the stimulus' sign (complex cells, ON-OFF cells); 0 gives
        the linear-nonlinear model.
    output
        Nonlinearity behind the filters: `softplus`, `exp`, or `identity`.
    loss
        `poisson` for counts, `gaussian` for anything else (fluorescence).
    steps, learning_rate
        Of Adam, at most.
    held_out, validation
        Shares of the stimuli that the correlation is taken on, and that end the fit.
    seed
        Of the split.

    Attributes
    ----------
    module_ : torch.nn.Module
        From stimuli `(stimulus, *canvas)` to responses `(stimulus, unit)`, differentiable.
    held_out_correlation_ : xarray.DataArray
        Between predicted and measured responses to held-out stimuli, dims `(unit,)`.
    ridge_correlation_ : xarray.DataArray
        The same of ridge regression, the simple model beside it.
    filters_ : xarray.DataArray
        Linear filters, dims `(unit, *canvas)`.
    unit_names : list
        Names of the units.

    Examples
    --------
    >>> from nissl.recordings.simulate import retina
    >>> cells = retina(n_per_type=2)
    >>> stimuli = cells.natural(400)
    >>> model = ResponseModel(n_quadratic=1, steps=50).fit(stimuli, cells.record(stimuli, rate=5.0))
    >>> model(stimuli[:3]).shape
    torch.Size([3, 12])

    References
    ----------
    Chichilnisky 2001 (linear-nonlinear models); Schwartz, Pillow, Rust and Simoncelli 2006 (spike-triggered covariance).
    """

    def __init__(
        self,
        *,
        n_quadratic: int = 2,
        output: Literal["softplus", "exp", "identity"] = "softplus",
        loss: Literal["poisson", "gaussian"] = "gaussian",
        steps: int = 300,
        learning_rate: float = 0.01,
        held_out: float = 0.15,
        validation: float = 0.15,
        seed: int = 0,
    ) -> None:
        self.n_quadratic = n_quadratic
        self.output = output
        self.loss = loss
        self.steps = steps
        self.learning_rate = learning_rate
        self.held_out = held_out
        self.validation = validation
        self.seed = seed

    def fit(self, stimuli: Any, responses: Any) -> ResponseModel:
        """Fit all units.

        Parameters
        ----------
        stimuli
            Shape `(stimulus, *canvas)`.
        responses
            `(stimulus, unit)`, or `(repeat, stimulus, unit)`: averaged over repeats, leaving out NaN. Or a recording (Dataset
            with `stimulus_start` and `stimulus_stop`) whose intervals are the stimuli in their order: `interval_responses`.

        Raises
        ------
        InputError
            Another number of stimuli than of responses, NaN, units that answer alike (named), negative counts, too few
            stimuli.
        """
        self._check_settings()
        x, y, names = _paired(stimuli, responses)
        if self.loss == "poisson" and (y < 0).any():
            raise InputError("loss='poisson' is for counts, but some responses are negative; use loss='gaussian'")
        rows = np.random.default_rng(self.seed).permutation(len(x))
        n_test, n_valid = (max(5, round(share * len(x))) for share in (self.held_out, self.validation))
        test, valid, train = np.split(rows, [n_test, n_test + n_valid])
        _check_varies(y[train], names)
        mean = x[train].mean(0)
        flat = (x - mean).flatten(1)
        scale = y[train].mean(0) if self.loss == "poisson" else y[train].std(0)
        module = LinearNonlinear(mean, y.shape[1], self.n_quadratic, flat.shape[1], self.output)
        ridge = _ridge(flat, y / scale, train, valid)
        _start(module, flat, y / scale, ridge, train, valid)
        self._climb(module, flat, y / scale, train, valid)
        with torch.no_grad():
            module.gain.mul_(scale)
            predicted = module.respond(flat[test])
            plain = flat[test] @ ridge.T
        for parameter in module.parameters():
            parameter.requires_grad_(False)
        self.module_ = module.eval()
        self.unit_names = names
        self.held_out_correlation_ = _correlation(predicted, y[test], names)
        self.ridge_correlation_ = _correlation(plain, y[test], names)
        dims = {3: ("channel", "y", "x"), 2: ("y", "x"), 4: ("channel", "frame", "y", "x")}.get(x.dim() - 1, ())
        dims = dims or tuple(f"axis_{i}" for i in range(x.dim() - 1))
        filters = module.linear.unflatten(1, x.shape[1:]).numpy()
        self.filters_ = xr.DataArray(filters, dims=("unit", *dims), coords={"unit": names})
        return self

    def __call__(self, x: Float[Tensor, "stimulus *canvas"]) -> Float[Tensor, "stimulus unit"]:
        """Responses, with gradient by the stimulus."""
        return self.module_(x)

    def predict(self, stimuli: Any) -> xr.DataArray:
        """Responses to stimuli, dims `(stimulus, unit)`."""
        with torch.no_grad():
            values = self.module_(torch.as_tensor(np.asarray(stimuli), dtype=torch.float32)).numpy().astype(float)
        return xr.DataArray(values, dims=("stimulus", "unit"), coords={"unit": self.unit_names})

    def _climb(self, module: LinearNonlinear, flat: Tensor, y: Tensor, train: np.ndarray, valid: np.ndarray) -> None:
        """Adam on all units at once; every unit keeps what predicted its validation responses best."""
        learned = [p for p in module.parameters() if p.requires_grad]
        optimiser = torch.optim.Adam(learned, lr=self.learning_rate)
        best = [p.detach().clone() for p in learned]
        least = torch.full((y.shape[1],), torch.inf)
        for step in range(self.steps + 1):
            with torch.no_grad():
                error = self._error(module.respond(flat[valid]), y[valid])
                better = error < least
                least = torch.where(better, error, least)
                for kept, p in zip(best, learned, strict=True):
                    kept[better] = p.detach()[better]
            if step == self.steps:
                break
            optimiser.zero_grad()
            self._error(module.respond(flat[train]), y[train]).sum().backward()
            optimiser.step()
        with torch.no_grad():
            for kept, p in zip(best, learned, strict=True):
                p.copy_(kept)

    def _error(self, predicted: Tensor, y: Tensor) -> Float[Tensor, "unit"]:
        if self.loss == "poisson":
            rate = predicted.clamp_min(1e-6)
            return (rate - y * rate.log()).mean(0)
        return (predicted - y).square().mean(0)

    def _check_settings(self) -> None:
        if self.output not in ("softplus", "exp", "identity") or self.loss not in ("poisson", "gaussian"):
            raise InputError(
                f"output={self.output!r}, loss={self.loss!r}; allowed: softplus, exp, identity; poisson, gaussian"
            )
        if self.n_quadratic < 0 or self.steps < 0 or not self.learning_rate > 0:
            raise InputError(
                f"n_quadratic={self.n_quadratic}, steps={self.steps}, learning_rate={self.learning_rate}: none may be negative"
            )
        if not (0 < self.held_out < 1 and 0 < self.validation < 1 and self.held_out + self.validation < 0.8):
            raise InputError(
                f"held_out={self.held_out}, validation={self.validation}: shares of the stimuli, together below 0.8"
            )


def interval_responses(recording: xr.Dataset, *, variable: str = "activity", delay: float = 0.0) -> xr.DataArray:
    """Mean activity of every unit in every stimulus interval.

    Parameters
    ----------
    recording
        A Dataset with `activity` (or another variable) `(time, unit)`, `stimulus_start` and `stimulus_stop` in seconds.
    delay
        Seconds by which responses lag behind the stimulus.

    Returns
    -------
    xarray.DataArray
        Dims `(stimulus, unit)`; NaN where nothing was recorded in an interval.

    Raises
    ------
    InputError
        A recording without intervals or without that variable.
    """
    missing = [name for name in (variable, "stimulus_start", "stimulus_stop") if name not in recording]
    if missing:
        raise InputError(
            f"the recording has no {', '.join(map(repr, missing))}; it has {', '.join(map(repr, recording.data_vars))}"
        )
    activity = recording[variable].transpose("time", "unit")
    values, time = activity.values.astype(float), activity["time"].values
    real = np.isfinite(values)
    total = np.vstack([np.zeros(values.shape[1]), np.where(real, values, 0).cumsum(0)])
    count = np.vstack([np.zeros(values.shape[1]), real.cumsum(0)])
    first, last = (np.searchsorted(time, recording[k].values + delay) for k in ("stimulus_start", "stimulus_stop"))
    with np.errstate(invalid="ignore"):
        mean = (total[last] - total[first]) / (count[last] - count[first])
    return xr.DataArray(mean, dims=("stimulus", "unit"), coords={"unit": activity["unit"].values})


def _paired(stimuli: Any, responses: Any) -> tuple[Tensor, Tensor, list[Any]]:
    if isinstance(responses, xr.Dataset):
        responses = interval_responses(responses)
    names = None
    if isinstance(responses, xr.DataArray):
        names = list(responses["unit"].values) if "unit" in responses.coords else None
        if {"stimulus", "unit"} <= set(responses.dims):
            responses = responses.transpose(..., "stimulus", "unit")
    y = np.asarray(responses.detach().cpu() if isinstance(responses, Tensor) else responses, dtype=float)
    x = torch.as_tensor(
        np.asarray(stimuli.detach().cpu() if isinstance(stimuli, Tensor) else stimuli), dtype=torch.float32
    )
    if y.ndim == 3:
        count = np.isfinite(y).sum(0)
        with np.errstate(invalid="ignore"):
            y = np.nansum(y, 0) / np.where(count, count, np.nan)
    if y.ndim != 2 or x.dim() < 2 or len(x) != len(y):
        raise InputError(
            f"{len(x)} stimuli of shape {tuple(x.shape[1:])} and responses of shape {y.shape}; give (stimulus, *canvas) and (stimulus, unit), in the same order"
        )
    if len(x) < _LEAST:
        raise InputError(f"{len(x)} stimuli are too few to fit a response model; at least {_LEAST}, better thousands")
    names = list(range(y.shape[1])) if names is None else names
    if not bool(torch.isfinite(x).all()):
        raise InputError("the stimuli hold NaN or infinite values")
    bad = np.isnan(y.sum(0)) | np.isinf(y).any(0)
    if bad.any():
        some = [repr(n) for n, b in zip(names, bad, strict=True) if b]
        raise InputError(
            f"NaN or infinite responses of {len(some)} units ({', '.join(some[:8])}); leave these units or these stimuli out"
        )
    return x, torch.as_tensor(y, dtype=torch.float32), names


def _check_varies(y: Tensor, names: list[Any]) -> None:
    silent = y.std(0) <= 1e-6 * y.abs().amax(0)
    if silent.any():
        some = [repr(n) for n, s in zip(names, silent.tolist(), strict=True) if s]
        raise InputError(f"{len(some)} units ({', '.join(some[:8])}) answer all stimuli alike; leave them out")


def _ridge(flat: Tensor, y: Tensor, train: np.ndarray, valid: np.ndarray) -> Float[Tensor, "unit width"]:
    """Ridge regression with the penalty of each unit that predicts its validation responses best."""
    a, b = flat[train].double(), y[train].double() - y[train].double().mean(0)
    u, s, v = torch.linalg.svd(a, full_matrices=False)
    projected = u.T @ b
    penalties = torch.tensor(_RIDGES, dtype=torch.float64) * s.square().mean()
    shrunk = s / (s.square() + penalties[:, None])
    weights = torch.einsum("wr,pr,rn->pnw", v.T, shrunk, projected)
    error = (
        (torch.einsum("sw,pnw->psn", flat[valid].double(), weights) + y[train].double().mean(0) - y[valid].double())
        .square()
        .mean(1)
    )
    best = error.argmin(0)
    return weights[best, torch.arange(len(best))].float()


def _start(
    module: LinearNonlinear, flat: Tensor, y: Tensor, ridge: Tensor, train: np.ndarray, valid: np.ndarray
) -> None:
    """Linear filters from ridge regression, quadratic ones from the covariance of stimuli weighted by what is left."""
    whitenings = _whitenings(flat[train])
    with torch.no_grad():
        module.linear.copy_(ridge)
        level = y[train].mean(0)
        if module.output == "identity":
            module.offset.copy_(level)
        else:
            module.offset.copy_(
                torch.log(torch.expm1(level.clamp_min(0.05)))
                if module.output == "softplus"
                else level.clamp_min(0.05).log()
            )
        if not module.quadratic.shape[1]:
            return
        residual = y - level - flat @ ridge.T
        for unit in range(y.shape[1]):  # a width x width matrix each: one at a time keeps memory flat
            filters, sign = _quadratic(flat, residual[:, unit], train, valid, module.quadratic.shape[1], whitenings)
            module.quadratic[unit] = filters
            module.sign[unit] = sign


def _whitenings(flat: Tensor) -> list[Float[Tensor, "width width"]]:
    """Matrices that even out the stimuli's spectrum, more and less boldly: natural stimuli have little power in detail."""
    value, vector = torch.linalg.eigh(flat.T.double() @ flat.double() / len(flat))
    return [((vector / (value + share * value.mean()).sqrt()) @ vector.T).float() for share in _WHITENING]


def _quadratic(
    flat: Tensor, residual: Tensor, train: np.ndarray, valid: np.ndarray, n: int, whitenings: list[Tensor]
) -> tuple[Float[Tensor, "quadratic width"], Float[Tensor, "quadratic"]]:
    """Quadratic filters of one unit by spike-triggered covariance, with the whitening whose filters tell most about the
    residual of the validation stimuli; near nothing where none tells anything.
    """
    found = (
        0.0,
        1e-3 * torch.randn(n, flat.shape[1], generator=torch.Generator().manual_seed(0)) / flat.shape[1],
        torch.ones(n),
    )
    for whiten in whitenings:
        white = flat[train] @ whiten
        strength, direction = torch.linalg.eigh((white * residual[train, None]).T @ white / len(train))
        chosen = strength.abs().argsort(descending=True)[:n]
        # Of Gaussian stimuli, the residual's regression on (u.x)^2 is half the eigenvalue.
        filters = (whiten @ direction[:, chosen]).T * (0.5 * strength[chosen].abs()).sqrt()[:, None]
        sign = strength[chosen].sign()
        told = (flat[valid] @ filters.T).square() @ sign
        r = float(torch.corrcoef(torch.stack([told, residual[valid]]))[0, 1])
        # The eigenvalues of noise are large, too: what they predict on other stimuli says how far to believe them.
        believed = max(0.0, r) * float(residual[valid].std() / told.std().clamp_min(1e-12))
        if r > found[0]:
            found = (r, filters * believed**0.5, sign)
    return found[1], found[2]


def _correlation(predicted: Tensor, y: Tensor, names: list[Any]) -> xr.DataArray:
    a, b = predicted.double() - predicted.double().mean(0), y.double() - y.double().mean(0)
    r = (a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt()
    return xr.DataArray(r.numpy(), dims="unit", coords={"unit": names}, name="correlation")
