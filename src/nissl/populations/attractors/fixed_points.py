"""Where does a recurrent network come to rest? Fixed points from visited states, with the spectrum of the Jacobian at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor, nn

from nissl.errors import InputError, ModelError

Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class FixedPoints:
    """Fixed points of a network.

    Attributes
    ----------
    points
        Dataset over `point`: state (point, unit); q, half the squared speed that is left; eigenvalue (point, mode), complex and
        largest first, of the Jacobian; stable, whether small disturbances die out; found, how many starts led there.
    n_starts
        States that the search began from.
    n_lost
        Those from which no point slow enough was reached.
    """

    points: xr.Dataset
    n_starts: int
    n_lost: int

    def __len__(self) -> int:
        return self.points.sizes["point"]

    def __str__(self) -> str:
        stable = int(self.points.stable.sum())
        return f"{len(self)} fixed points ({stable} stable) from {self.n_starts} starts, {self.n_lost} of which led nowhere"


def fixed_points(
    rnn: nn.Module | Step,
    states: Any,
    *,
    inputs: Any = None,
    continuous: bool = False,
    n_starts: int = 64,
    jitter: float = 0.0,
    tolerance: float = 1e-12,
    merge: float = 1e-3,
    max_iter: int = 300,
    seed: int = 0,
) -> FixedPoints:
    """Fixed points of a recurrent network, by minimising ``q(x) = |F(x) - x|^2 / 2`` from states it has visited.

    All starts are followed together by damped Gauss-Newton steps with exact Jacobians (Sussillo and Barak 2013 use gradient descent,
    which is slower near the end).

    Parameters
    ----------
    rnn
        `nn.RNN`, `nn.GRU`, `nn.LSTM` of one layer and direction, their cells, or any function from states `(state, unit)` to the
        next ones. The state of an LSTM is its hidden state followed by its cell state.
    states
        Visited states `(..., unit)`; starts are drawn from them.
    inputs
        Constant input `(feature,)` of the network; zeros where None.
    continuous
        Whether the function gives the velocity ``dx/dt``: then ``q = |F(x)|^2 / 2``, and a point is stable where all real parts are
        negative. Else stable means all eigenvalues inside the unit circle.
    n_starts
        States to start from.
    jitter
        Gaussian noise on the starts, as a share of each unit's standard deviation.
    tolerance
        Largest q of a fixed point.
    merge
        Points nearer than this share of the states' spread are one.
    max_iter
        Steps of the search.

    Returns
    -------
    FixedPoints

    Raises
    ------
    InputError
        States that do not fit, more than one layer or direction, a function that changes shapes.
    ModelError
        No start came to rest.

    Examples
    --------
    >>> weights, bias = torch.tensor([[0.5, 0.2], [0.0, -0.3]]), torch.tensor([1.0, 2.0])
    >>> found = fixed_points(lambda x: x @ weights.T.to(x) + bias.to(x), np.random.default_rng(0).standard_normal((20, 2)))
    >>> found.points.state.values.round(3).tolist()  # (I - W)^-1 b
    [[2.615, 1.538]]
    """
    visited = _visited(states)
    step = _step_of(rnn, inputs, visited.shape[1])
    rng = np.random.default_rng(seed)
    spread = visited.std(0)
    start = visited[rng.choice(len(visited), min(n_starts, len(visited)), replace=False)]
    start = start + jitter * spread * rng.standard_normal(start.shape)
    x = torch.from_numpy(start)

    def residual(x: Tensor) -> Tensor:
        return step(x) if continuous else step(x) - x

    with torch.no_grad():
        if step(x).shape != x.shape:
            raise InputError(
                f"the network turns states {tuple(x.shape)} into {tuple(step(x).shape)}; it must keep their shape"
            )
    x = _gauss_newton(residual, x, max_iter)
    with torch.no_grad():
        q = (residual(x) ** 2).sum(1).numpy() / 2
    rest = np.isfinite(q) & (q <= tolerance)
    if not rest.any():
        raise ModelError(
            f"none of {len(x)} starts came to rest (smallest q {np.nanmin(q):.3g}, tolerance {tolerance:.3g}); raise max_iter or tolerance"
        )
    point, q = x[torch.from_numpy(rest)], q[rest]
    label = _merged(point.numpy(), merge * max(float(np.linalg.norm(spread)), 1e-9))
    # Of the starts that met, the one nearest to rest speaks for all.
    best = np.array([np.flatnonzero(label == k)[q[label == k].argmin()] for k in np.unique(label)])
    matrix = _jacobian(residual, point[best]).numpy() + (0 if continuous else np.eye(x.shape[1]))
    eigenvalues = np.linalg.eigvals(matrix)
    key = eigenvalues.real if continuous else np.abs(eigenvalues)
    eigenvalues = np.take_along_axis(eigenvalues, np.argsort(-key, axis=1), 1)
    points = xr.Dataset(
        {
            "state": (("point", "unit"), point[best].numpy()),
            "q": ("point", q[best]),
            "eigenvalue": (("point", "mode"), eigenvalues),
            "stable": ("point", (key < (0 if continuous else 1)).all(1)),
            "found": ("point", np.bincount(label)[np.unique(label)]),
        }
    )
    return FixedPoints(points.sortby("found", ascending=False), len(x), int((~rest).sum()))


def _gauss_newton(residual: Step, x: Tensor, max_iter: int) -> Tensor:
    """Levenberg and Marquardt's steps for all starts together, each with its own damping."""
    damping = torch.full((len(x),), 1e-2, dtype=x.dtype)
    value = residual(x).detach()
    for _ in range(max_iter):
        cost = (value**2).sum(1)
        if float(cost.max()) < 1e-28:
            break
        jacobian = _jacobian(residual, x)
        normal = jacobian.mT @ jacobian
        scale = damping[:, None, None] * torch.eye(x.shape[1], dtype=x.dtype)
        move = torch.linalg.solve(normal + scale, -(jacobian.mT @ value[..., None]))[..., 0]
        with torch.no_grad():
            tried = residual(x + move)
        better = (tried**2).sum(1) < cost
        x = torch.where(better[:, None], x + move, x)
        value = torch.where(better[:, None], tried, value)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-14, 1e8)
        if bool((~better & (damping >= 1e8)).all()):
            break
    return x


