"""A plain spiking network: its steps, its three gradients against written-out ones, and its sites."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import nissl
from nissl.errors import InputError, UnknownNameError
from nissl.learning import HebbianProjection
from nissl.nn import SpikingClassifier, SpikingNetwork
from nissl.nn.spiking._representation import RateLIF, rate_weights

GRADIENTS = ("through_time", "online", "representation")


def convolutional(**settings) -> SpikingNetwork:
    torch.manual_seed(0)
    synapses = [
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 2, 3, bias=False)),
        nn.Linear(8, 4, bias=False),
    ]
    return SpikingNetwork(synapses, shape=(1, 8, 8), **settings)


def inputs(n: int = 5, steps: int = 7, width: int = 12, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.rand(n, steps, width, generator=torch.Generator().manual_seed(1))


def by_hand(network: SpikingNetwork, x: torch.Tensor) -> torch.Tensor:
    """The equations, one step and one layer after another."""
    weights = [s.weight for s in network.synapses]
    membrane = [torch.zeros(len(x), w.shape[0]) for w in weights[:-1]]
    out = []
    for t in range(x.shape[1]):
        s = x[:, t]
        for i, w in enumerate(weights[:-1]):
            u = 0.5 * membrane[i] + s @ w.T
            s = (u >= 1).float()
            membrane[i] = u - s
        out.append(s @ weights[-1].T)
    return torch.stack(out, 1)


def test_it_computes_what_its_equations_say():
    network, x = SpikingNetwork((12, 9, 8, 3)), inputs(scale=6)
    y = network(x)
    assert torch.allclose(y, by_hand(network, x), atol=1e-5)
    assert y.abs().sum() > 0


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("kind", ["linear", "convolutional"])
def test_steps_pieces_and_the_whole_are_the_same_numbers(gradient, kind):
    network = SpikingNetwork((64, 9, 8, 4), gradient=gradient) if kind == "linear" else convolutional(gradient=gradient)
    x = inputs(width=64, scale=6)
    whole, end = network.run(x)
    first, state = network.run(x[:, :3])
    rest, _ = network.run(x[:, 3:], state)
    assert torch.allclose(torch.cat([first, rest], 1), whole, atol=1e-6)
    state, steps = None, []
    for t in range(x.shape[1]):
        y, state = network.step(x[:, t], state)
        steps.append(y)
    assert torch.allclose(torch.stack(steps, 1), whole, atol=1e-6)
    assert state.keys() == end.keys()
    assert all(torch.allclose(state[k], end[k], atol=1e-5) for k in end)


def test_online_gradients_are_errors_of_the_moment_times_traces():
    network, x = SpikingNetwork((12, 9, 3), gradient="online").double(), inputs(scale=6).double()
    y = network(x)
    target = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (0.5 * (y - target).square()).sum().backward()
    first, last = (s.weight.detach() for s in network.synapses)
    membrane, spikes, us = torch.zeros(5, 9, dtype=torch.float64), [], []
    for t in range(7):
        u = 0.5 * membrane + x[:, t] @ first.T
        s = (u >= 1).double()
        membrane = u - s
        us.append(u)
        spikes.append(s)

    def trace(values: list[torch.Tensor], t: int) -> torch.Tensor:  # the exponential sum, written out
        return sum(0.5 ** (t - k) * values[k] for k in range(t + 1))

    wanted = [torch.zeros_like(first), torch.zeros_like(last)]
    for t in range(7):
        error = spikes[t] @ last.T - target[:, t]
        wanted[1] += error.T @ trace(spikes, t)
        sigmoid = torch.sigmoid(4 * (us[t] - 1))
        wanted[0] += (error @ last * 4 * sigmoid * (1 - sigmoid)).T @ trace(list(x.unbind(1)), t)
    for synapse, gradient in zip(network.synapses, wanted, strict=True):
        assert torch.allclose(synapse.weight.grad, gradient, atol=1e-10)


def test_online_learning_needs_nothing_of_the_past_but_traces():
    network, x = SpikingNetwork((12, 9, 8, 3), gradient="online"), inputs(scale=6)
    network(x).square().sum().backward()
    whole = [s.weight.grad.clone() for s in network.synapses]
    network.zero_grad()
    state = None
    for t in range(x.shape[1]):
        y, state = network.step(x[:, t], state)
        y.square().sum().backward()  # the graph of each step is gone before the next begins
    for a, b in zip(whole, network.synapses, strict=True):
        assert torch.allclose(a, b.weight.grad, atol=1e-4 * float(a.abs().max()))


def test_gradients_through_time_are_those_of_the_steps():
    network, x = SpikingNetwork((12, 9, 8, 3)).double(), inputs(scale=6).double()
    network(x).square().sum().backward()
    whole = [s.weight.grad.clone() for s in network.synapses]
    network.zero_grad()
    state, total = None, 0.0
    for t in range(x.shape[1]):
        y, state = network.step(x[:, t], state)
        total = total + y.square().sum()
    total.backward()
    assert all(torch.allclose(a, s.weight.grad, atol=1e-9) for a, s in zip(whole, network.synapses, strict=True))


def test_rates_stand_for_currents():
    neurons = RateLIF()
    current = torch.linspace(-2, 8, 41).reshape(1, 1, 41).expand(1, 2000, 41)
    spikes, _ = neurons.run(current)
    weights = rate_weights(2000, neurons.beta, current)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    rate = (weights * spikes).sum(1)[0]
    # A rate follows its current to within what one spike weighs in it, threshold.
    assert (rate - current[0, 0].clamp(0, neurons.ceiling)).abs().max() < 0.31
    assert spikes.unique().tolist() == pytest.approx([0, 6])


def test_gradients_of_rates_are_those_of_the_clipped_current():
    neurons = RateLIF().double()
    current = (
        10 * torch.rand(4, 20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 2
    ).requires_grad_(True)
    offset = torch.tensor([-4.0, -1.0, 0.0, 1.0, 3.0, 6.0], dtype=torch.float64)
    spikes, _ = neurons.run(current + offset)
    weights = rate_weights(20, neurons.beta, spikes)
    coefficient = torch.arange(1.0, 7, dtype=torch.float64)
    (coefficient * (weights * spikes).sum(1)).sum().backward()
    again = current.detach().requires_grad_(True)
    (coefficient * (weights * (again + offset)).sum(1).clamp(0, neurons.ceiling)).sum().backward()
    assert torch.allclose(current.grad, again.grad, atol=1e-12)
    assert (current.grad == 0).any()


def test_a_current_below_threshold_leads_to_no_spike():
    network = SpikingNetwork((1, 1, 1))
    nn.init.constant_(network.synapses[0].weight, 0.499)  # settles at 0.998
    nn.init.constant_(network.synapses[1].weight, 1.0)
    assert float(network(torch.ones(1, 200, 1)).detach().sum()) == 0
    assert float(network(torch.full((1, 200, 1), 1.01)).detach().sum()) > 0


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_sites_are_recorded_and_changed_over_time(gradient):
    network, x = SpikingNetwork((12, 9, 8, 3), gradient=gradient), inputs(scale=6)
    model = nissl.load(network)
    found = nissl.record(model, x, at=["cells.0.membrane", "cells.1.spikes", "readout"])
    assert found["cells.0.membrane"].dims == ("sample", "time", "unit")
    assert found["readout"].shape == (5, 7, 3)
    with nissl.intervene(model, {"cells.1.spikes": nissl.Clamp(0.0)}):
        assert float(network(x).detach().abs().sum()) == 0
    assert float(network(x).detach().abs().sum()) > 0


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_it_is_saved_compiled_and_runs_in_double_precision(gradient, tmp_path):
    network, x = SpikingNetwork((12, 9, 3), gradient=gradient), inputs(scale=6)
    other = SpikingNetwork((12, 9, 3), gradient=gradient, seed=1)
    assert not torch.equal(other(x), network(x))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(other(x), network(x))
    _, state = network.run(x[:, :3])
    save_file({k: v.detach().contiguous() for k, v in state.items()}, tmp_path / "s.safetensors")
    kept = load_file(tmp_path / "s.safetensors")
    assert torch.equal(network.run(x[:, 3:], kept)[0], network.run(x[:, 3:], state)[0])
    if gradient == "online":  # compiling is slow, and the plain network is compiled with all others
        assert torch.allclose(torch.compile(network, backend="eager")(x), network(x))
    assert network.double()(x.double()).dtype == torch.float64
    assert "12 -> 9 -> 3" in repr(network)


def test_a_classifier_shows_still_inputs_for_some_steps():
    network = SpikingNetwork((64, 9, 4))
    pictures = torch.rand(5, 8, 8)
    y = SpikingClassifier(network, n_steps=4)(pictures)
    moments = SpikingClassifier(network, n_steps=4, average=False)(pictures)
    assert y.shape == (5, 4)
    assert moments.shape == (5, 4, 4)
    assert torch.allclose(moments.mean(1), y, atol=1e-6)
    assert torch.equal(moments, network(pictures.flatten(1)[:, None].expand(-1, 4, -1)))
    spikes = (torch.rand(5, 9, 64) < 0.2).float()
    assert torch.equal(SpikingClassifier(network, spikes=True)(spikes), network(spikes).mean(1))


def test_convolutional_spiking_networks_are_protected_too():
    model = SpikingClassifier(convolutional(), n_steps=4)
    projection = HebbianProjection(model, (4, 6, 3))
    x = 4 * torch.rand(16, 64)
    for _ in range(2):
        with projection:
            model.zero_grad()
            model(x).square().mean().backward()
    for name, layer in projection.layers.items():
        rows = projection.subspaces[name].rows_[: projection.k[name]]
        assert (layer.weight.grad.flatten(1) @ rows.T).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SpikingNetwork((5,)), InputError, "two widths"),
        (lambda: SpikingNetwork((5, 0, 2)), InputError, "two widths"),
        (lambda: SpikingNetwork((5, 4, 2), gradient="bptt"), UnknownNameError, "gradient"),
        (lambda: SpikingNetwork((5, 4, 2), tau=0.0), InputError, "tau"),
        (lambda: SpikingNetwork((5, 4, 2), tau=-1.0, gradient="representation"), InputError, "tau"),
        (lambda: SpikingNetwork((5, 4, 2), threshold=math.nan), InputError, "threshold"),
        (lambda: SpikingNetwork((5, 4, 2), gradient="representation", early=0.0), InputError, "early"),
        (lambda: SpikingNetwork([nn.Conv2d(1, 2, 3)]), InputError, "shape"),
        (lambda: SpikingNetwork([nn.Linear(4, 3), nn.Linear(4, 3)]), InputError, "synapses 1"),
        (lambda: SpikingClassifier(SpikingNetwork((5, 2)), n_steps=0), InputError, "n_steps"),
        (lambda: SpikingClassifier(SpikingNetwork((5, 2)))(torch.rand(5)), InputError, "5 inputs"),
        (lambda: SpikingClassifier(SpikingNetwork((5, 2)))(torch.rand(3, 4)), InputError, "5 inputs"),
        (lambda: SpikingClassifier(SpikingNetwork((5, 2)), spikes=True)(torch.rand(2, 3, 5)), InputError, "not 0 or 1"),
        (
            lambda: SpikingClassifier(SpikingNetwork((5, 2)), spikes=True)(torch.ones(2, 5)),
            InputError,
            "spikes come as",
        ),
        (lambda: SpikingNetwork((5, 2))(torch.rand(2, 0, 5)), InputError, "at least one"),
        (lambda: SpikingNetwork((5, 2))(torch.full((2, 3, 5), math.nan)), InputError, "NaN"),
    ],
)
def test_what_cannot_be_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_one_step_is_a_sequence_too():
    assert SpikingNetwork((5, 4, 2))(torch.rand(3, 1, 5)).shape == (3, 1, 2)
