"""Spikes as tokens: which unit, and when inside a short window."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool, Int

from nissl.errors import InputError


@dataclass(frozen=True)
class Events:
    """Single spikes in order of their bins.

    Attributes
    ----------
    unit, bin
        One entry an event.
    first
        Index of the first event at or after the start of each bin; one entry more than there are bins.
    """

    unit: Int[np.ndarray, "event"]
    bin: Int[np.ndarray, "event"]
    first: Int[np.ndarray, "bins_and_one"]


@dataclass(frozen=True)
class Tokens:
    """Windows of spikes as sequences: SOS, events, EOS, PAD ...

    Attributes
    ----------
    ids, dts
        Which unit, and which bin of the window.
    truncated
        True where a window held more events than slots; the most recent ones were kept.
    lost
        Number of events left out, a window.
    """

    ids: Int[np.ndarray, "window slot"]
    dts: Int[np.ndarray, "window slot"]
    truncated: Bool[np.ndarray, "window"]
    lost: Int[np.ndarray, "window"]


class SpikeTokenizer:
    """Counts to tokens and back (Antoniades et al. 2024, section 3).

    A count of k gives k tokens; inside a window events are ordered by bin, then by unit. The vocabulary of units is
    0 .. N-1, then EOS, SOS and PAD; that of times is the bins of the window, then EOS, SOS and PAD.

    Parameters
    ----------
    n_units
        Number of units.
    window, bin_width
        Seconds; a window holds a whole number of bins.
    max_events
        Slots for events in a window.
    ties
        Order of events in one bin: `unit`, or `shuffled`, so that simultaneous spikes carry no false direction.
    seed
        For `ties="shuffled"`.

    Raises
    ------
    InputError
        A bin wider than the window, a window that is no whole number of bins, no units, no slots.

    Examples
    --------
    >>> tokenizer = SpikeTokenizer(n_units=2, window=0.02, bin_width=0.01)
    >>> tokens = tokenizer.encode([[0, 1], [2, 0], [0, 0], [0, 0]])
    >>> tokens.ids[:, :5]
    array([[3, 1, 0, 0, 2],
           [3, 2, 4, 4, 4]])
    >>> tokenizer.decode(tokens.ids, tokens.dts).tolist()
    [[0, 1], [2, 0], [0, 0], [0, 0]]
    """

    def __init__(
        self,
        n_units: int,
        *,
        window: float = 0.05,
        bin_width: float = 0.01,
        max_events: int = 100,
        ties: str = "unit",
        seed: int = 0,
    ) -> None:
        if n_units < 1 or max_events < 1:
            raise InputError(f"{n_units} units and {max_events} slots for events; give at least one of each")
        if ties not in ("unit", "shuffled"):
            raise InputError(f"ties={ties!r}; allowed: 'unit', 'shuffled'")
        self.n_units, self.window, self.bin_width = n_units, window, bin_width
        self.max_events, self.ties, self.seed = max_events, ties, seed
        self.n_bins = whole_bins(window, bin_width, "window")
        self.eos, self.sos, self.pad = n_units, n_units + 1, n_units + 2
        self.eos_dt, self.sos_dt, self.pad_dt = self.n_bins, self.n_bins + 1, self.n_bins + 2

    def events(self, counts: Any) -> Events:
        """All spikes, one entry each.

        Raises
        ------
        InputError
            Negative, fractional or infinite counts, or another number of units than the tokenizer's.
        """
        counts = self._checked(counts)
        bins, units = np.nonzero(counts)
        repeats = counts[bins, units]
        bins, units = np.repeat(bins, repeats), np.repeat(units, repeats)
        if self.ties == "shuffled":
            order = np.lexsort((np.random.default_rng(self.seed).random(len(bins)), bins))
            units = units[order]
        return Events(units, bins, np.searchsorted(bins, np.arange(len(counts) + 1)))

    def encode(self, counts: Any) -> Tokens:
        """Tokens of consecutive windows; bins after the last whole window are left out.

        Parameters
        ----------
        counts
            `(bin, unit)`, anything that numpy takes.

        Returns
        -------
        Tokens
            With as many slots as the fullest window needs, SOS and EOS included.
        """
        events = self.events(counts)
        starts = np.arange(0, (len(events.first) - 1) // self.n_bins * self.n_bins, self.n_bins)
        if len(starts) == 0:
            raise InputError(
                f"{len(events.first) - 1} bins of {self.bin_width} s are shorter than one window of {self.window} s"
            )
        low, high = events.first[starts], events.first[starts + self.n_bins]
        n = np.minimum(high - low, self.max_events)
        slot = np.arange(n.max(initial=0))
        index = np.minimum((high - n)[:, None] + slot, max(len(events.unit) - 1, 0))
        real = slot < n[:, None]
        ids = np.full((len(starts), len(slot) + 2), self.pad)
        dts = np.full_like(ids, self.pad_dt)
        ids[:, 0], dts[:, 0] = self.sos, self.sos_dt
        if len(events.unit):
            ids[:, 1:-1] = np.where(real, events.unit[index], self.pad)
            dts[:, 1:-1] = np.where(real, events.bin[index] - starts[:, None], self.pad_dt)
        rows = np.arange(len(starts))
        ids[rows, n + 1], dts[rows, n + 1] = self.eos, self.eos_dt
        lost = high - low - n
        if lost.any():
            warnings.warn(
                f"{(lost > 0).mean():.1%} of windows hold more than {self.max_events} events; {lost.sum()} of {high[-1] - low[0]} "
                "events are left out, which lowers rates: raise max_events or shorten the window",
                stacklevel=2,
            )
        return Tokens(ids, dts, lost > 0, lost)

    def decode(
        self, ids: Int[np.ndarray, "window slot"], dts: Int[np.ndarray, "window slot"]
    ) -> Int[np.ndarray, "bin unit"]:
        """Counts of consecutive windows; what is no event, or stands after EOS, counts nothing.

        Raises
        ------
        InputError
            Tokens outside the vocabulary, or an event without a bin.
        """
        ids, dts = np.asarray(ids), np.asarray(dts)
        if ids.shape != dts.shape or ids.ndim != 2:
            raise InputError(f"ids {ids.shape} and dts {dts.shape}; give two arrays (window, slot) of one shape")
        if ids.size and (ids.min() < 0 or ids.max() > self.pad or dts.min() < 0 or dts.max() > self.pad_dt):
            raise InputError(
                f"tokens run to {ids.max()} and {dts.max()}; the vocabularies end at {self.pad} and {self.pad_dt}"
            )
        before_end = np.cumsum(ids == self.eos, axis=1) == 0
        window, slot = np.nonzero((ids < self.n_units) & before_end)
        unit, dt = ids[window, slot], dts[window, slot]
        if (dt >= self.n_bins).any():
            raise InputError("an event has no bin: its time is one of EOS, SOS and PAD")
        counts = np.zeros((len(ids) * self.n_bins, self.n_units), np.int64)
        np.add.at(counts, (window * self.n_bins + dt, unit), 1)
        return counts

    def _checked(self, counts: Any) -> Int[np.ndarray, "bin unit"]:
        counts = counts.values if isinstance(counts, xr.DataArray) else np.asarray(counts)
        if counts.ndim != 2 or counts.shape[1] != self.n_units:
            raise InputError(f"counts of shape {counts.shape}; give (bin, unit) with {self.n_units} units")
        if not np.isfinite(counts).all():
            raise InputError(
                "counts hold NaN or infinity; leave those bins out or fill them before they are made into tokens"
            )
        if (counts < 0).any():
            raise InputError(f"{(counts < 0).sum()} counts are negative; counts of spikes are whole numbers from 0 up")
        whole = counts.astype(np.int64)
        if (whole != counts).any():
            raise InputError(
                "counts are fractional; give whole numbers of spikes (bin_spikes makes them from spike times)"
            )
        return whole


def whole_bins(duration: float, bin_width: float, name: str) -> int:
    """How many bins a duration holds; refuses what is no whole number of them."""
    if not (bin_width > 0 and duration > 0):
        raise InputError(f"{name} {duration} s with bins of {bin_width} s; give positive durations")
    n = duration / bin_width
    if n < 1 - 1e-9:
        raise InputError(
            f"bins of {bin_width} s are wider than the {name} of {duration} s; give narrower bins or a longer {name}"
        )
    if abs(n - round(n)) > 1e-6 * max(n, 1):
        raise InputError(
            f"{name} of {duration} s is {n:.3f} bins of {bin_width} s; give a whole number of bins, such as {max(round(n), 1) * bin_width:g} s"
        )
    return round(n)
