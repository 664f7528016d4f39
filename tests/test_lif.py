"""The leaky integrate-and-fire cell: closed forms, two other libraries, gradients, state, and what it refuses."""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.signal import lfilter

import nissl
from nissl.errors import InputError, UnknownNameError
from nissl.nn import LIF, surrogate_gradient, unroll

NAMES = ("triangle", "arctan", "sigmoid", "fast_sigmoid")


def currents(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def step_by_step(lif, x, state, modulation=None):
    """The plain loop under autograd: spikes, and the last state."""
    spikes = []
    for t in range(x.shape[1]):
        s, state = lif.advance(x[:, t], state, None if modulation is None else modulation[:, t])
        spikes.append(s)
    return torch.stack(spikes, 1), state


# ------------------------------------------------------------------------------------------------------ closed forms


def test_membrane_without_reset_is_a_linear_filter():
    x, lif = currents(3, 200, 4), LIF(tau=5.0, reset="none")
    data = nissl.record(lif.double(), x, at=["membrane", "spikes"])
    expected = lfilter([1.0], [1.0, -lif.beta], x.numpy(), axis=1)
    np.testing.assert_allclose(data["membrane"], expected, atol=1e-12)
    assert data["membrane"].dims == ("sample", "time", "unit")
    np.testing.assert_array_equal(data["spikes"], expected >= 1)


@settings(max_examples=40, deadline=None)
@given(tau=st.floats(1.05, 30), threshold=st.floats(0.1, 3), above=st.floats(1.01, 20))
def test_a_constant_current_spikes_with_its_period(tau, threshold, above):
    lif = LIF(tau=tau, threshold=threshold).double()
    current = above * threshold * (1 - lif.beta)
    exact = math.log(1 - threshold * (1 - lif.beta) / current) / math.log(lif.beta)
    if abs(exact - round(exact)) < 1e-6:  # the threshold is met exactly, and rounding decides
        return
    period = math.ceil(exact)
    spikes = lif(torch.full((1, 3 * period + 1, 1), current, dtype=torch.float64)).flatten()
    assert spikes.nonzero().flatten().tolist() == [period - 1 + i * period for i in range(3 if period > 1 else 4)]


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_a_current_too_weak_never_spikes(reset):
    lif = LIF(tau=4.0, reset=reset).double()
    assert lif(torch.full((1, 500, 1), 0.2499, dtype=torch.float64)).sum() == 0


def test_leaks_and_gains():
    assert LIF(tau=4.0).beta == 0.75
    assert LIF(tau=4.0, leak="exponential").beta == pytest.approx(math.exp(-0.25))
    x = currents(2, 30, 3)
    torch.testing.assert_close(LIF(tau=4.0, gain="leak")(x), LIF(tau=4.0)(0.25 * x))
    torch.testing.assert_close(LIF(tau=4.0, gain=3.0)(x), LIF(tau=4.0)(3 * x))
    assert torch.equal(LIF(tau=1.0)(x), (x >= 1).double())  # nothing is left of the membrane


# ------------------------------------------------------------------------------------------------------ other libraries


@pytest.mark.parametrize(("reset", "theirs"), [("hard", "zero"), ("soft", "subtract"), ("none", "none")])
def test_spikes_are_those_of_snntorch(reset, theirs):
    snn = pytest.importorskip("snntorch")
    # Its default resets one step late; a delayed reset to zero is ours, a delayed subtraction is not. Undelayed, it also
    # skips the subtraction where the membrane is above threshold still, so the currents here are below threshold.
    x = currents(4, 300, 8, seed=1, scale=0.6).clamp(max=0.95)
    peer = snn.Leaky(beta=0.8, threshold=1.0, reset_mechanism=theirs, reset_delay=theirs != "subtract").double()
    memory, expected = torch.zeros(4, 8, dtype=torch.float64), []
    for x_t in x.unbind(1):
        s, memory = peer(x_t, memory)
        expected.append(s)
    ours = LIF(tau=5.0, reset=reset)(x)
    assert torch.equal(ours, torch.stack(expected, 1))
    assert 0.03 < float(ours.mean()) < 0.6


def test_a_delayed_reset_to_zero_is_the_same_in_snntorch():
    snn = pytest.importorskip("snntorch")
    x = currents(4, 300, 8, seed=3, scale=0.6)
    trains = []
    for delay in (True, False):
        peer = snn.Leaky(beta=0.8, threshold=1.0, reset_mechanism="zero", reset_delay=delay).double()
        memory, spikes = torch.zeros(4, 8, dtype=torch.float64), []
        for x_t in x.unbind(1):
            s, memory = peer(x_t, memory)
            spikes.append(s)
        trains.append(torch.stack(spikes, 1))
    assert torch.equal(*trains)
    assert torch.equal(trains[0], LIF(tau=5.0)(x))


@pytest.mark.parametrize(("reset", "v_reset"), [("hard", 0.0), ("soft", None)])
@pytest.mark.parametrize(("gain", "decay_input"), [(1.0, False), ("leak", True)])
@pytest.mark.parametrize("detach", [True, False])
def test_spikes_and_gradients_are_those_of_spikingjelly(reset, v_reset, gain, decay_input, detach):
    sj = pytest.importorskip("spikingjelly.activation_based")
    from spikingjelly.activation_based import neuron, surrogate

    del sj
    scale = 2.5 if decay_input else 0.7
    pairs = (
        ("arctan", 2.0, surrogate.ATan(2.0)), ("sigmoid", 4.0, surrogate.Sigmoid(4.0)), ("triangle", 1.0, surrogate.PiecewiseQuadratic(1.0)),
    )  # fmt: skip
    for name, slope, theirs in pairs:
        x = currents(3, 80, 5, seed=2, scale=scale)
        a, b = x.clone().requires_grad_(), x.transpose(0, 1).contiguous().requires_grad_()
        peer = neuron.LIFNode(
            tau=4.0,
            decay_input=decay_input,
            v_reset=v_reset,
            surrogate_function=theirs,
            detach_reset=detach,
            step_mode="m",
        ).double()
        ours = LIF(tau=4.0, reset=reset, gain=gain, surrogate=name, slope=slope, detach_reset=detach)(a)
        other = peer(b)
        assert torch.equal(ours, other.transpose(0, 1))
        weights = currents(3, 80, 5, seed=5)
        (ours * weights).sum().backward()
        (other * weights.transpose(0, 1)).sum().backward()
        torch.testing.assert_close(a.grad, b.grad.transpose(0, 1), atol=1e-10, rtol=1e-8)


# ----------------------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", NAMES)
def test_a_surrogate_is_the_derivative_of_its_smooth_step(name):
    g = surrogate_gradient(name, 3.0)
    z = currents(50).requires_grad_()
    assert torch.autograd.gradcheck(g.smooth, z)
    (grad,) = torch.autograd.grad(g.smooth(z).sum(), z)
    torch.testing.assert_close(grad, g.derivative(z.detach()))
    spikes = g(z)
    assert set(spikes.tolist()) <= {0.0, 1.0}
    assert torch.equal(spikes, (z >= 0).double())
    torch.testing.assert_close(torch.autograd.grad(spikes.sum(), z)[0], grad)


@pytest.mark.parametrize("name", NAMES[:3])
def test_area_under_a_surrogate_is_one(name):
    z = torch.linspace(-400, 400, 800_001, dtype=torch.float64)
    assert float(torch.trapezoid(surrogate_gradient(name).derivative(z), z)) == pytest.approx(1, abs=2e-3)


CASES = list(itertools.product(("hard", "soft", "none"), (True, False), (False, True)))


@pytest.mark.parametrize(("reset", "detach", "modulated"), CASES)
def test_a_sequence_gives_the_numbers_and_gradients_of_its_steps(reset, detach, modulated):
    """Against autograd through the plain loop, in all that takes part: spikes, membranes, and the state handed on."""
    for name, gain in itertools.product(NAMES, (1.0, "leak")):
        lif = LIF(tau=3.0, threshold=0.7, reset=reset, gain=gain, surrogate=name, slope=1.3, detach_reset=detach)
        found = []
        for whole in (True, False):
            x = currents(2, 37, 3, seed=7).requires_grad_()
            start = currents(2, 3, seed=8).requires_grad_()
            added = currents(2, 37, 3, seed=9).requires_grad_() if modulated else None
            go = lif.run if whole else partial(step_by_step, lif)
            spikes, state = go(x, {"membrane": start}, modulation=added)
            loss = (spikes * currents(2, 37, 3, seed=10)).sum() + (state["membrane"] * currents(2, 3, seed=11)).sum()
            loss.backward()
            found.append([spikes, state["membrane"], x.grad, start.grad, *([added.grad] if modulated else [])])
        assert torch.equal(found[0][0], found[1][0])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-9)


