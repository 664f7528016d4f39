"""What if this neuron were different? Change activity while a network runs, and leave nothing behind.

An intervention is a function of a site's activity. `intervene` holds one or several of them in force for the length of
a `with` block, around anything: a forward pass, `nissl.record`, `model.generate`, a training step. Gradients flow
through.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from torch import Tensor

from nissl.errors import InputError, unknown
from nissl.models import Model, Site, tap

Selector = int | slice | Sequence[int] | np.ndarray | Tensor | None
Number = float | Sequence[float] | np.ndarray | Tensor


@dataclass
class Tokens:
    """Which columns of the current pass are which tokens: padding, and the tokens already in the cache, taken into
    account.
    """

    mask: Bool[Tensor, "sample position"] | None = None
    past: int = 0

    def numbers(self, value: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """For each column of `value`: its number among the sample's real tokens, whether it is real, and the samples'
        lengths.
        """
        n, width = value.shape[0], value.shape[axis]
        mask = self.mask
        if mask is None or mask.shape[0] != n or mask.shape[1] != self.past + width:
            mask = torch.ones(n, self.past + width, dtype=torch.bool, device=value.device)
        mask = mask.to(value.device).bool()
        return (mask.cumsum(1) - 1)[:, -width:], mask[:, -width:], mask.sum(1, keepdim=True)


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
        for name, axis in (("units", unit_axis(site.dims)), ("heads", _axis(site.dims, "head"))):
            selector = getattr(self, name)
            if selector is None:
                continue
            if axis is None:
                raise InputError(f"site {site.name!r} has no {name}; its axes are {', '.join(site.dims)}")
            if site.shape is not None:
                _chosen(selector, site.shape[axis], name, site)

    def _where(self, value: Tensor, site: Site, tokens: Tokens) -> Tensor | None:
        """True where the intervention acts, broadcastable to `value`; None for everywhere."""
        dims = site.dims or ()
        where: Tensor | None = None
        for name, axis in (("units", unit_axis(dims)), ("heads", _axis(dims, "head"))):
            selector = getattr(self, name)
            if selector is None:
                continue
            if axis is None:
                raise InputError(f"site {site.name!r} has no {name}; its axes are {', '.join(dims)}")
            chosen = _chosen(selector, value.shape[axis], name, site).to(value.device)
            where = _join(where, _along(chosen, axis, value.dim()))
        if self.positions is not None:
            where = _join(where, _positions(self.positions, value, site, tokens))
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
        return _per_unit(self.value, value, site, self.units)


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
        pool = _aligned(self.reference, value, site)
        return _finite_or(pool[torch.randint(len(pool), (len(value),), generator=generator).to(pool.device)], value)

    def _mean(self, value: Tensor, site: Site, tokens: Tokens) -> Tensor:
        source = value if self.reference is None else _ordered(self.reference, value, site)
        keep = {a for a in (unit_axis(site.dims or ()), _axis(site.dims or (), "head")) if a is not None}
        over = [a for a in range(source.dim()) if a not in keep]
        position = _axis(site.dims or (), "position")
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
        source = _aligned(self.source, value, site)
        if len(source) not in (1, len(value)):
            raise InputError(
                f"the patch for {site.name!r} holds {len(source)} samples and the batch {len(value)}; give one sample, or as many as "
                "the batch (batch_size=...)"
            )
        return _finite_or(source.expand_as(value), value)


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
        axis = unit_axis(site.dims or ())
        direction = torch.as_tensor(
            np.asarray(self.direction) if not isinstance(self.direction, Tensor) else self.direction
        )
        if axis is None or direction.dim() != 1 or len(direction) != value.shape[axis]:
            width = None if axis is None else value.shape[axis]
            raise InputError(
                f"a direction of shape {tuple(direction.shape)} for site {site.name!r}, which has {width} units"
            )
        return value + self.strength * _along(direction.to(value), axis, value.dim())


@contextmanager
def intervene(model: Model, interventions: Mapping[str, Any]) -> Iterator[Model]:
    """Hold interventions in force while the block runs.

    Parameters
    ----------
    model
        The network.
    interventions
        For each site (or glob of sites) a `Clamp`, `Ablate`, `Patch`, `Steer`, any callable `f(value)` or `f(value,
        site)` that returns the new activity (or None to leave it), or a list of these, carried out in order.

    Yields
    ------
    Model
        The same network; nothing stays hooked after the block, also when its body raises, and other threads see the
        network as it is.

    Raises
    ------
    UnknownNameError
        A site that does not exist.
    InputError
        Units, positions or heads that the site does not have, a patch that does not fit.

    Examples
    --------
    >>> import nissl, torch
    >>> net = nissl.load(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))
    >>> with nissl.intervene(net, {"1": nissl.Ablate("zero")}):
    ...     net(torch.ones(1, 2)).tolist()
    [[0.0, 0.0]]
    """
    tokens = Tokens()
    taps: dict[str, Callable[[Tensor, Site], Tensor | None]] = {}
    for pattern, given in interventions.items():
        chain = list(given) if isinstance(given, list | tuple) else [given]
        for site in model.sites.find(pattern):
            for one in chain:
                if isinstance(one, Intervention):
                    one.check(site)
            taps[site.name] = _chained(
                [*([taps[site.name]] if site.name in taps else []), *(_bound(o, tokens) for o in chain)]
            )
    with ExitStack() as stack:
        stack.callback(_watch_tokens(model, tokens).remove)
        stack.enter_context(tap(model, taps))
        yield model


def _bound(intervention: Any, tokens: Tokens) -> Callable[[Tensor, Site], Tensor | None]:
    if isinstance(intervention, Intervention):
        return lambda value, site: intervention(value, site, tokens)
    if not callable(intervention):
        raise InputError(
            f"{intervention!r} is no intervention; allowed: Clamp, Ablate, Patch, Steer, or a function of the activity"
        )
    if _positional(intervention) == 1:
        return lambda value, _: intervention(value)  # type: ignore[return-value]
    return intervention  # type: ignore[return-value]


def _positional(function: Callable[..., Any]) -> int:
    """How many required positional arguments a callable takes; 2 where it cannot be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1  # a builtin such as torch.relu
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    return 2 if any(p.kind is p.VAR_POSITIONAL for p in parameters) or len(plain) >= 2 else 1


