"""What drives each unit: the strongest examples of a corpus of any length, in one pass and without storing the
activity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nissl.activity._corpus import Corpus, Question
from nissl.activity._selection import check
from nissl.activity.record import run
from nissl.errors import InputError, unknown
from nissl.models import Model, check_called_once, load

Pool = Literal["max", "mean"]


def top_examples(
    model: Model | nn.Module,
    inputs: Any,
    at: str,
    *,
    k: int = 10,
    n_random: int = 0,
    n_quantiles: int = 0,
    per_quantile: int = 5,
    units: Any = None,
    pool: Pool = "max",
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """The samples that drive each unit of a site most.

    Parameters
    ----------
    model, inputs, batch_size, progress
        As for `record`; a stream is read once.
    at
        One site.
    k
        How many examples a unit.
    n_random
        Samples drawn uniformly from the corpus, the same for all units: what a unit does on average.
    n_quantiles, per_quantile
        Strata of a unit's activity above zero, and how many examples to draw from each, as automatic interpretation
        needs.
    units
        Which units; all where None.
    pool
        A sample's activity is the `max` over its positions or places, or their `mean`.
    seed
        For the random and the quantile samples.

    Returns
    -------
    xarray.Dataset
        `value`, `sample` and, for sites with positions or places, `position` or `y`, `x` of the peak, each `(unit,
        rank)` with the strongest first and ties in the order of the corpus; `mean`, `std`, `max` and `active` (share
        above zero) over all real positions, `(unit,)`; `random_*` `(random,)` and `(unit, random)`; `quantile_*`
        `(unit, quantile, draw)`, the weakest stratum first. Missing entries have sample -1 and value NaN. The answer
        does not depend on the batch size.

    Raises
    ------
    InputError, UnknownNameError
        As for `record`; a site without units; k below 1.

    Examples
    --------
    >>> import nissl, torch
    >>> net = nissl.load(torch.nn.Identity())
    >>> top = top_examples(net, torch.tensor([[1.0], [3.0], [2.0]]), "logits", k=2)
    >>> top["sample"].values.tolist()
    [[1, 2]]
    """
    model = load(model)
    sites = model.sites.find(at)
    if len(sites) != 1:
        raise InputError(f"{at!r} names {len(sites)} sites; top_examples looks at one")
    corpus = Corpus.of(model, inputs)
    if not model.traced:
        model.trace(corpus.first())
    site = model.sites.find(at)[0]
    check_called_once(site)
    selection = check(None, units, [site] if site.dims else [])
    found = TopExamples(
        k=k, n_random=n_random, n_quantiles=n_quantiles, per_quantile=per_quantile, pool=pool, seed=seed
    )
    size = batch_size or (16 if model.kind == "text" else 32)
    run(model, corpus, Question([site], selection, "float32", size, 0), _Feed(found, site.name), progress=progress)
    result = found.result()
    if units is not None and site.shape is not None and site.dims is not None:
        axis = "unit" if "unit" in site.dims else "class"
        chosen = selection.units_of(site, site.shape[site.dims.index(axis)])
        result = result.assign_coords(unit=chosen.numpy() if chosen is not None else result["unit"].values)
    return result.assign_attrs(site=site.name, model=model.name, pool=pool)


class TopExamples:
    """The same, fed by hand: `update` with activity, batch after batch, then `result`.

    Examples
    --------
    >>> found = TopExamples(k=1)
    >>> found.update(xr.DataArray([[0.0, 5.0], [7.0, 1.0]], dims=("sample", "unit")))
    >>> found.result()["value"].values.tolist()
    [[7.0], [5.0]]
    """

    def __init__(
        self,
        *,
        k: int = 10,
        n_random: int = 0,
        n_quantiles: int = 0,
        per_quantile: int = 5,
        pool: Pool = "max",
        seed: int = 0,
    ) -> None:
        if k < 1 or n_random < 0 or n_quantiles < 0 or per_quantile < 1:
            raise InputError(
                f"k={k}, n_random={n_random}, n_quantiles={n_quantiles}, per_quantile={per_quantile}; allowed: k and per_quantile of 1 or more"
            )
        if pool not in ("max", "mean"):
            raise unknown("pool", pool, ("max", "mean"))
        self.k, self.n_random, self.n_quantiles, self.per_quantile, self.pool = (
            k,
            n_random,
            n_quantiles,
            per_quantile,
            pool,
        )
        self.random = np.random.default_rng([seed, 0])
        self.sampling = np.random.default_rng([seed, 1])
        self.samples = 0
        self.shape: tuple[int, ...] = ()
        self.place_dims: tuple[str, ...] = ()
        self._top: _Kept | None = None
        self._lot: _Kept | None = None
        self._strata: _Kept | None = None
        self._moments: _Moments | None = None

    def update(self, activity: xr.DataArray) -> None:
        """Take in a batch: activity with axes sample, unit (or class) and any of position, time, y, x; NaN is
        padding.
        """
        values, place_dims, shape = _arranged(activity)  # (sample, unit, place)
        if values.shape[0] == 0:
            return
        self.place_dims, self.shape = place_dims, tuple(map(max, shape, self.shape or shape))
        n, units, _ = values.shape
        real = ~torch.isnan(values)
        pooled, place = _pooled(values, real, self.pool)
        number = torch.arange(self.samples, self.samples + n)
        where = _unravelled(place, shape)
        self._moments = _Moments.of(values, real, self._moments)
        entry = _Kept(pooled.T, pooled.T, number.expand(units, n), tuple(w.T for w in where))
        self._top = entry.best(self.k, self._top)
        if self.n_random:
            keys = torch.from_numpy(self.random.random(n)).neg().expand(units, n)
            self._lot = _Kept(keys, *entry.parts()).best(self.n_random, self._lot)
        if self.n_quantiles:
            # A uniform sample of each unit's active examples: those with the smallest random keys.
            keys = torch.from_numpy(self.sampling.random((n, units))).T.neg()
            keys = torch.where(entry.value > 0, keys, -torch.inf)
            self._strata = _Kept(keys, *entry.parts()).best(self._reservoir, self._strata)
        self.samples += n

    def result(self) -> xr.Dataset:
        """What was found so far."""
        if self._top is None or self._moments is None:
            raise InputError("the corpus is empty; give at least one sample")
        units = len(self._top.value)
        data: dict[str, Any] = self._top.named(("unit", "rank"), "", self.place_dims, valid=~torch.isinf(self._top.key))
        data |= {name: (("unit",), v.numpy()) for name, v in self._moments.statistics().items()}
        if self._lot is not None:
            order = self._lot.sample[0].argsort()
            data |= self._lot.take(order.expand(units, -1)).named(("unit", "random"), "random_", self.place_dims)
            data["random_sample"] = (("random",), self._lot.sample[0][order].numpy())
        if self._strata is not None:
            data |= self._stratified(self._strata)
        attrs = dict(zip(("height", "width"), self.shape, strict=True)) if self.place_dims == ("y", "x") else {}
        return xr.Dataset(data, coords={"unit": np.arange(units)}, attrs={"samples": self.samples, **attrs})

    @property
    def _reservoir(self) -> int:
        # Large enough that every stratum, an equal share of the sorted reservoir, offers a choice.
        return max(4 * self.n_quantiles * self.per_quantile, 100)

    def _stratified(self, kept: _Kept) -> dict[str, Any]:
        """Sort each unit's reservoir by activity and take evenly spaced draws from each of the equal shares."""
        active = ~torch.isinf(kept.key)
        value = torch.where(active, kept.value, torch.inf)
        order = value.argsort(dim=1, stable=True)
        count = active.sum(1, keepdim=True)  # (unit, 1)
        slots = self.n_quantiles * self.per_quantile
        column = (torch.arange(slots)[None] + 0.5) * count / slots
        column = column.long().clamp(max=kept.key.shape[1] - 1)
        chosen = kept.take(order.gather(1, column))
        # With fewer active examples than slots, an example would come twice: it is kept at its first slot only.
        valid = (column < count) & ~_repeats(column)
        shape = (len(value), self.n_quantiles, self.per_quantile)
        flat = chosen.named(("unit", "slot"), "quantile_", self.place_dims, valid=valid)
        return {name: (("unit", "quantile", "draw"), array.reshape(shape)) for name, (_, array) in flat.items()}