def test_long_sequences_in_blocks_give_the_same_gradients():
    """Wide enough that the backward pass runs in several blocks of time."""
    lif = LIF(tau=3.0, surrogate="arctan", detach_reset=False)
    grads = []
    for whole in (True, False):
        x, added = currents(8, 25, 700, seed=1).requires_grad_(), currents(8, 25, 700, seed=2).requires_grad_()
        start = {"membrane": torch.zeros(8, 700, dtype=torch.float64)}
        spikes, state = (lif.run if whole else partial(step_by_step, lif))(x, start, modulation=added)
        (spikes.square().sum() + state["membrane"].square().sum()).backward()
        grads.append((x.grad, added.grad))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-9)


def test_membranes_recorded_carry_gradients():
    lif, seen = LIF(tau=3.0), []
    lif.membrane.register_forward_hook(lambda module, args, value: seen.append(value))
    x = currents(2, 20, 3).requires_grad_()
    lif(x)
    seen[0].square().sum().backward()
    manual = x.detach().clone().requires_grad_()
    u, total = torch.zeros(2, 3, dtype=torch.float64), 0.0
    for x_t in manual.unbind(1):
        u = lif.beta * u + x_t
        total = total + u.square().sum()
        u = u * (u < 1)
    total.backward()
    torch.testing.assert_close(x.grad, manual.grad)


