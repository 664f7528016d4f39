"""Operators that act on axes and keep them (normalisations, cumulative sums), and those that end axes (reductions)."""

from __future__ import annotations

from collections.abc import Sequence

from nissl.diagrams.tracing.record import Place, Step
from nissl.diagrams.tracing.rules.rule import Nodes, Reading, Scene, argument, dims, places, rule

_NAMES = {"_softmax": "softmax", "_log_softmax": "log softmax", "_safe_softmax": "softmax", "native_layer_norm": "layer norm",
          "native_group_norm": "group norm", "_fused_rms_norm": "rms norm"}  # fmt: skip


def kept(scene: Scene, step: Step, acted: Nodes, steps: int = 1) -> Reading:
    """The outputs have the axes of the first input; other outputs those that are not acted on."""
    axes = scene.of(step.arguments[0])
    outs = [axes if i == 0 else _statistics(scene, o, axes, acted) for i, o in enumerate(step.outputs)]
    cost = steps * scene.elements(step.arguments[0])
    return Reading("normalisation", _NAMES.get(step.operator, step.operator), outs, acted=acted, elementwise=cost)


def _statistics(scene: Scene, out: int, axes: Nodes, acted: Nodes) -> Nodes:
    """Axes of a mean or a deviation: those not acted on, or, where that does not fit, new ones."""
    shape = scene.shape(out)
    probe = scene.identity.probe
    if len(shape) == len(axes):
        return tuple(
            a if scene.identity.probes[a] == probe(s) else scene.born(s) for a, s in zip(axes, shape, strict=True)
        )
    rest = tuple(a for a in axes if a not in acted)
    if len(rest) == len(shape) and all(scene.identity.probes[a] == probe(s) for a, s in zip(rest, shape, strict=True)):
        return rest
    return tuple(scene.born(s) for s in shape)


@rule(
    "_softmax",
    "_log_softmax",
    "_safe_softmax",
    "cumsum",
    "cumprod",
    "logcumsumexp",
    "flip",
    "roll",
    "cummax",
    "cummin",
    "renorm",
)
def along(scene: Scene, step: Step) -> Reading:
    """Softmax, cumulative sums: along the axes that the second argument names."""
    axes = scene.of(step.arguments[0])
    which = argument(step, 2 if step.operator == "roll" else 1, "dim")
    chosen = tuple(axes[d] for d in dims(which, len(axes)))
    reading = kept(scene, step, chosen, 5 if "softmax" in step.operator else 1)
    reading.outs = [axes for _ in step.outputs]
    if step.operator in ("flip", "roll"):
        reading.kind, reading.elementwise = "index", 0
    return reading


@rule("sort", "argsort")
def sort(scene: Scene, step: Step) -> Reading:
    """Sorting along an axis."""
    axes = scene.of(step.arguments[0])
    number = next((a for a in step.arguments[1:] if isinstance(a, int) and not isinstance(a, bool)), -1)
    chosen = tuple(axes[d] for d in dims(step.options.get("dim", number), len(axes)))
    return Reading(
        "normalisation",
        step.operator,
        [axes for _ in step.outputs],
        acted=chosen,
        elementwise=scene.elements(step.arguments[0]),
    )


@rule("native_layer_norm", "_fused_rms_norm")
def layer_norm(scene: Scene, step: Step) -> Reading:
    """Over the last axes, each index then with a gain and a shift of its own."""
    axes = scene.of(step.arguments[0])
    acted = axes[len(axes) - len(step.arguments[1]) :]
    if len(acted) == 1:
        scene.identity.hint(acted[0], "model", 3)
    for weight in step.arguments[2:4]:
        if isinstance(weight, Place):
            for a, b in zip(acted, scene.of(weight), strict=True):
                scene.identity.union(a, b)
    return kept(scene, step, acted, 8)


@rule("native_group_norm")
def group_norm(scene: Scene, step: Step) -> Reading:
    """Over space and the channels of a group."""
    axes = scene.of(step.arguments[0])
    for weight in step.arguments[1:3]:
        if isinstance(weight, Place):
            scene.identity.union(axes[1], scene.of(weight)[0])
    return kept(scene, step, axes[1:], 8)


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit_functional",
      "cudnn_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update", "_batch_norm_with_update_functional", "batch_norm")  # fmt: skip
def batch_norm(scene: Scene, step: Step) -> Reading:
    """In training over the batch and space. In evaluation it acts on no axis: a scale and a shift a channel."""
    axes = scene.of(step.arguments[0])
    for weight in step.arguments[1:5]:
        if isinstance(weight, Place):
            scene.identity.union(axes[1], scene.of(weight)[0])
    training = step.arguments[5] if isinstance(step.arguments[5], bool) else False
    training = training and step.operator != "_native_batch_norm_legit_no_training"
    acted = (axes[0], *axes[2:]) if training else ()
    outs: list[Nodes] = [axes]
    for o in step.outputs[1:]:
        shape = scene.shape(o)
        fits = len(shape) == 1 and scene.identity.probe(shape[0]) == scene.identity.probes[axes[1]]
        outs.append((axes[1],) if fits else tuple(scene.born(s) for s in shape))
    cost = (8 if training else 4) * scene.elements(step.arguments[0])
    return Reading("normalisation" if training else "elementwise", "batch norm", outs, acted=acted, elementwise=cost)


@rule("sum", "mean", "prod", "amax", "amin", "max", "min", "argmax", "argmin", "any", "all", "var", "std", "var_mean", "std_mean", "norm",
      "logsumexp", "linalg_vector_norm", "median", "mode", "count_nonzero", "nansum", "nanmedian", "aminmax", "kthvalue")  # fmt: skip
def reduce(scene: Scene, step: Step) -> Reading:
    """Axes end; with `keepdim` a place of one index stays."""
    if len(places(step.arguments)) > 1:  # max and min of two arrays
        from nissl.diagrams.tracing.rules.elementwise import elementwise

        return elementwise(scene, step)
    axes = scene.of(step.arguments[0])
    position = 2 if step.operator in ("norm", "linalg_vector_norm", "kthvalue") else 1
    which = argument(step, position, "dim")
    numbers = isinstance(which, int) and not isinstance(which, bool)
    if not numbers and not isinstance(which, list | tuple):
        which = None
    chosen = dims(which, len(axes))
    outs = []
    for o in step.outputs:
        full = len(scene.shape(o)) == len(axes)
        outs.append(
            tuple(scene.identity.ONE if d in chosen else a for d, a in enumerate(axes) if full or d not in chosen)
        )
    steps = 3 if step.operator.startswith(("var", "std")) else 1
    name = step.operator.removeprefix("linalg_vector_")
    return Reading(
        "reduction",
        name,
        outs,
        contracted=tuple(axes[d] for d in chosen),
        elementwise=steps * scene.elements(step.arguments[0]),
    )


def ends(axes: Sequence[int], chosen: Sequence[int]) -> Nodes:
    """Axes without some of them."""
    return tuple(a for d, a in enumerate(axes) if d not in chosen)


@rule("histc", "bincount")
def histogram(scene: Scene, step: Step) -> Reading:
    """How many numbers fall into each bin."""
    axes = scene.of(step.arguments[0])
    new = scene.born(scene.shape(step.outputs[0])[0], "bin", 2)
    return Reading(
        "reduction",
        "count",
        [(new,)],
        contracted=tuple(axes),
        born=(new,),
        elementwise=scene.elements(step.arguments[0]),
    )
