"""A plain spiking network: synapses and leaky integrate-and-fire neurons in turn, and three ways to find its gradient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError, unknown
from nissl.models import Probe
from nissl.nn._cell import Cell, State
from nissl.nn._straight_through import straight_through
from nissl.nn._trace import leaky_trace
from nissl.nn.spiking._lif import LIF
from nissl.nn.spiking._lif_sequence import lif_sequence
from nissl.nn.spiking._representation import RateLIF

GRADIENTS = ("through_time", "online", "representation")


class SpikingNetwork(Cell):
    """A feed-forward network of spiking neurons: synapses, neurons, synapses, neurons, ..., and a readout that does not spike.

    Takes (batch, time, input) and gives the readout at each step, (batch, time, output).

    Parameters
    ----------
    layers
        Widths, such as ``(576, 100, 100, 10)``: inputs, neurons of each layer, outputs; then synapses are `torch.nn.Linear` without bias. Or
        modules, one for the synapses of each layer, the readout's last: Linear, Conv2d, pooling, or a `Sequential` of
        these; they must be linear.
    shape
        What one step of the input looks like to the first synapses, such as ``(1, 24, 24)``; needed for convolutions only. Input and
        output stay flat.
    gradient
        How the gradient is found, see Notes: "through_time", "online" or "representation".
    tau
        Time constant of the neurons, in steps; 2, and 20 for "representation", where None.
    threshold
        Of a spike; 1, and 0.3 for "representation", where None.
    surrogate, slope
        Derivative that stands in for that of a spike, see `LIF`; "representation" needs none.
    early
        For "representation": neurons fire at this share of the threshold that a spike takes away.
    seed
        Of the initial weights of Linear synapses made from widths; None takes torch's own generator.

    Attributes
    ----------
    synapses : ModuleList
        As many as there are layers of neurons, and one more.
    cells : ModuleList
        Neurons, `LIF` or what "representation" uses.

    Raises
    ------
    InputError
        Fewer than two widths, widths below 1, synapses that do not fit, settings that cannot be.
    UnknownNameError
        Another gradient or surrogate.

    Notes
    -----
    Layer l has synapses W_l and neurons whose spikes s_l are 0 or 1, with soft reset:

        I_l(t) = W_l s_{l-1}(t)                             current; s_0 is the input
        u_l(t) = (1 - 1/tau) u'_l(t-1) + I_l(t)             membrane
        s_l(t) = 1 if u_l(t) >= threshold else 0            spike
        u'_l(t) = u_l(t) - threshold s_l(t)                 soft reset
        y(t) = W_L s_{L-1}(t)                               readout

    "through_time": the surrogate gradient through all steps (Neftci et al. 2019), without the reset.

    "online" (Xiao et al. 2022): no gradient flows from one step to an earlier one; what a synapse's weight learns from is its error now times the
    trace of its presynaptic spikes,

        a(t) = (1 - 1/tau) a(t-1) + s(t),      dW = sum_t delta(t) a(t)^T

    so that nothing of the past needs to be kept but the trace.

    "representation" (Meng et al. 2022): neurons that leak with exp(-1/tau), take in (1 - exp(-1/tau)) I, fire at `early` * threshold and give
    threshold * tau on a spike; their weighted firing rate r follows that of their current J,

        r = sum_t w_t s(t) / sum_t w_t,   w_t = exp(-(T-t)/tau),      r = clip(J, 0, threshold * tau)
        dr/dJ = 1 where 0 < J < threshold * tau, else 0

    with time in steps (J is the paper's current divided by its time constant; the paper's units are tau = 1, dt = 1/20).

    Sites: `cells.l.membrane` and `cells.l.spikes` (sample, time, unit), see `LIF`; `readout` (sample, time, unit). State: the membrane of each layer,
    `cells.l.membrane`, and with "online" the trace before each layer of synapses, `synapses.l.trace`.

    References
    ----------
    Neftci, Mostafa and Zenke 2019, Surrogate gradient learning in spiking neural networks. Xiao et al. 2022, Online training through time for spiking
    neural networks. Meng et al. 2022, Training high-performance low-latency spiking neural networks by differentiation on spike representation.

    Examples
    --------
    >>> import torch, nissl.nn
    >>> network = nissl.nn.SpikingNetwork((64, 30, 10))
    >>> network(torch.rand(5, 6, 64)).shape
    torch.Size([5, 6, 10])
    """

    def __init__(
        self,
        layers: Sequence[int] | Sequence[nn.Module],
        *,
        shape: Sequence[int] | None = None,
        gradient: Literal["through_time", "online", "representation"] = "through_time",
        tau: float | None = None,
        threshold: float | None = None,
        surrogate: str = "sigmoid",
        slope: float | None = None,
        early: float = 0.3,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        if gradient not in GRADIENTS:
            raise unknown("gradient", gradient, GRADIENTS)
        self.gradient = gradient
        self.shape = None if shape is None else tuple(shape)
        self.synapses = nn.ModuleList(_synapses(layers, seed))
        self.sizes = self._sizes(layers)
        self.n_inputs = math.prod(self.sizes[0])
        self.decay: Any = 0.0

        def cell() -> Cell:
            if gradient == "representation":
                return RateLIF(
                    tau=20.0 if tau is None else tau, threshold=0.3 if threshold is None else threshold, early=early
                )
            return LIF(
                tau=2.0 if tau is None else tau,
                threshold=1.0 if threshold is None else threshold,
                reset="soft",
                surrogate=surrogate,
                slope=slope,
            )

        self.cells = nn.ModuleList(cell() for _ in self.synapses[:-1])
        self.readout = Probe("sample", "time", "unit")
        if gradient == "online":
            self.decay = self.cells[0].beta if len(self.cells) else cell().beta

    def initial_state(self, x: Float[Tensor, "batch input"]) -> State:
        """Membranes at rest and traces empty."""
        state: State = {}
        for i, size in enumerate(self.sizes[:-1]):
            width = math.prod(size)
            if self.gradient == "online":
                state[f"synapses.{i}.trace"] = x.new_zeros(len(x), width)
            if i:
                state[f"cells.{i - 1}.membrane"] = x.new_zeros(len(x), width)
        return state

    def sequence(self, x: Float[Tensor, "batch time input"], state: State) -> tuple[Tensor, State]:
        """All steps, layer after layer."""
        after: State = {}
        for i, cell in enumerate(self.cells):
            current = self._synapse(i, x, state, after)
            key = f"cells.{i}.membrane"
            x, now = self._fire(cell, current, {"membrane": state[key]})
            after[key] = now["membrane"]
        return self.readout(self._synapse(len(self.cells), x, state, after)), after

    def advance(self, x: Float[Tensor, "batch input"], state: State) -> tuple[Tensor, State]:
        """One step."""
        after: State = {}
        for i, cell in enumerate(self.cells):
            current = self._synapse(i, x[:, None], state, after)[:, 0]
            key = f"cells.{i}.membrane"
            held = state[key].detach() if self.gradient == "online" else state[key]
            x, now = cell.advance(current, {"membrane": held})  # type: ignore[operator]
            after[key] = now["membrane"]
        y = self._synapse(len(self.cells), x[:, None], state, after)[:, 0]
        return self.readout.now(y), after

    def _fire(self, cell: Any, current: Tensor, state: State) -> tuple[Tensor, State]:
        if self.gradient != "online":
            return cell.sequence(current, state)
        with torch.no_grad():
            _, membrane, after = lif_sequence(
                current, None, state["membrane"], beta=cell.beta, threshold=cell.threshold, soft=True, detach_reset=True, surrogate=cell.spike
            )  # fmt: skip
        # The membrane's past is a number: gradients go from the spike to the current of the same step only.
        u = straight_through(current, membrane)
        cell.membrane(u)
        return cell.spikes(cell.spike(u - cell.threshold)), {"membrane": after}

    def _synapse(self, i: int, spikes: Tensor, state: State, after: State) -> Tensor:
        if self.gradient != "online":
            return self._through(i, spikes)
        key = f"synapses.{i}.trace"
        with torch.no_grad():
            trace = leaky_trace(spikes, self.decay, state[key].detach())
            after[key] = trace[:, -1]
            current = self._through(i, spikes)
        # Value of the current; gradient as if the trace had come in, and to the spikes of this step.
        return straight_through(self._through(i, straight_through(spikes, trace)), current)

    def _through(self, i: int, x: Float[Tensor, "batch time unit"]) -> Float[Tensor, "batch time unit"]:
        synapse, size = self.synapses[i], self.sizes[i]
        if len(size) == 1:
            return synapse(x)
        return synapse(x.flatten(0, 1).unflatten(1, size)).flatten(1).unflatten(0, x.shape[:2])

    @torch.no_grad()
    def _sizes(self, layers: Sequence[Any]) -> list[tuple[int, ...]]:
        """Shape of what comes into each layer of synapses, and of what leaves the last."""
        first = self.synapses[0]
        if self.shape is not None:
            size: tuple[int, ...] = self.shape
        elif isinstance(first, nn.Linear):
            size = (first.in_features,)
        else:
            raise InputError(
                "shape is needed where the first synapses are not Linear; give that of one step, such as (1, 28, 28)"
            )
        sizes = [size]
        weight = next(self.parameters(), torch.zeros(()))
        for i, synapse in enumerate(self.synapses):
            if isinstance(synapse, nn.Linear) and len(sizes[-1]) > 1:
                sizes[-1] = (math.prod(sizes[-1]),)
            try:
                found = synapse(torch.zeros(1, *sizes[-1]).to(weight))
            except RuntimeError as error:
                raise InputError(f"synapses {i} ({synapse}) cannot take input of shape {sizes[-1]}: {error}") from None
            sizes.append(tuple(found.shape[1:]))
        return sizes

    def extra_repr(self) -> str:
        widths = " -> ".join("x".join(map(str, size)) for size in self.sizes)
        return f"{widths}, gradient={self.gradient!r}"


class SpikingClassifier(nn.Module):
    """A spiking network that looks at a still input for some steps and answers with the mean of its readout.

    Parameters
    ----------
    network
        What runs.
    n_steps
        For how long an input (batch, ...) is shown, as a constant current; an input (batch, time, input) has its own time.
    average
        Answer with the mean over time (batch, class); False gives the readout at each step (batch, time, class), as online learning needs it.
    spikes
        Demand that an input with a time axis holds spikes, 0 or 1.

    Raises
    ------
    InputError
        No steps; an input that does not fit, or that is not 0 or 1 where spikes are demanded.

    Notes
    -----
        y = 1/T sum_t readout(t)

    Sites are those of `network`, as `network.cells.l.membrane` and so on.

    References
    ----------
    Xiao et al. 2024, Hebbian learning based orthogonal projection for continual learning of spiking neural networks, appendix.

    Examples
    --------
    >>> import torch, nissl.nn
    >>> model = nissl.nn.SpikingClassifier(nissl.nn.SpikingNetwork((64, 30, 10)), n_steps=6)
    >>> model(torch.rand(5, 64)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self, network: SpikingNetwork, *, n_steps: int = 6, average: bool = True, spikes: bool = False
    ) -> None:
        super().__init__()
        if n_steps < 1:
            raise InputError(f"n_steps {n_steps}; an input is shown for at least 1 step")
        self.network, self.n_steps, self.average, self.spikes = network, n_steps, average, spikes

    def forward(self, x: Float[Tensor, "batch *input"]) -> Tensor:
        """Logits (batch, class), or (batch, time, class)."""
        width = self.network.n_inputs
        if x.ndim < 2:
            raise InputError(
                f"input of shape {tuple(x.shape)}; give (batch, ...) with {width} inputs, or (batch, time, {width})"
            )
        moving = x.ndim == 3 and x.shape[-1] == width
        if self.spikes and not moving:
            raise InputError(f"input of shape {tuple(x.shape)}; spikes come as (batch, time, {width})")
        if self.spikes and not bool(((x == 0) | (x == 1)).all()):
            raise InputError("input that is not 0 or 1; spikes are demanded (spikes=False takes currents)")
        y = self.network(x if moving else x.flatten(1)[:, None].expand(-1, self.n_steps, -1))
        return y.mean(1) if self.average else y

    def extra_repr(self) -> str:
        return f"n_steps={self.n_steps}, average={self.average}, spikes={self.spikes}"


def _synapses(layers: Sequence[Any], seed: int | None) -> list[nn.Module]:
    layers = list(layers)
    if len(layers) and all(isinstance(m, nn.Module) for m in layers):
        return layers
    if len(layers) < 2 or not all(isinstance(n, int) and n >= 1 for n in layers):
        raise InputError(
            f"layers {layers}; give at least two widths, such as (576, 100, 10), or a list of modules (Linear, Conv2d, ...)"
        )
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(layers)]
