"""Wiring diagrams of systems that interact and learn: interfaces, lenses, systems, learners, and their composition."""

from nissl.diagrams.wiring.box import Box
from nissl.diagrams.wiring.composing import nest, product
from nissl.diagrams.wiring.examples import adaptive_control, assemblies, controlled, hebbian_wiring, linear_system, mlp
from nissl.diagrams.wiring.finite import count_lenses, directions, hom, lenses
from nissl.diagrams.wiring.grouping import grouped, split
from nissl.diagrams.wiring.interface import CLOSED, Depending, Hom, Interface, real
from nissl.diagrams.wiring.kinds import Learner, Lens, System
from nissl.diagrams.wiring.layers import layer
from nissl.diagrams.wiring.modules import from_torch
from nissl.diagrams.wiring.opening import flat_state, flatten
from nissl.diagrams.wiring.optimisers import Descent, descender, neuron
from nissl.diagrams.wiring.picture import to_circuit
from nissl.diagrams.wiring.roles import roles
from nissl.diagrams.wiring.running import Nested
from nissl.diagrams.wiring.simulation import after, run
from nissl.diagrams.wiring.types import Finite, InterfaceMismatch, Space
from nissl.diagrams.wiring.weights import to_torch
from nissl.diagrams.wiring.wires import Port, Wiring

__all__ = [
    "CLOSED",
    "Box",
    "Depending",
    "Descent",
    "Finite",
    "Hom",
    "Interface",
    "InterfaceMismatch",
    "Learner",
    "Lens",
    "Nested",
    "Port",
    "Space",
    "System",
    "Wiring",
    "adaptive_control",
    "after",
    "assemblies",
    "controlled",
    "count_lenses",
    "descender",
    "directions",
    "flat_state",
    "flatten",
    "from_torch",
    "grouped",
    "hebbian_wiring",
    "hom",
    "layer",
    "lenses",
    "linear_system",
    "mlp",
    "nest",
    "neuron",
    "product",
    "real",
    "roles",
    "run",
    "split",
    "to_circuit",
    "to_torch",
]
