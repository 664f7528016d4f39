"""The expressive leaky memory neuron: a cortical neuron as a cell that remembers on many timescales."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from nissl.errors import InputError, unknown
from nissl.models import Probe
from nissl.nn._cell import Cell, State
from nissl.nn._leaky_memory.recurrence import Activation, recur
from nissl.nn._leaky_memory.routing import route
from nissl.nn._leaky_memory.settings import positive, refuse_other, time_constants, to_logit, whole
from nissl.nn._leaky_memory.synapses import Synapses
from nissl.nn._trace import leaky_trace

PHI, SLOPE = 1.7159, 2 / 3  # φ(z) = 1.7159 tanh(2z/3) has φ(1) = 1 and its steepest bend there
ACTIVATIONS = ("relu", "silu")
WEIGHT_AT_FIRST = 0.5


class LeakyMemoryNeuron(Cell):
    """One cortical neuron: leaky synapses, nonlinear dendrites, and leaky memory units of known time constants.

    A recurrent layer whose every memory unit forgets with a time constant of its own, in milliseconds, spread evenly over
    orders of magnitude. In the paper a few thousand weights follow a detailed model of a layer-5 pyramidal cell, and as a
    sequence layer it holds on to what it saw thousands of steps ago.

    Parameters
    ----------
    n_inputs, n_outputs
        Width of input (spikes or other events a step; inhibitory channels negative) and output.
    n_memory
        Memory units d_m.
    branches, synapses_per_branch
        Dendritic branches, and synapses on each. By default a branch an input, with one synapse.
    routing
        Which input each synapse listens to. None: inputs in their order, as many as synapses. "neighbours": the first half
        of the inputs is excitatory, the second inhibitory; neighbours are paired and each branch takes a window of them.
        "random": any. Or an array of channels (branch, synapse), -1 for no synapse.
    tau_memory
        Shortest and longest time constant of memory, ms; `n_memory` of them at equal ratios (the shortest where there is one).
    tau_synapse
        Time constant of all synapses, ms.
    gain
        λ: how fast proposals are written. 1 makes memory a leaky average; more lets slow units be written quickly.
    hidden
        Width of the dendrites' hidden layers; 2 d_m where None.
    n_hidden_layers
        0 makes the dendrites linear up to φ.
    activation
        Of the hidden layers: "relu" or "silu".
    dt
        Length of a step, ms.
    learn_tau
        Whether the time constants of memory are learned, within their bounds.
    version
        1, as published, or 2: the trace lives on branches and the write gain stays below 1 for every time constant.
    recurrent
        Whether dendrites see the memory; without it memory is a leaky trace of what they propose.
    seed
        Of initial weights and random routing; torch's own generator where None.

    Attributes
    ----------
    tau : Tensor (memory,)
        Time constants of the memory units, ms.
    channels : Tensor (branch, synapse)
        The input that each synapse listens to, -1 for none.
    synapse_weight, branch_weight, memory_weight, bias
        Free synaptic weights (branch, synapse), of which the positive part counts, and the first layer of the dendrites,
        (hidden, branch), (hidden, memory) and (hidden,); `layers` are the deeper ones.
    readout : module
        From memory to output: `weight` (output, memory) and `bias`.

    Raises
    ------
    InputError
        Sizes, time constants or gains that are not positive, bounds in the wrong order, more or fewer synapses than inputs where
        nothing is routed, channels that do not exist; weights of another configuration in `load_state_dict`.
    UnknownNameError
        Another routing or activation.

    Notes
    -----
    State and sites (all of axes sample, time, unit)::

        s_t = κ_s s_{t-1} + max(w, 0) x_t           `synapse`: traces, one a synapse
        b_t = Σ s_t over the synapses of a branch    `branch`
        p_t = φ(MLP([b_t; κ m_{t-1}]))               what the dendrites propose, φ(z) = 1.7159 tanh(2z/3)
        m_t = κ m_{t-1} + g p_t                      `memory`: with the coordinate tau, ms
        y_t = W m_t + c                              output

        κ_s = exp(-dt/tau_synapse),  κ = exp(-dt/tau),  g = λ (1 - κ)

    In version 2, b_t = κ_s b_{t-1} + Σ max(w, 0) x_t and g = 1 - exp(-λ dt/tau); `synapse` is then max(w, 0) x_t.
    The state is {"synapse", "memory"} in version 1 and {"branch", "memory"} in version 2, zero at first.

    A longest time constant above the length of a sequence is allowed, and told once as a UserWarning: such units hardly
    forget within it.

    A sequence costs one product for all inputs, one leaky trace, and a loop over the memory alone, in machine code where
    there is a C++ compiler (built once, kept in the cache folder; `NISSL_COMPILE=0` forbids it) and in torch elsewhere, with
    the same numbers. Second derivatives through a sequence are not available; those through `step` are.

    References
    ----------
    Spieler, Rahaman, Martius, Schölkopf, Levina 2023, The Expressive Leaky Memory Neuron: an Efficient and Expressive
    Phenomenological Neuron Model Can Solve Long-Horizon Tasks (equations 1 to 5).

    Examples
    --------
    >>> neuron = LeakyMemoryNeuron(12, 2, n_memory=4, branches=3, synapses_per_branch=4, tau_memory=(1.0, 150.0))
    >>> [round(tau, 1) for tau in neuron.tau.tolist()]
    [1.0, 5.3, 28.2, 150.0]
    >>> spikes = (torch.rand(8, 200, 12, generator=torch.Generator().manual_seed(0)) < 0.02).float()
    >>> neuron(spikes).shape
    torch.Size([8, 200, 2])
    >>> first, state = neuron.run(spikes[:, :50])
    >>> rest, state = neuron.run(spikes[:, 50:], state)
    >>> torch.allclose(torch.cat([first, rest], 1), neuron(spikes), atol=1e-5)
    True
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        n_memory: int = 100,
        *,
        branches: int | None = None,
        synapses_per_branch: int = 1,
        routing: Any = None,
        tau_memory: tuple[float, float] = (1.0, 1000.0),
        tau_synapse: float = 5.0,
        gain: float = 5.0,
        hidden: int | None = None,
        n_hidden_layers: int = 1,
        activation: str = "relu",
        dt: float = 1.0,
        learn_tau: bool = False,
        version: int = 1,
        recurrent: bool = True,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        self.n_inputs, self.n_outputs = whole("n_inputs", n_inputs, 1), whole("n_outputs", n_outputs, 1)
        self.n_memory = whole("n_memory", n_memory, 1)
        self.branches = self.n_inputs if branches is None else whole("branches", branches, 1)
        self.synapses_per_branch = whole("synapses_per_branch", synapses_per_branch, 1)
        self.n_hidden_layers = whole("n_hidden_layers", n_hidden_layers, 0)
        self.hidden = 2 * self.n_memory if hidden is None else whole("hidden", hidden, 1)
        self.tau_synapse, self.dt = positive("tau_synapse", tau_synapse, ", in ms"), positive("dt", dt, ", in ms")
        self.gain = positive("gain", gain)
        if version not in (1, 2):
            raise InputError(f"version={version!r}; allowed: 1 (as published) or 2")
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        self.version, self.recurrent, self.learn_tau = version, recurrent, learn_tau
        self.activation = cast("Activation", activation)
        self.tau_shortest, self.tau_longest, tau = time_constants(tau_memory, self.n_memory)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        self.routed = routing is not None
        channels = route(self.n_inputs, self.branches, self.synapses_per_branch, routing, generator)

        self.channels: Tensor
        self.register_buffer("channels", channels)
        self.register_buffer("settings", torch.tensor([float(v) for v in self._settings().values()]))
        if learn_tau:
            logit = to_logit(tau, self.tau_shortest, self.tau_longest)
            self.tau_logit = nn.Parameter(logit.to(torch.get_default_dtype()))
        else:
            self.register_buffer("tau_fixed", tau.to(torch.get_default_dtype()))
        self._make_weights()
        self.reset_parameters(generator)
        self.synapse = Probe(
            "sample", "time", "unit", coords={"channel": ("unit", self._channel), "on_branch": ("unit", self._branch)}
        )
        self.branch = Probe("sample", "time", "unit")
        self.memory = Probe("sample", "time", "unit", coords={"tau": ("unit", self._tau)})
        self._told = False

    def _make_weights(self) -> None:
        widths = [self.hidden] * self.n_hidden_layers + [self.n_memory]
        first = widths[0]
        self.synapse_weight = nn.Parameter(torch.empty(self.branches, self.synapses_per_branch))
        self.branch_weight = nn.Parameter(torch.empty(first, self.branches))
        self.memory_weight = nn.Parameter(torch.empty(first, self.n_memory)) if self.recurrent else None
        self.bias = nn.Parameter(torch.empty(first))
        self.layers = nn.ModuleList(Layer(n, m) for n, m in pairwise(widths))
        self.readout = Layer(self.n_memory, self.n_outputs)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Begin again: synapses at 0.5, all other weights uniform within one over the root of their fan-in."""
        fan_in = self.branches + (self.n_memory if self.recurrent else 0)
        groups = [(fan_in, [self.branch_weight, self.memory_weight, self.bias])]
        groups += [(layer.weight.shape[1], [layer.weight, layer.bias]) for layer in (*self._deep(), self.readout)]
        with torch.no_grad():
            self.synapse_weight.fill_(WEIGHT_AT_FIRST)
            for width, weights in groups:
                for weight in (w for w in weights if w is not None):
                    weight.copy_(torch.empty(weight.shape).uniform_(-1, 1, generator=generator) / math.sqrt(width))

    @property
    def tau(self) -> Float[Tensor, "memory"]:
        """Time constants of the memory units, ms."""
        if not self.learn_tau:
            return self.tau_fixed  # type: ignore[return-value]
        return self.tau_shortest + (self.tau_longest - self.tau_shortest) * torch.sigmoid(self.tau_logit)

    def initial_state(self, x: Float[Tensor, "batch input"]) -> State:
        """Traces and memory at zero."""
        zeros = self.bias.new_zeros
        if self.version == 1:
            return {"synapse": zeros(len(x), self.channels.numel()), "memory": zeros(len(x), self.n_memory)}
        return {"branch": zeros(len(x), self.branches), "memory": zeros(len(x), self.n_memory)}

    def run(
        self, x: Float[Tensor, "batch time input"], state: State | None = None, *, truncate: int | None = None
    ) -> tuple[Float[Tensor, "batch time output"], State]:
        """A sequence from a state to a state; see `Cell.run`."""
        if state is None and isinstance(x, Tensor) and x.dim() == 3 and not torch.compiler.is_compiling():
            self._tell_if_short(x.shape[1])
        return super().run(x, state, truncate=truncate)

    def advance(self, x: Float[Tensor, "batch input"], state: State) -> tuple[Tensor, State]:
        """One step, as the equations are written."""
        synapses, (keep, write) = self._synapses(), self._rates()
        drive = synapses.weighted(x.to(self.bias.dtype))
        if self.version == 1:
            traces = self.synapse.now(synapses.decay * state["synapse"] + drive)
            branch, after = self.branch.now(synapses.by_branch(traces)), {"synapse": traces}
        else:
            summed = synapses.by_branch(self.synapse.now(drive))
            branch = self.branch.now(synapses.decay * state["branch"] + summed)
            after = {"branch": branch}
        decayed = keep * state["memory"]
        z = linear(branch, self.branch_weight, self.bias)
        if self.memory_weight is not None:
            z = z + linear(decayed, self.memory_weight)
        memory = self.memory.now(decayed + write * PHI * torch.tanh(SLOPE * self._deeper(z)))
        return self.readout(memory), {**after, "memory": memory}

    def sequence(self, x: Float[Tensor, "batch time input"], state: State) -> tuple[Tensor, State]:
        """All steps: inputs at once, then the memory."""
        # Memories add up small amounts over long times, so autocast has no part in it.
        with torch.autocast(x.device.type, enabled=False):
            branch, after = self._branches(x.to(self.bias.dtype), state)
            drive = linear(branch, self.branch_weight, self.bias)
            keep, write = self._rates()
            if self.memory_weight is None:
                memory = leaky_trace(write * PHI * torch.tanh(SLOPE * self._deeper(drive)), keep, state["memory"])
            else:
                memory = self._remember(drive, self.memory_weight, state["memory"], keep, write)
            memory = self.memory(memory)
            return self.readout(memory), {**after, "memory": memory[:, -1]}

    def _remember(
        self, drive: Tensor, memory_weight: Tensor, start: Tensor, keep: Tensor, write: Tensor
    ) -> Float[Tensor, "batch time memory"]:
        """The recurrent core, in units of the most that each unit can hold."""
        rate = -torch.expm1(-self.dt / self.tau)
        most = PHI * write / rate
        recurrent = (memory_weight * (keep * most)).t()
        deeper: list[tuple[Tensor, Tensor]] = [(layer.weight, layer.bias) for layer in self._deep()]
        if deeper:  # the slope of φ goes into the last layer
            deeper[-1] = (SLOPE * deeper[-1][0], SLOPE * deeper[-1][1])
        else:
            drive, recurrent = SLOPE * drive, SLOPE * recurrent
        memory: Tensor = recur(drive, start / most, recurrent, rate, deeper, self.activation)  # type: ignore[call-arg]
        return most * memory

    def _branches(self, x: Tensor, state: State) -> tuple[Float[Tensor, "batch time branch"], State]:
        """What each branch receives, at all times; traces are linear, so a branch sums its synapses before they leak."""
        synapses = self._synapses()
        drive = synapses.weighted(x) if self.synapse.watched else None
        if self.version == 1 and drive is not None:
            traces = self.synapse(leaky_trace(drive, synapses.decay, state["synapse"]))
            return self.branch(synapses.by_branch(traces)), {"synapse": traces[:, -1]}
        summed = synapses.summed(x) if drive is None else synapses.by_branch(self.synapse(drive))
        if self.version == 1:
            branch = self.branch(leaky_trace(summed, synapses.decay, synapses.by_branch(state["synapse"])))
            return branch, {"synapse": synapses.last_traces(x, state["synapse"])}
        branch = self.branch(leaky_trace(summed, synapses.decay, state["branch"]))
        return branch, {"branch": branch[:, -1]}

    def _synapses(self) -> Synapses:
        return Synapses(self.synapse_weight, self.channels, self.routed, math.exp(-self.dt / self.tau_synapse))

    def _deeper(self, z: Tensor) -> Tensor:
        for layer in self._deep():
            z = layer(torch.relu(z) if self.activation == "relu" else silu(z))
        return z

    def _deep(self) -> list[Layer]:
        return [cast("Layer", layer) for layer in self.layers]

    def _rates(self) -> tuple[Float[Tensor, "memory"], Float[Tensor, "memory"]]:
        """What is kept of each memory unit in a step, and the weight with which a proposal is written."""
        steps = self.dt / self.tau
        write = -self.gain * torch.expm1(-steps) if self.version == 1 else -torch.expm1(-self.gain * steps)
        return torch.exp(-steps), write

    def _tau(self) -> Tensor:
        return self.tau

    def _channel(self) -> Tensor:
        return self.channels.flatten()

    def _branch(self) -> Tensor:
        return torch.arange(self.branches).repeat_interleave(self.synapses_per_branch)

    def _tell_if_short(self, steps: int) -> None:
        if 0 < steps * self.dt < self.tau_longest and not self._told:
            self._told = True
            warnings.warn(
                f"the longest time constant, {self.tau_longest:g} ms, is above the sequence's {steps * self.dt:g} ms: such units "
                "hardly forget within it; lower tau_memory, or go on if that is what you want",
                stacklevel=3,
            )

    def _settings(self) -> dict[str, float]:
        """What weights cannot tell, kept beside them so that they are not used in another network."""
        return {
            "version": self.version,
            "n_hidden_layers": self.n_hidden_layers,
            "activation": ACTIVATIONS.index(self.activation),
            "recurrent": self.recurrent,
            "learn_tau": self.learn_tau,
            "shortest tau_memory": self.tau_shortest,
            "longest tau_memory": self.tau_longest,
            "tau_synapse": self.tau_synapse,
            "gain": self.gain,
            "dt": self.dt,
        }

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        refuse_other(self, self._settings(), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """Sizes and time constants."""
        return (
            f"{self.n_inputs}, {self.n_outputs}, n_memory={self.n_memory}, branches={self.branches}, "
            f"synapses_per_branch={self.synapses_per_branch}, hidden={self.hidden}, n_hidden_layers={self.n_hidden_layers}, "
            f"activation={self.activation!r}, tau_memory=({self.tau_shortest:g}, {self.tau_longest:g}), learn_tau={self.learn_tau}, "
            f"tau_synapse={self.tau_synapse:g}, gain={self.gain:g}, dt={self.dt:g}, recurrent={self.recurrent}, version={self.version}"
        )


class Layer(nn.Module):
    """A linear layer; those of the dendrites are used at each step, whether or not they are called."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(n_out, n_in)), nn.Parameter(torch.empty(n_out))

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        """Weighted sum and bias."""
        return linear(x, self.weight, self.bias)
