"""Wiring diagrams: against torch, scipy and counting; the laws of composition; and what is refused."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import StateSpace, dlsim
from torch import nn

from nissl.axes import Axis
from nissl.diagrams import wiring as w
from nissl.diagrams.wiring import (
    CLOSED,
    Depending,
    Descent,
    Finite,
    Hom,
    Interface,
    InterfaceMismatch,
    Learner,
    Lens,
    Space,
    System,
    Wiring,
    descender,
    nest,
    real,
)
from nissl.errors import DiagramError, InputError, ModelError, UnknownNameError

DOUBLE = torch.float64
T = {n: real(n, dtype="float64") for n in (2, 3)}
NUMBER = Space((), "float64")
FEW = settings(max_examples=20, deadline=None)


def rand(*shape, seed=0):
    return torch.randn(shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def squash(seed, a=2, b=2):
    weight = rand(b, a, seed=seed)
    return Lens.differentiable(lambda x: torch.tanh(weight @ x), T[a], T[b])


def learner(seed, a=2, b=2, **descent):
    return descender(
        lambda p, x: torch.tanh(p["w"] @ x), {"w": rand(b, a, seed=seed)}, T[a], T[b], descent=Descent(**descent)
    )


# Lenses


def test_put_is_the_vjp_and_composition_the_chain_rule():
    f, g = squash(1, 2, 3), squash(2, 3, 2)
    x, dy = rand(2, seed=3), rand(2, seed=4)
    y, pull = torch.func.vjp(lambda x: g.get(f.get(x)), x)
    whole = f >> g
    assert isinstance(whole, Lens)
    torch.testing.assert_close(whole.get(x), y, rtol=0, atol=0)
    torch.testing.assert_close(whole.put(x, dy), pull(dy)[0], rtol=0, atol=1e-15)
    torch.testing.assert_close(f.put(x, rand(3)), torch.func.vjp(f.get, x)[1](rand(3))[0], rtol=0, atol=0)
    # Put of the composition as the card has it: put_f(b, put_g(get_f(b), e)).
    torch.testing.assert_close(whole.put(x, dy), f.put(x, g.put(f.get(x), dy)), rtol=0, atol=0)


def test_put_agrees_with_finite_differences():
    f, x, dy, eps = squash(1, 3, 2), rand(3), rand(2, seed=1), 1e-6
    found = torch.stack(
        [((f.get(x + eps * e) - f.get(x - eps * e)) / (2 * eps)) @ dy for e in torch.eye(3, dtype=DOUBLE)]
    )
    torch.testing.assert_close(f.put(x, dy), found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sizes", list(itertools.product((1, 2), repeat=4)))
def test_lenses_are_counted(sizes):
    b, a, d, c = sizes
    p, q = (Interface(Finite(*range(n)), Finite(*range(m))) for n, m in ((b, a), (d, c)))
    found = list(w.lenses(p, q))
    tables = set()
    for lens in found:
        gets = tuple(lens.get(i) for i in range(b))
        tables.add((gets, tuple(lens.put(i, e) for i in range(b) for e in range(c))))
    assert len(found) == len(tables) == w.count_lenses(p, q) == (d * a**c) ** b
    whole = w.hom(p, q)
    positions = list(whole.positions())
    assert len(positions) == len(found)
    assert {len(w.directions(whole, i)) for i in positions} == {b * c}


def test_lenses_between_interfaces_whose_directions_depend():
    p = Interface({"m": Finite("on", "off")}, when=[Depending("m", {"on": {"x": Finite(0, 1, 2)}})])  # y^3 + y
    q = Interface(Finite(0), Finite(0, 1))  # y^2
    assert w.count_lenses(p, q) == 3**2 * 1 == len(list(w.lenses(p, q)))


# Systems


def linear(seed, n=3, inputs=2, outputs=2):
    a, b, c = rand(n, n, seed=seed) / 3, rand(n, inputs, seed=seed + 1), rand(outputs, n, seed=seed + 2)
    return (a, b, c), w.linear_system(a, b, c)


def test_two_linear_systems_in_a_loop_are_the_block_matrix():
    (a1, b1, c1), one = linear(0)
    (a2, b2, c2), two = linear(10, 2)
    wires = {"one.u": "two.y", "two.u": "outer.u", "outer.y": "one.y"}
    ring = nest(Wiring({"one": one.interface, "two": two.interface}, one.interface, wires), {"one": one, "two": two})
    a = torch.cat([torch.cat([a1, b1 @ c2], 1), torch.cat([torch.zeros(2, 3, dtype=DOUBLE), a2], 1)])
    b = torch.cat([torch.zeros(3, 2, dtype=DOUBLE), b2])
    c = torch.cat([c1, torch.zeros(2, 2, dtype=DOUBLE)], 1)
    system = StateSpace(*(m.numpy() for m in (a, b, c)), np.zeros((2, 2)), dt=1)
    u = rand(50, 2, seed=5).numpy()
    _, theirs, _ = dlsim(system, u)
    np.testing.assert_allclose(w.run(ring, u).y.values, theirs, rtol=0, atol=1e-12)


def test_feedback_through_a_controller_is_the_block_matrix():
    (a, b, c), plant = linear(3)
    gain = 0.2 * rand(2, 2, seed=9)
    steer = Interface({"u": Space((2,), "float64")}, {"y": Space((2,), "float64"), "r": Space((2,), "float64")})
    controller = System(steer, torch.zeros(2, dtype=DOUBLE), lambda s: s, lambda s, h: gain @ (h["r"] - h["y"]))
    whole = torch.cat([torch.cat([a, b], 1), torch.cat([-gain @ c, torch.zeros(2, 2, dtype=DOUBLE)], 1)])
    enter = torch.cat([torch.zeros(3, 2, dtype=DOUBLE), gain])
    leave = torch.cat([c, torch.zeros(2, 2, dtype=DOUBLE)], 1)
    r = rand(60, 2, seed=6).numpy()
    _, theirs, _ = dlsim(StateSpace(*(m.numpy() for m in (whole, enter, leave)), np.zeros((2, 2)), dt=1), r)
    np.testing.assert_allclose(w.run(w.controlled(plant, controller), {"r": r}).y.values, theirs, rtol=0, atol=1e-12)


def test_a_closed_system_is_an_iterated_map():
    logistic = System(CLOSED, 0.3, lambda s: None, lambda s: 3.7 * s * (1 - s))
    s = 0.3
    for _ in range(30):
        s = 3.7 * s * (1 - s)
    assert w.after(logistic, steps=30).state == s
    assert len(w.run(logistic, steps=5).data_vars) == 0


def test_a_nest_is_its_product_through_the_lens_of_its_wires():
    (_, one), (_, two) = linear(0), linear(10)
    wiring = Wiring(
        {"a": one.interface, "b": two.interface}, one.interface, {"a.u": "b.y", "b.u": "outer.u", "outer.y": "a.y"}
    )
    systems, u = {"a": one, "b": two}, rand(20, 2)
    left, right = nest(wiring, systems), w.product(systems) >> wiring.lens()
    assert isinstance(right, System)
    np.testing.assert_array_equal(w.run(left, u).y, w.run(right, u).y)
    flat = w.flatten(right)
    np.testing.assert_array_equal(w.run(flat, u).y, w.run(left, u).y)


def test_inputs_may_depend_on_what_is_said():
    """A door that hears a coin while shut, and steps while open."""
    turnstile = Interface(
        {"door": Finite("shut", "open")},
        when=[Depending("door", {"shut": {"coin": NUMBER}, "open": {"through": Finite(True, False)}})],
    )

    def update(state, heard):
        return ("open" if heard["coin"] >= 1 else state) if state == "shut" else ("shut" if heard["through"] else state)

    door = System(turnstile, "shut", lambda s: s, update)
    coins, steps = [0.5, 1.0, 0.0, 0.0, 2.0], [True, False, False, True, True]
    seen = w.run(door, {"coin": coins, "through": steps})
    assert list(seen.door.values) == ["shut", "shut", "open", "open", "shut"]
    payer = System(Interface({"coin": NUMBER}), torch.tensor(1.0, dtype=DOUBLE), lambda s: s, lambda s: s)
    walker = System(Interface({"go": Finite(True, False)}), True, lambda s: s, lambda s: s)
    wires = {"door.coin": "payer.coin", "door.through": "walker.go", "outer.door": "door.door"}
    boxes = {"door": door, "payer": payer, "walker": walker}
    whole = nest(
        Wiring({n: b.interface for n, b in boxes.items()}, Interface({"door": Finite("shut", "open")}), wires), boxes
    )
    assert list(w.run(whole, steps=4).door.values) == ["shut", "open", "shut", "open"]
    same = nest(Wiring.identity(turnstile), {"inside": door})
    assert list(w.run(same, {"coin": coins, "through": steps}).door.values) == list(seen.door.values)
    with pytest.raises(InterfaceMismatch):
        door.update({"through": True})


def test_run_labels_and_units():
    x = Axis("x", 3, "mm", points=np.array([0.0, 1.0, 4.0]))
    space = Space(dtype="float64", unit="mV", axes=(x,))
    still = System(Interface({"v": space}), torch.ones(3, dtype=DOUBLE), lambda s: s, lambda s: 2 * s)
    seen = w.run(still, steps=3)
    assert seen.v.dims == ("time", "x")
    assert seen.v.units == "mV"
    assert seen.x.values.tolist() == [0.0, 1.0, 4.0]
    assert seen.v[2].values.tolist() == [4.0] * 3
    pair = w.product({"a": still, "b": still})
    assert {"a.v", "b.v"} == set(w.run(pair, steps=2).data_vars)
    assert {"a.v", "b.v"} <= set(w.run(pair, steps=2, record="wires").data_vars)


# Learners


class Residual(nn.Module):
    """Copies, sharing, a weight and a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.a, self.act, self.scale = nn.Linear(4, 4), nn.Tanh(), nn.Parameter(torch.rand(4))
        self.register_buffer("shift", torch.rand(4))

    def forward(self, x):
        h = self.act(self.a(self.act(self.a(x))))
        return (x + h * self.scale + self.shift) * self.scale


