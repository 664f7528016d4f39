"""Bodies that swim: the planar one against laws of mechanics and MuJoCo, episodes, gymnasium."""

from __future__ import annotations

import builtins
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from nissl.errors import InputError, MissingExtraError, UnknownNameError
from nissl.learning import MujocoSwimmer, PlanarSwimmer, SwimmerPolicy, mlp_policy, swim, wave_lags
from nissl.nn import WormSwimmer

N_LINKS = st.integers(3, 9)


def moving(n_links=6, n_bodies=4, seed=0, **settings) -> PlanarSwimmer:
    """Bodies that move in every way, with joints inside their limits."""
    body = PlanarSwimmer(n_links, n_bodies, **settings)
    rng = np.random.default_rng(seed)
    body.reset(seed, angles=0.4 * body.joint_limit * rng.uniform(-1, 1, (n_bodies, n_links - 1)))
    body._omega = rng.normal(0, 0.6, (n_bodies, n_links))
    body._velocity = rng.normal(0, 0.1, n_bodies) + 1j * rng.normal(0, 0.1, n_bodies)
    return body


def rest(body) -> np.ndarray:
    return np.zeros((body.n_bodies, body.n_joints))


# Mechanics


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n_links=N_LINKS)
def test_without_water_momentum_stays_whatever_the_motors_do(seed, n_links):
    body = moving(n_links, seed=seed, density=0)
    before, command = body.momentum, np.random.default_rng(seed).uniform(-1, 1, rest(body).shape)
    start = body.points.mean((0, 1))
    for _ in range(20):
        body.step(command)
    np.testing.assert_allclose(body.momentum, before, rtol=0, atol=1e-15)
    assert not np.allclose(body.points.mean((0, 1)), start)


def test_without_water_angular_momentum_and_energy_stay_as_far_as_the_step_is_small():
    drifts = []
    for timestep in (2e-3, 2e-4):
        body = moving(seed=3, density=0, timestep=timestep)
        spin, energy = body.angular_momentum, body.kinetic_energy
        for _ in range(10):
            body.step(rest(body))
        drifts.append(
            [abs(body.angular_momentum - spin).max() / abs(spin).max(), abs(body.kinetic_energy / energy - 1).max()]
        )
    coarse, fine = np.array(drifts)
    assert (coarse < 0.02).all()
    assert (fine < coarse / 7).all()  # the error of the first order falls with the step


def test_motors_do_not_turn_a_body_at_rest_without_water():
    body = PlanarSwimmer(6, 1, density=0, timestep=2e-4)
    body.reset(0, angles=np.zeros((1, 5)))
    for _ in range(5):
        body.step(np.full((1, 5), 0.02))
    moved = abs(body.velocities[..., 2]).max()
    assert moved > 0.05
    assert abs(body.angular_momentum).max() < 0.01 * moved * body._rigid[0, 0]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), n_links=N_LINKS)
def test_water_takes_energy_and_never_gives_any(seed, n_links):
    body = moving(n_links, seed=seed)
    energy, free = [body.kinetic_energy], [np.ones(4, bool)]
    for _ in range(100):
        body.step(rest(body))
        energy.append(body.kinetic_energy)
        free.append((abs(body.angles) < body.joint_limit).all(1))
    # A stop is a spring, and may give back what it took.
    growth = np.diff(energy, axis=0)[np.array(free)[1:] & np.array(free)[:-1]]
    assert (growth <= 0).all()
    assert (energy[-1] < 0.4 * energy[0]).all()


def test_drag_is_that_of_the_box():
    body = PlanarSwimmer(6, 1)
    body.reset(heading=0.3, angles=np.zeros((1, 5)))
    along = np.exp(0.3j) * 1j
    for direction, coefficient in ((along / 1j, 3.0), (along, 0.06)):
        body._velocity = np.array([0.05 * direction])
        body._omega = np.zeros((1, 6))
        before = body._velocity.copy()
        body._substep(np.zeros((1, 6)))
        slowed = (before - body._velocity)[0] / direction / 0.002
        assert slowed.real == pytest.approx(coefficient * 0.05**2 / 0.01, rel=1e-9)
        assert abs(slowed.imag) < 1e-12
    assert body._spin_drag == pytest.approx(-9.4e-5, rel=0.01)


