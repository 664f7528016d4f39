"""Operators that make arrays from sizes alone, and what stands for all the others."""

from __future__ import annotations

from nissl.diagrams.tracing.record import Step
from nissl.diagrams.tracing.rules.rule import Reading, Scene, places, rule

_LIKE = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "randint_like")


@rule("arange", "zeros", "ones", "full", "empty", "scalar_tensor", "rand", "randn", "randint", "randperm", "eye", "linspace", "logspace",
      "empty_strided", "tril_indices", "triu_indices", "hann_window", "new_zeros", "new_ones", "new_full", "new_empty", "empty_permuted", "new_empty_strided", *_LIKE)  # fmt: skip
def make(scene: Scene, step: Step) -> Reading:
    """From sizes alone; what is made like another array has its axes."""
    given = places(step.arguments)
    if step.operator in _LIKE and given:
        return Reading("creation", step.operator, [scene.of(given[0])])
    shape = scene.shape(step.outputs[0])
    out = tuple(scene.born(s) for s in shape)
    if step.operator.startswith("new_") and given:  # not made like it, but sized by it: sizes tell nothing
        return Reading("creation", step.operator.removeprefix("new_"), [out], born=out)
    return Reading("creation", step.operator, [out], born=tuple(n for n in out if n != 0))


@rule("bernoulli_")
def drawn(scene: Scene, step: Step) -> Reading:
    """Zeros and ones by chance in the place of what was there: what dropout multiplies by."""
    return Reading("elementwise", "dropout", [scene.of(step.arguments[0])])


def opaque(scene: Scene, step: Step) -> Reading:
    """Not understood: its types are shown. All axes of its arrays may matter to it, and those it makes are new."""
    before = tuple(dict.fromkeys(n for i in step.inputs for n in scene.of(i)))
    outs = [tuple(scene.born(s) for s in scene.shape(o)) for o in step.outputs]
    return Reading("opaque", step.operator, outs, contracted=before, born=tuple(n for o in outs for n in o if n != 0))
