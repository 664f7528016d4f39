"""Tests of attributions against closed forms, trusted packages, made maps and laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from skimage.measure import label, regionprops
from torch import nn

import nissl
from nissl import evaluation as ev
from nissl.errors import InputError, UnknownNameError


@pytest.fixture
def linear() -> nissl.Model:
    """A network whose score is a weighted sum of pixels, so that every curve is known."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(36, 1))
    with torch.no_grad():
        module[0].weight[:] = 1.0
        module[2].bias[:] = 0.5
    return nissl.load(module)


def test_deletion_and_insertion_of_a_linear_score_in_closed_form(linear: nissl.Model) -> None:
    x = torch.rand(3, 1, 6, 6)
    parts = (x.flatten(1) * linear.module[2].weight).detach()
    options = dict(target=0, steps=36, baseline="zero", normalize=False)
    curve = ev.deletion(linear, x, parts.reshape(3, 6, 6), **options)
    ordered = parts.sort(1, descending=True).values
    removed = torch.cat([torch.zeros(3, 1), ordered.cumsum(1)], 1)
    expected = parts.sum(1, keepdim=True) + 0.5 - removed
    np.testing.assert_allclose(curve.curve, expected, atol=1e-5)
    np.testing.assert_allclose(curve.area.values, np.trapezoid(expected, dx=1 / 36, axis=1), atol=1e-5)
    inserted = ev.insertion(linear, x, parts.reshape(3, 6, 6), **options)
    np.testing.assert_allclose(inserted.curve, 0.5 + removed, atol=1e-5)
    assert curve.better
    assert inserted.better
    assert not ev.deletion(linear, x, -parts.reshape(3, 6, 6), **options).better


def test_curves_of_texts_touch_real_tokens_only() -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=30, num_labels=2
    )
    model = nissl.load(transformers.BertForSequenceClassification(config))
    texts = [[5, 6, 7, 8], [9, 10]]
    rows = np.array([[3.0, 1.0, 2.0, 0.0], [0.0, 1.0, np.nan, np.nan]])
    curve = ev.deletion(model, texts, rows, target=1, steps=2, baseline=4)
    with torch.no_grad():
        half = [model([[4, 6, 4, 8]]), model([[9, 4]])]
    for i, logits in enumerate(half):
        np.testing.assert_allclose(curve.curve[i, 1], logits.softmax(-1)[0, 1].item(), atol=1e-5)
    with pytest.raises(InputError, match="TOKEN_ID"):
        ev.deletion(model, texts, rows, target=1)
    with pytest.raises(InputError, match=r"\(2, 3\)"):
        ev.deletion(model, texts, rows[:, :3], target=1, baseline=4)


def test_a_better_map_has_better_curves_on_a_real_network(efficientnet: nissl.Model, chelsea) -> None:
    heat = nissl.attribution.grad_cam(efficientnet, chelsea, "tabby")
    up = ev.insertion(efficientnet, chelsea, heat, "tabby", steps=8, control_repeats=3)
    assert up.area.value > up.area.control
    assert up.curve.sizes == {"sample": 1, "fraction": 9}


# --------------------------------------------------------------------------------------------------------- localisation


def blob(n: int, size: int, y: int, x: int, r: int) -> np.ndarray:
    grid_y, grid_x = np.mgrid[:size, :size]
    return np.broadcast_to(np.exp(-((grid_y - y) ** 2 + (grid_x - x) ** 2) / r**2), (n, size, size)).copy()


def test_pointing_game_by_hand() -> None:
    maps = blob(4, 20, 5, 6, 3)
    masks = np.zeros((4, 20, 20), bool)
    masks[:2, 4:8, 4:8] = True
    masks[2:, 12:15, 12:15] = True
    found = ev.pointing_game(maps, masks)
    assert found.value == 0.5
    np.testing.assert_allclose(found.control, np.mean([16, 16, 9, 9]) / 400, atol=0.08)
    masks[2:] = False
    masks[2:, 5, 9] = True
    assert ev.pointing_game(maps, masks).value == 0.5
    assert ev.pointing_game(maps, masks, tolerance=3).value == 1.0


