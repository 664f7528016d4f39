"""Where the canonical sites live in each family of transformers: one row a family.

A row holds module paths. `embed` and `blocks` are relative to the base model (`GPT2Model` inside `GPT2LMHeadModel`),
the others to one block. A new family is one more row.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Family:
    """Module paths of one family of transformers.

    Parameters
    ----------
    embed
        Module whose output is the embedding.
    blocks
        The list of blocks.
    attention
        In a block: the module that calls the attention function (it knows query, key and value).
    attn_out
        In a block: the projection from the heads to the residual stream.
    mlp_out
        In a block: the projection from the hidden layer of the MLP to the residual stream.
    """

    embed: str
    blocks: str
    attention: str
    attn_out: str
    mlp_out: str


_LLAMA = Family("embed_tokens", "layers", "self_attn", "self_attn.o_proj", "mlp.down_proj")
_BERT = Family("embeddings", "encoder.layer", "attention.self", "attention.output.dense", "output.dense")

FAMILIES: dict[str, Family] = {
    "gpt2": Family("wte", "h", "attn", "attn.c_proj", "mlp.c_proj"),
    "gpt_neox": Family("embed_in", "layers", "attention", "attention.dense", "mlp.dense_4h_to_h"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "gemma3": Family(
        "language_model.embed_tokens", "language_model.layers", "self_attn", "self_attn.o_proj", "mlp.down_proj"
    ),
    "bert": _BERT,
    "roberta": _BERT,
    "vit": Family("embeddings", "layers", "attention", "attention.o_proj", "mlp.fc2"),
}


def family_of(module: nn.Module) -> Family | None:
    """The family a module belongs to, by its configuration's `model_type`; None for anything else."""
    family = FAMILIES.get(getattr(getattr(module, "config", None), "model_type", ""))
    return family if family is not None and _fits(module, family) else None


def base_path(module: nn.Module) -> str:
    """The dotted path of the base model inside `module`, with a trailing dot; empty where it is the base model
    itself.
    """
    prefix = getattr(module, "base_model_prefix", "")
    return f"{prefix}." if prefix and hasattr(module, prefix) else ""


def block_count(module: nn.Module, family: Family) -> int:
    """How many blocks the network has."""
    return len(list(module.get_submodule(base_path(module) + family.blocks).children()))


def _fits(module: nn.Module, family: Family) -> bool:
    """Whether the row's paths exist; a rewritten relative of a family is better served by its raw paths than by an
    error.
    """
    base = base_path(module)
    try:
        module.get_submodule(base + family.embed)
        blocks = module.get_submodule(base + family.blocks)
        first = blocks.get_submodule("0")
        for path in (family.attention, family.attn_out, family.mlp_out):
            first.get_submodule(path)
    except AttributeError:
        return False
    return True