def nets():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
        yield "mlp", nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), rand(5, 3)
        yield "residual", nn.Sequential(nn.Linear(3, 4), Residual(), nn.Linear(4, 2)).double(), rand(5, 3)
        yield "convolution", conv.double(), rand(3, 1, 4, 4)


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.02),
    "momentum": lambda p: torch.optim.SGD(p, 0.02, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.02),
}


@pytest.mark.parametrize("per", ["module", "neuron"])
@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_from_torch_trains_as_torch_does(which, optimizer, per):
    _, net, x = list(nets())[which]
    target = rand(len(x), 2, seed=8)
    box = w.from_torch(net, x, optimizer, 0.02, per=per)
    flat, theirs = w.flatten(box), copy.deepcopy(net)
    optimiser = OPTIMISERS[optimizer](theirs.parameters())
    for _ in range(10):
        seen = x.clone().requires_grad_()
        y = theirs(seen)
        optimiser.zero_grad()
        (0.5 * ((y - target) ** 2).sum()).backward()
        optimiser.step()
        ours, dx, box = box.step(x, lambda y: target - y)
        again, _, flat = flat.step(x, lambda y: target - y)
        torch.testing.assert_close(ours, y.detach(), rtol=0, atol=1e-12)
        torch.testing.assert_close(dx, -seen.grad, rtol=0, atol=1e-12)
        torch.testing.assert_close(ours, again, rtol=0, atol=1e-14)
    for mine, other in zip(w.to_torch(box).parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)
    assert set(w.flat_state(box)) == set(flat.state)


