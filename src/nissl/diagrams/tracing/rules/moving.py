"""Operators that do no arithmetic: views, transpositions, copies, slices, joins."""

from __future__ import annotations

from typing import Any

from nissl.diagrams.tracing.record import Place, Step
from nissl.diagrams.tracing.rules.rule import Nodes, Reading, Scene, argument, dims, places, rule

_LONG = 1 << 62


def moved(symbol: str, outs: list[Nodes], before: Nodes = ()) -> Reading:
    """A rearrangement; axes that were there only before, or only after, end and begin in it."""
    after = {n for o in outs for n in o}
    born = tuple(dict.fromkeys(n for o in outs for n in o if n not in before and n != 0))
    return Reading(
        "rearrangement",
        symbol,
        outs,
        contracted=tuple(n for n in dict.fromkeys(before) if n not in after and n != 0),
        born=born,
    )


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten")
def view(scene: Scene, step: Step) -> Reading:
    """Bind and unbind axes."""
    before = scene.of(step.arguments[0])
    out = scene.identity.regroup(before, scene.shape(step.outputs[0])) or ()
    return moved("bind", [out], before)


@rule(
    "detach",
    "alias",
    "clone",
    "_to_copy",
    "contiguous",
    "lift_fresh",
    "lift_fresh_copy",
    "lift",
    "to",
    "resolve_conj",
    "resolve_neg",
    "detach_copy",
    "view_dtype",
    "positive",
)
def same(scene: Scene, step: Step) -> Reading:
    """The same numbers; perhaps in another type."""
    axes = scene.of(step.arguments[0])
    if scene.values[step.arguments[0].index].dtype != scene.values[step.outputs[0]].dtype:
        return Reading("elementwise", "cast", [axes])
    return moved("copy", [axes], axes)


@rule("t", "transpose", "permute", "swapaxes", "movedim", "numpy_T")
def permute(scene: Scene, step: Step) -> Reading:
    """Wires cross."""
    axes = scene.of(step.arguments[0])
    n = len(axes)
    order = list(range(n))
    if step.operator == "permute":
        order = [d % n for d in step.arguments[1]]
    elif n > 1:
        a, b = (0, 1) if step.operator == "t" else (step.arguments[1] % n, step.arguments[2] % n)
        order[a], order[b] = order[b], order[a]
    return moved("transpose", [tuple(axes[d] for d in order)], axes)


@rule("unsqueeze")
def unsqueeze(scene: Scene, step: Step) -> Reading:
    """A place of one index."""
    axes = list(scene.of(step.arguments[0]))
    axes.insert(step.arguments[1] % (len(axes) + 1), scene.identity.ONE)
    return moved("bind", [tuple(axes)], scene.of(step.arguments[0]))


@rule("squeeze")
def squeeze(scene: Scene, step: Step) -> Reading:
    """A place of one index goes."""
    axes = scene.of(step.arguments[0])
    chosen = dims(argument(step, 1, "dim"), len(axes))
    return moved(
        "bind", [tuple(a for d, a in enumerate(axes) if d not in chosen or scene.identity.probes[a] != 1)], axes
    )


@rule("expand", "expand_copy", "broadcast_to")
def expand(scene: Scene, step: Step) -> Reading:
    """Copies along new axes."""
    axes, shape = scene.of(step.arguments[0]), scene.shape(step.outputs[0])
    front = len(shape) - len(axes)
    old = (scene.identity.ONE,) * front + tuple(axes)
    probe = scene.identity.probe
    out = tuple(
        a if scene.identity.probes[a] == probe(s) else scene.born(s, "group", 4)
        for a, s in zip(old, shape, strict=True)
    )
    return moved("copy", [out], axes)


@rule("repeat")
def repeat(scene: Scene, step: Step) -> Reading:
    """Copies along axes, each bound with the one that it repeats."""
    axes, times = scene.of(step.arguments[0]), step.arguments[1]
    old = (scene.identity.ONE,) * (len(times) - len(axes)) + tuple(axes)
    out = tuple(a if k == 1 else scene.identity.bind((scene.born(k), a)) for a, k in zip(old, times, strict=True))
    return moved("copy", [out], axes)


@rule("slice", "narrow")
def cut(scene: Scene, step: Step) -> Reading:
    """A part of an axis is an axis of its own; the same part of the same axis is the same."""
    axes = list(scene.of(step.arguments[0]))
    (dim,) = dims(argument(step, 1, "dim", 0), len(axes))
    before, size = axes[dim], scene.shape(step.outputs[0])[dim]
    if scene.identity.probe(size) == scene.identity.probes[before]:
        return moved("copy", [tuple(axes)], tuple(axes))
    key = (argument(step, 2, "start") or 0, argument(step, 4, "step", 1), size)
    axes[dim] = part(scene, before, key, size)
    return Reading("index", "slice", [tuple(axes)], contracted=(before,), born=(axes[dim],))


def part(scene: Scene, node: int, key: Any, size: Any) -> int:
    """The axis that is a part of another."""
    known = (scene.identity.find(node), *map(str, key))
    if known not in scene.identity.slices:
        scene.identity.slices[known] = scene.born(size)
    return scene.identity.slices[known]


