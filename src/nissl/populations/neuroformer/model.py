"""The network: current spikes look at past spikes, at the stimulus and at behaviour, and say which spike comes next."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nissl.populations.neuroformer.blocks import Cache, SeriesEncoder, Stack, StimulusEncoder, fourier
from nissl.populations.neuroformer.windows import SERIES_SAMPLES, Batch


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes the network's shape.

    Attributes
    ----------
    n_units, window_bins, past_bins, bin_width
        Vocabulary of units and of times; seconds a bin.
    max_events, max_past
        Slots.
    dim, heads, layers, dropout
        Width, heads, and blocks in (state, past, stimulus and behaviour, final).
    past
        Whether past spikes are looked at.
    clip, patch, see
        Shape of a clip (empty without stimulus), of a patch, and whether current spikes look at the stimulus.
    groups
        Name of each group of behaviour given as input: number of variables.
    predict
        Behaviour to predict: number of classes, 0 for a number.
    contrast, contrast_dim
        Names of modalities that are aligned: `spikes`, `stimulus` and groups; width of the common space.
    """

    n_units: int
    window_bins: int
    past_bins: int
    bin_width: float
    max_events: int = 100
    max_past: int = 200
    dim: int = 64
    heads: int = 4
    layers: tuple[int, int, int, int] = (1, 1, 1, 1)
    dropout: float = 0.0
    past: bool = True
    clip: tuple[int, ...] = ()
    patch: tuple[int, int, int] = (3, 8, 8)
    see: bool = True
    groups: dict[str, int] = field(default_factory=dict)
    predict: dict[str, int] = field(default_factory=dict)
    contrast: tuple[str, ...] = ()
    contrast_dim: int = 512

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers and lists."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Architecture:
        """The inverse of `to_dict`, after a round through JSON too."""
        plain: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


@dataclass(frozen=True)
class Prediction:
    """What the network says of each position of the current window.

    Attributes
    ----------
    ids, dts
        Logits of the next event's unit (N units, then EOS) and time (bins, then EOS); times that have passed are -inf.
    states
        Last layer.
    predicted
        Behaviour: a number or logits of classes, a window.
    aligned
        Unit vectors in the common space.
    attention
        Where asked: for `state`, `past`, `stimulus`, `group NAME`, `final` the pattern `(window, head, slot, key)` of each block. The
        first key of `past` is the null token.
    """

    ids: Float[Tensor, "window slot class"]
    dts: Float[Tensor, "window slot bin"]
    states: Float[Tensor, "window slot dim"]
    predicted: dict[str, Tensor]
    aligned: dict[str, Float[Tensor, "window latent"]]
    attention: dict[str, list[Tensor]]


