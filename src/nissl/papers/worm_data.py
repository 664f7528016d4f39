"""Homogenized C. elegans neural activity and connectivity data (Simeon et al. 2024): one order and one clock for
recordings of many laboratories, and wiring diagrams that can be compared, with each other and with function.

Recordings are simulated from a latent worm, so that the truth is known; wiring and the signal-propagation atlas are the
real ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
import xarray as xr
from jaxtyping import Float

from nissl.papers.harness import Outcome, Paper
from nissl.populations import structure_function
from nissl.recordings import Collection, RecordingWarning, Smooth, homogenise, worm
from nissl.recordings.simulate.worms import SimulatedWorms, worm_animals, worm_labs

PAPER = Paper(
    "worm-data",
    "Homogenized C. elegans Neural Activity and Connectivity Data",
    "recordings",
    "https://arxiv.org/abs/2411.12091",
)
DT = 1 / 3
# Wiring read off electron micrographs of one or several animals; models, legacy copies and copies of the same file are left out.
STRUCTURAL = (
    "Cook2019Herm", "Cook2019Male", "Cook2020", *(f"Witvliet{i}" for i in range(1, 9)), "White_whole", "White_A", "White_L4", "WhiteN2U", "WhiteJSH",
    "Varshney", "OpenWorm", "HaspelODonovan",
)  # fmt: skip


@lru_cache(maxsize=4)
def _labs(seed: int) -> tuple[SimulatedWorms, Collection]:
    """Five laboratories' recordings of one worm, and the same homogenised (without smoothing, which delays)."""
    labs = worm_labs(worm.canonical_neurons(), seed=seed)
    return labs, _homogenised(labs.recordings, neurons="hermaphrodite-300", smooth=None)


def _homogenised(recordings: Collection, **options: object) -> Collection:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)  # half of the traces have no name, as they should
        found = homogenise(recordings, progress=False, **options)  # type: ignore[arg-type]
    assert isinstance(found, Collection)
    return found


@PAPER.claim(
    "one order and one clock: homogenised recordings of five laboratories with their own clocks, spellings, subsets and gaps show one worm",
    paper_value="a dozen laboratories' recordings in one table",
    threshold="every label in its slot; every labelled neuron correlates >= 0.95 with the latent trace; shuffled labels |r| <= 0.1; without resampling the correlation across "
    "laboratories falls by >= 0.3",
    seeds=3,
    expected=False,
    note="as released: a moving mean of 15 samples of each laboratory's own clock, which delays slow recordings by more seconds than fast ones. Without smoothing the "
    "same claim holds, and is shown beside it",
)
def _one_order_one_clock(seeds: Sequence[int]) -> Outcome:
    least, right, shuffled, common, by_sample, smoothed = [], [], [], [], [], []
    for seed in seeds:
        labs, clean = _labs(seed)
        rng = np.random.default_rng(seed)
        for lab, recording in clean.items():
            truth = _latent_at(labs.latent, recording["time"].values)
            r = _columnwise(recording["activity"].values, truth)
            least.append(np.nanmin(r))
            shuffled.append(
                np.nanmean(_columnwise(recording["activity"].values, truth[:, rng.permutation(truth.shape[1])]))
            )
            right.append(_labels_in_slots(labs, lab, recording))
        common.append(_across({lab: r["activity"] for lab, r in clean.items()}))
        by_sample.append(_across(_in_slots(labs), by_sample=True))
        released = _homogenised(labs.recordings, neurons="hermaphrodite-300")
        smoothed += [
            np.nanmin(_columnwise(r["activity"].values, _latent_at(labs.latent, r["time"].values)))
            for r in released.values()
        ]
    holds = (
        min(smoothed) >= 0.95
        and all(right)
        and np.max(np.abs(shuffled)) <= 0.1
        and np.mean(common) - np.mean(by_sample) >= 0.3
    )
    return Outcome(
        {
            "least correlation with the latent trace": min(smoothed),
            "least, without smoothing": min(least),
            "labels in their slot": np.mean(right),
            "across laboratories": np.mean(common),
        },
        {"shuffled labels": np.mean(shuffled), "across laboratories, no resampling": np.mean(by_sample)},
        bool(holds),
    )