def test_a_mean_over_the_batch_is_the_sum_divided():
    x = rand(6, 3)
    net = nn.Linear(3, 2).double()
    boxes = [
        w.from_torch(net, x, lr=lr, reduce=how).step(x, rand(6, 2))[2] for lr, how in ((0.6, "mean"), (0.1, "sum"))
    ]
    a, b = (list(w.to_torch(box).parameters()) for box in boxes)
    for p, q in zip(a, b, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-15)
    cell = [
        w.neuron(rand(3), batch="sample", descent=Descent(lr=lr, reduce=how))
        for lr, how in ((0.6, "mean"), (0.1, "sum"))
    ]
    one, two = (c.step(x, rand(6))[2].state["params"]["w"] for c in cell)
    torch.testing.assert_close(one, two, rtol=0, atol=1e-15)


class Named(nn.Module):
    """Children whose names differ only by a dot, and tokens for input."""

    def __init__(self):
        super().__init__()
        self.a = nn.ModuleDict({"b": nn.Linear(4, 4)})
        self.a_b, self.words, self.out = nn.Linear(4, 4), nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(self, tokens):
        return self.out(torch.relu(self.a_b(self.a["b"](self.words(tokens)).mean(1))))


def test_tokens_are_heard_and_nothing_is_sent_back():
    net, tokens = Named(), torch.tensor([[0, 1, 2], [3, 4, 0]])
    y, back, box = w.from_torch(net, tokens, lr=0.1).step(tokens, torch.ones(2, 2))
    theirs = copy.deepcopy(net)
    theirs(tokens).backward(-torch.ones(2, 2))
    torch.optim.SGD(theirs.parameters(), 0.1).step()
    assert back == {}
    torch.testing.assert_close(y, net(tokens).detach())
    for mine, other in zip(w.to_torch(box).parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("activation", ["identity", "tanh", "relu", "sigmoid"])
def test_a_neurons_derivatives_are_autograds(activation):
    weight, x, dy = rand(3), rand(3, seed=1), rand(seed=2)
    cell = w.neuron(weight, 0.3, activation=activation, descent=Descent(lr=1.0))
    held = cell.state["params"]["w"].clone().requires_grad_()
    seen = x.clone().requires_grad_()
    act = {"identity": lambda z: z}.get(activation) or getattr(torch, activation)
    y = act(held[:3] @ seen + held[3])
    y.backward(dy)
    ours, dx, after = cell.step(x, dy)
    torch.testing.assert_close(ours, y.detach())
    torch.testing.assert_close(dx, seen.grad, rtol=0, atol=1e-15)
    torch.testing.assert_close(after.state["params"]["w"] - cell.state["params"]["w"], held.grad, rtol=0, atol=1e-15)


def test_backward_maps_see_weights_before_the_update():
    f, g = learner(1, lr=0.5), learner(2, lr=0.5)
    x, dy = rand(2), rand(2, seed=1)
    _, dx, after = (f >> g).step(x, dy)
    torch.testing.assert_close(dx, f.put(x, g.put(f.get(x), dy)), rtol=0, atol=0)
    assert not torch.equal(after.state["first"]["params"]["w"], f.state["params"]["w"])


def test_a_copy_sums_and_a_discard_is_zero():
    f, g = learner(1), learner(2)
    out = Interface({"value": Space((2,), "float64")}, {"value": Space((2,), "float64")})
    places = {"f": f.type, "g": g.type}
    x, dy = rand(2), rand(2, seed=1)
    fork = Wiring(places, Hom(T[2], T[2] @ out), {"f.value": "outer.value", "g.value": "outer.value", "outer.0.value": "f.value", "outer.1.value": "g.value"})  # fmt: skip
    _, dx, _ = nest(fork, {"f": f, "g": g}).step(x, {"0.value": dy, "1.value": 2 * dy})
    torch.testing.assert_close(dx, f.put(x, dy) + g.put(x, 2 * dy), rtol=0, atol=0)
    drop = Wiring(
        places, Hom(T[2], out), {"f.value": "outer.value", "g.value": "outer.value", "outer.value": "f.value"}
    )
    _, dx, after = nest(drop, {"f": f, "g": g}).step(x, dy)
    torch.testing.assert_close(dx, f.put(x, dy), rtol=0, atol=0)
    assert torch.equal(after.state["g"]["params"]["w"], g.state["params"]["w"])


def test_a_shared_box_learns_once_from_the_sum():
    f = learner(1, lr=0.1)
    chain = Wiring(
        {"a": f.type, "b": f.type}, f.type, {"a.value": "outer.value", "b.value": "a.value", "outer.value": "b.value"}
    )
    x, dy = rand(2), rand(2, seed=1)
    _, _, after = nest(chain, {("a", "b"): f}).step(x, dy)
    weight = f.state["params"]["w"].clone().requires_grad_()
    torch.tanh(weight @ torch.tanh(weight @ x)).backward(dy)
    torch.testing.assert_close(after.state["a"]["params"]["w"], weight.detach() + 0.1 * weight.grad, rtol=0, atol=1e-15)
    assert list(after.state) == ["a"]
    stubborn = Learner(T[2], T[2], 1.0, lambda s, x: s * x, lambda s, x, dy: s * dy, lambda s, x, dy: s)
    with pytest.raises(DiagramError, match="cannot be summed"):
        nest(chain, {("a", "b"): stubborn})


def test_a_layer_of_neurons_is_one_box():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(3, 6), nn.Sigmoid(), nn.Linear(6, 2)).double()
    x = rand(4, 3)
    one, many = (w.from_torch(net, x, "adam", 0.05, per=per) for per in ("module", "neuron"))
    for _ in range(20):
        (y, dx, one), (z, dz, many) = (box.step(x, lambda y: 1 - y) for box in (one, many))
        torch.testing.assert_close(y, z, rtol=0, atol=1e-13)
        torch.testing.assert_close(dx, dz, rtol=0, atol=1e-13)


