"""Several operators as one: how what depends on sizes alone (a mask, positions) stands in a diagram as one operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

STEPS = "nissl.steps"


def run_steps(steps: Sequence[Sequence[Any]], result: str) -> Tensor:
    """Run operators one after another.

    Parameters
    ----------
    steps
        Each (names of its outputs, operator, arguments, pairs of options); `%name` in arguments stands for an earlier output.
    result
        Name of the output that is wanted.

    Examples
    --------
    >>> run_steps([(("a",), "aten.arange.default", (3,), ()), (("b",), "aten.add.Tensor", ("%a", 1), ())], "b")
    tensor([1, 2, 3])
    """
    values: dict[str, Any] = {}

    def filled(x: Any) -> Any:
        if isinstance(x, str) and x.startswith("%"):
            return values[x[1:]]
        if isinstance(x, str) and x.startswith("torch."):
            return getattr(torch, x.removeprefix("torch."))
        return [filled(v) for v in x] if isinstance(x, tuple | list) else x

    for outputs, target, arguments, options in steps:
        if target == "aten.tensor.default":
            made: Any = torch.tensor(filled(arguments[0]), **{k: filled(v) for k, v in options})
        else:
            space, name, overload = target.split(".")
            operator = getattr(getattr(getattr(torch.ops, space), name), overload)
            made = operator(*(filled(a) for a in arguments), **{k: filled(v) for k, v in options})
        values.update(zip(outputs, made if isinstance(made, tuple | list) else (made,), strict=False))
    return values[result]
