"""One neuron as a model: from its input spikes to its output spikes and voltage, through memory units one can read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from nissl.errors import InputError
from nissl.interventions import Clamp, intervene
from nissl.learning import train
from nissl.models import load
from nissl.nn import LeakyMemoryNeuron
from nissl.populations._neuron_recording import NeuronRecording, as_input, as_recording
from nissl.populations._neuron_scores import losses, scores, shares


class NeuronModel(BaseEstimator):
    """A leaky memory neuron fitted to a recorded or simulated neuron.

    Parameters
    ----------
    n_memory, branches, synapses_per_branch, routing, tau_memory, tau_synapse, gain, hidden, n_hidden_layers, activation, learn_tau, version
        Of the network, see `nissl.nn.LeakyMemoryNeuron`; times in ms.
    inhibitory
        Channels whose spikes count negative: their indices, or one boolean a channel.
    dt
        Length of a time bin, ms.
    window
        Length of training pieces, ms.
    burn_in
        What is left out at the beginning of each trial when a fit is measured, ms: states begin at zero there.
    steps, batch, lr, schedule, optimiser, clip
        Of the training, see `nissl.learning.train`.
    ceiling
        Voltage is clipped there, in mV, so that spikes do not outweigh all else; None for no clipping.
    held_out
        Share of the trials (of the time, where there are fewer than five) that is not trained on and gives `scores_`.
    seed, progress
        Of initial weights and training pieces; whether to show a bar.

    Attributes
    ----------
    network_ : LeakyMemoryNeuron
        With an output for the spike (a logit) and one for voltage (scaled), those that there were.
    units_ : DataFrame, a row a memory unit, by time constant
        `tau` in ms; for each output `weight_...`, the readout weight in units of the output for each standard deviation of the unit, and `share_...`, how much
        of the output's variance the unit carries (they add up to 1, and can be negative where units oppose each other);
        `loss_voltage`, by how much the explained variance falls if the readout does without it.
    scores_ : Series
        On what was held out: see `evaluate`.
    history_ : Dataset
        Loss and rate by step.

    References
    ----------
    Spieler, Rahaman, Martius, Schölkopf, Levina 2023, The Expressive Leaky Memory Neuron (section 4, NeuronIO).

    Examples
    --------
    >>> from nissl.recordings.simulate import branch_cell
    >>> cell = branch_cell(n_trials=20, duration=200.0)
    >>> groups = np.argsort(cell.branch.values, kind="stable").reshape(8, 8)
    >>> model = NeuronModel(n_memory=4, branches=8, synapses_per_branch=8, routing=groups, steps=5, progress=False)
    >>> model.fit(cell.spikes_in, cell.spikes_out, cell.voltage).units_.columns.tolist()
    ['tau', 'weight_spike', 'share_spike', 'weight_voltage', 'share_voltage', 'loss_voltage']
    """

    def __init__(
        self,
        *,
        n_memory: int = 20,
        branches: int | None = None,
        synapses_per_branch: int = 1,
        routing: Any = None,
        inhibitory: Any = None,
        tau_memory: tuple[float, float] = (1.0, 150.0),
        tau_synapse: float = 5.0,
        gain: float = 5.0,
        hidden: int | None = None,
        n_hidden_layers: int = 1,
        activation: str = "relu",
        learn_tau: bool = False,
        version: int = 1,
        dt: float = 1.0,
        window: float = 150.0,
        burn_in: float = 50.0,
        steps: int = 1000,
        batch: int = 16,
        lr: float = 1e-2,
        schedule: str = "cosine",
        optimiser: str = "adam",
        clip: float | None = None,
        ceiling: float | None = -55.0,
        held_out: float = 0.2,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        self.n_memory = n_memory
        self.branches = branches
        self.synapses_per_branch = synapses_per_branch
        self.routing = routing
        self.inhibitory = inhibitory
        self.tau_memory = tau_memory
        self.tau_synapse = tau_synapse
        self.gain = gain
        self.hidden = hidden
        self.n_hidden_layers = n_hidden_layers
        self.activation = activation
        self.learn_tau = learn_tau
        self.version = version
        self.dt = dt
        self.window = window
        self.burn_in = burn_in
        self.steps = steps
        self.batch = batch
        self.lr = lr
        self.schedule = schedule
        self.optimiser = optimiser
        self.clip = clip
        self.ceiling = ceiling
        self.held_out = held_out
        self.seed = seed
        self.progress = progress

    def fit(self, spikes_in: Any, spikes_out: Any = None, voltage: Any = None) -> NeuronModel:
        """Train on pieces of the recording.

        Parameters
        ----------
        spikes_in
            (time, channel) or (trial, time, channel): spikes a bin.
        spikes_out
            (time,) or (trial, time): 0 or 1.
        voltage
            The same axes, mV. At least one of the two is needed.

        Raises
        ------
        InputError
            Lengths that differ, NaN, output spikes that are not 0 or 1, an output that never changes, a window longer than the
            recording, or settings of the network that cannot be.
        """
        recording = as_recording(spikes_in, spikes_out, voltage, self.inhibitory, self.ceiling)
        window, burn_in = self._bins(recording)
        network = self._network(recording)
        training, rest = recording.split(self.held_out, burn_in)
        self.outputs_ = recording.names
        self.center_, self.scale_ = training.scaling()
        targets = self._scaled(training)

        def pieces(generator: torch.Generator) -> tuple[Tensor, ...]:
            return training.pieces(targets, window, self.batch, generator)

        def loss(model: torch.nn.Module, x: Tensor, *wanted: Tensor) -> Tensor:
            return _loss(model(x), wanted, self.outputs_)

        with warnings.catch_warnings():  # memory may well last longer than a piece
            warnings.filterwarnings("ignore", message="the longest time constant")
            self.history_ = train(
                network, pieces, loss, steps=self.steps, lr=self.lr, optimiser=self.optimiser, schedule=self.schedule,
                clip=self.clip, seed=self.seed, progress=self.progress,
            )  # fmt: skip
        self.network_ = network.eval()
        self.units_ = self._units(training, burn_in)
        self.scores_ = self._scores(rest, burn_in)
        return self

    def predict(self, spikes_in: Any) -> xr.Dataset:
        """What the neuron would do: `spike`, the chance of one in each bin, and `voltage` in mV; axes (trial, time)."""
        check_is_fitted(self)
        output = self._run(self._input(spikes_in))
        named: dict[str, Any] = {}
        for name, value in zip(self.outputs_, output.unbind(-1), strict=True):
            shown = torch.sigmoid(value) if name == "spike" else self.center_ + self.scale_ * value
            named[name] = (("trial", "time"), shown.numpy(), {"units": "mV"} if name == "voltage" else {})
        times = np.arange(output.shape[1]) * self.dt
        return xr.Dataset(named, {"time": ("time", times, {"units": "ms"})})

    def evaluate(self, spikes_in: Any, spikes_out: Any = None, voltage: Any = None) -> pd.Series:
        """How well the prediction fits a recording: explained variance and error of the voltage, and of spikes the area
        under the curve and how many are found at false-alarm rates of 0.0025 and 0.01.
        """
        check_is_fitted(self)
        recording = as_recording(spikes_in, spikes_out, voltage, self.inhibitory, self.ceiling)
        return self._scores(recording, round(self.burn_in / self.dt))

    def score(self, spikes_in: Any, spikes_out: Any = None, voltage: Any = None) -> float:
        """Explained variance of the voltage, or of spikes the area under the curve where there is no voltage."""
        return float(self.evaluate(spikes_in, spikes_out, voltage).iloc[0])

    def lesions(
        self, spikes_in: Any, spikes_out: Any = None, voltage: Any = None, *, at: Literal["memory", "branch"] = "memory"
    ) -> pd.DataFrame:
        """What the fit loses if one memory unit or one branch is silent, with all consequences that has in time.

        Returns
        -------
        DataFrame
            A row a unit, with `lost_...` for each score that `evaluate` gives.
        """
        whole = self.evaluate(spikes_in, spikes_out, voltage)
        model = load(self.network_)
        n = self.network_.n_memory if at == "memory" else self.network_.branches
        rows = []
        for unit in range(n):
            with intervene(model, {at: Clamp(0.0, units=[unit])}):
                rows.append(whole - self.evaluate(spikes_in, spikes_out, voltage))
        table = pd.DataFrame(rows).add_prefix("lost_").rename_axis("unit").reset_index(drop=True)
        if at == "memory":
            table.insert(0, "tau", self.network_.tau.detach().numpy())
        return table

    def _bins(self, recording: NeuronRecording) -> tuple[int, int]:
        window, burn_in = round(self.window / self.dt), round(self.burn_in / self.dt)
        if not 0 <= burn_in < recording.n_times:
            raise InputError(
                f"burn_in={self.burn_in} ms leaves nothing of {recording.n_times * self.dt:g} ms to be measured; shorten it"
            )
        if window > recording.n_times:
            raise InputError(
                f"a window of {window} bins is longer than the recording's {recording.n_times}; lower `window`, now {self.window} ms"
            )
        return window, burn_in

    def _network(self, recording: NeuronRecording) -> LeakyMemoryNeuron:
        return LeakyMemoryNeuron(
            recording.n_channels, len(recording.names), self.n_memory, branches=self.branches,
            synapses_per_branch=self.synapses_per_branch, routing=self.routing, tau_memory=self.tau_memory,
            tau_synapse=self.tau_synapse, gain=self.gain, hidden=self.hidden, n_hidden_layers=self.n_hidden_layers,
            activation=self.activation, dt=self.dt, learn_tau=self.learn_tau, version=self.version, seed=self.seed,
        )  # fmt: skip

    def _scaled(self, recording: NeuronRecording) -> list[Tensor]:
        given = {"spike": recording.spikes, "voltage": recording.voltage}
        return [
            (value - self.center_) / self.scale_ if name == "voltage" else value
            for name in self.outputs_
            if (value := given[name]) is not None
        ]

    def _input(self, spikes_in: Any) -> Tensor:
        return as_input(spikes_in, self.inhibitory)

    def _run(self, x: Tensor) -> Tensor:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the longest time constant")
            return self.network_(x)

    def _scores(self, recording: NeuronRecording, burn_in: int) -> pd.Series:
        output = dict(zip(self.outputs_, self._run(recording.x)[:, burn_in:].unbind(-1), strict=True))
        if "voltage" in output:
            output["voltage"] = self.center_ + self.scale_ * output["voltage"]
        return scores(recording, output, burn_in)

    def _units(self, recording: NeuronRecording, burn_in: int) -> pd.DataFrame:
        """What each memory unit contributes to each output, on what the network was trained on."""
        seen: list[Tensor] = []
        hook = self.network_.memory.register_forward_hook(lambda _, __, value: seen.append(value.detach()))
        try:
            output = self._run(recording.x)[:, burn_in:].flatten(0, 1)
        finally:
            hook.remove()
        memory, readout = seen[0][:, burn_in:].flatten(0, 1), self.network_.readout.weight.detach()
        wanted = [w[:, burn_in:].flatten() for w in self._scaled(recording)]
        table = {"tau": self.network_.tau.detach().numpy()}
        for i, name in enumerate(self.outputs_):
            parts = (memory - memory.mean(0)) * readout[i]
            scale = self.scale_ if name == "voltage" else 1.0
            table[f"weight_{name}"] = (readout[i] * memory.std(0) * scale).numpy()
            table[f"share_{name}"] = shares(parts).numpy()
            if name == "voltage":
                table["loss_voltage"] = losses(parts, wanted[i] - output[:, i]).numpy()
        return pd.DataFrame(table).sort_values("tau", ignore_index=True)


def _loss(output: Tensor, wanted: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    """Equal parts of cross-entropy and squared error, as far as there are both."""
    parts = [
        (binary_cross_entropy_with_logits if name == "spike" else mse_loss)(found, target)
        for name, found, target in zip(names, output.unbind(-1), wanted, strict=True)
    ]
    return torch.stack(parts).mean()


def fit_neuron(spikes_in: Any, spikes_out: Any = None, voltage: Any = None, **settings: Any) -> NeuronModel:
    """Fit a leaky memory neuron to a recorded or simulated neuron; settings as for `NeuronModel`.

    Parameters
    ----------
    spikes_in
        (time, channel) or (trial, time, channel): spikes a bin.
    spikes_out
        (time,) or (trial, time): 0 or 1.
    voltage
        The same axes, mV; at least one of the two.

    Returns
    -------
    NeuronModel
        With `units_`, the table of its memory units, `scores_` on what was held out, `predict` and `lesions`.

    Raises
    ------
    InputError
        See `NeuronModel.fit`.

    Examples
    --------
    >>> from nissl.recordings.simulate import branch_cell
    >>> cell = branch_cell(n_trials=10, duration=200.0)
    >>> model = fit_neuron(cell.spikes_in, voltage=cell.voltage, n_memory=3, steps=3, progress=False)
    >>> model.predict(cell.spikes_in).voltage.shape
    (10, 200)
    """
    return NeuronModel(**settings).fit(spikes_in, spikes_out, voltage)
