"""Which input channel each synapse listens to, and on which branch it sits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from nissl.errors import InputError, unknown

ROUTINGS = ("random", "neighbours")
NO_SYNAPSE = -1


def route(
    n_inputs: int, branches: int, synapses: int, routing: Any, generator: torch.Generator | None
) -> Int[Tensor, "branch synapse"]:
    """Channel of every synapse, `NO_SYNAPSE` for a place that stays empty."""
    if routing is None:
        if branches * synapses != n_inputs:
            raise InputError(
                f"{branches} branches of {synapses} synapses are {branches * synapses} synapses for {n_inputs} inputs; make "
                f"them as many, or say which input goes where: routing={' or '.join(map(repr, ROUTINGS))}, or an array of "
                "channels (branch, synapse)"
            )
        return torch.arange(n_inputs).view(branches, synapses)
    if isinstance(routing, str):
        if routing not in ROUTINGS:
            raise unknown("routing", routing, ROUTINGS)
        if routing == "random":
            return torch.randint(n_inputs, (branches, synapses), generator=generator)
        return neighbours(n_inputs, branches, synapses)
    return _given(routing, n_inputs, branches, synapses)


def neighbours(n_inputs: int, branches: int, synapses: int) -> Int[Tensor, "branch synapse"]:
    """Windows of neighbouring channels, one a branch, after excitatory and inhibitory neighbours have been paired.

    The first half of the channels is excitatory and the second inhibitory, both in the order in which they lie along the
    dendrites; windows overlap where there are more synapses than channels, and the last may be cut short.

    Examples
    --------
    >>> neighbours(6, 2, 4).tolist()
    [[0, 3, 1, 4], [4, 2, 5, -1]]
    """
    stride = math.ceil(n_inputs / branches)
    if n_inputs % 2:
        raise InputError(
            f"routing='neighbours' pairs an excitatory half of the inputs with an inhibitory one, and {n_inputs} is odd"
        )
    if stride > synapses:
        raise InputError(
            f"{branches} branches of {synapses} synapses leave out some of {n_inputs} inputs; give {stride} synapses a branch or more"
        )
    paired = torch.arange(n_inputs).view(2, -1).t().flatten()
    place = torch.arange(branches)[:, None] * stride + torch.arange(synapses)
    return torch.where(place < n_inputs, paired[place.clamp(max=n_inputs - 1)], NO_SYNAPSE)


def _given(routing: Any, n_inputs: int, branches: int, synapses: int) -> Int[Tensor, "branch synapse"]:
    channels = np.asarray(routing)
    if channels.dtype.kind not in "iu" or channels.size != branches * synapses:
        raise InputError(
            f"routing of type {channels.dtype} and shape {channels.shape}; give the channel of every synapse as whole numbers "
            f"({branches}, {synapses})"
        )
    if channels.min() < NO_SYNAPSE or channels.max() >= n_inputs:
        raise InputError(
            f"routing holds channels from {channels.min()} to {channels.max()}; allowed: 0 to {n_inputs - 1}, and "
            f"{NO_SYNAPSE} for no synapse"
        )
    return torch.as_tensor(channels.astype(np.int64)).reshape(branches, synapses)
