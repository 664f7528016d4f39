"""A step of counter-current learning against one of back-propagation at equal width and depth, with what each keeps for gradients."""

from __future__ import annotations

from itertools import pairwise

import torch
from timing import in_turn, table
from torch import nn

from nissl.learning.counter_current import make_rule, step_memory

RULES = ("back-propagation", "counter-current", "feedback alignment", "target propagation")


def mlp(width: int, depth: int) -> nn.Sequential:
    widths = [784, *[width] * (depth - 1), 10]
    parts = [m for before, after in pairwise(widths) for m in (nn.Linear(before, after, bias=False), nn.ELU())]
    return nn.Sequential(*parts[:-1])


def main() -> str:
    parts = []
    for width, depth, batch in ((256, 6, 64), (256, 6, 256), (256, 12, 256), (1024, 6, 256)):
        torch.manual_seed(0)
        layers = mlp(width, depth)
        x = torch.randn(batch, 784, generator=torch.Generator().manual_seed(1))
        y = torch.arange(batch) % 10
        rules = {name: make_rule(name, layers) for name in RULES}
        memory = {name: step_memory(rule, x, y) for name, rule in rules.items()}
        times = in_turn(
            {name: lambda r=rule, x=x, y=y: r._update(x, y) for name, rule in rules.items()},
            rounds=15 if width < 1000 else 7,
        )
        kept = ", ".join(f"{name} {size / 1024:.0f} KiB" for name, size in memory.items())
        parts.append(
            table(f"Counter-current learning, one step: width {width}, depth {depth}, batch {batch}", times, RULES[0],
                  f"The most that is kept for gradients at one time: {kept}.")
        )  # fmt: skip
    return "\n".join(parts)


if __name__ == "__main__":
    print(main())
