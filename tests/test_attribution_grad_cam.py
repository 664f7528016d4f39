"""Grad-CAM: captum, the CAM identity, finite differences, transformers by hand, and every way in which a map can be
empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from captum.attr import LayerGradCam
from torch import nn
from torch.nn import functional

import nissl
from nissl.attribution import channel_importance, grad_cam, guided_backprop, guided_grad_cam
from nissl.errors import InputError, ModelError, UnknownNameError


class Pooled(nn.Module):
    """Convolutions, global average pooling, a linear head."""

    def __init__(self, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), activation or nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2), nn.ReLU()
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.features(x)).flatten(1))


@pytest.fixture
def net() -> nissl.Model:
    torch.manual_seed(0)
    return nissl.load(Pooled(), classes=["ant", "bee", "cat", "dog"])


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(3, 3, 17, 23, generator=torch.Generator().manual_seed(1))


def vit(**settings: object) -> nissl.Model:
    torch.manual_seed(0)
    base = dict(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        num_labels=5,
    )
    return nissl.load(transformers.ViTForImageClassification(transformers.ViTConfig(**{**base, **settings})))


def test_equals_captum_on_a_real_network(efficientnet: nissl.Model, chelsea) -> None:
    x = efficientnet.prepare([chelsea, nissl.specimens.photo("coffee")]).main
    for name in ("tabby", "espresso"):
        index = efficientnet.class_index(name)
        own = LayerGradCam(efficientnet.module, efficientnet.module._avg_pooling)
        reference = (
            own.attribute(x, target=index, attribute_to_layer_input=True, relu_attributions=True).detach()[:, 0].numpy()
        )
        ours = grad_cam(efficientnet, x, target=name, upsample=False)
        assert ours.attrs["site"] == "_avg_pooling:in"
        np.testing.assert_allclose(ours.values, reference, atol=1e-5)


def test_equals_class_activation_mapping_for_a_pooled_network(net: nissl.Model, x: torch.Tensor) -> None:
    with torch.no_grad():
        activity = net.module.features(x)
    h, w = activity.shape[-2:]
    weights = net.module.head.weight
    cam = torch.einsum("ck,nkyx->cnyx", weights, activity).relu().detach() / (h * w)
    ours = grad_cam(net, x, target=list(net.classes), upsample=False)
    assert ours.dims == ("class", "sample", "y", "x")
    np.testing.assert_allclose(ours.values, cam.numpy(), rtol=1e-5, atol=1e-7)


def test_importance_by_finite_differences(net: nissl.Model, x: torch.Tensor) -> None:
    """Raising a whole channel by epsilon raises the score by epsilon times the sum of its gradients, hw times alpha."""
    net.module.double()
    alpha = channel_importance(net, x.double(), target="bee", site="features.2")
    for unit in range(5):
        with torch.no_grad(), nissl.intervene(net, {"features.2": nissl.Steer(1e-6 * torch.eye(5)[unit])}):
            up = net(x.double())[:, 1]
        with torch.no_grad():
            slope = (up - net(x.double())[:, 1]) / 1e-6
        np.testing.assert_allclose(alpha.isel(unit=unit).values * 8 * 11, slope.numpy(), rtol=1e-3, atol=1e-6)


def test_several_targets_and_batches_equal_single_calls(net: nissl.Model, x: torch.Tensor) -> None:
    both = grad_cam(net, x, target=["ant", 2], batch_size=2)
    for label in ("ant", "cat"):
        np.testing.assert_allclose(both.sel({"class": label}), grad_cam(net, x, target=label), rtol=1e-5, atol=1e-7)
        for i in range(3):
            one = grad_cam(net, x[i], target=label)
            assert one.dims == ("y", "x")
            np.testing.assert_allclose(both.sel({"class": label}).isel(sample=i), one, rtol=1e-5, atol=1e-7)
    own = grad_cam(net, x, target=torch.tensor([0, 2, 0]))
    np.testing.assert_allclose(own[1], both.sel({"class": "cat"})[1], rtol=1e-5, atol=1e-7)


def test_counterfactual_is_grad_cam_of_the_negative(net: nissl.Model, x: torch.Tensor) -> None:
    direct = grad_cam(net, x, target=lambda out: -out[:, 3])
    np.testing.assert_allclose(grad_cam(net, x, target="dog", counterfactual=True), direct, atol=1e-7)


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.SiLU(inplace=True), nn.Hardswish(), nn.GELU()])
def test_in_place_and_smooth_activations(activation: nn.Module, x: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = nissl.load(Pooled(activation))
    for site in ("features.0", "features.1", "features.2"):
        ours = grad_cam(model, x, target=1, site=site, upsample=False)
        plain = Pooled(type(activation)())
        plain.load_state_dict(model.module.state_dict())
        reference = (
            LayerGradCam(plain, plain.get_submodule(site)).attribute(x, target=1, relu_attributions=True).detach()[:, 0]
        )
        np.testing.assert_allclose(ours, reference, atol=1e-6)


def test_default_site_without_a_pooling_module_and_with_a_reused_activation(x: torch.Tensor) -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.act, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU6(), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.act(self.b(self.act(self.a(x)))).mean((2, 3)))

    heat = grad_cam(nissl.load(Mean()), x, target=0)
    assert heat.attrs["site"] == "act#1"
    with pytest.raises(InputError, match="'act#0' to 'act#1'"):
        grad_cam(nissl.load(Mean()), x, target=0, site="act")


def test_nothing_changes_in_the_network(net: nissl.Model, x: torch.Tensor) -> None:
    net.module.train()
    before = {k: v.clone() for k, v in net.module.state_dict().items()}
    grad_cam(net, x, target=0)
    guided_backprop(net, x, target=0)
    assert net.module.training
    assert all(p.grad is None for p in net.module.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.module.modules())
    assert torch.is_grad_enabled()


def test_coordinates_lie_on_the_photograph(efficientnet: nissl.Model, chelsea) -> None:
    heat = grad_cam(efficientnet, chelsea, "tabby")
    side = 0.875 * 300
    assert heat.shape == (224, 224)
    np.testing.assert_allclose([heat.x[0], heat.x[-1]], [225.5 - side / 2 + side / 448, 225.5 + side / 2 - side / 448])
    np.testing.assert_allclose([heat.y[0], heat.y[-1]], [150 - side / 2 + side / 448, 150 + side / 2 - side / 448])


# --------------------------------------------------------------------------------------------------------- transformers


def test_vision_transformer_by_hand() -> None:
    """Default site: the tokens that enter the last block; the map from their patch tokens, class token dropped."""
    model = vit()
    x = torch.randn(2, 3, 32, 32)
    heat = grad_cam(model, x, target=3, upsample=False)
    assert heat.attrs["site"] == "resid.2"
    hidden = model.module(x, output_hidden_states=True).hidden_states[2].detach().requires_grad_()
    base = model.module.vit
    score = model.module.classifier(base.layernorm(base.layers[2](hidden, None))[:, 0])[:, 3]
    gradient = torch.autograd.grad(score.sum(), hidden)[0][:, 1:]
    expected = (gradient.mean(1, keepdim=True) * hidden[:, 1:]).sum(-1).relu().unflatten(1, (4, 4)).detach()
    np.testing.assert_allclose(heat, expected, atol=1e-6)
    assert grad_cam(model, x, target=3).shape == (2, 32, 32)


def test_the_last_blocks_patch_tokens_explain_their_empty_map() -> None:
    with pytest.raises(ModelError, match="class token"):
        grad_cam(vit(), torch.randn(1, 3, 32, 32), target=0, site="resid.3")


def test_register_tokens_and_other_families_are_recognised() -> None:
    torch.manual_seed(0)
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=28,
        patch_size=7,
        num_register_tokens=3,
        num_labels=4,
    )
    model = nissl.load(transformers.Dinov2WithRegistersForImageClassification(config))
    heat = grad_cam(model, torch.randn(2, 3, 28, 28), target=1, upsample=False)
    assert heat.shape == (2, 4, 4)


def test_a_grid_that_is_not_square() -> None:
    model = vit(image_size=(32, 48))
    assert grad_cam(model, torch.randn(1, 3, 32, 48), target=1, upsample=False).shape == (1, 4, 6)


# --------------------------------------------------------------------------------------------------------------- guided


def test_guided_backprop_of_one_rectifier_by_hand() -> None:
    """y = w . relu(V x): only units with positive activity and positive weight pass their gradient."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 5, 1, bias=False), nn.Conv2d(5, 2, 1, bias=False)
    model = nissl.load(nn.Sequential(first, nn.ReLU(), second, nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    x = torch.randn(2, 3, 4, 4)
    with torch.no_grad():
        active = (first(x) > 0).float()
        weight = second.weight[1, :, 0, 0].clamp(min=0)[None, :, None, None] / 16
        expected = torch.einsum("nkyx,kc->ncyx", active * weight, first.weight[:, :, 0, 0])
    ours = guided_backprop(model, x, target=1, keep_channels=True)
    assert ours.dims == ("sample", "channel", "y", "x")
    np.testing.assert_allclose(ours, expected, atol=1e-7)
    np.testing.assert_allclose(guided_backprop(model, x, target=1), expected.abs().amax(1), atol=1e-7)


def test_guided_backprop_equals_captum_on_relu(net: nissl.Model, x: torch.Tensor) -> None:
    from captum.attr import GuidedBackprop

    reference = GuidedBackprop(net.module).attribute(x.clone().requires_grad_(), target=2).detach()
    np.testing.assert_allclose(guided_backprop(net, x, target=2, keep_channels=True), reference, atol=1e-6)


def test_guided_backprop_catches_functional_rectifiers(x: torch.Tensor) -> None:
    class Functional(Pooled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = functional.relu(self.features[2](functional.relu(self.features[0](x))))
            return self.head(hidden.mean((2, 3)))

    torch.manual_seed(0)
    modules, functions = Pooled(), Functional()
    functions.load_state_dict(modules.state_dict())
    a, b = (guided_backprop(nissl.load(m), x, target=0, keep_channels=True) for m in (modules, functions))
    np.testing.assert_allclose(a, b, atol=1e-7)


def test_guided_grad_cam_is_the_product(net: nissl.Model, x: torch.Tensor) -> None:
    product = guided_grad_cam(net, x, target=["ant", "cat"])
    expected = guided_backprop(net, x, target=["ant", "cat"]) * grad_cam(net, x, target=["ant", "cat"])
    np.testing.assert_allclose(product, expected, atol=1e-9)
    assert product.attrs["method"] == "guided_grad_cam"


# ------------------------------------------------------------------------------------------------------------ bad input


def test_all_evidence_negative_is_said(net: nissl.Model, x: torch.Tensor) -> None:
    with torch.no_grad():
        net.module.head.weight[0] = -1.0
    with pytest.raises(ModelError, match="counterfactual=True"):
        grad_cam(net, x, target="ant")
    assert float(grad_cam(net, x, target="ant", counterfactual=True).max()) > 0
    with pytest.warns(UserWarning, match="'ant'"):
        heat = grad_cam(net, x, target=["ant", "bee"])
    assert float(heat.sel({"class": "ant"}).max()) == 0


def test_a_target_that_depends_on_nothing(net: nissl.Model, x: torch.Tensor) -> None:
    with pytest.raises(ModelError, match="no gradient"):
        grad_cam(net, x, target=lambda out: torch.ones(len(out)))


def test_bad_questions(net: nissl.Model, x: torch.Tensor) -> None:
    with pytest.raises(UnknownNameError, match="nearest: 'cat'"):
        grad_cam(net, x, target="cats")
    with pytest.raises(UnknownNameError, match="features"):
        grad_cam(net, x, target=0, site="featuers.0")
    with pytest.raises(InputError, match="no map"):
        grad_cam(net, x, target=0, site="head")
    with pytest.raises(InputError, match="pictures"):
        grad_cam(nn.Linear(3, 2), torch.ones(1, 3), target=0)
    with pytest.raises(InputError, match="one number a sample"):
        grad_cam(net, x, target=lambda out: out)