def test_mass_matrix_and_turning_are_those_of_the_energy():
    """Lagrange's equations from the kinetic energy, written out with automatic differentiation."""
    body = moving(5, 1, seed=1, density=0)
    lever, rigid = torch.as_tensor(body._lever), torch.as_tensor(body._rigid)

    def kinetic(theta, omega):
        across = torch.stack([theta.cos(), theta.sin()], -1)
        speed = -(lever @ (omega[:, None] * across))
        return 0.01 * speed.square().sum() / 2 + omega @ rigid @ omega / 2

    theta, omega = torch.as_tensor(body._theta[0]), torch.as_tensor(body._omega[0])
    mass = torch.autograd.functional.hessian(lambda w: kinetic(theta, w), omega)
    momentum = torch.func.grad(kinetic, argnums=1)
    turning = torch.autograd.functional.jacobian(lambda th: momentum(th, omega), theta) @ omega
    pull = torch.func.grad(kinetic, argnums=0)(theta, omega)
    expected = torch.linalg.solve(mass, pull - turning)
    body._substep(np.zeros((1, 5)))
    np.testing.assert_allclose((body._omega[0] - omega.numpy()) / 0.002, expected, rtol=1e-9)


def test_stops_hold_a_joint_that_is_driven_against_them():
    body = PlanarSwimmer(6, 2)
    for sign in (1, -1):
        body.reset(0, angles=np.zeros((2, 5)))
        for _ in range(120):
            body.step(np.full((2, 5), float(sign)))
        beyond = sign * body.angles - body.joint_limit
        assert (beyond[:, 1:-1] > 0).any()
        assert beyond.max() < 0.12
    body.reset(0, angles=np.full((2, 5), body.joint_limit + 0.1))
    for _ in range(60):
        body.step(rest(body))
    assert body.angles.max() < body.joint_limit + 0.03  # what was beyond is brought back


def test_a_body_among_others_moves_as_it_does_alone():
    many, command = PlanarSwimmer(6, 5), np.random.default_rng(1).uniform(-1, 1, (40, 5, 5))
    many.reset(2)
    alone = PlanarSwimmer(6, 1)
    alone.reset(heading=many._theta[3, 0], angles=many.angles[3:4])
    for c in command:
        many.step(c)
        alone.step(c[3:4])
    np.testing.assert_allclose(many.angles[3:4], alone.angles, rtol=0, atol=1e-9)
    np.testing.assert_allclose(many.points[3], alone.points[0], rtol=0, atol=1e-9)


def test_points_and_velocities_belong_together():
    body = moving(seed=5)
    before = body.points
    np.testing.assert_allclose(np.linalg.norm(np.diff(before, axis=1), axis=-1), 0.1, atol=1e-12)
    local = body.velocities
    across = np.stack([np.cos(body._theta), np.sin(body._theta)], -1)
    along = np.stack([-across[..., 1], across[..., 0]], -1)
    world = local[..., :1] * across + local[..., 1:2] * along
    body._theta = body._theta + 1e-6 * body._omega
    body._centre = body._centre + 1e-6 * body._velocity
    moved = (body.points - before) / 1e-6
    np.testing.assert_allclose((moved[:, 1:] + moved[:, :-1]) / 2, world, atol=1e-4)
    body.reset(1)
    np.testing.assert_allclose(body.points[:, 0], 0, atol=1e-12)  # noses begin at the origin
    assert (abs(body.angles) <= body.joint_limit).all()


def test_reward_is_the_speed_forwards_up_to_a_tenth():
    body = PlanarSwimmer(6, 3)
    body.reset(heading=0.0, angles=np.zeros((3, 5)))
    body._velocity = np.array([-0.04j, 0.2j, -0.5j])  # the nose points to -y
    np.testing.assert_allclose(body.forward_speed, [0.04, -0.2, 0.5])
    np.testing.assert_allclose(body.reward, [0.4, 0, 1])


# MuJoCo


@pytest.mark.parametrize("n_links", [3, 6, 12])
def test_the_planar_body_moves_as_in_mujoco(n_links):
    pytest.importorskip("mujoco")
    pytest.importorskip("dm_control")
    worm = WormSwimmer(n_links - 1)
    planar, engine = (swim(worm, n_links, 100, 1, n_bodies=2, body=body) for body in ("planar", "mujoco"))
    np.testing.assert_allclose(planar["angle"][:, 0], engine["angle"][:, 0], atol=1e-12)
    np.testing.assert_allclose(planar["x"][:, 0], engine["x"][:, 0], atol=1e-12)
    two_seconds = slice(0, 67)
    for joint in range(n_links - 1):
        a, b = (e["angle"][:, two_seconds, joint].to_numpy().ravel() for e in (planar, engine))
        assert np.corrcoef(a, b)[0, 1] > 0.99
    np.testing.assert_allclose(planar["forward_speed"], engine["forward_speed"], atol=0.02)
    np.testing.assert_allclose(planar["y"], engine["y"], atol=0.01)


