"""Sequences whose beginning decides about their end: small tests of memory for anything that runs in time."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nissl.errors import InputError


def delayed_cue(
    n_samples: int,
    *,
    n_steps: int = 100,
    n_channels: int = 20,
    n_cues: int = 4,
    cue_steps: int = 5,
    cue_rate: float = 0.5,
    noise: float = 0.05,
    seed: int | torch.Generator = 0,
) -> tuple[Float[Tensor, "sample time channel"], Int[Tensor, "sample"]]:
    """Which group of channels was active in the first few steps? To be said at the last.

    Parameters
    ----------
    n_samples, n_steps, n_channels
        Sizes.
    n_cues
        Answers; the channels are shared out among them in equal groups.
    cue_steps, cue_rate
        For how many steps the cued group fires, and with what chance each of its channels does in a step.
    noise
        Chance of a spike of any channel in any step.
    seed
        Of everything random, or a generator that is drawn from.

    Returns
    -------
    spikes, cue
        Spikes, 0 or 1, and the number of the cued group.

    Raises
    ------
    InputError
        Fewer channels than cues, a cue as long as the sequence, or rates that are no chances.

    Examples
    --------
    >>> spikes, cue = delayed_cue(6)
    >>> spikes.shape, int(cue.max()) < 4
    (torch.Size([6, 100, 20]), True)
    """
    if n_samples < 1 or not 1 <= cue_steps < n_steps or not 2 <= n_cues <= n_channels:
        raise InputError(
            f"{n_samples} samples of {n_steps} steps with a cue of {cue_steps}, {n_cues} cues on {n_channels} channels; a cue is "
            "shorter than the sequence, and each of at least two has a channel"
        )
    _chances(cue_rate=cue_rate, noise=noise)
    generator = _generator(seed)
    cue = torch.randint(n_cues, (n_samples,), generator=generator)
    spikes = torch.rand(n_samples, n_steps, n_channels, generator=generator) < noise
    cued = torch.arange(n_channels) // (n_channels // n_cues) == cue[:, None]
    fired = torch.rand(n_samples, cue_steps, n_channels, generator=generator) < cue_rate
    spikes[:, :cue_steps] |= fired & cued[:, None]
    return spikes.float(), cue


def spoken_digits(
    n_digits: int = 5, *, n_bins: int = 25, n_channels: int = 30, active: float = 0.12, seed: int | torch.Generator = 0
) -> Float[Tensor, "digit time channel"]:
    """Random patterns of spikes that stand for words: templates for `digit_sums`.

    Examples
    --------
    >>> spoken_digits().shape
    torch.Size([5, 25, 30])
    """
    if min(n_digits, n_bins, n_channels) < 1:
        raise InputError(f"{n_digits} digits of {n_bins} bins and {n_channels} channels; give 1 or more of each")
    _chances(active=active)
    return (torch.rand(n_digits, n_bins, n_channels, generator=_generator(seed)) < active).float()


def digit_sums(
    n_samples: int,
    templates: Float[Tensor, "digit time channel"],
    *,
    deletions: float = 0.2,
    insertions: float = 0.01,
    seed: int | torch.Generator = 0,
) -> tuple[Float[Tensor, "sample time channel"], Int[Tensor, "sample"]]:
    """Two spoken digits one after the other, and their sum; from the second alone it can only be guessed.

    Parameters
    ----------
    n_samples
        How many.
    templates
        What each digit sounds like, as `spoken_digits` gives it.
    deletions, insertions
        Share of a template's spikes that is missing, and chance of one where there is none.
    seed
        Of everything random, or a generator that is drawn from.

    Returns
    -------
    spikes, total
        Spikes of twice the templates' length, and the sum, from 0 to twice the last digit.

    Raises
    ------
    InputError
        Templates of the wrong form, or rates that are no chances.

    Examples
    --------
    >>> spikes, total = digit_sums(4, spoken_digits())
    >>> spikes.shape, bool((total <= 8).all())
    (torch.Size([4, 50, 30]), True)
    """
    if n_samples < 1 or templates.dim() != 3:
        raise InputError(f"{n_samples} samples of templates {tuple(templates.shape)}; give (digit, time, channel)")
    _chances(deletions=deletions, insertions=insertions)
    generator = _generator(seed)
    digits = torch.randint(len(templates), (n_samples, 2), generator=generator)
    chance = (1 - deletions) * templates + insertions * (1 - templates)
    spoken = torch.rand(n_samples, 2, *templates.shape[1:], generator=generator) < chance[digits]
    return spoken.flatten(1, 2).float(), digits.sum(1)


def _generator(seed: int | torch.Generator) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


def _chances(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise InputError(f"{name}={value}; allowed: a chance from 0 to 1")
