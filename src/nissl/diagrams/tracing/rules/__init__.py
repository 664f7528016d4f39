"""What operators do with axes: a rule an operator, by family."""

from nissl.diagrams.tracing.record import Step
from nissl.diagrams.tracing.rules import elementwise, keeping, making, moving, picking, products, space
from nissl.diagrams.tracing.rules.rule import RULES, Reading, Scene, places

__all__ = ["Reading", "Scene", "places", "read"]

_FAMILIES = (elementwise, keeping, making, moving, picking, products, space)


def read(scene: Scene, step: Step) -> Reading:
    """What a step does with axes: by its own rule, as an elementwise operator where torch marks it so, else opaque."""
    rule = RULES.get(step.operator) if step.target.startswith("aten.") else None
    if rule is not None:
        return rule(scene, step)
    if step.pointwise:
        return elementwise.elementwise(scene, step)
    return making.opaque(scene, step)
