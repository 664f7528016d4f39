"""Stimuli made to order: many at once, each as good as it can be within what the screen, the eye or the network allows.

A constraint says which stimuli are allowed and brings others onto that set; `optimise_stimuli` climbs an objective and
steps back onto the set after every step. All stimuli are one batch: their objectives do not touch each other, so one
backward pass serves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from nissl.comparison.constraints import FULFILLED, ROUNDS, Constraint
from nissl.errors import InputError, ModelError

# Objective of a batch of stimuli; the second argument says which of all stimuli they are.
Objective = Callable[[Tensor, Tensor], Tensor]

_COOLED = 0.05  # share of the learning rate that is left at the last step
_LAPLACE = ((0.25, 0.5, 0.25), (0.5, -3.0, 0.5), (0.25, 0.5, 0.25))


def noise_stimuli(
    n: int, canvas: tuple[int, ...], constraint: Constraint | None = None, *, seed: int = 0, **like: Any
) -> Float[Tensor, "stimulus *canvas"]:
    """Gaussian noise brought onto the set of allowed stimuli: where an ascent starts.

    Parameters
    ----------
    n, canvas
        How many stimuli, and the shape of one: `(channel, y, x)`, `(channel, frame, y, x)` or any other.
    constraint
        What is allowed; anything where None.
    **like
        `dtype` and `device`.

    Raises
    ------
    InputError
        The constraint cannot be fulfilled by a stimulus of this shape.
    """
    if not canvas or any(int(c) != c or c < 1 for c in canvas):
        raise InputError(f"canvas {canvas} is no shape; give the axes of one stimulus, such as (1, 16, 16)")
    # Drawn on the CPU in single precision, so that the same seed is the same noise everywhere.
    x = torch.randn(n, *canvas, generator=torch.Generator().manual_seed(seed)).to(**like)
    if constraint is None:
        return x
    constraint.check(canvas)
    # Several calls: alternating projections may need more rounds from noise than from one step outside.
    for _ in range(20):
        x = constraint.project(x)
        if bool((constraint.violation(x) < FULFILLED).all()):
            return x
    raise InputError(
        f"no stimulus of shape {canvas} fulfils {constraint}: after {20 * ROUNDS} projections the best is still off by "
        f"{float(constraint.violation(x).min()):.2g} (relative); widen the range, or ask for less norm or contrast"
    )


@dataclass(frozen=True)
class OptimisedStimuli:
    """What an ascent gave.

    Attributes
    ----------
    stimuli
        The best stimulus of each ascent.
    objective
        Its objective, penalty included.
    history
        Objective before each step; NaN after an ascent has stopped.
    steps
        How many steps each ascent took.
    """

    stimuli: Float[Tensor, "stimulus *canvas"]
    objective: Float[Tensor, "stimulus"]
    history: Float[Tensor, "step stimulus"]
    steps: Int[Tensor, "stimulus"]


def optimise_stimuli(
    objective: Objective,
    start: Float[Tensor, "stimulus *canvas"],
    constraint: Constraint | None = None,
    *,
    steps: int = 100,
    learning_rate: float = 0.3,
    optimiser: Literal["adam", "sgd"] = "adam",
    blur: float = 0.0,
    smoothness: float = 0.0,
    decay: float = 0.9,
    patience: int = 100,
    batch_size: int | None = None,
    progress: bool = False,
) -> OptimisedStimuli:
    """Climb an objective with many stimuli at once, staying on the set of allowed ones.

    Parameters
    ----------
    objective
        From stimuli `(batch, *canvas)` and their places among all stimuli `(batch,)` to one number each, to be made
        large. A stimulus' number must not depend on the other stimuli.
    start
        Where each ascent begins.
    constraint
        Applied to the start and after every step.
    steps
        How many at most.
    learning_rate
        Adam: step in units of the starting stimulus' standard deviation. SGD: factor of the gradient. Falls evenly to a
        twentieth at the last step, so that an ascent settles.
    optimiser
        Adam (the sane default for any model) or plain gradient ascent (what the published code does).
    blur
        Gaussian blur of the gradient over the last two axes, SD in pixels; 0 for none.
    smoothness
        Weight of the penalty on the mean squared Laplacian of the stimulus (`laplacian_penalty`).
    decay, patience
        An ascent stops when the exponential moving average of its objective (weight `decay` on the past) has not risen
        for `patience` steps.
    batch_size
        Stimuli in one pass through the model; all of them where None.
    progress
        Show a bar.

    Returns
    -------
    OptimisedStimuli

    Raises
    ------
    ModelError
        The objective has no gradient by the stimulus, or is NaN.
    InputError
        Settings that make no sense.

    Examples
    --------
    Two stimuli, each along its own direction; on a ball the optimum of a linear objective is that direction.

    >>> from nissl.comparison import L2Ball
    >>> directions = torch.eye(3)[:2]
    >>> found = optimise_stimuli(
    ...     lambda x, which: (x * directions[which]).sum(1), noise_stimuli(2, (3,), L2Ball(2.0)), L2Ball(2.0)
    ... )
    >>> found.objective.round(decimals=3).tolist()
    [2.0, 2.0]

    References
    ----------
    The choices (gradient ascent, projection, EMA stopping, gradient blur, Laplacian penalty) are those of Burg et al.
    2024, "Most discriminative stimuli for functional cell type clustering", and of the most-exciting-input literature.
    """
    _check_settings(steps, learning_rate, optimiser, blur, smoothness, decay, patience, start)
    x = (start if constraint is None else constraint.project(start)).detach().clone()
    n = len(x)
    size = _size(x)
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    best, best_value = x.clone(), x.new_full((n,), -math.inf)
    average, peak, waited = (
        x.new_zeros(n),
        x.new_full((n,), -math.inf),
        torch.zeros(n, dtype=torch.long, device=x.device),
    )
    taken = torch.zeros_like(waited)
    active = torch.arange(n, device=x.device)
    history: list[Tensor] = []
    for step in _bar(steps + 1, progress):
        value, gradient = _value_and_gradient(objective, x[active], active, smoothness, batch_size)
        row = x.new_full((n,), math.nan)
        row[active] = value
        history.append(row)
        better = active[value > best_value[active]]
        best[better], best_value[better] = x[better], row[better]
        if step == steps:
            break  # this pass only valued what the last step reached
        average[active] = value if step == 0 else decay * average[active] + (1 - decay) * value
        risen = average[active] > peak[active]
        peak[active] = torch.maximum(average[active], peak[active])
        waited[active] = torch.where(risen, 0, waited[active] + 1)
        going = waited[active] < patience
        active, gradient = active[going], gradient[going]
        if not len(active):
            break
        gradient = _blurred(gradient, blur)
        if constraint is not None:
            gradient = constraint.tangent(x[active], gradient)
        if optimiser == "adam":
            first[active] = 0.9 * first[active] + 0.1 * gradient
            second[active] = 0.999 * second[active] + 0.001 * gradient.square()
            mean, square = first[active] / (1 - 0.9 ** (step + 1)), second[active] / (1 - 0.999 ** (step + 1))
            # Epsilon is relative, so that an objective in other units takes the same path.
            floor = 1e-8 * square.sqrt().flatten(1).amax(1).reshape(-1, *(1,) * (x.dim() - 1)) + 1e-30
            move = size[active] * mean / (square.sqrt() + floor)
        else:
            move = gradient
        cooling = 1 - (1 - _COOLED) * step / max(1, steps - 1)
        moved = x[active] + learning_rate * cooling * move
        x[active] = moved if constraint is None else constraint.project(moved)
        taken[active] += 1
    return OptimisedStimuli(best, best_value, torch.stack(history), taken)


def laplacian_penalty(x: Float[Tensor, "stimulus *canvas"]) -> Float[Tensor, "stimulus"]:
    """Roughness of each stimulus: mean square of its Laplacian (3 x 3: -3 in the centre, 0.5 edges, 0.25 corners) over
    the last two axes.

    Examples
    --------
    >>> laplacian_penalty(torch.ones(1, 1, 5, 5)).item()  # what is flat is smooth
    0.0
    """
    kernel = x.new_tensor(_LAPLACE)[None, None]
    planes = x.reshape(-1, 1, *x.shape[-2:])
    return functional.conv2d(planes, kernel).reshape(len(x), -1).square().mean(1)


def _value_and_gradient(
    objective: Objective, x: Tensor, which: Tensor, smoothness: float, batch_size: int | None
) -> tuple[Tensor, Tensor]:
    values, gradients = [], []
    for start in range(0, len(x), batch_size or len(x)):
        rows = slice(start, start + (batch_size or len(x)))
        with torch.enable_grad():
            part = x[rows].detach().requires_grad_()
            value = objective(part, which[rows])
            if smoothness:
                value = value - smoothness * laplacian_penalty(part)
            if not value.requires_grad:
                raise ModelError(
                    "the objective has no gradient by the stimulus: the model is not differentiable (numpy inside, detach, no_grad, argmax)"
                )
            gradient = torch.autograd.grad(value.sum(), part, allow_unused=True)[0]
        if gradient is None:
            raise ModelError("the objective does not depend on the stimulus")
        if not bool(torch.isfinite(value).all() and torch.isfinite(gradient).all()):
            raise ModelError(
                "the objective or its gradient is NaN or infinite on the way; try a smaller learning_rate or a tighter constraint"
            )
        values.append(value.detach())
        gradients.append(gradient)
    return torch.cat(values), torch.cat(gradients)


def _blurred(gradient: Tensor, sd: float) -> Tensor:
    if not sd:
        return gradient
    reach = max(1, math.ceil(3 * sd))
    place = torch.arange(-reach, reach + 1, dtype=gradient.dtype, device=gradient.device)
    kernel = torch.exp(-0.5 * (place / sd) ** 2)
    kernel = kernel / kernel.sum()
    planes = gradient.reshape(-1, 1, *gradient.shape[-2:])
    planes = functional.conv2d(planes, kernel[None, None, :, None], padding=(reach, 0))
    return functional.conv2d(planes, kernel[None, None, None, :], padding=(0, reach)).reshape(gradient.shape)


def _size(x: Tensor) -> Tensor:
    """What a step is measured in: the stimulus' standard deviation, its value where it is even, 1 where it is nothing."""
    flat = x.flatten(1)
    size = flat.std(1, correction=0)
    size = torch.where(size > 0, size, flat.abs().amax(1))
    return torch.where(size > 0, size, 1.0).reshape(-1, *(1,) * (x.dim() - 1))


