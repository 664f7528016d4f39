"""The thought machine against its equations, its own shorter forms, and brute force."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nissl
from nissl.errors import InputError, UnknownNameError
from nissl.learning import train
from nissl.nn import ContinuousThoughtMachine, HalfTurn, certainty, synchronisation, tick_loss
from nissl.nn.thought_machine import (
    NeuronModels,
    SingleQueryAttention,
    Synchronisation,
    answers,
    choose_pairs,
    ctc_loss,
    stopping_tick,
    synapse_model,
    tick_losses,
    written,
)

G = torch.Generator().manual_seed(0)


def machine(**settings: Any) -> ContinuousThoughtMachine:
    chosen = {
        "n_features": 4, "n_classes": 3, "n_neurons": 12, "ticks": 6, "history": 3, "d_input": 8, "heads": 2,
        "pairs_out": 4, "pairs_action": 3, "pairing": "semi-dense", "nlm_hidden": 2,
    } | settings  # fmt: skip
    made = ContinuousThoughtMachine(**chosen).double()
    with torch.no_grad():  # rates and temperatures away from where they begin
        for p in made.parameters():
            p.add_(0.1 * torch.rand(p.shape, generator=torch.Generator().manual_seed(p.numel()), dtype=p.dtype))
        for weight in made.neurons.weights:  # and lively neurons
            weight.mul_(5)
    return made.eval()


def data(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


X = data(5, 7, 4)


# Synchronisation -----------------------------------------------------------------------------------------------------------


def streams(window: int | None = None) -> tuple[Synchronisation, Tensor]:
    left, right = choose_pairs(6, 9, generator=torch.Generator().manual_seed(1))
    pairs = Synchronisation(left, right, window=window).double()
    with torch.no_grad():
        pairs.rate.copy_(torch.linspace(0, 15, 9))
    return pairs, data(11, 6, 4)  # (tick, unit, batch)


@pytest.mark.parametrize("window", [None, 1, 4, 30])
def test_recursion_sequence_and_definition_agree(window: int | None) -> None:
    pairs, z = streams(window)
    totals = pairs.begin(z[0])
    course = pairs.course(totals, 10)
    running = [pairs.read(totals, course, 0)]
    for t in range(1, 11):
        totals = pairs.update(z[t], totals, course)
        running.append(pairs.read(totals, course, t))
    whole, _ = pairs.sequence(z[1:], pairs.begin(z[0]))
    batch_first = z.permute(2, 0, 1)
    for t in range(11):
        seen = batch_first[:, max(0, t + 1 - (window or 99)) : t + 1]
        direct = synchronisation(seen, pairs.left, pairs.right, pairs.rate.detach())[:, -1]
        assert torch.allclose(running[t], direct, atol=1e-12, rtol=0)
        if t:
            assert torch.allclose(whole[:, t - 1], direct, atol=1e-12, rtol=0)


@pytest.mark.parametrize("window", [None, 4])
def test_synchronisation_is_carried_over(window: int | None) -> None:
    pairs, z = streams(window)
    whole, end = pairs.sequence(z[1:], pairs.begin(z[0]))
    first, totals = pairs.sequence(z[1:5], pairs.begin(z[0]))
    kept = pairs.unpack({k: v.clone() for k, v in pairs.pack(totals).items()}, z[4])
    rest, last = pairs.sequence(z[5:], kept)
    assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-12)
    for a, b in zip(pairs.pack(end).values(), pairs.pack(last).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-12)


def test_no_forgetting_divides_by_the_root_of_the_ticks_and_fast_forgetting_keeps_the_last() -> None:
    z = data(2, 8, 5)
    left, right = choose_pairs(5, 5, "dense")
    products = z[..., left] * z[..., right]
    roots = torch.arange(1, 9, dtype=z.dtype).sqrt()[:, None]
    assert torch.allclose(synchronisation(z, left, right), products.cumsum(1) / roots, atol=1e-12)
    bound = products.abs().max().item() * 10 * math.exp(-15)
    assert (synchronisation(z, left, right, 15.0) - products).abs().max() < bound < 1e-4
    assert (synchronisation(z[:, :2], left, right, 15.0)[:, 1] - products[:, 1]).abs().max() < 2e-6


def test_synchronisation_is_symmetric_and_its_dense_table_is_a_gram_matrix() -> None:
    z = data(1, 8, 5)
    left, right = choose_pairs(5, 5, "dense")
    assert torch.equal(synchronisation(z, left, right, 0.3), synchronisation(z, right, left, 0.3))
    table = torch.zeros(5, 5, dtype=z.dtype)
    table[left, right] = table[right, left] = synchronisation(z, left, right)[0, -1]
    assert torch.allclose(table, z[0].T @ z[0] / math.sqrt(8), atol=1e-12)
    assert torch.linalg.eigvalsh(table).min() > -1e-12


def test_a_rate_at_zero_is_clamped_but_still_learns() -> None:
    pairs, z = streams()
    pairs.rate.data.fill_(-1.0)
    pairs.clamp()
    assert (pairs.rate == 0).all()
    pairs.sequence(z[1:], pairs.begin(z[0]))[0].square().sum().backward()
    assert pairs.rate.grad is not None
    assert (pairs.rate.grad != 0).all()


def test_gradients_of_the_sequence_are_those_of_the_definition() -> None:
    pairs, z = streams()
    z.requires_grad_()
    weigh = data(4, 10, 9)
    (pairs.sequence(z[1:], pairs.begin(z[0]))[0] * weigh).sum().backward()
    given, z.grad = (z.grad, pairs.rate.grad), None
    rate = pairs.rate.detach().requires_grad_()
    weight = torch.exp(-rate * torch.arange(11.0).double()[:, None])  # by age
    products = z.permute(2, 0, 1)[..., pairs.left] * z.permute(2, 0, 1)[..., pairs.right]
    s = [(weight[: t + 1].flip(0) * products[:, : t + 1]).sum(1) / weight[: t + 1].sum(0).sqrt() for t in range(1, 11)]
    (torch.stack(s, 1) * weigh).sum().backward()
    for a, b in zip(given, (z.grad, rate.grad), strict=True):
        assert a is not None
        assert b is not None
        assert torch.allclose(a, b, atol=1e-10)


def test_pairs_are_as_many_as_they_say_and_drawn_from_their_own_generator() -> None:
    left, right = choose_pairs(40, 10, "semi-dense", generator=torch.Generator().manual_seed(2))
    assert len(left) == 55
    assert len(set(left.tolist())) == len(set(right.tolist())) == 10
    left, right = choose_pairs(40, 10, "random", n_self=4)
    assert (left[:4] == right[:4]).all()
    assert len(left) == 10
    assert choose_pairs(40, 3, "dense", last=True)[0].tolist() == [37, 37, 37, 38, 38, 39]
    assert machine().synchronisation["out"].width == 10
    assert machine(seed=1).synchronisation["out"].left.tolist() != machine().synchronisation["out"].left.tolist()


# Parts ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [3, None])
def test_neuron_models_are_a_loop_over_neurons(hidden: int | None) -> None:
    models = NeuronModels(5, 4, hidden=hidden).double()
    with torch.no_grad():
        models.temperatures[0].fill_(1.7)
        for bias in models.biases:
            bias.normal_(generator=G)
    history = data(3, 5, 4)
    said = models(history)
    for d in range(5):
        value = history[:, d]
        for weight, bias, temperature in zip(models.weights, models.biases, models.temperatures, strict=True):
            value = (value @ weight[d].T + bias[d]) / temperature
            a, b = value.chunk(2, 1)
            value = a / (1 + torch.exp(-b))
        assert torch.allclose(said[:, d], value[:, 0], atol=1e-12)


def test_parameters_are_counted_as_on_paper() -> None:
    d, m, h, j = 12, 3, 2, 4
    made = machine()
    assert sum(p.numel() for p in made.neurons.parameters()) == d * (m * 2 * h + 2 * h + 2 * h + 2) + 2
    assert (
        sum(p.numel() for p in NeuronModels(d, m, hidden=h, shared=True).parameters()) == m * 2 * h + 2 * h + 2 * h + 4
    )
    assert made.synchronisation["out"].rate.numel() == j * (j + 1) / 2


@pytest.mark.parametrize("tokens", [3, 40])  # values projected beforehand, and not
def test_attention_is_that_of_torch(tokens: int) -> None:
    own = SingleQueryAttention(10, 16, 2).double()
    theirs = nn.MultiheadAttention(16, 2, batch_first=True).double()
    with torch.no_grad():
        for name in ("weight", "bias"):
            parts = [getattr(part, name) for part in (own.query, own.key, own.value)]
            for part in parts:
                part.add_(0.1)
            getattr(theirs, f"in_proj_{name}").copy_(torch.cat(parts))
            getattr(theirs.out_proj, name).copy_(getattr(own.out, name))
    s, kv = data(4, 10), data(4, tokens, 16)
    assert own.prepare(kv).projected == (tokens == 3)
    answer, weights = own(s, kv)
    expected, their_weights = theirs(own.ask(s)[:, None], kv, kv, average_attn_weights=False)
    assert torch.allclose(answer, expected[:, 0], atol=1e-12)
    assert torch.allclose(weights, their_weights[:, :, 0], atol=1e-12)


def test_the_unet_narrows_and_its_skips_count() -> None:
    net = synapse_model(20, 64, depth=4)
    assert [block[-3].out_features for block in net.down] == [48, 32, 16]  # type: ignore[union-attr, index]
    x = torch.randn(3, 20, generator=G)
    full = net(x)
    assert full.shape == (3, 64)
    with torch.no_grad():
        net.up[-1][-3].weight.zero_()  # type: ignore[index]
    assert not torch.allclose(net(x), full)  # the way through the bottleneck is cut, the skips go on
    assert net(x).std() > 0.1
    assert sum(isinstance(m, nn.GLU) for m in synapse_model(20, 8, depth=2, kind="stack")) == 2  # type: ignore[arg-type]


def test_half_a_turn() -> None:
    code = HalfTurn(2)
    with torch.no_grad():
        code.project.weight.copy_(torch.eye(2))
        code.project.bias.zero_()
    places = code(torch.zeros(1, 5, 2))[0]
    assert torch.allclose(places.norm(dim=1), torch.ones(5))
    assert torch.allclose(places[0], -places[-1], atol=1e-6)


# The machine ---------------------------------------------------------------------------------------------------------------


def plain(m: ContinuousThoughtMachine, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The equations one after another, each neuron and pair by itself."""
    tokens = m.tokens(x)
    z = [m.start.expand(len(x), -1)]
    inputs = [m.start_history[:, i].expand(len(x), -1) for i in range(m.history)]
    theirs = nn.MultiheadAttention(m.look.width, m.heads, batch_first=True).double()
    with torch.no_grad():
        for name in ("weight", "bias"):
            parts = torch.cat([getattr(part, name) for part in (m.look.query, m.look.key, m.look.value)])
            getattr(theirs, f"in_proj_{name}").copy_(parts)
            getattr(theirs.out_proj, name).copy_(getattr(m.look.out, name))

    def compared(name: str) -> Tensor:
        pairs, t = m.synchronisation[name], len(z)
        found = []
        for i, j, r in zip(pairs.left, pairs.right, pairs.rate, strict=True):  # type: ignore[arg-type]
            weights = [torch.exp(-r * (t - 1 - k)) for k in range(t)]
            total = sum(w * z[k][:, i] * z[k][:, j] for k, w in enumerate(weights))
            found.append(total / sum(weights).sqrt())  # type: ignore[union-attr]
        return torch.stack(found, 1)  # type: ignore[arg-type]

    seen: dict[str, list[Tensor]] = {
        name: [] for name in ("pre", "post", "sync.action", "sync.out", "attention", "logits")
    }
    for _ in range(m.ticks):
        s = compared("action")
        o, weights = theirs(m.look.ask(s)[:, None], tokens, tokens, average_attn_weights=False)
        a = m.synapses(torch.cat([o[:, 0], z[-1]], 1))
        inputs.append(a)
        z.append(m.neurons(torch.stack(inputs[-m.history :], 2)))
        out = compared("out")
        for name, value in zip(seen, (a, z[-1], s, out, weights[:, :, 0], m.readout(out)), strict=True):
            seen[name].append(value)
    stacked = {name: torch.stack(values, 1) for name, values in seen.items()}
    return stacked["logits"].movedim(1, -1), stacked


