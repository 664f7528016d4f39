"""The one training loop: a progress bar, a schedule, and a checkpoint to go on from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm import tqdm

from nissl.errors import InputError, ModelError, unknown
from nissl.learning import checkpoint as checkpoints

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamax": torch.optim.Adamax,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}
SCHEDULES = ("constant", "cosine", "one-cycle")
Batches = Callable[[torch.Generator], Sequence[Tensor] | Tensor] | Iterable[Sequence[Tensor] | Tensor]


def train(
    model: nn.Module,
    batches: Batches,
    loss: Callable[..., Tensor],
    *,
    steps: int,
    lr: float = 1e-3,
    optimiser: str | Callable[..., torch.optim.Optimizer] = "adam",
    schedule: str = "constant",
    warmup: int = 0,
    clip: float | None = None,
    after_step: Callable[[nn.Module], None] | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    every: int = 100,
    progress: bool = True,
) -> xr.Dataset:
    """Train a network by gradient descent.

    Parameters
    ----------
    model
        Any torch module; left in training mode.
    batches
        A function from a generator of random numbers to a batch (a tensor, or a tuple of them), called once a step; or an
        iterable of batches, which begins again when it ends.
    loss
        From the network and the parts of a batch to one number.
    steps
        How many updates in all, those of an earlier call that a checkpoint holds included.
    lr
        Learning rate at its highest.
    optimiser
        `adam`, `adamax`, `adamw` or `sgd`, or what makes one of the parameters: `f(parameters, lr=...)`. Parameter groups that it gives rates of
        their own keep their ratio to `lr`.
    schedule
        `constant`; `cosine`, which falls towards zero; or `one-cycle`, which rises from half the rate over the first fifth of
        the steps and falls to a two-hundredth, both as half a cosine, while Adam's first beta goes from 0.95 to 0.85 and back.
    warmup
        Steps over which the rate rises from zero.
    clip
        Largest norm of the gradient over all weights; None leaves it.
    after_step
        Called with the network after each update, for example to project weights back onto what is allowed.
    seed
        For the batches.
    checkpoint
        A file that is written every `every` steps and at the end. A later call with the same settings goes on from it, to
        the bit where batches come from a function.
    every
        Steps between checkpoints.
    progress
        Show a bar where standard error is a terminal.

    Returns
    -------
    xarray.Dataset
        `loss` and `lr` by step.

    Raises
    ------
    UnknownNameError
        No such optimiser or schedule.
    InputError
        Settings that cannot be, no batches, a loss that is not one number, a checkpoint from another configuration.
    ModelError
        The loss or its gradient is NaN or infinite; the message says at which step, and the last checkpoint is kept.

    Examples
    --------
    >>> model = nn.Linear(1, 1)
    >>> def batch(generator):
    ...     x = torch.randn(16, 1, generator=generator)
    ...     return x, 2 * x
    >>> def squared(model, x, y):
    ...     return (model(x) - y).square().mean()
    >>> curve = train(model, batch, squared, steps=200, lr=0.05)
    >>> bool(curve["loss"][-1] < 0.1)
    True
    """
    if steps < 1 or every < 1 or not 0 <= warmup <= steps or not (lr > 0 and math.isfinite(lr)):
        raise InputError(
            f"steps={steps}, every={every}, warmup={warmup}, lr={lr}; allowed: at least 1 step, warmup from 0 to steps, lr > 0"
        )
    if clip is not None and not clip > 0:
        raise InputError(f"clip={clip}; allowed: a positive norm, or None")
    if not callable(batches) and not isinstance(batches, Iterable):
        raise InputError(
            f"batches is {type(batches).__name__}; give a function of a generator, or an iterable of batches"
        )
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if isinstance(optimiser, str) and optimiser not in OPTIMISERS:
        raise unknown("optimiser", optimiser, OPTIMISERS)
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise InputError(f"{type(model).__name__} has no weights that can be trained")
    if not isinstance(optimiser, str) and (isinstance(optimiser, torch.optim.Optimizer) or not callable(optimiser)):
        raise InputError(
            f"optimiser is {type(optimiser).__name__}; give a name, or a function that makes it: optimiser=lambda parameters, lr: torch.optim.SGD(groups, lr=lr)"
        )
    make = OPTIMISERS[optimiser] if isinstance(optimiser, str) else optimiser
    descent = make(trained, lr=lr)
    shares = [group["lr"] / lr for group in descent.param_groups]
    generator = torch.Generator().manual_seed(seed)
    rates = [lr * _factor(step, steps, warmup, schedule) for step in range(steps)]
    settings = {
        "model": repr(model), "optimiser": getattr(make, "__name__", repr(make)), "lr": lr, "schedule": schedule,
        "steps": steps, "warmup": warmup, "clip": clip, "seed": seed,
    }  # fmt: skip
    losses: list[float] = []
    if checkpoint is not None and Path(checkpoint).exists():
        losses = _resume(checkpoint, settings, model, descent, generator)

    def keep() -> None:
        if checkpoint is not None:
            content = {
                "model": model.state_dict(), "optimiser": descent.state_dict(), "generator": generator.get_state(), "loss": losses,
                "torch": torch.get_rng_state(),  # for dropout
            }  # fmt: skip
            checkpoints.save(checkpoint, content, settings)

    drawn = _draw(batches, generator, skip=len(losses))
    model.train()
    with tqdm(total=steps, initial=len(losses), unit="step", disable=None if progress else True) as bar:
        for step in range(len(losses), steps):
            for group, share in zip(descent.param_groups, shares, strict=True):
                group["lr"] = share * rates[step]
                if schedule == "one-cycle" and "betas" in group:
                    group["betas"] = (_one_cycle(step, steps, 0.95, 0.85, 0.95), group["betas"][1])
            batch = next(drawn)
            value = loss(model, *(batch if isinstance(batch, tuple | list) else (batch,)))
            _check_loss(value)
            _check_finite("loss", value, step, checkpoint)
            descent.zero_grad()
            value.backward()
            gradients = [p.grad for p in trained if p.grad is not None]
            norm = nn.utils.clip_grad_norm_(trained, clip) if clip else nn.utils.get_total_norm(gradients)
            _check_finite("norm of the gradient", norm, step, checkpoint)  # before it reaches the weights
            descent.step()
            if after_step is not None:
                after_step(model)
            losses.append(value.item())
            bar.update()
            if step % 10 == 0:
                bar.set_postfix(loss=f"{losses[-1]:.4g}", refresh=False)
            if (step + 1) % every == 0 or step + 1 == steps:
                keep()
    return xr.Dataset({"loss": ("step", np.array(losses)), "lr": ("step", np.array(rates))}, {"step": np.arange(steps)})


def _check_loss(value: Any) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        given = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise InputError(f"the loss is {given}; it must be one number, for example .mean()")
    if not value.requires_grad:
        raise InputError(
            "the loss does not depend on the weights (it has no gradient); was it computed under no_grad or detached?"
        )


def _check_finite(what: str, value: Tensor, step: int, checkpoint: str | Path | None) -> None:
    if not torch.isfinite(value):
        raise ModelError(
            f"the {what} is {value.item()} at step {step}; try a lower lr, or clip=1.0"
            + (f"; the checkpoint {str(checkpoint)!r} holds an earlier step" if checkpoint else "")
        )


def _factor(step: int, steps: int, warmup: int, schedule: str) -> float:
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    if schedule == "one-cycle":
        return _one_cycle(step, steps, 0.5, 1.0, 1 / 200)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _one_cycle(step: int, steps: int, first: float, middle: float, last: float) -> float:
    """Half a cosine over a fifth of the steps and another over the rest, as in torch's OneCycleLR with pct_start=0.2."""
    turn = 0.2 * steps - 1
    start, end, done = (
        (first, middle, step / turn) if step < turn else (middle, last, (step - turn) / max(1, steps - 1 - turn))
    )
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def _draw(batches: Batches, generator: torch.Generator, skip: int) -> Iterator[Any]:
    """Batches without end. Of an iterable those that were used before are passed over; a function's generator knows."""
    if callable(batches):
        while True:
            yield batches(generator)
    while True:
        count = 0
        for batch in batches:
            count += 1
            if skip:
                skip -= 1
                continue
            yield batch
        if not count:
            raise InputError(
                "there are no batches; an iterator can be used once, give a list, a data loader or a function"
            )


def _resume(
    path: str | Path, settings: dict[str, Any], model: nn.Module, descent: Any, generator: torch.Generator
) -> list[float]:
    device = next(model.parameters()).device
    content = checkpoints.load(path, settings, device=device)
    model.load_state_dict(content["model"])
    descent.load_state_dict(content["optimiser"])
    generator.set_state(content["generator"].cpu())
    torch.set_rng_state(content["torch"].cpu())
    return list(content["loss"])
