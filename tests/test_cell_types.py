"""Cell types by most discriminative stimuli: closed forms, planted types, every kind of model, bad input."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score, confusion_matrix
from torch import nn
from torch.nn import functional

import nissl
from nissl import comparison
from nissl.comparison import (
    Centred,
    Clip,
    DiscriminativeClustering,
    L2Ball,
    ResponseModel,
    Rotated,
    SiteResponses,
    discriminability,
)
from nissl.comparison.cell_types._objective import Ascent, averaging, make_stimuli
from nissl.comparison.cell_types._quality import cluster_means, halved, judge, row_margin
from nissl.comparison.cell_types._refine import _inserted, _joined
from nissl.comparison.cell_types._responses import population
from nissl.errors import InputError, ModelError, UnknownNameError
from nissl.recordings.simulate import RETINA_TYPES, SIMPLE_AND_COMPLEX, natural_stimuli, retina

QUICK = dict(n_restarts=1, steps=10, max_iter=10, polish_steps=40, progress=False)


# The objective


def _means(s: int, k: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(s, k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_one_cluster_has_no_objective() -> None:
    assert discriminability(_means(5, 1), torch.zeros(5, dtype=torch.long)).abs().max() < 1e-12


@pytest.mark.parametrize("temperature", [0.3, 1.6, 20.0])
def test_two_clusters_have_a_softplus(temperature: float) -> None:
    means = _means(9, 2)
    expected = np.log(2) - functional.softplus((means[:, 1] - means[:, 0]) / temperature)
    torch.testing.assert_close(discriminability(means, torch.zeros(9, dtype=torch.long), temperature), expected)


@settings(deadline=None, max_examples=30)
@given(k=st.integers(2, 9), seed=st.integers(0, 10_000), shift=st.floats(-50, 50), temperature=st.floats(0.05, 50))
def test_laws_of_the_objective(k: int, seed: int, shift: float, temperature: float) -> None:
    means, own = _means(6, k, seed), torch.randint(k, (6,), generator=torch.Generator().manual_seed(seed))
    value = discriminability(means, own, temperature)
    assert (value <= np.log(k) + 1e-9).all()
    torch.testing.assert_close(discriminability(means + shift, own, temperature), value, rtol=1e-6, atol=1e-8)
    order = torch.randperm(k, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(discriminability(means[:, order], order.argsort()[own], temperature), value)


def test_gradient_is_that_of_finite_differences() -> None:
    cells = retina(n_per_type=2, size=8)
    model = cells.model.double()
    mean, _ = averaging([cells.types.values], torch.zeros(1, dtype=torch.float64))

    def objective(x: torch.Tensor) -> torch.Tensor:
        return discriminability(model(x) @ mean, torch.arange(6))

    assert torch.autograd.gradcheck(objective, cells.natural(6).double().requires_grad_())
    cells.model.float()


def test_units_of_a_cluster_are_exchangeable() -> None:
    labels = np.array([0, 0, 1, 1, 1, 2])
    z = torch.randn(4, 6)
    order = np.array([1, 0, 4, 2, 3, 5])
    first, second = (z @ averaging([labels], z)[0], z[:, order] @ averaging([labels[order]], z)[0])
    torch.testing.assert_close(first, second)
    np.testing.assert_allclose(first.numpy(), cluster_means(z.numpy(), labels, 3), rtol=1e-5)


def _linear(n: int = 30, d: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_linear_units_at_high_temperature_have_a_closed_form() -> None:
    """The optimum is the mean filter of the cluster minus the mean of all clusters' mean filters, scaled to the norm."""
    filters, labels = _linear().double(), np.arange(30) % 4
    natural = torch.randn(400, 1, 8, 8, dtype=torch.float64)
    z = filters / (natural.flatten(1) @ filters.T).std(0)[:, None]
    found = comparison.most_discriminative_stimuli(
        lambda x: x.flatten(1) @ filters.T, labels, natural=natural, constraint=L2Ball(2.0), temperature=1e4
    )
    means = torch.stack([z[labels == k].mean(0) for k in range(4)])
    expected = (means - means.mean(0)).numpy()
    given = found.values.reshape(4, -1)
    cosine = (given * expected).sum(1) / np.linalg.norm(given, axis=1) / np.linalg.norm(expected, axis=1)
    assert (cosine > 0.999).all()
    np.testing.assert_allclose(np.linalg.norm(given, axis=1), 2.0, rtol=1e-5)


