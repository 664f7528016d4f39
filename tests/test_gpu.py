"""On a GPU everything gives what it gives on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

import nissl

pytestmark = pytest.mark.gpu
IDS = [[5, 6, 7, 8], [9, 10]]


@pytest.fixture(scope="module")
def pair() -> tuple[nissl.Model, nissl.Model]:
    models = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=16, bos_token_id=1, eos_token_id=2
        )
        models.append(nissl.load(transformers.GPT2LMHeadModel(config), device=device))
    return models[0], models[1]


def test_record_and_intervene(pair: tuple[nissl.Model, nissl.Model], tmp_path) -> None:
    found = []
    for i, model in enumerate(pair):
        change = {
            "neurons.0": [nissl.Clamp(1.0, units=3, positions=-1), nissl.Steer(np.ones(128), positions=slice(0, 1))]
        }
        with nissl.intervene(model, change):
            found.append(
                nissl.record(
                    model, IDS, ["resid.2", "pattern.1", "heads.0"], positions=[0, -1], to=tmp_path / f"{i}.zarr"
                )
            )
    for name in found[0].data_vars:
        np.testing.assert_allclose(found[0][name], found[1][name], atol=1e-4)


def test_top_examples_and_generation(pair: tuple[nissl.Model, nissl.Model]) -> None:
    tops = [nissl.activity.top_examples(m, IDS, "neurons.1", k=2)["sample"].values for m in pair]
    np.testing.assert_array_equal(*tops)
    assert pair[0].generate(IDS, max_new_tokens=4).tolist() == pair[1].generate(IDS, max_new_tokens=4).tolist()


@pytest.mark.parametrize("method", ["grad_cam", "guided_grad_cam", "integrated_gradients", "occlusion", "deep_lift"])
def test_attribution_and_its_tests(chelsea, method: str) -> None:
    maps = []
    for device in ("cpu", "cuda"):
        net = nissl.load("efficientnet-lite0", device=device)
        heat = nissl.attribution.attribute(net, chelsea, "tabby", method)
        curve = nissl.evaluation.deletion(net, chelsea, heat.clip(min=0), "tabby", steps=4, control_repeats=2)
        maps.append((heat.values, curve.curve.values))
    for a, b in zip(*maps, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-2 * np.abs(a).max())


def test_auto_takes_the_gpu() -> None:
    assert nissl.load("efficientnet-lite0").device.type == "cuda"
