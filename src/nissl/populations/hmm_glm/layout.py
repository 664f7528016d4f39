"""Which numbers of the model are free, and the quadratic prior over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Which numbers are free, which are one number in all states, and the prior over them.

    Attributes
    ----------
    select
        (state, column, free): 1 where a column of a state is this free number.
    precision
        (free, free): the log prior of a target's free numbers v is -v' precision v / 2.
    fixed
        (unit, free): True where a number stays zero (a unit's coupling to itself, where that is left out).
    """

    select: Tensor
    precision: Tensor
    fixed: Tensor
    observations: str
    link: str

    def free(self, theta: Tensor) -> Tensor:
        """(restart, unit, free) from (restart, state, unit, column): shared numbers are taken from their mean."""
        counts = self.select.sum((0, 1))
        return torch.einsum("rsnd,sdv->rnv", theta, self.select) / counts

    def spread(self, free: Tensor) -> Tensor:
        """The reverse of `free`."""
        return torch.einsum("rnv,sdv->rsnd", free, self.select)

    def fixed_columns(self) -> Tensor:
        """(unit, column): where a column stays zero, in the first state as in all."""
        return (self.fixed.to(self.select.dtype) @ self.select[0].T) > 0

    def of_columns(self, columns: slice) -> Tensor:
        """(free,): True for the numbers of these columns."""
        return self.select[:, columns].sum((0, 1)) > 0

    def log_prior(self, theta: Tensor) -> Tensor:
        """(restart, unit), without its constant."""
        v = self.free(theta)
        return -0.5 * ((v @ self.precision) * v).sum(-1)


def build_layout(
    *,
    n_states: int,
    n_units: int,
    n_covariates: int,
    n_own: int,
    coupling: bool,
    diagonal: bool,
    shared_bias: bool,
    shared_own: bool,
    prior_sd: float | None,
    ridge: float,
    observations: str,
    link: str,
    device: torch.device,
) -> Layout:
    """The columns in the order of `Design`: bias, coupling to every unit, covariates, the unit's own past.

    `prior_sd` ties each weight to its mean over states (None: not at all), `ridge` ties it, and each own kernel, to zero; `diagonal` says
    whether a unit is coupled to itself as to the others.
    """
    coupled = range(1, 1 + n_units) if coupling else range(0)
    first_own = 1 + len(coupled) + n_covariates
    shared = ([0] if shared_bias else []) + (list(range(first_own, first_own + n_own)) if shared_own else [])
    width = first_own + n_own
    index = torch.empty(n_states, width, dtype=torch.long)
    free = 0
    for column in range(width):
        if column in shared:
            index[:, column] = free
            free += 1
        else:
            index[:, column] = torch.arange(free, free + n_states)
            free += n_states
    select = torch.nn.functional.one_hot(index, free).to(torch.float64)
    precision = torch.zeros(free, free, dtype=torch.float64)
    fixed = torch.zeros(n_units, free, dtype=torch.bool)
    for source, column in enumerate(coupled):
        rows = index[:, column]
        block = ridge * torch.eye(n_states, dtype=torch.float64)
        if prior_sd is not None:
            block = block + (torch.eye(n_states, dtype=torch.float64) - 1 / n_states) / prior_sd**2
        precision[rows[:, None], rows] = block
        if not diagonal:
            fixed[source, rows] = True
    own = index[:, first_own:].unique()
    precision[own, own] += ridge
    return Layout(select.to(device), precision.to(device), fixed.to(device), observations, link)