def test_most_exciting_stimulus_of_linear_units_is_their_mean_filter() -> None:
    filters, labels = _linear(), np.arange(30) % 3
    natural = torch.randn(400, 1, 8, 8)
    z = filters / (natural.flatten(1) @ filters.T).std(0)[:, None]
    given = comparison.most_exciting_stimuli(
        lambda x: x.flatten(1) @ filters.T, labels, natural=natural
    ).values.reshape(3, -1)
    expected = np.stack([z[labels == k].mean(0).numpy() for k in range(3)])
    assert ((given * expected).sum(1) > 0.999 * np.linalg.norm(given, axis=1) * np.linalg.norm(expected, axis=1)).all()


# The machinery


def test_partitions_side_by_side_are_as_each_alone() -> None:
    filters = _linear()
    rng = np.random.default_rng(0)
    partitions = [rng.permutation(np.arange(30) % k) for k in (3, 2, 5)]
    partitions[1][:9] = -1
    ascent = Ascent((64,), L2Ball(2.0))
    start = ascent.noise(10, 3)
    together = make_stimuli(lambda x: x @ filters.T, partitions, start, ascent, 15)
    begin = 0
    for i, labels in enumerate(partitions):
        k = labels.max() + 1
        alone = make_stimuli(lambda x: x @ filters.T, [labels], start[begin : begin + k], ascent, 15)
        torch.testing.assert_close(alone.stimuli, together.stimuli[together.of(i)], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(alone.objective, together.objective[together.of(i)], rtol=1e-3, atol=1e-4)
        begin += k


def test_halves_share_every_cluster() -> None:
    labels = np.array([0, 1, 1, 2, 2, 2, -1, 2, 2])
    a, b = halved(labels, np.random.default_rng(0))
    assert np.bincount(a[a >= 0]).tolist() == [1, 1, 3]
    assert np.bincount(b[b >= 0]).tolist() == [1, 1, 2]
    assert a[6] == b[6] == -1
    assert (((a >= 0) & (b >= 0)) == (labels == 0)).all()
    assert np.array_equal(np.maximum(a, b), labels)


def test_row_margin_by_hand() -> None:
    margin, rival = row_margin(np.array([[3.0, 1.0, 2.0], [0.0, 1.0, 4.0], [0.0, -1.0, 2.0]]))
    assert margin.tolist() == [1.0, -3.0, 2.0]
    assert rival.tolist() == [2, 2, 0]


def test_splitting_and_joining_labels() -> None:
    labels = np.array([0, 0, 1, 1, 1, 2])
    sub = np.array([-1, -1, 0, 2, 1, -1])
    assert _inserted(labels, 1, sub).tolist() == [0, 0, 1, 4, 3, 2]
    assert _joined(labels, [(0, 2)]).tolist() == [1, 1, 0, 0, 0, 1]
    assert _joined(labels, [(0, 2), (2, 1)]).tolist() == [0] * 6


def test_a_type_cut_in_two_is_not_told_apart_on_held_out_members() -> None:
    cells = retina(n_per_type=12)
    natural = cells.natural(300)
    response = cells.model(natural)
    mean, sd = response.mean(0), response.std(0)
    true = cells.types.values
    cut = np.where(np.arange(len(true)) < 6, 6, true)
    whole, pieces = judge(
        lambda x: (cells.model(x) - mean) / sd, [true, cut], Ascent(cells.canvas, L2Ball(4.0)), steps=50, min_margin=0.5
    )
    assert whole.verified.all()
    assert whole.margin.min() > 3
    assert (~pieces.verified).nonzero()[0].tolist() == [0, 6]
    assert set(pieces.rival[[0, 6]]) == {0, 6}


# Types that are known


@pytest.mark.parametrize("k", [2, 5, 9])
def test_on_and_off_cells_are_two_clusters(k: int) -> None:
    """Response = plus or minus the mean of the picture, from however many clusters the search starts."""
    sign = torch.tensor([1.0, -1.0] * 8)
    gain = torch.rand(16) + 0.5

    def model(x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))[:, None] * sign * gain

    natural = torch.randn(100, 1, 6, 6)
    for splits in (True, False):
        found = DiscriminativeClustering(n_clusters=k, split=splits, merge=splits, **QUICK).fit(model, natural=natural)
        assert found.n_clusters_ == 2
        assert adjusted_rand_score(sign.numpy(), found.labels_) == 1.0


