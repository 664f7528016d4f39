"""Neuroformer as an estimator: fit, score, generate, decode, save."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from sklearn.base import BaseEstimator

from nissl.errors import InputError
from nissl.models.load import _device
from nissl.populations.neuroformer import generation, storage
from nissl.populations.neuroformer._settings import as_pair, check_settings, classes_of, inputs_of, warn_truncated
from nissl.populations.neuroformer.few_shot import FewShot
from nissl.populations.neuroformer.model import Architecture, NeuroformerNetwork
from nissl.populations.neuroformer.scoring import SpikeScore, score_windows
from nissl.populations.neuroformer.training import Schedule, train
from nissl.populations.neuroformer.views import Views
from nissl.populations.neuroformer.windows import Windows, split_windows

Callback = Callable[[Any, float], Any]


class Neuroformer(Views, FewShot, BaseEstimator):
    """A transformer that says which unit fires next, and when (Antoniades et al. 2024).

    Every spike is a token. The spikes of a short window are predicted one after another from those before them, from the spikes
    of the recent past, and from stimulus and behaviour where these are inputs. Once fitted, the model generates activity, shows who
    attends to whom, decodes behaviour from few labels and aligns spikes with stimuli.

    Parameters
    ----------
    window, past, bin_width
        Seconds: what is predicted in one go, what is looked back on, resolution. Choose bins shorter than synaptic delays; in wider
        ones cause and effect are simultaneous.
    inputs
        `auto` takes past spikes, and the stimulus where the recording has one. Or a sequence of `past`, `stimulus` and names of
        behaviours; or a mapping that gives groups of behaviours: `{"past": (), "eyes": ("gaze_x", "gaze_y")}`.
    stimulus_window
        Seconds of stimulus up to the end of the window.
    patch
        Frames, height and width of a patch of a film.
    targets
        Behaviours to predict while training: names, or name to number of classes (0 for a number).
    contrast
        Modalities whose embeddings are aligned: two or more of `spikes`, `stimulus` and groups of inputs.
    contrast_dim, temperature, symmetric
        Width of the common space, temperature of the contrastive loss, and whether it goes both ways.
    dim, heads, layers, dropout
        Width, heads, and blocks in (state encoder, past, stimulus and each group, final). The paper has 256, 8, (6, 6, 6, 6), 0.2.
    max_events, max_past
        Most events in a window and in its past; the most recent are kept and the share of cut windows is reported.
    ties
        Order of events in one bin: by `unit`, or `shuffled`.
    steps, batch_size, learning_rate, warmup, weight_decay, clip
        AdamW: updates, windows in each, peak rate, share of steps until it is reached (then cosine decay to a tenth), decay of
        matrices, largest norm of the gradient.
    test, blocks, gap
        Held-out share of `blocks` contiguous blocks of time, and the seconds around them that are used for neither side.
    silent
        Units without spikes: `raise`, or `keep`.
    device
        `auto` takes a GPU where there is one, with bfloat16 where it is exact enough.
    checkpoint, checkpoint_every
        Folder for the state of the training, from which an interrupted fit goes on, and steps between two writings.
    seed, progress
        Same seed, same model; a bar while working.

    Attributes
    ----------
    network_
        The trained torch module.
    units_
        Names of units.
    windows_, split_
        The recording's windows, and for each `train`, `test`, `gap` or `unused`.
    truncated_
        Share of windows whose events, and whose past events, did not all fit.
    history_
        Losses during training.
    decoding_
        After `finetune`: held-out score of this decoder and of ridge regression on counts.

    Examples
    --------
    >>> from nissl.recordings.simulate.circuits import spiking_hubs
    >>> model = Neuroformer(dim=16, heads=2, steps=20, batch_size=64).fit(spiking_hubs(60))
    >>> score = model.evaluate()
    >>> score.nats_id > 0, score.n_windows > 200
    (True, True)
    >>> model.connectivity(min_pairs=5).dims
    ('target', 'source')
    """

    def __init__(
        self,
        *,
        window: float = 0.05,
        past: float = 0.15,
        bin_width: float = 0.01,
        inputs: str | Sequence[str] | Mapping[str, Sequence[str]] = "auto",
        stimulus_window: float = 0.2,
        patch: tuple[int, int, int] = (3, 8, 8),
        targets: Sequence[str] | Mapping[str, int] = (),
        contrast: Sequence[str] = (),
        contrast_dim: int = 512,
        temperature: float = 0.5,
        symmetric: bool = False,
        dim: int = 64,
        heads: int = 4,
        layers: tuple[int, int, int, int] = (1, 1, 1, 1),
        dropout: float = 0.0,
        max_events: int = 100,
        max_past: int = 200,
        ties: Literal["unit", "shuffled"] = "unit",
        steps: int = 1500,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        warmup: float = 0.05,
        weight_decay: float = 0.1,
        clip: float = 1.0,
        test: float = 0.2,
        blocks: int = 10,
        gap: float = 1.0,
        silent: Literal["raise", "keep"] = "raise",
        device: str = "auto",
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 500,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.window, self.past, self.bin_width = window, past, bin_width
        self.inputs, self.stimulus_window, self.patch = inputs, stimulus_window, patch
        self.targets, self.contrast = targets, contrast
        self.contrast_dim, self.temperature, self.symmetric = contrast_dim, temperature, symmetric
        self.dim, self.heads, self.layers, self.dropout = dim, heads, layers, dropout
        self.max_events, self.max_past, self.ties = max_events, max_past, ties
        self.steps, self.batch_size, self.learning_rate, self.warmup = steps, batch_size, learning_rate, warmup
        self.weight_decay, self.clip = weight_decay, clip
        self.test, self.blocks, self.gap = test, blocks, gap
        self.silent, self.device = silent, device
        self.checkpoint, self.checkpoint_every = checkpoint, checkpoint_every
        self.seed, self.progress = seed, progress

    def fit(self, recording: Any, y: None = None, *, stimulus: Callback | None = None) -> Neuroformer:
        """Train on a recording; held-out blocks of time are left alone.

        Parameters
        ----------
        recording
            A Dataset with `spike_time` and `spike_unit`, or with counts `spikes (time, unit)`; `stimulus` and `behaviour` on their own
            clocks. Without these two, an array of counts `(time, unit)` will do.
        stimulus
            `callback(recording["stimulus"], time) -> clip` for experiments whose stimulus has no simple clock; `time` is the start of a
            window, clips are `(frame, y, x)` or `(frame, feature)`, NaN where nothing was shown.

        Returns
        -------
        Neuroformer
            Itself.

        Raises
        ------
        InputError, UnknownNameError
            Settings or a recording that cannot be used.
        """
        check_settings(self)
        device = _device(self.device)
        past, see, groups = inputs_of(self.inputs, self.contrast, recording, stimulus is not None)
        self.context_ = {"past": past, "see": see, "groups": groups, "classes": classes_of(self.targets, groups)}
        windows = self._open(recording, stimulus, self.context_["classes"])
        self.recording_, self.callback_ = recording, stimulus
        self.split_ = split_windows(
            windows.start, windows.usable, test=self.test, blocks=self.blocks, gap=self._gap(), seed=self.seed
        )
        self._start(windows, device)
        self.history_ = train(
            self.network_, self.windows_, self._rows("train"), self._schedule(), seed=self.seed, progress=self.progress,
            checkpoint=self.checkpoint, every=self.checkpoint_every,
        )  # fmt: skip
        self.network_.eval()
        return self

    def _start(self, windows: Windows, device: torch.device) -> None:
        """A network of random weights that already knows how often each unit fires."""
        self.units_, self.windows_ = windows.units, windows
        rows = np.flatnonzero(self.split_ == "train")
        for name, values in windows.target_values.items():
            if not np.isfinite(values[rows]).any():
                raise InputError(
                    f"no training window has a label of {name!r}; give behaviour that overlaps the recorded time"
                )
        windows.normalise(rows)
        self._keep_scales(windows)
        n_bins = windows.tokenizer.n_bins
        spikes = windows.counts[windows.first_bin[rows][:, None] + np.arange(n_bins)].sum((0, 1))
        self.rates_ = (spikes + 0.5) / (len(rows) * n_bins + 1.0)
        tokens = np.append(spikes + 0.5, len(rows))
        self.unigram_ = tokens / tokens.sum()
        self.truncated_ = {
            "window": float((windows.n_events[rows] > self.max_events).mean()),
            "past": float((windows.n_past[rows] > self.max_past).mean()) if self.context_["past"] else 0.0,
        }
        warn_truncated(self.truncated_, self.max_events, self.max_past)
        with torch.random.fork_rng([]):
            torch.manual_seed(self.seed)
            self.network_ = NeuroformerNetwork(self._shape(windows))
        with torch.no_grad():
            self.network_.id_head.bias.copy_(torch.from_numpy(np.log(self.unigram_)))
        self.network_.to(device)
        windows.to(device)

    def _shape(self, windows: Windows) -> Architecture:
        context = self.context_
        return Architecture(
            n_units=len(windows.units),
            window_bins=windows.tokenizer.n_bins,
            past_bins=windows.past_bins,
            bin_width=self.bin_width,
            max_events=self.max_events,
            max_past=self.max_past,
            dim=self.dim,
            heads=self.heads,
            layers=self.layers,
            dropout=self.dropout,
            past=context["past"],
            clip=() if windows.clips is None else windows.clips.shape,
            patch=self.patch,
            see=context["see"],
            groups={g: len(v) for g, v in context["groups"].items()},
            predict=context["classes"],
            contrast=tuple(self.contrast),
            contrast_dim=self.contrast_dim,
        )

    def evaluate(self, recording: Any = None, *, split: str = "test", stimulus: Callback | None = None) -> SpikeScore:
        """How well spikes are predicted: in nats a token, and in bits an event over constant rates.

        Parameters
        ----------
        recording
            Another recording of the same units, all of which is scored; None takes the fitted one.
        split
            `test`, `train`, `gap` or `all`, of the fitted recording.
        """
        windows, index = self._asked(recording, split, stimulus)
        return score_windows(self.network_, windows, index, unigram=self.unigram_, rates=self.rates_)

    def score(self, recording: Any = None, y: None = None) -> float:
        """Bits an event over independent units of constant rate (training rates), held-out windows where no recording is given."""
        return self.evaluate(recording).bits_per_event

    def generate(
        self,
        recording: Any = None,
        *,
        duration: float | None = None,
        start: float | None = None,
        past: Literal["generated", "true"] = "generated",
        samples: int | None = None,
        temperature: float | tuple[float, float] = 1.0,
        top_p: float | tuple[float, float] = 1.0,
        seed: int = 0,
        stimulus: Callback | None = None,
    ) -> xr.Dataset:
        """Draw spikes.

        Parameters
        ----------
        recording
            Gives stimulus, behaviour and the first past; None takes the fitted one.
        duration, start
            Seconds; from the first usable window, to the last, where None. Whole windows.
        past
            `generated` runs in closed loop, each window after those that were generated before it; `true` gives each window its real
            past (teacher forcing), all of them at once.
        samples
            How many independent runs, side by side; None gives one without the dimension.
        temperature, top_p
            Sharpness of, and share of probability kept from, the distributions; a pair stands for units and times.

        Returns
        -------
        xarray.Dataset
            `spikes (time, unit)`, or `(sample, time, unit)`, at the model's bin width: a recording in its own right.

        Raises
        ------
        InputError
            A duration of 0, a start outside the recording, temperatures or nuclei out of range.
        """
        warmth, share = as_pair(temperature, "temperature", np.inf), as_pair(top_p, "top_p", 1.0)
        if past not in ("generated", "true"):
            raise InputError(f"past={past!r}; allowed: 'generated' (closed loop), 'true' (teacher forcing)")
        if samples is not None and samples < 1:
            raise InputError(f"samples={samples}; give at least one, or None")
        windows, _ = self._asked(recording, "all", stimulus)
        index = self._stretch(windows, start, duration)
        run = generation.generate_closed_loop if past == "generated" else generation.generate_after_true_past
        generator = torch.Generator(windows.device).manual_seed(seed)
        counts = run(
            self.network_,
            windows,
            index,
            samples or 1,
            temperature=warmth,
            top_p=share,
            generator=generator,
            progress=self.progress,
        )
        n_bins = windows.tokenizer.n_bins
        time = (windows.start[index][:, None] + (np.arange(n_bins) + 0.5) * self.bin_width).ravel()
        spikes = xr.DataArray(
            counts, {"time": time, "unit": self.units_}, ("sample", "time", "unit"), attrs={"bin_width": self.bin_width}
        )
        attrs = {
            "rate": 1 / self.bin_width,
            "source": f"Neuroformer, past={past}, temperature={temperature}, top_p={top_p}, seed={seed}",
        }
        return xr.Dataset({"spikes": spikes[0] if samples is None else spikes}, attrs=attrs)

    def _stretch(self, windows: Windows, start: float | None, duration: float | None) -> np.ndarray:
        if duration is not None and not (np.isfinite(duration) and duration >= self.window * (1 - 1e-6)):
            raise InputError(f"duration={duration} s; give at least one window, {self.window} s")
        usable = np.flatnonzero(windows.usable)
        if start is not None:
            usable = usable[windows.start[usable] >= start - 1e-9]
        if len(usable) == 0:
            raise InputError(
                f"start={start} s leaves no window; usable windows start at {windows.start[windows.usable].min():.2f} to {windows.start[windows.usable].max():.2f} s"
            )
        n = len(usable) if duration is None else round(duration / self.window)
        if n > len(usable):
            raise InputError(
                f"duration={duration} s from {windows.start[usable[0]]:.2f} s; {len(usable) * self.window:.2f} s of usable windows follow"
            )
        return usable[:n]

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `model.json`; the recording stays where it is."""
        self._fitted()
        settings = {
            k: list(v) if isinstance(v, tuple) else v for k, v in self.get_params().items() if k != "checkpoint"
        }
        about = {
            "settings": settings, "units": self.units_, "context": self.context_, "scales": self.scales_, "truncated": self.truncated_,
            "unigram": self.unigram_.tolist(), "rates": self.rates_.tolist(),
        }  # fmt: skip
        storage.write_model(folder, self.network_, about)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Neuroformer:
        """A model that `save` has written; methods then want a recording of the same units.

        Raises
        ------
        StoreError
            No readable model in the folder.
        """
        network, about = storage.read_model(folder)
        settings: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in about["settings"].items()}
        model = cls(**settings)
        model.network_, model.units_ = network.to(_device(device)), about["units"]
        model.context_ = {**about["context"], "groups": {k: tuple(v) for k, v in about["context"]["groups"].items()}}
        model.scales_, model.truncated_ = about["scales"], about["truncated"]
        model.unigram_, model.rates_ = np.array(about["unigram"]), np.array(about["rates"])
        return model

    def _schedule(self) -> Schedule:
        return Schedule(
            self.steps,
            self.batch_size,
            self.learning_rate,
            self.warmup,
            0.1,
            self.weight_decay,
            self.clip,
            self.temperature,
            self.symmetric,
        )
