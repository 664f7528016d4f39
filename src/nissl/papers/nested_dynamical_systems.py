"""Deep neural networks as nested dynamical systems: statements of a paper without experiments, as measurements.

Settings that the statements leave open, chosen before any result: hidden layers are tanh and the last is linear; the loss is half the summed squared
error, so that the direction is target minus output; targets and inputs are standard normal. Momentum has lr 0.05 and 0.9, Adam lr 0.01. Random
systems are x' = tanh(A x + B u), y = C x with two states, and ports of two numbers. The plant is a rotation times diag(1.2, 0.8), the reference standard normal;
errors are means over the 500 steps before the change, and over the last 500. Cells say tanh of what they hold, and W beside the drive counts 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from nissl.diagrams.wiring import (
    CLOSED,
    Descent,
    Hom,
    Interface,
    InterfaceMismatch,
    Learner,
    Space,
    System,
    Wiring,
    after,
    descender,
    flat_state,
    flatten,
    nest,
    neuron,
    real,
    run,
)
from nissl.diagrams.wiring.examples import adaptive_control, assemblies, hebbian_wiring, mlp
from nissl.papers.harness import Outcome, Paper

PAPER = Paper(
    "nested-dynamical-systems",
    "Deep neural networks as nested dynamical systems",
    "diagrams",
    "https://arxiv.org/abs/2111.01297",
    threads=1,
)
NOT_KNOWN = "the paper has no experiments"
STEPS, DOUBLE = 50, torch.float64


def _network(seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [[nn.Linear(a, b), nn.Tanh()] for a, b in pairwise((3, 4, 4, 2))]
        return nn.Sequential(*[m for pair in layers for m in pair][:-1]).double()


def _boxes(net: nn.Sequential, descent: Descent) -> Any:
    """The same network with a box a neuron and its derivatives written out."""
    linear = [m for m in net if isinstance(m, nn.Linear)]
    return mlp([m.weight.detach() for m in linear], [m.bias.detach() for m in linear], descent=descent)


def _weights(box: Any) -> Tensor:
    """All weights, neuron by neuron, each with its bias."""
    return torch.cat([held["params"]["w"] for held in flat_state(box).values()])


def _their_weights(net: nn.Sequential) -> Tensor:
    return torch.cat(
        [torch.cat([m.weight, m.bias[:, None]], 1).ravel() for m in net if isinstance(m, nn.Linear)]
    ).detach()


def _apart(box: Any, net: nn.Sequential, optimiser: torch.optim.Optimizer, seed: int, forget: bool = False) -> float:
    """Largest difference of outputs, weights and input gradients over all steps; `forget` takes the optimiser's memory away at each."""
    generator = torch.Generator().manual_seed(seed)
    worst, first = 0.0, box.state
    for _ in range(STEPS):
        x, target = (torch.randn(n, dtype=DOUBLE, generator=generator) for n in (3, 2))
        x.requires_grad_()
        y = net(x)
        optimiser.zero_grad()
        (0.5 * ((y - target) ** 2).sum()).backward()
        optimiser.step()
        if forget:
            box = box.at(_forgetful(first, box.state))
        ours, direction, box = box.step(x.detach(), lambda y, target=target: target - y)
        assert x.grad is not None
        pairs = ((ours, y), (direction, -x.grad), (_weights(box), _their_weights(net)))
        worst = max([worst, *(float((a - b.detach()).abs().max()) for a, b in pairs)])
    return worst


def _forgetful(first: Any, now: Any) -> Any:
    if isinstance(first, dict) and "params" in first:
        return first | {"params": now["params"]}
    return {k: _forgetful(first[k], now[k]) for k in first}


def _one_branch(box: Any) -> Any:
    """A copy whose backward map of every copied value takes one branch."""
    flat = flatten(box)
    wiring = flat.nested.wiring
    fewer = Wiring.linked(wiring.boxes, wiring.outer, {to: found[:1] for to, found in wiring.links.items()})
    return nest(fewer, flat.nested.boxes)


