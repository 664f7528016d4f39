"""A neuron with active dendrites: each segment is a small detector of one large, sparse pattern."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import scipy.sparse
import torch
import xarray as xr
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import pad

from nissl.errors import InputError, unknown
from nissl.models import Probe
from nissl.nn.dendrites._overlap import BLOCK, overlaps
from nissl.nn.dendrites._patterns import as_patterns
from nissl.nn.dendrites._permanences import Plasticity
from nissl.nn.dendrites._probability import match_probability, miss_probability

Nonlinearity = Literal["threshold", "sigmoid", "power"]


class DendriticNeuron(nn.Module):
    """A neuron that recognises sparse patterns, one (or a few) on each of its dendritic segments.

    A segment connects to a handful of the cells of the pattern that it stores, and fires when enough of them are active at once. What it
    stores, and how often it errs, can be read off its synapses.

    Parameters
    ----------
    n_inputs
        Cells that the neuron can see.
    n_segments
        Dendritic segments.
    n_synapses
        Synapses of a segment for each pattern that it stores.
    threshold
        Active synapses that make a segment fire, an NMDA spike. Half the synapses where None; a fraction is rounded up, since
        synapses are counted.
    mix
        Patterns that share a segment; it has `mix * n_synapses` places for synapses.
    nonlinearity
        What a segment passes on in `response`: "threshold" 0 or 1, "sigmoid", or "power".
    power
        Exponent of the last.
    seed
        Of the choice of synapses.

    Attributes
    ----------
    synapses : Tensor (segment, place)
        A buffer: which cell each synapse comes from; `n_inputs` where there is none. Before `fit` there are none.
    permanence : Tensor (segment, place)
        A buffer: how firmly each is grown, 0 to 1; 0 where there is none. Only `learn` changes it.
    segments_ : scipy.sparse.coo_array (segment, input)
        The synapses as a boolean matrix.

    Raises
    ------
    InputError, UnknownNameError
        Sizes that cannot be: more synapses than inputs, a threshold above the synapses; input that is not 0 or 1, NaN, or of another width.

    Notes
    -----
    x in {0, 1}^n, D_k the cells of segment k:

    overlap   o_k = |x and D_k|                                   site `segments` (sample, unit): unit k is segment k
    spike     z_k = 1 if o_k >= threshold else 0
    output    y   = 1 if any z_k else 0                           site `depolarised` (sample, unit), one unit
    response  r   = sum_k f(o_k)                                  of `response`, for neurons that compete
              threshold  f(o) = z
              sigmoid    f(o) = 1 / (1 + exp(5 (threshold - 1/2 - o)))
              power      f(o) = (o / threshold)^power

    A false match of a segment has probability `match_probability(n, a, s, threshold)`, a miss under noise
    `miss_probability(a, s, threshold, flipped)`. There is no time, and no gradient: patterns are stored by `fit`, or learnt by `learn`.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> from nissl.nn.dendrites import noisy_patterns, random_patterns
    >>> x = random_patterns(50, 2000, 40)
    >>> neuron = DendriticNeuron(2000, 50, 20, 9).fit(x)
    >>> bool(neuron.predict(noisy_patterns(x, 12)).all()), bool(neuron.predict(random_patterns(1000, 2000, 40, seed=1)).any())
    (True, False)
    >>> neuron.error_rates(40, flipped=12).loc[0].round(12).to_dict()["synapses"]
    20.0
    """

    synapses: Tensor
    permanence: Tensor

    def __init__(
        self,
        n_inputs: int,
        n_segments: int,
        n_synapses: int,
        threshold: float | None = None,
        *,
        mix: int = 1,
        nonlinearity: Nonlinearity = "threshold",
        power: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in dict(n_inputs=n_inputs, n_segments=n_segments, n_synapses=n_synapses, mix=mix).items():
            if value != int(value) or value < 1:
                raise InputError(f"{name}={value}; allowed: whole numbers from 1")
        if n_synapses > n_inputs:
            raise InputError(f"n_synapses={n_synapses} on {n_inputs} inputs; a segment sees each input once at most")
        theta = n_synapses / 2 if threshold is None else threshold
        if not 0 < theta <= n_synapses:
            raise InputError(
                f"threshold={threshold} of {n_synapses} synapses; allowed: 1 to {n_synapses}, or a segment could never fire"
            )
        if nonlinearity not in get_args(Nonlinearity):
            raise unknown("nonlinearity", nonlinearity, get_args(Nonlinearity))
        if not power > 0:
            raise InputError(f"power={power}; allowed: above 0")
        self.n_inputs, self.n_segments, self.n_synapses, self.mix = n_inputs, n_segments, n_synapses, mix
        self.threshold = math.ceil(theta)
        self.nonlinearity, self.power, self.seed = nonlinearity, power, seed
        self.register_buffer("synapses", torch.empty(n_segments, mix * n_synapses, dtype=torch.int32))
        self.register_buffer("permanence", torch.empty(n_segments, mix * n_synapses))
        self.segments = Probe("sample", "unit")
        self.depolarised = Probe("sample", "unit")
        self.reset()

    def reset(self) -> DendriticNeuron:
        """Take all synapses away."""
        self.synapses.fill_(self.n_inputs)
        self.permanence.zero_()
        return self

    def forward(self, x: Shaped[Tensor, "sample input"]) -> Float[Tensor, "sample 1"]:
        """1 where any segment fires, else 0."""
        strongest = self._seen(x).amax(1, keepdim=True)
        return self.depolarised((strongest >= self.threshold).to(self.permanence.dtype))

    def response(self, x: Shaped[Tensor, "sample input"]) -> Float[Tensor, "sample"]:
        """What all segments pass on to the soma, summed: graded, for neurons that compete."""
        overlap = self._seen(x)
        if self.nonlinearity == "threshold":
            passed = (overlap >= self.threshold).to(overlap.dtype)
        elif self.nonlinearity == "sigmoid":
            passed = torch.sigmoid(5 * (overlap - (self.threshold - 0.5)))
        else:
            passed = (overlap / self.threshold) ** self.power
        return passed.sum(1)

    def overlaps(self, x: Shaped[Tensor, "sample input"]) -> Float[Tensor, "sample segment"]:
        """Active synapses of every segment, in half precision where that is exact (a segment of up to 2048 places)."""
        return overlaps(self.synapses, as_patterns(x, self.n_inputs))

    def fit(self, patterns: Any) -> DendriticNeuron:
        """Store patterns, `mix` of them on a segment: each gives synapses to a random choice of its active cells.

        Parameters
        ----------
        patterns
            (sample, unit), of 0 and 1; at most ``n_segments * mix`` of them. What was stored before is lost; segments that get none stay
            empty.

        Returns
        -------
        DendriticNeuron
            The neuron itself.

        Raises
        ------
        InputError
            More patterns than fit, or one with fewer active cells than synapses.
        """
        x = as_patterns(patterns, self.n_inputs).to(self.synapses.device)
        if len(x) > self.n_segments * self.mix:
            raise InputError(
                f"{len(x)} patterns for {self.n_segments} segments with {self.mix} each; give {self.n_segments * self.mix} at most, or more segments"
            )
        active = x.sum(1)
        if (poor := active < self.n_synapses).any():
            row = int(poor.nonzero()[0])
            raise InputError(
                f"pattern {row} has {int(active[row])} active cells for {self.n_synapses} synapses; take fewer synapses"
            )
        generator = torch.Generator(x.device).manual_seed(self.seed)
        chosen = torch.cat([_drawn(part, self.n_synapses, generator) for part in x.split(4096)])
        self.reset()
        places = self.synapses.view(-1, self.n_synapses)
        places[: len(x)] = chosen
        if self.mix > 1:
            # A cell of two patterns gives one synapse.
            ordered = self.synapses.sort(1).values
            again = pad(ordered[:, 1:] == ordered[:, :-1], (1, 0))
            self.synapses.copy_(ordered.masked_fill(again, self.n_inputs))
        self.permanence[self.synapses < self.n_inputs] = Plasticity.initial
        return self

    def predict(self, patterns: Any) -> xr.DataArray:
        """Which patterns the neuron recognises.

        Parameters
        ----------
        patterns
            (sample, unit), of 0 and 1.

        Returns
        -------
        DataArray (sample)
            Boolean.
        """
        x = as_patterns(patterns, self.n_inputs).to(self.synapses.device)
        with torch.no_grad():
            found = torch.cat([self(part) for part in x.split(BLOCK)])
        return xr.DataArray((found[:, 0] > 0).cpu().numpy(), dims="sample", name="depolarised")

    def segment_activity(self, patterns: Any) -> xr.DataArray:
        """How many synapses of each segment a pattern activates.

        Parameters
        ----------
        patterns
            (sample, unit), of 0 and 1.

        Returns
        -------
        DataArray (sample, segment)
            Whole numbers.
        """
        with torch.no_grad():
            counts = self.overlaps(as_patterns(patterns, self.n_inputs).to(self.synapses.device))
        return xr.DataArray(counts.to(torch.int32).cpu().numpy(), dims=("sample", "segment"), name="overlap")

    def learn(self, patterns: Any, labels: Any, *, plasticity: Plasticity | None = None, seed: int = 0) -> xr.Dataset:
        """Grow and prune synapses by permanences, one pattern after another.

        - a wanted pattern that fires segments: their synapses with active cells gain permanence, the others lose some; those that fall
          below `connected` are replaced by synapses with random active cells of the pattern;
        - a wanted pattern that is missed: the weakest segment (least permanence in all) is grown anew on this pattern;
        - an unwanted pattern that fires segments: the active synapses of the one that fires most strongly lose permanence, and below
          `connected` they are gone.

        Parameters
        ----------
        patterns
            (sample, unit), of 0 and 1, in the order in which they are met.
        labels
            (sample), true where the neuron should respond.
        plasticity
            How much is gained and lost.

        Returns
        -------
        Dataset (sample)
            `wanted`, and `depolarised` before the neuron learnt from this sample.

        Raises
        ------
        InputError
            As `fit`; labels of another length or that are not 0 and 1.
        """
        x = as_patterns(patterns, self.n_inputs).cpu().numpy()
        wanted = as_patterns(np.asarray(labels).reshape(1, -1), len(x))[0].numpy()
        rule = (plasticity or Plasticity()).checked()
        synapses, permanence = self.synapses.cpu().numpy().copy(), self.permanence.cpu().numpy().copy()
        fired = rule.run(x, wanted, synapses, permanence, self.threshold, self.n_synapses, np.random.default_rng(seed))
        self.synapses.copy_(torch.from_numpy(synapses))
        self.permanence.copy_(torch.from_numpy(permanence))
        return xr.Dataset({"wanted": ("sample", wanted), "depolarised": ("sample", fired)})

    @property
    def segments_(self) -> scipy.sparse.coo_array:
        """The synapses as a sparse boolean matrix (segment, input)."""
        cells = self.synapses.cpu().numpy()
        segment, place = np.nonzero(cells < self.n_inputs)
        return scipy.sparse.coo_array(
            (np.ones(len(segment), dtype=bool), (segment, cells[segment, place])),
            shape=(self.n_segments, self.n_inputs),
        )

    def error_rates(self, n_active: int, *, flipped: int = 0) -> pd.DataFrame:
        """How often each segment errs, if patterns are random and independent.

        Parameters
        ----------
        n_active
            Active cells of a pattern.
        flipped
            Of these, cells that noise switches off.

        Returns
        -------
        DataFrame
            A row a segment: `synapses` that it has, `threshold`, `false_match` for an unrelated pattern, `miss` of one of its own.
            Empty segments never fire, and have nothing to miss: NaN.
        """
        count = (self.synapses < self.n_inputs).sum(1).cpu().numpy()
        kept = np.where(
            count > 0, miss_probability(n_active, np.minimum(count, self.n_synapses), self.threshold, flipped), np.nan
        )
        false = match_probability(self.n_inputs, n_active, count, self.threshold)
        table = {"synapses": count, "threshold": self.threshold, "false_match": false, "miss": kept}
        return pd.DataFrame(table, index=pd.RangeIndex(self.n_segments, name="segment"))

    def extra_repr(self) -> str:
        """Sizes, threshold, and how many segments store something."""
        full = int((self.synapses < self.n_inputs).any(1).sum())
        shared = f", mix={self.mix}" if self.mix > 1 else ""
        return (
            f"n_inputs={self.n_inputs}, n_segments={self.n_segments} ({full} in use), n_synapses={self.n_synapses}, "
            f"threshold={self.threshold}{shared}, nonlinearity={self.nonlinearity!r}"
        )

    def _seen(self, x: Tensor) -> Float[Tensor, "sample segment"]:
        return self.segments(self.overlaps(x).to(self.permanence.dtype))


def _drawn(active: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """For each pattern a random choice among its active cells."""
    key = torch.rand(active.shape, generator=generator, device=active.device).masked_fill_(~active, -1)
    return key.topk(count, 1).indices.to(torch.int32)
