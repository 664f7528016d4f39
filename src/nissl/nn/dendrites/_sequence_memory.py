"""Sequences, remembered by neurons with active dendrites: each cell's segments expect it, from who was active before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from nissl.errors import InputError
from nissl.models import Probe
from nissl.nn._cell import Cell, State
from nissl.nn.dendrites._overlap import overlaps
from nissl.nn.dendrites._patterns import as_patterns


class SequenceMemory(Cell):
    """A layer of columns whose cells stand for an input in its context, and expect what comes next.

    All cells of a column see the same input; their dendritic segments see the layer's own cells. A cell that is expected fires alone; a column
    that nobody expected fires with all its cells. So the same input is a different set of cells after a different past, a start in mid-sequence
    expects whatever ever followed, and predictions of several sequences go on side by side: unions of sparse sets.

    Parameters
    ----------
    n_inputs
        Columns.
    n_cells
        Cells in a column: in how many contexts an input can stand.
    n_segments
        Room for dendritic segments, in the whole layer: one for each active column of each transition that is stored.
    n_synapses, threshold
        Of a segment; half of the synapses where None, rounded up.
    seed
        Of the choice of cells and synapses.

    Attributes
    ----------
    synapses : Tensor (segment, synapse)
        A buffer: the cell ``column * n_cells + i`` that each synapse comes from; the number of cells where there is none.
    owner : Tensor (segment)
        A buffer: the cell that each segment belongs to; the number of cells where there is none.

    Raises
    ------
    InputError
        Sizes that cannot be; input that is not 0 or 1, NaN, of another width or without steps.

    Notes
    -----
    Column c with cells i at step t, x in {0, 1}:

    active     A_ci(t) = x_c(t) and (P_ci(t-1) or no cell of column c was in P(t-1))     site `active` (sample, time, unit)
    overlap    o_k(t)  = |D_k and A(t)|                                                  site `segments` (sample, time, unit)
    predicted  P_ci(t) = 1 if any segment k of the cell has o_k(t) >= threshold           site `predicted` (sample, time, unit)
    output     y_c(t)  = 1 if any cell of column c is in P(t): the input expected at t + 1

    State: `predicted`, P of the last step; at the beginning nothing is expected. A set of a cells is taken for another with probability
    `match_probability(n_inputs * n_cells, a, n_synapses, threshold)`. Sequences are stored by `fit`, without gradients.

    References
    ----------
    Hawkins and Ahmad 2016, Why neurons have thousands of synapses, a theory of sequence memory in neocortex.

    Examples
    --------
    >>> from nissl.nn.dendrites import random_patterns
    >>> a, b, c, d, x, y = torch.from_numpy(random_patterns(6, 500, 20).values).float()
    >>> memory = SequenceMemory(500, 8, 1000, 12, 8).fit(torch.stack([torch.stack([a, b, c, d]), torch.stack([x, b, c, y])]))
    >>> expected = memory(torch.stack([a, b, c])[None])[0]
    >>> torch.equal(expected[2], d)
    True
    """

    n_inputs: int  # never None here
    synapses: Tensor
    owner: Tensor

    def __init__(
        self,
        n_inputs: int,
        n_cells: int,
        n_segments: int,
        n_synapses: int = 20,
        threshold: float | None = None,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        given = dict(n_inputs=n_inputs, n_cells=n_cells, n_segments=n_segments, n_synapses=n_synapses)
        for name, value in given.items():
            if value != int(value) or value < 1:
                raise InputError(f"{name}={value}; allowed: whole numbers from 1")
        theta = n_synapses / 2 if threshold is None else threshold
        if not 0 < theta <= n_synapses <= n_inputs:
            raise InputError(
                f"threshold={threshold} of n_synapses={n_synapses} on {n_inputs} columns; allowed: 0 < threshold <= n_synapses <= n_inputs"
            )
        self.n_inputs, self.n_cells, self.n_segments, self.n_synapses = n_inputs, n_cells, n_segments, n_synapses
        self.threshold, self.seed = math.ceil(theta), seed
        self.register_buffer("synapses", torch.empty(n_segments, n_synapses, dtype=torch.int32))
        self.register_buffer("owner", torch.empty(n_segments, dtype=torch.int64))
        self.active = Probe("sample", "time", "unit")
        self.segments = Probe("sample", "time", "unit")
        self.predicted = Probe("sample", "time", "unit")
        self.reset()

    def reset(self) -> SequenceMemory:
        """Take all segments away."""
        self.synapses.fill_(self.n_inputs * self.n_cells)
        self.owner.fill_(self.n_inputs * self.n_cells)
        return self

    def initial_state(self, x: Float[Tensor, "batch input"]) -> State:
        """Nothing is expected."""
        kind = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return {"predicted": torch.zeros(len(x), self.n_inputs * self.n_cells, dtype=kind, device=x.device)}

    def advance(self, x: Float[Tensor, "batch input"], state: State, **beside: Tensor) -> tuple[Tensor, State]:
        """One step."""
        column = as_patterns(x, self.n_inputs)[..., None]
        before = state["predicted"].unflatten(1, (-1, self.n_cells)) > 0
        active = column & (before | ~before.any(2, keepdim=True))
        kind = state["predicted"].dtype
        active = self.active.now(active.flatten(1).to(kind))
        overlap = self.segments.now(overlaps(self.synapses, active > 0).to(kind))
        # Segments raise their cells; the last place is for those that belong to none.
        fires = (overlap >= self.threshold).to(kind)
        raised = active.new_zeros(len(x), active.shape[1] + 1).index_add(1, self.owner, fires)
        predicted = self.predicted.now((raised[:, :-1] > 0).to(kind))
        return predicted.unflatten(1, (-1, self.n_cells)).amax(2), {"predicted": predicted}

    def fit(self, sequences: Any) -> SequenceMemory:
        """Store sequences, each shown once.

        In each active column one cell stands for the input in this context: the one that the earlier step expects, or else a random one, which
        then grows a segment onto `n_synapses` of the cells that stood for the earlier step. At the beginning of a sequence that is the first cell, so that
        sequences that begin alike share their cells until they part.

        Parameters
        ----------
        sequences
            (sequence, time, column), of 0 and 1. What was stored before is kept.

        Returns
        -------
        SequenceMemory
            The layer itself.

        Raises
        ------
        InputError
            Inputs with fewer active columns than synapses; more transitions than there is room for.
        """
        x = torch.as_tensor(sequences.values if isinstance(sequences, xr.DataArray) else sequences)
        if x.dim() != 3 or x.shape[2] != self.n_inputs:
            raise InputError(f"sequences of shape {tuple(x.shape)}; allowed: (sequence, time, {self.n_inputs})")
        if x.shape[1] < 2:
            raise InputError("sequences of one step hold no transition; give two or more steps")
        shown = as_patterns(x.flatten(0, 1), self.n_inputs).cpu().numpy().reshape(x.shape)
        if (poor := shown.sum(2).min()) < self.n_synapses:
            raise InputError(f"an input with {poor} active columns for {self.n_synapses} synapses; take fewer synapses")
        synapses, owner = self.synapses.cpu().numpy().copy(), self.owner.cpu().numpy().copy()
        rng = np.random.default_rng(self.seed)
        used, cells = int((owner < self.n_inputs * self.n_cells).sum()), self.n_inputs * self.n_cells
        for sequence in shown:
            standing = np.flatnonzero(sequence[0]) * self.n_cells
            for pattern in sequence[1:]:
                seen = np.zeros(cells + 1, dtype=bool)
                seen[standing] = True
                expected = np.zeros(cells, dtype=bool)
                expected[owner[:used][seen[synapses[:used]].sum(1) >= self.threshold]] = True
                columns = np.flatnonzero(pattern)
                known = expected.reshape(-1, self.n_cells)[columns]
                which = np.where(known.any(1), known.argmax(1), rng.integers(self.n_cells, size=len(columns)))
                new = (columns * self.n_cells + which)[~known.any(1)]
                if used + len(new) > self.n_segments:
                    raise InputError(
                        f"n_segments={self.n_segments} are too few for these {len(shown)} sequences; nothing was stored. A transition takes one for each of its "
                        f"active columns, {int(shown[:, 1:].sum())} in all at most"
                    )
                owner[used : used + len(new)] = new
                chosen = rng.random((len(new), len(standing))).argsort(1)[:, : self.n_synapses]
                synapses[used : used + len(new)] = standing[chosen]
                used, standing = used + len(new), columns * self.n_cells + which
        self.synapses.copy_(torch.from_numpy(synapses))
        self.owner.copy_(torch.from_numpy(owner))
        return self

    def extra_repr(self) -> str:
        """Sizes, and how many segments are in use."""
        used = int((self.owner < self.n_inputs * self.n_cells).sum())
        return (
            f"n_inputs={self.n_inputs}, n_cells={self.n_cells}, n_segments={self.n_segments} ({used} in use), "
            f"n_synapses={self.n_synapses}, threshold={self.threshold}"
        )