@pytest.fixture(scope="module")
def cells() -> object:
    return retina(n_per_type=10, seed=3)


@pytest.fixture(scope="module")
def fitted(cells) -> DiscriminativeClustering:
    return DiscriminativeClustering(n_clusters=9, **{**QUICK, "n_restarts": 2}).fit(
        cells.model, natural=cells.natural(300)
    )


def test_planted_types_are_found(cells, fitted: DiscriminativeClustering) -> None:
    assert fitted.n_clusters_ == 6
    assert adjusted_rand_score(cells.types, fitted.labels_) > 0.95
    assert fitted.stimuli_.sizes == {"cluster": 6, "channel": 1, "y": 16, "x": 16}
    np.testing.assert_allclose(np.linalg.norm(fitted.stimuli_.values.reshape(6, -1), axis=1), 4, rtol=1e-3)
    assert (fitted.confusion_.argmax("cluster").values == np.arange(6)).all()
    assert (fitted.objective_ <= np.log(6)).all()
    assert (fitted.objective_ > 1.5).all()
    assert (fitted.held_out_margin_ > 1).all()
    assert fitted.restarts_.shape[0] == 2
    assert fitted.history_.columns.tolist() == ["restart", "round", "objective"]


def test_what_a_fit_holds_is_consistent(cells, fitted: DiscriminativeClustering) -> None:
    again = fitted.respond(cells.model)
    np.testing.assert_allclose(again, fitted.responses_, atol=1e-3)
    assert np.array_equal(fitted.predict(again), fitted.labels_)
    top = np.sort(again.values, 0)
    np.testing.assert_allclose(fitted.margin_, top[-1] - top[-2], atol=2e-3)
    np.testing.assert_allclose(fitted.margin(fitted.labels_["unit"][[2, 4]]), fitted.margin_[[2, 4]])
    np.testing.assert_allclose(comparison.response_confusion(again, fitted.labels_), fitted.confusion_, atol=1e-3)


def test_the_same_seed_is_the_same_answer(cells, fitted: DiscriminativeClustering) -> None:
    again = clone(fitted).fit(cells.model, natural=cells.natural(300))
    assert np.array_equal(again.labels_, fitted.labels_)
    np.testing.assert_allclose(again.stimuli_, fitted.stimuli_, atol=1e-4)


def test_new_neurons_are_typed_from_raw_repeats(fitted: DiscriminativeClustering) -> None:
    new = retina(n_per_type=10, seed=77)
    stimuli = torch.as_tensor(fitted.stimuli_.values)
    measured = new.record(stimuli, repeats=20, rate=20.0)
    assert adjusted_rand_score(new.types, fitted.predict(measured)) > 0.8
    scaled = 7 * measured + np.arange(60)  # a unit's own scale and baseline say nothing
    assert np.array_equal(fitted.predict(scaled), fitted.predict(measured))
    assert (fitted.predict(fitted.respond(new.model), min_margin=1e6) == -1).all()


def test_low_margins_stay_unassigned(cells) -> None:
    found = DiscriminativeClustering(n_clusters=6, split=False, merge=False, min_unit_margin=1e6, **QUICK).fit(
        cells.model, natural=cells.natural(100), labels=cells.types
    )
    assert (found.labels_ == -1).all()


def test_one_type_is_one_cluster_and_says_so() -> None:
    one = retina((RETINA_TYPES[3],), n_per_type=30)
    with pytest.warns(UserWarning, match="one type"):
        found = DiscriminativeClustering(n_clusters=1, **QUICK).fit(one.model, natural=one.natural(200))
    assert found.n_clusters_ == 1
    assert found.objective_.item() == pytest.approx(0, abs=1e-6)
    exciting = one.model(torch.as_tensor(found.stimuli_.values)).mean()
    assert exciting > 2 * one.model(one.natural(200)).mean()


