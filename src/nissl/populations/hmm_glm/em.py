"""Expectation-maximisation over all restarts at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from tqdm import tqdm

from nissl.populations import chains
from nissl.populations.hmm_glm.design import Design
from nissl.populations.hmm_glm.kernel import kernel_step
from nissl.populations.hmm_glm.layout import Layout
from nissl.populations.hmm_glm.m_step import fisher_step, pass_over, residual_variance


@dataclass(frozen=True)
class Parameters:
    """Of every restart.

    theta (restart, state, unit, column), variance (restart, state, unit) of Gaussian observations, log_transition
    (restart, state, state), kernel (restart, lag) where it is learned.
    """

    theta: Tensor
    log_transition: Tensor
    variance: Tensor | None = None
    kernel: Tensor | None = None

    def pick(self, which: Tensor | list[int]) -> Parameters:
        """Some of the restarts."""

        def some(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[which]

        return Parameters(self.theta[which], self.log_transition[which], some(self.variance), some(self.kernel))


@dataclass(frozen=True)
class Expected:
    """The E-step: log marginal (restart,), gamma (restart, state, row), expected steps (restart, state, state)."""

    log_marginal: Tensor
    gamma: Tensor
    transitions: Tensor


def e_step(design: Design, by_row: Tensor, log_transition: Tensor) -> Expected:
    """Forward-backward over all trials of all restarts; by_row (restart, state, row) from the emissions."""
    table = design.table(by_row)
    lengths = design.lengths.expand(len(table), -1)
    found = chains.forward_backward(table, log_transition[:, None], lengths=lengths)
    return Expected(found.log_marginal.sum(1), design.rows(found.probability), found.transitions.sum(1))


def updated_transition(expected: Tensor, pseudocount: float) -> Tensor:
    """Log of the expected steps' shares; `pseudocount` keeps steps that were never taken possible."""
    counts = expected + pseudocount
    return (counts / counts.sum(-1, keepdim=True).clamp(min=1e-300)).clamp(min=1e-300).log()


def transition_log_prior(log_transition: Tensor, pseudocount: float) -> Tensor:
    """(restart,): what the pseudocounts are worth, without their constant."""
    return pseudocount * log_transition.sum((1, 2)) if pseudocount else log_transition.new_zeros(len(log_transition))


def run_em(
    design: Design,
    start: Parameters,
    layout: Layout,
    *,
    gamma: Tensor | None = None,
    pseudocount: float = 1e-3,
    max_iter: int = 100,
    tol: float = 1e-5,
    m_steps: int = 1,
    progress: bool | None = None,
) -> tuple[Parameters, Tensor, list[Tensor]]:
    """From `start` (or from states' probabilities `gamma`, where given) to a maximum of the log posterior.

    Where the parameters hold kernels over the past, these are learned too.

    Returns
    -------
    parameters, log_marginal, history
        log_marginal (restart,) at the parameters; history of (restart,) log posteriors, one an iteration, never falling.
    """
    now = start
    if gamma is not None:
        for _ in range(3):
            theta, by_row, _ = fisher_step(design, now.theta, layout, gamma, now.variance)
            now = _with_variance(replace(now, theta=theta), design, gamma)
    by_row = pass_over(design, now.theta, layout, variance=now.variance).by_row
    history: list[Tensor] = []
    with tqdm(total=max_iter, desc="EM", unit="iteration", disable=True if progress is False else None) as bar:
        for _ in range(max_iter):
            expected = e_step(design, by_row, now.log_transition)
            prior = layout.log_prior(now.theta).sum(1) + transition_log_prior(now.log_transition, pseudocount)
            history.append(expected.log_marginal + prior)
            if len(history) > 1 and bool((history[-1] - history[-2] < tol * history[-2].abs()).all()):
                break
            for _ in range(m_steps):
                theta, by_row, gain = fisher_step(design, now.theta, layout, expected.gamma, now.variance)
                now = replace(now, theta=theta)
                if bool((gain < 1e-9).all()):
                    break
            if now.kernel is not None:
                kernel, design = kernel_step(design, now.theta, now.kernel, layout, expected.gamma, now.variance)
                now = replace(now, kernel=kernel)
                by_row = pass_over(design, now.theta, layout, variance=now.variance).by_row
            if now.variance is not None:
                now = _with_variance(now, design, expected.gamma)
                by_row = pass_over(design, now.theta, layout, variance=now.variance).by_row
            now = replace(now, log_transition=updated_transition(expected.transitions, pseudocount))
            bar.update()
    final = e_step(design, by_row, now.log_transition)
    return now, final.log_marginal, history


def _with_variance(now: Parameters, design: Design, gamma: Tensor) -> Parameters:
    return now if now.variance is None else replace(now, variance=residual_variance(design, now.theta, gamma))
