"""Where in the stimulus a unit's events look."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int

from nissl.errors import InputError
from nissl.populations.neuroformer.connectivity import _fitting
from nissl.populations.neuroformer.model import NeuroformerNetwork
from nissl.populations.neuroformer.windows import Windows


def stimulus_map(
    network: NeuroformerNetwork, windows: Windows, index: Int[np.ndarray, "sample"], unit: int, *, gradient: bool
) -> tuple[Float[np.ndarray, "token"], int]:
    """Mean attention over stimulus tokens at positions that predict a unit, and how many there were.

    With `gradient`, each weight is multiplied by the positive part of the derivative of the unit's logit in it (attention that
    speaks for the unit; Chefer et al. 2021, as the paper uses it).
    """
    if not (network.shape.clip and network.shape.see) or not len(network.stimulus.blocks):
        raise InputError(
            "this model does not look at a stimulus (inputs without 'stimulus', or layers without blocks for it)"
        )
    tokens = int(np.prod(network.stimulus_encoder.grid))
    total, events = torch.zeros(tokens, dtype=torch.float64), 0
    size = _fitting(network)
    for begin in range(0, len(index), size):
        batch = windows.batch(index[begin : begin + size], network.shape.predict)
        here = batch.ids[:, 1:] == unit
        if not here.any():
            continue
        with torch.enable_grad():
            found = network(batch, weights=True)
            pattern = found.attention["stimulus"][-1]
            weight = pattern
            if gradient:
                slope = torch.autograd.grad(found.ids[..., unit][here].sum(), pattern)[0]
                weight = pattern * slope.clamp(min=0)
        # (window, head, slot, token) -> the positions that predict the unit
        total += weight.detach().mean(1)[here].double().sum(0).cpu()
        events += int(here.sum())
    if events == 0:
        raise InputError("the unit has no event in these windows; choose another split or another unit")
    return (total / events).numpy(), events