def test_the_machine_is_its_equations_at_every_site() -> None:
    m = machine()
    expected, sites = plain(m, X)
    found = m(X)
    assert torch.allclose(found.logits, expected, atol=1e-10)
    acts = nissl.record(m, X, at=list(sites))
    for name, value in sites.items():
        assert np.allclose(acts[name].to_numpy(), value.detach().numpy(), atol=1e-10), name


def test_its_gradients_are_those_of_its_equations() -> None:
    m, n = machine(), machine()
    weigh = data(5, 3, 6)
    (m(X).logits * weigh).sum().backward()
    (plain(n, X)[0] * weigh).sum().backward()
    copied = {"look.query", "look.key", "look.value", "look.out"}  # the plain one uses torch's own
    for (name, p), q in zip(m.named_parameters(), n.parameters(), strict=True):
        if not any(name.startswith(c) for c in copied):
            assert p.grad is not None, name
            assert q.grad is not None, name
            assert torch.allclose(p.grad, q.grad, atol=1e-9), name


def test_gradients_by_finite_differences() -> None:
    m = machine(ticks=3, synapse_depth=2, synapse="stack", window=2)
    weigh = data(2, 3, 3)
    for p in (m.start, m.start_history, m.synchronisation["action"].rate, m.look.key.weight, m.neurons.weights[0]):
        loss = (m(X[:2]).logits * weigh).sum()
        (grad,) = torch.autograd.grad(loss, p)  # type: ignore[arg-type]
        at = (0,) * p.dim()
        with torch.no_grad():
            p[at] += 1e-6
            up = (m(X[:2]).logits * weigh).sum()
            p[at] -= 2e-6
            down = (m(X[:2]).logits * weigh).sum()
            p[at] += 1e-6
        assert float((up - down) / 2e-6) == pytest.approx(float(grad[at]), rel=1e-5, abs=1e-8)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"window": 3},
    {"window": 3, "heads": 0},
    {"representation": "snapshot"},
    {"representation": "snapshot_out"},
    {"neuron_models": "shared", "pairing": "random", "n_self": 1},
    {"pairing": "dense", "n_neurons": 20, "synapse_depth": 3, "nlm_hidden": None, "output_shape": (2, 3)},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_ticks_in_pieces_are_the_same_as_in_one(settings: dict[str, Any]) -> None:
    m = machine(**settings)
    x = X if m.heads else X[:, 0]
    whole, end = m.run(x)
    first, state = m.run(x, ticks=2)
    rest, last = m.run(m.perceive(x), state, ticks=4)
    assert torch.allclose(torch.cat([first.logits, rest.logits], -1), whole.logits, atol=1e-12)
    assert torch.allclose(torch.cat([first.certainty, rest.certainty], -1), whole.certainty, atol=1e-12)
    assert end.keys() == last.keys() == m.initial_state(1).keys()
    assert all(torch.allclose(end[k], last[k], atol=1e-12) for k in end)
    state, logits = None, []
    for _ in range(6):
        said, state = m.step(x, state)
        logits.append(said.logits)
    assert torch.allclose(torch.cat(logits, -1), whole.logits, atol=1e-12)


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_without_gradients_the_same_is_said(settings: dict[str, Any]) -> None:
    m = machine(**settings, ticks=37)  # more than are read at once
    x = X if m.heads else X[:, 0]
    with torch.no_grad():
        quiet = m(x)
    assert torch.allclose(quiet.logits, m(x).logits, atol=1e-12)
    assert quiet.certainty.shape == (5, 37)


