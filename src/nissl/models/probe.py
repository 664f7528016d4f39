"""A named place for a hidden variable: membrane, memory, spikes, whatever passes inside a module and is no module's output.

A network that runs in time shows such a variable twice. Whole, once a pass, to those who read; and moment by moment to
interventions, since what is changed now must have its consequences later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from nissl.errors import InputError

TIME_AXES = ("time", "tick")
# What an intervention does with a value that has its time axis: value, first time step, how many steps there are in all.
Edit = Callable[[Tensor, int, "int | None"], "Tensor | None"]


class Probe(nn.Module):
    """A named place inside a network where a hidden variable passes; the attribute it is put under is the site's name.

    Parameters
    ----------
    *dims
        Names of the axes of the whole value; a time axis is called `time` (steps of the layer) or `tick` (internal ones).
    coords
        Coordinates that recorded activity carries: for each name its axis, and its values or a function that gives them.

    Raises
    ------
    InputError
        Axes without a sample, twice the same, or coordinates for an axis that is not there.

    Notes
    -----
    `probe(value)` passes the whole value, once a pass: `nissl.record` and plain torch hooks see it there. `probe.now(value)`
    passes one moment of it, without the time axis: `nissl.intervene` acts there. A network that calls `now` runs its steps
    within `stepping`, which hands the whole to readers afterwards.

    Examples
    --------
    >>> import nissl
    >>> class Doubled(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.hidden = Probe("sample", "unit", coords={"gain": ("unit", torch.tensor([2.0, 2.0]))})
    ...
    ...     def forward(self, x):
    ...         return self.hidden(2 * x).sum(-1)
    >>> acts = nissl.record(Doubled(), torch.ones(3, 2), at="hidden")
    >>> acts["hidden"].shape, acts["hidden"].gain.values.tolist()
    ((3, 2), [2.0, 2.0])
    """

    def __init__(
        self, *dims: str, coords: Mapping[str, tuple[str, Tensor | np.ndarray | Callable[[], Tensor]]] | None = None
    ) -> None:
        super().__init__()
        if "sample" not in dims or len(set(dims)) != len(dims):
            raise InputError(f"axes {', '.join(dims) or 'none'}; a probe needs 'sample' and each axis once")
        for name, (dim, _) in (coords or {}).items():
            if dim not in dims:
                raise InputError(f"coordinate {name!r} lies along {dim!r}, which is none of {', '.join(dims)}")
        self.dims = dims
        self._coords = dict(coords or {})
        self._edits: list[tuple[Edit, Callable[[], bool]]] = []
        self._moment: _Moment | None = None

    @property
    def time_axis(self) -> int | None:
        """Which axis is time; None where the variable has none."""
        return next((i for i, d in enumerate(self.dims) if d in TIME_AXES), None)

    @property
    def edited(self) -> bool:
        """Whether an intervention of this thread is in force here."""
        return any(mine() for _, mine in self._edits)

    @property
    def watched(self) -> bool:
        """Whether somebody reads here."""
        return bool(self._forward_hooks)

    def coordinates(self) -> dict[str, tuple[str, np.ndarray]]:
        """For each coordinate its axis and its values, as they are now."""
        values = {name: (dim, v() if callable(v) else v) for name, (dim, v) in self._coords.items()}
        return {
            n: (d, v.detach().cpu().numpy() if isinstance(v, Tensor) else np.asarray(v)) for n, (d, v) in values.items()
        }

    def forward(self, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Pass the whole value."""
        if self._edits and (self._moment is None or not self._moment.finished):
            total = None if self.time_axis is None else value.shape[self.time_axis]
            for edit, mine in self._edits:
                replaced = edit(value, 0, total) if mine() else None
                value = value if replaced is None else replaced
        return value

    def now(self, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Pass one moment of the value, without its time axis."""
        moment = self._moment
        if not self._edits and moment is None:
            return value
        axis = self.time_axis
        if axis is None:
            raise InputError(f"a probe with the axes {', '.join(self.dims)} has no moments; it needs 'time' or 'tick'")
        start, total = (0, None) if moment is None else (moment.step, moment.total)
        for edit, mine in self._edits:
            replaced = edit(value.unsqueeze(axis), start, total) if mine() else None
            value = value if replaced is None else replaced.squeeze(axis)
        if moment is not None and self.watched:
            moment.seen.append(value)
        return value

    def add_edit(self, edit: Edit, mine: Callable[[], bool]) -> Callable[[], None]:
        """Let an intervention act here while `mine()` says so; returns the function that takes it away."""
        entry = (edit, mine)
        self._edits.append(entry)
        return lambda: self._edits.remove(entry)

    def extra_repr(self) -> str:
        """The axes."""
        return ", ".join(self.dims)


@dataclass
class _Moment:
    """Where a probe is in a pass that runs step by step, and what it has seen."""

    total: int | None
    step: int = 0
    seen: list[Tensor] = field(default_factory=list)
    finished: bool = False


@contextmanager
def stepping(module: nn.Module, total: int | None) -> Iterator[Callable[[int], None]]:
    """Run a module's steps one by one, so that its probes know the time; at the end readers get the whole.

    Parameters
    ----------
    module
        Every probe inside it takes part.
    total
        How many steps there will be; None where nobody knows, and then interventions cannot choose positions.

    Yields
    ------
    A function to be called with the number of each step before it is taken.

    Examples
    --------
    >>> probe = Probe("sample", "time", "unit")
    >>> seen = []
    >>> _ = probe.register_forward_hook(lambda module, args, value: seen.append(value.shape))
    >>> with stepping(probe, 5) as at:
    ...     for t in range(5):
    ...         at(t)
    ...         _ = probe.now(torch.zeros(2, 3))
    >>> seen
    [torch.Size([2, 5, 3])]
    """
    probes = [p for p in module.modules() if isinstance(p, Probe) and (p.watched or p.edited) and p._moment is None]
    moments = [_Moment(total) for _ in probes]

    def at(step: int) -> None:
        for moment in moments:
            moment.step = step

    for probe, moment in zip(probes, moments, strict=True):
        probe._moment = moment
    try:
        yield at
        for probe, moment in zip(probes, moments, strict=True):
            moment.finished = True
            if moment.seen:
                probe(torch.stack(moment.seen, probe.time_axis or 0))
    finally:
        for probe in probes:
            probe._moment = None
