"""A tick of the thought machine against a plain reading of its equations, and a training pass of a larger one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from timing import in_turn, table
from torch import Tensor, nn
from torch.nn import functional

from nissl.nn import ContinuousThoughtMachine, tick_loss


class PlainReading(nn.Module):
    """The equations as they stand on the page, with the machine's own weights, and so its numbers: histories joined anew each
    tick, whole tables of pairs of which the upper triangle is read, torch's own attention. Synchronisation is summed
    anew over all ticks so far, or kept by its recursion.
    """

    def __init__(self, like: ContinuousThoughtMachine, side: int, *, recursion: bool) -> None:
        super().__init__()
        self.like, self.recursion, look = like, recursion, like.look
        self.rows, self.columns = torch.triu_indices(side, side)
        self.attention = nn.MultiheadAttention(look.width, look.heads, batch_first=True).to(like.start.dtype)
        with torch.no_grad():
            for name in ("weight", "bias"):
                joined = torch.cat([getattr(part, name) for part in (look.query, look.key, look.value)])
                getattr(self.attention, f"in_proj_{name}").copy_(joined)
                getattr(self.attention.out_proj, name).copy_(getattr(look.out, name))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and certainty, as the machine gives them."""
        m = self.like
        tokens = m.tokens(x)
        z, history = m.start.expand(len(x), -1), m.start_history.expand(len(x), -1, -1)
        looks, says = self._stream("action"), self._stream("out")
        says(z)
        logits, certain = [], []
        for _ in range(m.ticks):
            query = m.look.ask(looks(z)).unsqueeze(1)
            seen = self.attention(query, tokens, tokens, average_attn_weights=False)[0].squeeze(1)
            a = m.synapses(torch.cat([seen, z], -1))
            history = torch.cat([history[..., 1:], a.unsqueeze(-1)], -1)
            z = self._neurons(history)
            y = m.readout(says(z))
            p = y.softmax(-1)
            logits.append(y)
            certain.append(1 + (p * p.log()).sum(-1) / math.log(m.n_classes))
        return torch.stack(logits, -1), torch.stack(certain, -1)

    def _neurons(self, history: Tensor) -> Tensor:
        own = self.like.neurons
        for weight, bias, temperature in zip(own.weights, own.biases, own.temperatures, strict=True):
            history = functional.glu((torch.einsum("bdm,dhm->bdh", history, weight) + bias) / temperature, -1)
        return history.squeeze(-1)

    def _stream(self, name: str) -> Callable[[Tensor], Tensor]:
        """A function that counts one moment of activity and gives the synchronisation so far."""
        pairs = self.like.synchronisation[name]
        side = int(self.rows[-1]) + 1
        left, right = pairs.left[self.columns == side - 1], pairs.right[:side]  # type: ignore[index]
        past: list[Tensor] = []
        totals: list[Tensor] = []

        def summed(z: Tensor) -> Tensor:
            past.append(torch.einsum("bi,bj->bij", z[:, left], z[:, right])[:, self.rows, self.columns])
            age = torch.arange(len(past) - 1, -1, -1, dtype=z.dtype)[:, None]
            weight = torch.exp(-pairs.rate * age)
            return torch.einsum("tp,tbp->bp", weight, torch.stack(past)) / weight.sum(0).sqrt()

        def recursive(z: Tensor) -> Tensor:
            product = torch.einsum("bi,bj->bij", z[:, left], z[:, right])[:, self.rows, self.columns]
            decay = torch.exp(-pairs.rate)
            total, weight = totals or (torch.zeros_like(product), torch.zeros_like(product))
            totals[:] = decay * total + product, decay * weight + 1
            return totals[0] / totals[1].sqrt()

        return recursive if self.recursion else summed


def machine(n_neurons: int, ticks: int, side: int, d_input: int, heads: int, history: int, hidden: int):
    """A machine of some size, with semi-dense pairs."""
    return ContinuousThoughtMachine(
        n_features=d_input, n_classes=10, n_neurons=n_neurons, ticks=ticks, history=history, d_input=d_input, heads=heads,
        pairs_out=side, pairs_action=side, pairing="semi-dense", nlm_hidden=hidden,
    )  # fmt: skip


def main() -> str:
    parts = []
    for n, ticks, side, width, heads, history, hidden, batch, tokens in (
        (64, 10, 16, 32, 2, 6, 4, 32, 8),
        (512, 25, 32, 128, 4, 10, 16, 32, 64),
    ):
        ours = machine(n, ticks, side, width, heads, history, hidden)
        plain = {
            "plain reading, summed anew": PlainReading(ours, side, recursion=False),
            "plain reading, recursion": PlainReading(ours, side, recursion=True),
        }
        x = torch.randn(batch, tokens, width, generator=torch.Generator().manual_seed(0))
        target = torch.randint(10, (batch,), generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            apart = max(float((p(x)[0] - ours(x).logits).abs().max()) for p in plain.values())
        assert apart < 1e-4, apart

        def think(model: nn.Module, x: Tensor = x) -> None:
            with torch.no_grad():
                model(x)

        def learn(model: nn.Module, x: Tensor = x, target: Tensor = target) -> None:
            logits, certain = model(x)
            tick_loss(logits, certain, target).backward()
            model.zero_grad()

        models = {**plain, "nissl": ours}
        what = f"{n} neurons, {ticks} ticks, {batch} samples of {tokens} tokens"
        for title, job in (("forward", think), ("forward and backward", learn)):
            times = in_turn({name: lambda m=m, j=job: j(m) for name, m in models.items()}, rounds=15 if n < 100 else 7)
            times = {name: t / ticks for name, t in times.items()}
            parts.append(
                table(f"Thought machine, a tick, {title}: {what}", times, "plain reading, recursion",
                      f"Largest difference between their answers {apart:.0e}.")
            )  # fmt: skip
    return "\n".join(parts)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(main())
