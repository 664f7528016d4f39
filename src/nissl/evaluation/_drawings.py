"""A drawing read back: nothing that the diagram holds may be missing from it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence

from torch import Tensor

from nissl.diagrams.circuit import CircuitDiagram


def drawing_faults(svg: str, diagram: CircuitDiagram, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """What is wrong in a drawing of every operation in one row: columns whose dashed lines are not one fewer than their strips, wires whose change has not one
    label for each axis, weights whose shape is not written.
    """
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own drawing

    def classed(name: str, kind: str = "") -> list[ElementTree.Element]:
        return [e for e in root.iter() if name in (e.get("class") or "").split() and e.tag.endswith(kind)]

    drawn = [e.get("data-name") for e in classed("operation")]
    place = {name: i for i, name in enumerate(drawn)}
    columns = sorted(classed("column"), key=lambda e: int(str(e.get("data-index"))))
    labels: dict[str, list[str]] = {}
    for text in classed("wire", "text"):
        if text.get("data-axis"):
            labels.setdefault(str(text.get("data-array")), []).append(str(text.get("data-axis")))
    dashed = 0
    for column, held in zip(columns, _held(diagram, columns, place), strict=True):
        lines = [e for e in column.iter() if (e.get("class") or "") == "strip"]
        dashed += len(lines) != max(len(held) - 1, 0)
    flows = {*diagram.inputs, *(n for o in diagram.operations for n in o.outputs)}
    read = {n for o in diagram.operations for n in o.inputs} | set(diagram.outputs)
    unlabelled = sum(labels.get(n, []) != list(diagram.arrays[n].axes) for n in flows & read if diagram.arrays[n].axes)
    written = {str(e.get("data-parameter")): str(e.get("data-shape")) for e in classed("weight", "text")}
    missing = 0
    for name, array in diagram.arrays.items():
        if array.role == "parameter" and name not in flows:
            missing += written.get(name) != " ".join(map(str, weights[name].shape))
    return {
        "columns": dashed,
        "wires": unlabelled,
        "weights": missing,
        "operations": len(set(drawn)) - len(diagram.operations),
    }


def _held(
    diagram: CircuitDiagram, columns: Sequence[ElementTree.Element], place: dict[str | None, int]
) -> list[set[str]]:
    """Arrays that must stand in each column: what was made before it and is read after it."""
    began = [{str(t.get("data-array")) for t in c.iter() if t.get("data-array")} for c in columns]
    first = {n: i for i in reversed(range(len(columns))) for n in began[i]}
    # An operation stands right before the column in which what it makes begins.
    at = {o.name: min((first[n] for n in o.outputs if n in first), default=0) for o in diagram.operations}
    last: dict[str, int] = {n: len(columns) for n in diagram.outputs}
    for o in diagram.operations:
        for n in o.inputs:
            last[n] = max(last.get(n, 0), at[o.name])
    return [{n for n, i in first.items() if i <= c < last.get(n, i + 1)} for c in range(len(columns))]
