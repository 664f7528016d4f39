"""The Expressive Leaky Memory Neuron: its claims on sequences that must be remembered, and on a simulated cell whose branches
are known.

Every comparison changes one thing: the longest time constant, the gain, the routing, the depth of the dendrites or the
number of memory units. Recurrent networks of as many weights, trained for as many steps, stand beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nissl.learning import delayed_cue, digit_sums, spoken_digits, train
from nissl.nn import LeakyMemoryNeuron
from nissl.papers.harness import Outcome, Paper
from nissl.populations import NeuronModel, fit_neuron
from nissl.recordings.simulate import branch_cell

PAPER = Paper(
    "elm-neuron",
    "The Expressive Leaky Memory Neuron: an Efficient and Expressive Phenomenological Neuron Model Can Solve Long-Horizon Tasks",
    "nn",
    "https://arxiv.org/abs/2306.16922",
    threads=1,
)
Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
TEST = 1000
NOT_KNOWN = "reported in figures, without a number"


class Recurrent(nn.Module):
    """An LSTM with a linear output. With `longest`, its gates begin with timescales from 1 to that many steps (Chrono-LSTM)."""

    def __init__(self, n_inputs: int, n_outputs: int, hidden: int, seed: int, longest: int | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.lstm = nn.LSTM(n_inputs, hidden, batch_first=True)
            self.readout = nn.Linear(hidden, n_outputs)
            # Uniform in time, as Tallec and Ollivier have it; torch keeps two biases that add up.
            remember = torch.log(1 + torch.rand(hidden) * ((longest or 2) - 2))
        if longest is not None:
            with torch.no_grad():
                _, _, bias, other = self.lstm.parameters()
                other.zero_()
                bias.copy_(torch.cat([-remember, remember, torch.zeros(2 * hidden)]))

    def forward(self, x: Tensor) -> Tensor:
        """Output at every step."""
        return self.readout(self.lstm(x)[0])


def _recurrent(like: nn.Module, n_inputs: int, n_outputs: int, seed: int, longest: int | None = None) -> Recurrent:
    """The smallest LSTM with at least as many weights."""
    least = _weights(like)
    hidden = next(h for h in range(1, 1000) if 4 * h * (n_inputs + h + 2) + (h + 1) * n_outputs >= least)
    return Recurrent(n_inputs, n_outputs, hidden, seed, longest)


def _weights(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _accuracy(model: nn.Module, draw: Draw, steps: int, seed: int) -> float:
    """Share of right answers at the last step, on samples that were not trained on."""
    with warnings.catch_warnings():  # the longest time constant is meant to outlast the sequence
        warnings.filterwarnings("ignore", message="the longest time constant")
        train(
            model,
            lambda generator: draw(32, generator),
            lambda m, x, label: cross_entropy(m(x)[:, -1], label),
            steps=steps,
            lr=5e-3,
            optimiser="adamax",
            seed=seed,
            progress=False,
        )
        x, label = draw(TEST, torch.Generator().manual_seed(10_000 + seed))
        with torch.no_grad():
            return (model.eval()(x)[:, -1].argmax(-1) == label).double().mean().item()


def _cue(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return delayed_cue(n, seed=generator)


@lru_cache(maxsize=64)
def _cue_accuracy(seed: int, longest: float = 150.0, gain: float = 5.0, updates: int = 250) -> float:
    return _accuracy(_cue_neuron(seed, longest, gain), _cue, updates, seed)


def _cue_neuron(seed: int, longest: float = 150.0, gain: float = 5.0) -> LeakyMemoryNeuron:
    return LeakyMemoryNeuron(20, 4, 10, tau_memory=(1.0, longest), gain=gain, seed=seed)


@PAPER.claim(
    "long memory timescales carry long dependencies: a cue is named 100 steps later with time constants up to 150 steps, and not with up to 10",
    paper_value=NOT_KNOWN,
    threshold="accuracy at 150 >= 0.95 and at 10 <= 0.35 (chance 0.25)",
    seeds=2,
    expected=False,
    note="after 250 updates some seeds are still learning, and all have learned after 500; the control stays at chance. LSTMs have 996 weights against 894 and as many updates, and no part in the threshold",
)
def _timescales(seeds: Sequence[int]) -> Outcome:
    long, short, shortest = (np.mean([_cue_accuracy(s, tau) for s in seeds]) for tau in (150.0, 10.0, 3.0))
    lstm, chrono = (
        np.mean([_accuracy(_recurrent(_cue_neuron(s), 20, 4, s, longest), _cue, 250, s) for s in seeds])
        for longest in (None, 100)
    )
    later = np.mean([_cue_accuracy(s, updates=500) for s in seeds])
    return Outcome(
        {"up to 150": long, "up to 150, 500 updates": later},
        {"up to 10": short, "up to 3": shortest, "LSTM": lstm, "Chrono-LSTM": chrono},
        bool(long >= 0.95 and short <= 0.35),
    )


@PAPER.claim(
    "lambda above 1 speeds the writing of memory: the same task after as few updates",
    paper_value=NOT_KNOWN,
    threshold="accuracy with lambda = 5 at least 0.2 above lambda = 1, after 250 updates",
    seeds=2,
    expected=False,
    note="two seeds are few where single networks reach .55 to .99: at some the gap is .18; means of three seeds differ by .29 to .45",
)
def _gain(seeds: Sequence[int]) -> Outcome:
    fast, slow = (float(np.mean([_cue_accuracy(s, 150.0, gain) for s in seeds])) for gain in (5.0, 1.0))
    return Outcome({"lambda 5": fast}, {"lambda 1": slow}, fast >= slow + 0.2)


@lru_cache(maxsize=8)
def _cell(seed: int):
    return branch_cell(seed=seed)


def _groups(seed: int, shuffled: bool = False) -> np.ndarray:
    """Channels of each branch, as they are or any."""
    branch = _cell(seed).branch.values
    order = np.random.default_rng(seed).permutation(branch.size) if shuffled else np.argsort(branch, kind="stable")
    return order.reshape(8, 8)


@lru_cache(maxsize=64)
def _fitted(
    seed: int,
    routing: str = "true",
    d_m: int = 10,
    n_hidden_layers: int = 1,
    longest: float = 150.0,
    updates: int = 300,
) -> NeuronModel:
    grouped = routing != "none"
    return fit_neuron(
        _cell(seed).spikes_in,
        voltage=_cell(seed).voltage,
        n_memory=d_m,
        branches=8 if grouped else None,
        synapses_per_branch=8 if grouped else 1,
        routing=_groups(seed, routing == "shuffled") if grouped else None,
        n_hidden_layers=n_hidden_layers,
        tau_memory=(1.0, longest),
        steps=updates,
        schedule="constant",
        seed=seed,
        progress=False,
    )


def _explained(seed: int, *args: object, **kwargs: object) -> float:
    """Explained variance of the voltage on the last 40 of 200 trials."""
    return float(_fitted(seed, *args, **kwargs).scores_["voltage_r2"])  # type: ignore[arg-type]


def _filtered(seed: int) -> float:
    """The same by ridge regression on the last 60 ms of every channel, in bins of 5 ms."""
    cell = _cell(seed)
    spikes = cell.spikes_in.values.astype(float)
    total = np.pad(spikes.cumsum(1), ((0, 0), (60, 0), (0, 0)))
    ago = [total[:, 60 - lag : 60 - lag + spikes.shape[1]] for lag in range(0, 61, 5)]
    past = np.concatenate([late - early for late, early in pairwise(ago)], -1)
    x, y = past[:, 50:], cell.voltage.values[:, 50:]
    model = Ridge(alpha=1.0).fit(x[:160].reshape(-1, x.shape[2]), y[:160].ravel())
    return float(model.score(x[160:].reshape(-1, x.shape[2]), y[160:].ravel()))


@PAPER.claim(
    "nonlinear integration within correctly grouped branches is needed to follow a cell with plateau potentials",
    paper_value=NOT_KNOWN,
    threshold="R2 of voltage with true routing >= 0.7 and at least 0.3 above shuffled routing; linear dendrites <= 0.2",
    seeds=2,
    expected=False,
    note="the threshold of 0.7 is met at some seeds and missed at others: after 300 updates some networks are still learning; the controls fail at all",
)
def _branches(seeds: Sequence[int]) -> Outcome:
    true, shuffled = (np.mean([_explained(s, routing) for s in seeds]) for routing in ("true", "shuffled"))
    linear = np.mean([_explained(s, n_hidden_layers=0) for s in seeds])
    ungrouped = np.mean([_explained(s, "none") for s in seeds])
    short = np.mean([_explained(s, longest=5.0) for s in seeds])
    later = np.mean([_explained(s, updates=600) for s in seeds])
    times = _weights(_fitted(seeds[0], "none").network_) / _weights(_fitted(seeds[0]).network_)
    return Outcome(
        {"true routing": true, "true routing, 600 updates": later},
        {
            "shuffled routing": shuffled,
            "linear dendrites": linear,
            "no grouping": ungrouped,
            "tau up to 5 ms": short,
            "linear filter of 60 ms": np.mean([_filtered(s) for s in seeds]),
        },
        bool(true >= 0.7 and true >= shuffled + 0.3 and linear <= 0.2),
        f"the neuron without grouping has {times:.1f} times as many weights",
    )


@PAPER.claim(
    "few memory units suffice, one or two do not",
    paper_value="NeuronIO, spike AUC 0.9437, 0.9757, 0.9878, 0.9922 for d_m = 1, 5, 10, 20",
    threshold="R2 of voltage with d_m = 10 at least 0.3 above d_m = 2",
    seeds=2,
    note="another cell than the paper's, whose data are 115 GB",
)
def _units(seeds: Sequence[int]) -> Outcome:
    ten, two = (float(np.mean([_explained(s, d_m=d) for s in seeds])) for d in (10, 2))
    return Outcome({"d_m 10": ten}, {"d_m 2": two}, ten >= two + 0.3)


@PAPER.claim(
    "two digits are added over a delay: the first is remembered while the second is heard",
    paper_value=NOT_KNOWN,
    threshold="accuracy with tau up to 500 ms >= 0.6 and at least 0.3 above tau up to 30 ms",
    seeds=2,
    expected=False,
    note="at some seeds units of up to 30 ms hold the first digit as well, since proposals that see the memory can renew it; where they are blind to it nothing is left. Random templates stand for spoken digits; from the second alone 0.2 is the most. LSTMs have about as many weights, and no part in the threshold",
)
def _digits(seeds: Sequence[int]) -> Outcome:
    def neuron(seed: int, longest: float, recurrent: bool = True) -> nn.Module:
        return LeakyMemoryNeuron(30, 9, 30, tau_memory=(1.0, longest), dt=10.0, recurrent=recurrent, seed=seed)

    def right(make: Callable[[int], nn.Module]) -> float:
        found = []
        for seed in seeds:
            templates = spoken_digits(seed=seed)
            draw = partial(_sums, templates)
            found.append(_accuracy(make(seed), draw, 400, seed))
        return float(np.mean(found))

    long, short = (right(lambda s, tau=tau: neuron(s, tau)) for tau in (500.0, 30.0))
    without = {
        f"up to {tau:g} ms, proposals blind to memory": right(lambda s, tau=tau: neuron(s, tau, recurrent=False))
        for tau in (500.0, 30.0)
    }
    lstm, chrono = (
        right(lambda s, longest=longest: _recurrent(neuron(s, 500.0), 30, 9, s, longest)) for longest in (None, 50)
    )
    return Outcome(
        {"up to 500 ms": long},
        {"up to 30 ms": short, **without, "LSTM": lstm, "Chrono-LSTM": chrono},
        long >= 0.6 and long >= short + 0.3,
    )


def _sums(templates: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return digit_sums(n, templates, seed=generator)
