"""How well a model follows a neuron, and what its memory units have to do with it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from nissl.errors import InputError
from nissl.populations._neuron_recording import NeuronRecording

FALSE_ALARMS = (0.0025, 0.01)


def scores(recording: NeuronRecording, output: Mapping[str, Tensor], burn_in: int) -> pd.Series:
    """Of `voltage` (mV) and `spike` (any monotonic function of the chance of one), from `burn_in` on."""
    found: dict[str, float] = {}
    if recording.voltage is not None and "voltage" in output:
        truth = recording.voltage[:, burn_in:]
        error = (truth - output["voltage"]).square().mean()
        found |= {"voltage_r2": (1 - error / truth.var(correction=0)).item(), "voltage_rmse": error.sqrt().item()}
    if recording.spikes is not None and "spike" in output:
        found |= _found_spikes(recording.spikes[:, burn_in:].numpy().ravel(), output["spike"].numpy().ravel())
    if not found:
        raise InputError(f"this model predicts {' and '.join(output)}; give what it is to be compared with")
    return pd.Series(found)


def _found_spikes(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    if truth.min() == truth.max():
        return {"spike_auc": float("nan")} | {f"hits_at_{rate}": float("nan") for rate in FALSE_ALARMS}
    false, true, _ = roc_curve(truth, found)
    hits = {f"hits_at_{rate}": float(np.interp(rate, false, true)) for rate in FALSE_ALARMS}
    return {"spike_auc": float(roc_auc_score(truth, found))} | hits


def shares(parts: Float[Tensor, "moment unit"]) -> Float[Tensor, "unit"]:
    """Share of the variance of a sum that each of its centred parts carries; they add up to 1."""
    total = parts.sum(1, keepdim=True)
    return (parts * total).mean(0) / total.square().mean()


def losses(parts: Float[Tensor, "moment unit"], residual: Float[Tensor, "moment"]) -> Float[Tensor, "unit"]:
    """By how much the variance of the residual grows if a part is missing."""
    residual = residual[:, None]
    return (residual + parts).var(0, correction=0) - residual.var(0, correction=0)
