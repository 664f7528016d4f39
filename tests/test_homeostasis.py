"""Homeostatic learning: plain descent and explicit copies as oracles, closed forms of the random policy, streams, then bad input."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import nn
from torch.nn.functional import cross_entropy

from nissl.errors import InputError, UnknownNameError
from nissl.learning import (
    ConceptShift,
    HomeostaticSGD,
    advantage,
    best_constant_rate,
    elu_classifier,
    late_accuracy,
    recovery_time,
    run_stream,
)
from nissl.learning._regulation import Regulation, Settings
from nissl.learning._replicas import DenseReplicas, ModuleReplicas, replicas, stackable


def blobs(n: int = 400, classes: int = 4, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy one-hot vectors."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return np.eye(classes, width)[y] + 0.3 * rng.standard_normal((n, width)), y


def stream(n: int = 600, *, every: int | None = 200, seed: int = 0, **settings) -> ConceptShift:
    return ConceptShift(*blobs(), n_samples=n, every=every, seed=seed, **settings)


def network(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    return elu_classifier(6, 4, (8, 7), seed=seed, dtype=dtype)


def loop(model: nn.Module, source: ConceptShift, optimiser: torch.optim.Optimizer) -> list[str]:
    """The loop a person would write."""
    decisions = []
    for batch in source.batches(10):
        logits = model(batch.inputs)
        optimiser.zero_grad()
        cross_entropy(logits, batch.targets).backward()
        if isinstance(optimiser, HomeostaticSGD):
            for pair in batch.swaps:
                optimiser.relabel(*pair)
            decisions.append(optimiser.observe(batch.inputs, batch.targets, logits))
        optimiser.step()
    return decisions


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


# Oracles


@pytest.mark.parametrize(
    "setting", [{"policy": "constant"}, {"step_size": 0.0}, {"step_size": 0.0, "policy": "random"}]
)
def test_without_effect_it_is_plain_descent_bit_for_bit(setting):
    ours, theirs = network(dtype=torch.float32), network(dtype=torch.float32)
    source = ConceptShift(blobs()[0].astype(np.float32), blobs()[1], n_samples=600, every=200)
    decisions = loop(ours, source, HomeostaticSGD(ours, lr=0.05, **setting))
    loop(theirs, source, torch.optim.SGD(theirs.parameters(), lr=0.05))
    assert all(torch.equal(a, b) for a, b in zip(weights(ours), weights(theirs), strict=True))
    assert (set(decisions) == {"not asked"}) == (setting.get("policy") == "constant")


def test_dropout_and_running_means_are_untouched_by_imagination():
    def net() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ELU(), nn.Dropout(0.3), nn.Linear(8, 4))

    x, y = blobs()
    source = ConceptShift(x.astype(np.float32), y, n_samples=600)
    ours, theirs = net(), net()
    torch.manual_seed(1)
    decisions = loop(ours, source, HomeostaticSGD(ours, lr=0.05, step_size=0.0))
    torch.manual_seed(1)
    loop(theirs, source, torch.optim.SGD(theirs.parameters(), lr=0.05))
    assert "left" in decisions
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert all(m.training for m in ours.modules())


@pytest.mark.parametrize("gradient", ["sample", "batch"])
@pytest.mark.parametrize("direction", ["predicted", "true"])
def test_imagined_accuracies_are_those_of_an_explicitly_updated_copy(gradient, direction):
    model = network()
    optimiser = HomeostaticSGD(model, lr=0.5, step_size=0.4, gradient=gradient, direction=direction)
    x_all: list[torch.Tensor] = []
    y_all: list[torch.Tensor] = []
    gains = []
    for batch in stream(1500, every=None, noise=0.4).batches(10):
        x, y = batch.inputs, batch.targets
        rate = optimiser.rate
        expected = None
        if batch.sample > 20:
            seen_x, seen_y = torch.cat(x_all)[-20:], torch.cat(y_all)[-20:]
            decides = model(x[:1]).argmax().item() if direction == "predicted" else y[0].item()
            change = 0.4 if decides >= 2 else -0.4
            accuracies = []
            for eta in (rate, max(rate + change, 1e-8)):
                other = copy.deepcopy(model)
                other.zero_grad()
                part = x[:1] if gradient == "sample" else x
                (cross_entropy(other(part), y[: len(part)], reduction="sum") / len(x)).backward()
                with torch.no_grad():
                    for p in other.parameters():
                        p -= eta * p.grad
                    accuracies.append((other(seen_x).argmax(-1) == seen_y).double().mean().item())
            expected = accuracies[1] - accuracies[0]
        logits = model(x)
        optimiser.zero_grad()
        cross_entropy(logits, y).backward()
        decision = optimiser.observe(x, y, logits)
        if expected is None:
            assert decision == "not asked"
        else:
            assert optimiser.last_gain == pytest.approx(expected, abs=1e-12)
            # Strictly better, or it is left.
            assert decision == ("taken" if expected > 0 else "left")
            effect = (0.4 if y[0] >= 2 else -0.4) if decision == "taken" else 0.0
            assert optimiser.rate == max(rate + effect, 1e-8)
            gains.append(expected)
        optimiser.step()
        x_all.append(x)
        y_all.append(y)
    assert min(gains) < 0 < max(gains)


@pytest.mark.parametrize("form", [DenseReplicas, ModuleReplicas])
def test_gradients_of_stacked_networks_are_those_of_autograd(form):
    nets = [network(seed) for seed in range(3)]
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(3, 10, 6, generator=rng, dtype=torch.float64)
    y = torch.randint(0, 4, (3, 10), generator=rng)
    rates = torch.tensor([0.1, 0.5, 0.02], dtype=torch.float64)
    stacked = form(nets)
    wanted = []
    logits = stacked.forward(x, y)
    for i, net in enumerate(nets):
        out = net(x[i])
        assert torch.allclose(out, logits[i])
        grads = torch.autograd.grad(cross_entropy(out, y[i]), list(net.parameters()))
        wanted += [p - rates[i] * g for p, g in zip(weights(net), grads, strict=True)]
    stacked.descend(rates)
    stacked.write_back()
    found = [p for net in nets for p in weights(net)]
    assert all(torch.allclose(p, w, atol=1e-12) for p, w in zip(found, wanted, strict=True))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), whole=st.lists(st.booleans(), min_size=3, max_size=3))
def test_both_stacked_forms_imagine_the_same(seed, whole):
    nets = [network(seed + i) for i in range(4)]
    rng = torch.Generator().manual_seed(seed)
    x, memory = (torch.randn(4, n, 6, generator=rng, dtype=torch.float64) for n in (10, 20))
    y = torch.randint(0, 4, (4, 10), generator=rng)
    rates = 3 * torch.rand(3, 2, generator=rng, dtype=torch.float64)
    found = []
    for form in (DenseReplicas, ModuleReplicas):
        stacked = form(nets)
        stacked.forward(x, y)
        found.append(stacked.imagine(rates, torch.tensor(whole), memory[:3]))
    assert torch.equal(*found)


class Convolutional(nn.Module):
    """Not a stack of dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.filter, self.out = nn.Conv1d(1, 3, 3), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.filter(x[:, None])).flatten(1))


