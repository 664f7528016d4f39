"""The M-step: every target's weights in all states at once, by Fisher scoring on the expected log likelihood.

Given the states' probabilities the targets are separate problems, concave for the exponential and softplus links (Paninski 2004).
A Gaussian prior around the mean over states is a quadratic form over a target's weights in all states, so it is solved exactly with
them rather than in turns. Steps are halved where they do not climb, so that the objective never falls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nissl.populations.hmm_glm.design import Design
from nissl.populations.hmm_glm.emissions import slope, terms
from nissl.populations.hmm_glm.layout import Layout

_HALVINGS = 12
# Up to so many free numbers a target the scoring step is solved directly; above, by conjugate gradients that never form a curvature matrix.
_SOLVE_UP_TO = 300
_CONJUGATE_STEPS = 25
_VARIANCE_FLOOR = 1e-6


@dataclass(frozen=True)
class Pass:
    """One pass over the data: log likelihood by row (restart, state, row), and, weighted by gamma, its sum (restart, unit),
    gradient (restart, state, unit, column) and curvature (restart, state, unit, column, column), where asked for.
    """

    by_row: Tensor
    value: Tensor | None
    gradient: Tensor | None
    curvature: Tensor | None


def pass_over(
    design: Design,
    theta: Tensor,
    layout: Layout,
    *,
    gamma: Tensor | None = None,
    variance: Tensor | None = None,
    order: int = 0,
) -> Pass:
    """Everything of the likelihood at `theta`; gamma (restart, state, row); order 1 adds the gradient, 2 the curvature."""
    restarts, states, units, width = theta.shape
    by_row = theta.new_empty(restarts, states, design.n_rows)
    value = theta.new_zeros(restarts, units) if gamma is not None else None
    gradient = theta.new_zeros(theta.shape) if order else None
    curvature = theta.new_zeros(*theta.shape, width) if order > 1 else None
    spread = None if variance is None else variance[..., None]
    for rows in design.chunks(restarts * states * units):
        z = design.predictor(theta, rows)
        part = terms(design.counts[:, rows], z, layout.observations, layout.link, spread, order=order)
        log_like = part.value if design.known is None else part.value * design.known[:, rows]
        by_row[..., rows] = log_like.sum(2)
        if gamma is None or value is None:
            continue
        weight = gamma[:, :, None, rows]
        if design.known is not None:
            weight = weight * design.known[:, rows]
        value += torch.einsum("rsnm,rsm->rn", log_like, gamma[..., rows])
        if part.slope is not None and gradient is not None:
            gradient += _against_columns(design, weight * part.slope, rows)
        if part.curvature is not None and curvature is not None:
            _add_curvature(design, weight * part.curvature, rows, curvature)
    return Pass(by_row, value, gradient, curvature)


def gradient(design: Design, theta: Tensor, layout: Layout, gamma: Tensor, variance: Tensor | None = None) -> Tensor:
    """(restart, state, unit, column): the gradient of the expected log likelihood, and nothing else."""
    out = torch.zeros_like(theta)
    spread = None if variance is None else variance[..., None]
    for rows in design.chunks(theta[..., 0].numel()):
        z = design.predictor(theta, rows)
        weight = slope(design.counts[:, rows], z, layout.observations, layout.link, spread) * gamma[:, :, None, rows]
        if design.known is not None:
            weight = weight * design.known[:, rows]
        out += _against_columns(design, weight, rows)
    return out


def _against_columns(design: Design, w: Tensor, rows: slice) -> Tensor:
    """Sum over rows of w (restart, state, unit, row) times each column."""
    restarts, states, units, m = w.shape
    columns = design.columns[:, rows]
    if len(columns) == 1:
        out = (w.reshape(-1, m) @ columns[0]).reshape(restarts, states, units, -1)
    else:
        out = (w.reshape(restarts, -1, m) @ columns).reshape(restarts, states, units, -1)
    if design.own is None:
        return out
    return torch.cat([out, torch.einsum("rsnm,nmk->rsnk", w, design.own[:, rows])], -1)


def _add_curvature(design: Design, w: Tensor, rows: slice, out: Tensor) -> None:
    """Adds to `out` the sum over rows of w times the outer product of the columns."""
    restarts, states, units, m = w.shape
    # One matrix product for all restarts, states and targets: weights against products of pairs of columns.
    pairs = design.pairs(rows)
    flat = w.reshape(-1, m) @ pairs[0] if len(pairs) == 1 else w.reshape(restarts, -1, m) @ pairs
    flat = flat.reshape(restarts, states, units, -1)
    first, second = design.upper
    columns = design.columns[:, rows]
    shared = columns.shape[-1]
    whole = flat.new_empty(restarts, states, units, shared, shared)
    whole[..., first, second] = flat
    whole[..., second, first] = flat
    out[..., :shared, :shared] += whole
    if design.own is not None:
        weighted = w[..., None] * design.own[:, rows]
        cross = weighted.transpose(-1, -2) @ columns[:, None, None]
        out[..., shared:, :shared] += cross
        out[..., :shared, shared:] += cross.transpose(-1, -2)
        out[..., shared:, shared:] += weighted.transpose(-1, -2) @ design.own[:, rows]


def fisher_step(
    design: Design, theta: Tensor, layout: Layout, gamma: Tensor, variance: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """One step up the expected log posterior; the objective of no target falls.

    Returns
    -------
    theta, by_row, gain
        The new parameters, the log likelihood of each row under them, and by how much each target climbed (restart, unit).
    """
    direct = layout.precision.shape[0] <= _SOLVE_UP_TO
    now = pass_over(design, theta, layout, gamma=gamma, variance=variance, order=2 if direct else 1)
    assert now.value is not None
    start = now.value + layout.log_prior(theta)
    up = _slope(now, theta, layout)
    if direct:
        step = layout.spread(_direction(now, up, layout))
    else:
        step = layout.spread(_conjugate_direction(design, theta, up, layout, gamma, variance))
    return climb(design, theta, step, start, now.by_row, layout, gamma, variance)


def climb(
    design: Design,
    theta: Tensor,
    step: Tensor,
    start: Tensor,
    start_rows: Tensor,
    layout: Layout,
    gamma: Tensor,
    variance: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Along `step`, halved for the targets that would fall."""
    share = torch.ones_like(start)
    for _ in range(_HALVINGS):
        new = theta + share[:, None, :, None] * step
        there = pass_over(design, new, layout, gamma=gamma, variance=variance)
        assert there.value is not None
        gain = there.value + layout.log_prior(new) - start
        worse = ~(gain >= 0)  # NaN is worse
        if not bool(worse.any()):
            return new, there.by_row, gain
        share = torch.where(worse, share / 2, share)
    # What still falls stays where it is.
    share = torch.where(worse, 0.0, share)
    new = theta + share[:, None, :, None] * torch.where(share[:, None, :, None] > 0, step, 0.0)
    return new, pass_over(design, new, layout, variance=variance).by_row, torch.where(worse, 0.0, gain)