def test_samples_may_begin_again_one_by_one() -> None:
    """As in worlds whose episodes end at different times: a row of the state is put back to the beginning."""
    m = machine(window=4)
    _, state = m.run(X)
    fresh = m.initial_state(5)
    mixed = {
        k: torch.where((torch.arange(5) < 2).view(-1, *[1] * (v.dim() - 1)), fresh[k], v) for k, v in state.items()
    }
    again, _ = m.run(X, mixed)
    assert torch.allclose(again.logits[:2], m(X).logits[:2], atol=1e-12)
    assert torch.allclose(again.logits[2:], m.run(X, state)[0].logits[2:], atol=1e-12)


def test_states_survive_files_and_are_their_own(tmp_path: Any) -> None:
    from safetensors.torch import load_file, save_file

    m = machine()
    _, state = m.run(X)
    save_file({k: v.detach() for k, v in state.items()}, tmp_path / "state.safetensors")
    kept = load_file(tmp_path / "state.safetensors")
    assert torch.equal(m.run(X, kept)[0].logits, m.run(X, state)[0].logits)
    before = m.start.detach().clone()
    m.initial_state(1)["post"].detach().add_(1)
    assert torch.equal(m.start, before)


def test_pairs_travel_with_the_weights() -> None:
    m, other = machine(), machine(seed=9)
    assert not torch.equal(m.synchronisation["out"].left, other.synchronisation["out"].left)
    other.load_state_dict(m.state_dict())
    assert torch.equal(m(X).logits, other(X).logits)
    for again in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert torch.equal(again(X).logits, m(X).logits)
        assert again.sync["out"].coordinates()["left"][1].tolist() == m.synchronisation["out"].left.tolist()


