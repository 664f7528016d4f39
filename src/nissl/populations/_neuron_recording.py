"""What one neuron receives and does, looked over and ready for training."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError


@dataclass(frozen=True)
class NeuronRecording:
    """Input (trial, time, channel), and spikes and voltage (trial, time), at least one of them."""

    x: Float[Tensor, "trial time channel"]
    spikes: Float[Tensor, "trial time"] | None
    voltage: Float[Tensor, "trial time"] | None

    @property
    def names(self) -> tuple[str, ...]:
        """What is to be predicted."""
        given = {"spike": self.spikes, "voltage": self.voltage}
        return tuple(name for name, value in given.items() if value is not None)

    @property
    def n_times(self) -> int:
        """Bins of a trial."""
        return self.x.shape[1]

    @property
    def n_channels(self) -> int:
        """Input channels."""
        return self.x.shape[2]

    def select(self, trials: slice, times: slice) -> NeuronRecording:
        """A part of it."""
        spikes, voltage = (None if v is None else v[trials, times] for v in (self.spikes, self.voltage))
        return NeuronRecording(self.x[trials, times], spikes, voltage)

    def split(self, share: float, burn_in: int) -> tuple[NeuronRecording, NeuronRecording]:
        """What to train on and what to measure on: the last trials, or where there are few the end of each."""
        if not 0 < share < 1:
            raise InputError(f"held_out={share}; allowed: a share between 0 and 1")
        n, everything = len(self.x), slice(None)
        if n >= 5:
            last = max(1, round(share * n))
            return self.select(slice(n - last), everything), self.select(slice(n - last, None), everything)
        last = max(2, round(share * self.n_times))
        first = self.n_times - last
        if first < 2:
            raise InputError(f"{self.n_times} bins are too few to hold some out; record longer")
        # What is held out begins early enough for the state to have come about.
        return self.select(everything, slice(first)), self.select(everything, slice(max(0, first - burn_in), None))

    def scaling(self) -> tuple[float, float]:
        """Mean and standard deviation of the voltage; 0 and 1 where there is none."""
        if self.voltage is None:
            return 0.0, 1.0
        return self.voltage.mean().item(), self.voltage.std().item()

    def pieces(
        self, targets: Sequence[Tensor], length: int, n: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "piece time channel"], ...]:
        """Pieces of input and targets that begin anywhere."""
        length = min(length, self.n_times)
        trial = torch.randint(len(self.x), (n, 1), generator=generator)
        time = torch.randint(self.n_times - length + 1, (n, 1), generator=generator) + torch.arange(length)
        return self.x[trial, time], *(t[trial, time] for t in targets)


def as_input(spikes_in: Any, inhibitory: Any) -> Float[Tensor, "trial time channel"]:
    """Input spikes, with the sign of their channel."""
    x = _array(spikes_in, "spikes_in", ("trial", "time", "channel"))
    if inhibitory is None:
        return x
    chosen, n = np.asarray(inhibitory), x.shape[2]
    if chosen.dtype == bool and chosen.shape != (n,):
        raise InputError(f"inhibitory of shape {chosen.shape}; give one boolean for each of {n} channels, or indices")
    if chosen.dtype != bool and (
        chosen.dtype.kind not in "iu" or (chosen.size and not 0 <= chosen.min() <= chosen.max() < n)
    ):
        raise InputError(f"inhibitory holds what is no channel; allowed: whole numbers from 0 to {n - 1}")
    signs = torch.ones(n)
    signs[torch.as_tensor(chosen)] = -1.0
    return x * signs


def as_recording(
    spikes_in: Any, spikes_out: Any, voltage: Any, inhibitory: Any, ceiling: float | None
) -> NeuronRecording:
    """Everything about a neuron, or one clear error."""
    x = as_input(spikes_in, inhibitory)
    if spikes_out is None and voltage is None:
        raise InputError("neither spikes_out nor voltage; give at least one, there is nothing to fit otherwise")
    found: list[Tensor | None] = []
    for name, given in (("spikes_out", spikes_out), ("voltage", voltage)):
        value = None if given is None else _array(given, name, ("trial", "time"))
        if value is not None and value.shape != x.shape[:2]:
            raise InputError(
                f"{name} has (trial, time) = {tuple(value.shape)} and spikes_in {tuple(x.shape[:2])}; they must be equal"
            )
        found.append(value)
    spikes, volts = found
    if spikes is not None and not ((spikes == 0) | (spikes == 1)).all():
        worst = spikes[(spikes != 0) & (spikes != 1)][0].item()
        raise InputError(f"spikes_out holds {worst:g}; allowed: 0 and 1, use finer bins or clip the counts")
    if volts is not None and ceiling is not None:
        above = float((volts > ceiling).float().mean())
        if above > 0.5:
            raise InputError(
                f"{above:.0%} of the voltage lies above the ceiling of {ceiling:g} mV, where spikes are cut off; is it in mV? Give another "
                "ceiling, or ceiling=None to cut nothing"
            )
        if above > 0.05:
            warnings.warn(
                f"{above:.0%} of the voltage lies above the ceiling of {ceiling:g} mV and is cut off; ceiling=None cuts nothing",
                stacklevel=3,
            )
        volts = volts.clamp(max=ceiling)
    for name, value in (("spikes_out", spikes), ("voltage", volts)):
        if value is not None and value.min() == value.max():
            raise InputError(f"{name} never changes, it is {value.min().item():g} throughout; there is nothing to fit")
    return NeuronRecording(x, spikes, volts)


def _array(value: Any, name: str, dims: tuple[str, ...]) -> Tensor:
    """As a float32 tensor with the axes asked for; the first is added where it is lacking."""
    if isinstance(value, xr.DataArray):
        wanted = [d for d in dims if d in value.dims]
        if set(value.dims) - set(dims) or wanted not in (list(dims), list(dims[1:])):
            raise InputError(
                f"{name} has axes {', '.join(map(str, value.dims))}; allowed: {', '.join(dims)}, the first may lack"
            )
        value = value.transpose(*wanted).values
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} is of type {array.dtype}; allowed: real numbers")
    if array.ndim == len(dims) - 1:
        array = array[None]
    if array.ndim != len(dims) or 0 in array.shape:
        raise InputError(f"{name} has shape {array.shape}; allowed: ({', '.join(dims)}), none of them empty")
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds NaN or infinite values; fill or drop what is missing first")
    return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32)
