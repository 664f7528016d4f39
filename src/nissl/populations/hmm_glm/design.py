"""What the likelihood sees: counts, their filtered past and covariates, the bins of all trials on one axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from nissl.populations.hmm_glm.emissions import constant

# Elements (restart, state, unit, row) worked on at once: few enough to stay in a core's cache.
_CHUNK = 100_000
# Products of pairs of columns are kept for the curvature where they are no more numbers than this.
_KEEP_PAIRS = 20_000_000


@dataclass(frozen=True)
class Design:
    """Rows are the bins that were observed, trial after trial.

    Attributes
    ----------
    counts
        (unit, row), 0 where missing.
    columns
        (1 or restart, row, column): a one, the filtered past of every unit (where coupled), covariates; shared by all targets.
    own
        (unit, row, lag): the unit's own past, where its kernel is free.
    known
        (unit, row), where some units of a bin are missing; None where none is.
    place
        (row,): index of each row in trial * time.
    lengths, length
        (trial,) bins of each trial, and the longest.
    constant
        (row,): log likelihood that no parameter changes.
    past
        (lag, row, unit) counts before each row, kept where the kernel is learned.
    """

    counts: Tensor
    columns: Tensor
    own: Tensor | None
    known: Tensor | None
    place: Tensor
    lengths: Tensor
    length: int
    constant: Tensor
    past: Tensor | None
    n_spikes: float

    @property
    def n_rows(self) -> int:
        """How many bins were observed."""
        return self.counts.shape[1]

    def chunks(self, width: int) -> Iterator[slice]:
        """Slices of rows, for work that holds `width` numbers a row."""
        size = max(64, _CHUNK // max(width, 1))
        for start in range(0, self.n_rows, size):
            yield slice(start, min(start + size, self.n_rows))

    @cached_property
    def upper(self) -> Tensor:
        """Indices (2, pair) of the pairs of columns, each once."""
        width = self.columns.shape[-1]
        return torch.triu_indices(width, width, device=self.columns.device)

    @cached_property
    def _kept(self) -> Tensor | None:
        few = self.columns.shape[0] * self.n_rows * self.upper.shape[1] <= _KEEP_PAIRS
        return self.columns[..., self.upper[0]] * self.columns[..., self.upper[1]] if few else None

    def pairs(self, rows: slice) -> Tensor:
        """(1 or restart, row, pair): products of pairs of columns."""
        if self._kept is not None:
            return self._kept[:, rows]
        columns = self.columns[:, rows]
        return columns[..., self.upper[0]] * columns[..., self.upper[1]]

    def predictor(self, theta: Tensor, rows: slice) -> Tensor:
        """(restart, state, unit, row) linear predictor; theta (restart, state, unit, column + lag)."""
        restarts, states, units, _ = theta.shape
        shared = self.columns.shape[-1]
        flat = theta[..., :shared].reshape(restarts, states * units, shared)
        if self.columns.shape[0] == 1:
            z = flat.reshape(-1, shared) @ self.columns[0, rows].T
        else:
            z = flat @ self.columns[:, rows].transpose(1, 2)
        z = z.reshape(restarts, states, units, -1)
        if self.own is not None:
            z = z + torch.einsum("nmk,rsnk->rsnm", self.own[:, rows], theta[..., shared:])
        return z

    def table(self, by_row: Tensor) -> Tensor:
        """(restart, state, row) log likelihoods as (restart, trial, time, state), NaN where nothing was observed."""
        restarts, states, _ = by_row.shape
        trials = len(self.lengths)
        out = torch.full((restarts, trials * self.length, states), torch.nan, dtype=by_row.dtype, device=by_row.device)
        out[:, self.place] = (by_row + self.constant).transpose(1, 2)
        return out.reshape(restarts, trials, self.length, states)

    def rows(self, by_bin: Tensor) -> Tensor:
        """(restart, trial, time, state) as (restart, state, row)."""
        restarts, _, _, states = by_bin.shape
        return by_bin.reshape(restarts, -1, states)[:, self.place].transpose(1, 2).contiguous()

    def with_kernel(self, kernel: Tensor, units: int) -> Design:
        """A copy whose past is filtered by kernels (restart, lag)."""
        assert self.past is not None
        filtered = torch.einsum("rk,kmn->rmn", kernel, self.past)
        columns = self.columns[:1].expand(len(kernel), -1, -1).clone()
        columns[..., 1 : 1 + units] = filtered
        return replace(self, columns=columns)


def build(
    spikes: np.ndarray,
    lengths: np.ndarray,
    kernel: np.ndarray,
    *,
    observations: str,
    coupling: bool,
    own_kernel: bool,
    fill: np.ndarray,
    covariates: np.ndarray | None = None,
    keep_past: bool = False,
    device: str | torch.device = "cpu",
) -> Design:
    """From (trial, time, unit) with NaN where missing to a `Design`.

    A missing count adds nothing to the likelihood, and enters the past of later bins as its unit's mean (`fill`), which
    speaks neither for nor against any state. Before a trial's start there is silence.
    """
    trials, length, units = spikes.shape
    lags = len(kernel)
    x = torch.as_tensor(spikes, dtype=torch.float64, device=device)
    missing = torch.isnan(x)
    inside = torch.arange(length, device=device) < torch.as_tensor(lengths, device=device)[:, None]
    place = torch.nonzero((inside & ~missing.all(-1)).reshape(-1))[:, 0]
    filled = torch.where(missing, torch.as_tensor(fill, dtype=x.dtype, device=device), x)

    padded = torch.nn.functional.pad(filled, (0, 0, lags, 0))
    past = torch.stack([padded[:, lags - k : lags - k + length].reshape(-1, units)[place] for k in range(1, lags + 1)])
    parts = [torch.ones(len(place), 1, dtype=x.dtype, device=device)]
    if coupling:
        parts.append(torch.einsum("k,kmn->mn", torch.as_tensor(kernel, dtype=x.dtype, device=device), past))
    if covariates is not None:
        given = torch.as_tensor(covariates, dtype=x.dtype, device=device)
        parts.append(given.reshape(trials * length, -1)[place])
    counts = filled.reshape(-1, units)[place].T.contiguous()
    known = ~missing.reshape(-1, units)[place].T
    counts = torch.where(known, counts, 0.0)
    whole = bool(known.all())
    offset = torch.where(known, constant(counts, observations), 0.0).sum(0)
    return Design(
        counts=counts,
        columns=torch.cat(parts, 1)[None],
        own=past.permute(2, 1, 0).contiguous() if own_kernel else None,
        known=None if whole else known.contiguous(),
        place=place,
        lengths=torch.as_tensor(lengths, device=device),
        length=length,
        constant=offset,
        past=past if keep_past else None,
        n_spikes=float(known.sum() if observations == "gaussian" else counts.sum()),
    )