class _Feed:
    """Hands recorded batches on."""

    def __init__(self, found: TopExamples, name: str) -> None:
        self.found, self.name = found, name

    def write(self, batch: Any) -> None:
        dims, array = batch.activity[self.name]
        self.found.update(xr.DataArray(array, dims=dims))

    def finish(self) -> None:
        return None


class _Kept:
    """For each unit some examples, ranked by a key: tensors `(unit, rank)`."""

    def __init__(self, key: Tensor, value: Tensor, sample: Tensor, where: tuple[Tensor, ...]) -> None:
        self.key, self.value, self.sample, self.where = key, value, sample, where

    def parts(self) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        return self.value, self.sample, self.where

    def best(self, k: int, before: _Kept | None) -> _Kept:
        """The `k` largest keys of these and those before; a stable sort, so that of equal keys the earliest stays."""
        joined = self if before is None else before.joined(self)
        order = joined.key.sort(dim=1, descending=True, stable=True).indices[:, :k]
        return joined.take(order)

    def joined(self, other: _Kept) -> _Kept:
        where = tuple(torch.cat(pair, 1) for pair in zip(self.where, other.where, strict=True))
        return _Kept(
            torch.cat([self.key, other.key], 1),
            torch.cat([self.value, other.value], 1),
            torch.cat([self.sample, other.sample], 1),
            where,
        )

    def take(self, order: Int[Tensor, "unit rank"]) -> _Kept:
        key, value, sample = (t.gather(1, order) for t in (self.key, self.value, self.sample))
        return _Kept(key, value, sample, tuple(w.gather(1, order) for w in self.where))

    def named(
        self, dims: tuple[str, str], prefix: str, places: Sequence[str], valid: Tensor | None = None
    ) -> dict[str, Any]:
        ok = torch.ones_like(self.key, dtype=torch.bool) if valid is None else valid
        table = {
            f"{prefix}value": torch.where(ok, self.value, torch.nan),
            f"{prefix}sample": torch.where(ok, self.sample, -1),
        }
        table |= {f"{prefix}{name}": torch.where(ok, w, -1) for name, w in zip(places, self.where, strict=True)}
        return {name: (dims, t.numpy()) for name, t in table.items()}


