"""The survey of a recording as one HTML file that asks nothing of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.cluster.hierarchy import leaves_list, linkage

from nissl.report import charts
from nissl.report._saving import environment
from nissl.report.survey import Factors, Refused, States, Survey, Wiring

if TYPE_CHECKING:
    from markupsafe import Markup

_ROWS = 80  # units drawn in the first picture
_NAMED = 10  # units named in a list


def render(survey: Survey) -> str:
    """Fill the template; everything it shows is a number, a sentence or a chart made here."""
    made = environment()
    made.tests["refused"] = lambda part: isinstance(part, Refused)
    made.filters["p"] = lambda v: "–" if v != v else f"{v:.3f}" if v >= 0.001 else "<0.001"
    made.filters["sentence"] = lambda v: v[:1].upper() + v[1:].rstrip(".") + "."
    return made.get_template("survey.html").render(
        s=survey,
        overview=_overview(survey),
        drawn=min(_ROWS, survey.shown.sizes["unit"]),
        behaviour=_behaviour(survey),
        missing=_missing(survey),
        states=None if isinstance(survey.states, Refused) else _states(survey, survey.states),
        factors=None if isinstance(survey.factors, Refused) else _factors(survey, survey.factors),
        rhythms=None if isinstance(survey.rhythms, Refused) else _rhythms(survey.rhythms),
        wiring=None if isinstance(survey.wiring, Refused) else _wiring(survey.wiring),
        seconds=sum(survey.seconds.values()),
        time_unit=_unit(survey.shown),
    )


def _overview(s: Survey) -> Markup:
    """All units over all time, those that go together next to each other."""
    x = s.shown.isel(unit=_evenly(s.shown.sizes["unit"], _ROWS))
    order = _order(x)
    return charts.heat(
        x.values[:, order], x["time"].values, [str(n) for n in x["unit"].values[order]], spikes=s.spikes, time_unit=_unit(x),
        label=f"{'Spikes' if s.spikes else 'Activity'} of {len(order)} units over time",
    )  # fmt: skip


def _behaviour(s: Survey) -> Markup | None:
    if s.behaviour is None or s.behaviour.ndim > 2:
        return None
    table = s.behaviour.values.reshape(len(s.behaviour), -1).astype(float)
    names = s.behaviour["variable"].values if "variable" in s.behaviour.coords else ["behaviour"]
    curves = {str(n)[:14]: table[:, i] for i, n in enumerate(names[:6])}
    clock = s.behaviour[s.behaviour.dims[0]].values
    return charts.lines(curves, clock, label="Behaviour over time", spans=s.spans)


def _missing(s: Survey) -> Markup | None:
    worst = s.missing.query("missing > 0").sort_values("missing", ascending=False).head(_NAMED)
    if worst.empty:
        return None
    shares = {str(row.unit)[:14]: float(row.missing) for row in worst.itertuples()}  # type: ignore[attr-defined]
    return charts.bars(
        shares, label="Share of samples missing, the worst units", limit=max(shares.values()), words="{:.1%}"
    )


def _states(s: Survey, part: States) -> dict[str, Any]:
    table = part.table.copy()
    return {
        "ribbon": charts.ribbon(
            part.path.values.astype(int), s.analysed["time"].values, label="State over time", time_unit=_unit(s.analysed)
        ),
        "rows": table.assign(best=table["score"] == table["score"].max()).to_dict("records"),
        "cards": [
            {
                "number": k + 1, "colour": charts.colour(k), "occupancy": float(part.occupancy[k]), "dwell": float(part.dwell[k]),
                "up": _named(part.profile.isel(state=k)), "down": _named(-part.profile.isel(state=k)),
            }
            for k in range(len(part.occupancy))
        ],
        "beats": part.gain > max(part.control, 0),
    }  # fmt: skip


def _named(profile: xr.DataArray, least: float = 0.25, most: int = 6) -> str:
    """The units furthest above their mean."""
    order = np.argsort(-profile.values)[:most]
    return ", ".join(str(profile["unit"].values[i]) for i in order if profile.values[i] > least) or "none"


def _factors(s: Survey, part: Factors) -> dict[str, Any]:
    n = part.courses.sizes["component"]
    curves = {f"factor {k + 1}": part.courses.isel(component=k).values for k in range(n)}
    cards = []
    for k, row in enumerate(part.atlas.to_dict("records")):
        cards.append({"number": k + 1, "colour": charts.colour(k), "row": row, "core": [str(u) for u in row["core"]]})
    return {
        "courses": charts.lines(
            curves,
            part.courses["time"].values,
            label="When each factor is active",
            spans=s.spans,
            time_unit=_unit(s.analysed),
        ),
        "cards": cards,
        "baseline": len(np.unique(part.baseline)),
    }


def _rhythms(table: pd.DataFrame) -> dict[str, Any]:
    """What was measured, a row each, and why the rest was not."""
    had = table["effect"].notna().to_numpy()
    reasons = [
        (str(r["measure"]), str(r["note"]).removeprefix("not measured: ")) for r in table.loc[~had].to_dict("records")
    ]
    return {"rows": table.loc[had].to_dict("records"), "absent": reasons, "band": table.attrs.get("band")}


def _wiring(part: Wiring) -> dict[str, Any]:
    order = _order_of(np.nan_to_num(part.lagged.values + part.lagged.values.T))
    names = [str(n) for n in part.lagged["target"].values[order]]
    p, r = part.test.p, part.lagged.values
    strongest = np.lexsort((-np.abs(np.nan_to_num(r)).ravel(), np.nan_to_num(p, nan=2.0).ravel()))[:8]
    pairs = [
        {
            "source": str(part.lagged["source"].values[j]),
            "target": str(part.lagged["target"].values[i]),
            "r": float(r[i, j]),
            "p": float(p[i, j]),
        }
        for i, j in zip(*np.unravel_index(strongest, r.shape), strict=True)
        if np.isfinite(r[i, j])
    ]
    return {
        "matrix": charts.matrix(
            r[np.ix_(order, order)], names, label="Correlation of each target with each source one step earlier"
        ),
        "pairs": pairs,
        "found": int((p <= 0.05).sum()),
        "count": int(np.isfinite(r).sum()),
        "structure": part.structure if hasattr(part.structure, "table") else None,
        "why_not": part.structure if isinstance(part.structure, str) else None,
    }


def _order(x: xr.DataArray) -> np.ndarray:
    values = charts.columns(x.values)
    z = np.nan_to_num((values - np.nanmean(values, 0)) / np.where(np.nanstd(values, 0) > 0, np.nanstd(values, 0), 1))
    return _order_of(z.T @ z / len(z))


def _order_of(similarity: np.ndarray) -> np.ndarray:
    """Rows that look alike become neighbours."""
    if len(similarity) < 3:
        return np.arange(len(similarity))
    return leaves_list(linkage(similarity, "average", optimal_ordering=len(similarity) <= 200))


def _evenly(n: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def _unit(x: xr.DataArray) -> str:
    return "tokens" if x.attrs.get("time_unit") == "token" else "s"
