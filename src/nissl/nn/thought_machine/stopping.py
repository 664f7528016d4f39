"""When to answer: at the most certain tick, or at the first that is certain enough."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from nissl.errors import InputError


class Decision(NamedTuple):
    """An answer and what it took.

    Attributes
    ----------
    labels
        The class at the tick that was chosen, for every output position.
    tick
        Which tick that was, from 0.
    certainty
        How certain it was.
    thought
        How many ticks were computed for this sample.
    """

    labels: Int[Tensor, "batch *out"]
    tick: Int[Tensor, " batch"]
    certainty: Float[Tensor, " batch"]
    thought: Int[Tensor, " batch"]


def stopping_tick(certainty: Float[Tensor, "batch tick"], stop: float | None = None) -> Int[Tensor, " batch"]:
    """The tick to answer at.

    Parameters
    ----------
    certainty
        Of every tick.
    stop
        The first tick at least so certain; where there is none, or `stop` is None, the most certain one.

    Raises
    ------
    InputError
        A threshold outside 0 to 1.

    Examples
    --------
    >>> import torch
    >>> c = torch.tensor([[0.1, 0.8, 0.9], [0.2, 0.5, 0.3]])
    >>> stopping_tick(c).tolist(), stopping_tick(c, 0.7).tolist()
    ([2, 1], [1, 1])
    """
    check_stop(stop)
    most = certainty.argmax(1)
    if stop is None:
        return most
    enough = certainty >= stop
    return enough.int().argmax(1).where(enough.any(1), most)


def answers(logits: Float[Tensor, "batch *out class tick"], tick: Int[Tensor, " batch"]) -> Int[Tensor, "batch *out"]:
    """Each sample's classes at its own tick.

    Examples
    --------
    >>> import torch
    >>> logits = torch.tensor([[[3.0, 0.0], [1.0, 2.0]]])  # two classes, two ticks
    >>> answers(logits, torch.tensor([0])).item(), answers(logits, torch.tensor([1])).item()
    (0, 1)
    """
    index = tick.view(-1, *[1] * (logits.dim() - 1)).expand(*logits.shape[:-1], 1)
    return logits.gather(-1, index).squeeze(-1).argmax(-1)


def check_stop(stop: float | None) -> None:
    """Refuse a threshold that no certainty can have."""
    if stop is not None and not 0 <= stop <= 1:
        raise InputError(f"stop={stop}; certainty is between 0 (no idea) and 1 (no doubt)")
