"""How well spikes are predicted, beside models that know rates alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.special import gammaln
from torch import Tensor

from nissl.populations.neuroformer.model import NeuroformerNetwork, Prediction
from nissl.populations.neuroformer.training import evaluate_batches
from nissl.populations.neuroformer.windows import Batch, Windows


@dataclass(frozen=True)
class SpikeScore:
    """How well the spikes of some windows are predicted.

    Attributes
    ----------
    nats_id, nats_dt
        Mean cross entropy of the next unit and of the next time; EOS counts.
    unigram_id
        The same of the frequencies of units (and EOS) in training: the model that knows no past.
    log_likelihood
        Of all windows whose events all fit, in nats: the joint probability of units and times of their events.
    rate_log_likelihood
        The same of independent Poisson units with their training rates.
    bits_per_event
        Gain over that rate model.
    nats_per_event
        -log_likelihood / n_events.
    n_events, n_windows
        How much was scored.
    truncated
        Share of these windows whose events did not all fit.
    """

    nats_id: float
    nats_dt: float
    unigram_id: float
    log_likelihood: float
    rate_log_likelihood: float
    bits_per_event: float
    nats_per_event: float
    n_events: int
    n_windows: int
    truncated: float

    def to_dict(self) -> dict[str, Any]:
        """All figures by name."""
        return dict(vars(self))

    def __str__(self) -> str:
        return (
            f"{self.nats_id:.3f} nats an ID token (unit frequencies alone: {self.unigram_id:.3f}), {self.bits_per_event:+.3f} bits an event "
            f"over constant rates, {self.n_events} events in {self.n_windows} windows"
        )


def window_log_likelihood(
    network: NeuroformerNetwork, batch: Batch, found: Prediction
) -> tuple[Float[Tensor, "window"], Float[Tensor, "window"]]:
    """Log probability of the units, and of the times given the units, of each window's sequence.

    Made proper: a window ends where its unit is EOS, which has no time; an event has one of the bins, none before the last
    event's; after the last slot a window ends by itself. Probabilities of all sequences therefore sum to one.
    """
    ids, dts = batch.ids[:, 1:], batch.dts[:, 1:]
    event, end = ids < network.eos, ids == network.eos
    full = torch.arange(ids.shape[1], device=ids.device) >= network.shape.max_events
    id_p = found.ids.double().log_softmax(-1).gather(-1, ids.clamp(max=network.eos)[..., None])[..., 0]
    dt_p = (
        found.dts[..., :-1]
        .double()
        .log_softmax(-1)
        .gather(-1, dts.clamp(max=network.shape.window_bins - 1)[..., None])[..., 0]
    )
    return torch.where(event | (end & ~full), id_p, 0).sum(1), torch.where(event, dt_p, 0).sum(1)


def score_windows(
    network: NeuroformerNetwork,
    windows: Windows,
    index: Int[np.ndarray, "sample"],
    *,
    unigram: Float[np.ndarray, "class"],
    rates: Float[np.ndarray, "unit"],
) -> SpikeScore:
    """Score windows against unit frequencies and constant rates (spikes a bin) of the training windows."""
    sums = np.zeros(6)

    whole = windows.n_events <= network.shape.max_events  # a likelihood of cut windows would be that of other data

    def add(rows: np.ndarray, batch: Batch) -> None:
        found = network(batch)
        ids, dts = batch.ids[:, 1:], batch.dts[:, 1:]
        real = ids <= network.eos
        nats_id = -found.ids.double().log_softmax(-1).gather(-1, ids.clamp(max=network.eos)[..., None])[..., 0]
        nats_dt = (
            -found.dts.double().log_softmax(-1).gather(-1, dts.clamp(max=network.shape.window_bins)[..., None])[..., 0]
        )
        joint = torch.stack(window_log_likelihood(network, batch, found)).sum(0).cpu().numpy()
        counts = np.bincount(ids[real].cpu().numpy(), minlength=network.eos + 1)
        sums[:] += [
            float(nats_id[real].sum()), float(nats_dt[real].sum()), joint[whole[rows]].sum(),
            float(real.sum()), windows.n_events[rows][whole[rows]].sum(), -(counts * np.log(unigram)).sum(),
        ]  # fmt: skip

    evaluate_batches(network, windows, index, 1024, add)
    nats_id, nats_dt, log_likelihood, tokens, events, unigram_nats = sums
    scored = index[whole[index]]
    rate_ll = poisson_log_likelihood(windows, scored, rates)
    ties = tie_log_count(windows, scored) if windows.tokenizer.ties == "shuffled" else 0.0
    gain = log_likelihood + ties - rate_ll
    n = max(int(events), 1)
    return SpikeScore(
        nats_id=float(nats_id / tokens),
        nats_dt=float(nats_dt / tokens),
        unigram_id=float(unigram_nats / tokens),
        log_likelihood=float(log_likelihood + ties),
        rate_log_likelihood=rate_ll,
        bits_per_event=float(gain / n / np.log(2)),
        nats_per_event=float(-(log_likelihood + ties) / n),
        n_events=int(events),
        n_windows=len(index),
        truncated=float((windows.n_events[index] > network.shape.max_events).mean()),
    )


def poisson_log_likelihood(windows: Windows, index: np.ndarray, rates: Float[np.ndarray, "unit"]) -> float:
    """Of the counts in windows under constant rates."""
    counts = _binned(windows, index)
    return float((counts * np.log(rates) - rates - gammaln(counts + 1)).sum())


def tie_log_count(windows: Windows, index: np.ndarray) -> float:
    """Log of the number of orders of simultaneous events, which `ties="shuffled"` makes equally probable: k! / (product of counts!)."""
    counts = _binned(windows, index)
    return float(gammaln(counts.sum(-1) + 1).sum() - gammaln(counts + 1).sum())


def _binned(windows: Windows, index: np.ndarray) -> Float[np.ndarray, "window bin unit"]:
    return windows.counts[windows.first_bin[index][:, None] + np.arange(windows.tokenizer.n_bins)]