def _chained(functions: list[Callable[[Tensor, Site], Tensor | None]]) -> Callable[[Tensor, Site], Tensor | None]:
    def fn(value: Tensor, site: Site) -> Tensor:
        for function in functions:
            replaced = function(value, site)
            if replaced is None:
                continue
            if replaced.shape != value.shape:
                raise InputError(
                    f"the intervention at {site.name!r} returned shape {tuple(replaced.shape)} for {tuple(value.shape)}; keep the shape"
                )
            value = replaced
        return value

    return fn


def _watch_tokens(model: Model, tokens: Tokens) -> Any:
    """Note, at each pass of this thread, which columns are padding and how many tokens are in the cache."""
    here = threading.get_ident()

    def note(_: Any, args: tuple, kwargs: dict) -> None:
        if threading.get_ident() == here:
            mask = kwargs.get("attention_mask")
            tokens.mask = mask if isinstance(mask, Tensor) and mask.dim() == 2 else None
            cache = kwargs.get("past_key_values")
            tokens.past = int(cache.get_seq_length()) if cache is not None and hasattr(cache, "get_seq_length") else 0

    return model.module.register_forward_pre_hook(note, with_kwargs=True)


# ----------------------------------------------------------------------------------------------------------- selecting


def unit_axis(dims: Sequence[str]) -> int | None:
    """The axis that counts the units of a site: units, classes, or key positions of an attention pattern."""
    return next((dims.index(d) for d in ("unit", "class", "key_position") if d in dims), None)


def _axis(dims: Sequence[str], name: str) -> int | None:
    return dims.index(name) if name in dims else None


def _chosen(selector: Selector, size: int, name: str, site: Site) -> Bool[Tensor, "axis"]:
    """A selector as a boolean vector; out of range is an error and not a wrap."""
    chosen = torch.zeros(size, dtype=torch.bool)
    if isinstance(selector, slice):
        chosen[selector] = True
        return chosen
    index = torch.as_tensor(np.atleast_1d(np.asarray(selector)))
    if index.dtype == torch.bool:
        if len(index) != size:
            raise InputError(f"{len(index)} booleans for the {size} {name} of {site.name!r}")
        return index
    if index.is_floating_point() or index.dim() != 1:
        raise InputError(
            f"{name}={selector!r} at {site.name!r}; allowed: an int, a slice, a list of ints, a boolean array"
        )
    if len(index) and (int(index.max()) >= size or int(index.min()) < -size):
        raise InputError(f"{name}={selector!r} at {site.name!r}, which has {size}, so 0 to {size - 1}")
    chosen[index.long()] = True
    return chosen


