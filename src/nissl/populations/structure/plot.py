"""The picture of a comparison of structure and function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nissl.populations.structure.statistics import STATISTICS

if TYPE_CHECKING:
    from nissl.populations.structure.structure_function import StructureFunction

# Okabe and Ito's colours, told apart by everybody.
COLOURS = {"value": "#0072B2", "permuted": "#999999", "rewired": "#E69F00"}
LABELS = {
    "enrichment": "functional pairs, connected over unconnected",
    "auc": "area under the curve, functional strength against connected or not",
    "rank_correlation": "rank correlation of weight and functional strength",
}
CHANCE = {"enrichment": 1.0, "auc": 0.5, "rank_correlation": 0.0}


def plot(result: StructureFunction, statistic: str, ax: Any) -> Any:
    """Draw one row a kind (and layer): the value with its interval, above the nulls' middle 95%."""
    import matplotlib.pyplot as plt

    rows = result.table.xs(statistic, level="statistic")
    if ax is None:
        _, ax = plt.subplots(figsize=(6.2, 1.3 + 0.75 * len(rows)), layout="constrained")
    column = STATISTICS.index(statistic)
    for y, ((layer, kind), row) in enumerate(zip(rows.index.to_list(), rows.to_dict("records"), strict=True)):
        for shift, null in ((0.16, "permuted"), (0.32, "rewired")):
            chance = result.tests[layer][kind][null].surrogates[:, column]
            low, high = np.nanquantile(chance, [0.025, 0.975])
            ax.plot(
                [low, high],
                [y + shift] * 2,
                color=COLOURS[null],
                lw=7,
                solid_capstyle="butt",
                label=f"{null}, 95%" if y == 0 else None,
            )
        ax.plot(
            [row["low"], row["high"]],
            [y, y],
            color=COLOURS["value"],
            lw=1.6,
            label="measured, 95% interval" if y == 0 else None,
        )
        ax.plot(row["value"], y, "o", color=COLOURS["value"], ms=7)
        ax.annotate(
            f"{row['value']:.2f}", (row["value"], y), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9
        )
    ax.axvline(CHANCE[statistic], color="0.7", lw=0.8, zorder=0)
    ax.set_yticks(range(len(rows)), [" ".join(p for p in index if p) for index in rows.index.to_list()])
    ax.set_ylim(len(rows) - 0.35, -0.55)
    ax.set_xlabel(LABELS[statistic])
    ax.set_title(f"{result.structure} and {result.functional}, {len(result.units)} units", fontsize=10, loc="left")
    ax.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return ax
