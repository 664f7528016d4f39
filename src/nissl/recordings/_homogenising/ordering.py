"""One order: every neuron in its own slot, the same in every animal."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from nissl.errors import InputError, unknown
from nissl.recordings._homogenising.plan import Layout, Plan
from nissl.recordings._homogenising.step import Step, check_choice
from nissl.recordings._names import is_name, match_names, numbered, suggestions
from nissl.recordings._notes import RecordingWarning
from nissl.recordings._traces import listed

LISTS = ("hermaphrodite-300", "hermaphrodite-302")


class Order(Step):
    """Put units into the order of a list of names; slots of neurons that were not recorded are missing (NaN), never zero.

    Names are found as they are, by `aliases`, without padding zeros (`DB01` is `DB1`) and in either case. Traces that are on no list go
    to `activity_unlabelled (time, unlabelled)`, under the names they came with: they take nobody's slot. Of names given twice the
    first counts, and the others are unlabelled.

    Parameters
    ----------
    neurons
        Names, or `hermaphrodite-300`: the neurons of the worm in alphabetical order. None leaves the order alone.
    aliases
        Other names of neurons on the list.
    unlabelled
        What happens to traces on no list: `keep`, `drop`, or `raise`.

    Raises
    ------
    InputError, UnknownNameError
        In `fit`: a list that is not known or names a neuron twice, no trace on the list, a trace that is not (`unlabelled="raise"`).

    Examples
    --------
    >>> import xarray as xr
    >>> x = xr.Dataset({"activity": (("time", "unit"), [[1.0, 2.0, 3.0], [4.0, 6.0, 5.0]])},
    ...                {"time": [0.0, 1.0], "unit": ["DB01", "17", "AVAL"]})
    >>> out = Order(neurons=["AVAL", "AVAR", "DB1"]).fit_transform(x)
    >>> out["activity"].values[0].tolist(), out["activity_unlabelled"].values[0].tolist()
    ([3.0, nan, 1.0], [2.0])
    """

    def __init__(
        self,
        *,
        neurons: Sequence[str] | str | None = None,
        aliases: Mapping[str, str] | None = None,
        unlabelled: Literal["keep", "drop", "raise"] = "keep",
    ) -> None:
        self.neurons = neurons
        self.aliases = aliases
        self.unlabelled = unlabelled

    def _extend(self, plan: Plan) -> None:
        check_choice("treatment of unlabelled traces", self.unlabelled, ("keep", "drop", "raise"))
        wanted = neuron_list(self.neurons)
        if wanted is None:
            return
        names = plan.layout.units
        found = match_names(names, wanted, {**_usual_aliases(self.neurons), **(self.aliases or {})})
        strangers = [n for n in names[found.rest] if is_name(n)]
        if not len(found.slots):
            tell = suggestions(strangers or list(names), wanted)
            raise InputError(f"none of the {len(names)} units is on the list of {len(wanted)} neurons: {tell}; name the units, or take another list")  # fmt: skip
        if len(found.rest) and self.unlabelled == "raise":
            raise InputError(
                f"units on no list: {suggestions(list(names[found.rest]), wanted)}; rename them, or keep them as unlabelled"
            )
        if found.repeated:
            warnings.warn(f"names given twice: {listed(found.repeated)}; the first counts, the others are unlabelled", RecordingWarning, stacklevel=2)  # fmt: skip
        if strangers and self.unlabelled == "keep":
            warnings.warn(f"units on no list are kept as unlabelled: {suggestions(strangers, wanted)}", RecordingWarning, stacklevel=2)  # fmt: skip
        rest = found.rest if self.unlabelled == "keep" else found.rest[:0]
        plan.layout = Layout(wanted, found.slots, found.columns, numbered(names[rest]), rest)


def neuron_list(neurons: Sequence[str] | str | None) -> np.ndarray | None:
    """The names of a list, or of a list that goes by a name.

    Raises
    ------
    UnknownNameError
        No such list.
    InputError
        An empty list, or a name on it twice.
    """
    if neurons is None:
        return None
    if isinstance(neurons, str):
        if neurons not in LISTS:
            raise unknown("list of neurons", neurons, LISTS)
        from nissl.recordings.worm._names import canonical_neurons

        names = np.asarray(canonical_neurons(neurons), dtype=object)
    else:
        names = np.asarray([str(n) for n in neurons], dtype=object)
    unique, counts = np.unique(names.astype(str), return_counts=True)
    if not len(names) or (counts > 1).any():
        raise InputError(f"a list of {len(names)} neurons" + (f" with {listed(unique[counts > 1])} twice" if len(names) else "") + "; name each neuron once")  # fmt: skip
    return names


def _usual_aliases(neurons: Sequence[str] | str | None) -> dict[str, str]:
    """Other names by which the neurons of a known list go."""
    if not isinstance(neurons, str):
        return {}
    from nissl.recordings.worm._names import ALIASES

    return dict(ALIASES)
