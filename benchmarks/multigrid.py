"""A multigrid operator layer against a Fourier layer of neuraloperator with exactly as many weights (zero padding): time, time a point, and memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
from pathlib import Path

import torch
from timing import in_turn, table
from torch import Tensor, nn

from nissl.nn.operators.multigrid import MultigridLayer

WIDTH, BATCH, SIZES = 32, 2, (64, 128, 256)
STEPS = (1, 1, 1, 1, 1, 2)
NAMES = ("neuraloperator", "nissl, zero padding", "nissl, periodic")


class FourierLayer(nn.Module):
    """Spectral convolution and a linear skip from neuraloperator, then a GELU, as between two layers of its FNO."""

    def __init__(self) -> None:
        super().__init__()
        from neuralop.layers.fno_block import FNOBlocks

        self.blocks = FNOBlocks(WIDTH, WIDTH, n_modes=(14, 16), n_layers=1, use_channel_mlp=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(self.blocks(x))


def layer(name: str) -> nn.Module:
    if name == NAMES[0]:
        return FourierLayer()
    return MultigridLayer(WIDTH, WIDTH, STEPS, boundary="periodic" if "periodic" in name else "dirichlet")


def weights(model: nn.Module) -> int:
    return sum(p.numel() * (1 + p.is_complex()) for p in model.parameters())


def learn(model: nn.Module, x: Tensor) -> None:
    x = x.detach().requires_grad_()  # as from a layer before it
    model(x).square().mean().backward()
    model.zero_grad()


def think(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model(x)


def peak(name: str, size: int) -> float:
    """Megabytes that a pass forward and backward adds, at its highest, in a process of its own."""
    command = [sys.executable, __file__, name, str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _measure(name: str, size: int) -> None:
    torch.set_num_threads(1)
    model, x = layer(name), torch.randn(BATCH, WIDTH, size, size)
    learn(model, torch.randn(1, WIDTH, 64, 64))  # what libraries allocate once
    before, seen, done = _resident(), [], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(_resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    learn(model, x)
    done.set()
    watcher.join()
    print(max(seen) - before)


def main() -> str:
    models = {name: layer(name) for name in NAMES}
    counts = {name: weights(model) for name, model in models.items()}
    assert counts[NAMES[0]] == counts[NAMES[1]], counts  # periodic layers go up with four taps in place of three
    parts = []
    for size in SIZES:
        x = torch.randn(BATCH, WIDTH, size, size, generator=torch.Generator().manual_seed(0))
        for title, job in (("forward", think), ("forward and backward", learn)):
            rounds = 15 if size < 256 else 7
            times = in_turn({name: lambda m=m, j=job: j(m, x) for name, m in models.items()}, rounds)  # noqa: B023
            note = "Weights: " + ", ".join(f"{name} {count:,}" for name, count in counts.items())
            note += ". Nanoseconds a point: " + ", ".join(
                f"{name} {1e9 * t / (BATCH * size**2):.0f}" for name, t in times.items()
            )
            if job is learn:
                note += ". Memory at its highest, MB: " + ", ".join(f"{name} {peak(name, size):.0f}" for name in NAMES)
            what = f"Multigrid layer, {title}: {BATCH} samples of {WIDTH} functions on {size} x {size} points"
            parts.append(table(what, times, NAMES[0], note + "."))
    return "\n".join(parts)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _measure(sys.argv[1], int(sys.argv[2]))
    else:
        torch.set_num_threads(1)
        print(main())
