"""A quadratic layer beside three separate linear layers of the same shape, and what it keeps for the backward pass."""

from __future__ import annotations

import torch
from timing import in_turn, table
from torch import Tensor, nn

from nissl.nn.quadratic import QuadraticConv2d, QuadraticLinear


class PlainReading(nn.Module):
    """h = r(x) g(x) + b(x x) as it stands on the page, of any three layers of torch."""

    def __init__(self, r: nn.Module, g: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.r, self.g, self.b = r, g, b

    def forward(self, x: Tensor) -> Tensor:
        return self.r(x) * self.g(x) + self.b(x * x)


def kept(model: nn.Module, x: Tensor) -> float:
    """Mebibytes of activity that autograd holds until the backward pass, each storage once, weights and input left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()} | {x.untyped_storage().data_ptr()}
    sizes: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        out = model(x)
    del out
    return sum(sizes.values()) / 2**20


def compare(title: str, layers: list[nn.Module], ours: dict[str, nn.Module], x: Tensor, rounds: int) -> str:
    """Forward and backward of each, the input's gradient included."""
    plain = PlainReading(*layers)
    quadratic = next(iter(ours.values()))
    with torch.no_grad():
        for name in "rgb":
            getattr(quadratic, f"weight_{name}").copy_(getattr(plain, name).weight)
            getattr(quadratic, f"bias_{name}").copy_(getattr(plain, name).bias)
        apart = float((quadratic(x) - plain(x)).abs().max() / plain(x).abs().max())
    assert apart < 1e-4, apart
    ones = torch.ones_like(layers[0](x))

    def learn(model: nn.Module) -> None:
        model(x).backward(ones)
        x.grad = None
        model.zero_grad()

    def three() -> None:
        for layer in layers:
            learn(layer)

    models = {"plain reading": plain, **ours}
    times = in_turn(
        {"three linear maps": three, **{name: lambda m=m: learn(m) for name, m in models.items()}}, rounds=rounds
    )
    memory = ", ".join(f"{name} {kept(model, x):.2f}" for name, model in models.items())
    return table(f"Quadratic layer, forward and backward: {title}", times, "three linear maps",
                 f"MiB kept for the backward pass besides the input: {memory}. Largest relative difference from the plain reading {apart:.0e}.")  # fmt: skip


def main() -> str:
    torch.manual_seed(0)
    parts = []
    for width, batch, rounds in ((64, 64, 500), (512, 256, 40), (2048, 256, 7)):
        x = torch.randn(batch, width, requires_grad=True)
        ours = {
            "nissl": QuadraticLinear(width, width, init="random"),
            "nissl, compact": QuadraticLinear(width, width, compact=True),
        }
        parts.append(
            compare(
                f"{width} to {width}, {batch} samples", [nn.Linear(width, width) for _ in range(3)], ours, x, rounds
            )
        )
    x = torch.randn(32, 16, 32, 32, requires_grad=True)
    ours = {
        "nissl": QuadraticConv2d(16, 16, 3, padding=1, init="random"),
        "nissl, compact": QuadraticConv2d(16, 16, 3, padding=1, compact=True),
    }
    parts.append(
        compare(
            "3 x 3 convolution, 16 channels, 32 pictures of 32 x 32",
            [nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)],
            ours,
            x,
            15,
        )
    )
    return "\n".join(parts)


if __name__ == "__main__":
    print(main())
