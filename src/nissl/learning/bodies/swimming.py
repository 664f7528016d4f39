"""Let policies swim: an episode, or many side by side, as one Dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm import tqdm

from nissl.errors import InputError, unknown
from nissl.learning.bodies._body import CONTROL_STEP, SwimmerBody
from nissl.learning.bodies.mujoco import MujocoSwimmer
from nissl.learning.bodies.planar import PlanarSwimmer
from nissl.models import Probe

BODIES: dict[str, type[SwimmerBody]] = {"planar": PlanarSwimmer, "mujoco": MujocoSwimmer}


def make_body(body: str | SwimmerBody, n_links: int, n_bodies: int) -> SwimmerBody:
    """A body by its name, or the given one where it has as many links and copies as asked."""
    if isinstance(body, SwimmerBody):
        if (body.n_links, body.n_bodies) != (n_links, n_bodies):
            raise InputError(
                f"the body has {body.n_links} links and {body.n_bodies} copies; {n_links} and {n_bodies} were asked for"
            )
        return body
    if body not in BODIES:
        raise unknown("body", body, BODIES)
    return BODIES[body](n_links, n_bodies)


def swim(
    policy: Callable[..., Any],
    n_links: int = 6,
    steps: int = 1000,
    seed: int = 0,
    *,
    n_bodies: int | None = None,
    body: str | SwimmerBody = "planar",
    observation: Literal["joints", "full"] = "joints",
    record: bool = True,
    progress: bool = False,
) -> xr.Dataset:
    """Let a policy move a body, and keep what happened.

    Parameters
    ----------
    policy
        For ``observation="joints"`` called with joint angles ``(body, joint)``, divided by the joint limit and clipped to [-1, 1], and the
        control step ``(body, 1)``: `nissl.nn.WormSwimmer`, or any function of these. For ``"full"`` called with the whole observation
        ``(body, 4 n_links)``: angles (rad), velocities, time from -1 to 1. Returns commands ``(body, joint)``, which are clipped to [-1, 1].
    n_links
        Links of the body, from 3.
    steps
        Control steps of 0.03 s; 1000 are an episode.
    seed
        Draws the heading and the angles of the beginning.
    n_bodies
        Bodies side by side, which add a first axis `sample`; one body without that axis where None.
    body
        `planar` (needs nothing), `mujoco`, or a body such as `PlanarSwimmer(6, density=0)`.
    observation
        What the policy is given.
    record
        Keep what passes the policy's sites, such as `bneuron.dorsal`, too.
    progress
        Show a bar where standard error is a terminal.

    Returns
    -------
    xarray.Dataset
        By `time` in seconds: `angle (joint)` in rad and `command (joint)`, the angles as the policy saw them; `x, y (point)` in m (nose, joints,
        tail) at that moment; `forward_speed` in m/s and `reward` in [0, 1] at the end of the step; a variable a site.

    Raises
    ------
    InputError
        A body of fewer than three links, no step, a policy for another body, or one that returns NaN.
    UnknownNameError
        No such body or observation.
    MissingExtraError
        MuJoCo is asked for and not installed.

    Examples
    --------
    >>> from nissl.nn import WormSwimmer
    >>> episode = swim(WormSwimmer(), steps=100)
    >>> dict(episode["angle"].sizes), bool(episode["forward_speed"][-1] > 0.05)
    ({'time': 100, 'joint': 5}, True)
    """
    if observation not in ("joints", "full"):
        raise unknown("observation", observation, ("joints", "full"))
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise InputError(f"steps {steps!r}; give a whole number from 1 (1000 are an episode)")
    moved = make_body(body, n_links, 1 if n_bodies is None else n_bodies)
    joints = getattr(policy, "n_joints", moved.n_joints)
    if joints != moved.n_joints:
        raise InputError(
            f"the policy has {joints} joints and a body of {n_links} links has {moved.n_joints}; give n_links={joints + 1}, or policy.with_joints({moved.n_joints}) where weights are shared"
        )
    like = next(policy.parameters(), torch.zeros(())) if isinstance(policy, nn.Module) else torch.zeros(())
    moved.reset(seed)
    rows: list[tuple[np.ndarray, ...]] = []
    with _watched(policy if record else None) as seen, torch.no_grad():
        for step in tqdm(range(steps), unit="step", disable=None if progress else True, leave=False):
            angles, points = moved.angles, moved.points
            command = _decide(policy, moved, angles, step, observation, like)
            try:
                moved.step(command)
            except InputError as error:
                raise InputError(f"at step {step}: {error}") from None
            rows.append((angles, command.clip(-1, 1), points, moved.forward_speed, moved.reward))
    angles, commands, points, speed, reward = (np.stack(column, 1) for column in zip(*rows, strict=True))
    along = ("sample", "time", "joint")
    data = {
        "angle": (along, angles, {"units": "rad"}),
        "command": (along, commands),
        "x": (("sample", "time", "point"), points[..., 0], {"units": "m"}),
        "y": (("sample", "time", "point"), points[..., 1], {"units": "m"}),
        "forward_speed": (("sample", "time"), speed, {"units": "m/s"}),
        "reward": (("sample", "time"), reward),
    }
    seen.pop("command", None)  # is there already, as the motors took it
    for name, values in seen.items():
        found = torch.stack(values, 1).cpu().numpy()
        data[name] = (along if found.shape[-1] == moved.n_joints else (*along[:2], f"{name}.unit"), found)
    time = xr.DataArray(np.arange(steps) * CONTROL_STEP, dims="time", attrs={"units": "s"})
    attrs = {"body": moved.name, "n_links": n_links, "joint_limit": moved.joint_limit, "seed": seed}
    if (period := getattr(policy, "period", None)) is not None:
        attrs["period"] = period
    episode = xr.Dataset(data, {"time": time}, attrs)
    return episode if n_bodies is not None else episode.isel(sample=0)


def _decide(
    policy: Callable[..., Any], body: SwimmerBody, angles: np.ndarray, step: int, observation: str, like: Tensor
) -> np.ndarray:
    if observation == "full":
        command = policy(torch.as_tensor(body.observation(step)).to(like))
    else:
        bent = torch.as_tensor((angles / body.joint_limit).clip(-1, 1)).to(like)
        command = policy(bent, like.new_full((body.n_bodies, 1), step))
    if isinstance(command, Tensor):
        command = command.detach().cpu().numpy()
    return np.asarray(command, dtype=float)


@contextmanager
def _watched(policy: object) -> Iterator[dict[str, list[Tensor]]]:
    """What passes each site (sample, unit) of a policy, call after call."""
    seen: dict[str, list[Tensor]] = {}
    handles = []
    for name, probe in policy.named_modules() if isinstance(policy, nn.Module) else ():
        if isinstance(probe, Probe) and probe.dims == ("sample", "unit"):
            values = seen.setdefault(name.removeprefix("circuit."), [])
            handles.append(probe.register_forward_hook(lambda _m, _i, value, kept=values: kept.append(value)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