def test_the_seed_decides_and_nobody_elses_numbers_are_drawn() -> None:
    before = torch.get_rng_state()
    a, b, c = machine(), machine(), machine(seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a(X).logits, b(X).logits)
    assert not torch.equal(a(X).logits, c(X).logits)


def test_neurons_may_change_places() -> None:
    m = machine()
    order = torch.randperm(12, generator=G)
    moved = copy.deepcopy(m)
    place = torch.empty(12, dtype=torch.long)
    place[order] = torch.arange(12)
    with torch.no_grad():
        for name in ("start", "start_history"):
            getattr(moved, name).copy_(getattr(m, name)[order])
        for group in ("weights", "biases"):
            for p, q in zip(getattr(moved.neurons, group), getattr(m.neurons, group), strict=True):
                p.copy_(q[order])
        linear, _, norm = moved.synapses
        both = torch.cat([order, order + 12])
        linear.weight.copy_(m.synapses[0].weight[both][:, torch.cat([torch.arange(8), order + 8])])
        linear.bias.copy_(m.synapses[0].bias[both])
        norm.weight.copy_(m.synapses[2].weight[order])
        norm.bias.copy_(m.synapses[2].bias[order])
        for name in ("out", "action"):
            for side in ("left", "right"):
                getattr(moved.synchronisation[name], side).copy_(place[getattr(m.synchronisation[name], side)])
    assert torch.allclose(moved(X).logits, m(X).logits, atol=1e-12)
    a, b = (nissl.record(k, X, at="post")["post"].to_numpy() for k in (m, moved))
    assert np.allclose(b, a[..., order.numpy()], atol=1e-12)