# ---------------------------------------------------------------------------------------------------- state, sites, torch


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_a_sequence_goes_on_where_it_was_saved(reset, tmp_path):
    lif, x = LIF(tau=3.0, reset=reset), currents(2, 40, 3)
    whole, end = lif.run(x)
    first, state = lif.run(x[:, :17])
    save_file(state, tmp_path / "state.safetensors")
    rest, again = lif.run(x[:, 17:], load_file(tmp_path / "state.safetensors"))
    assert torch.equal(torch.cat([first, rest], 1), whole)
    torch.testing.assert_close(again["membrane"], end["membrane"], atol=1e-12, rtol=1e-12)
    last, _ = lif.step(x[:, -1], lif.run(x[:, :-1])[1])
    assert torch.equal(last, whole[:, -1])


def test_truncation_cuts_the_gradient_and_nothing_else():
    lif = LIF(tau=20.0, surrogate="arctan")
    for added in (None, torch.zeros(1, 10, 2, dtype=torch.float64)):
        x = currents(1, 10, 2, scale=0.01).requires_grad_()
        spikes, _ = lif.run(x, truncate=5, modulation=added)
        assert torch.equal(spikes, lif(x))
        (grad,) = torch.autograd.grad(spikes[:, -1].sum(), x)
        assert (grad[:, :5] == 0).all()
        assert (grad[:, 5:] != 0).all()