def _jacobian(function: Step, x: Tensor) -> Tensor:
    """`(state, unit, unit)`; states do not touch each other, so the sum over them has all gradients in one pass a unit."""
    x = x.detach().requires_grad_()
    value = function(x)
    every = torch.eye(x.shape[1], dtype=x.dtype)[:, None, :].expand(-1, len(x), -1)
    try:
        rows = torch.autograd.grad(value, x, every, is_grads_batched=True)[0]
    except RuntimeError:  # an operation that cannot be batched
        value = function(x)
        rows = torch.stack([torch.autograd.grad(value, x, e, retain_graph=True)[0] for e in every])
    return rows.transpose(0, 1).detach()


def _merged(points: np.ndarray, distance: float) -> np.ndarray:
    return fcluster(linkage(points, "single"), distance, "distance") if len(points) > 1 else np.ones(1, int)


def _visited(states: Any) -> np.ndarray:
    if isinstance(states, xr.DataArray):
        states = states.transpose(..., "unit") if "unit" in states.dims else states
    x = np.asarray(states.detach().cpu() if hasattr(states, "detach") else states, dtype=float)
    if x.ndim < 2 or 0 in x.shape:
        raise InputError(f"states of shape {x.shape}; give visited states (..., unit)")
    x = x.reshape(-1, x.shape[-1])
    if not np.isfinite(x).all():
        raise InputError("states hold NaN or infinity; leave those moments out")
    return x


def _step_of(rnn: nn.Module | Step, inputs: Any, units: int) -> Step:
    """One step of a network with a constant input, in double precision, its own weights untouched."""
    if isinstance(rnn, nn.RNNBase):
        if rnn.num_layers != 1 or rnn.bidirectional or getattr(rnn, "proj_size", 0):
            raise InputError(
                f"{type(rnn).__name__} with {rnn.num_layers} layers; fixed points are those of one layer in one direction, without projection"
            )
        rnn = _cell(rnn)
    if not isinstance(rnn, nn.RNNCellBase):
        return rnn
    width = rnn.hidden_size * (2 if isinstance(rnn, nn.LSTMCell) else 1)
    if units != width:
        raise InputError(f"states of {units} units for a {type(rnn).__name__} whose state has {width}")
    x = torch.zeros(rnn.input_size) if inputs is None else torch.as_tensor(np.asarray(inputs))
    if x.shape != (rnn.input_size,):
        raise InputError(f"input of shape {tuple(x.shape)}; the network takes ({rnn.input_size},)")
    import copy

    cell, x = copy.deepcopy(rnn).double().cpu().requires_grad_(False), x.double()

    def step(state: Tensor) -> Tensor:
        shown = x.expand(len(state), -1)
        if isinstance(cell, nn.LSTMCell):
            return torch.cat(cell(shown, state.chunk(2, 1)), 1)
        return cell(shown, state)

    return step


def _cell(rnn: nn.RNNBase) -> nn.RNNCellBase:
    """The cell of a layer, with its weights."""
    kinds: dict[str, Any] = {"GRU": nn.GRUCell, "LSTM": nn.LSTMCell, "RNN_TANH": nn.RNNCell, "RNN_RELU": nn.RNNCell}
    if rnn.mode not in kinds:
        raise InputError(f"a layer of kind {rnn.mode}; allowed: {', '.join(kinds)}, or a function")
    more = {"nonlinearity": rnn.mode[4:].lower()} if rnn.mode.startswith("RNN") else {}
    cell = kinds[rnn.mode](rnn.input_size, rnn.hidden_size, bias=rnn.bias, **more)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in rnn.state_dict().items()})
    return cell
