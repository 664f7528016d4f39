"""One recording, looked over and tested: everything its report shows, computed first and drawn later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nissl.report._saving import Saved, number, plain
from nissl.statistics import SurrogateTest


@dataclass(frozen=True)
class Refused:
    """A part that could not be had for this recording, and why."""

    reason: str


@dataclass(frozen=True)
class States:
    """Hidden states of the population.

    Attributes
    ----------
    path
        `(time,)`: the most probable state of each bin.
    coupled
        Whether the best model has couplings between units.
    table
        Held-out log likelihood a model: `model`, `score`, in nats a spike (a value, for traces).
    occupancy, dwell
        Share of bins and mean seconds a visit, state by state.
    profile
        `(state, unit)`: mean activity of each unit in each state, z-scored over the recording.
    control
        What the states gain over a single one of the same kind when every unit is shifted by a lag of its own.
    gain
        What they gain over it on the recording itself.
    """

    path: xr.DataArray
    coupled: bool
    table: pd.DataFrame
    occupancy: np.ndarray
    dwell: np.ndarray
    profile: xr.DataArray
    gain: float
    control: float


@dataclass(frozen=True)
class Factors:
    """Groups of units that change together, and when.

    Attributes
    ----------
    courses
        `(time, component)`.
    communities
        `(component, unit)`: the community of each unit at the finest level.
    atlas
        A row a component.
    explained, control
        Share of the affinities' variance, and the same when every unit is shifted by a lag of its own.
    baseline
        Communities of the plain correlation matrix, by Leiden: one label a unit.
    agreement
        Adjusted Rand index between the first component's communities and the baseline's.
    """

    courses: xr.DataArray
    communities: xr.DataArray
    atlas: pd.DataFrame
    explained: float
    control: float
    baseline: np.ndarray
    agreement: float


@dataclass(frozen=True)
class Wiring:
    """Which units lead which.

    Attributes
    ----------
    lagged
        `(target, source)`: correlation of the target now with the source a step ago.
    test
        The same against shifted units, corrected for the number of pairs.
    structure
        Beside a wiring diagram, where the names are known; else why not.
    """

    lagged: xr.DataArray
    test: SurrogateTest
    step: float
    structure: Any


@dataclass(frozen=True)
class Decoding:
    """What of the behaviour can be read from the population, by ridge regression on stretches of time that were held out.

    Attributes
    ----------
    table
        A row a variable: `variable`, `correlation`, `control` (mean over shifted behaviour), `p`.
    """

    table: pd.DataFrame


@dataclass(frozen=True)
class Survey(Saved):
    """What a recording holds, and how far each statement was tested. Made by `nissl.report.survey`."""

    title: str
    spikes: bool
    shown: xr.DataArray
    analysed: xr.DataArray
    missing: pd.DataFrame
    left_out: dict[str, list[str]]
    spans: list[tuple[float, float, str]]
    behaviour: xr.DataArray | None
    states: States | Refused
    factors: Factors | Refused
    rhythms: pd.DataFrame | Refused
    wiring: Wiring | Refused
    decoding: Decoding | Refused
    facts: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """A few sentences in plain words, from the measured numbers."""
        return " ".join(s for s in (self._about(), self._of_states(), self._of_wiring(), self._of_decoding()) if s)

    def _about(self) -> str:
        kind = "spiking" if self.spikes else "traced"
        start, stop = float(self.shown["time"][0]), float(self.shown["time"][-1])
        lost = float(self.missing["missing"].to_numpy().mean())
        gaps = f", {lost:.1%} of it missing" if lost else ", nothing missing"
        tokens = self.shown.attrs.get("time_unit") == "token"
        over = f"{self.shown.sizes['time']} tokens" if tokens else _duration(stop - start)
        return f"{self.shown.sizes['unit']} {kind} units over {over}{gaps}."

    def _of_states(self) -> str:
        if isinstance(self.states, Refused):
            return ""
        n, unit = len(self.states.occupancy), "a spike" if self.spikes else "a value"
        if n < 2 or self.states.gain <= max(self.states.control, 0):
            return "No states stand out: one alone predicts held-out activity as well."
        return (
            f"{n} states predict held-out activity better than one, by {number(self.states.gain)} nats {unit} "
            f"({number(self.states.control)} after shifting the units against each other)."
        )

    def _of_wiring(self) -> str:
        if isinstance(self.wiring, Refused):
            return ""
        found = int((self.wiring.test.p <= 0.05).sum())
        pairs = int(np.isfinite(self.wiring.lagged.values).sum())
        return f"{found or 'None'} of {pairs} directed pairs go together a step apart beyond chance."

    def _of_decoding(self) -> str:
        if isinstance(self.decoding, Refused) or self.decoding.table.empty:
            return ""
        best = self.decoding.table.sort_values("correlation", ascending=False).iloc[0]
        if best["p"] > 0.05:
            return "The behaviour cannot be read from the units beyond chance."
        return (
            f"“{best['variable']}” can be read from the units: r = {number(best['correlation'])} on held-out stretches "
            f"({number(best['control'])} by chance)."
        )

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        figures = {
            "title": self.title,
            "verdict": self.verdict,
            "units": self.shown.sizes["unit"],
            "left_out": self.left_out,
            "missing": float(self.missing["missing"].to_numpy().mean()),
            "states": self._part(self.states, _states_figures),
            "factors": self._part(self.factors, _factors_figures),
            "rhythms": self._part(self.rhythms, lambda r: r.to_dict("records")),
            "wiring": self._part(self.wiring, _wiring_figures),
            "decoding": self._part(self.decoding, lambda d: d.table.to_dict("records")),
            "facts": self.facts,
            "seconds": self.seconds,
        }
        return plain(figures)

    @staticmethod
    def _part(part: Any, figures: Any) -> Any:
        return {"refused": part.reason} if isinstance(part, Refused) else figures(part)

    def to_html(self) -> str:
        """The self-contained page."""
        from nissl.report.survey_page import render

        return render(self)


def _states_figures(s: States) -> dict[str, Any]:
    return {
        "table": s.table.to_dict("records"), "occupancy": s.occupancy.tolist(), "dwell_seconds": s.dwell.tolist(), "gain": s.gain, "control": s.control,
    }  # fmt: skip


def _factors_figures(f: Factors) -> dict[str, Any]:
    return {
        "components": f.courses.sizes["component"], "explained": f.explained, "control": f.control, "agreement_with_leiden": f.agreement,
        "atlas": f.atlas.to_dict("records"),
    }  # fmt: skip


def _wiring_figures(w: Wiring) -> dict[str, Any]:
    out = {
        "pairs": int(np.isfinite(w.lagged.values).sum()),
        "beyond_chance": int((w.test.p <= 0.05).sum()),
        "step_seconds": w.step,
    }
    if hasattr(w.structure, "table"):
        out["structure"] = w.structure.table.reset_index().to_dict("records")
    return out


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