def test_pointing_game_can_say_that_nothing_is_there() -> None:
    maps = np.stack([blob(1, 10, 3, 3, 2)[0], 0.1 * blob(1, 10, 3, 3, 2)[0]])
    masks = np.zeros((2, 10, 10), bool)
    masks[0, 3, 3] = True
    assert ev.pointing_game(maps, masks, threshold=0.5).value == 1.0
    with pytest.raises(InputError, match="mask 1 is empty"):
        ev.pointing_game(maps, masks)


def test_energy_inside_and_its_controls() -> None:
    maps = np.zeros((2, 8, 8))
    maps[:, 2, 2], maps[:, 6, 6] = 3.0, 1.0
    maps[:, 0, 0] = -5.0
    masks = np.zeros((2, 8, 8), bool)
    masks[:, :4, :4] = True
    found = ev.energy_inside(maps, masks, control_masks=np.roll(masks, 4, (1, 2)))
    assert (found.value, found.control) == (0.75, 0.25)
    assert abs(ev.energy_inside(maps, masks).control - 0.25) < 0.12
    with pytest.raises(InputError, match="mask 0 is empty"):
        ev.energy_inside(maps, ~np.ones_like(masks))


def test_boxes_equal_scikit_image(rng: np.random.Generator) -> None:
    from scipy.ndimage import gaussian_filter

    maps = gaussian_filter(rng.random((20, 24, 24)), (0, 2, 2)) - 0.45
    boxes = ev.threshold_boxes(maps, 0.4)
    for heat, box in zip(maps, boxes, strict=True):
        regions = regionprops(label(heat > 0.4 * heat.max(), connectivity=2))
        areas = [r.area for r in regions]
        candidates = [r.bbox for r in regions if r.area == max(areas)]
        assert (box[1], box[0], box[3], box[2]) in candidates


def test_localise_against_the_centre_box() -> None:
    maps = blob(3, 40, 10, 10, 4)
    truth = np.tile([4.0, 4.0, 17.0, 17.0], (3, 1))
    found = ev.localise(maps, truth)
    assert (found.value, found.control) == (1.0, 0.0)
    middle = np.tile([13.5, 13.5, 26.5, 26.5], (3, 1))
    assert ev.localise(maps, middle).control == 1.0


boxes = arrays(float, 4, elements=st.floats(0, 50)).map(
    lambda b: np.array([min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])])
)


@given(a=boxes, b=boxes)
def test_iou_is_symmetric_bounded_and_one_for_equals(a: np.ndarray, b: np.ndarray) -> None:
    assert ev.box_iou(a, b) == ev.box_iou(b, a)
    assert 0 <= ev.box_iou(a, b)[0] <= 1 + 1e-12
    if (a[2] - a[0]) * (a[3] - a[1]) > 1e-6:
        np.testing.assert_allclose(ev.box_iou(a, a), 1)


