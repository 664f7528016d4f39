"""The paper's simulations, each beside what theory says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from nissl.errors import InputError
from nissl.nn.dendrites._competition import DendriticClassifier
from nissl.nn.dendrites._neuron import DendriticNeuron, Nonlinearity
from nissl.nn.dendrites._overlap import BLOCK
from nissl.nn.dendrites._patterns import correlated_patterns, noisy_patterns, random_patterns
from nissl.nn.dendrites._probability import any_match_probability, match_probability, miss_probability


def noise_sweep(
    *,
    n: int = 6000,
    a: int = 128,
    s: int = 30,
    n_segments: int = 500,
    thresholds: Sequence[int] = (8, 12, 16),
    noise: Sequence[float] = (0.15, 0.25, 0.35, 0.45, 0.5, 0.55, 0.65, 0.75, 0.85),
    repeats: int = 1,
    n_fresh: int = 5000,
    seed: int = 0,
) -> xr.Dataset:
    """Store one random pattern on each segment; how many are missed under noise, and how many fresh ones are taken for them.

    Parameters
    ----------
    n, a, s, n_segments, thresholds
        As of `DendriticNeuron`; each threshold reads the same synapses.
    noise
        Share of active cells that fall silent, as many others becoming active.
    repeats
        Noisy versions of each pattern.
    n_fresh
        Patterns that were never stored.

    Returns
    -------
    Dataset
        `(threshold, noise)`: `miss`, of all segments; `miss_own`, of the pattern's own segment; `miss_theory` of that; `miss_elsewhere`, of a neuron
        whose synapses lie on random cells, the control. `(threshold)`: `false_match` of the neuron on fresh patterns, and
        `false_match_theory`. Attribute `trials`: noisy patterns behind each share.

    Raises
    ------
    InputError
        As `DendriticNeuron` and `noisy_patterns`.

    References
    ----------
    Ahmad and Hawkins 2016, How do neurons operate on sparse distributed representations?

    Examples
    --------
    >>> found = noise_sweep(n=1000, a=40, n_segments=50, s=20, thresholds=[10], noise=[0.1, 0.6], n_fresh=100)
    >>> bool(found.miss_own[0, 0] < 0.05), bool(found.miss_own[0, 1] > 0.5)
    (True, True)
    """
    theta, share = np.asarray(thresholds), np.asarray(noise, dtype=float)
    if repeats < 1 or n_fresh < 1 or not ((share >= 0) & (share <= 1)).all():
        raise InputError(
            f"repeats={repeats}, n_fresh={n_fresh}, noise={noise}; allowed: 1 or more, and noise from 0 to 1"
        )
    seeds = np.random.SeedSequence(seed).generate_state(5 + len(share))
    stored = random_patterns(n_segments, n, a, seed=int(seeds[0]))
    neuron = DendriticNeuron(n, n_segments, s, int(theta.max()), seed=int(seeds[1])).fit(stored)
    elsewhere = DendriticNeuron(n, n_segments, s, int(theta.max()), seed=int(seeds[2])).fit(np.ones((n_segments, n)))
    flipped = np.rint(share * a).astype(int)
    # Overlaps of the pattern's own segment, of the best one, and of the best on random cells: (noise, trial).
    own, best, other = np.zeros((3, len(share), repeats * n_segments), dtype=int)
    for k, count in enumerate(flipped):
        for r in range(repeats):
            x = noisy_patterns(stored, int(count), seed=int(seeds[5 + k]) + r)
            trials = slice(r * n_segments, (r + 1) * n_segments)
            seen = neuron.segment_activity(x).values
            own[k, trials], best[k, trials] = seen.diagonal(), seen.max(1)
            other[k, trials] = elsewhere.segment_activity(x).values.max(1)
    fresh = _largest(neuron, random_patterns(n_fresh, n, a, seed=int(seeds[3])))
    below = {
        name: (("threshold", "noise"), (v < theta[:, None, None]).mean(-1))
        for name, v in (("miss", best), ("miss_own", own), ("miss_elsewhere", other))
    }
    return xr.Dataset(
        {
            **below,
            "miss_theory": (("threshold", "noise"), miss_probability(a, s, theta[:, None], flipped)),
            "false_match": ("threshold", (fresh >= theta[:, None]).mean(1)),
            "false_match_theory": ("threshold", any_match_probability(n, a, s, theta, n_segments)),
        },
        {"threshold": theta, "noise": share, "flipped": ("noise", flipped)},
        {"trials": own.shape[1], "n": n, "a": a, "s": s, "n_segments": n_segments},
    )


def correlation_sweep(
    *,
    n: int = 500,
    a: int = 64,
    s: int = 24,
    theta: int = 8,
    clusters: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8, 9),
    n_segments: int = 500,
    n_fresh: int = 2000,
    seed: int = 0,
) -> xr.Dataset:
    """False matches where patterns are built from clusters of cells that go together, stored and fresh ones from the same.

    Parameters
    ----------
    n, a, s, theta, n_segments, n_fresh
        As of `noise_sweep`.
    clusters
        Cells in a cluster; 1 is a random code.

    Returns
    -------
    Dataset (cluster)
        `false_match` of a segment, `correlation`: of two cells over patterns, averaged over all pairs of distinct cells and taken absolutely;
        and `theory`, for a random code.

    Raises
    ------
    InputError
        As `DendriticNeuron` and `correlated_patterns`.

    Examples
    --------
    >>> found = correlation_sweep(clusters=[1, 8], n_segments=100, n_fresh=500)
    >>> bool(found.false_match[1] > 1.5 * found.false_match[0])
    True
    """
    false, correlation = [], []
    for k, cluster in enumerate(clusters):
        x = correlated_patterns(n_segments + n_fresh, n, a, cluster, seed=seed + k)
        neuron = DendriticNeuron(n, n_segments, s, theta, seed=seed + k).fit(x[:n_segments])
        seen = neuron.segment_activity(x[n_segments:]).values
        false.append((seen >= theta).mean())
        cells = x.values[:, x.values.any(0)].astype(np.float32)
        r = np.abs(np.corrcoef(cells.T))
        correlation.append((r.sum() - np.trace(r)) / (r.size - len(cells.T)))
    return xr.Dataset(
        {
            "false_match": ("cluster", np.array(false)),
            "correlation": ("cluster", np.array(correlation)),
            "theory": ((), float(match_probability(n, a, s, theta))),
        },
        {"cluster": np.asarray(clusters)},
    )


def competition_sweep(
    *,
    n: Sequence[int] = (200, 300, 500, 1000, 2000, 4000),
    a: Sequence[int] = (64, 128, 256),
    s: int = 24,
    threshold: float = 12,
    patterns: int = 200,
    noise: float = 0.2,
    nonlinearity: Nonlinearity = "threshold",
    power: float = 10.0,
    seed: int = 0,
) -> xr.DataArray:
    """How often two neurons, one a class, tell noisy patterns of their classes apart, as the population grows.

    Parameters
    ----------
    n, a
        Cells and active cells; where noise would flip more cells than are silent there is no value.
    s, threshold, nonlinearity, power
        As of `DendriticClassifier`.
    patterns
        Stored in each neuron.
    noise
        Share of active cells that fall silent in the test, as many others becoming active.

    Returns
    -------
    DataArray (a, n)
        Share of patterns whose own class responds more; patterns to which both respond alike count half. NaN where a > n / 2.

    Raises
    ------
    InputError
        As `DendriticClassifier`.

    Examples
    --------
    >>> found = competition_sweep(n=[200, 2000], a=[64], patterns=50)
    >>> bool(found.sel(a=64, n=2000) == 1), bool(found.sel(a=64, n=200) < 0.95)
    (True, True)
    """
    out = np.full((len(a), len(n)), np.nan)
    label = np.repeat([0, 1], patterns)
    for i, active in enumerate(a):
        for j, cells in enumerate(n):
            if active <= cells / 2:
                x = random_patterns(2 * patterns, cells, active, seed=seed + 100 * i + j)
                model = DendriticClassifier(
                    n_synapses=s, threshold=threshold, nonlinearity=nonlinearity, power=power, seed=seed
                ).fit(x, label)
                tested = noisy_patterns(x, round(noise * active), seed=seed + 1)
                first, second = model.decision_function(tested).values.T
                out[i, j] = (0.5 + 0.5 * np.sign(second - first) * np.where(label == 1, 1, -1)).mean()
    return xr.DataArray(out, {"a": list(a), "n": list(n)}, dims=("a", "n"), name="accuracy")


def _largest(neuron: DendriticNeuron, patterns: xr.DataArray) -> np.ndarray:
    """The largest overlap of any segment, block by block."""
    blocks = range(0, len(patterns), 8 * BLOCK)
    return np.concatenate([neuron.segment_activity(patterns[i : i + 8 * BLOCK]).values.max(1) for i in blocks])
