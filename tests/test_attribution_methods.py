"""Every method through the one door: completeness, exact cases, tokens, and clear refusals; channels into sentences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
import xarray as xr
from torch import nn

import nissl
from nissl.attribution import attribute, channel_text, exemplars, methods, name_channels
from nissl.attribution.attention import roll_out
from nissl.errors import InputError, UnknownNameError

IDS = [[5, 6, 7, 8], [9, 10]]
QUICK = {"kernel_shap": {"n_samples": 40}, "lime": {"n_samples": 40}, "integrated_gradients": {"n_steps": 8}}


@pytest.fixture(scope="module")
def cnn() -> nissl.Model:
    torch.manual_seed(0)
    act = nn.ReLU6(inplace=True)  # used twice, in place: what DeepLIFT by itself cannot take
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), act, nn.Conv2d(6, 6, 3, padding=1), act, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )  # fmt: skip
    return nissl.load(module, classes=["a", "b", "c"])


@pytest.fixture(scope="module")
def lm() -> nissl.Model:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, vocab_size=30, n_positions=16, bos_token_id=1, eos_token_id=2
    )
    return nissl.load(transformers.GPT2LMHeadModel(config))


@pytest.fixture(scope="module")
def bert() -> nissl.Model:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, vocab_size=30, num_labels=2
    )
    return nissl.load(transformers.BertForSequenceClassification(config))


@pytest.fixture(scope="module")
def vit() -> nissl.Model:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=4,
        num_labels=3,
    )
    return nissl.load(transformers.ViTForImageClassification(config))


@pytest.mark.parametrize("method", methods("image"))
def test_pictures(cnn: nissl.Model, vit: nissl.Model, method: str) -> None:
    model = vit if method.startswith("attention") else cnn
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    options = QUICK.get(method, {})
    found = attribute(model, x, [0, 2], method, **options)
    assert found.dims == ("class", "sample", "y", "x")
    assert np.isfinite(found).all()
    single = attribute(model, x[0], 2, method, **options)
    assert single.dims == ("y", "x")
    assert single.attrs["method"] == method
    if method not in ("gradient_shap", "kernel_shap", "lime"):
        np.testing.assert_allclose(found[1, 0], single, atol=1e-5)


@pytest.mark.parametrize("method", methods("text"))
def test_texts_carry_their_tokens(lm: nissl.Model, bert: nissl.Model, method: str) -> None:
    for model in (lm, bert):
        found = attribute(model, IDS, 1, method, **QUICK.get(method, {}))
        assert found.dims == ("sample", "position")
        assert found["token"].values.tolist() == [["5", "6", "7", "8"], ["9", "10", "", ""]]
        assert np.isnan(found.values[1, 2:]).all()
        assert np.isfinite(found.values[1, :2]).all()
        if method not in ("gradient_shap", "kernel_shap", "lime"):
            alone = attribute(model, [IDS[1]], 1, method, **QUICK.get(method, {}))
            np.testing.assert_allclose(found.values[1, :2], alone.values[0], atol=1e-5)


@pytest.mark.parametrize("method", methods("tensor"))
def test_plain_tensors_of_a_linear_network(method: str) -> None:
    """A linear score with baseline zero: every additive method must give weight times input."""
    torch.manual_seed(0)
    model = nissl.load(nn.Linear(4, 2, bias=False))
    x = torch.randn(3, 4)
    options = (
        {"n_samples": 400}
        if method in ("kernel_shap", "lime")
        else {"n_samples": 300, "noise": 0.0}
        if method == "gradient_shap"
        else {}
    )
    found = attribute(model, x, 1, method, **options)
    weight = model.module.weight[1].detach()
    expected = weight.abs().expand(3, 4) if method == "saliency" else weight * x
    assert found.dims == ("sample", "unit")
    np.testing.assert_allclose(found, expected, atol=0.15 if method == "lime" else 1e-3)


def test_attributions_sum_to_the_score_difference(cnn: nissl.Model, lm: nissl.Model) -> None:
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        gap = (cnn(x) - cnn(torch.zeros_like(x)))[:, 1].numpy()
    for method, options in (("integrated_gradients", {"n_steps": 200}), ("deep_lift", {})):
        np.testing.assert_allclose(attribute(cnn, x, 1, method, **options).sum(("y", "x")), gap, atol=2e-3)
    with torch.no_grad():
        whole = lm(IDS)[[0, 1], [3, 1], 7]
        with nissl.intervene(lm, {"embed": nissl.Ablate()}):
            empty = lm(IDS)[[0, 1], [3, 1], 7]
    tokens = attribute(lm, IDS, 7, "integrated_gradients", n_steps=200)
    np.testing.assert_allclose(tokens.sum("position"), (whole - empty).numpy(), atol=5e-3)


def test_deep_lift_on_the_real_network_leaves_it_alone(efficientnet: nissl.Model, chelsea) -> None:
    before = efficientnet.module._swish
    found = attribute(efficientnet, chelsea, "tabby", "deep_lift")
    inputs = efficientnet.prepare(chelsea)
    with torch.no_grad():
        gap = efficientnet(inputs) - efficientnet(inputs.with_main(torch.zeros_like(inputs.main)))
    np.testing.assert_allclose(found.sum(), gap[0, efficientnet.class_index("tabby")], rtol=0.02)
    assert efficientnet.module._swish is before


def test_occlusion_finds_the_pixels_that_matter() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 1, bias=False))
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].weight[0, 27] = 1.0
    model = nissl.load(module)
    found = attribute(model, {"input": torch.ones(1, 1, 8, 8)}, 0, "occlusion", window=1)
    assert float(found[0, 3, 3]) == 1.0
    assert float(np.abs(found).sum()) == 1.0


def test_rollout_by_hand(vit: nissl.Model, lm: nissl.Model) -> None:
    patterns = [torch.rand(1, 3, 3).softmax(-1) for _ in range(2)]
    mixed = [0.5 * p + 0.5 * torch.eye(3) for p in patterns]
    torch.testing.assert_close(roll_out(patterns), mixed[1] @ mixed[0])
    own = nissl.record(lm, [IDS[0]], ["pattern.0", "pattern.1"])
    flow = roll_out([torch.tensor(own[f"pattern.{i}"].values).mean(1) for i in range(2)])
    np.testing.assert_allclose(attribute(lm, [IDS[0]], 1, "attention_rollout")[0], flow[0, -1], atol=1e-5)
    assert attribute(vit, torch.randn(1, 3, 16, 16), 0, "attention_rollout").shape == (1, 4, 4)


def test_same_seed_same_answer_and_the_global_generators_untouched(cnn: nissl.Model) -> None:
    x = torch.randn(1, 3, 16, 16)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    a, b, c = (attribute(cnn, x, 0, "kernel_shap", n_samples=30, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)


def test_refusals(cnn: nissl.Model, lm: nissl.Model) -> None:
    x = torch.randn(1, 3, 16, 16)
    with pytest.raises(UnknownNameError, match="'grad_cam'"):
        attribute(cnn, x, 0, "gradcam")
    with pytest.raises(UnknownNameError, match="n_steps"):
        attribute(cnn, x, 0, "integrated_gradients", nsteps=3)
    with pytest.raises(InputError, match="image inputs, this is text"):
        attribute(lm, IDS, 0, "grad_cam")
    with pytest.raises(InputError, match="known family"):
        attribute(cnn, x, 0, "attention")
    with pytest.raises(InputError, match="baseline='white'"):
        attribute(cnn, x, 0, "integrated_gradients", baseline="white")


# ------------------------------------------------------------------------------------------------------------ sentences


def test_sentences() -> None:
    alpha = xr.DataArray([0.5, -0.2, 0.4, 0.1, -0.9], dims="unit", attrs={"target": "cat"})
    names = {0: "ears", 1: "wheels", 2: "ears", 3: "fur"}
    told = channel_text(alpha, names, k=2)
    assert str(told) == 'For "cat" speak ears and fur; against it speak channel 4 and wheels.'
    assert told.channels["unit"].tolist() == [0, 3, 1, 4]
    assert str(channel_text(alpha[[0]], names)) == 'For "cat" speaks ears; nothing speaks against it.'
    assert str(channel_text(-alpha, names, target="dog", k=1)) == 'For "dog" speaks channel 4; against it speaks ears.'
    assert str(channel_text(alpha * 0, names)) == 'No channel matters to "cat".'
    with pytest.raises(InputError, match="only 'unit'"):
        channel_text(xr.DataArray(np.ones((2, 3)), dims=("sample", "unit")), names)


def test_channels_are_named_by_what_they_overlap_with() -> None:
    rng = np.random.default_rng(0)
    masks = {
        "left": np.zeros((6, 16, 16), bool),
        "top": np.zeros((6, 16, 16), bool),
        "never": np.zeros((6, 16, 16), bool),
    }
    for i in range(6):
        masks["left"][i, 4 * (i % 4) : 4 * (i % 4) + 4, :8] = True
        masks["top"][i, :4, 4 * ((i + 1) % 4) : 4 * ((i + 1) % 4) + 4] = True
    small = {k: m.reshape(6, 4, 4, 4, 4).mean((2, 4)) for k, m in masks.items()}
    activity = np.stack([small["top"], small["left"], rng.random((6, 4, 4))], axis=1) + 0.01 * rng.random((6, 3, 4, 4))
    found = name_channels(activity, masks, quantile=0.8)
    assert found["concept"].tolist()[:2] == ["top", "left"]
    assert found["iou"][1] > 0.55 > found["chance"][1]


def test_the_sentence_depends_on_the_class() -> None:
    net = nissl.load("scenes")
    pictures = nissl.specimens.scenes(200, seed=3)
    x = nissl.specimens.scene_input(pictures.images)
    maps = nissl.record(net, x, "pool:in", progress=False)["pool:in"]
    named = name_channels(maps, {c: pictures.concept_mask(c) for c in pictures.concepts}, quantile=0.95)
    sentences = {
        str(channel_text(nissl.attribution.channel_importance(net, x[0], shape), named["concept"]))
        for shape in ("circle", "cross", "star")
    }
    assert len({s.split("speak", 1)[1] for s in sentences}) == 3


def test_exemplars_lie_where_the_channel_peaks(efficientnet: nissl.Model) -> None:
    photos = {name: nissl.specimens.photo(name) for name in ("chelsea", "coffee", "rocket")}
    table = exemplars(efficientnet, [5, 7], photos, "_avg_pooling:in", k=2)
    assert table.groupby("unit").size().tolist() == [2, 2]
    assert (table.sort_values(["unit", "rank"]).groupby("unit")["activity"].diff().dropna() <= 0).all()
    for row in table.to_dict("records"):
        width, height = photos[row["picture"]].size
        assert 0 <= row["left"] < row["right"] <= width
        assert 0 <= row["top"] < row["bottom"] <= height
