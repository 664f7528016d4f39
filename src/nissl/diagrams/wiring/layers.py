"""A layer as neurons, each a box: copied input, parallel neurons, outputs joined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nissl.diagrams.wiring.box import Box
from nissl.diagrams.wiring.composing import nest
from nissl.diagrams.wiring.interface import Hom, Interface
from nissl.diagrams.wiring.kinds import Learner, Lens
from nissl.diagrams.wiring.optimisers import Descent, descender
from nissl.diagrams.wiring.types import Space, Values
from nissl.diagrams.wiring.wires import OUTER, Wiring


def layer(cells: list[Learner], *, axis: int = -1, label: str = "layer") -> Box:
    """Neurons side by side that all hear the same, their outputs joined to one array.

    Parameters
    ----------
    cells
        Learners on [p, q] of one type: one for each index of the output. The directions that they send back are summed, since their input is copied.
    axis
        The output axis along which they are joined; one that they have already (of size 1) where `axis` is not negative, a new last one otherwise.
    label
        What is written on it.

    Examples
    --------
    >>> from nissl.diagrams.wiring import neuron
    >>> cells = [neuron(torch.tensor([1.0, float(i)], dtype=torch.float64)) for i in range(3)]
    >>> layer(cells).get(torch.tensor([1.0, 2.0], dtype=torch.float64)).tolist()
    [1.0, 3.0, 5.0]
    """
    source, one = cells[0].source, cells[0].target.output["value"]
    join = joining(one, len(cells), axis)
    names = [f"n{i}" for i in range(len(cells))]
    wires = {f"{n}.{port}": f"{OUTER}.{port}" for n in names for port in source.output}
    wires |= {f"join.x{i}": f"{n}.value" for i, n in enumerate(names)} | {f"{OUTER}.value": "join.value"}
    boxes: dict[str, Box] = {**dict(zip(names, cells, strict=True)), "join": join}
    wiring = Wiring({n: b.type for n, b in boxes.items()}, Hom(source, join.target), wires)
    return nest(wiring, boxes, label=label)


def joining(one: Any, n: int, axis: int) -> Lens:
    """The lens that stacks n values, and splits what comes back."""
    assert isinstance(one, Space)
    lead = int(bool(one.batch))
    new = axis < 0
    shape = (*one.shape, n) if new else (*one.shape[:axis], n, *one.shape[axis + 1 :])
    parts = {f"x{i}": one for i in range(n)}
    whole = {"value": Space(shape, one.dtype, one.unit, one.batch)}
    along = -1 if new else axis + lead

    def flow(state: None, x: Values):
        values = list(x.values())
        y = torch.stack(values, -1) if new else torch.cat(values, along)

        def back(dy: Values):
            split = dy["value"].unbind(-1) if new else dy["value"].split(1, along)
            return {f"x{i}": d for i, d in enumerate(split)}, None

        return {"value": y}, back

    return Lens.of(Interface(parts, parts), Interface(whole, whole), None, flow, lambda s, c: s, label="join")


def neurons(module: nn.Module, example: Tensor, descent: Descent, batch: str) -> Box | None:
    """A linear or convolutional layer as one box a row or channel; None for any other module."""
    if isinstance(module, nn.Linear):
        axis = -1
    elif isinstance(module, nn.Conv2d) and module.groups == 1 and example.dim() == 4 and batch:
        axis = 0
    else:
        return None
    y = module(example)
    space = Space.like(y, batch=batch)
    shape = space.shape[:-1] if axis < 0 else (1, *space.shape[1:])
    port, heard = {"value": Space(shape, space.dtype, "", batch)}, {"value": Space.like(example, batch=batch)}
    source, target = Interface(heard, heard), Interface(port, port)

    def call(held: dict[str, Tensor], x: Tensor) -> Tensor:
        if isinstance(module, nn.Linear):
            return nn.functional.linear(x, held["weight"], held.get("bias")).squeeze(-1)
        assert isinstance(module, nn.Conv2d)
        return module._conv_forward(x, held["weight"], held.get("bias"))

    cells = []
    for i in range(len(module.weight)):
        params = {n: p.detach()[i : i + 1].clone() for n, p in module.named_parameters()}
        cells.append(descender(call, params, source, target, descent=descent, label="neuron"))
    whole = layer(cells, axis=axis, label=type(module).__name__)
    whole.origin = "neurons"
    return whole