def test_networks_together_live_as_they_do_alone():
    policies = [
        {"policy": "homeostatic"}, {"policy": "random"}, {"policy": "constant"}, {"policy": "shuffled"},
        {"policy": "homeostatic", "gradient": "batch"}, {"policy": "homeostatic", "direction": "true", "excitatory": [0]},
        {"policy": "yoked", "takes": [True, False] * 20},
    ]  # fmt: skip

    def conv(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return Convolutional().double()

    for make in (network, conv):
        together, alone = [[make(i) for i in range(len(policies))] for _ in range(2)]
        sources = [stream(seed=i % 3, noise=0.1) for i in range(len(policies))]
        many, one = (
            [
                HomeostaticSGD(m, lr=0.1, step_size=0.1, seed=i, **p)
                for i, (m, p) in enumerate(zip(ms, policies, strict=True))
            ]
            for ms in (together, alone)
        )
        assert stackable(together)
        assert isinstance(replicas(together), DenseReplicas if make is network else ModuleReplicas)
        test = blobs(50, seed=9)
        found = run_stream(together, sources, many, held_out=test, held_out_every=200)
        for i in range(len(policies)):
            single = run_stream(alone[i], sources[i], one[i], held_out=test, held_out_every=200)
            for name in ("accuracy", "lr", "imagined_gain", "held_out_accuracy"):
                assert np.allclose(found[name][i], single[name], atol=1e-6, equal_nan=True), (name, policies[i])
            assert (found.decision[i] == single.decision).all()
            assert all(torch.allclose(a, b) for a, b in zip(weights(together[i]), weights(alone[i]), strict=True))
            assert (many[i].ups, many[i].downs, many[i].rate) == (one[i].ups, one[i].downs, one[i].rate)
            # What a learner remembers afterwards is the same too: both go on alike.
            state, other = many[i].state_dict()["homeostasis"], one[i].state_dict()["homeostasis"]
            assert state["seen"] == other["seen"] == 600
            if state["inputs"] is not None:
                assert torch.equal(state["inputs"], other["inputs"])
                assert torch.equal(state["targets"], other["targets"])
        assert (found.decision == "taken").any()


def test_rate_counts_what_was_taken():
    model = network()
    optimiser = HomeostaticSGD(model, lr=1.0, step_size=0.001, policy="random")
    loop(model, ConceptShift(*blobs(), n_samples=3000), optimiser)
    assert optimiser.ups + optimiser.downs > 100
    assert optimiser.rate == pytest.approx(1.0 + 0.001 * (optimiser.ups - optimiser.downs), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), step=st.floats(1e-4, 1))
