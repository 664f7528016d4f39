"""Neuroformer (Antoniades et al. 2024): its claims on simulated circuits whose wiring, tuning and stimuli are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score

from nissl.papers.harness import Outcome, Paper
from nissl.populations import Neuroformer
from nissl.recordings.simulate import spiking_hubs, tuned_population, visual_population

PAPER = Paper(
    "neuroformer",
    "Neuroformer: Multimodal and Multitask Generative Pretraining for Brain Data",
    "populations",
    "https://arxiv.org/abs/2311.00136",
)
SMALL = {"dim": 32, "heads": 2, "progress": False}


@dataclass(frozen=True)
class _Circuit:
    """A simulated circuit, where its connections are, and a model fitted to its spikes."""

    recording: xr.Dataset
    edges: Bool[np.ndarray, "target source"]
    model: Neuroformer


@lru_cache(maxsize=2)
def _circuit(seed: int, n_hidden: int = 0) -> _Circuit:
    """Hubs that drive others after 10 to 30 ms; with hidden hubs, a common drive that nobody recorded."""
    recording = spiking_hubs(600, n_hidden=n_hidden, seed=seed)
    model = Neuroformer(**SMALL, steps=500, seed=seed).fit(recording)
    return _Circuit(recording, recording["adjacency"].values > 0, model)


@PAPER.claim(
    "predicts the activity of a circuit from its past",
    paper_value="predicts and generates the spikes of a simulated circuit with hubs (figure 2)",
    threshold="held-out nats an ID token at least 0.12 below unit frequencies alone; past windows shuffled between samples lose at least 0.08",
)
def _predicts(seeds: Sequence[int]) -> Outcome:
    model = _circuit(seeds[0]).model
    score = model.evaluate()
    shuffled = _shuffled_past_loss(model, seeds[0])
    holds = score.unigram_id - score.nats_id >= 0.12 and shuffled - score.nats_id >= 0.08
    return Outcome(
        score.nats_id,
        {"unit frequencies": score.unigram_id, "shuffled past": shuffled},
        holds,
        f"{score.bits_per_event:+.2f} bits an event over constant rates, times included",
    )


def _shuffled_past_loss(model: Neuroformer, seed: int) -> float:
    """Held-out nats an ID token when each window is given the past of another."""
    windows, network = model.windows_, model.network_
    rows = np.flatnonzero(model.split_ == "test")
    batch = windows.batch(rows)
    other = torch.from_numpy(np.random.default_rng(seed).permutation(len(rows)))
    batch = replace(
        batch, past_ids=batch.past_ids[other], past_dts=batch.past_dts[other], past_real=batch.past_real[other]
    )
    with torch.no_grad():
        said = network(batch).ids.double().log_softmax(-1)
    target = batch.ids[:, 1:]
    real = target <= network.eos
    return float(-said.gather(-1, target.clamp(max=network.eos)[..., None])[..., 0][real].mean())


@PAPER.claim(
    "attention shows who drives whom, with direction",
    paper_value="connectivity from attention finds the hubs and the direction of their connections (figure 2)",
    threshold="AUC >= 0.9 and direction >= 0.9, transposed <= 0.4; untrained, and trained on time-shuffled spikes: 0.4 to 0.6, mean over 16 networks and circuits",
    expected=False,
    note="connections and directions are found; what fails for some seeds is the control: N_a / N_z of an untrained network is somewhat above chance (0.54 to 0.60), since an "
    "event that stands alone gets more attention than one of many. Attention relative to even attention takes that out (0.47 to 0.55) and is shown beside it. Lagged and partial correlation and a GLM do as well in so simple a circuit",
)
def _connectivity(seeds: Sequence[int]) -> Outcome:
    circuit, driven = _circuit(seeds[0]), _circuit(seeds[0], n_hidden=4)
    maps, hidden = circuit.model.compare_connectivity(), driven.model.compare_connectivity()
    ours = ("attention", "relative_attention")
    measured, control = {}, {}
    for name in ours:
        measured[f"AUC, {name}"] = _auc(maps[name], circuit.edges)
        measured[f"direction, {name}"] = _direction(maps[name], circuit.edges)
        control[f"transposed, {name}"] = _auc(maps[name].values.T, circuit.edges)
    chance = _uninformed(seeds[0])
    control |= {name: float(values.mean()) for name, values in chance.items()}
    control |= {name: _auc(values, circuit.edges) for name, values in maps.items() if name not in ours}
    within = [control["untrained"], control["time-shuffled"]]
    holds = (
        min(measured.values()) >= 0.9
        and max(control[f"transposed, {name}"] for name in ours) <= 0.4
        and min(within) >= 0.4
        and max(within) <= 0.6
    )
    note = "with a common drive by 4 hidden hubs, AUC: "
    note += ", ".join(f"{name} {_auc(values, driven.edges):.3f}" for name, values in hidden.items())
    note += f"; SD over untrained networks {chance['untrained, relative'].std():.2f}"
    return Outcome(measured, control, holds, note)


def _uninformed(seed: int, n: int = 16) -> dict[str, Float[np.ndarray, "network"]]:
    """AUC of untrained networks, and of networks trained on spikes without their times, each on a circuit of its own.

    Such a map has a level for each source and little else, and true connections come from four sources alone: a single AUC
    scatters widely around one half, the mean over some does not.
    """
    few = {**SMALL, "batch_size": 128}
    found: dict[str, list[float]] = {}
    for i in range(seed, seed + n):
        recording = spiking_hubs(200, seed=i)
        edges = recording["adjacency"].values > 0
        models = {
            "untrained": Neuroformer(**few, steps=0, seed=i).fit(recording),
            "time-shuffled": Neuroformer(**few, steps=50, seed=i).fit(_time_shuffled(recording, i)),
        }
        for name, model in models.items():
            found.setdefault(name, []).append(_auc(model.connectivity(), edges))
            found.setdefault(f"{name}, relative", []).append(_auc(model.connectivity(relative=True), edges))
    return {name: np.array(values) for name, values in found.items()}


def _auc(scores: xr.DataArray | np.ndarray, edges: Bool[np.ndarray, "target source"]) -> float:
    """Of true connections among all pairs of different units; pairs without a score count as the lowest."""
    values, off = np.asarray(scores), ~np.eye(len(edges), dtype=bool)
    return float(roc_auc_score(edges[off], np.nan_to_num(values, nan=np.nanmin(values))[off]))


def _direction(scores: xr.DataArray, edges: Bool[np.ndarray, "target source"]) -> float:
    """Share of true connections whose score is higher than that of the way back."""
    values = np.asarray(scores)
    return float((values > values.T)[edges].mean())


def _time_shuffled(recording: xr.Dataset, seed: int) -> xr.Dataset:
    """Every unit keeps its counts and loses their times."""
    rng = np.random.default_rng(seed)
    return recording.assign(spikes=recording["spikes"].copy(data=rng.permuted(recording["spikes"].values, axis=0)))


@PAPER.claim(
    "few labels suffice to decode behaviour after pretraining on spikes",
    paper_value="with 1 % of the labels a pretrained model decodes speed where one from scratch fails (table 1)",
    threshold="held-out correlation, pretrained - scratch: >= 0.08 at 24 labels, <= 0.05 at 480; pretrained on shifted units loses half of the gap",
    seeds=2,
    expected=False,
    note="holds for some data and not for other: the gap at 24 labels was 0.23 to 0.33 over seeds, but at 480 labels it was 0.03 to 0.08 where 0.05 is allowed, since the untrained "
    "body overfits, and shifted units lost 0.5 to 0.9 of the gap; rate of spikes and steps were chosen while looking at such figures. Ridge regression on counts of spikes, given "
    "beside it, does as well or better with 480 labels. Training ends where cross-validation over the labels says, at most after 120 and 300 steps",
)
def _few_shot(seeds: Sequence[int]) -> Outcome:
    each = [_decoders(seed) for seed in seeds]
    mean = {name: float(np.mean([found[name] for found in each])) for name in each[0]}
    gap = mean["pretrained, 24"] - mean["scratch, 24"]
    lost = mean["pretrained, 24"] - mean["shifted units, 24"]
    holds = gap >= 0.08 and mean["pretrained, 480"] - mean["scratch, 480"] <= 0.05 and lost >= gap / 2
    measured = {name: value for name, value in mean.items() if name.startswith("pretrained")}
    return Outcome(measured, {name: value for name, value in mean.items() if name not in measured}, holds)


def _decoders(seed: int) -> dict[str, float]:
    """Held-out correlations with speed, by training of the body and number of labels, and of ridge from the same labels."""
    recording = tuned_population(600, rate=3.0, gain=0.5, seed=seed)
    slow = {**SMALL, "gap": 5.0, "seed": seed}  # the latent is correlated over seconds
    models = {
        "pretrained": Neuroformer(**slow, steps=700).fit(recording),
        "scratch": Neuroformer(**slow, steps=0).fit(recording),
        "shifted units": Neuroformer(**slow, steps=700).fit(_shifted_units(recording, seed)),
    }
    found = {}
    for name, model in models.items():
        found[f"{name}, 24"], ridge = _decoded(model, recording, 24, steps=120)
        found["ridge on counts, 24"] = ridge
        if name != "shifted units":
            found[f"{name}, 480"], found["ridge on counts, 480"] = _decoded(model, recording, 480, steps=300, repeats=1)
    return found


def _decoded(
    model: Neuroformer, recording: xr.Dataset, labels: int, *, steps: int, repeats: int = 3
) -> tuple[float, float]:
    """Held-out correlation of the tuned model, and of ridge on counts, mean over draws of the labelled windows."""
    tuned = [model.finetune("speed", recording, labels=labels, steps=steps, seed=i) for i in range(repeats)]
    each = np.array([t.decoding_["correlation"].loc[["neuroformer", "counts"]] for t in tuned])
    return float(each[:, 0].mean()), float(each[:, 1].mean())


def _shifted_units(recording: xr.Dataset, seed: int) -> xr.Dataset:
    """Every unit moved in time by a lag of its own, around the end: as slow as before, and no longer together."""
    from nissl.statistics import circular_shifts

    counts = recording["spikes"].values
    moved = circular_shifts(counts, 1, axis=0, min_shift=len(counts) // 20, seed=seed)[0]
    return recording.assign(spikes=recording["spikes"].copy(data=moved))


LADDER = {
    "current spikes": {"inputs": ()},
    "+ past": {"inputs": ("past",)},
    "+ stimulus": {"inputs": ("past", "stimulus")},
    "+ alignment": {"inputs": ("past", "stimulus"), "contrast": ("spikes", "stimulus")},
    "+ behaviour": {"inputs": ("past", "stimulus"), "contrast": ("spikes", "stimulus"), "targets": ("speed",)},
}


@lru_cache(maxsize=4)
def _seen(seed: int, n_units: int) -> xr.Dataset:
    return visual_population(400, n_units=n_units, n_connections=n_units, gain=1.0, transmission=0.4, seed=seed)


def _rung(seed: int, name: str, *, n_units: int = 12, steps: int = 300, shuffled: bool = False) -> Neuroformer:
    """A model with some of the inputs; with `shuffled`, every frame stands at the time of another."""
    recording = _seen(seed, n_units)
    if shuffled:
        order = np.random.default_rng(seed).permutation(recording.sizes["stimulus_time"])
        recording = recording.assign(stimulus=recording["stimulus"].copy(data=recording["stimulus"].values[order]))
    fast = {
        "steps": steps,
        "batch_size": 128,
        "learning_rate": 4e-3,
        "contrast_dim": 64,
        "max_events": 300,
        "max_past": 600,
    }
    return Neuroformer(**SMALL, **LADDER[name], **fast, seed=seed).fit(recording)


@PAPER.claim(
    "every input helps",
    paper_value="held-out loss falls with past, stimulus, alignment and behaviour (ablation)",
    threshold="held-out nats an ID token fall by >= 0.02 with the past and with the stimulus, in every seed; a shuffled stimulus gives no fall (< 0.01) in any",
    seeds=3,
    note="the last two rungs, alignment and joint training with behaviour, are reported for the first seed; the card sets no threshold for them",
)
def _ladder(seeds: Sequence[int]) -> Outcome:
    loss = np.array([[_rung(seed, name).evaluate().nats_id for name in list(LADDER)[:3]] for seed in seeds])
    shuffled = np.array([_rung(seed, "+ stimulus", shuffled=True).evaluate().nats_id for seed in seeds])
    further = [_rung(seeds[0], name).evaluate().nats_id for name in list(LADDER)[3:]]
    fall = loss[:, :2] - loss[:, 1:]
    holds = bool((fall >= 0.02).all() and (loss[:, 1] - shuffled).max() < 0.01)
    return Outcome(
        dict(zip(list(LADDER)[:3], loss.mean(0), strict=True)),
        {"+ shuffled stimulus": shuffled.mean()},
        holds,
        f"smallest fall over seeds: past {fall[:, 0].min():.3f}, stimulus {fall[:, 1].min():.3f}; largest with shuffled stimulus "
        f"{(loss[:, 1] - shuffled).max():.3f}; first seed: + stimulus {loss[0, 2]:.3f}, + alignment {further[0]:.3f}, + behaviour {further[1]:.3f}",
    )


@PAPER.claim(
    "contrastive alignment matches spikes with what was seen",
    paper_value="not reported as a number",
    threshold="the stimulus of a held-out window is found among 64 at >= 5 x chance; after training on permuted pairs at < 2 x chance",
    note="spikes are embedded before the stimulus comes in, else the match would be given away",
)
def _alignment(seeds: Sequence[int]) -> Outcome:
    recording = _seen(seeds[0], 24)
    models = {
        key: _rung(seeds[0], "+ alignment", n_units=24, steps=400, shuffled=key == "permuted")
        for key in ("true", "permuted")
    }
    found, permuted = (_matched(models[key], recording, seeds[0]) for key in ("true", "permuted"))
    return Outcome(found, {"permuted pairs": permuted, "chance": 1 / 64}, found >= 5 / 64 and permuted < 2 / 64)


def _matched(model: Neuroformer, recording: xr.Dataset, seed: int) -> float:
    """Share of held-out windows whose stimulus, of 64 windows drawn together, is nearest to their spikes."""
    held = model.windows_.start[model.split_ == "test"] + model.window / 2
    both = model.embed(recording)
    both = both.isel(time=np.isin(np.round(both["time"].values, 6), np.round(held, 6)))
    order = np.random.default_rng(seed).permutation(both.sizes["time"])
    groups = order[: len(order) // 64 * 64].reshape(-1, 64)
    spikes, seen = both["spikes"].values[groups], both["stimulus"].values[groups]
    return float((np.einsum("gil,gjl->gij", spikes, seen).argmax(2) == np.arange(64)).mean())


@PAPER.claim(
    "generates realistic activity in closed loop",
    paper_value="generated activity resembles the recording more than a GLM's (figure 3)",
    threshold="rates of units correlate >= 0.9; lagged correlation from hub to target has the right sign for >= 90 % of connections, across windows too; "
    "without past, across windows, it does not",
    note="delays are shorter than a window, so that a model without past still gets pairs of spikes inside a window right; it fails across windows",
)
def _generates(seeds: Sequence[int]) -> Outcome:
    circuit = _circuit(seeds[0])
    blind = Neuroformer(**SMALL, inputs=(), steps=200, seed=seeds[0]).fit(circuit.recording)
    runs = {"model": circuit.model, "no past": blind}
    drawn = {name: model.generate(duration=60, seed=seeds[0])["spikes"].values for name, model in runs.items()}
    rates = float(np.corrcoef(drawn["model"].mean(0), circuit.recording["spikes"].values.mean(0))[0, 1])
    right = {name: _right_signs(counts, circuit, across=True) for name, counts in drawn.items()}
    anywhere = _right_signs(drawn["model"], circuit, across=False)
    holds = rates >= 0.9 and min(anywhere, right["model"]) >= 0.9 and right["no past"] < 0.9
    return Outcome(
        {"rates": rates, "right signs": anywhere, "right signs across windows": right["model"]},
        {"right signs across windows without past": right["no past"]},
        holds,
        f"without past, all pairs of bins: {_right_signs(drawn['no past'], circuit, across=False):.2f}",
    )


def _right_signs(counts: Float[np.ndarray, "time unit"], circuit: _Circuit, *, across: bool) -> float:
    """Share of true connections, all of them excitatory, along which generated spikes are positively correlated at the connection's
    delay: over all pairs of bins, or those that lie in two windows.
    """
    window = round(circuit.model.window / circuit.model.bin_width)
    bins = np.round(np.nan_to_num(circuit.recording["delay"].values) / circuit.model.bin_width).astype(int)
    x, place = counts - counts.mean(0), np.arange(len(counts)) // window
    signs = []
    for lag in np.unique(bins[circuit.edges]):
        rows = np.flatnonzero(place[lag:] > place[:-lag]) if across else np.arange(len(x) - lag)
        signs.append((x[lag:][rows].T @ x[:-lag][rows])[circuit.edges & (bins == lag)] > 0)
    return float(np.concatenate(signs).mean())