def test_groups_of_systems_are_the_systems_one_by_one():
    space = Space((2,), "float64")
    box = Interface({"y": space}, {"u": space, "v": space})
    generator = np.random.default_rng(0)
    reads = lambda s: s["x"]  # noqa: E731
    kinds = [lambda s, h, p=p: s | {"x": torch.tanh(s["a"] @ s["x"] + h["u"] - p * h["v"])} for p in (0.3, 0.5)]
    systems = {
        f"b{i}": System(box, {"x": rand(2, seed=i), "a": rand(2, 2, seed=100 + i)}, reads, kinds[i % 2])
        for i in range(20)
    }
    sources = [*(f"{n}.y" for n in systems), "outer.r"]
    wires = {f"{n}.{p}": str(generator.choice(sources)) for n in systems for p in "uv"} | {"outer.y": "b3.y"}
    whole = nest(Wiring(dict.fromkeys(systems, box), Interface({"y": space}, {"r": space}), wires), systems)
    together, r = w.grouped(whole), rand(30, 2)
    np.testing.assert_allclose(w.run(together, r).y, w.run(whole, r).y, rtol=0, atol=1e-13)
    ends, other = w.after(whole, r).state, w.split(w.after(together, r))
    for name in ends:
        torch.testing.assert_close(other[name]["x"], ends[name]["x"], rtol=0, atol=1e-13)
    assert len(together.state) == 2
    with pytest.raises(DiagramError, match="way back"):
        w.grouped(w.hebbian_wiring(3))
    apart = w.product({"a": systems["b0"], "b": systems["b2"]})
    heard = {f"{n}.{p}": rand(5, 2) for n in "ab" for p in "uv"}
    np.testing.assert_array_equal(w.run(w.grouped(apart), heard)["b.y"], w.run(apart, heard)["b.y"])