def test_splits_from_two_clusters(cells) -> None:
    few = DiscriminativeClustering(n_clusters=2, merge=False, **QUICK).fit(cells.model, natural=cells.natural(300))
    assert 5 <= few.n_clusters_ <= 7
    assert adjusted_rand_score(cells.types, few.labels_) > 0.9


def test_the_published_rule_splits_more(cells) -> None:
    published = DiscriminativeClustering(
        n_clusters=6, accept="objective", merge=False, **{**QUICK, "polish_steps": 20}
    ).fit(cells.model, natural=cells.natural(100), labels=cells.types)
    assert published.n_clusters_ > 6


def test_the_picture_is_drawn(fitted: DiscriminativeClustering, tmp_path) -> None:
    fitted.plot().savefig(tmp_path / "types.png")
    assert (tmp_path / "types.png").stat().st_size > 10_000


# Places and orientations


def test_rotations() -> None:
    x = torch.randn(3, 2, 9, 9)

    def model(x: torch.Tensor) -> torch.Tensor:
        return x[:, 0, 2, 3:6]

    expected = torch.stack([model(torch.rot90(x, k, (-2, -1))) for k in range(4)]).amax(0)
    torch.testing.assert_close(Rotated(model, 4)(x), expected)
    torch.testing.assert_close(Rotated(model, 4)(torch.rot90(x, 1, (-2, -1))), expected)
    # Bilinear turns by a hair's breadth off a quarter agree with the exact ones, so both turn the same way.
    smooth = natural_stimuli(2, (1, 24, 24), norm=None)
    near = Rotated(lambda x: x[:, 0, 4:20, 12], [89.999])(smooth)
    torch.testing.assert_close(near, torch.rot90(smooth, 1, (-2, -1))[:, 0, 4:20, 12], atol=5e-3, rtol=0)


def test_orientations_are_one_type_under_rotation() -> None:
    two = retina(tuple(t for t in SIMPLE_AND_COMPLEX if t.kind == "complex"), n_per_type=8)
    options = dict(n_clusters=4, **QUICK)
    upright = DiscriminativeClustering(**options).fit(two.model, natural=two.natural(200))
    assert upright.n_clusters_ == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        turned = DiscriminativeClustering(rotations=4, **options).fit(two.model, natural=two.natural(200))
    assert turned.n_clusters_ == 1


def test_receptive_fields_are_centred() -> None:
    """Scattered over the canvas, cells cluster by place; centred, by type."""
    scattered = retina((RETINA_TYPES[0], RETINA_TYPES[1]), n_per_type=8, size=24, position_jitter=2.0)
    natural = scattered.natural(200)
    centres = comparison.receptive_field_centres(scattered.model, natural)
    assert np.abs(centres - scattered.centres).max() < 0.3
    centred = comparison.centred(scattered.model, natural)
    assert np.abs(comparison.receptive_field_centres(centred, natural)).max() < 0.8
    raw, found = (
        DiscriminativeClustering(n_clusters=6, **QUICK).fit(m, natural=natural) for m in (scattered.model, centred)
    )
    assert adjusted_rand_score(scattered.types, raw.labels_) < 0.6
    assert adjusted_rand_score(scattered.types, found.labels_) == 1.0
    assert np.array_equal(found.labels_["unit"], scattered.types["unit"])


def test_centred_is_the_shifted_stimulus() -> None:
    x = torch.randn(2, 1, 7, 7)

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0, 5, 2], x[:, 0, 3, 3]], 1)

    centred = Centred(model, [[2, -1], [0, 0]])
    torch.testing.assert_close(centred(x), x[:, 0, 3, 3][:, None].expand(2, 2))


# Any network


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 5, padding=2)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.norm(self.conv(x)).relu()).mean((2, 3)))


