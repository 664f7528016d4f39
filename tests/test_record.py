"""Recording: the network's own figures, every selection, streams, generation, and stopping early."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import nissl
from nissl.errors import InputError, ModelError, UnknownNameError

CORPUS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14], [15], [16, 17, 18, 19]]


@pytest.fixture(scope="module")
def lm() -> nissl.Model:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=16, bos_token_id=1, eos_token_id=2
    )
    return nissl.load(transformers.GPT2LMHeadModel(config))


@pytest.fixture(scope="module")
def grouped() -> nissl.Model:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48, vocab_size=50,
        max_position_embeddings=16,
    )  # fmt: skip
    return nissl.load(transformers.LlamaForCausalLM(config))


def test_values_names_masks_and_tokens(lm: nissl.Model) -> None:
    acts = nissl.record(lm, CORPUS, ["resid.1", "neurons.*", "logits"], batch_size=2)
    assert acts["resid.1"].dims == ("sample", "position", "unit")
    assert acts["neurons.0"].dims == ("sample", "position", "unit_128")
    assert acts["logits"].dims == ("sample", "position", "class")
    assert acts["mask"].sum("position").values.tolist() == [5, 2, 3, 1, 4]
    assert acts["token"].values[1].tolist() == ["10", "11", "", "", ""]
    for i, ids in enumerate(CORPUS):
        with torch.no_grad():
            own = lm.module(torch.tensor([ids]), output_hidden_states=True)
        np.testing.assert_allclose(acts["resid.1"].values[i, : len(ids)], own.hidden_states[1][0], atol=1e-5)
        np.testing.assert_allclose(acts["logits"].values[i, : len(ids)], own.logits[0], atol=1e-5)
        assert np.isnan(acts["resid.1"].values[i, len(ids) :]).all()


def test_the_same_name_whatever_is_recorded_beside_it_where_widths_agree(lm: nissl.Model) -> None:
    assert nissl.record(lm, CORPUS, "neurons.1")["neurons.1"].dims == ("sample", "position", "unit")
    both = nissl.record(lm, CORPUS, ["attn.0", "mlp.0", "embed"])
    assert all(both[v].dims == ("sample", "position", "unit") for v in both.data_vars)


def test_grouped_query_attention_and_patterns(grouped: nissl.Model) -> None:
    acts = nissl.record(grouped, CORPUS, ["query.0", "key.0", "pattern.0"])
    assert acts["query.0"].sizes["head"] == 4
    assert acts["key.0"].sizes["head_2"] == 2
    pattern = acts["pattern.0"]
    assert pattern.dims == ("sample", "head", "position", "key_position")
    np.testing.assert_allclose(pattern.sum("key_position").where(acts["mask"]).mean(), 1.0, atol=1e-5)
    assert np.isnan(pattern.values[1, :, :, 2:]).all()


@pytest.mark.parametrize(
    ("positions", "columns"),
    [
        (0, [0]),
        (-1, [-1]),
        ("last", [-1]),
        ([0, -1], [0, -1]),
        (slice(0, 2), [0, 1]),
        (slice(-2, None), [-2, -1]),
        (3, [3]),
    ],
)
def test_positions_count_each_samples_own_tokens(lm: nissl.Model, positions: object, columns: list[int]) -> None:
    whole = nissl.record(lm, CORPUS, "resid.1", batch_size=2)["resid.1"].values
    acts = nissl.record(lm, CORPUS, "resid.1", positions=positions, batch_size=2)
    assert acts["position"].values.tolist() == columns
    for i, ids in enumerate(CORPUS):
        for j, column in enumerate(columns):
            absolute = column if column >= 0 else len(ids) + column
            if 0 <= absolute < len(ids):
                np.testing.assert_allclose(acts["resid.1"].values[i, j], whole[i, absolute], atol=1e-6)
                assert acts["token"].values[i, j] == str(ids[absolute])
            else:
                assert np.isnan(acts["resid.1"].values[i, j]).all()
                assert not acts["mask"].values[i, j]


def test_units(lm: nissl.Model) -> None:
    whole = nissl.record(lm, CORPUS, ["neurons.0", "resid.1"])
    some = nissl.record(lm, CORPUS, ["neurons.0", "resid.1"], units={"neurons.0": [7, -1], "resid.1": slice(0, 2)})
    np.testing.assert_array_equal(some["neurons.0"], whole["neurons.0"].values[..., [7, 127]])
    np.testing.assert_array_equal(some["resid.1"], whole["resid.1"].values[..., :2])


def test_streams_loaders_and_batch_sizes_agree(lm: nissl.Model) -> None:
    reference = nissl.record(lm, CORPUS, "mlp.1")
    for inputs, size in (((c for c in CORPUS), 2), (iter(CORPUS), 5), (CORPUS, 1), ({"input_ids": [CORPUS[0]]}, 3)):
        acts = nissl.record(lm, inputs, "mlp.1", batch_size=size)
        n = acts.sizes["sample"]
        np.testing.assert_allclose(
            acts["mlp.1"].values, reference["mlp.1"].values[:n, : acts.sizes["position"]], atol=1e-5
        )


def test_generated_tokens(lm: nissl.Model) -> None:
    acts = nissl.record(lm, CORPUS, "resid.2", generate=3, batch_size=2)
    for i, ids in enumerate(CORPUS):
        sequence = lm.generate_ids([ids], 3)[0]
        assert acts["token"].values[i, : len(sequence)].tolist() == [str(t) for t in sequence]
        assert acts["generated"].values[i].sum() == len(sequence) - len(ids)
        alone = nissl.record(lm, [sequence], "resid.2")["resid.2"].values[0]
        np.testing.assert_allclose(acts["resid.2"].values[i, : len(sequence)], alone, atol=1e-5)


def test_dtypes(lm: nissl.Model) -> None:
    assert nissl.record(lm, CORPUS, "resid.1", dtype="float16")["resid.1"].dtype == np.float16
    half = nissl.load(transformers.GPT2LMHeadModel(lm.module.config), dtype="bfloat16")
    assert nissl.record(half, CORPUS, "resid.1")["resid.1"].dtype == np.float32


def test_the_pass_ends_at_the_last_site(lm: nissl.Model) -> None:
    ran: list[str] = []
    handles = [m.register_forward_hook(lambda m, a, o, p=p: ran.append(p)) for p, m in lm.module.named_modules()]
    nissl.record(lm, [CORPUS[0]], "neurons.0")
    ran.clear()
    nissl.record(lm, [CORPUS[0]], "neurons.0")
    for handle in handles:
        handle.remove()
    assert "transformer.h.0.mlp.act" in ran
    assert not any(p.startswith("transformer.h.1") or p in ("transformer.h.0.mlp.c_proj", "lm_head", "") for p in ran)


def test_pictures_and_plain_tensors() -> None:
    torch.manual_seed(0)
    model = nissl.load(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 2)))
    x = torch.randn(7, 3, 8, 8)
    acts = nissl.record(model, x, ["0", "1", "3:in", "logits"], batch_size=3)
    assert acts["0"].dims == ("sample", "unit", "y", "x")
    with torch.no_grad():
        np.testing.assert_allclose(
            acts["0"], model.module[0](x), atol=1e-6
        )  # not overwritten by the activation in place
        np.testing.assert_allclose(acts["logits"], model(x), atol=1e-6)
    assert acts["3:in"].dims == ("sample", "unit_144")
    with pytest.raises(InputError, match="no positions"):
        nissl.record(model, x, "0", positions=0)


def test_interventions_show_in_records(lm: nissl.Model) -> None:
    with nissl.intervene(lm, {"neurons.0": nissl.Clamp(2.0, units=5)}):
        acts = nissl.record(lm, CORPUS, "neurons.0")
    assert np.unique(acts["neurons.0"].values[0, :, 5]).tolist() == [2.0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(inputs=[]), InputError, "empty"),
        (dict(inputs=iter([])), InputError, "empty"),
        (dict(inputs=[[1], []]), InputError, "prompt 1 is empty"),
        (dict(inputs=[[1], list(range(17))]), InputError, "17 tokens"),
        (dict(inputs=[[1] * 14], generate=3), InputError, "3 to generate"),
        (dict(at="resd.1"), UnknownNameError, r"resid\.1"),
        (dict(units=[128]), InputError, "128 units"),
        (dict(units={"resid.1": [0]}), InputError, "not recorded"),
        (dict(positions="first"), InputError, "'last'"),
        (dict(dtype="int8"), UnknownNameError, "float16"),
        (dict(batch_size=-1), InputError, "batch_size"),
    ],
)
def test_bad_questions_are_refused_before_work(lm: nissl.Model, options: dict, error: type, message: str) -> None:
    ran: list[int] = []
    handle = lm.module.register_forward_hook(lambda *_: ran.append(1))
    lm.trace(lm.prepare([[1]]))
    ran.clear()
    with pytest.raises(error, match=message):
        nissl.record(lm, **{"inputs": CORPUS, "at": "neurons.0", **options})
    handle.remove()
    assert not ran


def test_nan_activity_is_named() -> None:
    model = nissl.load(nn.Sequential(nn.Identity(), nn.ReLU()))
    with (
        pytest.raises(ModelError, match=r"'0' in sample 3"),
        nissl.intervene(model, {"0": lambda v: torch.where(v == 3, torch.nan, v)}),
    ):
        nissl.record(model, torch.arange(5.0)[:, None], "0", batch_size=2)
