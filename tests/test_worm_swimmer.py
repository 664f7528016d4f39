"""The worm's circuit: closed form, symmetries, signs, weights, graph, sites."""

from __future__ import annotations

import copy
import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import nissl
from nissl.errors import InputError, UnknownNameError
from nissl.learning import swim
from nissl.nn import WormSteering, WormSwimmer
from nissl.report.swimming import animate, draw_circuit, kymograph

SWITCHES = list(itertools.product((True, False), (True, False), ("constant", "random"), (True, False), (True, False)))


def angles(seed: int, batch: int = 7, joints: int = 5, spread: float = 1.5) -> torch.Tensor:
    return spread * (2 * torch.rand(batch, joints, generator=torch.Generator().manual_seed(seed)) - 1)


def written_out(worm: WormSwimmer, q, step: int, speed=None, right=None, left=None) -> tuple[list, list, list]:
    """The circuit as the card writes it, one joint after another, in plain numbers."""

    def weight(name, side, i):
        w = worm.named_weights().get(name)
        if w is None:
            return 0.0
        w = w.detach()
        value = float(w) if worm.share else float(w[side, i])
        if not worm.signed:
            return value
        return min(value, 0.0) if name in ("contra", "speed") else max(value, 0.0)

    def g(x):
        return min(max(x, 0.0), 1.0)

    early = step % worm.period < worm.period // 2
    oscillator = (1.0, 0.0) if early else (0.0, 1.0)
    neurons, muscles, commands = [], [], []
    for i in range(worm.n_joints):
        b = []
        for side in (0, 1):
            x = 0.0
            if i == 0 and worm.oscillator:
                x += weight("osc", side, 0) * oscillator[side]
            if i > 0 and worm.proprioception:
                bent = q[i - 1] if side == 0 else -q[i - 1]
                x += weight("prop", side, i - 1) * g(bent)
            if worm.speed:
                x += weight("speed", side, i) * (1 - g(speed))
            if worm.turn and i < worm.n_turn:
                x += weight("turn", side, i) * g((right, left)[side])
            b.append(g(x))
        m = [g(weight("ipsi", s, i) * b[s] + weight("contra", s, i) * b[1 - s]) for s in (0, 1)]
        neurons.append(b)
        muscles.append(m)
        commands.append(m[0] - m[1])
    return neurons, muscles, commands


# Oracles


@pytest.mark.parametrize(("share", "signed", "init", "proprioception", "oscillator"), SWITCHES)
def test_every_switch_gives_the_equations_written_out(share, signed, init, proprioception, oscillator):
    worm = WormSwimmer(
        4, 7, share=share, signed=signed, init=init, proprioception=proprioception, oscillator=oscillator,
        speed=True, turn=True, n_turn=2, seed=3,
    )  # fmt: skip
    with torch.no_grad():  # also weights on the wrong side of zero
        for i, w in enumerate(worm.parameters()):
            w += 0.8 * torch.randn(w.shape, generator=torch.Generator().manual_seed(i))
    q = angles(1, 6, 4)
    for step in (0, 2, 3, 6, 7, 700):
        speed, right, left = (torch.rand(6, 1, generator=torch.Generator().manual_seed(step + k)) for k in range(3))
        found = worm(q, torch.full((6, 1), step), speed, right, left)
        for row in range(6):
            inputs = (float(v[row]) for v in (speed, right, left))
            _, _, expected = written_out(worm, q[row].tolist(), step, *inputs)
            np.testing.assert_allclose(found[row].detach(), expected, atol=1e-6)


def test_unit_weights_hand_the_bend_down():
    worm, q = WormSwimmer(6, 60), angles(0, 50, 6)
    for step, head in ((0, 1.0), (29, 1.0), (30, -1.0), (59, -1.0), (60, 1.0)):
        command = worm(q, torch.full((50, 1), float(step)))
        assert (command[:, 0] == head).all()
        assert torch.equal(command[:, 1:], q[:, :-1].clamp(-1, 1))


def test_an_odd_period_is_longer_in_its_second_half():
    command = WormSwimmer(2, 5)(torch.zeros(5, 2), torch.arange(5.0)[:, None])
    assert command[:, 0].tolist() == [1, 1, -1, -1, -1]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.booleans(), signed=st.booleans(), step=st.integers(0, 5000))