# ------------------------------------------------------------------------------------------------------------ agreement


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_rank_correlations_equal_scipy(rng: np.random.Generator) -> None:
    a, b = rng.integers(0, 6, (5, 30)).astype(float), rng.integers(0, 6, (5, 30)).astype(float)
    np.testing.assert_allclose(ev.spearman(a, b), [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    kendall = ev.agreement({"a": a, "b": b}, kind="kendall").matrix.loc["a", "b"]
    np.testing.assert_allclose(kendall, np.mean([stats.kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]))
    a[0, 20:] = b[0, 20:] = np.nan
    np.testing.assert_allclose(ev.spearman(a, b)[0], stats.spearmanr(a[0, :20], b[0, :20]).statistic)


@given(values=arrays(float, (2, 12), elements=st.floats(-5, 5).map(lambda v: round(v, 3)), unique=True))
@settings(deadline=None, max_examples=30)
def test_ranks_do_not_care_for_monotone_rescaling(values: np.ndarray) -> None:
    np.testing.assert_allclose(ev.spearman(values, np.exp(values)), 1)
    np.testing.assert_allclose(ev.spearman(values, -values), -1)
    overlap = ev.agreement({"a": values, "b": np.exp(values)}, kind="top_k", k=0.3).matrix.loc["a", "b"]
    assert overlap == 1


def test_agreement_of_related_and_unrelated_maps(rng: np.random.Generator) -> None:
    base = blob(6, 16, 4, 4, 4) + 0.01 * rng.random((6, 16, 16))
    found = ev.agreement({"a": base, "b": base + 0.05 * rng.random(base.shape), "noise": rng.random(base.shape)})
    assert found.matrix.loc["a", "b"] > 0.5 > found.chance.loc["a", "b"]
    assert abs(found.matrix.loc["a", "noise"]) < 0.1
    assert (found.low.values <= found.matrix.values + 1e-12).all()


def test_occlusion_agreement_of_a_local_network(linear: nissl.Model) -> None:
    """The score is a weighted sum of pixels: input times weight is what occlusion by zero finds, exactly."""
    x = torch.rand(4, 1, 6, 6)
    truth = (x * linear.module[2].weight.reshape(1, 1, 6, 6)).detach()[:, 0]
    found = ev.occlusion_agreement(linear, x, truth, target=0, window=1)
    np.testing.assert_allclose(found.value, 1.0, atol=1e-9)
    assert abs(found.control) < 0.2


# ------------------------------------------------------------------------------------------- randomisation and sparsity


def test_randomisation_breaks_gradients_but_not_edges() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(600, 3),
    )
    model = nissl.load(module)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    x = torch.rand(6, 1, 10, 10)
    gradient = ev.weight_randomisation(model, lambda m: nissl.attribution.attribute(m, x, 0, "input_x_gradient"))
    assert gradient["layer"].values.tolist() == ["5", "2", "0"]
    assert abs(float(gradient["similarity"].isel(layer=-1).mean())) < 0.3
    edges = ev.weight_randomisation(model, lambda m: x[:, 0].numpy())
    np.testing.assert_allclose(edges["similarity"], 1.0)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    with pytest.raises(UnknownNameError, match="layer"):
        ev.weight_randomisation(model, lambda m: x[:, 0].numpy(), layers=["4"])


def test_gini_by_hand_and_in_order(rng: np.random.Generator) -> None:
    np.testing.assert_allclose(
        ev.gini(np.array([[1.0, 2.0, 3.0], [0, 0, 1.0], [2, 2, 2.0], [0, 0, 0]])), [2 / 9, 2 / 3, 0, 0], atol=1e-12
    )
    np.testing.assert_allclose(ev.gini(np.array([[1.0, 2.0, 3.0, np.nan]])), [2 / 9])
    found = ev.sparsity(np.eye(2, 64).reshape(2, 8, 8))
    assert found.value > found.control_high


def test_intervals_cover_and_pair(rng: np.random.Generator) -> None:
    covered = 0
    for i in range(200):
        low, high = ev.bootstrap(rng.normal(1.0, 2.0, 40), resamples=400, seed=i)
        covered += low <= 1.0 <= high
    assert 0.88 <= covered / 200 <= 0.98
    values = rng.normal(size=50)
    found = ev.measure("shift", values * 10 + 0.5, values * 10)
    assert found.differs
    assert not found.apart


@given(n=st.integers(1, 4), h=st.integers(1, 7), w=st.integers(1, 7))
def test_controls_keep_the_values(n: int, h: int, w: int) -> None:
    maps = np.random.default_rng(0).random((n, h, w))
    copies = ev.shifted(maps, 3)
    assert copies.shape == (3, n, h, w)
    for copy in copies:
        np.testing.assert_array_equal(np.sort(copy.reshape(n, -1)), np.sort(maps.reshape(n, -1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ev.pointing_game(np.full((1, 4, 4), np.nan), np.ones((1, 4, 4), bool)), "NaN"),
        (lambda: ev.pointing_game(np.ones((1, 4, 4)), np.ones((1, 5, 4), bool)), r"\(1, 5, 4\)"),
        (lambda: ev.localise(np.ones((2, 4, 4)), [[0, 0, 1, 1]]), "2 maps"),
        (lambda: ev.threshold_boxes(np.ones((1, 4, 4)), 1.5), "threshold=1.5"),
        (lambda: ev.agreement({"a": np.ones((1, 4, 4))}), "two or more"),
        (lambda: ev.agreement({"a": np.ones((1, 4, 4)), "b": np.ones((1, 5, 5))}), "differ in shape"),
        (lambda: ev.measure("x", [], []), "at least one sample"),
        (lambda: ev.measure("x", [1, np.nan], [1, 1]), "NaN"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_unknown_baseline(linear: nissl.Model) -> None:
    with pytest.raises(UnknownNameError, match="'blur'"):
        ev.deletion(linear, torch.rand(1, 1, 6, 6), np.ones((1, 6, 6)), 0, baseline="blurr")
