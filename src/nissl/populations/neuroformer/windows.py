"""A recording cut into windows, each with its past, its stimulus, its other inputs and its labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nissl.errors import InputError
from nissl.populations.neuroformer.counts import spike_counts
from nissl.populations.neuroformer.series import Series
from nissl.populations.neuroformer.stimulus import StimulusClips
from nissl.populations.neuroformer.tokens import SpikeTokenizer, whole_bins

SERIES_SAMPLES = 5  # of each behaviour given as an input, evenly over past and window


@dataclass(frozen=True)
class Batch:
    """Windows as a network takes them. `ids` and `dts` are SOS, events, EOS, PAD; the rest is context and labels."""

    ids: Int[Tensor, "window slot"]
    dts: Int[Tensor, "window slot"]
    past_ids: Int[Tensor, "window past_slot"]
    past_dts: Int[Tensor, "window past_slot"]
    past_real: Bool[Tensor, "window past_slot"]
    stimulus: Float[Tensor, "window frame *place"] | None = None
    series: dict[str, Float[Tensor, "window sample_of_variable"]] = field(default_factory=dict)
    series_real: dict[str, Bool[Tensor, "window sample_of_variable"]] = field(default_factory=dict)
    targets: dict[str, Float[Tensor, "window"]] = field(default_factory=dict)


class Windows:
    """Windows of one recording; batches are gathered from single events, so that memory does not grow with slots.

    Parameters
    ----------
    recording
        As `spike_counts` takes it, with `stimulus` and `behaviour` where they are wanted.
    tokenizer
        Cuts the windows.
    past, stimulus_seconds
        Seconds before a window from which spikes are read; length of a clip, which ends with the window.
    max_past
        Slots for past events; the most recent are kept.
    stimulus
        None, or a callback, or True for the recording's own.
    groups
        Behaviours given as inputs: name of the group to names of its variables.
    targets
        Behaviours to predict: name to number of classes, 0 for a number.
    """

    def __init__(
        self,
        recording: Any,
        tokenizer: SpikeTokenizer,
        counts: xr.DataArray,
        *,
        past: float,
        max_past: int,
        stimulus: bool | Callable[[Any, float], Any] = False,
        stimulus_seconds: float = 0.2,
        groups: Mapping[str, tuple[str, ...]] | None = None,
        targets: Mapping[str, int] | None = None,
    ) -> None:
        self.tokenizer, self.max_past = tokenizer, max_past
        self.units = [str(u) for u in counts["unit"].values]
        self.past_bins = whole_bins(past, tokenizer.bin_width, "past")
        width, bins = tokenizer.n_bins, tokenizer.bin_width
        known = np.isfinite(counts.values).all(axis=1)
        values = np.nan_to_num(counts.values)
        events = tokenizer.events(values)
        self.first_bin = np.arange(0, len(values) // width * width, width)
        if len(self.first_bin) == 0:
            raise InputError(
                f"{len(values) * bins:.3f} s of recording are shorter than one window of {tokenizer.window} s"
            )
        origin = float(counts["time"].values[0]) - bins / 2
        self.start = origin + self.first_bin * bins
        self.stop = self.start + tokenizer.window
        lost = np.r_[0, np.cumsum(~known)]
        begin = np.maximum(self.first_bin - self.past_bins, 0)
        self.usable = (self.first_bin >= self.past_bins) & (lost[self.first_bin + width] == lost[begin])
        self.n_events = events.first[self.first_bin + width] - events.first[self.first_bin]
        self.n_past = events.first[self.first_bin] - events.first[begin]
        self.counts = values
        self._unit = torch.from_numpy(np.append(events.unit, 0))
        self._bin = torch.from_numpy(np.append(events.bin, 0))
        self._low = torch.from_numpy(events.first[self.first_bin])
        self._high = torch.from_numpy(events.first[self.first_bin + width])
        self._past_low = torch.from_numpy(events.first[begin])
        self._origin = torch.from_numpy(self.first_bin)
        self.clips = self._clips(recording, stimulus, stimulus_seconds)
        self._read_series(recording, dict(groups or {}), dict(targets or {}), past)
        self.device = torch.device("cpu")

    def _clips(
        self, recording: Any, stimulus: bool | Callable[[Any, float], Any], seconds: float
    ) -> StimulusClips | None:
        if stimulus is False:
            return None
        own = recording["stimulus"] if isinstance(recording, xr.Dataset) and "stimulus" in recording else None
        if stimulus is True and own is None:
            raise InputError(
                "the recording has no `stimulus`; add one with its clock `stimulus_time`, or leave 'stimulus' out of inputs and contrast"
            )
        clips = StimulusClips(own, seconds, self.start, self.stop, None if stimulus is True else stimulus)
        self.usable = self.usable & clips.usable
        return clips

    def _read_series(
        self, recording: Any, groups: dict[str, tuple[str, ...]], targets: dict[str, int], past: float
    ) -> None:
        names = tuple(dict.fromkeys([v for group in groups.values() for v in group] + list(targets)))
        series = Series(recording, names)
        grid = np.linspace(-past, self.tokenizer.window, SERIES_SAMPLES)
        self.series_values = {
            group: np.stack([series.at(v, self.start[:, None] + grid) for v in variables], 1)
            for group, variables in groups.items()
        }
        self.target_values = {
            name: series.nearest(name, (self.start + self.stop) / 2)
            if classes
            else series.means(name, self.start, self.stop)
            for name, classes in targets.items()
        }
        self.series_scale: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.target_scale: dict[str, tuple[float, float]] = {}

    @property
    def n(self) -> int:
        """Number of windows."""
        return len(self.start)

    def normalise(self, windows: Int[np.ndarray, "sample"]) -> None:
        """Take means and spreads of stimulus, inputs and labels from some windows, those of training."""
        if self.clips is not None:
            self.clips.normalise(windows)
        for name, values in self.series_values.items():
            mean, sd = np.nanmean(values[windows], axis=(0, 2)), np.nanstd(values[windows], axis=(0, 2))
            self.series_scale[name] = (mean, np.where(sd > 0, sd, 1.0))
        for name, values in self.target_values.items():
            known = values[windows][np.isfinite(values[windows])]
            self.target_scale[name] = (float(known.mean()), float(known.std()) or 1.0) if len(known) else (0.0, 1.0)

    def to(self, device: torch.device) -> Windows:
        """Move events and frames to a device; returns itself."""
        for name in ("_unit", "_bin", "_low", "_high", "_past_low", "_origin"):
            setattr(self, name, getattr(self, name).to(device))
        if self.clips is not None:
            self.clips.to(device)
        self.device = device
        return self

    def batch(self, index: Int[np.ndarray, "sample"] | Tensor, classes: Mapping[str, int] | None = None) -> Batch:
        """Some windows, padded to the longest of them. `classes` names targets that are class numbers and are not scaled."""
        index = torch.as_tensor(index, device=self.device)
        past_ids, past_dts, past_real = self.past_events(index)
        ids, dts = self._current(index)
        series, series_real = self._series(index)
        return Batch(
            ids, dts, past_ids, past_dts, past_real,
            None if self.clips is None else self.clips.clips(index).to(self.device),
            series, series_real, self._targets(index, classes or {}),
        )  # fmt: skip

    def _events(self, low: Tensor, high: Tensor, limit: int, origin: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The most recent events between two places, the last one in the last slot that each row fills."""
        n = (high - low).clamp(max=limit)
        slot = torch.arange(int(n.max()) if len(n) else 0, device=self.device)
        real = slot < n[:, None]
        place = torch.where(real, (high - n)[:, None] + slot, len(self._unit) - 1)
        return self._unit[place], self._bin[place] - origin[:, None], real, n

    def past_events(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Past events of windows: units, bins since the past began, and which slots are real."""
        origin = self._origin[index] - self.past_bins
        unit, dt, real, _ = self._events(self._past_low[index], self._low[index], self.max_past, origin)
        return torch.where(real, unit, self.tokenizer.pad), torch.where(real, dt, self.past_bins), real

    def _current(self, index: Tensor) -> tuple[Tensor, Tensor]:
        t = self.tokenizer
        unit, dt, real, n = self._events(self._low[index], self._high[index], t.max_events, self._origin[index])
        ids = torch.full((len(index), unit.shape[1] + 2), t.pad, device=self.device)
        dts = torch.full_like(ids, t.pad_dt)
        ids[:, 0], dts[:, 0] = t.sos, t.sos_dt
        ids[:, 1:-1], dts[:, 1:-1] = torch.where(real, unit, t.pad), torch.where(real, dt, t.pad_dt)
        ids.scatter_(1, n[:, None] + 1, t.eos)
        dts.scatter_(1, n[:, None] + 1, t.eos_dt)
        return ids, dts

    def _series(self, index: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        rows = index.cpu().numpy()
        values, real = {}, {}
        for name, all_values in self.series_values.items():
            mean, sd = self.series_scale[name]
            found = (all_values[rows] - mean[:, None]) / sd[:, None]
            real[name] = torch.from_numpy(np.isfinite(found)).to(self.device)
            values[name] = torch.from_numpy(np.nan_to_num(found).astype(np.float32)).to(self.device)
        return values, real

    def _targets(self, index: Tensor, classes: Mapping[str, int]) -> dict[str, Tensor]:
        rows, out = index.cpu().numpy(), {}
        for name, values in self.target_values.items():
            mean, sd = (0.0, 1.0) if classes.get(name) else self.target_scale[name]
            out[name] = torch.from_numpy(((values[rows] - mean) / sd).astype(np.float32)).to(self.device)
        return out


def split_windows(
    start: Float[np.ndarray, "window"],
    usable: Bool[np.ndarray, "window"],
    *,
    test: float,
    blocks: int,
    gap: float,
    seed: int,
) -> np.ndarray:
    """Which windows train and which are held out: blocks of time, with a gap between the two, because what is slow would otherwise leak.

    Parameters
    ----------
    test
        Share of the blocks that is held out.
    blocks
        Number of contiguous blocks of equal length.
    gap
        Seconds around held-out blocks that are used for neither.

    Returns
    -------
    numpy.ndarray
        `train`, `test`, `gap` or `unused`, a window.

    Raises
    ------
    InputError
        No window left on one of the sides.
    """
    if not 0 < test < 1 or blocks < 2 or gap < 0:
        raise InputError(
            f"test={test}, blocks={blocks}, gap={gap}; give 0 < test < 1, at least two blocks, and a gap of 0 s or more"
        )
    n_test = min(max(1, round(test * blocks)), blocks - 1)
    block = np.arange(len(start)) * blocks // max(len(start), 1)
    held = np.isin(block, np.random.default_rng(seed).permutation(blocks)[:n_test])
    label = np.where(held, "test", "train").astype("<U6")
    times = start[held]
    if len(times):
        right = np.clip(np.searchsorted(times, start), 1, max(len(times) - 1, 1))
        near = np.minimum(np.abs(start - times[np.minimum(right, len(times) - 1)]), np.abs(start - times[right - 1]))
        label[~held & (near <= gap)] = "gap"
    label[~usable] = "unused"
    for side in ("train", "test"):
        if not (label == side).any():
            raise InputError(
                f"no window left to {side} on: {len(start)} windows, {int(usable.sum())} usable, {blocks} blocks, gap of {gap} s; give a longer "
                "recording, fewer blocks or a shorter gap"
            )
    return label


def open_windows(
    recording: Any,
    *,
    bin_width: float,
    window: float,
    max_events: int,
    ties: str,
    silent: str,
    seed: int,
    **context: Any,
) -> Windows:
    """Counts, tokenizer and windows of a recording in one go."""
    whole_bins(window, bin_width, "window")
    counts = spike_counts(recording, bin_width, silent=silent)
    tokenizer = SpikeTokenizer(
        counts.sizes["unit"], window=window, bin_width=bin_width, max_events=max_events, ties=ties, seed=seed
    )
    return Windows(recording, tokenizer, counts, **context)