class _Moments:
    """Running count, sums, maximum and share above zero of each unit over all real places."""

    def __init__(self, count: Tensor, total: Tensor, squares: Tensor, largest: Tensor, active: Tensor) -> None:
        self.count, self.total, self.squares, self.largest, self.active = count, total, squares, largest, active

    @classmethod
    def of(cls, values: Tensor, real: Bool[Tensor, "sample unit place"], before: _Moments | None) -> _Moments:
        solid = torch.where(real, values, 0).double()
        over = (0, 2)
        new = cls(
            real.sum(over), solid.sum(over), solid.square().sum(over),
            torch.where(real, values, -torch.inf).amax(over), ((values > 0) & real).sum(over),
        )  # fmt: skip
        if before is None:
            return new
        return cls(
            before.count + new.count, before.total + new.total, before.squares + new.squares,
            torch.maximum(before.largest, new.largest), before.active + new.active,
        )  # fmt: skip

    def statistics(self) -> dict[str, Tensor]:
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp(min=0)
        return {"mean": mean, "std": variance.sqrt(), "max": self.largest, "active": self.active / self.count}


def _arranged(activity: xr.DataArray) -> tuple[Float[Tensor, "sample unit place"], tuple[str, ...], tuple[int, ...]]:
    dims = [str(d) for d in activity.dims]
    unit = next((d for d in dims if d.split("_")[0] in ("unit", "class")), None)
    if unit is None or "sample" not in dims or "head" in {d.split("_")[0] for d in dims}:
        raise InputError(
            f"activity with axes {', '.join(dims)}; top examples need sample and unit (choose one head first)"
        )
    places = tuple(d for d in dims if d not in ("sample", unit))
    array = activity.transpose("sample", unit, *places)
    plain = tuple(p.split("_")[0] for p in places)
    values = torch.as_tensor(np.ascontiguousarray(array.values))
    return values.reshape(*values.shape[:2], -1), plain, tuple(array.shape[2:])


def _pooled(values: Tensor, real: Tensor, pool: str) -> tuple[Float[Tensor, "sample unit"], Int[Tensor, "sample unit"]]:
    """One number a sample and unit, and the place of its peak (the first of equals)."""
    place = torch.where(real, values, -torch.inf).argmax(-1)
    if pool == "max":
        return torch.where(real, values, -torch.inf).gather(-1, place[..., None])[..., 0], place
    return torch.where(real, values, 0).sum(-1) / real.sum(-1), place


def _unravelled(place: Int[Tensor, "sample unit"], shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(i) for i in np.unravel_index(place.numpy(), shape)) if shape else ()


def _repeats(column: Int[Tensor, "unit slot"]) -> Bool[Tensor, "unit slot"]:
    same = torch.zeros_like(column, dtype=torch.bool)
    same[:, 1:] = column[:, 1:] == column[:, :-1]
    return same
