"""Operators that pick by numbers that are themselves data: embedding, gather, scatter, top k."""

from __future__ import annotations

from nissl.diagrams.tracing.record import Place, Step
from nissl.diagrams.tracing.rules.elementwise import met
from nissl.diagrams.tracing.rules.rule import Nodes, Reading, Scene, argument, dims, rule


@rule("embedding")
def embedding(scene: Scene, step: Step) -> Reading:
    """A row of a table for every token."""
    table, tokens = scene.of(step.arguments[0]), scene.of(step.arguments[1])
    scene.identity.hint(table[0], "token", 5)
    return Reading("index", "embedding", [(*tokens, table[1])], contracted=(table[0],), born=(table[1],))


@rule("index_select")
def index_select(scene: Scene, step: Step) -> Reading:
    """Some indices of an axis, by number."""
    axes = list(scene.of(step.arguments[0]))
    (dim,) = dims(step.arguments[1], len(axes))
    old, axes[dim] = axes[dim], scene.of(step.arguments[2])[0]
    return Reading("index", "pick", [tuple(axes)], contracted=(old,), born=(axes[dim],))


@rule("index", "_unsafe_index")
def index(scene: Scene, step: Step) -> Reading:
    """Indices of several axes, by number; their place is taken by the axes of the numbers."""
    axes, chosen = scene.of(step.arguments[0]), step.arguments[1]
    picked: list[int] = []
    width: dict[int, int] = {}
    at = 0
    for item in chosen:
        mask = isinstance(item, Place) and scene.values[item.index].dtype in ("bool", "uint8")
        n = len(scene.shape(item)) if mask else 1
        if isinstance(item, Place):
            picked.extend(range(at, at + n))
            width[at] = n
        at += n
    numbers = [c.index for c in chosen if isinstance(c, Place)]
    masks = any(scene.values[i].dtype in ("bool", "uint8") for i in numbers)
    shape = scene.shape(step.outputs[0])
    rank = len(shape) - (len(axes) - len(picked))
    together = picked == list(range(picked[0], picked[0] + len(picked)))
    start = picked[0] if together else 0
    new = (
        tuple(scene.born(s) for s in shape[start : start + rank])
        if masks
        else met(scene, numbers, shape[start : start + rank])
    )
    rest = [a for d, a in enumerate(axes) if d not in picked]
    out = scene.identity.distinct((*rest[:start], *new, *rest[start:]))
    return Reading("index", "pick", [out], contracted=tuple(axes[d] for d in picked), born=out[start : start + rank])


@rule("gather", "take_along_dim")
def gather(scene: Scene, step: Step) -> Reading:
    """For every index of the numbers, the element at that place along one axis."""
    axes, numbers = scene.of(step.arguments[0]), scene.of(step.arguments[2])
    (dim,) = dims(step.arguments[1], len(axes))
    for d, (a, b) in enumerate(zip(axes, numbers, strict=True)):
        if d != dim:
            scene.identity.union(a, b)
    return Reading("index", "gather", [numbers], contracted=(axes[dim],), born=(numbers[dim],) if numbers else ())


@rule(
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "index_add",
    "index_copy",
    "index_put",
    "_unsafe_index_put",
    "masked_scatter",
    "index_fill",
    "index_reduce",
)
def scatter(scene: Scene, step: Step) -> Reading:
    """The other way round: elements are put, or added, at places along an axis."""
    axes = scene.of(step.arguments[0])
    acted: Nodes = axes
    if step.operator.startswith(("scatter", "index_add", "index_copy", "index_fill", "index_reduce")) and axes:
        (dim,) = dims(step.arguments[1], len(axes))
        acted = (axes[dim],)
        source = argument(step, 3, "src")
        if isinstance(source, Place):
            for d, (a, b) in enumerate(zip(axes, scene.of(source), strict=False)):
                if d != dim:
                    scene.identity.union(a, b)
    added = "add" in step.operator or argument(step, 3, "accumulate") is True
    name = "scatter add" if added else "scatter"
    return Reading("join", name, [axes], acted=acted, elementwise=scene.elements(step.outputs[0]) if added else 0)


@rule("topk")
def topk(scene: Scene, step: Step) -> Reading:
    """The largest along an axis; among them a new one, by rank."""
    axes = list(scene.of(step.arguments[0]))
    (dim,) = dims(argument(step, 2, "dim", -1), len(axes))
    old = axes[dim]
    scene.identity.hint(old, "expert", 2)
    axes[dim] = scene.born(scene.shape(step.outputs[0])[dim], "rank", 4)
    return Reading(
        "index", f"top {step.arguments[1]}", [tuple(axes)] * len(step.outputs), contracted=(old,), born=(axes[dim],)
    )


@rule("one_hot")
def one_hot(scene: Scene, step: Step) -> Reading:
    """A new axis with a one where the number says."""
    axes = scene.of(step.arguments[0])
    new = scene.born(scene.shape(step.outputs[0])[-1], "class", 2)
    return Reading("index", "one-hot", [(*axes, new)], born=(new,))


@rule("nonzero", "masked_select", "unique", "unique_dim", "_unique2", "unique_consecutive")
def found(scene: Scene, step: Step) -> Reading:
    """Where something holds; how many there are depends on the values."""
    before = scene.of(step.arguments[0])
    outs = []
    for o in step.outputs:
        shape = scene.shape(o)
        outs.append(tuple(scene.identity.new(s, "found" if k == 0 else "index", 2) for k, s in enumerate(shape)))
    return Reading(
        "index", step.operator.strip("_"), outs, contracted=tuple(before), born=tuple(n for o in outs for n in o)
    )
