"""Lateral neurons learn the principal subspace of activity, and what is frozen stays."""

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD

from nissl.errors import InputError
from nissl.learning import HebbianSubspace
from nissl.learning.hebbian_projection._responses import spiking_response


def spectrum(n: int = 32, decay: float = 6.0, samples: int = 6000, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(n, n, generator=generator))[0]
    return (torch.randn(samples, n, generator=generator) * torch.exp(-torch.arange(n) / decay)) @ basis.T


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(torch.linalg.qr(a.T)[0].T @ torch.linalg.qr(b.T)[0]).min())


@pytest.mark.parametrize("settings", [{"lr": 0.02}, {"lr": 1.0, "iterations": 1, "normalise": True}])
def test_rows_settle_at_the_leading_right_singular_vectors(settings):
    x = spectrum()
    subspace = HebbianSubspace(32, **settings).fit(x, 5, epochs=5)
    svd = TruncatedSVD(5, algorithm="arpack").fit(x.numpy())
    assert cosine(subspace.rows_, torch.tensor(np.array(svd.components_))) > 0.99
    assert (subspace.rows_ @ subspace.rows_.T - torch.eye(5)).abs().max() < 0.05
    shares = (svd.transform(x.numpy()) ** 2).sum(0) / float(x.square().sum())
    assert float(subspace.explained_.sum()) == pytest.approx(shares.sum(), rel=0.05)


def test_the_mean_direction_is_one_of_them_for_activity_is_not_centred():
    x = 0.1 * spectrum(16) + 3.0
    subspace = HebbianSubspace(16, lr=1.0, normalise=True).fit(x, 1, epochs=3)
    mean = torch.ones(1, 16)
    assert cosine(subspace.rows_, mean) > 0.999


def test_an_invariant_orthonormal_basis_is_a_fixed_point_of_the_expected_update():
    # E[dH] = H C (I - H^T H), with C = x^T x / n: exactly zero for eigenvectors of C.
    x = spectrum(12).double()
    vectors = torch.linalg.eigh(x.T @ x)[1].T
    subspace = HebbianSubspace(12, lr=0.1, iterations=5, momentum=0.0).extend(3, like=x)
    subspace.rows_ = vectors[[2, 7, 11]].clone()
    subspace.partial_fit(x)
    assert torch.allclose(subspace.rows_, vectors[[2, 7, 11]], atol=1e-12)


def test_one_update_is_the_rule_written_out():
    x = spectrum(8, samples=20).double()
    subspace = HebbianSubspace(8, lr=0.3, iterations=1, momentum=0.4, clip=0.01).extend(2, like=x)
    h = subspace.rows_.clone()
    y = x @ h.T
    change = torch.stack([torch.outer(a, b - a @ h) for a, b in zip(y, x, strict=True)]).mean(0).clamp(-0.01, 0.01)
    assert torch.allclose(subspace.partial_fit(x).rows_, h + 0.3 * 0.6 * change, atol=1e-12)


def test_without_the_feedback_the_rule_diverges():
    x = spectrum()
    lesion = HebbianSubspace(32, lr=0.02, anti_hebbian=False).extend(4)
    for part in x.split(64):
        lesion.partial_fit(part)
    assert lesion.rows_.norm(dim=1).max() > 10
    with pytest.raises(InputError, match="unstable"):
        lesion.freeze()


