"""Non-negative factors: exact recovery, monotone descent, agreement with tensorly, missing entries, choice of the number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nissl.errors import InputError
from nissl.populations import factor_similarity, nonnegative_cp, rank_curve
from nissl.populations.motifs._cp_problems import Complete, Patterned, all_grams, khatri_rao, varying_axes
from nissl.statistics import match


def sparse_factors(shape, rank, seed=0, density=0.5):
    rng = np.random.default_rng(seed)
    return [rng.random((d, rank)) * (rng.random((d, rank)) < density) for d in shape]


def outer(factors):
    letters = "abcdefg"[: len(factors)]
    return np.einsum(",".join(f"{c}r" for c in letters) + "->" + letters, *factors)


def relative_error(x, model):
    known = ~np.isnan(x)
    return np.linalg.norm((x - model)[known]) / np.linalg.norm(x[known])


@pytest.mark.parametrize("seed", range(3))
def test_noiseless_factors_are_recovered_exactly(seed):
    truth = sparse_factors((20, 15, 25), 4, seed)
    x = outer(truth)
    found = nonnegative_cp(x, 4, n_restarts=5, tol=0, max_sweeps=1000, seed=seed, progress=False)
    assert relative_error(x, found.model()) < 1e-6
    cosines = np.prod(
        [(t / np.linalg.norm(t, axis=0)).T @ f for t, f in zip(truth, found.factors, strict=True)], axis=0
    )
    assert match(cosines).scores.min() > 1 - 1e-6
    assert found.stability > 0.999


@pytest.mark.parametrize("shape", [(30, 20), (9, 8, 7), (5, 6, 7, 8)])
def test_any_number_of_axes(shape):
    x = outer(sparse_factors(shape, 2, seed=1, density=0.9))
    found = nonnegative_cp(x, 2, n_restarts=3, tol=1e-12, max_sweeps=3000, progress=False)
    assert relative_error(x, found.model()) < 1e-4
    assert [f.shape for f in found.factors] == [(d, 2) for d in shape]


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(["complete", "patterned", "single"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_the_loss_never_rises_and_is_the_loss(seed, kind, dtype):
    rng = np.random.default_rng(seed)
    x = rng.random((8, 5, 9)).astype(dtype)
    if kind == "patterned":
        x[:, rng.random((5, 9)) < 0.3] = np.nan
    if kind == "single":
        x[rng.random(x.shape) < 0.3] = np.nan
    assume(all((~np.isnan(x)).any(axes).all() for axes in ((0, 1), (0, 2), (1, 2))))  # no slice without data
    found = nonnegative_cp(x, 3, n_restarts=2, max_sweeps=40, tol=0, seed=seed, progress=False)
    for run in (found, *found.runs):
        assert (np.diff(run.losses) <= 0).all()
        assert all((f >= 0).all() for f in run.factors)
        assert run.losses[-1] == pytest.approx(relative_error(x.astype(float), run.model()) ** 2, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_explains_as_much_as_tensorly(noise):
    decomposition = pytest.importorskip("tensorly.decomposition")
    pytest.importorskip("tensorly").set_backend(
        "numpy"
    )  # neuraloperator, where a test imports it, sets another for all
    rng = np.random.default_rng(3)
    x = outer([rng.gamma(0.5, size=(d, 4)) for d in (60, 8, 70)])
    x = x + noise * x.std() * np.abs(rng.normal(size=x.shape))
    theirs, errors = decomposition.non_negative_parafac_hals(
        x, 4, n_iter_max=500, tol=1e-9, init="svd", return_errors=True
    )
    ours = nonnegative_cp(x, 4, init="svd", tol=1e-9, progress=False)
    assert ours.explained_variance >= (1 - float(errors[-1]) ** 2) * 0.995
    assert 1 - relative_error(x, theirs.to_tensor()) ** 2 == pytest.approx(ours.explained_variance, rel=0.005)


def test_the_same_start_descends_to_tensorlys_loss():
    decomposition = pytest.importorskip("tensorly.decomposition")
    pytest.importorskip("tensorly").set_backend(
        "numpy"
    )  # neuraloperator, where a test imports it, sets another for all
    rng = np.random.default_rng(0)
    x = outer([rng.random((d, 3)) for d in (30, 6, 40)]) + 0.2 * rng.random((30, 6, 40))
    start = [rng.random((d, 3)) for d in x.shape]
    ours = nonnegative_cp(x, 3, init=start, tol=1e-10, max_sweeps=2000, progress=False)
    cp = (np.ones(3), [f.copy() for f in start])
    _, errors = decomposition.non_negative_parafac_hals(x, 3, n_iter_max=2000, tol=1e-10, init=cp, return_errors=True)
    assert 1 - float(errors[-1]) ** 2 == pytest.approx(ours.explained_variance, rel=0.005)


def test_two_axes_are_non_negative_matrix_factorisation():
    from sklearn.decomposition import NMF

    x = np.random.default_rng(0).random((30, 40))
    theirs = NMF(5, max_iter=3000, tol=1e-7).fit(x)
    ours = nonnegative_cp(x, 5, n_restarts=5, progress=False)
    assert ours.explained_variance >= 1 - theirs.reconstruction_err_**2 / (x**2).sum() - 0.005


@pytest.mark.parametrize("kind", ["patterned", "single"])
def test_missing_entries_are_filled_in(kind):
    x = outer(sparse_factors((30, 8, 25), 3, seed=2, density=0.8))
    rng = np.random.default_rng(0)
    hidden = np.broadcast_to(rng.random((8, 25)) < 0.2, x.shape) if kind == "patterned" else rng.random(x.shape) < 0.3
    found = nonnegative_cp(np.where(hidden, np.nan, x), 3, n_restarts=4, tol=1e-10, max_sweeps=2000, progress=False)
    assert relative_error(x, found.model()) < 1e-3
    # Zeros in their place would be another array.
    zeros = nonnegative_cp(np.where(hidden, 0.0, x), 3, n_restarts=4, progress=False)
    assert relative_error(x, zeros.model()) > 0.05


def test_both_ways_of_missing_have_one_least():
    import nissl.populations.motifs.tensor_factors as room

    rng = np.random.default_rng(1)
    x = outer(sparse_factors((30, 6, 20), 3, seed=4)) + 0.05 * rng.random((30, 6, 20))
    x[:, rng.random((6, 20)) < 0.25] = np.nan
    start = [rng.random((d, 3)) for d in x.shape]
    exact = nonnegative_cp(x, 3, init=start, tol=1e-9, max_sweeps=3000, progress=False)
    axes, room.varying_axes = room.varying_axes, lambda missing: [0, 1, 2]
    try:
        filled = nonnegative_cp(x, 3, init=start, tol=1e-9, max_sweeps=3000, progress=False)
    finally:
        room.varying_axes = axes
    assert exact.explained_variance == pytest.approx(filled.explained_variance, abs=1e-5)
    assert len(exact.losses) < len(filled.losses)


def test_a_mask_equals_nan_and_what_it_hides_does_not_matter():
    x = outer(sparse_factors((9, 4, 8), 2, seed=3)) + 0.1
    mask = np.random.default_rng(0).random(x.shape) > 0.2
    by_mask = nonnegative_cp(np.where(mask, x, 7.0), 2, mask=mask, n_restarts=2, progress=False)
    by_nan = nonnegative_cp(np.where(mask, x, np.nan), 2, n_restarts=2, progress=False)
    assert np.allclose(by_mask.model(), by_nan.model())


def test_gram_matrices_by_brute_force():
    rng = np.random.default_rng(0)
    x = rng.random((4, 3, 5))
    missing = np.broadcast_to(rng.random((3, 5)) < 0.4, x.shape)
    assert varying_axes(missing) == [1, 2]
    factors = [rng.random((2, 3, d)) for d in x.shape]
    problem = Patterned(np.where(missing, 0.0, x), missing, [1, 2])
    full = Complete(x)
    for s in range(2):
        parts = khatri_rao([f[s] for f in factors]).reshape(3, *x.shape)
        model = parts.sum(0)
        assert problem.square(factors)[s] == pytest.approx((model**2 * ~missing).sum())
        assert full.square(factors)[s] == pytest.approx((model**2).sum())
        for axis in range(3):
            rest = [f[s] for a, f in enumerate(factors) if a != axis]
            rows = khatri_rao(rest)
            known = np.moveaxis(~missing, axis, 0).reshape(x.shape[axis], -1)
            expected = np.einsum("rk,sk,dk->rsd", rows, rows, known)
            gram = np.broadcast_to(problem.gram(factors, all_grams(factors), axis)[s], expected.shape)
            assert np.allclose(gram, expected)


def test_same_seed_same_answer_and_order_of_axes_does_not_matter():
    x = outer(sparse_factors((10, 6, 12), 2, seed=5)) + 0.05
    one, two = (nonnegative_cp(x, 2, n_restarts=3, seed=4, progress=False) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one.factors, two.factors, strict=True))
    turned = nonnegative_cp(x.transpose(2, 0, 1), 2, n_restarts=3, seed=4, progress=False)
    assert turned.explained_variance == pytest.approx(one.explained_variance, abs=1e-5)


def test_scale_goes_into_the_weights():
    x = outer(sparse_factors((10, 6, 12), 2, seed=5)) + 0.05
    one, big = (nonnegative_cp(x * k, 2, n_restarts=2, progress=False) for k in (1.0, 1e4))
    assert np.allclose(big.weights, 1e4 * one.weights, rtol=1e-3)
    assert all(np.allclose(np.linalg.norm(f, axis=0), 1) for f in one.factors)
    assert (np.diff(one.weights) <= 0).all()


def test_similarity_does_not_see_the_order_of_components():
    x = outer(sparse_factors((10, 6, 12), 3, seed=6)) + 0.02
    found = nonnegative_cp(x, 3, n_restarts=1, progress=False)
    turned = type(found)(
        found.weights[::-1],
        tuple(f[:, ::-1] for f in found.factors),
        found.explained_variance,
        found.losses,
        found.converged,
    )
    assert factor_similarity(found, turned) == pytest.approx(1)


def test_the_number_of_components_is_found():
    rng = np.random.default_rng(0)
    x = outer([rng.random((d, 3)) ** 4 for d in (40, 6, 50)])
    curve = rank_curve(x + 0.05 * x.std() * rng.random(x.shape), 5, progress=False)
    assert curve.chosen == 3
    assert curve.best.n_components == 3
    assert curve.table["chosen"].tolist() == [False, False, True, False, False]
    assert (np.diff(curve.table["explained_variance"]) > -1e-6).all()


@pytest.mark.parametrize(
    ("x", "components", "message"),
    [
        (-np.ones((3, 4, 5)), 1, "negative"),
        (np.full((3, 4, 5), np.inf), 1, "infinite"),
        (np.zeros((3, 4, 5)), 1, "zero throughout"),
        (np.ones(7), 1, "two axes"),
        (np.ones((3, 0, 5)), 1, "two axes"),
        (np.ones((3, 4, 5)), 0, "at least 1"),
        (np.ones((3, 4, 5)), 13, "at most 12"),
        (np.full((3, 4, 5), np.nan), 1, "missing throughout"),
    ],
)
def test_what_cannot_be_factorised_is_said(x, components, message):
    with pytest.raises(InputError, match=message):
        nonnegative_cp(x, components)


def test_a_slice_without_data_is_named():
    x = np.ones((3, 4, 5))
    x[:, 2] = np.nan
    with pytest.raises(InputError, match="axis 1 is missing throughout at 2"):
        nonnegative_cp(x, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"mask": np.ones((2, 2))},
        {"init": "svdd"},
        {"init": [np.ones((3, 1))]},
        {"init": [np.ones((d, 1)) for d in (3, 4, 6)]},
        {"n_restarts": 0},
    ],
)
def test_options_are_checked(options):
    with pytest.raises(InputError):
        nonnegative_cp(np.ones((3, 4, 5)), 1, **options)


def test_a_single_restart_has_no_stability():
    assert np.isnan(nonnegative_cp(np.ones((3, 4, 5)), 1, n_restarts=1).stability)
    with pytest.raises(InputError, match="restart"):
        rank_curve(np.ones((3, 4, 5)), 2, n_restarts=1)
