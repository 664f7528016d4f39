"""What a leaky memory neuron is asked to be, looked over before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nissl.errors import InputError

MARGIN = 1e-6  # a sigmoid reaches its bounds only at infinity


def whole(name: str, value: Any, least: int) -> int:
    """A whole number from `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}={value!r}; allowed: a whole number from {least}")
    return value


def positive(name: str, value: Any, unit: str = "") -> float:
    """A positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"{name}={value!r}; allowed: a positive number{unit}")
    return float(value)


def time_constants(bounds: Any, n: int) -> tuple[float, float, Tensor]:
    """Shortest and longest time constant in ms, and `n` of them at equal ratios, in float64."""
    try:
        shortest, longest = bounds
    except (TypeError, ValueError):
        raise InputError(
            f"tau_memory={bounds!r}; give the shortest and the longest time constant in ms, such as (1.0, 1000.0)"
        ) from None
    shortest, longest = (positive("a time constant in tau_memory", v, ", in ms") for v in (shortest, longest))
    if shortest > longest:
        raise InputError(f"tau_memory=({shortest}, {longest}); the shortest time constant comes first")
    exponents = torch.linspace(0, 1, n, dtype=torch.float64)
    return shortest, longest, shortest * (longest / shortest) ** exponents


def to_logit(tau: Tensor, shortest: float, longest: float) -> Tensor:
    """The free number behind a time constant that can be learned, within its bounds."""
    if not longest > shortest:
        raise InputError(f"learn_tau between {shortest} and {longest} ms leaves nothing to learn; widen tau_memory")
    width = longest - shortest
    least = min(MARGIN, 1e-3 * shortest / width)  # within a thousandth of the shortest, however wide the bounds
    return torch.logit(((tau.double() - shortest) / width).clamp(least, 1 - MARGIN)).to(tau.dtype)


def refuse_other(module: nn.Module, settings: Mapping[str, float], saved: Mapping[str, Tensor], prefix: str) -> None:
    """An error that names the settings or the weights in which what was saved differs from this network."""
    name = f"weights of {type(module).__name__}"
    there = saved.get(f"{prefix}settings")
    here = torch.tensor([float(v) for v in settings.values()], dtype=torch.float64)
    if there is not None:
        if there.shape != here.shape:
            raise InputError(f"these are not {name}, or they are of another release")
        # Settings are saved in the weights' own precision.
        close = torch.isclose(there.double().cpu(), here, rtol=1e-2 if there.dtype.itemsize < 4 else 1e-5, atol=0)
        different = [
            f"{key} is {float(old):g} there and {float(new):g} here"
            for key, old, new, same in zip(settings, there, here, close, strict=True)
            if not same
        ]
        if different:
            raise InputError(f"{name} in another configuration: {'; '.join(different)}")
    for key, own in module.state_dict().items():
        given = saved.get(prefix + key)
        if given is not None and given.shape != own.shape:
            raise InputError(
                f"{name} in another configuration: {key} is {tuple(given.shape)} there and {tuple(own.shape)} here; n_inputs, "
                "n_outputs, n_memory, branches, synapses_per_branch and hidden must be as they were"
            )
