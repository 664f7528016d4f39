"""What every swimming body has: its measures, its task, how an episode begins, and what a policy may see of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float

from nissl.errors import InputError

# The measures of the swimmer of the DeepMind Control Suite, in SI units.
LENGTH, MASS = 0.1, 0.01
HALF_SIZES = (0.001, 0.05, 0.01)
ARMATURE, GEAR, DENSITY = 1e-6, 5e-4, 3000.0
TIMESTEP, SUBSTEPS = 0.002, 15
CONTROL_STEP = TIMESTEP * SUBSTEPS
EPISODE = 1000
DESIRED_SPEED = 0.1


def check_links(n_links: object) -> int:
    """The number of links, if a body of so many can be made."""
    if isinstance(n_links, bool) or not isinstance(n_links, int | np.integer):
        raise InputError(f"n_links {n_links!r}; give a whole number of links from 3, such as n_links=6")
    if n_links < 3:
        joints = max(int(n_links) - 1, 0)
        raise InputError(
            f"a body of {n_links} links has {joints} joint{'' if joints == 1 else 's'} and cannot carry a wave; give n_links=3 or more (the standard worm has 6)"
        )
    return int(n_links)


class SwimmerBody(ABC):
    """Several bodies of one kind side by side, each a chain of links in the plane.

    A body is moved with `reset` and `step`, and read through `angles`, `velocities`, `points` and what follows from them. Joint 0 is next
    to the head, and a positive angle bends the body towards the side called dorsal.

    Attributes
    ----------
    n_links, n_joints, n_bodies
        Links and joints of a body, and how many bodies move together.
    joint_limit
        Where the stops of a joint begin, ``2 pi / n_links`` rad.
    """

    name: str

    def __init__(self, n_links: int = 6, n_bodies: int = 1) -> None:
        self.n_links = check_links(n_links)
        if isinstance(n_bodies, bool) or not isinstance(n_bodies, int | np.integer) or n_bodies < 1:
            raise InputError(f"n_bodies {n_bodies!r}; give a whole number from 1")
        self.n_bodies, self.n_joints = int(n_bodies), self.n_links - 1
        self.joint_limit = 2 * np.pi / self.n_links

    def reset(
        self,
        seed: int | np.random.Generator = 0,
        *,
        heading: Float[np.ndarray, "body"] | float | None = None,
        angles: Float[np.ndarray, "body joint"] | None = None,
    ) -> None:
        """Put the bodies at rest, with their noses at the origin.

        Parameters
        ----------
        seed
            Draws headings from all directions and angles within their limits, as the Control Suite does.
        heading, angles
            In rad, where they are not to be drawn.

        Raises
        ------
        InputError
            Headings or angles of another shape, or not finite.
        """
        rng = np.random.default_rng(seed)
        drawn = rng.uniform(-np.pi, np.pi, self.n_bodies)
        bent = rng.uniform(-self.joint_limit, self.joint_limit, (self.n_bodies, self.n_joints))
        self._place(
            drawn if heading is None else self._fitted("heading", heading, drawn.shape),
            bent if angles is None else self._fitted("angles", angles, bent.shape),
        )

    def command(self, command: Float[np.ndarray, "body joint"]) -> Float[np.ndarray, "body joint"]:
        """The command that the motors take: checked, and clipped to [-1, 1]."""
        value = np.asarray(command, dtype=float)
        if value.shape != (self.n_bodies, self.n_joints):
            raise InputError(
                f"commands of shape {value.shape}; {self.n_bodies} bodies of {self.n_links} links take {(self.n_bodies, self.n_joints)}"
            )
        if not np.isfinite(value).all():
            raise InputError("a command is NaN or infinite; look at the policy's weights")
        return value.clip(-1, 1)

    @property
    def forward_speed(self) -> Float[np.ndarray, "body"]:
        """Speed of the head along itself, in m/s."""
        return -self.velocities[:, 0, 1]

    @property
    def reward(self) -> Float[np.ndarray, "body"]:
        """From 0 at rest to 1 at 0.1 m/s forwards."""
        return (self.forward_speed / DESIRED_SPEED).clip(0, 1)

    def observation(self, step: int) -> Float[np.ndarray, "body feature"]:
        """Joint angles (rad), velocities of all links (m/s, rad/s) and the time of the episode, from -1 to 1 over 1000 control steps."""
        when = np.full((self.n_bodies, 1), 2 * step / EPISODE - 1)
        return np.concatenate([self.angles, self.velocities.reshape(self.n_bodies, -1), when], 1)

    def _fitted(self, what: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
        array = np.asarray(value, dtype=float)
        try:
            array = np.broadcast_to(array, shape)
        except ValueError:
            raise InputError(f"{what} of shape {array.shape}; {shape} is needed") from None
        if not np.isfinite(array).all():
            raise InputError(f"{what} is NaN or infinite")
        return array

    @abstractmethod
    def _place(self, heading: Float[np.ndarray, "body"], angles: Float[np.ndarray, "body joint"]) -> None: ...

    @abstractmethod
    def step(self, command: Float[np.ndarray, "body joint"]) -> None:
        """Hold a motor command in [-1, 1] for one control step of 0.03 s."""

    @property
    @abstractmethod
    def angles(self) -> Float[np.ndarray, "body joint"]:
        """Joint angles in rad."""

    @property
    @abstractmethod
    def velocities(self) -> Float[np.ndarray, "body link 3"]:
        """Velocity of each link's centre across and along it (m/s, the second towards the tail), and its turning (rad/s)."""

    @property
    @abstractmethod
    def points(self) -> Float[np.ndarray, "body point 2"]:
        """Nose, joints and tail, in m."""