def test_clamping_a_membrane_has_its_consequences():
    x = torch.full((1, 30, 2), 0.6)
    model = nissl.load(LIF(tau=2.0))
    plain = model(x)
    with nissl.intervene(model, {"membrane": nissl.Clamp(0.0, units=[1], positions=slice(10, 20))}):
        held = model(x)
    assert torch.equal(held[..., 0], plain[..., 0])
    assert held[0, 10:20, 1].sum() == 0
    expected = torch.cat([plain[0, :10, 1], torch.zeros(10), plain[0, :10, 1]])  # it begins anew at step 20
    assert torch.equal(held[0, :, 1], expected)
    with nissl.intervene(model, {"spikes": nissl.Ablate("zero", units=[0])}):
        silent = nissl.record(model, x, at=["membrane", "spikes"])
    assert float(silent["membrane"][0, -1, 0]) == pytest.approx(1.2)  # never reset, it charges to I / (1 - beta)


def test_an_intervention_acts_under_modulation_too():
    x, added = torch.full((1, 12, 1), 0.3), torch.full((1, 12, 1), 0.5)
    lif = LIF(tau=2.0)
    model = nissl.load(lif)
    plain = lif.run(x, modulation=added)[0]
    assert plain.sum() > 0
    with nissl.intervene(model, {"membrane": nissl.Clamp(0.0)}):
        assert lif.run(x, modulation=added, truncate=5)[0].sum() == 0


def test_the_mechanism_of_a_modulation():
    """It moves the decision, and is gone afterwards: the membrane never holds it."""
    lif, x = LIF(tau=2.0), torch.zeros(1, 4, 1)
    pulse = torch.tensor([0.0, 1.5, 0.0, 0.0]).reshape(1, 4, 1)
    spikes, state = lif.run(x, modulation=pulse)
    assert spikes.flatten().tolist() == [0, 1, 0, 0]
    assert state["membrane"].item() == 0


def test_compiles_and_shows_what_it_is():
    lif, x = LIF(tau=3.0, reset="soft"), currents(2, 6, 3, dtype=torch.float32)
    assert torch.equal(torch.compile(lif, backend="eager")(x), lif(x))
    assert "tau=3" in repr(lif)
    assert "soft" in repr(lif)
    assert lif.state_dict() == {}


def test_layouts_and_types():
    lif, x = LIF(tau=3.0), currents(4, 50, 6, dtype=torch.float32)
    flipped = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(lif(flipped), lif(x))
    assert lif(x.bfloat16()).dtype == torch.bfloat16
    outputs, _ = unroll(lif, lif.advance, x.unbind(1), lif.initial_state(x[:, 0]))
    assert torch.equal(torch.stack(outputs, 1), lif(x))


# -------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tau": 0.0}, "positive"), ({"tau": -1.0}, "positive"), ({"tau": math.nan}, "positive"), ({"tau": 0.5}, "exponential"),
        ({"threshold": 0.0}, "threshold"), ({"gain": "lek"}, "gain"), ({"slope": 0.0}, "slope"), ({"gain": math.inf}, "gain"),
    ],
)  # fmt: skip
def test_constants_that_make_no_neuron(settings, said):
    with pytest.raises(InputError, match=said):
        LIF(**settings)


@pytest.mark.parametrize("name", ["reset", "leak", "surrogate"])
def test_unknown_names(name):
    with pytest.raises(UnknownNameError):
        LIF(**{name: "hardd"})


def test_currents_and_states_that_are_none():
    lif = LIF()
    with pytest.raises(InputError, match="at least one"):
        lif(torch.zeros(1, 0, 3))
    assert lif(torch.ones(1, 1, 3)).shape == (1, 1, 3)
    with pytest.raises(InputError, match="floating"):
        lif(torch.ones(1, 4, 3, dtype=torch.long))
    with pytest.raises(InputError, match="NaN"):
        lif.run(torch.ones(1, 4, 3), {"membrane": torch.full((1, 3), math.nan)})
    with pytest.raises(InputError, match="shape"):
        lif.run(torch.ones(1, 4, 3), {"membrane": torch.zeros(1, 4)})
    with pytest.raises(InputError, match="same"):
        lif.run(torch.ones(1, 4, 3), modulation=torch.ones(1, 3, 3))
    with pytest.raises(InputError, match="truncate"):
        lif.run(torch.ones(1, 4, 3), modulation=torch.ones(1, 4, 3), truncate=0)