def _latent_at(latent: xr.DataArray, time: Float[np.ndarray, "time"]) -> Float[np.ndarray, "time unit"]:
    return latent.interp(time=time, kwargs={"fill_value": "extrapolate"}).values


def _columnwise(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "unit"]:
    """Correlation of each column over the samples that both have; NaN where there are none."""
    known = ~(np.isnan(a) | np.isnan(b))
    n = np.maximum(known.sum(0), 1)
    a, b = (np.where(known, x - np.where(known, x, 0).sum(0) / n, 0.0) for x in (a, b))
    scale = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.where(scale > 0, (a * b).sum(0) / np.where(scale > 0, scale, 1), np.nan)


def _labels_in_slots(labs: SimulatedWorms, lab: str, recording: xr.Dataset) -> bool:
    """Whether the slots that are filled are just those of the neurons that this laboratory has named."""
    named = {
        n
        for n, label in zip(labs.neurons[lab], labs.recordings[lab]["unit"].values, strict=True)
        if not str(label).strip().isdigit()
    }
    return set(recording["unit"].values[recording["labeled"].values]) == named


def _in_slots(labs: SimulatedWorms) -> dict[str, xr.DataArray]:
    """What the laboratories recorded on the common axis of neurons, by true name, sample by sample."""
    out = {}
    for lab, recording in labs.recordings.items():
        named = np.array([not str(u).strip().isdigit() for u in recording["unit"].values])
        traces = recording["activity"].values[:, named]
        out[lab] = xr.DataArray(
            traces,
            dims=("time", "unit"),
            coords={"unit": [n for n, yes in zip(labs.neurons[lab], named, strict=True) if yes]},
        )
    return out


def _across(recordings: Mapping[str, xr.DataArray], *, by_sample: bool = False) -> float:
    """Mean correlation of the same neuron between pairs of laboratories: at the same time, or at the same sample."""
    found = []
    for first, second in combinations(recordings.values(), 2):
        units = [u for u in first["unit"].values if u in set(second["unit"].values)]
        a, b = first.sel(unit=units), second.sel(unit=units)
        n = min(a.sizes["time"], b.sizes["time"])
        found.append(np.nanmean(_columnwise(*((a.values[:n], b.values[:n]) if by_sample else _same_times(a, b)))))
    return float(np.mean(found))


