"""What is made from sizes alone, as one box."""

from __future__ import annotations

import itertools
from dataclasses import replace

from nissl.diagrams._grouping import boxed, inside, with_steps
from nissl.diagrams.circuit import CircuitDiagram, Operation


def constants_folded(diagram: CircuitDiagram) -> CircuitDiagram:
    """The same diagram with all that a module makes from sizes alone, such as a causal mask, as one box.

    The box stands where the first of what it makes is needed; nothing that runs could tell the difference.
    """
    fixed: dict[str, str] = {}  # arrays made from sizes, and the module that makes them
    made: list[Operation] = []
    groups: dict[str, list[Operation]] = {}
    for operation in diagram.operations:
        sources = [diagram.arrays[n] for n in operation.inputs if n not in fixed]
        if (
            operation.learned
            or operation.kind == "module"
            or any(a.role != "constant" or a.name in diagram.inputs for a in sources)
        ):
            continue
        made.append(operation)
        fixed.update(dict.fromkeys(operation.outputs, operation.module))
    homes = _hoisted(diagram, made)
    for operation in made:
        module = homes[operation.name]
        groups.setdefault(module, []).append(operation)
        fixed.update(dict.fromkeys(operation.outputs, module))
    chosen = {m: run for m, run in groups.items() if len(run) > 1 or run[0].module != m}
    within = {o.name: m for m, run in chosen.items() for o in run}
    if not chosen:
        return diagram
    needed = {*diagram.outputs, *diagram.feedback}
    needed.update(n for o in diagram.operations for n in o.inputs if within.get(o.name) != fixed.get(n, ""))
    steps: list[Operation] = []
    placed: set[str] = set()

    def place(module: str, at: int) -> int:
        """Put the box of a module's constants, and those that it needs, before step `at`; where the next one goes."""
        placed.add(module)
        run = chosen[module]
        for other in dict.fromkeys(fixed[n] for o in run for n in o.inputs if n in fixed):
            if other in chosen and other not in placed:
                at = place(other, at)
        box = boxed(diagram, module, f"{module or diagram.name}: constants", run, needed)
        symbol = "from sizes" if len(run) > 1 else run[0].symbol
        steps.insert(at, replace(box, symbol=symbol, kind="creation" if not box.inputs else "opaque"))
        return at + 1

    for operation in diagram.operations:
        if operation.name in within:
            continue
        for module in dict.fromkeys(fixed[n] for n in operation.inputs if n in fixed):
            if module in chosen and module not in placed:
                common = len(_shared(module, operation.module))
                child = ".".join(operation.module.split(".")[: common + 1])
                at = len(steps)
                while at and child and operation.module != module and inside(steps[at - 1].module, child):
                    at -= 1  # before the part that needs it, not amid it
                place(module, at)
        steps.append(operation)
    for module in chosen:
        if module not in placed and any(n in diagram.outputs for o in chosen[module] for n in o.outputs):
            place(module, len(steps))
    return with_steps(diagram, steps, diagram.arrays, diagram.boxes, diagram)


def _hoisted(diagram: CircuitDiagram, made: list[Operation]) -> dict[str, str]:
    """Where each constant belongs: to its own module, or, if a part that takes it made it for its siblings too, to their parent."""
    names = {o.name for o in made}
    users: dict[str, set[str]] = {}
    for operation in diagram.operations:
        if operation.name not in names:
            for name in operation.inputs:
                users.setdefault(name, set()).add(operation.module)
    found: dict[str, str] = {}
    for operation in reversed(made):
        own = operation.module
        takers = set().union(*(users.get(n, set()) for n in operation.outputs))
        parent = own
        for module in takers:
            parent = ".".join(_shared(parent, module))
        child = ".".join(own.split(".")[: parent.count(".") + 2 if parent else 1])
        if parent == own or not any(inside(t, child) for t in takers):
            parent = own
        found[operation.name] = parent
        for name in operation.inputs:  # what it is made from belongs with it
            users.setdefault(name, set()).update(takers)
    return found


def _shared(a: str, b: str) -> list[str]:
    """The names with which two paths begin."""
    pairs = zip(a.split(".") if a else [], b.split(".") if b else [], strict=False)
    return [x for x, _ in itertools.takewhile(lambda p: p[0] == p[1], pairs)]
