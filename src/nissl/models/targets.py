"""Targets: what number of the output is to be explained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from nissl.errors import InputError, unknown
from nissl.models.inputs import Inputs
from nissl.models.outputs import main_tensor

if TYPE_CHECKING:
    from nissl.models.model import Model


@dataclass(frozen=True)
class Target:
    """One number a sample, read off a network's output.

    Attributes
    ----------
    label
        What it is called in figures and coordinates.
    index
        Class (or next token) of each sample, shape `(sample,)`; None for callables.
    function
        From the module's output to one number a sample; None for classes.
    """

    label: str
    index: Int[Tensor, "sample"] | None = None
    function: Callable[[Any], Tensor] | None = None

    def score(self, output: Any, inputs: Inputs) -> Float[Tensor, "sample"]:
        """The number of each sample, differentiable; `inputs` are those of the pass that gave `output`."""
        if self.function is not None:
            return _checked(self.function(output))
        assert self.index is not None
        scores = class_scores(output, inputs)
        count, index = scores.shape[-1], self.index.to(scores.device)
        if int(index.max()) >= count or int(index.min()) < -count:
            raise InputError(
                f"class {int(index.abs().max())} does not exist; the output has {count}, so 0 to {count - 1}"
            )
        return scores.gather(-1, (index % count)[:, None])[:, 0]

    def take(self, rows: slice | Tensor) -> Target:
        """The same target for some of the samples, or for copies of them."""
        return self if self.index is None else replace(self, index=self.index[rows])


def resolve_target(model: Model, target: Any, inputs: Inputs) -> list[Target]:
    """Targets from what a person writes.

    Parameters
    ----------
    model, inputs
        The network and the batch whose output is to be explained.
    target
        - a class name, or an index: that class for every sample (for language models: the next token, a string or an
          id, read at each
          sample's last real position);
        - an integer array or tensor of shape `(sample,)`: each sample's own class;
        - a callable from the module's output to a scalar a sample;
        - None: each sample's top class (costs one forward pass);
        - a list of these: several targets.

    Raises
    ------
    UnknownNameError, InputError
        No such class (with the nearest names), an index out of range, an array of the wrong length, an output without
        classes.
    """
    if isinstance(target, list | tuple):
        if not target:
            raise InputError("an empty list of targets; name at least one class")
        return [one for t in target for one in resolve_target(model, t, inputs)]
    if callable(target):
        return [Target(getattr(target, "__name__", "target"), function=target)]  # type: ignore[arg-type]
    if target is None:
        with torch.no_grad(), model.evaluating():
            top = class_scores(model.forward(inputs), inputs).argmax(-1)
        return [_from_index(model, top)]
    if isinstance(target, Tensor | np.ndarray) and np.ndim(target) == 1:
        index = torch.as_tensor(target, device=inputs.main.device)
        if len(index) != inputs.n or index.is_floating_point():
            raise InputError(
                f"{len(index)} targets of type {index.dtype} for {inputs.n} samples; give one integer a sample"
            )
        return [_from_index(model, index.long())]
    single = _index(model, target.item() if isinstance(target, Tensor | np.generic | np.ndarray) else target)
    return [_from_index(model, torch.full((inputs.n,), single, device=inputs.main.device))]


def class_scores(output: Any, inputs: Inputs) -> Float[Tensor, "sample class"]:
    """The scores of all classes, before the softmax; for sequences those at each sample's last real position."""
    scores = main_tensor(output)
    if scores is None or scores.dim() < 2:
        shape = None if scores is None else tuple(scores.shape)
        raise InputError(f"the output has no classes (shape {shape}); give a callable on the output as target")
    if scores.dim() == 3 and inputs.kind == "text":
        last = (inputs.lengths - 1).to(scores.device) if inputs.mask is None else _last_real(inputs.mask)
        return scores[torch.arange(len(scores), device=scores.device), last]
    if scores.dim() != 2:
        raise InputError(
            f"an output of shape {tuple(scores.shape)} has no one score a class; give a callable on the output as target"
        )
    return scores


def _last_real(mask: Tensor) -> Tensor:
    positions = torch.arange(mask.shape[1], device=mask.device)
    return (mask * positions).argmax(1)


def _from_index(model: Model, index: Int[Tensor, "sample"]) -> Target:
    labels = list(dict.fromkeys(_label(model, i) for i in index.tolist()))
    return Target(labels[0] if len(labels) == 1 else "each sample's own", index)


def _checked(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError(
            f"the target returned {type(value).__name__}; it must return a tensor with one number a sample"
        )
    value = value[None] if value.dim() == 0 else value
    if value.dim() != 1:
        raise InputError(f"the target returned shape {tuple(value.shape)}; it must return one number a sample")
    return value


def _index(model: Model, target: Any) -> int:
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise InputError(
            f"target {target!r} is {type(target).__name__}; allowed: a class name, an index, a callable on the output, "
            "an integer array (one class a sample), or a list of these"
        )
    if model.classes is None and isinstance(target, str) and model.tokenizer is not None:
        return _token(model, target)
    return model.class_index(target)


def _token(model: Model, text: str) -> int:
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        pieces = model.token_strings(list(ids))
        raise unknown("token", text, pieces, hint=f"the tokenizer splits it into {pieces}; a target is one token")
    return int(ids[0])


def _label(model: Model, index: int) -> str:
    if model.classes is not None and -len(model.classes) <= index < len(model.classes):
        return model.classes[index]
    if model.tokenizer is not None and model.classes is None:
        return model.token_strings([index])[0]
    return str(index)
