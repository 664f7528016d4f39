"""The picture of a clustering: stimuli, confusion, margins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from nissl.comparison.cell_types._clustering import DiscriminativeClustering


def draw(found: DiscriminativeClustering) -> Any:
    """One row of stimuli a cluster (several where there are many), then who responds to what, then how clearly."""
    k = found.n_clusters_
    across = min(k, 10)
    rows = -(-k // across)
    figure = Figure(figsize=(max(8.0, 1.25 * across), 1.5 * rows + 4.2), layout="constrained")
    top, bottom = cast("Any", figure.subfigures(2, 1, height_ratios=[1.5 * rows + 0.3, 3.9]))
    _stimuli(top, found, rows, across)
    confusion, margins = bottom.subplots(1, 2, width_ratios=[1.15, 1])
    _confusion(bottom, confusion, found)
    _margins(margins, found)
    return figure


def _stimuli(figure: Any, found: DiscriminativeClustering, rows: int, across: int) -> None:
    figure.suptitle("Most discriminative stimulus of each cluster", fontsize=11)
    axes = figure.subplots(rows, across, squeeze=False).ravel()
    sizes = np.bincount(found.labels_.values[found.labels_.values >= 0], minlength=found.n_clusters_)
    scale = float(np.abs(found.stimuli_).max())
    for axis in axes:
        axis.axis("off")
    for c, axis in enumerate(axes[: found.n_clusters_]):
        _one(axis, found.stimuli_.values[c], scale)
        margin = float(found.held_out_margin_[c])
        # On its own members every cluster looks good; what counts is what held-out members do.
        told = f"held out {margin:+.1f} SD" if np.isfinite(margin) else "not held out"
        axis.set_title(
            f"{c}: {sizes[c]} units\n{told}", fontsize=8, color="0.1" if margin >= found.min_margin else "#b2182b"
        )


def _one(axis: Any, stimulus: np.ndarray, scale: float) -> None:
    """Grey pictures and colour pictures as such; films by the frame of greatest contrast; anything else as a line."""
    if stimulus.ndim == 1:
        axis.axis("on")
        axis.plot(stimulus, color="0.2", linewidth=1)
        axis.tick_params(labelsize=6)
        return
    if stimulus.ndim == 4:
        stimulus = stimulus[:, stimulus.std((0, 2, 3)).argmax()]
    if stimulus.ndim == 3 and stimulus.shape[0] == 3:
        axis.imshow(np.clip(0.5 + 0.5 * stimulus.transpose(1, 2, 0) / np.abs(stimulus).max(), 0, 1))
        return
    plane = stimulus if stimulus.ndim == 2 else stimulus[0]
    axis.imshow(plane, cmap="gray", vmin=-scale, vmax=scale)


def _confusion(figure: Any, axis: Any, found: DiscriminativeClustering) -> None:
    values = found.confusion_.values
    top = float(np.abs(values).max()) or 1.0
    image = axis.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top)
    axis.set(xlabel="cluster", ylabel="stimulus of cluster", title="Response of each cluster (members of the fit)")
    ticks = np.arange(len(values)) if len(values) <= 12 else np.arange(0, len(values), 5)
    axis.set_xticks(ticks)
    axis.set_yticks(ticks)
    if len(values) <= 8:
        for i, row in enumerate(values):
            for j, v in enumerate(row):
                axis.text(
                    j,
                    i,
                    f"{v:.1f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if abs(v) > 0.6 * top else "0.2",
                )
    figure.colorbar(image, ax=axis, label="mean response (SD)", shrink=0.85)


def _margins(axis: Any, found: DiscriminativeClustering) -> None:
    """Units one above another within their cluster; those without a cluster in grey."""
    labels, margin = found.labels_.values, found.margin_.values
    if not np.isfinite(margin).all():
        axis.axis("off")
        axis.text(0.5, 0.5, "one cluster: nothing to tell apart", ha="center", transform=axis.transAxes)
        return
    rng = np.random.default_rng(0)
    axis.axhline(found.min_unit_margin, color="0.6", linewidth=0.8, linestyle="--")
    clear = labels >= 0
    place = np.where(clear, labels, found.n_clusters_) + rng.uniform(-0.25, 0.25, len(labels))
    axis.scatter(place[clear], margin[clear], s=9, color="#0072b2", alpha=0.7, linewidths=0)
    axis.scatter(place[~clear], margin[~clear], s=9, color="0.5", alpha=0.7, linewidths=0)
    names = [str(c) for c in range(found.n_clusters_)] + ([] if clear.all() else ["none"])
    axis.set_xticks(range(len(names)), names, fontsize=8 if len(names) <= 12 else 6)
    axis.set(
        xlabel="cluster", ylabel="best minus second best (SD)", title="How clearly each unit is typed", ylim=(0, None)
    )
    axis.spines[["top", "right"]].set_visible(False)