def test_pictures_and_plain_features_are_looked_at() -> None:
    seen = machine(backbone=nn.Conv2d(1, 4, 3).double())(data(2, 1, 6, 6))
    assert seen.logits.shape == (2, 3, 6)
    m = machine(heads=0, output_shape=(2,))
    assert m(data(2, 4)).logits.shape == (2, 2, 3, 6)
    assert "attention" not in dict(m.named_modules())


# Sites ---------------------------------------------------------------------------------------------------------------------


def test_pairs_are_recorded_with_their_neurons() -> None:
    m = machine(pairs_action=4)
    acts = nissl.record(m, X, at=["post", "sync.*", "attention"])
    assert acts["post"].dims == ("sample", "tick", "unit")
    assert acts["attention"].dims == ("sample", "tick", "head", "token")
    for name in ("out", "action"):  # of one size, and still each with its own neurons
        site = acts[f"sync.{name}"]
        pairs = m.synchronisation[name]
        left = next(v for k, v in site.coords.items() if str(k).startswith("left"))
        assert left.to_numpy().tolist() == pairs.left.tolist()
    z = acts["post"].to_numpy()
    start = m.start.detach().expand(5, 1, -1).numpy()
    direct = synchronisation(
        torch.from_numpy(np.concatenate([start, z], 1)),
        *(m.synchronisation["out"].get_buffer(side) for side in ("left", "right")),
        m.synchronisation["out"].rate.detach(),
    )
    assert np.allclose(acts["sync.out"].to_numpy(), direct[:, 1:].numpy(), atol=1e-10)


