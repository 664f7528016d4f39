"""Soft stops of joints: a spring and a damper that fade in, solved together with the accelerations."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

# A stop of the Control Suite's swimmer: its time constant in s, the stiffest it becomes (as a share of what would be rigid), and how far
# beyond the limit that is, in rad.
TIME_CONSTANT, STIFFEST, WIDTH, SOFTEST = 0.05, 0.8, 0.1, 1e-4
ROUNDS = 8


class Stops:
    """Accelerations of a chain whose joints have soft stops.

    A joint x rad beyond its limit is asked for the acceleration ``-(B v + K d(x) x)`` with ``B = 2 / (0.8 T)`` and ``K = 1 / (0.8 T)^2``, and gets it as
    far as the stop's softness ``d(x)`` (from 0 at the limit to 0.8 at 0.1 rad) lets it: the stop's torque is
    ``-g (a + B v + K d x)`` with ``g = d / ((1 - d) A)``, A the joint's acceleration per torque in the straight body, a the acceleration that results. Stops
    only push. This is the soft constraint of MuJoCo (Todorov 2014).
    """

    def __init__(
        self,
        limit: float,
        joints: Float[np.ndarray, "joint link"],
        straight_mass: Float[np.ndarray, "link link"],
    ) -> None:
        self._limit, self._joints = limit, joints
        self._ease = np.einsum("jk,jk->j", joints, np.linalg.solve(straight_mass, joints.T).T)
        self._damping, self._spring = 2 / (STIFFEST * TIME_CONSTANT), 1 / (STIFFEST * TIME_CONSTANT) ** 2
        # What one joint's stop adds to the mass matrix.
        self._pairs = (joints[:, :, None] * joints[:, None]).reshape(len(joints), -1)
        self._still: Bool[np.ndarray, "body joint"] | None = None

    def solve(
        self,
        mass: Float[np.ndarray, "body link link"],
        torque: Float[np.ndarray, "body link"],
        theta: Float[np.ndarray, "body link"],
        omega: Float[np.ndarray, "body link"],
    ) -> Float[np.ndarray, "body link"]:
        """Accelerations of the links, in rad/s^2."""
        angle = theta[:, 1:] - theta[:, :-1]
        beyond = angle - np.maximum(np.minimum(angle, self._limit), -self._limit)
        if not beyond.any():
            return np.linalg.solve(mass, torque[..., None])[..., 0]
        # From 0 at the limit to 1 at the full width, as two parabolas that meet halfway.
        share = np.minimum(np.abs(beyond) / WIDTH, 1) - 0.5
        hardness = (SOFTEST + STIFFEST) / 2 + (STIFFEST - SOFTEST) * 2 * share * (1 - np.abs(share))
        gain = hardness / ((1 - hardness) * self._ease)
        wanted = self._damping * (omega[:, 1:] - omega[:, :-1]) + self._spring * hardness * beyond
        # Mostly the same stops push as a moment ago, and those just reached; whichever are tried first, the same ones are found.
        over = beyond != 0
        pushing = over if self._still is None or self._still.shape != over.shape else over & self._still
        for _ in range(ROUNDS):
            found = self._with(mass, torque, gain * pushing, wanted)
            pushes = (found[:, 1:] - found[:, :-1] + wanted) * beyond > 0
            if not (pushes != pushing).any():
                break
            pushing = pushes
        self._still = pushing | ~over
        return found

    def _with(
        self,
        mass: Float[np.ndarray, "body link link"],
        torque: Float[np.ndarray, "body link"],
        gain: Float[np.ndarray, "body joint"],
        wanted: Float[np.ndarray, "body joint"],
    ) -> Float[np.ndarray, "body link"]:
        n = mass.shape[-1]
        stiff = mass + (gain @ self._pairs).reshape(-1, n, n)
        return np.linalg.solve(stiff, (torque - (gain * wanted) @ self._joints)[..., None])[..., 0]
