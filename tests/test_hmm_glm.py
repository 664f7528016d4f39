"""HMM-GLMs: against closed forms, trusted packages and brute force; then recovery of what was simulated; then bad input."""

from __future__ import annotations

import warnings
from itertools import pairwise, product

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor

from nissl.errors import InputError, NisslError
from nissl.populations import HMMGLM, compare_hmm_glm, lagged_correlation, select_states
from nissl.populations.hmm_glm import design as designs
from nissl.populations.hmm_glm import one_hot
from nissl.populations.hmm_glm.emissions import ALLOWED_LINKS, inverse_link, terms
from nissl.populations.hmm_glm.m_step import pass_over
from nissl.recordings.simulate import lag_kernel, simulate_switching_glm
from nissl.recordings.simulate.switching_glm import LINKS
from nissl.statistics import label_accuracy

QUICK = {"n_restarts": 2, "max_iter": 30, "progress": False}


@pytest.fixture(scope="module")
def small():
    """Five units, two states that last; four trials."""
    return simulate_switching_glm(n_units=5, n_states=2, n_trials=4, n_bins=400, stay=0.99, connected=0.4, seed=3)


def _history(x, kernel):
    """The filtered past by its definition, one term after another."""
    out = np.zeros_like(x)
    for trial in range(len(x)):
        for t in range(x.shape[1]):
            for k in range(1, len(kernel) + 1):
                if t - k >= 0:
                    out[trial, t] += kernel[k - 1] * x[trial, t - k]
    return out


def _design(x, lags=3, **more):
    settings = {"observations": "poisson", "coupling": True, "own_kernel": False, "fill": np.nanmean(x, (0, 1))} | more
    return designs.build(x, np.full(len(x), x.shape[1]), lag_kernel("exponential", lags), **settings)


# Numerical oracles


def test_the_filtered_past_is_the_explicit_sum_and_never_the_bin_itself():
    rng = np.random.default_rng(0)
    x = rng.poisson(1.0, size=(2, 12, 3)).astype(float)
    columns = _design(x).columns[0, :, 1:].numpy().reshape(2, 12, 3)
    np.testing.assert_allclose(columns, _history(x, lag_kernel("exponential", 3)), atol=1e-12)
    changed = x.copy()
    changed[:, 5] += 100
    after = _design(changed).columns[0, :, 1:].numpy().reshape(2, 12, 3)
    np.testing.assert_array_equal(after[:, :6], columns[:, :6])
    assert (after[:, 6:9] != columns[:, 6:9]).all()
    np.testing.assert_array_equal(after[:, 9:], columns[:, 9:])