class NeuroformerNetwork(nn.Module):
    """The transformer (Antoniades et al. 2024, figure 1 and section 3).

    The order is fixed: state encoder (causal, current spikes), cross-attention to past spikes, to the stimulus, to each group of
    behaviour, causal self-attention, heads. Differences from the released code, on purpose: the state encoder runs once, before
    the fusion; what the contrastive loss calls spikes is pooled before the stimulus comes in, for afterwards it would know the
    answer.
    """

    time: Tensor
    past_time: Tensor

    def __init__(self, shape: Architecture) -> None:
        super().__init__()
        self.shape, d, h, p = shape, shape.dim, shape.heads, shape.dropout
        n_state, n_past, n_context, n_final = shape.layers
        self.eos, self.sos, self.pad = shape.n_units, shape.n_units + 1, shape.n_units + 2
        self.unit = nn.Embedding(shape.n_units + 3, d)
        self.slot = nn.Embedding(shape.max_events + 1, d)
        self.drop = nn.Dropout(p)
        self._register_times()
        self.state = Stack(n_state, d, h, cross=False, dropout=p)
        if shape.past:
            self.past_slot = nn.Embedding(shape.max_past, d)
            self.null = nn.Parameter(torch.zeros(1, 1, d))
            self.past_norm = nn.LayerNorm(d)
            self.past = Stack(n_past, d, h, cross=True, dropout=p)
        if shape.clip:
            self.stimulus_encoder = StimulusEncoder(shape.clip, shape.patch, n_context, d, h, p)
            if shape.see:
                self.stimulus = Stack(n_context, d, h, cross=True, dropout=p)
        self.group_encoders = nn.ModuleDict({g: SeriesEncoder(v, SERIES_SAMPLES, d) for g, v in shape.groups.items()})
        self.groups = nn.ModuleDict({g: Stack(n_context, d, h, cross=True, dropout=p) for g in shape.groups})
        self.final = Stack(n_final, d, h, cross=False, dropout=p)
        self.id_head, self.dt_head = nn.Linear(d, shape.n_units + 1), nn.Linear(d, shape.window_bins + 1)
        self.behaviour_heads = nn.ModuleDict(
            {name: nn.Linear(d, max(classes, 1)) for name, classes in shape.predict.items()}
        )
        if shape.contrast:
            self.common = nn.Linear(d, shape.contrast_dim, bias=False)
        self.apply(_initialise)
        # Which unit fired is what matters; at first, slots and times should not drown it.
        nn.init.normal_(self.unit.weight)

    def _register_times(self) -> None:
        """Times of bins relative to the start of the window, past and current on one axis; EOS, SOS and PAD have none."""
        s = self.shape
        bins = torch.arange(-s.past_bins, s.window_bins)
        table = fourier(bins, s.dim, 3.0, 4.0 * (s.past_bins + s.window_bins))
        none = torch.zeros(1, s.dim)
        self.register_buffer("past_time", torch.cat([table[: s.past_bins], none]), persistent=False)
        self.register_buffer("time", torch.cat([table[s.past_bins :], none, none, none]), persistent=False)

    def forward(self, batch: Batch, *, weights: bool = False) -> Prediction:
        """Predictions for every position but the last; with `weights`, the attention too."""
        context = self.context(batch)
        return self.decode(batch.ids[:, :-1], batch.dts[:, :-1], context, weights=weights)

    def context(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor | None]]:
        """Tokens of everything that is looked at, and which of them are real."""
        out: dict[str, tuple[Tensor, Tensor | None]] = {}
        if self.shape.past:
            recency = (batch.past_real.flip(1).cumsum(1).flip(1) - 1).clamp(min=0)
            x = self.unit(batch.past_ids) + self.past_time[batch.past_dts] + self.past_slot(recency)
            x = torch.cat([self.null.expand(len(x), -1, -1), x], 1)
            real = nn.functional.pad(batch.past_real, (1, 0), value=True)
            out["past"] = (self.past_norm(self.drop(x)), real)
        if self.shape.clip and batch.stimulus is not None:
            out["stimulus"] = (self.stimulus_encoder(batch.stimulus), None)
        for name, encoder in self.group_encoders.items():
            out[f"group {name}"] = encoder(batch.series[name], batch.series_real[name])
        return out

    def decode(
        self,
        ids: Int[Tensor, "window slot"],
        dts: Int[Tensor, "window slot"],
        context: dict[str, tuple[Tensor, Tensor | None]],
        *,
        first_slot: int = 0,
        weights: bool = False,
        cache: Cache | None = None,
    ) -> Prediction:
        """Predictions at the positions of `ids`, of which the first is in slot `first_slot`; a cache holds the keys of earlier ones."""
        options: dict[str, Any] = {"weights": weights, "cache": cache}
        attention: dict[str, list[Tensor]] = {}
        slots = torch.arange(first_slot, first_slot + ids.shape[1], device=ids.device)
        x = self.drop(self.unit(ids) + self.time[dts] + self.slot(slots))
        x, attention["state"] = self.state(x, **options)
        if "past" in context:
            x, attention["past"] = self.past(x, *context["past"], **options)
        before_stimulus = x
        if "stimulus" in context and self.shape.see:
            x, attention["stimulus"] = self.stimulus(x, *context["stimulus"], **options)
        for name in self.groups:
            x, attention[f"group {name}"] = self.groups[name](x, *context[f"group {name}"], **options)
        x, attention["final"] = self.final(x, **options)
        # EOS is an input only where a longer window shares the batch, so it must not count.
        real = ((ids < self.eos) | (ids == self.sos))[..., None].to(x.dtype)
        pooled = (x * real).sum(1) / real.sum(1)
        return Prediction(
            self.id_head(x),
            self._time_logits(x, dts),
            x,
            {
                name: head(pooled).squeeze(-1) if head.out_features == 1 else head(pooled)
                for name, head in self.behaviour_heads.items()
            },
            self._aligned((before_stimulus * real).sum(1) / real.sum(1), context),
            attention,
        )

    def _time_logits(self, x: Tensor, dts: Tensor) -> Tensor:
        """Events come in order of time, so times before the last event's are impossible."""
        bins = torch.arange(self.shape.window_bins + 1, device=dts.device)
        passed = (bins < dts[..., None]) & (dts < self.shape.window_bins)[..., None]
        return self.dt_head(x).masked_fill(passed, -torch.inf)

    def _aligned(self, spikes: Tensor, context: dict[str, tuple[Tensor, Tensor | None]]) -> dict[str, Tensor]:
        out = {}
        for name in self.shape.contrast:
            if name == "spikes":
                pooled = spikes
            else:
                tokens, real = context["stimulus" if name == "stimulus" else f"group {name}"]
                share = torch.ones_like(tokens[..., :1]) if real is None else real[..., None].to(tokens.dtype)
                pooled = (tokens * share).sum(1) / share.sum(1)
            out[name] = nn.functional.normalize(self.common(pooled).float(), dim=-1)
        return out


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.1)
