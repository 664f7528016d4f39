"""The circuit diagram of a network, from one pass through it.

Arguments of operations hold `Ref` where an array goes; types, layouts and memory formats stand as `torch.float32`, devices as
`cpu`, sizes that are free as sympy expressions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from nissl.diagrams._derivation import Derivation
from nissl.diagrams._inputs import prepare
from nissl.diagrams._opening import Opened, opened
from nissl.diagrams.circuit import CircuitDiagram
from nissl.diagrams.simplifying import simplified as simpler
from nissl.diagrams.tracing import trace
from nissl.errors import InputError
from nissl.models import Model


def circuit(
    model: str | nn.Module | Model | Opened,
    inputs: Any = None,
    *,
    axes: str | Mapping[str, str] | None = None,
    name: str | None = None,
    training: bool = False,
    dynamic: Sequence[str] | None = ("batch", "time"),
    branches: Literal["follow", "stop"] = "follow",
    simplified: bool = True,
) -> CircuitDiagram:
    """Draw a network as a neural circuit diagram: which axes every operation acts on, ends, begins and merely runs along.

    Parameters
    ----------
    model
        A torch module, a `Model`, or anything that `nissl.load` opens; also a folder of a Hugging Face model that holds a
        configuration alone.
    inputs
        An example of what it takes: a tensor, a tuple or a mapping of tensors, a prepared `Inputs`, or shapes such as
        `(2, 3, 64, 64)`. None makes one where it can be known what the network takes.
    axes
        Names of the axes of the first input, `"batch time model"`, or of several by name. Axes of one name are the same axis.
    name
        Title; the network's own where None.
    training
        Draw it as it runs in training: dropout draws, batch norm takes statistics of the batch.
    dynamic
        Names of input axes whose size stays a symbol; None for none. Where the code does not run so, sizes are the example's.
    branches
        Where the code asks for values of the data: `follow` goes on with those of the example and says which branch is drawn;
        `stop` ends there with what was seen, `complete` being False.
    simplified
        Leave out what only moves numbers for the computer's sake; see `simplifying.simplified`. False gives every operator.

    Returns
    -------
    CircuitDiagram
        Axes are told apart by what is done with them, never by size; an axis that stands on an array twice, as time does in
        attention, has a prime the second time.

    Raises
    ------
    InputError
        It cannot be known what the network takes; an unknown option.
    ModelError
        The network does not run on these inputs; its own message, and the line.

    Examples
    --------
    >>> import torch
    >>> mlp = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    >>> diagram = circuit(mlp, (2, 8), axes="batch pixel")
    >>> [(o.symbol, o.equation) for o in diagram.operations]
    [('linear', 'batch pixel, hidden pixel -> batch hidden'), ('relu', ''), ('linear', 'batch hidden, output hidden -> batch output')]
    >>> diagram.flops()
    384*batch

    References
    ----------
    Abbott 2024, "Neural Circuit Diagrams: Robust Diagrams for the Communication, Implementation, and Analysis of Deep Learning
    Architectures".
    """
    if branches not in ("follow", "stop"):
        raise InputError(f"branches={branches!r}; allowed: follow, stop")
    source = model if isinstance(model, Opened) else opened(model)
    loaded, module = source.loaded, source.module
    title = name or (loaded.name if isinstance(loaded, Model) else type(module).__name__)
    given = prepare(module, loaded if isinstance(loaded, Model) else None, inputs, axes, tuple(dynamic or ()))
    seen = trace(
        module,
        given.args,
        given.kwargs,
        names=given.names,
        free=given.free,
        training=training,
        follow=branches == "follow",
    )
    notes = [*source.notes, *given.notes, *seen.notes]
    if training:
        notes.append("in training mode")
    elif changed := _changed_by_mode(module):
        notes.append(
            f"drawn in evaluation mode, though the network is in training mode and has {changed}; training=True draws that"
        )
    derivation = Derivation(seen, given.axes, title, notes)
    diagram = derivation.diagram()
    return simpler(diagram, derivation.names.parts()) if simplified else diagram


def _changed_by_mode(module: nn.Module) -> str:
    """What a module in training mode has that runs otherwise there."""
    parts = [m for m in module.modules() if m.training]
    found = []
    if any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in parts):
        found.append("dropout")
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in parts):
        found.append("batch norm")
    return " and ".join(found)
