"""What a thought machine is trained on: its best tick and its most certain one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nissl.errors import InputError


def certainty(logits: Float[Tensor, "batch *out class tick"]) -> Float[Tensor, "batch tick"]:
    """How certain each tick's answer is: one minus its entropy, as a share of the largest possible.

    Parameters
    ----------
    logits
        Answers at every tick; classes are the last axis but one.

    Returns
    -------
    Float[Tensor, "batch tick"]
        From 0 (all classes alike) to 1; the mean over output positions where there are several.

    Raises
    ------
    InputError
        Fewer than two classes: there is nothing to be certain about.

    Notes
    -----
    C = 1 - H(softmax y) / log(number of classes)

    References
    ----------
    Darlow et al. 2025, Continuous Thought Machines, section on the loss.

    Examples
    --------
    >>> certainty(torch.tensor([[[0.0, 40.0], [0.0, 0.0]]])).tolist()  # two classes, two ticks
    [[0.0, 1.0]]
    """
    _check(logits)
    logs = logits.log_softmax(-2)
    ruled_out = logs == -torch.inf  # such a class adds nothing
    entropy = -(logs.exp() * logs.masked_fill(ruled_out, 0)).sum(-2)  # (batch, *out, tick)
    share = (entropy / math.log(logits.shape[-2])).clamp(0, 1)
    return 1 - share.flatten(1, -2).mean(1) if share.dim() > 2 else 1 - share


def tick_losses(
    logits: Float[Tensor, "batch *out class tick"], target: Int[Tensor, "batch *out"], *, lookahead: int | None = None
) -> Float[Tensor, "batch tick"]:
    """Cross-entropy of every sample at every tick, averaged over output positions.

    Parameters
    ----------
    logits, target
        Answers, and the right ones.
    lookahead
        For routes: count a sample's positions only up to this many beyond its furthest correct beginning, over all ticks.
        The task then grows as the network learns (a curriculum without a schedule).

    Raises
    ------
    InputError
        Targets that do not fit the logits, or classes that do not exist.

    References
    ----------
    Darlow et al. 2025, Continuous Thought Machines, sections on the loss and on mazes.

    Examples
    --------
    >>> tick_losses(torch.zeros(3, 2, 5), torch.tensor([0, 1, 1])).shape
    torch.Size([3, 5])
    """
    _check(logits)
    shape = logits.shape[:-2]
    if target.shape != shape:
        raise InputError(
            f"targets of shape {tuple(target.shape)} for logits {tuple(logits.shape)}; needed: {tuple(shape)}"
        )
    if target.is_floating_point() or (
        not torch.compiler.is_compiling() and (int(target.min()) < 0 or int(target.max()) >= logits.shape[-2])
    ):
        raise InputError(f"targets are numbers of classes, integers from 0 to {logits.shape[-2] - 1}")
    index = target.long()[..., None, None].expand(*shape, 1, logits.shape[-1])
    losses = -logits.log_softmax(-2).gather(-2, index).squeeze(-2)  # (batch, *out, tick)
    if losses.dim() == 2:
        return losses
    losses = losses.flatten(1, -2)
    if lookahead is None:
        return losses.mean(1)
    if lookahead < 1:
        raise InputError(f"lookahead={lookahead}; allowed: 1 or more positions, or None for all of them")
    correct = (logits.argmax(-2) == target[..., None]).flatten(1, -2)
    reached = correct.long().cumprod(1).sum(1).amax(-1)  # furthest correct beginning of any tick
    counts = torch.arange(losses.shape[1], device=losses.device) < (reached + lookahead)[:, None]
    return (losses * counts[..., None]).sum(1) / counts.sum(1, keepdim=True)


def tick_loss(
    logits: Float[Tensor, "batch *out class tick"],
    certainty: Float[Tensor, "batch tick"],
    target: Int[Tensor, "batch *out"],
    *,
    certain: bool = True,
    lookahead: int | None = None,
) -> Float[Tensor, ""]:
    """The loss of a thought machine: the mean of each sample's best tick and its most certain one.

    Parameters
    ----------
    logits, certainty
        What the machine returned.
    target
        The right classes.
    certain
        False takes the last tick instead of the most certain one, for networks whose certainty means nothing.
    lookahead
        See `tick_losses`.

    Returns
    -------
    Float[Tensor, ""]
        Gradients flow through the two chosen ticks of each sample and no others.

    Notes
    -----
    L = mean over samples of ( L_t1 + L_t2 ) / 2,  t1 = argmin_t L_t,  t2 = argmax_t C_t

    References
    ----------
    Darlow et al. 2025, Continuous Thought Machines, section on the loss.

    Examples
    --------
    >>> import nissl.nn
    >>> machine = nissl.nn.ContinuousThoughtMachine(n_features=4, n_classes=3)
    >>> logits, certain = machine(torch.rand(2, 7, 4))
    >>> tick_loss(logits, certain, torch.tensor([0, 2])).backward()
    """
    losses = tick_losses(logits, target, lookahead=lookahead)
    if certainty.shape != losses.shape:
        raise InputError(f"certainty of shape {tuple(certainty.shape)}; needed: {tuple(losses.shape)}, one a tick")
    best = losses.min(1).values
    chosen = losses.gather(1, certainty.argmax(1, keepdim=True)).squeeze(1) if certain else losses[:, -1]
    return (best + chosen).mean() / 2


def _check(logits: Tensor) -> None:
    if logits.dim() < 3 or logits.shape[-2] < 2 or 0 in logits.shape:
        raise InputError(
            f"logits of shape {tuple(logits.shape)}; needed: (batch, ..., class, tick) with two classes or more"
        )
