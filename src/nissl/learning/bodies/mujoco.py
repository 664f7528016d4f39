"""The swimmer of the DeepMind Control Suite in MuJoCo, without a window."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from nissl.errors import MissingExtraError
from nissl.learning.bodies._body import LENGTH, SUBSTEPS, SwimmerBody

# The suite's model names its target first; what the links' sensors say begins after these numbers.
_BEFORE_LINKS = 12


class MujocoSwimmer(SwimmerBody):
    """The Control Suite's swimmer with any number of links from 3, in MuJoCo.

    Parameters
    ----------
    n_links
        Links of a body, from 3.
    n_bodies
        Bodies that are moved one after another; each is a simulation of its own.

    Raises
    ------
    MissingExtraError
        MuJoCo or dm_control is not installed.
    InputError
        Fewer than three links, or no body.

    Notes
    -----
    The model (links, water, motors, stops) is the one that ships with dm_control, and MuJoCo integrates it as the suite does: 15 steps of
    0.002 s hold one command. Nothing is rendered, so that it runs where there is no display.

    References
    ----------
    Tassa et al. (2018), DeepMind Control Suite; Todorov, Erez, Tassa (2012), MuJoCo.

    Examples
    --------
    >>> from importlib.util import find_spec
    >>> if find_spec("mujoco") and find_spec("dm_control"):
    ...     body = MujocoSwimmer(6)
    ...     body.step(np.zeros((1, 5)))
    """

    name = "mujoco"

    def __init__(self, n_links: int = 6, n_bodies: int = 1) -> None:
        super().__init__(n_links, n_bodies)
        self._mujoco, self._model = _engine(), _model(self.n_links)
        self._states = [self._mujoco.MjData(self._model) for _ in range(self.n_bodies)]
        self.reset()

    def _place(self, heading: Float[np.ndarray, "body"], angles: Float[np.ndarray, "body joint"]) -> None:
        for state, direction, bent in zip(self._states, heading, angles, strict=True):
            self._mujoco.mj_resetData(self._model, state)
            # The suite's head lies with its nose at -y of its origin, half a link away.
            state.qpos[:3] = 0, LENGTH / 2, direction
            state.qpos[3:] = bent
            self._mujoco.mj_forward(self._model, state)

    def step(self, command: Float[np.ndarray, "body joint"]) -> None:
        """Hold a motor command in [-1, 1] for one control step of 0.03 s."""
        for state, held in zip(self._states, self.command(command), strict=True):
            state.ctrl[:] = held
            self._mujoco.mj_step(self._model, state, SUBSTEPS)
            # What sensors say belongs to the moment before the last step, until positions and velocities are read again.
            self._mujoco.mj_step1(self._model, state)

    @property
    def angles(self) -> Float[np.ndarray, "body joint"]:
        """Joint angles in rad."""
        return np.array([state.qpos[3:] for state in self._states])

    @property
    def velocities(self) -> Float[np.ndarray, "body link 3"]:
        """Velocity of each link's centre across and along it (m/s), and its turning (rad/s)."""
        felt = np.array([state.sensordata[_BEFORE_LINKS:] for state in self._states])
        return felt.reshape(self.n_bodies, self.n_links, 6)[..., [0, 1, 5]]

    @property
    def points(self) -> Float[np.ndarray, "body point 2"]:
        """Nose, joints and tail, in m."""
        centres = np.array([state.xpos[1:, :2] for state in self._states])
        along = np.array([state.xmat[1:].reshape(-1, 3, 3)[:, :2, 1] for state in self._states])
        return np.concatenate([centres - along * LENGTH / 2, centres[:, -1:] + along[:, -1:] * LENGTH / 2], 1)


def _engine() -> Any:
    try:
        import mujoco
    except ImportError as error:
        raise MissingExtraError(
            "MuJoCo is not installed: pip install 'nissl[papers]' (or use body='planar')"
        ) from error
    return mujoco


@lru_cache(maxsize=16)
def _model(n_links: int) -> Any:
    engine = _engine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without a display, the suite's renderer says so
            from dm_control.suite import swimmer
    except ImportError as error:
        raise MissingExtraError(
            "dm_control is not installed: pip install 'nissl[papers]' (or use body='planar')"
        ) from error
    description, assets = swimmer.get_model_and_assets(n_links)
    return engine.MjModel.from_xml_string(description.decode(), assets)
