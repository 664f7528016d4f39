"""How often neurons fire, and a word when they hardly do or hardly stop."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor, nn

from nissl.errors import InputError
from nissl.nn.spiking._lif import LIF

LOWEST, HIGHEST = 0.01, 0.99


def firing_rates(spikes: Any) -> xr.DataArray:
    """Spikes per step of each unit.

    Parameters
    ----------
    spikes
        0 and 1, `(..., unit)`: numpy, torch, or what `nissl.record` returned; NaN where a sample has ended.

    Returns
    -------
    xarray.DataArray
        (unit,), from 0 to 1.

    Raises
    ------
    InputError
        Nothing, or anything but 0 and 1.

    Warns
    -----
    UserWarning
        Units fire in less than 1% or more than 99% of all steps on average: nothing can be learned from them.

    Examples
    --------
    >>> import numpy as np
    >>> firing_rates(np.array([[1, 0], [1, 0], [0, 1], [1, 0]])).values.tolist()
    [0.75, 0.25]
    """
    given = spikes.detach().cpu().numpy() if isinstance(spikes, Tensor) else spikes
    values = np.asarray(given, dtype=float)
    if values.ndim == 0 or values.size == 0:
        raise InputError(f"spikes of shape {values.shape}; give (..., unit) with at least one step")
    real = values[~np.isnan(values)]
    if len(real) == 0 or not np.isin(real, (0.0, 1.0)).all():
        wrong = "only NaN" if len(real) == 0 else f"{real[~np.isin(real, (0.0, 1.0))][0]:g}"
        raise InputError(f"spikes hold {wrong}; allowed: 0 and 1. Of a membrane or a rate take what it is, not this")
    rates = np.nanmean(values.reshape(-1, values.shape[-1]), 0)
    _warn("the units", float(rates.mean()))
    coords = {"unit": spikes.coords["unit"]} if isinstance(spikes, xr.DataArray) and "unit" in spikes.coords else None
    return xr.DataArray(rates, dims="unit", coords=coords, attrs={"units": "spikes per step"})


@contextmanager
def spike_rates(network: nn.Module, *, warn: bool = True) -> Iterator[dict[str, Tensor]]:
    """Watch how often the neurons of a network fire, with gradients, so that a loss may ask for fewer spikes.

    Parameters
    ----------
    network
        Whose `LIF` cells are watched.
    warn
        Warn, at the end of the block, of cells that fire in less than 1% or more than 99% of all steps.

    Yields
    ------
    dict[str, Tensor]
        Filled while the network runs within the block: for each cell, by its path, the rate of each unit (unit,) over all
        samples and steps.

    Examples
    --------
    >>> import torch
    >>> network = nn.Sequential(nn.Linear(3, 4), LIF())
    >>> with spike_rates(network, warn=False) as rates:
    ...     output = network(torch.ones(2, 10, 3))
    >>> penalty = sum((r - 0.2).clamp(min=0).square().mean() for r in rates.values())
    >>> list(rates), penalty.requires_grad
    (['1'], True)
    """
    rates: dict[str, Tensor] = {}

    def watch(path: str) -> Any:
        def note(_: nn.Module, args: Any, spikes: Tensor) -> None:
            rates[path] = spikes.flatten(0, -2).mean(0)

        return note

    with ExitStack() as stack:
        for path, cell in network.named_modules():
            if isinstance(cell, LIF):
                stack.callback(cell.spikes.register_forward_hook(watch(path)).remove)
        yield rates
    if warn:
        for path, rate in rates.items():
            _warn(f"the neurons of {path!r}" if path else "the neurons", float(rate.detach().mean()))


def _warn(who: str, rate: float) -> None:
    if not LOWEST <= rate <= HIGHEST:
        what = "hardly ever fire" if rate < LOWEST else "fire at almost every step"
        warnings.warn(
            f"{who} {what} ({100 * rate:.2g}% of all steps), so they carry nothing; change the threshold or the scale of "
            "their current",
            stacklevel=4,
        )