def _same_times(a: xr.DataArray, b: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Samples that lie within half a step of each other on the common clock."""
    ka, kb = (np.round(x["time"].values / DT).astype(int) for x in (a, b))
    _, i, j = np.intersect1d(ka, kb, return_indices=True)
    return a.values[i], b.values[j]


@PAPER.claim(
    "causal processing leaks no future: what comes in the second half of a recording does not change the first half of the result",
    paper_value="causal smoothing and normalisation",
    threshold="largest change of the first half <= 1e-12, for each smoothing with causal normalisation; the standard z-score changes it",
    seeds=2,
    note="the first half ends where resampling, which reads the next sample, last looks at it",
)
def _no_future(seeds: Sequence[int]) -> Outcome:
    causal, standard, filters = [], [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        names = [f"N{i}" for i in range(20)]
        time = np.cumsum(0.25 * rng.uniform(0.8, 1.2, 1600))
        values = rng.normal(size=(1600, 20)).cumsum(0) / 10 + rng.normal(size=20)
        values[rng.random(values.shape) < 0.02] = np.nan
        other = values.copy()
        other[800:] = 5 * rng.normal(size=(800, 20)) + 30
        pair = [xr.Dataset({"activity": (("time", "unit"), v)}, {"time": time, "unit": names}) for v in (values, other)]
        for smooth in ("moving", "exponential", "gaussian"):
            early = [Smooth(method=smooth).fit_transform(r)["activity"].values[:800] for r in pair]
            filters.append(_largest(*early))
            causal.append(_first_half(pair, time, smooth, "causal"))
            standard.append(_first_half(pair, time, smooth, "standard"))
    holds = max(causal) <= 1e-12 and max(filters) <= 1e-12 and min(standard) > 0.01
    return Outcome(
        {"smoothing": max(filters), "all steps, causal": max(causal)},
        {"all steps, standard z-score": min(standard)},
        holds,
    )


def _first_half(pair: Sequence[xr.Dataset], time: np.ndarray, smooth: str, normalise: str) -> float:
    """Largest change before the inputs differ: samples whose group of interpolated points ends before the last common
    sample.
    """
    first, second = (homogenise(r, smooth=smooth, normalise=normalise, progress=False) for r in pair)  # type: ignore[arg-type]
    assert isinstance(first, xr.Dataset)
    assert isinstance(second, xr.Dataset)
    early = first["time"].values <= time[799] - time[0] - DT
    return _largest(first["activity"].values[early], second["activity"].values[early])


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf
    return float(np.nanmax(np.abs(a - b)))


@PAPER.claim(
    "connectomes agree after homogenising: two adults of Witvliet et al. over their shared neurons",
    paper_value="Jaccard 0.49 (chemical) and 0.44 (gap junctions), correlation of weights 0.89 and 0.61",
    threshold="each within 0.02 of that; with permuted names Jaccard <= 0.05",
    note="shared are the neurons that have a connection of the kind in both animals",
)
def _connectomes_agree(seeds: Sequence[int]) -> Outcome:
    table = worm.connectome("Witvliet7").compare("Witvliet8", n=200, seed=seeds[0]).table
    listed = worm.connectome("Witvliet7").compare("Witvliet8", over="nodes", n=1).table.to_dict("index")["electrical"]
    wanted = {
        ("chemical", "jaccard"): 0.49,
        ("electrical", "jaccard"): 0.44,
        ("chemical", "correlation"): 0.89,
        ("electrical", "correlation"): 0.61,
    }
    measured = {f"{kind} {statistic}": float(table.loc[kind, statistic]) for kind, statistic in wanted}
    control = {f"{kind} jaccard": float(table.loc[kind, "jaccard_permuted"]) for kind in table.index}
    near = all(abs(m - w) <= 0.02 for m, w in zip(measured.values(), wanted.values(), strict=True))
    return Outcome(
        measured,
        control,
        near and max(control.values()) <= 0.05,
        f"over all {listed['shared']:.0f} neurons that both lists hold, gap junctions reach {listed['jaccard']:.2f} and "
        f"{listed['correlation']:.2f}",
    )


@PAPER.claim(
    "gap junctions are symmetric, chemical synapses are not; left and right agree about as well as two animals do",
    paper_value="edges are checked for symmetry",
    threshold="electrical matrices of all electron-microscopy annotations exactly symmetric, chemical ones not; mirrored Jaccard of Cook 2019 within 0.02 of 0.47 (chemical) and 0.45 (gap "
    "junctions), permuted <= 0.05",
)
def _symmetry(seeds: Sequence[int]) -> Outcome:
    gap, directed, one_sided = [], [], {}
    for name in STRUCTURAL:
        wiring = worm.connectome(name, neurons=None)
        gaps = wiring.sparse("electrical")
        gap.append(abs(gaps - gaps.T).max())
        directed.append(1 - wiring.reciprocity("chemical"))
        if wiring.one_sided:
            one_sided[name] = wiring.one_sided
    cook = worm.connectome("Cook2019Herm")
    table = cook.compare(worm.mirrored(cook), over="nodes", n=200, seed=seeds[0]).table
    left_right = {kind: float(table.loc[kind, "jaccard"]) for kind in ("chemical", "electrical")}
    permuted = {f"mirrored {kind}, permuted": float(table.loc[kind, "jaccard_permuted"]) for kind in left_right}
    holds = (
        max(gap) == 0
        and min(directed) > 0
        and abs(left_right["chemical"] - 0.47) <= 0.02
        and abs(left_right["electrical"] - 0.45) <= 0.02
    )
    return Outcome(
        {
            "largest asymmetry of gap junctions": max(gap),
            "mirrored chemical": left_right["chemical"],
            "mirrored electrical": left_right["electrical"],
        },
        {"one-way chemical edges, least share": min(directed), **permuted},
        bool(holds and max(permuted.values()) <= 0.05),
        f"{len(STRUCTURAL)} annotations; as published, {len(STRUCTURAL) - len(one_sided)} are symmetric, the others list some pairs in one direction or with two values: "
        + ", ".join(f"{name} {n}" for name, n in one_sided.items()),
    )


@PAPER.claim(
    "structure relates to function: wired pairs respond to each other's stimulation more often",
    paper_value="the reason for putting both in one table",
    threshold="P(functional | gap junction) >= 3 x P(functional | none), chemical >= 2 x; mean over permuted names 0.9 to 1.1",
    note="wiring of Cook et al. 2019, responses with q < 0.05 of Randi et al. 2023 among the 181 neurons with any; pairs that were never measured count as not functional, as in the "
    "figures that are reproduced",
)
def _structure_relates(seeds: Sequence[int]) -> Outcome:
    atlas = worm.signal_propagation("wt", q=0.05)
    significant = atlas["significant"].values
    touched = significant.any(0) | significant.any(1)
    some = list(atlas["target"].values[touched])
    among = atlas.sel(target=some, source=some)
    cook = worm.connectome("Cook2019Herm")
    all_pairs, measured = (
        structure_function(
            cook, among, kinds=["electrical", "chemical"], unmeasured=treat, n=100, resamples=200, seed=seeds[0]
        )
        .table.xs("enrichment", level="statistic")
        .loc[""]
        for treat in ("none", "leave out")
    )
    value, control = all_pairs["value"], all_pairs["permuted"]
    backwards = structure_function(
        cook,
        among.rename(target="source", source="target"),
        kinds=["chemical"],
        unmeasured="none",
        n=2,
        resamples=2,
        seed=seeds[0],
    ).table.loc[("", "chemical", "enrichment"), "value"]
    holds = value["electrical"] >= 3 and value["chemical"] >= 2 and control.between(0.9, 1.1).all()
    return Outcome(
        {"gap junction": value["electrical"], "chemical": value["chemical"]},
        {"permuted, gap junction": control["electrical"], "permuted, chemical": control["chemical"], "rewired, gap junction": all_pairs["rewired"]["electrical"],
         "rewired, chemical": all_pairs["rewired"]["chemical"]},
        bool(holds),
        f"{len(some)} neurons; P {all_pairs['p_edge']['electrical']:.3f} against {all_pairs['p_none']['electrical']:.3f} (gap junctions), {all_pairs['p_edge']['chemical']:.3f} against "
        f"{all_pairs['p_none']['chemical']:.3f} (chemical); over measured pairs alone the ratios are {measured['value']['electrical']:.2f} and {measured['value']['chemical']:.2f}; against the "
        f"direction of the chemical synapses the ratio is {backwards:.2f}",
    )  # fmt: skip


TRAINING, CHOOSING, TESTED, NEURONS = 8, 2, 4, 60
PENALTIES = (10.0, 100.0, 1000.0, 10_000.0)


@PAPER.claim(
    "cross-animal models gain from pooling: what happens next is predicted better after training on eight homogenised worms than on one",
    paper_value="the reason for homogenising",
    threshold="R2 of the next step's change in other worms higher by >= 0.05 with 8 worms than with 1; with wrong slots the gain is gone (<= 0)",
    seeds=3,
)
def _pooling(seeds: Sequence[int]) -> Outcome:
    eight, one, wrong, own, both = [], [], [], [], []
    for seed in seeds:
        names = list(worm.canonical_neurons()[:: 300 // NEURONS])
        worms = worm_animals(names, n_animals=TRAINING + CHOOSING + TESTED, seed=seed)
        clean = list(_homogenised(worms.recordings, neurons=names).values())
        activity = [r["activity"].values for r in clean]
        train, choose, test = activity[:TRAINING], activity[TRAINING:-TESTED], activity[-TESTED:]
        rng = np.random.default_rng(seed)
        mixed = [x[:, rng.permutation(len(names))] for x in train]
        weights = _next_step(train, choose)
        singles = [_next_step([x], choose) for x in train]
        eight.append(_r2(weights, test))
        one.append(np.mean([_r2(w, test) for w in singles]))
        wrong.append(_r2(_next_step(mixed, choose), test))
        own.append(_r2(_next_step(train, choose, own=True), test))
        covered = [np.asarray(w.any(0)) for w in singles]
        both.append(np.mean([_r2(weights, test, c) - _r2(w, test, c) for w, c in zip(singles, covered, strict=True)]))
    gain, gain_wrong = np.subtract(eight, one), np.subtract(wrong, one)
    return Outcome(
        {"8 worms": np.mean(eight), "gain over 1": gain.mean()},
        {
            "1 worm": np.mean(one),
            "8 worms, wrong slots": np.mean(wrong),
            "gain, wrong slots": gain_wrong.mean(),
            "own past only": np.mean(own),
        },
        bool(gain.min() >= 0.05 and gain_wrong.max() <= 0),
        f"over the neurons that the one worm had as well, the gain is {np.mean(both):.2f}: it is more than coverage",
    )


def _next_step(
    worms: Sequence[np.ndarray], choose: Sequence[np.ndarray], *, own: bool = False
) -> Float[np.ndarray, "source target"]:
    """Ridge regression of every neuron's next change on all neurons now, each target over the worms in which it was
    labelled; the penalty is the one that does best in further worms.
    """
    fits = [_ridge(worms, penalty, own) for penalty in PENALTIES]
    return max(fits, key=lambda weights: _r2(weights, choose))


def _ridge(worms: Sequence[np.ndarray], penalty: float, own: bool) -> Float[np.ndarray, "source target"]:
    gram, cross, known = (np.stack(parts) for parts in zip(*(_products(x) for x in worms), strict=True))
    n = gram.shape[-1]
    per_target = np.einsum("aj,akl->jkl", known.astype(float), gram)
    target = np.einsum("aj,akj->jk", known.astype(float), cross)
    if own:  # each neuron's own past alone
        return np.diag(np.diagonal(target) / (np.einsum("jjj->j", per_target) + penalty))
    return np.linalg.solve(per_target + penalty * np.eye(n), target[..., None])[..., 0].T


def _products(x: Float[np.ndarray, "time unit"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = np.asarray(~np.isnan(x).all(0))
    now, change = np.nan_to_num(x[:-1]), np.nan_to_num(np.diff(x, axis=0))
    return now.T @ now, now.T @ change, known


def _r2(weights: np.ndarray, worms: Sequence[np.ndarray], units: np.ndarray | None = None) -> float:
    """Share of the changes of labelled neurons that is predicted, about no change at all."""
    wrong = total = 0.0
    for x in worms:
        change = np.diff(x, axis=0)
        known = ~np.isnan(change) & (True if units is None else units)
        wrong += ((change - np.nan_to_num(x[:-1]) @ weights)[known] ** 2).sum()
        total += (change[known] ** 2).sum()
    return float(1 - wrong / total)
