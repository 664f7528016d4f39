"""The control of a diagram that is run: two of its axes swapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nissl.diagrams._equations import join, split
from nissl.diagrams.circuit import CircuitDiagram, Operation
from nissl.errors import InputError


def swapped(diagram: CircuitDiagram, axes: tuple[str, str] | None = None) -> CircuitDiagram | None:
    """The control: the diagram with two axes of equal size swapped where one operation makes an array that has both.

    In an equation the two change places after the arrow; elsewhere they do on the array, and products that read it find the wires
    where they now lie. Shapes stay as they are, so a program that only follows shapes would not notice.

    Parameters
    ----------
    diagram
        Any.
    axes
        Which; the first pair of equal size where None.

    Returns
    -------
    CircuitDiagram or None
        None where there is no such operation.

    Raises
    ------
    InputError
        The two have other sizes.
    """
    if axes is not None and diagram.size(axes[0]) != diagram.size(axes[1]):
        raise InputError(
            f"axes {axes[0]!r} and {axes[1]!r} have sizes {diagram.size(axes[0])} and {diagram.size(axes[1])}; swap equal ones"
        )
    for step, operation in enumerate(diagram.operations):
        by_names = operation.equation or operation.kind == "rearrangement"
        for name in operation.outputs if by_names else ():
            own = diagram.arrays[name].axes
            pair = (
                axes
                if axes is not None and set(axes) <= set(own)
                else None
                if axes is not None
                else _twins(diagram, own)
            )
            if pair is None:
                continue
            exchanged = dict(zip(pair, reversed(pair), strict=True))
            if operation.equation:
                terms, out = split(operation.equation)
                if not set(pair) <= set(out):
                    continue
                other = replace(operation, equation=join(terms, [exchanged.get(a, a) for a in out]))
                operations = (*diagram.operations[:step], other, *diagram.operations[step + 1 :])
                return replace(diagram, operations=operations)
            array = replace(diagram.arrays[name], axes=tuple(exchanged.get(a, a) for a in own))
            operations = tuple(_following(o, name, exchanged) for o in diagram.operations)
            return replace(diagram, arrays={**diagram.arrays, name: array}, operations=operations)
    return None


def _following(operation: Operation, name: str, exchanged: dict[str, str]) -> Operation:
    """A product reads the wires by name, wherever they now lie."""
    if not operation.equation or name not in operation.inputs:
        return operation
    terms, out = split(operation.equation)
    new = [[exchanged.get(a, a) for a in t] if n == name else t for t, n in zip(terms, operation.inputs, strict=False)]
    return replace(operation, equation=join(new, out))


def _twins(diagram: CircuitDiagram, axes: Sequence[str]) -> tuple[str, str] | None:
    """Two different axes of equal fixed size, of more than one index."""
    for i, a in enumerate(axes):
        for b in axes[i + 1 :]:
            size = diagram.size(a)
            if a != b and size.is_Integer and size == diagram.size(b) and size > 1:
                return a, b
    return None