@PAPER.claim(
    "a deep net with gradient descent is a nest of dynamical systems: outputs, weights and the input's gradient of a 3-4-4-2 net, one box a neuron, are those of torch",
    paper_value=NOT_KNOWN,
    threshold="largest difference over 50 steps <= 1e-12; with one branch in place of the sum at copies > 1e-3",
    seeds=3,
)
def _descent(seeds: Sequence[int]) -> Outcome:
    found, control = [], []
    for seed in seeds:
        for worst, change in ((found, lambda b: b), (control, _one_branch)):
            net = _network(seed)
            box = change(_boxes(net, Descent(lr=0.1)))
            worst.append(_apart(box, net, torch.optim.SGD(net.parameters(), 0.1), seed))
    return Outcome(
        {"difference": max(found)}, {"one branch": min(control)}, max(found) <= 1e-12 and min(control) > 1e-3
    )


@PAPER.claim(
    "optimisers are inner states: momentum and Adam inside the boxes are those of torch.optim",
    paper_value=NOT_KNOWN,
    threshold="largest difference of outputs, weights and input gradient over 50 steps <= 1e-10",
    seeds=3,
)
def _optimisers(seeds: Sequence[int]) -> Outcome:
    found: dict[str, float] = {"momentum": 0.0, "adam": 0.0}
    control = {f"{n}, memory forgotten": math.inf for n in found}
    for seed in seeds:
        for name, descent in (("momentum", Descent("momentum", 0.05)), ("adam", Descent("adam", 0.01))):
            for forget in (False, True):
                net = _network(seed)
                box = _boxes(net, descent)
                optimiser: torch.optim.Optimizer = (
                    torch.optim.Adam(net.parameters(), 0.01)
                    if name == "adam"
                    else torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)
                )
                apart = _apart(box, net, optimiser, seed, forget)
                if forget:
                    control[f"{name}, memory forgotten"] = min(control[f"{name}, memory forgotten"], apart)
                else:
                    found[name] = max(found[name], apart)
    return Outcome(found, control, max(found.values()) <= 1e-10)


PAIR = Space((2,), "float64")
PORTS = Interface({"y": PAIR, "z": PAIR}, {"a": PAIR, "b": PAIR})


def _system(rng: np.random.Generator) -> System:
    a, c, d = (torch.from_numpy(rng.normal(size=(2, 2)) / 2) for _ in range(3))
    b = torch.from_numpy(rng.normal(size=(2, 4)) / 2)

    def update(x: Tensor, heard: dict[str, Tensor]) -> Tensor:
        return torch.tanh(a @ x + b @ torch.cat([heard["a"], heard["b"]]))

    return System(PORTS, torch.from_numpy(rng.normal(size=2)), lambda x: {"y": c @ x, "z": d @ x}, update)


def _diagram(rng: np.random.Generator, n: int) -> Wiring:
    """A random diagram of equal boxes: every input hears anything."""
    said = [f"b{i}.{port}" for i in range(n) for port in "yz"]
    heard = [f"b{i}.{port}" for i in range(n) for port in "ab"]
    wires = {to: str(rng.choice([*said, "outer.a", "outer.b"])) for to in heard}
    wires |= {f"outer.{port}": str(rng.choice(said)) for port in "yz"}
    return Wiring({f"b{i}": PORTS for i in range(n)}, PORTS, wires)


def _tanh(rng: np.random.Generator) -> Learner:
    w = torch.from_numpy(rng.normal(size=(2, 2)))
    t = real(2, dtype="float64")
    return descender(lambda p, x: torch.tanh(p["w"] @ x), {"w": w}, t, t, descent=Descent(lr=0.05))


def _runs_apart(one: System, other: System, heard: dict[str, Tensor]) -> tuple[float, float]:
    """Largest difference of what two systems say over a run and of their states at its end; and of their states at any step."""
    said = inside = last = 0.0
    for a, b in zip(heard["a"], heard["b"], strict=True):
        (y, _, one), (z, _, other) = (system.step(None, {"a": a, "b": b}) for system in (one, other))
        said = max([said, *(float((y[n] - z[n]).abs().max()) for n in y)])
        p, q = (torch.cat([h for _, h in sorted(flat_state(s).items())]) for s in (one, other))
        last = float((p - q).abs().max())
        inside = max(inside, last)
    return max(said, last), max(said, inside)


