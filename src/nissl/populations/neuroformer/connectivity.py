"""Who drives whom, read from attention and from occlusion."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from nissl.errors import InputError
from nissl.populations.neuroformer.model import NeuroformerNetwork, Prediction
from nissl.populations.neuroformer.training import evaluate_batches
from nissl.populations.neuroformer.windows import Batch, Windows

Source = Literal["past", "current", "both"]


def attention_sums(
    network: NeuroformerNetwork,
    windows: Windows,
    index: Int[np.ndarray, "sample"],
    *,
    source: Source = "past",
    heads: Literal["mean", "max"] = "mean",
    layers: Literal["last", "rollout"] = "last",
    relative: bool = False,
) -> tuple[Float[np.ndarray, "target source"], Float[np.ndarray, "target source"]]:
    """N_a, the attention from positions that predict an event of `target` to events of `source`, and N_z, how many such pairs there are.

    The row is the unit that is *predicted* at a position, not the unit of the event that stands there (Antoniades et al. 2024,
    section 3.3). With `relative`, attention is counted in units of even attention, one over the number of tokens to choose from: an
    event that stands alone gets more attention than one of many, whatever the network knows.
    """
    _check(network, source, heads, layers)
    n = network.shape.n_units
    sums = np.zeros((2, n, n))

    def add(_: np.ndarray, batch: Batch) -> None:
        found = network(batch, weights=True)
        to_past, to_current = _patterns(network, found, heads, layers)
        if relative:
            if network.shape.past:
                to_past = to_past * (batch.past_real.sum(1) + 1)[:, None, None]
            to_current = to_current * torch.arange(1, to_current.shape[1] + 1, device=to_current.device)[:, None]
        targets = _one_hot(batch.ids[:, 1:], n)
        if source in ("past", "both"):
            sources = _one_hot(torch.where(batch.past_real, batch.past_ids, n), n)
            _accumulate(
                sums, targets, to_past[..., 1:].double() @ sources, sources.sum(1, keepdim=True).expand_as(targets)
            )
        if source in ("current", "both"):
            sources = _one_hot(batch.ids[:, :-1], n)
            _accumulate(sums, targets, to_current.double() @ sources, sources.cumsum(1))

    evaluate_batches(network, windows, index, _fitting(network), add)
    return sums[0], sums[1]


def _accumulate(sums: np.ndarray, targets: Tensor, attended: Tensor, pairs: Tensor) -> None:
    sums[0] += (targets.flatten(0, 1).T @ attended.flatten(0, 1)).cpu().numpy()
    sums[1] += (targets.flatten(0, 1).T @ pairs.flatten(0, 1)).cpu().numpy()


def _patterns(network: NeuroformerNetwork, found: Prediction, heads: str, layers: str) -> tuple[Tensor, Tensor]:
    """Attention of each position to past events (the null token first) and to current tokens."""
    merged = {
        name: [p.float().mean(1) if heads == "mean" else p.float().amax(1) for p in stack]
        for name, stack in found.attention.items()
    }
    if layers == "last":
        current = merged["final"] or merged["state"]
        return (merged["past"][-1] if network.shape.past else torch.zeros(0)), current[-1]
    return _rollout(merged)


def _rollout(merged: dict[str, list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Attention followed through all layers, half of each layer's input being passed on by its residual (Abnar and Zuidema 2020)."""
    first = merged["state"][0] if merged["state"] else merged["final"][0]
    current = torch.eye(first.shape[-1], device=first.device).expand_as(first)
    past = None
    for name, stack in merged.items():
        for pattern in stack:
            pattern = pattern / pattern.sum(-1, keepdim=True)  # the largest of the heads need not sum to one
            if name in ("state", "final"):
                current = 0.5 * current + 0.5 * pattern @ current
                past = None if past is None else 0.5 * past + 0.5 * pattern @ past
            else:
                current = 0.5 * current
                past = None if past is None else 0.5 * past
                if name == "past":
                    past = 0.5 * pattern if past is None else past + 0.5 * pattern
    return (torch.zeros(0) if past is None else past), current


