"""How much can it express? Polynomial pieces of a network along a line, and the dimension of the functions around it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy.polynomial.chebyshev import chebpts1, chebvander
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from nissl.errors import InputError, ModelError
from nissl.evaluation._line import Along

CLOSEST = 1e-10  # knots nearer than this, as a share of the line, count as one
NEGLIGIBLE = 1e-9  # Chebyshev coefficients below this share of the largest count as zero


def spline_pieces(
    model: nn.Module, line: tuple[Any, Any], *, n_points: int = 2049, max_degree: int = 32, batch_size: int = 8192
) -> pd.DataFrame:
    """The polynomial pieces of a network with rectifiers along a straight line through its input space.

    A ReLU network is linear in pieces; with quadratic layers the degree doubles with each; without rectifiers there is one piece. Pieces end where any
    rectifier of the network changes its state, also one that the output does not see.

    Parameters
    ----------
    model
        A module that maps a batch to a batch, made of rectifiers (ReLU, leaky ReLU, as modules or functions) and what keeps polynomials polynomial: affine
        maps, convolutions, sums, products, quadratic layers, average pooling, batch norm at rest. It is evaluated in float64, on a copy.
    line
        Start and stop: two inputs without their batch axis, or two numbers where the input is one number.
    n_points
        Points at which rectifiers are looked at first; where a piece turns out to be no polynomial it is searched as finely again.
    max_degree
        The highest degree looked for.
    batch_size
        Inputs a pass.

    Returns
    -------
    pandas.DataFrame
        A row a piece: `start` and `stop` (the inner ones are the knots), and `degree`, the highest over outputs. For an input of one number they are that
        input; otherwise the columns are `start_fraction` and `stop_fraction`, from 0 to 1 along the line. The degree of a very short piece is what can be told from rounding errors.

    Raises
    ------
    InputError
        A line whose ends are equal, of different shapes or not finite; too few points.
    ModelError
        Another non-linearity (named); output that is not finite, or no polynomial of `max_degree`.

    References
    ----------
    Fan, Li, Wang, Lai, Wang 2023, On Expressivity and Trainability of Quadratic Networks, IEEE TNNLS, arXiv:2110.06081 (spline theorem).

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    >>> with torch.no_grad():
    ...     for parameter in net.parameters():
    ...         _ = parameter.fill_(1.0)
    >>> pieces = spline_pieces(net, (-3.0, 1.0))  # 1 + max(x + 1, 0)
    >>> pieces.degree.tolist(), round(float(pieces.stop[0]), 6)
    ([0, 1], -1.0)
    """
    if n_points < 3 or max_degree < 1 or batch_size < 1:
        raise InputError(
            f"n_points={n_points}, max_degree={max_degree}, batch_size={batch_size}; allowed: from 3, 1 and 1"
        )
    along = Along(model, line, batch_size)
    knots = _knots(along, np.linspace(0, 1, n_points))
    for _ in range(4):
        edges = np.concatenate([[0.0], knots, [1.0]])
        degrees = _degrees(along, edges, max_degree)
        unclear = np.flatnonzero(degrees > max_degree)
        if not len(unclear):
            places, kind = along.places(edges), "" if along.one_number else "_fraction"
            return pd.DataFrame({f"start{kind}": places[:-1], f"stop{kind}": places[1:], "degree": degrees})
        finer = [_knots(along, np.linspace(edges[i], edges[i + 1], n_points)) for i in unclear]
        knots, before = _apart(np.concatenate([knots, *finer])), knots
        if len(knots) == len(before):
            break
    start, stop = edges[unclear[0]], edges[unclear[0] + 1]
    raise ModelError(
        f"between {start:.4g} and {stop:.4g} of the line the output is no polynomial of degree {max_degree}; give a higher max_degree, or more n_points"
    )


@dataclass(frozen=True)
class FunctionalDimension:
    """In how many directions a network's function can be moved by its weights.

    Attributes
    ----------
    rank
        The dimension.
    gap
        Ratio of the last singular value that counts to the first that does not; infinite where none is left.
    singular_values
        Of the Jacobian, falling.
    n_parameters, n_points
        What it was asked of.
    """

    rank: int
    gap: float
    singular_values: Float[np.ndarray, "direction"]
    n_parameters: int
    n_points: int


def functional_dimension(
    model: nn.Module, n_points: int | None = None, *, inputs: Any = None, cutoff: float = 1e-11, seed: int = 0
) -> FunctionalDimension:
    """The dimension of the set of functions that a network can reach by small changes of its weights.

    This is the rank of the Jacobian of its outputs at many inputs with respect to its weights. At random weights of a network without rectifiers
    it is the dimension of the set of all functions of that architecture; elsewhere it is the dimension around these weights.

    Parameters
    ----------
    model
        A module that maps a batch to a batch; evaluated in float64, on a copy.
    n_points
        How many standard normal inputs to draw; enough for twice as many numbers as there are weights where None.
    inputs
        Inputs to use (sample, ...) in their place. Needed where the input is not the width of the first dense layer.
    cutoff
        Singular values below this share of the largest do not count.
    seed
        Of the inputs.

    Returns
    -------
    FunctionalDimension
        With the gap between what counts and what does not: below about 1,000 the rank is uncertain.

    Raises
    ------
    InputError
        No way to tell the input's width, too few points to tell, or a Jacobian of over 2 GiB.
    ModelError
        No weights, or output that is not finite.

    References
    ----------
    Kileel, Trager, Bruna 2019, On the Expressive Power of Deep Polynomial Neural Networks, NeurIPS. Fan and others 2023, arXiv:2110.06081 (dimension
    theorem).

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3))  # 17 weights, maps of rank 2
    >>> functional_dimension(net).rank
    11
    """
    model = copy.deepcopy(model).double().eval()
    weights = {name: p.detach() for name, p in model.named_parameters()}
    total = sum(w.numel() for w in weights.values())
    if not total:
        raise ModelError(f"{type(model).__name__} has no weights")
    if not 0 < cutoff < 1:
        raise InputError(f"cutoff={cutoff}; allowed: between 0 and 1, such as 1e-11")
    device = next(iter(weights.values())).device
    x = torch.as_tensor(inputs, dtype=torch.float64, device=device) if inputs is not None else None
    if x is None:
        width = _width(model)
        points = max(2, 2 * total if n_points is None else n_points)
        x = torch.randn(points, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(device)
    with torch.no_grad():
        per_sample = model(x[:1]).numel()
    if n_points is None and inputs is None:
        x = x[: max(2, -(-2 * total // per_sample))]
    if len(x) * per_sample * total > 2**28:
        raise InputError(
            f"{len(x)} points x {per_sample} outputs x {total} weights take over 2 GiB; give fewer n_points"
        )

    def outputs(weights: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(model, weights, (one[None],))[0].flatten()

    parts = vmap(jacrev(outputs), (None, 0))(weights, x)
    jacobian = torch.cat([part.flatten(2) for part in parts.values()], 2).flatten(0, 1)
    if not jacobian.isfinite().all():
        raise ModelError("the outputs or their slopes are NaN or infinite at these weights and inputs")
    norm = jacobian.norm(dim=1, keepdim=True)
    rows = (jacobian / norm)[norm[:, 0] > 0]
    singular = torch.linalg.svdvals(rows).cpu().numpy() if len(rows) else np.zeros(1)
    rank = int((singular > cutoff * singular[0]).sum())
    if rank == len(rows) < total:
        raise InputError(f"{len(x)} points cannot tell more than {rank} of {total} directions; give more n_points")
    rest = singular[rank] if rank < len(singular) else 0.0
    gap = float(singular[rank - 1] / rest) if rank and rest > 0 else float("inf")
    return FunctionalDimension(rank, gap, singular, total, len(x))


def _width(model: nn.Module) -> int:
    for part in model.modules():
        if isinstance(width := getattr(part, "in_features", None), int):
            return width
        if list(part.parameters(recurse=False)):
            break
    raise InputError(f"the input of {type(model).__name__} is not the width of a dense layer; give inputs=")


def _knots(along: Along, t: np.ndarray) -> np.ndarray:
    """Where rectifiers change between neighbouring places, each found by bisection."""
    states = along(t)[1]
    changed = np.flatnonzero((states[1:] != states[:-1]).any(1))
    low, high, below, above = t[changed], t[changed + 1], states[changed], states[changed + 1]
    while len(low) and (high - low).max() > CLOSEST / 10:
        middle = (low + high) / 2
        now = along(middle)[1]
        left, right = (now == below).all(1), (now == above).all(1)
        # Where the middle is like neither end there is a change on both sides of it.
        keep_left, keep_right = ~left, ~right
        low, high, below, above = (
            np.concatenate([low[keep_left], middle[keep_right]]), np.concatenate([middle[keep_left], high[keep_right]]),
            np.concatenate([below[keep_left], now[keep_right]]), np.concatenate([now[keep_left], above[keep_right]]),
        )  # fmt: skip
    return _apart((low + high) / 2)


def _apart(knots: np.ndarray) -> np.ndarray:
    """In order, each once."""
    knots = np.sort(knots[(knots > CLOSEST) & (knots < 1 - CLOSEST)])
    return knots[np.diff(knots, prepend=-1.0) > CLOSEST]


def _degrees(along: Along, edges: np.ndarray, max_degree: int) -> np.ndarray:
    """Degree of each piece: the last Chebyshev coefficient that is not rounding."""
    n = 2 * max_degree + 2
    nodes = chebpts1(n)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    values = along((middle[:, None] + half[:, None] * nodes).ravel())[0].reshape(len(middle), n, -1)
    coefficients = np.abs(np.einsum("nk,pno->pko", chebvander(nodes, n - 1), values)) * 2 / n
    counts = coefficients > NEGLIGIBLE * coefficients.max(1, keepdims=True)
    counts[:, 0] |= True
    last = n - 1 - counts[:, ::-1].argmax(1)
    return last.max(1)
