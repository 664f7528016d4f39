"""What a fitted model shows of single units: who drives whom, what they attend to, where windows lie in the common space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import xarray as xr

from nissl.errors import InputError
from nissl.populations.neuroformer import companions
from nissl.populations.neuroformer.base import Opening
from nissl.populations.neuroformer.connectivity import Source, attention_sums, mean_over_pairs, occlusion_sums
from nissl.populations.neuroformer.stimulus_maps import stimulus_map
from nissl.populations.neuroformer.training import evaluate_batches
from nissl.populations.neuroformer.windows import Batch, Windows

Callback = Callable[[Any, float], Any]


class Views(Opening):
    """The part of `Neuroformer` that reads a fitted network."""

    def connectivity(
        self,
        recording: Any = None,
        *,
        source: Source = "past",
        heads: Literal["mean", "max"] = "mean",
        layers: Literal["last", "rollout"] = "last",
        score: Literal["attention", "occlusion"] = "attention",
        relative: bool = False,
        min_pairs: int = 20,
        split: str = "all",
        stimulus: Callback | None = None,
    ) -> xr.DataArray:
        """Mean attention from positions that predict an event of `target` to events of `source`.

        Attention is not causation: common input and rates raise it. `score="occlusion"` gives the drop in log probability of the
        target's events when the source's past events are hidden; `compare_connectivity` puts simple methods beside both.

        Parameters
        ----------
        source
            Events in the `past`, earlier events in the `current` window, or `both`.
        heads
            Mean or largest of the heads.
        layers
            The last layer, or attention followed through all of them (rollout, residual 0.5).
        relative
            Count attention in units of even attention (1 is what an event gets by chance), which takes out that an event which stands
            alone gets more than one of many. The paper's own map, without it, is above chance even for an untrained network.
        min_pairs
            Pairs of events that a mean is taken over at least; with fewer, NaN.

        Returns
        -------
        xarray.DataArray
            `(target, source)`, NaN where there are too few pairs; coordinate `pairs (target, source)` says how many there are.

        Notes
        -----
        N_a / N_z of Antoniades et al. 2024. Rows are the units that are predicted.
        """
        windows, index = self._asked(recording, split, stimulus)
        if score == "attention":
            sums, pairs = attention_sums(
                self.network_, windows, index, source=source, heads=heads, layers=layers, relative=relative
            )
        elif score == "occlusion":
            if source != "past":
                raise InputError(f"source={source!r}; occlusion hides events of the 'past'")
            sums, pairs = occlusion_sums(self.network_, windows, index, progress=self.progress)
        else:
            raise InputError(f"score={score!r}; allowed: 'attention', 'occlusion'")
        found = self._pairs(mean_over_pairs(sums, pairs, min_pairs), score)
        found.attrs |= {"source": source, "heads": heads, "layers": layers, "min_pairs": min_pairs}
        return found.assign_coords(pairs=(("target", "source"), pairs.astype(int)))

    def compare_connectivity(
        self,
        recording: Any = None,
        *,
        max_lag: float | None = None,
        min_pairs: int = 20,
        split: str = "all",
        stimulus: Callback | None = None,
    ) -> xr.Dataset:
        """Every map of who drives whom, side by side, in one orientation.

        Parameters
        ----------
        max_lag
            Longest lag of the simple methods in seconds; the model's `past` where None.

        Returns
        -------
        xarray.Dataset
            `attention`, `relative_attention` (in units of even attention), `occlusion`, `lagged_correlation`, `partial_correlation` and `glm`, all `(target, source)`; see `companions` for the
            last three.
        """
        windows, index = self._asked(recording, split, stimulus)
        bins = windows.past_bins if max_lag is None else round(max_lag / windows.tokenizer.bin_width)
        counts = _counts_of(windows, index)
        out = {}
        if self.network_.shape.past:
            for name, relative in (("attention", False), ("relative_attention", True)):
                sums = attention_sums(self.network_, windows, index, relative=relative)
                out[name] = mean_over_pairs(*sums, min_pairs)
            out["occlusion"] = mean_over_pairs(
                *occlusion_sums(self.network_, windows, index, progress=self.progress), min_pairs
            )
        out["lagged_correlation"] = companions.lagged_correlation(counts, bins)
        out["partial_correlation"] = companions.partial_correlation(counts, bins)
        out["glm"] = companions.poisson_glm(counts, bins, bands=min(3, bins))
        return xr.Dataset({name: self._pairs(values, name) for name, values in out.items()})

    def stimulus_attention(
        self,
        unit: Any,
        recording: Any = None,
        *,
        gradient: bool = False,
        split: str = "all",
        stimulus: Callback | None = None,
    ) -> xr.DataArray:
        """Where in the stimulus the model looks when it predicts an event of a unit.

        Parameters
        ----------
        unit
            Name of the unit.
        gradient
            Weigh attention by the positive part of the derivative of the unit's logit in it.

        Returns
        -------
        xarray.DataArray
            `(frame, y, x)` for films, a value a patch, with the centres of patches in pixels as coordinates; `(frame,)` for stimulus
            vectors. `attrs["events"]` says over how many events it is a mean.

        Raises
        ------
        UnknownNameError, InputError
            No such unit, no event of it, or a model without stimulus.
        """
        which = self._unit_index(unit)
        windows, index = self._asked(recording, split, stimulus)
        values, events = stimulus_map(self.network_, windows, index, which, gradient=gradient)
        encoder = self.network_.stimulus_encoder
        dims = ("frame", "y", "x")[: len(encoder.grid)]
        coords: dict[str, Any] = {"frame": np.arange(encoder.grid[0])}
        if encoder.video:
            centres = (
                np.arange(g) * s + (p - 1) / 2
                for g, s, p in zip(encoder.grid, encoder.stride, encoder.patch, strict=True)
            )
            coords = dict(zip(dims, centres, strict=True))
        attrs = {"unit": str(unit), "events": events, "gradient": int(gradient)}
        return xr.DataArray(values.reshape(encoder.grid), coords, dims, name="attention", attrs=attrs)

    def embed(self, recording: Any = None, *, split: str = "all", stimulus: Callback | None = None) -> xr.Dataset:
        """Unit vectors of each window in the common space, one variable a modality of `contrast`, `(time, latent)`.

        The one of spikes is taken before the stimulus comes in, so that matching the two is a task.

        Raises
        ------
        InputError
            A model without contrast.
        """
        self._fitted()
        names = self.network_.shape.contrast
        if not names:
            raise InputError("this model aligns nothing; fit it with contrast=('spikes', 'stimulus')")
        windows, index = self._asked(recording, split, stimulus)
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}

        def keep(_: np.ndarray, batch: Batch) -> None:
            for name, vectors in self.network_(batch).aligned.items():
                parts[name].append(vectors.cpu().numpy())

        evaluate_batches(self.network_, windows, index, 1024, keep)
        time = windows.start[index] + windows.tokenizer.window / 2
        return xr.Dataset({n: (("time", "latent"), np.concatenate(p)) for n, p in parts.items()}, {"time": time})

    def attention(
        self, time: float, recording: Any = None, *, layers: str = "last", stimulus: Callback | None = None
    ) -> xr.DataArray:
        """Attention of one window: from each event that is predicted to each event of the past, mean over heads.

        Parameters
        ----------
        time
            Seconds; the window that holds it.

        Returns
        -------
        xarray.DataArray
            `(event, past_event)` with coordinates `unit`, `event_time`, `past_unit` and `past_time` (start of the bin in seconds).
        """
        windows, index = self._asked(recording, "all", stimulus)
        at = index[(windows.start[index] <= time) & (time < windows.stop[index])]
        if len(at) == 0:
            raise InputError(
                f"no usable window at {time} s; they run from {windows.start[index].min():.2f} to {windows.stop[index].max():.2f} s"
            )
        if not self.network_.shape.past:
            raise InputError("this model does not look at the past (inputs without 'past')")
        found: list[xr.DataArray] = []

        def keep(_: np.ndarray, batch: Batch) -> None:
            pattern = self.network_(batch, weights=True).attention["past"][-1].mean(1)[0]
            ids, dts = batch.ids[0, 1:-1].cpu().numpy(), batch.dts[0, 1:-1].cpu().numpy()
            past, when = batch.past_ids[0].cpu().numpy(), batch.past_dts[0].cpu().numpy()
            step, start = windows.tokenizer.bin_width, windows.start[at[0]]
            names = np.array(self.units_)
            coords = {
                "unit": ("event", names[ids]), "event_time": ("event", start + dts * step),
                "past_unit": ("past_event", names[past]), "past_time": ("past_event", start + (when - windows.past_bins) * step),
            }  # fmt: skip
            found.append(
                xr.DataArray(
                    pattern[: len(ids), 1:].float().cpu().numpy(), coords, ("event", "past_event"), name="attention"
                )
            )

        evaluate_batches(self.network_, windows, at[:1], 1, keep)
        return found[0]

    def _pairs(self, values: np.ndarray, name: str) -> xr.DataArray:
        return xr.DataArray(values, {"target": self.units_, "source": self.units_}, ("target", "source"), name=name)


def _counts_of(windows: Windows, index: np.ndarray) -> np.ndarray:
    """Counts in the windows chosen and in their past, NaN elsewhere, so that no lag runs across what was not chosen."""
    chosen = np.zeros(len(windows.counts), bool)
    for begin, end in (
        (windows.first_bin[index] - windows.past_bins, windows.first_bin[index] + windows.tokenizer.n_bins),
    ):
        edges = np.zeros(len(chosen) + 1, int)
        np.add.at(edges, np.maximum(begin, 0), 1)
        np.add.at(edges, end, -1)
        chosen = edges[:-1].cumsum() > 0
    return np.where(chosen[:, None], windows.counts, np.nan)