def test_units_of_a_site_with_gradient() -> None:
    net = _Net().eval()
    x = torch.randn(3, 3, 11, 11)
    for reduce, expected in (
        ("centre", net.norm(net.conv(x))[:, :, 5, 5]),
        ("mean", net.norm(net.conv(x)).mean((2, 3))),
    ):
        probe = x.clone().requires_grad_()
        value = SiteResponses(net, "norm", reduce)(probe)  # type: ignore[arg-type]
        torch.testing.assert_close(value, expected)
        value.sum().backward()
        again = x.clone().requires_grad_()
        direct = net.norm(net.conv(again))
        (direct[:, :, 5, 5] if reduce == "centre" else direct.mean((2, 3))).sum().backward()
        torch.testing.assert_close(probe.grad, again.grad)
    assert all((p.requires_grad and p.grad is not None) or p.grad is None for p in net.parameters())


def test_a_network_is_clustered_by_site_name_and_left_as_it_was() -> None:
    net = _Net().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = DiscriminativeClustering(n_clusters=3, split=False, merge=False, **QUICK).fit(
        net, site="conv", canvas=(3, 12, 12), units=[0, 2, 3, 5, 6, 7]
    )
    assert found.labels_["unit"].values.tolist() == [0, 2, 3, 5, 6, 7]
    assert found.stimuli_.sizes["channel"] == 3
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_module_in_training_is_read_without_dropout_and_stays_in_training() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Dropout(0.9), nn.BatchNorm1d(8)).train()
    statistics = net[3].running_mean.clone()
    first, second = (_fit(net, split=False, merge=False) for _ in range(2))
    assert np.array_equal(first.responses_, second.responses_)
    assert torch.equal(net[3].running_mean, statistics)
    assert all(m.training for m in net.modules())


def test_tokens_and_plain_vectors_are_units_too() -> None:
    net = nissl.load(nn.Sequential(nn.Linear(6, 5), nn.ReLU()))
    x = torch.randn(4, 7, 6)
    torch.testing.assert_close(SiteResponses(net, "0", "mean")(x), net.module[0](x).mean(1))
    flat = nissl.load(nn.Sequential(nn.Linear(6, 5)))
    torch.testing.assert_close(SiteResponses(flat, "0")(x[:, 0]), flat.module[0](x[:, 0]))


# Confusions, baselines, typing


def test_confusions_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    found, known = rng.integers(0, 4, 80), rng.integers(0, 4, 80)
    expected = confusion_matrix(known, found, normalize="true").T
    np.testing.assert_allclose(comparison.assignment_confusion(found, known), expected)
    relative = comparison.response_confusion([[2.0, 1.0], [1.0, 4.0]], [0, 1], relative=True)
    assert relative.values.tolist() == [[1.0, 0.5], [0.25, 1.0]]


@pytest.mark.parametrize("method", ["kmeans", "gaussian mixture"])
def test_the_usual_clustering(cells, method) -> None:
    response = cells.record(cells.natural(300))[0]
    labels = comparison.cluster_responses(
        (response - response.mean("stimulus")) / response.std("stimulus"), 6, method=method
    )
    assert adjusted_rand_score(cells.types, labels) > 0.5
    assert np.array_equal(labels["unit"], cells.types["unit"])


def test_typing_with_and_without_noise(cells) -> None:
    natural = cells.natural(300)
    ways = comparison.typing_stimuli(cells.model, cells.types, natural=natural, n_random=(5,), steps=60)
    assert list(ways) == ["MDS", "MEI", "best natural", "5 random natural"]
    assert ways["MDS"].objective.mean() > max(ways["MEI"].objective.mean(), ways["best natural"].objective.mean())
    clean = comparison.typing_accuracy(
        ways, cells.model, cells.types, natural=natural, noise=0.0, repeats=(1,), n_trials=1
    )
    assert clean.set_index("stimuli").loc["MDS", "accuracy"] == 1.0
    noisy = comparison.typing_accuracy(ways, cells.model, cells.types, natural=natural, noise=1000.0, repeats=(1,))
    assert (noisy["accuracy"] - 1 / 6).abs().max() < 0.05
    more = comparison.typing_accuracy(ways, cells.model, cells.types, natural=natural, noise=4.0, repeats=(1, 9))
    accuracy = more.set_index(["stimuli", "repeats"])["accuracy"]
    assert accuracy["MDS", 9] > accuracy["MDS", 1] + 0.1
    assert (more["presentations"] == more["shown"] * more["repeats"]).all()


