"""The part of the estimator that learns to read a behaviour from few labels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr

from nissl.errors import InputError, unknown
from nissl.populations.neuroformer import decoding
from nissl.populations.neuroformer.base import Opening
from nissl.populations.neuroformer.training import Schedule
from nissl.populations.neuroformer.windows import split_windows

Callback = Callable[[Any, float], Any]


class FewShot(Opening):
    """The part of `Neuroformer` that is tuned to a behaviour."""

    decoding_: pd.DataFrame
    history_: list[dict[str, float]]

    def finetune(
        self,
        name: str,
        recording: Any = None,
        *,
        fraction: float | None = None,
        labels: int | None = None,
        classes: int = 0,
        losses: Sequence[str] | None = None,
        freeze: bool = False,
        steps: int = 200,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        folds: int = 4,
        seed: int = 0,
        stimulus: Callback | None = None,
    ) -> Self:
        """A copy of this model that also predicts a behaviour, trained on few labelled windows.

        The new head starts as ridge regression on the pooled last layer, then head and body are trained together.

        Parameters
        ----------
        name
            A variable of the recording's `behaviour`.
        recording
            The fitted recording with its behaviour, or another one of the same units; None takes the fitted one.
        fraction, labels
            Share, or number, of the labelled training windows to use.
        classes
            Number of classes; 0 for a number.
        losses
            Which losses count, such as `(name, "id", "dt")`; the behaviour's own where None.
        freeze
            Train the head alone.
        steps, learning_rate, batch_size, folds
            Longest training, its peak rate, and windows in each step. With two or more folds the training ends where cross-validation over the labelled windows says that
            it should, which may be at once; otherwise after all steps.

        Returns
        -------
        Neuroformer
            With `decoding_`, a table of its held-out score beside ridge (for classes: logistic) regression on counts of spikes from the
            same labels.

        Raises
        ------
        InputError, UnknownNameError
            No such behaviour, a fraction that leaves fewer than two labelled windows, a behaviour that is an input.
        """
        self._fitted()
        if steps < 0 or folds < 0 or batch_size < 1:
            raise InputError(
                f"steps={steps}, folds={folds}, batch_size={batch_size}; give zero or more, and a batch of at least one window"
            )
        if any(name in group for group in self.context_["groups"].values()):
            raise InputError(
                f"{name!r} is an input of this model; predicting it would be reading it off. Fit one without it in inputs"
            )
        given = getattr(self, "recording_", None) if recording is None else recording
        if given is None:
            raise InputError("a model that was loaded has no recording of its own; give one")
        wanted = {**self.context_["classes"], name: classes}
        windows = self._open_like_fitted(given, stimulus or getattr(self, "callback_", None), wanted)
        split = split_windows(
            windows.start, windows.usable, test=self.test, blocks=self.blocks, gap=self._gap(), seed=self.seed
        )
        chosen = decoding.choose_labelled(
            windows.target_values[name],
            np.flatnonzero(split == "train"),
            name=name,
            fraction=fraction,
            labels=labels,
            seed=seed,
        )
        known = ("id", "dt", *(("contrast",) if self.contrast else ()), *wanted)
        for loss in losses or ():
            if loss not in known:
                raise unknown("loss", loss, known)
        values = windows.target_values[name][chosen]
        windows.target_scale[name] = (0.0, 1.0) if classes else (float(values.mean()), float(values.std()) or 1.0)
        new = copy.copy(self)
        headed = decoding.with_head(self.network_, name, classes, seed)
        new.windows_, new.split_, new.context_ = windows, split, {**self.context_, "classes": wanted}
        new._keep_scales(windows)
        schedule = Schedule(
            steps, min(batch_size, len(chosen)), learning_rate, warmup=0.1, weight_decay=self.weight_decay, clip=self.clip,
            temperature=self.temperature, symmetric=self.symmetric, losses=tuple(losses) if losses is not None else (name,),
        )  # fmt: skip
        how: dict[str, Any] = {"freeze": freeze, "seed": seed}
        parts = min(folds, len(chosen))
        until = (
            decoding.best_steps(headed, windows, chosen, name, schedule, folds=parts, **how)
            if parts > 1 and steps
            else None
        )
        new.network_, new.history_ = decoding.tune(
            headed, windows, chosen, name, schedule, progress=self.progress, until=until, **how
        )
        new.decoding_ = decoding.compare_decoders(new.network_, windows, chosen, np.flatnonzero(split == "test"), name)
        return new

    def predict(
        self, name: str, recording: Any = None, *, split: str = "all", stimulus: Callback | None = None
    ) -> xr.DataArray:
        """A behaviour, window by window: `(time)` in its own units, or `(time, class)` probabilities; NaN where a window is unusable."""
        self._fitted()
        if name not in self.context_["classes"]:
            raise unknown("target", name, self.context_["classes"], hint="fit with targets=, or finetune")
        windows, index = self._asked(recording, split, stimulus)
        said = decoding.predict_windows(self.network_, windows, index, name)
        coords: dict[str, Any] = {"time": (windows.start + self.window / 2)[index]}
        dims = ("time", "class")[: said.ndim]
        return xr.DataArray(said, coords, dims, name=name)
