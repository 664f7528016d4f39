"""Fold a diagram: modules into boxes, runs of equal siblings into one that is repeated; unfold; follow one unit."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nissl.diagrams._grouping import gathered, grouped, inside, nested, runs_of, with_steps
from nissl.diagrams._reach import reached
from nissl.diagrams._repeats import fold_runs
from nissl.diagrams.circuit import CircuitDiagram, Operation
from nissl.errors import InputError, unknown


def collapse(diagram: CircuitDiagram, path: str) -> CircuitDiagram:
    """The same diagram with one module drawn as one box.

    A module that runs in several places becomes one box in each of them.

    Parameters
    ----------
    diagram
        Any.
    path
        Dotted path of the module; empty for the whole network.

    Raises
    ------
    UnknownNameError
        No operation runs in a module of that path.

    Examples
    --------
    >>> from nissl.diagrams.circuit import Array, Axis, CircuitDiagram, Operation
    >>> from nissl.diagrams.folding import collapse
    >>> arrays = {n: Array(n, ("model",)) for n in "abc"}
    >>> steps = tuple(
    ...     Operation(s, "elementwise", s, (i,), (o,), module="net", broadcast=("model",)) for s, i, o in [("exp", "a", "b"), ("sin", "b", "c")]
    ... )
    >>> d = CircuitDiagram("two", {"model": Axis("model", 3)}, arrays, steps, ("a",), ("c",))
    >>> [o.symbol for o in collapse(d, "net").operations]
    ['net']
    """
    if not any(inside(o.module, path) for o in diagram.operations):
        raise unknown("module", path, _paths(diagram))
    return grouped(diagram, [path if inside(o.module, path) else None for o in diagram.operations])


def to_depth(diagram: CircuitDiagram, depth: int, opened: str = "") -> CircuitDiagram:
    """The same diagram with every module deeper than `depth` drawn as one box.

    Depth 0 opens the network itself and shows its children as boxes, depth 1 opens those too, and so on; lists of modules, which
    run nothing themselves, do not count. A module of a
    single operation stays that operation: `Linear` is drawn as a linear map at any depth. The modules that lead to `opened`, a path, are
    opened whatever the depth.

    Raises
    ------
    InputError
        A negative depth.
    """
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
        raise InputError(f"depth {depth!r}; allowed: 0 (the network's children as boxes), 1, 2, ...")
    chains = {m: nested(diagram, m) for m in {o.module for o in diagram.operations}}

    def box(module: str) -> str | None:
        rest = chains[module][depth:]
        return next((p for p in rest if not inside(opened, p)), None) if opened else next(iter(rest), None)

    return grouped(diagram, [box(o.module) for o in diagram.operations], gather=True)


def expand(diagram: CircuitDiagram, path: str, original: CircuitDiagram) -> CircuitDiagram:
    """A folded diagram with one of its boxes opened again, from the diagram that it was folded from.

    Raises
    ------
    UnknownNameError
        No box of that path.
    """
    boxed = [o for o in diagram.operations if o.kind == "module"]
    if path not in {o.module for o in boxed}:
        raise unknown("box", path, [o.module for o in boxed])
    steps: list[Operation] = []
    groups = [path if inside(o.module, path) else None for o in original.operations]
    runs = [run for group, run in runs_of(original.operations, groups) if group]
    steady = gathered(original.operations, groups)
    runs += [run for group, run in runs_of((o for o, _ in steady), (g for _, g in steady)) if group]
    for operation in diagram.operations:
        if operation.kind != "module" or operation.module != path:
            steps.append(operation)
            continue
        run = next((r for r in runs if _stands_for(operation, r)), None)
        if run is None:
            raise InputError(f"box {path!r} does not come from the diagram that was given as its original")
        steps.extend(run)
    return with_steps(
        diagram, steps, {**original.arrays, **diagram.arrays}, {**original.boxes, **diagram.boxes}, original
    )


def _stands_for(box: Operation, run: list[Operation]) -> bool:
    """Whether a box takes and gives what a run of operations does."""
    made = {n for o in run for n in o.outputs}
    return set(box.outputs) <= made and {n for o in run for n in o.inputs} - made <= set(box.inputs)


def folded(diagram: CircuitDiagram) -> CircuitDiagram:
    """The same diagram with runs of identical siblings drawn once, `Box.repeats` times.

    Siblings are identical when they are of one class, run the same sequence of operations on arrays of equal types up to
    names, take what the one before gave, and share all else that they take. The one that is left carries the operations of
    all, so that sums over the diagram stay the whole's.
    """
    return fold_runs(diagram)


def without_unused(diagram: CircuitDiagram) -> CircuitDiagram:
    """The same diagram without outputs that nothing takes, such as the statistics that a norm keeps for training."""
    used = {n for o in diagram.operations for n in o.inputs} | set(diagram.outputs) | set(diagram.feedback)
    steps = [
        replace(o, outputs=tuple(n for n in o.outputs if n in used) or o.outputs[:1]) if len(o.outputs) > 1 else o
        for o in diagram.operations
    ]
    return with_steps(diagram, steps, diagram.arrays, diagram.boxes, diagram)


@dataclass(frozen=True)
class Reach:
    """Where one unit lives and what it can reach: an upper bound.

    The unit's index is followed through slices, splits, picks and joins; any other step that takes it in is counted as reached, even
    where a weight of zero or a mask stops it.

    Attributes
    ----------
    module, unit
        As they were asked for.
    array, axis
        What the module's last learned step gives (without one: its last step), and the axis on which the unit is one index; where its units are told apart by several
        axes, as those of attention by head and key, all of them with spaces between, the last running fastest.
    operations, arrays
        Names of all operations downstream of it, and of what they make, the array itself among them.
    """

    module: str
    unit: int
    array: str
    axis: str
    operations: frozenset[str]
    arrays: frozenset[str]


def highlight(diagram: CircuitDiagram, module: str, unit: int) -> Reach:
    """The array and axis of one unit of a module, and every operation it reaches downstream.

    The axis is the one that begins in the module's last learned step (the features of a linear map, the channels of a
    convolution), else the last one.

    Raises
    ------
    UnknownNameError
        No operation runs in that module.
    InputError
        A unit that is not on the axis.
    """
    own = [o for o in diagram.operations if inside(o.module, module)]
    if not own:
        raise unknown("module", module, _paths(diagram))
    source = next((o for o in reversed(own) if o.learned), own[-1])
    array = source.outputs[0]
    axes = diagram.arrays[array].axes
    if not axes:
        raise InputError(f"module {module!r} gives a scalar: it has no axis of units")
    lived = [a for a in axes if a in source.born] or [axes[-1]]
    size = math.prod(diagram.axes[a].size for a in lived)
    axis = " ".join(lived)
    if isinstance(unit, bool) or not isinstance(unit, int) or not 0 <= unit < size:
        raise InputError(f"unit {unit!r} of module {module!r}; allowed: 0 to {size - 1} along axis {axis!r}")
    places = dict(zip(reversed(lived), _places(unit, [diagram.axes[a].size for a in reversed(lived)]), strict=True))
    steps, arrays = reached(diagram, array, {a: frozenset((i,)) for a, i in places.items()})
    return Reach(module, unit, array, axis, frozenset(steps), frozenset(arrays))


def _places(unit: int, sizes: list[int]) -> list[int]:
    """The index on each axis of a unit that is counted over all, the first of them running fastest."""
    found = []
    for size in sizes:
        unit, place = divmod(unit, size)
        found.append(place)
    return found


def _paths(diagram: CircuitDiagram) -> list[str]:
    return sorted({o.module for o in diagram.operations if o.module} | {p for p in diagram.boxes if p})
