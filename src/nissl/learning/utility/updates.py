"""Two updates that are one in the mean: maximum likelihood, and the preference perceptron with a rival that the network draws."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int
from torch import Tensor, nn

from nissl.errors import InputError, ModelError
from nissl.models.outputs import main_tensor


def mle_step(model: nn.Module, x: Tensor, y: Int[Tensor, "*sample"], *, lr: float) -> float:
    """One step up the log-likelihood of what was chosen.

    Parameters
    ----------
    model
        From inputs to logits, the options along the last axis; changed in place.
    x
        Inputs.
    y
        The option chosen in each context.
    lr
        Learning rate, above 0.

    Returns
    -------
    float
        Mean log-likelihood before the step.

    Raises
    ------
    InputError
        A rate that is not positive; choices that are no indices of options.
    ModelError
        Logits that are not finite.

    Notes
    -----
    The gradient is that of the chosen option's utility, less the mean gradient of the utilities of options as the softmax
    would choose them.

    Examples
    --------
    >>> model = nn.Linear(2, 3)
    >>> before = mle_step(model, torch.ones(1, 2), torch.tensor([2]), lr=0.1)
    >>> mle_step(model, torch.ones(1, 2), torch.tensor([2]), lr=0.1) > before
    True
    """
    utilities, y = _utilities(model, x, y, lr)
    likelihood = utilities.log_softmax(-1).gather(-1, y[..., None]).mean()
    _ascend(model, likelihood, lr)
    return likelihood.item()


def preference_perceptron_step(
    model: nn.Module,
    x: Tensor,
    y: Int[Tensor, "*sample"],
    *,
    lr: float,
    generator: torch.Generator | None = None,
) -> float:
    """Raise the utility of what was chosen, lower that of a rival that the network itself would choose.

    Parameters
    ----------
    model, x, y, lr
        As in `mle_step`.
    generator
        Draws the rivals from the softmax, by the largest of utility plus Gumbel noise; torch's own where None.

    Returns
    -------
    float
        Share of contexts in which the rival was the chosen option itself, so that nothing was learned.

    Raises
    ------
    InputError, ModelError
        As in `mle_step`.

    Notes
    -----
    The mean over rivals is the step of maximum likelihood.

    Examples
    --------
    >>> model = nn.Linear(2, 3)
    >>> share = preference_perceptron_step(model, torch.ones(8, 2), torch.zeros(8, dtype=torch.long), lr=0.1)
    >>> 0 <= share <= 1
    True
    """
    utilities, y = _utilities(model, x, y, lr)
    noise = torch.rand(utilities.shape, generator=generator, dtype=torch.float64, device=utilities.device)
    rival = (utilities.detach() - (-noise.clamp_min(1e-300).log()).log()).argmax(-1)
    chosen, other = (utilities.gather(-1, i[..., None]) for i in (y, rival))
    _ascend(model, (chosen - other).mean(), lr)
    return (rival == y).double().mean().item()


def _utilities(model: nn.Module, x: Tensor, y: Tensor, lr: float) -> tuple[Tensor, Tensor]:
    if not (lr > 0 and math.isfinite(lr)):
        raise InputError(f"lr={lr}; allowed: a positive number")
    utilities = main_tensor(model(x))
    if utilities is None or utilities.dim() < 1:
        raise ModelError(f"{type(model).__name__} gives no logits")
    if not utilities.requires_grad:
        raise ModelError("nothing can be learned: all weights are frozen, or this runs under no_grad")
    if not utilities.numel():
        raise InputError("the batch is empty")
    if not bool(utilities.isfinite().all()):
        raise ModelError("the logits hold NaN or infinity; a smaller lr, or scaled inputs, may help")
    y = torch.as_tensor(y, device=utilities.device)
    if y.shape != utilities.shape[:-1] or y.is_floating_point():
        raise InputError(
            f"choices of shape {tuple(y.shape)} and type {y.dtype} for logits of shape {tuple(utilities.shape)}; one index a context"
        )
    if y.numel() and not 0 <= int(y.min()) <= int(y.max()) < utilities.shape[-1]:
        raise InputError(f"choices from {int(y.min())} to {int(y.max())}; allowed: 0 to {utilities.shape[-1] - 1}")
    return utilities, y.long()


def _ascend(model: nn.Module, objective: Tensor, lr: float) -> None:
    weights = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(objective, weights, allow_unused=True)
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                weight += lr * gradient
