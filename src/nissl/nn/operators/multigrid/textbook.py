"""The classical multigrid solver as weights of a multigrid operator, and an operator carried to a finer grid."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from nissl.errors import InputError, ModelError
from nissl.nn.operators.multigrid._grid import coarser, levels_that_fit
from nissl.nn.operators.multigrid.operator import Level, MultigridOperator

DAMPING = 0.8
LAPLACE = ((0.0, -1.0, 0.0), (-1.0, 4.0, -1.0), (0.0, -1.0, 0.0))
FULL_WEIGHTING = ((1.0, 2.0, 1.0), (2.0, 4.0, 2.0), (1.0, 2.0, 1.0))


def poisson_multigrid(size: int, *, levels: int | None = None, smoothing: int = 2) -> MultigridOperator:
    """A multigrid operator with the weights of a classical solver of -Laplace(u) = f on the unit square, u = 0 on its edge.

    Parameters
    ----------
    size
        Interior nodes along each side, 2^k - 1; the spacing is 1 / (size + 1).
    levels
        As many as fit where None.
    smoothing
        Damped Jacobi steps before and after the coarser level.

    Returns
    -------
    MultigridOperator
        In double precision, one function in and one out. `correct(u, f)` is one V-cycle of the solver.

    Raises
    ------
    InputError
        A size that is not 2^k - 1, or more levels than fit.

    Notes
    -----
    On the level of spacing h: A = [0 -1 0; -1 4 -1; 0 -1 0] / h^2, S = 0.8 h^2 / 4 at the middle, R the full weighting
    [1 2 1; 2 4 2; 1 2 1] / 16, P = 4 R transposed, Pi = 0, and the residual goes down.

    References
    ----------
    Briggs, Henson, McCormick 2000, A Multigrid Tutorial (chapters 2 and 3).

    Examples
    --------
    >>> solver = poisson_multigrid(31)
    >>> f = torch.ones(1, 1, 31, 31, dtype=torch.float64)
    >>> u = torch.zeros_like(f)
    >>> for _ in range(10):
    ...     u = solver.correct(u, f)
    >>> bool((f - solver.fine_a()(u)).abs().max() < 1e-6)
    True
    """
    if size < 3 or (size + 1) & size:
        raise InputError(
            f"size={size}; allowed: 3, 7, 15, 31, ... interior nodes, so that each grid holds every other node of the last"
        )
    fit = levels_that_fit((size, size), "interior")
    levels = fit if levels is None else levels
    if not 1 <= levels <= fit or smoothing < 1:
        raise InputError(
            f"levels={levels}, smoothing={smoothing}; allowed: 1 to {fit} levels for {size} nodes, at least 1 step"
        )
    steps = (smoothing,) * levels
    operator = MultigridOperator(1, 1, steps, post_smoothing=smoothing, coarse="residual").double()
    h = 1 / (size + 1)
    with torch.no_grad():
        for level in _levels(operator):
            point = torch.zeros(3, 3, dtype=torch.float64)
            point[1, 1] = DAMPING * h**2 / 4
            _fill(point, *level.smooth, *level.post_smooth)
            _fill(_stencil(LAPLACE) / h**2, *level.apply_a, *level.post_apply_a, level.residual_a)
            _fill(_stencil(FULL_WEIGHTING) / 16, level.restrict_f)
            _fill(_stencil(FULL_WEIGHTING) / 4, level.prolong)
            _fill(torch.zeros(3, 3, dtype=torch.float64), level.restrict_u)
            size, h = coarser(size, "interior"), 2 * h
    return operator


def refined(operator: MultigridOperator) -> MultigridOperator:
    """The operator for a grid of half the spacing: one more level, on which A is four times as large and S a quarter.

    The new finest level has the stencils of the old one, scaled as a second-order differential operator and its inverse are;
    the old levels follow as they were. That is exact where the stencils are those of such an operator, and otherwise a
    beginning for more training.

    Parameters
    ----------
    operator
        One whose finest level has an A: two smoothing steps there, or `coarse` other than `restrict`.

    Raises
    ------
    InputError
        What is no multigrid operator.
    ModelError
        The finest level has no A, or there is only one level, so that nothing leads to a coarser one.

    Examples
    --------
    >>> finer = refined(poisson_multigrid(15))
    >>> f = torch.randn(1, 1, 31, 31, dtype=torch.float64)
    >>> torch.allclose(finer(f), poisson_multigrid(31)(f))
    True
    """
    if not isinstance(operator, MultigridOperator):
        raise InputError(
            f"refined takes a MultigridOperator, not {type(operator).__name__}; give one layer's, such as network.layers[0].operator: a whole network is "
            "refined layer by layer"
        )
    if len(operator.smoothing_steps) == 1:
        raise ModelError("an operator of one level has no way to a coarser grid; build it with two levels or more")
    fine_a = operator.fine_a()
    steps, post = operator.smoothing_steps, operator.post_smoothing
    weight = next(operator.parameters())
    finer = MultigridOperator(
        operator.in_channels, operator.channels, (steps[0], *steps), post_smoothing=(post[0], *post), boundary=operator.boundary,
        coarse=operator.coarse, norm=operator.norm, nodes=operator.nodes, n_dims=operator.n_dims,
    ).to(weight.device, weight.dtype)  # fmt: skip
    old, new = _levels(operator), _levels(finer)
    new[0].load_state_dict(old[0].state_dict())
    # The old finest level began at zero, and had one A less than it has steps; now it is given a function to begin with.
    new[1].load_state_dict(_with_first_a(old[0], fine_a))
    for ours, theirs in zip(new[2:], old[1:], strict=True):
        ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        for s in (*new[0].smooth, *new[0].post_smooth):
            _weight(s).mul_(0.25)
        for a in (*new[0].apply_a, *new[0].post_apply_a, new[0].residual_a):
            if a is not None:
                _weight(a).mul_(4.0)
    return finer


def _with_first_a(level: Level, fine_a: nn.Module) -> dict[str, Tensor]:
    state = {}
    for name, value in copy.deepcopy(level.state_dict()).items():
        kind, _, rest = name.partition(".")
        if kind == "apply_a":
            number, _, rest = rest.partition(".")
            name = f"apply_a.{int(number) + 1}.{rest}"
        state[name] = value
    state["apply_a.0.weight"] = _weight(fine_a).detach().clone()
    return state


def _levels(operator: MultigridOperator) -> list[Level]:
    return [level for level in operator.levels if isinstance(level, Level)]


def _stencil(taps: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.tensor(taps, dtype=torch.float64)


def _fill(taps: Tensor, *stencils: nn.Module | None) -> None:
    for stencil in stencils:
        if stencil is not None:
            _weight(stencil).copy_(taps.expand_as(_weight(stencil)))


def _weight(stencil: nn.Module) -> Tensor:
    weight = stencil.weight
    assert isinstance(weight, Tensor)
    return weight