def test_mirror_images_move_as_mirror_images(seed, share, signed, step):
    worm = WormSwimmer(5, 60, share=True, signed=signed, init="random", seed=seed)
    if not share:  # the same numbers, one a synapse, mirrored too
        wide = WormSwimmer(5, 60, share=False, signed=signed)
        worm = wide.set_weights(
            **{k: torch.full_like(wide.named_weights()[k], float(v)) for k, v in worm.named_weights().items()}
        )
    q = angles(seed)
    here = worm(q, torch.full((7, 1), step))
    there = worm(-q, torch.full((7, 1), step + 30))  # half a period later the oscillators are swapped
    torch.testing.assert_close(here, -there, rtol=0, atol=0)


def test_a_batch_is_its_rows():
    worm, q, step = WormSwimmer(init="random", seed=2), angles(3, 9), torch.arange(9)[:, None] * 7
    rows = torch.stack([worm(q[i], step[i]) for i in range(9)])
    assert torch.equal(worm(q, step), rows)
    assert torch.equal(worm(q.reshape(3, 3, 5), step.reshape(3, 3, 1)).reshape(9, 5), rows)


def test_one_weight_a_synapse_with_equal_entries_is_the_shared_circuit():
    shared = WormSwimmer(init="random", speed=True, turn=True, seed=5)
    single = WormSwimmer(share=False, speed=True, turn=True)
    single.set_weights(**{name: float(w) for name, w in shared.named_weights().items()})
    inputs = (angles(4), torch.zeros(7, 1), torch.full((7, 1), 0.4), torch.full((7, 1), 0.3), torch.zeros(7, 1))
    torch.testing.assert_close(shared(*inputs), single(*inputs), rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.booleans(), signed=st.booleans(), size=st.floats(0.0, 50.0))
def test_activity_and_commands_stay_in_range(seed, share, signed, size):
    worm = WormSwimmer(share=share, signed=signed)
    generator = torch.Generator().manual_seed(seed)
    worm.set_weights(**{k: size * torch.randn(w.shape, generator=generator) for k, w in worm.named_weights().items()})
    q, step = angles(seed, spread=3), torch.randint(0, 200, (7, 1), generator=generator)
    acts = nissl.record(worm, {"joint_angles": q, "step": step}, at=["bneuron.*", "muscle.*", "command"])
    for name, values in acts.data_vars.items():
        low = -1 if name == "command" else 0
        assert values.min() >= low, name
        assert values.max() <= 1, name


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(0.1, 5.0))
def test_with_signs_a_stretch_pulls_its_own_side(seed, size):
    worm = WormSwimmer(share=False, init="random", seed=seed)
    with torch.no_grad():
        for w in worm.parameters():
            w *= size
    q = angles(seed).requires_grad_()
    slope = torch.autograd.functional.jacobian(lambda x: worm(x, torch.zeros(7, 1)).sum(0), q)  # joint, row, joint
    for i in range(5):
        for j in range(5):
            assert (slope[i, :, j] >= 0).all() if i == j + 1 else (slope[i, :, j] == 0).all()


def test_weights_count_and_begin_as_they_should():
    assert sum(p.numel() for p in WormSwimmer(11).parameters()) == 4
    assert sum(p.numel() for p in WormSwimmer(5, share=False).parameters()) == 30
    assert [float(w) for w in WormSwimmer().named_weights().values()] == [1, 1, 1, -1]
    assert set(WormSwimmer(proprioception=False, oscillator=False).named_weights()) == {"ipsi", "contra"}
    free = torch.cat([w.flatten() for w in WormSwimmer(101, share=False, signed=False).parameters()])
    assert set(free.tolist()) == {-1.0, 1.0}
    assert abs(free.mean()) < 0.15
    for signed in (True, False):
        worm = WormSwimmer(101, share=False, signed=signed, init="random", speed=True)
        for name, w in worm.named_weights().items():
            low, high = (-1, 1) if not signed else (-1, 0) if name in ("contra", "speed") else (0, 1)
            assert low <= w.min() < w.max() <= high
            assert w.std() > 0.2
    assert not torch.equal(WormSwimmer(init="random", seed=1).w_prop, WormSwimmer(init="random", seed=2).w_prop)


def test_a_weight_across_zero_is_brought_back_and_learns_again():
    worm, q = WormSwimmer().set_weights(prop=-0.2, contra=0.3), angles(0, spread=0.9)
    step = torch.zeros(7, 1)
    before = worm(q, step).detach()
    worm(q, step).square().sum().backward()
    assert worm.w_prop.grad == 0
    worm.project()
    assert (worm.w_prop, worm.w_contra) == (0, 0)
    torch.testing.assert_close(worm(q, step).detach(), before, rtol=0, atol=0)
    worm.w_prop.grad = None
    (worm(q, step)[:, 1:] - q[:, :-1]).square().sum().backward()
    assert worm.w_prop.grad < 0
    free = WormSwimmer(signed=False).set_weights(prop=-0.2)
    free.project()
    assert float(free.w_prop.detach()) == pytest.approx(-0.2)