# From a recording


def test_a_linear_model_is_recovered() -> None:
    rng = np.random.default_rng(0)
    filters, x = rng.standard_normal((3, 40)), rng.standard_normal((1500, 1, 5, 8))
    y = x.reshape(1500, -1) @ filters.T + 2 * rng.standard_normal((1500, 3))
    model = ResponseModel(n_quadratic=0, output="identity").fit(x, y)
    for found, true in zip(model.filters_.values.reshape(3, -1), filters, strict=True):
        assert np.corrcoef(found, true)[0, 1] > 0.98
    assert (model.held_out_correlation_ > 0.9).all()
    # The ceiling is set by the noise: sqrt(signal variance / all variance).
    ceiling = np.sqrt((filters**2).sum(1) / ((filters**2).sum(1) + 4))
    np.testing.assert_allclose(model.held_out_correlation_, ceiling, atol=0.05)


def test_a_complex_cell_needs_quadratic_filters() -> None:
    cells = retina(n_per_type=2, size=10, jitter=0.1)
    x = torch.randn(2500, 1, 10, 10) * 0.5
    y = cells.record(x)[0]
    linear, quadratic = (ResponseModel(n_quadratic=q, steps=150).fit(x, y).held_out_correlation_.values for q in (0, 2))
    assert linear[6:].mean() < 0.3
    assert quadratic[6:].mean() > 0.8
    assert quadratic[:6].mean() > 0.9


def test_from_counts_to_types() -> None:
    """Two calls: a response model from spike counts, then types and their stimuli; checked on the true responses."""
    cells = retina(tuple(RETINA_TYPES[:3]), n_per_type=6, size=10)
    x = cells.natural(1500)
    model = ResponseModel(n_quadratic=0, loss="poisson", steps=100).fit(x, cells.record(x, rate=10.0))
    assert model.unit_names == cells.types["unit"].values.tolist()
    assert population(model).canvas == (1, 10, 10)  # it knows what it was fitted to
    found = DiscriminativeClustering(n_clusters=6, **QUICK).fit(model, natural=x)
    assert np.array_equal(found.labels_["unit"], cells.types["unit"])
    assert adjusted_rand_score(cells.types, found.labels_) > 0.9
    truly = found.respond(cells.model)
    assert adjusted_rand_score(cells.types, found.predict(truly)) > 0.9


def test_interval_responses_are_means_over_intervals() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((200, 3))
    values[50:60, 1] = np.nan
    time = np.arange(200) * 0.1
    start = np.array([0.05, 3.0, 5.0, 12.0])
    recording = xr.Dataset(
        {
            "activity": (("time", "unit"), values),
            "stimulus_start": ("interval", start),
            "stimulus_stop": ("interval", start + 1),
        },
        coords={"time": time, "unit": ["a", "b", "c"]},
    )
    found = comparison.interval_responses(recording, delay=0.2)
    for i, t in enumerate(start):
        inside = (time >= t + 0.2) & (time < t + 1.2)
        np.testing.assert_allclose(found[i], np.nanmean(values[inside], 0))
    with pytest.raises(InputError, match="stimulus_start"):
        comparison.interval_responses(recording.drop_vars("stimulus_start"))


# Bad input


def _fit(model, **options: object) -> DiscriminativeClustering:
    settings = {"n_clusters": 3, **QUICK}
    fit = {"natural": torch.randn(50, 1, 6, 6, generator=torch.Generator().manual_seed(0))}
    for key, value in options.items():
        (settings if key in DiscriminativeClustering().get_params() else fit)[key] = value
    return DiscriminativeClustering(**settings).fit(model, **fit)  # type: ignore[arg-type]


def _good(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1)[:, :8]


