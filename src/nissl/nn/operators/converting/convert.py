"""The converter: from a torch module to the operator of which it is a sample."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nissl.axes import Axis
from nissl.errors import InputError, ModelError, unknown
from nissl.nn.operators._checks import check_finite
from nissl.nn.operators.converting.domain import Domain, Grid
from nissl.nn.operators.converting.mixing import over_positions, reason
from nissl.nn.operators.converting.points import PositionTable
from nissl.nn.operators.converting.reading import make_example, read_domain
from nissl.nn.operators.converting.rules import Rules
from nissl.nn.operators.converting.tracing import first_failure, trace
from nissl.nn.operators.discretisation import Discretisation

LAYOUTS = ("channels", "points")
KERNELS = ("hats", "points")
GAP = 1e-5  # largest difference on the training grid, by the size of the output


class NeuralOperator(nn.Module):
    """A converted network: the same weights on every uniform grid of its domain, and on any points where its layers allow it.

    Made by `to_neural_operator`; the report of the conversion is in `report`.

    Parameters
    ----------
    module
        The network, with its layers replaced.
    domain
        What its layers know together.
    layout
        `channels` for inputs (batch, channel, *grid), `points` for (batch, point, channel).

    Notes
    -----
    A grid of n points has the spacing h = L/n (periodic, midpoint) or L/(n-1) (closed), L the length of the domain. A layer that was
    trained with spacing h₀ of its own reads its kernels, windows and tables, as functions, with ratio h/h₀; at h = h₀ it is the layer as
    it was.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> cnn = nn.Conv1d(1, 1, 5, padding=2, padding_mode="circular")
    >>> operator, report = to_neural_operator(cnn, [Axis.uniform("x", 32, boundary="periodic")])
    >>> operator(torch.randn(1, 1, 128)).shape
    torch.Size([1, 1, 128])
    """

    report: pd.DataFrame

    def __init__(self, module: nn.Module, domain: Domain, layout: str = "channels") -> None:
        super().__init__()
        self.module, self.domain, self.layout = module, domain, layout

    def forward(self, x: Tensor, *args: Any, weights: Tensor | Discretisation | None = None, **kwargs: Any) -> Any:
        """The network's answer.

        Parameters
        ----------
        x
            The field; its grid is uniform on the domain, unless weights are given.
        weights
            Quadrature weights of its points, or their discretisation, where they form no uniform grid.
        *args, **kwargs
            Passed on.
        """
        n = len(self.domain.grid)
        expected = n + 2 if self.layout == "channels" else 3
        if not isinstance(x, Tensor) or x.dim() != expected:
            given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"the network takes fields of {expected} axes ({self.layout} layout, {n} of space); given {given}"
            )
        grid: Grid = tuple(x.shape[2:]) if self.layout == "channels" else (x.shape[1],)
        if isinstance(weights, Discretisation):
            weights = weights.weights
        if weights is None and min(grid) < 2 and grid != self.domain.grid:
            raise InputError(f"a grid of {grid} points has an axis without neighbours; at least two are needed")
        if weights is not None:
            if weights.dim() != 1 or len(weights) != math.prod(grid):
                raise InputError(
                    f"weights of shape {tuple(weights.shape)} for {math.prod(grid)} points; give one for each"
                )
            weights = weights.to(x)
        with self.domain.at(grid, weights):
            return self.module(x, *args, **kwargs)

    def extra_repr(self) -> str:
        """Domain and layout."""
        d = self.domain
        return f"trained on {d.grid} points, spacing {', '.join(f'{h:g}' for h in d.spacing)} {d.unit}, {d.boundary}, layout={self.layout!r}"


def to_neural_operator(
    module: nn.Module,
    axes: Sequence[Axis | int | float],
    *,
    boundary: str | None = None,
    example: Tensor | None = None,
    layout: str = "channels",
    dense: bool = False,
    patches: bool = False,
    kernel: str = "hats",
) -> tuple[NeuralOperator, pd.DataFrame]:
    """Turn an ordinary network into an operator on functions, with its trained weights.

    Parameters
    ----------
    module
        Any torch module of one field; it is copied, and not changed.
    axes
        The grid it was trained on, an entry an axis of space: an `Axis` of uniform points, a whole number of points on a domain of
        length 1, or, as a float, the spacing, where `example` has the sizes.
    boundary
        Where the points lie: `periodic`, `closed` (points on both ends) or `midpoint` (middles of pixels). Read from the axes where they
        are `Axis` objects; `midpoint` otherwise, if nothing is said.
    example
        A field on the training grid. Needed where the number of channels cannot be read off the first layer.
    layout
        `channels`: fields are (batch, channel, *grid); `points`: (batch, point, channel), for transformers.
    dense
        Also take dense layers over all channels and points (flatten, then Linear) for integrals.
    patches
        Convolutions whose stride is their size (the patch embedding of a vision transformer) keep their number of patches on every grid, and
        their tables of positions with it. Otherwise they keep their stride, and finer grids have more of them.
    kernel
        What a tap of a convolution or of average pooling becomes. `hats`: an average around its place, as wide as the trained spacing, which keeps what
        is finer than the training grid from being misread, but blurs a little in every layer. `points`: the field at its place, which is exact for fields
        that the training grid can show, and better for deep networks of sharp images.

    Returns
    -------
    NeuralOperator, pandas.DataFrame
        The operator, in evaluation mode, and a row for each layer that was replaced, knowingly `kept`, or, with nothing under
        `replaced by`, could not be converted: path, layer, replaced by, reason.

    Raises
    ------
    InputError
        Axes that are not uniform or do not fit the example, boundaries that contradict each other, or a network that does not run on its own
        training grid.
    ModelError
        The converted network differs from the original on the training grid.

    Notes
    -----
    The network is run once on its training grid, so that each layer's own spacing is known, and once on a grid twice as fine, so that what fails
    there is named. Replaced: convolutions and pooling with more than one tap (kernels become hat functions of physical width), transposed
    convolutions and layers whose padding changes the domain (resampled to their training grid), adaptive pooling, norms over space,
    attention, tables of positions, upsampling to fixed sizes. Whatever acts at single points stays. Functions in a forward that run over positions
    (products, softmax, means, sums, ...) stay too, and have a row each, with nothing under `replaced by`.

    References
    ----------
    Berner, Liu-Schiaffini, Kossaifi and others 2025, Principled Approaches for Extending Neural Architectures to Function
    Spaces for Operator Learning.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 1, 1))
    >>> operator, report = to_neural_operator(net, [32, 32])
    >>> report[["path", "replaced by"]].values.tolist()
    [['0', 'HatConv'], ['2', 'RadiusAverage']]
    >>> x = torch.randn(1, 1, 32, 32)
    >>> torch.equal(operator(x), net(x)), operator(torch.randn(1, 1, 96, 96)).shape
    (True, torch.Size([1, 1, 48, 48]))
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    if kernel not in KERNELS:
        raise unknown("kernel", kernel, KERNELS)
    domain = read_domain(axes, boundary, example, layout)
    domain.kernel = kernel
    copied = copy.deepcopy(module).eval()
    if example is None:
        example = make_example(copied, domain, layout)
    check_finite(example, "the example")
    if (failure := first_failure(copied, lambda: copied(example))) is not None:
        where = f"{failure[0]} ({type(failure[1]).__name__})" if failure[0] else type(copied).__name__
        raise InputError(
            f"the network does not run on a field of shape {tuple(example.shape)}: {where} says {failure[2]!r}; give `example`"
        )
    with torch.no_grad():
        before = copied(example)
    rules = Rules(domain, trace(copied, example), dense, patches)
    _name_mixing(copied, rules, example, layout)
    converted = _walk(copied, rules, layout, example)
    operator = NeuralOperator(converted, domain, layout).eval()
    _check_same(before, operator, example)
    _try_finer(operator, rules, example)
    operator.report = pd.DataFrame(rules.rows, columns=["path", "layer", "replaced by", "reason"])
    return operator, operator.report


