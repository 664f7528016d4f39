"""The answers of the dynamics report: one function a measure, each with its control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import binom, binomtest

from nissl.errors import InputError
from nissl.populations._spike_trains import SpikeTrains
from nissl.populations.attractors import discover_patterns, overlaps, transitions, visits
from nissl.populations.rhythms import (
    comodulogram,
    dimensionality,
    phase_locking,
    population_synchrony,
    spike_covariance,
    spike_phase,
)
from nissl.populations.rhythms._signals import Signals
from nissl.populations.rhythms.spectra import peaks
from nissl.populations.sequences.rank_order import rank_order
from nissl.populations.sequences.replay import ReplayDecoder
from nissl.populations.sparseness import Kind, as_rates, sparseness_test
from nissl.populations.weights.weight_statistics import WeightStatistics
from nissl.recordings import as_traces
from nissl.statistics import SurrogateTest, against, phase_randomised

MOST_UNITS = 40  # pairs grow with the square
MOST_MOMENTS = 3000  # states are looked for anew in every surrogate


@dataclass(frozen=True)
class Answer:
    """An effect, its control, and what was done."""

    effect: float
    control: float = np.nan
    sd: float = np.nan
    z: float = np.nan
    p: float = np.nan
    n: int = 0
    note: str = ""


def _of_test(test: SurrogateTest, n: int, note: str = "") -> Answer:
    return Answer(float(test.effect), float(test.mean), float(test.sd), float(test.z), float(test.p), n, note)


def traces_of(recording: Any, trains: SpikeTrains | None, width: float, rate: float | None) -> xr.DataArray:
    """Traces as they are, or spikes counted in bins."""
    if trains is None or (isinstance(recording, xr.Dataset) and ("activity" in recording or "spikes" in recording)):
        return as_traces(recording, ("trial", "time", "unit"), rate=rate, constant="keep")
    start = float(trains.times.min())
    edges = start + width * np.arange(int((trains.times.max() - start) / width) + 2)
    active = trains.counts > 0
    return xr.DataArray(
        trains.binned(edges)[:, active].astype(float), dims=("time", "unit"),
        coords={"time": edges[:-1] + width / 2, "unit": trains.names[active]}, attrs={"bin_width": width},
    )  # fmt: skip


def changing(traces: xr.DataArray) -> xr.DataArray:
    """Traces without the units that never change."""
    others = [d for d in traces.dims if d != "unit"]
    still = (traces.max(others) == traces.min(others)).values
    if still.all():
        raise InputError("no unit ever changes; there are no dynamics to measure")
    return traces.isel(unit=~still)


def rhythm(signals: Signals, indicator_bandwidth: float | None) -> tuple[float, float] | None:
    """The band, among those half an octave wide, in which most units have a peak; None where no band has more than chance gives."""
    longest = max(w.stop - w.start for w, _ in signals.stretches()) / signals.rate
    bandwidth = indicator_bandwidth or signals.like.attrs.get("indicator_bandwidth")
    top = 0.4 * signals.rate if bandwidth is None else min(0.4 * signals.rate, float(bandwidth) / 4)
    low = 20 / longest
    if low * 1.5 >= top:
        return None
    centres = np.geomspace(low * 1.2, top / 1.25, max(2, round(4 * np.log2(top / low))))
    bands = [(float(c / 1.2), float(c * 1.2)) for c in centres]
    tables = [peaks(signals, b) for b in bands]
    passed = np.array([(t["p"].to_numpy() < 0.01).sum() for t in tables])
    height = np.array([np.nan_to_num(t["ratio"].to_numpy()).mean() for t in tables])
    # As many units with a peak as chance gives once in twenty, over all bands, are no rhythm.
    if binom.sf(passed.max() - 1, len(signals.names), 0.01) > 0.05 / len(bands) and not (
        min(np.nan_to_num(t["p"].to_numpy(), nan=1.0).min() for t in tables) < 0.05 / len(bands) / len(signals.names)
    ):
        return None
    best = int(np.lexsort((height, passed))[-1])
    # The band is centred on the peak itself: the bands tried lie a quarter octave apart.
    centre = float(np.nanmedian(tables[best]["frequency"]))
    return centre / 1.3, min(centre * 1.3, 0.95 * signals.rate / 2)


def _strongest(signals: Signals, band: tuple[float, float], most: int) -> xr.DataArray:
    ratio = np.nan_to_num(peaks(signals, band)["ratio"].to_numpy(), nan=-1)
    return signals.like.isel(unit=np.sort(np.argsort(-ratio)[:most]))


def _need(band: tuple[float, float] | None) -> tuple[float, float]:
    if band is None:
        raise InputError(
            "no band in which units have a spectral peak above their 1/f background; give band=(low, high) to ask about one"
        )
    return band


def mean_sparseness(traces: xr.DataArray, kind: Kind, n: int, seed: int) -> Answer:
    x = as_traces(traces, ("trial", "time", "unit"), constant="keep")
    signed = bool((x.values < 0).any())
    _, rates = as_rates(abs(x - x.median(("trial", "time"))) if signed else x)
    test = sparseness_test(rates, kind, "treves_rolls", n_surrogates=n, seed=seed)
    known = ~np.isnan(test.effect)
    mean = against(float(test.effect[known].mean()), test.surrogates[:, known].mean(1), name=test.name)
    return _of_test(
        mean, int(known.sum()), "of distances from each unit's median, since activity has both signs" if signed else ""
    )


def dimensions(signals: Signals, n: int, seed: int) -> Answer:
    row = dimensionality(signals.like, n_surrogates=n, seed=seed).loc["participation ratio"]
    return Answer(*_figures(row), n=len(signals.names))


def heavy_tail(weights: Any, wiring: Callable[[], WeightStatistics]) -> Answer:
    fits = _given(weights, wiring).fits
    if not len(fits):
        raise InputError("all weights have one size")
    aic = {str(k): float(v) for k, v in zip(fits.index, fits["aic"].to_numpy(), strict=True)}
    own = aic.pop("log-normal")
    best = min(aic, key=lambda k: aic[k])
    note = f"AIC of a log-normal distribution, less is better; control: {best}, the best of the others"
    return Answer(own, aic[best], n=wiring().edges, note=note)


def graph(weights: Any, wiring: Callable[[], WeightStatistics], measure: str) -> Answer:
    row = _given(weights, wiring).tests.loc[measure]
    return Answer(*_figures(row), n=wiring().edges, note="control: rewired, same degrees")


def _figures(row: Any) -> tuple[float, ...]:
    return tuple(float(row[k]) for k in ("effect", "surrogate_mean", "surrogate_sd", "z", "p"))


def _given(weights: Any, wiring: Callable[[], WeightStatistics]) -> WeightStatistics:
    if weights is None:
        raise InputError("no weights given; weights= takes a connectome or recurrent weights (target, source)")
    return wiring()


def synchrony(signals: Signals, n: int, seed: int) -> Answer:
    return _of_test(population_synchrony(signals.like, n_surrogates=n, seed=seed), len(signals.names))


def locking(field: Signals, band: Any, chosen: bool, n: int, seed: int, bandwidth: float | None) -> Answer:
    low, high = _need(band)
    x = _strongest(field, (low, high), MOST_UNITS)
    found = phase_locking(
        x, (low, high), n_surrogates=n, seed=seed, check_peak=not chosen, indicator_bandwidth=bandwidth, correct="max"
    )
    pairs = found.effect.values[np.triu_indices(x.sizes["unit"], 1)]
    p = found.p.values[np.triu_indices(x.sizes["unit"], 1)]
    best = np.unravel_index(np.nanargmax(np.nan_to_num(found.z.values, nan=-np.inf)), found.z.shape)
    figures = (float(found[k].values[best]) for k in ("effect", "surrogate_mean", "surrogate_sd", "z", "p"))
    note = f"PPC at {low:.3g}-{high:.3g}; best of {len(pairs)} pairs, p for all; {(p < 0.05).mean():.0%} of pairs pass"
    return Answer(*figures, n=len(pairs), note=note)


def spikes_on_phase(trains: Any, lfp: Any, band: Any, n: int, seed: int) -> Answer:
    if trains is None or lfp is None:
        raise InputError("spike times and a field potential are needed; lfp= takes one (time, channel)")
    found = spike_phase(trains, lfp, _need(band), n_surrogates=n, correct="max", seed=seed)
    return _best_of(found, f"best of {found.sizes['unit']} units")


def fine_synchrony(trains: Any, n: int, seed: int) -> Answer:
    if trains is None:
        raise InputError("spike times are needed")
    busiest = np.argsort(-trains.counts)[:MOST_UNITS]
    chosen = {str(trains.names[u]): trains.times[trains.unit == u] for u in busiest if trains.counts[u]}
    found = spike_covariance(chosen, n_surrogates=n, seed=seed, correct="max")
    return _best_of(found, "largest covariance of counts in 5 ms beyond 20 ms of jitter")


def _best_of(found: xr.Dataset, note: str) -> Answer:
    """The cell that stands out most from its surrogates; p is corrected for all cells already."""
    z = np.nan_to_num(found.z.values, nan=-np.inf)
    best = np.unravel_index(z.argmax(), z.shape)
    cells = int(np.isfinite(found.p.values).sum())
    if not cells:
        raise InputError("nothing could be tested; too few spikes")
    figures = (float(found[k].values[best]) for k in ("effect", "surrogate_mean", "surrogate_sd", "z", "p"))
    return Answer(*figures, n=cells, note=f"{note}, p for all")


def nesting(field: Signals, band: Any, n: int, seed: int, bandwidth: float | None) -> Answer:
    low, high = _need(band)
    centre, top = (low + high) / 2, 0.45 * field.rate
    first = 2.5 * high + low
    if first + high >= top:
        raise InputError(f"{field.rate:g} samples a second leave no room for a fast rhythm above one at {centre:.3g}")
    fast = np.linspace(first, min(top - high, 20 * centre), 12)
    x = _strongest(field, (low, high), 4)
    found = comodulogram(
        x, phase=np.array([centre]), amplitude=fast, phase_bandwidth=high - low, amplitude_bandwidth=2 * high, n_surrogates=max(n, 200), seed=seed,
        indicator_bandwidth=bandwidth, progress=False,
    )  # fmt: skip
    best = np.unravel_index(np.nanargmax(found.z.values), found.z.shape)
    figures = (float(found[k].values[best]) for k in ("effect", "surrogate_mean", "surrogate_sd", "z"))
    p = min(float(found.p.values[best]) * found.sizes["unit"], 1.0)
    note = f"phase at {low:.3g}-{high:.3g}, best amplitude at {float(found.amplitude[best[1]]):.3g}, p for all {len(fast)} bands and {found.sizes['unit']} units"
    return Answer(*figures, p=p, n=found.sizes["unit"], note=note)


def replayed(trains: Any, position: Any, events: Any, width: float, n: int, seed: int) -> Answer:
    if trains is None or position is None or events is None:
        raise InputError("spike times, position= of a run and events= are needed")
    decoder = ReplayDecoder(bin_width=width).fit(trains, position)
    spikes = None if isinstance(events, xr.Dataset) and "spike_time" in events else trains
    scores = decoder.score(events, spikes, n_shuffles=max(n, 200), seed=seed)
    p = scores["p"].dropna().to_numpy()
    if not len(p):
        raise InputError("no event has enough bins and active cells")
    false = decoder.false_positives(events, spikes, n_shuffles=max(n, 200), seed=seed)
    hits = int((p < 0.05).sum())
    chance = max(false, 0.05)
    return Answer(
        hits / len(p), false, float(np.sqrt(chance * (1 - chance) / len(p))), n=len(p),
        p=float(binomtest(hits, len(p), chance, alternative="greater").pvalue),
        note="share of events that pass both shuffles; control: their bins in random order",
    )  # fmt: skip


def orders(trains: Any, events: Any, n: int, seed: int) -> Answer:
    if events is None or (trains is None and not isinstance(events, xr.Dataset)):
        raise InputError("spike times and events= are needed")
    spikes = None if isinstance(events, xr.Dataset) and "spike_time" in events else trains
    found = rank_order(events, spikes, n_permutations=n, seed=seed)
    return _of_test(found.test, found.rank.sizes["event"])


def recurring(signals: Signals, n: int, seed: int, states: int = 6) -> Answer:
    x = signals.like.transpose("trial", "time", "unit")
    keep = ~np.isnan(x.values).any((0, 2))
    x = x.isel(time=keep)
    if x.sizes["time"] < 50 or x.sizes["unit"] < 3:
        raise InputError(
            f"{x.sizes['time']} moments without gaps of {x.sizes['unit']} units; recurring states need 50 and 3"
        )
    x = x.isel(time=slice(MOST_MOMENTS)).values
    z = (x - x.mean((0, 1))) / x.std((0, 1))
    # A copy keeps the spectra and all linear relations: any smooth path visits neighbouring states in turn.
    copies = phase_randomised(z, min(n, 50), axis=1, keep_cross=True, seed=seed)
    effect, count = _next_entropy(z, states, seed)
    test = against(effect, [_next_entropy(c, states, seed)[0] for c in copies], name="order of states", tail="less")
    note = f"entropy of the next of {states} states found, bits, beside copies with the same linear dynamics; less is more orderly"
    return _of_test(test, count, note)


def _next_entropy(z: np.ndarray, states: int, seed: int) -> tuple[float, int]:
    """Mean entropy of what follows a state, and the number of stays."""
    stays = visits(overlaps(z, discover_patterns(z, states, seed=seed), method="cosine"), threshold=0.3)
    table = transitions(stays, states).values
    if table.sum() < 3 * states:
        raise InputError(f"{len(stays)} stays in {states} states found; too few for an order")
    leaving = table.sum(0)
    share = table / np.maximum(leaving, 1)
    each = -np.where(share > 0, share * np.log2(np.where(share > 0, share, 1)), 0).sum(0)
    return float((each * leaving).sum() / leaving.sum()), len(stays)


def interaction() -> Answer:
    raise InputError("a recording has no agent in it that acts; learning.ExplorationAgent measures those that have")
