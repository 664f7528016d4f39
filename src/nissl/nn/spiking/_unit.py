"""The tripartite synapse: spiking neurons whose decisions astrocytes take part in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError
from nissl.models import Probe
from nissl.nn._cell import Cell, State
from nissl.nn.spiking._astrocyte import AstrocyteMemory, linear
from nissl.nn.spiking._lif import LIF


class AstrocyteModulatedUnit(Cell):
    """Leaky integrate-and-fire neurons with astrocytes that speak up before each spike.

    Two time scales side by side: the membrane forgets within a few steps and at every spike; the calcium of the astrocytes
    holds tens to hundreds of steps, and no spike resets it. What astrocytes answer moves the decision to spike and is never
    integrated into the membrane.

    Parameters
    ----------
    d
        Neurons, and width of the input.
    heads
        Astrocytes.
    decay, norm, learn_decay, frozen, chunk
        As for `AstrocyteMemory`.
    tau
        Time constant of the membrane, in steps; 1 leaves nothing of it, and the astrocytes are the only memory.
    threshold
        At which neurons spike.
    reset
        `hard`, `soft` or `none`, as for `LIF`.
    surrogate, slope
        As for `surrogate_gradient`.
    astrocytes
        False takes them away and leaves plain spiking neurons.
    seed
        Of the projections.

    Attributes
    ----------
    neuron : LIF
    astrocyte : AstrocyteMemory or None

    Raises
    ------
    InputError, UnknownNameError
        As for `LIF` and `AstrocyteMemory`.

    Notes
    -----
    With input x and one token or step the unit of time:

        I_t = sigmoid(W_x x_t)                    current
        u_t = (1 - 1/tau) u'_{t-1} + I_t          membrane
        o_t = LayerNorm(H_t q_t)                  what the astrocytes say, from H_t = decay H_{t-1} + v_t k_t^T
        s_t = 1 if u_t + o_t >= threshold else 0  spike
        u'_t = u_t (1 - s_t)                      reset; H is not reset

    Sites: `current` is I, `neuron.membrane` u, `neuron.spikes` s (sample, time, unit); `astrocyte.state` H (sample, time,
    head, value, key) and `astrocyte.output` o. State: `membrane` u' (batch, unit) and `calcium` H (batch, head, value, key).

    The paper gives the flow x, I, u, s, k, v, q, H, o. The sigmoid, tau, threshold, the hard reset, the decay and the norm
    are this library's choices.

    References
    ----------
    Astrocyte-enabled advancements in spiking neural networks for large language modeling: the astrocyte-modulated spiking
    unit.

    Examples
    --------
    >>> import torch, nissl.nn
    >>> unit = nissl.nn.AstrocyteModulatedUnit(8, heads=2)
    >>> spikes, state = unit.run(torch.randn(1, 30, 8))
    >>> sorted(set(spikes.flatten().tolist())), {k: tuple(v.shape) for k, v in state.items()}
    ([0.0, 1.0], {'membrane': (1, 8), 'calcium': (1, 2, 4, 4)})
    """

    def __init__(
        self,
        d: int,
        heads: int = 2,
        *,
        decay: float | Sequence[float] | Tensor | None = None,
        norm: bool = True,
        learn_decay: bool = False,
        frozen: bool = False,
        chunk: int = 64,
        tau: float = 2.0,
        threshold: float = 0.5,
        reset: Literal["hard", "soft", "none"] = "hard",
        surrogate: str = "triangle",
        slope: float | None = None,
        astrocytes: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if d < 1:
            raise InputError(f"{d} neurons; allowed: 1 or more")
        self.n_inputs = self.d = d
        generator = torch.Generator().manual_seed(seed)
        self.drive = linear(d, d, generator)
        self.current = Probe("sample", "time", "unit")
        self.neuron = LIF(tau=tau, threshold=threshold, reset=reset, surrogate=surrogate, slope=slope)
        self.astrocyte = (
            AstrocyteMemory(
                d, heads, decay, norm=norm, learn_decay=learn_decay, frozen=frozen, chunk=chunk,
                seed=int(torch.randint(2**31, (), generator=generator)),
            )
            if astrocytes
            else None
        )  # fmt: skip

    def initial_state(self, x: Float[Tensor, "batch d"]) -> State:
        """Membranes at rest, nothing remembered."""
        return {**self.neuron.initial_state(x), **(self.astrocyte.initial_state(x) if self.astrocyte else {})}

    def advance(self, x: Float[Tensor, "batch d"], state: State) -> tuple[Float[Tensor, "batch d"], State]:
        """One step."""
        current, said, calcium = self.current.now(torch.sigmoid(self.drive(x))), None, {}
        if self.astrocyte is not None:
            said, calcium = self.astrocyte.advance(x, state)
        spikes, membrane = self.neuron.advance(current, state, said)
        return spikes, {**membrane, **calcium}

    def sequence(self, x: Float[Tensor, "batch time d"], state: State) -> tuple[Float[Tensor, "batch time d"], State]:
        """All steps: what the astrocytes say as masked products, the membranes over them."""
        current, said, calcium = self.current(torch.sigmoid(self.drive(x))), None, {}
        if self.astrocyte is not None:
            said, calcium = self.astrocyte.sequence(x, state)
        spikes, membrane = self.neuron.sequence(current, state, said)
        return spikes, {**membrane, **calcium}

    def extra_repr(self) -> str:
        return f"d={self.d}, astrocytes={self.astrocyte is not None}"