def test_steps_drive_the_oscillator_and_calls_do_not():
    worm, q = WormSwimmer(), torch.zeros(1, 5)
    commands = [float(worm(q, torch.tensor([[t]]))[0, 0]) for t in (45.0, 45.0, 3.0, 59.9999, 29.6)]
    assert commands == [-1, -1, 1, 1, -1]  # a time that was stored as a float is rounded to its step


def test_the_brake_stops_and_turning_bends_the_head():
    worm = WormSwimmer(speed=True, turn=True)
    q, step, one, none = angles(1), torch.zeros(7, 1), torch.ones(7, 1), torch.zeros(7, 1)
    assert (worm(q, step, none, none, none) == 0).all()
    assert torch.equal(worm(q, step, one, none, none), WormSwimmer()(q, step))
    late = torch.full((7, 1), 40.0)  # the oscillator pulls to the ventral side, and turning right against it
    assert (worm(q, late, one, one, none)[:, 0] == 0).all()
    steering = WormSteering()
    found = steering(torch.tensor([[-0.2, -1.0], [0.2, 0.05], [0.05, 0.2]]))
    assert {k: v[:, 0].tolist() for k, v in found.items()} == {
        "right": [1, 0, 0],
        "left": [0, 1, 0],
        "speed": [1, 0, 1],
    }
    assert sum(p.numel() for p in WormSteering(learned=True).parameters()) == 9
    assert torch.equal(WormSteering(learned=True, seed=1).map.weight, WormSteering(learned=True, seed=1).map.weight)


def test_the_graph_computes_what_the_circuit_computes():
    worm = WormSwimmer(4, share=False, init="random", seed=1)
    graph, q, step = worm.graph(), angles(2, 1, 4)[0], 12
    assert isinstance(graph, nx.DiGraph)
    _, muscles, commands = written_out(worm, q.tolist(), step)
    activity = {"oscillator.dorsal": 1.0, "oscillator.ventral": 0.0}
    for j in range(3):
        activity |= {
            f"stretch.{s}.{j}": min(max(sign * float(q[j]), 0), 1) for s, sign in (("dorsal", 1), ("ventral", -1))
        }

    def drive(node):
        return sum(activity[a] * e["weight"] for a, _, e in graph.in_edges(node, data=True))

    for kind in ("bneuron", "muscle"):
        for node in [n for n in graph if n.startswith(kind)]:
            activity[node] = min(max(drive(node), 0), 1)
    for i in range(4):
        assert activity[f"muscle.ventral.{i}"] == pytest.approx(muscles[i][1], abs=1e-6)
        assert drive(f"joint.{i}") == pytest.approx(commands[i], abs=1e-6)
    signs = {(e["kind"], e["sign"]) for *_, e in graph.edges(data=True) if e["kind"] != "body"}
    assert signs == {("osc", 1), ("prop", 1), ("ipsi", 1), ("contra", -1)}
    assert sum(e["kind"] != "body" for *_, e in graph.edges(data=True)) == 2 * 3 + 2 + 4 * 4


# A module like any other


def test_round_trips(tmp_path):
    worm = WormSwimmer(share=False, init="random", seed=4)
    save_file(worm.state_dict(), tmp_path / "worm.safetensors")
    again = WormSwimmer(share=False)
    again.load_state_dict(load_file(tmp_path / "worm.safetensors"))
    q, step = angles(0), torch.zeros(7, 1)
    assert torch.equal(worm(q, step), again(q, step))
    assert torch.equal(copy.deepcopy(worm)(q, step), worm(q, step))
    compiled = torch.compile(worm, backend="eager", fullgraph=True)
    assert torch.equal(compiled(q, step), worm(q, step))
    double = worm.double()
    assert double(q.double(), step.double()).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: double(x, step), (angles(0, spread=0.9).double().requires_grad_(),))


def test_the_same_numbers_in_another_body():
    worm = WormSwimmer(5, 50, oscillator=False, turn=True, n_turn=2, init="random", seed=1).double()
    other = worm.with_joints(11)
    assert (other.n_joints, other.period, other.oscillator, other.n_turn) == (11, 50, False, 2)
    assert {k: float(v) for k, v in other.named_weights().items()} == {
        k: float(v) for k, v in worm.named_weights().items()
    }
    with pytest.raises(InputError, match="share=True"):
        WormSwimmer(share=False).with_joints(7)


