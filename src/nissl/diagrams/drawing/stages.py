"""Into which column of operations each one goes, which arrays stand in the columns between, and which modules are framed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nissl.diagrams.circuit import CircuitDiagram, Operation

TALLEST = 10  # operations in one column


class Strip(NamedTuple):
    """One array in a column. What is fed back stands for the value of the step before until it is made anew."""

    array: str
    before: bool = False


@dataclass(frozen=True)
class Fence:
    """A module framed: its columns of operations from `first` to `last`, and how many frames are inside it."""

    path: str
    first: int
    last: int
    height: int


@dataclass(frozen=True)
class Stages:
    """Columns of operations, and before, between and after them the columns of data."""

    operations: tuple[tuple[Operation, ...], ...]
    columns: tuple[tuple[Strip, ...], ...]
    fences: tuple[Fence, ...]
    takes: dict[str, tuple[Strip, ...]]  # by operation: the strips it takes
    uses: dict[Strip, tuple[int, ...]]  # by strip: the columns of operations that take it

    def fresh(self, column: int) -> frozenset[Strip]:
        """Strips that begin in a column."""
        before = self.columns[column - 1] if column else ()
        return frozenset(self.columns[column]) - frozenset(before)


def stages(diagram: CircuitDiagram) -> Stages:
    """Lay the operations of a diagram into columns.

    Steps that follow one another, wait for nothing of each other and stand in no frame of their own share a column, as the
    three projections of attention do. A framed module has its columns for itself.
    """
    plan: list[list[Operation]] = []
    fences: list[Fence] = []
    _plan(diagram, list(diagram.operations), 0, plan, fences)
    made = {n: s for s, steps in enumerate(plan) for o in steps for n in o.outputs}
    order = {o.name: i for i, o in enumerate(diagram.operations)}
    maker = {n: order[o.name] for o in diagram.operations for n in o.outputs}
    takes: dict[str, tuple[Strip, ...]] = {}
    uses: dict[Strip, list[int]] = {}
    first_user: dict[tuple[Strip, int], tuple[int, int]] = {}
    for s, steps in enumerate(plan):
        for i, operation in enumerate(steps):
            strips = [
                Strip(n, n in diagram.feedback and maker.get(n, -1) >= order[operation.name])
                for n in operation.inputs
                if n in made or n in diagram.inputs or n in diagram.feedback
            ]
            takes[operation.name] = tuple(strips)
            for j, strip in enumerate(strips):
                uses.setdefault(strip, []).append(s)
                first_user.setdefault((strip, s), (i, j))
    columns = _columns(diagram, plan, made, uses, first_user)
    return Stages(
        tuple(map(tuple, plan)), columns, tuple(fences), takes, {k: tuple(dict.fromkeys(v)) for k, v in uses.items()}
    )


def _plan(
    diagram: CircuitDiagram, steps: Sequence[Operation], depth: int, plan: list[list[Operation]], fences: list[Fence]
) -> int:
    """Append columns for the operations of one module; how many frames stand inside one another among them."""
    runs: list[tuple[str, list[Operation]]] = []
    for operation in steps:
        parts = operation.module.split(".") if operation.module else []
        child = ".".join(parts[: depth + 1]) if len(parts) > depth else ""
        if child and runs and runs[-1][0] == child:
            runs[-1][1].append(operation)
        else:
            runs.append((child, [operation]))
    height, loose = 0, list[Operation]()
    for child, run in runs:
        repeated = child in diagram.boxes and diagram.boxes[child].repeats > 1
        if len(run) == 1 and not (repeated and run[0].kind != "module"):
            loose.extend(run)
            continue
        _spread(diagram, loose, plan)
        loose = []
        first = len(plan)
        within = _plan(diagram, run, depth + 1, plan, fences)
        if child in diagram.boxes:
            fences.append(Fence(child, first, len(plan) - 1, within))
            within += 1
        height = max(height, within)
    _spread(diagram, loose, plan)
    return height


def _spread(diagram: CircuitDiagram, steps: Sequence[Operation], plan: list[list[Operation]]) -> None:
    """Each operation into the first column in which all it takes is there."""
    if not steps:
        return
    maker = {n: o.name for o in steps for n in o.outputs}
    users: dict[str, list[str]] = {}
    at: dict[str, int] = {}
    wide: dict[int, int] = {}
    rootless: dict[str, bool] = {}
    for operation in steps:
        before = [maker[n] for n in operation.inputs if n in maker and maker[n] in at]
        for name in before:
            users.setdefault(name, []).append(operation.name)
        place = max((at[b] + 1 for b in before), default=0)
        while wide.get(place, 0) >= TALLEST:
            place += 1
        at[operation.name] = place
        wide[place] = wide.get(place, 0) + 1
        known = {n for n in operation.inputs if n in maker}
        alone = all(diagram.arrays[n].role in ("parameter", "constant") or n in known for n in operation.inputs)
        rootless[operation.name] = alone and all(rootless.get(b, False) for b in before)
    last = max(at.values())
    for operation in reversed(steps):  # what comes from nothing, such as positions, stands where it is needed
        if rootless[operation.name]:
            at[operation.name] = max(
                at[operation.name], min((at[u] for u in users.get(operation.name, ())), default=last + 1) - 1
            )
    columns: list[list[Operation]] = [[] for _ in range(last + 1)]
    for operation in steps:
        columns[at[operation.name]].append(operation)
    plan.extend(c for c in columns if c)


def _columns(
    diagram: CircuitDiagram,
    plan: list[list[Operation]],
    made: dict[str, int],
    uses: dict[Strip, list[int]],
    first_user: dict[tuple[Strip, int], tuple[int, int]],
) -> tuple[tuple[Strip, ...], ...]:
    """The strips of every column of data, those that are needed soonest on top."""
    end = len(plan)
    begin: dict[Strip, int] = {Strip(n): 0 for n in diagram.inputs if n not in made}
    begin.update({s: 0 for s in uses if s not in begin and s.array not in made})
    begin.update({Strip(n, True): 0 for n in diagram.feedback})
    begin.update({Strip(n): s + 1 for n, s in made.items()})
    for name in diagram.outputs:
        begin.setdefault(Strip(name), 0)
    held = {Strip(n) for n in (*diagram.outputs, *diagram.feedback)}
    starts: dict[int, list[Strip]] = {}
    for strip, column in begin.items():
        starts.setdefault(column, []).append(strip)
    position = {n: i for i, n in enumerate(diagram.outputs)}
    alive: list[Strip] = []
    columns: list[tuple[Strip, ...]] = []
    turn: dict[Strip, int] = {}

    def urgency(strip: Strip, column: int) -> tuple[int, ...]:
        used = uses.get(strip, [])
        i = turn.get(strip, 0)
        while i < len(used) and used[i] < column:
            i += 1
        turn[strip] = i
        if i < len(used):
            user, place = first_user[(strip, used[i])]
            return (used[i], user, -begin[strip], place)  # of two that are taken together, the newer stands on top
        return (end + 1 if strip in held else end, position.get(strip.array, end), 0, 0)

    for column in range(end + 1):
        alive = [s for s in alive if s in held or uses.get(s, [-1])[-1] >= column] + starts.get(column, [])
        keys = {s: urgency(s, column) for s in alive}
        for operation in plan[column - 1] if column else ():  # what one operation gives stays together
            given = [s for s in map(Strip, operation.outputs) if s in keys]
            if len(given) > 1:
                soonest = min(keys[s] for s in given)
                keys.update({s: (*soonest, i) for i, s in enumerate(sorted(given, key=lambda s: keys[s]))})
        columns.append(tuple(sorted(keys, key=lambda s: keys[s])))
    return tuple(columns)