def _check_settings(
    steps: int,
    learning_rate: float,
    optimiser: str,
    blur: float,
    smoothness: float,
    decay: float,
    patience: int,
    start: Tensor,
) -> None:
    wrong = {
        "steps must be at least 0": steps < 0,
        "learning_rate must be positive": not learning_rate > 0,
        "optimiser must be 'adam' or 'sgd'": optimiser not in ("adam", "sgd"),
        "blur is a standard deviation in pixels, 0 for none": blur < 0,
        "smoothness is a weight, 0 for none": smoothness < 0,
        "decay lies between 0 and 1": not 0 <= decay < 1,
        "patience must be at least 1": patience < 1,
        "start needs at least one stimulus": start.dim() < 2 or len(start) == 0,
        "blur and smoothness need stimuli with y and x as their last axes": bool(blur or smoothness)
        and start.dim() < 3,
        "start holds NaN or infinite values": not bool(torch.isfinite(start).all()),
    }
    for message, is_wrong in wrong.items():
        if is_wrong:
            raise InputError(f"{message}; got steps={steps}, learning_rate={learning_rate}, optimiser={optimiser!r}, blur={blur}, "
                             f"smoothness={smoothness}, decay={decay}, patience={patience}, start of shape {tuple(start.shape)}")  # fmt: skip


def _bar(n: int, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(range(n), desc="stimuli", unit="step", disable=None if progress else True, leave=False)