# Laws


@st.composite
def diagrams(draw, n=3):
    """A random diagram of equal boxes with two inputs and an output."""
    said, heard = [f"b{i}.y" for i in range(n)], [f"b{i}.{p}" for i in range(n) for p in "ab"]
    wires = {to: draw(st.sampled_from([*said, "outer.a", "outer.b"])) for to in heard}
    return Wiring(
        dict.fromkeys((f"b{i}" for i in range(n)), PORTS), PORTS, wires | {"outer.y": draw(st.sampled_from(said))}
    )


PORTS = Interface({"y": NUMBER}, {"a": NUMBER, "b": NUMBER})


def cell(seed):
    a, b, c = rand(3, seed=seed)
    return System(PORTS, a, lambda s: s, lambda s, h: torch.tanh(b * s + c * h["a"] - h["b"]))


@FEW
@given(diagrams(), st.lists(diagrams(2), min_size=3, max_size=3))
def test_substitution_is_flattening(outer, inner):
    inside = {f"b{i}": d for i, d in enumerate(inner)}
    systems = {f"b{i}": {f"b{j}": cell(10 * i + j) for j in range(2)} for i in range(3)}
    nested = nest(outer, {n: nest(d, systems[n]) for n, d in inside.items()})
    flat = nest(nest(outer, inside), {f"{n}/{m}": s for n, boxes in systems.items() for m, s in boxes.items()})
    heard = {p: rand(10, seed=i) for i, p in enumerate("ab")}
    ours, theirs, opened = (w.run(s, heard).y for s in (nested, flat, w.flatten(nested)))
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(opened, theirs)
    assert set(w.flat_state(nested)) == set(flat.state)


