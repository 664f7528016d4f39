"""Canonical sites against the networks' own figures, for tiny randomly initialised models of every family."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

import nissl

TINY = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=64
)
GROUPED = {**TINY, "num_key_value_heads": 2, "vocab_size": 99}
WINDOWED = {**GROUPED, "head_dim": 8, "sliding_window": 4, "query_pre_attn_scalar": 8}

FAMILIES = {
    "gpt2": (transformers.GPT2LMHeadModel, dict(n_embd=32, n_layer=2, n_head=4, vocab_size=99, n_positions=64)),
    "gpt_neox": (transformers.GPTNeoXForCausalLM, {**TINY, "vocab_size": 99}),
    "gpt_neox_serial": (transformers.GPTNeoXForCausalLM, {**TINY, "vocab_size": 99, "use_parallel_residual": False}),
    "llama": (transformers.LlamaForCausalLM, GROUPED),
    "llama_bias": (transformers.LlamaForCausalLM, {**GROUPED, "attention_bias": True, "mlp_bias": True}),
    "mistral": (transformers.MistralForCausalLM, {**GROUPED, "sliding_window": 4}),
    "qwen2": (transformers.Qwen2ForCausalLM, GROUPED),
    "qwen3": (transformers.Qwen3ForCausalLM, {**GROUPED, "head_dim": 16}),
    "gemma2": (transformers.Gemma2ForCausalLM, WINDOWED),
    "gemma3": (transformers.Gemma3ForCausalLM, WINDOWED),
    "bert": (transformers.BertForMaskedLM, {**TINY, "vocab_size": 99}),
    "bert_classifier": (transformers.BertForSequenceClassification, {**TINY, "vocab_size": 99, "num_labels": 3}),
    "vit": (transformers.ViTForImageClassification, {**TINY, "image_size": 32, "patch_size": 8}),
    "gpt2_bare": (transformers.GPT2Model, dict(n_embd=32, n_layer=2, n_head=4, vocab_size=99, n_positions=64)),
}
PADDED = [name for name in FAMILIES if name != "vit"]


def build(name: str, attention: str | None = None) -> nissl.Model:
    cls, settings = FAMILIES[name]
    torch.manual_seed(0)
    config = cls.config_class(**settings)
    if attention is not None:  # else whatever the family runs by default: fused, except for gemma2
        config._attn_implementation = attention
    module = cls(config)
    with torch.no_grad():  # biases and norms start at 0 and 1, which would hide a forgotten one
        for p in module.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return nissl.load(module)


def inputs_for(model: nissl.Model, *, padded: bool = False):
    generator = torch.Generator().manual_seed(1)
    if model.kind == "image":
        return model.prepare(torch.randn(3, 3, 32, 32, generator=generator))
    lengths = [7, 12, 10] if padded else [12, 12, 12]
    return model.prepare([torch.randint(1, 99, (n,), generator=generator) for n in lengths])


def read(model: nissl.Model, inputs, names: list[str]) -> dict[str, torch.Tensor]:
    values: dict[str, torch.Tensor] = {}
    with (
        torch.no_grad(),
        nissl.models.tap(model, {n: lambda v, s: values.__setitem__(s.name, v.clone()) for n in names}),
    ):
        model(inputs)
    return values


def reference(name: str, inputs):
    """The network's own hidden states and attentions, from its eager implementation."""
    with torch.no_grad():
        return build(name, "eager").module(**inputs.tensors, output_hidden_states=True, output_attentions=True)


def real(inputs, tensor: torch.Tensor) -> torch.Tensor:
    """Only the real positions of a (sample, position, ...) tensor."""
    return tensor if inputs.mask is None else tensor[inputs.mask]


def cases() -> list[tuple[str, bool]]:
    return [(n, False) for n in FAMILIES] + [(n, True) for n in PADDED]


@pytest.mark.parametrize(("name", "padded"), cases())
def test_canonical_sites_are_the_networks_own_figures(name: str, padded: bool) -> None:
    model = build(name)
    inputs = inputs_for(model, padded=padded)
    own = reference(name, inputs)
    values = read(model, inputs, [s.name for s in model.sites.canonical.values()])

    layers = 2
    for layer in range(layers):
        torch.testing.assert_close(
            real(inputs, values[f"resid.{layer}"]), real(inputs, own.hidden_states[layer]), atol=1e-4, rtol=1e-4
        )
        pattern = values[f"pattern.{layer}"].transpose(1, 2)  # position first, so that padded queries can be dropped
        torch.testing.assert_close(
            real(inputs, pattern), real(inputs, own.attentions[layer].transpose(1, 2)), atol=1e-4, rtol=1e-4
        )
    last = values[f"resid.{layers}"]
    norm = next(
        (m for n, m in model.module.named_modules() if n.split(".")[-1] in ("ln_f", "final_layer_norm", "norm")), None
    )
    if norm is not None:
        last = norm(last)
    torch.testing.assert_close(real(inputs, last), real(inputs, own.hidden_states[layers]), atol=1e-4, rtol=1e-4)
    if "logits" in own:
        logits = values["logits"]
        both = (real(inputs, logits), real(inputs, own.logits)) if logits.dim() == 3 else (logits, own.logits)
        torch.testing.assert_close(*both, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "padded"), cases())
