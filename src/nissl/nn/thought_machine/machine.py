"""The machine: neurons that think along their own time, look at the data and answer through their synchronisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nissl.errors import InputError, unknown
from nissl.models import Probe
from nissl.nn._cell import State, checked_state, not_finite, unroll
from nissl.nn.thought_machine.attention import Asked, SingleQueryAttention
from nissl.nn.thought_machine.losses import certainty
from nissl.nn.thought_machine.neuron_models import Folded, NeuronModels
from nissl.nn.thought_machine.pairs import choose_pairs
from nissl.nn.thought_machine.snapshot import Snapshot
from nissl.nn.thought_machine.stopping import Decision, check_stop
from nissl.nn.thought_machine.synapse import synapse_model
from nissl.nn.thought_machine.synchronisation import Synchronisation

PIECE = 16  # ticks between two readings of the answers where nothing need be kept for gradients


class ThoughtOutput(NamedTuple):
    """What a thought machine says at every tick.

    Attributes
    ----------
    logits
        Its answer.
    certainty
        How certain it is, from 0 to 1.
    """

    logits: Float[Tensor, "batch *out class tick"]
    certainty: Float[Tensor, "batch tick"]


class _Moment(NamedTuple):
    """Everything that one tick hands to the next; batch last."""

    z: Float[Tensor, "unit batch"]
    history: Float[Tensor, "unit history batch"]
    action: Any


class ContinuousThoughtMachine(nn.Module):
    """A recurrent network that thinks along its own inner time.

    At every internal tick a synapse model mixes the neurons; every neuron then has a small network of its own, which turns the
    recent history of its inputs into its next output; and pairs of neurons are compared over time. This synchronisation, not
    the activity itself, is what the machine looks at the data with and answers with.

    Parameters
    ----------
    n_features
        Width of a token: of what `backbone` returns, or of the input where there is none.
    n_classes
        How many classes an answer chooses from.
    n_neurons
        D.
    ticks
        T: how many internal ticks a call takes.
    history
        M: how many of its past inputs a neuron sees.
    d_input
        Width of the attention.
    heads
        Of the attention; 0 for none: the features then go straight to the synapses, one vector a sample.
    pairs_out, pairs_action
        J: how many pairs (random), or neurons a side (semi-dense, dense), answer, and look.
    pairing
        "random", "semi-dense" or "dense"; see `choose_pairs`.
    n_self
        How many of the random pairs are a neuron with itself.
    synapse_depth, synapse
        1: one gated layer. More: a "unet", or a "stack" of gated layers.
    nlm_hidden
        Width of each neuron's own network; None for a linear one.
    neuron_models
        "private", or "shared" by all neurons (a lesion).
    representation
        "synchronisation"; or lesions of it: "snapshot" looks and answers with the activity itself, "snapshot_out" only answers
        with it.
    window
        Synchronisation counts the last so many ticks only; all where None.
    max_rate
        Rates of forgetting are held between 0 and this.
    output_shape
        Shape of an answer with several positions; () for one class a sample.
    dropout
        Share of the synapses' inputs dropped in training.
    backbone
        A module from the input to tokens (batch, token, feature), or to a picture's features (batch, feature, y, x), which
        are read as tokens. None where the input is tokens.
    seed
        Of the weights and of the choice of pairs; None draws from torch's own generator.

    Attributes
    ----------
    start, start_history : Parameter (unit,), (unit, history)
        z^0 and A^0, where every thought begins; learned.
    synchronisation : ModuleDict
        `out` and `action`: the pairs (`left`, `right`) and their rates of forgetting (`rate`).
    pre, post, attention, logits, sync.out, sync.action : Probe
        The sites.

    Raises
    ------
    InputError, UnknownNameError
        Sizes, names or combinations that cannot be; an input that does not fit, or holds NaN; a state of another machine.

    Notes
    -----
    tokens = LayerNorm(W features + b), once. Then at each tick t = 1 ... T
        S_action = synchronisation of z^0 ... z^(t-1)
        o = attention with the query W S_action + b on the tokens
        a^t = synapses([o ; z^(t-1)])
        A = the last M of A^0, a^1, ..., a^t
        z_d^t = GLU( (W2_d GLU( (W1_d A_d + b1_d) / τ1 ) + b2_d) / τ2 ) for every neuron d
        S_out = synchronisation of z^0 ... z^t
        y^t = W S_out + b
        C^t = 1 - H(softmax y^t) / log(classes), averaged over positions
    Synchronisation of neurons i and j: S = Σ_k e^(-r (t-k)) z_i^k z_j^k / √( Σ_k e^(-r (t-k)) ), with a rate r for each pair.

    Sites, all along the axis `tick`: `pre` is a (sample, tick, unit), `post` z, `sync.action` and `sync.out` S (units are pairs,
    with coordinates `left` and `right`), `attention` (sample, tick, head, token), and `logits` y.

    State carried from call to call, a row a sample: `post` z, `history` A, and for each synchronisation its weighted sum
    `total`, the sum of its weights `weight`, and with a window the products in it, `past`, and their number, `age`. So many
    ticks in two calls are the same as in one.

    References
    ----------
    Darlow, Regan, Risi, Seely and Jones 2025, Continuous Thought Machines, https://arxiv.org/abs/2505.05522.

    Examples
    --------
    >>> machine = ContinuousThoughtMachine(n_features=4, n_classes=3, ticks=10)
    >>> logits, certain = machine(torch.rand(2, 7, 4))  # two samples of seven tokens
    >>> logits.shape, certain.shape
    (torch.Size([2, 3, 10]), torch.Size([2, 10]))
    >>> machine.predict(torch.rand(2, 7, 4), stop=0.9).thought.shape
    torch.Size([2])
    """

    def __init__(
        self,
        *,
        n_features: int,
        n_classes: int,
        n_neurons: int = 128,
        ticks: int = 10,
        history: int = 8,
        d_input: int = 64,
        heads: int = 4,
        pairs_out: int = 32,
        pairs_action: int = 32,
        pairing: str = "random",
        n_self: int = 0,
        synapse_depth: int = 1,
        synapse: str = "unet",
        nlm_hidden: int | None = 4,
        neuron_models: str = "private",
        representation: str = "synchronisation",
        window: int | None = None,
        max_rate: float = 15.0,
        output_shape: Sequence[int] = (),
        dropout: float = 0.0,
        backbone: nn.Module | None = None,
        seed: int | None = 0,
    ) -> None:
        super().__init__()
        output_shape = tuple(output_shape)
        sizes = {"n_features": n_features, "n_neurons": n_neurons, "ticks": ticks, "history": history}
        for name, value in {**sizes, **{f"output_shape[{i}]": v for i, v in enumerate(output_shape)}}.items():
            if value < 1:
                raise InputError(f"{name}={value}; allowed: 1 or more")
        if n_classes < 2:
            raise InputError(f"n_classes={n_classes}; an answer chooses from two or more")
        if heads < 0:
            raise InputError(f"heads={heads}; allowed: 1 or more, or 0 for no attention")
        for kind, given, allowed in (
            ("neuron_models", neuron_models, ("private", "shared")),
            ("representation", representation, ("synchronisation", "snapshot", "snapshot_out")),
        ):
            if given not in allowed:
                raise unknown(kind, given, allowed)
        self.n_features, self.n_classes, self.output_shape = n_features, n_classes, output_shape
        self.n_neurons, self.ticks, self.history, self.heads = n_neurons, ticks, history, heads
        self.pairing, self.representation = pairing, representation
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            streams = {"out": pairs_out, "action": pairs_action} if heads else {"out": pairs_out}
            self.synchronisation = nn.ModuleDict()
            for name, size in streams.items():
                pairs = choose_pairs(n_neurons, size, pairing, n_self=n_self, last=name == "action")
                snap = representation == "snapshot" or representation == f"snapshot_{name}"
                self.synchronisation[name] = (
                    Snapshot(n_neurons) if snap else Synchronisation(*pairs, window=window, max_rate=max_rate)
                )
            if heads:
                self.tokens = nn.Sequential(nn.Linear(n_features, d_input), nn.LayerNorm(d_input))
                self.look = SingleQueryAttention(self._stream("action").width, d_input, heads)
            seen = d_input if heads else n_features
            self.synapses = synapse_model(
                seen + n_neurons, n_neurons, depth=synapse_depth, kind=synapse, dropout=dropout
            )
            self.neurons = NeuronModels(n_neurons, history, hidden=nlm_hidden, shared=neuron_models == "shared")
            self.readout = nn.Linear(self._stream("out").width, math.prod(output_shape) * n_classes)
            self.start = nn.Parameter(torch.empty(n_neurons).uniform_(-1, 1) * n_neurons**-0.5)
            self.start_history = nn.Parameter(
                torch.empty(n_neurons, history).uniform_(-1, 1) * (n_neurons + history) ** -0.5
            )
        self.backbone = backbone
        self.pre, self.post = (Probe("sample", "tick", "unit") for _ in range(2))
        self.sync = nn.ModuleDict({name: self._pair_probe(name) for name in streams})
        if heads:
            self.attention = Probe("sample", "tick", "head", "token")
        outputs = [f"output_{i}" if i else "output" for i in range(len(output_shape))]
        self.logits = Probe("sample", "tick", *outputs, "class")

    def forward(self, x: Shaped[Tensor, "batch ..."]) -> ThoughtOutput:
        """All ticks, from the beginning.

        Parameters
        ----------
        x
            What the backbone takes; tokens (batch, token, feature), or without attention (batch, feature), where there is none.
        """
        return self._think(self.perceive(x), None, self.ticks)[0]

    def run(
        self, x: Shaped[Tensor, "batch ..."] | Asked, state: State | None = None, *, ticks: int | None = None
    ) -> tuple[ThoughtOutput, State]:
        """Think from a state to a state.

        Parameters
        ----------
        x
            As for `forward`, or what `perceive` returned, when the same data are thought about again.
        state
            Where to go on: what an earlier call returned, or was saved. The beginning where None. Other data may be looked
            at than before: that is how a machine acts in a world, or is shown one thing after another.
        ticks
            How many; the machine's own number where None.

        Returns
        -------
        output, state

        Raises
        ------
        InputError
            No tick, an input that does not fit or holds NaN, or a state of another machine or batch.

        Examples
        --------
        >>> machine = ContinuousThoughtMachine(n_features=4, n_classes=3, ticks=10)
        >>> x = torch.rand(2, 7, 4)
        >>> first, state = machine.run(x, ticks=6)
        >>> rest, _ = machine.run(x, state, ticks=4)
        >>> torch.allclose(torch.cat([first.logits, rest.logits], -1), machine(x).logits, atol=1e-6)
        True
        """
        ticks = self.ticks if ticks is None else ticks
        if ticks < 1:
            raise InputError(f"ticks={ticks}; allowed: 1 or more")
        seen = x if isinstance(x, Asked) else self.perceive(x)
        if state is not None:
            state = checked_state(state, self.initial_state(self._batch(seen)), type(self).__name__)
        output, moment, out = self._think(seen, state, ticks)
        return output, self._pack(moment, out)

    def step(self, x: Shaped[Tensor, "batch ..."] | Asked, state: State | None = None) -> tuple[ThoughtOutput, State]:
        """One tick, in memory that does not grow; see `run`."""
        return self.run(x, state, ticks=1)

    def predict(
        self, x: Shaped[Tensor, "batch ..."] | Asked, *, stop: float | None = None, ticks: int | None = None
    ) -> Decision:
        """Answer at the most certain tick, or as soon as certain enough.

        Parameters
        ----------
        x
            As for `forward`.
        stop
            Stop a sample at its first tick with at least this certainty (adaptive computation); a sample that never gets
            there answers at its most certain tick. None thinks to the end.
        ticks
            How many at most.

        Returns
        -------
        Decision
            Labels, the tick of the answer, its certainty, and how many ticks were computed for each sample.

        Raises
        ------
        InputError
            A threshold outside 0 to 1; as for `run`.
        """
        check_stop(stop)
        with torch.no_grad():
            seen = x if isinstance(x, Asked) else self.perceive(x)
            batch, device = self._batch(seen), self.start.device
            labels = torch.zeros(batch, *self.output_shape, dtype=torch.long, device=device)
            tick, thought = (torch.zeros(batch, dtype=torch.long, device=device) for _ in range(2))
            best = torch.full((batch,), -1.0, dtype=self.start.dtype, device=device)
            going, state = torch.arange(batch, device=device), None
            for t in range(self.ticks if ticks is None else ticks):
                (logits, certain), state = self.run(seen, state, ticks=1)
                better = certain[:, 0] > best[going]
                rows = going[better]
                best[rows] = certain[better, 0]
                labels[rows], tick[rows] = logits[better, ..., 0].argmax(-1), t
                thought[going] += 1
                if stop is None:
                    continue
                left = certain[:, 0] < stop
                if not left.any():
                    break
                if not left.all():
                    going, state = going[left], {name: value[left] for name, value in state.items()}
                    seen = seen.rows(left) if isinstance(seen, Asked) else seen[left]
        return Decision(labels, tick, best, thought)

    def perceive(self, x: Shaped[Tensor, "batch ..."]) -> Asked | Float[Tensor, "batch feature"]:
        """What is computed once from the data: keys and values of all tokens, or the features where there is no attention."""
        if not isinstance(x, Tensor) or x.dim() < 2 or 0 in x.shape:
            given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"the input is {given}; needed: a tensor (batch, ...) with at least one sample")
        if not_finite(x):
            raise InputError("the input holds NaN or infinity; fill or drop what is missing first")
        features = x if self.backbone is None else self.backbone(x)
        if self.heads and features.dim() == 4:
            features = features.flatten(2).transpose(1, 2)
        if features.dim() != (3 if self.heads else 2) or features.shape[-1] != self.n_features:
            needed = f"(batch, token, {self.n_features})" if self.heads else f"(batch, {self.n_features})"
            raise InputError(f"features of shape {tuple(features.shape)}; needed: {needed}")
        features = features.to(self.start.dtype)
        return self.look.prepare(self.tokens(features)) if self.heads else features

    def initial_state(self, batch: int) -> State:
        """The state before the first tick, for `batch` samples."""
        if batch < 1:
            raise InputError(f"a state for {batch} samples; allowed: 1 or more")
        moment, out = self._begin(batch, None)
        return self._pack(moment, out)

    def _think(self, seen: Asked | Tensor, state: State | None, ticks: int) -> tuple[ThoughtOutput, _Moment, Any]:
        for stream in self.synchronisation.values():
            stream.clamp()  # type: ignore[operator]
        moment, out = self._begin(self._batch(seen), state)
        if torch.is_grad_enabled() or self._observed():
            return self._ticks(seen, moment, out, ticks)
        # Nothing of a tick need outlive it: the activity of a few ticks is read, and forgotten.
        said = []
        for first in range(0, ticks, PIECE):
            output, moment, out = self._ticks(seen, moment, out, min(PIECE, ticks - first))
            said.append(output)
        return ThoughtOutput(*(torch.cat(v, -1) for v in zip(*said, strict=True))), moment, out

    def _ticks(self, seen: Asked | Tensor, moment: _Moment, out: Any, ticks: int) -> tuple[ThoughtOutput, _Moment, Any]:
        course: Any = self._stream("action").course(moment.action, ticks) if self.heads else None
        advance = partial(self._tick, seen, course, self.neurons.folded())
        z, moment = unroll(self, advance, range(ticks), moment)
        if self.heads:
            moment = moment._replace(action=self._stream("action").after(moment.action, course))
        # Answers feed nothing back: they are read of all ticks at once.
        s, out = self._stream("out").sequence(torch.stack(z), out)
        y = self.readout(self.sync["out"](s)).unflatten(-1, (*self.output_shape, self.n_classes))
        logits = self.logits(y).movedim(1, -1)
        return ThoughtOutput(logits, certainty(logits)), moment, out

    def _tick(
        self, seen: Asked | Tensor, course: Any, layers: list[Folded], tick: int, moment: _Moment
    ) -> tuple[Float[Tensor, "unit batch"], _Moment]:
        z, history, action = moment
        if isinstance(seen, Asked):
            s = self.sync["action"].now(self._stream("action").read(action, course, tick))  # type: ignore[operator]
            observed = self.look.gather(self.attention.now(self.look.weigh(s, seen)), seen)
        else:
            observed = seen
        a = self.pre.now(self.synapses(torch.cat([observed, z.T], 1)))
        history = torch.cat([history[:, 1:], a.T.unsqueeze(1)], 1)
        z = self.post.now(self.neurons.advance(history, layers).T).T
        if self.heads:
            action = self._stream("action").update(z, action, course)
        return z, _Moment(z, history, action)

    def _begin(self, batch: int, state: State | None) -> tuple[_Moment, Any]:
        if state is None:
            z = self.start[:, None].expand(-1, batch)
            history = self.start_history[..., None].expand(-1, -1, batch)
            totals = {name: self._stream(name).begin(z) for name in self.synchronisation}
        else:
            z, history = state["post"].T, state["history"].permute(1, 2, 0)
            totals = {}
            for name in self.synchronisation:
                own = {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
                totals[name] = self._stream(name).unpack(own, z)
        return _Moment(z, history, totals.get("action")), totals["out"]

    def _pack(self, moment: _Moment, out: Any) -> State:
        state = {"post": moment.z.T, "history": moment.history.permute(2, 0, 1)}
        totals = {"out": out, "action": moment.action} if self.heads else {"out": out}
        for name, value in totals.items():
            state |= {f"{name}.{k}": v for k, v in self._stream(name).pack(value).items()}
        # Each its own memory, as files of tensors want it.
        return {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}

    def _stream(self, name: str) -> Synchronisation:
        return self.synchronisation[name]  # type: ignore[return-value]

    def _pair_probe(self, name: str) -> Probe:
        pairs = self._stream(name)
        if not isinstance(pairs, Synchronisation):
            return Probe("sample", "tick", "unit")
        # A partial, not a lambda: it is copied and pickled with the module it asks.
        coords = {side: ("unit", partial(getattr, pairs, side)) for side in ("left", "right")}
        return Probe("sample", "tick", "unit", coords=coords)

    def _observed(self) -> bool:
        return any(isinstance(m, Probe) and (m.watched or m.edited) for m in self.modules())

    @staticmethod
    def _batch(seen: Asked | Tensor) -> int:
        return len(seen.keys if isinstance(seen, Asked) else seen)

    def extra_repr(self) -> str:
        """Sizes."""
        widths = ", ".join(f"{n}={self._stream(n).width}" for n in self.synchronisation)
        shape = f", output_shape={self.output_shape}" if self.output_shape else ""
        return (
            f"features={self.n_features}, classes={self.n_classes}{shape}, neurons={self.n_neurons}, ticks={self.ticks}, "
            f"history={self.history}, {self.representation}: {widths} ({self.pairing})"
        )
