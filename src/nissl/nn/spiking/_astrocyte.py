"""Astrocytes: the slow memory beside spiking neurons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import skip_init

from nissl.errors import InputError
from nissl.models import Probe
from nissl.nn._cell import Cell, State
from nissl.nn.spiking._linear_attention import Form, every_state, fading_memory, recalled, stored


class AstrocyteMemory(Cell):
    """Astrocytes that watch synapses, keep what they saw in their slowly fading calcium, and answer.

    Each head is an astrocyte. It stores the pair of what came in (key) and what it is to be remembered by (value) in a
    matrix, and answers the query of the neurons beside it. Nothing that neurons do clears it.

    Parameters
    ----------
    d
        Width of input and output.
    heads
        Astrocytes; each has d / heads units.
    decay
        What is left of the calcium after one step, in (0, 1]: one number, or one a head. None spaces the time constants
        between 4 and 128 steps: 1 - decay runs in equal ratios from 1/4 to 1/128, and a single head has the slow one.
    norm
        Whether a LayerNorm brings the answer to the neurons' scale.
    learn_decay
        Whether decays are learned, through a sigmoid that keeps them within (0, 1).
    frozen
        Keep the random projections they begin with; the norm still learns.
    chunk
        Steps that are computed as one masked product.
    seed
        Of the projections.

    Attributes
    ----------
    decay : Tensor (head,)
        What is left of the calcium after one step.

    Raises
    ------
    InputError
        A width that the heads do not divide, a decay outside (0, 1], or of 1 where it is to be learned.

    Notes
    -----
    With input x, one token or step the unit of time, and d_h = d / heads:

        k_t = W_k x_t / sqrt(d_h),  v_t = W_v x_t,  q_t = W_q x_t
        H_t = decay H_{t-1} + v_t k_t^T       calcium, a d_h by d_h matrix a head
        o_t = LayerNorm(H_t q_t)              gliotransmission, heads side by side

    Sites: `state` is H (sample, time, head, value, key), computed only when it is asked for; `output` is o (sample, time,
    unit). State: `calcium` is H (batch, head, value, key).

    The paper gives the flow of these variables. The fixed decay of each head, how decays are spaced, the scale of the keys
    and the norm are this library's choices.

    References
    ----------
    Astrocyte-enabled advancements in spiking neural networks for large language modeling, the unit's diagram. The closest
    published form: Sun et al. 2023, Retentive network.

    Examples
    --------
    >>> import torch, nissl.nn
    >>> memory = nissl.nn.AstrocyteMemory(8, heads=2)
    >>> memory(torch.randn(3, 100, 8)).shape, memory.decay.tolist()
    (torch.Size([3, 100, 8]), [0.75, 0.9921875])
    """

    def __init__(
        self,
        d: int,
        heads: int = 2,
        decay: float | Sequence[float] | Tensor | None = None,
        *,
        norm: bool = True,
        learn_decay: bool = False,
        frozen: bool = False,
        chunk: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if d < 1 or heads < 1 or d % heads:
            raise InputError(f"{heads} heads for a width of {d}; the number of heads must divide the width")
        if chunk < 1:
            raise InputError(f"chunk={chunk}; allowed: 1 step or more")
        self.n_inputs, self.d, self.heads, self.chunk, self.frozen = d, d, heads, chunk, frozen
        chosen = _decays(decay, heads)
        if learn_decay and (chosen == 1).any():
            raise InputError("a decay of 1 cannot be learned, as it lies at the sigmoid's end; begin below 1")
        self.learn_decay = learn_decay
        if learn_decay:
            self.decay_logit = nn.Parameter(torch.logit(chosen).float())
        else:
            self.register_buffer("fixed_decay", chosen.float())
        generator = torch.Generator().manual_seed(seed)
        self.key, self.value, self.query = (linear(d, d, generator) for _ in range(3))
        for projection in (self.key, self.value, self.query) if frozen else ():
            projection.requires_grad_(False)
        self.norm = nn.LayerNorm(d) if norm else nn.Identity()
        coords = {"decay": ("head", lambda: self.decay)}
        self.state = Probe("sample", "time", "head", "value", "key", coords=coords)
        self.output = Probe("sample", "time", "unit")

    @property
    def decay(self) -> Float[Tensor, "head"]:
        """What is left of the calcium after one step."""
        # In single precision a sigmoid reaches its ends, where there would be no memory, or no forgetting.
        return torch.sigmoid(self.decay_logit.clamp(-15, 15)) if self.learn_decay else self.fixed_decay  # type: ignore[return-value]

    def set_decay(self, decay: float | Sequence[float] | Tensor) -> None:
        """Give the astrocytes another decay, for a lesion: one number, or one a head, in (0, 1]."""
        chosen = _decays(decay, self.heads)
        with torch.no_grad():
            if self.learn_decay:
                self.decay_logit.copy_(torch.logit(chosen))
            else:
                self.fixed_decay.copy_(chosen)  # type: ignore[operator]

    def initial_state(self, x: Float[Tensor, "batch d"]) -> State:
        """Nothing remembered."""
        width = self.d // self.heads
        return {"calcium": x.new_zeros(x.shape[0], self.heads, width, width)}

    def advance(self, x: Float[Tensor, "batch d"], state: State) -> tuple[Float[Tensor, "batch d"], State]:
        """One step."""
        query, key, value = self._projected(x)
        calcium = self.state.now(stored(key, value, self.decay, state["calcium"]))
        return self.output.now(self.norm(recalled(query, calcium).flatten(-2))), {"calcium": calcium}

    def sequence(
        self, x: Float[Tensor, "batch time d"], state: State, form: Form = "chunked"
    ) -> tuple[Float[Tensor, "batch time d"], State]:
        """All steps, by default in chunks."""
        query, key, value = self._projected(x)
        answer, calcium = fading_memory(query, key, value, self.decay, state["calcium"], form=form, chunk=self.chunk)
        if self.state.watched:
            self.state(every_state(key, value, self.decay, state["calcium"]))
        return self.output(self.norm(answer.flatten(-2))), {"calcium": calcium}

    def _projected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, a head each."""
        width = self.d // self.heads
        query, key, value = (p(x).unflatten(-1, (self.heads, width)) for p in (self.query, self.key, self.value))
        return query, key / math.sqrt(width), value

    def extra_repr(self) -> str:
        decays = ", ".join(f"{v:.4g}" for v in self.decay.tolist())
        return f"d={self.d}, heads={self.heads}, decay=({decays}), learn_decay={self.learn_decay}, frozen={self.frozen}"


def linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A projection without bias, uniform within 1/sqrt(inputs) as torch's own, drawn from a generator of its own."""
    layer = cast("nn.Linear", skip_init(nn.Linear, n_in, n_out, bias=False))
    bound = 1 / math.sqrt(n_in)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    return layer


def _decays(decay: float | Sequence[float] | Tensor | None, heads: int) -> Tensor:
    if decay is None:
        fast, slow = math.log(1 / 4), math.log(1 / 128)
        return 1 - torch.linspace(slow, fast, heads, dtype=torch.float64).exp().flip(0)  # one head has the slow one
    given = torch.as_tensor(decay, dtype=torch.float64)
    if given.dim() > 1 or (given.dim() == 1 and len(given) != heads):
        raise InputError(f"{given.numel()} decays for {heads} heads; give one number, or one a head")
    if not ((given > 0) & (given <= 1)).all():  # NaN is refused here too
        raise InputError(f"decay={decay}; what is left after one step lies above 0 and up to 1 (1 never forgets)")
    return given.expand(heads).clone()
