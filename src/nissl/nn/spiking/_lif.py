"""The leaky integrate-and-fire cell that all spiking parts of this library share."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError, unknown
from nissl.models import Probe
from nissl.nn._cell import Cell, State, not_finite
from nissl.nn._trace import leaky_trace
from nissl.nn.spiking._lif_sequence import lif_sequence
from nissl.nn.spiking._surrogates import surrogate_gradient

Reset = Literal["hard", "soft", "none"]
Leak = Literal["euler", "exponential"]


class LIF(Cell):
    """Leaky integrate-and-fire neurons: a membrane that charges, leaks, and spikes when it reaches its threshold.

    Takes a current (batch, time, unit) of any width and gives spikes, 0 or 1, of the same shape. A whole sequence runs
    through two preallocated buffers with a backward pass written by hand; one step at a time gives the same numbers.

    Parameters
    ----------
    tau
        Time constant of the membrane, in steps.
    threshold
        At which a spike is fired.
    reset
        What a spike does to the membrane: `hard` sets it to 0, `soft` takes the threshold away, `none` leaves it.
    leak
        What is left of the membrane after one step: `euler` 1 - 1/tau (tau >= 1; 1 keeps nothing), `exponential` exp(-1/tau).
    gain
        What the current is multiplied by; `leak` means 1 - beta, so that a constant current of 1 charges the membrane to 1.
    surrogate, slope
        Derivative of the spike in training, as for `surrogate_gradient`.
    detach_reset
        Let no gradient flow through the reset. Where it may, gradients explode over hundreds of steps.

    Attributes
    ----------
    beta : float
        What is left of the membrane after one step.
    spike : Surrogate
        The spike function.

    Raises
    ------
    UnknownNameError
        Another reset, leak or surrogate.
    InputError
        A time constant that is not positive (or below 1 with `leak="euler"`), a threshold or slope that is not positive.

    Notes
    -----
    With current I, modulation o (0 where none is given) and one step the unit of time:

        u_t  = beta u'_{t-1} + gain I_t             membrane
        s_t  = 1 if u_t + o_t >= threshold else 0   spike
        u'_t = u_t (1 - s_t)           hard
             = u_t - threshold s_t     soft
             = u_t                     none

    Sites: `membrane` is u (sample, time, unit), before the reset, what the decision was made of; `spikes` is s. State:
    `membrane` is u' (batch, unit). A modulation takes part in the decision and is never integrated.

    A constant current below threshold (1 - beta) / gain never leads to a spike. Above it, with a hard reset, spikes come
    every ceil(ln(1 - threshold (1 - beta) / (gain I)) / ln(beta)) steps.

    References
    ----------
    Gerstner and Kistler 2002, Spiking Neuron Models, chapter 4.1. Training: Neftci, Mostafa and Zenke 2019, Surrogate
    gradient learning in spiking neural networks.

    Examples
    --------
    >>> import torch, nissl.nn
    >>> lif = nissl.nn.LIF(tau=2.0)
    >>> lif(torch.full((1, 6, 1), 0.6)).flatten().tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    """

    def __init__(
        self,
        *,
        tau: float = 2.0,
        threshold: float = 1.0,
        reset: Reset = "hard",
        leak: Leak = "euler",
        gain: float | Literal["leak"] = 1.0,
        surrogate: str = "triangle",
        slope: float | None = None,
        detach_reset: bool = True,
    ) -> None:
        super().__init__()
        if reset not in ("hard", "soft", "none"):
            raise unknown("reset", reset, ("hard", "soft", "none"))
        if not (threshold > 0 and math.isfinite(threshold)):
            raise InputError(f"threshold {threshold}; it must be positive and finite, as the membrane rests at 0")
        self.tau, self.threshold, self.reset, self.leak, self.gain = float(tau), float(threshold), reset, leak, gain
        self.beta = _left_after_a_step(tau, leak)
        self._factor = _factor(gain, self.beta)
        self.spike = surrogate_gradient(surrogate, slope)
        self.detach_reset = detach_reset
        # Nothing here is learned; this says on which device and in which precision the cell is, also to nissl.load.
        self.register_buffer("_rest", torch.zeros(()), persistent=False)
        self.membrane = Probe("sample", "time", "unit")
        self.spikes = Probe("sample", "time", "unit")

    def initial_state(self, x: Float[Tensor, "batch unit"]) -> State:
        """All membranes at rest, 0."""
        return {"membrane": torch.zeros_like(x)}

    def run(
        self,
        x: Float[Tensor, "batch time unit"],
        state: State | None = None,
        *,
        modulation: Float[Tensor, "batch time unit"] | None = None,
        truncate: int | None = None,
    ) -> tuple[Float[Tensor, "batch time unit"], State]:
        """Spikes of a sequence, from a state to a state.

        Parameters
        ----------
        x
            Current.
        state
            Membranes to begin with; at rest where None.
        modulation
            What is added to the membrane for the decision alone.
        truncate
            As for every cell: gradients flow no further back than to the beginning of a piece of this many steps.

        Returns
        -------
        spikes, state
            0 or 1, and the membranes after the last reset.

        Raises
        ------
        InputError
            A current that is no floating-point (batch, time, unit), a modulation of another shape, NaN, a wrong state.
        """
        if modulation is None:
            return super().run(x, state, truncate=truncate)
        if modulation.shape != x.shape or not_finite(modulation):
            raise InputError(
                f"a modulation of shape {tuple(modulation.shape)} for a current of {tuple(x.shape)}; it must have the same "
                "shape, without NaN"
            )
        return super().run(x, state, truncate=truncate, modulation=modulation)

    def advance(
        self, x: Float[Tensor, "batch unit"], state: State, modulation: Float[Tensor, "batch unit"] | None = None
    ) -> tuple[Float[Tensor, "batch unit"], State]:
        """One step."""
        u = self.membrane.now(torch.add(self._scaled(x), state["membrane"], alpha=self.beta))
        s = self.spikes.now(self.spike(u - self._bar(modulation)))
        spent = s.detach() if self.detach_reset else s
        return s, {"membrane": self._after(u, spent)}

    def _after(self, u: Tensor, s: Tensor) -> Tensor:
        """The membrane after its reset."""
        if self.reset == "hard":
            return u * (1 - s)
        return u - self.threshold * s if self.reset == "soft" else u

    def sequence(
        self,
        x: Float[Tensor, "batch time unit"],
        state: State,
        modulation: Float[Tensor, "batch time unit"] | None = None,
    ) -> tuple[Float[Tensor, "batch time unit"], State]:
        """All steps: without a reset a leaky trace, otherwise the loop over preallocated buffers."""
        current, bar = self._scaled(x), self._bar(modulation)
        if self.reset == "none":
            membrane = leaky_trace(current, self.beta, state["membrane"])
            spikes, after = self.spike(membrane - bar), membrane[:, -1]
        else:
            spikes, membrane, after = lif_sequence(
                current,
                bar if isinstance(bar, Tensor) else None,
                state["membrane"],
                beta=self.beta,
                threshold=self.threshold,
                soft=self.reset == "soft",
                detach_reset=self.detach_reset,
                surrogate=self.spike,
            )
        self.membrane(membrane)
        return self.spikes(spikes), {"membrane": after}

    def _scaled(self, current: Tensor) -> Tensor:
        return current if self._factor == 1.0 else current * self._factor

    def _bar(self, modulation: Tensor | None) -> Tensor | float:
        """What the membrane has to reach."""
        return self.threshold if modulation is None else self.threshold - modulation

    def _check_input(self, x: Tensor, ndim: int) -> None:
        super()._check_input(x, ndim)
        if not x.is_floating_point():
            raise InputError(f"LIF was given a current of {x.dtype}; give floating-point numbers, such as x.float()")

    def extra_repr(self) -> str:
        return (
            f"tau={self.tau:g} ({self.leak}, beta={self.beta:g}), threshold={self.threshold:g}, reset={self.reset!r}, gain={self.gain!r}, "
            f"surrogate={self.spike.name!r}, slope={self.spike.slope:g}, detach_reset={self.detach_reset}"
        )


def _left_after_a_step(tau: float, leak: str) -> float:
    if leak not in ("euler", "exponential"):
        raise unknown("leak", leak, ("euler", "exponential"))
    if not (tau > 0 and math.isfinite(tau)):
        raise InputError(f"time constant tau={tau}; it must be positive and finite, in steps")
    if leak == "euler" and tau < 1:
        raise InputError(
            f"time constant tau={tau}: a membrane of less than one step overshoots with leak='euler'; give 1 or more, or leak='exponential'"
        )
    return 1 - 1 / tau if leak == "euler" else math.exp(-1 / tau)


def _factor(gain: float | str, beta: float) -> float:
    if gain == "leak":
        return 1 - beta
    if isinstance(gain, str) or not math.isfinite(gain) or gain == 0:
        raise InputError(f"gain={gain!r}; allowed: a number other than 0, or 'leak'")
    return float(gain)
