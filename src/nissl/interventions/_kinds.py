"""The interventions: clamp, ablate, patch, steer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from nissl.errors import InputError, unknown
from nissl.interventions._selecting import Selector, Tokens, along, chosen, chosen_positions, join
from nissl.interventions._values import Number, aligned, finite_or, ordered, per_unit
from nissl.models import Site


@dataclass(frozen=True, eq=False, kw_only=True)
class Intervention:
    """What all interventions share: where they act.

    Parameters
    ----------
    units
        Which units (for `pattern.L`: which key positions); all where None.
    positions
        Which positions, counted among each sample's real tokens whatever the padding; negative ones from its end (while
        generating, -1 is the newest token). A boolean array selects places of a picture `(y, x)` or of a token grid.
    heads
        Which heads, at sites that have them.
    """

    units: Selector = None
    positions: Selector = None
    heads: Selector = None

    def __call__(self, value: Tensor, site: Site, tokens: Tokens | None = None) -> Tensor:
        """The activity of a site after the intervention; same shape."""
        tokens = tokens or Tokens()
        where = self._where(value, site, tokens)
        edited = self._edit(value, site, tokens)
        return (
            edited.expand_as(value).to(value.dtype)
            if where is None
            else torch.where(where, edited.to(value.dtype), value)
        )

    def _edit(self, value: Tensor, site: Site, tokens: Tokens) -> Tensor:
        raise TypeError(
            f"{type(self).__name__} is no intervention by itself; use Clamp, Ablate, Patch, Steer, or any callable"
        )

    def check(self, site: Site) -> None:
        """Refuse selectors that a site cannot have, as far as its shape is known."""
        if site.dims is None:
            return
        for name, axis in (("units", site.axis("unit")), ("heads", site.axis("head"))):
            selector = getattr(self, name)
            if selector is None:
                continue
            if axis is None:
                raise InputError(f"site {site.name!r} has no {name}; its axes are {', '.join(site.dims)}")
            if site.shape is not None:
                chosen(selector, site.shape[axis], name, site)

    def _where(self, value: Tensor, site: Site, tokens: Tokens) -> Tensor | None:
        """True where the intervention acts, broadcastable to `value`; None for everywhere."""
        dims = site.dims or ()
        where: Tensor | None = None
        for name, axis in (("units", site.axis("unit")), ("heads", site.axis("head"))):
            selector = getattr(self, name)
            if selector is None:
                continue
            if axis is None:
                raise InputError(f"site {site.name!r} has no {name}; its axes are {', '.join(dims)}")
            picked = chosen(selector, value.shape[axis], name, site).to(value.device)
            where = join(where, along(picked, axis, value.dim()))
        if self.positions is not None:
            where = join(where, chosen_positions(self.positions, value, site, tokens))
        return where


@dataclass(frozen=True, eq=False)
class Clamp(Intervention):
    """Hold units at a value.

    Parameters
    ----------
    value
        One number for all, or one for each selected unit.

    Examples
    --------
    >>> import nissl, torch
    >>> net = nissl.load(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU()))
    >>> with nissl.intervene(net, {"1": Clamp(8.0, units=[2])}):
    ...     net(torch.zeros(1, 2))[0, 2].item()
    8.0
    """

    value: Number = 0.0

    def _edit(self, value: Tensor, site: Site, tokens: Tokens) -> Tensor:
        return per_unit(self.value, value, site, self.units)


@dataclass(frozen=True, eq=False)
class Ablate(Intervention):
    """Take away what units say.

    Parameters
    ----------
    how
        `zero`: nothing is left. `mean`: every place gets the unit's mean, so that only what varies is lost. `resample`:
        every sample gets the activity of another one, so that activity stays typical and only its bond to this sample
        is lost.
    reference
        Recorded activity `(sample, ..., unit)` to take means or samples from; without it the batch itself serves.
    seed
        For `resample`.
    """

    how: Literal["zero", "mean", "resample"] = "zero"
    reference: xr.DataArray | np.ndarray | Tensor | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.how not in ("zero", "mean", "resample"):
            raise unknown("ablation", self.how, ("zero", "mean", "resample"))

    def _edit(self, value: Tensor, site: Site, tokens: Tokens) -> Tensor:
        if self.how == "zero":
            return torch.zeros_like(value)
        if self.how == "mean":
            return self._mean(value, site, tokens)
        generator = torch.Generator().manual_seed(self.seed)
        if self.reference is None:
            n = value.shape[0]
            if n < 2:
                raise InputError(
                    "resampling within a batch of one sample changes nothing; give reference=recorded activity"
                )
            order = torch.randperm(n, generator=generator)
            source = torch.empty(n, dtype=torch.long)
            source[order] = order.roll(1)  # a single cycle: nobody keeps his own
            return value[source.to(value.device)]
        pool = aligned(self.reference, value, site)
        return finite_or(pool[torch.randint(len(pool), (len(value),), generator=generator).to(pool.device)], value)

    def _mean(self, value: Tensor, site: Site, tokens: Tokens) -> Tensor:
        source = value if self.reference is None else ordered(self.reference, value, site)
        keep = {a for a in (site.axis("unit"), site.axis("head")) if a is not None}
        over = [a for a in range(source.dim()) if a not in keep]
        position = site.axis("position")
        if self.reference is None and position is not None and tokens.mask is not None:
            real = tokens.numbers(value, position)[1]
            shape = [
                value.shape[0] if a == 0 else value.shape[position] if a == position else 1 for a in range(value.dim())
            ]
            source = source.masked_fill(~real.reshape(shape), torch.nan)
        mean = source.nanmean(over, keepdim=True)
        if any(mean.shape[a] != value.shape[a] for a in keep):
            raise InputError(
                f"a reference of shape {tuple(source.shape)} for site {site.name!r}, which has {tuple(value.shape)}"
            )
        return mean


@dataclass(frozen=True, eq=False)
class Patch(Intervention):
    """Put in activity recorded elsewhere, for example from a clean prompt into a corrupted one.

    Parameters
    ----------
    source
        Activity with the axes of the site: what `nissl.record` returned, or an array. One sample serves a whole batch;
        NaN (padding) leaves the network's own activity.
    """

    source: xr.DataArray | np.ndarray | Tensor | None = None

    def _edit(self, value: Tensor, site: Site, tokens: Tokens) -> Tensor:
        if self.source is None:
            raise InputError("Patch needs the activity to put in: Patch(acts['resid.3'])")
        source = aligned(self.source, value, site)
        if len(source) not in (1, len(value)):
            raise InputError(
                f"the patch for {site.name!r} holds {len(source)} samples and the batch {len(value)}; give one sample, or as many as "
                "the batch (batch_size=...)"
            )
        return finite_or(source.expand_as(value), value)


@dataclass(frozen=True, eq=False)
class Steer(Intervention):
    """Add a direction.

    Parameters
    ----------
    direction
        One number a unit, shape `(unit,)`.
    strength
        How many times to add it.
    """

    direction: Number = 0.0
    strength: float = field(default=1.0, kw_only=True)

    def _edit(self, value: Tensor, site: Site, tokens: Tokens) -> Tensor:
        axis = site.axis("unit")
        direction = torch.as_tensor(
            np.asarray(self.direction) if not isinstance(self.direction, Tensor) else self.direction
        )
        if axis is None or direction.dim() != 1 or len(direction) != value.shape[axis]:
            width = None if axis is None else value.shape[axis]
            raise InputError(
                f"a direction of shape {tuple(direction.shape)} for site {site.name!r}, which has {width} units"
            )
        return value + self.strength * along(direction.to(value), axis, value.dim())
