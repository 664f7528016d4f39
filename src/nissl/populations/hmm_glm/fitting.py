"""From a design to fitted parameters: starts, EM, and the one-hot fit from where EM ended."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nissl.populations.hmm_glm.design import Design
from nissl.populations.hmm_glm.em import Parameters, e_step, run_em
from nissl.populations.hmm_glm.emissions import inverse_link
from nissl.populations.hmm_glm.layout import Layout, build_layout
from nissl.populations.hmm_glm.m_step import pass_over
from nissl.populations.hmm_glm.one_hot import OneHot, cold_start, warm_start
from nissl.populations.hmm_glm.one_hot_em import Schedule, run_one_hot

# Bins a state is thought to last before anything is known, and so the length of the segments that starts are made of.
_DWELL = 50


@dataclass(frozen=True)
class Settings:
    """The checked settings of an `HMMGLM`."""

    prior: str | None
    observations: str
    link: str
    kernel: np.ndarray
    learned: bool
    coupling: bool
    self_coupling: str
    shared_bias: bool
    prior_sd: float
    kind_prior: str
    temperature: float
    prior_weight: float
    scratch: bool
    ridge: float
    pseudocount: float
    n_restarts: int
    max_iter: int
    tol: float
    rounds: int
    steps: int
    learning_rate: float
    device: torch.device
    seed: int
    progress: bool | None

    def layout(self, n_states: int, n_units: int, n_covariates: int, *, prior: str | None = "own") -> Layout:
        """The free numbers for so many states, under this model's prior or another."""
        prior = self.prior if prior == "own" else prior
        return build_layout(
            n_states=n_states,
            n_units=n_units,
            n_covariates=n_covariates,
            n_own=len(self.kernel) if self.self_coupling.startswith("free") else 0,
            coupling=self.coupling,
            diagonal=self.self_coupling == "as-others",
            shared_bias=self.shared_bias,
            shared_own=self.self_coupling == "free-shared",
            prior_sd=self.prior_sd if prior == "gaussian" else None,
            ridge=self.ridge,
            observations=self.observations,
            link=self.link,
            device=self.device,
        )


@dataclass(frozen=True)
class Fitted:
    """The restart that was kept (an axis of one), its states' probabilities, and how all restarts did."""

    parameters: Parameters
    one_hot: OneHot | None
    gamma: Tensor
    history: np.ndarray
    by_restart: np.ndarray
    kept: int


def fit_model(design: Design, settings: Settings, n_states: int, n_units: int, n_covariates: int) -> Fitted:
    """All restarts side by side, the best kept; under a one-hot prior the Gaussian fit first."""
    restarts = settings.n_restarts if n_states > 1 else 1
    start = starting_parameters(design, settings, n_states, n_units, restarts)
    if settings.learned:
        kernel = torch.as_tensor(settings.kernel, dtype=start.theta.dtype, device=start.theta.device)
        kernel = kernel.expand(restarts, -1).clone()
        start, design = replace(start, kernel=kernel), design.with_kernel(kernel, n_units)
    if settings.prior == "one-hot" and settings.scratch:
        generator = torch.Generator().manual_seed(settings.seed)
        kinds = cold_start((restarts, n_states, n_units, n_units), generator)
        return _fit_one_hot(design, settings, start, kinds, n_units, n_covariates)
    layout = settings.layout(
        n_states, n_units, n_covariates, prior="gaussian" if settings.prior == "one-hot" else settings.prior
    )
    found, log_marginal, history = run_em(
        design,
        start,
        layout,
        gamma=segmentations(design, n_states, restarts, np.random.default_rng(settings.seed)),
        pseudocount=settings.pseudocount,
        max_iter=settings.max_iter,
        tol=settings.tol,
        progress=settings.progress,
    )
    kept = int(history[-1].argmax())
    best = found.pick([kept])
    if best.kernel is not None:
        design = design.with_kernel(best.kernel, n_units)
    gaussian = Fitted(
        best,
        None,
        _responsibilities(design, best, layout),
        torch.stack(history)[:, kept].cpu().numpy(),
        log_marginal.cpu().numpy(),
        kept,
    )
    if settings.prior != "one-hot":
        return gaussian
    fitted = _fit_one_hot(design, settings, best, warm_start(best.theta[..., 1 : 1 + n_units]), n_units, n_covariates)
    return replace(gaussian, parameters=fitted.parameters, one_hot=fitted.one_hot, gamma=fitted.gamma)


