"""A training step of Neuroformer against torch's own decoder of about the same size, and drawing with and without kept keys."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from timing import in_turn, table
from torch import Tensor, nn

from nissl.populations import Neuroformer
from nissl.populations.neuroformer import NeuroformerNetwork
from nissl.populations.neuroformer.generation import draw
from nissl.populations.neuroformer.training import Schedule, train
from nissl.populations.neuroformer.windows import Windows
from nissl.recordings.simulate import spiking_hubs

STEPS, BATCH = 8, 256


class TorchDecoder(nn.Module):
    """The same tokens, embeddings and heads on `torch.nn.TransformerDecoder`: two layers hold about the weights of our three blocks."""

    def __init__(self, like: NeuroformerNetwork) -> None:
        super().__init__()
        d = like.shape.dim
        self.like = like
        layer = nn.TransformerDecoderLayer(d, like.shape.heads, 4 * d, 0.0, "gelu", batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2)

    def forward(self, ids: Tensor, dts: Tensor, past: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of units and times."""
        x = self.like.unit(ids) + self.like.time[dts] + self.like.slot.weight[: ids.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        x = self.decoder(x, past, tgt_mask=mask, tgt_is_causal=True, memory_key_padding_mask=~real)
        return self.like.id_head(x), self.like.dt_head(x)


def peer(windows: Windows, network: NeuroformerNetwork, rows: np.ndarray) -> Callable[[], None]:
    """Steps of the peer: windows drawn at random, padded to the longest."""
    model = TorchDecoder(network)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    rng = np.random.default_rng(0)

    def steps() -> None:
        for _ in range(STEPS):
            batch = windows.batch(rng.choice(rows, BATCH, replace=False))
            context, real = network.context(batch)["past"]
            assert real is not None
            ids, dts = model(batch.ids[:, :-1], batch.dts[:, :-1], context, real)
            target, when = batch.ids[:, 1:].flatten(), batch.dts[:, 1:].flatten()
            loss = nn.functional.cross_entropy(ids.flatten(0, 1), target.masked_fill(target > network.eos, -100))
            loss = loss + nn.functional.cross_entropy(dts.flatten(0, 1), when.masked_fill(when > 5, -100))
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()

    return steps


def draw_again(network: NeuroformerNetwork, windows: Windows, rows: np.ndarray) -> None:
    """Windows drawn without kept keys: all earlier events are run again for each new one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        context = network.context(windows.batch(rows))
        ids = torch.full((len(rows), 1), network.sos)
        dts = torch.full_like(ids, network.shape.window_bins + 1)
        going = torch.ones(len(rows), dtype=torch.bool)
        while going.any() and ids.shape[1] < network.shape.max_events:
            found = network.decode(ids, dts, context)
            unit = torch.multinomial(found.ids[:, -1].softmax(-1), 1, generator=generator)
            when = torch.multinomial(found.dts[:, -1, :-1].softmax(-1), 1, generator=generator)
            going &= unit[:, 0] != network.eos
            ids = torch.cat([ids, torch.where(going[:, None], unit, network.pad)], 1)
            dts = torch.cat([dts, torch.where(going[:, None], when, network.shape.window_bins + 2)], 1)


def main() -> str:
    recording = spiking_hubs(200)
    parts = []
    for dim, heads in ((32, 2), (64, 4)):
        model = Neuroformer(dim=dim, heads=heads, steps=0, progress=False, device="cpu").fit(recording)
        windows, network, rows = model.windows_, model.network_, np.flatnonzero(model.split_ == "train")
        schedule = Schedule(STEPS, BATCH)
        theirs = peer(windows, network, rows)
        times = in_turn(
            {
                "torch.nn.TransformerDecoder": theirs,
                "nissl Neuroformer": lambda w=windows, n=network, r=rows, s=schedule: train(n, w, r, s, progress=False),
            },
            rounds=3,
        )
        times = {k: t / STEPS for k, t in times.items()}
        own = sum(p.numel() for part in (network.state, network.past, network.final) for p in part.parameters())
        other = sum(p.numel() for p in TorchDecoder(network).decoder.parameters())
        note = f"{own} weights in blocks against {other}; {BATCH} windows a step. Windows of much the same length share a batch, so there is little padding."
        parts.append(table(f"Neuroformer, a training step, width {dim}", times, "torch.nn.TransformerDecoder", note))
    chosen = rows[:512]

    def kept() -> None:
        with torch.no_grad():
            context = network.context(windows.batch(chosen))
            draw(
                network,
                context,
                len(chosen),
                temperature=(1, 1),
                top_p=(1, 1),
                generator=torch.Generator().manual_seed(0),
            )

    times = in_turn(
        {"all events run again": lambda: draw_again(network, windows, chosen), "nissl, keys kept": kept}, rounds=5
    )
    parts.append(
        table("Neuroformer, 512 windows drawn", times, "all events run again", "Ended windows also leave the batch.")
    )
    return "\n".join(parts)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(main())