def test_what_is_changed_now_has_its_consequences_later_and_none_before() -> None:
    m = machine()
    model = nissl.load(m)
    with torch.no_grad():
        before = m(X).logits
        for site, since in (("post", 3), ("pre", 3), ("attention", 3), ("sync.action", 3), ("sync.out", 3)):
            heard = m.synchronisation["out"].get_buffer("left")[:1].tolist()  # a neuron that answers
            units = {"post": heard, "pre": heard, "attention": None}.get(site, [1])
            with nissl.intervene(model, {site: nissl.Clamp(0.9, units=units, positions=3)}):
                after = m(X).logits
            changed = ((after - before).abs().amax((0, 1)) > 1e-9).tolist()
            later = site != "sync.out"  # answers feed nothing back
            assert changed == [t == since or (later and t > since) for t in range(6)], site
        assert torch.equal(m(X).logits, before)


def test_a_pair_held_at_a_value_is_read_at_that_value() -> None:
    m = machine()
    with torch.no_grad():
        m.readout.weight.zero_()
        m.readout.weight[:, 2] = 1.0
        m.readout.bias.zero_()
        with nissl.intervene(nissl.load(m), {"sync.out": nissl.Clamp(0.25, units=[2])}):
            assert torch.allclose(m(X).logits, torch.tensor(0.25, dtype=torch.float64))


def test_ticks_serve_as_time_for_the_populations() -> None:
    from nissl.recordings import as_traces

    acts = nissl.record(machine(ticks=12), X, at="post")
    assert as_traces(acts["post"], dims=("trial", "time", "unit")).sizes == {"trial": 5, "time": 12, "unit": 12}


# Losses, stopping, sorting -------------------------------------------------------------------------------------------------

LOGITS = st.integers(0, 10_000).map(lambda s: 5 * torch.randn(4, 2, 3, 6, generator=torch.Generator().manual_seed(s)))


@given(LOGITS)
@settings(max_examples=25, deadline=None)
def test_laws_of_certainty_and_loss(logits: Tensor) -> None:
    certain = certainty(logits)
    assert certain.shape == (4, 6)
    assert ((certain >= 0) & (certain <= 1)).all()
    target = logits.argmin(2)[..., 0]
    losses = tick_losses(logits, target)
    loss = tick_loss(logits, certain, target)
    assert loss >= losses.min(1).values.mean() - 1e-6
    best = -losses  # certain exactly where it is best
    assert torch.isclose(tick_loss(logits, best, target), losses.min(1).values.mean())
    assert torch.isclose(
        tick_loss(logits, certain, target, certain=False), (losses.min(1).values + losses[:, -1]).mean() / 2
    )


def test_certainty_is_zero_where_all_classes_are_alike_and_the_mean_over_positions() -> None:
    assert torch.allclose(certainty(torch.full((2, 3, 5), 7.0)), torch.zeros(2, 5), atol=1e-6)
    logits = data(2, 3, 4, 5)
    p = logits.softmax(2)
    by_hand = (1 + (p * p.log()).sum(2) / math.log(4)).mean(1)
    assert torch.allclose(certainty(logits), by_hand, atol=1e-12)


def test_gradients_flow_through_the_two_chosen_ticks_only() -> None:
    logits = data(3, 4, 6).requires_grad_()
    target = torch.tensor([0, 1, 2])
    certain = certainty(logits)
    tick_loss(logits, certain, target).backward()
    losses = tick_losses(logits, target)
    assert logits.grad is not None
    for i in range(3):
        used = set(torch.nonzero(logits.grad[i].abs().sum(0))[:, 0].tolist())
        assert used == {int(losses[i].argmin()), int(certain[i].argmax())}


def test_a_curriculum_counts_routes_up_to_a_little_beyond_what_is_right() -> None:
    logits = torch.zeros(1, 6, 3, 2)
    target = torch.tensor([[0, 1, 2, 0, 1, 2]])
    logits[0, 0, 0, 1] = logits[0, 1, 1, 1] = 4.0  # the second tick knows two steps of the route
    each = -logits.log_softmax(2).gather(2, target[:, :, None, None].expand(1, 6, 1, 2))[:, :, 0]
    assert torch.allclose(tick_losses(logits, target, lookahead=1), each[:, :3].mean(1))
    assert torch.allclose(tick_losses(logits, target, lookahead=50), each.mean(1))


