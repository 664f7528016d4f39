"""Three worlds: a network that learns, a plant that is controlled, and wires that change with what flows through them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nissl.diagrams.wiring.box import Box
from nissl.diagrams.wiring.composing import nest, product
from nissl.diagrams.wiring.interface import CLOSED, Hom, Interface, real
from nissl.diagrams.wiring.kinds import Learner, Lens, System
from nissl.diagrams.wiring.layers import layer
from nissl.diagrams.wiring.optimisers import Descent, neuron
from nissl.diagrams.wiring.types import InterfaceMismatch, Space
from nissl.diagrams.wiring.wires import Wiring
from nissl.errors import InputError


def mlp(
    weights: Sequence[Float[Tensor, "output input"]],
    biases: Sequence[Float[Tensor, "output"]],
    *,
    activation: str = "tanh",
    descent: Descent | None = None,
    batch: str = "",
) -> Box:
    """A deep network, one box a neuron: copy, neurons side by side, join; layers in sequence; the last without activation.

    Parameters
    ----------
    weights, biases
        Of each layer, at first.
    activation
        Of all layers but the last: `tanh`, `relu`, `sigmoid` or `identity`.
    descent
        The optimiser in every neuron.
    batch
        Name of a leading axis of samples.

    Examples
    --------
    >>> net = mlp([torch.ones(2, 3), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)], activation="relu")
    >>> net.get(torch.ones(3))
    tensor([6.])
    """
    layers = []
    for depth, (weight, bias) in enumerate(zip(weights, biases, strict=True), 1):
        act = activation if depth < len(weights) else "identity"
        cells = [neuron(w, b, activation=act, descent=descent, batch=batch) for w, b in zip(weight, bias, strict=True)]
        layers.append(layer(cells, label=f"layer {depth}"))
    names = [f"layer{i}" for i in range(1, len(layers) + 1)]
    wires = {f"{b}.value": f"{a}.value" for a, b in itertools.pairwise(["outer", *names, "outer"])}
    boxes = dict(zip(names, layers, strict=True))
    wiring = Wiring({n: b.type for n, b in boxes.items()}, Hom(layers[0].source, layers[-1].target), wires)
    return nest(wiring, boxes, label="network")


def linear_system(
    A: Float[Tensor, "state state"],
    B: Float[Tensor, "state input"],
    C: Float[Tensor, "output state"],
    *,
    state: Tensor | None = None,
    label: str = "linear",
) -> System:
    """A linear system x' = A x + B u, y = C x: says `y`, hears `u`.

    Examples
    --------
    >>> one = torch.ones(1, 1)
    >>> linear_system(one, one, one).update(torch.ones(1)).readout()
    tensor([1.])
    """  # fmt: skip
    n, dtype = len(A), str(A.dtype)
    if A.shape != (n, n) or B.shape[:-1] != (n,) or C.shape[1:] != (n,):
        raise InterfaceMismatch(
            f"A {tuple(A.shape)}, B {tuple(B.shape)}, C {tuple(C.shape)}; allowed: (n, n), (n, inputs), (outputs, n)"
        )
    interface = Interface({"y": Space((len(C),), dtype)}, {"u": Space((B.shape[1],), dtype)})
    start = torch.zeros(n, dtype=A.dtype) if state is None else state
    return System(interface, start, lambda x: C @ x, lambda x, u: A @ x + B @ u, label=label)


def controlled(plant: System, controller: System) -> System:
    """Fixed wiring with a loop through state: a plant (says `y`, hears `u`) and a controller (says `u`, hears `y` and a reference `r`).

    Returns
    -------
    System
        Says `y` and `u`, hears `r`.

    Raises
    ------
    InterfaceMismatch
        Ports that are not there or not of each other's type.

    Examples
    --------
    >>> eye = 0.5 * torch.eye(1)
    >>> steer = Interface({"u": Space((1,))}, {"y": Space((1,)), "r": Space((1,))})
    >>> gain = System(steer, torch.zeros(1), lambda s: s, lambda s, heard: 0.5 * (heard["r"] - heard["y"]))
    >>> sorted(controlled(linear_system(eye, eye, eye), gain).interface.output)
    ['u', 'y']
    """
    outer = Interface(
        {"y": plant.interface.output["y"], "u": controller.interface.output["u"]},
        {"r": controller.interface.input["r"]},
    )
    wires = {
        "plant.u": "controller.u", "controller.y": "plant.y", "controller.r": "outer.r", "outer.y": "plant.y", "outer.u": "controller.u",
    }  # fmt: skip
    wiring = Wiring({"plant": plant.interface, "controller": controller.interface}, outer, wires)
    return nest(wiring, {"plant": plant, "controller": controller}, label="controlled")


def adaptive_control(
    plants: Float[Tensor, "epoch output input"],
    reference: Float[Tensor, "time output"],
    *,
    change: int,
    lr: float = 0.05,
    freeze: int | None = None,
) -> System:
    """A plant y = M u whose M changes, and the interaction u = W r that learns what it is.

    Parameters
    ----------
    plants
        M before and after the change.
    reference
        What y is to be at each step.
    change
        Step at which M changes.
    lr
        Of W, which begins as zero and descends half the squared error |r - y|^2.
    freeze
        Step from which W no longer learns; never where None.

    Returns
    -------
    System
        Closed: four boxes, a reference, the wiring W, the plant, and what compares. Says `y`, `r` and `u`.

    Examples
    --------
    >>> loop = adaptive_control(torch.stack([torch.eye(2), -torch.eye(2)]), torch.ones(400, 2), change=200)
    >>> from nissl.diagrams.wiring import run
    >>> seen = run(loop, steps=400)
    >>> [round(float(seen.y[t, 0]), 2) for t in (0, 199, 200, 399)]
    [0.0, 1.0, -1.0, 1.0]
    """
    if plants.dim() != 3 or len(plants) != 2 or reference.dim() != 2 or plants.shape[1] != reference.shape[1]:
        raise InputError(
            f"plants of shape {tuple(plants.shape)} and reference {tuple(reference.shape)}; allowed: (2, output, input), the plant before and after the "
            "change, and (time, output)"
        )
    dtype, n = reference.dtype, reference.shape[1]
    t = real(n, dtype=str(dtype))
    said = Interface({"value": t.output["value"]})
    source = System(said, 0, lambda step: reference[step], lambda step: step + 1, label="reference")

    def learn(state: dict[str, Any], dw: Tensor) -> dict[str, Any]:
        awake = freeze is None or state["step"] < freeze
        return {"W": state["W"] + lr * dw if awake else state["W"], "step": state["step"] + 1}

    wires = Learner(
        t, t, {"W": torch.zeros(plants.shape[2], n, dtype=dtype), "step": 0},
        get=lambda s, r: s["W"] @ r, put=lambda s, r, du: s["W"].T @ du, update=learn,
        change=lambda s, r, du: torch.outer(du, r), label="W",
    )  # fmt: skip

    def matrix(step: int) -> Tensor:
        return plants[int(step >= change)]

    plant = Learner(
        t, t, 0, get=lambda step, u: matrix(step) @ u, put=lambda step, u, dy: matrix(step).T @ dy,
        update=lambda step, u, dy: step + 1, label="plant",
    )  # fmt: skip
    both = Interface({"y": t.output["value"], "r": t.output["value"]}, {"y": t.input["value"]})
    compare = Lens(both, CLOSED, lambda x: {}, lambda x, _: x["r"] - x["y"], label="compare")
    boxes = {"reference": source, "W": wires, "plant": plant, "compare": compare}
    places: dict[str, Any] = {n: b.type for n, b in boxes.items()} | {"reference": said}
    wiring = Wiring(
        places, Interface({"y": t.output["value"], "r": t.output["value"], "u": t.output["value"]}),
        {
            "W.value": "reference.value", "plant.value": "W.value", "compare.y": "plant.value", "compare.r": "reference.value",
            "outer.y": "plant.value", "outer.r": "reference.value", "outer.u": "W.value",
        },
    )  # fmt: skip
    return nest(wiring, boxes, label="adaptive control")


def hebbian_wiring(n: int = 12, *, rate: float = 0.02, strength: float = 0.1, shuffle: int | None = None) -> System:
    """Cells that are wired together as they fire together: the diagram itself is the output of a system.

    Parameters
    ----------
    n
        Cells. Each holds what it was driven with, and says tanh of it.
    rate
        Of W += rate (o o^T - W), from the outputs o that flowed.
    strength
        Of the input sum_j W_ij o_j beside the drive from outside.
    shuffle
        Seed of a shuffling of outputs over cells at every step, before W sees them: the control. None for none.

    Returns
    -------
    System
        The cells in sequence with the wiring: a learner from their product to the outer interface. Says `o` (cell,) and `W` (cell, source); hears `drive`
        (cell,).

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> cells = hebbian_wiring(3)
    >>> cells.interface.output["W"].shape
    (3, 3)
    """
    number, row = Space((), "float64"), Space((n,), "float64")
    cell = Interface({"o": number}, {"i": number})
    cells = {
        f"cell{k}": System(cell, torch.zeros((), dtype=torch.float64), torch.tanh, lambda v, i: i, label="cell")
        for k in range(n)
    }
    source = Interface.product(dict.fromkeys(cells, cell))
    target = Interface({"o": row, "W": Space((n, n), "float64")}, {"drive": row})

    def outputs(x: dict[str, Tensor]) -> Tensor:
        return torch.stack(list(x.values()))

    def put(state: dict[str, Any], x: dict[str, Tensor], drive: Tensor) -> dict[str, Tensor]:
        heard = drive + strength * (state["W"] @ outputs(x))
        return dict(zip(source.input, heard.unbind(), strict=True))

    def update(state: dict[str, Any], x: dict[str, Tensor], drive: Tensor) -> dict[str, Any]:
        o = outputs(x)
        if shuffle is not None:
            o = o[torch.from_numpy(np.random.default_rng([shuffle, state["step"]]).permutation(n))]
        return {"W": torch.lerp(state["W"], torch.outer(o, o), rate), "step": state["step"] + 1}

    start = {"W": torch.zeros(n, n, dtype=torch.float64), "step": 0}
    wiring = Learner(source, target, start, lambda s, x: {"o": outputs(x), "W": s["W"]}, put, update, label="W")
    whole = product(cells, label="cells") >> wiring
    assert isinstance(whole, System)
    whole.label = "Hebbian wiring"
    return whole


def assemblies(
    n: int = 12, groups: int = 3, steps: int = 2000, *, noise: float = 0.7, seed: int = 0
) -> tuple[Float[Tensor, "time cell"], np.ndarray]:
    """Drives of cells that belong to hidden assemblies: a random sign for each assembly and step, and noise.

    Returns
    -------
    drive, assembly
        (time, cell), and the assembly of each cell.

    Examples
    --------
    >>> drive, assembly = assemblies(steps=5)
    >>> drive.shape, np.bincount(assembly).tolist()
    (torch.Size([5, 12]), [4, 4, 4])
    """
    rng = np.random.default_rng(seed)
    assembly = rng.permutation(np.arange(n) % groups)
    sign = rng.choice([-1.0, 1.0], size=(steps, groups))
    return torch.from_numpy(sign[:, assembly] + noise * rng.standard_normal((steps, n))), assembly