def occlusion_sums(
    network: NeuroformerNetwork, windows: Windows, index: Int[np.ndarray, "sample"], *, progress: bool = True
) -> tuple[Float[np.ndarray, "target source"], Float[np.ndarray, "target source"]]:
    """Summed drop in log probability of events of `target` when the past events of `source` are hidden, and over how many events.

    Only windows whose past holds the source are run again.
    """
    if not network.shape.past:
        raise InputError("this model does not look at the past (inputs without 'past'); there is nothing to hide")
    n, index = network.shape.n_units, np.asarray(index)
    present = past_counts(windows)[index] > 0
    full, units = _log_probability(network, windows, index, None)
    sums = np.zeros((2, n, n))
    for source in tqdm(range(n), desc="hiding units", unit="unit", disable=None if progress else True, leave=False):
        rows = np.flatnonzero(present[:, source])
        if len(rows):
            hidden, _ = _log_probability(network, windows, index[rows], source, full.shape[1])
            real = units[rows] < n
            which = units[rows][real]
            sums[0, :, source] = np.bincount(which, (full[rows] - hidden)[real], minlength=n)
            sums[1, :, source] = np.bincount(which, minlength=n)
    return sums[0], sums[1]


def past_counts(windows: Windows) -> Float[np.ndarray, "window unit"]:
    """Spikes of each unit in the past of each window."""
    sums = np.concatenate([np.zeros((1, windows.counts.shape[1])), windows.counts.cumsum(0)])
    return sums[windows.first_bin] - sums[np.maximum(windows.first_bin - windows.past_bins, 0)]


def _log_probability(
    network: NeuroformerNetwork, windows: Windows, index: np.ndarray, hidden: int | None, width: int = 0
) -> tuple[Float[np.ndarray, "window slot"], Int[np.ndarray, "window slot"]]:
    """Log probability of the unit of each event, and the unit (the number of units where there is no event)."""
    n = network.shape.n_units
    width = width or int(np.minimum(windows.n_events[index], network.shape.max_events).max(initial=1))
    log_p, units, place = np.zeros((len(index), width)), np.full((len(index), width), n), 0

    def keep(rows: np.ndarray, batch: Batch) -> None:
        nonlocal place
        if hidden is not None:
            batch = dataclasses.replace(batch, past_real=batch.past_real & (batch.past_ids != hidden))
        target = batch.ids[:, 1:-1].clamp(max=n)
        said = network(batch).ids[:, :-1].float().log_softmax(-1).gather(-1, target[..., None])[..., 0]
        log_p[place : place + len(rows), : target.shape[1]] = said.cpu().numpy()
        units[place : place + len(rows), : target.shape[1]] = target.cpu().numpy()
        place += len(rows)

    evaluate_batches(network, windows, index, _fitting(network), keep)
    return log_p, units


def mean_over_pairs(sums: np.ndarray, pairs: np.ndarray, fewest: int) -> Float[np.ndarray, "target source"]:
    """Sums divided by the number of pairs; NaN where there are fewer than `fewest`, for a mean over a handful only ranks chance."""
    return np.where(pairs >= max(fewest, 1), sums / np.maximum(pairs, 1), np.nan)


def _one_hot(ids: Tensor, n: int) -> Float[Tensor, "window slot unit"]:
    """A one for the unit of each event, nothing for other tokens."""
    return torch.nn.functional.one_hot(ids.clamp(max=n), n + 1)[..., :n].double()


def _fitting(network: NeuroformerNetwork) -> int:
    """Windows a batch, so that attention of all heads stays in some hundreds of megabytes."""
    s = network.shape
    return int(np.clip(3e7 / (s.heads * (s.max_events + 1) * (s.max_events + s.max_past)), 16, 1024))


def _check(network: NeuroformerNetwork, source: str, heads: str, layers: str) -> None:
    for name, value, allowed in (
        ("source", source, ("past", "current", "both")),
        ("heads", heads, ("mean", "max")),
        ("layers", layers, ("last", "rollout")),
    ):
        if value not in allowed:
            raise InputError(f"{name}={value!r}; allowed: {', '.join(map(repr, allowed))}")
    if source in ("past", "both") and not network.shape.past:
        raise InputError(
            f"source={source!r}, but this model does not look at the past (inputs without 'past'); give source='current'"
        )