def test_sites_are_recorded_and_changed():
    worm, q = WormSwimmer(), angles(0)
    acts = nissl.record(worm, {"joint_angles": q, "step": torch.zeros(7, 1)}, at="muscle.*")
    assert acts["muscle.dorsal"].dims == ("sample", "unit")
    whole = swim(worm, steps=90)
    expected = np.array([written_out(worm, whole["angle"].values[t] / (np.pi / 3), t)[0] for t in range(90)])
    np.testing.assert_allclose(whole["bneuron.ventral"], expected[:, :, 1], atol=1e-6)
    with nissl.intervene(nissl.load(worm), {"muscle.dorsal": nissl.Clamp(0.0, units=[2])}):
        cut = swim(worm, steps=90)
    assert cut["muscle.dorsal"][:, 2].max() == 0
    assert cut["command"][:, 2].max() <= 0
    assert abs(cut["angle"] - whole["angle"]).max() > 0.1


# Pictures


def test_pictures_are_written(tmp_path):
    from PIL import Image

    episode = swim(WormSwimmer(), steps=70, n_bodies=2)
    path = animate(episode, tmp_path / "new" / "swim.gif", seconds=1.2, width=300)
    with Image.open(path) as image:
        assert (image.n_frames, image.size[0], image.info["duration"]) == (20, 300, 60)
    plain = swim(lambda q, step: torch.zeros_like(q), steps=10)
    with Image.open(animate(plain, tmp_path / "still.gif", seconds=0.3, width=300)) as image:
        assert image.size[1] < 300 * 0.5
    assert len(kymograph(episode).axes) == 4
    assert draw_circuit(WormSwimmer(3, speed=True, turn=True), tmp_path / "circuit.svg").axes
    assert (tmp_path / "circuit.svg").stat().st_size > 1000
    with pytest.raises(InputError, match=r"\.gif"):
        animate(episode, tmp_path / "swim.mp4")
    with pytest.raises(InputError, match="lasts"):
        animate(episode, tmp_path / "swim.gif", start=50.0)
    with pytest.raises(InputError, match="no graph"):
        draw_circuit(torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match="no episode"):
        kymograph(episode.drop_vars("angle"))


# Bad input


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_joints": 1}, "one joint cannot carry a wave"),
        ({"n_joints": 0}, "2 or more"),
        ({"period": 1}, "2 or more"),
        ({"n_turn": 6}, "1 to 5"),
        ({"n_turn": 0}, "1 to 5"),
    ],
)
def test_a_circuit_that_cannot_be(settings, words):
    with pytest.raises(InputError, match=words):
        WormSwimmer(**settings)


def test_wrong_inputs_and_weights():
    worm = WormSwimmer()
    with pytest.raises(InputError, match="5 joints"):
        worm(torch.zeros(1, 4), torch.zeros(1, 1))
    with pytest.raises(InputError, match="speed=False, and speed was given"):
        worm(torch.zeros(1, 5), torch.zeros(1, 1), speed=torch.ones(1, 1))
    with pytest.raises(InputError, match="right and left is missing"):
        WormSwimmer(turn=True)(torch.zeros(1, 5), torch.zeros(1, 1), right=torch.ones(1, 1))
    with pytest.raises(UnknownNameError, match="contra"):
        worm.set_weights(contr=1.0)
    with pytest.raises(InputError, match="NaN"):
        worm.set_weights(prop=float("nan"))
    with pytest.raises(InputError, match="shape"):
        worm.set_weights(prop=torch.ones(3))
    with pytest.raises(UnknownNameError, match="constant"):
        WormSwimmer(init="constnt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="across and along"):
        WormSteering()(torch.zeros(3))


def test_signs_steps_and_sizes_are_checked():
    worm = WormSwimmer()
    with pytest.warns(UserWarning, match="inhibitory, 0 or less"):
        worm.set_weights(contra=0.5)
    with pytest.raises(InputError, match="whole number"):
        WormSwimmer(2.5)
    angles = torch.rand(3, 5)
    assert torch.equal(worm(angles, 7), worm(angles, torch.full((3, 1), 7)))
    with pytest.raises(InputError, match="step of shape"):
        worm(angles, torch.zeros(2, 1))
    with pytest.raises(InputError, match="step of shape"):
        worm(angles, torch.zeros(3))