@FEW
@given(st.integers(0, 1000))
def test_sequence_is_associative_and_interchange_holds(seed):
    f, g, h, k = (learner(seed + i) for i in range(4))
    x, dy = rand(2, seed=seed), rand(2, seed=seed + 9)
    for ours, theirs in zip(((f >> g) >> h).step(x, dy)[:2], (f >> (g >> h)).step(x, dy)[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
    both, back = {"0.value": x, "1.value": dy}, {"0.value": dy, "1.value": x}
    for ours, theirs in zip(
        ((f @ g) >> (h @ k)).step(both, back)[:2], ((f >> h) @ (g >> k)).step(both, back)[:2], strict=True
    ):
        for port in both:
            torch.testing.assert_close(ours[port], theirs[port], rtol=0, atol=1e-14)


@FEW
@given(st.integers(0, 1000))
def test_identity_does_nothing(seed):
    f, x, dy = learner(seed), rand(2, seed=seed), rand(2, seed=seed + 1)
    same = nest(Wiring.identity(f.type), {"inside": f})
    wire = nest(Wiring({}, f.type, {"outer.value": "outer.value"}), {})
    for box in (same, f >> wire, wire >> f):
        y, dx, after = box.step(x, dy)
        torch.testing.assert_close(y, f.get(x), rtol=0, atol=0)
        torch.testing.assert_close(dx, f.put(x, dy), rtol=0, atol=0)
        (held,) = w.flat_state(after).values()
        torch.testing.assert_close(held["params"]["w"], f.step(x, dy)[2].state["params"]["w"], rtol=0, atol=0)
    assert PORTS @ CLOSED == PORTS == CLOSED @ PORTS


# Refusals


def test_mismatches_name_both_ports_with_types():
    volt, amp = Space((2,), "float64", "V"), Space((3,), "float32", "A")
    boxes = {"plant": Interface({"y": volt}, {"u": volt}), "meter": Interface({}, {"i": amp})}
    with pytest.raises(InterfaceMismatch) as caught:
        Wiring(boxes, CLOSED, {"plant.u": "plant.y", "meter.i": "plant.y"})
    for part in ("'plant.y'", "float64[2] V", "'meter.i'", "float32[3] A", "shape and dtype and unit"):
        assert part in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, DiagramError)
    with pytest.raises(InterfaceMismatch, match=r"nearest: 'plant\.y'"):
        Wiring(boxes, CLOSED, {"plant.u": "plant.yy"})
    with pytest.raises(InterfaceMismatch, match=r"'plant\.u'.*no source"):
        Wiring({"plant": boxes["plant"]}, CLOSED, {})
    with pytest.raises(InterfaceMismatch, match="nearest: 'plant'"):
        nest(Wiring.identity(boxes["plant"], "plant"), {"plnt": w.linear_system(*(torch.eye(2),) * 3)})
    x, y = (Space(dtype="float64", axes=(Axis(n, 2),)) for n in "xy")
    with pytest.raises(InterfaceMismatch, match="names of axes"):
        Wiring({"a": Interface({"o": x}, {"i": y})}, CLOSED, {"a.i": "a.o"})


@pytest.mark.parametrize("shapes", [((), (1,)), ((1,), (2,)), ((2,), (1, 2))])
def test_nothing_is_broadcast(shapes):
    a, b = (Space(s, "float64") for s in shapes)
    with pytest.raises(InterfaceMismatch):
        Wiring({"a": Interface({"o": a}, {"i": b})}, CLOSED, {"a.i": "a.o"})
    with pytest.raises(InterfaceMismatch):
        Wiring({"a": Interface({"o": a}, {"i": Space(a.shape, "float64", batch="sample")})}, CLOSED, {"a.i": "a.o"})
    said = System(Interface({"o": a}), torch.zeros(shapes[1], dtype=DOUBLE), lambda s: s, lambda s: s)
    with pytest.raises(InterfaceMismatch, match="was given"):
        said.readout()


def test_batches_of_different_size_do_not_mix():
    space = {"x": Space((2,), "float64", batch="sample"), "z": Space((2,), "float64", batch="sample")}
    add = Lens.differentiable(
        lambda v: v["x"] + v["z"], Interface(space, space), Interface({"x": space["x"]}, {"x": space["x"]})
    )
    with pytest.raises(InterfaceMismatch, match="sample"):
        add.get({"x": rand(4, 2), "z": rand(1, 2)})


def test_loops_without_delay_are_named():
    f = learner(1)
    with pytest.raises(DiagramError, match=r"a -> b -> a closes without delay; put a System with state between"):
        Wiring(
            {"a": f.type, "b": f.type}, f.type, {"a.value": "b.value", "b.value": "a.value", "outer.value": "a.value"}
        )
    with pytest.raises(DiagramError, match=r"a -> a closes"):
        Wiring(
            {"a": f.type},
            Interface({"value": Space((2,), "float64")}),
            {"a.value": "a.value", "outer.value": "a.value"},
        )
    # What a system says may not depend on what it hears at once.
    port = Space((2,), "float64")
    with pytest.raises(DiagramError, match="without delay"):
        Wiring({"a": f.type}, Interface({"y": port}, {"u": port}), {"a.value": "outer.u", "outer.y": "a.value"})
    hold = System(Interface({"y": port}, {"u": port}), torch.zeros(2, dtype=DOUBLE), lambda s: s, lambda s, u: u)
    places = {"a": f.type, "hold": hold.interface}
    fine = Wiring(places, Interface({"y": port}), {"a.value": "hold.y", "hold.u": "a.value", "outer.y": "hold.y"})
    assert w.run(nest(fine, {"a": f, "hold": hold}), steps=3).y.shape == (3, 2)


def test_naive_analogies_do_not_type_check():
    cell_ = w.neuron(rand(3))
    with pytest.raises(InterfaceMismatch, match="nothing is wanted"):
        nest(Wiring.identity(Hom(CLOSED, real(dtype="float64"))), {"inside": cell_})
    with pytest.raises(InterfaceMismatch):
        learner(1, 2, 3) >> learner(2, 2, 3)
    with pytest.raises(InterfaceMismatch, match="stays empty"):
        nest(Wiring.identity(cell_.type), {})
    with pytest.raises(InputError, match="allowed: System, Lens, Learner"):
        nest(Wiring.identity(cell_.type), {"inside": lambda x: x})


def test_bad_runs_never_yield_numbers():
    one = torch.ones(1, 1, dtype=DOUBLE)
    system = w.linear_system(one, one, one)
    for bad, error in (
        (None, InputError),
        ([[np.nan]], InputError),
        ([1.0], InterfaceMismatch),
        ([[1.0, 2.0]], InterfaceMismatch),
        ({"v": [[1.0]]}, InterfaceMismatch),
        ([[1j]], InterfaceMismatch),
    ):
        with pytest.raises(error):
            w.run(system, bad)
    with pytest.raises(InputError, match="inputs last 2"):
        w.run(system, np.ones((2, 1)), steps=3)
    with pytest.raises(InputError, match="how many steps"):
        w.run(learner(1), lambda t: rand(2), directions=lambda y, t: y)
    with pytest.raises(InputError):
        w.run(system, np.ones((2, 1)), record="everything")
    for bad, match in (({"optimizer": "sdg"}, "nearest: 'sgd'"), ({"reduce": "average"}, "allowed: 'sum', 'mean'")):
        with pytest.raises(UnknownNameError, match=match):
            Descent(**bad)
    with pytest.raises(InputError):
        Descent(lr=-1)
    with pytest.raises(InputError):
        Space((2,), "float65")
    with pytest.raises(InputError):
        Wiring({"outer": PORTS}, CLOSED, {})


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2)

    def forward(self, x):
        return self.a(x) if x.sum() > 0 else x


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))
        self.b[0].weight = self.a[0].weight

    def forward(self, x):
        return self.b(self.a(x))


