"""Is a network a map between functions? What its answers do as the grid is refined, and as points are told twice."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from nissl.errors import InputError, NisslError
from nissl.nn.operators import resample

LEAST_ORDER = 0.5  # below this, errors do not vanish as the grid is refined, as far as a few grids can tell
EXACT = 1e-5  # relative errors below this are rounding
REPEATED = 1e-5


def discretisation_error(
    module: nn.Module | Callable[[Tensor], Tensor],
    field: Tensor,
    sizes: Sequence[int],
    *,
    boundary: str = "periodic",
    reference: Tensor | None = None,
) -> pd.DataFrame:
    """How far a network's answers on coarser grids are from its own on the finest, and how fast that falls.

    Parameters
    ----------
    module
        A network of fields (batch, channel, *grid); its output is a field on the grid or a set fraction of it, or has no grid.
    field
        One fine field, or several, of at least twice as many points as the largest of `sizes`. All grids are subsampled from it: new fields for each
        grid would prove nothing.
    sizes
        Points along each axis, at least two sizes. Their steps must divide those of the fine grid.
    boundary
        Where points lie: `periodic` and `closed` grids are subsampled; `midpoint` grids, whose points are no points of the finer ones, are read by
        straight lines.
    reference
        The answer to compare with, on the fine grid; the network's own if None.

    Returns
    -------
    pandas.DataFrame
        A row a size: `size`, `error` (relative L2 on the points that both grids share), `order` between this size and the one before. The
        order fitted over all sizes is in `attrs["order"]`: NaN where all errors are rounding.

    Raises
    ------
    InputError
        Sizes that do not divide the fine grid or are too few, NaN, or a network that fails on one of the grids; the message says which.

    Notes
    -----
    e_n = ‖G(u_n) - G(u_N)‖ / ‖G(u_N)‖ with N the fine grid, and order p where e_n ~ n^-p. A network that learned pixels has errors that stay or
    grow.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> from nissl.nn.operators import DifferentialConv
    >>> layer = DifferentialConv(1, 1)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[[-0.5, 0.0, 0.5]]]))
    >>> x = torch.sin(2 * torch.pi * torch.arange(512) / 512)[None, None]
    >>> table = discretisation_error(layer, x, [16, 32, 64])
    >>> round(table.attrs["order"], 1)
    2.0
    """
    sizes = _sizes(sizes)
    fine = _check(field, sizes, boundary)
    with torch.no_grad():
        best = _run(module, field, fine) if reference is None else reference
        errors = [_gap(_run(module, _read(field, n, fine, boundary), n), best, n, fine, boundary) for n in sizes]
    steps = np.array(sizes) - (boundary == "closed")
    return _table(sizes, steps, errors)


def _table(sizes: Sequence[int], steps: np.ndarray, errors: Sequence[float]) -> pd.DataFrame:
    values = np.array(errors)
    real = values > EXACT
    with np.errstate(divide="ignore", invalid="ignore"):
        between = -np.diff(np.log(values)) / np.diff(np.log(steps))
    table = pd.DataFrame({"size": sizes, "error": values, "order": np.r_[np.nan, between]})
    table.loc[~real, "order"] = np.nan
    order = -np.polyfit(np.log(steps[real]), np.log(values[real]), 1)[0] if real.sum() >= 2 else math.nan
    table.attrs["order"] = float(order)
    return table


@dataclass(frozen=True)
class Agnostic:
    """Whether a network is a map between functions.

    Attributes
    ----------
    holds
        All that could be tested was passed.
    table
        What `discretisation_error` gave; None where the network failed on another grid.
    order
        Fitted order of convergence; NaN where all errors are rounding.
    repeated
        Relative change when some points are given twice with half their weight; None where the network takes no weights.
    reason
        What failed, in words; empty where nothing did.
    """

    holds: bool
    table: pd.DataFrame | None
    order: float
    repeated: float | None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.holds


def is_discretisation_agnostic(
    module: nn.Module,
    field: Tensor,
    sizes: Sequence[int],
    *,
    boundary: str = "periodic",
    points_axis: int | None = None,
    tolerance: float = 0.1,
) -> Agnostic:
    """Test the definition: any grid is accepted, answers converge as it is refined, and only a point's weight counts, not how often it is told.

    Parameters
    ----------
    module
        A network, as for `discretisation_error`. Where its `forward` has a parameter `weights` (the quadrature weights of the points), it is also
        called with some points told twice, with half their weight each.
    field, sizes, boundary
        As for `discretisation_error`.
    points_axis
        Which axis of the field holds the points: 2 for (batch, channel, point), 1 for (batch, point, channel), which also is the axis that is
        subsampled. All axes after the channels if None.
    tolerance
        Largest relative error on the coarsest of `sizes`, which therefore should be the training grid; a smaller size is judged as strictly.

    Returns
    -------
    Agnostic
        True or false as a truth value, with the table and the reason.

    Raises
    ------
    InputError
        A field or sizes that cannot be used. That the network fails on another grid is an answer, and no error.

    Notes
    -----
    Convergence alone is not enough. The taps of an ordinary convolution move together as the grid is refined, so it converges too, but to a map
    that acts at single points and is not what was trained. Therefore the error on the training grid must be small as well. It depends on the
    field: give one like those that the network is meant for.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> from nissl.nn.operators import to_neural_operator
    >>> x = torch.sin(2 * torch.pi * 3 * torch.arange(512) / 512)[None, None]
    >>> cnn = nn.Conv1d(1, 1, 9, padding=4, padding_mode="circular")
    >>> with torch.no_grad():
    ...     _ = cnn.weight.copy_(torch.linspace(-1, 1, 9))
    >>> bool(is_discretisation_agnostic(cnn, x, [32, 64, 128]))
    False
    >>> operator, _ = to_neural_operator(cnn, [32], boundary="periodic")
    >>> bool(is_discretisation_agnostic(operator, x, [32, 64, 128]))
    True
    """
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance={tolerance!r}; allowed: a relative error between 0 and 1")
    turned = points_axis == 1
    run = _Turned(module) if turned else module
    given = field.transpose(1, 2) if turned else field
    sizes = _sizes(sizes)
    _check(given, sizes, boundary)
    try:
        table = discretisation_error(run, given, sizes, boundary=boundary)
    except (NisslError, RuntimeError) as error:
        return Agnostic(False, None, math.nan, None, f"another grid is not accepted: {error}")
    order = table.attrs["order"]
    repeated, reason = _repeated(module, field, points_axis), ""
    falls = table.error.iloc[-1] <= EXACT or order >= LEAST_ORDER
    if not falls:
        reason = f"errors do not vanish as the grid is refined: order {order:.2f}, error {table.error.iloc[-1]:.3g} at {sizes[-1]} points"
    elif table.error.iloc[0] > tolerance:
        reason = f"on {sizes[0]} points the answer differs by {table.error.iloc[0]:.3g} from what it converges to"
    elif repeated is not None and repeated > REPEATED:
        reason = f"points given twice with half the weight change the answer by {repeated:.3g}"
    return Agnostic(not reason, table, order, repeated, reason)


class _Turned(nn.Module):
    """A network of (batch, point, channel) as one of (batch, channel, point)."""

    def __init__(self, module: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        y = self.module(x.transpose(1, 2))
        return y.transpose(1, 2) if y.dim() == 3 else y


def _repeated(module: nn.Module, field: Tensor, points_axis: int | None) -> float | None:
    """Relative change when some points are told twice; weights and points are drawn, so that nothing cancels."""
    forward = module.forward if isinstance(module, nn.Module) else module
    axis = 2 if points_axis is None else points_axis
    if "weights" not in inspect.signature(forward).parameters or field.dim() != 3:
        return None
    count = min(field.shape[axis], 256)
    some = field.narrow(axis, 0, count)
    generator = torch.Generator().manual_seed(0)
    weights = 0.5 + torch.rand(count, generator=generator).to(some)
    times = 1 + torch.randint(2, (count,), generator=generator).to(some.device)  # some points once, some twice
    with torch.no_grad():
        try:
            once = _tensor(module(some, weights=weights))
            told = some.repeat_interleave(times, axis)
            twice = _tensor(module(told, weights=(weights / times).repeat_interleave(times)))
        except InputError:  # it says itself that it takes uniform grids only
            return None
    if twice.shape != once.shape:
        there = next(i for i, (a, b) in enumerate(zip(once.shape, twice.shape, strict=True)) if a != b)
        twice = twice.index_select(there, times.cumsum(0) - times)
    return float((twice - once).norm() / once.norm().clamp(min=1e-30))


def _run(module: Callable[[Tensor], Any], x: Tensor, n: int) -> Tensor:
    try:
        out = _tensor(module(x))
    except NisslError as error:
        raise InputError(f"the network fails on {n} points: {error}") from error
    except Exception as error:  # whatever a stranger's forward raises
        raise InputError(
            f"the network fails on {n} points: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    if not torch.isfinite(out).all():
        raise InputError(f"the network's answer on {n} points holds NaN or infinite values")
    return out


def _tensor(out: Any) -> Tensor:
    if not isinstance(out, Tensor):
        raise InputError(
            f"the network's answer is {type(out).__name__}; a tensor is needed: wrap it in a module that gives one"
        )
    return out


def _read(field: Tensor, n: int, fine: int, boundary: str) -> Tensor:
    if boundary == "midpoint":
        return resample(field, n, "linear", boundary="midpoint")
    step = (fine - 1) // (n - 1) if boundary == "closed" else fine // n
    return field[(slice(None), slice(None), *(slice(None, None, step),) * (field.dim() - 2))].contiguous()


def _gap(coarse: Tensor, best: Tensor, n: int, fine: int, boundary: str) -> float:
    """Relative L2 distance on shared points; outputs on a fraction of the grid share a fraction of them."""
    if coarse.shape != best.shape:
        m, whole, less = coarse.shape[-1], best.shape[-1], int(boundary == "closed")
        fits = coarse.dim() == best.dim() > 2 and coarse.shape[:2] == best.shape[:2] and m > less
        if not fits or (whole - less) * (n - less) != (m - less) * (fine - less):
            raise InputError(
                f"the answer has shape {tuple(coarse.shape)} on {n} points and {tuple(best.shape)} on {fine}; allowed: a field on the same "
                "fraction of the grid, or one without a grid"
            )
        best = _read(best, m, whole, boundary)
    return float((coarse - best).norm() / best.norm().clamp(min=1e-30))


def _sizes(sizes: Any) -> list[int]:
    if isinstance(sizes, int) or not isinstance(sizes, Sequence | np.ndarray) or not len(sizes):
        raise InputError(f"sizes={sizes!r}; allowed: at least two sizes, such as [16, 32, 64]")
    return sorted(int(n) for n in sizes)


def _check(field: Tensor, sizes: Sequence[int], boundary: str) -> int:
    """The fine grid's size, after what can be known before the network runs."""
    if not isinstance(field, Tensor) or field.dim() < 3 or not field.is_floating_point():
        given = tuple(field.shape) if isinstance(field, Tensor) else type(field).__name__
        raise InputError(f"the field is {given}; allowed: a floating-point tensor (batch, channel, *grid)")
    if not torch.isfinite(field).all():
        raise InputError("the field holds NaN or infinite values; mend or mask them first")
    if boundary not in ("periodic", "closed", "midpoint"):
        raise InputError(f"boundary={boundary!r}; allowed: periodic, closed, midpoint")
    fine = field.shape[2]
    if any(n != fine for n in field.shape[2:]):
        raise InputError(f"the fine grid has {tuple(field.shape[2:])} points; all axes must have as many")
    less = int(boundary == "closed")
    if len(set(sizes)) < 2 or min(sizes) < 2:
        raise InputError(f"sizes={list(sizes)}; allowed: at least two different sizes of at least 2 points")
    bad = [n for n in sizes if 2 * (n - less) > fine - less or (boundary != "midpoint" and (fine - less) % (n - less))]
    if bad:
        raise InputError(
            f"sizes {bad} cannot be subsampled from {fine} points: "
            + (f"size - 1 must divide {fine - 1}" if less else f"each must divide {fine}")
            + " and be at most half of it"
        )
    return fine
