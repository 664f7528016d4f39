"""What was shown around each window: clips of a film, stretches of a stimulus vector, or whatever a callback returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nissl.errors import InputError


class StimulusClips:
    """The last frames up to the end of each window.

    Parameters
    ----------
    stimulus
        `(stimulus_time, feature)`, `(stimulus_time, y, x)` or `(stimulus_time,)` with its clock; or anything that the callback takes.
    seconds
        Length of a clip, which ends with the window.
    start, stop
        Times of the windows in seconds.
    callback
        `callback(stimulus, time) -> clip`, `time` being the start of a window; clips are `(frame, feature)` or `(frame, y, x)`, all of one
        shape, NaN where there is none.

    Attributes
    ----------
    usable
        Windows whose clip is complete.
    shape
        Of one clip.
    """

    def __init__(
        self,
        stimulus: Any,
        seconds: float,
        start: Float[np.ndarray, "window"],
        stop: Float[np.ndarray, "window"],
        callback: Callable[[Any, float], Any] | None = None,
    ) -> None:
        self.stimulus, self.callback, self.start = stimulus, callback, start
        self.usable: Bool[np.ndarray, "window"]
        if callback is not None:
            clip = np.asarray(callback(stimulus, float(start[len(start) // 2])), dtype=np.float32)
            self.shape = _clip_shape(clip.shape)
            clips = (np.asarray(callback(stimulus, float(t)), dtype=np.float32) for t in start)
            self.usable = np.array([c.shape == clip.shape and bool(np.isfinite(c).all()) for c in clips])
        else:
            self._index_frames(stimulus, seconds, stop)
        if self.usable.mean() < 0.5:
            raise InputError(
                f"the stimulus covers {self.usable.mean():.0%} of {len(start)} windows (recording {start[0]:.2f} to {stop[-1]:.2f} s); "
                "give one that is as long as the recording, or cut the recording: recording.sel(time=slice(start, stop))"
            )
        self.mean, self.scale = 0.0, 1.0

    def _index_frames(self, stimulus: Any, seconds: float, stop: np.ndarray) -> None:
        if not isinstance(stimulus, xr.DataArray) or "stimulus_time" not in stimulus.coords:
            raise InputError(
                "a stimulus without a clock; give a DataArray with the coordinate `stimulus_time` in seconds, or a callback"
            )
        stimulus = stimulus.transpose("stimulus_time", ...)
        clock = stimulus["stimulus_time"].values.astype(float)
        if len(clock) < 2 or not (np.diff(clock) > 0).all():
            raise InputError(f"stimulus_time has {len(clock)} entries that must increase; give at least two")
        step = float(np.median(np.diff(clock)))
        frames = max(1, round(seconds / step))
        last = np.searchsorted(clock, stop - 1e-9, side="right") - 1
        first = last - frames + 1
        values = np.asarray(stimulus.values, dtype=np.float32)
        values = values[:, None] if values.ndim == 1 else values
        self.frames = torch.from_numpy(np.ascontiguousarray(values))
        self.offset = torch.arange(frames)
        self.first = torch.from_numpy(np.maximum(first, 0))
        self.shape = _clip_shape((frames, *values.shape[1:]))
        whole = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        broken = np.r_[0, np.cumsum(~whole)]
        usable = (first >= 0) & (stop - clock[np.maximum(last, 0)] <= 2 * step)
        usable &= clock[np.maximum(last, 0)] - clock[np.maximum(first, 0)] <= 1.5 * frames * step
        self.usable = usable & (broken[last + 1] == broken[np.maximum(first, 0)])

    def clips(self, index: Int[np.ndarray, "sample"] | Tensor) -> Float[Tensor, "sample frame *place"]:
        """Clips of windows, normalised."""
        if self.callback is None:
            found = self.frames[self.first[index][:, None] + self.offset.to(self.first.device)]
        else:
            times = self.start[torch.as_tensor(index).cpu().numpy()]
            found = torch.from_numpy(
                np.stack([np.asarray(self.callback(self.stimulus, float(t)), dtype=np.float32) for t in times])
            )
            found = found[..., None] if found.ndim == 2 else found
        return (found - self.mean) / self.scale

    def normalise(self, windows: Int[np.ndarray, "sample"]) -> tuple[float, float]:
        """Take mean and spread from (a thousand of) some windows."""
        chosen = windows[np.linspace(0, len(windows) - 1, min(len(windows), 1000)).astype(int)]
        found = self.clips(chosen)
        self.mean, self.scale = float(found.mean()), float(found.std()) or 1.0
        return self.mean, self.scale

    def to(self, device: torch.device) -> None:
        """Move the frames to a device."""
        if self.callback is None:
            self.frames, self.first = self.frames.to(device), self.first.to(device)


def _clip_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    shape = (*shape, 1) if len(shape) == 1 else shape
    if len(shape) not in (2, 3):
        raise InputError(f"clips of shape {shape}; allowed: (frame, feature) and (frame, y, x); average colours first")
    return tuple(shape)
