"""Is a circuit diagram true? It is run beside the network, its wires are tested for what they promise, its cost is counted.

A diagram claims that an operation merely runs along an axis when indexing before it and after it are the same. Each such claim is
put to the test at a random index, and so is its control: along an axis that is acted on, the same test must fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nissl.diagrams._equations import split
from nissl.diagrams._operators import draws
from nissl.diagrams._sizes import evaluate, sizes_of
from nissl.diagrams.circuit import CircuitDiagram, Operation
from nissl.diagrams.cost import flops
from nissl.diagrams.program import Program, build, by_values, run_operation
from nissl.errors import InputError
from nissl.evaluation._beside import as_drawn, called, fitting, seeded
from nissl.evaluation._swapping import swapped

Inputs = Shaped[Tensor, "..."] | Sequence[Shaped[Tensor, "..."]]
EQUAL = {torch.float32: 1e-5, torch.float64: 1e-10}
LAW = 1e-6  # how far indexing before and after may differ
# Products that torch's counter leaves out, from the shapes of what they take.
_UNCOUNTED = {
    torch.ops.aten.mv: lambda m, _, **__: 2 * m.numel(),
    torch.ops.aten.dot: lambda a, _, **__: 2 * a.numel(),
    torch.ops.aten.addmv: lambda _, m, *__, **___: 2 * m.numel(),
    torch.ops.aten._trilinear: lambda a, w, *_, **__: 2 * a[:-1].numel() * w.numel(),
}


@dataclass(frozen=True)
class DiagramMatch:
    """How a diagram stands beside its network.

    Attributes
    ----------
    gaps
        Largest difference of any output, for every set of inputs.
    swapped
        The control: the largest difference once two axes of equal size are swapped in the diagram; None where no operation gives
        an array with two such axes.
    tolerance
        How large a gap may be.
    laws
        Table of `operation`, `axis`, `role` (`broadcast` or `acted`), `held` (the share of random inputs for which indexing
        before is indexing after), `gap`.
    flops, counted
        Operations in the diagram and by torch's counter, for every set of inputs; see `counted_flops` for what is added there.
    """

    gaps: tuple[float, ...]
    swapped: float | None
    tolerance: float
    laws: pd.DataFrame
    flops: tuple[int, ...]
    counted: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether the outputs are those of the network."""
        return max(self.gaps) <= self.tolerance

    @property
    def lawful(self) -> bool:
        """Whether every axis that is drawn as run along is, and none of those that are acted on."""
        along, acted = (self.laws[self.laws["role"] == role]["held"] for role in ("broadcast", "acted"))
        return bool((along == 1).all() and (acted <= 0.05).all())

    @property
    def holds(self) -> bool:
        """All of it: outputs, laws, cost, and a control that differs."""
        control = self.swapped is None or self.swapped > self.tolerance
        return self.equal and self.lawful and self.flops == self.counted and control


