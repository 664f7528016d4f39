"""HMM-GLM: an E-step and a whole EM iteration against plain numpy in the style of ssm, and against dynamax and nemos where they are installed."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp
from timing import in_turn, table

from nissl.populations import HMMGLM, chains
from nissl.populations.hmm_glm.em import e_step, updated_transition
from nissl.populations.hmm_glm.fitting import starting_parameters
from nissl.populations.hmm_glm.inputs import read_counts
from nissl.populations.hmm_glm.m_step import fisher_step, pass_over
from nissl.recordings.simulate import simulate_switching_glm

UNITS, STATES, TRIALS, BINS = 20, 4, 10, 1000


def main() -> str:
    torch.manual_seed(0)
    data = simulate_switching_glm(n_units=UNITS, n_states=STATES, n_trials=TRIALS, n_bins=BINS, bias=(-1.0, -0.5))
    model = HMMGLM(n_states=STATES, prior=None, link="exp", progress=False)
    settings, counts = model._settings(), read_counts(data, "poisson")
    model._fill = np.nanmean(counts.values, axis=(0, 1))
    design = model._design(counts, None, settings.kernel)
    layout = settings.layout(STATES, UNITS, 0)
    start = starting_parameters(design, settings, STATES, UNITS, 1)
    theta = start.theta.clone()
    theta[..., 1:] = 0.3 * torch.randn(
        1, STATES, UNITS, UNITS, dtype=theta.dtype, generator=torch.Generator().manual_seed(0)
    )
    theta = layout.spread(torch.where(layout.fixed, 0.0, layout.free(theta)))
    transition = start.log_transition
    by_row = pass_over(design, theta, layout).by_row
    log_like = design.table(by_row)[0].numpy()
    log_p = transition[0].numpy()

    def ours_e() -> object:
        return chains.forward_backward(log_like, log_p)

    def ours_em() -> object:
        expected = e_step(design, by_row, transition)
        updated_transition(expected.transitions, 1e-3)
        return fisher_step(design, theta, layout, expected.gamma, None)

    x = design.columns[0].numpy()
    y = design.counts.numpy()

    def numpy_e() -> tuple[np.ndarray, np.ndarray]:
        found = [plain_forward_backward(trial, log_p) for trial in log_like]
        return np.concatenate([f[0] for f in found]), sum(f[1] for f in found)

    def numpy_em() -> object:
        gamma, _ = numpy_e()
        return [plain_m_step(x, y, gamma[:, s], theta[0, s].numpy()) for s in range(STATES)]

    gamma = numpy_e()[0]
    mine = ours_e().probability.reshape(-1, STATES)  # type: ignore[attr-defined]
    assert np.abs(gamma - mine).max() < 1e-8
    jobs = {"numpy, a loop over time (ssm's way)": numpy_e, "nissl": ours_e, **peers(log_like, log_p, gamma)}
    size = f"{UNITS} units, {STATES} states, {TRIALS} trials of {BINS} bins"
    text = table(
        "HMM-GLM: E-step",
        in_turn(jobs, rounds=7),
        "nissl",
        f"{size}; all give the same probabilities to 1e-5 or better.",
    )
    jobs = {"numpy and L-BFGS (ssm's way)": numpy_em, "nissl": ours_em}
    note = f"{size}; E-step and M-step. The M-step of numpy is L-BFGS with exact gradients, up to 15 steps a state, all units at once; nissl's is one Fisher step of all states and units, which never falls."
    return text + "\n" + table("HMM-GLM: one EM iteration", in_turn(jobs, rounds=3), "nissl", note)


def plain_forward_backward(log_like: np.ndarray, log_p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gamma and summed xi of one trial, one step of time after another, in logarithms."""
    time, states = log_like.shape
    alpha, beta = np.zeros((time, states)), np.zeros((time, states))
    alpha[0] = log_like[0] - np.log(states)
    for t in range(1, time):
        alpha[t] = logsumexp(alpha[t - 1][:, None] + log_p, axis=0) + log_like[t]
    for t in range(time - 2, -1, -1):
        beta[t] = logsumexp(log_p + log_like[t + 1] + beta[t + 1], axis=1)
    total = logsumexp(alpha[-1])
    xi = np.exp(alpha[:-1, :, None] + log_p + (log_like + beta)[1:, None] - total)
    return np.exp(alpha + beta - total), xi.sum(0)


def plain_m_step(x: np.ndarray, y: np.ndarray, gamma: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Weights (unit, column) of one state that maximise the expected Poisson log likelihood, exponential link."""
    mask = start != 0

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        z = flat.reshape(start.shape) @ x.T
        rate = np.exp(np.minimum(z, 50))
        return -float((gamma * (y * z - rate)).sum()), -(((gamma * (y - rate)) @ x) * mask).ravel()

    return minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 15}).x.reshape(start.shape)


def peers(log_like: np.ndarray, log_p: np.ndarray, gamma: np.ndarray) -> dict:
    """E-steps of the packages that are installed, compiled, on the same table of log likelihoods."""
    jobs = {}
    trials, time, states = log_like.shape
    try:
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        initial, p, logs = jnp.full(states, 1 / states), jnp.exp(jnp.asarray(log_p)), jnp.asarray(log_like)
    except ImportError:
        return jobs
    try:
        from dynamax.hidden_markov_model import hmm_two_filter_smoother
        from dynamax.hidden_markov_model.inference import compute_transition_probs

        def both(table: jax.Array) -> tuple[jax.Array, jax.Array]:
            found = hmm_two_filter_smoother(initial, p, table)
            return found.smoothed_probs, compute_transition_probs(p, found)

        smooth = jax.jit(jax.vmap(both))
        assert np.abs(np.asarray(smooth(logs)[0]).reshape(-1, states) - gamma).max() < 1e-5
        jobs["dynamax, compiled, trials by vmap"] = lambda: jax.block_until_ready(smooth(logs))
    except ImportError:
        pass
    try:
        from nemos.glm_hmm.expectation_maximization import backward_pass, compute_xi_log, forward_pass

        starts = jnp.zeros(trials * time, bool).at[::time].set(True)
        flat, log_initial, log_transition = logs.reshape(-1, states), jnp.log(initial), jnp.asarray(log_p)

        @jax.jit
        def nemos_e(table: jax.Array) -> tuple[jax.Array, jax.Array]:
            alpha, norm = forward_pass(log_initial, log_transition, table, starts)
            beta = backward_pass(log_transition, table, norm, starts)
            return alpha + beta, compute_xi_log(alpha, beta, table, norm, starts, log_transition)

        assert np.abs(np.exp(np.asarray(nemos_e(flat)[0])) - gamma).max() < 1e-5
        jobs["nemos GLM-HMM, compiled"] = lambda: jax.block_until_ready(nemos_e(flat))
    except ImportError:
        pass
    return jobs


if __name__ == "__main__":
    print(main())
