"""The simple methods that stand beside every map of connectivity: lagged correlation, partial correlation, a Poisson GLM."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

from nissl.errors import InputError

Counts = Float[np.ndarray, "time unit"]
Pairs = Float[np.ndarray, "target source"]


def lagged_correlation(counts: Counts, max_lag: int) -> Pairs:
    """Correlation of `target` now with the mean of `source` over the last `max_lag` bins; NaN for units that never change.

    `nissl.populations.lagged_correlation` on bare arrays.
    """
    from nissl.populations.hmm_glm.baselines import lagged_correlation as correlate

    changing = np.nanstd(counts, axis=0) > 0
    out = np.full((counts.shape[1],) * 2, np.nan)
    if changing.any():
        out[np.ix_(changing, changing)] = correlate(counts[:, changing], lags=max_lag).values
    return out


def partial_correlation(counts: Counts, max_lag: int) -> Pairs:
    """Correlation of `target` now with the spikes of `source` in the last `max_lag` bins, given those of all other units and its own.

    In closed form from one linear regression: t / sqrt(t^2 + degrees of freedom).
    """
    past, now = _past_counts(counts, max_lag), counts[max_lag:]
    rows = np.isfinite(past).all(1) & np.isfinite(now).all(1)
    past, now = past[rows] - past[rows].mean(0), now[rows] - now[rows].mean(0)
    active = (past.std(0) > 0) & (now.std(0) > 0)
    out = np.full((counts.shape[1],) * 2, np.nan)
    p, y = past[:, active], now[:, active]
    degrees = len(p) - p.shape[1] - 1
    if degrees < 1 or p.shape[1] == 0:
        raise InputError(f"{len(p)} bins for {p.shape[1]} active units; partial correlation needs more bins than units")
    inverse = np.linalg.pinv(p.T @ p)
    weights = inverse @ (p.T @ y)  # (source, target)
    residual = (y**2).sum(0) - (weights * (p.T @ y)).sum(0)
    t = weights / np.sqrt(np.outer(np.diag(inverse), residual / degrees))
    out[np.ix_(active, active)] = (t / np.sqrt(t**2 + degrees)).T
    return out


def poisson_glm(counts: Counts, max_lag: int, *, bands: int = 3, ridge: float = 1.0) -> Pairs:
    """Coupling of a Poisson GLM with log link: log rate of `target` gained by one spike of `source`, added up over bands of lags.

    All targets are fitted together. Features are whitened first, so that a quasi-Newton method needs some ten steps whatever
    their correlation. The penalty is `ridge / 2` times the squared weights, the intercept left free.

    Parameters
    ----------
    max_lag, bands
        Bins; the lags 1 to `max_lag` are parted into so many bands, each with one weight a pair.
    """
    weights, _ = fit_poisson_glm(counts, max_lag, bands=bands, ridge=ridge)
    return weights.sum(2)


def fit_poisson_glm(
    counts: Counts, max_lag: int, *, bands: int = 3, ridge: float = 1.0
) -> tuple[Float[np.ndarray, "target source band"], Float[np.ndarray, "target"]]:
    """Weights and intercepts of `poisson_glm`; NaN for targets that never fire, zero for sources that never do."""
    if ridge <= 0:
        raise InputError(
            f"ridge={ridge}; give a positive penalty, without one the weights of rare units run off to infinity"
        )
    banded, now = _banded(counts, max_lag, bands), counts[max_lag:]
    n_units = counts.shape[1]
    x = banded.reshape(len(now), -1)
    rows = np.isfinite(x).all(1) & np.isfinite(now).all(1)
    x, y = x[rows], now[rows]
    mean, rate = x.mean(0), y.mean(0)
    fires = rate > 0
    x, y, rate = x - mean, y[:, fires], rate[fires]
    # In whitened coordinates, and with each target's weights in units of 1 / sqrt(rate), curvature is near one everywhere.
    white = cholesky(x.T @ x + ridge / rate.mean() * np.eye(x.shape[1]), lower=True)
    z = solve_triangular(white, x.T, lower=True).T
    gram = solve_triangular(white, np.eye(len(white)), lower=True)
    penalty = ridge * gram @ gram.T
    scale = np.sqrt(rate)
    k, n = z.shape[1], len(rate)

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = flat[: k * n].reshape(k, n) / scale, np.log(rate) + flat[k * n :] / (scale * np.sqrt(len(y)))
        eta = z @ w + b
        mu = np.exp(np.minimum(eta, 30))
        loss = mu.sum() - (y * eta).sum() + 0.5 * (w * (penalty @ w)).sum()
        error = mu - y
        slope = (z.T @ error + penalty @ w) / scale
        return loss, np.concatenate([slope.ravel(), error.sum(0) / (scale * np.sqrt(len(y)))])

    found = minimize(
        value_and_slope,
        np.zeros(k * n + n),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 200, "ftol": 1e-12, "gtol": 1e-4},
    ).x
    w = solve_triangular(white.T, found[: k * n].reshape(k, n) / scale, lower=False)
    weights, intercept = np.full((n_units, n_units, bands), np.nan), np.full(n_units, np.nan)
    weights[fires] = w.T.reshape(n, n_units, bands)
    intercept[fires] = np.log(rate) + found[k * n :] / (scale * np.sqrt(len(y))) - mean @ w
    return weights, intercept


def _lags(counts: Counts, max_lag: int) -> range:
    if not 1 <= max_lag < len(counts) / 2:
        raise InputError(
            f"lags up to {max_lag} bins in a recording of {len(counts)} bins; give at least one, and a recording of more than twice the longest"
        )
    return range(1, max_lag + 1)


def _past_counts(counts: Counts, max_lag: int) -> Float[np.ndarray, "time unit"]:
    """Spikes in the last `max_lag` bins, the present one not counted."""
    _lags(counts, max_lag)
    return sum(counts[max_lag - lag : len(counts) - lag] for lag in range(1, max_lag + 1))  # type: ignore[return-value]


def _banded(counts: Counts, max_lag: int, bands: int) -> Float[np.ndarray, "time unit band"]:
    if not 1 <= bands <= max_lag:
        raise InputError(f"{bands} bands for {max_lag} lags; give from one band to as many as there are lags")
    groups = np.array_split(np.array(_lags(counts, max_lag)), bands)
    return np.stack([sum(counts[max_lag - lag : len(counts) - lag] for lag in group) for group in groups], -1)  # type: ignore[arg-type]