def test_rate_stays_positive(seed, step):
    checked = _settings(lr=1.0, step_size=step, policy="random", seed=seed, floor=1e-8)
    regulation, rng = Regulation([checked], 10), np.random.default_rng(seed)
    for t in range(1, 200):
        regulation.decide(10 * t, *rng.integers(0, 5, (2, 1)), imagine=lambda a, b: (a, b))
        assert regulation.eta[0] >= 1e-8


def _settings(**changed) -> Settings:
    usual = {
        "lr": 0.001, "step_size": None, "interval": 10, "memory": 20, "excitatory": None, "floor": 1e-8, "policy": "homeostatic",
        "direction": "predicted", "gradient": "sample", "takes": None, "seed": 0,
    }  # fmt: skip
    return Settings.checked(**(usual | changed))


def test_random_policy_has_the_moments_of_its_walk():
    n, t = 3000, 400
    walkers = [_settings(lr=1e3, step_size=1.0, policy="random", seed=i, excitatory=range(6)) for i in range(n)]
    regulation, rng = Regulation(walkers, 10), np.random.default_rng(0)
    for k in range(1, t + 1):
        regulation.decide(10 * k, np.zeros(n, int), rng.integers(0, 10, n), imagine=lambda a, b: (a, b))
    moved = regulation.eta - 1e3
    # Each moment adds +1, -1 or 0: mean (0.6 - 0.4) / 2, variance 1/2 - mean^2.
    mean, variance = 0.1 * t, (0.5 - 0.01) * t
    assert moved.mean() == pytest.approx(mean, abs=4 * (variance / n) ** 0.5)
    assert moved.var() == pytest.approx(variance, rel=4 * (2 / n) ** 0.5)


def test_a_walk_of_balanced_classes_does_not_drift():
    n, t = 3000, 400
    walkers = [_settings(lr=1e3, step_size=0.5, policy="random", seed=i) for i in range(n)]
    regulation, rng = Regulation(walkers, 10), np.random.default_rng(1)
    for k in range(1, t + 1):
        regulation.decide(10 * k, np.zeros(n, int), rng.integers(0, 10, n), imagine=lambda a, b: (a, b))
    assert regulation.eta.mean() == pytest.approx(1e3, abs=4 * (0.25 * t / 2 / n) ** 0.5)
    assert regulation.eta.var() == pytest.approx(0.25 * t / 2, rel=4 * (2 / n) ** 0.5)


