"""Opening recordings for a model, fitted or not, and choosing windows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nissl.errors import InputError, unknown
from nissl.populations.neuroformer.model import NeuroformerNetwork
from nissl.populations.neuroformer.windows import Windows, open_windows

Callback = Callable[[Any, float], Any]


class Opening:
    """The part of `Neuroformer` that turns recordings into windows."""

    network_: NeuroformerNetwork
    windows_: Windows
    split_: np.ndarray
    units_: list[str]
    context_: dict[str, Any]
    scales_: dict[str, Any]
    recording_: Any
    callback_: Callback | None
    window: float
    past: float
    gap: float
    progress: bool
    seed: int
    silent: Any
    test: float
    blocks: int
    contrast: Any
    batch_size: int
    weight_decay: float
    clip: float
    temperature: float
    symmetric: bool

    def _open(self, recording: Any, stimulus: Callback | None, classes: Mapping[str, int]) -> Windows:
        wants = self.context_["see"] or "stimulus" in self.contrast
        s: Any = self
        return open_windows(
            recording, bin_width=s.bin_width, window=s.window, max_events=s.max_events, ties=s.ties, silent=s.silent, seed=s.seed,
            past=s.past, max_past=s.max_past, stimulus=(stimulus or True) if wants else False, stimulus_seconds=s.stimulus_window,
            groups=self.context_["groups"], targets=classes,
        )  # fmt: skip

    def _open_like_fitted(self, recording: Any, stimulus: Callback | None, classes: Mapping[str, int]) -> Windows:
        """Another recording of the same units, normalised as the first one was."""
        silent, self.silent = (
            getattr(self, "silent", "raise"),
            "keep",
        )  # a short stretch may well lack spikes of some unit
        try:
            windows = self._open(recording, stimulus, classes)
        finally:
            self.silent = silent
        if windows.units != self.units_ and _named(recording):
            missing = [u for u in self.units_ if u not in windows.units]
            extra = [u for u in windows.units if u not in self.units_]
            raise InputError(
                f"the recording's units are not those of the model: {len(missing)} missing ({', '.join(missing[:4])}), {len(extra)} unknown "
                f"({', '.join(extra[:4])}), or in another order; choose and order them with recording.sel(unit=model.units_)"
            )
        if len(windows.units) != len(self.units_):
            raise InputError(f"{len(windows.units)} units; the model has {len(self.units_)}")
        shape = self.network_.shape.clip
        if windows.clips is not None and windows.clips.shape != shape:
            raise InputError(f"clips of shape {windows.clips.shape}; the model was fitted to {shape}")
        self._scale(windows)
        return windows.to(self.network_.id_head.weight.device)

    def _keep_scales(self, windows: Windows) -> None:
        self.scales_ = {
            "stimulus": None if windows.clips is None else [windows.clips.mean, windows.clips.scale],
            "series": {k: [m.tolist(), s.tolist()] for k, (m, s) in windows.series_scale.items()},
            "targets": {k: list(v) for k, v in windows.target_scale.items()},
        }

    def _scale(self, windows: Windows) -> None:
        if windows.clips is not None:
            windows.clips.mean, windows.clips.scale = self.scales_["stimulus"]
        windows.series_scale = {k: (np.array(m), np.array(s)) for k, (m, s) in self.scales_["series"].items()}
        windows.target_scale = {k: (v[0], v[1]) for k, v in self.scales_["targets"].items()}

    def _asked(
        self, recording: Any, split: str, stimulus: Callback | None, *, targets: bool = False
    ) -> tuple[Windows, np.ndarray]:
        """Windows of the fitted recording's split, or all usable ones of another recording."""
        self._fitted()
        if recording is not None:
            classes = self.context_["classes"] if targets else {}
            windows = self._open_like_fitted(recording, stimulus or getattr(self, "callback_", None), classes)
            rows = np.flatnonzero(windows.usable)
            if len(rows) == 0:
                raise InputError(
                    f"no usable window: {windows.n} windows, all with missing spikes, too short a past, or no stimulus"
                )
            return windows, rows
        if not hasattr(self, "windows_"):
            raise InputError("a model that was loaded has no recording of its own; give one")
        return self.windows_, self._rows(split)

    def _rows(self, split: str) -> np.ndarray:
        if split == "all":
            return np.flatnonzero(self.windows_.usable)
        if split not in ("train", "test", "gap"):
            raise InputError(f"split={split!r}; allowed: 'test', 'train', 'gap', 'all'")
        return np.flatnonzero(self.split_ == split)

    def _fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise InputError("this Neuroformer is not fitted yet; call fit(recording), or Neuroformer.load(folder)")

    def _gap(self) -> float:
        """Windows beside held-out ones look back into them: the gap is no shorter than past and window."""
        return max(self.gap, self.past + self.window)

    def _unit_index(self, unit: Any) -> int:
        self._fitted()
        if str(unit) in self.units_:
            return self.units_.index(str(unit))
        raise unknown("unit", unit, self.units_)


def _named(recording: Any) -> bool:
    """Whether a recording says what its units are called."""
    return hasattr(recording, "coords") and "unit" in recording.coords