def test_modules_that_cannot_be_boxes_say_why():
    x = torch.zeros(3, 2)
    with pytest.raises(ModelError, match="cannot be followed"):
        w.from_torch(nn.Sequential(Branches()), x)
    with pytest.raises(ModelError, match="one weight in two modules"):
        w.from_torch(Tied(), x)
    with pytest.raises(ModelError, match=r"call \.eval"):
        w.from_torch(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), x)
    with pytest.raises(UnknownNameError):
        w.from_torch(nn.Linear(2, 2), x, per="layer")
    with pytest.raises(InputError, match="not made by from_torch"):
        w.to_torch(learner(1))


# Roles and pictures


def test_roles_say_who_holds_state_and_who_carries_signals():
    table = w.roles(w.from_torch(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.zeros(1, 3), "adam"))
    boxes, wires = (table[table.what == k].set_index("name") for k in ("box", "wire"))
    assert boxes.held.to_dict() == {"0": 48, "1": 0}
    assert boxes.role["0"].startswith("synapse")
    assert boxes.role["1"] == "fixed wiring"
    assert set(wires.index) == {"outer.value", "0.value", "1.value"}
    assert wires.role.str.startswith("nerve-cell").all()
    assert wires.both_ways.all()


def test_circuits_hold_every_box_and_wire_and_close_loops():
    one = torch.eye(2)
    steer = Interface({"u": Space((2,))}, {"y": Space((2,)), "r": Space((2,))})
    controller = System(steer, torch.zeros(2), lambda s: s, lambda s, h: h["r"] - h["y"])
    drawn = w.controlled(w.linear_system(one, one, one), controller).to_circuit()
    assert [o.name for o in drawn.operations] == ["controller", "plant"]
    assert drawn.feedback == {"plant.y"}
    assert drawn.inputs == ("r",)
    assert set(drawn.outputs) == {"plant.y", "controller.u"}
    net = w.mlp([torch.ones(4, 3), torch.ones(2, 4)], [torch.zeros(4), torch.zeros(2)]).to_circuit()
    assert len(net.operations) == 8
    assert not net.feedback
    assert set(net.boxes) == {"", "layer1", "layer2"}
    assert {o.module.partition(".")[0] for o in net.operations} == {"layer1", "layer2"}
    assert sum(o.learned for o in net.operations) == 6
    hebb = w.hebbian_wiring(3).to_circuit()
    assert len(hebb.operations) == 4
    assert len(hebb.feedback) == 3
    assert "<svg" in w.from_torch(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.zeros(1, 3)).to_svg()
    for box in (w.hebbian_wiring(3), learner(1), cell(1)):
        assert "<svg" in box._repr_html_()


