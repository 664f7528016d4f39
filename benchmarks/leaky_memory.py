"""The leaky memory neuron in its sequence form against its own steps, a plain reading of the equations, and torch's LSTM."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from timing import in_turn, table
from torch import Tensor, nn

from nissl.nn import LeakyMemoryNeuron, unroll
from nissl.nn._kernels import kernel

SIZES = ((8, 500, 45, 20), (32, 500, 128, 100))  # batch, time, inputs, memory units


class Plain(nn.Module):
    """The equations as they stand, all of them inside the loop over time, on the weights of another."""

    def __init__(self, like: LeakyMemoryNeuron) -> None:
        super().__init__()
        self.like = like

    def forward(self, x: Tensor) -> Tensor:
        """Output at every step."""
        n = self.like
        keep_s, keep = torch.exp(torch.tensor(-n.dt / n.tau_synapse)), torch.exp(-n.dt / n.tau)
        weight = torch.cat([n.branch_weight, n.memory_weight], 1)
        w_s, last = torch.relu(n.synapse_weight).flatten(), n.layers[0]
        s, m = x.new_zeros(len(x), x.shape[2]), x.new_zeros(len(x), n.n_memory)
        outputs = []
        for t in range(x.shape[1]):
            s = keep_s * s + w_s * x[:, t]
            h = torch.relu(nn.functional.linear(torch.cat([s, keep * m], 1), weight, n.bias))
            m = keep * m + n.gain * (1 - keep) * 1.7159 * torch.tanh(2 / 3 * last(h))
            outputs.append(n.readout(m))
        return torch.stack(outputs, 1)


class Peer(nn.Module):
    """torch.nn.LSTM with a linear output, of the nearest number of weights."""

    def __init__(self, weights: int, n_inputs: int) -> None:
        super().__init__()
        hidden = min(range(1, 500), key=lambda h: abs(4 * h * (n_inputs + h + 2) + 2 * (h + 1) - weights))
        self.lstm, self.readout = nn.LSTM(n_inputs, hidden, batch_first=True), nn.Linear(hidden, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Output at every step."""
        return self.readout(self.lstm(x)[0])


def steps(neuron: LeakyMemoryNeuron, x: Tensor) -> Tensor:
    """The neuron's own steps, one after another."""
    outputs, _ = unroll(neuron, neuron.advance, x.unbind(1), neuron.initial_state(x[:, 0]))
    return torch.stack(outputs, 1)


def without_compiler(job: Callable[[], object]) -> Callable[[], object]:
    """The same with the core in torch."""

    def run() -> object:
        library = kernel.library
        kernel.library = lambda: None
        try:
            return job()
        finally:
            kernel.library = library

    return run


def weights(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def main() -> str:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that all of them have the same
    parts = []
    for batch, time, n_inputs, n_memory in SIZES:
        neuron = LeakyMemoryNeuron(n_inputs, 2, n_memory, tau_memory=(1.0, 150.0))
        peer, plain = Peer(weights(neuron), n_inputs), Plain(neuron)
        x = (torch.rand(batch, time, n_inputs, generator=torch.Generator().manual_seed(0)) < 0.05).float()
        models = {
            "torch.nn.LSTM": lambda p=peer, x=x: p(x),
            "plain reading": lambda p=plain, x=x: p(x),
            "nissl, step by step": lambda n=neuron, x=x: steps(n, x),
            "nissl, sequence": lambda n=neuron, x=x: n(x),
        }
        difference = (neuron(x) - plain(x)).abs().max().item()

        def trained(f: Callable[[], Tensor]) -> Callable[[], object]:
            return lambda: f().square().mean().backward()

        def used(f: Callable[[], Tensor]) -> Callable[[], object]:
            return torch.no_grad()(f)

        for what, kind in (("inference", used), ("a training step (forward and backward)", trained)):
            jobs = {name: kind(f) for name, f in models.items()}
            jobs["nissl, sequence without a compiler"] = without_compiler(jobs["nissl, sequence"])
            title = f"Leaky memory neuron, {what}: batch {batch}, {time} steps, {n_inputs} inputs, d_m = {n_memory}"
            note = (
                f"{weights(neuron)} weights against {weights(peer)} of the LSTM, one thread; plain reading and sequence differ by "
                f"{difference:.0e} at most. Machine code: {'yes' if kernel.library() else 'no compiler here'}."
            )
            parts.append(table(title, in_turn(jobs, rounds=7), "torch.nn.LSTM", note))
    torch.set_num_threads(threads)
    return "\n".join(parts)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(main())
