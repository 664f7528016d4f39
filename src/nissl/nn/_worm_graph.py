"""The worm's circuit as a graph: who feels, drives, excites and inhibits whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx as nx
import torch

if TYPE_CHECKING:
    from nissl.nn.worm_swimmer import WormSwimmer

SIDES = ("dorsal", "ventral")


def worm_graph(worm: WormSwimmer) -> nx.DiGraph:
    """Cells and synapses of a circuit.

    Nodes are named ``kind.side.joint`` (``oscillator.dorsal``, ``joint.3``, ``speed``) and have `kind`, `side` and `joint`. Edges have `kind` (the
    weight's short name, or `body` where a muscle or a bend acts by mechanics), `sign` and `weight` as it is used.
    """
    graph = nx.DiGraph(n_joints=worm.n_joints, period=worm.period)
    for i in range(worm.n_joints):
        graph.add_node(f"joint.{i}", kind="joint", side=None, joint=i)
        for side in SIDES:
            graph.add_node(f"bneuron.{side}.{i}", kind="bneuron", side=side, joint=i)
            graph.add_node(f"muscle.{side}.{i}", kind="muscle", side=side, joint=i)
    for s, side in enumerate(SIDES):
        other = SIDES[1 - s]
        for i in range(worm.n_joints):
            _connect(graph, worm, f"bneuron.{side}.{i}", f"muscle.{side}.{i}", "ipsi", s, i)
            # Of muscles, weights belong to the side of the muscle.
            _connect(graph, worm, f"bneuron.{side}.{i}", f"muscle.{other}.{i}", "contra", 1 - s, i)
            graph.add_edge(f"muscle.{side}.{i}", f"joint.{i}", kind="body", sign=1 - 2 * s, weight=1.0 - 2 * s)
            if worm.speed:
                graph.add_node("speed", kind="input", side=None, joint=None)
                _connect(graph, worm, "speed", f"bneuron.{side}.{i}", "speed", s, i)
        if worm.oscillator:
            graph.add_node(f"oscillator.{side}", kind="oscillator", side=side, joint=None)
            _connect(graph, worm, f"oscillator.{side}", f"bneuron.{side}.0", "osc", s, 0)
        for i in range(1, worm.n_joints if worm.proprioception else 0):
            sensor = f"stretch.{side}.{i - 1}"
            graph.add_node(sensor, kind="stretch", side=side, joint=i - 1)
            graph.add_edge(f"joint.{i - 1}", sensor, kind="body", sign=1 - 2 * s, weight=1.0 - 2 * s)
            _connect(graph, worm, sensor, f"bneuron.{side}.{i}", "prop", s, i - 1)
        for i in range(worm.n_turn if worm.turn else 0):
            turn = ("right", "left")[s]
            graph.add_node(turn, kind="input", side=side, joint=None)
            _connect(graph, worm, turn, f"bneuron.{side}.{i}", "turn", s, i)
    return graph


@torch.no_grad()
def _connect(graph: nx.DiGraph, worm: WormSwimmer, source: str, target: str, kind: str, side: int, joint: int) -> None:
    weight = worm.used_weight(kind)
    value = float(weight if worm.share else weight[side, joint])
    graph.add_edge(source, target, kind=kind, sign=(value > 0) - (value < 0), weight=value)