@rule(
    "split",
    "split_with_sizes",
    "unsafe_split",
    "unsafe_split_with_sizes",
    "chunk",
    "unsafe_chunk",
    "tensor_split",
    "split_copy",
    "split_with_sizes_copy",
)
def split(scene: Scene, step: Step) -> Reading:
    """An axis is cut into parts."""
    axes = scene.of(step.arguments[0])
    (dim,) = dims(argument(step, 2, "dim", 0), len(axes))
    outs, start = [], 0
    for o in step.outputs:
        size = scene.shape(o)[dim]
        node = axes[dim] if len(step.outputs) == 1 else part(scene, axes[dim], (start, 1, size), size)
        outs.append((*axes[:dim], node, *axes[dim + 1 :]))
        start = start + size
    ended = () if len(step.outputs) == 1 else (axes[dim],)
    return Reading("index", "split", outs, contracted=ended, born=tuple(o[dim] for o in outs) if ended else ())


@rule("select")
def select(scene: Scene, step: Step) -> Reading:
    """One index of an axis is picked, and the axis ends."""
    axes = scene.of(step.arguments[0])
    (dim,) = dims(argument(step, 1, "dim", 0), len(axes))
    return Reading("index", f"[{argument(step, 2, 'index')}]", [axes[:dim] + axes[dim + 1 :]], contracted=(axes[dim],))


@rule("unbind", "unbind_copy")
def unbind(scene: Scene, step: Step) -> Reading:
    """Every index of an axis becomes an array."""
    axes = scene.of(step.arguments[0])
    (dim,) = dims(argument(step, 1, "dim", 0), len(axes))
    return Reading("index", "unbind", [axes[:dim] + axes[dim + 1 :] for _ in step.outputs], contracted=(axes[dim],))


@rule("diagonal")
def diagonal(scene: Scene, step: Step) -> Reading:
    """Two axes meet in equal indices."""
    axes = scene.of(step.arguments[0])
    chosen = dims((argument(step, 2, "dim1", 0), argument(step, 3, "dim2", 1)), len(axes))
    rest = tuple(a for d, a in enumerate(axes) if d not in chosen)
    node = axes[chosen[0]] if not argument(step, 1, "offset", 0) else scene.born(scene.shape(step.outputs[0])[-1])
    return Reading("index", "diagonal", [(*rest, node)], contracted=tuple(axes[d] for d in chosen), born=(node,))


@rule("cat", "concat")
def cat(scene: Scene, step: Step) -> Reading:
    """Sizes of one axis add to a new one; the others meet."""
    given = [i for i in places(step.arguments[0]) if len(scene.shape(i)) == len(scene.shape(step.outputs[0]))]
    shape = scene.shape(step.outputs[0])
    (dim,) = dims(argument(step, 1, "dim", 0), len(shape))
    axes = list(scene.of(given[0]))
    for i in given[1:]:
        for d, node in enumerate(scene.of(i)):
            if d != dim:
                scene.identity.union(axes[d], node)
                if axes[d] == scene.identity.ONE:
                    axes[d] = node
    if len(given) == 1:
        return moved("copy", [tuple(axes)], tuple(axes))
    ended = tuple(dict.fromkeys(scene.of(i)[dim] for i in given))
    key = ("cat", *(scene.identity.find(scene.of(i)[dim]) for i in given))
    known = scene.identity.slices
    if key not in known or scene.identity.ONE in ended:
        known[key] = scene.born(shape[dim], "position")
    axes[dim] = known[key]
    return Reading(
        "join",
        "concatenate",
        [scene.identity.distinct(axes)],
        contracted=tuple(n for n in ended if n != 0),
        born=(axes[dim],),
    )


@rule("stack")
def stack(scene: Scene, step: Step) -> Reading:
    """Arrays become indices of a new axis."""
    given = places(step.arguments[0])
    shape = scene.shape(step.outputs[0])
    (dim,) = dims(argument(step, 1, "dim", 0), len(shape))
    axes = list(scene.of(given[0]))
    for i in given[1:]:
        for a, node in zip(axes, scene.of(i), strict=True):
            scene.identity.union(a, node)
    new = scene.born(shape[dim])
    axes.insert(dim, new)
    return Reading("join", "stack", [tuple(axes)], born=(new,))


@rule("select_scatter", "slice_scatter", "diagonal_scatter")
def written(scene: Scene, step: Step) -> Reading:
    """A part of an array is put in the place of another."""
    axes, values = scene.of(step.arguments[0]), scene.of(step.arguments[1])
    (dim,) = dims(argument(step, 2, "dim", 0), len(axes))
    if step.operator != "diagonal_scatter":
        rest = axes[:dim] + axes[dim + 1 :]
        others = values if step.operator == "select_scatter" else values[:dim] + values[dim + 1 :]
        for a, b in zip(rest, others, strict=False):
            scene.identity.union(a, b)
    return Reading("join", "write", [axes], acted=(axes[dim],) if axes else ())


@rule("view_as_real", "view_as_complex")
def parts(scene: Scene, step: Step) -> Reading:
    """Real and imaginary part as an axis of two, or two numbers as one."""
    axes = scene.of(step.arguments[0])
    out = axes[:-1] if step.operator == "view_as_complex" else (*axes, scene.identity.new(2, "part", 2))
    if step.operator == "view_as_real":
        return Reading("index", "real, imaginary", [out], born=out[-1:])
    return Reading("join", "complex", [out], contracted=axes[-1:])


def is_place(x: Any) -> bool:
    """Whether an argument is an array."""
    return isinstance(x, Place)
