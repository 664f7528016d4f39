"""The worm's circuit drawn: a column a joint, dorsal above and ventral below, arrows that excite and bars that inhibit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import networkx as nx

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDES = {"dorsal": 1, "ventral": -1, None: 0}
HEIGHT = {"bneuron": 3.0, "muscle": 1.5, "joint": 0.0, "stretch": 2.25, "oscillator": 3.0, "input": 4.4}
FILL = {
    "bneuron": "#f0e442", "muscle": "#cc79a7", "joint": "#ffffff", "stretch": "#56b4e9", "oscillator": "#e69f00", "input": "#c9c4bb",
}  # fmt: skip
NAMES = {
    "oscillator": "head oscillator", "bneuron": "B motor neuron", "muscle": "muscle", "stretch": "stretch sensor", "joint": "joint", "input": "control",
}  # fmt: skip
SYNAPSES = {
    "osc": "oscillator to B neuron", "prop": "stretch to the next B neuron", "ipsi": "B neuron to muscle, same side",
    "contra": "B neuron to muscle, other side", "speed": "brake to B neuron", "turn": "turn to B neuron",
}  # fmt: skip
EXCITES, INHIBITS, MECHANICS = "#0072b2", "#d55e00", "#b5aea4"


def place(graph: nx.DiGraph) -> dict[str, tuple[float, float]]:
    """Where each cell is drawn."""
    spots = {}
    for name, cell in graph.nodes(data=True):
        kind, side, joint = cell["kind"], SIDES[cell["side"]], cell["joint"]
        if kind == "input":
            spots[name] = (-0.8 if side else -1.4, side * HEIGHT[kind])
        else:
            # Sensors lie between the joint that they feel and the one that they move.
            x = -0.8 if joint is None else joint + (0.5 if kind == "stretch" else 0.0)
            spots[name] = (x, side * HEIGHT[kind])
    return spots


def draw(graph: nx.DiGraph) -> Figure:
    """A figure of the circuit."""
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    joints = graph.graph["n_joints"]
    figure, axis = plt.subplots(figsize=(max(8.0, 1.5 * joints + 2.0), 5.6), layout="constrained")
    spots = place(graph)
    for source, target, synapse in graph.edges(data=True):
        _edge(axis, spots[source], spots[target], synapse)
    for name, (x, y) in spots.items():
        kind = graph.nodes[name]["kind"]
        marker = {"muscle": "s", "stretch": "^", "joint": "h"}.get(kind, "o")
        axis.plot(x, y, marker, ms=17 if kind != "stretch" else 13, mfc=FILL[kind], mec="#2d373e", zorder=3)
    for i in range(joints):
        axis.text(i, 0, str(i), ha="center", va="center", fontsize=9, zorder=4)
    for name, (x, y) in spots.items():
        if graph.nodes[name]["kind"] == "input":
            axis.text(x, y + 0.55, name, ha="center", va="center", fontsize=10)
    for side in ("dorsal", "ventral"):
        axis.text(joints - 0.7, SIDES[side] * HEIGHT["bneuron"], side, ha="left", va="center", fontsize=11)
    for end, x in (("head", 0), ("tail", joints - 1)):
        axis.text(x, -3.95, end, ha="center", va="center", fontsize=11)
    axis.set(xlim=(-1.8 if _inputs(graph) else -1.2, joints - 0.1), ylim=(-5, 5.2) if _inputs(graph) else (-4.3, 3.7))
    axis.axis("off")
    kinds = [k for k in NAMES if any(cell["kind"] == k for _, cell in graph.nodes(data=True))]
    keys: list[Any] = [
        Line2D([], [], ls="", marker={"muscle": "s", "stretch": "^", "joint": "h"}.get(k, "o"), ms=9, mfc=FILL[k], mec="#2d373e", label=NAMES[k])
        for k in kinds
    ]  # fmt: skip
    keys += [Line2D([], [], color=colour, lw=1.8, label=label) for colour, label in _weights(graph)]
    figure.legend(handles=keys, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _edge(axis: Any, start: tuple[float, float], end: tuple[float, float], synapse: dict[str, Any]) -> None:
    from matplotlib.patches import ArrowStyle, FancyArrowPatch

    if synapse["kind"] == "body":
        style, colour, width = ArrowStyle("-"), MECHANICS, 1.2
    elif synapse["sign"] < 0:
        style, colour, width = ArrowStyle("-[", widthB=0.5, lengthB=0.0), INHIBITS, 1.4
    else:
        style, colour, width = ArrowStyle("-|>", head_length=0.45, head_width=0.22), EXCITES, 1.6
    bend = {"contra": 0.38, "speed": 0.05}.get(synapse["kind"], 0.0)
    line, faint = "-" if synapse["sign"] else ":", synapse["kind"] == "speed"
    axis.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle=style, color=colour, lw=width / (2 if faint else 1), alpha=0.6 if faint else 1.0, ls=line, mutation_scale=13, connectionstyle=f"arc3,rad={bend}", shrinkA=9, shrinkB=15 if synapse["kind"] == "contra" else 10, zorder=1,
        )
    )  # fmt: skip


def _weights(graph: nx.DiGraph) -> list[tuple[str, str]]:
    """For each kind of synapse its colour and its weight, or the range of its weights."""
    found: dict[str, list[float]] = {}
    for _, _, synapse in graph.edges(data=True):
        if synapse["kind"] != "body":
            found.setdefault(synapse["kind"], []).append(synapse["weight"])
    rows = []
    for kind, name in SYNAPSES.items():
        if kind in found:
            low, high = min(found[kind]), max(found[kind])
            value = f"{low:+.2f}" if high - low < 5e-3 else f"{low:+.2f} to {high:+.2f}"
            rows.append((INHIBITS if low + high < 0 else EXCITES, f"{kind}: {name} ({value.replace('-', '−')})"))
    return rows


def _inputs(graph: nx.DiGraph) -> bool:
    return any(cell["kind"] == "input" for _, cell in graph.nodes(data=True))
