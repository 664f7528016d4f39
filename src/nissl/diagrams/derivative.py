"""The way back: a diagram of the reverse pass, drawn from the diagram of the forward pass.

Every operation is replaced by its linear derivative, transposed, in reverse order: a linear map is bent, so that its output wire
comes in and its input wire goes out, and what the forward pass held is read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from nissl.diagrams._reverse import Reverse, operator_name
from nissl.diagrams.circuit import CircuitDiagram
from nissl.errors import DiagramError, InputError, unknown

_FLOATS = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
# What these give does not depend on the numbers that they are given.
_CUT = frozenset(
    [
        "detach",
        "bernoulli",
        "empty_like",
        "zeros_like",
        "ones_like",
        "full_like",
        "rand_like",
        "randn_like",
        "new_zeros",
        "new_ones",
        "new_empty",
        "new_full",
    ]
)


def backward(diagram: CircuitDiagram, *, wrt: Sequence[str] | None = None) -> CircuitDiagram:
    """The diagram of its derivative.

    Parameters
    ----------
    diagram
        A forward pass.
    wrt
        Names of the arrays whose gradients are wanted; where None, all weights and all inputs that are not whole numbers.

    Returns
    -------
    CircuitDiagram
        Inputs: `OUTPUT.grad` for each output that depends on `wrt`, then what was held of the forward pass. Outputs: `NAME.grad`
        for each of `wrt`, as far as an output depends on it.

    Raises
    ------
    UnknownNameError
        No such array in `wrt`.
    DiagramError
        The diagram is partial or has feedback, or no output depends on `wrt`.

    Examples
    --------
    >>> from nissl.diagrams.expressions import broadcast, linear
    >>> back = backward(broadcast(linear("m -> k", "w", m=8, k=5), "b").diagram(b=21))
    >>> [o.equation for o in back.operations]
    ['b k, k m -> b m', 'b k, b m -> k m']
    >>> back.inputs, back.outputs, back.flops()
    (('w.grad', 'x'), ('w.weight.grad', 'x.grad'), 160*b)

    References
    ----------
    Abbott 2024, "Neural Circuit Diagrams", section on differentiation.
    """
    return _reversed(diagram, wrt)[0]


def _reversed(diagram: CircuitDiagram, wrt: Sequence[str] | None) -> tuple[CircuitDiagram, dict[str, str]]:
    """The way back, and by array the output that is its gradient."""
    if not diagram.complete or diagram.feedback:
        raise DiagramError(f"{diagram.name} is partial or has feedback; only a whole forward pass has a way back")
    wanted = differentiable(diagram) if wrt is None else list(wrt)
    for name in wanted:
        if name not in diagram.arrays:
            raise unknown("array", name, diagram.arrays)
    reverse = Reverse(diagram, depends(diagram, wanted))
    seeds = [n for n in dict.fromkeys(diagram.outputs) if n in reverse.needed]
    if not seeds:
        raise DiagramError(f"no output of {diagram.name} depends on {', '.join(wanted) or 'a weight or a real input'}")
    for name in seeds:
        reverse.seed(name)
    for operation in reversed(diagram.operations):
        reverse.step(operation)
    results = {n: str(reverse.collected(n)) for n in wanted if reverse.grads.get(n)}
    for name, found in results.items():  # each is called by its own name, also where one array is the gradient of two
        if found != f"{name}.grad":
            results[name] = reverse.alias(found, name)
    return _assembled(diagram, reverse, seeds, results), results


def differentiable(diagram: CircuitDiagram) -> list[str]:
    """Weights, and inputs that are not whole numbers."""
    made = {n for o in diagram.operations for n in o.outputs}
    weights = [n for n, a in diagram.arrays.items() if a.role == "parameter" and n not in made]
    return [n for n in dict.fromkeys((*weights, *diagram.inputs)) if diagram.arrays[n].dtype in _FLOATS]


def depends(diagram: CircuitDiagram, wanted: Sequence[str]) -> set[str]:
    """Arrays through which a gradient may flow to those that are wanted."""
    found = set(wanted)
    for operation in diagram.operations:
        if operator_name(operation) in _CUT:
            continue
        if found & set(operation.inputs):
            found |= {n for n in operation.outputs if diagram.arrays[n].dtype in _FLOATS}
    return found


def saved_arrays(diagram: CircuitDiagram) -> tuple[str, ...]:
    """Arrays of the forward pass, weights not among them, that the way back to the weights reads; all of them where there are none."""
    weights = [n for n in differentiable(diagram) if diagram.arrays[n].role == "parameter"]
    wanted = weights or differentiable(diagram)
    reached = depends(diagram, wanted)
    if not diagram.complete or not reached & set(diagram.outputs):
        return ()
    back = backward(diagram, wrt=wanted)
    return tuple(n for n in back.inputs if n in diagram.arrays)


def gradients(
    diagram: CircuitDiagram,
    inputs: Sequence[Shaped[Tensor, "..."]],
    grads: Sequence[Shaped[Tensor, "..."]] | None = None,
    *,
    parameters: nn.Module | Mapping[str, Tensor] | None = None,
    wrt: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """Gradients by name, from the two diagrams alone: forward, and back.

    Parameters
    ----------
    diagram
        A forward pass.
    inputs
        Its inputs.
    grads
        Gradients of the outputs, as many as depend on what is wanted; ones where None.
    parameters
        A module or a state dict.
    wrt
        As for `backward`.

    Raises
    ------
    InputError
        Another number of `grads` than outputs.
    """
    from nissl.diagrams.program import Program, tensors_of

    back, names = _reversed(diagram, wrt)
    weights = {} if parameters is None else tensors_of(parameters)
    held = Program(diagram, weights).arrays(*inputs)
    seeds = [
        n.removesuffix(".grad") for n in back.inputs if n not in diagram.arrays
    ]  # an output's own gradient comes first
    if grads is None:
        grads = [torch.ones_like(held[n]) for n in seeds]
    if len(grads) != len(seeds):
        raise InputError(f"{len(seeds)} outputs have a gradient ({', '.join(seeds)}); given {len(grads)}")
    given = [held[n] for n in back.inputs if n in diagram.arrays]
    found = Program(back, weights)(*grads, *given)
    found = found if isinstance(found, tuple) else (found,)
    return dict(zip(names, found, strict=True))


def _assembled(diagram: CircuitDiagram, reverse: Reverse, seeds: list[str], results: dict[str, str]) -> CircuitDiagram:
    operations = reverse.operations
    given = [reverse.seeds[n] for n in seeds]
    read = {n for o in operations for n in o.inputs} | set(results.values())
    made = {n for o in diagram.operations for n in o.outputs} | set(diagram.inputs)
    held = [n for n in diagram.arrays if n in read and n in made]
    known = {**diagram.arrays, **reverse.arrays}
    used = read | {n for o in operations for n in o.outputs} | set(given)
    inputs = {*given, *held}
    arrays = {n: replace(a, role="input") if n in inputs else a for n, a in known.items() if n in used}
    axes = {a: diagram.axes[a] for a in dict.fromkeys(a for x in arrays.values() for a in x.axes)}
    sizes = {a: s for a, s in diagram.sizes.items() if a in axes}
    return CircuitDiagram(
        f"{diagram.name}, backward",
        axes,
        arrays,
        tuple(operations),
        (*given, *held),
        tuple(results.values()),
        sizes,
        diagram.boxes,
        notes=diagram.notes,
        guards=diagram.guards,
    )
