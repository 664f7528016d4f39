"""Utilities of given outputs, a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError
from nissl.learning.utility.readers import NOTHING, Reader
from nissl.learning.utility.transforms import log_probability


def several(inputs: Any) -> Any:
    """Inputs as something with a length that can be indexed."""
    if isinstance(inputs, str):
        return [inputs]
    if isinstance(inputs, Mapping | pd.DataFrame | pd.Series | xr.DataArray | xr.Dataset):
        raise InputError(
            f"inputs are a {type(inputs).__name__}; give a list of texts or token ids, or a tensor or array (sample, ...)"
        )
    found = inputs if isinstance(inputs, Tensor | np.ndarray | list | tuple) else list(inputs)
    if not len(found):
        raise InputError("there are no inputs")
    return found


def score(
    reader: Reader, inputs: Any, rows: np.ndarray, tokens: Tensor, utility: str, batch_size: int
) -> Float[np.ndarray, "output"]:
    """Utility of each row of tokens for the input of that row."""
    found = []
    for begin in range(0, len(rows), batch_size):
        some = tokens[begin : begin + batch_size]
        logits = _known(reader.token_logits(_take(inputs, rows[begin : begin + batch_size]), some), some).double()
        some = some.to(logits.device)
        values = logits if utility == "logit" else logits.log_softmax(-1)
        values = values.gather(-1, some.clamp_min(0)[..., None])[..., 0] * (some != NOTHING)
        total = values.sum(1)
        found.append(total / (some != NOTHING).sum(1) if utility == "mean_log_probability" else total)
    return torch.cat(found).cpu().numpy()


def token_logits(reader: Reader, inputs: Any, tokens: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Logits at every token of the outputs, one row each, and those tokens."""
    found = []
    for begin in range(0, len(tokens), batch_size):
        some = tokens[begin : begin + batch_size]
        logits = _known(reader.token_logits(_take(inputs, np.arange(begin, begin + len(some))), some), some)
        found.append(logits[(some != NOTHING).to(logits.device)].cpu())
    return torch.cat(found).double(), tokens[tokens != NOTHING]


def nats(logits: tuple[Tensor, Tensor], transform: str, beta: float) -> float:
    """Mean negative log-likelihood of tokens."""
    values, tokens = logits
    return -float(log_probability(values, transform, beta).gather(-1, tokens[:, None]).mean())


def finite(logits: Tensor) -> Tensor:
    """The same, or an error where they hold NaN."""
    if bool(logits.isnan().any()):
        raise InputError("the network's logits hold NaN")
    return logits


def _known(logits: Tensor, tokens: Tensor) -> Tensor:
    """The same, or an error where a token is none of the options."""
    worst = int(tokens.max())
    if worst >= logits.shape[-1] or int(tokens.min()) < NOTHING:
        given = worst if worst >= logits.shape[-1] else int(tokens.min())
        raise InputError(
            f"option {given} does not exist; the network has {logits.shape[-1]}, so 0 to {logits.shape[-1] - 1}"
        )
    return finite(logits)


def _take(inputs: Any, rows: np.ndarray) -> Any:
    if isinstance(inputs, Tensor):
        return inputs[torch.as_tensor(rows, device=inputs.device)]
    return inputs[rows] if isinstance(inputs, np.ndarray) else [inputs[i] for i in rows]
