"""Spikes drawn from the model, window by window: after the true past, or after what it has itself drawn."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from nissl.errors import InputError
from nissl.populations.neuroformer.blocks import Cache
from nissl.populations.neuroformer.model import NeuroformerNetwork
from nissl.populations.neuroformer.windows import Batch, Windows

Context = dict[str, tuple[Tensor, Tensor | None]]


def nucleus(
    logits: Float[Tensor, "sample class"], temperature: float = 1.0, top_p: float = 1.0
) -> Float[Tensor, "sample class"]:
    """Probabilities at a temperature, of the fewest classes that together hold at least `top_p` (Holtzman et al. 2020).

    Examples
    --------
    >>> nucleus(torch.tensor([[0.5, 0.3, 0.2]]).log(), top_p=0.7).tolist()
    [[0.625, 0.375, 0.0]]
    """
    p = (logits.double() / temperature).softmax(-1)
    if top_p < 1:
        ranked, order = p.sort(-1, descending=True)
        ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= top_p, 0.0)
        p = torch.zeros_like(p).scatter(-1, order, ranked)
    return (p / p.sum(-1, keepdim=True)).to(logits.dtype)


def draw(
    network: NeuroformerNetwork,
    context: Context,
    n: int,
    *,
    temperature: tuple[float, float],
    top_p: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Int[Tensor, "window slot"], Int[Tensor, "window slot"]]:
    """Events of `n` windows, all at once, one event of each at a step; SOS, events, EOS, PAD.

    Keys of earlier events and of all context are kept, and windows that have ended are left out of further steps. Temperatures
    and nuclei are those of units and of times.
    """
    shape, device = network.shape, network.id_head.weight.device
    ids = torch.full((n, shape.max_events + 2), network.pad, device=device)
    dts = torch.full_like(ids, shape.window_bins + 2)
    ids[:, 0], dts[:, 0] = network.sos, shape.window_bins + 1
    active, cache = torch.arange(n, device=device), Cache()
    for slot in range(shape.max_events + 1):
        if slot == shape.max_events:
            ids[active, slot + 1], dts[active, slot + 1] = network.eos, shape.window_bins
            break
        found = network.decode(
            ids[active, slot : slot + 1], dts[active, slot : slot + 1], context, first_slot=slot, cache=cache
        )
        unit = torch.multinomial(nucleus(found.ids[:, 0].float(), temperature[0], top_p[0]), 1, generator=generator)[
            :, 0
        ]
        when = torch.multinomial(
            nucleus(found.dts[:, 0, :-1].float(), temperature[1], top_p[1]), 1, generator=generator
        )[:, 0]
        ended = unit == network.eos
        ids[active, slot + 1] = unit
        dts[active, slot + 1] = torch.where(ended, shape.window_bins, when)
        go_on = (~ended).nonzero()[:, 0]
        if len(go_on) == 0:
            break
        if len(go_on) < len(active):
            active = active[go_on]
            cache = {k: (keys[go_on], values[go_on]) for k, (keys, values) in cache.items()}
            context = {k: (x[go_on], None if real is None else real[go_on]) for k, (x, real) in context.items()}
    longest = int((ids != network.pad).sum(1).max())
    return ids[:, :longest], dts[:, :longest]


def generate_after_true_past(
    network: NeuroformerNetwork, windows: Windows, index: Int[np.ndarray, "window"], samples: int, *, batch_size: int = 1024, progress: bool = True,
    temperature: tuple[float, float], top_p: tuple[float, float], generator: torch.Generator,
) -> Int[np.ndarray, "sample bin unit"]:  # fmt: skip
    """Each window after the spikes that really came before it."""
    rows = np.tile(np.asarray(index), samples)
    parts = []
    with torch.no_grad():
        for begin in tqdm(
            range(0, len(rows), batch_size), desc="generating", disable=None if progress else True, leave=False
        ):
            batch = windows.batch(rows[begin : begin + batch_size], network.shape.predict)
            ids, dts = draw(
                network,
                network.context(batch),
                len(batch.ids),
                temperature=temperature,
                top_p=top_p,
                generator=generator,
            )
            parts.append(windows.tokenizer.decode(ids.cpu().numpy(), dts.cpu().numpy()))
    return np.concatenate(parts).reshape(samples, len(index) * windows.tokenizer.n_bins, -1)


def generate_closed_loop(
    network: NeuroformerNetwork, windows: Windows, index: Int[np.ndarray, "window"], samples: int, *, progress: bool = True,
    temperature: tuple[float, float], top_p: tuple[float, float], generator: torch.Generator,
) -> Int[np.ndarray, "sample bin unit"]:  # fmt: skip
    """Windows in a row, each after what was generated before; the first after the recording's own past."""
    if len(index) > 1 and (np.diff(index) != 1).any():
        raise InputError(
            "closed-loop generation runs through consecutive windows; the chosen ones have gaps, give another start or a shorter duration"
        )
    past = [t.repeat(samples, 1) for t in windows.past_events(torch.as_tensor(index[:1], device=windows.device))]
    parts = []
    with torch.no_grad():
        for row in tqdm(index, desc="generating", unit="window", disable=None if progress else True, leave=False):
            given = windows.batch(np.array([row]), network.shape.predict)
            context = network.context(_with_past(given, past))
            context = {
                k: (x.expand(samples, -1, -1), None if r is None else r.expand(samples, -1))
                for k, (x, r) in context.items()
            }
            ids, dts = draw(network, context, samples, temperature=temperature, top_p=top_p, generator=generator)
            parts.append(
                windows.tokenizer.decode(ids.cpu().numpy(), dts.cpu().numpy()).reshape(
                    samples, windows.tokenizer.n_bins, -1
                )
            )
            past = next_past(past, ids, dts, windows)
    return np.concatenate(parts, axis=1)


def next_past(past: list[Tensor], ids: Tensor, dts: Tensor, windows: Windows) -> list[Tensor]:
    """The past of the next window: the old one moved back by a window, what has become too old dropped, the new events behind it."""
    t, bins = windows.tokenizer, windows.past_bins
    unit = torch.cat([past[0], ids], 1)
    moved = torch.cat([past[1] - t.n_bins, dts + bins - t.n_bins], 1)
    real = torch.cat([past[2], ids < t.n_units], 1) & (moved >= 0)
    # Real events first, in their order; then only as many slots as the fullest row needs, the most recent ones.
    order = (~real).long().argsort(dim=1, stable=True)
    n = real.sum(1)
    keep = n.clamp(max=windows.max_past)
    slot = torch.arange(int(keep.max()), device=ids.device)
    place = order.gather(1, ((n - keep)[:, None] + slot).clamp(max=order.shape[1] - 1))
    held = slot < keep[:, None]
    return [torch.where(held, unit.gather(1, place), t.pad), torch.where(held, moved.gather(1, place), bins), held]


def _with_past(batch: Batch, past: list[Tensor]) -> Batch:
    from dataclasses import replace

    return replace(batch, past_ids=past[0], past_dts=past[1], past_real=past[2])