def _fit_one_hot(
    design: Design, settings: Settings, start: Parameters, kinds: OneHot, n_units: int, n_covariates: int
) -> Fitted:
    layout = settings.layout(start.theta.shape[1], n_units, n_covariates, prior=None)
    schedule = Schedule(
        settings.rounds,
        settings.steps,
        settings.learning_rate,
        settings.temperature,
        settings.kind_prior,
        settings.prior_weight,
        settings.tol,
        settings.pseudocount,
    )
    found, kinds, marginal, rounds = run_one_hot(
        design, start, kinds, layout, schedule, units=n_units, seed=settings.seed, progress=settings.progress
    )
    kept = int(marginal.argmax())
    best = found.pick([kept])
    if best.kernel is not None and len(design.columns) > 1:
        design = design.with_kernel(best.kernel, n_units)
    kinds = OneHot(kinds.logits[[kept]], kinds.raw[[kept]], kinds.prior[[kept]])
    history = torch.stack(rounds)[:, kept].cpu().numpy()
    return Fitted(best, kinds, _responsibilities(design, best, layout), history, marginal.cpu().numpy(), kept)


def starting_parameters(design: Design, settings: Settings, n_states: int, n_units: int, restarts: int) -> Parameters:
    """Weights of zero, biases at each unit's mean, a chain that mostly stays (0.98)."""
    weight = design.known.sum(1) if design.known is not None else design.n_rows
    mean = design.counts.sum(1) / weight
    width = design.columns.shape[-1] + (0 if design.own is None else design.own.shape[-1])
    theta = mean.new_zeros(restarts, n_states, n_units, width)
    theta[..., 0] = inverse_link(mean, settings.link)
    transition = torch.full((n_states, n_states), 0.02 / max(n_states - 1, 1), dtype=theta.dtype, device=theta.device)
    transition.fill_diagonal_(0.98 if n_states > 1 else 1.0)
    variance = None
    if settings.observations == "gaussian":
        known = design.known if design.known is not None else torch.ones_like(design.counts, dtype=torch.bool)
        spread = (torch.where(known, design.counts - mean[:, None], 0.0) ** 2).sum(1) / weight
        variance = spread.expand(restarts, n_states, -1).clone()
    return Parameters(theta, transition.log().expand(restarts, -1, -1).clone(), variance)


def segmentations(design: Design, n_states: int, restarts: int, rng: np.random.Generator) -> Tensor:
    """Probabilities of states (restart, state, row) to begin with, in segments of a plausible dwell time.

    By turns segments get a random state, for states that differ in coupling only, and the cluster of their mean counts, for states that
    differ in rates.
    """
    segment = np.arange(design.n_rows) // _DWELL
    n = int(segment[-1]) + 1
    counts = torch.zeros(n, design.counts.shape[0], dtype=design.counts.dtype)
    counts.index_add_(0, torch.as_tensor(segment), design.counts.T.cpu())
    means = (counts / torch.as_tensor(np.bincount(segment))[:, None]).numpy()
    labels = np.empty((restarts, n), dtype=int)
    for restart in range(restarts):
        labels[restart] = rng.permutation(np.arange(n) % n_states)
        if restart % 2 and n > n_states:
            from sklearn.cluster import KMeans

            labels[restart] = KMeans(
                n_states,
                n_init=1,  # type: ignore[arg-type]
                random_state=int(rng.integers(2**31)),
            ).fit_predict(np.sqrt(means.clip(min=0)) if (means >= 0).all() else means)
    soft = 0.8 * np.eye(n_states)[labels[:, segment]] + 0.2 / n_states
    return torch.as_tensor(soft, device=design.counts.device).transpose(1, 2).contiguous()


def _responsibilities(design: Design, parameters: Parameters, layout: Layout) -> Tensor:
    by_row = pass_over(design, parameters.theta, layout, variance=parameters.variance).by_row
    return e_step(design, by_row, parameters.log_transition).gamma