@pytest.mark.parametrize("observations", ALLOWED_LINKS)
def test_slope_and_curvature_are_derivatives(observations):
    for link in ALLOWED_LINKS[observations]:
        z = torch.linspace(-40, 8.1, 97, dtype=torch.float64, requires_grad=True)
        x = torch.tensor([0.0, 1.0]).repeat(49)[:97].double()
        variance = torch.tensor(0.7, dtype=torch.float64)
        part = terms(x, z, observations, link, variance)
        (slope,) = torch.autograd.grad(part.value.sum(), z)
        torch.testing.assert_close(part.slope, slope, atol=1e-9, rtol=1e-7)
        # Expected curvature: that of the mean count, where the observed and expected information agree.
        mean = torch.as_tensor(LINKS[link](z.detach().numpy()))
        again = z.detach().requires_grad_()
        (first,) = torch.autograd.grad(
            terms(mean, again, observations, link, variance).value.sum(), again, create_graph=True
        )
        (second,) = torch.autograd.grad(first.sum(), again)
        torch.testing.assert_close(part.curvature.detach(), -second, atol=1e-7, rtol=1e-5)
        torch.testing.assert_close(inverse_link(mean[70:80], link), z.detach()[70:80], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("link", ["exp", "softplus", "sigmoid"])
def test_log_likelihood_is_scipys(link):
    rng = np.random.default_rng(1)
    x, z = rng.poisson(1.0, size=50).astype(float), rng.normal(size=50)
    ours = terms(torch.tensor(x), torch.tensor(z), "poisson", link).value.numpy() - np.array(
        [np.log(np.arange(1, k + 1)).sum() for k in x]
    )
    np.testing.assert_allclose(ours, stats.poisson.logpmf(x, LINKS[link](z)), atol=1e-10)


def test_gradient_and_curvature_over_the_data():
    """Against automatic differentiation, with missing counts and own kernels."""
    rng = np.random.default_rng(2)
    x = rng.poisson(0.7, size=(2, 40, 3)).astype(float)
    x[0, 5, 1] = x[1, 7:9] = np.nan
    design = _design(x, own_kernel=True)
    model = HMMGLM(n_states=2, self_coupling="free", lags=3, link="exp")
    layout = model._settings().layout(2, 3, 0, prior=None)
    theta = torch.tensor(rng.normal(size=(2, 2, 3, 7)) * 0.3, requires_grad=True)
    gamma = torch.rand(2, 2, design.n_rows, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(t):
        z = torch.einsum("md,rsnd->rsnm", design.columns[0], t[..., :4]) + torch.einsum(
            "nmk,rsnk->rsnm", design.own, t[..., 4:]
        )
        return (gamma[:, :, None] * design.known * (design.counts * z - z.exp())).sum()

    found = pass_over(design, theta.detach(), layout, gamma=gamma, order=2)
    (slope,) = torch.autograd.grad(value(theta), theta)
    torch.testing.assert_close(found.gradient, slope)
    bent = torch.autograd.functional.hessian(value, theta.detach())
    each = torch.arange(3)
    torch.testing.assert_close(found.curvature[0, 1], -bent[0, 1, each, :, 0, 1, each])
    torch.testing.assert_close(found.value.sum(), value(theta.detach()))


def test_one_state_is_a_poisson_glm(small):
    x = small.spikes.values
    model = HMMGLM(n_states=1, prior=None, link="exp", lags=4, ridge=0.0, tol=1e-12, max_iter=100, progress=False).fit(
        x
    )
    past = _history(x, lag_kernel("exponential", 4)).reshape(-1, 5)
    for unit in range(5):
        others = np.delete(np.arange(5), unit)
        oracle = PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000).fit(past[:, others], x[..., unit].ravel())
        np.testing.assert_allclose(model.weights_[0, unit, others], oracle.coef_, atol=1e-4)
        np.testing.assert_allclose(model.bias_[0, unit], oracle.intercept_, atol=1e-4)
        assert model.weights_[0, unit, unit] == 0


def test_one_state_is_a_logistic_or_linear_regression(small):
    x = (small.spikes.values > 0).astype(float)
    settings = {
        "n_states": 1,
        "prior": None,
        "ridge": 0.0,
        "self_coupling": "as-others",
        "tol": 1e-12,
        "progress": False,
    }
    past = _history(x, lag_kernel("exponential", 5)).reshape(-1, 5)
    for kind, oracle in (
        ("bernoulli", LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)),
        ("gaussian", LinearRegression()),
    ):
        model = HMMGLM(observations=kind, **settings).fit(x)
        for unit in range(5):
            oracle.fit(past, x[..., unit].ravel())
            np.testing.assert_allclose(model.weights_[0, unit], np.ravel(oracle.coef_), atol=1e-4)
    residual = x[..., 4].ravel() - oracle.predict(past)
    np.testing.assert_allclose(model.noise_[0, 4], residual.std(), atol=1e-6)


@pytest.mark.parametrize("ragged", [False, True])
def test_the_score_is_the_sum_over_all_paths(small, ragged):
    """Six bins, two states: every path of states, its prior and the counts' probability by scipy."""
    model = HMMGLM(n_states=2, prior="gaussian", link="sigmoid", **QUICK).fit(small)
    x = small.spikes.values[:2, :6].copy()
    if ragged:
        x[1, 4:] = np.nan
    past = _history(np.nan_to_num(x), model.kernel_.values)
    total = 0.0
    for trial in range(2):
        length = int(np.isfinite(x[trial, :, 0]).sum())
        paths = []
        for path in product(range(2), repeat=length):
            p = np.log(0.5) + sum(np.log(model.transition_.values[a, b]) for a, b in pairwise(path))
            for t, s in enumerate(path):
                rate = LINKS["sigmoid"](model.bias_.values[s] + model.weights_.values[s] @ past[trial, t])
                p += stats.poisson.logpmf(x[trial, t], rate).sum()
            paths.append(p)
        total += np.logaddexp.reduce(paths)
    np.testing.assert_allclose(model.score(x), total / np.nansum(x), atol=1e-9)
    np.testing.assert_allclose(model.score_trials(x).sum(), total, atol=1e-8)


