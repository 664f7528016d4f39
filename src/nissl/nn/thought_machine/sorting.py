"""Answers that are a sequence written out tick by tick, with pauses: connectionist temporal classification."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nissl.errors import InputError


def ctc_loss(logits: Float[Tensor, "batch class tick"], target: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
    """How unlikely it is that the ticks write the target, summed over all ways to place pauses and repeats.

    Parameters
    ----------
    logits
        At every tick the classes, and as the last one the pause (blank).
    target
        What is to be written.

    Returns
    -------
    Float[Tensor, ""]
        -log p(target) over its length, mean over samples.

    Raises
    ------
    InputError
        A target that cannot be written in so many ticks (equal neighbours need a pause between them), or a class that does
        not exist.

    References
    ----------
    Graves et al. 2006, Connectionist temporal classification. Darlow et al. 2025, Continuous Thought Machines, section on
    sorting.

    Examples
    --------
    >>> ctc_loss(torch.zeros(1, 3, 2), torch.tensor([[0]])).exp().item()  # 3 of 9 ways to write: a-, -a, aa
    3.0
    """
    if logits.dim() != 3 or target.dim() != 2 or len(logits) != len(target) or 0 in target.shape or logits.shape[1] < 2:
        raise InputError(
            f"logits {tuple(logits.shape)} and targets {tuple(target.shape)}; needed: (batch, class, tick) and (batch, length)"
        )
    blank = logits.shape[1] - 1
    if target.is_floating_point() or int(target.min()) < 0 or int(target.max()) >= blank:
        raise InputError(f"targets are integers from 0 to {blank - 1}; the last class, {blank}, is the pause")
    needed = target.shape[1] + int((target[:, 1:] == target[:, :-1]).sum(1).max() if target.shape[1] > 1 else 0)
    if needed > logits.shape[2]:
        raise InputError(f"a target that needs {needed} ticks, and there are {logits.shape[2]}; think longer")
    ticks, lengths = (torch.full((len(logits),), n, dtype=torch.long) for n in (logits.shape[2], target.shape[1]))
    return functional.ctc_loss(logits.log_softmax(1).permute(2, 0, 1), target, ticks, lengths, blank=blank)


def written(logits: Float[Tensor, "class tick"]) -> tuple[Int[Tensor, " length"], Int[Tensor, " length"]]:
    """What a sample's ticks write: repeats are one, pauses are dropped.

    Returns
    -------
    labels, tick
        Each class written, and the tick (from 0) at which it appeared; the gaps between them are the time it thought.

    Examples
    --------
    >>> one_hot = functional.one_hot(torch.tensor([2, 0, 0, 2, 1]), 3).T.float()  # pause, a, a, pause, b
    >>> [v.tolist() for v in written(one_hot)]
    [[0, 1], [1, 4]]
    """
    if logits.dim() != 2 or 0 in logits.shape:
        raise InputError(f"logits of shape {tuple(logits.shape)}; give one sample's (class, tick)")
    best = logits.argmax(0)
    new = torch.ones_like(best, dtype=torch.bool)
    new[1:] = best[1:] != best[:-1]
    tick = torch.nonzero(new & (best != len(logits) - 1)).squeeze(1)
    return best[tick], tick