def test_hebbian_wiring_keeps_the_mean_of_products():
    drive, _ = w.assemblies(4, 2, 30)
    cells = w.hebbian_wiring(4, rate=0.1, strength=0.0)
    o = np.tanh(np.vstack([np.zeros(4), drive[:-1]]))
    expected = np.zeros((4, 4))
    for row in o:
        expected += 0.1 * (np.outer(row, row) - expected)
    np.testing.assert_allclose(w.after(cells, drive).state["then"]["W"].numpy(), expected, atol=1e-14)


def test_a_large_diagram_names_a_missing_wire_too():
    wires = {f"b{i}.{p}": f"b{(i + 1) % 1000}.y" for i in range(1000) for p in "ab"} | {"outer.y": "b0.y"}
    boxes = {f"b{i}": PORTS for i in range(1000)}
    assert repr(Wiring(boxes, PORTS, wires)) == "Wiring(1000 boxes, 2001 wires)"
    del wires["b500.a"]
    with pytest.raises(InterfaceMismatch, match=r"b500\.a"):
        Wiring(boxes, PORTS, wires)


def test_a_mean_over_a_batch_that_a_weight_does_not_see_is_refused() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.shift = nn.Linear(3, 2), nn.Parameter(torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + self.shift

    with pytest.raises(InputError, match="divide the direction"):
        w.from_torch(Shifted(), torch.randn(8, 3), reduce="mean")
    w.from_torch(Shifted(), torch.randn(8, 3))


def test_what_is_no_box_or_network_is_refused_in_words() -> None:
    from nissl.diagrams.wiring import adaptive_control, from_torch, real, run

    net, x = nn.Sequential(nn.Linear(3, 2)), torch.randn(5, 3)
    t = real(2)
    lens = Lens.differentiable(torch.tanh, t, t)
    for wrong in (
        lambda: from_torch(net, x, lr="a"), lambda: from_torch(net, torch.randn(5, 4)), lambda: from_torch(3, x), lambda: lens >> torch.tanh,
        lambda: lens @ 3, lambda: Space("ab"), lambda: adaptive_control(torch.eye(2), torch.randn(9, 2), change=5),
        lambda: run(lens, torch.randn(5, 2), steps="5"),
    ):  # fmt: skip
        with pytest.raises(InputError):
            wrong()

    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Tanh()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) @ torch.ones(x.shape[1], x.shape[1])

    with pytest.raises(ModelError, match=r"test_wiring.py:\d+, `return self.inner"):
        from_torch(Sized(), x)
