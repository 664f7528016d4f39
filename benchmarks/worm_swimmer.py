"""A call of the worm's circuit against a loop over its joints, and 1,000 steps of many bodies."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import numpy as np
import torch
from timing import in_turn, table
from torch import Tensor, nn

from nissl.learning import MujocoSwimmer, PlanarSwimmer, swim
from nissl.nn import WormSwimmer

CALLS = 200


class JointByJoint(nn.Module):
    """The circuit as the published code has it: a loop over joints, every cell a tensor of one column, weights looked up by name."""

    def __init__(self, worm: WormSwimmer) -> None:
        super().__init__()
        self.n_joints, self.period = worm.n_joints, worm.period
        names = {"prop": "b_prop", "osc": "b_osc", "ipsi": "m_ipsi", "contra": "m_contra"}
        self.weights = nn.ParameterDict({names[k]: w.detach().reshape(1) for k, w in worm.named_weights().items()})

    def exciting(self, name: str) -> Tensor:
        """A weight above zero."""
        return self.weights[name].clamp(min=0)

    def inhibiting(self, name: str) -> Tensor:
        """A weight below zero."""
        return self.weights[name].clamp(max=0)

    def forward(self, angles: Tensor, step: Tensor) -> Tensor:
        """Commands."""
        dorsal, ventral = angles.clamp(0, 1), angles.clamp(-1, 0).neg()
        commands = []
        for i in range(self.n_joints):
            b_d = b_v = torch.zeros_like(angles[..., 0, None])
            if i > 0:
                b_d = b_d + dorsal[..., i - 1, None] * self.exciting("b_prop")
                b_v = b_v + ventral[..., i - 1, None] * self.exciting("b_prop")
            else:
                early = step.round().remainder(self.period) < self.period // 2
                b_d = b_d + early.to(angles) * self.exciting("b_osc")
                b_v = b_v + (~early).to(angles) * self.exciting("b_osc")
            b_d, b_v = b_d.clamp(0, 1), b_v.clamp(0, 1)
            m_d = (b_d * self.exciting("m_ipsi") + b_v * self.inhibiting("m_contra")).clamp(0, 1)
            m_v = (b_v * self.exciting("m_ipsi") + b_d * self.inhibiting("m_contra")).clamp(0, 1)
            commands.append(m_d - m_v)
        return torch.cat(commands, -1)


@torch.no_grad()
def calls() -> list[str]:
    """One row and 256 rows; short bodies and long ones."""
    parts = []
    for joints, batch in ((5, 1), (5, 256), (24, 1)):
        worm = WormSwimmer(joints)
        loop = JointByJoint(worm)
        angles = 2 * torch.rand(batch, joints, generator=torch.Generator().manual_seed(0)) - 1
        step = torch.arange(batch)[:, None].float()
        assert torch.equal(worm(angles, step), loop(angles, step))

        def row_by_row(loop=loop, angles=angles, step=step):
            for q, t in zip(angles, step, strict=True):
                loop(q, t)

        def repeated(network, angles=angles, step=step):
            for _ in range(CALLS):
                network(angles, step)

        times = in_turn({"loop over joints": lambda f=repeated, m=loop: f(m), "nissl": lambda f=repeated, m=worm: f(m)})
        times = {name: 1e3 * t / CALLS for name, t in times.items()}
        if batch > 1:
            times = {"loop over joints and rows": 1e3 * in_turn({"rows": row_by_row}, rounds=3)["rows"], **times}
        gains = ", ".join(f"{t / times['nissl']:.1f} times {name}" for name, t in times.items() if name != "nissl")
        title = f"Worm circuit, a call: {joints} joints, {batch} row{'s' if batch > 1 else ''}"
        text = table(title, times, next(iter(times)), f"As fast as {gains}.")
        parts.append(text.replace("| seconds |", "| milliseconds |"))
    return parts


def bodies() -> list[str]:
    """An untrained evaluation: 1,000 control steps, 15 substeps each."""
    worm = WormSwimmer()
    jobs = {
        "planar, 32 bodies": lambda: swim(worm, n_bodies=32, record=False),
        "planar, 1 body": lambda: swim(worm, record=False),
    }
    note = "All bodies are one batch; 15 substeps of 0.002 s a control step, stops solved with the accelerations."
    if find_spec("mujoco") and find_spec("dm_control"):
        jobs = {
            "MuJoCo, 32 bodies one after another": lambda: swim(worm, n_bodies=32, body="mujoco", record=False),
            **jobs,
        }
    times = in_turn(jobs, rounds=3)
    return [table("Worm bodies, 1,000 control steps with the circuit", times, next(iter(times)), note), motion_only()]


def motion_only() -> str:
    """The bodies alone, without the circuit and without keeping an episode."""
    kinds = {"planar": PlanarSwimmer}
    if find_spec("mujoco") and find_spec("dm_control"):
        kinds = {"MuJoCo": MujocoSwimmer, **kinds}
    command = np.sin(np.arange(1000)[:, None, None] / 10 - np.arange(5)) * np.ones((1, 32, 1))

    def move(body):
        body.reset(0)
        for c in command:
            body.step(c)

    made = {name: kind(6, 32) for name, kind in kinds.items()}
    jobs = {f"{name}, 32 bodies": lambda b=body: move(b) for name, body in made.items()}
    times = in_turn(jobs, rounds=3)
    return table("Worm bodies alone, 1,000 control steps", times, next(iter(times)))


def main() -> str:
    torch.set_num_threads(1)
    return "\n".join([*calls(), *bodies()])


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print(main())
