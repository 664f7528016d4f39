"""A spiking language model with astrocytes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils import skip_init

from nissl.errors import InputError
from nissl.nn._cell import Cell, State
from nissl.nn.spiking._astrocyte import linear
from nissl.nn.spiking._generation import generate
from nissl.nn.spiking._lif import LIF
from nissl.nn.spiking._rates import spike_rates
from nissl.nn.spiking._unit import AstrocyteModulatedUnit

# A pass in training every so often looks at how often neurons fire, and warns.
_LOOK_EVERY = 100


class SpikingMLP(Cell):
    """Two projections with spiking neurons between them."""

    def __init__(self, d: int, hidden: int, generator: torch.Generator, **neuron: Any) -> None:
        super().__init__()
        self.n_inputs = d
        self.drive, self.neuron, self.out = linear(d, hidden, generator), LIF(**neuron), linear(hidden, d, generator)

    def initial_state(self, x: Tensor) -> State:
        return self.neuron.initial_state(x.new_zeros(x.shape[0], self.drive.out_features))

    def advance(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        spikes, state = self.neuron.advance(self.drive(x), state)
        return self.out(spikes), state

    def sequence(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        spikes, state = self.neuron.sequence(self.drive(x), state)
        return self.out(spikes), state


class Block(Cell):
    """x + W_o unit(LN(x)), then x + mlp(LN(x)): only spikes enter the projections back."""

    def __init__(self, d: int, heads: int, hidden: int, generator: torch.Generator, **unit: Any) -> None:
        super().__init__()
        self.n_inputs = d
        self.unit_norm, self.mlp_norm = nn.LayerNorm(d), nn.LayerNorm(d)
        seed = int(torch.randint(2**31, (), generator=generator))
        self.unit = AstrocyteModulatedUnit(d, heads, seed=seed, **unit)
        self.unit_out = linear(d, d, generator)
        neuron = {k: v for k, v in unit.items() if k in ("tau", "threshold", "reset", "surrogate", "slope")}
        self.mlp = SpikingMLP(d, hidden, generator, **neuron)

    def initial_state(self, x: Tensor) -> State:
        hidden = self.mlp.initial_state(x)
        return {**self.unit.initial_state(x), "mlp_membrane": hidden["membrane"]}

    def advance(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._pass(x, state, self.unit.advance, self.mlp.advance)

    def sequence(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._pass(x, state, self.unit.sequence, self.mlp.sequence)

    def _pass(self, x: Tensor, state: State, unit: Any, mlp: Any) -> tuple[Tensor, State]:
        """One step or all of them; the two differ in nothing else."""
        spikes, after = unit(self.unit_norm(x), state)
        x = x + self.unit_out(spikes)
        change, hidden = mlp(self.mlp_norm(x), {"membrane": state["mlp_membrane"]})
        return x + change, {**after, "mlp_membrane": hidden["membrane"]}


class Blocks(Cell):
    """Blocks one after another; their states lie side by side, `0.membrane`, `0.calcium`, `1.membrane` and so on."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self.n_inputs, self.count = blocks[0].n_inputs, len(blocks)
        for i, block in enumerate(blocks):
            self.add_module(str(i), block)

    def initial_state(self, x: Tensor) -> State:
        return {f"{i}.{k}": v for i in range(self.count) for k, v in self._block(i).initial_state(x).items()}

    def advance(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._pass(x, state, "advance")

    def sequence(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self._pass(x, state, "sequence")

    def _pass(self, x: Tensor, state: State, how: str) -> tuple[Tensor, State]:
        after: State = {}
        for i in range(self.count):
            own = {k.split(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{i}.")}
            x, own = getattr(self._block(i), how)(x, own)
            after.update({f"{i}.{k}": v for k, v in own.items()})
        return x, after

    def _block(self, i: int) -> Block:
        return self.get_submodule(str(i))  # type: ignore[return-value]


class AstroSNN(nn.Module):
    """A language model of spiking neurons and astrocytes: no attention over the past, no positions, only states.

    It trains on whole sequences at once and generates step by step with a state that does not grow. `nissl.load` takes it as
    a text network: token ids go in, and record, intervene and generate work on it.

    Parameters
    ----------
    vocab
        Tokens.
    d
        Width, and neurons of each layer.
    layers
        Blocks.
    heads
        Astrocytes of each layer.
    hidden
        Neurons of each block's spiking feed-forward part; 2 d where None.
    eos
        The token that ends a text; None where there is none.
    seed
        Of the weights.
    **unit
        For every layer, as for `AstrocyteModulatedUnit`: decay, norm, learn_decay, frozen, chunk, tau, threshold, reset,
        surrogate, slope, and `astrocytes=False` for a plain spiking network.

    Attributes
    ----------
    blocks : Blocks
        The layers; `blocks.0.unit` is the first astrocyte-modulated unit.
    config : SimpleNamespace
        vocab_size, pad_token_id and eos_token_id.

    Raises
    ------
    InputError, UnknownNameError
        Sizes below 1, heads that do not divide the width, and what the units refuse.

    Notes
    -----
        x = E[token]
        each block:  x <- x + W_o unit(LN(x));  x <- x + W_2 LIF(W_1 LN(x))
        logits = U LN(x)

    The unit is `AstrocyteModulatedUnit`. Only spikes, 0 or 1, enter W_o and W_2, so that on spiking hardware these products
    are sums. State of each block: `membrane` (batch, d), `calcium` (batch, head, d/heads, d/heads) and `mlp_membrane`
    (batch, hidden): d + d^2 / heads + hidden numbers, however long the text.

    Sites, with block L: `blocks.L.unit.current`, `blocks.L.unit.neuron.membrane` and `.spikes`, `blocks.L.unit.astrocyte.state`
    and `.output`, `blocks.L.mlp.neuron.membrane` and `.spikes`. In training one pass in a hundred warns of layers that fire in
    less than 1% or more than 99% of all steps.

    The paper describes models of up to 1.5 billion parameters, whose scores cannot be checked at this size. Its code is not
    published: the layout of a block is this library's choice, in the style of recurrent language models.

    References
    ----------
    Astrocyte-enabled advancements in spiking neural networks for large language modeling.

    Examples
    --------
    >>> import torch, nissl, nissl.nn
    >>> net = nissl.nn.AstroSNN(vocab=20, d=16, layers=2)
    >>> net(torch.randint(20, (3, 50))).shape
    torch.Size([3, 50, 20])
    >>> model = nissl.load(net)
    >>> model.generate([[1, 2, 3]], max_new_tokens=4).shape
    torch.Size([1, 7])
    >>> nissl.record(model, [[1, 2, 3]], at="blocks.0.unit.neuron.spikes").sizes["unit"]
    16
    """

    def __init__(
        self,
        vocab: int,
        d: int = 64,
        layers: int = 2,
        heads: int = 2,
        *,
        hidden: int | None = None,
        eos: int | None = None,
        seed: int = 0,
        **unit: Any,
    ) -> None:
        super().__init__()
        hidden = 2 * d if hidden is None else hidden
        if min(vocab, d, layers, hidden) < 1:
            raise InputError(f"vocab={vocab}, d={d}, layers={layers}, hidden={hidden}; each must be at least 1")
        if eos is not None and not 0 <= eos < vocab:
            raise InputError(f"eos={eos} is none of the {vocab} tokens")
        generator = torch.Generator().manual_seed(seed)
        self.embed = cast("nn.Embedding", skip_init(nn.Embedding, vocab, d))
        nn.init.normal_(self.embed.weight, generator=generator)
        self.blocks = Blocks([Block(d, heads, hidden, generator, **unit) for _ in range(layers)])
        self.norm = nn.LayerNorm(d)
        self.head = linear(d, vocab, generator)
        self.config = SimpleNamespace(vocab_size=vocab, pad_token_id=0 if eos is None else eos, eos_token_id=eos)
        self.generation_config = SimpleNamespace(eos_token_id=eos)
        self._passes = 0

    def forward(
        self,
        input_ids: Int[Tensor, "batch time"],
        attention_mask: Bool[Tensor, "batch time"] | Int[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time vocab"]:
        """Logits of the next token at every position.

        Parameters
        ----------
        input_ids
            Tokens.
        attention_mask
            0 where a text has ended. As nothing looks ahead, padding on the right changes nothing before it; padding on the
            left is refused (`generate` takes it).

        Raises
        ------
        InputError
            No tokens, ids that are none, padding before a token.
        """
        if attention_mask is not None and (attention_mask[:, 1:] > attention_mask[:, :-1]).any():
            raise InputError("padding stands before tokens; put it on the right, where it changes nothing")
        return self.run(input_ids)[0]

    def run(
        self, input_ids: Int[Tensor, "batch time"], state: State | None = None, *, truncate: int | None = None
    ) -> tuple[Float[Tensor, "batch time vocab"], State]:
        """Logits of a text, from a state to a state; `truncate` as for every cell."""
        x = self.embed(self._checked(input_ids, 2))
        self._passes += self.training
        if self.training and self._passes % _LOOK_EVERY == 1 and not torch.compiler.is_compiling():
            with spike_rates(self):
                y, state = self.blocks.run(x, state, truncate=truncate)
        else:
            y, state = self.blocks.run(x, state, truncate=truncate)
        return self.head(self.norm(y)), state

    def step(
        self, input_ids: Int[Tensor, "batch"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch vocab"], State]:
        """Logits after one more token, in memory that does not grow."""
        y, state = self.blocks.step(self.embed(self._checked(input_ids, 1)), state)
        return self.head(self.norm(y)), state

    def initial_state(self, batch: int) -> State:
        """Membranes at rest, nothing remembered."""
        return self.blocks.initial_state(self.embed.weight.new_zeros(batch, self.embed.embedding_dim))

    def can_generate(self) -> bool:
        """Yes."""
        return True

    def generate(
        self,
        input_ids: Int[Tensor, "batch time"],
        max_new_tokens: int = 20,
        *,
        attention_mask: Tensor | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        eos_token_id: int | None = None,
        pad_token_id: int | None = None,
        seed: int = 0,
    ) -> Int[Tensor, "batch longer"]:
        """Continue texts token by token, in constant memory.

        Parameters
        ----------
        input_ids
            Prompts; shorter ones padded on the left.
        max_new_tokens
            How many tokens to add at most.
        attention_mask
            0 where a prompt is padded.
        do_sample
            Draw tokens; otherwise the likeliest is taken.
        temperature, top_k
            For drawing: divides the logits; only so many of the likeliest tokens.
        eos_token_id, pad_token_id
            The token that ends a text, and what follows it; the network's own where None.
        seed
            For drawing.

        Returns
        -------
        Int[Tensor, "batch longer"]
            Prompts and what follows them.

        Raises
        ------
        InputError
            Prompts without tokens, padding on the right, settings that cannot be.
        """
        self._checked(input_ids, 2)
        return generate(
            self, input_ids, max_new_tokens, attention_mask=attention_mask, temperature=temperature if do_sample else None,
            top_k=top_k, eos=self.config.eos_token_id if eos_token_id is None else eos_token_id,
            pad=self.config.pad_token_id if pad_token_id is None else pad_token_id, seed=seed,
        )  # fmt: skip

    def _checked(self, ids: Tensor, ndim: int) -> Tensor:
        axes, vocab = ("(batch, time)", "(batch,)")[2 - ndim], self.config.vocab_size
        if not isinstance(ids, Tensor) or ids.dim() != ndim or ids.is_floating_point() or 0 in ids.shape:
            given = f"{tuple(ids.shape)} of {ids.dtype}" if isinstance(ids, Tensor) else type(ids).__name__
            raise InputError(f"AstroSNN takes token ids {axes}, at least one, and was given {given}")
        if not torch.compiler.is_compiling() and (int(ids.min()) < 0 or int(ids.max()) >= vocab):
            wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
            raise InputError(f"token id {wrong}; allowed: 0 to {vocab - 1}")
        return ids

    def extra_repr(self) -> str:
        return f"vocab={self.config.vocab_size}, d={self.embed.embedding_dim}, layers={self.blocks.count}"