def diagram_matches(
    module: nn.Module,
    diagram: CircuitDiagram,
    inputs: Inputs,
    *more: Inputs,
    tolerance: float | None = None,
    repeats: int = 20,
    seed: int = 0,
) -> DiagramMatch:
    """Run a diagram beside the network that it was drawn from.

    Parameters
    ----------
    module, diagram
        The network and its diagram. It runs in the mode in which it was drawn, whichever it is in; its mode and buffers are put
        back. What draws random numbers draws the same on both sides.
    inputs
        What the network takes: a tensor, or several in order.
    *more
        Further inputs, of other free sizes.
    tolerance
        The largest gap; 1e-5 where outputs are in single precision, 1e-10 in double.
    repeats
        Random inputs on which the laws are tried.
    seed
        Of them.

    Raises
    ------
    InputError
        Arguments in another order, inputs that are no tensors, do not fit the diagram or hold NaN (NaN equals NaN: nothing would
        be tested).
    DiagramError
        The diagram of another network.
    ModelError
        The network does not run on these inputs.

    Examples
    --------
    >>> from nissl.diagrams import circuit
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Softmax(-1))
    >>> found = diagram_matches(net, circuit(net, torch.randn(2, 4)), [torch.randn(2, 4)], [torch.randn(5, 4)])
    >>> found.holds, found.flops
    (True, (224, 560))

    References
    ----------
    Abbott 2024, "Neural Circuit Diagrams".
    """
    sets = [_listed(x) for x in (inputs, *more)]
    sizes = fitting(module, diagram, sets)
    with torch.no_grad(), as_drawn(module, diagram, sets[0]):
        program = build(diagram, module)
        results = [(_outputs(seeded(seed, called, module, x)), _outputs(seeded(seed, program, *x))) for x in sets]
        if not all(any((~t.isnan()).any() for t in truth) for truth, _ in results):
            raise InputError(f"{diagram.name} gives no number on these inputs, so there is nothing to compare")
        gaps = tuple(largest_gap(a, b) for a, b in results)
        wrong = swapped(diagram)
        gap = None if wrong is None else _gap_of(wrong, module, sets[0], results[0][0], seed)
        laws = broadcast_laws(diagram, sets[0], parameters=module, repeats=repeats, seed=seed)
        counted = tuple(counted_flops(module, x) for x in sets)
    real = [t for t in results[0][0] if t.is_floating_point()]
    if tolerance is None:
        tolerance = max((EQUAL.get(t.dtype, 1e-2) for t in real), default=0.0)
    cost = flops(diagram)
    return DiagramMatch(gaps, gap, tolerance, laws, tuple(evaluate(cost, s) for s in sizes), counted)


