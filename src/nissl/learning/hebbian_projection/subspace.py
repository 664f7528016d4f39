"""Lateral neurons that learn, by a Hebbian and anti-Hebbian rule, the directions in which a population is active."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from sklearn.base import BaseEstimator
from torch import Tensor

from nissl.errors import InputError
from nissl.learning.hebbian_projection._responses import check_response, spiking_response

FORGET = 0.99  # of the running scale of activity, per minibatch
FORGET_SHARE = 0.9  # of the running shares that rows explain, which change while rows learn
SILENT = 1e-12  # mean energy below which a minibatch teaches nothing


class HebbianSubspace(BaseEstimator):
    """The principal subspace of a population's activity, learned online by lateral neurons, task after task.

    Each lateral neuron (a row of H) listens to the population and inhibits it through the same weights:

        response    y = H x
        feedback    x' = H^T y
        residual    x - x'
        learning    dH = mean over samples of y (x - x')^T, element-wise within -clip..clip
                    M <- momentum M + (1 - momentum) dH,   H <- H + lr M

    The Hebbian term y x^T makes a neuron respond more to what excites it, the anti-Hebbian term -y x'^T takes away what is already
    explained. Rows settle at an orthonormal basis of the principal subspace of the *uncentred* activity (Oja and Karhunen 1985). After
    `freeze`, rows never change again; rows added by `extend` see what the frozen ones leave over, and so learn new directions only.

    Parameters
    ----------
    n_units
        Neurons of the population.
    lr, momentum, iterations, clip
        Of the rule; `iterations` updates a minibatch. Stable while `lr` times the largest mean square of the activity along any
        direction stays below about 1. With ``lr=0`` rows remain random directions, a useful control.
    normalise
        Measure activity in units of its own root mean square (of what frozen rows leave over), so that `lr` up to 1 is stable for activity of
        any scale and one iteration a minibatch is enough. The fixed points are the same.
    anti_hebbian
        False leaves the feedback out of the rule, which then diverges: a lesion.
    levels, bound
        Lateral neurons respond with that many signed spikes at most, up to `bound`; real-valued where None.
    orthonormalise
        Make new rows exactly orthonormal when they are frozen; the subspace stays what it was.
    seed
        Of the directions in which rows begin.

    Attributes
    ----------
    rows_ : Tensor (component, unit)
        H itself; `frozen_` counts its leading rows that are protected, `task_` (component) says which task
        brought each, of `n_tasks_`.
    components_ : DataArray (component, unit)
        The same for people, with `task` as a coordinate.
    explained_ : DataArray (component)
        Share of the mean square activity along each direction, while it was learned.

    References
    ----------
    Xiao et al. 2024, Hebbian learning based orthogonal projection for continual learning of spiking neural networks, section 4.

    Examples
    --------
    >>> x = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) @ torch.randn(3, 20, generator=torch.Generator().manual_seed(1))
    >>> subspace = HebbianSubspace(20, normalise=True, lr=1.0).fit(x, 3)
    >>> bool(subspace.residual(x).square().sum() < 1e-3 * x.square().sum())
    True
    """

    def __init__(
        self,
        n_units: int,
        *,
        lr: float = 0.01,
        momentum: float = 0.9,
        iterations: int = 5,
        clip: float = 10.0,
        normalise: bool = False,
        anti_hebbian: bool = True,
        levels: int | None = None,
        bound: float = 20.0,
        orthonormalise: bool = True,
        seed: int = 0,
    ) -> None:
        self.n_units = n_units
        self.lr = lr
        self.momentum = momentum
        self.iterations = iterations
        self.clip = clip
        self.normalise = normalise
        self.anti_hebbian = anti_hebbian
        self.levels = levels
        self.bound = bound
        self.orthonormalise = orthonormalise
        self.seed = seed

    # ------------------------------------------------------------------ learning

    def extend(self, k: int, *, like: Tensor | None = None) -> HebbianSubspace:
        """Add `k` rows that learn: random directions, orthonormal, and orthogonal to all that are there.

        Parameters
        ----------
        k
            Directions to add; 0 is allowed.
        like
            A tensor whose type and device the rows take, where these are the first.

        Raises
        ------
        InputError
            More directions than the population has left.
        """
        self._check()
        rows = self.rows_ if hasattr(self, "rows_") else torch.zeros(0, self.n_units)
        if like is not None and not len(rows):
            precise = torch.promote_types(like.dtype, torch.float32)  # half precision is too coarse to be orthogonal in
            rows = torch.zeros(0, self.n_units, device=like.device, dtype=precise)
        free = self.n_units - len(rows)
        if not 0 <= k <= free:
            raise InputError(
                f"{k} directions more than the {len(rows)} there are, for {self.n_units} units: {free} are free; ask for fewer"
            )
        if hasattr(self, "rows_") and self.frozen_ < len(rows):
            raise InputError(f"{len(rows) - self.frozen_} rows are still learning; freeze() before more are added")
        generator = torch.Generator().manual_seed(self.seed + 7919 * len(rows))
        new = torch.randn(k, self.n_units, generator=generator, dtype=torch.float64).to(rows)
        tasks = getattr(self, "n_tasks_", 0)
        self.task_ = np.concatenate([getattr(self, "task_", np.zeros(0, int)), np.full(k, tasks)])
        self._energy = torch.cat([self._energy, rows.new_zeros(k)]) if hasattr(self, "_energy") else rows.new_zeros(k)
        self.n_tasks_, self.frozen_ = tasks + 1, len(rows)
        self.rows_ = torch.cat([rows, _orthonormal(new, rows)])
        self._momentum, self._fresh, self._left = torch.zeros_like(new), True, None
        return self

    def partial_fit(self, x: Any, y: Any = None) -> HebbianSubspace:
        """Learn from one minibatch of activity, `(sample, unit)`; further leading axes are samples too.

        Raises
        ------
        InputError
            Another number of units, NaN, no rows that learn, or rows that have run away.
        """
        x = self._activity(x)
        old, new = self.protected, self.rows_[self.frozen_ :]
        if not len(new):
            raise InputError("no rows that learn; extend(k) adds some")
        left = self._residual(x, old)
        energy = left.square().sum(1).mean()
        # The scale never lags behind a sudden rise, which would make the rule unstable.
        self._left = energy if self._left is None else torch.maximum(energy, FORGET * self._left)
        if not bool(self._left > SILENT):
            return self
        scale = self._left if self.normalise else 1.0
        response = self._respond(x, new)
        self._note(response, x.square().sum())
        for i in range(self.iterations if self.lr else 0):
            response = self._respond(x, new) if i else response
            change = response.T @ left
            if self.anti_hebbian:
                change = change - (response.T @ response) @ new
            change = change.div_(len(x) * scale).clamp_(-self.clip, self.clip)
            self._momentum.mul_(self.momentum).add_(change, alpha=1 - self.momentum)
            new = torch.add(new, self._momentum, alpha=self.lr)
        self.rows_ = torch.cat([old, new])
        return self

    def fit(self, x: Any, n_components: int, *, epochs: int = 1, batch: int = 64) -> HebbianSubspace:
        """Forget everything, and learn `n_components` directions of the activity `(sample, unit)` in minibatches."""
        for name in ("rows_", "task_", "n_tasks_", "_energy"):
            if hasattr(self, name):
                delattr(self, name)
        x = as_tensor(x)
        self.extend(n_components, like=x)
        x = self._activity(x)
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(epochs):
            for rows in torch.randperm(len(x), generator=generator).split(batch):
                self.partial_fit(x[rows.to(x.device)])
        return self

    def freeze(self) -> HebbianSubspace:
        """Protect all rows from now on; frozen rows are the same bits for ever.

        Raises
        ------
        InputError
            Rows that are far from orthonormal or not finite: the rule was unstable.
        """
        self._fitted()
        old, new = self.protected, self.rows_[self.frozen_ :]
        off = (new @ new.T - torch.eye(len(new)).to(new)).abs().max() if len(new) else torch.zeros(())
        # Rows that are still on their way, or rounded responses that leave them longer or shorter than one, are no harm once
        # they are made orthonormal; rows that have run away say nothing.
        if not bool(off < (3.0 if self.orthonormalise or self.levels is not None else 0.5)):
            raise InputError(
                f"rows are not orthonormal (off by {float(off):.2g}): the rule was unstable; lower lr"
                + ("" if self.normalise else ", or set normalise=True")
            )
        if self.orthonormalise:
            self.rows_ = torch.cat([old, _orthonormal(new, old)])
        self.frozen_, self._momentum = len(self.rows_), new[:0]
        return self

    def drop(self) -> HebbianSubspace:
        """Remove the rows that are still learning."""
        self._fitted()
        n, self.n_tasks_ = self.frozen_, self.n_tasks_ - 1
        self.rows_, self.task_, self._energy = self.rows_[:n], self.task_[:n], self._energy[:n]
        self._momentum = self.rows_[:0]
        return self

    def state_dict(self) -> dict[str, Any]:
        """What was learned and is protected: plain tensors."""
        self._fitted()
        kept = self.frozen_
        return {
            "rows": self.protected.clone(),
            "task": torch.from_numpy(self.task_[:kept]),
            "energy": self._energy[:kept].clone(),
            "n_tasks": self.n_tasks_ - (kept < len(self.rows_)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> HebbianSubspace:
        """Protect what another subspace of the same population protected.

        Raises
        ------
        InputError
            Rows for another number of units.
        """
        rows = state["rows"]
        if rows.ndim != 2 or rows.shape[1] != self.n_units:
            raise InputError(f"rows of shape {tuple(rows.shape)}; this population has {self.n_units} units")
        self.rows_, self.frozen_, self._momentum = rows.clone(), len(rows), rows[:0].clone()
        self.task_, self._energy = state["task"].cpu().numpy().copy(), state["energy"].clone()
        self.n_tasks_, self._fresh, self._left = int(state["n_tasks"]), True, None
        return self

    # ------------------------------------------------------------------ use

    def project(self, x: Any) -> Float[Tensor, "*sample unit"]:
        """What the feedback of the protected rows says of x, ``H^T (H x)``; of all rows where none is frozen yet."""
        x, rows = self._use(x)
        return self._respond(x, rows) @ rows

    def residual(self, x: Any) -> Float[Tensor, "*sample unit"]:
        """What is left of x, ``x - H^T (H x)``: orthogonal to all that is protected."""
        x, rows = self._use(x)
        return self._residual(x, rows)

    def encode(self, x: Any) -> Float[Tensor, "*sample component"]:
        """Responses of all lateral neurons."""
        self._fitted()
        return self._respond(self._activity(x, flat=False), self.rows_)

    def decode(self, response: Any) -> Float[Tensor, "*sample unit"]:
        """Activity that has these responses: feedback of all lateral neurons."""
        self._fitted()
        return as_tensor(response).to(self.rows_) @ self.rows_

    @property
    def protected(self) -> Float[Tensor, "component unit"]:
        """The frozen rows."""
        return self.rows_[: self.frozen_]

    @property
    def free_(self) -> int:
        """Directions that no row has taken."""
        return self.n_units - (len(self.rows_) if hasattr(self, "rows_") else 0)

    @property
    def components_(self) -> xr.DataArray:
        """Rows as a DataArray (component, unit)."""
        return self._array(self.rows_, ("component", "unit"))

    @property
    def directions_(self) -> xr.DataArray:
        """Rows as directions of a basis (feature, unit)."""
        return self.components_.rename(component="feature")

    @property
    def explained_(self) -> xr.DataArray:
        """Share of activity along each direction (component)."""
        return self._array(self._energy, ("component",))

    def _array(self, value: Tensor, dims: tuple[str, ...]) -> xr.DataArray:
        self._fitted()
        coords = {"component": np.arange(len(value)), "task": ("component", self.task_)}
        return xr.DataArray(value.detach().cpu().numpy(), dims=dims, coords=coords)

    # ------------------------------------------------------------------ parts

    def _respond(self, x: Tensor, rows: Tensor) -> Tensor:
        response = x @ rows.T
        return response if self.levels is None else spiking_response(response, self.levels, self.bound)

    def _residual(self, x: Tensor, rows: Tensor) -> Tensor:
        return x - self._respond(x, rows) @ rows if len(rows) else x

    def _note(self, response: Tensor, total: Tensor) -> None:
        """Running share of the mean square that each learning row carries."""
        share = response.square().sum(0) / total.clamp_min(SILENT)
        kept = self._energy[self.frozen_ :]
        now = share if self._fresh else FORGET_SHARE * kept + (1 - FORGET_SHARE) * share
        self._energy, self._fresh = torch.cat([self._energy[: self.frozen_], now]), False

    def _use(self, x: Any) -> tuple[Tensor, Tensor]:
        self._fitted()
        return self._activity(x, flat=False), self.protected if self.frozen_ else self.rows_

    def _activity(self, x: Any, flat: bool = True) -> Tensor:
        self._fitted()
        x = as_tensor(x).detach()
        if x.ndim == 0 or x.shape[-1] != self.n_units or not x.numel():
            raise InputError(f"activity of shape {tuple(x.shape)}; give (sample, unit) with {self.n_units} units")
        x = x.to(self.rows_)
        if not bool(torch.isfinite(x).all()):
            raise InputError("activity holds NaN or infinite values; a subspace learned from it would mean nothing")
        return x.reshape(-1, self.n_units) if flat else x

    def _fitted(self) -> None:
        if not hasattr(self, "rows_"):
            raise InputError("no rows yet; extend(k) adds some, fit(x, k) does all at once")

    def _check(self) -> None:
        check_response(self.levels, self.bound)
        if self.n_units < 1:
            raise InputError(f"n_units {self.n_units}; a population has at least 1")
        if not self.lr >= 0 or not 0 <= self.momentum < 1 or self.iterations < 1 or not self.clip > 0:
            raise InputError(
                f"lr {self.lr}, momentum {self.momentum}, iterations {self.iterations}, clip {self.clip}; "
                "lr is 0 or more, momentum in [0, 1), iterations from 1, clip positive"
            )


def as_tensor(x: Any) -> Tensor:
    """Activity as a tensor of floats, from torch, numpy or xarray."""
    if not isinstance(x, Tensor):
        x = torch.from_numpy(np.asarray(x, dtype=None).copy())
    return x if x.is_floating_point() else x.float()


def _orthonormal(new: Tensor, old: Tensor) -> Tensor:
    """Rows that span what `new` adds to `old`, orthonormal among themselves and to `old` (which is orthonormal)."""
    if not len(new):
        return new
    precise = new.double()
    for _ in range(2):  # twice is enough
        precise = precise - (precise @ old.double().T) @ old.double()
        q, r = torch.linalg.qr(precise.T)
        precise = (q * r.diagonal().sign()).T
    return precise.to(new)