def _steps_apart(one: Any, other: Any, rng: np.random.Generator, steps: int = 100) -> float:
    """Largest difference of what two learners say and send back while they learn."""
    worst = 0.0
    for _ in range(steps):
        x, target = ({n: torch.from_numpy(rng.normal(size=2)) for n in one.source.output} for _ in range(2))
        goal = list(target.values())

        def direction(y: Any, goal: list[Tensor] = goal) -> Any:
            if not isinstance(y, dict):
                return goal[0] - y
            return {n: g - v for (n, v), g in zip(y.items(), goal, strict=True)}

        (y, dx, one), (y2, dx2, other) = (
            box.step(x if len(x) > 1 else next(iter(x.values())), direction) for box in (one, other)
        )
        for a, b in ((y, y2), (dx, dx2)):
            pairs = [(a[n], b[n]) for n in a] if isinstance(a, dict) else [(a, b)]
            worst = max([worst, *(float((p - q).abs().max()) for p, q in pairs)])
    return worst


def _swapped(wiring: Wiring, rng: np.random.Generator) -> Wiring:
    """The same with the sources of two equally typed inputs exchanged."""
    links = dict(wiring.links)
    inputs = [p for p in links if p.side == "in"]
    pairs = [(p, q) for i, p in enumerate(inputs) for q in inputs[:i] if links[p] != links[q]]
    p, q = pairs[rng.integers(len(pairs))]
    links[p], links[q] = links[q], links[p]
    return Wiring.linked(wiring.boxes, wiring.outer, links)


@PAPER.claim(
    "composition is lawful: substitution is flattening, sequence is associative, interchange holds, the identity wiring does nothing",
    paper_value=NOT_KNOWN,
    threshold="largest difference over runs of 100 steps <= 1e-12 in every law; with two wires exchanged it is more, at every seed",
    seeds=20,
    expected=False,
    note="what is said is compared at every step, states at the end; at one of 60 seeds (seed 0's twelfth) the exchanged wires sit in a part that nothing drives, and what they change has died out by then: 4e-16. With states compared at every step the control holds at all 60; it is shown beside, and decides nothing",
)
def _laws(seeds: Sequence[int]) -> Outcome:
    worst: dict[str, float] = dict.fromkeys(("substitution", "associative", "interchange", "identity"), 0.0)
    control, throughout = math.inf, math.inf
    for seed in seeds:
        rng = np.random.default_rng(seed)
        outer, inner = _diagram(rng, 3), {f"b{i}": _diagram(rng, 3) for i in range(3)}
        systems = {name: {f"b{i}": _system(rng) for i in range(3)} for name in inner}
        nested = nest(outer, {name: nest(inner[name], systems[name]) for name in inner})
        flat, parts = nest(outer, inner), {f"{n}/{m}": s for n, boxes in systems.items() for m, s in boxes.items()}
        heard = {port: torch.from_numpy(rng.normal(size=(100, 2))) for port in "ab"}
        found = {"substitution": _runs_apart(nested, nest(flat, parts), heard)[1]}
        end, any_step = _runs_apart(nested, nest(_swapped(flat, rng), parts), heard)
        control, throughout = min(control, end), min(throughout, any_step)
        f, g, h, k = (_tanh(rng) for _ in range(4))
        found["associative"] = _steps_apart((f >> g) >> h, f >> (g >> h), rng)
        found["interchange"] = _steps_apart((f @ g) >> (h @ k), (f >> h) @ (g >> k), rng)
        identity = nest(Wiring.identity(PORTS), {"inside": nested})
        a, b = (run(s, heard, 100) for s in (identity, nested))
        found["identity"] = max(float(abs(a[p] - b[p]).max()) for p in "yz")
        worst = {law: max(worst[law], found[law]) for law in worst}
    beside = {"two wires exchanged": control, "the same, states at every step": throughout}
    return Outcome(worst, beside, max(worst.values()) <= 1e-12 and control > 1e-12)


def _refused(attempt: Any) -> bool:
    try:
        attempt()
    except InterfaceMismatch:
        return True
    return False