@pytest.mark.parametrize("share", [None, 0.0, 0.3, 0.7, 1.0])
def test_thinking_stops_where_the_whole_thought_says_so(share: float | None) -> None:
    m = machine(output_shape=(2,))
    with torch.no_grad():
        m.readout.weight.normal_(0, 2, generator=torch.Generator().manual_seed(4))
        logits, certain = m(X)
    stop = None if share is None else float(certain.quantile(share))
    made = m.predict(X, stop=stop)
    tick = stopping_tick(certain, stop)
    assert torch.equal(made.tick, tick)
    assert torch.equal(made.labels, answers(logits, tick))
    assert torch.allclose(made.certainty, certain.gather(1, tick[:, None])[:, 0])
    enough = torch.full((5,), False) if stop is None else (certain >= stop).any(1)
    assert torch.equal(made.thought, torch.where(enough, tick + 1, 6))
    if share == 0.7:
        assert 1 < made.thought.double().mean() < 6


def test_ctc_is_the_sum_over_all_ways_to_write_it() -> None:
    for length, ticks in ((1, 3), (2, 4), (3, 4)):
        logits = data(1, 4, ticks)
        for target in ([0, 0, 1][:length], [2, 1, 0][:length]):
            if length + sum(a == b for a, b in itertools.pairwise(target)) > ticks:
                continue
            logs = logits[0].log_softmax(0)
            total = 0.0
            for path in itertools.product(range(4), repeat=ticks):
                if [k for k, _ in itertools.groupby(path) if k != 3] == target:
                    total += math.exp(sum(float(logs[c, t]) for t, c in enumerate(path)))
            expected = -math.log(total) / length
            assert float(ctc_loss(logits, torch.tensor([target]))) == pytest.approx(expected, rel=1e-10)
    logits, target = data(6, 5, 9), torch.randint(4, (6, 4), generator=G)
    theirs = nn.CTCLoss(blank=4)(
        logits.log_softmax(1).permute(2, 0, 1), target, torch.full((6,), 9), torch.full((6,), 4)
    )
    assert torch.allclose(ctc_loss(logits, target), theirs, atol=1e-12)


def test_it_learns_to_sort_three_numbers() -> None:
    m = ContinuousThoughtMachine(
        n_features=3, n_classes=4, n_neurons=32, ticks=8, history=4, heads=0, pairs_out=32, nlm_hidden=4
    )

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(64, 3, generator=generator)
        return x, x.argsort(1)

    train(m, batch, lambda m, x, y: ctc_loss(m(x).logits, y), steps=150, lr=1e-2, clip=1.0, progress=False)
    x, y = batch(torch.Generator().manual_seed(99))
    with torch.no_grad():
        logits = m(x).logits
    right = np.mean([written(one)[0].tolist() == order.tolist() for one, order in zip(logits, y, strict=True)])
    assert right > 0.5  # by chance 1 in 6, and only if three are written at all


def test_more_ticks_learn_a_parity_and_say_when_they_know() -> None:
    m = ContinuousThoughtMachine(
        n_features=16, n_classes=2, output_shape=(4,), n_neurons=32, ticks=6, history=4, d_input=16, heads=2, pairs_out=8,
        pairs_action=8, pairing="semi-dense", backbone=nn.Sequential(nn.Embedding(2, 16), HalfTurn(16)),
    )  # fmt: skip

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        bits = torch.randint(2, (32, 4), generator=generator)
        return bits, bits.cumsum(1) % 2

    train(m, batch, lambda m, x, y: tick_loss(*m(x), y), steps=300, lr=5e-3, clip=0.9, progress=False)
    x = torch.arange(16)[:, None] >> torch.arange(4) & 1
    made = m.predict(x)
    assert (made.labels == x.cumsum(1) % 2).all(1).double().mean() > 0.9
    assert made.certainty.mean() > 0.8
    assert m.predict(x, stop=0.8).thought.double().mean() < 6