def test_a_learner_that_guesses_at_random_has_no_control():
    """What is taken has an effect that has nothing to do with what was seen: as many ups as downs."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4000, 16)), rng.integers(0, 10, 4000)
    source = ConceptShift(x, y, n_samples=6000)
    nets = [elu_classifier(16, 10, (20,), seed=s, dtype=torch.float64) for s in range(10)]
    masters = [HomeostaticSGD(net, lr=1.0, step_size=1.0, seed=s) for s, net in enumerate(nets)]
    run_stream(nets, source, masters, progress=False)
    ups, taken = sum(m.ups for m in masters), sum(m.ups + m.downs for m in masters)
    assert taken > 200
    assert binomtest(ups, taken).pvalue > 0.01


def test_memory_carries_labels_as_of_now():
    model = network()
    optimiser = HomeostaticSGD(model, lr=0.1)
    x = torch.zeros(4, 6, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3])
    optimiser.observe(x, y, model(x))
    optimiser.relabel(0, 3)
    assert optimiser.state_dict()["homeostasis"]["targets"].tolist() == [3, 1, 2, 0]


def test_asked_at_every_interval_once_memory_is_more_than_full():
    model = network()
    for size, interval, first, step in ((10, 10, 30, 10), (1, 10, 30, 10), (5, 20, 40, 20), (32, 10, 32, 32)):
        optimiser = HomeostaticSGD(model, lr=0.1, interval=interval, policy="random")
        x, y = torch.zeros(size, 6, dtype=torch.float64), torch.zeros(size, dtype=torch.long)
        decisions = [optimiser.observe(x, y, model(x)) for _ in range(8 * max(interval // size, 1))]
        asked = [k * size for k, d in enumerate(decisions) if d != "not asked"]
        assert asked[0] == first
        assert set(np.diff(asked)) == {step}


def test_a_run_is_resumed_with_the_same_decisions():
    source = list(stream(1200).batches(10))
    whole, half = network(), network()
    first, second = (HomeostaticSGD(m, lr=0.2, step_size=0.2, policy="homeostatic") for m in (whole, half))

    def go(model, optimiser, batches):
        for batch in batches:
            for pair in batch.swaps:
                optimiser.relabel(*pair)
            logits = model(batch.inputs)
            optimiser.zero_grad()
            cross_entropy(logits, batch.targets).backward()
            optimiser.observe(batch.inputs, batch.targets, logits)
            optimiser.step()

    go(whole, first, source)
    go(half, second, source[:60])
    buffer = io.BytesIO()
    torch.save((half.state_dict(), second.state_dict()), buffer)
    buffer.seek(0)
    network_state, inner = torch.load(buffer, weights_only=True)
    again = network(5)
    again.load_state_dict(network_state)
    third = HomeostaticSGD(again, lr=0.2, step_size=0.2)
    third.load_state_dict(inner)
    go(again, third, source[60:])
    assert first.ups + first.downs > 0
    assert (first.rate, first.ups, first.downs) == (third.rate, third.ups, third.downs)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))
    with pytest.raises(InputError, match="another optimiser"):
        third.load_state_dict(torch.optim.SGD(again.parameters(), lr=0.1).state_dict())


def test_a_copied_learner_lives_on_alike():
    model = network()
    optimiser = HomeostaticSGD(model, lr=0.2, step_size=0.2)
    loop(model, stream(300), optimiser)
    model_2, optimiser_2 = copy.deepcopy((model, optimiser))
    assert optimiser_2.model is model_2
    assert loop(model, stream(300, seed=5), optimiser) == loop(model_2, stream(300, seed=5), optimiser_2)
    assert optimiser.rate == optimiser_2.rate
    assert all(torch.equal(a, b) for a, b in zip(weights(model), weights(model_2), strict=True))


def test_schedulers_of_torch_work_on_it():
    model = network()
    optimiser = HomeostaticSGD(model, lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, 1, gamma=0.5)
    loop(model, stream(10, every=None), optimiser)
    schedule.step()
    assert optimiser.rate == pytest.approx(0.05)


# Streams


def test_a_swap_changes_labels_and_nothing_else():
    still, swapping = stream(every=None), stream(every=200)
    for a, b in zip(still.batches(10), swapping.batches(10), strict=True):
        assert torch.equal(a.inputs, b.inputs)
        event = a.sample // 200
        assert torch.equal(torch.from_numpy(swapping.meanings[event])[a.targets], b.targets)
        assert len(b.swaps) == (a.sample in (200, 400))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_labels_are_permuted_and_a_swap_undoes_itself(seed):
    source = ConceptShift(np.eye(5), np.arange(5), n_samples=1000, every=10, seed=seed)
    assert (np.sort(source.meanings, 1) == np.arange(5)).all()
    for row, (before, after) in zip(
        source.swaps.itertuples(), zip(source.meanings[:-1], source.meanings[1:], strict=True), strict=True
    ):
        assert row.first != row.second
        moved = np.flatnonzero(before != after)
        assert set(before[moved]) == {row.first, row.second}
        again = np.where(after == row.first, row.second, np.where(after == row.second, row.first, after))
        assert (again == before).all()


def test_each_pass_has_the_whole_data_set_and_streams_repeat_themselves():
    source = stream(800, noise=0.2)
    first, again = (torch.cat([b.inputs for b in source.batches(10)]) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(first, torch.cat([x for x, _ in source.blocks(130)]))
    classes = torch.cat([c for _, c in source.blocks(400)])
    assert torch.equal(classes[:400].bincount(), classes[400:].bincount())
    assert not torch.equal(classes[:400], classes[400:])
    noise = first - torch.cat([x for x, _ in stream(800).blocks(800)])
    assert noise.std().item() == pytest.approx(0.2, rel=0.05)


def test_seasons():
    source = ConceptShift(*blobs(), n_samples=6400, every=(800, 100), season=800)
    when = source.swaps["sample"].to_numpy()
    season = source.season_at(when - 1)
    # One at the end of each low season, eight in each high one; the end of the stream is no swap.
    assert np.bincount(season).tolist() == [4, 31]
    assert (np.diff(when) > 0).all()
    quiet = ConceptShift(*blobs(), n_samples=6400, every=(None, 100), season=800)
    assert set(quiet.season_at(quiet.swaps["sample"].to_numpy() - 1)) == {1}


def test_what_was_held_out_is_relabelled_alike():
    source = stream(600)
    _, y = blobs(40, seed=3)
    assert (source.relabelled(y, 0).numpy() == y).all()
    assert (source.relabelled(y, 450).numpy() == source.meanings[2][y]).all()


# Runs


def test_other_optimisers_and_networks_that_cannot_be_combined_run_as_well():
    nets = [network(0), network(1), nn.Sequential(nn.Dropout(0.1), nn.Linear(6, 4)).double()]
    masters = [torch.optim.Adam(nets[0].parameters(), lr=0.01), *(HomeostaticSGD(m, lr=0.1) for m in nets[1:])]
    result = run_stream(nets, stream(1000, every=None), masters, progress=False)
    assert (late_accuracy(result) > 0.5).all()
    assert result.decision[0].values.tolist() == ["not asked"] * 100


def test_a_network_that_diverges_is_right_no_more_and_does_not_touch_others():
    nets = [network(0), network(1)]
    other = network(1)
    masters = [HomeostaticSGD(nets[0], lr=1e200, policy="constant"), HomeostaticSGD(nets[1], lr=0.1, policy="constant")]
    result = run_stream(nets, stream(), masters, progress=False)
    assert result.diverged.values.tolist() == [True, False]
    assert float(late_accuracy(result)[0]) == 0
    single = run_stream(other, stream(), HomeostaticSGD(other, lr=0.1, policy="constant"), progress=False)
    assert np.allclose(result.accuracy[1], single.accuracy)
    lost = network(0)
    single = run_stream(lost, stream(), HomeostaticSGD(lost, lr=1e200, policy="constant"), progress=False)
    assert bool(single.diverged)
    assert float(late_accuracy(single)) == 0


def test_best_constant_rate_is_found_and_leaves_networks_alone():
    nets = [network(0), network(1)]
    before = [weights(net) for net in nets]
    found = best_constant_rate(nets, stream(1000), [1e-9, 0.3, 1e-5], progress=False)
    assert float(found.best) == 0.3
    assert found.attrs["edge"]
    assert found.accuracy.dims == ("rate", "run")
    single = network(1)
    run = run_stream(single, stream(1000), HomeostaticSGD(single, lr=0.3, policy="constant"), progress=False)
    assert float(found.best_accuracy[1]) == pytest.approx(float(late_accuracy(run)))
    assert all(
        torch.equal(a, b)
        for net, old in zip(nets, before, strict=True)
        for a, b in zip(net.parameters(), old, strict=True)
    )


def _log(accuracy, swaps) -> xr.Dataset:
    accuracy = np.atleast_2d(accuracy)
    runs, samples = zip(*swaps, strict=True) if swaps else ((), ())
    return xr.Dataset(
        {
            "accuracy": (("run", "batch"), accuracy),
            "swap_sample": ("event", np.array(samples, int)),
            "swap_run": ("event", np.array(runs, int)),
        },
        coords={"sample": ("batch", np.arange(accuracy.shape[1]) * 10)},
    )


def test_recovery_time_by_hand():
    slow = np.r_[np.full(100, 0.8), np.linspace(0.2, 0.8, 61), np.full(39, 0.8)]
    never = np.r_[np.full(100, 0.8), np.full(100, 0.3)]
    result = _log([slow, never], [(0, 1000), (1, 1000)])
    # 0.72 is reached 52 minibatches after the swap.
    assert recovery_time(result, window=10).values[0] == pytest.approx(520)
    assert np.isnan(recovery_time(result, window=10).values[1])
    again = _log([slow], [(0, 1000), (0, 1400)])
    # The next swap comes before accuracy is back; after it accuracy is above what it was.
    assert np.isnan(recovery_time(again, window=10).values[0])
    flat = _log(np.full(200, 0.7), [(0, 1000)])
    assert recovery_time(flat).values.tolist() == [0]
    with pytest.raises(InputError, match="longer than the time before"):
        recovery_time(again, window=600)
    for bad in ({"level": 0}, {"level": 1.2}, {"window": 5}):
        with pytest.raises(InputError):
            recovery_time(flat, **bad)


def test_advantage_pairs_runs():
    a, b = (_log([[v] * 4, [w] * 4], []) for v, w in ((0.9, 0.5), (0.7, 0.3)))
    found = advantage(a, b)
    assert found.value - found.control == pytest.approx(0.2)
    assert found.difference_low == pytest.approx(0.2) == found.difference_high
    with pytest.raises(InputError):
        late_accuracy(a, start=1.0)


# Bad input


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"lr": 0.0}, "0 < floor < lr"),
        ({"lr": float("nan")}, "finite"),
        ({"lr": 0.1, "step_size": 0.2}, "from 0 to lr"),
        ({"step_size": -0.1}, "from 0 to lr"),
        ({"floor": 0.0}, "0 < floor"),
        ({"floor": 1.0}, "floor 1"),
        ({"interval": 0}, "interval 0"),
        ({"interval": 2.5}, "interval 2.5"),
        ({"memory": 0}, "memory 0"),
        ({"memory": True}, "memory True"),
        ({"excitatory": [-1]}, "class indices"),
        ({"excitatory": ["cat"]}, "class indices"),
        ({"policy": "yoked"}, "give takes"),
        ({"takes": [True]}, "give takes"),
        ({"policy": "yoked", "takes": [0.5]}, "bools"),
    ],
)
def test_bad_settings(setting, says):
    with pytest.raises(InputError, match=says):
        HomeostaticSGD(network(), **setting)


@pytest.mark.parametrize("setting", [{"policy": "homeostasis"}, {"direction": "real"}, {"gradient": "batches"}])
def test_unknown_names(setting):
    with pytest.raises(UnknownNameError, match=r"nearest|allowed"):
        HomeostaticSGD(network(), **setting)


def test_parameters_are_not_a_network():
    with pytest.raises(InputError, match="network itself"):
        HomeostaticSGD(network().parameters())  # type: ignore[arg-type]


def test_bad_minibatches():
    model = network()
    x, y = torch.zeros(5, 6, dtype=torch.float64), torch.zeros(5, dtype=torch.long)
    logits = model(x)
    for bad, says in (
        ((x, y[:4], logits), "as many of each"),
        ((x[:0], y[:0], logits[:0]), "at least one"),
        ((x, y + 4, logits), "classes 0 to 3"),
        ((x, y - 1, logits), "classes 0 to 3"),
        ((x, y.double(), logits), "class indices"),
        ((x, y, logits.argmax(-1)), "give logits"),
        ((x, y, logits * torch.nan), "NaN"),
    ):
        with pytest.raises(InputError, match=says):
            HomeostaticSGD(model).observe(*bad)
    with pytest.raises(InputError, match="has 4 classes"):
        HomeostaticSGD(model, excitatory=[3, 4]).observe(x, y, logits)
    optimiser = HomeostaticSGD(model, gradient="batch", memory=1, interval=1)
    optimiser.observe(x, y, logits)
    with pytest.raises(InputError, match="after backward"):
        optimiser.observe(x, y, logits)
    with pytest.raises(InputError, match="in the minibatches before"):
        optimiser.observe(x, y, logits[:, :3])


@pytest.mark.parametrize(
    ("data", "setting", "says"),
    [
        ((np.full((4, 2), np.nan), np.arange(4)), {}, "NaN"),
        ((np.eye(4), np.array([0, 1, 3, 3])), {}, "no sample has class \\[2\\]"),
        ((np.eye(4), np.arange(4)), {"n_classes": 6}, "no sample has class \\[4, 5\\]"),
        ((np.eye(4), np.arange(4)), {"n_classes": 3}, "label 3"),
        ((np.eye(4), np.arange(4) - 1), {}, "numbered from 0"),
        ((np.eye(4), np.arange(4.0)), {}, "class indices"),
        ((np.eye(4), np.arange(3)), {}, "as many of both"),
        ((np.eye(4), np.zeros(4, int)), {}, "at least 2"),
        ((np.eye(0), np.arange(0)), {}, "at least one"),
        ((np.eye(4), np.arange(4)), {"every": 0}, "every 0"),
        ((np.eye(4), np.arange(4)), {"every": 40_000}, "longer than the stream"),
        ((np.eye(4), np.arange(4)), {"every": 100, "season": 1000}, "one pace"),
        ((np.eye(4), np.arange(4)), {"every": (100, 10)}, "length of a season"),
        ((np.eye(4), np.arange(4)), {"every": (2000, 10), "season": 1000}, "longer than a season"),
        ((np.eye(4), np.arange(4)), {"every": (100, 10), "season": 50_000}, "a season of"),
        ((np.eye(4), np.arange(4)), {"n_samples": 0}, "n_samples 0"),
        ((np.eye(4), np.arange(4)), {"noise": -1}, "noise -1"),
        ((np.eye(4), np.arange(4)), {"noise": float("nan")}, "noise nan"),
    ],
)
def test_bad_streams(data, setting, says):
    with pytest.raises(InputError, match=says):
        ConceptShift(*data, **setting)


def test_bad_runs():
    net = network()
    master = HomeostaticSGD(net)
    for args, kwargs, says in (
        (([net, network(1)], stream(), [master]), {}, "1 controllers"),
        (([], stream(), []), {}, "0 networks"),
        (([net, net], stream(), [master, master]), {}, "same network twice"),
        ((net, stream(), HomeostaticSGD(network(1))), {}, "other weights"),
        (([net, network(1)], [stream(), stream(800)], [master, HomeostaticSGD(network(1))]), {}, "different length"),
        ((net, stream(every=205), master), {}, "inside a minibatch"),
        ((net, stream(), master), {"batch_size": 0}, "batch size 0"),
        ((net, stream(), master), {"batch_size": 700}, "minibatches of 700"),
        ((net, stream(20, every=None), master), {}, "never be asked"),
        ((net, stream(), master), {"held_out_every": 100}, "without held_out"),
        ((net, stream(), master), {"held_out": blobs(20), "held_out_every": 15}, "a multiple of 10"),
        ((net, stream(), master), {"held_out": blobs(20, 5)}, "labels up to 4"),
        ((net, stream(), master), {"held_out": blobs(20, 4, 5)}, "those of the stream"),
        ((net, stream(), master), {"held_out": blobs(20)[0]}, "inputs and targets"),
    ):
        with pytest.raises(InputError, match=says):
            run_stream(*args, **kwargs)
    for bad, says in ((nn.Linear(5, 4), "cannot read"), (nn.Linear(6, 3), "at least 4 classes")):
        with pytest.raises(InputError, match=says):
            run_stream(bad.double(), stream(), HomeostaticSGD(bad))
    wrong = HomeostaticSGD(net, excitatory=[7])
    with pytest.raises(InputError, match=r"excitatory classes \[7\]"):
        run_stream(net, stream(), wrong)
    with pytest.raises(InputError, match="positive"):
        best_constant_rate(net, stream(), [0.0, 0.1])


def test_the_global_generator_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    net = network()
    run_stream(net, stream(noise=0.1), HomeostaticSGD(net, policy="random"), progress=False)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(network(4).parameters(), network(4).parameters(), strict=True))


def test_compiled_networks_work():
    net = network()
    compiled = torch.compile(net, backend="eager")
    optimiser = HomeostaticSGD(net, lr=0.1)
    assert isinstance(compiled, nn.Module)
    assert {"left", "taken"} & set(loop(compiled, stream(100, every=None), optimiser))
    result = run_stream(compiled, stream(300, every=None), HomeostaticSGD(compiled, lr=0.1), progress=False)
    assert float(late_accuracy(result)) > 0.3