@PAPER.claim(
    "the naive analogy does not type-check: an artificial neuron is no system on a wire, and a weight outside its box fits nowhere",
    paper_value=NOT_KNOWN,
    threshold="both raise InterfaceMismatch; 20-box diagrams with well-typed random wires all build; the well-typed twins of the refused build",
    seeds=20,
)
def _types(seeds: Sequence[int]) -> Outcome:
    t, t3 = real(dtype="float64"), real(3, dtype="float64")
    as_nerve_cell = built = as_weight = twins = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        cell = neuron(torch.from_numpy(rng.normal(size=3)))
        place = Wiring.identity(Hom(CLOSED, t))
        as_nerve_cell += _refused(lambda place=place, cell=cell: nest(place, {"inside": cell}))
        # The same neuron with its weights outside: a lens on more inputs, and a system that says the weights.
        w = Interface({"w": Space((3,), "float64")}, {"w": Space((3,), "float64")})
        outside = descender(lambda p, x: (x["w"] * x["value"]).sum(), {}, t3 @ w, t)
        as_weight += _refused(lambda outside=outside: nest(Wiring.identity(Hom(t3, t)), {"inside": outside}))
        nest(Wiring.identity(Hom(t3, t)), {"inside": cell})
        nest(Wiring.identity(Hom(t3 @ w, t)), {"inside": outside})
        twins += 1
        built += not _refused(lambda rng=rng: nest(_diagram(rng, 20), {f"b{i}": _system(rng) for i in range(20)}))
    n = len(seeds)
    return Outcome(
        {
            "neuron as a system refused": as_nerve_cell / n,
            "weight outside refused": as_weight / n,
            "20-box diagrams built": built / n,
        },
        {"well-typed twins built": twins / n},
        as_nerve_cell == as_weight == built == twins == n,
    )


@PAPER.claim(
    "fixed interaction fails to adapt and learning interaction adapts, when a plant y = M u changes under the wiring u = W r",
    paper_value=NOT_KNOWN,
    threshold="mean squared error < 1e-8 before the change; afterwards frozen > 1, adaptive < 1e-6 in the last 500 of 4,000 steps",
    seeds=3,
)
def _adapts(seeds: Sequence[int]) -> Outcome:
    before, adaptive, frozen = [], [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        m = torch.from_numpy(turn @ np.diag([1.2, 0.8]))
        plants = torch.stack([m, torch.stack([m[1], -m[0]])])
        reference = torch.from_numpy(rng.normal(size=(4000, 2)))
        for worst, freeze in ((adaptive, None), (frozen, 2000)):
            seen = run(adaptive_control(plants, reference, change=2000, lr=0.05, freeze=freeze), steps=4000)
            error = ((seen.y.values - seen.r.values) ** 2).mean(1)
            worst.append(error[-500:].mean())
            before.append(error[1500:2000].mean())
    return Outcome(
        {"before the change": max(before), "adaptive after it": max(adaptive)},
        {"frozen after it": min(frozen)},
        bool(max(before) < 1e-8 and max(adaptive) < 1e-6 and min(frozen) > 1),
    )


@PAPER.claim(
    "Hebbian rewiring finds who fires together: 12 cells in 3 hidden assemblies",
    paper_value=NOT_KNOWN,
    threshold="AUC of weights within against between assemblies >= 0.98; with outputs shuffled over cells at each step 0.3 to 0.7",
    seeds=3,
)
def _together(seeds: Sequence[int]) -> Outcome:
    def auc(seed: int, shuffle: int | None) -> tuple[float, float, float]:
        drive, assembly = assemblies(12, 3, 2000, noise=0.7, seed=seed)
        w = after(hebbian_wiring(12, rate=0.02, shuffle=shuffle), drive).state["then"]["W"].numpy()
        i, j = np.triu_indices(12, 1)
        same = assembly[i] == assembly[j]
        return float(roc_auc_score(same, w[i, j])), float(w[i, j][same].mean()), float(w[i, j][~same].mean())

    true, within, between = np.mean([auc(s, None) for s in seeds], 0)
    shuffled = float(np.mean([auc(s, s) for s in seeds], 0)[0])
    return Outcome(
        {"AUC": true, "mean weight within": within, "between": between},
        {"shuffled": shuffled},
        bool(true >= 0.98 and 0.3 <= shuffled <= 0.7),
    )
