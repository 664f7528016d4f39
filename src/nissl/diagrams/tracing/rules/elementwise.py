"""Operators that act on each index by itself. Axes that meet are one; an axis of one index is shared along the other's."""

from __future__ import annotations

from collections.abc import Sequence

from nissl.diagrams.tracing.record import Step
from nissl.diagrams.tracing.rules.rule import Nodes, Reading, Scene, dims, places, rule

SYMBOLS = {
    "add": "+",
    "sub": "−",
    "rsub": "−",
    "mul": "×",
    "div": "÷",
    "pow": "^",
    "maximum": "max",
    "minimum": "min",
    "bitwise_and": "and",
    "bitwise_or": "or",
    "bitwise_not": "not",
    "logical_and": "and",
    "logical_or": "or",
    "logical_not": "not",
    "masked_fill": "mask",
    "where": "where",
    "reciprocal": "1/x",
    "native_dropout": "dropout",
    "hardtanh": "clamp",
    "fill": "fill",
    "eq": "=",
    "ne": "≠",
    "le": "≤",
    "ge": "≥",
    "lt": "<",
    "gt": ">",
}
# No arithmetic is done where numbers are only chosen, copied or compared with nothing.
FREE = {
    "where",
    "masked_fill",
    "fill",
    "copy",
    "_to_copy",
    "to",
    "zeros_like",
    "bitwise_and",
    "bitwise_or",
    "bitwise_not",
    "logical_not",
}


def met(scene: Scene, indices: Sequence[int], shape: Sequence[object]) -> Nodes:
    """Axes of the result of values that are broadcast against each other."""
    identity = scene.identity
    out = []
    for place in range(len(shape)):
        back = len(shape) - place
        found = identity.ONE
        for index in indices:
            axes = scene.of(index)
            if len(axes) < back:
                continue
            node = axes[-back]
            if identity.probes[node] == 1 and shape[place] != 1:
                continue
            if found == identity.ONE:
                found = node
            else:
                identity.union(found, node)
        out.append(found if found != identity.ONE or shape[place] == 1 else identity.new(shape[place]))
    return identity.distinct(out)


def elementwise(scene: Scene, step: Step) -> Reading:
    """Any operator of this sort."""
    indices = places((step.arguments, tuple(step.options.values())))
    outs = [met(scene, indices, scene.shape(o)) for o in step.outputs]
    name = step.operator
    cost = 0 if name in FREE else scene.elements(step.outputs[0])
    return Reading("elementwise", SYMBOLS.get(name, name), outs, elementwise=cost)


@rule("_foreach_add", "native_dropout", "bernoulli", "copy", "fill", "masked_fill", "where", "clamp", "hardtanh", "dropout",
      "_prelu_kernel", "prelu", "rrelu_with_noise", "rrelu_with_noise_functional", "glu_jvp", "lerp", "addcmul", "addcdiv", "normal", "polar", "complex",
      "_euclidean_dist", "isin", "bucketize", "heaviside", "fake_quantize_per_tensor_affine_cachemask", "zero", "nan_to_num", "floor_divide", "conj", "_conj", "_neg_view", "real", "imag")  # fmt: skip
def known(scene: Scene, step: Step) -> Reading:
    """Operators of this sort that torch does not mark."""
    return elementwise(scene, step)


@rule("tril", "triu")
def triangle(scene: Scene, step: Step) -> Reading:
    """What lies above or below the diagonal is zero: the two last axes are told apart."""
    axes = scene.of(step.arguments[0])
    return Reading("elementwise", step.operator, [axes], acted=axes[-2:])


@rule("glu")
def glu(scene: Scene, step: Step) -> Reading:
    """One half of an axis opens and shuts the other."""
    axes = list(scene.of(step.arguments[0]))
    (dim,) = dims(step.arguments[1] if len(step.arguments) > 1 else -1, len(axes))
    old, size = axes[dim], scene.shape(step.outputs[0])[dim]
    axes[dim] = scene.born(size)
    return Reading(
        "elementwise",
        "glu",
        [tuple(axes)],
        contracted=(old,),
        born=(axes[dim],),
        elementwise=2 * scene.elements(step.outputs[0]),
    )
