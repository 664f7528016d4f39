"""What the targets of operations run: torch's own operators by name, and the derivative of one of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from nissl.diagrams._steps import STEPS, run_steps
from nissl.errors import DiagramError

VJP = "nissl.vjp"  # the derivative of one operator, transposed, by torch.func.vjp
SHAPE = "shape"  # ("shape", torch.float32, 2, 3) in its arguments: an array whose numbers do not matter
_FORBIDDEN = ("from_file", "save", "load", "record_stream")


@lru_cache(maxsize=4096)
def operator(target: str) -> Callable[..., Any]:
    """The torch operator that a name such as `aten.softmax.int` stands for. What writes in place becomes what does not.

    Raises
    ------
    DiagramError
        No operator of this name is registered, or it reaches outside the program.

    Examples
    --------
    >>> operator("aten.relu_.default")(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    if target == VJP:
        return vjp
    if target == STEPS:
        return _steps
    parts = target.split(".") if isinstance(target, str) else [""]
    if parts[0] in ("_operator", "operator") and len(parts) == 2 and parts[1] in _PYTHON:
        return _PYTHON[parts[1]]
    if (
        len(parts) not in (2, 3)
        or not all(re.fullmatch(r"\w+", p) for p in parts)
        or any(f in parts for f in _FORBIDDEN)
    ):
        raise DiagramError(
            f"{target!r} is no operator that a diagram may run; allowed: names such as 'aten.softmax.int'"
        )
    space, name, overload = (*parts, "default")[:3]
    packet = getattr(getattr(torch.ops, space), name, None) if space in _spaces() else None
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        raise DiagramError(f"no operator {target!r} is registered with torch; load the library that brings it first")
    plain = getattr(getattr(torch.ops, space), name[:-1], None) if re.fullmatch(r".*[a-z0-9]_", name) else None
    found = getattr(plain, overload, None) or getattr(packet, overload, None)
    if not isinstance(found, torch._ops.OpOverload):
        raise DiagramError(
            f"operator {space}.{name} has no overload {overload!r}; allowed: {', '.join(packet.overloads())}"
        )
    return found


def draws(target: str) -> bool:
    """Whether an operator's numbers do not follow from what it takes: they are drawn at random, or left unset."""
    unset = target.startswith(("aten.empty", "aten.new_empty"))
    return unset or (bool(target) and torch.Tag.nondeterministic_seeded in getattr(operator(target), "tags", ()))


_PYTHON: dict[str, Callable[..., Any]] = {
    "getitem": lambda a, i: a[i],
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "truediv": lambda a, b: a / b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "neg": lambda a: -a,
}


def _steps(steps: Sequence[Sequence[Any]], result: str) -> Tensor:
    """Several operators, each of which must be one that a diagram may run."""
    for _, target, *_ in steps:
        if target != "aten.tensor.default":  # numbers that are written out
            operator(target)
    return run_steps(steps, result)


def _spaces() -> set[str]:
    return {name.split("::")[0] for name in torch._C._dispatch_get_all_op_names()}


def vjp(
    target: str, arguments: Sequence[Any], wrt: Sequence[int], grads: Sequence[Tensor | None], **options: Any
) -> Tensor | tuple[Tensor, ...]:
    """Gradients of one operator's outputs, carried back to some of its tensors.

    Parameters
    ----------
    target
        Name of the operator.
    arguments
        Its arguments; what stands as `("shape", ...)` becomes zeros, since the derivative does not depend on it.
    wrt
        Which tensors among the arguments, counted as they come.
    grads
        One for each output; None where nothing comes back.
    """
    like = next(g for g in grads if g is not None)
    places: list[Tensor] = []

    def collected(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            if value and value[0] == SHAPE:
                value = like.new_zeros([int(n) for n in value[2:]], dtype=value[1])
            else:
                return type(value)(collected(v) for v in value)
        if isinstance(value, Tensor):
            places.append(value)
            return _Place(len(places) - 1)
        return value

    frame = collected(tuple(arguments))
    if not all(0 <= i < len(places) for i in wrt):
        raise DiagramError(f"the derivative of {target} is asked for tensors {list(wrt)}; it has {len(places)}")

    def run(*chosen: Tensor) -> Any:
        given = list(places)
        for index, tensor in zip(wrt, chosen, strict=True):
            given[index] = tensor
        result = operator(target)(*_filled(frame, given), **options)
        results = result if isinstance(result, (tuple, list)) else (result,)
        return tuple(r for r, g in zip(results, grads, strict=False) if g is not None)

    _, back, *_ = torch.func.vjp(run, *(places[i] for i in wrt))
    found = back(tuple(g for g in grads if g is not None))
    return found if len(found) > 1 else found[0]


class _Place(int):
    """Where a tensor goes among arguments."""


def _filled(frame: Any, tensors: Sequence[Tensor]) -> Any:
    if isinstance(frame, _Place):
        return tensors[frame]
    if isinstance(frame, (tuple, list)):
        return type(frame)(_filled(f, tensors) for f in frame)
    return frame


def rearranged(x: Tensor, before: Sequence[str], after: Sequence[str], sizes: Mapping[str, int]) -> Tensor | None:
    """One array with its axes in another order, more of them, or bound and unbound; None where names do not tell how.

    Axes of one name are the same wire: where all stay, they are permuted; where only new ones come, they are copies; where some
    are bound or unbound, the others must keep their order.
    """
    if len(set(before)) < len(before) or len(set(after)) < len(after):
        return None
    if set(before) == set(after):
        return x.permute([before.index(a) for a in after])
    shape = [sizes[a] for a in after]
    kept = [a for a in after if a in before]
    if set(before) < set(after):
        order = x.permute([before.index(a) for a in kept])
        return order[tuple(slice(None) if a in before else None for a in after)].expand(shape)
    if kept == [a for a in before if a in after] and _between(before, kept, sizes) == _between(after, kept, sizes):
        return x.reshape(shape)
    return None


def _between(axes: Sequence[str], kept: Sequence[str], sizes: Mapping[str, int]) -> list[int]:
    """How many numbers lie between those axes that stay: where it is the same before and after, only neighbours are bound."""
    found = [1]
    for axis in axes:
        if axis in kept:
            found.append(1)
        else:
            found[-1] *= sizes[axis]
    return found