@pytest.mark.parametrize(
    "settings",
    [
        {"prior": None, "link": "exp", "lags": 3},
        {"prior": "gaussian", "link": "softplus"},
        {"prior": "gaussian", "link": "sigmoid", "shared_bias": True},
        {"prior": None, "link": "log1p-softplus", "self_coupling": "free-shared"},
        {"prior": "gaussian", "basis": "learned"},
        {"prior": None, "coupling": False},
        {"prior": "gaussian", "observations": "bernoulli"},
        {"prior": "gaussian", "observations": "gaussian", "self_coupling": "free"},
    ],
)
def test_the_log_posterior_never_falls(small, settings):
    x = small.spikes.values[:2, :250].copy()
    x[0, 40:50] = x[1, 100, 2] = np.nan
    if settings.get("observations") == "bernoulli":
        x = np.where(np.isnan(x), x, x > 0)
    model = HMMGLM(n_states=3, tol=0.0, **(QUICK | {"max_iter": 25} | settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        climbed = np.diff(model.fit(x).history_)
    assert (climbed > -1e-6).all()
    assert climbed[0] > 0


def test_conjugate_gradients_end_where_the_direct_solution_does(small, monkeypatch):
    x = small.spikes.values[:2]
    settings = QUICK | {
        "n_states": 2,
        "prior": "gaussian",
        "self_coupling": "free",
        "tol": 1e-8,
        "max_iter": 60,
        "n_restarts": 1,
    }
    direct = HMMGLM(**settings).fit(x)
    monkeypatch.setattr("nissl.populations.hmm_glm.m_step._SOLVE_UP_TO", 3)
    conjugate = HMMGLM(**settings).fit(x)
    assert (np.diff(conjugate.history_) > -1e-6).all()
    np.testing.assert_allclose(conjugate.weights_, direct.weights_, atol=1e-3)
    np.testing.assert_allclose(conjugate.own_kernels_, direct.own_kernels_, atol=1e-3)


def test_the_gaussian_prior_has_both_its_limits(small):
    """So wide that it does nothing it is no prior; so narrow that states cannot differ it is one GLM."""
    x = small.spikes.values
    settings = QUICK | {"n_states": 2, "link": "softplus", "shared_bias": True, "tol": 1e-9, "max_iter": 60}
    wide, none = HMMGLM(prior="gaussian", prior_sd=1e6, **settings).fit(x), HMMGLM(prior=None, **settings).fit(x)
    np.testing.assert_allclose(wide.weights_, none.weights_, atol=1e-4)
    np.testing.assert_allclose(wide.score(x), none.score(x), atol=1e-7)
    narrow = HMMGLM(prior="gaussian", prior_sd=1e-4, **settings).fit(x)
    one = HMMGLM(prior=None, **(settings | {"n_states": 1, "ridge": 0.02})).fit(
        x
    )  # two states' ridges on the same numbers
    for state in range(2):
        np.testing.assert_allclose(narrow.weights_[state], one.weights_[0], atol=1e-4)


def test_one_hot_weights_are_kinds_times_strengths(small):
    model = HMMGLM(n_states=2, link="sigmoid", rounds=6, steps=5, **QUICK).fit(small)
    np.testing.assert_allclose(model.weights_, model.adjacency_ * model.strengths_, atol=1e-12)
    assert (model.weights_.values[model.adjacency_.values == 0] == 0).all()
    assert (model.strengths_.values[:, ~np.eye(5, dtype=bool)] > 0).all()
    np.testing.assert_allclose(model.global_adjacency_.sum("kind"), 1)
    assert model.global_adjacency_.dims == ("target", "source", "kind")


def test_gumbel_softmax_density_integrates_to_one():
    from scipy.integrate import quad

    location = torch.tensor([0.3, 0.7], dtype=torch.float64).log()

    def density(a, temperature):
        point = torch.tensor([a, 1 - a], dtype=torch.float64).log()
        return float(one_hot.gumbel_softmax_log_density(point, location, temperature).exp())

    for temperature in (0.5, 1.0, 2.0):
        assert quad(density, 0, 1, args=(temperature,), limit=200)[0] == pytest.approx(1, abs=1e-5)
    # Three kinds by Monte Carlo over the simplex, whose area in two coordinates is a half.
    points = torch.distributions.Dirichlet(torch.ones(3, dtype=torch.float64))
    torch.manual_seed(0)
    drawn = points.sample((200_000,))
    values = one_hot.gumbel_softmax_log_density(drawn.log(), torch.tensor([0.2, 0.5, 0.3]).double().log(), 1.0).exp()
    assert values.mean().item() / 2 == pytest.approx(1, abs=0.02)


def test_gumbel_softmax_samples_have_the_kinds_probabilities():
    logits = torch.tensor([0.5, -1.0, 1.5], dtype=torch.float64)
    drawn = one_hot.gumbel_softmax(logits.expand(60_000, 3), 0.5, torch.Generator().manual_seed(0))
    found = torch.bincount(drawn.argmax(-1), minlength=3) / 60_000
    torch.testing.assert_close(found.double(), torch.softmax(logits, 0), atol=0.01, rtol=0)
    torch.testing.assert_close(drawn.sum(-1), torch.ones(60_000, dtype=torch.float64))


def test_order_of_units_and_of_trials_does_not_matter(small):
    settings = QUICK | {
        "n_states": 2,
        "prior": "gaussian",
        "link": "sigmoid",
        "n_restarts": 1,
        "tol": 1e-9,
        "max_iter": 80,
    }
    model = HMMGLM(**settings).fit(small.spikes)
    order = [3, 0, 4, 1, 2]
    shuffled = HMMGLM(**settings).fit(small.spikes.isel(unit=order))
    np.testing.assert_allclose(shuffled.weights_, model.weights_.values[:, order][:, :, order], atol=1e-3)
    # Units are matched by name, whatever their order.
    assert model.score(small.spikes.isel(unit=order)) == pytest.approx(model.score(small.spikes), abs=1e-12)


def test_lagged_correlation_is_the_correlation_with_the_past():
    rng = np.random.default_rng(0)
    x = rng.poisson(1.0, size=(2, 60, 3)).astype(float)
    x[0, 10:13, 1] = np.nan
    found = lagged_correlation(x, lags=2)
    now, past = [], []
    for trial in x:
        for t in range(2, 60):
            now.append(trial[t])
            past.append(trial[t - 2 : t].mean(0))
    now, past = np.array(now), np.array(past)
    for i, j in product(range(3), repeat=2):
        both = np.isfinite(now[:, i]) & np.isfinite(past[:, j])
        assert float(found[i, j]) == pytest.approx(np.corrcoef(now[both, i], past[both, j])[0, 1], abs=1e-10)


# Recovery of what was simulated


def test_states_and_weights_come_back():
    data = simulate_switching_glm(
        n_units=8, n_states=3, n_trials=6, n_bins=600, stay=0.99, seed=5, bias=(-1, -0.5), connected=0.3
    )
    train, test = data.spikes[:4], data.spikes[4:]
    model = HMMGLM(n_states=3, prior="gaussian", link="sigmoid", shared_bias=True, prior_sd=1.0, **QUICK).fit(train)
    accuracy = label_accuracy(model.predict(test), data.state[4:])
    assert accuracy > 0.85
    from nissl.populations.hmm_glm.baselines import matched_states

    mine, truth = matched_states(model.weights_.values, data.weights.values)
    assert np.corrcoef(mine.ravel(), truth.ravel())[0, 1] > 0.85
    probability = model.predict_proba(test)
    assert probability.dims == ("trial", "time", "state")
    np.testing.assert_allclose(probability.sum("state"), 1, atol=1e-9)
    assert model.restarts_["kept"].sum() == 1
    assert model.occupancy_.values.tolist() == sorted(model.occupancy_.values, reverse=True)


def test_a_kernel_of_its_own_and_a_learned_kernel_come_back():
    rng = np.random.default_rng(0)
    own = np.array([-2.0, -1.0, 0.5])
    x = np.zeros((1, 6000, 2))
    for t in range(6000):
        past = x[0, max(t - 3, 0) : t][::-1]
        z = -0.5 + own[: len(past)] @ past
        if t:
            z[1] += 1.5 * past[:, 0] @ np.array([0.1, 0.2, 0.7])[: len(past)]
        x[0, t] = rng.poisson(np.logaddexp(0, z))
    free = HMMGLM(n_states=1, prior=None, lags=3, self_coupling="free", basis="learned", progress=False, tol=1e-7).fit(
        x
    )
    np.testing.assert_allclose(free.own_kernels_[0], np.broadcast_to(own, (2, 3)), atol=0.25)
    np.testing.assert_allclose(free.kernel_, [0.1, 0.2, 0.7], atol=0.1)
    assert float(free.weights_[0, 1, 0]) == pytest.approx(1.5, abs=0.25)


def test_units_of_labelled_trials_are_matched_by_name():
    rng = np.random.default_rng(9)
    trials = [
        xr.DataArray(rng.poisson([1.0, 0.3, 2.0], (n, 3)), dims=("time", "unit"), coords={"unit": list("abc")})
        for n in (60, 40)
    ]
    model = HMMGLM(n_states=1, prior=None, progress=False).fit(trials)
    assert model.unit_names_.tolist() == list("abc")
    expected = model.score(trials)
    assert model.score([trials[0], trials[1].isel(unit=[2, 0, 1])]) == pytest.approx(expected, abs=1e-12)
    assert model.score([t.isel(unit=[2, 0, 1]).T for t in trials]) == pytest.approx(expected, abs=1e-12)


def test_covariates_are_matched_by_name():
    rng = np.random.default_rng(8)
    values = rng.normal(size=(1, 200, 2))
    spikes = rng.poisson(np.exp(values @ [[0.8, 0.0], [0.0, -0.5]]))
    table = xr.DataArray(values, dims=("trial", "time", "covariate"), coords={"covariate": ["speed", "pupil"]})
    model = HMMGLM(n_states=1, prior=None, progress=False).fit(spikes, covariates=table)
    expected = model.score(spikes, covariates=table)
    mixed = table.isel(covariate=[1, 0]).transpose("covariate", "time", "trial")
    assert model.score(spikes, covariates=mixed) == pytest.approx(expected, abs=1e-12)
    assert model.score(spikes, covariates=values) == pytest.approx(expected, abs=1e-12)  # without names: in their order
    with pytest.raises(InputError, match="fitted with"):
        model.score(spikes, covariates=table.assign_coords(covariate=["speed", "temperature"]))


def test_covariates_come_back_and_must_come_again():
    rng = np.random.default_rng(1)
    stimulus = rng.normal(size=(3, 800, 2))
    drive = stimulus @ np.array([[1.0, 0.0, -0.5], [0.0, 0.7, 0.0]])
    x = rng.poisson(np.logaddexp(0, drive - 0.5)).astype(float)
    table = xr.DataArray(stimulus, dims=("trial", "time", "variable"), coords={"variable": ["light", "sound"]})
    model = HMMGLM(n_states=1, prior=None, progress=False).fit(x, covariates=table)
    np.testing.assert_allclose(model.covariate_weights_[0], [[1, 0], [0, 0.7], [-0.5, 0]], atol=0.12)
    assert model.covariate_weights_["covariate"].values.tolist() == ["light", "sound"]
    assert model.score(x, covariates=table) > HMMGLM(n_states=1, prior=None, progress=False).fit(x).score(x)
    with pytest.raises(InputError, match="light"):
        model.score(x)
    assert model.sample(2, 30, covariates=rng.normal(size=(2, 30, 2))).spikes.shape == (2, 30, 3)


def test_what_a_fitted_model_draws_is_fitted_again(small):
    model = HMMGLM(n_states=2, prior="gaussian", link="sigmoid", **QUICK).fit(small)
    drawn = model.sample(6, 600, seed=1)
    again = HMMGLM(n_states=2, prior="gaussian", link="sigmoid", **QUICK).fit(drawn)
    # As well as the model that drew it, which knows the truth.
    known = label_accuracy(model.predict(drawn), drawn.state)
    assert label_accuracy(again.predict(drawn), drawn.state) > known - 0.05 > 0.6
    np.testing.assert_allclose(drawn.spikes.mean(("trial", "time")), small.spikes.mean(("trial", "time")), atol=0.1)
    assert (model.sample(2, 50, seed=3).spikes == model.sample(2, 50, seed=3).spikes).all()


def test_trials_of_unequal_length_and_missing_bins(small):
    x = small.spikes.values
    model = HMMGLM(n_states=2, prior="gaussian", link="sigmoid", **QUICK).fit([x[0], x[1, :150], x[2, :300]])
    parts = [model.score_trials(x[[0]]), model.score_trials(x[[1], :150])]
    both = model.score_trials([x[0], x[1, :150]])
    np.testing.assert_allclose(both, [float(parts[0][0]), float(parts[1][0])], atol=1e-9)
    path = model.predict([x[0], x[1, :150]])
    assert (path[1, 150:] == -1).all()
    assert np.isnan(model.predict_proba([x[0], x[1, :150]])[1, 150:]).all()
    gap = x[[0]].copy()
    gap[0, 100:110] = np.nan
    assert (model.predict(gap)[0, 100:110] >= 0).all()
    single = model.predict(x[0])
    assert single.dims == ("time",)


def test_the_number_of_states_is_found():
    data = simulate_switching_glm(
        n_units=8, n_states=2, n_trials=6, n_bins=400, stay=0.99, bias=(-1, -0.5), connected=0.3, seed=2
    )
    model = HMMGLM(n_states=range(1, 4), prior="gaussian", link="sigmoid", shared_bias=True, **QUICK)
    model.fit(data)
    assert model.n_states_ == model.selection_.chosen == 2
    assert model.selection_.table.loc[2, "log_likelihood"] > model.selection_.table.loc[1, "log_likelihood"]
    one = select_states(
        HMMGLM(prior="gaussian", link="sigmoid", **QUICK),
        np.random.default_rng(0).poisson(0.5, size=(600, 4)),
        (1, 2),
        folds=2,
    )
    assert one.chosen == 1
    one.plot()


def test_states_that_die_are_dropped_and_said(small):
    with pytest.warns(UserWarning, match="states died"):
        model = HMMGLM(n_states=6, prior=None, coupling=False, min_occupancy=0.15, **QUICK).fit(small)
    assert model.n_states_ == 6 - model.dead_states_ < 6
    assert model.transition_.shape == (model.n_states_, model.n_states_)
    np.testing.assert_allclose(model.transition_.sum("next_state"), 1)
    assert set(np.unique(model.predict(small))) <= set(range(model.n_states_))


def test_where_a_baseline_does_as_well_it_is_said(small):
    """Units without coupling and states: constant rates do as well, and the comparison says so."""
    noise = np.random.default_rng(0).poisson(0.6, size=(8, 300, 4)).astype(float)
    model = HMMGLM(n_states=2, prior="gaussian", **QUICK)
    found = model.compare(noise[:4], noise[4:])
    assert "constant rates" in found.as_good
    coupled = compare_hmm_glm(
        HMMGLM(n_states=2, prior="gaussian", link="sigmoid", **QUICK),
        small.spikes[:2],
        small.spikes[2:],
        truth=small.weights,
    )
    assert "constant rates" not in coupled.as_good
    assert coupled.connectivity is not None
    assert {"lagged correlation", "model"} <= set(coupled.connectivity.index)


def test_like_other_estimators(small):
    model = HMMGLM(n_states=2, prior="gaussian", link="sigmoid", **QUICK)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    first, second = model.fit(small), copy.fit(torch.tensor(small.spikes.values))
    np.testing.assert_array_equal(first.weights_.values, second.weights_.values)
    assert first.weights_.dims == ("state", "target", "source")
    assert first.weights_["source"].values.tolist() == small["unit"].values.tolist()
    assert float(first.dwell_times_[0]) == pytest.approx(0.02 / (1 - float(first.transition_[0, 0])))


# Bad input


def _spikes():
    return np.random.default_rng(0).poisson(0.7, size=(2, 60, 3)).astype(float)


def _with(index, value):
    x = _spikes()
    x[index] = value
    return x


@pytest.mark.parametrize(
    ("x", "settings", "says"),
    [
        (_with((..., 1), 0), {}, "without a single spike: '1'"),
        (np.concatenate([_spikes(), _spikes()[..., :1]], -1), {}, "same spikes: '0' and '3'"),
        (_with((0, 3, 2), -1), {}, "negative counts in '2'"),
        (_with((0, 3, 2), 0.5), {}, "no whole numbers in '2'"),
        (_spikes() + 1, {"observations": "bernoulli"}, "other than 0 and 1"),
        (_with((..., 1), 1), {"observations": "gaussian"}, "never change: '1'"),
        (_with((..., 1), np.nan), {}, "without a single sample: '1'"),
        (_with((0,), np.nan), {}, "trials without a single bin"),
        (_with((0, 0, 0), np.inf), {}, "infinite"),
        (_spikes()[:, :4], {"lags": 5}, "lags=5"),
        (_spikes()[:1, :12], {"n_states": 13}, "n_states=13 for 12 bins"),
        (_spikes(), {"n_states": 0}, "n_states=0"),
        (_spikes(), {"n_states": []}, "candidates"),
        (_spikes(), {"prior": "onehot"}, "nearest: 'one-hot'"),
        (_spikes(), {"observations": "poison"}, "nearest: 'poisson'"),
        (_spikes(), {"link": "identity"}, "for poisson observations"),
        (_spikes(), {"observations": "bernoulli", "link": "softplus"}, "for bernoulli observations"),
        (_spikes(), {"basis": "exponent"}, "nearest: 'exponential'"),
        (_spikes(), {"basis": np.ones(3)}, "5 numbers"),
        (_spikes(), {"self_coupling": "none"}, "unknown self_coupling"),
        (_spikes(), {"kind_prior": "categoric"}, "nearest: 'categorical'"),
        (_spikes(), {"temperature": 0}, "above 0"),
        (_spikes(), {"prior_sd": -1}, "above 0"),
        (_spikes(), {"n_restarts": 0}, "n_restarts=0"),
        (_spikes(), {"lags": 0}, "lags=0"),
        (_spikes()[0, :, 0], {}, "shape"),
    ],
)
def test_what_cannot_be_fitted_is_refused(x, settings, says):
    with pytest.raises(NisslError, match=says):
        HMMGLM(**settings).fit(x)


def test_other_recordings_are_refused(small):
    model = HMMGLM(n_states=2, prior=None, link="sigmoid", **QUICK).fit(small)
    with pytest.raises(InputError, match="lacks 'unit 0'"):
        model.predict(small.spikes[..., 1:])
    with pytest.raises(InputError, match="has 'new'"):
        names = [*small["unit"].values, "new"]
        model.score(xr.DataArray(np.ones((2, 20, 6)), dims=("trial", "time", "unit"), coords={"unit": names}))
    with pytest.raises(InputError, match="without a single spike"):
        model.score(small.spikes * 0)
    with pytest.raises(InputError, match="folds"):
        model.select_states(small.spikes, (1, 2), folds=1)
    with pytest.raises(InputError, match="covariates of shape"):
        HMMGLM().fit(small, covariates=np.zeros((4, 10, 1)))


def test_runaway_networks_are_refused():
    with pytest.raises(InputError, match="runs away"):
        simulate_switching_glm(link="exp", strength=(20, 30), seed=0)
    with pytest.raises(InputError, match=r"connected=1\.5"):
        simulate_switching_glm(connected=1.5)
    with pytest.raises(NisslError, match="nearest: 'sigmoid'"):
        simulate_switching_glm(link="sigmod")  # type: ignore[arg-type]


def test_the_simulation_is_what_it_says():
    data = simulate_switching_glm(n_units=10, n_states=3, n_trials=30, n_bins=400, seed=1, epoch_bins=100)
    off = ~np.eye(10, dtype=bool)
    assert (data.adjacency.values[off] != 0).sum() == round(0.2 * 90)
    assert (data.adjacency.values == 1).sum() == (data.adjacency.values == -1).sum()
    np.testing.assert_array_equal(np.sign(data.weights), data.state_adjacency)
    sizes = np.abs(data.weights.values[data.weights.values != 0])
    assert 0.75 <= sizes.min() < sizes.max() <= 5.25
    kept = (data.state_adjacency.values == data.adjacency.values)[:, off].mean()
    assert 0.88 < kept < 1.0
    # In each epoch its own state is the most frequent one.
    for epoch in range(3):
        states = data.state.values[data.epoch.values == epoch]
        assert np.bincount(states, minlength=3).argmax() == epoch
    past = _history(data.spikes.values[:2], data.kernel.values)
    rate = LINKS["sigmoid"](
        data.bias.values + np.einsum("btij,btj->bti", data.weights.values[data.state.values[:2]], past)
    )
    assert abs((data.spikes.values[:2] - rate).mean()) < 0.02
