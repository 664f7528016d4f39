"""The picture of an atlas: one row a component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from nissl.populations.motifs.atlas import MotifAtlas

# Okabe and Ito's colours, told apart by nearly everybody.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")


def plot_motifs(fit: MotifAtlas, level: int = 0) -> Any:
    """Time course over the stimuli, loadings of the animals, and the pattern sorted by community; returns the figure."""
    import matplotlib.pyplot as plt

    n = fit.time_factors_.sizes["component"]
    figure, axes = plt.subplots(
        n, 3, figsize=(11, 0.9 + 2.1 * n), width_ratios=(3.2, 1.2, 1.5), layout="constrained", squeeze=False
    )
    labels = [] if fit.stimuli_ is None else sorted(set(fit.stimuli_["label"].tolist()))
    colour = dict(zip(labels, COLOURS * 9, strict=False))
    atlas = fit.atlas()
    for c, (course, animals, matrix) in enumerate(axes):
        _course(course, fit, c, colour, atlas.loc[c])
        animals.barh(
            np.arange(fit.animal_factors_.sizes["animal"]), np.nan_to_num(fit.animal_factors_.values[:, c]), color="0.4"
        )
        animals.set(xlim=(0, 1.02), xticks=(0, 1))
        names = [str(a) for a in fit.animal_factors_["animal"].values]
        animals.set_yticks(range(len(names)), names if len(names) <= 12 else [""] * len(names), fontsize=7)
        animals.invert_yaxis()
        _matrix(matrix, fit, c, level, figure)
        for ax in (course, animals):
            ax.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("time (s)")
    axes[-1, 1].set_xlabel("loading")
    axes[0, 1].set_title("animals", fontsize=9)
    if colour:
        handles = [plt.Rectangle((0, 0), 1, 1, color=v, alpha=0.3) for v in colour.values()]
        figure.legend(handles, list(colour), loc="outside upper left", ncols=6, frameon=False, fontsize=8)
    return figure


def _course(ax: Any, fit: MotifAtlas, c: int, colour: dict[Any, Any], row: pd.Series) -> None:
    time = fit.time_factors_["time"].values
    for start, stop, label in [] if fit.stimuli_ is None else fit.stimuli_.to_numpy().tolist():
        ax.axvspan(start, stop, color=colour[label], alpha=0.3, linewidth=0)
    ax.plot(time, fit.time_factors_.values[:, c], color="black", linewidth=0.9)
    ax.set(xlim=(time[0], time[-1]), ylim=(0, 1.05), yticks=(0, 1), ylabel=f"component {c}")
    ax.set_title(
        f"{row['label']} ({row['label_share']:.0%} of the mass), weight {row['weight']:.0%}", fontsize=9, loc="left"
    )


def _matrix(ax: Any, fit: MotifAtlas, c: int, level: int, figure: Any) -> None:
    labels = fit.communities_.values[c, level]
    rank = {int(k): i for i, k in enumerate(fit.community_table(c, level)["community"])}
    pattern = fit.affinity_factors_.values[c]
    # Communities with the most affinity first, and in them the neurons with the most.
    order = np.lexsort((-np.nansum(pattern, axis=1), [rank[int(k)] for k in labels]))
    image = ax.imshow(pattern[np.ix_(order, order)], cmap="cividis", vmin=0, interpolation="nearest")
    edges = np.flatnonzero(np.diff(labels[order])) + 0.5
    for edge in edges:
        ax.axhline(edge, color="white", linewidth=0.8)
        ax.axvline(edge, color="white", linewidth=0.8)
    names = [str(u) for u in fit.traces_["unit"].values[order]]
    ax.set_xticks([])
    ax.set_yticks(range(len(names)), names if len(names) <= 36 else [""] * len(names), fontsize=4.5)
    ax.tick_params(axis="y", length=0)
    count = len(edges) + 1
    ax.set_title(f"{count} {'communities' if count > 1 else 'community'}", fontsize=9)
    figure.colorbar(image, ax=ax, label="affinity", shrink=0.85)