def _slope(now: Pass, theta: Tensor, layout: Layout) -> Tensor:
    """(restart, unit, free): the gradient of the expected log posterior."""
    assert now.gradient is not None
    up = torch.einsum("rsnd,sdv->rnv", now.gradient, layout.select) - layout.free(theta) @ layout.precision
    return torch.where(layout.fixed, 0.0, up)


def _direction(now: Pass, up: Tensor, layout: Layout) -> Tensor:
    """(restart, unit, free): the scoring step, from the curvature of likelihood and prior."""
    assert now.curvature is not None
    half = torch.einsum("rsnde,sev->rsndv", now.curvature, layout.select)
    curvature = torch.einsum("sdv,rsndw->rnvw", layout.select, half) + layout.precision
    apart = layout.fixed[:, :, None] | layout.fixed[:, None, :]
    curvature = torch.where(apart, 0.0, curvature)
    # A touch of the mean curvature keeps states without data, and columns that say the same, solvable; it changes no optimum.
    diagonal = curvature.diagonal(dim1=-2, dim2=-1)
    curvature = curvature + torch.diag_embed(1e-6 + 1e-8 * diagonal.mean(-1, keepdim=True) + layout.fixed.to(up.dtype))
    factor, failed = torch.linalg.cholesky_ex(curvature)
    if bool(failed.any()):
        return torch.linalg.lstsq(curvature, up[..., None]).solution[..., 0]
    return torch.cholesky_solve(up[..., None], factor)[..., 0]


def _conjugate_direction(
    design: Design, theta: Tensor, up: Tensor, layout: Layout, gamma: Tensor, variance: Tensor | None
) -> Tensor:
    """The same step for many units, by conjugate gradients: each of their steps costs two passes over the data, for all targets at once."""
    spread = None if variance is None else variance[..., None]
    bent: list[tuple[slice, Tensor]] = []
    for rows in design.chunks(theta[..., 0].numel()):
        part = terms(design.counts[:, rows], design.predictor(theta, rows), layout.observations, layout.link, spread)
        assert part.curvature is not None
        weight = part.curvature * gamma[:, :, None, rows]
        bent.append((rows, weight if design.known is None else weight * design.known[:, rows]))

    def times(v: Tensor) -> Tensor:
        there = layout.spread(v)
        out = torch.zeros_like(theta)
        for rows, weight in bent:
            out += _against_columns(design, weight * design.predictor(there, rows), rows)
        product = torch.einsum("rsnd,sdv->rnv", out, layout.select) + v @ layout.precision + 1e-6 * v
        return torch.where(layout.fixed, 0.0, product)

    squared = replace(design, columns=design.columns**2, own=None if design.own is None else design.own**2)
    diagonal = torch.zeros_like(theta)
    for rows, weight in bent:
        diagonal += _against_columns(squared, weight, rows)
    scale = torch.einsum("rsnd,sdv->rnv", diagonal, layout.select) + layout.precision.diagonal() + 1e-6
    step, left = torch.zeros_like(up), up
    toward = scaled = left / scale
    size = (left * scaled).sum(-1, keepdim=True)
    goal = 1e-4 * size
    for _ in range(_CONJUGATE_STEPS):
        ahead = times(toward)
        length = size / (toward * ahead).sum(-1, keepdim=True).clamp(min=1e-300)
        step, left = step + length * toward, left - length * ahead
        scaled = left / scale
        before, size = size, (left * scaled).sum(-1, keepdim=True)
        if bool((size <= goal).all()):
            break
        toward = scaled + size / before.clamp(min=1e-300) * toward
    return step


def residual_variance(design: Design, theta: Tensor, gamma: Tensor) -> Tensor:
    """(restart, state, unit): the weighted mean of squared residuals, for Gaussian observations."""
    total, weight = theta.new_zeros(theta.shape[:3]), theta.new_zeros(theta.shape[:3])
    for rows in design.chunks(theta[..., 0].numel()):
        w = gamma[:, :, None, rows].expand(-1, -1, theta.shape[2], -1)
        if design.known is not None:
            w = w * design.known[:, rows]
        off = design.counts[:, rows] - design.predictor(theta, rows)
        total += (w * off * off).sum(-1)
        weight += w.sum(-1)
    return (total / weight.clamp(min=1e-12)).clamp(min=_VARIANCE_FLOOR)
