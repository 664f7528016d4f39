"""Recording one site of a language model: nissl, nnsight, TransformerLens' bridge, and the bare pass to the same
point."""

from __future__ import annotations

import copy

import torch
import transformers
from timing import in_turn, table

import nissl
from nissl.models import StopForward

LAYER = 6


def main() -> str:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=256, n_layer=12, n_head=8, vocab_size=5000, n_positions=256, bos_token_id=1, eos_token_id=2
    )
    module = transformers.GPT2LMHeadModel(config).eval()
    model = nissl.load(module)
    ids = torch.randint(3, 5000, (8, 128), generator=torch.Generator().manual_seed(0))
    site = f"resid.{LAYER}"
    nissl.record(model, ids, site)

    def whole() -> None:
        with torch.no_grad():
            module(ids)

    def stop(*_: object) -> None:
        raise StopForward

    def bare() -> None:
        """The forward pass to the point where the site is, and no further; nothing is kept."""
        handle = module.transformer.h[LAYER].register_forward_pre_hook(stop)
        try:
            with torch.no_grad():
                module(ids)
        except StopForward:
            pass
        finally:
            handle.remove()

    jobs = {
        "bare pass to the site": bare,
        "nissl.record": lambda: nissl.record(model, ids, site, batch_size=8, progress=False),
        "bare pass, whole": whole,
    }
    missing = []
    try:
        jobs["nnsight"] = _nnsight(module, ids)
    except Exception as error:  # a peer that does not run here is named, and does not stop the others
        missing.append(f"nnsight ({type(error).__name__})")
    try:
        jobs["TransformerLens bridge, run_with_cache of the site"] = _bridge(module, ids)
    except Exception as error:
        missing.append(f"TransformerLens ({type(error).__name__}: {str(error)[:80]})")
    times = in_turn(jobs)
    note = f"nissl.record takes {times['nissl.record'] / times['bare pass to the site']:.3f} of the bare pass to the site (aim 1.05)."
    if missing:
        note += " Not measured, since they did not run here: " + ", ".join(missing) + "."
    return table(
        "Recording resid.6 of a GPT-2 with 12 layers of width 256, 8 x 128 tokens", times, "bare pass to the site", note
    )


def _nnsight(module, ids):
    from nnsight import NNsight

    wrapped = NNsight(module)

    def job() -> torch.Tensor:
        with torch.no_grad(), wrapped.trace(ids):
            saved = wrapped.transformer.h[LAYER].input.save()
        return saved  # noqa: RET504  nnsight rewrites the body of the block: the name is what comes out of it

    job()
    return job


def _bridge(module, ids):
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    # The bridge replaces submodules of what it is given, so it gets a copy.
    bridge = build_bridge_from_module(copy.deepcopy(module), "GPT2LMHeadModel", hf_config=module.config)
    name = f"blocks.{LAYER}.hook_in"

    def job() -> object:
        with torch.no_grad():
            return bridge.run_with_cache(ids, names_filter=name, stop_at_layer=LAYER + 1)

    job()
    return job


if __name__ == "__main__":
    print(main())
