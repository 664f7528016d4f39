"""A kernel over the past that is learned: positive, sums to one, shared by all pairs and states."""

from __future__ import annotations

import torch
from torch import Tensor

from nissl.populations.hmm_glm.design import Design
from nissl.populations.hmm_glm.emissions import terms
from nissl.populations.hmm_glm.layout import Layout
from nissl.populations.hmm_glm.m_step import pass_over

_HALVINGS = 8


def kernel_step(
    design: Design, theta: Tensor, kernel: Tensor, layout: Layout, gamma: Tensor, variance: Tensor | None
) -> tuple[Tensor, Design]:
    """One scoring step on the kernels (restart, lag), softmax of free numbers, with the weights held; never down.

    Returns the kernels and the design filtered by them.
    """
    units = design.counts.shape[0]
    slope, curvature, start = _slope(design, theta, layout, gamma, variance, units, kernel.shape[1])
    jacobian = torch.diag_embed(kernel) - kernel[:, :, None] * kernel[:, None, :]
    up = (jacobian @ slope[..., None])[..., 0]
    bent = jacobian @ curvature @ jacobian
    scale = bent.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] + 1e-9
    step = torch.linalg.solve(
        bent + 1e-3 * scale * torch.eye(kernel.shape[1], dtype=kernel.dtype, device=kernel.device), up
    )
    step = step.clamp(-2, 2)
    share = torch.ones_like(start)
    logs = kernel.clamp(min=1e-12).log()
    for _ in range(_HALVINGS):
        new = torch.softmax(logs + share[:, None] * step, -1)
        filtered = design.with_kernel(new, units)
        value = pass_over(filtered, theta, layout, gamma=gamma, variance=variance).value
        assert value is not None
        worse = ~(value.sum(1) >= start)
        if not bool(worse.any()):
            return new, filtered
        share = torch.where(worse, share / 2, share)
    new = torch.where(worse[:, None], kernel, new)
    return new, design.with_kernel(new, units)


def _slope(
    design: Design, theta: Tensor, layout: Layout, gamma: Tensor, variance: Tensor | None, units: int, lags: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient (restart, lag), curvature (restart, lag, lag) and value (restart,) of the expected log likelihood."""
    assert design.past is not None
    restarts = len(theta)
    weights = theta[..., 1 : 1 + units]
    gradient, value = theta.new_zeros(restarts, lags), theta.new_zeros(restarts)
    curvature = theta.new_zeros(restarts, lags, lags)
    spread = None if variance is None else variance[..., None]
    for rows in design.chunks(theta[..., 0].numel() * lags):
        z = design.predictor(theta, rows)
        part = terms(design.counts[:, rows], z, layout.observations, layout.link, spread)
        assert part.slope is not None
        assert part.curvature is not None
        weight = gamma[:, :, None, rows].expand_as(z)
        if design.known is not None:
            weight = weight * design.known[:, rows]
        effect = torch.einsum("rsij,kmj->rksim", weights, design.past[:, rows]).reshape(restarts, lags, -1)
        gradient += (effect @ (weight * part.slope).reshape(restarts, -1, 1))[..., 0]
        curvature += (effect * (weight * part.curvature).reshape(restarts, 1, -1)) @ effect.transpose(1, 2)
        value += (weight * part.value).sum((1, 2, 3))
    return gradient, curvature, value