def broadcast_laws(
    diagram: CircuitDiagram,
    inputs: Inputs,
    *,
    parameters: nn.Module | dict[str, Tensor] | None = None,
    repeats: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """For every operation and axis, whether indexing before it is indexing after it.

    All that an operation takes is replaced by copies of one random index along the axis; where the operation merely runs along
    it, what comes out must be copies of what came out at that index. Axes of one index are left out, as are those that end or
    begin.

    Returns
    -------
    pandas.DataFrame
        `operation`, `axis`, `role`, `held` (share of random inputs), `gap` (the largest, as a share of the largest number).
    """
    inputs = _listed(inputs)
    generator = torch.Generator().manual_seed(seed)
    program = build(diagram, parameters)
    held = program.arrays(*inputs)
    sizes = sizes_of(diagram, {n: tuple(t.shape) for n, t in zip(diagram.inputs, inputs, strict=True)})
    tried: dict[tuple[str, str, str], list[float]] = {}
    for k in range(repeats):
        values = held if k == 0 else _others(program, inputs, held, generator)
        for operation in diagram.operations:
            if draws(operation.target):  # other numbers at every index, whatever it takes
                continue
            for role, axes in (("broadcast", operation.broadcast), ("acted", operation.acted)):
                for axis in axes:
                    if (n := evaluate(diagram.size(axis), sizes)) < 2:
                        continue
                    index = int(torch.randint(n, (), generator=generator))
                    gap = _law_gap(diagram, operation, axis, index, values, sizes)
                    if gap is not None:
                        tried.setdefault((operation.name, axis, role), []).append(gap)
    rows = [(*key, sum(g <= LAW for g in gaps) / len(gaps), max(gaps)) for key, gaps in tried.items()]
    return pd.DataFrame(rows, columns=["operation", "axis", "role", "held", "gap"])


def _law_gap(
    diagram: CircuitDiagram, operation: Operation, axis: str, index: int, values: dict[str, Tensor], sizes: dict
) -> float | None:
    """Difference between indexing before and after; None where no array that comes in, or none that goes out, has the axis once."""
    places = {n: _places(diagram, operation, n, axis) for n in (*operation.inputs, *operation.outputs)}
    outputs = [n for n in operation.outputs if len(places[n]) == 1 and n in values]
    if not outputs or not any(places[n] for n in operation.inputs) or any(len(p) > 1 for p in places.values()):
        return None

    def copies(name: str, tensor: Tensor) -> Tensor:
        for dim in places[name]:
            tensor = tensor.index_select(dim, torch.full((tensor.shape[dim],), index, device=tensor.device))
        return tensor

    given = {n: copies(n, values[n]) for n in operation.inputs if n in values}
    before = run_operation(diagram, operation, given, sizes)
    after = {n: copies(n, values[n]) for n in outputs}
    return max(largest_gap([after[n]], [before[n]], relative=True) for n in outputs if n in before)


def _places(diagram: CircuitDiagram, operation: Operation, name: str, axis: str) -> list[int]:
    """Where an axis stands on an array; in an equation, where the equation has it: a key's `time` may there be `time'`."""
    axes = diagram.arrays[name].axes
    if operation.equation and name in operation.inputs:
        terms, _ = split(operation.equation)
        place = operation.inputs.index(name)
        axes = terms[place] if place < len(terms) else axes
    return [i for i, a in enumerate(axes) if a == axis]


def _others(
    program: Program, inputs: Sequence[Tensor], held: dict[str, Tensor], generator: torch.Generator
) -> dict[str, Tensor]:
    """All arrays on other inputs; those held where these take another branch: a diagram has the sizes of one of them.

    Sparse experts are such a case: how many tokens an expert gets follows from values.
    """
    try:
        values = program.arrays(*(_like(t, generator) for t in inputs))
    except (RuntimeError, IndexError):
        if not by_values(program.diagram):
            raise
        return held
    return values if all(values[n].shape == t.shape for n, t in held.items()) else held


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Other numbers of the same shape: normal ones, or whole ones among those that the array holds."""
    if tensor.is_floating_point():
        return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor.device)
    if tensor.dtype == torch.bool or not tensor.numel():
        return tensor
    known = tensor.unique()
    return known[torch.randint(len(known), tensor.shape, generator=generator).to(tensor.device)]


def _gap_of(diagram: CircuitDiagram, module: nn.Module, inputs: Inputs, truth: Sequence[Tensor], seed: int) -> float:
    """Largest difference; infinite where the diagram does not run at all."""
    try:
        return largest_gap(truth, _outputs(seeded(seed, build(diagram, module), *_listed(inputs))))
    except (RuntimeError, ValueError, IndexError):
        return float("inf")


def counted_flops(module: nn.Module, inputs: Inputs) -> int:
    """What torch's counter counts, attention as sums of products: fused kernels count as nothing on the CPU.

    The counter leaves out `mv`, `dot`, `addmv` and the bilinear map; two a multiply-add are added for these, from the shapes with
    which they run.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter,
        ):
            module(*_listed(inputs))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops())


def largest_gap(one: Sequence[Tensor], other: Sequence[Tensor], *, relative: bool = False) -> float:
    """The largest difference between arrays, two by two; as a share of the largest number where `relative` and that is above 1."""
    found = 0.0
    if len(one) != len(other):
        return float("inf")
    for a, b in zip(one, other, strict=True):
        if a.shape != b.shape:
            return float("inf")
        if not a.numel():
            continue
        wide = torch.complex128 if a.is_complex() else torch.float64
        a, b = a.to(wide), b.to(wide)
        same = (a == b) | (a.isnan() & b.isnan())
        gap = (
            torch.where(same, torch.zeros((), dtype=torch.float64), (a - b).abs()).nan_to_num(float("inf")).max().item()
        )
        scale = a.abs()[a.abs().isfinite()]
        found = max(found, gap / max(1.0, scale.max().item() if scale.numel() else 1.0) if relative else gap)
    return found


def _listed(inputs: Inputs) -> list[Tensor]:
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]  # type: ignore[list-item]


def _outputs(result: object) -> list[Tensor]:
    """The tensors in what a network returns."""
    if isinstance(result, dict):  # Hugging Face's outputs, without the cache
        result = [v for k, v in result.items() if k != "past_key_values"]
    return [t for t in tree_leaves(result) if isinstance(t, Tensor)]