def test_what_mujoco_reads_is_what_the_suite_reads():
    suite = pytest.importorskip("dm_control.suite.swimmer")
    pytest.importorskip("mujoco")
    try:
        environment = suite.swimmer(6)
    except AttributeError:
        pytest.skip("dm_control and MuJoCo do not fit each other here")
    physics = environment.physics
    body = MujocoSwimmer(6)
    body.reset(3)
    with physics.reset_context():
        physics.data.qpos[:] = body._states[0].qpos
    command = np.linspace(-1, 1, 5)[None]
    for _ in range(5):
        body.step(command)
        physics.set_control(command[0])
        physics.step(15)
    np.testing.assert_allclose(body.velocities.ravel(), physics.body_velocities(), atol=1e-9)
    np.testing.assert_allclose(body.angles[0], physics.joints(), atol=1e-9)


@pytest.mark.parametrize("missing", ["mujoco", "dm_control"])
def test_missing_mujoco_is_one_line_that_says_what_to_install(missing, monkeypatch):
    from nissl.learning.bodies import mujoco as module

    module._model.cache_clear()
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    for name in [n for n in sys.modules if n.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'nissl\[papers\]'") as error:
        swim(WormSwimmer(), body="mujoco")
    assert "\n" not in str(error.value)


def test_missing_gymnasium_is_one_line_too(monkeypatch):
    from nissl.learning import PolicyGradient, SwimmerEnv

    for name in [n for n in sys.modules if n.split(".")[0] == "gymnasium"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'nissl\[papers\]'"):
        SwimmerEnv()
    with pytest.raises(MissingExtraError, match=r"pip install 'nissl\[papers\]'"):
        PolicyGradient().fit(SwimmerPolicy(WormSwimmer()), object())


# Episodes


def test_an_episode_is_what_happened():
    episode = swim(WormSwimmer(7), 8, 130, seed=4)
    assert dict(episode["angle"].sizes) == {"time": 130, "joint": 7}
    assert episode["x"].dims == ("time", "point")
    assert float(episode["time"][-1]) == pytest.approx(129 * 0.03)
    limit = episode.attrs["joint_limit"]
    seen = (episode["angle"] / limit).clip(-1, 1)
    np.testing.assert_allclose(episode["command"][:, 1:], seen[:, :-1], atol=1e-6)
    np.testing.assert_allclose(episode["reward"], (episode["forward_speed"] / 0.1).clip(0, 1))
    assert (episode["command"][:30, 0] == 1).all()
    xr.testing.assert_identical(episode, swim(WormSwimmer(7), 8, 130, seed=4))
    assert not np.allclose(episode["angle"][0], swim(WormSwimmer(7), 8, 1, seed=5)["angle"][0])
    # speed of the head's centre along itself, seen in where it goes
    head = np.stack([(episode[k][:, 0] + episode[k][:, 1]) / 2 for k in ("x", "y")], -1)
    nose = np.stack([episode[k][:, 0] - episode[k][:, 1] for k in ("x", "y")], -1) / 0.1
    found = ((head[2:] - head[:-2]) / 0.06 * nose[1:-1]).sum(-1)
    # what is read at the end of step t belongs to time t + 1
    assert np.corrcoef(found, episode["forward_speed"][:-2])[0, 1] > 0.98


def test_the_circuit_swims_and_its_wave_travels_to_the_tail():
    episode = swim(WormSwimmer(), steps=400, seed=2, n_bodies=3)
    assert (episode["reward"].sum("time") > 260).all()
    lags = wave_lags(episode, skip=100)
    assert lags.dims == ("sample", "joint")
    assert ((lags >= 8 * 0.03) & (lags <= 30 * 0.03)).all()
    still = swim(WormSwimmer().set_weights(prop=0.0), steps=100, seed=2)
    assert (still["command"][:, 1:] == 0).all()


def test_lags_of_a_wave_that_is_known():
    time = np.arange(400) * 0.03
    angle = np.stack([np.sin(2 * np.pi * (np.arange(400) - 7 * i) / 60) for i in range(4)], -1)
    wave = xr.Dataset({"angle": (("time", "joint"), angle)}, {"time": time})
    np.testing.assert_allclose(wave_lags(wave), 7 * 0.03)
    np.testing.assert_allclose(wave_lags(wave.isel(joint=slice(None, None, -1))), -7 * 0.03)
    with pytest.raises(InputError, match="twice"):
        wave_lags(wave.isel(time=slice(50)))
    with pytest.raises(InputError, match="does not move"):
        wave_lags(wave * 0)


def test_the_whole_observation_leads_to_the_same_commands():
    worm = WormSwimmer(init="random", seed=3)
    a = swim(worm, steps=80, n_bodies=2)
    b = swim(SwimmerPolicy(worm), steps=80, n_bodies=2, observation="full")
    np.testing.assert_allclose(a["angle"], b["angle"], atol=1e-3)
    assert "bneuron.dorsal" in b
    assert swim(mlp_policy(4, (8,)), 4, 10, observation="full")["command"].shape == (10, 3)
    assert torch.equal(mlp_policy(seed=1)[0].weight, mlp_policy(seed=1)[0].weight)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_links": 2}, "2 links has 1 joint and"),
        ({"n_links": 0}, "0 links"),
        ({"n_links": 6.0}, "whole number"),
        ({"steps": 0}, "from 1"),
        ({"n_bodies": 0}, "n_bodies 0"),
        ({"n_links": 8}, r"5 joints and a body of 8 links has 7.*n_links=6"),
        ({"body": PlanarSwimmer(4)}, "4 links"),
    ],
)
def test_episodes_that_cannot_be(settings, words):
    with pytest.raises(InputError, match=words):
        swim(WormSwimmer(), **settings)