# Bad input -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ticks": 0}, "ticks=0"),
        ({"history": 0}, "history=0"),
        ({"n_neurons": 0}, "n_neurons=0"),
        ({"n_features": -1}, "n_features=-1"),
        ({"n_classes": 1}, "two or more"),
        ({"heads": 3}, "share the width evenly"),
        ({"heads": -1}, "heads=-1"),
        ({"nlm_hidden": 0}, "hidden=0"),
        ({"pairs_out": 0}, "0 pairs"),
        ({"pairs_out": 13}, "at most 12"),
        ({"pairing": "random", "n_self": 9}, "n_self=9"),
        ({"n_self": 1}, "only 'random'"),
        ({"window": 0}, "window=0"),
        ({"max_rate": 0.0}, "max_rate=0.0"),
        ({"synapse_depth": 0}, "synapse_depth=0"),
        ({"synapse_depth": 2}, "a U-Net narrows to 16"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"output_shape": (0,)}, "output_shape[0]=0"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        machine(**settings)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pairing": "semidense"}, "'semi-dense'"),
        ({"synapse": "net", "synapse_depth": 2}, "'unet'"),
        ({"representation": "snap"}, "'snapshot'"),
        ({"neuron_models": "share"}, "'shared'"),
    ],
    ids=str,
)
def test_names_that_do_not_exist(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        machine(**settings)
    assert said in str(error.value)


def test_inputs_that_do_not_fit() -> None:
    m = machine()
    for x, said in (
        (data(5, 7, 3), "(batch, token, 4)"),
        (data(5, 4), "(batch, token, 4)"),
        (data(0, 7, 4), "at least one sample"),
        (data(5, 0, 4), "at least one sample"),
        (X.numpy(), "ndarray"),
        (torch.where(X > 2, torch.nan, X), "NaN"),
    ):
        with pytest.raises(InputError) as error:
            m(x)
        assert said in str(error.value)
    for bad in (0, -3):
        with pytest.raises(InputError, match="ticks="):
            m.run(X, ticks=bad)
    with pytest.raises(InputError, match=r"stop=1\.5"):
        m.predict(X, stop=1.5)
    with pytest.raises(InputError, match="0 samples"):
        m.initial_state(0)


def test_states_that_do_not_fit() -> None:
    m = machine()
    state = m.initial_state(5)
    with pytest.raises(InputError, match="lacks 'post'"):
        m.run(X, {k: v for k, v in state.items() if k != "post"})
    with pytest.raises(InputError, match="shape"):
        m.run(X[:2], state)
    with pytest.raises(InputError, match="NaN"):
        m.run(X, {**state, "history": state["history"] * torch.nan})
    with pytest.raises(UnknownNameError, match=r"out\.total"):
        m.run(X, {**state, "out.totals": state["out.total"]})
    with pytest.raises(InputError, match="shape"):
        m.run(X, machine(history=5).initial_state(5))


def test_targets_and_logits_that_do_not_fit() -> None:
    logits = data(5, 3, 6)
    for target in (torch.tensor([0, 1, 2]), torch.zeros(5), torch.full((5,), 3), torch.full((5,), -1)):
        with pytest.raises(InputError):
            tick_loss(logits, certainty(logits), target)
    target = torch.zeros(5, dtype=torch.long)
    with pytest.raises(InputError, match="certainty"):
        tick_loss(logits, certainty(logits)[:, :2], target)
    with pytest.raises(InputError, match="lookahead=0"):
        tick_losses(data(5, 2, 3, 6), torch.zeros(5, 2, dtype=torch.long), lookahead=0)
    with pytest.raises(InputError, match="two classes"):
        certainty(data(5, 1, 6))
    with pytest.raises(InputError, match="pause"):
        ctc_loss(logits, torch.full((5, 2), 2))
    with pytest.raises(InputError, match="think longer"):
        ctc_loss(logits[..., :2], torch.zeros(5, 2, dtype=torch.long))
    with pytest.raises(InputError, match="negative"):
        synchronisation(X, torch.tensor([0]), torch.tensor([1]), -1.0)
    with pytest.raises(InputError, match="history"):
        NeuronModels(4, 3)(data(2, 4, 5))
    with pytest.raises(InputError):
        written(data(2, 3, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu() -> None:
    m = machine()
    expected = m(X)
    found = m.cuda()(X.cuda())
    assert torch.allclose(found.logits.cpu(), expected.logits, atol=1e-9)
    assert m.predict(X.cuda(), stop=0.1).labels.is_cuda


def test_a_class_that_is_ruled_out_adds_nothing_to_certainty():
    logits = torch.tensor([[[0.0], [1.0], [-torch.inf]]], requires_grad=True)
    p = torch.tensor([0.0, 1.0]).softmax(0)
    found = certainty(logits)
    assert found.item() == pytest.approx(1 + float((p * p.log()).sum()) / np.log(3), abs=1e-6)
    found.sum().backward()
    assert torch.isfinite(logits.grad).all()
