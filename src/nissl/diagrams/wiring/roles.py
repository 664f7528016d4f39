"""Which parts hold what changes, and which only carry values."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nissl.diagrams.wiring.box import Box, tensors
from nissl.diagrams.wiring.interface import Hom
from nissl.diagrams.wiring.opening import flatten
from nissl.diagrams.wiring.wires import OUTER, Port, Wiring

SYNAPSE, NERVE, PATTERN = "synapse-like: holds state", "nerve-cell-like: carries signal", "fixed wiring"


def roles(diagram: Box | Wiring) -> pd.DataFrame:
    """The paper's reading of the analogy with the brain: what learns are the boxes, and what carries signals are the wires.

    Parameters
    ----------
    diagram
        A nested box, or a diagram that is not filled, whose boxes' state is then unknown.

    Returns
    -------
    pd.DataFrame
        A row a box (`what` = "box") and a row a wire ("wire"): `name`, `role`, `held` (numbers in its state, weights and optimiser's memory), `type`
        of what a wire carries, `heard` (how many ports hear it), `both_ways` (whether directions run back along it).

    References
    ----------
    Spivak, Hosgood 2021, Deep neural networks as nested dynamical systems.

    Examples
    --------
    >>> import torch
    >>> from nissl.diagrams.wiring import from_torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
    >>> table = roles(from_torch(net, torch.zeros(1, 3)))
    >>> table[table.what == "box"][["name", "role", "held"]].values.tolist()
    [['0', 'synapse-like: holds state', 16], ['1', 'fixed wiring', 0]]
    """
    box = flatten(diagram) if isinstance(diagram, Box) else None
    if box is not None and box.nested is None:
        raise_one = {"what": "box", "name": box.label, "role": _role(box), "held": _held(box.state)}
        return pd.DataFrame([raise_one], columns=COLUMNS)
    wiring = diagram if isinstance(diagram, Wiring) else box.nested.wiring  # type: ignore[union-attr]
    rows: list[dict[str, Any]] = []
    for name in wiring.boxes:
        inner = box.nested.boxes[name] if box is not None else None  # type: ignore[union-attr]
        mine = box is not None and box.nested.owner[name] == name  # type: ignore[union-attr]
        rows.append(
            {"what": "box", "name": name, "role": _role(inner), "held": _held(inner.state) if inner and mine else 0}
        )
    heard: dict[Port, int] = {}
    for found in wiring.links.values():
        for source in found:
            heard[source] = heard.get(source, 0) + 1
    for source, n in heard.items():
        if source.side in ("out", "in"):
            rows.append({
                "what": "wire", "name": str(source), "role": NERVE, "held": 0, "type": str(wiring.type_of(source, sink=False)), "heard": n,
                "both_ways": _returns(wiring, source),
            })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


COLUMNS = ["what", "name", "role", "held", "type", "heard", "both_ways"]


def _returns(wiring: Wiring, source: Port) -> bool:
    """Whether directions run back along a wire: the port at its beginning hears one of the same name."""
    box = wiring.outer if source.box == OUTER else wiring.boxes[source.box]
    if not isinstance(box, Hom):
        return False
    return source.name in (box.source if source.box == OUTER else box.target).input


def _role(box: Box | None) -> str:
    if box is None:
        return "empty place"
    return PATTERN if box.state is None else SYNAPSE


def _held(state: Any) -> int:
    return sum(t.numel() for t in tensors(state))