def _name_mixing(module: nn.Module, rules: Rules, example: Tensor, layout: str) -> None:
    """A row for each function in a forward that runs over positions: told by axes that grow with the grid."""
    try:
        finer = trace(module, _finer(rules.domain, example, layout)).mixing
    except Exception:  # whatever a stranger's forward raises on a grid that it was not made for
        finer = None
    for path, name in over_positions(rules.seen.mixing, finer, rules.domain.grid):
        rules.rows.append({"path": path, "layer": f"function {name}", "replaced by": "", "reason": reason(name)})


def _finer(domain: Domain, example: Tensor, layout: str) -> Tensor:
    """Noise on twice the grid."""
    less, (batch, *rest) = domain.closed, example.shape
    finer = [2 * (n - less) + less for n in domain.grid]
    shape = (batch, rest[0], *finer) if layout == "channels" else (batch, *finer, rest[1])
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(example)


def _walk(module: nn.Module, rules: Rules, layout: str, example: Tensor) -> nn.Module:
    """Replace layers from the leaves up; what was met before is replaced by the same."""
    done: dict[int, tuple[str, nn.Module]] = {}

    def visit(path: str, layer: nn.Module) -> nn.Module:
        if id(layer) in done:
            first, new = done[id(layer)]
            rules.again(path, layer, first)
            return new
        new = rules.replace(path, layer)
        done[id(layer)] = path, new or layer
        if new is not None:
            return new
        if not isinstance(layer, nn.MultiheadAttention):
            for name, child in list(layer._modules.items()):  # named_children would leave out what it met before
                if child is not None:
                    layer._modules[name] = visit(f"{path}.{name}" if path else name, child)
        for name, table in list(layer.named_parameters(recurse=False)):
            _table(layer, name, table, f"{path}.{name}" if path else name, rules, layout)
        return layer

    for path, name in rules.seen.functions:
        why = f"{name} is called inside the forward, where it cannot be replaced; use the module of that name"
        if name == "scaled_dot_product_attention":
            why = "attention is called inside the forward: right for uniform grids, where all points count alike, and for no others"
        rules.rows.append({"path": path, "layer": f"function {name}", "replaced by": "", "reason": why})
    return visit("", module)