def test_names_and_policies_that_are_wrong():
    with pytest.raises(UnknownNameError, match="planar"):
        swim(WormSwimmer(), body="planer")
    with pytest.raises(UnknownNameError, match="joints"):
        swim(WormSwimmer(), observation="joint")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at step 3: a command is NaN"):
        swim(lambda q, step: q * (float("nan") if step[0] == 3 else 0.0), steps=5)
    with pytest.raises(InputError, match="take"):
        swim(lambda q, step: q[:, :3], steps=5)
    with pytest.raises(InputError, match="24"):
        SwimmerPolicy(WormSwimmer())(torch.zeros(1, 23))
    with pytest.raises(InputError, match="n_joints"):
        SwimmerPolicy(torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match="at least one"):
        mlp_policy(6, (0,))
    with pytest.raises(InputError, match="density"):
        PlanarSwimmer(density=-1)
    with pytest.raises(InputError, match="divide"):
        PlanarSwimmer(timestep=0.004)
    with pytest.raises(InputError, match="angles of shape"):
        PlanarSwimmer(6).reset(angles=np.zeros((2, 5)))


# Gymnasium


@pytest.mark.parametrize("body", ["planar", "mujoco"])
def test_the_environment_is_one_of_gymnasium(body):
    pytest.importorskip("gymnasium")
    if body == "mujoco":
        pytest.importorskip("mujoco")
    from gymnasium.utils.env_checker import check_env

    from nissl.learning import SwimmerEnv

    env = SwimmerEnv(4, body, steps=20, render_mode="rgb_array")
    with pytest.warns(UserWarning, match="infinity"):  # velocities have no bound
        check_env(env)
    first, _ = env.reset(seed=1)
    again, _ = env.reset(seed=1)
    np.testing.assert_array_equal(first, again)
    assert first[-1] == -1
    cut = False
    for _ in range(20):
        assert not cut
        seen, reward, ended, cut, info = env.step(np.full(3, 5.0))  # clipped
        assert not ended
        assert reward == pytest.approx(np.clip(info["forward_speed"] / 0.1, 0, 1))
    assert cut
    assert seen[-1] == pytest.approx(2 * 20 / 1000 - 1)
    assert env.render().shape == (240, 240, 3)


def test_many_environments_are_as_many_single_ones():
    pytest.importorskip("gymnasium")
    from nissl.learning import SwimmerVectorEnv

    env = SwimmerVectorEnv(3, 5, steps=4)
    begun, _ = env.reset(seed=7)
    command = np.random.default_rng(0).uniform(-1, 1, (4, 3, 4))
    for step in range(4):
        seen, reward, ended, cut, info = env.step(command[step])
    assert cut.all()
    assert not ended.any()
    body = PlanarSwimmer(5, 3)
    body.reset(heading=0.0, angles=begun[:, :4])
    for c in command:
        body.step(c)
    np.testing.assert_allclose(np.stack(list(info["final_obs"])), body.observation(4), atol=1e-4)
    np.testing.assert_allclose(reward, body.reward, atol=1e-4)
    assert (seen[:, -1] == -1).all()
    assert not np.allclose(seen[:, :4], begun[:, :4])
