"""Adaptive gains: closed forms, invariances, independent solvers, recovery, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.base import clone

from nissl.errors import InputError, UnknownNameError
from nissl.populations.gain_control.effects import adaptation_effects, preference
from nissl.populations.gain_control.estimator import GainControl
from nissl.populations.gain_control.fitting import compare_adaptation, fit_adaptation
from nissl.populations.gain_control.inputs import layer_drive
from nissl.populations.gain_control.problem import spectral_abscissa
from nissl.populations.gain_control.variants import Circuit
from nissl.recordings.simulate.tuning import (
    adapted_recordings,
    adapted_tuning,
    adapter_ensemble,
    orientation_ring,
    ring_weights,
    tuned_drive,
)


def circuit(seed=0, n=8, s=15, strength=0.5):
    rng = np.random.default_rng(seed)
    weights = strength * rng.standard_normal((n, n)) / np.sqrt(n)
    return rng.exponential(1, (n, s)), weights, rng.standard_normal((n, n)), rng.dirichlet(np.ones(s))


def loss(g, f, w, d, p, alpha, gamma, cost="l2", on_input=False, rectified=False):
    """The objective as it is written, by brute force."""
    n = len(f)
    if on_input:
        r = np.linalg.solve(np.eye(n) - g[:, None] * w, g[:, None] * f)
    else:
        r = np.linalg.solve(np.eye(n) - w, g[:, None] * f)
    spent = (r**2 if cost == "l2" else np.abs(r)).sum(0)
    return (((f - d @ r) ** 2).sum(0) + alpha * spent) @ p + gamma * ((g - 1) ** 2).sum()


# Oracles


@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_single_neuron_has_the_closed_form_of_the_card(gamma):
    f, p = np.array([[1.0, 3.0]]), np.array([0.25, 0.75])
    c = (f[0] ** 2) @ p
    g = GainControl(alpha=0.4, gamma=gamma).fit(f, None, p).gains_.item()
    assert g == pytest.approx((c + gamma) / (1.4 * c + gamma), abs=1e-12)


def test_labelled_contexts_and_curves_are_matched_by_name():
    drive, weights, _, p = circuit(seed=9)
    rng = np.random.default_rng(9)
    drive = xr.DataArray(drive, dims=("unit", "stimulus"), coords={"stimulus": np.arange(15) * 12.0})
    context, contrast = (xr.DataArray(v, dims="stimulus", coords=drive[0].coords) for v in (p, 0.5 + p))
    model = GainControl().fit(drive, weights, p, contrast=0.5 + p)
    order = rng.permutation(15)
    mixed, factor = context.isel(stimulus=order), contrast.isel(stimulus=order)
    np.testing.assert_array_equal(GainControl().fit(drive, weights, mixed, contrast=factor).gains_, model.gains_)
    np.testing.assert_array_equal(model.adapt(mixed, contrast=factor).gains_, model.gains_)
    np.testing.assert_array_equal(model.respond(contrast=factor), model.respond(contrast=0.5 + p))
    with pytest.raises(InputError, match="an axis stimulus without"):
        model.adapt(context.assign_coords(stimulus=np.arange(15)))
    ring = orientation_ring(12, 24)
    ring = ring.assign_coords(unit=[f"n{i}" for i in range(12)], stimulus=np.arange(24))
    found = adapted_tuning(ring, adapter_ensemble(ring.orientation, 0.4))
    straight = adaptation_effects(found.pre, found.post, found.probability, adapter=90)
    post = found.post.isel(unit=rng.permutation(12), stimulus=rng.permutation(24))
    other = adaptation_effects(found.pre, post, found.probability[::-1], adapter=90)
    pd.testing.assert_frame_equal(other.neurons, straight.neurons)
    assert other.decorrelation == straight.decorrelation


def test_recurrent_single_neuron():
    # A = 1 / (1 - w): the activity a unit of gain costs is A^2.
    f, w = np.array([[2.0]]), np.array([[0.5]])
    g = GainControl(alpha=1.0, gamma=0.0, decoder="identity").fit(f, w).gains_.item()
    assert g == pytest.approx(2.0 / (4.0 + 4.0), abs=1e-12)


@pytest.mark.parametrize("decoder", ["matched", "identity", "optimal", "random"])
def test_gradient_vanishes_and_the_objective_is_what_it_says(decoder):
    f, w, d, p = circuit()
    model = GainControl(alpha=0.8, gamma=0.3, decoder=d if decoder == "random" else decoder).fit(f, w, p)
    used, g = model.decoder_.to_numpy(), model.gains_.to_numpy()
    if decoder == "random":
        np.testing.assert_allclose(used, d, atol=1e-12)
    step = 1e-4
    slope = [
        (loss(g + step * e, f, w, used, p, 0.8, 0.3) - loss(g - step * e, f, w, used, p, 0.8, 0.3)) / (2 * step)
        for e in np.eye(len(g))
    ]
    assert np.abs(slope).max() < 1e-8
    assert model.objective_ == pytest.approx(loss(g, f, w, used, p, 0.8, 0.3), rel=1e-10)
    parts = model.fidelity_ + 0.8 * model.activity_ + 0.3 * model.homeostasis_
    assert model.objective_ == pytest.approx(parts, rel=1e-12)
    rates = model.respond().to_numpy()
    assert model.activity_ == pytest.approx((rates**2).sum(0) @ p, rel=1e-10)
    assert model.fidelity_ == pytest.approx(((f - used @ rates) ** 2).sum(0) @ p, rel=1e-9)


def test_minimum_value_by_the_formula():
    f, w, d, p = circuit(1)
    model = GainControl(alpha=0.8, gamma=0.3, decoder=d).fit(f, w, p)
    lift = np.linalg.inv(np.eye(len(f)) - w)
    c = (f * p) @ f.T
    h = ((d @ lift).T * c).sum(1) + 0.3
    assert model.objective_ == pytest.approx(np.trace(c) + 0.3 * len(f) - h @ model.gains_.to_numpy(), rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0, 5), gamma=st.floats(0.05, 5))
def test_no_other_gains_do_better(seed, alpha, gamma):
    f, w, d, p = circuit(seed, n=5, s=8, strength=0.4)
    model = GainControl(alpha=alpha, gamma=gamma, decoder=d).fit(f, w, p)
    g = model.gains_.to_numpy()
    other = g + np.random.default_rng(seed).standard_normal(len(g)) * 0.1
    assert loss(g, f, w, d, p, alpha, gamma) <= loss(other, f, w, d, p, alpha, gamma)


def test_scipy_finds_the_same_with_and_without_bounds_and_with_l1():
    f, w, d, p = circuit(2)
    for bounded in (False, True):
        model = GainControl(alpha=1.0, gamma=0.1, decoder=d, nonnegative=bounded).fit(f, w, p)
        found = minimize(
            loss, np.ones(len(f)), args=(f, w, d, p, 1.0, 0.1), method="L-BFGS-B",
            bounds=[(0, None)] * len(f) if bounded else None, options={"ftol": 1e-16, "gtol": 1e-12, "maxiter": 5000},
        )  # fmt: skip
        np.testing.assert_allclose(model.gains_, found.x, atol=2e-4)
        assert model.objective_ <= found.fun + 1e-9
    assert (model.gains_ >= 0).all()
    assert (model.gains_ == 0).any()  # or the bound has not been tested
    w = np.abs(w) * 0.3
    model = GainControl(alpha=0.1, gamma=0.5, activity_cost="l1").fit(f, w, p)
    found = minimize(loss, np.ones(len(f)), args=(f, w, np.eye(len(f)) - w, p, 0.1, 0.5, "l1"), tol=1e-12)
    np.testing.assert_allclose(model.gains_, found.x, atol=1e-5)


def test_invariances():
    f, w, _, p = circuit(3)
    fit = lambda f, w, p, **k: GainControl(alpha=0.9, **{"gamma": 0.4, **k}).fit(f, w, p).gains_.to_numpy()  # noqa: E731
    gains, order = fit(f, w, p), np.random.default_rng(0).permutation(len(f))
    np.testing.assert_allclose(fit(f[order], w[np.ix_(order, order)], p), gains[order], atol=1e-12)
    np.testing.assert_allclose(fit(3 * f, w, p, gamma=9 * 0.4), gains, atol=1e-12)
    model = GainControl(alpha=0.9, gamma=0.4).fit(f, w, p)
    np.testing.assert_allclose(model.adapt(p, contrast=3.0).gains_, fit(3 * f, w, p), atol=1e-12)
    ring = orientation_ring(12, 24)
    at, moved = (
        GainControl().fit(ring["drive"], ring["recurrent"], adapter_ensemble(ring.orientation, 0.4, adapter=a)).gains_
        for a in (60.0, 105.0)
    )
    np.testing.assert_allclose(np.roll(at, 3), moved, atol=1e-12)


def test_uniform_ring_has_equal_gains_below_one_and_adaptation_is_reversible():
    ring = orientation_ring(12, 24)
    before = GainControl().fit(ring["drive"], ring["recurrent"])
    assert np.ptp(before.gains_.to_numpy()) < 1e-12
    assert before.gains_[0] < 1
    after = before.adapt(adapter_ensemble(ring.orientation, 0.4))
    assert np.array_equal(after.adapt().gains_, before.gains_)
    assert not np.allclose(after.gains_, before.gains_)


def test_optimal_decoder_is_least_squares_and_matched_where_the_drive_spans_all():
    f, w, _, p = circuit(4, n=6, s=30)
    optimal, matched = (GainControl(decoder=d).fit(f, w, p) for d in ("optimal", "matched"))
    np.testing.assert_allclose(optimal.gains_, matched.gains_, atol=1e-8)
    few = f[:, :3]
    q = p[:3] / p[:3].sum()
    decoder = GainControl(decoder="optimal").fit(few, w, q).decoder_.to_numpy()
    rates = np.linalg.solve(np.eye(6) - w, few)
    direct = (few * q) @ rates.T @ np.linalg.pinv((rates * q) @ rates.T)
    np.testing.assert_allclose(decoder @ rates, direct @ rates, atol=1e-8)


def test_integrated_rates_settle_at_the_fixed_point():
    f, w, _, p = circuit(5)
    for kind in ({}, {"gain_on": "input"}, {"rectified": True}):
        model = GainControl(**kind).fit(f, w, p)
        path = model.simulate(tau=0.01)
        assert path.dims == ("time", "unit", "stimulus")
        assert float(path[0].max()) == 0
        np.testing.assert_allclose(path[-1], model.respond(), atol=1e-8)
    # A single unconnected neuron charges as 1 - exp(-t / tau).
    model = GainControl().fit(np.ones((1, 1)), None)
    path = model.simulate(tau=0.05, duration=0.2)[:, 0, 0]
    np.testing.assert_allclose(path, model.respond().item() * (1 - np.exp(-path.time / 0.05)), atol=1e-8)


def test_one_step_of_the_rule_is_minus_half_the_slope_on_average():
    f, w, d, p = circuit(6)
    for cost in ("l2", "l1"):
        model = GainControl(alpha=0.6, gamma=0.2, decoder=d, activity_cost=cost, rectified=False)
        model.nonnegative = cost == "l1"
        model.fit(f, np.abs(w) * 0.3, p)
        used, g = model.decoder_.to_numpy(), np.full(len(f), 0.8)
        mean = sum(p[s] * model._local_change(f[:, s], g) for s in range(f.shape[1]))
        step = 1e-5
        args = (f, np.abs(w) * 0.3, used, p, 0.6, 0.2, cost)
        slope = [(loss(g + step * e, *args) - loss(g - step * e, *args)) / (2 * step) for e in np.eye(len(g))]
        np.testing.assert_allclose(mean, -np.array(slope) / 2, atol=1e-7)


def test_online_rule_arrives_and_returns():
    f, w, _, p = circuit(7)
    model = GainControl().fit(f, w, p)
    learned = model.learn(p, n_samples=20_000, rate=0.005, start=np.ones(len(f)))
    assert learned.gains.dims == ("step", "unit")
    assert np.linalg.norm(learned.average - model.gains_) < 0.04 * np.linalg.norm(model.gains_)
    with pytest.raises(InputError, match="run away"):
        model.learn(p, n_samples=2000, rate=2.0)


@pytest.mark.parametrize("on_input", [False, True])
@pytest.mark.parametrize("rectified", [False, True])
def test_implicit_gradients_equal_those_through_the_simulation(on_input, rectified):
    f, w, _, _ = circuit(8, n=5, s=6, strength=0.6)
    net, g = Circuit(w, on_input, rectified), np.random.default_rng(1).uniform(0.5, 1.1, 5)
    rates = net.rates(f, g)
    upstream = np.random.default_rng(2).standard_normal(rates.shape)
    gain, weights, drive = (torch.tensor(v, requires_grad=v is g) for v in (g, w, f))
    r = torch.zeros(5, 6, dtype=torch.float64)
    for _ in range(400):  # the network itself, run long and differentiated through every step
        total = gain[:, None] * (drive + weights @ r) if on_input else gain[:, None] * drive + weights @ r
        r = r + 0.4 * ((total.relu() if rectified else total) - r)
    np.testing.assert_allclose(rates, r.detach(), atol=1e-9)
    if rectified:
        assert (rates < 1e-12).any()
    expected = torch.autograd.grad((r * torch.tensor(upstream)).sum(), gain)[0]
    np.testing.assert_allclose(net.felt(rates, f, g, upstream), expected, atol=1e-8)


def test_descent_agrees_with_the_closed_form_where_both_hold():
    ring = orientation_ring(12, 24)
    context = adapter_ensemble(ring.orientation, 0.4)
    exact = GainControl().fit(ring["drive"], ring["recurrent"], context)
    descended = GainControl(rectified=True).fit(ring["drive"], ring["recurrent"], context)  # nothing is cut off here
    assert float(exact.respond().min()) > 0
    np.testing.assert_allclose(descended.gains_, exact.gains_, atol=1e-4)
    assert descended.objective_ == pytest.approx(exact.objective_, rel=1e-7)
    assert np.isnan(descended.condition_)


def test_gain_on_the_input_is_at_a_minimum():
    f, w, _, p = circuit(9)
    model = GainControl(gain_on="input", alpha=0.5, gamma=0.5).fit(f, w, p)
    found = minimize(
        lambda g: loss(g, f, w, np.eye(len(f)) - w, p, 0.5, 0.5, on_input=True), model.gains_.to_numpy(), tol=1e-12
    )
    assert found.fun == pytest.approx(model.objective_, rel=1e-7)
    # Without recurrence both kinds of gain are the same.
    alone = [GainControl(gain_on=k).fit(f, None, p).gains_ for k in ("drive", "input")]
    np.testing.assert_allclose(alone[0], alone[1], atol=1e-5)


def test_condition_and_abscissa():
    f, w, _, p = circuit(10)
    model = GainControl(alpha=0.8, gamma=0.3).fit(f, w, p)
    lift = np.linalg.inv(np.eye(len(f)) - w)
    c = (f * p) @ f.T
    q = (np.eye(len(f)) + 0.8 * lift.T @ lift) * c + 0.3 * np.eye(len(f))
    assert model.condition_ == pytest.approx(np.linalg.cond(q, 1), rel=0.5)
    assert model.abscissa_ == pytest.approx(np.linalg.eigvals(w).real.max())
    big = np.random.default_rng(0).standard_normal((400, 400)) / 20
    assert spectral_abscissa(big) == pytest.approx(np.linalg.eigvals(big).real.max(), abs=1e-4)
    big = -np.abs(big)  # an eigenvalue far to the left must not be taken for the edge
    assert spectral_abscissa(big) == pytest.approx(np.linalg.eigvals(big).real.max(), abs=1e-4)


# The simulator, which runs the rule, against the solver, which does not


def test_simulated_adaptation_is_the_closed_form():
    ring = orientation_ring(18, 36)
    context = adapter_ensemble(ring.orientation, 0.4)
    out = adapted_tuning(ring, context, alpha=0.7, gamma=1.3)
    before = GainControl(alpha=0.7, gamma=1.3).fit(ring["drive"], ring["recurrent"])
    np.testing.assert_allclose(out.gain_pre, before.gains_, atol=1e-8)
    np.testing.assert_allclose(out.gain_post, before.adapt(context).gains_, atol=1e-8)
    np.testing.assert_allclose(out.post, before.adapt(context).respond(), atol=1e-8)


def test_ensembles():
    angles = np.arange(0, 180, 9.0)
    p = adapter_ensemble(angles, 0.4, adapter=0.0)
    rest = 0.6 / 20
    np.testing.assert_allclose(p[[0, 1, 19]], [0.2 + rest, 0.1 + rest, 0.1 + rest])
    assert float(p.sum()) == pytest.approx(1)
    np.testing.assert_allclose(adapter_ensemble(angles, 0.0), 1 / 20)
    wide = adapter_ensemble(angles, 1.0, adapter=90.0, width=12.0)
    assert int(wide.argmax("stimulus")) == 10
    np.testing.assert_allclose(wide[11:19], wide[9:1:-1])
    with pytest.raises(InputError, match="between 0 and 1"):
        adapter_ensemble(angles, 1.2)


def test_ring_parts():
    ring = orientation_ring(10, 20, inhibition=0.3, recurrence=0.7)
    np.testing.assert_allclose(ring["recurrent"].sum("source"), 0.4)
    assert float(ring["drive"].max()) == pytest.approx(1.2)
    np.testing.assert_allclose(ring_weights(np.array([0.0, 90.0]), recurrence=1, width=1e3).sum(1), 1)
    np.testing.assert_allclose(tuned_drive(np.array([10.0]), np.array([190.0]), baseline=0.0, concentration=3.0), 1)
    with pytest.raises(InputError, match="at least 2 units"):
        orientation_ring(1, 5)
    with pytest.raises(InputError, match="unstable"):
        adapted_tuning(orientation_ring(10, 20, recurrence=1.2), np.full(20, 1 / 20))


# Effects


def test_effects_of_known_changes():
    ring = orientation_ring(18, 60)
    p = adapter_ensemble(ring.orientation, 0.4).to_numpy()
    pre = ring["drive"]
    effects = adaptation_effects(pre, 0.5 * pre, p, 90.0)
    np.testing.assert_allclose(effects.neurons[["max_ratio", "min_ratio"]], 0.5)
    np.testing.assert_allclose(effects.neurons["shift"], 0, atol=1e-9)
    assert effects.equalisation == pytest.approx(1)
    assert effects.decorrelation == pytest.approx(0.25)
    # Curves pushed three degrees away from the adapter, on both sides of it.
    offset = effects.neurons["offset"].to_numpy()
    away = tuned_drive(
        ring.preferred.to_numpy() + 3 * np.sign(offset), ring.orientation.to_numpy(), baseline=0.2, concentration=2.0
    )
    moved = adaptation_effects(pre, away, p, 90.0)
    inside = (np.abs(offset) > 1) & (np.abs(offset) < 85)
    np.testing.assert_allclose(moved.neurons["shift"][inside], 3, atol=1e-2)
    assert moved.summary()["shift"] == pytest.approx(3, abs=1e-2)
    towards = adaptation_effects(away, pre, p, 90.0, preferred=ring.preferred, orientation=ring.orientation)
    assert towards.summary()["shift"] == pytest.approx(-3, abs=1e-2)
    assert "neurons" in str(moved)
    assert len(moved.plot().axes) == 2


def test_preference_is_periodic_and_indifferent_to_sampling():
    assert preference(np.array([[1.0, 0, 0, 0, 0, 1]]), np.array([0.0, 30, 60, 90, 120, 178]))[0] == pytest.approx(
        179, abs=3
    )
    # Twice as many samples on one side do not pull the preference there.
    angles = np.r_[np.arange(0, 90, 2.0), np.arange(90, 180, 10.0)]
    curve = np.exp(3 * np.cos(2 * np.deg2rad(angles - 90)))
    assert preference(curve[None], angles)[0] == pytest.approx(90, abs=0.3)


def test_minima_below_zero_have_no_ratio():
    angles = np.arange(0, 180, 10.0)
    curves = np.stack([np.cos(2 * np.deg2rad(angles - a)) for a in (80, 90, 100)])
    effects = adaptation_effects(curves, curves, np.full(18, 1 / 18), 90.0, orientation=angles)
    assert effects.neurons["min_ratio"].isna().all()
    assert np.isnan(effects.equalisation)  # nor has the spread of means that are zero


# Fits


@pytest.fixture(scope="module")
def data():
    return adapted_recordings(seed=3)


def test_fit_recovers_alpha_and_gamma_and_compares_models(data):
    settings = {"drive": data.drive, "recurrent": data.recurrent, "rescale": None}
    fit = fit_adaptation(data.pre, data.post, data.probability, **settings)
    assert fit["alpha"] == pytest.approx(1, rel=0.2)
    assert fit["gamma"] == pytest.approx(1, rel=0.2)
    low, high = fit.parameters.loc["alpha", ["low", "high"]]
    assert low < fit["alpha"] < high < 2
    table = compare_adaptation(data.pre, data.post, data.probability, **settings)
    assert table.loc["gain", "share"] > table.loc["uncoupled", "share"] + 0.02
    assert table.loc["gain", "share"] > table.loc["normalisation", "share"]
    assert table.loc["synaptic", "n_parameters"] == 11 * 13**2
    # The saturated model must lose what it has memorised.
    assert table.loc["synaptic", "share"] - table.loc["synaptic", "share_held_out"] > 0.03
    assert abs(table.loc["gain", "share"] - table.loc["gain", "share_held_out"]) < 0.01


def test_other_truths_and_raw_curves():
    clean = adapted_recordings([0.5, 0.3], alpha=2.0, gamma=0.4, noise=0.0)
    fit = fit_adaptation(clean.pre, clean.post, clean.probability, drive=clean.drive, recurrent=clean.recurrent)
    assert fit["alpha"] == pytest.approx(2.0, rel=1e-3)
    assert fit["gamma"] == pytest.approx(0.4, rel=1e-3)
    # Any offset and scale of a neuron is taken out; a missing response is missed, not filled.
    scale = np.random.default_rng(0).uniform(1, 9, 13)[:, None]
    pre, post = 4 + scale * clean.pre, 4 + scale * clean.post
    post = post.copy()
    post[0, 3, 5] = np.nan
    again = fit_adaptation(pre, post, clean.probability, drive=clean.drive, recurrent=clean.recurrent)
    assert again["alpha"] == pytest.approx(2.0, rel=1e-2)
    with pytest.raises(UnknownNameError, match="parameter"):
        again["beta"]


def test_stage_one_finds_the_ring_that_raw_curves_came_from():
    truth = orientation_ring(13, 21, baseline=0.35, concentration=3.0, recurrence=0.6, width=15.0)
    out = [adapted_tuning(truth, adapter_ensemble(truth.orientation, p, adapter=90.0)) for p in (0.5, 0.3)]
    pre, post, p = (np.stack([o[n] for o in out]) for n in ("pre", "post", "probability"))
    fit = fit_adaptation(
        pre, post, p, orientation=truth.orientation, preferred=truth.preferred, fixed={"recurrence": 0.6, "width": 15.0}
    )
    assert fit.ring is not None
    assert fit.ring.parameters.loc["concentration", "value"] == pytest.approx(3.0, rel=1e-3)
    assert fit.ring.parameters.loc["baseline", "value"] == pytest.approx(0.35, rel=1e-3)
    assert fit.ring.share > 0.999
    assert fit["alpha"] == pytest.approx(1.0, rel=0.02)
    assert fit["gamma"] == pytest.approx(1.0, rel=0.02)
    free = fit_adaptation(pre, post, p, orientation=truth.orientation, preferred=truth.preferred)
    assert free.share > 0.9


def test_fitting_both_stages_at_once_tells_the_recurrence(data):
    clean = adapted_recordings(
        [0.5, 0.3], alpha=1.5, gamma=0.7, noise=0.0, recurrence=0.7, width=14.0, concentration=3.0
    )
    options = {"rescale": None, "fixed": {"baseline": 0.2}, "folds": 0}
    fit = fit_adaptation(clean.pre, clean.post, clean.probability, joint=True, **options)
    for name, truth in (("recurrence", 0.7), ("width", 14.0), ("concentration", 3.0)):
        assert fit.ring.parameters.loc[name, "value"] == pytest.approx(truth, rel=0.02)
    assert fit["alpha"] == pytest.approx(1.5, rel=0.05)
    assert fit["gamma"] == pytest.approx(0.7, rel=0.02)
    # With noise the price of activity is uncertain, and the interval says so; the pull is not.
    noisy = fit_adaptation(data.pre, data.post, data.probability, joint=True, **options)
    assert noisy.n_parameters == 5
    assert noisy.parameters.loc["alpha", "low"] < 1 < noisy.parameters.loc["alpha", "high"]
    assert noisy.parameters.loc["alpha", "high"] / noisy.parameters.loc["alpha", "low"] > 2
    assert noisy["gamma"] == pytest.approx(1, rel=0.15)
    with pytest.raises(InputError, match="joint"):
        fit_adaptation(data.pre, data.post, data.probability, joint=True, drive=data.drive)


def test_layer_drive_averages_places_and_serves_a_fit():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 3))
    x = torch.rand(6, 1, 6, 6)
    drive = layer_drive(network, x, "1")
    expected = network[1](network[0](x)).mean((2, 3)).T
    np.testing.assert_allclose(drive, expected.detach(), atol=1e-6)
    assert GainControl().fit(drive).gains_.shape == (4,)


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drive": np.full((3, 4), np.nan)}, "NaN or infinite: 0, 1, 2"),
        ({"drive": np.ones(3)}, r"give \(unit, stimulus\)"),
        ({"recurrent": np.eye(2)}, "for 3 units"),
        ({"recurrent": np.eye(3)}, "below 1"),
        ({"recurrent": np.full((3, 3), np.nan)}, "hold NaN"),
        ({"probability": [0.5, 0.5, 0.5, 0.5]}, "sum to 2"),
        ({"probability": [1.0, 0.0]}, "for 4 stimuli"),
        ({"probability": [1.5, -0.5, 0, 0]}, "at least 0"),
        ({"contrast": -1.0}, "contrast"),
    ],
)
def test_bad_fits_are_refused(change, message):
    given_ = {
        "drive": np.random.default_rng(0).random((3, 4)),
        "recurrent": None,
        "probability": None,
        "contrast": 1.0,
        **change,
    }
    with pytest.raises(InputError, match=message):
        GainControl().fit(given_["drive"], given_["recurrent"], given_["probability"], contrast=given_["contrast"])


def test_bad_settings_are_refused():
    f = np.random.default_rng(0).random((3, 4))
    with pytest.raises(UnknownNameError, match="matched"):
        GainControl(decoder="match").fit(f)
    with pytest.raises(InputError, match="alpha = -1"):
        GainControl(alpha=-1).fit(f)
    with pytest.raises(InputError, match="reference gains"):
        GainControl(reference=np.ones(5)).fit(f)
    with pytest.raises(InputError, match="has not been fitted"):
        GainControl().respond()
    with pytest.raises(InputError, match="gamma > 0"):
        GainControl(gamma=0.0).fit(np.array([[1.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(InputError, match="l1"):
        GainControl(activity_cost="l1").fit(np.array([[1.0], [5.0]]), np.array([[0, -0.9], [0, 0]]))
    with pytest.raises(InputError, match="gain_on='drive'"):
        GainControl(rectified=True).fit(f).learn()
    with pytest.raises(InputError, match="3 were fitted"):
        GainControl().fit(f).respond(np.ones((2, 4)))
    with pytest.raises(InputError, match="names differ"):
        GainControl().fit(f).respond(xr.DataArray(f, dims=("unit", "stimulus"), coords={"unit": list("abc")}))


def test_weights_are_brought_into_the_order_of_the_units():
    f, w, _, p = circuit(11, n=4)
    names = list("abcd")
    drive = xr.DataArray(f, dims=("unit", "stimulus"), coords={"unit": names})
    labelled = xr.DataArray(w, dims=("target", "source"), coords={"target": names, "source": names})
    expected = GainControl().fit(f, w, p).gains_.to_numpy()
    shuffled = labelled.sel(target=list("dbca"), source=list("cadb")).transpose("source", "target")
    np.testing.assert_allclose(GainControl().fit(drive, shuffled, p).gains_, expected)
    with pytest.raises(InputError, match="lack 1 units"):
        GainControl().fit(drive, labelled.sel(source=list("abc")), p)


def test_scikit_learn_manners():
    model = GainControl(alpha=0.3, decoder="identity")
    assert clone(model).get_params() == model.get_params()
    assert model.fit(np.random.default_rng(0).random((3, 4))) is model


def test_bad_adaptation_data(data):
    with pytest.raises(InputError, match="before and"):
        fit_adaptation(data.pre, data.post[:, :5], data.probability)
    with pytest.raises(InputError, match="no change to explain"):
        usual = fit_adaptation(data.pre, data.post, data.probability, rescale=None, folds=0).usual
        fit_adaptation(usual, usual, data.probability[0], rescale=None, fixed={"baseline": 0.2})
    with pytest.raises(UnknownNameError, match="normalisation"):
        fit_adaptation(data.pre, data.post, data.probability, model="normalization")
    with pytest.raises(UnknownNameError, match="ring parameter"):
        fit_adaptation(data.pre, data.post, data.probability, fixed={"bandwidth": 3})
    empty = data.pre.copy()
    empty[2, 4] = np.nan
    with pytest.raises(InputError, match="unit 4 of recording 2"):
        fit_adaptation(empty, data.post, data.probability)
    with pytest.raises(InputError, match="respond to all stimuli alike"):
        adaptation_effects(
            np.ones((3, 9)), np.ones((3, 9)), np.full(9, 1 / 9), 90.0, orientation=np.arange(0, 180, 20.0)
        )
    with pytest.raises(InputError, match="no orientations"):
        adaptation_effects(np.ones((3, 9)), np.ones((3, 9)), np.full(9, 1 / 9), 90.0)