@given(st.integers(0, 2**31 - 1), st.floats(1e-3, 1e3))
@settings(max_examples=25, deadline=None)
def test_the_residual_is_a_projection(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(7, 20, generator=generator, dtype=torch.float64)
    subspace = HebbianSubspace(20, seed=seed).extend(6, like=x).freeze()
    left = subspace.residual(x)
    assert torch.allclose(subspace.residual(left), left, atol=1e-10 * scale)
    assert (left @ subspace.protected.T).abs().max() < 1e-10 * scale
    assert torch.allclose(left + subspace.project(x), x, atol=1e-10 * scale)
    assert torch.allclose(subspace.decode(subspace.encode(x)), subspace.project(x), atol=1e-10 * scale)


@given(st.lists(st.floats(-15, 15), min_size=1, max_size=20), st.integers(1, 500))
def test_spiking_responses_come_near_the_exact_ones_as_levels_grow(values, levels):
    y = torch.tensor(values, dtype=torch.float64)
    spikes = spiking_response(y, levels, 20.0)
    assert (spikes - y).abs().max() <= 20 / (2 * levels) + 1e-9
    counts = spikes / 20 * levels
    assert torch.allclose(counts, counts.round(), atol=1e-6)


def test_a_second_subspace_is_added_and_the_first_is_the_same_bits():
    generator = torch.Generator().manual_seed(3)
    old, new = (torch.linalg.qr(torch.randn(60, 8, generator=generator))[0].T for _ in range(2))
    draws = [torch.randn(6000, 8, generator=generator) @ basis for basis in (old, new)]
    subspace = HebbianSubspace(60, lr=1.0, normalise=True, iterations=1)
    subspace.extend(8)
    for x in draws[0].split(64):
        subspace.partial_fit(x)
    before = subspace.freeze().rows_.clone()
    subspace.extend(8)
    for x in (draws[1] + 0.3 * draws[0]).split(64):  # old directions are still active
        subspace.partial_fit(x)
        assert torch.equal(subspace.rows_[:8], before)
    assert torch.equal(subspace.freeze().rows_[:8], before)
    assert cosine(subspace.rows_, torch.cat([old, new])) > 0.99
    assert float(subspace.residual(draws[0]).square().sum() / draws[0].square().sum()) < 1e-2
    noise = torch.randn(3000, 60, generator=generator)
    assert float(subspace.residual(noise).square().sum() / noise.square().sum()) == pytest.approx(1 - 16 / 60, abs=0.05)
    assert subspace.task_.tolist() == [0] * 8 + [1] * 8
    assert subspace.free_ == 44


def test_any_scale_of_activity_learns_alike_where_it_is_normalised():
    x = spectrum(samples=2000)
    small, large = (HebbianSubspace(32, lr=1.0, normalise=True).fit(s * x, 4) for s in (1e-3, 1e3))
    assert torch.allclose(small.rows_, large.rows_, atol=1e-3)


def test_a_sudden_rise_of_activity_does_not_break_the_rule():
    x = spectrum(samples=1280)
    subspace = HebbianSubspace(32, lr=1.0, normalise=True, iterations=1).extend(4)
    for i, part in enumerate(x.split(64)):
        subspace.partial_fit(part * (1000.0 if i > 10 else 1.0))
    subspace.freeze()


def test_silence_teaches_nothing():
    subspace = HebbianSubspace(5, normalise=True).extend(2)
    before = subspace.rows_.clone()
    assert torch.equal(subspace.partial_fit(torch.zeros(10, 5)).rows_, before)


def test_numpy_torch_and_xarray_are_the_same_and_people_see_named_axes():
    x = spectrum(6, samples=64)
    kinds = [x, x.numpy(), xr.DataArray(x.numpy(), dims=("sample", "unit"))]
    rows = [HebbianSubspace(6).fit(k, 2).rows_ for k in kinds]
    assert torch.equal(rows[0], rows[1])
    assert torch.equal(rows[0], rows[2])
    subspace = HebbianSubspace(6).fit(x, 2)
    assert subspace.components_.dims == ("component", "unit")
    assert subspace.directions_.dims == ("feature", "unit")
    assert subspace.explained_.dims == ("component",)
    assert "task" in subspace.components_.coords
    assert subspace.encode(x[None]).shape == (1, 64, 2)


def test_same_seed_same_rows_and_a_clone_begins_anew():
    x = spectrum(samples=500)
    a, b, c = (HebbianSubspace(32, seed=s).fit(x, 3) for s in (0, 0, 1))
    assert torch.equal(a.rows_, b.rows_)
    assert not torch.equal(a.rows_, c.rows_)
    assert torch.equal(clone(a).fit(x, 3).rows_, a.rows_)


def test_what_is_protected_is_saved_and_goes_on():
    x = spectrum(samples=500)
    a = HebbianSubspace(32).fit(x, 3).freeze()
    b = HebbianSubspace(32).load_state_dict(a.state_dict())
    for subspace in (a, b):
        subspace.extend(2).partial_fit(x[:64])
    assert torch.equal(a.rows_, b.rows_)
    assert a.task_.tolist() == b.task_.tolist()
    assert HebbianSubspace(32).load_state_dict(a.state_dict()).free_ == 29  # rows that still learn are not kept
    with pytest.raises(InputError, match="31 units"):
        HebbianSubspace(31).load_state_dict(a.state_dict())


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: HebbianSubspace(5).extend(6), "5 are free"),
        (lambda: HebbianSubspace(5).extend(4).freeze().extend(2), "1 are free"),
        (lambda: HebbianSubspace(5).extend(2).extend(2), "freeze"),
        (lambda: HebbianSubspace(5).extend(2).partial_fit(np.full((3, 5), np.nan)), "NaN"),
        (lambda: HebbianSubspace(5).extend(2).partial_fit(np.ones((3, 4))), "5 units"),
        (lambda: HebbianSubspace(5).extend(2).partial_fit(np.ones((0, 5))), "5 units"),
        (lambda: HebbianSubspace(5).extend(0).partial_fit(np.ones((3, 5))), "no rows that learn"),
        (lambda: HebbianSubspace(5).residual(np.ones((3, 5))), "no rows yet"),
        (lambda: HebbianSubspace(0).extend(1), "n_units"),
        (lambda: HebbianSubspace(5, lr=-1).extend(1), "lr"),
        (lambda: HebbianSubspace(5, levels=0).extend(1), "levels"),
        (lambda: HebbianSubspace(5, bound=0.0).extend(1), "bound"),
    ],
)
def test_what_cannot_be_is_said(use, message):
    with pytest.raises(InputError, match=message):
        use()
