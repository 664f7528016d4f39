"""How dynamical is this system? One table, a row a concept of the perspective, each with its control."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nissl.errors import NisslError
from nissl.populations._spike_trains import as_spike_trains
from nissl.populations.dynamics import _answers as answer
from nissl.populations.dynamics._answers import Answer
from nissl.populations.rhythms._signals import TOKENS, as_signals
from nissl.populations.weights.weight_statistics import weight_statistics

COLUMNS = ("section", "concept", "measure", "statement", "effect", "control", "control_sd", "z", "p", "n", "note")
# measure -> section, concept, and the statement of the perspective that it stands for
MEASURES = {
    "population sparseness": ("A", "sparsity", "few neurons carry each moment"),
    "lifetime sparseness": ("A", "sparsity", "each neuron speaks for few moments"),
    "participation ratio": ("A", "sparsity", "structured networks confine activity to few dimensions"),
    "heavy tail": ("A", "structure", "few strong among many weak connections"),
    "reciprocity": ("A", "structure", "sparse wiring is structured, not random"),
    "small world": ("A", "structure", "sparse wiring is structured, not random"),
    "modularity": ("A", "structure", "networks are built of modules"),
    "population synchrony": ("B", "synchrony", "neurons act together in time"),
    "phase locking of pairs": ("B", "synchrony", "timing is carried by synchrony of rhythms"),
    "spikes on the phase": ("B", "synchrony", "spikes carry phase beside rate"),
    "fine synchrony of spikes": ("B", "synchrony", "timing is finer than slow rates"),
    "phase-amplitude coupling": ("C", "nested oscillations", "fast rhythms are nested in slow ones"),
    "replay": ("D", "sequences", "sequences of experience are replayed"),
    "rank order of events": ("D", "sequences", "neurons fire in recurring sequences"),
    "order of recurring states": ("E", "attractors", "memory states follow each other in order"),
    "missing information": ("F", "interaction", "acting builds better world models"),
}


def dynamics_report(
    recording: Any,
    *,
    band: tuple[float, float] | None = None,
    weights: Any = None,
    position: Any = None,
    events: Any = None,
    lfp: Any = None,
    bin_width: float = 0.02,
    rate: float | None = None,
    indicator_bandwidth: float | None = None,
    n_surrogates: int = 100,
    seed: int = 0,
) -> pd.DataFrame:
    """Sparsity, synchrony, nested rhythms, sequences and recurring states of a recording or a network, each beside its control.

    Parameters
    ----------
    recording
        Traces or counts `([trial,] time, unit)`, a Dataset with `activity` or with spike times, or hidden states `(sample, position, unit)`.
    band
        Of the rhythm asked about, hertz (cycles per token); by default the band in which most units have a spectral peak.
    weights
        `(target, source)`, a connectome or recurrent weights.
    position
        Of the animal `(time)`, for place fields and replay; needs spikes and `events`.
    events
        Starts and stops of short events in seconds (a table, pairs, or the recording's own `event_start`, `event_stop`).
    lfp
        Field potential `(time, channel)` for the phase of spikes; by default the recording's own variable `lfp`.
    bin_width
        Seconds, for spikes that are counted.
    indicator_bandwidth
        Of a calcium indicator, hertz; by default the recording's attribute.

    Returns
    -------
    pandas.DataFrame
        A row a measure: `section` (A sparsity, B synchrony, C nested rhythms, D sequences, E attractors, F interaction), `concept`, `measure`,
        `statement` of the perspective it stands for, `effect`, `control` (mean of the surrogates), `control_sd`, `z`, `p`, `n` (units, pairs or
        events) and `note`: what was done, or why a measure could not be had, its figures then being NaN. The band is in `attrs["band"]`.

    Raises
    ------
    InputError
        A recording that cannot be read at all.

    Examples
    --------
    >>> from nissl.recordings.simulate import nested_oscillation
    >>> table = dynamics_report(nested_oscillation(depth=1, n_units=2, duration=10, rate=400), n_surrogates=50)
    >>> bool(table.set_index("measure").p["phase-amplitude coupling"] < 0.05)
    True

    Notes
    -----
    A perspective is not evidence: the statements are those of Monaco, Rajan and Hwang (2021), the measures are the field's.
    """
    trains = as_spike_trains(recording) if isinstance(recording, xr.Dataset) and "spike_time" in recording else None
    traces = answer.traces_of(recording, trains, bin_width, rate)
    signals = as_signals(answer.changing(traces))
    if isinstance(recording, xr.Dataset):
        lfp = recording.get("lfp") if lfp is None else lfp
        events = recording if events is None and "event_start" in recording else events
    # The rhythm of a field potential is the population's; spikes counted in bins rarely show one of their own.
    field = signals if lfp is None else as_signals(lfp)
    chosen = band is None
    band = answer.rhythm(field, indicator_bandwidth) if band is None else band
    n = n_surrogates

    @cache
    def wiring() -> Any:
        return weight_statistics(weights, n_surrogates=n, n_partitions=min(n, 20), seed=seed)

    ask: dict[str, Callable[[], Answer]] = {
        "population sparseness": lambda: answer.mean_sparseness(traces, "population", n, seed),
        "lifetime sparseness": lambda: answer.mean_sparseness(traces, "lifetime", n, seed),
        "participation ratio": lambda: answer.dimensions(signals, n, seed),
        "heavy tail": lambda: answer.heavy_tail(weights, wiring),
        "reciprocity": lambda: answer.graph(weights, wiring, "reciprocity"),
        "small world": lambda: answer.graph(weights, wiring, "small world"),
        "modularity": lambda: answer.graph(weights, wiring, "modularity"),
        "population synchrony": lambda: answer.synchrony(signals, n, seed),
        "phase locking of pairs": lambda: answer.locking(field, band, chosen, n, seed, indicator_bandwidth),
        "spikes on the phase": lambda: answer.spikes_on_phase(trains, lfp, band, n, seed),
        "fine synchrony of spikes": lambda: answer.fine_synchrony(trains, n, seed),
        "phase-amplitude coupling": lambda: answer.nesting(field, band, n, seed, indicator_bandwidth),
        "replay": lambda: answer.replayed(trains, position, events, bin_width, n, seed),
        "rank order of events": lambda: answer.orders(trains, events, n, seed),
        "order of recurring states": lambda: answer.recurring(signals, n, seed),
        "missing information": answer.interaction,
    }
    rows = [
        (section, concept, name, statement, *astuple(_asked(ask[name])))
        for name, (section, concept, statement) in MEASURES.items()
    ]
    found = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    found.attrs = {"band": band, "per_token": signals.per_token, **({"note": TOKENS} if signals.per_token else {})}
    return found


def _asked(ask: Callable[[], Answer]) -> Answer:
    """The answer with what was warned of; or why there is none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = ask()
        except NisslError as error:
            found = Answer(np.nan, note=f"not measured: {error}")
    said = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning))
    return replace(found, note="; ".join([*([found.note] if found.note else []), *said]))
