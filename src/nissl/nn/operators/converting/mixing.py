"""Calls in a forward that mix positions: which axes they run over, and which of these are of space."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

PRODUCTS = {"matmul", "rmatmul", "bmm", "mm"}
EXTREMES = {"max", "min", "amax", "amin", "argmax", "argmin", "cummax", "cummin", "median", "sort", "topk"}
SHARES = {"softmax", "log_softmax", "mean", "std", "var", "logsumexp"}
SUMS = {"sum", "prod", "cumsum", "cumprod"}
# Without a dim these run over the last axis; the others over all.
LAST = {"sort", "topk"}

Call = tuple[str, str, tuple[int, ...]]


def summed_sizes(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """Sizes of the axes over which a call runs, so that their entries see one another; none where it acts on each by itself."""
    if name == "einsum":
        return _einsum(args)
    tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
    if not tensors:
        return ()
    if name in PRODUCTS:
        return (tensors[-1 if name == "rmatmul" else 0].shape[-1],)
    if name not in EXTREMES | SHARES | SUMS or len(tensors) > 1:  # max of two tensors is one at each point
        return ()
    x, place = tensors[0], 2 if name == "topk" else 1
    dim = kwargs.get("dim", kwargs.get("axis", args[place] if len(args) > place else None))
    if dim is None or isinstance(dim, bool):
        dim = -1 if name in LAST else tuple(range(x.dim()))
    dims = (dim,) if isinstance(dim, int) else tuple(dim) or tuple(range(x.dim()))
    return tuple(x.shape[d] for d in dims) if x.dim() else ()


def _einsum(args: Sequence[Any]) -> tuple[int, ...]:
    if not args or not isinstance(args[0], str):
        return ()
    given = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
    inputs, arrow, output = args[0].replace(" ", "").partition("->")
    counted = Counter(c for c in inputs if c.isalpha())
    sizes: dict[str, int] = {}
    for letters, x in zip(inputs.split(","), given, strict=False):
        before, _, behind = letters.partition("...")
        sizes |= dict(zip(before, x.shape, strict=False))
        sizes |= dict(zip(reversed(behind), reversed(x.shape), strict=False))
    gone = [c for c in counted if (c not in output if arrow else counted[c] > 1)]
    return tuple(sizes[c] for c in gone if c in sizes)


def over_positions(calls: Sequence[Call], finer: Sequence[Call] | None, grid: Sequence[int]) -> list[tuple[str, str]]:
    """Which of these calls run over positions: those whose axes are longer on a finer grid.

    Where the network does not run there, or takes another way, those whose axes are as long as the grid's.
    """
    if finer is not None and [c[:2] for c in calls] == [c[:2] for c in finer]:
        found = [c[:2] for c, other in zip(calls, finer, strict=True) if c[2] != other[2]]
    else:
        sizes = {*grid, math.prod(grid)}
        found = [c[:2] for c in calls if sizes & set(c[2])]
    return list(dict.fromkeys(found))


def reason(name: str) -> str:
    """Why such a call cannot be converted, and for which grids it is right."""
    if name in EXTREMES:
        return f"{name} over positions is called inside the forward: it takes single points, whichever the grid has"
    if name in SHARES:
        return f"{name} over positions is called inside the forward: right for uniform grids, where all points count alike, and for no others"
    return (
        f"{name} over positions is called inside the forward, without quadrature weights: it grows with the number of points, unless the network "
        "divides by it (a softmax or mean over the same positions), and then is right for uniform grids only"
    )
