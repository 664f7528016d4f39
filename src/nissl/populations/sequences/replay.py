"""Replay: positions decoded from short events, and whether they run along the track more than chance lets them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from nissl.errors import InputError, unknown
from nissl.populations._spike_trains import as_spike_trains
from nissl.populations.sequences.events import event_counts
from nissl.populations.sequences.place_fields import Positions, fields_of
from nissl.populations.sequences.trajectories import (
    Method,
    in_events,
    position_moments,
    reordered_null,
    score_trajectory,
    shifted_null,
    weighted_correlation,
)
from nissl.recordings._traces import listed
from nissl.statistics import SurrogateTest, against, permutations

Shuffle = Literal["identity", "position", "order"]
BUDGET = 4_000_000  # probabilities decoded at once


class ReplayDecoder(BaseEstimator):
    """Memoryless Bayesian decoder of position, and scores of the trajectories that it finds in short events.

    P(x | k) is proportional to prod_i lambda_i(x)^k_i exp(-dt sum_i lambda_i(x)): Poisson spikes k in bins of dt seconds, a flat prior. Bins
    without spikes count too: silence is evidence against places where many cells fire.

    Parameters
    ----------
    bin_width
        Seconds a bin of an event.
    n_positions
        Bins of the track.
    smoothing
        Standard deviation of the Gaussian that smooths place fields, in position bins.
    min_speed
        Samples at which the animal is slower are left out of the fit (units of position a second).
    floor
        Least rate of a field, hertz, so that one stray spike forbids no place.
    min_bins, min_active
        Events with fewer bins or fewer active cells are not scored.

    Attributes
    ----------
    fields_ : xarray.DataArray
        `(unit, position)`, hertz.
    occupancy_ : xarray.DataArray
        `(position)`, seconds.
    units_ : ndarray
        Names of the units, in order.

    Examples
    --------
    >>> from nissl.recordings.simulate import place_cells, replay_events
    >>> run = place_cells(seed=1)
    >>> decoder = ReplayDecoder().fit(run, run.position)
    >>> scores = decoder.score(replay_events(run, 20, order="reverse", seed=1), n_shuffles=200)
    >>> bool((scores.p < 0.05).mean() > 0.8), bool((scores.slope < 0).mean() > 0.9)
    (True, True)

    Notes
    -----
    Zhang et al. 1998 (decoder), Davidson et al. 2009 (lines), Grosmark and Buzsaki 2016 (weighted correlation); both shuffles after Tingley
    and Peyrache 2020, who show how one alone lets false positives in.
    """

    fields_: xr.DataArray
    occupancy_: xr.DataArray
    units_: np.ndarray

    def __init__(
        self,
        *,
        bin_width: float = 0.02,
        n_positions: int = 50,
        smoothing: float = 1.5,
        min_speed: float | None = None,
        floor: float = 0.01,
        min_bins: int = 5,
        min_active: int = 5,
    ) -> None:
        self.bin_width = bin_width
        self.n_positions = n_positions
        self.smoothing = smoothing
        self.min_speed = min_speed
        self.floor = floor
        self.min_bins = min_bins
        self.min_active = min_active

    def fit(self, spikes: Any, position: Any) -> ReplayDecoder:
        """Place fields from a run.

        Parameters
        ----------
        spikes
            A recording with `spike_time` and `spike_unit`, or a mapping from unit to times in seconds.
        position
            DataArray `(time)` with its clock in seconds, or an array `(time, 2)` of times and positions; NaN where unknown.

        Raises
        ------
        InputError
            Settings outside their range, no spike during the run, places never visited.
        """
        self._check()
        trains, run = as_spike_trains(spikes), Positions.of(position)
        edges = np.linspace(run.low, run.high, self.n_positions + 1)
        rates, occupancy = fields_of(trains, run, edges, self.smoothing, self.min_speed)
        silent = rates.max(1) == 0
        if silent.all():
            raise InputError(
                "no spike while the animal moved with known position; compare the clocks of spikes and position"
            )
        if silent.any():
            warnings.warn(f"silent during the run: {listed(trains.names[silent])}; they take no part", stacklevel=2)
        centres = (edges[1:] + edges[:-1]) / 2
        kept = ~silent
        self.units_ = trains.names[kept]
        self.fields_ = xr.DataArray(
            np.maximum(rates[kept], self.floor), dims=("unit", "position"),
            coords={"unit": self.units_, "position": centres}, name="rate", attrs={"units": "Hz"},
        )  # fmt: skip
        self.occupancy_ = xr.DataArray(occupancy, dims="position", coords={"position": centres}, attrs={"units": "s"})
        return self

    def decode(self, events: Any, spikes: Any = None) -> xr.DataArray:
        """Posterior of position in every bin of every event.

        Parameters
        ----------
        events
            Counts `(event, bin, unit)` (NaN pads shorter events); a recording with spike times and `event_start`, `event_stop`; or a table
            with columns `start` and `stop`, in seconds.
        spikes
            Where `events` has none of its own.

        Returns
        -------
        xarray.DataArray
            `(event, bin, position)`; sums to 1 over position, NaN in bins that an event does not have.
        """
        check_is_fitted(self)
        counts, real = event_counts(events, spikes, self.units_, self.bin_width)
        out = np.full((*real.shape, self.fields_.sizes["position"]), np.nan)
        out[real] = self._posterior(counts[real], np.log(self.fields_.values))
        return xr.DataArray(
            out, dims=("event", "bin", "position"), coords={"position": self.fields_["position"].values}, name="posterior",
            attrs={"bin_width": self.bin_width},
        )  # fmt: skip

    def score(
        self,
        events: Any,
        spikes: Any = None,
        *,
        method: Method = "weighted_correlation",
        within: int = 3,
        shuffles: Sequence[Shuffle] = ("identity", "position"),
        n_shuffles: int = 500,
        current: Any = None,
        seed: int = 0,
    ) -> pd.DataFrame:
        """How well each event runs along the track, against shuffles all of which it must beat.

        Parameters
        ----------
        events, spikes
            As for `decode`.
        method
            `weighted_correlation` of time and position under the posterior; `line`, the probability within `within` position bins of the
            best straight line (slower: each shuffle searches its own).
        shuffles
            `identity`: place fields dealt out to other cells; `position`: each bin's posterior moved around the track by a
            lag of its own; `order`: the event's bins in random order, which keeps every posterior as it is and is the
            strictest.
        n_shuffles
            Of each kind.
        current
            Where the animal is at each event, for `remote` (further from the decoded start than a fifth of the track).

        Returns
        -------
        pandas.DataFrame
            A row an event: `bins`, `active` cells, `score` (signed for correlations), `slope` (units of position a second; negative runs down
            the track), `begin` and `end` (decoded position of the first and last bin), `p_identity`, `p_position`, `p` (the largest), `q` (the
            same over all events at once, Benjamini and Hochberg), `direction` ("up" or "down"), `reason` where an event was not scored and its
            figures are NaN.

        Raises
        ------
        InputError, UnknownNameError
            Units that were not fitted, events without spikes of their own, an unknown method.
        """
        check_is_fitted(self)
        if method not in get_args(Method):
            raise unknown("method", method, get_args(Method))
        for kind in shuffles:
            if kind not in get_args(Shuffle):
                raise unknown("shuffle", kind, get_args(Shuffle))
        if n_shuffles < 1 or within < 0 or not len(shuffles):
            raise InputError(
                f"{n_shuffles} shuffles of {len(shuffles)} kinds within {within} bins; give 1 of 1 kind and 0 bins or more"
            )
        counts, real = event_counts(events, spikes, self.units_, self.bin_width)
        table = self._described(counts, real, shuffles)
        usable = table["reason"].to_numpy() == ""
        if usable.any():
            found = self._scored(counts[usable], real[usable], method, within, shuffles, n_shuffles, seed)
            for name, values in found.items():
                table.loc[usable, name] = values
            table["p"] = table[[f"p_{k}" for k in shuffles]].max(axis=1, skipna=False)
            table.loc[usable, "q"] = _false_discovery(table["p"].to_numpy()[usable])
            table["direction"] = np.where(table["slope"] > 0, "up", np.where(table["slope"] < 0, "down", ""))
        if current is not None:
            here = np.broadcast_to(np.asarray(current, dtype=float), (len(table),))
            place = self.fields_["position"].values
            far = (table["begin"] - here).abs() > 0.2 * (place[-1] - place[0])
            table["remote"] = far.where(table["begin"].notna() & ~np.isnan(here))
        return table

    def false_positives(
        self, events: Any, spikes: Any = None, *, level: float = 0.05, repeats: int = 1, seed: int = 0, **options: Any
    ) -> float:
        """Share of events that pass the shuffles after their own bins were put in random order: same spikes, no sequence.

        Parameters
        ----------
        level
            p below which an event passes.
        repeats
            Random orders an event.
        options
            As for `score`.
        """
        check_is_fitted(self)
        counts, real = event_counts(events, spikes, self.units_, self.bin_width)
        counts = np.where(real[..., None], counts, np.nan)
        rng = np.random.default_rng(seed)
        copies = np.repeat(counts, repeats, 0)
        keys = np.where(np.repeat(real, repeats, 0), rng.random((len(copies), real.shape[1])), np.inf)
        copies = np.take_along_axis(copies, keys.argsort(1)[..., None], 1)
        p = self.score(copies, seed=seed + 1, **options)["p"].dropna().to_numpy()
        if not len(p):
            raise InputError("no event is long enough or has enough active cells; nothing to count")
        return float((p < level).mean())

    def validate(
        self,
        spikes: Any,
        position: Any,
        *,
        n_splits: int = 5,
        bin_width: float = 0.25,
        n_shuffles: int = 200,
        seed: int = 0,
    ) -> SurrogateTest:
        """Median error of positions decoded in stretches of the run that were held out, against decoded positions shifted in time.

        A decoder tested on the run it was fitted to flatters. `bin_width` is that of running, in seconds; the error is in units of position.
        """
        self._check()
        trains, run = as_spike_trains(spikes), Positions.of(position)
        limits = np.linspace(run.time[0], run.time[-1], n_splits + 1)
        if n_splits < 2 or limits[1] - limits[0] < 4 * bin_width:
            raise InputError(
                f"{n_splits} splits of {run.time[-1] - run.time[0]:.4g} s; give two or more, of four bins or more each"
            )
        decoded, actual = [], []
        edges = np.linspace(run.low, run.high, self.n_positions + 1)
        centres = (edges[1:] + edges[:-1]) / 2
        for a, b in pairwise(limits):
            rates, _ = fields_of(trains, run, edges, self.smoothing, self.min_speed, without=(a, b))
            logs = np.log(np.maximum(rates, self.floor))
            bins = np.arange(a, b, bin_width)
            posterior = _posterior(trains.binned(bins).astype(float), logs, bin_width)
            decoded.append(centres[posterior.argmax(1)])
            actual.append(np.interp((bins[1:] + bins[:-1]) / 2, run.time, run.position))
        guess, truth = np.concatenate(decoded), np.concatenate(actual)
        known = ~np.isnan(truth)
        guess, truth = guess[known], truth[known]
        lags = np.random.default_rng(seed).integers(len(guess) // 10 + 1, len(guess) - len(guess) // 10, n_shuffles)
        null = [np.median(np.abs(np.roll(guess, lag) - truth)) for lag in lags]
        return against(float(np.median(np.abs(guess - truth))), null, name="median decoding error", tail="less")

    def _scored(
        self,
        counts: np.ndarray,
        real: np.ndarray,
        method: Method,
        within: int,
        shuffles: Sequence[Shuffle],
        n: int,
        seed: int,
    ) -> dict[str, np.ndarray]:
        logs, place = np.log(self.fields_.values), self.fields_["position"].values
        flat = self._posterior(counts[real], logs)
        score, slope = score_trajectory(flat, real, method, within)
        null = {
            "identity": lambda: self._identity(counts[real], logs, real, method, within, n, seed),
            "position": lambda: shifted_null(flat, real, method, within, n, np.random.default_rng([seed, 1])),
            "order": lambda: reordered_null(flat, real, method, within, n, np.random.default_rng([seed, 2])),
        }
        mean = flat @ place
        last = np.cumsum(real.sum(1))
        return {
            "score": score,
            "slope": slope * (place[1] - place[0]) / self.bin_width,
            "begin": mean[last - real.sum(1)],
            "end": mean[last - 1],
            **{f"p_{k}": against(np.abs(score), np.abs(null[k]())).p for k in shuffles},
        }

    def _identity(
        self, counts: np.ndarray, logs: np.ndarray, real: np.ndarray, method: Method, within: int, n: int, seed: int
    ) -> Float[np.ndarray, "shuffle event"]:
        """Scores with place fields dealt out to other cells; the sum of rates, and so the price of silence, stays."""
        orders = permutations(len(logs), n, seed=seed)
        silence = self.bin_width * np.exp(logs).sum(0)
        size = logs.shape[1]
        batch = max(1, BUDGET // max(len(counts) * size, 1))
        out = []
        for start in range(0, n, batch):
            dealt = logs[orders[start : start + batch]].transpose(1, 0, 2)  # (unit, shuffle, position)
            work = (counts @ dealt.reshape(len(logs), -1)).reshape(len(counts), -1, size)
            work -= silence
            work -= work.max(-1, keepdims=True)
            np.exp(work, out=work)
            total = work.sum(-1)
            if method == "line":
                posteriors = np.moveaxis(work / total[..., None], 1, 0)
                out += [score_trajectory(p, real, method, within)[0] for p in posteriors]
                continue
            first, second = (in_events((m / total).T, real) for m in position_moments(work))
            out += list(weighted_correlation(first, second, real)[0])
        return np.stack(out)

    def _posterior(self, counts: np.ndarray, logs: np.ndarray) -> np.ndarray:
        return _posterior(counts, logs, self.bin_width)

    def _described(self, counts: np.ndarray, real: np.ndarray, shuffles: Sequence[Shuffle]) -> pd.DataFrame:
        bins, active = real.sum(1), (counts.sum(1) > 0).sum(1)
        reason = np.where(bins < self.min_bins, f"fewer than {self.min_bins} bins", "")
        reason = np.where(
            (reason == "") & (active < self.min_active), f"fewer than {self.min_active} active cells", reason
        )
        table = pd.DataFrame({"bins": bins, "active": active}).rename_axis("event")
        for name in ("score", "slope", "begin", "end", *(f"p_{k}" for k in shuffles), "p", "q"):
            table[name] = np.nan
        return table.assign(direction="", reason=reason)

    def _check(self) -> None:
        if not (self.bin_width > 0 and self.n_positions >= 4 and self.smoothing >= 0 and self.floor > 0):
            raise InputError(
                f"bin_width {self.bin_width}, n_positions {self.n_positions}, smoothing {self.smoothing}, floor {self.floor}; give widths and "
                "a floor above 0, four positions or more and a smoothing of 0 or more"
            )
        if self.min_bins < 3 or self.min_active < 1:
            raise InputError(
                f"min_bins {self.min_bins} and min_active {self.min_active}; a trajectory needs 3 bins and 1 cell or more"
            )


def _posterior(
    counts: Float[np.ndarray, "bin unit"], logs: Float[np.ndarray, "unit position"], width: float
) -> Float[np.ndarray, "bin position"]:
    work = counts @ logs - width * np.exp(logs).sum(0)
    work = np.exp(work - work.max(-1, keepdims=True))
    return work / work.sum(-1, keepdims=True)


def _false_discovery(p: Float[np.ndarray, "event"]) -> Float[np.ndarray, "event"]:
    from scipy.stats import false_discovery_control

    return false_discovery_control(p)