def _table(layer: nn.Module, name: str, table: Tensor, path: str, rules: Rules, layout: str) -> None:
    """A parameter of a module that is not torch's own, with the grid's sizes among its axes, is a table of positions."""
    if type(layer).__module__.startswith("torch.nn") or table.dim() < 2:
        return
    grid, points = rules.domain.grid, math.prod(rules.domain.grid)
    n = len(grid)
    if layout == "channels" and tuple(table.shape[-n:]) == grid and table.dim() > n:
        axes, flat = tuple(range(table.dim() - n, table.dim())), False
    elif table.dim() in (2, 3) and table.shape[-2] == points:
        axes, flat = (table.dim() - 2,), True
    elif table.dim() in (2, 3) and table.shape[-2] == points + 1:
        why = f"{points} positions and one more that is none; keep the extra token's in a parameter of its own"
        rules.rows.append({"path": path, "layer": "Parameter", "replaced by": "", "reason": why})
        return
    else:
        return
    parametrize.register_parametrization(layer, name, PositionTable(rules.domain, axes, flat, path))
    why = "a row for each point: samples of a function of position"
    rules.rows.append({"path": path, "layer": "Parameter", "replaced by": "PositionTable", "reason": why})


def _check_same(before: Any, operator: NeuralOperator, example: Tensor) -> None:
    with torch.no_grad():
        after = operator(example)
    pairs = [(before, after)] if isinstance(before, Tensor) else []
    for one, other in pairs:
        gap, size = (one - other).abs().max().item(), max(one.abs().max().item(), 1.0)
        if not gap <= GAP * size:
            raise ModelError(
                f"the converted network differs from the original by {gap:.3g} on the training grid; please report it"
            )


def _try_finer(operator: NeuralOperator, rules: Rules, example: Tensor) -> None:
    """Run once on twice the grid; what fails there and has no row yet gets one."""
    field = _finer(rules.domain, example[:1], operator.layout)
    finer = field.shape[2:] if operator.layout == "channels" else field.shape[1:2]
    failure = first_failure(operator, lambda: operator(field))
    failed = {row["path"] for row in rules.rows if not row["replaced by"]}
    if failure is not None:
        path = failure[0].removeprefix("module").removeprefix(".").removesuffix(".original")
        if path not in failed:
            why = f"fails on a finer grid of {tuple(finer)}: {failure[2]}"
            rules.rows.append({"path": path, "layer": type(failure[1]).__name__, "replaced by": "", "reason": why})
