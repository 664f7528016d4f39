"""EM under the one-hot prior: a few gradient steps on sampled kinds between E-steps, and the most probable kinds at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from nissl.populations.hmm_glm.design import Design
from nissl.populations.hmm_glm.em import Parameters, e_step, updated_transition
from nissl.populations.hmm_glm.layout import Layout
from nissl.populations.hmm_glm.m_step import gradient, pass_over, residual_variance
from nissl.populations.hmm_glm.one_hot import OneHot


@dataclass(frozen=True)
class Schedule:
    """How long, how fast and how hot: rounds of one E-step and `steps` Adam steps at `learning_rate`; see `HMMGLM`."""

    rounds: int
    steps: int
    learning_rate: float
    temperature: float
    form: str
    weight: float
    tol: float
    pseudocount: float


def run_one_hot(
    design: Design,
    start: Parameters,
    kinds: OneHot,
    layout: Layout,
    schedule: Schedule,
    *,
    units: int,
    seed: int,
    progress: bool | None = None,
) -> tuple[Parameters, OneHot, Tensor, list[Tensor]]:
    """From a start to weights with hard kinds.

    The last rounds, a fifth of all, move strengths and biases alone under the hard kinds: soft kinds leave strengths too small.

    Returns
    -------
    parameters, kinds, log_marginal, history
        log_marginal (restart,) under the hard kinds, and its values before, one a round, under the kinds of that round.
    """
    generator = torch.Generator().manual_seed(seed)
    columns = slice(1, 1 + units)
    free = layout.free(start.theta).clone()
    pairs = ~layout.fixed_columns()[:, columns]  # (target, source): no prior where there is no connection
    leaves = [x.detach().clone().requires_grad_() for x in (kinds.logits, kinds.raw, kinds.prior, free)]
    kinds, free = OneHot(*leaves[:3]), leaves[3]
    optimiser = torch.optim.Adam(leaves, lr=schedule.learning_rate)
    now, history = start, []
    settle = schedule.rounds - schedule.rounds // 5
    with tqdm(total=schedule.rounds, desc="one-hot", unit="round", disable=True if progress is False else None) as bar:
        for round_ in range(schedule.rounds):
            hard = round_ >= settle
            point = kinds.hard if hard else kinds.soft
            with torch.no_grad():
                now = replace(now, theta=_theta(layout, free, kinds.weights(point()) * pairs, columns))
            expected = e_step(
                design, pass_over(design, now.theta, layout, variance=now.variance).by_row, now.log_transition
            )
            history.append(expected.log_marginal)
            now = replace(now, log_transition=updated_transition(expected.transitions, schedule.pseudocount))
            if now.variance is not None:
                now = replace(now, variance=residual_variance(design, now.theta, expected.gamma))
            for _ in range(schedule.steps):
                drawn = kinds.hard() if hard else kinds.sample(schedule.temperature, generator)
                weights = kinds.weights(drawn) * pairs
                theta = _theta(layout, free.detach(), weights.detach(), columns)
                slope = gradient(design, theta, layout, expected.gamma, now.variance)
                optimiser.zero_grad()
                # The data's slope in the weights is known in closed form; only the map from kinds and strengths is differentiated.
                objective = (weights * slope[..., columns]).sum()
                if not hard:
                    prior = kinds.log_prior(schedule.form, schedule.temperature) * pairs
                    objective = objective + schedule.weight * prior.sum()
                (-objective).backward()
                up = torch.einsum("rsnd,sdv->rnv", slope, layout.select) - free.detach() @ layout.precision
                free.grad = -torch.where(layout.of_columns(columns), 0.0, up)
                optimiser.step()
            bar.update()
            if (
                not hard
                and len(history) > 1
                and bool((history[-1] - history[-2]).abs().max() < schedule.tol * history[-1].abs().max())
            ):
                settle = min(settle, round_ + 1)
            if round_ >= settle + schedule.rounds // 5:
                break
    with torch.no_grad():
        kinds = OneHot(*(x.detach() for x in leaves[:3]))
        now = replace(now, theta=_theta(layout, free.detach(), kinds.weights(kinds.hard()) * pairs, columns))
        final = e_step(design, pass_over(design, now.theta, layout, variance=now.variance).by_row, now.log_transition)
    return now, kinds, final.log_marginal, history


def _theta(layout: Layout, free: Tensor, weights: Tensor, columns: slice) -> Tensor:
    theta = layout.spread(free)
    theta[..., columns] = weights
    return theta
