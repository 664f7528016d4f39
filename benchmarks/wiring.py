"""Wiring diagrams: a training step of a nest of learners against eager torch, and how building, checking and a step grow with boxes."""

from __future__ import annotations

import copy
import itertools
import random
import time
from typing import Any

import torch
from timing import in_turn, table
from torch import Tensor, nn

from nissl.diagrams.wiring import Interface, Space, System, Wiring, flatten, from_torch, grouped, nest

SPACE = Space((2,), "float32")
BOX = Interface({"y": SPACE}, {"u": SPACE, "v": SPACE})


def reads(state: dict[str, Tensor]) -> Tensor:
    """Says its first half."""
    return state["x"]


def moves(state: dict[str, Tensor], heard: dict[str, Tensor]) -> dict[str, Tensor]:
    """A leaky cell with its own matrix."""
    return state | {"x": torch.tanh(state["a"] @ state["x"] + heard["u"] - 0.3 * heard["v"])}


def boxes_and_wires(n: int) -> tuple[dict[str, System], dict[str, str]]:
    """n random cells, each of which hears two of them."""
    generator, choose = torch.Generator().manual_seed(0), random.Random(0)
    x, a = torch.randn(n, 2, generator=generator), torch.randn(n, 2, 2, generator=generator)
    systems = {f"b{i}": System(BOX, {"x": x[i], "a": a[i]}, reads, moves) for i in range(n)}
    wires = {f"b{i}.{p}": f"b{choose.randrange(n)}.y" for i in range(n) for p in "uv"} | {"outer.y": "b0.y"}
    return systems, wires


def training(widths: list[int], batch: int, optimizer: str) -> str:
    """One step of a multilayer perceptron."""
    torch.manual_seed(0)
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())][:-1]
    net = nn.Sequential(*layers)
    x, target = torch.randn(batch, widths[0]), torch.randn(batch, widths[-1])
    box: Any = from_torch(net, x, optimizer, 1e-3)  # type: ignore[arg-type]
    theirs = copy.deepcopy(net)
    optimiser = (
        torch.optim.Adam(theirs.parameters(), 1e-3)
        if optimizer == "adam"
        else torch.optim.SGD(theirs.parameters(), 1e-3)
    )
    held = {"nest": box, "flat": flatten(box)}

    def ours(name: str) -> Tensor:
        y, _, held[name] = held[name].step(x, lambda y: target - y)
        return y

    def eager() -> Tensor:
        y = theirs(x)
        optimiser.zero_grad()
        (0.5 * ((y - target) ** 2).sum()).backward()
        optimiser.step()
        return y

    apart = float((ours("nest") - eager().detach()).abs().max())
    assert apart < 1e-4, apart
    times = in_turn({"eager torch": eager, "nest": lambda: ours("nest"), "flattened": lambda: ours("flat")}, rounds=15)
    name = "-".join(map(str, widths))
    return table(
        f"Training step, {name}, batch {batch}, {optimizer}", times, "eager torch", f"Outputs differ by {apart:.0e}."
    )


def growth() -> str:
    """Building and checking, filling, and one step, of 10 to 10,000 boxes."""
    lines = [
        "## Wiring of n boxes, milliseconds",
        "",
        "| boxes | build and check | fill | a step, one by one | a step, grouped | build, µs a box | step, µs a box |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for n in (10, 100, 1_000, 10_000):
        systems, wires = boxes_and_wires(n)

        def build(systems: dict = systems, wires: dict = wires) -> Wiring:
            return Wiring(dict.fromkeys(systems, BOX), Interface({"y": SPACE}), wires)

        wiring = build()
        whole = nest(wiring, systems)
        together = grouped(whole)
        jobs = {
            "build": build,
            "fill": lambda wiring=wiring, systems=systems: nest(wiring, systems),
            "step": lambda whole=whole: whole.update({}),
            "grouped": lambda together=together: together.update({}),
        }
        t = {name: 1e3 * seconds for name, seconds in in_turn(jobs, rounds=5).items()}
        lines.append(
            f"| {n:,} | {t['build']:.2f} | {t['fill']:.2f} | {t['step']:.2f} | {t['grouped']:.2f} | {1e3 * t['build'] / n:.1f} | "
            f"{1e3 * t['step'] / n:.1f} |"
        )
    return "\n".join([*lines, ""])


def discopy(n: int = 1000) -> str:
    """A chain of n typed boxes beside DisCoPy, where it is installed."""
    try:
        from discopy.monoidal import Box, Ty
    except ImportError:
        return ""
    t, space = Ty("t"), Space((2,), "float32")
    relay = Interface({"y": space}, {"u": space})

    def theirs() -> Any:
        chain = Box("b0", t, t)
        for i in range(1, n):
            chain = chain >> Box(f"b{i}", t, t)
        return chain

    def ours() -> Wiring:
        wires = {f"b{i}.u": f"b{i - 1}.y" for i in range(1, n)} | {"b0.u": "outer.u", "outer.y": f"b{n - 1}.y"}
        return Wiring({f"b{i}": relay for i in range(n)}, relay, wires)

    begin = time.perf_counter()
    theirs()
    rounds = 5 if time.perf_counter() - begin < 2 else 1
    times = in_turn({"nissl": ours, "DisCoPy": theirs}, rounds=rounds)
    return table(
        f"A typed chain of {n:,} boxes",
        times,
        "nissl",
        "DisCoPy composes it one by one, which is quadratic; nissl takes all wires at once.",
    )


def main() -> str:
    return "\n".join([
        training([784, 512, 512, 10], 128, "sgd"), training([784, 512, 512, 10], 128, "adam"), training([64, 64, 64, 10], 32, "sgd"),
        growth(), discopy(),
    ])  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(main())