def _positions(selector: Selector, value: Tensor, site: Site, tokens: Tokens) -> Bool[Tensor, "..."]:
    dims = site.dims or ()
    spatial = [a for a in (_axis(dims, "y"), _axis(dims, "x")) if a is not None]
    flags = torch.as_tensor(np.asarray(selector)) if not isinstance(selector, slice) else torch.empty(0)
    if spatial:
        if flags.dtype != torch.bool or tuple(flags.shape) != tuple(value.shape[a] for a in spatial):
            size = " x ".join(str(value.shape[a]) for a in spatial)
            raise InputError(f"positions at {site.name!r} are places of a picture; give a boolean array of {size}")
        return flags.to(value.device)
    axis = _axis(dims, "position")
    if axis is None:
        raise InputError(f"site {site.name!r} has no positions; its axes are {', '.join(dims)}")
    if flags.dtype == torch.bool:
        if len(flags) != value.shape[axis]:
            raise InputError(f"{len(flags)} booleans for the {value.shape[axis]} positions of {site.name!r}")
        return _along(flags.to(value.device), axis, value.dim())
    number, real, length = tokens.numbers(value, axis)
    if isinstance(selector, slice):
        start = 0 if selector.start is None else selector.start
        begin = start if start >= 0 else length + start
        end = length if selector.stop is None else selector.stop if selector.stop >= 0 else length + selector.stop
        step = selector.step or 1
        if step < 1:
            raise InputError(f"positions={selector!r}: the step must be positive")
        chosen = (number >= begin) & (number < end) & ((number - begin) % step == 0)
    else:
        wanted = torch.atleast_1d(flags).to(value.device)
        if wanted.is_floating_point():
            raise InputError(f"positions={selector!r}; allowed: an int, a slice, a list of ints, a boolean array")
        longest = int(length.max())
        if tokens.past == 0 and len(wanted) and (int(wanted.max()) >= longest or int(wanted.min()) < -longest):
            raise InputError(f"positions={selector!r} at {site.name!r}; the longest sample has {longest} tokens")
        absolute = torch.where(wanted[None, :] >= 0, wanted[None, :], length + wanted[None, :])  # (sample, wanted)
        chosen = (number[:, :, None] == absolute[:, None, :]).any(-1)
    shape = [value.shape[0] if a == 0 else value.shape[axis] if a == axis else 1 for a in range(value.dim())]
    return (chosen & real).reshape(shape)


def _join(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a & b


def _along(vector: Tensor, axis: int, dims: int) -> Tensor:
    """A vector laid along one axis of a tensor with `dims` axes."""
    return vector.reshape([-1 if a == axis else 1 for a in range(dims)])


# -------------------------------------------------------------------------------------------------------------- values


def _per_unit(number: Number, value: Tensor, site: Site, units: Selector) -> Float[Tensor, "..."]:
    given = torch.as_tensor(np.asarray(number) if not isinstance(number, Tensor) else number).to(value)
    if given.dim() == 0:
        return given.expand_as(value)
    axis = unit_axis(site.dims or ())
    if axis is None or given.dim() != 1:
        raise InputError(
            f"a value of shape {tuple(given.shape)} for site {site.name!r}; give one number, or one for each unit"
        )
    width = value.shape[axis]
    if units is not None and not isinstance(units, slice):
        index = torch.as_tensor(np.atleast_1d(np.asarray(units)))
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index
    else:
        index = torch.arange(width)[units if isinstance(units, slice) else slice(None)]
    if len(given) != len(index):
        raise InputError(
            f"{len(given)} values for {len(index)} selected units of {site.name!r}; give one number, or one for each unit"
        )
    full = torch.zeros(width, dtype=value.dtype, device=value.device).index_put((index.to(value.device),), given)
    return _along(full, axis, value.dim())


def _ordered(source: Any, value: Tensor, site: Site) -> Tensor:
    """Recorded activity with its axes in the order of the site, on its device."""
    if isinstance(source, xr.DataArray):
        # Where sites of several widths were recorded together, an axis may be called unit_48.
        plain = {str(d): str(d).rsplit("_", 1)[0] for d in source.dims if str(d).rsplit("_", 1)[-1].isdigit()}
        source = source.rename(plain) if plain else source
        dims = [d for d in site.dims or () if d != "sample" or "sample" in source.dims]
        if set(dims) != set(map(str, source.dims)):
            raise InputError(
                f"activity with axes {', '.join(map(str, source.dims))} for site {site.name!r} with axes {', '.join(dims)}"
            )
        source = source.transpose(*dims).values
    tensor = torch.as_tensor(source).to(device=value.device, dtype=value.dtype)
    return tensor[None] if tensor.dim() == value.dim() - 1 else tensor


def _aligned(source: Any, value: Tensor, site: Site) -> Tensor:
    """The same, cut to the positions of this pass; every other axis has to fit."""
    tensor = _ordered(source, value, site)
    position = _axis(site.dims or (), "position")
    if position is not None and tensor.dim() == value.dim() and tensor.shape[position] > value.shape[position]:
        tensor = tensor.narrow(position, 0, value.shape[position])  # recorded beside longer prompts, hence padded
    if position is not None and tensor.dim() == value.dim() and tensor.shape[position] == 1:
        tensor = tensor.expand(
            [s if a == position else -1 for a, s in enumerate(value.shape)]
        )  # one position serves all
    if tensor.shape[1:] != value.shape[1:]:
        raise InputError(
            f"activity of shape {tuple(tensor.shape)} for site {site.name!r}, which has {tuple(value.shape)} in this pass"
        )
    return tensor


def _finite_or(source: Tensor, value: Tensor) -> Tensor:
    return torch.where(torch.isnan(source), value, source)