def test_parts_add_up(name: str, padded: bool) -> None:
    model = build(name)
    inputs = inputs_for(model, padded=padded)
    values = read(model, inputs, [s.name for s in model.sites.canonical.values()])
    for layer in range(2):
        out = model.module.get_submodule(model.sites[f"attn.{layer}"].module)
        down = model.module.get_submodule(model.sites[f"mlp.{layer}"].module)
        heads = values[f"heads.{layer}"].sum(2) + (0 if out.bias is None else out.bias)
        torch.testing.assert_close(heads, values[f"attn.{layer}"], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(down(values[f"neurons.{layer}"]), values[f"mlp.{layer}"], atol=1e-4, rtol=1e-4)
        assert values[f"query.{layer}"].shape[2] == 4


@pytest.mark.parametrize(("name", "padded"), cases())
def test_query_and_key_give_back_the_pattern(name: str, padded: bool) -> None:
    """Written out independently here: scores, soft cap, mask from the model's own zeros, softmax."""
    model = build(name)
    inputs = inputs_for(model, padded=padded)
    values = read(model, inputs, [f"{part}.{layer}" for part in ("query", "key", "pattern") for layer in range(2)])
    attentions = reference(name, inputs).attentions
    for layer in range(2):
        query, key = values[f"query.{layer}"], values[f"key.{layer}"]
        key = key.repeat_interleave(query.shape[2] // key.shape[2], dim=2)
        scores = torch.einsum("nqhd,nkhd->nhqk", query, key) * query.shape[-1] ** -0.5
        if name == "gemma2":
            scores = 50.0 * torch.tanh(scores / 50.0)
        scores = scores.masked_fill(attentions[layer] == 0, -torch.inf)
        probabilities = scores.softmax(-1).transpose(1, 2)
        torch.testing.assert_close(
            real(inputs, probabilities), real(inputs, values[f"pattern.{layer}"].transpose(1, 2)), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_reading_changes_nothing(name: str) -> None:
    model = build(name)
    inputs = inputs_for(model)
    with torch.no_grad():
        bare = model(inputs)
        config = {id(m): m.config for m in model.module.modules() if hasattr(m, "config")}
        with nissl.models.tap(model, dict.fromkeys(model.sites.canonical, lambda v, s: None)):
            model(inputs)
        torch.testing.assert_close(model(inputs), bare, atol=0, rtol=0)
    assert all(m.config is config[id(m)] for m in model.module.modules() if id(m) in config)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())


@pytest.mark.parametrize("port", ["query", "key", "value", "pattern", "heads"])
def test_an_edit_inside_attention_reaches_the_output(port: str) -> None:
    model = build("llama")
    inputs = inputs_for(model)
    with torch.no_grad():
        bare = model(inputs)
        with nissl.models.tap(model, {f"{port}.0": lambda v, s: v * 0.5}):
            edited = model(inputs)
        with nissl.models.tap(model, {f"{port}.0": lambda v, s: v.clone()}):
            same = model(inputs)
    assert (edited - bare).abs().max() > 1e-4
    torch.testing.assert_close(same, bare, atol=1e-5, rtol=1e-5)


def test_shapes_are_known_after_the_first_run() -> None:
    model = build("llama")
    assert model.sites["heads.1"].shape is None
    model.trace(inputs_for(model))
    assert model.sites["heads.1"].shape == (1, 12, 4, 32)
    assert model.sites["pattern.1"].shape == (1, 4, 12, 12)
    assert model.sites["key.0"].shape == (1, 12, 2, 8)
    assert model.sites["neurons.0"].shape == (1, 12, 48)
    assert model.sites["logits"].shape == (1, 12, 99)
    assert model.sites["model.layers.0.mlp"].dims == ("sample", "position", "unit")


def test_a_relative_that_does_not_fit_its_row_keeps_raw_paths() -> None:
    module = build("gpt2").module
    module.transformer.h[0].attn.c_proj = nn.Sequential()  # something a fork might do
    del module.transformer.h[0].attn.c_proj
    assert "neurons.0" not in nissl.load(module).sites
