"""The leaky memory neuron: closed forms, symmetries, the step loop, streaming, sites, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.signal import lfilter
from torch.autograd import gradcheck
from torch.nn.functional import linear

import nissl
from nissl.errors import InputError, UnknownNameError
from nissl.nn import LeakyMemoryNeuron
from nissl.nn._cell import unroll
from nissl.nn._kernels import kernel
from nissl.nn._leaky_memory.routing import neighbours

TAU = (1.0, 20.0)
SHORT = pytest.mark.filterwarnings("ignore:the longest time constant")


@pytest.fixture(params=["compiled", "torch"])
def core(request, monkeypatch):
    """Both forms of the recurrent core."""
    if request.param == "torch":
        monkeypatch.setattr(kernel, "library", lambda: None)
    elif kernel.library() is None:
        pytest.skip("no C++ compiler here")
    return request.param


def spikes(batch=3, time=30, channels=6, seed=0, rate=0.2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, time, channels, generator=generator) < rate).to(dtype)


def cell(n_inputs=6, n_outputs=2, n_memory=5, **options):
    options = {"tau_memory": TAU, "seed": 1} | options
    neuron = LeakyMemoryNeuron(n_inputs, n_outputs, n_memory, **options).double()
    with torch.no_grad():  # weights that differ, so that permutations can be seen
        neuron.synapse_weight.uniform_(0.1, 0.9, generator=torch.Generator().manual_seed(2))
    return neuron


def by_steps(neuron, x, state=None):
    state = neuron.initial_state(x[:, 0]) if state is None else state
    outputs, state = unroll(neuron, neuron.advance, x.unbind(1), state)
    return torch.stack(outputs, 1), state


KINDS = [
    {},
    {"version": 2},
    {"branches": 3, "synapses_per_branch": 2},
    {"branches": 3, "synapses_per_branch": 4, "routing": "random"},
    {"branches": 2, "synapses_per_branch": 5, "routing": "neighbours", "version": 2},
    {"n_hidden_layers": 0},
    {"n_hidden_layers": 2, "hidden": 7},
    {"activation": "silu"},
    {"recurrent": False, "version": 2},
    {"learn_tau": True, "gain": 1.0, "dt": 2.0},
    {"n_memory": 1},
]


# Closed forms


def test_silence_gives_the_bias():
    neuron = cell()
    with torch.no_grad():
        for weight in (neuron.bias, neuron.layers[0].bias):
            weight.zero_()
    y = neuron(torch.zeros(2, 25, 6, dtype=torch.float64))
    assert torch.equal(y, neuron.readout.bias.expand_as(y))
    with torch.no_grad():
        for weight in neuron.parameters():
            weight.zero_()
        neuron.readout.bias.fill_(0.3)
    assert (neuron(spikes()) == 0.3).all()


@pytest.mark.parametrize("version", [1, 2])
def test_traces_are_filtered_inputs(version):
    neuron, x = cell(version=version, branches=3, synapses_per_branch=2), spikes()
    acts = nissl.record(neuron, x, at=["synapse", "branch"])
    weighted = x.numpy() * torch.relu(neuron.synapse_weight).detach().numpy().ravel()
    trace = lfilter([1], [1, -np.exp(-1 / 5)], weighted, axis=1)
    sums = trace.reshape(3, 30, 3, 2).sum(-1)
    np.testing.assert_allclose(acts["synapse"], trace if version == 1 else weighted, atol=1e-6)
    np.testing.assert_allclose(acts["branch"], sums, atol=1e-6)


def test_a_constant_proposal_fills_memory_exponentially(core):
    neuron, c = cell(), 0.7
    with torch.no_grad():
        neuron.layers[0].weight.zero_()
        neuron.layers[0].bias.fill_(c)
        neuron.readout.weight.copy_(torch.eye(2, 5))
        neuron.readout.bias.zero_()
    t = torch.arange(1, 31, dtype=torch.float64)[:, None]
    expected = 5 * 1.7159 * np.tanh(2 * c / 3) * (1 - torch.exp(-t / neuron.tau[:2]))
    torch.testing.assert_close(neuron(spikes()), expected.expand(3, -1, -1), rtol=1e-12, atol=1e-12)


def test_memory_alone_decays_with_its_time_constant(core):
    neuron = cell(n_outputs=5, tau_memory=(1.0, 1000.0))
    with torch.no_grad():
        for weight in neuron.parameters():
            weight.zero_()
        neuron.readout.weight.copy_(torch.eye(5))
    start = {"synapse": torch.zeros(1, 6).double(), "memory": torch.ones(1, 5).double()}
    y, _ = neuron.run(torch.zeros(1, 60, 6).double(), start)
    rate = -np.diff(np.log(y[0].detach().numpy()), axis=0)
    np.testing.assert_allclose(rate, np.broadcast_to(1 / neuron.tau.numpy(), rate.shape), rtol=1e-9)


@pytest.mark.parametrize(("d_m", "count"), [(1, 4601), (10, 5852), (20, 8002), (100, 54002)])
def test_number_of_weights(d_m, count):
    neuron = LeakyMemoryNeuron(1278, 2, d_m, branches=45, synapses_per_branch=100, routing="neighbours")
    assert sum(p.numel() for p in neuron.parameters()) == count


def test_half_the_step_is_nearly_the_same():
    """Of a cell whose dendrites are constant: what remains is linear, and steps of dt make an error of order dt."""

    def trajectory(dt):
        neuron = cell(dt=dt, n_hidden_layers=0, recurrent=False, tau_memory=(10.0, 40.0), gain=1.0, tau_synapse=5.0)
        with torch.no_grad():
            neuron.branch_weight.mul_(0.02)
        x = spikes(1, 40).repeat_interleave(round(1 / dt), 1) * dt  # a rate, held
        return neuron(x)[:, round(1 / dt) - 1 :: round(1 / dt)]

    finest = trajectory(1 / 64)
    errors = [(trajectory(dt) - finest).abs().max().item() for dt in (1.0, 0.5, 0.25)]
    assert 1.6 < errors[0] / errors[1] < 2.6
    assert 1.6 < errors[1] / errors[2] < 2.6


# Symmetries and what is the same


def permuted(neuron, branches=None, memory=None):
    other = copy.deepcopy(neuron)
    with torch.no_grad():
        if branches is not None:
            other.synapse_weight.copy_(neuron.synapse_weight[branches])
            other.channels.copy_(neuron.channels[branches])
            other.branch_weight.copy_(neuron.branch_weight[:, branches])
        if memory is not None:
            other.tau_fixed.copy_(neuron.tau_fixed[memory])
            other.memory_weight.copy_(neuron.memory_weight[:, memory])
            other.layers[-1].weight.copy_(neuron.layers[-1].weight[memory])
            other.layers[-1].bias.copy_(neuron.layers[-1].bias[memory])
            other.readout.weight.copy_(neuron.readout.weight[:, memory])
    return other


def test_order_of_branches_and_of_memory_units_does_not_matter(core):
    neuron, x = cell(branches=3, synapses_per_branch=4, routing="random"), spikes()
    torch.testing.assert_close(permuted(neuron, branches=torch.tensor([2, 0, 1]))(x), neuron(x))
    torch.testing.assert_close(permuted(neuron, memory=torch.tensor([4, 2, 0, 1, 3]))(x), neuron(x))


def test_versions_agree_when_the_gain_is_one(core):
    one, two = (cell(version=v, gain=1.0, branches=3, synapses_per_branch=2) for v in (1, 2))
    torch.testing.assert_close(one(spikes()), two(spikes()), rtol=1e-12, atol=1e-12)
    one, two = (cell(version=v, gain=5.0) for v in (1, 2))
    assert (one(spikes()) - two(spikes())).abs().max() > 0.01


def test_the_second_version_never_writes_more_than_it_holds():
    one, two = (cell(version=v, gain=5.0)._rates()[1] for v in (1, 2))
    assert one.max() > 1 > two.max()
    torch.testing.assert_close(two, 1 - torch.exp(-5 / cell().tau))


def test_one_synapse_a_branch_is_the_plain_neuron():
    plain, routed = cell(), cell(branches=6, synapses_per_branch=1, routing=np.arange(6))
    torch.testing.assert_close(plain(spikes()), routed(spikes()))


def test_neighbours_are_paired_and_windows_overlap():
    channels = neighbours(1278, 45, 100)
    assert channels.shape == (45, 100)
    assert channels[0, :4].tolist() == [0, 639, 1, 640]
    place = torch.arange(1278)
    paired = place % 2 * 639 + place // 2
    assert channels[1].tolist() == paired[29:129].tolist()
    assert (channels[44] >= 0).sum() == 1278 - 44 * 29
    neuron = LeakyMemoryNeuron(1278, 1, 2, branches=45, synapses_per_branch=100, routing="neighbours", tau_memory=TAU)
    places = neuron._synapses().weights
    assert (places[neuron.channels < 0] == 0).all()


def test_weights_are_not_negative_and_signs_come_from_the_input():
    neuron = cell()
    with torch.no_grad():
        neuron.synapse_weight[0] = -1.0
    assert (nissl.record(neuron, spikes(), at="synapse")["synapse"][..., 0] == 0).all()
    assert (nissl.record(neuron, -spikes(), at="synapse")["synapse"][..., 1:] <= 0).all()


# The step loop, and pieces


@pytest.mark.parametrize("options", KINDS)
def test_a_sequence_is_its_steps(core, options):
    neuron, x = cell(**options), spikes()
    start = {k: torch.rand(v.shape, dtype=v.dtype) for k, v in neuron.initial_state(x[:, 0]).items()}
    (fast, end), (slow, slow_end) = neuron.run(x, start), by_steps(neuron, x, start)
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-12)
    for name in end:
        torch.testing.assert_close(end[name], slow_end[name], rtol=1e-11, atol=1e-12)
    weights = list(neuron.parameters())
    for a, b in zip(
        torch.autograd.grad(fast.cos().sum(), weights),
        torch.autograd.grad(slow.cos().sum(), weights, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@SHORT
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 17), st.sampled_from([1, 2]), st.integers(0, 10))
@settings(max_examples=25, deadline=None)
def test_single_precision_follows_at_any_size(time, batch, n_memory, version, seed):
    neuron = cell(n_memory=n_memory, version=version, seed=seed)
    x = spikes(batch, time, seed=seed)
    exact = neuron(x)
    torch.testing.assert_close(neuron.float()(x.float()).double(), exact, rtol=1e-4, atol=1e-4)


@SHORT
@pytest.mark.parametrize(
    "options", [{}, {"version": 2}, {"branches": 3, "synapses_per_branch": 4, "routing": "random"}]
)
def test_gradients(core, options):
    neuron, x = cell(n_memory=3, **options), spikes(2, 7).requires_grad_()
    names = list(dict(neuron.named_parameters()))

    def call(x, *weights):
        return torch.func.functional_call(neuron, dict(zip(names, weights, strict=True)), (x,))

    assert gradcheck(call, (x, *neuron.parameters()))


def test_time_constants_are_learned_within_their_bounds(core):
    neuron, x = cell(learn_tau=True), spikes()
    torch.testing.assert_close(neuron.tau.detach(), cell().tau, rtol=1e-4, atol=1e-4)
    optimiser = torch.optim.SGD([neuron.tau_logit], lr=1e4)
    before = neuron.tau.detach().clone()
    for _ in range(3):
        neuron(x).square().mean().backward()
        optimiser.step()
    assert not torch.equal(before, neuron.tau)
    assert neuron.tau.min() >= 1
    assert neuron.tau.max() <= 20


@SHORT
@pytest.mark.parametrize("version", [1, 2])
def test_pieces_and_steps_are_one_pass(core, tmp_path, version):
    neuron, x = cell(version=version), spikes()
    whole = neuron(x)
    first, state = neuron.run(x[:, :11])
    save_file({k: v.detach().contiguous() for k, v in state.items()}, tmp_path / "state.safetensors")
    rest, state = neuron.run(x[:, 11:29], load_file(tmp_path / "state.safetensors"))
    last, _ = neuron.step(x[:, 29], state)
    torch.testing.assert_close(torch.cat([first, rest, last[:, None]], 1), whole, rtol=1e-11, atol=1e-12)


def test_truncation_stops_gradients_and_changes_no_value():
    neuron, x = cell(), spikes().requires_grad_()
    y, _ = neuron.run(x, truncate=10)
    torch.testing.assert_close(y, neuron(x))
    grad = torch.autograd.grad(y[:, -1].sum(), x)[0]
    assert (grad[:, :20] == 0).all()
    assert (grad[:, 20:] != 0).any()
    assert (torch.autograd.grad(neuron(x)[:, -1].sum(), x)[0][:, :20] != 0).any()


def test_one_step_is_a_sequence(core):
    x = spikes(2, 1)
    neuron = cell(tau_memory=(1.0, 1.0))
    torch.testing.assert_close(neuron(x)[:, 0], neuron.step(x[:, 0])[0])


def test_threads_do_not_change_numbers(monkeypatch):
    if kernel.library() is None:
        pytest.skip("no C++ compiler here")
    neuron, x = cell(), spikes(13, 20)
    one = neuron(x)
    monkeypatch.setattr(kernel, "WORK", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(neuron(x), one)


def test_weights_that_are_not_numbers_show(core):
    neuron = cell()
    with torch.no_grad():
        neuron.memory_weight[0, 0] = float("nan")
    assert neuron.float()(spikes(dtype=torch.float32)).isnan().any()


# Sites


def test_sites_carry_time_constants_and_channels():
    neuron = cell(branches=3, synapses_per_branch=4, routing="random")
    acts = nissl.record(neuron, spikes(), at=["synapse", "branch", "memory"])
    assert acts["memory"].dims[:2] == ("sample", "time")
    np.testing.assert_allclose(acts["memory"].tau, neuron.tau.numpy())
    assert acts["synapse"].channel.values.tolist() == neuron.channels.flatten().tolist()
    assert acts["synapse"].on_branch.values.tolist() == np.repeat(np.arange(3), 4).tolist()


@SHORT
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("site", ["synapse", "branch", "memory"])
def test_what_is_read_is_what_steps_pass(version, site):
    neuron, x = cell(version=version), spikes(2, 12)
    fast = nissl.record(neuron, x, at=site)[site]
    seen = []
    getattr(neuron, site).register_forward_hook(lambda module, args, value: seen.append(value))
    by_steps(neuron, x)
    np.testing.assert_allclose(fast, seen[0].detach().numpy(), atol=1e-5)


def test_a_silenced_unit_has_consequences():
    neuron, x = cell(), spikes(1, 20)
    with nissl.intervene(nissl.load(neuron), {"memory": nissl.Clamp(value=0.0, units=[3], positions=slice(5, 20))}):
        changed = neuron(x)
    assert torch.allclose(changed[:, :5], neuron(x)[:, :5])
    assert (changed[:, 6:] - neuron(x)[:, 6:]).abs().max() > 1e-3
    by_hand = neuron.initial_state(x[:, 0])
    for t in range(20):
        _, by_hand = neuron.advance(x[:, t], by_hand)
        if t >= 5:
            by_hand["memory"] = by_hand["memory"].clone()
            by_hand["memory"][:, 3] = 0
    torch.testing.assert_close(changed[:, -1], neuron.readout(by_hand["memory"]))


# As a module


@pytest.mark.parametrize("options", [{}, {"learn_tau": True, "version": 2, "n_hidden_layers": 2}])
def test_weights_are_kept(tmp_path, options):
    neuron, x = cell(**options, branches=3, synapses_per_branch=4, routing="random"), spikes()
    save_file(neuron.state_dict(), tmp_path / "neuron.safetensors")
    other = cell(**options | {"seed": 9}, branches=3, synapses_per_branch=4, routing="random")
    other.load_state_dict(load_file(tmp_path / "neuron.safetensors"))
    assert torch.equal(neuron(x), other(x))
    for again in (copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron))):
        assert torch.equal(neuron(x), again(x))


def test_coordinates_belong_to_the_copy():
    neuron = cell()
    other = copy.deepcopy(neuron)
    other.tau_fixed.fill_(7.0)
    assert (other.memory.coordinates()["tau"][1] == 7).all()
    assert neuron.memory.coordinates()["tau"][1][0] == 1


def test_compiled_is_the_same():
    neuron, x = cell(), spikes()
    torch.testing.assert_close(torch.compile(neuron, backend="eager")(x), neuron(x))


def test_seeds():
    assert torch.equal(cell(seed=3).branch_weight, cell(seed=3).branch_weight)
    assert not torch.equal(cell(seed=3).branch_weight, cell(seed=4).branch_weight)
    before = torch.random.get_rng_state()
    cell()
    assert torch.equal(before, torch.random.get_rng_state())


def test_repr_says_what_it_is():
    assert "n_memory=5" in repr(cell())
    assert "tau_memory=(1, 20)" in repr(cell())


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau_memory": (0.0, 10.0)}, "positive"),
        ({"tau_memory": (-1.0, 10.0)}, "positive"),
        ({"tau_memory": (1.0, float("nan"))}, "positive"),
        ({"tau_memory": (1.0, float("inf"))}, "positive"),
        ({"tau_memory": (20.0, 10.0)}, "comes first"),
        ({"tau_memory": 10.0}, "shortest and the longest"),
        ({"tau_memory": (5.0, 5.0), "learn_tau": True}, "nothing to learn"),
        ({"tau_synapse": 0.0}, "tau_synapse=0.0"),
        ({"tau_synapse": -5.0}, "tau_synapse"),
        ({"gain": 0}, "gain=0"),
        ({"dt": -1.0}, "dt=-1.0"),
        ({"n_memory": 0}, "n_memory=0"),
        ({"n_memory": 2.5}, "whole number"),
        ({"version": 3}, "version=3"),
        ({"branches": 4, "synapses_per_branch": 2}, "8 synapses for 6 inputs"),
        ({"branches": 2, "synapses_per_branch": 2, "routing": "neighbours"}, "leave out"),
        ({"branches": 2, "synapses_per_branch": 2, "routing": [[0, 1], [2, 6]]}, "allowed: 0 to 5"),
        ({"branches": 2, "synapses_per_branch": 2, "routing": [[0.5, 1], [2, 5]]}, "whole numbers"),
        ({"branches": 2, "synapses_per_branch": 2, "routing": [0, 1, 2]}, "(2, 2)"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(InputError, match="(?s)" + message.replace("(", r"\(").replace(")", r"\)")):
        cell(**options)


def test_names_that_do_not_exist():
    with pytest.raises(UnknownNameError, match="neighbours"):
        cell(branches=3, synapses_per_branch=2, routing="neighbour")
    with pytest.raises(UnknownNameError, match="relu"):
        cell(activation="rely")
    with pytest.raises(InputError, match="odd"):
        cell(n_inputs=7, branches=3, synapses_per_branch=4, routing="neighbours")


def test_a_time_constant_above_the_sequence_is_told_once():
    neuron = cell(tau_memory=(1.0, 150.0))
    with pytest.warns(UserWarning, match=r"150 ms, is above the sequence's 30 ms"):
        neuron(spikes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        neuron(spikes())
        cell()(spikes())  # long enough
        other = cell(tau_memory=(1.0, 150.0))
        other.run(spikes(), other.initial_state(spikes()[:, 0]))  # a piece of something longer


@SHORT
def test_inputs_and_states_that_cannot_be():
    neuron, x = cell(), spikes()
    for bad, message in (
        (x[:, :0], "at least one"),
        (x[..., :5], "6 inputs"),
        (x[0], "batch, time, input"),
        (x.where(x > 0, float("nan")), "NaN"),
    ):
        with pytest.raises(InputError, match=message):
            neuron(bad)
    _, state = neuron.run(x)
    state["memory"][0, 0] = float("nan")
    with pytest.raises(InputError, match=r"memory.*NaN"):
        neuron.run(x, state)
    with pytest.raises(InputError, match="another batch or configuration"):
        neuron.run(x, cell(n_memory=4).run(x)[1])
    with pytest.raises(UnknownNameError):
        neuron.run(x, cell(version=2).run(x)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau_memory": (1.0, 30.0)}, "longest tau_memory is 20 there and 30 here"),
        ({"version": 2}, "version is 1 there and 2 here"),
        ({"gain": 2.0}, "gain"),
        ({"n_memory": 4}, r"branch_weight is \(10, 6\) there and \(8, 6\) here"),
        ({"learn_tau": True}, "learn_tau"),
        ({"n_hidden_layers": 2}, "n_hidden_layers"),
    ],
)
def test_weights_of_another_configuration(options, message):
    with pytest.raises(InputError, match=message):
        cell(**options).load_state_dict(cell().state_dict())


@SHORT
def test_dendrites_without_memory_or_depth_are_linear_in_their_branches():
    neuron, x = cell(n_hidden_layers=0), spikes(1, 1)
    proposal = linear(torch.relu(neuron.synapse_weight).flatten() * x[:, 0], neuron.branch_weight, neuron.bias)
    _, write = neuron._rates()
    expected = write * 1.7159 * torch.tanh(2 * proposal / 3)
    torch.testing.assert_close(neuron.run(x)[1]["memory"], expected)


def test_autocast_leaves_memory_in_its_own_precision():
    neuron, x = LeakyMemoryNeuron(4, 1, 3, tau_memory=(1.0, 10.0)), torch.rand(1, 20, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = neuron(x)
    assert torch.equal(found, neuron(x))


@pytest.mark.parametrize("bounds", [(1.0, 1e6), (1e-3, 1e7), (1.0, 100.0)])
def test_time_constants_that_are_learned_begin_at_equal_ratios(bounds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learned, fixed = (LeakyMemoryNeuron(4, 1, 4, tau_memory=bounds, learn_tau=way) for way in (True, False))
    assert torch.allclose(learned.tau, fixed.tau, rtol=2e-3)
