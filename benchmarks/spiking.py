"""Spiking layers over 1,000 steps against snnTorch and spikingjelly, and astrocytes against attention beside spiking neurons."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import snntorch
import torch
from snntorch import surrogate as snn_surrogate
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based import surrogate as sj_surrogate
from timing import in_turn, table
from torch import Tensor, nn

from nissl.nn import LIF, AstrocyteModulatedUnit, fading_memory, unroll

STEPS = 1000
PEERS = "snnTorch Leaky, its loop", "spikingjelly LIFNode, multi-step on torch"


def layers(reset: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """The same neurons three times: beta 0.5, threshold 1, arctan, the reset detached. Each takes its own layout."""
    ours = LIF(tau=2.0, reset="hard" if reset == "zero" else "soft", surrogate="arctan", slope=2.0)
    # An undelayed subtraction is what the other two do; a reset to zero is the same delayed, which is cheaper there.
    leaky = snntorch.Leaky(
        beta=0.5, reset_mechanism=reset, reset_delay=reset == "zero", spike_grad=snn_surrogate.atan(alpha=2.0)
    )
    node = neuron.LIFNode(
        tau=2.0, decay_input=False, v_reset=0.0 if reset == "zero" else None, surrogate_function=sj_surrogate.ATan(2.0),
        detach_reset=True, step_mode="m",
    )  # fmt: skip

    def loop(x: Tensor) -> Tensor:
        memory, spikes = leaky.reset_mem(), []
        for current in x.unbind(0):
            s, memory = leaky(current, memory)
            spikes.append(s)
        return torch.stack(spikes)

    def multi_step(x: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(x)

    return {PEERS[0]: loop, PEERS[1]: multi_step, "nissl LIF": ours}


def over_steps(batch: int, units: int, reset: str) -> list[str]:
    """Forward alone, and forward with backward."""
    generator = torch.Generator().manual_seed(0)
    batch_first = 0.9 * torch.rand(batch, STEPS, units, generator=generator)
    time_first = batch_first.transpose(0, 1).contiguous()
    found = layers(reset)
    spikes = {name: layer(time_first if name in PEERS else batch_first) for name, layer in found.items()}
    ours = spikes["nissl LIF"].transpose(0, 1)
    same = {name: float((spikes[name] == ours).float().mean()) for name in PEERS}

    def forward(name: str) -> None:
        with torch.no_grad():
            found[name](time_first if name in PEERS else batch_first)

    def backward(name: str) -> None:
        x = (time_first if name in PEERS else batch_first).detach().requires_grad_()
        found[name](x).sum().backward()

    parts = []
    for what, job in (("forward", forward), ("forward and backward", backward)):
        times = in_turn({name: lambda n=name, j=job: j(n) for name in found}, rounds=5)
        note = f"Spikes equal to ours: snnTorch {same[PEERS[0]]:.4%}, spikingjelly {same[PEERS[1]]:.4%}; {ours.mean():.2f} spikes a step."
        title = f"Spiking layer, {STEPS} steps, {batch} x {units}, reset {reset}, {what}"
        parts.append(table(title, times, PEERS[1], note))
    return parts


class AttentiveNeurons(nn.Module):
    """What an astrocyte-modulated unit is measured against: snnTorch's neurons, and causal attention that speaks up before the spike."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.drive, self.norm = nn.Linear(d, d, bias=False), nn.LayerNorm(d)
        self.attention = nn.MultiheadAttention(d, heads, bias=False, batch_first=True)
        self.neuron = snntorch.Leaky(beta=0.5, threshold=0.5, reset_mechanism="zero", spike_grad=snn_surrogate.atan())

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (batch, time, unit); as snnTorch knows no modulation, it is part of the current here."""
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        said = self.norm(self.attention(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0])
        current = torch.sigmoid(self.drive(x)) + said
        memory, spikes = self.neuron.reset_mem(), []
        for moment in current.unbind(1):
            s, memory = self.neuron(moment, memory)
            spikes.append(s)
        return torch.stack(spikes, 1)


def training_step(batch: int, time: int, d: int, heads: int) -> str:
    """One pass forward and backward of the unit and of its peer."""
    x = torch.randn(batch, time, d, generator=torch.Generator().manual_seed(0))
    peer, ours = AttentiveNeurons(d, heads), AstrocyteModulatedUnit(d, heads, surrogate="arctan")
    peer(x)

    def job(module: nn.Module) -> None:
        module.zero_grad()
        module(x.requires_grad_()).square().sum().backward()

    names = "snnTorch Leaky with torch.nn.MultiheadAttention", "nissl AstrocyteModulatedUnit"
    times = in_turn({names[0]: lambda: job(peer), names[1]: lambda: job(ours)}, rounds=5)
    return table(f"Training step, {batch} texts of {time} tokens, width {d}, {heads} heads", times, names[0])


def forms(time: int, width: int, heads: int) -> str:
    """The memory in its three forms, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(4, time, heads, width, generator=generator).requires_grad_() for _ in range(3))
    jobs = {
        form: lambda f=form: fading_memory(q, k, v, 0.99, form=f)[0].sum().backward()
        for form in ("step", "parallel", "chunked")
    }
    return table(f"Fading memory over {time} steps, {heads} heads of {width}", in_turn(jobs, rounds=3), "step")


def steps_against_sequence(batch: int, units: int) -> str:
    """The same cell one step after another under autograd, and as a sequence."""
    lif, x = (
        LIF(tau=2.0, surrogate="arctan"),
        torch.rand(batch, STEPS, units, generator=torch.Generator().manual_seed(0)),
    )

    def stepwise() -> None:
        inputs = x.detach().requires_grad_()
        outputs, _ = unroll(lif, lif.advance, inputs.unbind(1), lif.initial_state(x[:, 0]))
        torch.stack(outputs, 1).sum().backward()

    times = in_turn(
        {"steps": stepwise, "sequence": lambda: lif(x.detach().requires_grad_()).sum().backward()}, rounds=5
    )
    return table(f"nissl LIF, {STEPS} steps, {batch} x {units}, forward and backward", times, "steps")


def main() -> str:
    parts = []
    for batch, units in ((16, 64), (32, 128), (64, 256)):
        parts += over_steps(batch, units, "zero")
    parts += over_steps(32, 128, "subtract")
    parts += [steps_against_sequence(32, 128), training_step(16, 256, 64, 2), forms(1024, 32, 2)]
    return "\n".join(parts)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(main())