class _Quiet:
    unit_names = ["a", "b", "silent"]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.flatten(1)[:, :2], 0 * x.flatten(1)[:, :1] + 3], 1)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (_Quiet(), {"n_clusters": 2}, InputError, "'silent'.*alike"),
        (lambda x: x.flatten(1)[:, :4] * float("nan"), {}, InputError, "NaN.*0, 1, 2, 3"),
        (_good, {"n_clusters": 9}, InputError, "9 clusters for 8 units"),
        (_good, {"n_clusters": 1, "split": False}, InputError, "one cluster and no splits"),
        (lambda x: _good(x).detach(), {}, ModelError, "not differentiable"),
        (lambda x: torch.tensor(x.numpy()), {}, ModelError, "not differentiable"),
        (lambda x: np.ones((len(x), 4)), {}, ModelError, "ndarray"),
        (lambda x: x, {}, InputError, r"\(stimulus, unit\)"),
        (lambda x: _good(x).sum(0, keepdim=True), {}, InputError, r"\(stimulus, unit\)"),
        (nn.Conv2d(3, 4, 3), {"site": None}, InputError, "does not take stimuli"),
        (_good, {"canvas": (1, 5, 5)}, InputError, "canvas"),
        (_good, {"canvas": (0,), "natural": None}, InputError, "no shape"),
        (_good, {"canvas": (7,), "natural": None}, InputError, "natural"),
        (_good, {"natural": None}, InputError, "canvas="),
        (_good, {"natural": torch.randn(3, 1, 6, 6)}, InputError, "at least 10"),
        (_good, {"natural": torch.full((50, 1, 6, 6), float("nan"))}, InputError, "NaN"),
        (_good, {"constraint": L2Ball(50.0) & Clip(-0.1, 0.1)}, InputError, "no stimulus"),
        (_good, {"constraint": Clip((0.0, 0.0), 1.0)}, InputError, "channels"),
        (_good, {"units": [0, 99]}, InputError, "99"),
        (_good, {"labels": [0, 1]}, InputError, "one label a unit"),
        (_good, {"temperature": 0.0}, InputError, "temperature"),
        (_good, {"accept": "perhaps"}, InputError, "accept"),
        (_good, {"rotations": 0}, InputError, "rotations"),
        (3, {}, InputError, "function"),
        ("scenes", {}, InputError, "site="),
        (nn.Sequential(nn.Conv2d(1, 4, 3)), {"site": "1"}, UnknownNameError, "'1'"),
    ],
)  # fmt: skip
def test_bad_input_is_named(model, options, error, message) -> None:
    with pytest.raises(error, match=message):
        _fit(model, **options)


def test_bad_responses_to_stimuli(fitted: DiscriminativeClustering) -> None:
    good = fitted.responses_.values
    with pytest.raises(InputError, match="6 stimuli"):
        fitted.predict(good[:4])
    with pytest.raises(InputError, match="NaN"):
        fitted.predict(np.where(good == good.max(), np.nan, good))
    with pytest.raises(InputError, match="alike"):
        fitted.predict(np.zeros((6, 3)))


def test_bad_recordings() -> None:
    x, y = np.random.default_rng(0).standard_normal((100, 1, 4, 4)), np.random.default_rng(1).standard_normal((100, 3))
    for stimuli, responses, options, message in (
        (x[:90], y, {}, "same order"),
        (x[:20], y[:20], {}, "too few"),
        (x, np.where(np.arange(3) == 1, np.nan, y), {}, r"NaN.*1"),
        (x, np.where(np.arange(3) == 2, 5.0, y), {}, r"2.*alike"),
        (x, y, {"loss": "poisson"}, "negative"),
        (x, y, {"output": "relu"}, "softplus"),
        (x, y, {"held_out": 0.9}, "shares"),
    ):
        with pytest.raises(InputError, match=message):
            ResponseModel(steps=2, **options).fit(stimuli, responses)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        retina(n_per_type=0)
    with pytest.raises(InputError):
        natural_stimuli(3, (1, 2, 2))
    with pytest.raises(InputError, match="no pixel"):
        comparison.receptive_field_centres(lambda x: 0 * x.flatten(1)[:, :2], natural_stimuli(5, (1, 8, 8)))
    for wrong in (dict(labels=[0, 1, 2], responses=[[1.0, 2.0]]), dict(labels=[0, 5], responses=[[1.0, 2.0]])):
        with pytest.raises(InputError):
            comparison.response_confusion(**wrong)
    with pytest.raises(InputError):
        comparison.cluster_responses(np.zeros((4, 3)), 5)
